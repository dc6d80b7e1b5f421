"""Color palettes for MC-RISE: named colors, or the main colors of an image."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import Tensor

from captum_ext._suggestions import did_you_mean
from captum_ext._type_checks import (
    check_finite,
    check_numbers,
    check_sequence,
    check_tensor,
    shown,
)
from captum_ext._validation import check_integer

__all__ = ["Palette", "named_palette", "image_palette"]

# The corners of the RGB cube, the most common choices first.
_NAMED = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "white": (1.0, 1.0, 1.0),
    "yellow": (1.0, 1.0, 0.0),
    "magenta": (1.0, 0.0, 1.0),
    "cyan": (0.0, 1.0, 1.0),
}


@dataclass(frozen=True, eq=False)
class Palette:
    """K named colors.

    Args:
        names (tuple[str, ...]): Names of the colors.
        rgb (Tensor): Colors for display, (K, 3) in [0, 1].
        colors (Tensor): Colors in the model's input space, (K, 3).
    """

    names: tuple[str, ...]
    rgb: Tensor = field(repr=False)
    colors: Tensor = field(repr=False)

    def __post_init__(self) -> None:
        names = check_sequence("names", self.names, "names")
        rgb = check_finite("rgb", check_tensor("rgb", self.rgb))
        colors = check_finite("colors", check_tensor("colors", self.colors))
        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError(f"names must hold names of colors, got {shown(names)}.")
        if rgb.shape != (len(names), 3) or rgb.min() < 0 or rgb.max() > 1:
            raise ValueError(
                f"rgb must hold a color in [0, 1] for each of the names, "
                f"({len(names)}, 3), got shape {tuple(rgb.shape)}."
            )
        if colors.dim() != 2 or len(colors) != len(names) or not colors.numel():
            raise ValueError(
                f"colors must have shape ({len(names)}, C), got {tuple(colors.shape)}."
            )


def named_palette(
    names: int | str | Sequence[str] = 5,
    mean: Sequence[float] | Tensor = (0.0, 0.0, 0.0),
    std: Sequence[float] | Tensor = (1.0, 1.0, 1.0),
) -> Palette:
    """Named colors in a model's normalized input space.

    Args:
        names (int, str or sequence of str, optional): Names among red, green, blue,
            black, white, yellow, magenta and cyan, or the number of colors to take
            in this order: 5 and 8 are the paper's palette sizes. Default: 5
        mean (sequence of float or Tensor, optional): Mean that preprocessing
            subtracts, one number per channel. Default: 0, for inputs in [0, 1]
        std (sequence of float or Tensor, optional): Standard deviation by which
            preprocessing divides, one number per channel. Default: 1

    Returns:
        *Palette* of K colors.

    Raises:
        ValueError: If a name is unknown, the number is not between 1 and 8, or mean
            and std are not 3 numbers with positive std.

    Examples::

        >>> named_palette(["red", "blue"], mean=(0.5,) * 3, std=(0.5,) * 3).colors
        tensor([[ 1., -1., -1.],
                [-1., -1.,  1.]])
    """
    if isinstance(names, str):
        names = [names]
    if hasattr(type(names), "__index__") and getattr(names, "ndim", 0) == 0:
        n = check_integer("names", cast(int, names), 1, len(_NAMED))
        names = list(_NAMED)[:n]
    names = check_sequence("names", names, "color names, or a number")
    if not names:
        raise ValueError("names must hold at least one color, got none.")
    unknown = [
        each if isinstance(each, str) else shown(each)
        for each in names
        if not isinstance(each, str) or each not in _NAMED
    ]
    if unknown:
        raise ValueError(
            f"names must be among {', '.join(_NAMED)}, got {', '.join(unknown)}"
            f"{did_you_mean(unknown[0], _NAMED)}."
        )
    rgb = torch.tensor([_NAMED[name] for name in names])
    mean = check_numbers("mean", mean, 3).float()
    std = check_numbers("std", std, 3).float()
    if not (std > 0).all():
        raise ValueError(f"std must be positive, got {std.tolist()}.")
    return Palette(tuple(names), rgb, (rgb - mean) / std)


def image_palette(inputs: Tensor, n_colors: int = 5, seed: int = 0) -> Tensor:
    """Main colors of each image, by k-means over its pixels.

    The colors lie in the model's input space because the image does, whatever the
    preprocessing. They are sorted by brightness, darkest first.

    Args:
        inputs (Tensor): Images or video (B, C, ...).
        n_colors (int, optional): Number of colors K. Default: 5
        seed (int, optional): Seed of the initial centers. Default: 0

    Returns:
        *Tensor*: (B, K, C), in the dtype and on the device of ``inputs``.

    Raises:
        ValueError: If ``n_colors`` is smaller than 1 or larger than the number of
            pixels.

    Examples::

        >>> image_palette(torch.rand(2, 3, 16, 16), n_colors=4).shape
        torch.Size([2, 4, 3])
    """
    from scipy.cluster.vq import kmeans2

    check_finite("inputs", check_tensor("inputs", inputs))
    if inputs.dim() < 3 or not inputs.numel():
        raise ValueError(
            f"inputs must be images or video (B, C, ...), got {tuple(inputs.shape)}."
        )
    seed = check_integer("seed", seed, 0)
    n_colors = check_integer("n_colors", n_colors, 1, inputs[0, 0].numel())
    pixels = inputs.detach().flatten(2).transpose(1, 2).double().cpu().numpy()
    palettes = []
    for image in pixels:
        centers = np.unique(image, axis=0)
        if len(centers) > n_colors:
            rng = np.random.default_rng(seed)
            centers, _ = kmeans2(image, n_colors, minit="++", rng=rng)
        # An image with fewer colors repeats those that it has.
        centers = np.resize(centers, (n_colors, centers.shape[1]))
        palettes.append(centers[centers.sum(axis=1).argsort()])
    return torch.from_numpy(np.stack(palettes)).to(inputs)
