"""Scores of perturbed inputs for metrics, with the checks that all of them need."""

from collections.abc import Callable

from torch import Tensor

from captum_ext._captum import TargetType
from captum_ext._scores import ChunkedScores, PerturbationsPerEval
from captum_ext._type_checks import check_callable
from captum_ext._validation import (
    check_finite_scores,
    check_perturbations_per_eval,
    check_probabilities,
    check_target,
)

__all__ = ["ForwardFunc", "perturbed_scores"]

ForwardFunc = Callable[..., Tensor]


def perturbed_scores(
    forward_func: ForwardFunc,
    perturb: Callable[[int, int], Tensor],
    n_perturbations: int,
    n_examples: int,
    target: TargetType,
    additional_forward_args: object,
    perturbations_per_eval: PerturbationsPerEval = 1,
    probabilities: bool = False,
) -> Tensor:
    """Score every perturbation of a batch, chunk by chunk.

    Args:
        forward_func (Callable): The model or any function of its inputs.
        perturb (Callable): Function that returns the perturbed batches
            ``start`` to ``stop``, (n * B, ...), perturbation by perturbation.
        n_perturbations (int): Number of perturbations M.
        n_examples (int): Number of examples B.
        target (int, tuple, Tensor, list, or Callable, optional): Output to score.
        additional_forward_args (Any, optional): Further arguments of
            ``forward_func``.
        perturbations_per_eval (int or "auto", optional): Perturbed batches in one call
            of ``forward_func``. Default: 1
        probabilities (bool, optional): Whether scores must lie in [0, 1].
            Default: False

    Returns:
        *Tensor*: Scores (M, B), float64 on the CPU.

    Raises:
        ValueError: If there is not one finite score per example, or if a score must be
            a probability and is not.
        TypeError: If ``forward_func`` cannot be called.
    """
    check_callable("forward_func", forward_func)
    score = ChunkedScores(
        forward_func,
        n_examples,
        check_target(target, n_examples),
        additional_forward_args,
        check_perturbations_per_eval(perturbations_per_eval),
    )
    scores = score(lambda start, stop: (perturb(start, stop),), 0, n_perturbations)
    if scores.shape[1] != n_examples:
        raise ValueError(
            f"forward_func must return one number for each of the {n_examples} "
            f"examples, got one for the batch."
        )
    check_probabilities(scores) if probabilities else check_finite_scores(scores)
    return scores
