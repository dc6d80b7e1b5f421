"""One image on the command line: what is asked of it, and what is written."""

import argparse
import sys
from collections.abc import Collection, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from captum_ext import zoo
from captum_ext._files import save_tensors, write_file
from captum_ext._processes import local_device
from captum_ext._validation import check_layer_name, check_masking_network
from captum_ext.attr import last_map_layer
from captum_ext.commands.networks import (
    DEFAULT_MODEL,
    add_classifier_options,
    add_masking_network_option,
    read_masking_network,
)
from captum_ext.masking import MaskingNetwork
from captum_ext.masks import named_palette
from captum_ext.methods import METHODS, Method, Part, Subject
from captum_ext.visualization import color_saliency_figure, overlay_figure
from captum_ext.visualization.panels import LABEL_SIZE

__all__ = [
    "COLORS",
    "add_image_options",
    "Asked",
    "asked_subject",
    "captioned",
    "check_outputs",
    "check_parts",
    "check_writable",
    "map_figure",
    "open_image",
    "save_map",
    "shown_values",
    "subject_of",
]

COLORS = "red,green,blue,black,white"
"""Colors for MC-RISE where none are named."""


def add_image_options(command: argparse.ArgumentParser, written: str) -> None:
    """Add what is asked wherever one image is explained.

    Args:
        command (argparse.ArgumentParser): Of the command.
        written (str): What stands in the file of ``--save-map``.
    """
    add = command.add_argument
    add("image", type=Path, help="image file (JPEG, PNG, ...)")
    add_classifier_options(command, default=DEFAULT_MODEL)
    add_masking_network_option(command)
    add(
        "--target",
        default="top1",
        metavar="INDEX|NAME|top1",
        help="class to explain: its number, its name or a part of it, or top1, the "
        "most probable one (default: %(default)s)",
    )
    add(
        "-o",
        "--output",
        type=Path,
        metavar="OUT.png",
        help="figure to write (default: the image's name with -METHOD.png)",
    )
    add(
        "--save-map",
        type=Path,
        metavar="MAP.npy|.pt",
        help=f"also write the map itself, {written}",
    )
    add(
        "--layer",
        metavar="NAME",
        help="where layer methods look, a name within the model such as layer4 or "
        "features.18 (default: the last convolutional one)",
    )
    add("--seed", type=int, default=0, help="of all that is drawn (default: 0)")


class Asked(NamedTuple):
    """What to explain.

    Attributes:
        subject (Subject): As methods take it.
        image (Tensor): (3, H, W) in [0, 1], as the model sees it.
        words (str): The class, shortened, and its probability.
    """

    subject: Subject
    image: Tensor
    words: str


def subject_of(
    entry: zoo.ZooModel,
    inputs: Tensor,
    target: str | int,
    built_from: Collection[Part],
    *,
    layer: str | None = None,
    masking_network: MaskingNetwork | None = None,
    colors: str = COLORS,
    seed: int = 0,
) -> Asked:
    """What to explain, as words say it.

    Args:
        entry (ZooModel): What is explained.
        inputs (Tensor): The image as the model takes it, (3, H, W).
        target (str or int): Class by number or name, or "top1".
        built_from (collection of str): Parts that methods will need. The layer is
            found and printed if it is one.
        layer (str, optional): Where layer methods look. Default: None (the last that
            returns maps)
        masking_network (MaskingNetwork, optional): For methods that ask one.
            Default: None
        colors (str, optional): Names of colors, separated by commas.
        seed (int, optional): Of what methods draw. Default: 0

    Returns:
        *Asked*: The class is printed as well.

    Raises:
        ValueError: If a class, a layer or a color is not known, or the masking
            network is not one of the model.
    """
    needed = "masking_network" in built_from
    check_masking_network(masking_network, len(entry.class_names), needed)
    device = local_device()
    model = entry.model.to(device).to(memory_format=torch.channels_last)
    image = entry.denormalize(inputs)
    batch = inputs[None].to(device, memory_format=torch.channels_last)
    with torch.no_grad():
        probabilities = model(batch).softmax(1)[0]
    index = (
        int(probabilities.argmax())
        if target == "top1"
        else zoo.find_class(entry.class_names, target)
    )
    name, probability = entry.class_names[index], float(probabilities[index])
    print(f"class {index}, {name}: probability {probability:.3f}")
    palette = named_palette(colors.split(","), entry.mean, entry.std)
    part = model
    if "layer" in built_from:
        if layer is None:
            layer, part = last_map_layer(model, batch)
        else:
            part = check_layer_name("--layer", layer, model)
        print(f"layer of layer methods: {layer}")
    subject = Subject(
        model,
        part,
        batch,
        index,
        palette,
        seed,
        sys.stderr.isatty(),
        masking_network and masking_network.to(device),
    )
    return Asked(subject, image, f"{name[:30]}: {probability:.2f}")


def check_outputs(options: argparse.Namespace, what: str) -> Path:
    """Refuse files that could not be written in the end.

    Args:
        options (argparse.Namespace): Of :func:`add_image_options`.
        what (str): What the figure shows, for its name if none is asked for.

    Returns:
        *Path*: Of the figure.

    Raises:
        ValueError: If a suffix or a folder is not one that can be written.
    """
    output = options.output or Path(f"{options.image.stem}-{what}.png")
    check_writable(output, (".png", ".jpg", ".pdf", ".svg"), "--output")
    if options.save_map:
        check_writable(options.save_map, (".npy", ".pt"), "--save-map")
    return output


def asked_subject(
    options: argparse.Namespace, built_from: Collection[Part], colors: str = COLORS
) -> Asked:
    """What the options of :func:`add_image_options` ask for, read from its files.

    Args:
        options (argparse.Namespace): Of the command.
        built_from (collection of str): Parts that methods will need.
        colors (str, optional): Names of colors, separated by commas.

    Returns:
        *Asked*: As :func:`subject_of`.

    Raises:
        ValueError: If a file is missing or holds something else, or as
            :func:`subject_of`.
    """
    network = read_masking_network(vars(options), built_from)
    opened = open_image(options.image)
    entry = zoo.load(options.model, options.weights)
    return subject_of(
        entry,
        entry.preprocess(opened),
        options.target,
        built_from,
        layer=options.layer,
        masking_network=network,
        colors=colors,
        seed=options.seed,
    )


def check_parts(
    built_from: Collection[Part], options: argparse.Namespace, name: str
) -> None:
    """Refuse options for parts that a method has no use for.

    Args:
        built_from (collection of str): Parts that the method needs.
        options (argparse.Namespace): With layer and masking_network.
        name (str): Of the method, as it stands in the error.

    Raises:
        ValueError: If one is given that the method is not built from.
    """
    for part in ("layer", "masking_network"):
        if getattr(options, part) is not None and part not in built_from:
            takers = [n for n, m in METHODS.items() if part in m.built_from]
            raise ValueError(
                f"--{part.replace('_', '-')} must go with methods among "
                f"{', '.join(takers)}, got {name!r}."
            )


def map_figure(method: Method, asked: Asked, maps: Tensor) -> Figure:
    """The figure of a method's map.

    Args:
        method (Method): What made the map.
        asked (Asked): What was explained.
        maps (Tensor): What the method returned.

    Returns:
        *Figure*: Color by color, or the image and the map over it.
    """
    if method.colorwise:
        palette = asked.subject.palette
        figure = color_saliency_figure(asked.image, maps[0], palette.rgb, palette.names)
    else:
        shown = {method.title: shown_values(method, maps)}
        figure = overlay_figure(asked.image, shown)
    return captioned(figure, asked.words)


def captioned(figure: Figure, words: str) -> Figure:
    """A figure whose first panel, the image, says what is explained.

    Args:
        figure (Figure): Of :mod:`captum_ext.visualization`.
        words (str): Short enough for a panel.

    Returns:
        *Figure*: The same.
    """
    figure.axes[0].set_xlabel(words, fontsize=LABEL_SIZE)
    return figure


def shown_values(method: Method, maps: Tensor) -> Tensor:
    """Values of a map as a figure shows them.

    Args:
        method (Method): What made the map.
        maps (Tensor): What the method returned, (1, any, H, W).

    Returns:
        *Tensor*: (1, H, W).
    """
    # The mean keeps the unit of maps that are equal in all channels.
    shown = maps[0].mean(0, keepdim=True)
    return shown - shown.min() if method.relief else shown


def open_image(path: Path) -> Image.Image:
    """An image file, upright as its camera says.

    Args:
        path (Path): Of the file.

    Returns:
        *PIL.Image.Image*: RGB.

    Raises:
        ValueError: If it does not exist or is no image.
    """
    if not path.is_file():
        raise ValueError(f"image {str(path)!r} does not exist.")
    try:
        return ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(
            f"image {str(path)!r} cannot be read as an image ({error})."
        ) from error


def check_writable(path: Path, suffixes: Sequence[str], argument: str) -> None:
    """Refuse a file that could not be written in the end.

    Args:
        path (Path): To be written.
        suffixes (sequence of str): Formats that can be written.
        argument (str): As it stands in the error.

    Raises:
        ValueError: If the suffix is another, or there is no such folder.
    """
    if path.suffix.lower() not in suffixes:
        raise ValueError(
            f"{argument} must end in {' or '.join(suffixes)}, got {str(path)!r}."
        )
    if not path.resolve().parent.is_dir():
        raise ValueError(f"{argument} {str(path)!r} lies in no existing folder.")


def save_map(maps: Tensor, path: Path) -> None:
    """Write a map whole or not at all.

    Args:
        maps (Tensor): On the CPU.
        path (Path): Ends in .npy or .pt.
    """
    if path.suffix.lower() == ".npy":
        buffer = BytesIO()
        np.save(buffer, maps.numpy())
        write_file(buffer.getvalue(), path)
    else:
        save_tensors(maps, path)
