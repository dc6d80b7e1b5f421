"""Attributions by the names that the command line knows them by."""

import inspect
from typing import Any, Callable, Mapping, NamedTuple

from captum.attr import Attribution, IntegratedGradients, LayerGradCam, Occlusion
from torch import Tensor, nn

from captum_ext.attr import (
    MCRISE,
    PNRISE,
    RISE,
    BOREx,
    LayerCAMERAS,
    LayerGradCamPlusPlus,
)
from captum_ext.masks import Palette

__all__ = ["METHODS", "Method", "Subject"]


class Subject(NamedTuple):
    """What is explained, and the settings that methods share.

    Args:
        model (nn.Module): Logits (B, classes) of inputs (B, C, H, W).
        layer (nn.Module): The part of the model where layer methods look.
        inputs (Tensor): The picture as the model takes it, (1, C, H, W).
        target (int): The class to explain.
        palette (Palette): Colours for colour-wise methods.
        seed (int): Seed of what a method draws.
        show_progress (bool): Whether a progress bar is shown.
    """

    model: nn.Module
    layer: nn.Module
    inputs: Tensor
    target: int
    palette: Palette
    seed: int = 0
    show_progress: bool = False

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
        colorwise (bool): Whether it returns one map a colour of the palette.
        relief (bool): Whether only differences between pixels have a meaning, so that
            a figure starts at the smallest value.
        layerwise (bool): Whether it looks at the subject's layer, and explains the
            logit in place of the probability.
        reference (bool): Whether it is Captum's own, here for comparison.
        prior (Mapping, optional): The method whose map it refines unless it is given a
            ``prior``: arguments by name, and the method's own name as ``use``.
            None for a method that refines nothing.
    """

    title: str
    summary: str
    attribution: type[Attribution]
    arguments: Callable[[Subject], dict[str, Any]]
    colorwise: bool = False
    relief: bool = False
    layerwise: bool = False
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
            *Tensor*: (1, K, H, W) of K colours if it is colorwise, (1, C, H, W) or
            (1, 1, H, W) at the size of the picture otherwise.
        """
        if self.prior is not None and "prior" not in options:
            use, arguments = self.prior["use"], {**self.prior}
            del arguments["use"]
            options["prior"] = METHODS[use].attribute(subject, **arguments)
        explained = (
            (subject.model, subject.layer)
            if self.layerwise
            else (subject.probabilities,)
        )
        maps = self.attribution(*explained).attribute(
            subject.inputs,
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
    """Windows of a seventh of the picture, moved by half their size."""
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
        layerwise=True,
    ),
    "grad-cam++": Method(
        "Grad-CAM++",
        "where the last layer finds the class, all its places",
        LayerGradCamPlusPlus,
        lambda _: {"relu_attributions": True},
        layerwise=True,
    ),
    "grad-cam": Method(
        "Grad-CAM",
        "where the last layer finds the class (Captum's)",
        LayerGradCam,
        lambda _: {"relu_attributions": True},
        layerwise=True,
        reference=True,
    ),
    "occlusion": Method(
        "Occlusion",
        "how far the score falls where a window is hidden (Captum's)",
        Occlusion,
        lambda subject: _windows(subject) | {"show_progress": subject.show_progress},
        reference=True,
    ),
    "integrated-gradients": Method(
        "Integrated gradients",
        "gradients along the way from a grey picture (Captum's)",
        IntegratedGradients,
        lambda _: {"internal_batch_size": 8},
        reference=True,
    ),
    "mc-rise": Method(
        "MC-RISE",
        "what painting each part in a colour does to the score",
        MCRISE,
        lambda subject: _drawn(subject) | {"colors": subject.palette},
        colorwise=True,
    ),
}
