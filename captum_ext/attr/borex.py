"""BOREx: refinement of a map by Bayesian optimization over masks."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from captum.attr import GradientAttribution, PerturbationAttribution
from captum.log import log_usage
from torch import Tensor

from captum_ext._captum import (
    BaselineType,
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_output,
    format_tensor_into_tuples,
    is_tuple,
)
from captum_ext._outputs import select_scores
from captum_ext._progress import progress
from captum_ext._scores import PerturbationsPerEval
from captum_ext._type_checks import check_callable, check_flags
from captum_ext._validation import (
    UNBATCHED,
    check_baselines,
    check_choice,
    check_inputs,
    check_perturbations_per_eval,
    check_target,
    check_unused,
)
from captum_ext.attr.field_search import by_field
from captum_ext.attr.mask_search import MaskScores, MaskSearch, Refine, Score
from captum_ext.attr.prior_maps import Prior, scaled_prior
from captum_ext.attr.random_masks import Attribution, MaskedInputs, expanded_as
from captum_ext.attr.window_search import VARIANTS, WindowVariant, by_windows

if TYPE_CHECKING:
    from captum_ext.surrogate import Acquisition

__all__ = ["BOREx", "Refinement"]

# Acquisition function and masks per step of the field, and of windows.
_OF_FIELD, _OF_WINDOWS = ("information", 5), ("ucb", 1)


class Refinement(NamedTuple):
    """A refined map, its standard deviation, and the masks that were scored.

    Attributes:
        attributions (Tensor or tuple[Tensor, ...]): The map, in the shape of the
            inputs.
        std (Tensor or tuple[Tensor, ...]): Posterior standard deviation of the map, in
            the shape and unit of the map; of windows, their posterior standard
            deviations, averaged as the map is.
        masks (Tensor): Inside of the scored masks in order, (B, N, H, W) or
            (B, N, T, H, W) bool on the CPU. Examples that needed fewer masks than
            others have empty ones at the end.
        scores (Tensor): Scores of these masks, (B, N) float64 on the CPU, NaN for empty
            ones.
    """

    attributions: Attribution
    std: Attribution
    masks: Tensor
    scores: Tensor

    def __repr__(self) -> str:
        maps = self.attributions
        shapes = [
            tuple(each.shape) for each in (maps if isinstance(maps, tuple) else [maps])
        ]
        return (
            f"Refinement(attributions {', '.join(map(str, shapes))}, "
            f"{self.scores.shape[1]} masks)"
        )

    @property
    def centers(self) -> Tensor:
        """Center of each mask along each axis in pixels, (B, N, n_axes) float64.

        NaN for empty masks.
        """
        masks = self.masks.double()
        axes = range(2, masks.dim())
        steps = torch.meshgrid(
            [torch.arange(masks.shape[axis]).double() for axis in axes], indexing="ij"
        )
        sums = [(masks * step).flatten(2).sum(2) for step in steps]
        return torch.stack(sums, -1) / masks.flatten(2).sum(2)[..., None]


class BOREx(PerturbationAttribution):
    r"""Refine a map by Bayesian optimization over N masks.

    The score of a mask :math:`\bar m`, 1 inside and 0 outside, is the mean of what its
    inside adds to a fully hidden input and what the input loses without it,

    .. math::
        s(\bar m) &= \tfrac12 \big(f(i \odot \bar m) - f(0)
                         + f(i) - f(i \odot m)\big), \\
        m &= 1 - \bar m.

    A Gaussian process predicts the scores of all other masks, and an acquisition
    function chooses the next one. By default the process is on the pixels: without
    effects of third order a score is the sum of a field :math:`\phi` over the inside of
    the mask, and the map is the posterior mean of that field. The prior map, with an
    unknown scale, is its mean. The map is as sharp as the cells of the field, which are
    superpixels of an image or a video, and sums to f(i) - f(0).

    With ``variant="windows"`` the process is on square windows of several sizes, whose
    prior mean is the mean of the prior map over the window, with an unknown scale and
    offset. The map is the mean over sizes of the mean prediction over the windows that
    cover a pixel.

    These maps are positive where pixels support the score, negative where they lower
    it, and 0 where the model ignores them. They cost 2 N + 2 forward passes per
    example.

    ``variant="paper"`` is Algorithm 2 read literally: another score, map, prior mean
    and kernel over the same windows, see :class:`WindowVariant`. Its score
    :math:`f(i \odot \bar m) - f(i \odot m)` is twice the one above minus
    :math:`f(i) - f(0)`: windows have the same order, but a window without influence
    scores :math:`f(0) - f(i)`. It takes one pass less.

    Source: A. Kikuchi, K. Uchida, M. Waga, K. Suenaga, BOREx:
    Bayesian-Optimization-Based Refinement of Saliency Map for Image- and
    Video-Classification Models, ACCV 2022; Algorithm 2 and Section 3.2. Without a
    prior, ``WindowVariant.paper(score="drop", weighting="mean")`` is Algorithm 1:
    M. Mokuwe, M. Burke, A. Bosman, Black-Box Saliency Map Generation Using Bayesian
    Optimisation, IJCNN 2020.

    Args:
        forward_func (Callable): The forward function of the model or any
            modification of it. Its mode is not changed: call ``model.eval()`` first.

    Examples::

        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
        >>> x = torch.rand(1, 3, 32, 32)
        >>> prior = LayerGradCamPlusPlus(model, model[0]).attribute(x, target=1)
        >>> BOREx(model).attribute(x, prior, target=1, n_iterations=10).shape
        torch.Size([1, 3, 32, 32])
    """

    def __init__(self, forward_func: Callable[..., Tensor]) -> None:
        check_callable("forward_func", forward_func)
        super().__init__(forward_func)

    def get_name(self) -> str:
        """Name of the method as in its paper."""
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
        variant: Literal["field", "windows", "paper"] | WindowVariant = "field",
        feature_mask: Tensor | tuple[Tensor, ...] | None = None,
        candidates: str | Sequence[str] | None = None,
        mask_sizes: Sequence[int] | None = None,
        n_iterations: int = 50,
        acquisition: "Acquisition | None" = None,
        masks_per_step: int | None = None,
        tolerance: float | None = None,
        rtol: float | None = None,
        perturbations_per_eval: PerturbationsPerEval = "auto",
        seed: int = 0,
        return_posterior: bool = False,
        show_progress: bool = False,
    ) -> Attribution | Refinement:
        r"""
        Args:
            inputs (Tensor or tuple[Tensor, ...]): Images (B, C, H, W), video or volumes
                (B, C, T, H, W), or for the field sequences (B, C, L) to explain.
                Several inputs must have the same size and are hidden by the same masks.
            prior (Tensor, tuple[Tensor, ...], or Callable, optional): Maps
                (B, any, ...) with as many axes as ``inputs``, of any size and scale, as
                Captum's attributions and ours return them, or the ``attribute`` method
                of one, which is called with ``inputs`` and ``target``. Channels and the
                maps of a tuple are summed, and maps of another size are interpolated.
                The scale is learned, except by ``variant`` "paper", which gives the map
                a mean absolute value of 0.1. A constant map has no effect.
                Default: None (zero everywhere)
            baselines (scalar, Tensor, tuple of scalar, or Tensor, optional):
                Replacement of hidden parts, broadcastable to ``inputs``.
                Default: None (zero)
            target (int, tuple, Tensor, list, or Callable, optional): Output to explain,
                in any of Captum's forms: an int for all examples, a list or 1-D tensor
                of B ints, tuples for outputs of more axes; or a function of the output
                that returns one number per example, or a list of B functions of one
                example's output each (:mod:`captum_ext.targets`). None if
                ``forward_func`` returns one number per example or one per batch.
                Default: None
            additional_forward_args (Any, optional): Further arguments of
                ``forward_func``. The first axis of a tensor is the batch.
                Default: None
            variant (str or WindowVariant, optional): "field" puts the Gaussian process
                on the pixels and scores masks of any shape; "windows" puts it on square
                windows; "paper" does so with all choices of Algorithm 2; a
                :class:`WindowVariant` does so with choices of your own.
                Default: "field"
            feature_mask (Tensor or tuple[Tensor, ...], optional): Cells of the field:
                index of the region of each element, integers (1 or B, ...)
                broadcastable to ``inputs``; None in a tuple is the mask of another
                input. Default: None (about 70 superpixels of an image, 150 of a video,
                which follow what moves; elements or equal parts of a sequence)
            candidates (str or sequence of str, optional): Kinds of masks that the
                acquisition function chooses from: "halves" (random connected halves),
                "squares", "regions" (single cells) and "parts" (connected parts of the
                highest values of the prior, alone and in pairs).
                Default: None ("halves")
            mask_sizes (sequence of int, optional): Sides r of squares in pixels.
                Default: None (60, 90, 120 and 150 of 224 pixels of the shorter side;
                for squares of the field 30 as well)
            n_iterations (int, optional): Largest number N of masks. Default: 50
            acquisition (str or Callable, optional): Acquisition function that chooses
                the next mask: BoTorch's "ucb" for mean + 10 std, "ei" for the
                logarithm of the expected improvement on the best score, "std" for std,
                "information" for how much the score lowers the total variance; or a
                function of a :class:`~captum_ext.surrogate.CandidateModel` that returns
                any acquisition function of BoTorch for one point at a time (q = 1), a
                ``qKnowledgeGradient`` or a ``MaxPosteriorSampling``. Default: None
                ("information", "ucb" for windows)
            masks_per_step (int, optional): Number of masks chosen before the next
                scores; pending ones count as if they had scored their posterior mean.
                More make larger batches for the model. Default: None (5, 1 for windows)
            tolerance (float, optional): Posterior standard deviation, in units of the
                score, at which an example is finished: no candidate has a larger one.
                Default: None (all N masks are used)
            rtol (float, optional): For the field: typical standard deviation of the map
                (root mean square), in units of its range, at which an example is
                finished. Default: None (all N masks are used)
            perturbations_per_eval (int or "auto", optional): Number of masked batches
                per call of ``forward_func``, at most the ``2 * masks_per_step`` of a
                step. It changes the map by rounding only. Default: "auto"
            seed (int, optional): Seed of random candidates, of the order among those
                with the same acquisition value, and of random BoTorch acquisition
                functions. Default: 0
            return_posterior (bool, optional): Whether a :class:`Refinement` with the
                standard deviation, the masks and their scores is returned.
                Default: False
            show_progress (bool, optional): Whether a progress bar over the masks is
                shown. Default: False

        Returns:
            *Tensor* or *tuple[Tensor, ...]* of **attributions**, or a
            :class:`Refinement` if ``return_posterior``:
            - **attributions** (*Tensor* or *tuple[Tensor, ...]*):
              In the shape, dtype and on the device of ``inputs``, equal for all
              channels of a pixel. Float32 for integer inputs. The field's sum to
              f(i) - f(0), those of windows are in the unit of the score, of ``variant``
              "paper" per pixel. If ``forward_func`` returns one number per batch, those
              of windows have shape (1, ...), and the field explains each example as a
              batch of its own.

        Raises:
            ValueError: If an argument is out of its range, if the prior, the masks or
                the target do not fit, or if scores are NaN or infinite.
            TypeError: If an argument is of the wrong type.
        """
        if not isinstance(variant, WindowVariant):
            check_choice("variant", variant, ("field", *VARIANTS))
        check_flags(return_posterior=return_posterior, show_progress=show_progress)
        is_field = variant == "field"
        masked = _masked_inputs(
            inputs, baselines, target, additional_forward_args, is_field
        )
        defaults = _OF_FIELD if is_field else _OF_WINDOWS
        acquisition = defaults[0] if acquisition is None else acquisition
        q = defaults[1] if masks_per_step is None else masks_per_step
        search = MaskSearch(n_iterations, acquisition, q, seed, tolerance)
        chunk = check_perturbations_per_eval(perturbations_per_eval)
        field = dict(feature_mask=feature_mask, candidates=candidates, rtol=rtol)
        refine = _refinement(masked, variant, mask_sizes, prior is not None, field)
        masked = masked._replace(prior=scaled_prior(prior, inputs, masked.target))

        def scores(part: MaskedInputs, score: Score) -> MaskScores:
            return MaskScores(self.forward_func, part, chunk, score)

        n_searches = len(masked.inputs[0]) if is_field else 1
        n_scored = n_searches * n_iterations
        with progress(desc="BOREx masks", total=n_scored, show=show_progress) as bar:
            found = refine(masked, search, scores, bar)
        mean, std = (_attributions(maps, inputs) for maps in found[:2])
        return Refinement(mean, std, *found[2:]) if return_posterior else mean

    def has_convergence_delta(self) -> bool:
        """True: attributions of the field sum to f(inputs) - f(baselines)."""
        return True

    def compute_convergence_delta(
        self,
        attributions: Attribution,
        start_point: Tensor | tuple[Tensor, ...],
        end_point: Tensor | tuple[Tensor, ...],
        target: TargetType = None,
        additional_forward_args: object = None,
    ) -> Tensor:
        """Sum of the attributions minus the difference of the scores of two points.

        Args:
            attributions (Tensor or tuple[Tensor, ...]): Attributions of ``variant``
                "field".
            start_point (Tensor or tuple[Tensor, ...]): Baselines in the shape of the
                inputs, or with a first axis of 1.
            end_point (Tensor or tuple[Tensor, ...]): Inputs.
            target (int, tuple, Tensor, list, or Callable, optional): As in
                :meth:`attribute`. Default: None
            additional_forward_args (Any, optional): As in :meth:`attribute`.
                Default: None

        Returns:
            *Tensor*: Zero up to rounding, (B,).
        """
        selected = check_target(target, len(format_tensor_into_tuples(end_point)[0]))

        def scores(*arguments: object) -> Tensor:
            return select_scores(self.forward_func(*arguments), selected)

        return GradientAttribution.compute_convergence_delta(
            PerturbationAttribution(scores),
            attributions,
            start_point,
            end_point,
            additional_forward_args=additional_forward_args,
        )


def _refinement(
    masked: MaskedInputs,
    variant: str | WindowVariant,
    mask_sizes: Sequence[int] | None,
    has_prior: bool,
    field: dict[str, Any],
) -> Refine:
    """Refinement of a variant, and the check that its arguments belong to it."""
    if variant == "field":
        return by_field(masked.inputs, has_prior, mask_sizes, **field)
    check_unused("variant", variant, field)
    if isinstance(variant, str):
        variant = VARIANTS[variant]()
    return by_windows(masked.inputs[0].shape[2:], mask_sizes, variant)


def _masked_inputs(
    inputs: TensorOrTupleOfTensorsGeneric,
    baselines: BaselineType,
    target: TargetType,
    additional_forward_args: object,
    sequences: bool,
) -> MaskedInputs:
    """Inputs of one size that are hidden by the same masks."""
    tensors = check_inputs(inputs)
    _check_shapes(tensors, sequences)
    fills = [(value,) for value in check_baselines(baselines, tensors)]
    target = check_target(target, len(tensors[0]))
    return MaskedInputs(tensors, fills, target, additional_forward_args)


def _check_shapes(tensors: tuple[Tensor, ...], sequences: bool) -> None:
    """Check that inputs are images, video or, if allowed, sequences, of one size."""
    axes = (3, 4, 5) if sequences else (4, 5)
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if len({shape[2:] for shape in shapes}) != 1 or len(shapes[0]) not in axes:
        advice = (
            "leave out variant for sequences (B, C, L)"
            if {len(shape) for shape in shapes} == {3} and not sequences
            else "pass other inputs of the model as additional_forward_args"
        )
        raise ValueError(
            f"inputs must be {'sequences (B, C, L), ' * sequences}images (B, C, H, W) "
            f"or video (B, C, T, H, W), all of one size, got "
            f"{', '.join(map(str, shapes))}; {advice}, and pass one image (C, H, W) as "
            f"{UNBATCHED}."
        )


def _attributions(maps: Tensor, inputs: TensorOrTupleOfTensorsGeneric) -> Any:
    """Attributions in the shape of inputs from maps (B, ...)."""
    values = maps[None, :, None]
    shaped = (expanded_as(values, x) for x in format_tensor_into_tuples(inputs))
    return format_output(is_tuple(inputs), tuple(shaped))
