"""Provenance of results: digest of the weights, versions, hardware and command."""

import hashlib
import os
import platform
import shlex
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from captum_ext import __version__

__all__ = ["provenance", "weights_digest"]


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, by name.

    Args:
        model (nn.Module): Model on any device, in any memory format.

    Returns:
        *str*: Hexadecimal digest.

    Examples::

        >>> model = nn.Linear(3, 2)
        >>> before = weights_digest(model)
        >>> model.bias.data[0] += 1
        >>> weights_digest(model) == before
        False
    """
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor):
            plain = value.detach().cpu().contiguous()
            digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
            digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def provenance(device: torch.device) -> dict[str, Any]:
    """Versions, hardware, command and start time of this process.

    Args:
        device (torch.device): Device of the model.

    Returns:
        *dict*: Strings by name.
    """
    processor = platform.processor() or platform.machine()
    return {
        "captum_ext": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("captum", "torch", "torchvision", "numpy")},
        "platform": platform.platform(),
        "hardware": (
            torch.cuda.get_device_name(device)
            if device.type == "cuda"
            else f"{processor}, {os.cpu_count()} cores, "
            f"{torch.get_num_threads()} threads"
        ),
        "command": shlex.join(sys.argv),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
