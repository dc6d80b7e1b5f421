"""Progress of long runs: Captum's bar in a terminal or notebook, else lines of text."""

import sys
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from captum_ext._captum import captum_progress

__all__ = ["LineProgress", "print_resumed", "progress"]

_SECONDS = 10.0


class LineProgress:
    """Progress as a line on standard error every ten seconds, for logs.

    It has the methods of Captum's bar that are used here. A run of less than ten
    seconds prints nothing.

    Args:
        iterable (collection, optional): What is iterated. Default: None (the caller
            calls :meth:`update`)
        desc (str): What is counted.
        total (int, optional): Number at the end. Default: None (that of the iterable)
        initial (int, optional): Number at the start. Default: 0

    Examples::

        >>> with LineProgress(desc="masks", total=100) as bar:
        ...     bar.update(50)
    """

    def __init__(
        self,
        iterable: Collection[Any] | None = None,
        desc: str = "",
        total: int | None = None,
        initial: int = 0,
    ) -> None:
        self._items = () if iterable is None else iterable
        self._total = len(self._items) if total is None else total
        self._desc, self._number = desc, initial
        self._start = self._printed = time.monotonic()
        self._values = ""

    def __iter__(self) -> Iterator[Any]:
        for each in self._items:
            yield each
            self.update()

    def update(self, n: int = 1) -> None:
        """Count, and print a line if the last one is ten seconds old.

        Args:
            n (int, optional): What is added to the number. Default: 1
        """
        self._number += n
        now = time.monotonic()
        if now - self._printed < _SECONDS:
            return
        self._printed = now
        print(
            f"{self._desc}: {self._number} of {self._total}, "
            f"{now - self._start:.0f} s{self._values}",
            file=sys.stderr,
            flush=True,
        )

    def set_postfix(self, values: Mapping[str, str]) -> None:
        """Set what follows in the line.

        Args:
            values (Mapping[str, str]): Texts by name.
        """
        self._values = "".join(f", {name}={value}" for name, value in values.items())

    def __enter__(self) -> "LineProgress":
        return self

    def __exit__(self, *error: object) -> None:
        pass


def progress(
    iterable: Collection[Any] | None = None,
    *,
    desc: str,
    total: int | None = None,
    initial: int = 0,
    show: bool = True,
) -> Any:
    """Show the progress of a loop.

    Args:
        iterable (collection, optional): What is iterated. Default: None (the caller
            calls ``update``)
        desc (str): What is counted.
        total (int, optional): Number at the end. Default: None (that of the iterable)
        initial (int, optional): Number at the start. Default: 0
        show (bool, optional): Whether anything is shown. Default: True

    Returns:
        *Captum's progress bar*, or :class:`LineProgress` if standard error is neither
        a terminal nor a notebook; a context manager.
    """
    arguments: dict[str, Any] = {"desc": desc, "total": total, "initial": initial}
    if show and not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        return LineProgress(iterable, **arguments)
    return captum_progress(iterable, **arguments, disable=not show)


def print_resumed(done: int, total: int, what: str) -> None:
    """Print on standard error how much of an interrupted run is done, if any is.

    Args:
        done (int): Number that is done.
        total (int): Number at the end.
        what (str): What is counted.
    """
    if done:
        print(f"resumes: {done} of {total} {what} done", file=sys.stderr)
