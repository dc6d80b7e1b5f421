"""Command captum-ext train: train a masking network for a classifier."""

import argparse
from pathlib import Path
from textwrap import fill

from torch import Tensor

from captum_ext import zoo
from captum_ext._processes import process_group, rank
from captum_ext._validation import check_integer
from captum_ext.commands.distillation import (
    MappedImages,
    images_with_maps,
    read_method,
)
from captum_ext.commands.model_options import (
    add_classifier_options,
    chosen_device,
    load_classifier,
    load_masking_network,
)
from captum_ext.datasets.dataset import Dataset
from captum_ext.datasets.formats import (
    DatasetFormat,
    DatasetSource,
    describe_formats,
    find_format,
)
from captum_ext.datasets.training_images import (
    InMemoryImages,
    LabeledImages,
    training_images,
)
from captum_ext.masking import (
    EvidenceRemoval,
    MaskingNetwork,
    SaliencyObjective,
    train_masking_network,
)
from captum_ext.masking.mask_reports import mean_masks
from captum_ext.methods.specs import Spec, needed_parts
from captum_ext.subject import check_parts
from captum_ext.zoo.black_box import check_inside
from captum_ext.zoo.signs_classifier.recipe import FIRST_TRAINING_SEED

__all__ = ["add_parser"]

_TRAINING_SCENES, _VALIDATION_IMAGES = 6000, 1000
_ENCODER, _WIDTH, _LAMBDAS = "small", 32, "10,1e-3,5,0.3"

_EPILOG = f"""\
data sets:
{describe_formats()}
Images need labels, except with --distill; of several classes of an image, the first is
used, with --distill the most probable one.

The output folder contains network.pt, for `captum-ext explain --method masking-model
--masking-network`, checkpoints, log.csv with one row per step, and masks/ and
validation.csv with the masks of the --validation images and their means. An
interrupted training resumes when it is started again with the same options, also with
another number of processes:
  torchrun --nproc-per-node 2 -m captum_ext train ...

examples:
  captum-ext train --model signs --dataset signs -o signs-masks
  captum-ext train --model resnet20 --weights cifar10_resnet20.th \\
      --dataset folders:cifar10/train.zip --validation folders:cifar10/test.zip -o masks
  captum-ext train --model mobilenet_v2 --encoder mobilenet_v2 --distill cameras \\
      --dataset images:photos --selection-weight 0 --batch-size 16 --epochs 20 -o masks
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to captum-ext.

    Args:
        commands (argparse action): Result of ``add_subparsers``.
    """
    parser = commands.add_parser(
        "train",
        description=fill(
            "Train a masking network for a classifier. The trained network computes a "
            "map in one forward pass, without calling the classifier.",
            88,
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
    )
    _add_data_options(parser)
    add_classifier_options(parser, required=True)
    _add_network_options(parser)
    _add_training_options(parser)
    parser.set_defaults(run=_run)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--dataset",
        required=True,
        metavar="KIND[:PATH]",
        help="training images, see below",
    )
    add(
        "--validation",
        metavar="KIND[:PATH]",
        help="validation images (default: none; held-out scenes for signs)",
    )
    add(
        "--validation-limit",
        type=int,
        metavar="N",
        help="use N validation images sampled with --seed (default: "
        f"{_VALIDATION_IMAGES})",
    )
    add(
        "--limit",
        type=int,
        metavar="N",
        help="train on N images sampled with --seed (default: all, "
        f"{_TRAINING_SCENES} of signs)",
    )
    add(
        "--distill",
        metavar="METHOD",
        help="learn the maps of a method, such as cameras or pn-rise:n_masks=50, "
        "instead of minimizing --lambdas' objective; they are computed once, in "
        "OUTPUT/maps, and explain the predicted class of an image without a label",
    )


def _add_network_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--encoder",
        metavar="NAME",
        help="small, for small images, trained with the network; or a torchvision "
        f"classifier, frozen (default: {_ENCODER})",
    )
    add(
        "--encoder-weights",
        metavar="FILE|NAME",
        help="weights of a torchvision encoder (default: those of --model if it is the "
        "same classifier, otherwise torchvision's best weights, downloaded)",
    )
    add(
        "--width",
        type=int,
        metavar="N",
        help=f"channels of the first block of the small encoder (default: {_WIDTH})",
    )
    add(
        "--masking-network",
        metavar="FILE",
        help="network to start from, such as one trained with other --lambdas "
        "(default: a new network); a resumed training continues with its own",
    )


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--lambdas",
        metavar="L1,L2,L3,L4",
        help="weights of the objective: smoothness, area, destruction and its power "
        f"(default: {_LAMBDAS}, as in the paper)",
    )
    for option, kind, default, meaning in (
        ("--selection-weight", float, 3.0, "weight of the loss on the class embedding"),
        (
            "--absent-weight",
            float,
            1.0,
            "factor of the area of masks of absent classes",
        ),
        ("--epochs", int, 10, "passes over the images"),
        ("--batch-size", int, 64, "images per step, over all processes"),
        ("--learning-rate", float, 3e-3, "maximum learning rate of the schedule"),
        ("--checkpoint-every", int, 200, "steps between checkpoints"),
        ("--workers", int, 0, "processes that load images"),
        ("--seed", int, 0, "seed of random numbers"),
    ):
        add(
            option,
            type=kind,
            default=default,
            metavar="N" if kind is int else "X",
            help=f"{meaning} (default: {default})",
        )
    # An option that is given beside --distill is refused.
    parser.set_defaults(absent_weight=None)
    add(
        "--half",
        action="store_true",
        help="store the weights of network.pt in 16 bits, half the size",
    )
    add(
        "--tensorboard",
        action="store_true",
        help="also write OUTPUT/tensorboard: loss terms, mean masks and masks (with "
        "the extra tensorboard)",
    )
    add(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="folder for the network, checkpoints and logs",
    )


def _run(options: argparse.Namespace) -> None:
    if options.limit is not None:
        check_integer("--limit", options.limit, 1)
    if options.validation is None and options.dataset == "signs":
        options.validation = "signs"
    _check_used(options)
    if options.validation_limit is None:
        options.validation_limit = _VALIDATION_IMAGES
    check_integer("--validation-limit", options.validation_limit, 1)
    lambdas = _lambdas(options.lambdas or _LAMBDAS)
    method = None if options.distill is None else read_method(options.distill)
    # Checked before weights are loaded, or even downloaded.
    formats = {"dataset": find_format(options.dataset, "dataset")}
    if options.validation is not None:
        formats["validation"] = find_format(options.validation, "validation")
    classifier = load_classifier(vars(options), ())
    if method is None:
        check_inside(classifier.model)
    else:
        check_parts(classifier, needed_parts([method]))
    device = chosen_device(options.device)
    network = _initial_network(options, classifier).to(device)
    if classifier.applied_activation != "softmax":
        print(f"activation: {classifier.applied_activation}")
    with process_group(device):
        validation = None
        if "validation" in formats:
            held_out = _dataset(
                "validation", *formats["validation"], options, classifier, True
            )
            validation = training_images(held_out, classifier)
        dataset = _training_data(*formats["dataset"], options, classifier, method)
        train_masking_network(
            network,
            classifier.model,
            dataset,
            options.output,
            objective=_objective(lambdas, options, classifier),
            validation=validation,
            n_epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            checkpoint_every=options.checkpoint_every,
            n_workers=options.workers,
            seed=options.seed,
            show_progress=True,
            tensorboard=options.tensorboard,
        )
        if rank() == 0:
            network.save(options.output / "network.pt", options.half)
            _print_results(network, validation, options)


def _training_data(
    dataset_format: DatasetFormat,
    path: str,
    options: argparse.Namespace,
    classifier: zoo.ZooModel,
    method: Spec | None,
) -> LabeledImages | InMemoryImages | MappedImages:
    """Images of --dataset with their classes, and with the maps of --distill."""
    found = _dataset(
        "dataset", dataset_format, path, options, classifier, method is None
    )
    if method is None:
        return training_images(found, classifier, rank() == 0)
    check_integer("--epochs", options.epochs, 1)
    check_integer("--batch-size", options.batch_size, 1, len(found.examples))
    return images_with_maps(
        found, classifier, method, options.output, options.seed, rank() == 0
    )


def _lambdas(text: str) -> tuple[float, float, float, float]:
    try:
        one, two, three, four = map(float, text.split(","))
    except ValueError:
        raise ValueError(
            f"--lambdas must be four numbers such as {_LAMBDAS}, got {text!r}."
        ) from None
    return one, two, three, four


def _objective(
    lambdas: tuple[float, float, float, float],
    options: argparse.Namespace,
    classifier: zoo.ZooModel,
) -> SaliencyObjective:
    """Eq. 4, with alternative images in the range of normalized images."""
    removal = EvidenceRemoval.of_normalized(classifier.mean, classifier.std)
    return SaliencyObjective(
        lambdas,
        selection_weight=options.selection_weight,
        evidence_removal=removal,
        activation=classifier.applied_activation,
        absent_weight=1 if options.absent_weight is None else options.absent_weight,
        distillation=0 if options.distill is None else 1,
    )


def _initial_network(
    options: argparse.Namespace, classifier: zoo.ZooModel
) -> MaskingNetwork:
    """The masking network that training starts from."""
    if options.masking_network is None:
        return MaskingNetwork(
            len(classifier.class_names),
            options.encoder or _ENCODER,
            _encoder_weights(options, classifier),
            width=_WIDTH if options.width is None else options.width,
            seed=options.seed,
            n_channels=len(classifier.mean),
        )
    network = load_masking_network(vars(options))
    classifier.with_masking_network(network)  # Checks the number of classes.
    return network


def _check_used(options: argparse.Namespace) -> None:
    """Refuse options that have no effect beside others."""
    small = options.encoder in (None, _ENCODER)
    distills, starts = options.distill is not None, options.masking_network is not None
    for option, without_effect, where in (
        ("lambdas", distills, "with --distill"),
        ("absent_weight", distills, "with --distill"),
        ("encoder", starts, "with --masking-network, which has its own"),
        ("encoder_weights", starts, "with --masking-network, which has its own"),
        ("encoder_weights", small, "with the small encoder"),
        ("width", starts, "with --masking-network, which has its own"),
        ("width", not small, "with an encoder other than small"),
        ("validation_limit", options.validation is None, "without --validation"),
    ):
        value = getattr(options, option)
        if without_effect and value is not None:
            name = option.replace("_", "-")
            raise ValueError(f"--{name} must be left out {where}, got {value!r}.")


def _encoder_weights(
    options: argparse.Namespace, classifier: zoo.ZooModel
) -> dict[str, Tensor] | None:
    if options.encoder in (None, _ENCODER):
        return None
    if options.encoder == options.model and options.encoder_weights is None:
        return classifier.model.state_dict()
    return zoo.load(options.encoder, options.encoder_weights).model.state_dict()


def _dataset(
    argument: str,
    dataset_format: DatasetFormat,
    path: str,
    options: argparse.Namespace,
    classifier: zoo.ZooModel,
    needs_labels: bool,
) -> Dataset:
    """Find the images of --dataset or --validation."""
    if argument == "dataset":
        limit = options.limit
        first, n = FIRST_TRAINING_SEED, limit or _TRAINING_SCENES
    else:
        limit = n = options.validation_limit
        first = 0
    source = DatasetSource(path, classifier.class_names, scenes=range(first, first + n))
    found = dataset_format.read(source)
    found.check(len(classifier.class_names))
    if needs_labels:
        found.require("labels", "training", f"--{argument}")
    return found.sample(limit, options.seed)


def _print_results(
    network: MaskingNetwork,
    validation: InMemoryImages | LabeledImages | None,
    options: argparse.Namespace,
) -> None:
    if validation is not None:
        means = mean_masks(network, validation, len(validation))
        # The advice after a comma is about the objective.
        verdict = means.verdict.split(",")[0] if options.distill else means.verdict
        print(
            f"mean mask over {len(validation)} images: {means.right:.4f} for their own "
            f"class, {means.absent:.4f} for absent classes: {verdict}"
        )
    print(f"written to {options.output}")
