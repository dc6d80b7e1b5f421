"""Options of commands that explain an image or a video, and their subject."""

import argparse
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from captum_ext import zoo
from captum_ext._validation import check_integer
from captum_ext.commands.model_options import (
    DEFAULT_MODEL,
    add_classifier_options,
    add_masking_network_option,
)
from captum_ext.datasets.clip_files import is_clip, read_frames
from captum_ext.datasets.image_files import open_image
from captum_ext.methods import METHODS
from captum_ext.subject import Part, Subject, build_subject

__all__ = [
    "COLORS",
    "add_image_options",
    "check_clip_method",
    "check_part_options",
    "find_subject",
    "find_target",
    "read_images",
]

COLORS = "red,green,blue,black,white"
"""Colors of MC-RISE by default."""

# The least number that the grid of BOREx's prior divides.
_N_FRAMES, _LEAST_FRAMES = 16, 8


def add_image_options(
    command: argparse.ArgumentParser, map_shape: str, several: bool = False
) -> None:
    """Add the options that commands for images and videos share.

    Args:
        command (argparse.ArgumentParser): Parser of the command.
        map_shape (str): Shape of the map in the file of --save-map.
        several (bool, optional): Whether the command takes several images.
            Default: False
    """
    add = command.add_argument
    folder = ", a folder of images" if several else ""
    add(
        "image",
        type=Path,
        nargs="+" if several else 1,
        help=f"image file (JPEG, PNG, ...){folder} or video: .mp4, .avi and the like "
        "(with the extra video), an animated .gif, or .npz with an array frames "
        "(T, H, W, 3) uint8",
    )
    add(
        "--frames",
        type=int,
        metavar="N",
        help="number of evenly spaced frames of a video that are explained; the model "
        f"is averaged over them (default: {_N_FRAMES})",
    )
    add_classifier_options(command, default=DEFAULT_MODEL)
    add_masking_network_option(command)
    add(
        "--target",
        default="top1",
        metavar="INDEX|NAME|topN",
        help="class to explain: its index, its name or a part of its name, or topN for "
        "the Nth most probable class (default: %(default)s)",
    )
    add(
        "-o",
        "--output",
        type=Path,
        metavar="OUT.png|FOLDER",
        help="figure (.png, .jpg, .pdf, .svg), or folder for IMAGE-METHOD.png; of a "
        "video, frames with the map, and a .gif (default: in the current folder)",
    )
    add(
        "--save-map",
        type=Path,
        metavar="MAP.npy|.pt|FOLDER",
        help=f"also write the map, or IMAGE-METHOD.npy in the folder: {map_shape}",
    )
    add(
        "--layer",
        metavar="NAME",
        help="layer for layer methods, by its name within the model, such as layer4 "
        "or features.18 (default: the last one that has maps; it is printed)",
    )
    add("--seed", type=int, default=0, metavar="N", help="random seed (default: 0)")


def check_part_options(parts: Collection[Part], options: object, name: str) -> None:
    """Check that a method uses the layer and the masking network, if they are given.

    Args:
        parts (collection of str): Parts that the method needs.
        options (object): Options with the attributes layer and masking_network.
        name (str): Name of the method, for the error.

    Raises:
        ValueError: If an option is given for a part that the method does not use.
    """
    for part in ("layer", "masking_network"):
        if getattr(options, part) is not None and part not in parts:
            users = [n for n, m in METHODS.items() if part in m.built_from]
            raise ValueError(
                f"--{part.replace('_', '-')} must be used with "
                f"{' or '.join(users)}, got {name!r}."
            )


def check_clip_method(
    options: argparse.Namespace,
    argument: str,
    names: Sequence[str],
    known: Sequence[str],
) -> None:
    """Check the number of frames, and that the method explains video if there is one.

    Args:
        options (argparse.Namespace): Options of :func:`add_image_options`.
        argument (str): Name of the argument that chooses the method, for the error.
        names (sequence of str): Names of the methods; none are not checked.
        known (sequence of str): Names of methods to choose from.

    Raises:
        ValueError: If --frames is given without a video or is too small, if there are
            several methods for a video, or the method does not explain it.
    """
    clips = [path for path in options.image if is_clip(path)]
    if options.frames is not None:
        check_integer("--frames", options.frames, _LEAST_FRAMES)
        if not clips:
            raise ValueError(
                f"--frames must be used with a video, got {str(options.image[0])!r}."
            )
    able = [name for name in known if METHODS[name].explains_video]
    if clips and names and (len(names) > 1 or names[0] not in able):
        raise ValueError(
            f"{argument} must be one of {', '.join(able)} for a video, got "
            f"{', '.join(names)!r}."
        )


def read_images(options: argparse.Namespace, path: Path) -> list[Image.Image]:
    """Read an image, or the frames of a video.

    Args:
        options (argparse.Namespace): Options of :func:`add_image_options`.
        path (Path): File.

    Returns:
        *list of PIL.Image.Image*: The image, or evenly spaced frames.

    Raises:
        ValueError: If the file cannot be read.
    """
    if is_clip(path):
        return read_frames(path, options.frames or _N_FRAMES)
    if not path.is_file():
        raise ValueError(f"image must be an existing file, got {str(path)!r}.")
    try:
        return [open_image(path)]
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"image must be an image file, got {str(path)!r} ({error})."
        ) from error


def find_subject(
    options: argparse.Namespace,
    classifier: zoo.ZooModel,
    images: Sequence[Image.Image],
    parts: Collection[Part],
    clip: bool,
) -> Subject:
    """Build the subject of an image or a video.

    The frames of a video are preprocessed like images.

    Args:
        options (argparse.Namespace): Options of :func:`add_image_options`.
        classifier (ZooModel): Classifier of images.
        images (sequence of PIL.Image.Image): The image, or the frames of a video.
        parts (collection of str): Parts that methods need.
        clip (bool): Whether it is a video.

    Returns:
        *Subject*: Subject on the device of the classifier.

    Raises:
        ValueError: If a class, a layer or a color does not exist, or the target is
            compared with itself.
    """
    inputs = torch.stack([classifier.preprocess(image) for image in images], 1)
    if clip:
        average = zoo.FrameAverage(classifier.model, classifier.applied_activation)
        classifier = classifier._replace(model=average)
    elif isinstance(classifier.model, torch.jit.ScriptModule):
        # Passes are counted by a hook, which a scripted model cannot have.
        classifier = classifier._replace(model=nn.Sequential(classifier.model))
    colors = vars(options).get("colors")
    subject = build_subject(
        classifier,
        inputs if clip else inputs[:, 0],
        parts=parts,
        layer=options.layer,
        colors=colors.split(",") if colors else None,
        seed=options.seed,
        show_progress=True,
    )
    target = find_target("--target", options.target, subject)
    against = vars(options).get("against")
    if against is None:
        return subject._replace(target=target)
    other = find_target("--against", against, subject)
    if other == target:
        raise ValueError(
            f"--against must be another class than --target, got {against!r}, which is "
            f"class {other}, {classifier.class_names[other]}."
        )
    return subject._replace(target=target, against=other)


def find_target(option: str, query: str, subject: Subject) -> int:
    """Find a class by its index, its name, or its rank in the prediction.

    Args:
        option (str): Option that names the class, for the error.
        query (str): Index, name or part of a name, or ``topN``.
        subject (Subject): Subject with the probabilities of the classes.

    Returns:
        *int*: Class.

    Raises:
        ValueError: If there is no such class.
    """
    names = subject.classifier.class_names
    ranked = re.fullmatch(r"top([1-9]\d*)", query)
    if ranked:
        if int(ranked[1]) > len(names):
            raise ValueError(
                f"{option} must be at most top{len(names)}, got {query!r}."
            )
        order = subject.class_probabilities.argsort(descending=True, stable=True)
        return int(order[int(ranked[1]) - 1])
    try:
        return zoo.find_class(names, query)
    except ValueError as error:
        raise ValueError(f"{option}{str(error).removeprefix('class')}") from error
