"""Candidate masks of a search: squares, single regions, parts of a map, and halves."""

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ext.masks.halves import smooth_halves
from captum_ext.masks.regions import RegionLayout

__all__ = ["candidate_masks"]

# Halves among the candidates.
_N_HALVES = 200
# Shares of the cells whose connected parts are candidates.
_SHARES = (0.05, 0.1, 0.2, 0.3)
# Largest connected parts of a share that are kept, and combined in pairs.
_N_PARTS = 4


def candidate_masks(
    layout: RegionLayout,
    sides: Sequence[float],
    generator: torch.Generator,
    prior: Tensor | None = None,
) -> Tensor:
    """Masks that may tell something about the regions of one example.

    These are single regions, the regions within a square around each region, random
    halves, and the connected parts of the highest values of a prior map, alone and in
    pairs.

    Args:
        layout (RegionLayout): The n regions.
        sides (sequence of float): Sides of squares in units of the shorter side.
        generator (torch.Generator): Source of randomness, on the CPU.
        prior (Tensor, optional): Mean of a prior map over each region, (n,). Default:
            None

    Returns:
        *Tensor*: Whether a mask keeps a region, (G, n) bool. All are different; none
        keeps all regions or none unless there is one region only.

    Examples::

        >>> layout = RegionLayout([torch.arange(9).reshape(1, 1, 3, 3)])
        >>> candidate_masks(layout, [0.7], torch.Generator().manual_seed(0)).shape[1]
        9
    """
    positions, sizes = layout.positions(), layout.sizes()
    n = len(sizes)
    distance = (positions[:, None] - positions).abs().amax(-1)
    found = [torch.eye(n).bool(), *(distance <= side / 2 for side in sides)]
    found.append(smooth_halves(positions, sizes, _N_HALVES, generator))
    if prior is not None:
        found += [_parts(layout, prior, share) for share in _SHARES]
    masks = torch.cat(found).unique(dim=0)
    n_kept = masks.sum(1)
    return masks[(n_kept > 0) & (n_kept < n)] if n > 1 else masks[n_kept > 0]


def _parts(layout: RegionLayout, prior: Tensor, share: float) -> Tensor:
    """Largest connected parts of the highest share of regions, and their pairs."""
    from scipy.sparse import csgraph

    n = len(prior)
    top = torch.zeros(n, dtype=torch.bool)
    top[prior.argsort(descending=True)[: max(1, round(share * n))]] = True
    touching = layout.neighbors() & top & top[:, None]
    labels = torch.from_numpy(csgraph.connected_components(touching.numpy())[1])
    parts = (labels == labels[top].unique()[:, None]) & top
    parts = parts[parts.sum(1).argsort(descending=True, stable=True)[:_N_PARTS]]
    return (parts[:, None] | parts).flatten(0, 1)
