"""Cascading parameter randomization: whether a map depends on what a model learned."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy

import torch
from captum.log import log_usage
from torch import Tensor, nn

from captum_ext._captum import BaselineType, TargetType
from captum_ext._validation import (
    check_callable,
    check_integer,
    check_metric_input,
)
from captum_ext.metrics.maps import spatial_maps

__all__ = [
    "parameter_randomization",
    "randomized_cascade",
    "rank_correlation",
]


def rank_correlation(maps: Tensor, others: Tensor) -> Tensor:
    """Spearman's correlation of each map with its counterpart.

    Args:
        maps (Tensor): (B, ...).
        others (Tensor): In the same shape.

    Returns:
        *Tensor*: In [-1, 1], (B,), float64; 0 where a map is constant and so tells
        nothing of the other.

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
    """A copy of a model that loses one layer after the other.

    Parameters are redrawn from a normal distribution that has the mean and the standard
    deviation of the trained ones, so that what changes is what was learned and not the
    scale of the activations, whatever kind of layer it is. Buffers, such as running
    statistics, stay.

    Args:
        model (nn.Module): Trained model; it stays as it is.
        layers (sequence of str): Names of its modules in the order of the cascade.
        seed (int): Seed of the new parameters.

    Yields:
        *nn.Module*: The same copy each time, with one more layer redrawn.

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
            _redraw(parameter, generator)
        yield copied


@torch.no_grad()
def _redraw(parameter: Tensor, generator: torch.Generator) -> None:
    # Drawn on the CPU, where a seed means the same for all devices.
    noise = torch.randn(parameter.shape, generator=generator).to(parameter)
    parameter.copy_(noise * parameter.std(correction=0) + parameter.mean())


@log_usage()
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
    """How alike a map stays while the model forgets. Closer to 0 is better.

    The layers of a copy of the model are randomized one after the other, from the
    output downwards, and the map is made anew each time. A method that explains what
    the model learned gives maps whose ranks have little to do with those of the trained
    model's map; one that draws edges, say, keeps them. The metric is the mean rank
    correlation over the cascade.

    Source: J. Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, Section 4
    (there layers are drawn as before training; see :func:`randomized_cascade`).

    Args:
        forward_func (nn.Module): The trained model; it stays as it is.
        inputs (Tensor or tuple[Tensor]): One input (B, C, L), (B, C, H, W) or
            (B, C, T, H, W), for its size.
        attributions (Tensor or tuple[Tensor]): Maps (B, any, ...) of the trained model,
            of any size and scale. Channels are summed, layer maps interpolated to the
            input's size; so are the maps of the randomized models.
        target (int, tuple, Tensor, or list, optional): Not used: it is for
            ``explanation_func`` to know. Default: None
        baselines (scalar or Tensor, optional): Not used, likewise. Default: None
        additional_forward_args (Any, optional): Not used, likewise. Default: None
        explanation_func (Callable): Returns the maps that a model, a randomized copy of
            ``forward_func``, has for the same inputs and target.
        layers (sequence of str, optional): Names of modules in the order in which they
            are randomized, each with all that it holds. Default: None (every module
            that has parameters of its own, the last defined first)
        seed (int, optional): Seed of the random parameters. Default: 0
        return_layers (bool, optional): Whether the correlation after each layer is
            returned as well. Default: False

    Returns:
        *Tensor* or *tuple[Tensor, dict[str, Tensor]]* of **correlation**, or a pair of
        **correlation** and **by layer** if ``return_layers``; float64 on the CPU:
        - **correlation** (*Tensor*): Mean over the layers, in [-1, 1], (B,). A map
          that is constant counts as uncorrelated.
        - **by layer** (*dict[str, Tensor]*): The correlation (B,) once that layer and
          all before it are random, in the order of the cascade.

    Raises:
        ValueError: If maps do not fit the inputs, or a layer is unknown.
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
    names = _cascade_of(forward_func, layers)
    check_callable("explanation_func", explanation_func)
    x = check_metric_input(inputs)
    maps = spatial_maps(attributions, x)
    seed = check_integer("seed", seed, 0, 2**64 - 1)
    by_layer = {}
    for name, model in zip(names, randomized_cascade(forward_func, names, seed)):
        redrawn = spatial_maps(explanation_func(model), x, "maps of explanation_func")
        by_layer[name] = rank_correlation(maps, redrawn)
    mean = torch.stack(list(by_layer.values())).mean(0)
    return (mean, by_layer) if return_layers else mean


def _cascade_of(model: nn.Module, layers: Sequence[str] | None) -> list[str]:
    """Names of the modules to randomize; refuse what holds no parameters."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"forward_func must be an nn.Module, got {type(model).__name__}."
        )
    known = dict(model.named_modules())
    if layers is None:
        own = [n for n, m in known.items() if list(m.parameters(recurse=False))]
        layers = own[::-1]
    wrong = [n for n in layers if n not in known or not list(known[n].parameters())]
    if wrong or not layers:
        raise ValueError(
            f"layers must name modules of forward_func that have parameters, got "
            f"{wrong}."
        )
    return list(layers)
