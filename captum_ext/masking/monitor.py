"""Training monitor: writes checkpoints, logs of the steps, and figures of masks."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from captum_ext._extras import extra
from captum_ext._files import save_image
from captum_ext._processes import broadcast_object, rank
from captum_ext.masking.checkpoints import load_checkpoint, save_checkpoint
from captum_ext.masking.mask_reports import (
    StepLog,
    mask_grid,
    mask_sheet,
    mean_masks,
)
from captum_ext.masking.network import MaskingNetwork
from captum_ext.masking.objective import SaliencyObjective
from captum_ext.masking.trainer import Trainer

__all__ = ["TrainingMonitor"]

_GRID_IMAGES = 16
_VALIDATION_IMAGES = 256


class TrainingMonitor:
    """Output folder of a training run; only rank 0 writes to it.

    Args:
        folder (Path, optional): Output folder. None writes nothing.
        validation (Dataset, optional): Images whose masks are reported at each
            checkpoint.
        objective (SaliencyObjective): Objective, whose evidence removal has the range
            of the image values.
        every (int): Steps between checkpoints.
        tensorboard (bool, optional): Whether events for TensorBoard are written, too.
            Default: False

    Raises:
        MissingExtraError: If TensorBoard is not installed.
    """

    def __init__(
        self,
        folder: Path | None,
        validation: Dataset[tuple[Tensor, int]] | None,
        objective: SaliencyObjective,
        every: int,
        tensorboard: bool = False,
    ) -> None:
        self.folder, self.every = folder, every
        self._validation, self._objective = validation, objective
        self._events: Any = None
        self._writer_type = _event_writer() if tensorboard else None

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Read the newest checkpoint, the same in all processes; None without one."""
        found: Any = None
        if rank() == 0 and self.folder is not None:
            try:
                found = load_checkpoint(self.folder)
            except ValueError as error:
                # Every process has to raise it, or the others would wait forever.
                found = error
        found = broadcast_object(found)
        if isinstance(found, ValueError):
            raise found
        return found

    @contextlib.contextmanager
    def step_log(self, first: int) -> Iterator[Callable[[Mapping[str, float]], None]]:
        """Function that appends the row of a step to the log, from a first step on."""
        if self.folder is None or rank() > 0:
            yield lambda row: None
            return
        events = self._open_events(self.folder / "tensorboard", first)
        with StepLog(self.folder / "log.csv", first) as log, events:

            def append(row: Mapping[str, float]) -> None:
                log.append(row)
                self._write_scalars("training", row)

            yield append

    @contextlib.contextmanager
    def _open_events(self, folder: Path, first: int) -> Iterator[None]:
        """Write events for TensorBoard within the context, if they are wanted."""
        if self._writer_type is None:
            yield
            return
        # Steps that are repeated replace those of the interrupted run.
        with self._writer_type(str(folder), purge_step=first) as self._events:
            yield

    def _write_scalars(self, group: str, row: Mapping[str, float]) -> None:
        if self._events is not None:
            for name, value in row.items():
                if name != "step":
                    self._events.add_scalar(f"{group}/{name}", value, int(row["step"]))

    def save_checkpoint(self, trainer: Trainer) -> None:
        """Write a checkpoint, after the reports on the validation images."""
        if self.folder is None or rank() > 0:
            return
        if self._validation is not None:
            self._validate(trainer.network.eval(), trainer.step)
            trainer.network.train()
        save_checkpoint(trainer.state_dict(), self.folder)

    def _validate(self, network: MaskingNetwork, step: int) -> None:
        assert self.folder is not None and isinstance(self._validation, Sized)
        limits = self._objective.evidence_removal.limits
        n = len(self._validation)
        n_shown = min(n, _GRID_IMAGES)
        grid = mask_grid(network, self._validation, n_shown, limits)
        sheet = mask_sheet(grid, n_shown)
        save_image(sheet, self.folder / "masks" / f"step-{step:06d}.png")
        means = mean_masks(network, self._validation, min(n, _VALIDATION_IMAGES))
        with StepLog(self.folder / "validation.csv", step) as log:
            log.append({"step": step, **means._asdict()})
        self._write_scalars("mean_mask", {"step": step, **means._asdict()})
        if self._events is not None:
            self._events.add_image("masks", np.asarray(sheet), step, dataformats="HWC")


def _event_writer() -> Any:
    with extra("tensorboard"):
        from torch.utils.tensorboard import SummaryWriter
    return SummaryWriter
