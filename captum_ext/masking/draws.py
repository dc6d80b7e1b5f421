"""What a step of training sees: a function of seed, epoch and position alone.

Every random number belongs to one sample. So a step is the same whichever process
computes which part of it, and a generator has no state that a checkpoint must keep.
"""

from collections.abc import Iterator, Sized
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset, Sampler

__all__ = ["Place", "Sample", "Samples", "StepSampler", "epoch_order"]


class Place(NamedTuple):
    """Which sample: an image within a round through the data.

    Attributes:
        epoch (int): The round.
        number (int): The image's place in the data set.
    """

    epoch: int
    number: int


class Sample(NamedTuple):
    """An image with the class that is asked for.

    Attributes:
        image (Tensor): (C, H, W).
        target (int): The class that a mask is asked for.
        label (int): The image's class; another one if the target is a fake.
        seed (int): Of the alternative images.
    """

    image: Tensor
    target: int
    label: int
    seed: int


def epoch_order(n: int, seed: int, epoch: int) -> list[int]:
    """The order of n images in a round through them.

    Args:
        n (int): Number of images.
        seed (int): Of the training.
        epoch (int): The round.

    Returns:
        *list[int]*: All indices.

    Examples::

        >>> sorted(epoch_order(4, seed=0, epoch=1))
        [0, 1, 2, 3]
    """
    key = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    return torch.randperm(n, generator=Generator().manual_seed(key)).tolist()


class StepSampler(Sampler[list[Place]]):
    """The share that one process has of each step.

    Args:
        n (int): Number of images.
        batch_size (int): Images in a step, all processes together, at most n.
        n_steps (int): Number of steps of the whole training.
        seed (int): Of the training.
        first (int, optional): The step to begin with. Default: 0
        rank (int, optional): Number of the process. Default: 0
        world_size (int, optional): Number of processes. Default: 1

    Examples::

        >>> steps = list(StepSampler(4, batch_size=2, n_steps=3, seed=0, first=1))
        >>> [[place.epoch for place in step] for step in steps]
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

    def __iter__(self) -> Iterator[list[Place]]:
        steps_an_epoch = self.n // self.batch_size
        known, order = -1, [0]
        for step in range(self.first, self.n_steps):
            epoch, number = divmod(step, steps_an_epoch)
            if epoch != known:
                known, order = epoch, epoch_order(self.n, self.seed, epoch)
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            own = np.array_split(batch, self.world_size)[self.rank]
            yield [Place(epoch, int(index)) for index in own]


class Samples(Dataset[Sample]):
    """Images with the class that is asked for, by :class:`Place`.

    Args:
        dataset (Dataset): Images (C, H, W) and their classes. Random numbers of
            torch that it draws, to mirror an image for example, are seeded as well.
        n_classes (int): Number of classes.
        fake_probability (float): How often another class than the image's is asked
            for.
        seed (int): Of the training.
    """

    def __init__(
        self,
        dataset: Dataset[tuple[Tensor, int]],
        n_classes: int,
        fake_probability: float,
        seed: int,
    ) -> None:
        if not isinstance(dataset, Sized):
            raise TypeError(
                f"dataset must have a length, got {type(dataset).__name__}."
            )
        self.dataset, self.n = dataset, len(dataset)
        self.n_classes, self.seed = n_classes, seed
        self.fake_probability = fake_probability

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, place: Place) -> Sample:
        key = np.random.SeedSequence([self.seed, *place])
        own, of_data, of_evidence = (int(word) for word in key.generate_state(3))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(of_data)
            image, label = self.dataset[place.number]
        label = int(label)
        if not 0 <= label < self.n_classes:
            raise ValueError(
                f"dataset must have classes from 0 to {self.n_classes - 1} as the "
                f"network, got {label} for image {place.number}."
            )
        generator = Generator().manual_seed(own)
        fake = float(torch.rand(1, generator=generator)) < self.fake_probability
        other = int(torch.randint(self.n_classes - 1, (1,), generator=generator))
        target = other + (other >= label) if fake else label
        return Sample(image, target, label, of_evidence)
