"""Labeled images of a data set, preprocessed for training."""

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from captum_ext._progress import progress
from captum_ext.datasets.dataset import Dataset, Example
from captum_ext.zoo import ZooModel

__all__ = ["InMemoryImages", "LabeledImages", "training_images"]

# Images that need less memory than this are preprocessed once.
_MAX_BYTES = 2 * 10**9


class LabeledImages(TorchDataset[tuple[Tensor, int]]):
    """Images that are read and preprocessed on access.

    Args:
        examples (sequence of Example): Images with labels, the first of which is used.
        preprocess (Callable): Function from an image to its tensor (C, H, W).
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


class InMemoryImages(TorchDataset[tuple[Tensor, int]]):
    """Images that are preprocessed once and kept in memory as bytes.

    Args:
        images (LabeledImages): Images of equal size.
        mean (sequence of float): Mean of the normalization, per channel.
        std (sequence of float): Standard deviation of the normalization, per channel.
        show_progress (bool, optional): Whether to show a progress bar. Default: False
    """

    def __init__(
        self,
        images: LabeledImages,
        mean: Sequence[float],
        std: Sequence[float],
        show_progress: bool = False,
    ) -> None:
        # Not a ZooModel: its classifier would be sent to each worker process.
        self.mean, self.std = (torch.tensor(v).view(-1, 1, 1) for v in (mean, std))
        self.images = torch.empty(len(images), *images[0][0].shape, dtype=torch.uint8)
        self.labels = []
        indices = range(len(images))
        for i in progress(indices, desc="images", show=show_progress):
            image, label = images[i]
            pixels = (image * self.std + self.mean).clamp(0, 1)
            self.images[i] = (255 * pixels).round()
            self.labels.append(label)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index] / 255
        return (image - self.mean) / self.std, self.labels[index]


def training_images(
    dataset: Dataset, model: ZooModel, show_progress: bool = False
) -> InMemoryImages | LabeledImages:
    """Images and classes for training, kept in memory if they fit into 2 GB.

    Args:
        dataset (Dataset): Data set with labels; the first label of an image is used.
        model (ZooModel): Classifier whose preprocessing is applied.
        show_progress (bool, optional): Whether to show a progress bar. Default: False

    Returns:
        *InMemoryImages* or *LabeledImages*: Image (C, H, W) and class of each example.

    Raises:
        ValueError: If an image has no label.
    """
    dataset.require("labels", "training")
    images = LabeledImages(dataset.examples, model.preprocess)
    if len(images) * images[0][0].numel() > _MAX_BYTES:
        return images
    return InMemoryImages(images, model.mean, model.std, show_progress)
