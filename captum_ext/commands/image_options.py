"""Options of commands that explain an image or a video, and their subject."""

import argparse
import sys
from collections.abc import Collection
from pathlib import Path

import torch
from PIL import Image

from captum_ext import zoo
from captum_ext._validation import check_integer
from captum_ext.commands.image_outputs import check_writable, print_subject
from captum_ext.commands.model_options import (
    DEFAULT_MODEL,
    add_classifier_options,
    add_masking_network_option,
    load_classifier,
)
from captum_ext.datasets.clip_files import is_clip, read_frames
from captum_ext.datasets.image_files import open_image
from captum_ext.methods import METHODS
from captum_ext.subject import Part, Subject, build_subject

__all__ = [
    "COLORS",
    "add_image_options",
    "check_clip_method",
    "check_outputs",
    "check_part_options",
    "read_subject",
]

COLORS = "red,green,blue,black,white"
"""Colors of MC-RISE by default."""

# The least number that the grid of BOREx's prior divides.
_N_FRAMES, _LEAST_FRAMES = 16, 8


def add_image_options(command: argparse.ArgumentParser, map_shape: str) -> None:
    """Add the options that commands for one image or video share.

    Args:
        command (argparse.ArgumentParser): Parser of the command.
        map_shape (str): Shape of the map in the file of --save-map.
    """
    add = command.add_argument
    add(
        "image",
        type=Path,
        help="image file (JPEG, PNG, ...) or video: .mp4, .avi and the like (with the "
        "extra video), an animated .gif, or .npz with an array frames (T, H, W, 3) "
        "uint8",
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
        metavar="INDEX|NAME|top1",
        help="class to explain: its index, its name or a part of it, or top1 for the "
        "most probable class (default: %(default)s)",
    )
    add(
        "-o",
        "--output",
        type=Path,
        metavar="OUT.png",
        help="figure to write (default: name of the image with -METHOD.png); of a "
        "video, frames with the map, and beside it OUT.gif",
    )
    add(
        "--save-map",
        type=Path,
        metavar="MAP.npy|.pt",
        help=f"also write the map: {map_shape}",
    )
    add(
        "--layer",
        metavar="NAME",
        help="layer for layer methods, by its name within the model, such as layer4 "
        "or features.18 (default: the last one that has maps; it is printed)",
    )
    add("--seed", type=int, default=0, help="seed of random numbers (default: 0)")


def check_outputs(options: argparse.Namespace, suffix: str) -> Path:
    """Check that the output files can be written, before any work.

    Args:
        options (argparse.Namespace): Options of :func:`add_image_options`.
        suffix (str): End of the figure's default name.

    Returns:
        *Path*: File of the figure.

    Raises:
        ValueError: If a file has an unknown suffix or its folder does not exist, or
            the GIF of a video would replace it.
    """
    output = options.output or Path(f"{options.image.stem}-{suffix}.png")
    check_writable(output, (".png", ".jpg", ".pdf", ".svg"), "--output")
    if output.with_suffix(".gif").resolve() == options.image.resolve():
        raise ValueError(
            f"--output must have another name than the video, got {str(output)!r}."
        )
    if options.save_map:
        check_writable(options.save_map, (".npy", ".pt"), "--save-map")
    return output


def check_part_options(
    parts: Collection[Part], options: argparse.Namespace, name: str
) -> None:
    """Check that a method uses the layer and the masking network, if they are given.

    Args:
        parts (collection of str): Parts that the method needs.
        options (argparse.Namespace): Options of :func:`add_image_options`.
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
    options: argparse.Namespace, argument: str, name: str, names: Collection[str]
) -> None:
    """Check the number of frames, and that a method explains video if it is one.

    Args:
        options (argparse.Namespace): Options of :func:`add_image_options`.
        argument (str): Name of the argument that chooses the method, for the error.
        name (str): Name of the method; others than those of ``names`` are not checked.
        names (collection of str): Names of methods to choose from.

    Raises:
        ValueError: If --frames is given for an image or is too small, or the method
            does not explain video.
    """
    clip = is_clip(options.image)
    if options.frames is not None:
        check_integer("--frames", options.frames, _LEAST_FRAMES)
        if not clip:
            raise ValueError(
                f"--frames must be used with a video, got {str(options.image)!r}."
            )
    if clip and name in names and not METHODS[name].explains_video:
        able = [n for n in names if METHODS[n].explains_video]
        raise ValueError(
            f"{argument} must be one of {', '.join(able)} for a video, got {name!r}."
        )


def read_subject(
    options: argparse.Namespace, parts: Collection[Part], colors: str | None = None
) -> Subject:
    """Load the image and the classifier, build the subject and print its target.

    The frames of a video are preprocessed like images.

    Args:
        options (argparse.Namespace): Options of :func:`add_image_options`.
        parts (collection of str): Parts that methods need.
        colors (str, optional): Names of colors, separated by commas, for a color-wise
            method.

    Returns:
        *Subject*: Subject on the device of this process.

    Raises:
        ValueError: If a file cannot be read, or a class, a layer or a color does not
            exist.
    """
    clip = is_clip(options.image)
    images = (
        read_frames(options.image, options.frames or _N_FRAMES)
        if clip
        else [_read_image(options.image)]
    )
    classifier = load_classifier(vars(options), parts)
    inputs = torch.stack([classifier.preprocess(image) for image in images], 1)
    if clip:
        average = zoo.FrameAverage(classifier.model, classifier.applied_activation)
        classifier = classifier._replace(model=average)
    target = options.target
    subject = build_subject(
        classifier,
        inputs if clip else inputs[:, 0],
        None if target == "top1" else zoo.find_class(classifier.class_names, target),
        parts=parts,
        layer=options.layer,
        colors=colors.split(",") if colors else None,
        seed=options.seed,
        show_progress=sys.stderr.isatty(),
    )
    print_subject(subject)
    return subject


def _read_image(path: Path) -> Image.Image:
    """Read the image; say in the error which file cannot be read."""
    if not path.is_file():
        raise ValueError(f"image must be an existing file, got {str(path)!r}.")
    try:
        return open_image(path)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"image must be an image file, got {str(path)!r} ({error})."
        ) from error
