"""The command captum-ext train: a masking network for a classifier, from images."""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_ext import zoo
from captum_ext._processes import local_device, process_group, rank
from captum_ext._validation import check_integer, check_masking_network
from captum_ext.commands.networks import (
    add_classifier_options,
    read_masking_network,
)
from captum_ext.datasets.formats import (
    Layout,
    Source,
    describe_layouts,
    find_layout,
)
from captum_ext.datasets.labeled_images import HeldImages, LabeledImages, prepare
from captum_ext.masking import (
    EvidenceRemoval,
    MaskingNetwork,
    SaliencyObjective,
    train_masking_network,
)
from captum_ext.masking.mask_reports import mean_masks
from captum_ext.zoo.signs_classifier.training import FIRST_TRAINING_SEED

__all__ = ["add_parser"]

_TRAINING_SCENES, _VALIDATION_IMAGES = 6000, 1000
_ENCODER, _WIDTH = "small", 32

_EPILOG = f"""\
data sets:
{describe_layouts()}
Images need labels; of an image's classes the first is asked for. Without --limit
there are {_TRAINING_SCENES} scenes of signs.

The folder gets network.pt, for `captum-ext explain --method masking-model
--masking-network`, checkpoints, log.csv with every step, and masks/ and validation.csv
with what the network does to images of --validation. A training that was stopped
goes on when it is started again with the same options, also in another number of
processes:
  torchrun --nproc-per-node 2 -m captum_ext train ...

examples:
  captum-ext train --model signs --dataset signs -o signs-masks
  captum-ext train --model resnet20 --weights cifar10_resnet20.th \\
      --dataset folders:cifar10/train.zip --validation folders:cifar10/test.zip -o masks
"""


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
        help=f"images to look at on the way, the first {_VALIDATION_IMAGES} "
        f"(default: none; other scenes for signs)",
    )
    add("--limit", type=int, metavar="N", help="N images, drawn by --seed")
    add_classifier_options(parser, required=True)
    add(
        "--encoder",
        metavar="NAME",
        help="small, trained along, for small images; or a classifier of "
        f"torchvision, frozen (default: {_ENCODER})",
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
        metavar="N",
        help=f"channels of the small encoder's first block (default: {_WIDTH})",
    )
    add(
        "--masking-network",
        metavar="FILE",
        help="one to begin with, such as one trained with other --lambdas, in place of "
        "a new one; a training that goes on has its own",
    )
    add(
        "--lambdas",
        default="10,1e-3,5,0.3",
        metavar="L1,L2,L3,L4",
        help="weights of the objective: smoothness, area, destruction and its power "
        "(default: %(default)s, as in the paper)",
    )
    for option, kind, default, meaning in (
        ("--selection-weight", float, 3.0, "of the auxiliary loss on the embedding"),
        ("--epochs", int, 10, "how often each image is used"),
        ("--batch-size", int, 64, "images in a step, all processes together"),
        ("--learning-rate", float, 3e-3, "largest of the schedule"),
        ("--checkpoint-every", int, 200, "steps between checkpoints"),
        ("--workers", int, 0, "processes that read images"),
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
    _check_new(options)
    if options.validation is None and options.dataset == "signs":
        options.validation = "signs"
    # Words are checked before weights are read, or even downloaded.
    layouts = {"dataset": find_layout(options.dataset, "dataset")}
    if options.validation is not None:
        layouts["validation"] = find_layout(options.validation, "validation")
    entry = zoo.load(options.model, options.weights)
    device = local_device()
    network = _network(options, entry).to(device)
    with process_group(device):
        main_process = rank() == 0
        quiet = not (sys.stderr.isatty() and main_process)
        dataset = _images("dataset", *layouts["dataset"], options, entry, not quiet)
        validation = None
        if "validation" in layouts:
            asked = layouts["validation"]
            validation = _images("validation", *asked, options, entry, False)
        train_masking_network(
            network,
            entry.model.to(device).to(memory_format=torch.channels_last),
            dataset,
            options.output,
            objective=_objective(lambdas, options.selection_weight, entry),
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
    lambdas: tuple[float, float, float, float],
    selection_weight: float,
    entry: zoo.ZooModel,
) -> SaliencyObjective:
    """Eq. 4, with colors that a normalized image can have."""
    removal = EvidenceRemoval.of_normalized(entry.mean, entry.std)
    return SaliencyObjective(
        lambdas, selection_weight=selection_weight, evidence_removal=removal
    )


def _network(options: argparse.Namespace, entry: zoo.ZooModel) -> MaskingNetwork:
    """The network before its training."""
    n_classes = len(entry.class_names)
    if options.masking_network is None:
        return MaskingNetwork(
            n_classes,
            options.encoder or _ENCODER,
            _encoder_weights(options, entry),
            width=_WIDTH if options.width is None else options.width,
            seed=options.seed,
        )
    network = read_masking_network(vars(options), {"masking_network"})
    check_masking_network(network, n_classes, True)
    assert network is not None
    return network


def _check_new(options: argparse.Namespace) -> None:
    """Refuse what describes a new network where there is one to begin with."""
    if options.masking_network is None:
        return
    described = {
        "--encoder": options.encoder,
        "--encoder-weights": options.encoder_weights,
        "--width": options.width,
    }
    for option, value in described.items():
        if value is not None:
            raise ValueError(
                f"{option} must be left out with --masking-network, whose encoder is "
                f"there already, got {value!r}."
            )


def _encoder_weights(
    options: argparse.Namespace, entry: zoo.ZooModel
) -> dict[str, Tensor] | None:
    if options.encoder in (None, _ENCODER):
        if options.encoder_weights is not None:
            raise ValueError(
                f"--encoder-weights must go with an encoder of torchvision, got "
                f"{options.encoder_weights!r} for the encoder small."
            )
        return None
    if options.encoder == options.model and options.encoder_weights is None:
        return entry.model.state_dict()
    return zoo.load(options.encoder, options.encoder_weights).model.state_dict()


def _images(
    argument: str,
    layout: Layout,
    path: str,
    options: argparse.Namespace,
    entry: zoo.ZooModel,
    show_progress: bool,
) -> HeldImages | LabeledImages:
    """Images of --dataset or --validation as the classifier takes them."""
    if argument == "dataset":
        limit = options.limit
        first, n = FIRST_TRAINING_SEED, limit or _TRAINING_SCENES
    else:
        limit = n = _VALIDATION_IMAGES
        first = 0
    source = Source(path, entry.class_names, scenes=range(first, first + n))
    found = layout.read(source)
    found.check(len(entry.class_names))
    if not found.has_labels:
        words = getattr(options, argument)
        raise ValueError(f"--{argument} must have labels, got none in {words!r}.")
    return prepare(found.draw(limit, options.seed), entry, show_progress)


def _report(network: MaskingNetwork, validation: Any, output: Path) -> None:
    if validation is not None:
        right, absent = mean_masks(network, validation, len(validation))
        share = absent / max(right, 1e-12)
        print(
            f"mean mask on {len(validation)} images: {right:.4f} for their own "
            f"class, {absent:.4f} for absent ones, {share:.3f} of it"
        )
    print(f"written to {output}")
