"""Sampling of training batches, as a function of seed, epoch and index alone.

Every random number belongs to one sample. A step is therefore the same however it is
split over processes, and there is no generator state to store in checkpoints.
"""

from collections.abc import Iterator, Sequence, Sized
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset, Sampler

from captum_ext._type_checks import check_finite, check_tensor, plain, shown

__all__ = [
    "Sample",
    "SampleDataset",
    "SampleKey",
    "StepSampler",
    "TrainingData",
    "check_indexable",
    "checked_example",
    "epoch_order",
    "stacked_images",
]


TrainingData = Dataset[tuple[Tensor, int]] | Dataset[tuple[Tensor, int, Tensor]]
"""Images (C, H, W) and their classes, with maps (1, H, W) for distillation."""


class SampleKey(NamedTuple):
    """Key of a sample: an image in an epoch.

    Attributes:
        epoch (int): Number of the epoch.
        image (int): Index of the image in the data set.
    """

    epoch: int
    image: int


class Sample(NamedTuple):
    """An image, its class and map, and the class whose mask is requested.

    Attributes:
        image (Tensor): Image (C, H, W).
        target (int): Class whose mask is requested.
        label (int): Class of the image; differs from ``target`` if that is a fake.
        seed (int): Seed of the alternative images.
        map (Tensor or None): Map (1, H, W) of the class of the image, for distillation.
    """

    image: Tensor
    target: int
    label: int
    seed: int
    map: Tensor | None = None


def epoch_order(n: int, seed: int, epoch: int) -> list[int]:
    """Random order of n images in an epoch.

    Args:
        n (int): Number of images.
        seed (int): Seed of the training run.
        epoch (int): Number of the epoch.

    Returns:
        *list[int]*: Permutation of the indices.

    Examples::

        >>> sorted(epoch_order(4, seed=0, epoch=1))
        [0, 1, 2, 3]
    """
    key = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    return torch.randperm(n, generator=Generator().manual_seed(key)).tolist()


class StepSampler(Sampler[list[SampleKey]]):
    """Batch sampler that yields the share of one process in each training step.

    Args:
        n (int): Number of images.
        batch_size (int): Images per step in all processes together, at most n.
        n_steps (int): Number of steps of the whole training run.
        seed (int): Seed of the training run.
        first (int, optional): First step to yield. Default: 0
        rank (int, optional): Rank of the process. Default: 0
        world_size (int, optional): Number of processes. Default: 1

    Examples::

        >>> steps = list(StepSampler(4, batch_size=2, n_steps=3, seed=0, first=1))
        >>> [[key.epoch for key in step] for step in steps]
        [[0, 0], [1, 1]]
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        n_steps: int,
        seed: int,
        first: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.n, self.batch_size, self.n_steps = n, batch_size, n_steps
        self.seed, self.first = seed, first
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return self.n_steps - self.first

    def __iter__(self) -> Iterator[list[SampleKey]]:
        steps_per_epoch = self.n // self.batch_size
        last_epoch, order = -1, [0]
        for step in range(self.first, self.n_steps):
            epoch, position = divmod(step, steps_per_epoch)
            if epoch != last_epoch:
                last_epoch, order = epoch, epoch_order(self.n, self.seed, epoch)
            start = position * self.batch_size
            batch = order[start : start + self.batch_size]
            share = np.array_split(batch, self.world_size)[self.rank]
            yield [SampleKey(epoch, int(image)) for image in share]


def check_indexable(name: str, dataset: object) -> None:
    """Refuse a data set without a length or without items by their number."""
    is_text = isinstance(dataset, (str, bytes))
    is_indexable = isinstance(dataset, Sized) and hasattr(dataset, "__getitem__")
    if is_text or not is_indexable:
        raise TypeError(
            f"{name} must have a length and items by number, got "
            f"{type(dataset).__name__}."
        )


def checked_example(
    example: Any, n_classes: int, index: int, name: str = "dataset"
) -> tuple[Tensor, int, Tensor | None]:
    """An image, its class, and its map if there is one.

    Args:
        example (object): Item of a data set.
        n_classes (int): Number of classes of the network.
        index (int): Number of the item in the data set.
        name (str, optional): Name of the argument. Default: "dataset"

    Returns:
        *tuple[Tensor, int, Tensor or None]*: Image (C, H, W), class, and map (1, H, W).

    Raises:
        ValueError: If the image or the map has another shape or is not finite, or if
            the network does not have the class.
        TypeError: If the item is something else.
    """
    if not isinstance(example, (tuple, list)) or len(example) not in (2, 3):
        raise TypeError(
            f"{name} must hold images with their classes, got {shown(example)} at "
            f"{index}."
        )
    image, label, *maps = example
    check_tensor(name, image, "images (C, H, W) and classes")
    if image.dim() != 3 or not image.is_floating_point():
        raise ValueError(
            f"{name} must hold floating-point images (C, H, W), got {image.dtype} of "
            f"shape {tuple(image.shape)} at {index}."
        )
    check_finite(name, image)
    label = plain(label)
    if isinstance(label, bool) or not isinstance(label, int):
        raise TypeError(
            f"{name} must hold integers as classes, got {shown(label)} for image "
            f"{index}."
        )
    if not 0 <= label < n_classes:
        raise ValueError(
            f"{name} must have classes from 0 to {n_classes - 1}, as the network has, "
            f"got {label} for image {index}."
        )
    return image, label, _checked_map(maps[0], image, index, name) if maps else None


def _checked_map(map_: Any, image: Tensor, index: int, name: str) -> Tensor:
    """A map (1, H, W) in [0, 1] of an image, as a target of distillation."""
    check_tensor(name, map_, "a map (1, H, W) beside each image and class")
    shape = (1, *image.shape[1:])
    if map_.shape != shape or not map_.is_floating_point():
        raise ValueError(
            f"{name} must hold floating-point maps {shape}, got {map_.dtype} of shape "
            f"{tuple(map_.shape)} at {index}."
        )
    low, high = map_.aminmax()
    # Not NaN either.
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"{name} must hold maps in [0, 1], got {float(low):.3g} to "
            f"{float(high):.3g} at {index}."
        )
    return map_


def stacked_images(images: Sequence[Tensor], name: str = "dataset") -> Tensor:
    """Images (C, H, W) of one size as a batch; others are refused."""
    sizes = sorted({tuple(image.shape) for image in images})
    if len(sizes) > 1:
        raise ValueError(
            f"{name} must hold images (C, H, W) of one size, got "
            f"{' and '.join(map(str, sizes[:3]))}."
        )
    return torch.stack(list(images))


class SampleDataset(Dataset[Sample]):
    """Training samples by :class:`SampleKey`.

    Args:
        dataset (Dataset): Images (C, H, W), their classes, and their maps (1, H, W) if
            they are distilled. Random numbers that it draws from torch's global
            generator, for augmentation, are seeded as well.
        n_classes (int): Number of classes.
        fake_probability (float): Probability that the requested class is a fake one,
            not the image's own.
        seed (int): Seed of the training run.
    """

    def __init__(
        self,
        dataset: TrainingData,
        n_classes: int,
        fake_probability: float,
        seed: int,
    ) -> None:
        check_indexable("dataset", dataset)
        assert isinstance(dataset, Sized)
        self.dataset, self.n = dataset, len(dataset)
        self.n_classes, self.seed = n_classes, seed
        self.fake_probability = fake_probability

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, key: SampleKey) -> Sample:
        seeds = np.random.SeedSequence([self.seed, *key]).generate_state(3)
        target_seed, image_seed, alternative_seed = map(int, seeds)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(image_seed)
            example = self.dataset[key.image]
        image, label, map_ = checked_example(example, self.n_classes, key.image)
        generator = Generator().manual_seed(target_seed)
        fake = float(torch.rand(1, generator=generator)) < self.fake_probability
        other = int(torch.randint(self.n_classes - 1, (1,), generator=generator))
        target = other + (other >= label) if fake else label
        return Sample(image, target, label, alternative_seed, map_)
