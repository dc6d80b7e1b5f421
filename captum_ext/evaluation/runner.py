"""Methods compared on a data set: shared out, resumed where it was cut off."""

from itertools import product
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from captum_ext._captum import progress
from captum_ext._processes import barrier, broadcast_object, rank, world_size
from captum_ext._validation import (
    check_choice,
    check_integer,
    check_layer_name,
    check_masking_network,
)
from captum_ext.attr import last_map_layer
from captum_ext.datasets.dataset import Dataset
from captum_ext.evaluation.image_rows import Bench, Pair, Target, rows_of_image
from captum_ext.evaluation.named_metrics import METRICS
from captum_ext.evaluation.provenance import provenance, weights_digest
from captum_ext.evaluation.run_folder import (
    Results,
    RowWriter,
    begin_run,
    check_folder,
    merge,
    read_results,
    read_rows,
)
from captum_ext.evaluation.specs import (
    Choices,
    describe_choices,
    needed_parts,
    read_methods,
    read_metrics,
)
from captum_ext.masking import MaskingNetwork
from captum_ext.zoo import ZooModel

__all__ = ["evaluate"]

# Fast for networks such as mobilenet_v2. Fixed numbers, since the number of images in
# a call changes scores by rounding, and with them the table.
_CHUNKS = {"cpu": 4}
_CHUNK_ELSEWHERE = 64


def evaluate(
    dataset: Dataset,
    model: ZooModel,
    methods: Choices,
    metrics: Choices,
    output: str | Path,
    *,
    target: Target | None = None,
    only_correct: bool = False,
    layer: str | None = None,
    masking_network: MaskingNetwork | None = None,
    seed: int = 0,
    perturbations_per_eval: int | None = None,
    show_progress: bool = False,
) -> Results:
    """Compare methods on a data set by metrics.

    Each row is written as soon as it is computed. A run that was killed goes on when it
    is started again with the same arguments. An image that cannot be read, or a
    method or a metric that fails on it, gives rows with an error. In processes of one
    ``torch.distributed`` group the images are shared out; the table is the same.

    Args:
        dataset (Dataset): Images, of the readers of this package.
        model (ZooModel): Classifier, in eval mode, on the device to work on; for
            metrics that need boxes its ``preprocess`` has a method ``boxes`` as
            :class:`~captum_ext.zoo.Preprocessing`.
        methods (str, iterable of str, or Mapping): Names and arguments: see
            :func:`~captum_ext.evaluation.read_methods`.
        metrics (str, iterable of str, or Mapping): Names and arguments: see
            :func:`~captum_ext.evaluation.read_metrics`.
        output (str or Path): Folder for the results: new, empty, or with results of
            the same arguments.
        target (str, optional): Which class is explained: the "label", of several the
            most probable one, or "top1", the predicted one. Default: None (the label
            where every image has one)
        only_correct (bool, optional): Whether images whose predicted class is not
            right are left out. Default: False
        layer (str, optional): Name of the part of the model where layer methods look.
            Default: None (the last that returns maps)
        masking_network (MaskingNetwork, optional): Trained for the model and on its
            device, for the method masking-model. Default: None
        seed (int, optional): Of all that is drawn; every image gets one of its own.
            Default: 0
        perturbations_per_eval (int, optional): Images in one call of the model, for
            methods and metrics that take it. Default: None (4 on the CPU, 64 on GPUs)
        show_progress (bool, optional): Whether a progress bar over the images is
            shown. Default: False

    Returns:
        *Results*: What :func:`~captum_ext.evaluation.read_results` reads from the
        folder.

    Raises:
        ValueError: If an argument is not what is expected, if the data set lacks
            labels or boxes that are needed, or if the folder holds results of other
            settings.
        OSError: If the folder cannot be written.

    Examples::

        >>> from captum_ext.zoo import load
        >>> from captum_ext.datasets import read_signs
        >>> results = evaluate(
        ...     read_signs(2), load("signs"), "grad-cam,random", "pointing-game", "out"
        ... )
        >>> results.table[["image", "method", "metric", "value"]]
             image    method        metric  value
        0  scene-0  grad-cam  pointing-game    1.0
        1  scene-0    random  pointing-game    ...
        2  scene-1  grad-cam  pointing-game    ...
        3  scene-1    random  pointing-game    ...
    """
    device = next(model.model.parameters()).device
    chosen = read_methods(methods)
    parts = needed_parts(chosen.values())
    needed = "masking_network" in parts
    check_masking_network(masking_network, len(model.class_names), needed)
    bench = Bench(
        model,
        check_layer_name("layer", layer or "", model.model),
        chosen,
        read_metrics(metrics),
        target or ("label" if dataset.has_labels else "top1"),
        only_correct,
        check_integer("seed", seed, 0, 2**64 - 1),
        check_integer(
            "perturbations_per_eval",
            perturbations_per_eval or _CHUNKS.get(device.type, _CHUNK_ELSEWHERE),
            1,
        ),
        Path(output),
        masking_network if needed else None,
    )
    dataset.check(len(model.class_names))
    _check_labels(dataset, bench)
    _check_boxes(dataset, bench)
    settings = _settings(dataset, bench, layer, device)
    check_folder(bench.folder, settings)
    if rank() == 0:
        start = provenance(device) | {"world_size": world_size()}
        begin_run(bench.folder, settings, start)
    if layer is None and "layer" in parts:
        bench = _at_last_layer(bench, device)
    _run(dataset, bench, show_progress and rank() == 0)
    return read_results(output)


def _at_last_layer(bench: Bench, device: torch.device) -> Bench:
    """With the layer where methods look by default: the same for all images."""
    inputs = bench.model.preprocess(Image.new("RGB", (256, 256)))[None].to(device)
    return bench._replace(layer=last_map_layer(bench.model.model, inputs)[1])


def _check_labels(dataset: Dataset, bench: Bench) -> None:
    check_choice("target", bench.target, ("label", "top1"))
    if dataset.has_labels:
        return
    asked = "target 'label'" if bench.target == "label" else "only_correct"
    if bench.target == "label" or bench.only_correct:
        raise ValueError(
            f"dataset must have a label for every image for {asked}, got none for "
            f"some of {dataset.source}."
        )


def _check_boxes(dataset: Dataset, bench: Bench) -> None:
    needing = [n for n, c in bench.metrics.items() if METRICS[c.use].needs_boxes]
    if not needing:
        return
    if not dataset.has_boxes:
        raise ValueError(
            f"dataset must have boxes for {', '.join(needing)}, got none in "
            f"{dataset.source}."
        )
    if not hasattr(bench.model.preprocess, "boxes"):
        raise ValueError(
            f"model must have a preprocess with a method boxes for "
            f"{', '.join(needing)}, got {type(bench.model.preprocess).__name__}."
        )


def _settings(
    dataset: Dataset, bench: Bench, layer: str | None, device: torch.device
) -> dict[str, Any]:
    """All that determines the results."""
    model = bench.model.model
    settings = {
        "dataset": dataset.describe(),
        "model": {"name": type(model).__name__, "sha256": weights_digest(model)},
        "methods": describe_choices(bench.methods),
        "metrics": describe_choices(bench.metrics),
        "target": bench.target,
        "only_correct": bench.only_correct,
        "layer": layer,
        "seed": bench.seed,
        "perturbations_per_eval": bench.perturbations_per_eval,
        "device": device.type,
    }
    network = bench.masking_network
    if network is not None:
        settings["masking_network"] = {"sha256": weights_digest(network)}
    return settings


def _run(dataset: Dataset, bench: Bench, show_progress: bool) -> None:
    """Compute what is missing, each process its share, and merge."""
    todo = _missing(dataset, bench) if rank() == 0 else None
    # Asked once, for shares must not depend on when a process looks.
    share = broadcast_object(todo)[rank() :: world_size()]
    if share:
        with RowWriter(bench.folder, rank()) as writer:
            bar = progress(share, desc="images", disable=not show_progress)
            for index, pairs in bar:
                for row in rows_of_image(bench, dataset.examples[index], pairs):
                    writer.append(row)
    barrier()
    if rank() == 0:
        merge(bench.folder, [example.name for example in dataset.examples])
    barrier()


def _missing(dataset: Dataset, bench: Bench) -> list[tuple[int, list[Pair]]]:
    """Images that are not done, with the methods and metrics that they lack."""
    found = read_rows(bench.folder)
    pairs = list(product(bench.methods, bench.metrics))
    missing = [
        (index, [pair for pair in pairs if (example.name, *pair) not in found])
        for index, example in enumerate(dataset.examples)
        if (example.name, None, None) not in found
    ]
    return [(index, lacking) for index, lacking in missing if lacking]
