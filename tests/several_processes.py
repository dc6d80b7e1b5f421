"""Running several processes as torchrun does."""

from collections.abc import Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess


def exit_codes(started: Sequence[BaseProcess]) -> list[int | None]:
    """Run processes to their end; when one fails, kill the others."""
    for process in started:
        process.start()
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
