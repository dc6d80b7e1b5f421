"""Output of commands that explain an image or a video: figures, maps, lines."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from captum_ext._files import replacing, save_figure, write_file
from captum_ext.methods import Method
from captum_ext.subject import Subject
from captum_ext.visualization import (
    color_saliency_figure,
    overlay_figure,
    video_gif,
    video_strip,
)
from captum_ext.visualization.panels import LABEL_SIZE

__all__ = [
    "Passes",
    "add_caption",
    "check_writable",
    "counted_passes",
    "draw_map",
    "print_subject",
    "save_clip",
    "save_map",
    "target_caption",
]


def check_writable(path: Path, suffixes: Sequence[str], argument: str) -> None:
    """Check that a file can be written, before any work.

    Args:
        path (Path): File to write.
        suffixes (sequence of str): Suffixes of the formats that can be written.
        argument (str): Name of the argument, for the error.

    Raises:
        ValueError: If the suffix is not among them or the folder does not exist.
    """
    if path.suffix.lower() not in suffixes:
        raise ValueError(
            f"{argument} must end in {' or '.join(suffixes)}, got {str(path)!r}."
        )
    if not path.resolve().parent.is_dir():
        raise ValueError(
            f"{argument} must be a file in an existing folder, got {str(path)!r}."
        )


def print_subject(subject: Subject) -> None:
    """Print the target with its probability, and the layer if there is one.

    The activation is named if it is not a softmax.

    Args:
        subject (Subject): Subject of the explanation.
    """
    target = subject.target
    activation = subject.classifier.applied_activation
    by = "" if activation == "softmax" else f" (activation: {activation})"
    print(
        f"class {target}, {subject.classifier.class_names[target]}: "
        f"probability {float(subject.class_probabilities[target]):.3f}{by}"
    )
    if subject.map_layer is not None:
        print(f"layer for layer methods: {subject.map_layer.describe()}")


def target_caption(subject: Subject) -> str:
    """Short caption: the target's name, truncated, and its probability.

    Args:
        subject (Subject): Subject of the explanation.

    Returns:
        *str*: Caption that fits below a panel.
    """
    name = subject.classifier.class_names[subject.target]
    return f"{name[:30]}: {float(subject.class_probabilities[subject.target]):.2f}"


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


def draw_map(
    method: Method, subject: Subject, maps: Tensor, caption: str | None = None
) -> Figure:
    """Draw the map of a method next to its image.

    Args:
        method (Method): Method that computed the map.
        subject (Subject): Subject of the explanation.
        maps (Tensor): Map of the method.
        caption (str, optional): Text below the image. Default: None (the target)

    Returns:
        *Figure*: One panel per color if the method is color-wise, otherwise the map
        over the image.
    """
    palette = subject.palette
    if method.colorwise and palette is not None:
        figure = color_saliency_figure(
            subject.image, maps[0], palette.rgb, palette.names
        )
    else:
        maps = method.displayed(maps)
        figure = overlay_figure(subject.image, {method.title: maps}, method.signed)
    return add_caption(figure, caption or target_caption(subject))


def add_caption(figure: Figure, caption: str) -> Figure:
    """Write a caption below the first panel of a figure, which shows the image.

    Args:
        figure (Figure): Figure of :mod:`captum_ext.visualization`.
        caption (str): Text that fits below a panel.

    Returns:
        *Figure*: The same figure.
    """
    figure.axes[0].set_xlabel(caption, fontsize=LABEL_SIZE)
    return figure


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


def save_map(maps: Tensor, path: Path) -> None:
    """Write a map atomically.

    Args:
        maps (Tensor): Map on the CPU.
        path (Path): File that ends in .npy or .pt.
    """
    with replacing(path) as file:
        if path.suffix.lower() == ".npy":
            np.save(file, maps.numpy())
        else:
            torch.save(maps, file)
