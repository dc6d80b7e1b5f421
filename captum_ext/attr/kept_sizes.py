"""Evaluations of a layer at the image sizes that keep the prediction."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_ext._captum import TargetType, format_additional_forward_args
from captum_ext._scores import is_out_of_memory
from captum_ext._warnings import warn_of_examples
from captum_ext.attr.image_sizes import Size, SizeRule
from captum_ext.attr.layers import LayerEvaluation

__all__ = ["KeptSizes", "keep_sizes", "of_examples"]

Evaluate = Callable[[Size, Sequence[int]], LayerEvaluation]


class KeptSizes:
    """Sizes tried for an example, and what was found where the prediction held.

    Args:
        size (tuple[int, int]): Height and width of the image.
        evaluation (LayerEvaluation): Evaluation of the example at that size, (1, ...).
    """

    def __init__(self, size: Size, evaluation: LayerEvaluation) -> None:
        self.tried: dict[Size, bool] = {}
        self.evaluations: list[LayerEvaluation] = []
        self._prediction = _prediction(evaluation)
        self.add(size, evaluation)

    def add(self, size: Size, evaluation: LayerEvaluation) -> None:
        """Keep the evaluation at another size if the prediction held."""
        self.tried[size] = _prediction(evaluation) == self._prediction
        if self.tried[size]:
            self.evaluations.append(evaluation)


def keep_sizes(
    evaluate: Evaluate, first: LayerEvaluation, size: Size, rule: SizeRule
) -> list[KeptSizes]:
    """Evaluate each example of a batch at the sizes that a rule chooses for it.

    Examples that have the next size in common are evaluated together.

    Args:
        evaluate (Callable): Function of a size and of indices of examples.
        first (LayerEvaluation): Evaluation of all examples at the image's own size.
        size (tuple[int, int]): That size.
        rule (Callable): Function of the sizes tried, with whether the prediction held,
            to the next size; None to end.

    Returns:
        *list[KeptSizes]*: Sizes of each example.
    """
    kept = [KeptSizes(size, each) for each in _split(first)]
    while groups := _groups(rule, kept):
        for each, examples in groups.items():
            evaluation = _unless_refused(evaluate, each, examples)
            _check_same_outputs(first.output, evaluation.output)
            for i, one in zip(examples, _split(evaluation)):
                kept[i].add(each, one)
    n_alone = sum(len(each.tried) > 1 == sum(each.tried.values()) for each in kept)
    reason = "no other size keeps the prediction"
    warn_of_examples("CAMERAS uses one size", n_alone, len(kept), reason)
    return kept


def _groups(rule: SizeRule, kept: Sequence[KeptSizes]) -> dict[Size, list[int]]:
    """Examples by their next size, without those that have none."""
    groups = defaultdict(list)
    for i, each in enumerate(kept):
        size = rule(each.tried)
        if size is not None:
            groups[size].append(i)
    return groups


def _split(evaluation: LayerEvaluation) -> list[LayerEvaluation]:
    """The evaluation of each example, (1, ...)."""
    n_examples = len(evaluation.activations[0])
    outputs = evaluation.output.reshape(n_examples, -1)
    return [
        LayerEvaluation(
            tuple(each[i : i + 1] for each in evaluation.activations),
            tuple(each[i : i + 1] for each in evaluation.gradients),
            outputs[i : i + 1],
        )
        for i in range(n_examples)
    ]


def _prediction(evaluation: LayerEvaluation) -> int:
    """Index of the largest output of one example."""
    return int(evaluation.output.argmax())


def _unless_refused(
    evaluate: Evaluate, size: Size, examples: Sequence[int]
) -> LayerEvaluation:
    """Evaluate at another size; say in the error that the model refused it."""
    try:
        return evaluate(size, examples)
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"forward_func must accept images of any size, got an error at {size[0]} x "
            f"{size[1]} pixels ({reason}); pass sizes or max_size that it accepts, or "
            f"use LayerGradCamPlusPlus for a model of one size."
        ) from error


def _check_same_outputs(first: Tensor, other: Tensor) -> None:
    """Refuse outputs whose shape depends on the size of the image."""
    if first.shape[1:] != other.shape[1:]:
        raise ValueError(
            f"forward_func must return outputs of one shape at all sizes, got "
            f"{tuple(first.shape)}, {tuple(other.shape)}."
        )


def of_examples(
    examples: Sequence[int], n_examples: int, target: TargetType, args: object
) -> tuple[TargetType, Any]:
    """Target and further arguments of some examples of a batch.

    Args:
        examples (sequence of int): Indices of the examples.
        n_examples (int): Number of examples of the batch, B.
        target (int, tuple, Tensor, list, or Callable, optional): Target of the batch.
        args (Any): Further arguments of the forward function; tensors of B rows are
            indexed, any other value is shared by all.
    """
    if len(examples) == n_examples:
        return target, args

    def chosen(value: Any) -> Any:
        if isinstance(value, list) and len(value) == n_examples:
            return [value[i] for i in examples]
        if isinstance(value, Tensor) and value.dim() and len(value) == n_examples:
            return value[torch.as_tensor(examples, device=value.device)]
        return value

    formatted = format_additional_forward_args(args)
    shared = formatted and tuple(
        chosen(each) if isinstance(each, Tensor) else each for each in formatted
    )
    return chosen(target), shared
