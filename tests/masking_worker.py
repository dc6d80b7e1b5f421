"""Small training run of a masking network that can kill its own process."""

import os
import signal
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.utils.data import Dataset

from captum_ext.masking import MaskingNetwork, train_masking_network
from captum_ext.masking.checkpoints import load_file

__all__ = [
    "BlackBox",
    "KillPoint",
    "SmallImages",
    "new_network",
    "same",
    "small_training",
    "weights",
    "work",
]

N_STEPS = 12


class KillPoint(NamedTuple):
    """When a process kills itself, whichever comes first.

    Attributes:
        n_samples (int): Number of images that it still reads.
        n_files (int): Number of files that it still replaces; the next one is written
            under its temporary name but not renamed.
    """

    n_samples: int
    n_files: int


def patterns() -> Tensor:
    """Vertical stripes, horizontal stripes and a checkerboard, (3, 1, 6, 6) of +-1."""
    sign = torch.tensor([1.0, -1.0]).repeat(3)
    vertical, horizontal = sign.expand(6, 6), sign[:, None].expand(6, 6)
    return torch.stack([vertical, horizontal, vertical * horizontal])[:, None]


class BlackBox(nn.Module):
    """Detects the three patterns anywhere, with batch norm and dropout inside."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("patterns", patterns() / 36)

    def forward(self, x: Tensor) -> Tensor:
        gray = self.dropout(self.norm(x)).mean(1, keepdim=True)
        found = nn.functional.conv2d(gray, self.patterns)
        return 8 * found.amax((2, 3))


class SmallImages(Dataset[tuple[Tensor, int]]):
    """Images of one pattern on noise, randomly mirrored by the global generator."""

    def __init__(self, n: int = 26, dtype: torch.dtype = torch.float32) -> None:
        self.n, self.dtype = n, dtype
        self.left = 10**9

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
        generator = torch.Generator().manual_seed(index)
        image = 0.2 * torch.randn(3, 16, 16, generator=generator)
        image[:, 2:8, 2:8] += 1.5 * patterns()[index % 3]
        image = image.to(self.dtype)
        return (image.flip(2) if torch.rand(1) < 0.5 else image), index % 3


def new_network() -> MaskingNetwork:
    return MaskingNetwork(3, width=8, seed=1)


def small_training(
    folder: Path | None, dtype: torch.dtype = torch.float32, **options: Any
) -> MaskingNetwork:
    """Twelve steps of eight images, three steps per epoch."""
    arguments: dict[str, Any] = {
        "network": new_network().to(dtype),
        "black_box": BlackBox().to(dtype),
        "dataset": SmallImages(dtype=dtype),
        "n_epochs": N_STEPS // 3,
        "batch_size": 8,
        "checkpoint_every": 2,
        "seed": 3,
    }
    return train_masking_network(output=folder, **arguments | options)


def arm(point: KillPoint, dataset: SmallImages) -> None:
    """Make this process kill itself at the point."""
    replace, left = os.replace, point.n_files
    dataset.left = point.n_samples

    def replace_or_die(*paths: Any) -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        replace(*paths)

    os.replace = replace_or_die


def work(
    folder: Path,
    point: KillPoint | None,
    rank: int,
    world_size: int,
    rendezvous: Path,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Run the training in one of several processes, up to the point if given."""
    torch.set_num_threads(1)
    dataset = SmallImages(dtype=dtype)
    if point is not None:
        arm(point, dataset)
    if world_size > 1:
        distributed.init_process_group(
            "gloo", f"file://{rendezvous}", rank=rank, world_size=world_size
        )
    validation = SmallImages(4, dtype)
    small_training(folder, dtype, dataset=dataset, validation=validation)
    if world_size > 1:
        distributed.destroy_process_group()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoint.pt")["network"]


def flat(value) -> list:
    """All numbers and tensors of a checkpoint, in a fixed order."""
    if isinstance(value, dict):
        return [each for key in sorted(value, key=str) for each in flat(value[key])]
    if isinstance(value, (list, tuple)):
        return [each for entry in value for each in flat(entry)]
    return [value]


def same(one: Path, other: Path) -> bool:
    """Whether checkpoints and logs of two folders agree bit for bit."""
    pairs = zip(*(flat(load_file(f / "checkpoint.pt")) for f in (one, other)))
    logs = [
        (one / name).read_bytes() == (other / name).read_bytes()
        for name in ("log.csv", "validation.csv")
    ]
    return all(logs) and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs
    )
