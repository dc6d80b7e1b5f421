"""BOREx's search loop: which masks are scored, and when it stops."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_ext._scores import ChunkedScores, PerturbationsPerEval
from captum_ext._validation import (
    check_choice,
    check_finite_scores,
    check_integer,
    check_positive,
)
from captum_ext.attr.random_masks import MaskedInputs
from captum_ext.masks.fill import replaced

if TYPE_CHECKING:
    from captum_ext.surrogate import Acquisition, CandidateProcess

__all__ = ["MaskScores", "MaskSearch", "Refine", "Score", "Search"]

#: Scores of a mask, see :class:`~captum_ext.attr.WindowVariant`.
Score = Literal["mean", "difference", "drop"]

# Number of masks after which the hyperparameters are first fitted; they are fitted
# again whenever that number has doubled, and after the last mask.
_FIRST_FIT = 10


class Search(NamedTuple):
    """What a search found.

    Args:
        mean (Tensor): Maps (B, ...).
        std (Tensor): Standard deviations of the maps, (B, ...).
        masks (Tensor): Scored masks in order, (B, N, ...) bool.
        scores (Tensor): Their scores, (B, N) float64.
    """

    mean: Tensor
    std: Tensor
    masks: Tensor
    scores: Tensor

    @classmethod
    def joined(cls, parts: "Sequence[Search]") -> "Search":
        """Searches of single examples as a batch, padded to the longest one.

        Padding masks are empty; their scores are NaN.
        """
        n = max(part.scores.shape[1] for part in parts)
        masks, scores = [], []
        for part in parts:
            missing = n - part.scores.shape[1]
            scores.append(F.pad(part.scores, (0, missing), value=torch.nan))
            empty = torch.zeros_like(part.masks[:, :1]).expand(
                -1, missing, *part.masks.shape[2:]
            )
            masks.append(torch.cat([part.masks, empty], 1))
        mean, std = (torch.cat(maps) for maps in list(zip(*parts))[:2])
        return cls(mean, std, torch.cat(masks), torch.cat(scores))


class MaskScores:
    """Scores of masks, from masked inputs. The ends take a pass each.

    The whole input is scored whatever the score: it shows whether forward_func returns
    one number per batch.

    Args:
        forward_func (Callable): The forward function.
        masked (MaskedInputs): Inputs (B, C, ...) of one size with one fill each.
        perturbations_per_eval (int or "auto"): Masked batches per forward call.
        score (str): Score of a mask: "mean", "difference" or "drop", see
            :class:`~captum_ext.attr.WindowVariant`.

    Attributes:
        ends (Tensor): Scores of the whole input and, for "mean", of the fully hidden
            one, (1 or 2, B); (1 or 2, 1) if forward_func returns one number per batch.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        masked: MaskedInputs,
        perturbations_per_eval: PerturbationsPerEval,
        score: Score,
    ) -> None:
        self._masked, self._score = masked, score
        self._scores = ChunkedScores(
            forward_func,
            len(masked.inputs[0]),
            masked.target,
            masked.additional_forward_args,
            perturbations_per_eval,
        )
        size = masked.inputs[0].shape[2:]
        hidden = torch.stack([torch.zeros(1, *size), torch.ones(1, *size)])
        self.ends = self._of_hidden(hidden if score == "mean" else hidden[:1])

    def share(self, maps: Tensor) -> Tensor:
        """The maps, or their mean if forward_func returns one number per batch."""
        whole = self.ends.shape[1] < len(maps)
        return maps.mean(0, keepdim=True) if whole else maps

    def __call__(self, inside: Tensor) -> Tensor:
        """Scores (B, q) of masks (q, B, ...) that are 1 inside and 0 outside."""
        if self._score == "drop":
            return (self.ends[0] - self._of_hidden(inside)).T
        both = torch.stack([1 - inside, inside], 1).flatten(0, 1)
        alone, rest = self._of_hidden(both).unflatten(0, (-1, 2)).unbind(1)
        if self._score == "difference":
            return (alone - rest).T
        whole, nothing = self.ends
        return (alone - nothing + whole - rest).T / 2

    def _of_hidden(self, hidden: Tensor) -> Tensor:
        """Scores (M, B) of inputs hidden by masks (M, 1 or B, ...)."""
        masks = hidden[:, None, :, None]

        def perturb(start: int, stop: int) -> tuple[Tensor, ...]:
            return tuple(
                replaced(x, fills, masks[start:stop].to(x.device))
                for x, fills in zip(self._masked.inputs, self._masked.fills)
            )

        scores = self._scores(perturb, 0, len(masks))
        check_finite_scores(scores)
        return scores


@dataclass
class MaskSearch:
    """Algorithm 2: which masks are scored, and when hyperparameters are fitted.

    Args:
        n_iterations (int): Largest number N of masks.
        acquisition (str or Callable): Acquisition function that chooses them.
        masks_per_step (int): Number of masks chosen before the next scores.
        seed (int): Seed of the process.
        tolerance (float, optional): Posterior standard deviation of the least known
            mask at which the search stops.

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: If an argument is of the wrong type.
    """

    n_iterations: int
    acquisition: "Acquisition"
    masks_per_step: int
    seed: int
    tolerance: float | None = None

    def __post_init__(self) -> None:
        from captum_ext.surrogate import ACQUISITIONS

        self.n_iterations = check_integer("n_iterations", self.n_iterations, 1)
        self.masks_per_step = check_integer("masks_per_step", self.masks_per_step, 1)
        self.seed = check_integer("seed", self.seed, 0, 2**64 - 1)
        if self.tolerance is not None:
            self.tolerance = check_positive("tolerance", self.tolerance)
        if not callable(self.acquisition):
            check_choice("acquisition", self.acquisition, tuple(ACQUISITIONS))

    def run(
        self,
        process: "CandidateProcess",
        masks: Callable[[Tensor], Tensor],
        score: MaskScores,
        bar: Any,
        starts_at_prior: bool = False,
        is_exact: Callable[[], bool] = lambda: False,
    ) -> None:
        """Choose and score masks until N are scored or none is worth a pass.

        Args:
            process (CandidateProcess): Process over candidates, which observes scores.
            masks (Callable): Masks (q, B, ...) of candidates (q, B).
            score (MaskScores): Scores of masks.
            bar: Progress bar over the masks.
            starts_at_prior (bool, optional): Whether the first mask is the one of the
                highest prior mean, whatever the acquisition function.
                Default: False
            is_exact (Callable, optional): Whether the scores so far are enough for
                another reason than ``tolerance``. Default: never
        """
        n, next_fit = 0, _FIRST_FIT
        while n < self.n_iterations:
            chosen = []
            if starts_at_prior and not n:
                chosen.append(process.start())
            while len(chosen) < min(self.masks_per_step, self.n_iterations - n):
                chosen.append(process.choose(self.acquisition))
            process.observe(score(masks(torch.stack(chosen))))
            n += len(chosen)
            bar.update(len(chosen))
            last = n == self.n_iterations
            if n >= (_FIRST_FIT if last else next_fit):
                process.refit()
                next_fit = 2 * n
            # A standard deviation means little before the first fit.
            if n >= _FIRST_FIT and (is_exact() or self._is_known(process)):
                break

    def _is_known(self, process: "CandidateProcess") -> bool:
        """Whether no candidate is worth a pass."""
        return self.tolerance is not None and bool(process.std.max() <= self.tolerance)


#: Function of inputs, the search, scores of masks of inputs, and a progress bar.
Refine = Callable[
    [MaskedInputs, MaskSearch, Callable[[MaskedInputs, Score], MaskScores], Any], Search
]
