r"""Pixel field: a Gaussian process on the cells of an input, observed through masks.

Let the score have effects of single cells and of pairs, f(m) = f(0) + sum_i a_i m_i +
sum_ij b_ij m_i m_j. The halved score of a mask w and its complement is then linear,

.. math::
    s(w) &= \tfrac12 \big(f(w) - f(0) + f(1) - f(1 - w)\big) \\
         &= w^T \phi, \\
    \phi_i &= a_i + \tfrac12 \sum_j (b_{ij} + b_{ji}),

with phi the Shapley values of the cells, whose sum is f(1) - f(0). Effects of third and
higher order are noise, apart from those that halving cancels. The field is a Gaussian
process, phi ~ GP(b p, K), with a prior map p of unknown scale b and

.. math::
    K_{ij} \propto |i|\,|j|\,
    \big(c + \text{Matern}_l(x_i - x_j) + \omega\, \delta_{ij}\big),

a smooth part and one that is independent between cells, since a cell is a region of the
image with contents of its own; \|i\| is the size of a cell. K is scaled to a variance
of the total of 1; the amplitude is integrated out. The total is observed exactly, so
that a map always sums to f(1) - f(0).
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from captum_ext.surrogate.hyperparameters import matern

__all__ = [
    "Cells",
    "FieldEstimate",
    "KernelFits",
    "candidate_noises",
    "field_kernel",
    "field_kernels",
    "fit_field",
    "fit_kernels",
    "kernels_with_prior",
    "whitened",
]

# Candidates of a fit, measured on ImageNet classifiers.
_LENGTHS = (0.15, 0.3, 0.6)
_INDEPENDENT = (1.0, 3.0)
# Variance of a score. Models without effects of third order have scores without noise;
# fewer scores than cells cannot tell.
_NOISES = (0.1, 0.3)
_NO_NOISE = 1e-10
# Standard deviation of the prior's scale in units of that of the total.
_PRIOR_STDS = (0.3, 1.0, 3.0)
# Covariance c of all cells.
_LEVEL = 0.02
# Variance of the total's observation, against rounding.
_JITTER = 1e-12


class Cells(NamedTuple):
    """Cells of an input: regions that masks keep or hide.

    Args:
        sizes (Tensor): Number of elements of each cell, (n,) float64.
        positions (Tensor): Centers of the cells, (n, d) float64, in units of the
            shorter side of the image; far apart for cells without a common space.
    """

    sizes: Tensor
    positions: Tensor


class FieldEstimate(NamedTuple):
    """Posterior of a field.

    Args:
        mean (Tensor): Posterior mean of phi, (n,) float64. Its sum is the total.
        std (Tensor): Posterior standard deviation of phi, (n,) float64.
    """

    mean: Tensor
    std: Tensor


def field_kernel(cells: Cells, length: float, independent: float) -> Tensor:
    """Covariance K of the cells, scaled to a variance of the total of 1.

    Args:
        cells (Cells): The n cells.
        length (float): Length scale l of the smooth part.
        independent (float): omega, the relative variance of the independent part.

    Returns:
        *Tensor*: (n, n) float64.

    Examples::

        >>> cells = Cells(torch.ones(2).double(), torch.tensor([[0.0], [9.0]]).double())
        >>> field_kernel(cells, length=0.3, independent=1.0).sum()
        tensor(1., dtype=torch.float64)
    """
    n, d = cells.positions.shape
    smooth = matern(cells.positions.new_full((d,), length))(cells.positions)
    k = _LEVEL + smooth.to_dense().detach() + independent * torch.eye(n).double()
    k = k * cells.sizes[:, None] * cells.sizes
    return k / k.sum()


def field_kernels(cells: Cells) -> list[Tensor]:
    """Kernel (n, n) of the cells under each candidate of the hyperparameters.

    Args:
        cells (Cells): The n cells.
    """
    return [
        field_kernel(cells, length, independent)
        for length, independent in itertools.product(_LENGTHS, _INDEPENDENT)
    ]


def kernels_with_prior(
    kernels: Iterable[Tensor], prior: Tensor | None
) -> Iterator[Tensor]:
    """Kernels to which the unknown scale of a prior map is added, by each candidate.

    Args:
        kernels (iterable of Tensor): Kernels (n, n) of the cells.
        prior (Tensor, optional): Sum of a prior map over each cell, (n,) float64, of
            any scale. None leaves the kernels as they are.
    """
    if prior is None:
        yield from kernels
        return
    share = prior / prior.abs().sum().clamp_min(1e-300)
    for k in kernels:
        for std in _PRIOR_STDS:
            yield k + std**2 * share[:, None] * share


def fit_field(
    kernels: Iterable[Tensor], weights: Tensor, scores: Tensor, total: float
) -> FieldEstimate:
    """Posterior of the field given the scores of masks.

    Hyperparameters are averaged over candidates by their evidence.

    Args:
        kernels (iterable of Tensor): Candidate kernels (n, n) of the cells.
        weights (Tensor): Share of each cell that a mask keeps, (M, n) float64.
        scores (Tensor): Halved scores s(w) of the masks, (M,) float64.
        total (float): f(1) - f(0), the sum of the field.

    Returns:
        *FieldEstimate*: In the unit of the scores.

    Examples::

        >>> cells = Cells(torch.ones(2).double(), torch.tensor([[0.0], [9.0]]).double())
        >>> weights, scores = torch.tensor([[1.0, 0.0]]), torch.tensor([0.3])
        >>> estimate = fit_field(
        ...     field_kernels(cells), weights.double(), scores.double(), total=1.0
        ... )
        >>> estimate.mean.sum().round()
        tensor(1., dtype=torch.float64)
    """
    fits = fit_kernels(kernels, weights, scores, total)
    probabilities = fits.log_evidence.softmax(0)[:, None]
    mean = (probabilities * fits.mean).sum(0)
    spread = fits.variance.clamp_min(0) + (fits.mean - mean).square()
    return FieldEstimate(mean, (probabilities * spread).sum(0).sqrt())


def candidate_noises(n_scores: int, n_cells: int) -> Tensor:
    """Candidates of the variance of a score, in units of that of the total.

    Args:
        n_scores (int): Number M of scores.
        n_cells (int): Number n of cells.

    Returns:
        *Tensor*: (2 or 3,) float64; the last of three is practically zero.

    Examples::

        >>> candidate_noises(3, 10)
        tensor([0.1000, 0.3000], dtype=torch.float64)
    """
    tiny = (_NO_NOISE,) if n_scores >= n_cells else ()
    return torch.tensor((*_NOISES, *tiny), dtype=torch.float64)


class KernelFits(NamedTuple):
    """Posteriors of the field under P pairs of a kernel and a noise.

    Args:
        mean (Tensor): Posterior mean, (P, n).
        variance (Tensor): Posterior variance, (P, n).
        log_evidence (Tensor): Log density of the scores, up to a constant, (P,).
    """

    mean: Tensor
    variance: Tensor
    log_evidence: Tensor


def fit_kernels(
    kernels: Iterable[Tensor], weights: Tensor, scores: Tensor, total: float
) -> KernelFits:
    """Posterior of the field under each kernel and each noise.

    Args:
        kernels (iterable of Tensor): Kernels (n, n) of the cells.
        weights (Tensor): Share of each cell that a mask keeps, (M, n) float64.
        scores (Tensor): Halved scores of the masks, (M,) float64.
        total (float): Sum of the field.

    Returns:
        *KernelFits*: All noises of the first kernel, then those of the next.
    """
    # The total is the score of the mask that keeps every cell.
    masks = torch.cat([weights, torch.ones_like(weights[:1])])
    values = torch.cat([scores, scores.new_tensor([total])])
    noises = candidate_noises(len(scores), masks.shape[1])
    errors = noises[:, None].repeat(1, len(values))
    errors[:, -1] = _JITTER
    fits = []
    for k in kernels:
        cross = masks @ k
        L = torch.linalg.cholesky(cross @ masks.T + errors.diag_embed())
        z, squared_amplitude, log_evidence = whitened(L, values)
        V = torch.linalg.solve_triangular(L, cross, upper=False)
        mean = (V.mT @ z[..., None])[..., 0]
        variance = (k.diagonal() - V.square().sum(1)) * squared_amplitude[:, None]
        fits.append(KernelFits(mean, variance, log_evidence))
    return KernelFits(*map(torch.cat, zip(*fits)))


def whitened(L: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whitened values, their squared amplitude and evidence with it integrated out.

    The prior density of the amplitude is inverse to it, so that no unit matters; the
    posterior of its square is an inverse gamma distribution.

    Args:
        L (Tensor): Cholesky factors of the covariance of the values, noise included,
            (..., N, N).
        values (Tensor): Values of mean 0, (N,).

    Returns:
        *tuple[Tensor, Tensor, Tensor]*: Whitened values (..., N), posterior mean of the
        squared amplitude (...), and log density of the values up to a constant (...).

    Examples::

        >>> whitened(torch.eye(3), torch.ones(3))[1]
        tensor(3.)
    """
    n = len(values)
    column = values[:, None].expand(*L.shape[:-1], 1)
    z = torch.linalg.solve_triangular(L, column, upper=False)[..., 0]
    squares = z.square().sum(-1)
    half_log_det = L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    log_evidence = -half_log_det - n / 2 * squares.clamp_min(1e-300).log()
    return z, squares / max(1, n - 2), log_evidence
