"""The command captum-ext train: a masking network for a classifier, from pictures."""

import argparse
import contextlib
import os
import sys
import zipfile
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, distributed
from torch.utils.data import Dataset

from captum_ext import zoo
from captum_ext._captum import progress
from captum_ext._validation import check_integer
from captum_ext.evaluation.datasets import Dataset as Pictures
from captum_ext.evaluation.datasets import Example
from captum_ext.evaluation.ranks import local_device
from captum_ext.evaluation.readers import read_boxes, read_class_folders, read_signs
from captum_ext.masking import (
    EvidenceRemoval,
    MaskingNetwork,
    SaliencyObjective,
    train_masking_network,
)
from captum_ext.masking.record import mean_masks
from captum_ext.zoo.signs_classifier.training import FIRST_TRAINING_SEED

__all__ = ["HeldPictures", "LabelledPictures", "add_parser"]

# Pictures that take less memory than this are prepared once.
_HELD_BYTES = 2 * 10**9
_VALIDATION_PICTURES = 1000

_EPILOG = """\
data sets:
  signs                 the built-in road-sign scenes, --limit or 6000
  folders:FOLDER|ZIP    one folder of pictures a class, maybe packed in a ZIP file
  boxes:FILE.csv        columns image, class_index, x0, y0, x1, y1; pictures in images/
                        beside it; of a picture's classes the first is asked for
  arrays:FILE.npz       images (N, H, W, 3) of bytes and labels (N,)

The folder gets network.pt, for `captum-ext explain --method masking-model
--masking-network`, checkpoints, log.csv with every step, and masks/ and validation.csv
with what the network does to pictures of --validation. A training that was stopped
goes on when it is started again with the same options, also in another number of
processes:
  torchrun --nproc-per-node 2 -m captum_ext train ...

examples:
  captum-ext train --model signs --dataset signs -o signs-masks
  captum-ext train --model resnet20 --weights cifar10_resnet20.th \\
      --dataset folders:cifar10/train.zip --validation folders:cifar10/test.zip -o masks
"""


class LabelledPictures(Dataset[tuple[Tensor, int]]):
    """Pictures of a data set as a classifier takes them, read when they are asked for.

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


class HeldPictures(Dataset[tuple[Tensor, int]]):
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


def _class_folders(path: str, class_names: Sequence[str]) -> Pictures:
    """Folders of classes, also where they lie alone in another folder."""
    inside = [p for p in Path(path).glob("*") if not p.name.startswith((".", "_"))]
    nested = len(inside) == 1 and inside[0].is_dir() and len(class_names) > 1
    return read_class_folders(inside[0] if nested else path, class_names)


def _arrays(path: str) -> Pictures:
    """Pictures of an .npz file."""
    expected = (
        f"dataset must be an .npz file with images (N, H, W, 3) of bytes and labels "
        f"(N,), got {path!r}"
    )
    try:
        with np.load(path) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{expected} ({error}).") from error
    if images.dtype != np.uint8 or images.shape[3:] != (3,):
        raise ValueError(f"{expected} with {images.dtype} of {images.shape}.")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"{expected} with labels of {labels.shape}.")
    return Pictures(
        path,
        tuple(
            Example(f"{i}", partial(Image.fromarray, image), (int(label),))
            for i, (image, label) in enumerate(zip(images, labels))
        ),
    )


_KINDS = {
    "signs": "signs",
    "folders": "folders:FOLDER",
    "boxes": "boxes:FILE.csv",
    "arrays": "arrays:FILE.npz",
}


@contextlib.contextmanager
def _read(
    name: str, asked: str, class_names: Sequence[str], first_seed: int, n: int
) -> Iterator[Pictures]:
    """The pictures that an option asks for, as long as files are needed."""
    kind, _, path = asked.partition(":")
    if kind not in _KINDS or bool(path) != (":" in _KINDS[kind]):
        raise ValueError(
            f"--{name} must be one of {', '.join(_KINDS.values())}, got {asked!r}."
        )
    with contextlib.ExitStack() as stack:
        if kind == "folders" and Path(path).suffix.lower() == ".zip":
            path = stack.enter_context(_unpacked(path))
        pictures = {
            "signs": lambda: read_signs(n, first_seed),
            "folders": lambda: _class_folders(path, class_names),
            "boxes": lambda: read_boxes(path),
            "arrays": lambda: _arrays(path),
        }[kind]()
        pictures.check(len(class_names))
        yield pictures


@contextlib.contextmanager
def _unpacked(path: str) -> Iterator[str]:
    with TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
        except (OSError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"dataset must be an existing ZIP file, got {path!r} ({error})."
            ) from error
        yield folder


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of captum-ext.

    Args:
        commands (argparse action): What ``add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "train",
        help="train a masking network for a classifier",
        description="Train a masking network for a classifier: afterwards a map takes "
        "one forward pass of it, and none of the classifier.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
    )
    add = parser.add_argument
    add("--dataset", required=True, metavar="KIND[:PATH]", help="see below")
    add(
        "--validation",
        metavar="KIND[:PATH]",
        help=f"pictures to look at on the way, the first {_VALIDATION_PICTURES} "
        f"(default: none; other scenes for signs)",
    )
    add("--limit", type=int, metavar="N", help="N pictures, drawn by --seed")
    add(
        "--model",
        required=True,
        metavar="NAME",
        help="the classifier: any of torchvision, resnet20, or signs, the built-in one",
    )
    add(
        "--weights",
        metavar="FILE|NAME",
        help="state-dict file or torchvision weights name (default: torchvision's "
        "best, downloaded)",
    )
    add(
        "--encoder",
        default="small",
        metavar="NAME",
        help="small, trained along, for small pictures; or a classifier of "
        "torchvision, frozen (default: %(default)s)",
    )
    add(
        "--encoder-weights",
        metavar="FILE|NAME",
        help="of the encoder (default: those of --model where it is the same, "
        "otherwise torchvision's best, downloaded)",
    )
    add(
        "--width",
        type=int,
        default=32,
        metavar="N",
        help="channels of the small encoder's first block (default: %(default)s)",
    )
    add(
        "--lambdas",
        default="10,1e-3,5,0.3",
        metavar="L1,L2,L3,L4",
        help="weights of the objective: smoothness, area, destruction and its power "
        "(default: %(default)s, as in the paper)",
    )
    for option, kind, default, meaning in (
        ("--epochs", int, 10, "how often each picture is used"),
        ("--batch-size", int, 64, "pictures in a step, all processes together"),
        ("--learning-rate", float, 3e-3, "largest of the schedule"),
        ("--checkpoint-every", int, 200, "steps between checkpoints"),
        ("--workers", int, 0, "processes that read pictures"),
        ("--seed", int, 0, "of all that is drawn"),
    ):
        add(option, type=kind, default=default, help=f"{meaning} (default: {default})")
    add(
        "--half",
        action="store_true",
        help="round the weights of network.pt to 16 bits, for half the size",
    )
    add("-o", "--output", required=True, type=Path, metavar="FOLDER")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if options.limit is not None:
        check_integer("--limit", options.limit, 1)
    lambdas = _lambdas(options.lambdas)
    entry = zoo.load(options.model, options.weights)
    device = local_device()
    network = MaskingNetwork(
        len(entry.class_names),
        options.encoder,
        _encoder_weights(options, entry),
        width=options.width,
        seed=options.seed,
    ).to(device)
    with _process_group(device):
        main_process = int(os.environ.get("RANK", 0)) == 0
        quiet = not (sys.stderr.isatty() and main_process)
        dataset = _prepared("dataset", options.dataset, options, entry, not quiet)
        validation = None
        if options.validation or options.dataset == "signs":
            asked = options.validation or "signs"
            validation = _prepared("validation", asked, options, entry, False)
        train_masking_network(
            network,
            entry.model.to(device).to(memory_format=torch.channels_last),
            dataset,
            options.output,
            objective=_objective(lambdas, entry),
            validation=validation,
            n_epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            checkpoint_every=options.checkpoint_every,
            n_workers=options.workers,
            seed=options.seed,
            show_progress=not quiet,
        )
        if main_process:
            network.save(options.output / "network.pt", options.half)
            _report(network, validation, options.output)


def _lambdas(text: str) -> tuple[float, float, float, float]:
    try:
        one, two, three, four = map(float, text.split(","))
    except ValueError:
        raise ValueError(
            f"--lambdas must be four numbers such as 10,1e-3,5,0.3, got {text!r}."
        ) from None
    return one, two, three, four


def _objective(
    lambdas: tuple[float, float, float, float], entry: zoo.ZooModel
) -> SaliencyObjective:
    """Eq. 4, with colours that a normalized picture can have."""
    low = [-mean / std for mean, std in zip(entry.mean, entry.std)]
    high = [(1 - mean) / std for mean, std in zip(entry.mean, entry.std)]
    removal = EvidenceRemoval(limits=(low, high))
    return SaliencyObjective(lambdas, evidence_removal=removal)


def _encoder_weights(
    options: argparse.Namespace, entry: zoo.ZooModel
) -> dict[str, Tensor] | None:
    if options.encoder == "small":
        if options.encoder_weights is not None:
            raise ValueError(
                f"--encoder-weights must go with an encoder of torchvision, got "
                f"{options.encoder_weights!r} for the encoder small."
            )
        return None
    if options.encoder == options.model and options.encoder_weights is None:
        return entry.model.state_dict()
    return zoo.load(options.encoder, options.encoder_weights).model.state_dict()


def _prepared(
    name: str,
    asked: str,
    options: argparse.Namespace,
    entry: zoo.ZooModel,
    show_progress: bool,
) -> Dataset[tuple[Tensor, int]]:
    """Pictures of --dataset or --validation as the classifier takes them."""
    training = name == "dataset"
    first_seed = FIRST_TRAINING_SEED if training else 0
    n = (options.limit or 6000) if training else _VALIDATION_PICTURES
    with contextlib.ExitStack() as stack:
        found = stack.enter_context(
            _read(name, asked, entry.class_names, first_seed, n)
        )
        if not found.has_labels:
            raise ValueError(f"--{name} must have labels, got none in {asked!r}.")
        limit = options.limit if training else _VALIDATION_PICTURES
        chosen = _drawn(found.examples, limit, options.seed)
        pictures = LabelledPictures(chosen, entry.preprocess)
        if len(chosen) * pictures[0][0].numel() <= _HELD_BYTES:
            return HeldPictures(pictures, entry.mean, entry.std, show_progress)
        if asked.lower().endswith(".zip"):
            raise ValueError(
                f"--{name} must be an unpacked folder where it is too large for "
                f"memory, got {asked!r}."
            )
        return pictures


def _drawn(examples: Sequence[Example], n: int | None, seed: int) -> Sequence[Example]:
    """Some examples, of all classes where these are sorted."""
    if n is None or n >= len(examples):
        return examples
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(examples), generator=generator)[:n]
    return [examples[i] for i in order.tolist()]


@contextlib.contextmanager
def _process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started, if it did."""
    if not distributed.is_torchelastic_launched():
        yield
        return
    alone = int(os.environ["LOCAL_WORLD_SIZE"]) <= torch.cuda.device_count()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # NCCL needs a GPU for each process.
    distributed.init_process_group("nccl" if alone else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _report(network: MaskingNetwork, validation: Any, output: Path) -> None:
    if validation is not None:
        right, absent = mean_masks(network, validation, len(validation))
        share = absent / max(right, 1e-12)
        print(
            f"mean mask on {len(validation)} pictures: {right:.4f} for their own "
            f"class, {absent:.4f} for absent ones, {share:.3f} of it"
        )
    print(f"written to {output}")
