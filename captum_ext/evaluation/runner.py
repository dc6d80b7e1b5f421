"""Evaluation of methods on a data set: resumable, by one process or several."""

from collections.abc import Collection
from itertools import product
from pathlib import Path
from typing import Any

import torch

from captum_ext._processes import (
    barrier,
    broadcast_object,
    only_writer,
    rank,
    world_size,
)
from captum_ext._progress import print_resumed, progress
from captum_ext._state_dicts import weights_digest
from captum_ext._validation import check_choice, check_integer
from captum_ext._warnings import about_image
from captum_ext.datasets.dataset import Dataset
from captum_ext.evaluation.image_rows import (
    EvaluationConfig,
    Pair,
    find_refused,
    rows_of_image,
)
from captum_ext.evaluation.metric_specs import find_metric, read_metrics
from captum_ext.evaluation.options import EvaluationOptions, Target
from captum_ext.evaluation.provenance import (
    called_functions,
    provenance,
)
from captum_ext.evaluation.result_tables import Results, merge_tables, read_results
from captum_ext.evaluation.run_folder import (
    RowWriter,
    check_folder,
    kept_specs,
    read_rows,
    start_run,
)
from captum_ext.methods.common_layer import common_layer
from captum_ext.methods.specs import (
    Specs,
    describe_specs,
    needed_parts,
    read_methods,
    used_methods,
)
from captum_ext.subject import Part, check_parts
from captum_ext.zoo import BoxPreprocessing, ZooModel

__all__ = ["evaluate"]

# Fast for networks such as mobilenet_v2. Fixed numbers, since the number of images per
# call changes the rounding of scores, and so the table.
_CHUNKS = {"cpu": 4}
_DEFAULT_CHUNK = 64

# Images that must all refuse a value: one may be too small for it.
_N_TRIALS = 3


def evaluate(
    dataset: Dataset,
    model: ZooModel,
    methods: Specs,
    metrics: Specs,
    output: str | Path,
    *,
    target: Target | None = EvaluationOptions.target,
    only_correct: bool = EvaluationOptions.only_correct,
    layer: str | None = EvaluationOptions.layer,
    seed: int = EvaluationOptions.seed,
    perturbations_per_eval: int | None = EvaluationOptions.perturbations_per_eval,
    show_progress: bool = False,
) -> Results:
    """Compare methods on a data set by metrics.

    Each row is written as soon as it is computed. A run that was killed resumes when it
    is started again with the same arguments. An image that cannot be read, and a
    method or metric that fails on it, give rows with an error. The processes of a
    ``torch.distributed`` group share the images; the table is the same.

    Args:
        dataset (Dataset): Images, from a reader of :mod:`captum_ext.datasets`.
        model (ZooModel): Classifier in eval mode, whose device is used. Metrics that
            need boxes require a ``preprocess`` of the protocol
            :class:`~captum_ext.zoo.BoxPreprocessing`; masking-model requires
            :meth:`~captum_ext.zoo.ZooModel.with_masking_network`.
        methods (str, iterable of str, or Mapping): Names and arguments of methods, see
            :func:`~captum_ext.evaluation.read_methods`.
        metrics (str, iterable of str, or Mapping): Names and arguments of metrics, see
            :func:`~captum_ext.evaluation.read_metrics`.
        output (str or Path): Folder for the results: new, empty, or with results of
            the same arguments. Methods and metrics may be added to those there; maps
            that are there are not computed again.
        target (str, optional): Class to explain: the "label", the most probable one if
            there are several, or "top1", the predicted class. Default: None (the label
            if every image has one)
        only_correct (bool, optional): Whether to leave out misclassified images.
            Default: False
        layer (str, optional): Name of the module of the model that layer methods
            explain. Default: None (the last one that has maps, see
            :func:`~captum_ext.attr.last_map_layer`)
        seed (int, optional): Seed of the run, from which every image gets its own.
            Default: 0
        perturbations_per_eval (int, optional): Images per call of the model, for
            methods and metrics that take it. Default: None (4 on the CPU, 64 on GPUs)
        show_progress (bool, optional): Whether to show a progress bar. Default: False

    Returns:
        *Results*: Results as :func:`~captum_ext.evaluation.read_results` reads them.

    Raises:
        ValueError: If an argument is invalid, also one of a method or metric of this
            package, if the data set lacks labels or boxes that are needed, if the
            folder holds results of other settings, or if another run writes to it.
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
    device = next(model.model.parameters(), torch.empty(0)).device
    kept = kept_specs(Path(output))
    method_specs = read_methods(kept["methods"] | describe_specs(read_methods(methods)))
    metric_specs = read_metrics(kept["metrics"] | describe_specs(read_metrics(metrics)))
    parts = needed_parts(method_specs.values())
    if layer is not None and "layer" not in parts:
        raise ValueError(
            f"layer must be used with a layer method such as cameras, got {layer!r}."
        )
    check_parts(model, parts, layer)
    config = EvaluationConfig(
        model,
        common_layer(model, layer) if "layer" in parts else None,
        method_specs,
        metric_specs,
        target or ("label" if dataset.has_labels else "top1"),
        only_correct,
        check_integer("seed", seed, 0, 2**64 - 1),
        check_integer(
            "perturbations_per_eval",
            perturbations_per_eval or _CHUNKS.get(device.type, _DEFAULT_CHUNK),
            1,
        ),
        Path(output),
    )
    _check_dataset(dataset, config)
    settings = _settings(dataset, config, parts, device)
    check_folder(config.folder, settings)
    _check_values(dataset, config, [*kept["methods"], *kept["metrics"]])
    with only_writer(config.folder):
        if rank() == 0:
            start = provenance(device) | {"world_size": world_size()}
            start_run(config.folder, settings, start, model.class_names)
        _run(dataset, config, show_progress and rank() == 0)
    return read_results(output)


def _check_dataset(dataset: Dataset, config: EvaluationConfig) -> None:
    dataset.check(len(config.model.class_names))
    _check_labels(dataset, config)
    _check_boxes(dataset, config)


def _check_labels(dataset: Dataset, config: EvaluationConfig) -> None:
    check_choice("target", config.target, ("label", "top1"))
    if config.target == "label":
        dataset.require("labels", "target 'label'")
    if config.only_correct:
        dataset.require("labels", "only_correct")


def _check_boxes(dataset: Dataset, config: EvaluationConfig) -> None:
    needing = [
        n for n, spec in config.metrics.items() if find_metric(spec.use).needs_boxes
    ]
    if not needing:
        return
    dataset.require("boxes", ", ".join(needing))
    if not isinstance(config.model.preprocess, BoxPreprocessing):
        raise ValueError(
            f"model must have a preprocess with a method boxes for "
            f"{', '.join(needing)}, got {type(config.model.preprocess).__name__}."
        )


def _check_values(
    dataset: Dataset, config: EvaluationConfig, known: Collection[str]
) -> None:
    """Refuse values of arguments that would fail on every image."""
    refused = ""
    for example in dataset.examples[:_N_TRIALS]:
        refused = find_refused(config, example, known)
        if not refused:
            return
    raise ValueError(refused)


def _settings(
    dataset: Dataset,
    config: EvaluationConfig,
    parts: Collection[Part],
    device: torch.device,
) -> dict[str, Any]:
    """Settings that determine the results."""
    model, activation = config.model.model, config.model.applied_activation
    settings: dict[str, Any] = {
        "dataset": dataset.describe(),
        "model": {"name": type(model).__name__, "sha256": weights_digest(model)},
        "methods": describe_specs(config.methods),
        "metrics": describe_specs(config.metrics),
        "target": config.target,
        "only_correct": config.only_correct,
        "layer": None if config.layer is None else config.layer.describe(),
        "stages": _stages(config),
        "seed": config.seed,
        "perturbations_per_eval": config.perturbations_per_eval,
        "device": device.type,
    }
    if called := called_functions(model):
        settings["model"]["functions"] = called
    if activation != "softmax":
        settings["model"]["activation"] = activation
    network = config.model.masking_network
    if network is not None and "masking_network" in parts:
        settings["masking_network"] = {"sha256": weights_digest(network)}
    return settings


def _stages(config: EvaluationConfig) -> list[str] | None:
    """Layers of a method that takes those of several stages."""
    by_stage = any(each.by_stage for each in used_methods(config.methods.values()))
    if config.layer is None or config.layer.finer is None or not by_stage:
        return None
    return [each.describe() for each in config.layer.stages]


def _run(dataset: Dataset, config: EvaluationConfig, show_progress: bool) -> None:
    """Compute the missing rows, a share per process, and merge them."""
    # Found by one process: shares must not depend on when a process reads the rows.
    found = _missing(dataset, config) if rank() == 0 else None
    missing = broadcast_object(found)
    if show_progress:
        n_images = len(dataset.examples)
        print_resumed(n_images - len(missing), n_images, "images")
    share = missing[rank() :: world_size()]
    if share:
        shown: set[str] = set()
        with RowWriter(config.folder, rank()) as writer:
            bar = progress(share, desc="images", show=show_progress)
            for index, pairs in bar:
                example = dataset.examples[index]
                with about_image(example.name, shown):
                    for row in rows_of_image(config, example, pairs):
                        writer.append(row)
    barrier()
    if rank() == 0:
        merge_tables(config.folder, [example.name for example in dataset.examples])
    barrier()


def _missing(
    dataset: Dataset, config: EvaluationConfig
) -> list[tuple[int, list[Pair]]]:
    """Indices of incomplete images, with their missing methods and metrics."""
    found = read_rows(config.folder)
    pairs = list(product(config.methods, config.metrics))
    missing = [
        (index, [pair for pair in pairs if (example.name, *pair) not in found])
        for index, example in enumerate(dataset.examples)
        if (example.name, None, None) not in found
    ]
    return [(index, pairs) for index, pairs in missing if pairs]
