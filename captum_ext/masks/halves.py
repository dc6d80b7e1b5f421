"""Random halves of an input: connected unions of cells."""

import torch
from torch import Tensor

from captum_ext._type_checks import check_finite, check_tensor
from captum_ext._validation import check_integer, check_probability
from captum_ext.masks.layout import check_generator

__all__ = ["smooth_halves"]

# Correlation length of the random field in units of the shorter side: halves with finer
# holes point less well, coarser ones lose detail (measured on ImageNet classifiers).
_LENGTH = 0.22


def smooth_halves(
    positions: Tensor,
    sizes: Tensor,
    n_masks: int,
    generator: torch.Generator,
    share: float = 0.5,
) -> Tensor:
    """Draw random masks that keep connected parts of about a share of the input.

    A Gaussian random field is drawn at the centers of the cells; a mask keeps the cells
    of its highest values, up to the one that crosses the share by less than half of its
    size. Cells that are far apart are independent.

    Args:
        positions (Tensor): Centers of the n cells, (n, d) float64, in units of the
            shorter side.
        sizes (Tensor): Size of each cell, (n,) float64.
        n_masks (int): Number of masks M.
        generator (torch.Generator): Source of randomness, on the CPU.
        share (float, optional): Share of the input that is kept, in (0, 1).
            Default: 0.5

    Returns:
        *Tensor*: Whether a mask keeps a cell, (M, n) bool.

    Examples::

        >>> positions = torch.arange(8.0).double()[:, None] / 8
        >>> generator = torch.Generator().manual_seed(0)
        >>> smooth_halves(positions, torch.ones(8).double(), 3, generator).sum(1)
        tensor([4, 4, 4])
    """
    check_finite("positions", check_tensor("positions", positions))
    check_finite("sizes", check_tensor("sizes", sizes))
    n_masks = check_integer("n_masks", n_masks, 1)
    check_generator(generator)
    share = check_probability("share", share)
    if positions.dim() != 2 or positions.numel() == 0:
        raise ValueError(
            f"positions must have shape (n, d), got {tuple(positions.shape)}."
        )
    if sizes.shape != positions.shape[:1] or not (sizes > 0).all():
        raise ValueError(
            f"sizes must be {len(positions)} positive numbers, got shape "
            f"{tuple(sizes.shape)}."
        )
    positions, sizes = positions.double(), sizes.double()
    squares = torch.cdist(positions, positions).square()
    covariance = torch.exp(-squares / (2 * _LENGTH**2))
    # The covariance of close cells is singular up to rounding.
    L = torch.linalg.cholesky(covariance + 1e-6 * torch.eye(len(sizes)).double())
    noise = torch.randn(n_masks, len(sizes), generator=generator, dtype=torch.float64)
    order = (noise @ L.T).argsort(dim=1, descending=True)
    ordered = sizes[order] / sizes.sum()
    # Rounding must not decide whether equal cells make a half.
    kept = ordered.cumsum(1) - ordered / 2 <= share + 1e-9
    return torch.zeros_like(kept).scatter_(1, order, kept)
