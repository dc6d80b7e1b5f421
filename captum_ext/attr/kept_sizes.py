"""Evaluations of a layer at the image sizes that keep the prediction."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from captum_ext._captum import TargetType, format_additional_forward_args
from captum_ext._scores import is_out_of_memory
from captum_ext._warnings import warn_of_examples
from captum_ext.attr.image_sizes import Size, SizeRule
from captum_ext.attr.layers import IsNeeded, LayerEvaluation

__all__ = ["Evaluate", "KeptSizes", "keep_sizes", "of_examples"]


class Evaluate(Protocol):
    """Function that evaluates layers at a size of some examples of a batch."""

    def __call__(
        self, size: Size, examples: Sequence[int], is_needed: IsNeeded = None
    ) -> LayerEvaluation: ...


class KeptSizes:
    """Sizes tried for an example, and what was found where the prediction held.

    Args:
        size (tuple[int, int]): Height and width of the image.
        evaluation (LayerEvaluation): Evaluation of the example at that size, (1, ...).
    """

    def __init__(self, size: Size, evaluation: LayerEvaluation) -> None:
        self.tried: dict[Size, bool] = {size: True}
        self.evaluations = [evaluation]
        (self.prediction,) = _predictions(evaluation.output)

    def add(self, size: Size, prediction: int, evaluation: LayerEvaluation) -> None:
        """Keep the evaluation at another size if the prediction held."""
        self.tried[size] = prediction == self.prediction
        if self.tried[size]:
            self.evaluations.append(evaluation)


def keep_sizes(
    evaluate: Evaluate, first: LayerEvaluation, size: Size, rule: SizeRule
) -> list[KeptSizes]:
    """Evaluate each example of a batch at the sizes that a rule chooses for it.

    Examples that have the next size in common are evaluated together, without a
    backward pass if the prediction holds for none of them.

    Args:
        evaluate (Callable): Function of a size, of indices of examples, and of a
            function of their outputs that says whether gradients are needed.
        first (LayerEvaluation): Evaluation of all examples at the image's own size.
        size (tuple[int, int]): That size.
        rule (Callable): Function of the sizes tried, with whether the prediction held,
            to the next size; None to end.

    Returns:
        *list[KeptSizes]*: Sizes of each example.
    """
    kept = [KeptSizes(size, each) for each in _split(first, len(first.activations[0]))]
    while groups := _groups(rule, kept):
        for each, examples in groups.items():
            predicted = [kept[i].prediction for i in examples]
            needed = partial(_any_equal, predicted)
            evaluation = _unless_refused(evaluate, each, examples, needed)
            _check_same_outputs(first.output, evaluation.output)
            predictions = _predictions(evaluation.output, len(examples))
            parts = _split(evaluation, len(examples))
            for i, prediction, one in zip(examples, predictions, parts):
                kept[i].add(each, prediction, one)
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


def _split(evaluation: LayerEvaluation, n_examples: int) -> list[LayerEvaluation]:
    """The evaluation of each example, (1, ...)."""
    outputs = evaluation.output.reshape(n_examples, -1)
    return [
        LayerEvaluation(
            tuple(each[i : i + 1] for each in evaluation.activations),
            tuple(each[i : i + 1] for each in evaluation.gradients),
            outputs[i : i + 1],
        )
        for i in range(n_examples)
    ]


def _predictions(output: Tensor, n_examples: int = 1) -> list[int]:
    """Index of the largest output of each example."""
    return output.reshape(n_examples, -1).argmax(1).tolist()


def _any_equal(predicted: Sequence[int], output: Tensor) -> bool:
    """Whether the prediction holds for any of the examples."""
    found = _predictions(output, len(predicted))
    return any(one == other for one, other in zip(predicted, found))


def _unless_refused(
    evaluate: Evaluate,
    size: Size,
    examples: Sequence[int],
    is_needed: IsNeeded,
) -> LayerEvaluation:
    """Evaluate at another size; say in the error that the model refused it."""
    try:
        return evaluate(size, examples, is_needed)
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
    examples: Sequence[int], image: Tensor, target: TargetType, args: object
) -> tuple[Tensor, TargetType, Any]:
    """Images, target and further arguments of some examples of a batch.

    Args:
        examples (sequence of int): Indices of the examples.
        image (Tensor): Images of the batch, (B, C, H, W).
        target (int, tuple, Tensor, list, or Callable, optional): Target of the batch.
        args (Any): Further arguments of the forward function; tensors of B rows are
            indexed, any other value is shared by all.
    """
    n_examples = len(image)
    if len(examples) == n_examples:
        return image, target, args

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
    return chosen(image), chosen(target), shared
