"""Score curves as pixels are replaced in order of a map, and the area under them."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from captum_ext._captum import BaselineType, TargetType
from captum_ext._scores import PerturbationsPerEval
from captum_ext._validation import check_baselines, check_integer
from captum_ext.masks import memory_format_of
from captum_ext.metrics.baselines import named_baseline
from captum_ext.metrics.pixel_maps import rank_maps, spatial_maps
from captum_ext.metrics.scoring import ForwardFunc, perturbed_scores

__all__ = [
    "Start",
    "area_under",
    "exchange",
    "exchange_order",
    "rank_curves",
    "shares",
    "starting_image",
]

Start: TypeAlias = BaselineType | Literal["blur"]


def shares(n_pixels: int, n_steps: int) -> Tensor:
    """Numbers of replaced pixels, evenly spaced from 0 to all.

    Args:
        n_pixels (int): Number of pixels replaced in the end.
        n_steps (int): Number of steps.

    Returns:
        *Tensor*: Numbers of pixels, rounded down, (n_steps + 1,), int64.

    Examples::

        >>> shares(10, 4)
        tensor([ 0,  2,  5,  7, 10])
    """
    return torch.arange(n_steps + 1) * n_pixels // n_steps


def exchange(before: Tensor, after: Tensor, ranks: Tensor, counts: Tensor) -> Tensor:
    """Inputs whose highest-ranked pixels are replaced.

    Args:
        before (Tensor): Inputs (B, C, ...).
        after (Tensor): Replacement of each pixel, (B, C, ...).
        ranks (Tensor): Rank of each pixel, from 0, (B, ...) without channels.
        counts (Tensor): Numbers of pixels to replace, (M,).

    Returns:
        *Tensor*: One batch per number, (M * B, C, ...), in the memory format of
        ``before``.

    Examples::

        >>> before, after = torch.zeros(1, 1, 4), torch.ones(1, 1, 4)
        >>> ranks = torch.tensor([[2, 0, 3, 1]])
        >>> exchange(before, after, ranks, torch.tensor([0, 1, 3]))[:, 0]
        tensor([[0., 0., 0., 0.],
                [0., 1., 0., 0.],
                [1., 1., 0., 1.]])
    """
    exchanged = ranks < counts.view(-1, *(1,) * ranks.dim())
    mixed = torch.where(exchanged[:, :, None], after, before)
    return mixed.flatten(0, 1).contiguous(memory_format=memory_format_of(before))


def area_under(curves: Tensor, counts: Tensor) -> Tensor:
    """Area under curves over the fraction of replaced pixels, by the trapezoid rule.

    Args:
        curves (Tensor): Scores (..., M).
        counts (Tensor): Numbers of replaced pixels at these scores, (M,).

    Returns:
        *Tensor*: Areas (...,); 1 for a constant score of 1.

    Examples::

        >>> area_under(torch.tensor([0.0, 1.0, 1.0]), torch.tensor([0, 2, 4]))
        tensor(0.7500)
    """
    return torch.trapezoid(curves, counts.to(curves) / counts[-1])


def exchange_order(
    attributions: Tensor | tuple[Tensor, ...],
    inputs: Tensor,
    n_steps: int,
    fraction: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Order in which pixels are replaced, and their number after each step.

    Args:
        attributions (Tensor or tuple[Tensor]): Maps (B, any, ...).
        inputs (Tensor): Explained inputs (B, C, ...).
        n_steps (int): Number of steps.
        fraction (float, optional): Fraction of the pixels to replace. Default: 1.0

    Returns:
        *tuple[Tensor, Tensor]*: Rank of each pixel (B, ...) and numbers of replaced
        pixels (n_steps + 1,), int32 on the device of ``inputs``.

    Raises:
        ValueError: If maps do not match the inputs or there are more steps than pixels.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> maps = torch.tensor([[[0.1, 0.9, 0.3, 0.4]]])
        >>> exchange_order(maps, torch.rand(1, 3, 4), n_steps=2)
        (tensor([[3, 0, 2, 1]], dtype=torch.int32),
         tensor([0, 2, 4], dtype=torch.int32))
    """
    ranks = rank_maps(spatial_maps(attributions, inputs))
    n_pixels = round(fraction * ranks[0].numel())
    counts = shares(n_pixels, check_integer("n_steps", n_steps, 1, n_pixels))
    # Half the memory traffic of int64 for hundreds of masks.
    narrow = inputs.device, torch.int32
    return ranks.to(*narrow), counts.to(*narrow)


def rank_curves(
    forward_func: ForwardFunc,
    before: Tensor,
    after: Tensor,
    ranks: Tensor,
    counts: Tensor,
    target: TargetType,
    additional_forward_args: object,
    perturbations_per_eval: PerturbationsPerEval,
    probabilities: bool = False,
) -> tuple[Tensor, Tensor]:
    """Scores as pixels are replaced in order, and the area under them.

    Images are created, scored and released chunk by chunk.

    Args:
        forward_func (Callable): The model or any function of its inputs.
        before (Tensor): Inputs (B, C, ...).
        after (Tensor): Replacement of each pixel, (B, C, ...).
        ranks (Tensor): Rank of each pixel, from 0, (B, ...).
        counts (Tensor): Numbers of pixels to replace, (M,).
        target (int, tuple, Tensor, list, or Callable, optional): Output to score.
        additional_forward_args (Any, optional): Further arguments of
            ``forward_func``.
        perturbations_per_eval (int or "auto"): Images per example in one call.
        probabilities (bool, optional): Whether scores must lie in [0, 1].
            Default: False

    Returns:
        *tuple[Tensor, Tensor]*: The area (B,) and the scores (B, M), float64 on the
        CPU.

    Raises:
        ValueError: If an argument does not match the inputs, if scores are not finite,
            or if a score must be a probability and is not.
        TypeError: If an argument is of the wrong type.
    """
    scores = perturbed_scores(
        forward_func,
        lambda i, j: exchange(before, after, ranks, counts[i:j]),
        len(counts),
        len(before),
        target,
        additional_forward_args,
        perturbations_per_eval,
        probabilities,
    )
    curves = scores.T.contiguous()
    return area_under(curves, counts), curves


def starting_image(baselines: Start, inputs: Tensor) -> Tensor:
    """Baselines in the shape and memory format of the inputs.

    Args:
        baselines (scalar, Tensor or "blur", optional): Baselines, broadcastable to
            ``inputs``. None is zero; "blur" is the inputs under a Gaussian blur of
            sigma 5 over 11 x 11 pixels.
        inputs (Tensor): Inputs (B, C, ...).

    Returns:
        *Tensor*: Baselines (B, C, ...).

    Raises:
        ValueError: If baselines do not broadcast, are an unknown name, or are "blur"
            for inputs without height and width.
        TypeError: If baselines are of the wrong type.

    Examples::

        >>> starting_image("blur", torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 3, 32, 32])
    """
    if isinstance(baselines, str):
        if baselines != "blur":
            raise ValueError(
                f"baselines must be 'blur', numbers or a tensor such as one of "
                f"named_baseline, got {baselines!r}."
            )
        image = named_baseline("blur", inputs)
    else:
        image = check_baselines(baselines, (inputs,))[0].expand(inputs.shape)
    return image.contiguous(memory_format=memory_format_of(inputs))
