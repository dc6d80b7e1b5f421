"""What training leaves to look at: a table of its steps, and grids of masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from captum_ext._files import write_file
from captum_ext.masking.network import MaskingNetwork

__all__ = ["MeanMasks", "StepTable", "mask_grid", "mean_masks"]

Limits = tuple[Sequence[float], Sequence[float]]


class StepTable:
    """A CSV file with a row for each step, for pandas or a spreadsheet.

    Rows of steps that will be done again are cut off when it is opened, a torn one too.

    Args:
        path (Path): The file; it is made if there is none.
        first (int): The step that training begins with.

    Examples::

        >>> from pathlib import Path
        >>> with StepTable(Path("log.csv"), first=0) as table:
        ...     table.append({"step": 0, "loss": 1.5})
        >>> Path("log.csv").read_text()
        'step,loss\\n0,1.5\\n'
    """

    def __init__(self, path: Path, first: int) -> None:
        if path.exists():
            whole = path.read_bytes().split(b"\n")[:-1]
            kept = whole[:1] + [row for row in whole[1:] if _step(row) < first]
            write_file(b"".join(row + b"\n" for row in kept), path)
        self._file = open(path, "a", encoding="utf-8")

    def append(self, row: Mapping[str, float]) -> None:
        """Write a row; the first one of a file decides on its columns.

        Args:
            row (Mapping): Values by column, "step" first.
        """
        if self._file.tell() == 0:
            self._file.write(",".join(row) + "\n")
        self._file.write(",".join(map(repr, row.values())) + "\n")
        self._file.flush()

    def __enter__(self) -> "StepTable":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def _step(row: bytes) -> int:
    return int(row.partition(b",")[0])


class MeanMasks(NamedTuple):
    """Whether a network looks at the class that it is asked for.

    Attributes:
        right (float): Mean mask for the images' own classes.
        absent (float): Mean mask for other classes.
    """

    right: float
    absent: float


@torch.no_grad()
def mean_masks(
    network: MaskingNetwork,
    dataset: Dataset[tuple[Tensor, int]],
    n: int,
    batch_size: int = 64,
) -> MeanMasks:
    """Mean masks of the first images for their own and for absent classes.

    Absent is the class that follows the image's own by 1, 2 and so on, another one
    for each image.

    Args:
        network (MaskingNetwork): It is used in the mode in which it is.
        dataset (Dataset): Images (C, H, W) and their classes.
        n (int): Number of images.
        batch_size (int, optional): Images in a forward pass. Default: 64

    Returns:
        *MeanMasks*: Both means.
    """
    device = next(network.parameters()).device
    sums = [0.0, 0.0]
    for start in range(0, n, batch_size):
        images, labels = _examples(dataset, range(start, min(n, start + batch_size)))
        absent = _absent(labels, network.n_classes)
        for i, target in enumerate((labels, absent)):
            masks = network(images.to(device), target.to(device))
            sums[i] += float(masks.mean((1, 2, 3)).double().sum())
    return MeanMasks(sums[0] / n, sums[1] / n)


def _examples(
    dataset: Dataset[tuple[Tensor, int]], indices: range
) -> tuple[Tensor, Tensor]:
    # A data set that draws, to mirror images for example, gives the same each time.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(indices.start)
        images, labels = zip(*(dataset[i] for i in indices))
    return torch.stack(images), torch.tensor([int(label) for label in labels])


def _absent(labels: Tensor, n_classes: int) -> Tensor:
    """Another class for each, differing in how far it is from the right one."""
    shift = torch.arange(len(labels)) % (n_classes - 1) + 1
    return (labels + shift) % n_classes


@torch.no_grad()
def mask_grid(
    network: MaskingNetwork,
    dataset: Dataset[tuple[Tensor, int]],
    n: int,
    limits: Limits | None = None,
) -> Tensor:
    """The first images of a data set, each with its masks.

    In a row, from left to right: the image, the mask of its class, what of the
    image that mask keeps, and the mask of an absent class.

    Args:
        network (MaskingNetwork): It is used in the mode in which it is.
        dataset (Dataset): Images (C, H, W) and their classes.
        n (int): Number of images.
        limits (tuple, optional): Least and greatest value of each channel.
            Default: None (those of the images)

    Returns:
        *Tensor*: An image (3, H', W') in [0, 1].
    """
    from torchvision.utils import make_grid

    device = next(network.parameters()).device
    images, labels = _examples(dataset, range(n))
    right, absent = (
        network(images.to(device), target.to(device)).cpu()
        for target in (labels, _absent(labels, network.n_classes))
    )
    low, high = (
        (images.amin((0, 2, 3)), images.amax((0, 2, 3)))
        if limits is None
        else (torch.tensor(values) for values in limits)
    )
    span = (high - low)[:, None, None].clamp_min(1e-12)
    shown = ((images - low[:, None, None]) / span).clamp(0, 1)
    rows = torch.stack(
        [
            shown,
            right.expand_as(shown),
            shown * right + 0.5 * (1 - right),
            absent.expand_as(shown),
        ],
        1,
    )
    # Two images stand side by side, and small ones are enlarged.
    enlarged = rows.flatten(0, 1).repeat_interleave(_zoom(shown), 2)
    enlarged = enlarged.repeat_interleave(_zoom(shown), 3)
    return make_grid(enlarged, nrow=8, padding=4, pad_value=1)


def _zoom(images: Tensor) -> int:
    return max(1, 96 // images.shape[-1])
