"""Sparseness: how few pixels hold most of a map."""

import torch
from captum.log import log_usage
from torch import Tensor

from captum_ext._captum import BaselineType, TargetType
from captum_ext.metrics.pixel_maps import check_metric_input, spatial_maps
from captum_ext.metrics.scoring import ForwardFunc

__all__ = ["gini_index", "sparseness"]


def gini_index(values: Tensor) -> Tensor:
    """Gini index of absolute values.

    Args:
        values (Tensor): Values (B, ...).

    Returns:
        *Tensor*: Indices in [0, 1 - 1/n], (B,); NaN if all values are zero.

    Examples::

        >>> gini_index(torch.tensor([[1.0, -1.0, 1.0, 1.0], [0.0, 0.0, -5.0, 0.0]]))
        tensor([0.0000, 0.7500])
    """
    v = values.abs().flatten(1).sort(dim=1).values
    n = v.shape[1]
    weights = torch.arange(1 - n, n, 2).to(v)
    return (v @ weights) / (n * v.sum(1))


@log_usage()
@torch.no_grad()
def sparseness(
    forward_func: ForwardFunc | None,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
) -> Tensor:
    r"""Gini index of a map: how few pixels hold most of it. Higher is sparser.

    With the n absolute values sorted, :math:`v_1 \le \dots \le v_n`,

    .. math::
        G = \frac{\sum_{k=1}^{n} (2 k - n - 1) \, v_k}{n \sum_{k=1}^{n} v_k}.

    It is 0 for a map of one absolute value, 1/3 for independent uniform noise in
    [0, 1], and 1 - 1/n for one of n pixels. It says nothing about whether these are the
    right pixels.

    Source: N. Hurley, S. Rickard, Comparing Measures of Sparsity, IEEE Transactions on
    Information Theory 2009; P. Chalasani et al., Concise Explanations of Neural
    Networks Using Adversarial Training, ICML 2020 (for attributions).

    Args:
        forward_func (Callable, optional): Not called; None is accepted.
        inputs (Tensor or tuple[Tensor]): One input (B, C, L), (B, C, H, W) or
            (B, C, T, H, W); only its size is used.
        attributions (Tensor or tuple[Tensor]): Maps (B, any, ...) of any size and
            scale; summed over channels and interpolated to the input's size. Absolute
            values count.
        target (int, tuple, Tensor, or list, optional): Not used. Default: None
        baselines (scalar or Tensor, optional): Not used. Default: None
        additional_forward_args (Any, optional): Not used. Default: None

    Returns:
        *Tensor*: (B,), float64 on the CPU, in [0, 1); NaN for a map of zeros.

    Raises:
        ValueError: If maps do not match the inputs.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> x, maps = torch.rand(2, 3, 2, 2), torch.zeros(2, 1, 2, 2)
        >>> maps[0] = 1
        >>> maps[1, 0, 0, 1] = -3
        >>> sparseness(None, x, maps)
        tensor([0.0000, 0.7500], dtype=torch.float64)
    """
    return gini_index(spatial_maps(attributions, check_metric_input(inputs)))
