"""Efficient MPRT: how much more complex a map gets when all weights are randomized."""

from collections.abc import Callable

import torch
from captum.log import log_usage
from torch import Tensor, nn

from captum_ext._captum import BaselineType, TargetType
from captum_ext._type_checks import check_callable
from captum_ext._validation import check_integer
from captum_ext.metrics.parameter_randomization import cascade_of, randomized_cascade
from captum_ext.metrics.pixel_maps import check_metric_input, spatial_maps

__all__ = ["efficient_mprt", "histogram_entropy"]


def histogram_entropy(maps: Tensor, n_bins: int) -> Tensor:
    """Entropy of the histogram of each map's values.

    Args:
        maps (Tensor): Maps (B, ...).
        n_bins (int): Number of equal bins from the lowest to the highest value.

    Returns:
        *Tensor*: Entropies in nats, in [0, log n_bins], (B,); 0 for a constant map.

    Examples::

        >>> histogram_entropy(torch.tensor([[0.0, 0.1, 0.9, 1.0], [5.0] * 4]), 2)
        tensor([0.6931, 0.0000])
    """
    counts = torch.stack([values.histc(n_bins) for values in maps.flatten(1)])
    return torch.special.entr(counts / maps[0].numel()).sum(1)


@log_usage()
@torch.inference_mode(False)
def efficient_mprt(
    forward_func: nn.Module,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
    *,
    explanation_func: Callable[[nn.Module], Tensor | tuple[Tensor, ...]],
    n_bins: int = 100,
    seed: int = 0,
) -> Tensor:
    r"""Relative rise of a map's complexity by randomization. Higher is better.

    All layers of a copy of the model are randomized, and the map is computed again.
    With the entropy :math:`\xi` of the histogram of a map's values,

    .. math::
        \frac{\xi(\hat e) - \xi(e)}{\xi(e)},

    for the map e of the trained model and :math:`\hat e` of the randomized one. It is 0
    for a method that does not depend on the parameters, and below 0 if maps of the
    trained model look more random. In contrast to
    :func:`~captum_ext.metrics.parameter_randomization` it needs one further map, and
    compares no pixels of noisy maps.

    Source: A. Hedström, L. Weber, S. Lapuschkin, M. Höhne, Sanity Checks Revisited: An
    Exploration to Repair the Model Parameter Randomisation Test, NeurIPS 2023 Workshop
    XAI in Action (efficient MPRT).

    Args:
        forward_func (nn.Module): The trained model; it is not modified.
        inputs (Tensor or tuple[Tensor]): One input (B, C, L), (B, C, H, W) or
            (B, C, T, H, W); only its size is used.
        attributions (Tensor or tuple[Tensor]): Maps (B, any, ...) of the trained model,
            of any size and scale. These and the maps of the randomized model are summed
            over channels and interpolated to the input's size.
        target (int, tuple, Tensor, or list, optional): Not used; ``explanation_func``
            determines the target. Default: None
        baselines (scalar or Tensor, optional): Not used. Default: None
        additional_forward_args (Any, optional): Not used. Default: None
        explanation_func (Callable): Function of a model, a randomized copy of
            ``forward_func``, that returns its maps for the same inputs and target.
        n_bins (int, optional): Number of bins of the histogram. Default: 100
        seed (int, optional): Seed of the random parameters. Default: 0

    Returns:
        *Tensor*: (B,), at least -1, float64 on the CPU; NaN for a constant map of the
        trained model.

    Raises:
        ValueError: If an argument is out of its range or maps do not match the inputs.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
        >>> x = torch.rand(2, 3, 8, 8)
        >>> def explain(model):
        ...     return PNRISE(model).attribute(x, target=1, n_masks=32)
        >>> efficient_mprt(model, x, explain(model), explanation_func=explain).shape
        torch.Size([2])
    """
    names = cascade_of(forward_func, None)
    check_callable("explanation_func", explanation_func)
    x = check_metric_input(inputs)
    maps = spatial_maps(attributions, x)
    n_bins = check_integer("n_bins", n_bins, 2)
    seed = check_integer("seed", seed, 0, 2**64 - 1)
    (*_, randomized) = randomized_cascade(forward_func, names, seed)
    others = spatial_maps(explanation_func(randomized), x, "maps of explanation_func")
    before, after = (histogram_entropy(each, n_bins) for each in (maps, others))
    return ((after - before) / before).masked_fill(before == 0, torch.nan)
