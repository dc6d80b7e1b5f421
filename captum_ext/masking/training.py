"""How a masking network is trained: what is asked, checked, and done step by step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from captum_ext._captum import progress
from captum_ext._processes import rank, world_size
from captum_ext._validation import check_integer, check_not_negative, check_positive
from captum_ext.masking.draws import Samples, StepSampler
from captum_ext.masking.frozen import frozen
from captum_ext.masking.keeper import Keeper
from captum_ext.masking.network import MaskingNetwork
from captum_ext.masking.objective import SaliencyObjective, SaliencyTerms
from captum_ext.masking.trainer import Trainer

__all__ = ["train_masking_network"]


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

    Each step asks for masks of some images, of which some for a class that is not
    the image's, and lowers the objective by AdamW under a one-cycle schedule. On GPUs
    that have it, bfloat16 is used. The classifier is in eval mode meanwhile and gets no
    gradients of its parameters; afterwards it is as it was.

    A training that was stopped, at whatever instant, goes on when it is started again
    with the same arguments, and gives what it would have given: on the CPU bit for bit.
    In processes of one ``torch.distributed`` group a step is shared out; it may go on
    in another number of processes.

    The folder gets ``checkpoint.pt`` and the one before, ``log.csv`` with the terms of
    each step, and, if there is a validation set, at each checkpoint
    ``masks/step-N.png`` with the masks of some images, and a row in
    ``validation.csv``: mean masks for the images' own and for absent classes.
    ``MaskingNetwork.load`` reads the network of a checkpoint.

    Args:
        network (MaskingNetwork): It is trained in place, on the device where it is.
        black_box (Callable): Logits (B, classes) of images.
        dataset (Dataset): Images (3, H, W) of one size, normalized as the classifier
            needs them, and their classes.
        output (str or Path, optional): Folder for what is kept; new, empty, or of a
            training with the same arguments. Default: None (nothing is kept)
        objective (SaliencyObjective, optional): What is lowered. Default: None (Eq. 4
            with the paper's weights)
        validation (Dataset, optional): Images to look at on the way, that the
            network does not learn from. Default: None
        n_epochs (int, optional): How often each image is used. Default: 10
        batch_size (int, optional): Images in a step, all processes together.
            Default: 64
        learning_rate (float, optional): The largest of the schedule. Default: 3e-3
        weight_decay (float, optional): Of AdamW. Default: 1e-2
        max_gradient_norm (float, optional): Longer gradients are shortened to it.
            Default: 1
        checkpoint_every (int, optional): Steps between checkpoints. Default: 200
        n_workers (int, optional): Processes that read images, in each process.
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
        >>> images = [(torch.rand(3, 16, 16), i % 4) for i in range(8)]
        >>> network = MaskingNetwork(n_classes=4, width=8)
        >>> network = train_masking_network(
        ...     network, black_box, images, "run", n_epochs=1, batch_size=4
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
            f"dataset must hold at least one batch of {batch_size} images, got "
            f"{len(samples)}."
        )
    settings = {
        "network": network.settings,
        "objective": objective.settings,
        "training": {
            "n_images": len(samples),
            "n_epochs": check_integer("n_epochs", n_epochs, 1),
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "max_gradient_norm": max_gradient_norm,
            "seed": seed,
        },
    }
    if batch_size < world_size():
        raise ValueError(
            f"batch_size must be at least 1 for each of the {world_size()} processes, "
            f"got {batch_size}."
        )
    keeper = Keeper(
        None if output is None else Path(output),
        validation,
        objective,
        check_integer("checkpoint_every", checkpoint_every, 1),
    )
    with frozen(black_box):
        trainer = Trainer(network, black_box, objective, settings)
        _train(trainer, samples, keeper, n_workers, show_progress)
    return network.eval()


def _train(
    trainer: Trainer,
    samples: Samples,
    keeper: Keeper,
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
        rank(),
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
        disable=not show_progress or rank() > 0,
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
