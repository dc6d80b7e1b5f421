r"""Pixel field: a Gaussian process on the cells of an input, observed through masks.

Let the score have effects of single cells and of pairs, f(m) = f(0) + sum_i a_i m_i +
sum_ij b_ij m_i m_j. The halved score of a mask w and its complement is then linear,

.. math::
    s(w) = \tfrac12 \big(f(w) - f(0) + f(1) - f(1 - w)\big) = w^T \phi, \quad
    \phi_i = a_i + \tfrac12 \sum_j (b_{ij} + b_{ji}),

with phi the Shapley values of the cells, whose sum is f(1) - f(0). Odd effects of third
and higher order are noise. The field is a Gaussian process, phi ~ GP(b p, K), with a
prior map p of unknown scale b and

.. math::
    K_{ij} \propto |i|\,|j|\,
    \big(c + \text{Matern}_l(x_i - x_j) + \omega\, \delta_{ij}\big),

a smooth part and one that is independent between cells, which are regions of the image;
\|i\| is the size of a cell. K is scaled to a variance of the total of 1; the amplitude
is integrated out. The total is observed exactly, so that a map always sums to
f(1) - f(0).
"""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from captum_ext.surrogate.hyperparameters import matern

__all__ = ["Cells", "FieldEstimate", "FieldParameters", "field_kernel", "fit_field"]

# Candidates of a fit, measured on ImageNet classifiers.
_LENGTHS = (0.15, 0.3, 0.6)
_INDEPENDENT = (1.0, 3.0)
# Variance of a score, with the log of its prior probability: models without effects of
# third order, whose scores have no noise, are rare.
_NOISES = {1e-10: -7.0, 0.1: 0.0, 0.3: 0.0}
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


class FieldParameters(NamedTuple):
    """Hyperparameters of a field.

    Args:
        length (float): Length scale l of the smooth part, in units of the shorter side.
        independent (float): omega, the variance of the independent part of a cell in
            units of that of the smooth part.
        noise (float): Variance of a score in units of that of the total.
        prior_std (float, optional): Standard deviation of the scale of the prior map,
            in units of that of the total. Default: 0.0 (no prior)
    """

    length: float
    independent: float
    noise: float
    prior_std: float = 0.0


class FieldEstimate(NamedTuple):
    """Posterior of a field.

    Args:
        mean (Tensor): Posterior mean of phi, (n,) float64. Its sum is the total.
        std (Tensor): Posterior standard deviation of phi, (n,) float64.
        parameters (FieldParameters): Hyperparameters of the largest evidence.
    """

    mean: Tensor
    std: Tensor
    parameters: FieldParameters


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


def fit_field(
    cells: Cells,
    weights: Tensor,
    scores: Tensor,
    total: float,
    prior: Tensor | None = None,
) -> FieldEstimate:
    """Posterior of the field given the scores of masks, with fitted hyperparameters.

    Args:
        cells (Cells): The n cells.
        weights (Tensor): Share of each cell that a mask keeps, (M, n) float64.
        scores (Tensor): Halved scores s(w) of the masks, (M,) float64.
        total (float): f(1) - f(0), the sum of the field.
        prior (Tensor, optional): Sum of a prior map over each cell, (n,) float64, of
            any scale. Default: None (zero)

    Returns:
        *FieldEstimate*: The fit takes the candidate of the largest evidence.

    Examples::

        >>> cells = Cells(torch.ones(2).double(), torch.tensor([[0.0], [9.0]]).double())
        >>> weights, scores = torch.tensor([[1.0, 0.0]]), torch.tensor([0.3])
        >>> fit_field(cells, weights.double(), scores.double(), 1.0).mean.sum()
        tensor(1., dtype=torch.float64)
    """
    # The total is the score of the mask that keeps every cell.
    masks = torch.cat([weights, torch.ones_like(weights[:1])])
    values = torch.cat([scores, scores.new_tensor([total])])
    share = torch.zeros_like(cells.sizes)
    if prior is not None:
        share = prior / prior.abs().sum().clamp_min(1e-300)
    trend = (masks @ share)[:, None] * (masks @ share)
    prior_stds = (0.0,) if prior is None else _PRIOR_STDS
    candidates, grams, log_priors = [], [], []
    for length, independent in itertools.product(_LENGTHS, _INDEPENDENT):
        gram = masks @ field_kernel(cells, length, independent) @ masks.T
        for std, noise in itertools.product(prior_stds, _NOISES):
            candidates.append(FieldParameters(length, independent, noise, std))
            errors = torch.full_like(values, noise)
            errors[-1] = _JITTER
            grams.append(gram + std**2 * trend + errors.diag())
            log_priors.append(_NOISES[noise])
    covariances = torch.stack(grams)
    evidence = log_evidence(covariances, values) + torch.tensor(log_priors)
    best = int(evidence.argmax())
    parameters = candidates[best]
    k = field_kernel(cells, parameters.length, parameters.independent)
    k = k + parameters.prior_std**2 * share[:, None] * share
    return FieldEstimate(*posterior(k, masks, values, covariances[best]), parameters)


def log_evidence(covariance: Tensor, values: Tensor) -> Tensor:
    """Log density of values with the amplitude integrated out, up to a constant.

    Args:
        covariance (Tensor): Covariance in units of the squared amplitude, noise
            included, (..., N, N).
        values (Tensor): Values of mean 0, (N,).

    Returns:
        *Tensor*: (...), minus infinity if the covariance is not positive definite.

    Examples::

        >>> log_evidence(torch.eye(2), torch.ones(2))
        tensor(-0.6931)
    """
    L, failed = torch.linalg.cholesky_ex(covariance)
    column = values[:, None].expand(*L.shape[:-1], 1)
    z = torch.linalg.solve_triangular(L, column, upper=False)[..., 0]
    half_log_det = L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    # The prior of the amplitude is scale free: its density is inverse to it.
    squares = z.square().sum(-1).clamp_min(1e-300)
    density = -half_log_det - len(values) / 2 * squares.log()
    return torch.where(failed == 0, density, -torch.inf)


def posterior(
    k: Tensor, masks: Tensor, values: Tensor, covariance: Tensor
) -> tuple[Tensor, Tensor]:
    """Posterior mean and standard deviation of the cells.

    Args:
        k (Tensor): Prior covariance of the cells in units of the squared amplitude,
            (n, n).
        masks (Tensor): Observed masks, (N, n).
        values (Tensor): Their scores, (N,).
        covariance (Tensor): Covariance of the scores, noise included, (N, N).

    Returns:
        *tuple[Tensor, Tensor]*: (n,) each, the standard deviation in the unit of the
        scores.
    """
    L = torch.linalg.cholesky(covariance)
    V = torch.linalg.solve_triangular(L, masks @ k, upper=False)
    z = torch.linalg.solve_triangular(L, values[:, None], upper=False)[:, 0]
    variance = (k.diagonal() - V.square().sum(0)).clamp_min(0)
    return V.T @ z, (variance * z.square().mean()).sqrt()
