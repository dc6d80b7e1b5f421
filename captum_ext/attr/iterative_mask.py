"""Iterative mask: minimizes the masking model's objective for a single image."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from captum.attr import GradientAttribution
from captum.log import log_usage
from torch import Generator, Tensor
from torch.nn import functional as F
from torch.optim import Adam

from captum_ext._captum import (
    TargetType,
    expand_additional_forward_args,
    expand_target,
    format_output,
    run_forward,
)
from captum_ext._modes import (
    buffers_kept,
    outside_inference_mode,
    warn_of_training_mode,
)
from captum_ext._outputs import mismatch_error, select_scores
from captum_ext._progress import progress
from captum_ext._type_checks import check_callable, check_flags, check_instance
from captum_ext._validation import (
    check_choice,
    check_image,
    check_integer,
    check_positive,
    check_probabilities,
    check_probability,
    check_target,
)
from captum_ext.masking import SaliencyObjective
from captum_ext.masking.objective import GOALS, Goal

__all__ = ["IterativeMask"]

_LogProbability = Callable[[Tensor], Tensor]
# First and last weight of an area that is asked for.
_AREA_WEIGHTS = (0.01, 300)
# Cells of a mask along the shorter side. Finer masks of photographs are speckled.
_CELLS = 7
# The paper's weights, but for twice that of the area.
_LAMBDAS = (10, 2e-3, 5, 0.3)


class IterativeMask(GradientAttribution):
    r"""Mask that preserves a class and whose complement removes it, by optimization.

    Minimizes the objective of the masking model (Eq. 4,
    :class:`~captum_ext.masking.SaliencyObjective`) for each image separately, the
    baseline of the paper's Section 4. It needs no training, but many forward and
    backward passes per image, and its masks may contain artifacts that fool the
    classifier. The mask has a lower resolution than the image and is interpolated.

    The defaults make coarser and smaller masks in fewer passes than
    ``objective=SaliencyObjective()``, ``mask_stride=4``, ``n_steps=200`` and
    ``learning_rate=0.1``: the paper's weights, and cells as small as its network's.

    ``goal`` "preserve" or "delete" is the preservation or the deletion game of Fong and
    Vedaldi, who remove evidence by blur alone: ``EvidenceRemoval(blur_probability=1)``.
    With ``area`` the mask covers that share of the image, as extremal perturbations do.

    Source: P. Dabkowski, Y. Gal, Real Time Image Saliency for Black Box Classifiers,
    NeurIPS 2017, Section 4; R. Fong, A. Vedaldi, Interpretable Explanations of Black
    Boxes by Meaningful Perturbation, ICCV 2017; R. Fong, M. Patrick, A. Vedaldi,
    Understanding Deep Networks via Extremal Perturbations and Smooth Masks, ICCV 2019.

    Args:
        forward_func (Callable): Differentiable function that returns probabilities,
            for example the softmax of a model's output.

    Examples::

        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(768, 4), nn.Softmax(1))
        >>> iterative_mask = IterativeMask(model)
        >>> x = torch.rand(1, 3, 16, 16)
        >>> iterative_mask.attribute(x, target=1, n_steps=10).shape
        torch.Size([1, 3, 16, 16])
    """

    def __init__(self, forward_func: Callable[..., Tensor]) -> None:
        check_callable("forward_func", forward_func)
        super().__init__(forward_func)

    def get_name(self) -> str:
        """Name of the method."""
        return "Iterative mask"

    @log_usage()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType = None,
        additional_forward_args: object = None,
        objective: SaliencyObjective | None = None,
        n_steps: int = 40,
        mask_stride: int | None = None,
        learning_rate: float = 0.5,
        seed: int = 0,
        show_progress: bool = False,
        goal: Goal = "both",
        area: float | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        r"""
        Args:
            inputs (Tensor or tuple[Tensor]): Images (B, C, H, W) to explain: one
                tensor, or a tuple of one.
            target (int, tuple, Tensor, list, or Callable, optional): Output to explain,
                in any of Captum's forms: an int for all examples, a list or 1-D tensor
                of B ints, tuples for outputs of more axes; or a function of the output
                that returns one number per example, or a list of B functions of one
                example's output each (:mod:`captum_ext.targets`). None if
                ``forward_func`` returns one number per example. Default: None
            additional_forward_args (Any, optional): Further arguments of
                ``forward_func``. Default: None
            objective (SaliencyObjective, optional): Objective to minimize. Default:
                None (Eq. 4 with twice the paper's weight of the area)
            n_steps (int, optional): Number of steps of two forward and backward passes
                per example each; one, for a single goal. Default: 40
            mask_stride (int, optional): Pixels of the image per cell of the mask, in
                each direction. Default: None (a seventh of the shorter side)
            learning_rate (float, optional): Learning rate of Adam. Default: 0.5
            seed (int, optional): Seed of the alternative images, which do not depend
                on the other examples of a batch. Default: 0
            show_progress (bool, optional): Whether to show a progress bar over the
                steps. Default: False
            goal (str, optional): Which score counts: "preserve" for that of the image
                inside the mask, "delete" for that of the image outside of it, or
                "both". Default: "both"
            area (float, optional): Share of the image that the mask covers, between 0
                and 1: it replaces the objective's area term, and masks become almost
                binary. Default: None (the objective decides)

        Returns:
            *Tensor* or *tuple[Tensor]* of **attributions**:
            - **attributions** (*Tensor* or *tuple[Tensor]*):
              The mask in [0, 1], in the shape, dtype and on the device of ``inputs``,
              equal for all channels of a pixel.

        Raises:
            ValueError: If an argument is out of its range, if the target does not fit
                the output, or if ``forward_func`` does not return one differentiable
                probability per example.
            TypeError: If an argument is of the wrong type.
        """
        images = check_image(inputs).detach()
        target = check_target(target, len(images))
        learning_rate = check_positive("learning_rate", learning_rate)
        objective = SaliencyObjective(_LAMBDAS) if objective is None else objective
        check_instance("objective", objective, SaliencyObjective)
        check_flags(show_progress=show_progress)
        n_steps = check_integer("n_steps", n_steps, 1)
        check_choice("goal", goal, GOALS)
        search = _Search(
            objective,
            goal,
            None if area is None else check_probability("area", area),
            _cells(mask_stride, images.shape[2:]),
            learning_rate,
        )
        seed = check_integer("seed", seed, 0, 2**64 - 1)
        warn_of_training_mode(self.forward_func)
        bar = progress(range(n_steps), desc=self.get_name(), show=show_progress)
        with buffers_kept(self.forward_func):
            masks = _optimized_masks(
                search,
                _log_probability(
                    self.forward_func,
                    target,
                    additional_forward_args,
                    images.dtype,
                    2 if goal == "both" else 1,
                ),
                images,
                [Generator().manual_seed(seed) for _ in images],
                bar,
                n_steps,
            )
        maps = masks.to(images.dtype).expand_as(images).contiguous()
        return format_output(isinstance(inputs, tuple), (maps,))


def _cells(stride: int | None, size: Sequence[int]) -> tuple[int, ...]:
    """Size of the mask before it is interpolated."""
    if stride is None:
        length = max(1.0, min(size) / _CELLS)
    else:
        length = check_integer("mask_stride", stride, 1)
    return tuple(max(2, round(n / length)) for n in size)


def _log_probability(
    forward_func: Callable[..., Tensor],
    target: TargetType,
    args: object,
    dtype: torch.dtype,
    n_edited: int,
) -> _LogProbability:
    """Function that returns log f_c of the n edited versions of B images, (n B,)."""
    all_targets = expand_target(target, n_edited)
    all_args = expand_additional_forward_args(outside_inference_mode(args), n_edited)

    def log_probability(images: Tensor) -> Tensor:
        inputs = images.to(dtype)
        output = run_forward(forward_func, inputs, None, all_args)
        scores = select_scores(output, all_targets, repr(target))
        if scores.numel() != len(images):
            raise mismatch_error(output, target, len(images))
        _check_probabilities(scores)
        # The logarithm of a probability that is rounded to zero has no gradient.
        return scores.flatten().float().clamp_min(1e-30).log()

    return log_probability


def _check_probabilities(scores: Tensor) -> None:
    """Check that scores are differentiable probabilities."""
    if not scores.requires_grad:
        raise ValueError(
            "forward_func must return differentiable scores, got scores without a "
            "gradient."
        )
    check_probabilities(scores.detach())


class _Search(NamedTuple):
    """How masks are optimized.

    Args:
        objective (SaliencyObjective): What is minimized.
        goal (str): Which scores count.
        area (float, optional): Share of the image that a mask covers.
        cells (tuple of int): Size of the mask before it is interpolated.
        learning_rate (float): Learning rate of Adam.
    """

    objective: SaliencyObjective
    goal: Goal
    area: float | None
    cells: tuple[int, ...]
    learning_rate: float

    def loss(
        self,
        log_probability: _LogProbability,
        images: Tensor,
        masks: Tensor,
        generators: list[Generator],
        progress: float,
    ) -> Tensor:
        """Sum of the losses of all examples, which do not depend on each other.

        With an area, first the score decides which pixels come first, and at the end
        their number counts alone: its weight grows over the steps. ``progress`` is the
        share of the steps that are done.
        """
        terms = self.objective.terms(
            log_probability, images, masks, generators, self.goal
        )
        if self.area is not None:
            first, last = _AREA_WEIGHTS
            weight = first * (last / first) ** progress
            terms = terms._replace(area=weight * _area_error(masks, self.area))
        return terms.total.sum()


def _area_error(masks: Tensor, area: float) -> Tensor:
    """Mean squared difference of the sorted pixels from ones and zeros, (B,).

    Fong, Patrick and Vedaldi's R(M): zero for a binary mask of this area alone.
    """
    pixels = masks.flatten(1).sort(descending=True).values
    covered = torch.arange(pixels.shape[1], device=pixels.device)
    wanted = (covered < area * pixels.shape[1]).to(pixels.dtype)
    return (pixels - wanted).square().mean(1)


@torch.inference_mode(False)
@torch.enable_grad()
def _optimized_masks(
    search: _Search,
    log_probability: _LogProbability,
    images: Tensor,
    generators: list[Generator],
    steps: Any,
    n_steps: int,
) -> Tensor:
    """Masks (B, 1, H, W) in [0, 1], each optimized independently of the others."""
    # A tensor of inference mode takes part in no gradient, a copy does.
    images = images.clone()
    logits = torch.zeros(len(images), 1, *search.cells, device=images.device)
    logits.requires_grad_()
    optimizer = Adam([logits], search.learning_rate)

    def masks() -> Tensor:
        return F.interpolate(logits.sigmoid(), images.shape[2:], mode="bilinear")

    for step in steps:
        loss = search.loss(log_probability, images, masks(), generators, step / n_steps)
        # backward() would leave gradients in the model's parameters.
        (logits.grad,) = torch.autograd.grad(loss, logits)
        optimizer.step()
    return masks().detach()
