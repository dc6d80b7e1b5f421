"""What of a training is kept: checkpoints, a table of steps, and figures of masks."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from captum_ext._files import save_image
from captum_ext._processes import from_rank_zero, rank
from captum_ext.masking.checkpoints import load_checkpoint, save_checkpoint
from captum_ext.masking.network import MaskingNetwork
from captum_ext.masking.objective import SaliencyObjective
from captum_ext.masking.record import (
    StepTable,
    mask_grid,
    mean_masks,
)
from captum_ext.masking.trainer import Trainer

__all__ = ["Keeper"]

_SHOWN_IMAGES = 16
_JUDGED_IMAGES = 256


class Keeper:
    """The folder of a training, if it has one; the first process writes to it.

    Args:
        folder (Path, optional): It is made if there is none. None keeps nothing.
        validation (Dataset, optional): Images to look at at each checkpoint.
        objective (SaliencyObjective): It knows what values images have.
        every (int): Steps between checkpoints.
    """

    def __init__(
        self,
        folder: Path | None,
        validation: Dataset[tuple[Tensor, int]] | None,
        objective: SaliencyObjective,
        every: int,
    ) -> None:
        self.folder, self.every = folder, every
        self._validation, self._objective = validation, objective

    def newest(self) -> dict[str, Any] | None:
        """The state to go on from, the same in all processes."""
        found: Any = None
        if rank() == 0 and self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                found = load_checkpoint(self.folder)
            except ValueError as error:
                # The others must not wait for what will never come.
                found = error
        found = from_rank_zero(found)
        if isinstance(found, ValueError):
            raise found
        return found

    @contextlib.contextmanager
    def table(self, first: int) -> Iterator[Callable[[Mapping[str, float]], None]]:
        """Where rows of steps go to."""
        if self.folder is None or rank() > 0:
            yield lambda row: None
            return
        with StepTable(self.folder / "log.csv", first) as table:
            yield table.append

    def keep(self, trainer: Trainer) -> None:
        """Write a checkpoint, and what can be seen of the network."""
        if self.folder is None or rank() > 0:
            return
        if self._validation is not None:
            self._judge(trainer.network.eval(), trainer.step)
            trainer.network.train()
        save_checkpoint(trainer.state(), self.folder)

    def _judge(self, network: MaskingNetwork, step: int) -> None:
        from torchvision.transforms.functional import to_pil_image

        assert self.folder is not None and isinstance(self._validation, Sized)
        limits = self._objective.evidence_removal.limits
        n = len(self._validation)
        grid = mask_grid(network, self._validation, min(n, _SHOWN_IMAGES), limits)
        save_image(to_pil_image(grid), self.folder / "masks" / f"step-{step:06d}.png")
        found = mean_masks(network, self._validation, min(n, _JUDGED_IMAGES))
        with StepTable(self.folder / "validation.csv", step) as table:
            table.append({"step": step, **found._asdict()})
