"""Options of an evaluation, shared by the function and the command."""

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["EvaluationOptions", "Target", "option"]

Target = Literal["label", "top1"]


def option(help: str, default: Any = None, metavar: str | None = None) -> Any:
    """A dataclass field with what a command line needs to know about it.

    Args:
        help (str): Help text, without the default.
        default (Any, optional): Default value. Default: None
        metavar (str, optional): Placeholder for the value. Default: None

    Returns:
        *dataclasses.Field*: Field with the metadata ``help`` and ``metavar``.
    """
    return field(default=default, metadata={"help": help, "metavar": metavar})


@dataclass(frozen=True)
class EvaluationOptions:
    """Options that :func:`captum_ext.evaluation.evaluate` and its command share."""

    target: Target | None = option(
        "explain the labeled or the predicted class (default: label if all images "
        "have one)"
    )
    only_correct: bool = option("leave out misclassified images", False)
    layer: str | None = option(
        "layer of layer methods, a module of the model such as layer4 (default: the "
        "last one that has maps; it is printed)",
        metavar="NAME",
    )
    seed: int = option("seed of all random numbers", 0, "N")
    perturbations_per_eval: int | None = option(
        "images per call of the model (default: 4 on the CPU, 64 on GPUs)", metavar="N"
    )
