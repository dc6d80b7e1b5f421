"""Subject of an explanation: an image or a video, its class, settings of methods."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from captum_ext._suggestions import did_you_mean
from captum_ext.attr import MapLayer
from captum_ext.attr.layers import check_gradients
from captum_ext.attr.map_layer import map_layer
from captum_ext.masks import Palette, named_palette
from captum_ext.zoo import ZooModel
from captum_ext.zoo.black_box import check_inside

if TYPE_CHECKING:
    from captum_ext.masking import MaskingNetwork

__all__ = ["Part", "Subject", "build_subject", "check_parts"]

Part = Literal["probabilities", "model", "layer", "masking_network"]
"""Part of a subject that an attribution is built from."""

# Of a model that returns probabilities, the logarithms are compared.
_LEAST_PROBABILITY = 1e-6


class Subject(NamedTuple):
    """An image or a video, the class to explain, and the settings that methods share.

    Args:
        classifier (ZooModel): Classifier to explain, with its masking network if a
            method needs one.
        inputs (Tensor): Normalized image (1, C, H, W) or video (1, C, T, H, W), on the
            classifier's device.
        target (int): Class to explain.
        class_probabilities (Tensor): Probabilities of the image's classes, (classes,),
            on the CPU.
        palette (Palette, optional): Colors for color-wise methods; None for a model of
            other channels than RGB.
        map_layer (MapLayer, optional): Layer that layer methods use. Default: None (no
            method needs one)
        seed (int, optional): Seed of random methods. Default: 0
        show_progress (bool, optional): Whether methods show progress bars.
            Default: False
        against (int, optional): Class that the target is compared with: what is
            explained is then the logit of the target minus that of this class.
            Default: None (the target alone)
    """

    classifier: ZooModel
    inputs: Tensor
    target: int
    class_probabilities: Tensor
    palette: Palette | None
    map_layer: MapLayer | None = None
    seed: int = 0
    show_progress: bool = False
    against: int | None = None

    @property
    def model(self) -> nn.Module:
        """Model that maps inputs (B, C, ...) to logits, or to an object with them."""
        return self.classifier.model

    @property
    def layer(self) -> nn.Module:
        """Layer of the model that layer methods use, the model itself if none."""
        return self.model if self.map_layer is None else self.map_layer.layer

    @property
    def layers(self) -> list[nn.Module]:
        """The layer and the finer one of the stage before, if it is known."""
        if self.map_layer is None:
            return [self.model]
        return [each.layer for each in self.map_layer.stages]

    @property
    def masking_network(self) -> "MaskingNetwork | None":
        """Masking network trained for the model, if there is one."""
        return self.classifier.masking_network

    @property
    def image(self) -> Tensor:
        """Image or video as the model sees it, (3, ...) or (1, ...) in [0, 1].

        Of more than three channels the first three are shown as red, green and blue, of
        two channels the first one.
        """
        channels = self.classifier.denormalize(self.inputs[0])
        return channels[:3] if len(channels) >= 3 else channels[:1]

    @property
    def logits(self) -> nn.Module:
        """Module that returns logits (B, classes), for methods that look inside."""
        return _Logits(self.classifier)

    def probabilities(self, inputs: Tensor) -> Tensor:
        """Probabilities (B, classes), which black-box methods explain."""
        return self.classifier.probabilities(self.model(inputs))

    def explained(self, part: Part) -> Any:
        """What an attribution is built from; its target is :attr:`target`.

        Args:
            part (str): Part that the attribution needs.

        Returns:
            *Any*: Function or module that returns scores (B, classes), logits minus
            that of the other class if the target is compared; the layer; or the
            network.
        """
        if part in ("model", "probabilities") and self.against is not None:
            return _Logits(self.classifier, self.against)
        return self.logits if part == "model" else getattr(self, part)


class _Logits(nn.Module):
    """The model of a classifier, with logits (B, classes) as its output.

    With a class to compare with, its logit is subtracted from all. The most probable
    class stays the same, which CAMERAS compares between sizes.
    """

    def __init__(self, classifier: ZooModel, against: int | None = None) -> None:
        super().__init__()
        self.model = classifier.model
        self._classifier, self._against = classifier, against
        # A new module is in training mode.
        self.training = classifier.model.training

    def forward(self, inputs: Tensor) -> Tensor:
        logits = self._classifier.logits(self.model(inputs))
        if self._against is None:
            return logits
        if self._classifier.applied_activation == "identity":
            logits = logits.clamp_min(_LEAST_PROBABILITY).log()
        return logits - logits[:, self._against, None]


def build_subject(
    classifier: ZooModel,
    inputs: Tensor,
    target: int | Collection[int] | None = None,
    *,
    parts: Collection[Part] = (),
    layer: str | MapLayer | None = None,
    colors: int | Sequence[str] | None = None,
    seed: int = 0,
    show_progress: bool = False,
) -> Subject:
    """Build the subject of an explanation. One forward pass computes the probabilities.

    Args:
        classifier (ZooModel): Classifier to explain, with its masking network if a
            method needs one.
        inputs (Tensor): Image as ``classifier.preprocess`` returns it, (C, H, W), or
            a video of such frames, (C, T, H, W), for a classifier of video.
        target (int or collection of int, optional): Class to explain; of several, the
            most probable one. Default: None (the most probable class)
        parts (collection of str, optional): Parts that methods need; see ``built_from``
            of :class:`~captum_ext.methods.Method`. Default: ()
        layer (str or MapLayer, optional): Layer that layer methods use, or its name.
            Default: None (the last one that has maps, if a method needs a layer)
        colors (int or sequence of str, optional): Colors for color-wise methods of a
            model of RGB images; see :func:`~captum_ext.masks.named_palette`.
            Default: None (5 colors if the model has 3 channels)
        seed (int, optional): Seed of random methods. Default: 0
        show_progress (bool, optional): Whether methods show progress bars.
            Default: False

    Returns:
        *Subject*: Subject on the classifier's device.

    Raises:
        ValueError: If the classifier lacks a part, the layer does not exist, or a color
            is unknown or given for a model of other channels than RGB.

    Examples::

        >>> from captum_ext.methods import METHODS
        >>> from captum_ext.zoo import load, sign_scene
        >>> signs, scene = load("signs"), sign_scene(0)
        >>> method = METHODS["grad-cam++"]
        >>> inputs = signs.normalize(scene.image)
        >>> subject = build_subject(signs, inputs, parts=method.built_from)
        >>> subject.map_layer.name, subject.target == scene.label
        ('features', True)
        >>> method.attribute(subject).shape
        torch.Size([1, 1, 96, 96])
    """
    check_parts(classifier, parts, layer if isinstance(layer, str) else None)
    palette = _palette(classifier, colors)
    device = next(classifier.model.parameters(), inputs).device
    is_video = inputs.dim() == 4
    batch = inputs[None].to(
        device,
        memory_format=torch.channels_last_3d if is_video else torch.channels_last,
    )
    with torch.no_grad():
        probabilities = classifier.probabilities(classifier.model(batch))[0].cpu()
    candidates = torch.arange(len(probabilities))
    if target is not None:
        candidates = candidates[[target] if isinstance(target, int) else [*target]]
    if isinstance(layer, str) or (layer is None and "layer" in parts):
        layer = map_layer(classifier.model, batch, layer)
    return Subject(
        classifier,
        batch,
        int(candidates[probabilities[candidates].argmax()]),
        probabilities,
        palette,
        layer,
        seed,
        show_progress,
    )


def _palette(
    classifier: ZooModel, colors: int | Sequence[str] | None
) -> Palette | None:
    """Named colors for a model of RGB images."""
    n_channels = len(classifier.mean)
    if n_channels == 3:
        return named_palette(
            5 if colors is None else colors, classifier.mean, classifier.std
        )
    if colors is None:
        return None
    raise ValueError(
        f"colors of mc-rise must be a tensor (K, {n_channels}) in the model's "
        f"channels, got names of RGB colors: call MCRISE(model).attribute(inputs, "
        f"colors) in Python."
    )


def check_parts(
    classifier: ZooModel, parts: Collection[Part], layer: str | None = None
) -> None:
    """Check that a classifier has the parts that methods need.

    Args:
        classifier (ZooModel): Classifier to explain.
        parts (collection of str): Parts that methods need.
        layer (str, optional): Name of the layer that layer methods use.
            Default: None (not checked)

    Raises:
        ValueError: If the masking network is missing, the layer does not exist, or a
            layer or gradient is needed of a black box, or a layer of a model that is
            scripted or quantized.
    """
    if {"model", "layer"} & {*parts}:
        check_inside(classifier.model)
    if "masking_network" in parts and classifier.masking_network is None:
        raise ValueError(
            "masking_network must be given for masking-model by "
            "ZooModel.with_masking_network, got none."
        )
    if "layer" in parts:
        check_gradients(classifier.model)
    names = [name for name, _ in classifier.model.named_modules() if name]
    if layer and layer not in names:
        raise ValueError(
            f"layer must be a part of the model such as {', '.join(names[-3:])}, got "
            f"{layer!r}{did_you_mean(layer, names)}."
        )
