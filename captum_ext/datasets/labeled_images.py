"""Images of a data set as a classifier takes them, for training."""

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from captum_ext._captum import progress
from captum_ext.datasets.dataset import Dataset, Example
from captum_ext.zoo import ZooModel

__all__ = ["HeldImages", "LabeledImages", "prepare"]

# Images that take less memory than this are prepared once.
_HELD_BYTES = 2 * 10**9


class LabeledImages(TorchDataset[tuple[Tensor, int]]):
    """Images that are prepared when they are asked for.

    Args:
        examples (sequence of Example): Images with labels, of which the first counts.
        preprocess (Callable): An image to its tensor (3, H, W).
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


class HeldImages(TorchDataset[tuple[Tensor, int]]):
    """Images that are prepared once and kept as bytes.

    Args:
        images (LabeledImages): All of one size.
        mean (sequence of float): Of the normalization, for each channel.
        std (sequence of float): Of the normalization, for each channel.
        show_progress (bool, optional): Whether a progress bar is shown. Default: False
    """

    def __init__(
        self,
        images: LabeledImages,
        mean: Sequence[float],
        std: Sequence[float],
        show_progress: bool = False,
    ) -> None:
        # No ZooModel: workers would be sent its classifier.
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in (mean, std))
        self.images = torch.empty(len(images), *images[0][0].shape, dtype=torch.uint8)
        self.labels = []
        numbers = range(len(images))
        for i in progress(numbers, desc="images", disable=not show_progress):
            image, label = images[i]
            shown = (image * self.std + self.mean).clamp(0, 1)
            self.images[i] = (255 * shown).round()
            self.labels.append(label)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index] / 255
        return (image - self.mean) / self.std, self.labels[index]


def prepare(
    dataset: Dataset, model: ZooModel, show_progress: bool = False
) -> HeldImages | LabeledImages:
    """Images and classes for a training, held in memory where they are few.

    Args:
        dataset (Dataset): With labels, of which the first of an image counts.
        model (ZooModel): What prepares them.
        show_progress (bool, optional): Whether a progress bar is shown. Default: False

    Returns:
        *HeldImages* or *LabeledImages*: (3, H, W) and the class of each.
    """
    images = LabeledImages(dataset.examples, model.preprocess)
    if len(images) * images[0][0].numel() > _HELD_BYTES:
        return images
    return HeldImages(images, model.mean, model.std, show_progress)
