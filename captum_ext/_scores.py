"""Scores of perturbed inputs, computed in chunks.

Attributions and metrics pass a function that returns the perturbed inputs of any range
of perturbations; they are created, scored and discarded chunk by chunk.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from captum_ext._captum import (
    TargetType,
    expand_additional_forward_args,
    expand_target,
    format_additional_forward_args,
    run_forward,
)
from captum_ext._modes import buffers_kept, warn_of_training_mode
from captum_ext._outputs import is_function, mismatch_error, select_scores
from captum_ext._validation import UNBATCHED

__all__ = [
    "ChunkedScores",
    "PerturbationsPerEval",
    "advice_on_batch",
    "is_out_of_memory",
]

PerturbationsPerEval = int | Literal["auto"]


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on any device."""
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text


@contextlib.contextmanager
def advice_on_batch(inputs: Sequence[Tensor], n_batches: int = 1) -> Iterator[None]:
    """Add advice to errors that an image without a batch axis may have caused.

    An image (C, H, W) looks like a batch of C sequences.

    Args:
        inputs (sequence of Tensor): Inputs of the function.
        n_batches (int, optional): Number of batches that they hold. Default: 1
    """
    first = inputs[0]
    n = len(first) // n_batches
    try:
        yield
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        if first.dim() != 3 or n not in (1, 3) or is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split()).rstrip(".").replace(". ", "; ")
        raise ValueError(
            f"inputs must fit forward_func, got shape {(n, *first.shape[1:])}, for "
            f"which it failed ({reason}); give one image (C, H, W) as {UNBATCHED}."
        ) from error


class ChunkedScores:
    """Scores of perturbed batches, evaluated in chunks.

    Args:
        forward_func (Callable): Model, or any function of its inputs.
        n_examples (int): Number of examples B in a batch.
        target (int, tuple, Tensor, or list, optional): Output to select, in any of
            Captum's forms. Default: None
        additional_forward_args (Any, optional): Further arguments of ``forward_func``,
            expanded as Captum expands them. Default: None
        perturbations_per_eval (int or "auto", optional): Number of perturbed batches
            per call of ``forward_func``. "auto" doubles the number while that lowers
            the time per perturbation, halves it when memory runs out, and uses 1 if
            ``forward_func`` returns one number per batch. Default: "auto"
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        n_examples: int,
        target: TargetType = None,
        additional_forward_args: object = None,
        perturbations_per_eval: PerturbationsPerEval = "auto",
    ) -> None:
        self._forward_func = forward_func
        self._n_examples = n_examples
        # Indices are checked for every chunk: on a GPU the CPU would wait for it.
        self._target = target.cpu() if isinstance(target, Tensor) else target
        self._args = format_additional_forward_args(additional_forward_args)
        self._tuner = _ChunkTuner() if perturbations_per_eval == "auto" else None
        self._chunk = 1 if self._tuner else int(perturbations_per_eval)
        warn_of_training_mode(forward_func)

    def __call__(
        self,
        perturb: Callable[[int, int], tuple[Tensor, ...]],
        start: int,
        stop: int,
        update: Callable[[int], object] = lambda n: None,
    ) -> Tensor:
        """Score perturbations ``start`` to ``stop``.

        Args:
            perturb (Callable): Returns the inputs of a range of n perturbations, a
                tuple of tensors (n * B, ...), perturbation by perturbation.
            start (int): First perturbation.
            stop (int): Perturbation after the last.
            update (Callable, optional): Called with the number of perturbations of
                each chunk.

        Returns:
            *Tensor*: (stop - start, B) float64 on the CPU; (stop - start, 1) if
            ``forward_func`` returns one number per batch.

        Raises:
            ValueError: If the target does not fit the output, or the output does not
                hold one number per example or one per batch.
        """
        # One tensor, because small ones between large inputs fragment freed memory. It
        # stays on the device of the model, which nothing waits for until the end.
        scores, first = torch.empty(0), start
        with buffers_kept(self._forward_func):
            while start < stop:
                n = min(self._chunk, stop - start)
                started = time.perf_counter()
                try:
                    chunk = self._score(perturb(start, start + n), n)
                except _OneNumberPerBatch:
                    if self._tuner is None:
                        raise
                    self._chunk = self._tuner.limit(1)
                    continue
                except RuntimeError as error:
                    if self._tuner is None or n == 1 or not is_out_of_memory(error):
                        raise
                    self._chunk = self._tuner.limit(n // 2)
                    continue
                searches = self._tuner is not None and not self._tuner.is_done
                if self._tuner and searches and chunk.shape[1] == self._n_examples:
                    # A GPU is timed to the end of its work.
                    chunk.cpu()
                    self._chunk = self._tuner.observe(n, time.perf_counter() - started)
                if not len(scores):
                    scores = chunk.new_empty(stop - first, chunk.shape[1])
                scores[start - first : start - first + n] = chunk
                update(n)
                start += n
        return scores.cpu().double()

    def _score(self, inputs: tuple[Tensor, ...], n: int) -> Tensor:
        """Scores (n, B), or (1, 1) for one number per batch."""
        args = expand_additional_forward_args(self._args, n)
        with advice_on_batch(inputs, n):
            output = run_forward(self._forward_func, inputs, None, args)
        target = expand_target(self._target, n)
        selected = select_scores(output, target, repr(self._target))
        scores = selected.detach()
        if scores.numel() == n * self._n_examples:
            return scores.reshape(n, self._n_examples)
        if scores.numel() == 1 and not is_function(target):
            if n == 1:
                return scores.reshape(1, 1)
            raise _OneNumberPerBatch(
                f"perturbations_per_eval must be 1 or 'auto' for a forward_func that "
                f"returns one number per batch, got {n}."
            )
        raise mismatch_error(output, self._target, n * self._n_examples)


class _OneNumberPerBatch(ValueError):
    """Raised if several perturbations of a call are scored by one number."""


class _ChunkTuner:
    """Finds the fastest chunk size during the first chunks of a run.

    Sizes double until the time per perturbation stops falling. Each size runs three
    times: the first run, which includes the choice of kernels for the new shape, does
    not count; of the others the faster one does.
    """

    def __init__(self) -> None:
        self._size = 1
        self._limit: int | None = None
        self._best = (float("inf"), 1)
        self._runs: list[float] = []
        self.is_done = False

    def observe(self, n: int, seconds: float) -> int:
        """Record the time of a chunk of size n; return the next size."""
        if n != self._size or self.is_done:
            return self._size
        self._runs.append(seconds / n)
        if len(self._runs) < 3:
            return self._size
        fastest = min(self._runs[1:])
        faster = fastest < 0.95 * self._best[0]
        if faster:
            self._best = (fastest, n)
        self._runs = []
        self.is_done = not faster or n == self._limit
        self._size = self._best[1] if self.is_done else 2 * n
        if self._limit is not None:
            self._size = min(self._size, self._limit)
        return self._size

    def limit(self, n: int) -> int:
        """Limit chunks to n from now on; return the next size."""
        self._limit = self._size = n
        self._runs = []
        return n
