"""BOREx: any map, refined by a Gaussian process over well-chosen windows."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from captum.attr import PerturbationAttribution
from captum.log import log_usage
from torch import Tensor
from torch.nn import functional as F

from captum_ext._captum import (
    BaselineType,
    NullProgress,
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_output,
    is_tuple,
    progress,
)
from captum_ext._scores import ChunkedScores, PerturbationsPerEval
from captum_ext._validation import (
    check_baselines,
    check_choice,
    check_inputs,
    check_integer,
    check_perturbations_per_eval,
    check_prior,
    check_scores,
    check_target,
    check_windowed_inputs,
    check_windows,
)
from captum_ext.attr.random_masks import expanded_as
from captum_ext.masks import apply_masks

if TYPE_CHECKING:
    from captum_ext.surrogate import Acquisition, WindowGrid, WindowProcess

__all__ = ["BOREx", "Refinement", "prior_maps"]

Maps = Tensor | tuple[Tensor, ...]
Prior = Maps | Callable[..., Maps]

# The authors' sides, as shares of the shorter side of the image.
_SIDES = tuple(2 * half / 224 for half in (30, 45, 60, 75))
_DURATIONS = (0.5, 1.0)
# Centers along the shorter side, unless the stride is given.
_CENTERS = 28
# The mean absolute value that a prior is brought to.
_PRIOR_MEAN = 0.1
# The hyperparameters are fitted after so many windows, and each time that there are
# twice as many.
_FIRST_FIT = 10
_INTERPOLATION = {2: "bilinear", 3: "trilinear"}


class Refinement(NamedTuple):
    """A refined map, how sure it is, and what was tried.

    Attributes:
        attributions (Tensor or tuple[Tensor, ...]): The map, in the shape of the
            inputs.
        std (Tensor or tuple[Tensor, ...]): The mean posterior standard deviation of the
            windows that cover a pixel, in the shape of the inputs and the unit of the
            score.
        windows (Tensor): The windows that were tried, in order: first pixel along each
            axis, and the one after the last, (B, N, 2, n_axes) int64 on the CPU.
        scores (Tensor): What they scored, (B, N) float64 on the CPU.
    """

    attributions: Maps
    std: Maps
    windows: Tensor
    scores: Tensor


class BOREx(PerturbationAttribution):
    r"""Bayesian optimization for refinement of a map.

    A map says where to look; N windows of several sizes are looked at. A window scores
    what it adds to nothing and what the rest loses without it, on average,

    .. math::
        s(\lambda, r) = \tfrac12 \big(f(i \odot \bar m) - f(0)
                         + f(i) - f(i \odot m)\big), \quad
        m = 0 \text{ inside the window, } \bar m = 1 - m,

    and a Gaussian process whose mean is the prior map learns from each score what all
    other windows would score, and where to look next. The map is the mean over sizes
    of the mean over the windows that cover a pixel. It is positive where pixels support
    the score, negative where they speak against it, and 0 where the model ignores them.

    The paper's score is :math:`f(i \odot \bar m) - f(i \odot m)`, which is twice ours
    minus :math:`f(i) - f(0)`: the order of windows is the same, but there a window
    without influence scores minus what the whole image is worth.

    The prior's scale and an offset are unknown to the process, which learns them with
    the rest: a useless prior fades. A map costs 2 N + 2 forward passes.

    Source: A. Kikuchi, K. Uchida, M. Waga, K. Suenaga, BOREx:
    Bayesian-Optimization-Based Refinement of Saliency Map for Image- and
    Video-Classification Models, ACCV 2022; Algorithm 2 and Section 3.2. With
    ``prior=None``, ``flip=False`` and ``weighting="mean"`` it is Algorithm 1: M.
    Mokuwe, M. Burke, A. Bosman, Black-Box Saliency Map Generation Using Bayesian
    Optimisation, IJCNN 2020.

    Args:
        forward_func (Callable): The forward function of the model or any
            modification of it. It is called in the mode in which it is: eval mode, for
            maps that can be reproduced.

    Examples::

        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
        >>> x = torch.rand(1, 3, 32, 32)
        >>> prior = LayerGradCamPlusPlus(model, model[0]).attribute(x, target=1)
        >>> BOREx(model).attribute(x, prior, target=1, n_iterations=10).shape
        torch.Size([1, 3, 32, 32])
    """

    def get_name(self) -> str:
        """Name of the method as its paper writes it."""
        return "BOREx"

    @log_usage()
    @torch.no_grad()
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        prior: Prior | None = None,
        baselines: BaselineType = None,
        target: TargetType = None,
        additional_forward_args: object = None,
        mask_sizes: Sequence[int] | None = None,
        durations: Sequence[int] | None = None,
        n_iterations: int = 50,
        acquisition: "Acquisition" = "ucb",
        flip: bool = True,
        weighting: Literal["window", "mean"] = "window",
        windows_per_step: int = 1,
        stride: int | None = None,
        perturbations_per_eval: PerturbationsPerEval = "auto",
        seed: int = 0,
        return_posterior: bool = False,
        show_progress: bool = False,
    ) -> Maps | Refinement:
        r"""
        Args:
            inputs (Tensor or tuple[Tensor, ...]): Images (B, C, H, W) or video
                (B, C, T, H, W) to explain. Several inputs of the same size are looked
                at through the same windows.
            prior (Tensor, tuple[Tensor, ...], or Callable, optional): Maps
                (B, any, ...) with as many axes as ``inputs``, of any size and scale, as
                Captum's attributions and ours return them, or the ``attribute`` of one,
                which is called with ``inputs`` and ``target``. Channels and the maps of
                a tuple are summed, maps of another size are interpolated, and each
                example's is multiplied so that its mean absolute value is 0.1; a
                constant one says nothing. Default: None (zero everywhere)
            baselines (scalar, Tensor, tuple of scalar, or Tensor, optional): What
                hidden parts are replaced by, broadcastable to ``inputs``.
                Default: None (zero)
            target (int, tuple, Tensor, or list, optional): Output to explain, in any
                of Captum's forms: an int for all examples, a list or 1-D tensor of B
                ints, tuples for outputs of more axes. None if ``forward_func`` returns
                one number an example or one a batch. Default: None
            additional_forward_args (Any, optional): Further arguments of
                ``forward_func``. The first axis of a tensor is the batch.
                Default: None
            mask_sizes (sequence of int, optional): Sides r of the square windows in
                pixels. Default: None (60, 90, 120 and 150 of 224 pixels of the shorter
                side)
            durations (sequence of int, optional): Numbers of frames t that a window of
                a video lasts. Default: None (half of the frames, and all)
            n_iterations (int, optional): Number of windows N. Default: 50
            acquisition (str or Callable, optional): How the next window is chosen, by
                its posterior mean and standard deviation: "ucb" for mean + 10 std,
                "abs_ucb" for abs(mean) + 10 std, "ei" for the expected improvement on
                the best score, "std"; or a function that makes a BoTorch
                acquisition function (one point at a time) of a BoTorch model.
                Default: "ucb"
            flip (bool, optional): Whether what a window says without the rest counts,
                as in Algorithm 2. Without, a window scores f(i) - f(i * m), as in
                Algorithm 1, for N + 1 passes. Default: True
            weighting (str, optional): "window" gives a pixel the mean over the windows
                that cover it, which is the 1 / r^2 of Algorithm 2; "mean" the value of
                the windows round it, as in Algorithm 1. Default: "window"
            windows_per_step (int, optional): Windows chosen at a time, each as if the
                others had scored what is expected of them: larger batches for the
                model, and on photographs maps that are as good. Default: 1
            stride (int, optional): Pixels between the centers of windows.
                Default: None (a 28th of the shorter side)
            perturbations_per_eval (int or "auto", optional): Masked batches in one
                call of ``forward_func``, of the ``2 * windows_per_step`` of a step. It
                changes the map by rounding only. Default: "auto"
            seed (int, optional): Of the order in which windows that are worth the same
                are tried, and of what a BoTorch acquisition function draws.
                Default: 0
            return_posterior (bool, optional): Whether the standard deviation, the
                windows and their scores are returned as well. Default: False
            show_progress (bool, optional): Whether a progress bar over the windows is
                shown. Default: False

        Returns:
            *Tensor* or *tuple[Tensor, ...]* of **attributions**, or a
            :class:`Refinement` if ``return_posterior``:
            - **attributions** (*Tensor* or *tuple[Tensor, ...]*):
              In the shape, dtype and on the device of ``inputs``, equal for all
              channels of a pixel; (1, ...) if ``forward_func`` returns one number a
              batch. Float32 for integer inputs. In the unit of the score.

        Raises:
            ValueError: If an argument is out of its range, if the prior, the windows or
                the target do not fit, or if scores are NaN or infinite.
            TypeError: If an argument is of the wrong type.
        """
        # BoTorch takes a second to import; who explains otherwise need not wait.
        from captum_ext import surrogate

        tensors = check_windowed_inputs(check_inputs(inputs))
        fills = check_baselines(baselines, tensors)
        n_examples, size = len(tensors[0]), tensors[0].shape[2:]
        check_target(target, n_examples)
        sides, frames = check_windows(mask_sizes, durations, size, _SIDES, _DURATIONS)
        n_iterations = check_integer("n_iterations", n_iterations, 1)
        per_step = check_integer("windows_per_step", windows_per_step, 1)
        if stride is None:
            stride = max(1, min(size[-2:]) // _CENTERS)
        step = check_integer("stride", stride, 1)
        seed = check_integer("seed", seed, 0, 2**64 - 1)
        check_choice("weighting", weighting, ("window", "mean"))
        if not callable(acquisition):
            check_choice("acquisition", acquisition, tuple(surrogate.ACQUISITIONS))
        score = ChunkedScores(
            self.forward_func,
            n_examples,
            target,
            additional_forward_args,
            check_perturbations_per_eval(perturbations_per_eval),
        )
        if callable(prior):
            prior = prior(inputs, target=target)
        maps = prior_maps(check_prior(prior, tensors[0]), n_examples, size)

        grid = surrogate.WindowGrid(size, sides, frames, step)
        scorer = _WindowScores(score, tensors, fills, grid, flip)
        process = surrogate.WindowProcess(grid, scorer.share(maps), n_iterations, seed)
        bar = (
            progress(total=n_iterations, desc=f"{self.get_name()} windows")
            if show_progress
            else NullProgress()
        )
        with bar:
            _explore(process, scorer, acquisition, n_iterations, per_step, bar.update)

        def shaped(values: Tensor) -> Any:
            fine = grid.maps(values, weighting == "window")[None, :, None]
            each = tuple(expanded_as(fine, tensor) for tensor in tensors)
            return format_output(is_tuple(inputs), each)

        if not return_posterior:
            return shaped(process.mean)
        return Refinement(
            shaped(process.mean),
            shaped(process.deviation),
            torch.stack(grid.bounds(grid.parameters[process.windows]), 2),
            process.scores,
        )


def prior_maps(maps: Sequence[Tensor], n_examples: int, size: Sequence[int]) -> Tensor:
    """Prior maps as a Gaussian process takes them.

    Args:
        maps (sequence of Tensor): Maps (B, any, ...) that are added up; none for zero.
        n_examples (int): B.
        size (sequence of int): (H, W) or (T, H, W).

    Returns:
        *Tensor*: (B, H, W) or (B, T, H, W) float64 on the CPU with a mean absolute
        value of 0.1, or zero where a map is constant.

    Examples::

        >>> prior_maps([torch.tensor([[[[1.0, 3.0]]]])], 1, (1, 2))
        tensor([[[0.0500, 0.1500]]], dtype=torch.float64)
    """
    total = torch.zeros(n_examples, *size, dtype=torch.float64)
    for each in maps:
        summed = each.detach().cpu().double().sum(1, keepdim=True)
        if summed.shape[2:] != total.shape[1:]:
            summed = F.interpolate(summed, size, mode=_INTERPOLATION[len(size)])
        total += summed[:, 0]
    axes = tuple(range(1, total.dim()))
    mean = total.abs().mean(axes, keepdim=True)
    spread = total.amax(axes, keepdim=True) - total.amin(axes, keepdim=True)
    return torch.where(spread > 1e-9 * mean, _PRIOR_MEAN * total / mean, 0)


class _WindowScores:
    """What windows add to nothing, and what the rest loses without them."""

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
        # Nothing is hidden; then everything is.
        hidden = torch.stack([torch.zeros(1, *grid.size), torch.ones(1, *grid.size)])
        # (1 or 2, B); one number for all if the batch is scored as a whole.
        self._ends = self._of_hidden(hidden if flip else hidden[:1])

    def share(self, maps: Tensor) -> Tensor:
        """The maps, or their mean where a batch is scored as a whole."""
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
        """Scores (M, B) under masks (M, 1 or B, ...) of what is hidden."""
        masks = hidden[:, None, :, None]

        def perturb(start: int, stop: int) -> tuple[Tensor, ...]:
            return tuple(
                apply_masks(x, [fill], masks[start:stop].to(x.device))
                for x, fill in zip(self._inputs, self._fills)
            )

        scores = self._score(perturb, 0, len(masks))
        check_scores(scores)
        return scores


def _explore(
    process: "WindowProcess",
    score: _WindowScores,
    acquisition: "Acquisition",
    n_iterations: int,
    per_step: int,
    update: Callable[[int], object],
) -> None:
    """Algorithm 2: choose, score and learn until N windows were tried."""
    n, next_fit = 0, _FIRST_FIT
    while n < n_iterations:
        q = min(per_step, n_iterations - n)
        first = [] if n else [process.start()]
        chosen = first + [process.choose(acquisition) for _ in range(q - len(first))]
        process.observe(score(torch.stack(chosen, 1)))
        n += q
        update(q)
        if n >= next_fit and n < n_iterations or n == n_iterations > _FIRST_FIT:
            process.refit()
            next_fit = 2 * n
