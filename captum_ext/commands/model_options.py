"""Options that name a classifier and its masking network, and loading of both."""

import argparse
from collections.abc import Collection, Mapping
from typing import Any

import torch

from captum_ext import zoo
from captum_ext._processes import local_device
from captum_ext.masking import MaskingNetwork
from captum_ext.subject import Part

__all__ = [
    "DEFAULT_MODEL",
    "add_classifier_options",
    "add_masking_network_option",
    "chosen_device",
    "load_classifier",
    "load_masking_network",
]

DEFAULT_MODEL = "mobilenet_v2"
"""Classifier that commands use by default."""


def add_classifier_options(command: argparse.ArgumentParser, **choice: Any) -> None:
    """Add the options --model, --weights and --device to a command.

    Args:
        command (argparse.ArgumentParser): Parser of the command.
        **choice: ``default`` or ``required`` of --model.
    """
    default = "" if choice.get("required") else f" (default: {DEFAULT_MODEL})"
    command.add_argument(
        "--model",
        metavar="NAME|FILE.py:FUNCTION",
        help="classifier that captum-ext models lists: one of torchvision, timm:NAME, "
        "hf:NAME or hf:FOLDER of Hugging Face, onnx:FILE, or the built-in signs; or "
        "your own function in a file or module (MODULE:FUNCTION) that takes --weights "
        "and returns a captum_ext.zoo.ZooModel or a function of NumPy "
        f"images{default}",
        **choice,
    )
    command.add_argument(
        "--weights",
        metavar="FILE|NAME",
        help="state-dict file or name of torchvision's weights (default: the best "
        "weights of torchvision, those of timm or Hugging Face, downloaded)",
    )
    command.add_argument(
        "--device",
        metavar="NAME",
        help="device of PyTorch, such as cpu, cuda:1 or mps (default: a GPU if there "
        "is one for CUDA, otherwise the CPU)",
    )


def chosen_device(name: str | None) -> torch.device:
    """Device of this process.

    Args:
        name (str, optional): Name of the device. "cuda" and None are the GPU of this
            process, None is the CPU without one.

    Returns:
        *torch.device*: Device.

    Raises:
        ValueError: If there is no such device.
    """
    if name is None:
        return local_device()
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split("\n")[0].split(". ")[0].rstrip(".")
        raise ValueError(
            f"--device must be a device that PyTorch has here, such as cpu or cuda:1, "
            f"got {name!r} ({reason})."
        ) from error
    return local_device() if name == "cuda" else device


def add_masking_network_option(command: argparse.ArgumentParser) -> None:
    """Add the option --masking-network to a command.

    Args:
        command (argparse.ArgumentParser): Parser of the command.
    """
    command.add_argument(
        "--masking-network",
        metavar="FILE",
        help="for masking-model: network.pt written by captum-ext train for the model "
        "(default: the built-in one for signs)",
    )


def load_classifier(
    options: Mapping[str, Any], parts: Collection[Part]
) -> zoo.ZooModel:
    """Load the classifier, with its masking network if methods need one.

    Args:
        options (Mapping): Options by name: model, weights, device and
            masking_network.
        parts (collection of str): Parts that methods need.

    Returns:
        *ZooModel*: Classifier in ``channels_last`` on the device of this process.

    Raises:
        ValueError: If the classifier or the masking network cannot be loaded, their
            numbers of classes differ, it has 3-D convolutions, or there is no such
            device.
    """
    device = chosen_device(options.get("device"))
    # Loaded first: its errors should not wait for a download of the classifier.
    network = load_masking_network(options) if "masking_network" in parts else None
    classifier = zoo.load(options["model"], options.get("weights"))
    if any(each.dim() == 5 for each in classifier.model.parameters()):
        raise ValueError(
            "--model must be a classifier of images, got one of video or volumes with "
            "3-D convolutions: explain it in Python, as by "
            "PNRISE(model).attribute(video, target=target)."
        )
    model = classifier.model.to(device).to(memory_format=torch.channels_last)
    classifier = classifier._replace(model=model)
    if network is None:
        return classifier
    return classifier.with_masking_network(network.to(device))


def load_masking_network(options: Mapping[str, Any]) -> MaskingNetwork:
    """Load the masking network of a file, or the built-in one of signs.

    Args:
        options (Mapping): Options by name: model, weights and masking_network.

    Returns:
        *MaskingNetwork*: Masking network in eval mode, on the CPU.

    Raises:
        ValueError: If no file is given and there is no built-in network, or the file
            does not hold a masking network.
    """
    file = options.get("masking_network")
    if file is None:
        if options["model"] == "signs" and options.get("weights") is None:
            return zoo.load_signs_masks()
        raise ValueError(
            "--masking-network must be a file that captum-ext train wrote for the "
            "model, got none."
        )
    try:
        return MaskingNetwork.load(file)
    except ValueError as error:
        problem = str(error).removeprefix("path")
        raise ValueError(f"--masking-network{problem}") from error
