"""Mu-fidelity: whether a map predicts what hiding parts of the image does."""

from collections.abc import Sequence

import torch
from captum.log import log_usage
from torch import Tensor

from captum_ext._captum import BaselineType, TargetType
from captum_ext._scores import PerturbationsPerEval
from captum_ext._validation import check_baselines, check_integer, check_probability
from captum_ext.masks import apply_masks
from captum_ext.metrics.pixel_maps import check_metric_input, is_constant, spatial_maps
from captum_ext.metrics.scoring import ForwardFunc, perturbed_scores

__all__ = [
    "correlation",
    "grid_cells",
    "mu_fidelity",
    "random_subsets",
    "subset_scores",
    "subset_sums",
]


def random_subsets(n_subsets: int, n_cells: int, fraction: float, seed: int) -> Tensor:
    """Random subsets of one size.

    Args:
        n_subsets (int): Number M of subsets.
        n_cells (int): Number of cells to choose from.
        fraction (float): Fraction of the cells in each subset, at least one cell.
        seed (int): Seed of the private generator.

    Returns:
        *Tensor*: Whether each cell belongs to each subset, (M, n_cells), bool.

    Examples::

        >>> random_subsets(3, 10, 0.2, seed=0).sum(1)
        tensor([2, 2, 2])
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(n_subsets, n_cells, generator=generator).argsort(1)
    return order < max(1, round(fraction * n_cells))


def grid_cells(size: Sequence[int], side: int) -> Tensor:
    """Index of the square cell of each pixel.

    Args:
        size (sequence of int): H and W.
        side (int): Cells per side.

    Returns:
        *Tensor*: Indices 0 to ``side**2 - 1`` in row-major order, (H, W), int64.

    Examples::

        >>> grid_cells((2, 4), 2)
        tensor([[0, 0, 1, 1],
                [2, 2, 3, 3]])
    """
    row, column = (torch.arange(n) * side // n for n in size)
    return row[:, None] * side + column


def subset_sums(maps: Tensor, cells: Tensor, subsets: Tensor) -> Tensor:
    """Sum of maps over subsets of cells.

    Args:
        maps (Tensor): Maps (B, H, W), float64 on the CPU.
        cells (Tensor): Index of the cell of each pixel, (H, W).
        subsets (Tensor): Subsets (M, n_cells), bool.

    Returns:
        *Tensor*: Sums (M, B).

    Examples::

        >>> maps, cells = torch.tensor([[[1.0, 2.0, 5.0]]]), torch.tensor([[0, 0, 1]])
        >>> subset_sums(maps.double(), cells, torch.tensor([[True, False]]))
        tensor([[3.]], dtype=torch.float64)
    """
    by_cell = maps.new_zeros(len(maps), subsets.shape[1])
    by_cell.index_add_(1, cells.flatten(), maps.flatten(1))
    return subsets.to(maps) @ by_cell.T


@torch.no_grad()
def subset_scores(
    forward_func: ForwardFunc,
    inputs: Tensor,
    cells: Tensor,
    subsets: Tensor,
    target: TargetType = None,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
    perturbations_per_eval: PerturbationsPerEval = "auto",
) -> Tensor:
    """Scores of images without the cells of each subset.

    Args:
        forward_func (Callable): The model or any function of its inputs.
        inputs (Tensor): Images (B, C, H, W).
        cells (Tensor): Index of the cell of each pixel, (H, W).
        subsets (Tensor): Cells to hide, (M, n_cells), bool.
        target (int, tuple, Tensor, or list, optional): Output to score.
        baselines (scalar or Tensor, optional): Replacement of hidden cells.
            Default: None (zero)
        additional_forward_args (Any, optional): Further arguments of
            ``forward_func``. Default: None
        perturbations_per_eval (int or "auto", optional): Images per example in one
            call. Default: "auto"

    Returns:
        *Tensor*: Scores (M, B), float64 on the CPU.

    Raises:
        ValueError: If there is not one finite score per example.
        TypeError: If ``forward_func`` cannot be called.
    """
    (fill,) = check_baselines(baselines, (inputs,))

    def hidden(start: int, stop: int) -> Tensor:
        masks = subsets[start:stop][:, cells][:, None, None, None]
        return apply_masks(inputs, [fill], masks.to(inputs))

    return perturbed_scores(
        forward_func,
        hidden,
        len(subsets),
        len(inputs),
        target,
        additional_forward_args,
        perturbations_per_eval,
    )


def correlation(values: Tensor, others: Tensor) -> Tensor:
    """Pearson's correlation of columns.

    Args:
        values (Tensor): (M, B).
        others (Tensor): (M, B).

    Returns:
        *Tensor*: Correlations in [-1, 1], (B,); NaN for a constant column.

    Examples::

        >>> values = torch.tensor([[1.0], [2.0], [3.0]])
        >>> correlation(values, torch.tensor([[7.0], [5.0], [3.0]])).round(decimals=4)
        tensor([-1.])
    """
    unit = [
        (column - column.mean(0)) / (column - column.mean(0)).norm(dim=0)
        for column in (values, others)
    ]
    constant = is_constant(values.T) | is_constant(others.T)
    return (unit[0] * unit[1]).sum(0).clamp(-1, 1).masked_fill(constant, torch.nan)


@log_usage()
@torch.no_grad()
def mu_fidelity(
    forward_func: ForwardFunc,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
    *,
    n_subsets: int = 64,
    grid_size: int = 14,
    fraction: float = 0.2,
    seed: int = 0,
    perturbations_per_eval: PerturbationsPerEval = "auto",
) -> Tensor:
    r"""Correlation of a map's sums with the drops of the score. Higher is better.

    Random subsets :math:`\mathcal{S}` of the cells of a grid are hidden. The metric is
    Pearson's correlation over the subsets of

    .. math::
        \sum_{\lambda \in \mathcal{S}} S_\lambda
        \quad \text{and} \quad M(i) - M(i_{\bar{\mathcal{S}}}),

    the attribution of the subset and the drop of the score without it. Signs and sizes
    count, not only ranks: it is 1 for the attribution of a linear model, and 0 on
    average for a random map.

    Source: U. Bhatt, A. Weller, J. Moura, Evaluating and Aggregating Feature-based
    Model Explanations, IJCAI 2020, Definition 3.3.

    Args:
        forward_func (Callable): The model or any function of its inputs.
        inputs (Tensor or tuple[Tensor]): Images (B, C, H, W).
        attributions (Tensor or tuple[Tensor]): Maps (B, any, h, w) of any size and
            scale; summed over channels and interpolated to the input's size.
        target (int, tuple, Tensor, or list, optional): Output to score, in any of
            Captum's forms. Default: None
        baselines (scalar or Tensor, optional): Replacement of hidden cells,
            broadcastable to ``inputs``. Default: None (zero)
        additional_forward_args (Any, optional): Further arguments of
            ``forward_func``. The first axis of a tensor is the batch. Default: None
        n_subsets (int, optional): Number of subsets, at least 2; one forward pass each.
            Default: 64
        grid_size (int, optional): Cells of the grid per side, at most the shorter side
            of the image. Default: 14
        fraction (float, optional): Fraction of the cells in each subset, in (0, 1).
            Default: 0.2
        seed (int, optional): Seed of the subsets, which all examples share. Default: 0
        perturbations_per_eval (int or "auto", optional): Images per example in one call
            of ``forward_func``; "auto" measures the fastest number in the first calls.
            It changes the metric by rounding only. Default: "auto"

    Returns:
        *Tensor*: (B,), float64 on the CPU, in [-1, 1]; NaN for a constant map and for
        scores that hiding does not change.

    Raises:
        ValueError: If an argument is out of its range or does not match the inputs, or
            if scores are NaN or infinite.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
        >>> x = torch.rand(4, 3, 8, 8)
        >>> exact = x * model[1].weight[1].detach().view(3, 8, 8)
        >>> mu_fidelity(model, x, exact, target=1, grid_size=4).round(decimals=4)
        tensor([1., 1., 1., 1.], dtype=torch.float64)
    """
    x = check_metric_input(inputs, axes=(4,))
    maps = spatial_maps(attributions, x)
    fraction = check_probability("fraction", fraction)
    n_subsets = check_integer("n_subsets", n_subsets, 2)
    side = check_integer("grid_size", grid_size, 2, min(x.shape[2:]))
    seed = check_integer("seed", seed, 0, 2**64 - 1)
    cells = grid_cells(x.shape[2:], side)
    subsets = random_subsets(n_subsets, side**2, fraction, seed)
    scores = subset_scores(
        forward_func,
        x,
        cells,
        subsets,
        target,
        baselines,
        additional_forward_args,
        perturbations_per_eval,
    )
    # The score of the whole image is a constant, which no correlation sees.
    values = correlation(subset_sums(maps, cells, subsets), -scores)
    return values.masked_fill(is_constant(maps), torch.nan)
