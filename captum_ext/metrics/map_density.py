"""Map densities: the probability kept by a map per unit of its mass."""

import torch
from captum.log import log_usage
from torch import Tensor

from captum_ext._captum import BaselineType, TargetType
from captum_ext._type_checks import check_callable, check_flags
from captum_ext._validation import check_baselines
from captum_ext.masks import apply_masks
from captum_ext.metrics.pixel_maps import (
    check_masks,
    check_metric_input,
    spatial_maps,
    unit_maps,
)
from captum_ext.metrics.scoring import ForwardFunc, perturbed_scores

__all__ = ["map_density", "negative_map_density", "positive_map_density"]


def map_density(probability: Tensor, kept: Tensor) -> Tensor:
    r"""Probability divided by the mean of the kept fractions.

    .. math::
        \rho = P \cdot \frac{h w}{\sum_\lambda K(\lambda)}

    Args:
        probability (Tensor): P of the masked inputs, (B,).
        kept (Tensor): K in [0, 1], kept fraction of each pixel, (B, ...).

    Returns:
        *Tensor*: Densities (B,).

    Examples::

        >>> map_density(torch.tensor([0.9]), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]))
        tensor([3.6000])
    """
    return probability / kept.flatten(1).mean(1)


@log_usage()
@torch.no_grad()
def positive_map_density(
    forward_func: ForwardFunc,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
    *,
    rescale: bool = True,
) -> Tensor:
    r"""Probability of the part that a map keeps, per unit of it. Higher is better.

    .. math::
        \rho^+ = P(K(I \odot S)) \cdot \frac{h w}{\sum S}

    Large maps are penalized: a constant map has the probability of the whole image, and
    a tenth of the image with the same probability has ten times that density.

    Source: M. Jalwana et al., CAMERAS: Enhanced Resolution And Sanity preserving Class
    Activation Mapping for image Saliency, CVPR 2021; supplement A-3.

    Args:
        forward_func (Callable): Function of the inputs that returns probabilities.
        inputs (Tensor or tuple[Tensor]): One input (B, C, L), (B, C, H, W) or
            (B, C, T, H, W); h w is the number of pixels, or of voxels for video.
        attributions (Tensor or tuple[Tensor]): Maps (B, any, ...) of any size and
            scale; summed over channels, interpolated to the input's size, clipped at
            zero, and divided by their maximum.
        target (int, tuple, Tensor, list, or Callable, optional): Class whose
            probability is used, in any form that attributions accept. Default: None
        baselines (scalar or Tensor, optional): Replacement of hidden parts,
            broadcastable to ``inputs``. Zero is black, as in the paper, for pixel
            values, and the mean color for normalized inputs. Default: None (zero)
        additional_forward_args (Any, optional): Further arguments of
            ``forward_func``. The first axis of a tensor is the batch. Default: None
        rescale (bool, optional): Whether maps are clipped at zero and divided by their
            maximum. If False, they must lie in [0, 1], such as the masks of a masking
            model or the interpolated maps of the supplement's Equation (2).
            Default: True

    Returns:
        *Tensor*: rho+, at least 0, (B,), float64 on the CPU.

    Raises:
        ValueError: If a map has no positive value, if an argument does not match the
            inputs, or if scores are not probabilities.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2), nn.Softmax(1))
        >>> x, maps = torch.rand(4, 3, 8, 8), torch.rand(4, 1, 8, 8)
        >>> positive_map_density(model, x, maps, target=1).shape
        torch.Size([4])
    """
    return _density(
        False,
        forward_func,
        inputs,
        attributions,
        target,
        baselines,
        additional_forward_args,
        rescale,
    )


@log_usage()
@torch.no_grad()
def negative_map_density(
    forward_func: ForwardFunc,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
    *,
    rescale: bool = True,
) -> Tensor:
    r"""Probability of the part outside of a map, per unit of it. Lower is better.

    .. math::
        \rho^- = P(K(I \odot (1 - S))) \cdot \frac{h w}{\sum (1 - S)}

    Source: M. Jalwana et al., CAMERAS: Enhanced Resolution And Sanity preserving Class
    Activation Mapping for image Saliency, CVPR 2021; supplement A-3.

    Args:
        forward_func (Callable): Function of the inputs that returns probabilities.
        inputs (Tensor or tuple[Tensor]): One input (B, C, L), (B, C, H, W) or
            (B, C, T, H, W); h w is the number of pixels, or of voxels for video.
        attributions (Tensor or tuple[Tensor]): Maps (B, any, ...) of any size and
            scale; summed over channels, interpolated to the input's size, clipped at
            zero, and divided by their maximum.
        target (int, tuple, Tensor, list, or Callable, optional): Class whose
            probability is used, in any form that attributions accept. Default: None
        baselines (scalar or Tensor, optional): Replacement of hidden parts,
            broadcastable to ``inputs``. Zero is black, as in the paper, for pixel
            values, and the mean color for normalized inputs. Default: None (zero)
        additional_forward_args (Any, optional): Further arguments of
            ``forward_func``. The first axis of a tensor is the batch. Default: None
        rescale (bool, optional): Whether maps are clipped at zero and divided by their
            maximum. If False, they must lie in [0, 1], such as the masks of a masking
            model or the interpolated maps of the supplement's Equation (2).
            Default: True

    Returns:
        *Tensor*: rho-, at least 0, (B,), float64 on the CPU.

    Raises:
        ValueError: If a map is constant and positive, so that nothing is left, if an
            argument does not match the inputs, or if scores are not probabilities.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2), nn.Softmax(1))
        >>> x, maps = torch.rand(4, 3, 8, 8), torch.rand(4, 1, 8, 8)
        >>> negative_map_density(model, x, maps, target=1).shape
        torch.Size([4])
    """
    return _density(
        True,
        forward_func,
        inputs,
        attributions,
        target,
        baselines,
        additional_forward_args,
        rescale,
    )


def _density(
    negative: bool,
    forward_func: ForwardFunc,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType,
    baselines: BaselineType,
    additional_forward_args: object,
    rescale: bool,
) -> Tensor:
    check_flags(rescale=rescale)
    check_callable("forward_func", forward_func)
    x = check_metric_input(inputs)
    (fill,) = check_baselines(baselines, (x,))
    S = spatial_maps(attributions, x)
    S = unit_maps(S) if rescale else check_masks(S)
    kept = 1 - S if negative else S
    empty = (kept.flatten(1).amax(1) == 0).nonzero().flatten().tolist()
    if empty:
        least = "a value below their maximum" if negative else "a positive value"
        raise ValueError(
            f"attributions must have {least} in every map, got none for examples "
            f"{empty}."
        )
    masked = apply_masks(x, [fill], (1 - kept)[None, None, :, None].to(x))
    (probability,) = perturbed_scores(
        forward_func,
        lambda start, stop: masked,
        1,
        len(x),
        target,
        additional_forward_args,
        probabilities=True,
    )
    return map_density(probability, kept)
