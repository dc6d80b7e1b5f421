"""Running several processes as torchrun does."""

from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

__all__ = ["exit_codes", "quietly"]


def exit_codes(
    started: Sequence[BaseProcess],
    killed: BaseProcess | None = None,
    after: float = 0.0,
) -> list[int | None]:
    """Run processes to their end; when one fails, kill the others.

    One of them is killed after some seconds, if given.
    """
    for process in started:
        process.start()
    if killed is not None:
        killed.join(after)
        killed.kill()
    running = list(started)
    while running:
        ended = wait([process.sentinel for process in running])
        running = [process for process in running if process.sentinel not in ended]
        for process in started:
            if process.sentinel in ended:
                process.join()
        if any(process.exitcode for process in started if process not in running):
            for process in running:
                process.kill()
    return [process.exitcode for process in started]


def quietly(errors: Path, call: Callable[..., object], *arguments: Any) -> None:
    """Call a function; an error goes to a file instead of to standard error."""
    try:
        call(*arguments)
    except Exception as error:
        with errors.open("a") as file:
            file.write(f"{type(error).__name__}: {error}\n")
        raise SystemExit(1) from error
