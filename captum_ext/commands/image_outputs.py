"""Output of commands that explain an image or a video: figures and lines."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from captum_ext._files import save_figure, write_file
from captum_ext.attr import MapLayer
from captum_ext.attr.image_sizes import Size
from captum_ext.methods import Method
from captum_ext.subject import Subject
from captum_ext.visualization import (
    beyond_error,
    color_saliency_figure,
    overlay_figure,
    stack_figures,
    video_gif,
    video_strip,
)
from captum_ext.visualization.panels import LABEL_SIZE

__all__ = [
    "FoundMap",
    "Passes",
    "add_caption",
    "add_uniform_caption",
    "counted_passes",
    "draw_colors",
    "draw_maps",
    "draw_overlays",
    "print_layers",
    "print_subject",
    "print_uniform",
    "save_clip",
    "target_caption",
]

_UNIFORM = "colors start at the lowest value"
_NOTHING = "nothing exceeds its error"


def print_subject(subject: Subject, methods: Iterable[Method], image: str = "") -> None:
    """Print the target with its probability, and the layers that methods use.

    The activation is named if it is not a softmax.

    Args:
        subject (Subject): Subject of the explanation.
        methods (iterable of Method): Methods that explain it.
        image (str, optional): Name of the image. Default: "" (not printed)
    """
    activation = subject.classifier.applied_activation
    by = "" if activation == "softmax" else f" (activation: {activation})"
    classes = [subject.target]
    if subject.against is not None:
        classes.append(subject.against)
    found = [
        f"class {i}, {subject.classifier.class_names[i]}: "
        f"probability {float(subject.class_probabilities[i]):.3f}"
        for i in classes
    ]
    name = f"{image}: " if image else ""
    print(f"{name}{', against '.join(found)}{by}", flush=True)
    if subject.map_layer is not None:
        print_layers(subject.map_layer, methods)


def print_layers(layer: MapLayer, methods: Iterable[Method]) -> None:
    """Print the layers that methods use.

    Args:
        layer (MapLayer): Layer of the model.
        methods (iterable of Method): Methods, also those without a layer.
    """
    stages = [each.describe() for each in layer.stages]
    users = [method for method in methods if "layer" in method.built_from]
    staged = [m.title for m in users if m.by_stage and len(stages) > 1]
    if len(staged) < len(users):
        print(f"layer for layer methods: {stages[-1]}", flush=True)
    if staged:
        print(
            f"layers for {', '.join(dict.fromkeys(staged))}: {' and '.join(stages)}",
            flush=True,
        )


def print_uniform(method: Method, title: str, maps: Tensor) -> None:
    """Print how a uniform map is drawn.

    Args:
        method (Method): Method of the map.
        title (str): Title of the map.
        maps (Tensor): Map (1, any, H, W).
    """
    if method.is_uniform(maps):
        print(
            f"{title}: every part of the image counts nearly the same; {_UNIFORM}",
            flush=True,
        )


def target_caption(subject: Subject) -> str:
    """Short caption: the target's name, truncated, and its probability.

    Args:
        subject (Subject): Subject of the explanation.

    Returns:
        *str*: Caption that fits below a panel, a second line with the class that the
        target is compared with, if there is one.
    """
    caption = _named(subject, subject.target)
    if subject.against is None:
        return caption
    return f"{caption}\nagainst {_named(subject, subject.against)}"


def _named(subject: Subject, index: int) -> str:
    name = subject.classifier.class_names[index]
    return f"{name[:30]}: {float(subject.class_probabilities[index]):.2f}"


class Passes:
    """Number of images that a model has scored."""

    number = 0


@contextmanager
def counted_passes(model: nn.Module) -> Iterator[Passes]:
    """Count the images that pass through a model.

    Args:
        model (nn.Module): The model.

    Yields:
        *Passes*: The number so far.
    """
    passes = Passes()

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        passes.number += len(inputs[0])

    handle = model.register_forward_hook(count)
    try:
        yield passes
    finally:
        handle.remove()


class FoundMap(NamedTuple):
    """The map of a method, and how figures show it.

    Args:
        method (Method): The method.
        maps (Tensor): Its map (1, any, H, W).
        details (Tensor or dict, optional): What the method says about the map, see
            :meth:`Method.attribute_with_details`; a tensor is its standard error.
            Default: None
        options (Mapping, optional): Arguments of the method by name. Default: none
    """

    method: Method
    maps: Tensor
    details: Tensor | dict[Size, bool] | None = None
    options: Mapping[str, Any] = MappingProxyType({})

    @property
    def error(self) -> Tensor | None:
        """Standard error of the map, in its shape."""
        return self.details if isinstance(self.details, Tensor) else None

    @property
    def is_reduced(self) -> bool:
        """Whether figures show the map reduced by its standard error.

        Not without a meaningful zero, and not of BOREx's windows, whose deviation is
        that of a window's score instead of a pixel's value.
        """
        field = self.options.get("variant", "field") == "field"
        return self.error is not None and field and not self.method.relative

    def shown(self) -> Tensor:
        """Map (1, H, W), or (K, H, W) of K colors, as figures show it."""
        colorwise = self.method.colorwise
        values = self.maps[0] if colorwise else self.method.displayed(self.maps)
        if self.error is None or not self.is_reduced:
            return values
        error = self.error[0]
        return beyond_error(values, error if colorwise else error.mean(0, keepdim=True))


def draw_maps(subject: Subject, found: Mapping[str, FoundMap]) -> Figure | Image.Image:
    """Draw the maps of methods next to their image.

    Args:
        subject (Subject): Subject of the explanation.
        found (Mapping[str, FoundMap]): Maps by title.

    Returns:
        *Figure or PIL.Image.Image*: Figure with a panel for each method, or for each
        color of a color-wise method; an image of several such figures if there are
        color-wise methods and others.
    """
    plain = {t: each for t, each in found.items() if not each.method.colorwise}
    figures = [draw_overlays(subject, plain)] if plain else []
    figures += [
        add_caption(draw_colors(subject, each.shown()), target_caption(subject))
        for each in found.values()
        if each.method.colorwise
    ]
    return figures[0] if len(figures) == 1 else stack_figures(figures)


def draw_overlays(subject: Subject, found: Mapping[str, FoundMap]) -> Figure:
    """Draw the maps of methods that are not color-wise next to their image.

    Args:
        subject (Subject): Subject of the explanation.
        found (Mapping[str, FoundMap]): Maps by title.

    Returns:
        *Figure*: Figure with a panel for each method.
    """
    shown = {title: each.shown() for title, each in found.items()}
    signed = any(each.method.signed for each in found.values())
    figure = overlay_figure(subject.image, shown, signed)
    for panel, (title, each) in enumerate(found.items(), 1):
        add_uniform_caption(figure, each.method, each.maps, panel)
        if each.is_reduced and not shown[title].any():
            add_caption(figure, _NOTHING, panel)
    return add_caption(figure, target_caption(subject))


def draw_colors(subject: Subject, maps: Tensor) -> Figure:
    """Draw the maps of a color-wise method, a panel for each color.

    Args:
        subject (Subject): Subject with a palette.
        maps (Tensor): Maps, (K, H, W).

    Returns:
        *Figure*: Figure.
    """
    palette = subject.palette
    assert palette is not None
    return color_saliency_figure(subject.image, maps, palette.rgb, palette.names)


def add_caption(figure: Figure, caption: str, panel: int = 0) -> Figure:
    """Write a caption below a panel of a figure.

    Args:
        figure (Figure): Figure of :mod:`captum_ext.visualization`.
        caption (str): Text that fits below a panel.
        panel (int, optional): Number of the panel. Default: 0 (that of the image)

    Returns:
        *Figure*: The same figure.
    """
    # The margin has just enough space for two lines.
    pad = 2 if "\n" in caption else 4
    axes = figure.axes[panel]
    axes.set_xlabel(caption, fontsize=LABEL_SIZE, labelpad=pad)
    axes.xaxis.label.set_linespacing(1.1)
    return figure


def add_uniform_caption(
    figure: Figure, method: Method, maps: Tensor, panel: int
) -> None:
    """Write below a panel that its colors are those of a uniform map, if they are.

    Args:
        figure (Figure): Figure of :mod:`captum_ext.visualization`.
        method (Method): Method of the map.
        maps (Tensor): Map (1, any, H, W).
        panel (int): Number of the panel.
    """
    if method.is_uniform(maps):
        add_caption(figure, _UNIFORM, panel)


def save_clip(subject: Subject, maps: Tensor, output: Path) -> None:
    """Draw the map of a video as a strip of frames, and as an animated GIF beside it.

    Args:
        subject (Subject): Subject of the explanation, a video.
        maps (Tensor): Map (any, T, H, W).
        output (Path): File of the strip.
    """
    label = f"attribution, {target_caption(subject)}"
    save_figure(video_strip(subject.image, maps, label=label), output)
    write_file(video_gif(subject.image, maps), output.with_suffix(".gif"))
