"""ROAD: scores of images whose removed pixels are imputed from their neighbors."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from captum.log import log_usage
from torch import Tensor

from captum_ext._captum import BaselineType, TargetType
from captum_ext._scores import PerturbationsPerEval
from captum_ext._type_checks import check_sequence
from captum_ext._validation import check_integer, check_not_negative, check_probability
from captum_ext.masks import memory_format_of
from captum_ext.metrics.pixel_maps import check_metric_input, rank_maps, spatial_maps
from captum_ext.metrics.scoring import ForwardFunc, perturbed_scores

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = [
    "impute",
    "neighbor_differences",
    "road_least_relevant",
    "road_most_relevant",
]

_FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def neighbor_differences(height: int, width: int) -> "csr_array":
    """Matrix that subtracts from each pixel the weighted mean of its neighbors.

    The four direct neighbors weigh twice as much as the four diagonal ones. Rows are
    scaled by the sum of these weights, 1/6 and 1/12, over the neighbors in the image.

    Args:
        height (int): Height of the image in pixels.
        width (int): Width of the image in pixels.

    Returns:
        *scipy.sparse.csr_array*: Matrix (H W, H W), pixels in row-major order; every
        row sums to zero.

    Examples::

        >>> (12 * neighbor_differences(1, 3)).toarray()
        array([[ 2., -2.,  0.],
               [-2.,  4., -2.],
               [ 0., -2.,  2.]])
    """
    from scipy import sparse

    beside, below = (
        sparse.diags_array([1.0, 1.0], offsets=[-1, 1], shape=(n, n))
        for n in (width, height)
    )
    in_row, in_column = sparse.eye_array(height), sparse.eye_array(width)
    direct = sparse.kron(in_row, beside) + sparse.kron(below, in_column)
    weights = direct / 6 + sparse.kron(below, beside) / 12
    return sparse.csr_array(sparse.diags_array(weights.sum(axis=1)) - weights)


def impute(image: Tensor, missing: Tensor, differences: "csr_array") -> Tensor:
    """Fill in missing pixels so that each is the weighted mean of its neighbors.

    The neighbors may be missing as well: the values solve a system of linear equations.

    Args:
        image (Tensor): Image (C, H, W).
        missing (Tensor): Boolean mask (H, W), with at least one pixel that is present.
        differences (scipy.sparse.csr_array): Result of :func:`neighbor_differences`.

    Returns:
        *Tensor*: Image (C, H, W), in the dtype and on the device of ``image``.

    Examples::

        >>> image = torch.tensor([[[1.0, 9.0, 9.0, 4.0]]])
        >>> missing = torch.tensor([[False, True, True, False]])
        >>> impute(image, missing, neighbor_differences(1, 4))
        tensor([[[1., 2., 3., 4.]]])
    """
    from scipy.sparse.linalg import splu

    hidden = missing.flatten().cpu().numpy()
    pixels = image.flatten(1).T.double().cpu().numpy()
    rows = differences[hidden]
    # The matrix is symmetric: this order of elimination is several times faster.
    solver = splu(
        rows[:, hidden].tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        options={"SymmetricMode": True},
    )
    values = solver.solve(-(rows[:, ~hidden] @ pixels[~hidden]))
    filled = image.clone()
    filled[:, missing] = torch.from_numpy(values.T).to(image)
    return filled


@log_usage()
@torch.no_grad()
def road_most_relevant(
    forward_func: ForwardFunc,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
    *,
    fractions: Sequence[float] = _FRACTIONS,
    noise: float = 0.01,
    seed: int = 0,
    perturbations_per_eval: PerturbationsPerEval = "auto",
) -> Tensor:
    """Mean score without the highest pixels, which are imputed. Lower is better.

    Each of the fractions of the pixels is removed, highest first, and filled in by the
    weighted means of their neighbors plus noise (noisy linear imputation). Unlike a
    black or gray area, an imputed one does not show the model the shape of what was
    removed. A random map gets the same value as by :func:`road_least_relevant` on
    average; the difference of the two, halved, is the combined score of other packages.

    Source: Y. Rong, T. Leemann, V. Borisov, G. Kasneci, E. Kasneci, A Consistent and
    Efficient Evaluation Strategy for Attribution Methods, ICML 2022.

    Args:
        forward_func (Callable): The model or any function of its inputs. The metric
            lies in [0, 1] if it returns probabilities.
        inputs (Tensor or tuple[Tensor]): Images (B, C, H, W).
        attributions (Tensor or tuple[Tensor]): Maps (B, any, h, w) of any size and
            scale; summed over channels and interpolated to the input's size.
        target (int, tuple, Tensor, or list, optional): Output to score, in any of
            Captum's forms. Default: None
        baselines (scalar or Tensor, optional): Not used: pixels are imputed.
            Default: None
        additional_forward_args (Any, optional): Further arguments of
            ``forward_func``. The first axis of a tensor is the batch. Default: None
        fractions (sequence of float, optional): Fractions of the pixels to remove, each
            in (0, 1); one forward pass each. Default: 0.1, 0.2, ..., 0.9
        noise (float, optional): Standard deviation of the noise, in units of
            ``inputs``; 0 for none. Default: 0.01
        seed (int, optional): Seed of the noise, which all examples share. Default: 0
        perturbations_per_eval (int or "auto", optional): Images per example in one call
            of ``forward_func``; "auto" measures the fastest number in the first calls.
            It changes the metric by rounding only. Default: "auto"

    Returns:
        *Tensor*: (B,), in the range of the score, float64 on the CPU.

    Raises:
        ValueError: If an argument is out of its range or does not match the inputs, or
            if scores are NaN or infinite.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2), nn.Softmax(1))
        >>> x, maps = torch.rand(4, 3, 8, 8), torch.rand(4, 1, 8, 8)
        >>> road_most_relevant(model, x, maps, target=1).shape
        torch.Size([4])
    """
    return _mean_score(
        1.0,
        forward_func,
        inputs,
        attributions,
        target,
        additional_forward_args,
        fractions,
        noise,
        seed,
        perturbations_per_eval,
    )


@log_usage()
@torch.no_grad()
def road_least_relevant(
    forward_func: ForwardFunc,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    baselines: BaselineType = None,
    additional_forward_args: object = None,
    *,
    fractions: Sequence[float] = _FRACTIONS,
    noise: float = 0.01,
    seed: int = 0,
    perturbations_per_eval: PerturbationsPerEval = "auto",
) -> Tensor:
    """Mean score without the lowest pixels, which are imputed. Higher is better.

    Each of the fractions of the pixels is removed, lowest first; see
    :func:`road_most_relevant`.

    Source: Y. Rong, T. Leemann, V. Borisov, G. Kasneci, E. Kasneci, A Consistent and
    Efficient Evaluation Strategy for Attribution Methods, ICML 2022.

    Args:
        forward_func (Callable): The model or any function of its inputs. The metric
            lies in [0, 1] if it returns probabilities.
        inputs (Tensor or tuple[Tensor]): Images (B, C, H, W).
        attributions (Tensor or tuple[Tensor]): Maps (B, any, h, w) of any size and
            scale; summed over channels and interpolated to the input's size.
        target (int, tuple, Tensor, or list, optional): Output to score, in any of
            Captum's forms. Default: None
        baselines (scalar or Tensor, optional): Not used: pixels are imputed.
            Default: None
        additional_forward_args (Any, optional): Further arguments of
            ``forward_func``. The first axis of a tensor is the batch. Default: None
        fractions (sequence of float, optional): Fractions of the pixels to remove, each
            in (0, 1); one forward pass each. Default: 0.1, 0.2, ..., 0.9
        noise (float, optional): Standard deviation of the noise, in units of
            ``inputs``; 0 for none. Default: 0.01
        seed (int, optional): Seed of the noise, which all examples share. Default: 0
        perturbations_per_eval (int or "auto", optional): Images per example in one call
            of ``forward_func``; "auto" measures the fastest number in the first calls.
            It changes the metric by rounding only. Default: "auto"

    Returns:
        *Tensor*: (B,), in the range of the score, float64 on the CPU.

    Raises:
        ValueError: If an argument is out of its range or does not match the inputs, or
            if scores are NaN or infinite.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2), nn.Softmax(1))
        >>> x, maps = torch.rand(4, 3, 8, 8), torch.rand(4, 1, 8, 8)
        >>> road_least_relevant(model, x, maps, target=1).shape
        torch.Size([4])
    """
    return _mean_score(
        -1.0,
        forward_func,
        inputs,
        attributions,
        target,
        additional_forward_args,
        fractions,
        noise,
        seed,
        perturbations_per_eval,
    )


def _mean_score(
    sign: float,
    forward_func: ForwardFunc,
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Tensor | tuple[Tensor, ...],
    target: TargetType,
    additional_forward_args: object,
    fractions: Sequence[float],
    noise: float,
    seed: int,
    perturbations_per_eval: PerturbationsPerEval,
) -> Tensor:
    """Mean score over the fractions; pixels are removed by the signed map."""
    x = check_metric_input(inputs, axes=(4,))
    ranks = rank_maps(sign * spatial_maps(attributions, x))
    counts = _counts(fractions, ranks[0].numel())
    noise = check_not_negative("noise", noise)
    generator = torch.Generator().manual_seed(check_integer("seed", seed, 0, 2**64 - 1))
    added = noise * torch.randn(x.shape[1:], generator=generator).to(x)
    differences = neighbor_differences(*x.shape[2:])

    def removed(start: int, stop: int) -> Tensor:
        images = [
            torch.where(missing, impute(image, missing, differences) + added, image)
            for count in counts[start:stop]
            for image, missing in zip(x, (ranks < count).to(x.device))
        ]
        return torch.stack(images).contiguous(memory_format=memory_format_of(x))

    scores = perturbed_scores(
        forward_func,
        removed,
        len(counts),
        len(x),
        target,
        additional_forward_args,
        perturbations_per_eval,
    )
    return scores.mean(0)


def _counts(fractions: Sequence[float], n_pixels: int) -> list[int]:
    """Numbers of pixels to remove; at least one pixel is removed and one left."""
    given = check_sequence("fractions", fractions, "numbers")
    if not given:
        raise ValueError("fractions must hold at least one number, got none.")
    shares = [check_probability("fractions", each) for each in given]
    return [min(max(1, round(f * n_pixels)), n_pixels - 1) for f in shares]
