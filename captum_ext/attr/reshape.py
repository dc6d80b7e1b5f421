"""Rearrange the outputs of layers of transformers to maps (B, C, h, w)."""

import math
from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from captum_ext._type_checks import check_tensor
from captum_ext._validation import check_integer, check_integers

__all__ = [
    "MAX_PREFIX",
    "ReshapeTransform",
    "keeps_channels_last",
    "maps_of_channels_last",
    "maps_of_tokens",
    "maps_of_tokens_first",
    "sized",
    "token_grid",
]

ReshapeTransform = Callable[..., Tensor]

MAX_PREFIX = 16
"""Class, distillation and register tokens before those of the image, at most."""


def maps_of_channels_last(activations: Tensor) -> Tensor:
    """Maps of a layer that keeps channels last, as in Swin transformers.

    Args:
        activations (Tensor): Activations (B, h, w, C), or (B, t, h, w, C) of video.

    Returns:
        *Tensor*: Maps (B, C, h, w) or (B, C, t, h, w).

    Examples::

        >>> maps_of_channels_last(torch.rand(1, 7, 7, 768)).shape
        torch.Size([1, 768, 7, 7])
    """
    check_tensor("activations", activations)
    if activations.dim() < 3:
        raise ValueError(
            f"activations must have shape (B, h, w, C), got {tuple(activations.shape)}."
        )
    return activations.movedim(-1, 1)


def maps_of_tokens(
    activations: Tensor,
    n_prefix: int = 1,
    width: int | None = None,
    size: Sequence[int] | None = None,
) -> Tensor:
    """Maps of a layer that returns tokens, as in vision transformers.

    As ``reshape_transform`` of a layer method it needs no further argument than
    ``n_prefix``, since the method passes the size of the image. Elsewhere the number of
    tokens does not tell their arrangement: 576 may be 24 x 24 or 18 x 32.

    Args:
        activations (Tensor): Tokens (B, n_prefix + h * w, C), row by row.
        n_prefix (int, optional): Number of tokens before those of the image: class,
            distillation and register tokens. Default: 1
        width (int, optional): Number of tokens in a row, w. Default: None (from
            ``size``)
        size (sequence of int, optional): Height and width of the image in pixels, from
            which h and w follow if patches are square. Default: None

    Returns:
        *Tensor*: Maps (B, C, h, w).

    Raises:
        ValueError: If neither ``width`` nor ``size`` is given, or the tokens do not
            fill rows of that width or an image of that size.

    Examples::

        >>> maps_of_tokens(torch.rand(1, 197, 768), width=14).shape
        torch.Size([1, 768, 14, 14])
        >>> maps_of_tokens(torch.rand(1, 577, 768), size=(288, 512)).shape
        torch.Size([1, 768, 18, 32])
    """
    check_tensor("activations", activations)
    n_prefix = check_integer("n_prefix", n_prefix, 0)
    if size is not None:
        size = check_integers("size", size, 1, n=2)
    if activations.dim() != 3 or activations.shape[1] <= n_prefix:
        raise ValueError(
            f"activations must be tokens (B, n_prefix + h * w, C) with n_prefix="
            f"{n_prefix}, got shape {tuple(activations.shape)}."
        )
    patches = activations[:, n_prefix:]
    n = patches.shape[1]
    if width is None:
        if size is None:
            raise ValueError(
                f"width must be the number of tokens in a row, since {n} tokens do not "
                f"tell how they are arranged, got none."
            )
        grid = token_grid(n, size)
        if grid is None:
            raise _misfit(activations.shape[1], n_prefix, size)
        return patches.unflatten(1, grid).movedim(-1, 1)
    width = check_integer("width", width, 1)
    if n % width or (size and not _fits((n // width, width), size)):
        image = f" of an image of {size[0]} x {size[1]} pixels" if size else ""
        raise ValueError(
            f"width must be the number of tokens in a row{image}, got {width} for {n} "
            f"tokens after n_prefix={n_prefix} class, distillation and register tokens."
        )
    return patches.unflatten(1, (-1, width)).movedim(-1, 1)


def token_grid(n: int, size: Sequence[int]) -> tuple[int, int] | None:
    """Rows and columns of n square patches of an image, None if they do not fit.

    Args:
        n (int): Number of patches.
        size (sequence of int): Height and width of the image in pixels.

    Examples::

        >>> token_grid(576, (288, 512)), token_grid(200, (224, 224))
        ((18, 32), None)
    """
    short = [i for i in range(1, math.isqrt(n) + 1) if n % i == 0]
    grids = [(i, n // i) for i in short] + [(n // i, i) for i in short]
    grid = min(grids, key=lambda grid: _distortion(grid, size))
    return grid if _fits(grid, size) else None


def _misfit(n: int, n_prefix: int, size: Sequence[int]) -> ValueError:
    """Error of tokens that fill no image, with a number of others that would fit."""
    fitting = (
        f"; with n_prefix={other} they would be {grid[0]} x {grid[1]}"
        for other in range(min(MAX_PREFIX + 1, n))
        if (grid := token_grid(n - other, size))
    )
    return ValueError(
        f"n_prefix must be the number of class, distillation and register tokens, got "
        f"{n_prefix} of {n} tokens, whose others are no grid of square patches of an "
        f"image of {size[0]} x {size[1]} pixels{next(fitting, '; pass width')}."
    )


def keeps_channels_last(shape: Sequence[int], size: Sequence[int]) -> bool:
    """Whether activations (B, ..., h, w, C) have the ratio of the image at h and w.

    In maps (B, C, h, w), and those of video (B, C, t, h, w), the first two of the last
    three axes may have that ratio by chance, so that the last two must not have it.

    Args:
        shape (sequence of int): Shape of the activations, of 4 or 5 axes.
        size (sequence of int): Height and width of the image in pixels, last.
    """
    first, last, image = (shape[-2], shape[-1]), shape[-3:-1], size[-2:]
    if _fits(first, image):
        return False
    return _distortion(last, image) < _distortion(first, image)


def _distortion(grid: Sequence[int], size: Sequence[int]) -> float:
    """How far the sides of a grid are from the ratio of those of the image."""
    return abs(math.log(grid[0] * size[1] / (grid[1] * size[0])))


def _fits(grid: Sequence[int], size: Sequence[int]) -> bool:
    """Whether one stride along both axes gives the grid, but for one row or column."""
    (h, w), (height, width) = grid, size
    if height == width:
        return h == w
    return height * (w - 1) < width * (h + 1) and width * (h - 1) < height * (w + 1)


def maps_of_tokens_first(
    activations: Tensor, n_prefix: int = 1, size: Sequence[int] | None = None
) -> Tensor:
    """Maps of tokens (n_prefix + h * w, B, C)."""
    return maps_of_tokens(activations.movedim(0, 1), n_prefix, size=size)


def sized(
    reshape: ReshapeTransform | None, size: Sequence[int] | None
) -> ReshapeTransform:
    """The transform with the size of the image if it is one of ours that needs it.

    Args:
        reshape (Callable, optional): Function that makes maps of activations. None for
            activations that are maps.
        size (sequence of int, optional): Height and width of the image in pixels.
    """
    if reshape is None:
        return lambda activations: activations
    function = reshape
    while isinstance(function, partial):
        function = function.func
    needs_size = function in (maps_of_tokens, maps_of_tokens_first)
    return partial(reshape, size=size) if needs_size else reshape
