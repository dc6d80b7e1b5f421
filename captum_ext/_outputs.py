"""Scores in the output of a forward function, and the one that a target selects."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeGuard

import numpy as np
import torch
from torch import Tensor

from captum_ext._captum import TargetType, select_targets

__all__ = ["is_function", "mismatch_error", "output_tensor", "select_scores"]


def output_tensor(output: object, name: str = "forward_func") -> Tensor:
    """The tensor of scores in the output of a forward function.

    Args:
        output (object): A tensor, an array, a number or a list of numbers; or an output
            object: a mapping such as Hugging Face's outputs, a tuple, a list or another
            object, of which ``logits`` or the only floating tensor is taken.
        name (str, optional): Name of the function in error messages.
            Default: "forward_func"

    Returns:
        *Tensor*: The scores, still part of the graph.

    Raises:
        TypeError: If the output holds no tensor, or several.

    Examples::

        >>> output_tensor({"logits": torch.zeros(1, 2), "state": torch.ones(1, 8)})
        tensor([[0., 0.]])
        >>> output_tensor([0.5, 0.25])
        tensor([0.5000, 0.2500])
    """
    if isinstance(output, Tensor):
        return output
    parts = _parts(output)
    floating = {k: v for k, v in parts.items() if _is_floating(v)}
    # A loss beside the scores is one number.
    found = {k: v for k, v in floating.items() if v.ndim}
    if "logits" in found or len(found) == 1:
        return torch.as_tensor(found.get("logits", next(iter(found.values()))))
    if len(found) > 1 or isinstance(output, Mapping):
        _refuse(output, list(map(str, found or parts)), name)
    try:
        return torch.as_tensor(output)
    except (TypeError, ValueError, RuntimeError):
        _refuse(output, list(map(str, parts)), name)


def _is_floating(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "f"
    return isinstance(value, Tensor) and value.is_floating_point()


def _parts(output: object) -> dict[Any, Any]:
    """Values of an output object by their names or numbers."""
    if isinstance(output, Mapping):
        return dict(output)
    if isinstance(output, (tuple, list)):
        return dict(zip(getattr(output, "_fields", range(len(output))), output))
    return dict(getattr(output, "__dict__", {}))


def _refuse(output: object, names: list[str], name: str) -> NoReturn:
    """Raise the error that says how to get scores out of an output object."""
    if _is_listed(output):
        raise TypeError(
            "target must be a function of the output for a model that returns a list "
            "of mappings: for detections pass captum_ext.targets.DetectionTarget(box, "
            "label)."
        )
    kind = type(output).__name__
    if not names:
        raise TypeError(f"{name} must return a tensor or a number, got {kind}.")
    by_key = isinstance(output, Mapping) or names[0].isdecimal()
    key = names[0] if names[0].isdecimal() else repr(names[0])
    scores = f"model(x)[{key}]" if by_key else f"model(x).{names[0]}"
    raise TypeError(
        f"{name} must return a tensor, or an object with logits or one floating "
        f"tensor, got {kind} with {', '.join(names[:8])}: wrap the model in a function "
        f"that returns its scores, such as lambda x: {scores}."
    )


def _is_listed(output: object) -> TypeGuard[Sequence[Mapping[str, Any]]]:
    """Whether an output is a list of one mapping per example, as of detectors."""
    return isinstance(output, (list, tuple)) and any(
        isinstance(each, Mapping) for each in output
    )


def is_function(target: Any) -> bool:
    """Whether a target is a function of the output, or a list of one per example."""
    several = isinstance(target, list) and bool(target)
    return callable(target) or (several and all(callable(t) for t in target))


def select_scores(
    output: object, target: TargetType, shown: str | None = None
) -> Tensor:
    """Select the target's number from each example of an output.

    Args:
        output (object): Output of a forward function.
        target (int, tuple, Tensor, list, or Callable, optional): Output to select, in
            any of Captum's forms; or a function of the output that returns one number
            per example, (B,); or a list of B functions, each of the output of its
            example, without the axis of examples, that returns one number.
        shown (str, optional): The target in error messages. Default: None (its repr)

    Returns:
        *Tensor*: Numbers as Captum selects them, still part of the graph.

    Raises:
        ValueError: If the target selects no number.
        TypeError: If the output holds no scores.
    """
    if callable(target):
        return _of_function(target, output)
    if is_function(target):
        examples = output if _is_listed(output) else output_tensor(output)
        if len(examples) != len(target):
            raise mismatch_error(output, target, len(examples))
        return torch.stack([_of_example(f, o) for f, o in zip(target, examples)])
    scores = output_tensor(output)
    error = ValueError(
        f"target must select one number from each example of forward_func's output "
        f"of shape {tuple(scores.shape)}, got {shown or repr(target)}."
    )
    try:
        return select_targets(scores, _counted_from_0(target, scores, error))
    except (AssertionError, IndexError, RuntimeError) as cause:
        raise error from cause


def mismatch_error(output: object, target: TargetType, n_examples: int) -> ValueError:
    """The error of an output and a target that do not give one number per example.

    Args:
        output (object): Output of a forward function.
        target (int, tuple, Tensor, list, or Callable, optional): The target.
        n_examples (int): Number of examples in the output.

    Returns:
        *ValueError*: The error, to be raised.
    """
    each = f"one number for each of the {n_examples} examples"
    if is_function(target):
        return ValueError(f"target must be a function that returns {each}, (B,).")
    shape = tuple(output_tensor(output).shape)
    hint = ""
    if len(shape) > 3:
        hint = (
            "; for segmentation pass captum_ext.targets.SegmentationTarget(category, "
            "mask) as target"
        )
    elif target is None and shape[:1] == (n_examples,):
        hint = ": pass target, the index of the output to explain"
    return ValueError(
        f"forward_func and target must give {each}, got an output of shape {shape} and "
        f"target {target!r}{hint}."
    )


def _of_function(function: Callable[[Any], Any], output: object) -> Tensor:
    """Numbers (B,) that a target returns."""
    scores = _number_tensor(function(output))
    if scores.dim() == 0:
        raise ValueError(
            "target must be a function that returns one number per example, (B,), got "
            "a single number; give a function of one example's output in a list, one "
            "for each example."
        )
    return scores


def _of_example(function: Callable[[Any], Any], output: object) -> Tensor:
    """The number that a target returns for an example."""
    score = _number_tensor(function(output))
    if score.numel() != 1:
        raise ValueError(
            f"target must be a list of functions that return one number each, got "
            f"shape {tuple(score.shape)}."
        )
    return score.reshape(())


def _number_tensor(score: object) -> Tensor:
    try:
        return torch.as_tensor(score)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"target must be a function that returns a tensor, got "
            f"{type(score).__name__}."
        ) from None


def _counted_from_0(
    target: TargetType, output: Tensor, error: ValueError
) -> TargetType:
    """Class indices of several examples counted from 0; other targets unchanged."""
    if isinstance(target, list) and all(isinstance(t, int) for t in target):
        target = torch.tensor(target)
    if not isinstance(target, Tensor) or target.dim() != 1 or output.dim() != 2:
        return target
    n, target = output.shape[1], target.long()
    # On a GPU an index out of range aborts the process instead of raising.
    if bool(((target < -n) | (target >= n)).any()):
        raise error
    target = target % n
    # Captum reads a single index as a number: the CPU would wait for a GPU.
    return target if len(target) == 1 else target.to(output.device)
