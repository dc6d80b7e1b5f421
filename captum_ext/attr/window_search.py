"""Search of BOREx: scores of windows, and the order in which they are chosen."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum_ext._scores import ChunkedScores
from captum_ext._validation import check_choice, check_integer, check_scores
from captum_ext.masks import apply_masks

if TYPE_CHECKING:
    from captum_ext.surrogate import Acquisition, CandidateProcess, WindowGrid

__all__ = ["WindowScores", "WindowSearch"]

# Number of windows after which the hyperparameters are first fitted; they are fitted
# again whenever that number has doubled.
_FIRST_FIT = 10


class WindowScores:
    """Scores of windows, from masked inputs.

    Args:
        score (ChunkedScores): Scores masked inputs.
        inputs (tuple[Tensor, ...]): Inputs (B, C, ...) of one size.
        fills (tuple[Tensor, ...]): Replacement of hidden parts of each input.
        grid (WindowGrid): Grid of the windows.
        flip (bool): Whether the score includes what a window adds to a fully hidden
            input.
    """

    def __init__(
        self,
        score: ChunkedScores,
        inputs: tuple[Tensor, ...],
        fills: tuple[Tensor, ...],
        grid: "WindowGrid",
        flip: bool,
    ) -> None:
        self._score, self._inputs, self._fills = score, inputs, fills
        self._grid, self._flip = grid, flip
        # Nothing hidden, and everything hidden.
        hidden = torch.stack([torch.zeros(1, *grid.size), torch.ones(1, *grid.size)])
        # (1 or 2, B); (1 or 2, 1) if forward_func returns one number per batch.
        self._ends = self._of_hidden(hidden if flip else hidden[:1])

    def share(self, maps: Tensor) -> Tensor:
        """The maps, or their mean if forward_func returns one number per batch."""
        whole = self._ends.shape[1] < len(maps)
        return maps.mean(0, keepdim=True) if whole else maps

    def __call__(self, windows: Tensor) -> Tensor:
        """Scores (B, q) of windows (B, q)."""
        inside = self._grid.masks(windows.T)
        if not self._flip:
            return (self._ends[0] - self._of_hidden(inside)).T
        both = torch.stack([1 - inside, inside], 1).flatten(0, 1)
        alone, rest = self._of_hidden(both).unflatten(0, (-1, 2)).unbind(1)
        whole, nothing = self._ends
        return (alone - nothing + whole - rest).T / 2

    def _of_hidden(self, hidden: Tensor) -> Tensor:
        """Scores (M, B) of inputs hidden by masks (M, 1 or B, ...)."""
        masks = hidden[:, None, :, None]

        def perturb(start: int, stop: int) -> tuple[Tensor, ...]:
            return tuple(
                apply_masks(x, [fill], masks[start:stop].to(x.device))
                for x, fill in zip(self._inputs, self._fills)
            )

        scores = self._score(perturb, 0, len(masks))
        check_scores(scores)
        return scores


@dataclass
class WindowSearch:
    """Algorithm 2: which windows are scored, and when hyperparameters are fitted.

    Args:
        n_iterations (int): Number of windows N.
        acquisition (str or Callable): Acquisition function that chooses them.
        windows_per_step (int): Number of windows chosen before the next scores.
        seed (int): Seed of the process.

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: If an argument is of the wrong type.
    """

    n_iterations: int
    acquisition: "Acquisition"
    windows_per_step: int
    seed: int

    def __post_init__(self) -> None:
        from captum_ext.surrogate import ACQUISITIONS

        self.n_iterations = check_integer("n_iterations", self.n_iterations, 1)
        self.windows_per_step = check_integer(
            "windows_per_step", self.windows_per_step, 1
        )
        self.seed = check_integer("seed", self.seed, 0, 2**64 - 1)
        if not callable(self.acquisition):
            check_choice("acquisition", self.acquisition, tuple(ACQUISITIONS))

    def run(self, process: "CandidateProcess", score: WindowScores, bar: Any) -> None:
        """Choose and score windows until N are scored.

        Args:
            process (CandidateProcess): Process over the windows, which observes them.
            score (WindowScores): Scores of windows.
            bar: Progress bar over the windows.
        """
        n, next_fit = 0, _FIRST_FIT
        with bar:
            while n < self.n_iterations:
                q = min(self.windows_per_step, self.n_iterations - n)
                process.observe(score(self._next(process, q)))
                n += q
                bar.update(q)
                last = n == self.n_iterations
                if n > _FIRST_FIT if last else n >= next_fit:
                    process.refit()
                    next_fit = 2 * n

    def _next(self, process: "CandidateProcess", q: int) -> Tensor:
        """Windows (B, q) to score; the first of all has the highest prior mean."""
        chosen = [] if process.scores.shape[1] else [process.start()]
        while len(chosen) < q:
            chosen.append(process.choose(self.acquisition))
        return torch.stack(chosen, 1)
