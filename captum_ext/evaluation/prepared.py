"""Pictures of a data set as a classifier takes them, for training."""

from typing import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from captum_ext._captum import progress
from captum_ext.evaluation.datasets import Dataset, Example
from captum_ext.zoo import ZooModel

__all__ = ["HeldPictures", "LabelledPictures", "prepare"]

# Pictures that take less memory than this are prepared once.
_HELD_BYTES = 2 * 10**9


class LabelledPictures(TorchDataset[tuple[Tensor, int]]):
    """Pictures that are prepared when they are asked for.

    Args:
        examples (sequence of Example): Pictures with labels, of which the first counts.
        preprocess (Callable): A picture to its tensor (3, H, W).
    """

    def __init__(
        self,
        examples: Sequence[Example],
        preprocess: Callable[[Image.Image], Tensor],
    ) -> None:
        self.examples, self.preprocess = examples, preprocess

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        example = self.examples[index]
        return self.preprocess(example.read()), example.labels[0]


class HeldPictures(TorchDataset[tuple[Tensor, int]]):
    """Pictures that are prepared once and kept as bytes.

    Args:
        pictures (LabelledPictures): All of one size.
        mean (sequence of float): Of the normalization, for each channel.
        std (sequence of float): Of the normalization, for each channel.
        show_progress (bool, optional): Whether a progress bar is shown. Default: False
    """

    def __init__(
        self,
        pictures: LabelledPictures,
        mean: Sequence[float],
        std: Sequence[float],
        show_progress: bool = False,
    ) -> None:
        # No ZooModel: workers would be sent its classifier.
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in (mean, std))
        self.pictures = torch.empty(
            len(pictures), *pictures[0][0].shape, dtype=torch.uint8
        )
        self.labels = []
        numbers = range(len(pictures))
        for i in progress(numbers, desc="pictures", disable=not show_progress):
            picture, label = pictures[i]
            shown = (picture * self.std + self.mean).clamp(0, 1)
            self.pictures[i] = (255 * shown).round()
            self.labels.append(label)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = self.pictures[index] / 255
        return (picture - self.mean) / self.std, self.labels[index]


def prepare(
    dataset: Dataset, model: ZooModel, show_progress: bool = False
) -> HeldPictures | LabelledPictures:
    """Pictures and classes for a training, held in memory where they are few.

    Args:
        dataset (Dataset): With labels, of which the first of a picture counts.
        model (ZooModel): What prepares them.
        show_progress (bool, optional): Whether a progress bar is shown. Default: False

    Returns:
        *HeldPictures* or *LabelledPictures*: (3, H, W) and the class of each.
    """
    pictures = LabelledPictures(dataset.examples, model.preprocess)
    if len(pictures) * pictures[0][0].numel() > _HELD_BYTES:
        return pictures
    return HeldPictures(pictures, model.mean, model.std, show_progress)
