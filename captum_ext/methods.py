"""Attributions by the names that the command line knows them by."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from captum.attr import (
    Attribution,
    GradientAttribution,
    IntegratedGradients,
    LayerGradCam,
    Occlusion,
    Saliency,
)
from torch import Tensor, nn

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
from captum_ext.masking import MaskingNetwork
from captum_ext.masks import Palette

__all__ = ["METHODS", "Method", "Part", "Subject"]

Part = Literal["probabilities", "model", "layer", "masking_network"]


class Subject(NamedTuple):
    """What is explained, and the settings that methods share.

    Args:
        model (nn.Module): Logits (B, classes) of inputs (B, C, H, W).
        layer (nn.Module): The part of the model where layer methods look.
        inputs (Tensor): The image as the model takes it, (1, C, H, W).
        target (int): The class to explain.
        palette (Palette): Colors for color-wise methods.
        seed (int): Seed of what a method draws.
        show_progress (bool): Whether a progress bar is shown.
        masking_network (MaskingNetwork, optional): Trained for the model, for methods
            that ask it.
    """

    model: nn.Module
    layer: nn.Module
    inputs: Tensor
    target: int
    palette: Palette
    seed: int = 0
    show_progress: bool = False
    masking_network: MaskingNetwork | None = None

    def probabilities(self, inputs: Tensor) -> Tensor:
        """Softmax probabilities (B, classes), which black-box methods explain."""
        return self.model(inputs).softmax(1)


class Method(NamedTuple):
    """An attribution by name.

    Args:
        title (str): As it stands above a map.
        summary (str): What it does, in a few words.
        attribution (type): The attribution class.
        arguments (Callable): The arguments that ``attribute`` gets for a subject
            beside inputs and target.
        built_from (tuple of str): The parts of a subject that the attribution is made
            of: its probabilities; the model, whose logits are explained then; the
            model and its layer; or the masking network.
        colorwise (bool): Whether it returns one map a color of the palette.
        relief (bool): Whether only differences between pixels have a meaning, so that
            a figure starts at the smallest value.
        reference (bool): Whether it is Captum's own, here for comparison.
        prior (Mapping, optional): The method whose map it refines unless it is given a
            ``prior``: arguments by name, and the method's own name as ``use``.
            None for a method that refines nothing.
    """

    title: str
    summary: str
    attribution: type[Attribution]
    arguments: Callable[[Subject], dict[str, Any]]
    built_from: tuple[Part, ...] = ("probabilities",)
    colorwise: bool = False
    relief: bool = False
    reference: bool = False
    prior: Mapping[str, Any] | None = None

    def options(self) -> frozenset[str]:
        """Names of the arguments of ``attribute`` that :meth:`attribute` passes on."""
        attribute = inspect.unwrap(self.attribution.attribute)
        names = inspect.signature(attribute).parameters
        return frozenset(names) - {"self", "inputs", "target"}

    def attribute(self, subject: Subject, **options: object) -> Tensor:
        """The map of a subject.

        Args:
            subject (Subject): What is explained.
            **options: Further arguments of the attribution, of :meth:`options`.
                Without ``prior``, a method that refines a map is given one.

        Returns:
            *Tensor*: (1, K, H, W) of K colors if it is colorwise, (1, C, H, W) or
            (1, 1, H, W) at the size of the image otherwise.
        """
        if self.prior is not None and "prior" not in options:
            use, arguments = self.prior["use"], {**self.prior}
            del arguments["use"]
            options["prior"] = METHODS[use].attribute(subject, **arguments)
        explained = [getattr(subject, part) for part in self.built_from]
        # Without a gradient of the inputs Captum warns that it has to ask for one.
        asks_gradient = issubclass(self.attribution, GradientAttribution)
        maps = self.attribution(*explained).attribute(
            subject.inputs.detach().requires_grad_(asks_gradient),
            target=subject.target,
            **{**self.arguments(subject), **options},
        )
        size = subject.inputs.shape[2:]
        if maps.shape[2:] != size:
            maps = LayerGradCam.interpolate(maps, tuple(size), "bilinear")
        return maps.detach()


def _drawn(subject: Subject) -> dict[str, Any]:
    return {"seed": subject.seed, "show_progress": subject.show_progress}


def _windows(subject: Subject) -> dict[str, Any]:
    """Windows of a seventh of the image, moved by half their size."""
    channels, *size = subject.inputs.shape[1:]
    window = [max(1, n // 7) for n in size]
    stride = [max(1, n // 2) for n in window]
    return {
        "sliding_window_shapes": (channels, *window),
        "strides": (channels, *stride),
        "perturbations_per_eval": 4,
    }


METHODS = {
    "pn-rise": Method(
        "PN-RISE",
        "what each part adds to the score, or takes away",
        PNRISE,
        _drawn,
    ),
    "rise": Method(
        "RISE",
        "how high the score is while a part is kept",
        RISE,
        _drawn,
        relief=True,
    ),
    "borex": Method(
        "BOREx",
        "another method's map, refined by windows that a Gaussian process chooses",
        BOREx,
        _drawn,
        prior={"use": "rise", "n_masks": 100, "grid_size": 8, "keep_probability": 0.3},
    ),
    "cameras": Method(
        "CAMERAS",
        "where the last layer finds the class, sharp: several sizes fused",
        LayerCAMERAS,
        lambda _: {},
        built_from=("model", "layer"),
    ),
    "grad-cam++": Method(
        "Grad-CAM++",
        "where the last layer finds the class, all its places",
        LayerGradCamPlusPlus,
        lambda _: {"relu_attributions": True},
        built_from=("model", "layer"),
    ),
    "masking-model": Method(
        "Masking model",
        "the part that a network trained for it finds, in one forward pass",
        MaskingModel,
        lambda _: {},
        built_from=("masking_network",),
    ),
    "iterative-mask": Method(
        "Iterative mask",
        "the part that suffices and is missed, found step by step",
        IterativeMask,
        _drawn,
    ),
    "grad-cam": Method(
        "Grad-CAM",
        "where the last layer finds the class (Captum's)",
        LayerGradCam,
        lambda _: {"relu_attributions": True},
        built_from=("model", "layer"),
        reference=True,
    ),
    "occlusion": Method(
        "Occlusion",
        "how far the score falls where a window is hidden (Captum's)",
        Occlusion,
        lambda subject: _windows(subject) | {"show_progress": subject.show_progress},
        reference=True,
    ),
    "gradient": Method(
        "Gradient",
        "how much the logit changes with each pixel (Captum's Saliency)",
        Saliency,
        lambda _: {},
        built_from=("model",),
        reference=True,
    ),
    "integrated-gradients": Method(
        "Integrated gradients",
        "gradients along the way from a gray image (Captum's)",
        IntegratedGradients,
        lambda _: {"internal_batch_size": 8},
        reference=True,
    ),
    "mc-rise": Method(
        "MC-RISE",
        "what painting each part in a color does to the score",
        MCRISE,
        lambda subject: _drawn(subject) | {"colors": subject.palette},
        colorwise=True,
    ),
}
