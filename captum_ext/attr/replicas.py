"""Copies of a model on several devices that share each batch."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from captum_ext._outputs import output_tensor
from captum_ext._type_checks import check_module, check_sequence

__all__ = ["Replicas"]


class Replicas(nn.Module):
    """A model on several devices, for the many passes of one image.

    Each batch is split among copies of the model. Pass it as ``forward_func`` of a
    method or a metric and give inputs on one device: perturbed inputs are made there,
    and scores come back to it. Devices work at the same time, since the CPU does not
    wait for a GPU. ``torch.nn.DataParallel`` would copy the weights in every pass.

    Args:
        model (nn.Module): Model, which stays where it is. Later changes of its weights
            or mode have no effect.
        devices (sequence of torch.device or str): Device of each copy; a device may be
            named twice.

    Raises:
        ValueError: If there is no device.
        TypeError: If ``model`` is not a module or ``devices`` is not a sequence.

    Examples::

        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))
        >>> replicas = Replicas(model, devices=["cpu", "cpu"])
        >>> PNRISE(replicas).attribute(torch.rand(1, 3, 8, 8), target=2).shape
        torch.Size([1, 3, 8, 8])
    """

    def __init__(self, model: nn.Module, devices: Sequence[torch.device | str]) -> None:
        super().__init__()
        check_module("model", model)
        self.devices = list(
            map(torch.device, check_sequence("devices", devices, "names"))
        )
        if not self.devices:
            raise ValueError("devices must name at least one device, got none.")
        self.copies = nn.ModuleList(deepcopy(model).to(d) for d in self.devices)
        # That of the modules within may differ and is kept.
        self.training = model.training

    def forward(self, inputs: Tensor, *arguments: Any) -> Tensor:
        """Scores of a batch.

        Args:
            inputs (Tensor): Batch (B, ...).
            *arguments (Any): Further arguments. Tensors whose first axis has length B
                are split as well.

        Returns:
            *Tensor*: Scores (B, ...) on the device of ``inputs``.

        Raises:
            ValueError: If the model does not return one output per example.
        """
        n = max(1, min(len(self.devices), len(inputs)))
        parts = [_split(each, len(inputs), n) for each in (inputs, *arguments)]
        outputs = []
        # Nothing here waits for a device; copies back do, after all have started.
        for copy, device, part in zip(self.copies, self.devices, zip(*parts)):
            placed = [x.to(device) if isinstance(x, Tensor) else x for x in part]
            output = output_tensor(copy(*placed))
            if output.shape[:1] != part[0].shape[:1]:
                raise ValueError(
                    f"model must return one output for each of {len(part[0])} "
                    f"examples, got shape {tuple(output.shape)}."
                )
            outputs.append(output)
        return torch.cat([output.to(inputs.device) for output in outputs])


def _split(value: Any, n_examples: int, n: int) -> Sequence[Any]:
    """Shares of n copies in a value; values that are no batch are shared by all."""
    if isinstance(value, Tensor) and value.dim() and len(value) == n_examples:
        return value.tensor_split(n)
    return [value] * n
