"""Scores of perturbed inputs, checked: how metrics ask the model."""

from collections.abc import Callable

from torch import Tensor

from captum_ext._captum import TargetType
from captum_ext._scores import ChunkedScores, PerturbationsPerEval
from captum_ext._validation import (
    check_callable,
    check_metric_scores,
    check_perturbations_per_eval,
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
    probable: bool = False,
) -> Tensor:
    """Score every perturbation of a batch, chunk by chunk.

    Args:
        forward_func (Callable): The model or any function of its inputs.
        perturb (Callable): Returns the perturbed batches of a range, (n * B, ...),
            perturbation by perturbation.
        n_perturbations (int): Number of perturbations M.
        n_examples (int): Number of examples B.
        target (int, tuple, Tensor, or list, optional): Output to score.
        additional_forward_args (Any, optional): Further arguments.
        perturbations_per_eval (int or "auto", optional): Perturbed batches in one call
            of ``forward_func``. Default: 1
        probable (bool, optional): Whether scores have to lie in [0, 1].
            Default: False

    Returns:
        *Tensor*: (M, B), float64 on the CPU.

    Raises:
        ValueError: If the scores are not what a metric needs.
        TypeError: If ``forward_func`` cannot be called.
    """
    check_callable("forward_func", forward_func)
    check_target(target, n_examples)
    score = ChunkedScores(
        forward_func,
        n_examples,
        target,
        additional_forward_args,
        check_perturbations_per_eval(perturbations_per_eval),
    )
    scores = score(lambda start, stop: (perturb(start, stop),), 0, n_perturbations)
    check_metric_scores(scores, n_examples, probable)
    return scores
