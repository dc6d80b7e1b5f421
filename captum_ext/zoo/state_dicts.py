"""Weights in files: read, and filled into a model."""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

__all__ = ["fill", "read_state"]


def read_state(weights: str | Path, choices: list[str]) -> dict[str, Tensor]:
    """The state dict in a file, with the keys that torchvision's models have.

    Args:
        weights (str or Path): The file.
        choices (list of str): Names that could stand in place of a file.

    Returns:
        dict: Tensors by key, on the CPU.

    Raises:
        ValueError: If there is no such file, or it holds something else.
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
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # Bytes that are no pickle can raise anything.
        raise problem from error
    if isinstance(state, dict):
        state = state.get("state_dict", state)
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor)
        for key, value in state.items()
    ):
        raise problem
    # torchvision's own densenet files have the names of an old release.
    return {
        re.sub(
            r"(denselayer\d+\.(?:norm|conv))\.", r"\1", key.removeprefix("module.")
        ): value
        for key, value in state.items()
    }


def fill(model: nn.Module, state: dict[str, Tensor], what: str, name: str) -> None:
    """Load a state dict, or say in one sentence where it does not fit.

    Args:
        model (nn.Module): Its weights are replaced.
        state (dict): Tensors by key.
        what (str): What the state dict is called in the sentence.
        name (str): What the model is called in the sentence.

    Raises:
        ValueError: If a key is missing, or is none of the model, or its shape differs.
    """
    expected = model.state_dict()
    misfits = [
        f"{key} is missing"
        for key in expected
        # Files older than torch 0.4.1 do without.
        if key not in state and not key.endswith("num_batches_tracked")
    ]
    misfits += [f"{key} is not in the model" for key in state if key not in expected]
    misfits += [
        f"{key} is {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    if misfits:
        more = f" and {len(misfits) - 3} more" if len(misfits) > 3 else ""
        raise ValueError(f"{what} do not fit {name}: {'; '.join(misfits[:3])}{more}.")
    model.load_state_dict(state, strict=False)
