"""Maps of a method as targets of training, kept in the output folder."""

import json
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from captum_ext._files import save_image, write_file
from captum_ext._processes import barrier, rank, world_size
from captum_ext._progress import progress
from captum_ext.attr.map_fusion import unit_range
from captum_ext.datasets.dataset import Dataset, Example
from captum_ext.datasets.training_images import (
    InMemoryImages,
    LabeledImages,
    training_images,
)
from captum_ext.methods.image_maps import ImageMaps
from captum_ext.methods.specs import Spec, needed_parts, read_methods
from captum_ext.subject import build_subject
from captum_ext.zoo import ZooModel

__all__ = ["MappedImages", "images_with_maps", "read_method"]


class MappedImages(TorchDataset[tuple[Tensor, int, Tensor]]):
    """Training images with maps, which are read on access.

    Args:
        images (InMemoryImages or LabeledImages): Images and their classes.
        files (list[Path]): Grayscale image of the map of each.
    """

    def __init__(
        self, images: InMemoryImages | LabeledImages, files: list[Path]
    ) -> None:
        self.images, self.files = images, files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int, Tensor]:
        with Image.open(self.files[index]) as file:
            return *self.images[index], pil_to_tensor(file) / 255


def read_method(text: str) -> Spec:
    """The method whose maps the network learns.

    Args:
        text (str): A method as in ``evaluate``, such as "pn-rise:n_masks=50".

    Raises:
        ValueError: If it is not exactly one method, or needs a masking network.
    """
    specs = list(read_methods(text).values())
    if len(specs) != 1:
        raise ValueError(f"--distill must be one method, got {text!r}.")
    if "masking_network" in needed_parts(specs):
        raise ValueError(
            f"--distill must be a method without a masking network, got {text!r}."
        )
    return specs[0]


def images_with_maps(
    dataset: Dataset,
    classifier: ZooModel,
    method: Spec,
    folder: Path,
    seed: int,
    show_progress: bool,
) -> MappedImages:
    """Compute the maps that a folder does not have yet, and read all images.

    Negative values are clipped and maps stretched to [0, 1], in 8 bits. Each process of
    a group computes its share. An image without a label gets the class that the
    classifier predicts; of several labels the most probable one is explained.

    Args:
        dataset (Dataset): Images.
        classifier (ZooModel): Classifier to explain.
        method (Spec): Method of :func:`read_method`.
        folder (Path): Folder of the maps.
        seed (int): Seed of random methods.
        show_progress (bool): Whether to show progress bars.

    Returns:
        *MappedImages*: Images, classes and maps.

    Raises:
        ValueError: If the folder has maps of another method or of other images.
    """
    _claim(folder, {"method": method.describe(), "seed": seed} | dataset.describe())
    done = _files(folder)
    bar = progress(dataset.examples, desc="maps", show=show_progress)
    for i, example in enumerate(bar):
        if i % world_size() == rank() and i not in done:
            _save_map(example, classifier, method, folder, i, seed)
    barrier()
    done = _files(folder)
    files = [done[i] for i in range(len(dataset.examples))]
    labels = [int(file.stem.rpartition("-")[2]) for file in files]
    pairs = zip(dataset.examples, labels)
    labeled = tuple(each._replace(labels=(label,)) for each, label in pairs)
    images = training_images(
        dataset._replace(examples=labeled), classifier, show_progress
    )
    return MappedImages(images, files)


def _claim(folder: Path, settings: dict[str, object]) -> None:
    """Note what the maps of a folder are of; refuse a folder with others."""
    file, text = folder / "settings.json", json.dumps(settings, indent=1)
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"output must be a folder with maps of the same --distill, --dataset and "
            f"--seed, or a new one, got {str(folder.parent)!r}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_file(text.encode(), file)


def _files(folder: Path) -> dict[int, Path]:
    """Files of maps by the numbers of their images."""
    return {
        int(file.name.partition("-")[0]): file for file in folder.glob("*-class-*.png")
    }


def _save_map(
    example: Example,
    classifier: ZooModel,
    method: Spec,
    folder: Path,
    index: int,
    seed: int,
) -> None:
    subject = build_subject(
        classifier,
        classifier.preprocess(example.read()),
        example.labels or None,
        parts=needed_parts([method]),
        seed=seed,
    )
    maps, _ = ImageMaps(subject, {}, {})(method)
    name = f"{index:06d}-class-{subject.target}.png"
    save_image(to_pil_image(unit_range(maps.mean(1).clamp_min(0))), folder / name)
