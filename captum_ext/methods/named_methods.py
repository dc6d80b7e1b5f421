"""Attribution methods by their names on the command line."""

import inspect
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from captum.attr import (
    Attribution,
    GradientAttribution,
    IntegratedGradients,
    LayerAttribution,
    Occlusion,
    Saliency,
)
from torch import Tensor

from captum_ext.attr import (
    MCRISE,
    PNRISE,
    RISE,
    BOREx,
    IterativeMask,
    LayerCAMERAS,
    LayerGradCamPlusPlus,
    MaskingModel,
)
from captum_ext.attr.grad_cam import LayerGradCam
from captum_ext.attr.image_sizes import Size
from captum_ext.subject import Part, Subject

__all__ = ["METHODS", "Method", "occlusion_windows"]


# Lowest values of a map without contrast, in units of its highest.
_UNIFORM = 0.3


class Method(NamedTuple):
    """An attribution method with its arguments.

    Args:
        title (str): Title of its maps in figures and tables.
        summary (str): Description in a few words.
        attribution (type): Attribution class.
        arguments (Callable): Function from a subject to the arguments of ``attribute``
            that depend on it, other than inputs and target.
        built_from (tuple of str, optional): Parts of the subject that are passed to the
            attribution class: its probabilities; the model, whose logits are then
            explained; the model and its layer; or the masking network.
            Default: ("probabilities",)
        colorwise (bool, optional): Whether it returns one map per color of the palette.
            Default: False
        relative (bool, optional): Whether only differences between pixels are
            meaningful, so that figures start at the smallest value. Default: False
        signed (bool, optional): Whether its maps can be negative, so that figures have
            the colors of signed maps. Default: True
        reference (bool, optional): Whether it is one of Captum's own methods, included
            for comparison. Default: False
        mask (bool, optional): Whether its maps are masks in [0, 1], which metrics
            threshold at one half. Default: False
        by_stage (bool, optional): Whether it is built from the last layers of the last
            two stages instead of one layer. Default: False
        prior (Mapping, optional): Method whose map windows refine if no ``prior`` is
            given: its name as ``use``, and its arguments by name. Default: None (the
            method refines no map)
        defaults (Mapping, optional): Defaults of ``attribute`` that differ from those
            of the class, by name. Default: none
    """

    title: str
    summary: str
    attribution: type[Attribution]
    arguments: Callable[[Subject], dict[str, Any]]
    built_from: tuple[Part, ...] = ("probabilities",)
    colorwise: bool = False
    relative: bool = False
    signed: bool = True
    reference: bool = False
    mask: bool = False
    by_stage: bool = False
    prior: Mapping[str, Any] | None = None
    defaults: Mapping[str, Any] = MappingProxyType({})

    def options(self) -> frozenset[str]:
        """Names of the options that :meth:`attribute` accepts."""
        attribute = inspect.unwrap(self.attribution.attribute)
        names = inspect.signature(attribute).parameters
        return frozenset(names) - {"self", "inputs", "target"}

    def default_prior(self, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Method whose map is refined if no prior is among the options.

        The default variant of BOREx, the field, has none: it finds as good a map
        without the passes of another one. The others refine :attr:`prior`.

        Args:
            options (Mapping): Arguments by name.

        Returns:
            *Mapping* or *None*: Its name as ``use``, and its arguments by name.
        """
        return self.prior if options.get("variant", "field") != "field" else None

    @property
    def explains_video(self) -> bool:
        """Whether it explains the video of a subject, with one map."""
        return (
            {*self.built_from} <= {"probabilities", "model"}
            and not self.colorwise
            and self.attribution is not IterativeMask
        )

    def attribute(self, subject: Subject, **options: object) -> Tensor:
        """Compute the attribution map of a subject.

        Args:
            subject (Subject): Image, target and settings.
            **options: Further arguments of the attribution; see :meth:`options`. If
                ``prior`` is missing, it is :meth:`default_prior`.

        Returns:
            *Tensor*: Map at the size of the image: (1, K, H, W) for K colors if the
            method is color-wise, otherwise (1, C, H, W) or (1, 1, H, W).
        """
        found = self._found(subject, options)
        return self._resized(subject, found[0] if isinstance(found, tuple) else found)

    def attribute_with_details(
        self, subject: Subject, **options: object
    ) -> tuple[Tensor, Tensor | dict[Size, bool] | None]:
        """Compute the map of a subject, and what the attribution says about it.

        Args:
            subject (Subject): Image, target and settings.
            **options: As in :meth:`attribute`.

        Returns:
            *tuple[Tensor, Tensor, dict or None]*: Map as in :meth:`attribute`, and its
            standard error in the same shape; or of CAMERAS, whether the prediction held
            at each height and width that it tried.
        """
        if "return_sizes" in self.options():
            maps, (tried,) = self._found(subject, {**options, "return_sizes": True})
            return self._resized(subject, maps), tried
        for extra in {"return_std_error", "return_posterior"} & self.options():
            maps, error = self._found(subject, {**options, extra: True})[:2]
            return self._resized(subject, maps), self._resized(subject, error)
        return self.attribute(subject, **options), None

    @staticmethod
    def _resized(subject: Subject, maps: Tensor) -> Tensor:
        """Maps at the size of the image."""
        size = tuple(subject.inputs.shape[2:])
        if maps.shape[2:] != size:
            maps = LayerAttribution.interpolate(maps, size, "bilinear")
        return maps.detach()

    def _found(self, subject: Subject, options: dict[str, Any]) -> Any:
        """What the attribution returns for a subject."""
        prior = self.default_prior(options)
        if prior is not None and "prior" not in options:
            use, arguments = prior["use"], {**prior}
            del arguments["use"]
            options = {
                **options,
                "prior": METHODS[use].attribute(subject, **arguments),
            }
        explained = [
            subject.layers
            if self.by_stage and part == "layer"
            else subject.explained(part)
            for part in self.built_from
        ]
        # Captum warns if inputs of gradient methods do not require a gradient.
        needs_gradient = issubclass(self.attribution, GradientAttribution)
        defaults = {**self.defaults, **self.arguments(subject)}
        for chosen, replaced in _REPLACED.items():
            if chosen in options:
                defaults = {k: v for k, v in defaults.items() if k not in replaced}
        return self.attribution(*explained).attribute(
            subject.inputs.detach().requires_grad_(needs_gradient),
            target=subject.target,
            **{**defaults, **options},
        )

    def displayed(self, maps: Tensor) -> Tensor:
        """Map as figures show it.

        Args:
            maps (Tensor): Map of :meth:`attribute`, (1, any, H, W), not color-wise.

        Returns:
            *Tensor*: Mean over channels, (1, H, W), shifted to a minimum of 0 if the
            method is relative or the map :meth:`~Method.is_uniform`.
        """
        # Unlike a sum, the mean keeps the unit of maps that are equal in all channels.
        values = maps[0].mean(0, keepdim=True)
        if self.relative:
            return values - values.min()
        floor = self._floor(values)
        return values if floor is None else (values - floor).clamp_min(0)

    def is_uniform(self, maps: Tensor) -> bool:
        """Whether a map is nearly as high at its lowest as at its highest pixels.

        The field of PN-RISE and BOREx is so if hiding any half of the image already
        loses the class.

        Args:
            maps (Tensor): Map of :meth:`attribute`, (1, any, H, W).
        """
        return self._floor(maps[0].mean(0)) is not None

    def _floor(self, values: Tensor) -> float | None:
        """Lowest value of a uniform map, without outliers; None of any other map."""
        if not self.signed or self.colorwise:
            return None
        low, high = np.quantile(values.float().cpu().numpy(), (0.05, 0.99)).tolist()
        return low if low > _UNIFORM * high else None


# Defaults below that make no sense beside an option.
_REPLACED = {
    "feature_mask": ("layout",),
    "grid_size": ("layout",),
    "estimator": ("estimator", "layout", "n_masks", "rtol"),
    "n_masks": ("n_masks", "rtol"),
    "n_iterations": ("n_iterations", "rtol"),
    "variant": ("n_iterations", "rtol"),
}


# The field on superpixels, until errors are small beside the map's range.
_FIELD = {"estimator": "field", "layout": "superpixels", "n_masks": 402, "rtol": 0.3}


def _seeded(subject: Subject) -> dict[str, Any]:
    return {"seed": subject.seed, "show_progress": subject.show_progress}


def _reshape(subject: Subject) -> dict[str, Any]:
    """How the outputs of the subject's layer are rearranged to maps."""
    layer = subject.map_layer
    return {"reshape_transform": None if layer is None else layer.reshape_transform}


def _reshape_stages(subject: Subject) -> dict[str, Any]:
    """How the outputs of each of the subject's layers are rearranged to maps."""
    layer = subject.map_layer
    stages = [] if layer is None else layer.stages
    return {"reshape_transform": [each.reshape_transform for each in stages] or None}


def occlusion_windows(subject: Subject) -> dict[str, Any]:
    """Windows of a seventh of the image's side, moved by half their size.

    Those of a video hide one half of its frames, then the other.

    Args:
        subject (Subject): Image or video.

    Returns:
        *dict*: Arguments of Captum's ``Occlusion``.
    """
    channels, *size = subject.inputs.shape[1:]
    window = [max(1, n // 7) for n in size]
    stride = [max(1, n // 2) for n in window]
    if len(size) == 3:
        window[0] = stride[0] = max(1, size[0] // 2)
    return {
        "sliding_window_shapes": (channels, *window),
        "strides": (channels, *stride),
        "perturbations_per_eval": 4,
    }


METHODS = {
    "pn-rise": Method(
        "PN-RISE",
        "how much each part raises or lowers the score",
        PNRISE,
        _seeded,
        defaults=_FIELD,
    ),
    "rise": Method(
        "RISE",
        "mean score of the images in which a part is kept",
        RISE,
        _seeded,
        relative=True,
        signed=False,
        defaults={"rtol": 0.1},
    ),
    "borex": Method(
        "BOREx",
        "map by a Gaussian process that chooses its masks, or refines another map",
        BOREx,
        _seeded,
        prior={"use": "rise", "n_masks": 100, "grid_size": 8, "keep_probability": 0.3},
        defaults={"n_iterations": 200, "rtol": 0.3},
    ),
    "cameras": Method(
        "CAMERAS",
        "regions of the class in the last layer, sharpened by several image sizes",
        LayerCAMERAS,
        _reshape_stages,
        built_from=("model", "layer"),
        by_stage=True,
        signed=False,
    ),
    "grad-cam++": Method(
        "Grad-CAM++",
        "regions of the class in the last layer, covering all instances",
        LayerGradCamPlusPlus,
        _reshape,
        built_from=("model", "layer"),
        signed=False,
        defaults={"relu_attributions": True},
    ),
    "masking-model": Method(
        "Masking model",
        "mask predicted by a trained network in one forward pass",
        MaskingModel,
        lambda _: {},
        built_from=("masking_network",),
        signed=False,
        mask=True,
    ),
    "iterative-mask": Method(
        "Iterative mask",
        "smallest part that keeps the class and whose removal loses it",
        IterativeMask,
        _seeded,
        signed=False,
        mask=True,
    ),
    "grad-cam": Method(
        "Grad-CAM",
        "regions of the class in the last layer (Captum's)",
        LayerGradCam,
        _reshape,
        built_from=("model", "layer"),
        reference=True,
        signed=False,
        defaults={"relu_attributions": True},
    ),
    "occlusion": Method(
        "Occlusion",
        "drop of the score when a window is hidden (Captum's)",
        Occlusion,
        lambda subject: (
            # Captum's bar would fill a log.
            occlusion_windows(subject)
            | {"show_progress": subject.show_progress and sys.stderr.isatty()}
        ),
        reference=True,
    ),
    "gradient": Method(
        "Gradient",
        "sensitivity of the logit to each pixel (Captum's Saliency)",
        Saliency,
        lambda _: {},
        built_from=("model",),
        reference=True,
        signed=False,
    ),
    "integrated-gradients": Method(
        "Integrated gradients",
        "gradients along the path from a gray image (Captum's)",
        IntegratedGradients,
        lambda _: {},
        reference=True,
        defaults={"internal_batch_size": 8},
    ),
    "mc-rise": Method(
        "MC-RISE",
        "effect on the score of painting each part in a color",
        MCRISE,
        lambda subject: _seeded(subject) | {"colors": subject.palette},
        colorwise=True,
        defaults=_FIELD | {"n_masks": 1000},
    ),
}
