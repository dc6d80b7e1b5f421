"""Warnings that name the line of the caller, and the image that they are about."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

__all__ = ["ExampleWarning", "about_image", "warn_caller", "warn_of_examples"]

_NOT_THE_CALLER = ("captum_ext", "captum", "torch", "contextlib")


class ExampleWarning(UserWarning):
    """A warning that is about some examples only, whatever its text."""


def warn_of_examples(finding: str, n: int, n_examples: int, reason: str) -> None:
    """Warn of what some examples of a batch have in common, if there are any.

    Args:
        finding (str): What was found, such as "the map is zero".
        n (int): Number of examples with it.
        n_examples (int): Number of all examples.
        reason (str): Why, without a period.
    """
    if n:
        share = f" for {n} of {n_examples} examples" if n_examples > 1 else ""
        warn_caller(f"{finding}{share}: {reason}.", ExampleWarning)


@contextmanager
def about_image(name: str, shown: set[str]) -> Iterator[None]:
    """Name an image in the warnings about examples that are shown within the block.

    They are shown once for each image. Any other one, such as that Captum sets hooks,
    is shown once for all images, without a name.

    Args:
        name (str): Name of the image.
        shown (set of str): Warnings that were shown, the same for all images.
    """
    # Also lets the filters forget what they have shown at a line.
    with warnings.catch_warnings():
        show: Any = warnings.showwarning

        def show_named(message: Warning | str, kind: type[Warning], *at: Any) -> None:
            of_image = issubclass(kind, ExampleWarning)
            text = f"{name}: {message}" if of_image else str(message)
            if text not in shown:
                shown.add(text)
                show(text, kind, *at)

        warnings.showwarning = cast(Any, show_named)
        yield


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the user's code that called this package.

    Args:
        message (str): Text of the warning.
        category (type, optional): Category of the warning. Default: UserWarning
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").split(".")[0] not in _NOT_THE_CALLER:
            break
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
