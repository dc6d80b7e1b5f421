"""Training of a masking network: checks arguments and runs all steps, resumable."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from captum_ext._processes import only_writer, rank, world_size
from captum_ext._progress import print_resumed, progress
from captum_ext._type_checks import check_callable, check_flags, check_instance
from captum_ext._validation import check_integer, check_not_negative, check_positive
from captum_ext.masking.eval_mode import eval_mode
from captum_ext.masking.monitor import TrainingMonitor
from captum_ext.masking.network import MaskingNetwork
from captum_ext.masking.objective import SaliencyObjective, SaliencyTerms
from captum_ext.masking.sampling import (
    SampleDataset,
    StepSampler,
    TrainingData,
    check_indexable,
)
from captum_ext.masking.trainer import Trainer

__all__ = ["train_masking_network"]

_SHOWN_TERMS = ("loss", *SaliencyTerms._fields)


def train_masking_network(
    network: MaskingNetwork,
    black_box: Callable[[Tensor], Tensor],
    dataset: TrainingData,
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
    tensorboard: bool = False,
) -> MaskingNetwork:
    r"""Train a masking network for a classifier.

    Each step computes masks for a batch of images, some of them for a class that is not
    the image's, and minimizes the objective by AdamW with a one-cycle schedule, in
    bfloat16 on GPUs that support it. During training the classifier is in eval mode and
    its parameters get no gradients; afterwards its state is restored.

    A run that was interrupted at any point resumes when it is started again with the
    same arguments, and gives the same result as an uninterrupted one: bit for bit on
    the CPU. The processes of a ``torch.distributed`` group share each step; a run may
    resume with another number of processes.

    The output folder gets ``checkpoint.pt`` and the previous checkpoint, ``log.csv``
    with the terms of each step, and, with a validation set, for each checkpoint
    ``masks/step-N.png`` with the masks of some images and a row in ``validation.csv``:
    mean masks of the images' own and of absent classes. ``MaskingNetwork.load`` reads
    the network of a checkpoint.

    Args:
        network (MaskingNetwork): Network, trained in place on its current device.
        black_box (Callable): Function that returns logits (B, classes) of images.
        dataset (Dataset): Images (3, H, W) of one size, normalized as for the
            classifier, and their classes; for the distillation of an objective with
            the maps (1, H, W) of these classes in [0, 1].
        output (str or Path, optional): Output folder: new, empty, or of a run with the
            same arguments. Default: None (nothing is written)
        objective (SaliencyObjective, optional): Objective to minimize. Default: None
            (Eq. 4 with the paper's weights)
        validation (Dataset, optional): Images whose masks are reported at each
            checkpoint, not used for training. Default: None
        n_epochs (int, optional): Number of passes through the data set. Default: 10
        batch_size (int, optional): Images per step in all processes together.
            Default: 64
        learning_rate (float, optional): Maximum learning rate of the schedule.
            Default: 3e-3
        weight_decay (float, optional): Weight decay of AdamW. Default: 1e-2
        max_gradient_norm (float, optional): Norm to which longer gradients are clipped.
            Default: 1
        checkpoint_every (int, optional): Steps between checkpoints. Default: 200
        n_workers (int, optional): Data loading workers of each process.
            Default: 0 (the process itself)
        seed (int, optional): Seed of all random numbers. Default: 0
        show_progress (bool, optional): Whether to show a progress bar with the terms.
            Default: False
        tensorboard (bool, optional): Whether ``output/tensorboard`` gets the terms, the
            mean masks and the masks as events, with the extra ``tensorboard``.
            Default: False

    Returns:
        *MaskingNetwork*: The trained network, in eval mode.

    Raises:
        ValueError: If an argument is out of its range, if the data set has a class that
            the network does not have, if the folder holds a run with other arguments or
            no readable checkpoint, if another run writes to it, or if a term becomes
            NaN or infinite; the last checkpoint is kept.
        OSError: If the folder cannot be written; the last checkpoint is kept.
        MissingExtraError: If TensorBoard is not installed.

    Examples::

        >>> from pathlib import Path
        >>> from captum_ext.masking import MaskingNetwork
        >>> black_box = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
        >>> images = [(torch.rand(3, 16, 16), i % 4) for i in range(8)]
        >>> network = MaskingNetwork(n_classes=4, width=8)
        >>> network = train_masking_network(
        ...     network, black_box, images, "run", n_epochs=1, batch_size=4
        ... )
        >>> sorted(path.name for path in Path("run").glob("[!.]*"))
        ['checkpoint.pt', 'log.csv']
    """
    check_instance("network", network, MaskingNetwork)
    check_callable("black_box", black_box)
    objective = SaliencyObjective() if objective is None else objective
    check_instance("objective", objective, SaliencyObjective)
    check_indexable("validation", () if validation is None else validation)
    check_flags(show_progress=show_progress, tensorboard=tensorboard)
    n_workers = check_integer("n_workers", n_workers, 0)
    folder = _checked_folder(output, tensorboard)
    seed = check_integer("seed", seed, 0, 2**64 - 1)
    fake = objective.fake_probability
    samples = SampleDataset(dataset, network.n_classes, fake, seed)
    settings = {
        "network": network.settings,
        "objective": objective.settings,
        "training": {
            "n_images": len(samples),
            "n_epochs": check_integer("n_epochs", n_epochs, 1),
            "batch_size": _checked_batch_size(batch_size, len(samples)),
            "learning_rate": check_positive("learning_rate", learning_rate),
            "weight_decay": check_not_negative("weight_decay", weight_decay),
            "max_gradient_norm": check_positive("max_gradient_norm", max_gradient_norm),
            "seed": seed,
        },
    }
    every = check_integer("checkpoint_every", checkpoint_every, 1)
    monitor = TrainingMonitor(folder, validation, objective, every, tensorboard)
    with torch.inference_mode(False), torch.enable_grad(), eval_mode(black_box):
        trainer = Trainer(network, black_box, objective, settings)
        with only_writer(folder):
            _train(trainer, samples, monitor, n_workers, show_progress)
    return network.eval()


def _checked_folder(output: str | Path | None, needed: bool) -> Path | None:
    """The output folder, which need not exist; refuse the path of a file, and "".

    An empty path would be the current folder.
    """
    if output is None:
        if needed:
            raise ValueError("output must be a folder for tensorboard, got None.")
        return None
    check_instance("output", output, (str, Path))
    if output == "" or Path(output).is_file():
        raise ValueError(f"output must be a folder or None, got {str(output)!r}.")
    return Path(output)


def _checked_batch_size(batch_size: int, n_images: int) -> int:
    batch_size = check_integer("batch_size", batch_size, 1)
    if n_images < batch_size:
        raise ValueError(
            f"dataset must hold at least batch_size = {batch_size} images, got "
            f"{n_images}."
        )
    if batch_size < world_size():
        raise ValueError(
            f"batch_size must be at least 1 for each of the {world_size()} processes, "
            f"got {batch_size}."
        )
    return batch_size


def _train(
    trainer: Trainer,
    samples: SampleDataset,
    monitor: TrainingMonitor,
    n_workers: int,
    show_progress: bool,
) -> None:
    """Run all steps, from the newest checkpoint on if there is one."""
    state = monitor.load_checkpoint()
    if state is not None:
        trainer.load_state_dict(state)
    trainer.distribute()
    steps = StepSampler(
        len(samples),
        trainer.batch_size,
        trainer.n_steps,
        samples.seed,
        trainer.step,
        rank(),
        trainer.world_size,
    )
    loader = DataLoader(
        samples,
        batch_sampler=steps,
        num_workers=n_workers,
        collate_fn=list,
        # By default a loader draws from the global generator.
        generator=Generator(),
    )
    show_progress = show_progress and rank() == 0
    if show_progress:
        print_resumed(trainer.step, trainer.n_steps, "steps")
    bar = progress(
        desc="training",
        total=trainer.n_steps,
        initial=trainer.step,
        show=show_progress,
    )
    with bar, monitor.step_log(trainer.step) as append:
        for batch in loader:
            row = trainer.train_step(batch)
            append(row)
            bar.set_postfix({name: f"{row[name]:.3f}" for name in _SHOWN_TERMS})
            bar.update()
            if trainer.step % monitor.every == 0 or trainer.step == trainer.n_steps:
                monitor.save_checkpoint(trainer)
