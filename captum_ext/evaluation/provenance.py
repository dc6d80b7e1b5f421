"""What results rest on: a model's weights, and where and by what they were made."""

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
        model (nn.Module): On any device, in any memory format.

    Returns:
        *str*: Hexadecimal.

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
    """Versions, hardware, command and time of this process.

    Args:
        device (torch.device): Where the model is.

    Returns:
        *dict*: Plain values by name.
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
