"""How a masking network is trained: the loop, and what is kept of it."""

import contextlib
import math
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence, Sized

import torch
from torch import Generator, Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, Dataset

from captum_ext._captum import progress
from captum_ext._validation import check_integer, check_not_negative, check_positive
from captum_ext.masking.checkpoints import load_checkpoint, save_checkpoint
from captum_ext.masking.draws import Sample, Samples, StepSampler
from captum_ext.masking.network import MaskingNetwork, SelectedMasks
from captum_ext.masking.objective import SaliencyObjective, SaliencyTerms
from captum_ext.masking.record import (
    StepTable,
    mask_grid,
    mean_masks,
    write_mask_grid,
)

__all__ = ["Trainer", "frozen", "train_masking_network"]

_SHOWN_PICTURES = 16
_JUDGED_PICTURES = 256


def train_masking_network(
    network: MaskingNetwork,
    black_box: Callable[[Tensor], Tensor],
    dataset: Dataset[tuple[Tensor, int]],
    output: str | Path | None = None,
    *,
    objective: SaliencyObjective | None = None,
    validation: Dataset[tuple[Tensor, int]] | None = None,
    n_epochs: int = 10,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    weight_decay: float = 1e-2,
    max_gradient_norm: float = 1.0,
    checkpoint_every: int = 200,
    n_workers: int = 0,
    seed: int = 0,
    show_progress: bool = False,
) -> MaskingNetwork:
    r"""Train a masking network for a classifier.

    Each step asks for masks of some pictures, of which some for a class that is not
    the picture's, and lowers the objective by AdamW under a one-cycle schedule. On GPUs
    that have it, bfloat16 is used. The classifier is in eval mode meanwhile and gets no
    gradients of its parameters; afterwards it is as it was.

    A training that was stopped, at whatever instant, goes on when it is started again
    with the same arguments, and gives what it would have given: on the CPU bit for bit.
    In processes of one ``torch.distributed`` group a step is shared out; it may go on
    in another number of processes.

    The folder gets ``checkpoint.pt`` and the one before, ``log.csv`` with the terms of
    each step, and, if there is a validation set, at each checkpoint
    ``masks/step-N.png`` with the masks of some pictures, and a row in
    ``validation.csv``: mean masks for the pictures' own and for absent classes.
    ``MaskingNetwork.load`` reads the network of a checkpoint.

    Args:
        network (MaskingNetwork): It is trained in place, on the device where it is.
        black_box (Callable): Logits (B, classes) of pictures.
        dataset (Dataset): Pictures (3, H, W) of one size, normalized as the classifier
            needs them, and their classes.
        output (str or Path, optional): Folder for what is kept; new, empty, or of a
            training with the same arguments. Default: None (nothing is kept)
        objective (SaliencyObjective, optional): What is lowered. Default: None (Eq. 4
            with the paper's weights)
        validation (Dataset, optional): Pictures to look at on the way, that the
            network does not learn from. Default: None
        n_epochs (int, optional): How often each picture is used. Default: 10
        batch_size (int, optional): Pictures in a step, all processes together.
            Default: 64
        learning_rate (float, optional): The largest of the schedule. Default: 3e-3
        weight_decay (float, optional): Of AdamW. Default: 1e-2
        max_gradient_norm (float, optional): Longer gradients are shortened to it.
            Default: 1
        checkpoint_every (int, optional): Steps between checkpoints. Default: 200
        n_workers (int, optional): Processes that read pictures, in each process.
            Default: 0 (the process itself)
        seed (int, optional): Of all that is drawn. Default: 0
        show_progress (bool, optional): Whether a progress bar with the terms is shown.
            Default: False

    Returns:
        *MaskingNetwork*: The network, in eval mode.

    Raises:
        ValueError: If an argument is out of its range, if a class is beyond the
            network's, if the folder holds a training with other arguments or no
            checkpoint that can be read, or if a term becomes NaN or infinite; the last
            checkpoint is kept then.
        OSError: If the folder cannot be written; the last checkpoint is kept.

    Examples::

        >>> from pathlib import Path
        >>> from captum_ext.masking import MaskingNetwork
        >>> black_box = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
        >>> pictures = [(torch.rand(3, 16, 16), i % 4) for i in range(8)]
        >>> network = MaskingNetwork(n_classes=4, width=8)
        >>> network = train_masking_network(
        ...     network, black_box, pictures, "run", n_epochs=1, batch_size=4
        ... )
        >>> sorted(path.name for path in Path("run").iterdir())
        ['checkpoint.pt', 'log.csv']
    """
    objective = objective or SaliencyObjective()
    check_positive("learning_rate", learning_rate)
    check_not_negative("weight_decay", weight_decay)
    check_positive("max_gradient_norm", max_gradient_norm)
    samples = Samples(
        dataset,
        network.n_classes,
        objective.fake_probability,
        check_integer("seed", seed, 0, 2**64 - 1),
    )
    batch_size = check_integer("batch_size", batch_size, 1)
    if len(samples) < batch_size:
        raise ValueError(
            f"dataset must hold at least one batch of {batch_size} pictures, got "
            f"{len(samples)}."
        )
    settings = {
        "network": network.settings,
        "objective": objective.settings,
        "training": {
            "n_pictures": len(samples),
            "n_epochs": check_integer("n_epochs", n_epochs, 1),
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "max_gradient_norm": max_gradient_norm,
            "seed": seed,
        },
    }
    if batch_size < _place()[1]:
        raise ValueError(
            f"batch_size must be at least 1 for each of the {_place()[1]} processes, "
            f"got {batch_size}."
        )
    keeper = _Keeper(
        None if output is None else Path(output),
        validation,
        objective,
        check_integer("checkpoint_every", checkpoint_every, 1),
    )
    with frozen(black_box):
        trainer = Trainer(network, black_box, objective, settings)
        _train(trainer, samples, keeper, n_workers, show_progress)
    return network.eval()


class Trainer:
    """Network, optimizer and schedule: what one step changes.

    Args:
        network (MaskingNetwork): What is trained.
        black_box (Callable): Logits (B, classes) of pictures, frozen.
        objective (SaliencyObjective): What is lowered.
        settings (Mapping): All that determines the result.
    """

    def __init__(
        self,
        network: MaskingNetwork,
        black_box: Callable[[Tensor], Tensor],
        objective: SaliencyObjective,
        settings: Mapping[str, Any],
    ) -> None:
        self.network = network.train().to(memory_format=torch.channels_last)
        self.black_box, self.objective, self.settings = black_box, objective, settings
        self.device = next(network.parameters()).device
        training = settings["training"]
        self.n_pictures = training["n_pictures"]
        self.batch_size = training["batch_size"]
        self.n_steps = training["n_epochs"] * (self.n_pictures // self.batch_size)
        self.step = 0
        self.optimizer = AdamW(
            [p for p in network.parameters() if p.requires_grad],
            training["learning_rate"],
            weight_decay=training["weight_decay"],
        )
        self.schedule = OneCycleLR(
            self.optimizer, training["learning_rate"], max(2, self.n_steps)
        )
        self.rank, self.world_size = _place()
        self.model: nn.Module = _Selecting(network)

    def share(self) -> None:
        """Let all processes have the same weights, and the same gradients from now."""
        if self.world_size > 1:
            self.model = DistributedDataParallel(self.model)

    def state(self) -> dict[str, Any]:
        """All that a training needs to go on."""
        return {
            "settings": self.settings,
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def go_on_from(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned.

        Args:
            state (Mapping): Of a training with the same settings.

        Raises:
            ValueError: If the settings differ, or the weights do not fit.
        """
        for part, mine in self.settings.items():
            theirs = state.get("settings", {}).get(part, {})
            for name, value in mine.items():
                if theirs.get(name) != value:
                    raise ValueError(
                        f"output must be a folder of a training with the same "
                        f"arguments, with {name} = {value!r} of the {part}, got a "
                        f"checkpoint with {theirs.get(name)!r}."
                    )
        self.network.fill(state["network"], "output")
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step = state["step"]

    def advance(self, samples: Sequence[Sample]) -> dict[str, float]:
        """One step with this process's share of the samples.

        Args:
            samples (sequence of Sample): Maybe none, where others have some.

        Returns:
            *dict*: Step, schedule and the means of the terms over all processes.

        Raises:
            ValueError: If a term is NaN or infinite; nothing has changed then.
        """
        self.optimizer.zero_grad(set_to_none=True)
        terms = self._terms(samples)
        means = self._means(terms)
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise ValueError(
                    f"black_box and network must give finite terms, got {mean} for "
                    f"{name} at step {self.step}."
                )
        # Processes have unequal shares where their number does not divide the batch;
        # gradients are averaged over processes.
        (terms.total.sum() * (self.world_size / self.batch_size)).backward()
        norm = nn.utils.clip_grad_norm_(
            self.network.parameters(),
            self.settings["training"]["max_gradient_norm"],
        ).item()
        if not math.isfinite(norm):
            raise ValueError(
                f"black_box and network must give finite gradients, got {norm} at step "
                f"{self.step}, where the terms are {means}."
            )
        row = {
            "step": self.step,
            "epoch": self.step // (self.n_pictures // self.batch_size),
            "learning_rate": self.schedule.get_last_lr()[0],
            "loss": sum(means.values()),
            **means,
            "gradient_norm": norm,
        }
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        return row

    def _terms(self, samples: Sequence[Sample]) -> SaliencyTerms:
        pictures = torch.stack([sample.picture for sample in samples])
        pictures = pictures.to(self.device, memory_format=torch.channels_last)
        target = torch.tensor([s.target for s in samples], device=self.device)
        labels = torch.tensor([s.label for s in samples], device=self.device)
        generators = [Generator().manual_seed(s.seed) for s in samples]
        with _autocast(self.device):
            masks, evidence = self.model(pictures, target)
            return self.objective(
                self.black_box, pictures, masks, target, generators, labels, evidence
            )

    def _means(self, terms: SaliencyTerms) -> dict[str, float]:
        """Of each term over the batch, in all processes."""
        sums = torch.stack([each.detach().sum() for each in terms]) / self.batch_size
        if self.world_size > 1:
            distributed.all_reduce(sums)
        return dict(zip(terms._fields, sums.tolist()))


class _Selecting(nn.Module):
    """The network's masks with their evidence, as a forward pass for DDP."""

    def __init__(self, network: MaskingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, target: Tensor) -> SelectedMasks:
        return self.network.select(inputs, target)


class _Keeper:
    """What of a training is kept in its folder, if it has one."""

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
        box: list[Any] = [None]
        if _place()[0] == 0 and self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                box = [load_checkpoint(self.folder)]
            except ValueError as error:
                # The others must not wait for what will never come.
                box = [error]
        if _place()[1] > 1:
            distributed.broadcast_object_list(box)
        if isinstance(box[0], ValueError):
            raise box[0]
        return box[0]

    @contextlib.contextmanager
    def table(self, first: int) -> Iterator[Callable[[Mapping[str, float]], None]]:
        """Where rows of steps go to."""
        if self.folder is None or _place()[0] > 0:
            yield lambda row: None
            return
        with StepTable(self.folder / "log.csv", first) as table:
            yield table.append

    def keep(self, trainer: Trainer) -> None:
        """Write a checkpoint, and what can be seen of the network."""
        if self.folder is None or trainer.rank > 0:
            return
        if self._validation is not None:
            self._judge(trainer.network.eval(), trainer.step)
            trainer.network.train()
        save_checkpoint(trainer.state(), self.folder)

    def _judge(self, network: MaskingNetwork, step: int) -> None:
        assert self.folder is not None and isinstance(self._validation, Sized)
        limits = self._objective.evidence_removal.limits
        n = len(self._validation)
        figures = self.folder / "masks"
        figures.mkdir(exist_ok=True)
        grid = mask_grid(network, self._validation, min(n, _SHOWN_PICTURES), limits)
        write_mask_grid(grid, figures / f"step-{step:06d}.png")
        found = mean_masks(network, self._validation, min(n, _JUDGED_PICTURES))
        with StepTable(self.folder / "validation.csv", step) as table:
            table.append({"step": step, **found._asdict()})


def _train(
    trainer: Trainer,
    samples: Samples,
    keeper: _Keeper,
    n_workers: int,
    show_progress: bool,
) -> None:
    state = keeper.newest()
    if state is not None:
        trainer.go_on_from(state)
    trainer.share()
    steps = StepSampler(
        len(samples),
        trainer.batch_size,
        trainer.n_steps,
        samples.seed,
        trainer.step,
        trainer.rank,
        trainer.world_size,
    )
    loader = DataLoader(
        samples,
        batch_sampler=steps,
        num_workers=check_integer("n_workers", n_workers, 0),
        collate_fn=list,
        # Without one of its own it would draw from the global generator.
        generator=Generator(),
    )
    # Captum's type of a bar knows nothing of what is shown behind it.
    bar: Any = progress(
        desc="training",
        total=trainer.n_steps,
        initial=trainer.step,
        disable=not show_progress or trainer.rank > 0,
    )
    with bar, keeper.table(trainer.step) as append:
        for batch in loader:
            row = trainer.advance(batch)
            append(row)
            bar.set_postfix({name: f"{row[name]:.3f}" for name in _SHOWN_TERMS})
            bar.update()
            if trainer.step % keeper.every == 0 or trainer.step == trainer.n_steps:
                keeper.keep(trainer)


_SHOWN_TERMS = ("loss", *SaliencyTerms._fields)


@contextlib.contextmanager
def frozen(model: object) -> Iterator[None]:
    """A module in eval mode and without gradients of its parameters, for a while.

    Args:
        model (object): A module; any other function is left alone.

    Examples::

        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train()
        >>> with frozen(model):
        ...     model.training, model[0].weight.requires_grad
        (False, False)
        >>> model.training, model[0].weight.requires_grad
        (True, True)
    """
    if not isinstance(model, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval()
    model.requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, requires_grad in wanted:
            parameter.requires_grad_(requires_grad)


def _autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    # Gradients in bfloat16 have the range of float32: there is no scaler to keep.
    if device.type == "cuda" and torch.cuda.is_bf16_supported(
        including_emulation=False
    ):
        return torch.autocast("cuda", torch.bfloat16)
    return contextlib.nullcontext()


def _place() -> tuple[int, int]:
    """Number of this process, and of all."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()
