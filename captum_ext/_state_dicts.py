"""State dicts: read from files, loaded into models, and identified by a digest."""

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from captum_ext._extras import extra

__all__ = ["load_state", "read_state", "weights_digest"]

_REPORTED = 3


def read_state(weights: str | Path, choices: list[str]) -> dict[str, Tensor]:
    """Read a state dict and rename its keys to those of torchvision's models.

    Args:
        weights (str or Path): File written by ``torch.save``, or .safetensors.
        choices (list of str): Weight names accepted instead of a file, for the error.

    Returns:
        dict: Tensors by key, on the CPU.

    Raises:
        ValueError: If the file does not exist or does not hold a state dict.
    """
    if not Path(weights).is_file():
        named = f", or one of {', '.join(choices)}" if choices else ""
        raise ValueError(
            f"weights must be an existing state-dict file{named}, got {str(weights)!r}."
        )
    problem = ValueError(
        f"weights must be a file written by torch.save(model.state_dict(), file), got "
        f"{str(weights)!r}, which holds something else."
    )
    read: Callable[..., object] = partial(
        torch.load, map_location="cpu", weights_only=True
    )
    if str(weights).endswith(".safetensors"):
        with extra("timm"):
            from safetensors.torch import load_file as read
    try:
        state = read(weights)
    except Exception as error:  # Bytes that are not a pickle can raise anything.
        raise problem from error
    if isinstance(state, dict):
        state = state.get("state_dict", state)
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor)
        for key, value in state.items()
    ):
        raise problem
    # torchvision's own densenet files use the names of an old release.
    return {
        re.sub(
            r"(denselayer\d+\.(?:norm|conv))\.", r"\1", key.removeprefix("module.")
        ): value
        for key, value in state.items()
    }


def load_state(
    model: nn.Module,
    state: Mapping[str, Tensor],
    source: str,
    name: str,
    *,
    allow_extra: bool = False,
) -> None:
    """Load a state dict into a model, or list what does not match.

    Args:
        model (nn.Module): Model whose parameters and buffers are replaced.
        state (Mapping): Tensors by key.
        source (str): Argument or file that the state dict comes from, for the error.
        name (str): Name of the model, for the error.
        allow_extra (bool, optional): Whether to ignore keys that the model lacks.
            Default: False

    Raises:
        ValueError: If a key is missing or unexpected or a shape differs; the model is
            then unchanged.

    Examples::

        >>> layer = nn.Linear(2, 1)
        >>> load_state(layer, {"weight": torch.ones(1, 2)}, "state", "the layer")
        Traceback (most recent call last):
        ...
        ValueError: state must hold weights of the layer, got none for bias.
    """
    expected = model.state_dict()
    mismatches = [
        f"none for {key}"
        for key in expected
        # Files older than torch 0.4.1 lack these counters.
        if key not in state and not key.endswith("num_batches_tracked")
    ]
    if not allow_extra:
        mismatches += [f"an unexpected {key}" for key in state if key not in expected]
    mismatches += [
        f"shape {tuple(state[key].shape)} instead of {tuple(value.shape)} for {key}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    if mismatches:
        n_more = len(mismatches) - _REPORTED
        more = f" and {n_more} more mismatches" if n_more > 0 else ""
        raise ValueError(
            f"{source} must hold weights of {name}, got "
            f"{', '.join(mismatches[:_REPORTED])}{more}."
        )
    model.load_state_dict(
        {k: v for k, v in state.items() if k in expected}, strict=False
    )


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
