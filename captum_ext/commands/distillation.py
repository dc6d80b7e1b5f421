"""Maps of a method as targets of training, kept in the output folder."""

import json
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from captum_ext._files import save_image, write_file
from captum_ext._processes import (
    barrier,
    broadcast_object,
    only_writer,
    rank,
    world_size,
)
from captum_ext._progress import print_resumed, progress
from captum_ext._state_dicts import weights_digest
from captum_ext._type_checks import check_finite
from captum_ext._warnings import about_image, warn_of_examples
from captum_ext.attr import MapLayer
from captum_ext.attr.map_fusion import unit_range
from captum_ext.commands.image_outputs import print_layers
from captum_ext.datasets.dataset import Dataset, Example
from captum_ext.datasets.training_images import (
    InMemoryImages,
    LabeledImages,
    training_images,
)
from captum_ext.methods.attribution_classes import errors_named
from captum_ext.methods.common_layer import common_layer
from captum_ext.methods.specs import (
    Spec,
    find_method,
    needed_parts,
    read_methods,
    used_methods,
)
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
        ValueError: If it is not exactly one method of one map, or needs a masking
            network.
    """
    try:
        specs = list(read_methods(text).values())
    except ValueError as error:
        message = str(error).replace("methods must", "--distill must", 1)
        raise ValueError(message) from error
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
    output: Path,
    seed: int,
    show_progress: bool,
) -> MappedImages:
    """Compute the maps that an output folder does not have yet, and read all images.

    Negative values are clipped and maps stretched to [0, 1], in 8 bits. Each process of
    a group computes its share. An image without a label gets the class that the
    classifier predicts; of several labels the most probable one is explained.

    Args:
        dataset (Dataset): Images.
        classifier (ZooModel): Classifier to explain.
        method (Spec): Method of :func:`read_method`.
        output (Path): Output folder of the training; maps are in its folder "maps".
        seed (int): Seed of random methods.
        show_progress (bool): Whether to show progress bars.

    Returns:
        *MappedImages*: Images, classes and maps.

    Raises:
        ValueError: If the folder has maps of other settings, if another run writes to
            it, or if the method fails or gives NaN or infinity.
        OSError: If the folder cannot be written.
    """
    if output.is_file():
        raise ValueError(f"--output must be a folder, got {str(output)!r}.")
    folder, examples = output / "maps", dataset.examples
    weights = weights_digest(classifier.model)
    settings = {"method": method.describe(), "seed": seed, "weights": weights}
    shown: set[str] = set()
    layer = common_layer(classifier) if "layer" in needed_parts([method]) else None
    if layer is not None and show_progress:
        print_layers(layer, used_methods([method]))
    with only_writer(output):
        _claim(folder, settings | dataset.describe())
        done = broadcast_object(_files(folder))
        missing = [i for i in range(len(examples)) if i not in done]
        if show_progress:
            print_resumed(len(done), len(examples), "maps")
        bar = progress(missing[rank() :: world_size()], desc="maps", show=show_progress)
        for i in bar:
            with about_image(examples[i].name, shown):
                _save_map(examples[i], classifier, method, layer, folder, i, seed)
        barrier()
    done = _files(folder)
    files = [done[i] for i in range(len(examples))]
    labels = [int(file.stem.rpartition("-")[2]) for file in files]
    labeled = tuple(
        each._replace(labels=(label,)) for each, label in zip(examples, labels)
    )
    images = training_images(
        dataset._replace(examples=labeled), classifier, show_progress
    )
    return MappedImages(images, files)


def _claim(folder: Path, settings: dict[str, object]) -> None:
    """Note what the maps of a folder are of; refuse a folder with others."""
    file = folder / "settings.json"
    # A run whose method has failed left no map.
    if file.exists() and _files(folder):
        found = json.loads(file.read_text(encoding="utf-8"))
        for name, value in settings.items():
            if found.get(name) != value:
                raise ValueError(
                    f"--output must be a new folder or one with maps of the same "
                    f"arguments, with {name} {value!r}, got maps with "
                    f"{found.get(name)!r}."
                )
    folder.mkdir(parents=True, exist_ok=True)
    write_file(json.dumps(settings, indent=1).encode(), file)


def _files(folder: Path) -> dict[int, Path]:
    """Files of maps by the numbers of their images."""
    found = folder.glob("*-class-*.png")
    return {int(file.name.partition("-")[0]): file for file in found}


def _save_map(
    example: Example,
    classifier: ZooModel,
    method: Spec,
    layer: MapLayer | None,
    folder: Path,
    index: int,
    seed: int,
) -> None:
    subject = build_subject(
        classifier,
        classifier.preprocess(example.read()),
        example.labels or None,
        parts=needed_parts([method]),
        layer=layer,
        seed=seed,
    )
    with errors_named(f"--distill {method.use}", find_method(method.use).reference):
        maps, _ = method.attribute(subject)
        check_finite("map", maps)
    values = maps.float().mean(1).clamp_min(0)
    if not values.any():
        warn_of_examples("The map to learn is zero", 1, 1, "it has no positive value")
    name = f"{index:06d}-class-{subject.target}.png"
    save_image(to_pil_image(unit_range(values)), folder / name)
