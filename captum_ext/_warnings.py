"""Warnings that name the line of the caller."""

import sys
import warnings

__all__ = ["warn_caller"]

_NOT_THE_CALLER = ("captum_ext", "captum", "torch", "contextlib")


def warn_caller(message: str) -> None:
    """Warn at the line of the user's code that called this package.

    Args:
        message (str): Text of the warning.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").split(".")[0] not in _NOT_THE_CALLER:
            break
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
