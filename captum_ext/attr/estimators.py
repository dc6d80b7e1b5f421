"""Estimators of the RISE family: pure functions of masks and scores.

A mask puts every pixel lambda into one of K + 1 categories with probabilities pi_j:
kept (j = 0) or hidden by the k-th fill. All maps of the RISE family are differences of
the conditional means

    mu_j(lambda) = E[f(m) | m(lambda) = j] = E[m_j(lambda) f(m)] / pi_j,

with m_j the indicator of category j (Equations (A.1)-(A.5) of the supplement of
MC-RISE). With interpolated masks the right-hand side is the definition.

The papers average m_j f / pi_j over random masks. Any function h of the mask whose
mu_j is known can be subtracted from the scores and added back as a map (a control
variate): the expectation stays the same, the variance becomes that of f - h. Here h is
linear in the mask, h(m) = a + sum_k phi_k(m) . beta_k, fitted by ridge regression to
all masks except the block that it is subtracted from. Leaving the block out keeps the
estimate exactly unbiased, and costs one matrix inverse instead of a fit per block.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from captum_ext.masks import MaskCodes, MaskLayout

__all__ = [
    "CrossFit",
    "conditional_means",
    "cross_fit",
    "standard_errors",
    "uncontrolled",
]

# Penalty in units of the features' expected squared norm. It is a constant because a
# value tuned to the scores would bias the estimate; the error hardly depends on it.
_RIDGE = 1.0

_MASKS_AT_ONCE = 256


class CrossFit(NamedTuple):
    """Scores split into a linear part, whose map is known, and residuals.

    Args:
        residuals (Tensor): e_n = f(m_n) - h_-n(m_n) with h_-n fitted without the block
            of mask n, (M, B).
        intercept (Tensor): a, averaged over the fits, (B,).
        coefficients (Tensor): beta_k, averaged over the fits, (K, n_features, B); None
            if nothing was fitted.
    """

    residuals: Tensor
    intercept: Tensor
    coefficients: Tensor | None


def uncontrolled(scores: Tensor) -> CrossFit:
    """Take the scores as they are, as the papers do: h = 0.

    Args:
        scores (Tensor): f(m_n), (M, B) float64.

    Returns:
        *CrossFit* whose residuals are the scores.
    """
    return CrossFit(scores, torch.zeros_like(scores[0]), None)


def cross_fit(
    layout: MaskLayout,
    codes: MaskCodes,
    probabilities: Sequence[float],
    scores: Tensor,
    block: int,
) -> CrossFit:
    """Fit h by ridge regression, leaving out one block of masks at a time.

    With A = X^T X + lambda I, the fit without block b has the residuals
    (I - X_b A^-1 X_b^T)^-1 r_b on that block, where r are those of the full fit, and
    the mean of all fits is beta - A^-1 X^T e / n_blocks. With more features than masks,
    as of many colors, the same is computed by a matrix of the masks.

    Args:
        layout (MaskLayout): Layout that gives the features phi.
        codes (MaskCodes): The M masks.
        probabilities (sequence of float): pi_0..pi_K.
        scores (Tensor): f(m_n), (M, B) float64.
        block (int): Number of consecutive masks that depend on each other, 2 for
            pairs; M is a multiple of it.

    Returns:
        *CrossFit* with float64 tensors.
    """
    n_masks, n_fills = len(codes), len(probabilities) - 1
    if n_masks < 2 * block:
        return uncontrolled(scores)
    pi = torch.tensor(probabilities[1:], dtype=torch.float64)
    penalty = _RIDGE * layout.norm * float((pi * (1 - pi)).sum())

    def design(start: int) -> Tensor:
        rows = codes[start : start + _MASKS_AT_ONCE]
        cells = rows.indicators(n_fills) - pi.float()[:, None]
        return layout.features(cells, rows.shifts).double().flatten(1)

    wide = n_fills * layout.n_features > n_masks
    fit = _fit_by_masks if wide else _fit_by_features
    residuals, beta = fit(design, penalty, scores, block)
    return CrossFit(residuals, beta[0], beta[1:].unflatten(0, (n_fills, -1)))


def _fit_by_features(
    design: Callable[[int], Tensor], penalty: float, scores: Tensor, block: int
) -> tuple[Tensor, Tensor]:
    """Residuals (M, B), and intercept and coefficients (1 + K * n_features, B)."""
    starts = range(0, len(scores), _MASKS_AT_ONCE)

    def with_ones(start: int) -> Tensor:
        phi = design(start)
        return torch.cat([phi.new_ones(len(phi), 1), phi], dim=1)

    n_columns = 1 + design(0).shape[1]
    normal = torch.full((n_columns,), penalty, dtype=torch.float64).diag()
    normal[0, 0] = 0
    moment = scores.new_zeros(n_columns, scores.shape[1])
    for start in starts:
        x = with_ones(start)
        normal += x.T @ x
        moment += x.T @ scores[start : start + _MASKS_AT_ONCE]
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(normal))
    beta = inverse @ moment

    residuals, moment = torch.empty_like(scores), torch.zeros_like(moment)
    for start in starts:
        x = with_ones(start)
        rows = slice(start, start + _MASKS_AT_ONCE)
        blocks = x.unflatten(0, (-1, block))
        left = torch.eye(block).to(x) - blocks @ inverse @ blocks.mT
        error = (scores[rows] - x @ beta).unflatten(0, (-1, block))
        residuals[rows] = torch.linalg.solve(left, error).flatten(0, 1)
        moment += x.T @ residuals[rows]
    return residuals, beta - inverse @ moment * (block / len(scores))


def _fit_by_masks(
    design: Callable[[int], Tensor], penalty: float, scores: Tensor, block: int
) -> tuple[Tensor, Tensor]:
    """The same fit by a matrix of the masks, for more features than masks.

    With G = (Z Z^T / lambda + I)^-1 for features Z without the constant, the full fit
    has the residuals P f with P = G - G 1 1^T G / (1^T G 1), and I - X A^-1 X^T = P.
    """
    n_masks = len(scores)
    starts = range(0, n_masks, _MASKS_AT_ONCE)
    gram = torch.eye(n_masks, dtype=torch.float64)
    for start in starts:
        x = design(start)
        for other in starts:
            part = x @ design(other).T / penalty
            gram[start : start + len(x), other : other + part.shape[1]] += part
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    sums = inverse.sum(1, keepdim=True)
    projection = inverse - sums @ sums.T / sums.sum()

    error = (projection @ scores).unflatten(0, (-1, block))
    n_blocks = len(error)
    index = torch.arange(n_masks).view(n_blocks, block)
    left = projection[index[:, :, None], index[:, None, :]]
    residuals = torch.linalg.solve(left, error).flatten(0, 1)

    # The mean of all fits is the fit to what is left of the scores.
    fitted = scores - residuals / n_blocks
    intercept = sums.T @ fitted / sums.sum()
    weights = projection @ fitted / penalty
    parts = [
        design(start).T @ weights[start : start + _MASKS_AT_ONCE] for start in starts
    ]
    return residuals, torch.cat([intercept, torch.stack(parts).sum(0)])


def conditional_means(
    layout: MaskLayout,
    codes: MaskCodes,
    probabilities: Sequence[float],
    fit: CrossFit,
) -> tuple[Tensor, ...]:
    """Estimate mu_j: that of the fitted function, plus the mean of the residuals.

    For h alone, with q_k = Cov(m(lambda), phi) beta_k for cells of variance 1,
    mu_k - mu_0 = q_k and sum_j pi_j mu_j = a; the residuals add
    sum_n e_n m_j(lambda; n) / (M pi_j).

    Args:
        layout (MaskLayout): How cells spread over the inputs.
        codes (MaskCodes): The M masks.
        probabilities (sequence of float): pi_0..pi_K.
        fit (CrossFit): Scores of the M masks.

    Returns:
        *tuple[Tensor, ...]*: One tensor (K + 1, B, ...) float64 per input.
    """
    n_fills = len(probabilities) - 1
    sums: list[Tensor] = []
    for start in range(0, len(codes), _MASKS_AT_ONCE):
        rows = slice(start, start + _MASKS_AT_ONCE)
        part = codes[rows]
        maps = layout.accumulate(
            fit.residuals[rows], part.indicators(n_fills), part.shifts
        )
        sums = [total + new for total, new in zip(sums, maps)] if sums else list(maps)
    total = fit.residuals.sum(0)
    means = []
    for hidden in sums:
        kept = _like(total, hidden[0]) - hidden.sum(0)
        weighted = torch.cat([kept[None], hidden]) / len(codes)
        means.append(weighted / _along_first(probabilities, weighted))
    if fit.coefficients is None:
        return tuple(mean + _like(fit.intercept, mean[0]) for mean in means)
    return tuple(
        mean + _linear_means(q, probabilities, fit.intercept)
        for mean, q in zip(means, layout.correlate(fit.coefficients))
    )


def _linear_means(q: Tensor, probabilities: Sequence[float], a: Tensor) -> Tensor:
    contrasts = torch.cat([torch.zeros_like(q[:1]), q])
    mean = (_along_first(probabilities, contrasts) * contrasts).sum(0)
    return _like(a, mean) + contrasts - mean


def standard_errors(
    layout: MaskLayout,
    codes: MaskCodes,
    probabilities: Sequence[float],
    fit: CrossFit,
    block: int,
    contrast: Callable[[Tensor], Tensor],
    device: torch.device,
) -> tuple[Tensor, ...]:
    """Standard error of contrast(mu) at each pixel.

    The blocks' means of contrast(m_j / pi_j) e are independent up to the fit; their
    variance over the blocks, divided by the number of blocks, is the squared error.

    Args:
        layout (MaskLayout): How cells spread over the inputs.
        codes (MaskCodes): The M masks.
        probabilities (sequence of float): pi_0..pi_K.
        fit (CrossFit): Scores of the M masks.
        block (int): Number of consecutive masks that depend on each other.
        contrast (Callable): Linear map from the categories (K + 1, ...) to the R maps
            of an example (R, ...).
        device (torch.device): Device on which masks are expanded.

    Returns:
        *tuple[Tensor, ...]*: One tensor (R, B, ...) float32 per input.
    """
    n_blocks = len(codes) // block
    n_fills = len(probabilities) - 1
    step = max(block, _MASKS_AT_ONCE // (8 * n_fills) // block * block)
    moments: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(codes), step):
        rows = codes[start : start + step]
        residuals = fit.residuals[start : start + step].float().to(device)
        cells = rows.indicators(n_fills).to(device)
        hidden_of = layout.expand(cells, rows.shifts.to(device))
        moments = moments or [(torch.zeros(()), torch.zeros(()))] * len(hidden_of)
        for position, hidden in enumerate(hidden_of):
            kept = 1 - hidden.sum(1, keepdim=True)
            weights = torch.cat([kept, hidden], dim=1).transpose(0, 1)
            weights = contrast(weights / _along_first(probabilities, weights))
            terms = weights * _like(residuals, weights[0])
            terms = terms.unflatten(1, (-1, block)).mean(2)
            first, second = moments[position]
            first, second = first.to(terms), second.to(terms)
            moments[position] = (first + terms.sum(1), second + terms.square().sum(1))
    return tuple(
        ((second - first.square() / n_blocks) / (n_blocks * (n_blocks - 1)))
        .clamp_min(0)
        .sqrt()
        for first, second in moments
    )


def _like(values: Tensor, maps: Tensor) -> Tensor:
    """Values (..., B) with trailing axes of size 1 to broadcast against maps."""
    return values.reshape(*values.shape, *(1,) * (maps.dim() - values.dim()))


def _along_first(values: Sequence[float], maps: Tensor) -> Tensor:
    vector = torch.tensor(values, dtype=maps.dtype, device=maps.device)
    return vector.reshape(-1, *(1,) * (maps.dim() - 1))
