"""Cascading parameter randomization: whether a map depends on learned parameters."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy

import torch
from captum.log import log_usage
from torch import Tensor, nn

from captum_ext._captum import BaselineType, TargetType
from captum_ext._type_checks import (
    check_callable,
    check_flags,
    check_instance,
    check_module,
    check_sequence,
)
from captum_ext._validation import check_integer
from captum_ext.metrics.pixel_maps import check_metric_input, spatial_maps

__all__ = [
    "cascade_of",
    "parameter_randomization",
    "randomized_cascade",
    "rank_correlation",
]


def rank_correlation(maps: Tensor, others: Tensor) -> Tensor:
    """Spearman's rank correlation of each map with its counterpart.

    Args:
        maps (Tensor): Maps (B, ...).
        others (Tensor): Maps of the same shape.

    Returns:
        *Tensor*: Correlations in [-1, 1], (B,), float64; 0 if a map is constant.

    Examples::

        >>> maps = torch.tensor([[1.0, 2.0, 9.0], [1.0, 2.0, 3.0]])
        >>> rank_correlation(maps, torch.tensor([[0.1, 0.2, 0.3], [5.0, 5.0, 5.0]]))
        tensor([1., 0.], dtype=torch.float64)
    """
    from scipy.stats import spearmanr

    pairs = zip(maps.flatten(1), others.flatten(1))
    correlations = [
        spearmanr(a, b)[0] if a.min() < a.max() and b.min() < b.max() else 0.0
        for a, b in pairs
    ]
    return torch.tensor(correlations, dtype=torch.float64)


def randomized_cascade(
    model: nn.Module, layers: Sequence[str], seed: int
) -> Iterator[nn.Module]:
    """A copy of a model whose layers are randomized one after the other.

    New parameters are drawn from a normal distribution with the mean and the standard
    deviation of the trained ones: activations keep their scale in any kind of layer.
    Buffers, such as running statistics, are kept.

    Args:
        model (nn.Module): Trained model; it is not modified.
        layers (sequence of str): Names of its modules in the order of the cascade.
        seed (int): Seed of the new parameters.

    Yields:
        *nn.Module*: The same copy each time, with one more layer randomized.

    Examples::

        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> for copied in randomized_cascade(model, ["2", "0"], seed=0):
        ...     torch.equal(copied[0].weight, model[0].weight)
        True
        False
    """
    generator = torch.Generator().manual_seed(seed)
    copied = deepcopy(model)
    for name in layers:
        for parameter in copied.get_submodule(name).parameters():
            _randomize(parameter, generator)
        yield copied


@torch.no_grad()
def _randomize(parameter: Tensor, generator: torch.Generator) -> None:
    # On the CPU a seed gives the same numbers for models on any device.
    noise = torch.randn(parameter.shape, generator=generator).to(parameter)
    parameter.copy_(noise * parameter.std(correction=0) + parameter.mean())


@log_usage()
@torch.inference_mode(False)
def parameter_randomization(
    forward_func: nn.Module,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
    *,
    explanation_func: Callable[[nn.Module], Tensor | tuple[Tensor, ...]],
    layers: Sequence[str] | None = None,
    seed: int = 0,
    return_layers: bool = False,
) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
    """Similarity of maps before and after randomization. Closer to 0 is better.

    The layers of a copy of the model are randomized one after the other, starting at
    the output, and the map is computed again each time. If a method explains what the
    model learned, the new maps rank pixels differently from the map of the trained
    model; a method that draws edges, for example, ranks them alike. The metric is the
    mean rank correlation over the cascade.

    Source: J. Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, Section 4
    (which initializes layers as before training; see :func:`randomized_cascade`).

    Args:
        forward_func (nn.Module): The trained model; it is not modified.
        inputs (Tensor or tuple[Tensor]): One input (B, C, L), (B, C, H, W) or
            (B, C, T, H, W); only its size is used.
        attributions (Tensor or tuple[Tensor]): Maps (B, any, ...) of the trained model,
            of any size and scale. These and the maps of randomized models are summed
            over channels and interpolated to the input's size.
        target (int, tuple, Tensor, or list, optional): Not used; ``explanation_func``
            determines the target. Default: None
        baselines (scalar or Tensor, optional): Not used. Default: None
        additional_forward_args (Any, optional): Not used. Default: None
        explanation_func (Callable): Function of a model, a randomized copy of
            ``forward_func``, that returns its maps for the same inputs and target.
        layers (sequence of str, optional): Names of the modules to randomize, in this
            order, each with its submodules. Default: None (every module that has
            parameters outside of its submodules, the last defined first)
        seed (int, optional): Seed of the random parameters. Default: 0
        return_layers (bool, optional): Whether to return the correlation after each
            layer as well. Default: False

    Returns:
        *Tensor* or *tuple[Tensor, dict[str, Tensor]]* of **correlation**, or a pair of
        **correlation** and **by layer** if ``return_layers``; float64 on the CPU:
        - **correlation** (*Tensor*): Mean over the layers, in [-1, 1], (B,). A constant
          map counts as uncorrelated.
        - **by layer** (*dict[str, Tensor]*): Correlation (B,) after each layer was
          randomized, in the order of the cascade.

    Raises:
        ValueError: If maps do not match the inputs, or if a layer is unknown.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
        >>> x = torch.rand(2, 3, 8, 8)
        >>> def explain(model):
        ...     return PNRISE(model).attribute(x, target=1, n_masks=32)
        >>> mean, by_layer = parameter_randomization(
        ...     model, x, explain(model), explanation_func=explain, return_layers=True
        ... )
        >>> mean.shape, list(by_layer)
        (torch.Size([2]), ['2', '0'])
    """
    names = cascade_of(forward_func, layers)
    check_callable("explanation_func", explanation_func)
    x = check_metric_input(inputs)
    maps = spatial_maps(attributions, x)
    check_flags(return_layers=return_layers)
    seed = check_integer("seed", seed, 0, 2**64 - 1)
    by_layer = {}
    for name, model in zip(names, randomized_cascade(forward_func, names, seed)):
        randomized = spatial_maps(
            explanation_func(model), x, "maps of explanation_func"
        )
        by_layer[name] = rank_correlation(maps, randomized)
    mean = torch.stack(list(by_layer.values())).mean(0)
    return (mean, by_layer) if return_layers else mean


def cascade_of(model: nn.Module, layers: Sequence[str] | None) -> list[str]:
    """Names of the modules to randomize, checked to have parameters.

    Args:
        model (nn.Module): Trained model.
        layers (sequence of str, optional): Names of its modules. None is every module
            that has parameters outside of its submodules, the last defined first.

    Returns:
        *list of str*: Names in the order of the cascade.

    Raises:
        ValueError: If a layer is unknown or has no parameters.
        TypeError: If ``model`` is not a module.

    Examples::

        >>> cascade_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), None)
        ['2', '0']
    """
    check_module("forward_func", model)
    known = dict(model.named_modules())
    if layers is None:
        own = [n for n, m in known.items() if list(m.parameters(recurse=False))]
        layers = own[::-1]
    for name in check_sequence("layers", layers, "names of modules"):
        check_instance("layers", name, str)
    wrong = [n for n in layers if n not in known or not list(known[n].parameters())]
    if wrong or not layers:
        raise ValueError(
            f"layers must name modules of forward_func that have parameters, got "
            f"{wrong}."
        )
    return list(layers)
