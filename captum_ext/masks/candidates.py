"""Candidate masks for BOREx: halves, squares, single regions and parts of a map."""

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ext._type_checks import check_instance, check_numbers, check_sequence
from captum_ext._validation import check_choice, check_positive
from captum_ext.masks.halves import smooth_halves
from captum_ext.masks.layout import check_generator
from captum_ext.masks.regions import RegionLayout

__all__ = ["KINDS", "candidate_masks"]

KINDS = ("halves", "squares", "regions", "parts")

# Halves among the candidates.
_N_HALVES = 400
# Shares of the cells whose connected parts are candidates.
_SHARES = (0.05, 0.1, 0.2, 0.3)
# Largest connected parts of a share that are kept, and combined in pairs.
_N_PARTS = 4


def candidate_masks(
    layout: RegionLayout,
    kinds: Sequence[str],
    sides: Sequence[float],
    generator: torch.Generator,
    prior: Tensor | None = None,
) -> Tensor:
    """Candidate masks over the regions of one example.

    Args:
        layout (RegionLayout): The n regions.
        kinds (sequence of str): Kinds of masks: random "halves" of the input, the
            regions within "squares" around each region, single "regions", and "parts",
            the connected parts of the highest values of a prior map, alone and in
            pairs.
        sides (sequence of float): Sides of squares in units of the shorter side.
        generator (torch.Generator): Source of randomness, on the CPU.
        prior (Tensor, optional): Mean of a prior map over each region, (n,). Default:
            None

    Returns:
        *Tensor*: Whether a mask keeps a region, (G, n) bool. All are different; none
        keeps all regions or none unless there is one region only.

    Examples::

        >>> layout = RegionLayout([torch.arange(9).reshape(1, 1, 3, 3)])
        >>> generator = torch.Generator().manual_seed(0)
        >>> candidate_masks(layout, ["regions", "squares"], [0.7], generator).shape
        torch.Size([17, 9])
    """
    check_instance("layout", layout, RegionLayout)
    check_generator(generator)
    for kind in check_sequence("kinds", kinds, "names"):
        check_choice("kinds", kind, KINDS)
    sides = [check_positive("sides", side) for side in check_numbers("sides", sides)]
    if prior is not None:
        prior = check_numbers("prior", prior, layout.n_cells)
    positions, sizes = layout.positions(), layout.sizes()
    n = len(sizes)
    found = [torch.zeros(0, n, dtype=torch.bool)]
    if "halves" in kinds:
        found.append(smooth_halves(positions, sizes, _N_HALVES, generator))
    if "squares" in kinds:
        distance = (positions[:, None] - positions).abs().amax(-1)
        found += [distance <= side / 2 for side in sides]
    if "regions" in kinds:
        found.append(torch.eye(n).bool())
    if "parts" in kinds and prior is not None:
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
    parts = labels == labels[top].unique()[:, None]
    parts = parts[parts.sum(1).argsort(descending=True, stable=True)[:_N_PARTS]]
    return (parts[:, None] | parts).flatten(0, 1)
