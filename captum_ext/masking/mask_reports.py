"""Reports of a training run: log of steps, mean masks, and sheets of masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils.data import Dataset

from captum_ext._files import write_file
from captum_ext.masking.network import MaskingNetwork
from captum_ext.masking.sampling import checked_example, stacked_images

__all__ = ["MeanMasks", "StepLog", "mask_grid", "mask_sheet", "mean_masks"]

# Of an image in a grid; they fit the width of a small one.
_COLUMNS = ("image", "mask, own class", "what it keeps", "absent class")
_GAP, _TITLE_PIXELS = 4, 18
# Masks of absent classes relative to those of the images' own.
_SPECIFIC, _UNSPECIFIC = 0.5, 0.9
_EMPTY = 0.005

Limits = tuple[Sequence[float], Sequence[float]]


class StepLog:
    """CSV file with one row per step.

    Opening it removes the rows of steps that will be repeated, and an incomplete row.

    Args:
        path (Path): Path of the file, which is created if there is none.
        first (int): First step that will be appended.

    Examples::

        >>> from pathlib import Path
        >>> with StepLog(Path("log.csv"), first=0) as log:
        ...     log.append({"step": 0, "loss": 1.5})
        >>> Path("log.csv").read_text()
        'step,loss\\n0,1.5\\n'
    """

    def __init__(self, path: Path, first: int) -> None:
        if path.exists():
            lines = path.read_bytes().split(b"\n")[:-1]
            kept = lines[:1] + [row for row in lines[1:] if _step(row) < first]
            write_file(b"".join(row + b"\n" for row in kept), path)
        self._file = open(path, "a", encoding="utf-8")

    def append(self, row: Mapping[str, float]) -> None:
        """Write a row; the first row of a file determines its columns.

        Args:
            row (Mapping): Values by column, "step" first.
        """
        if self._file.tell() == 0:
            self._file.write(",".join(row) + "\n")
        self._file.write(",".join(map(repr, row.values())) + "\n")
        self._file.flush()

    def __enter__(self) -> "StepLog":
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
    """Mean masks, which differ if a network pays attention to the requested class.

    Attributes:
        right (float): Mean mask of the images' own classes.
        absent (float): Mean mask of other classes.
    """

    right: float
    absent: float

    @property
    def verdict(self) -> str:
        """Whether masks depend on the requested class, and what to do if they do not.

        Returns:
            *str*: A finding; after a comma what to change.

        Examples::

            >>> from captum_ext.masking.mask_reports import MeanMasks
            >>> MeanMasks(0.28, 0.02).verdict
            'class-specific (ratio 0.07)'
        """
        if self.right < _EMPTY:
            return "masks are empty, decrease the weight of the area, lambda_2"
        if self.right > 1 - _EMPTY:
            return "masks cover the image, increase the weight of the area, lambda_2"
        ratio = self.absent / self.right
        if ratio < _SPECIFIC:
            return f"class-specific (ratio {ratio:.2f})"
        advice = "train longer or increase the selection weight"
        if ratio < _UNSPECIFIC:
            return f"partly class-specific (ratio {ratio:.2f}), {advice}"
        return f"not class-specific (ratio {ratio:.2f}), {advice}"


@torch.no_grad()
def mean_masks(
    network: MaskingNetwork,
    dataset: Dataset[tuple[Tensor, int]],
    n: int,
    batch_size: int = 64,
) -> MeanMasks:
    """Compute mean masks of the first images, of their own and of absent classes.

    The absent class is the image's own plus 1 for the first image, plus 2 for the
    second, and so on.

    Args:
        network (MaskingNetwork): Network, used in its current mode.
        dataset (Dataset): Images (C, H, W) and their classes.
        n (int): Number of images.
        batch_size (int, optional): Images per forward pass. Default: 64

    Returns:
        *MeanMasks*: Means over the images.
    """
    device = next(network.parameters()).device
    sums = [0.0, 0.0]
    for start in range(0, n, batch_size):
        images, labels = _examples(
            dataset, range(start, min(n, start + batch_size)), network.n_classes
        )
        absent = _absent(labels, network.n_classes)
        for i, target in enumerate((labels, absent)):
            masks = network(images.to(device), target.to(device))
            sums[i] += float(masks.mean((1, 2, 3)).double().sum())
    return MeanMasks(sums[0] / n, sums[1] / n)


def _examples(
    dataset: Dataset[tuple[Tensor, int]], indices: range, n_classes: int
) -> tuple[Tensor, Tensor]:
    # A data set with random augmentation returns the same images each time.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(indices.start)
        examples = [
            checked_example(dataset[i], n_classes, i, "validation") for i in indices
        ]
    images, labels, _ = zip(*examples)
    return stacked_images(images, "validation"), torch.tensor(labels)


def _absent(labels: Tensor, n_classes: int) -> Tensor:
    """Another class for each label, at a distance that varies over the examples."""
    shift = torch.arange(len(labels)) % (n_classes - 1) + 1
    return (labels + shift) % n_classes


@torch.no_grad()
def mask_grid(
    network: MaskingNetwork,
    dataset: Dataset[tuple[Tensor, int]],
    n: int,
    limits: Limits | None = None,
) -> Tensor:
    """Draw the first images of a data set with their masks.

    From left to right: the image, the mask of its class, the part of the image that the
    mask keeps, and the mask of an absent class. Of images of more than three channels
    the first three are shown, of two channels the first one.

    Args:
        network (MaskingNetwork): Network, used in its current mode.
        dataset (Dataset): Images (C, H, W) and their classes.
        n (int): Number of images.
        limits (tuple, optional): Minimum and maximum of each channel.
            Default: None (minimum and maximum over the images)

    Returns:
        *Tensor*: Grid of images, (3, H', W') in [0, 1].
    """
    from torchvision.utils import make_grid

    device = next(network.parameters()).device
    images, labels = _examples(dataset, range(n), network.n_classes)
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
    shown = shown[:, :3] if shown.shape[1] >= 3 else shown[:, :1]
    rows = torch.stack(
        [
            shown,
            right.expand_as(shown),
            shown * right + 0.5 * (1 - right),
            absent.expand_as(shown),
        ],
        1,
    )
    # Two images per row of the grid; small images are enlarged.
    enlarged = rows.flatten(0, 1).repeat_interleave(_zoom(shown), 2)
    enlarged = enlarged.repeat_interleave(_zoom(shown), 3)
    return make_grid(enlarged, nrow=2 * len(_COLUMNS), padding=_GAP, pad_value=1)


def mask_sheet(grid: Tensor, n: int) -> Image.Image:
    """Write titles above the columns of a grid.

    Args:
        grid (Tensor): Grid of :func:`mask_grid`.
        n (int): Number of images in it.

    Returns:
        *PIL.Image.Image*: Image with a title above each column.
    """
    from torchvision.transforms.functional import to_pil_image

    drawn = to_pil_image(grid)
    titles = _COLUMNS * min(n, 2)
    width = (drawn.width - _GAP) / len(titles)
    sheet = Image.new("RGB", (drawn.width, drawn.height + _TITLE_PIXELS), "white")
    sheet.paste(drawn, (0, _TITLE_PIXELS))
    pen = ImageDraw.Draw(sheet)
    for i, title in enumerate(titles):
        pen.text((_GAP + i * width, 4), title, fill="black")
    return sheet


def _zoom(images: Tensor) -> int:
    return max(1, 96 // images.shape[-1])
