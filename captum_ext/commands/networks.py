"""The networks of a command: the classifier, and one that masks images for it."""

import argparse
from collections.abc import Collection, Mapping
from typing import Any

from captum_ext import zoo
from captum_ext.masking import MaskingNetwork
from captum_ext.methods import Part

__all__ = [
    "DEFAULT_MODEL",
    "add_classifier_options",
    "add_masking_network_option",
    "read_masking_network",
]

DEFAULT_MODEL = "mobilenet_v2"
"""The classifier where none is named."""


def add_classifier_options(command: argparse.ArgumentParser, **choice: Any) -> None:
    """Add what is asked wherever a classifier is explained.

    Args:
        command (argparse.ArgumentParser): Of the command.
        **choice: ``default``, or ``required``.
    """
    usual = "" if choice.get("required") else f" (default: {DEFAULT_MODEL})"
    command.add_argument(
        "--model",
        metavar="NAME|FILE.py:FUNCTION",
        help="any torchvision classification model; signs, the built-in one; resnet20, "
        "for 32 x 32 pixels; or a function of your own that is called with --weights "
        f"and returns a captum_ext.zoo.ZooModel{usual}",
        **choice,
    )
    command.add_argument(
        "--weights",
        metavar="FILE|NAME",
        help="state-dict file or torchvision weights name (default: torchvision's "
        "best, downloaded)",
    )


def add_masking_network_option(command: argparse.ArgumentParser) -> None:
    """Add where the masking network comes from.

    Args:
        command (argparse.ArgumentParser): Of the command.
    """
    command.add_argument(
        "--masking-network",
        metavar="FILE",
        help="for masking-model: network.pt that captum-ext train wrote for the model "
        "(default: the built-in one for signs)",
    )


def read_masking_network(
    asked: Mapping[str, Any], built_from: Collection[Part]
) -> MaskingNetwork | None:
    """The masking network that is asked for, or the one that comes with signs.

    Args:
        asked (Mapping): Options by name: masking_network, model and weights.
        built_from (collection of str): Parts that methods need.

    Returns:
        *MaskingNetwork*: On the CPU, or None if no method needs one.

    Raises:
        ValueError: If one is needed and none is named, where there is no built-in one,
            or the file holds something else.
    """
    if "masking_network" not in built_from:
        return None
    file = asked.get("masking_network")
    if file is None:
        if asked["model"] == "signs" and asked.get("weights") is None:
            return zoo.load_signs_masks()
        raise ValueError(
            "--masking-network must be a file that captum-ext train wrote for the "
            "model, got none."
        )
    try:
        return MaskingNetwork.load(file)
    except ValueError as error:
        said = str(error).removeprefix("path")
        raise ValueError(f"--masking-network{said}") from error
