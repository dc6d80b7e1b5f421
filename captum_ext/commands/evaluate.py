"""The command captum-ext evaluate: options from the command line and a TOML file."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import Field, asdict, dataclass, fields
from pathlib import Path
from textwrap import fill
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from captum_ext._processes import process_group, rank
from captum_ext._suggestions import known_name
from captum_ext._validation import check_integer
from captum_ext.commands.image_options import check_part_options
from captum_ext.commands.model_options import (
    DEFAULT_MODEL,
    add_classifier_options,
    add_masking_network_option,
    load_classifier,
)
from captum_ext.datasets import Dataset, read_class_map
from captum_ext.datasets.formats import (
    DATASET_FORMATS,
    DatasetFormat,
    DatasetSource,
    describe_formats,
    find_format,
)
from captum_ext.evaluation import (
    COMPARED,
    METRICS,
    Results,
    evaluate,
    read_methods,
    read_metrics,
)
from captum_ext.evaluation.options import EvaluationOptions, option
from captum_ext.evaluation.run_folder import kept_specs
from captum_ext.methods.specs import describe_specs, needed_parts

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["EvaluateOptions", "add_parser"]


@dataclass(frozen=True)
class EvaluateOptions(EvaluationOptions):
    """Options of the command: fields are options, and keys of a settings file.

    :mod:`captum_ext.commands.model_options` adds model, weights, device and
    masking_network.
    """

    dataset: str = option("data set, see below (required)", "", "KIND[:PATH]")
    images: str | None = option(
        "for boxes and coco: folder of the images (default: images/ beside the file)",
        metavar="FOLDER",
    )
    classes: str | None = option(
        "for folders, voc and coco: text file of the model's classes that match those "
        "of the data set, in lines such as '404 aeroplane' (default: those of the same "
        "name)",
        metavar="FILE",
    )
    limit: int | None = option(
        "use the first N images (default: all; 100 of signs)", metavar="N"
    )
    model: str = DEFAULT_MODEL
    weights: str | None = None
    masking_network: str | None = None
    device: str | None = None
    methods: str | list[Any] | dict[str, Any] = option(
        "methods to compare, see below", "pn-rise,cameras,grad-cam,random", "LIST"
    )
    metrics: str | list[Any] | dict[str, Any] = option(
        "metrics to compare them by, see below", "insertion,deletion", "LIST"
    )
    output: str = option(
        "folder for the results: new, empty, or with results of the same settings, "
        "which are completed (required)",
        "",
        "FOLDER",
    )


_EPILOG = f"""\
data sets:
{describe_formats()}

methods:
{chr(10).join(f"  {name:22}{m.summary}" for name, m in COMPARED.items())}

metrics:
{chr(10).join(f"  {name:24}{m.summary}" for name, m in METRICS.items())}

Methods are also Captum's attributions by class name, such as DeepLift. Your own are
FILE.py:NAME or MODULE:NAME: a method is a class derived from captum.attr.Attribution; a
metric is a function like those of captum_ext.metrics, with better=higher or
better=lower: own.py:my_metric:better=lower.

Methods and metrics are separated by commas, their arguments by colons, and "=" gives
one another name: pn-rise,quick=pn-rise:n_masks=100:layout=grid. captum-ext methods and
captum-ext metrics list the arguments, and which metrics need boxes of the objects. The
baselines of a metric are a number in the space of the model's inputs, or black, mean
(the default), blur or white.

examples:
  captum-ext evaluate --dataset images:photos --model resnet50 -o results
  captum-ext evaluate --dataset signs --limit 10 --model signs \\
      --methods pn-rise:n_masks=200,cameras,random --metrics insertion -o results
  captum-ext report results

settings file (TOML; options of the command line override it):
  dataset = "boxes:imagenet/boxes.csv"
  model = "resnet50"
  limit = 300
  methods = "pn-rise,grad-cam,random"
  [metrics]
  insertion = {{n_steps = 56}}
  blurred = {{use = "insertion", baselines = "blur"}}

A run that was stopped resumes when it is started again with the same settings, with
any number of processes:
  torchrun --nproc-per-node 2 -m captum_ext evaluate ...

exit status:
  0  every method has a value for every metric on some image; missing values are
     counted on standard error, and results.csv has their errors
  1  a method has no value at all for a metric
  2  invalid options or data
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of captum-ext.

    Args:
        commands (argparse action): Return value of ``add_subparsers``.
    """
    parser = commands.add_parser(
        "evaluate",
        description=fill(
            "Compare methods on a data set by metrics. Writes a folder with the table "
            "(results.csv), curves, timings, images and maps, and prints the means; "
            "captum-ext report tests the differences.",
            88,
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
        # An option that is not given must not override the settings file.
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--settings",
        type=Path,
        metavar="FILE.toml",
        help="TOML file of options by the names below, see the end",
    )
    # Inherited fields come first; in the help the data set does.
    inherited = fields(EvaluationOptions)
    for each in (*fields(EvaluateOptions)[len(inherited) :], *inherited):
        if each.name == "model":
            add_classifier_options(parser)
        elif each.name == "masking_network":
            add_masking_network_option(parser)
        elif each.name not in ("weights", "device"):
            _add_option(parser, each)
    parser.set_defaults(run=_run)


def _add_option(parser: argparse.ArgumentParser, each: "Field[Any]") -> None:
    flags = ["-o"] * (each.name == "output") + [f"--{each.name.replace('_', '-')}"]
    types, choices = _TYPES[each.name]
    help = each.metadata["help"]
    if types != (bool,) and each.default not in (None, ""):
        help = f"{help} (default: {each.default})"
    if types == (bool,):
        parser.add_argument(*flags, action="store_true", help=help)
    else:
        parser.add_argument(
            *flags,
            type=types[0],
            choices=choices,
            metavar=each.metadata["metavar"],
            help=help,
        )


def _types(hint: Any) -> tuple[tuple[type, ...], tuple[str, ...] | None]:
    """Types of the values of a field, and its choices if it is a Literal."""
    types, choices = [], None
    for member in get_args(hint) or (hint,):
        if get_origin(member) is Literal:
            types, choices = [str], get_args(member)
        elif member is not NoneType:
            types.append(get_origin(member) or member)
    return tuple(types), choices


_TYPES = {name: _types(hint) for name, hint in get_type_hints(EvaluateOptions).items()}


def _run(namespace: argparse.Namespace) -> int:
    options = _read_options(namespace)
    # Names are checked before weights are read, or even downloaded.
    given = describe_specs(read_methods(options.methods))
    specs = read_methods(kept_specs(Path(options.output))["methods"] | given)
    read_metrics(options.metrics)
    dataset_format, path = find_format(options.dataset)
    _check_taken(dataset_format, options)
    if options.limit is not None:
        check_integer("--limit", options.limit, 1)
    parts = needed_parts(specs.values())
    check_part_options(parts, options, ", ".join(specs))
    classifier = load_classifier(asdict(options), parts)
    dataset = _read_dataset(dataset_format, path, options, classifier.class_names)
    with process_group():
        results = evaluate(
            dataset,
            classifier,
            options.methods,
            options.metrics,
            options.output,
            **{f.name: getattr(options, f.name) for f in fields(EvaluationOptions)},
            show_progress=True,
        )
        return _print_results(results, options.output) if rank() == 0 else 0


def _read_options(namespace: argparse.Namespace) -> EvaluateOptions:
    """Options of the settings file, overridden by those of the command line."""
    given = {name: value for name, value in vars(namespace).items() if name in _TYPES}
    file = getattr(namespace, "settings", None)
    options = EvaluateOptions(**(_read_file(file) if file else {}) | given)
    for name in ("dataset", "output"):
        if not getattr(options, name):
            raise ValueError(f"--{name} must be given, got none.")
    return options


def _read_file(path: Path) -> dict[str, Any]:
    """Options of a settings file."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--settings must be a TOML file, got {str(path)!r} ({error})."
        ) from error
    options = {name.replace("-", "_"): value for name, value in content.items()}
    for name, value in options.items():
        if name not in _TYPES:
            problem = known_name(name, _TYPES)
            raise ValueError(
                f"--settings must hold options, each {problem} in {str(path)!r}."
            )
        types, _ = _TYPES[name]
        if type(value) not in types:
            expected = " or ".join(each.__name__ for each in types)
            raise ValueError(
                f"--settings must hold {name} as {expected}, got {value!r} in "
                f"{str(path)!r}."
            )
    return options


def _check_taken(dataset_format: DatasetFormat, options: EvaluateOptions) -> None:
    for name in ("classes", "images"):
        if getattr(options, name) is not None and name not in dataset_format.takes:
            takers = [kind for kind, f in DATASET_FORMATS.items() if name in f.takes]
            raise ValueError(
                f"--{name} must go with data sets among {', '.join(takers)}, got "
                f"{options.dataset!r}."
            )


def _read_dataset(
    dataset_format: DatasetFormat,
    path: str,
    options: EvaluateOptions,
    class_names: Sequence[str],
) -> Dataset:
    source = DatasetSource(
        path,
        class_names,
        read_class_map(options.classes) if options.classes is not None else None,
        options.images,
        range(options.limit or 100),
    )
    return dataset_format.read(source).first(options.limit)


def _print_results(results: Results, output: str) -> int:
    """Print mean values, and return the exit status."""
    table = results.table
    values = table.groupby(["method", "metric"], sort=False)["value"]
    n_images = table["image"].nunique()
    left_out = results.settings["dataset"]["images"] - n_images
    if results.settings["layer"] is not None:
        print(f"layer for layer methods: {results.settings['layer']}")
    if stages := results.settings.get("stages"):
        titles = [method.title for method in COMPARED.values() if method.by_stage]
        print(f"layers for {', '.join(titles)}: {' and '.join(stages)}")
    print(f"means over {n_images} images" + f", {left_out} left out" * (left_out > 0))
    if n_images:
        means = values.mean().unstack().loc[[*results.settings["methods"]]]
        print(means[[*results.settings["metrics"]]].to_string(float_format="%.4f"))
    if "activation" in results.settings["model"]:
        print(f"activation: {results.settings['model']['activation']}")
    failed = table[table["error"].notna()]
    if len(failed):
        image, method, metric, error = failed.iloc[0][
            ["image", "method", "metric", "error"]
        ]
        print(
            f"captum-ext: {len(failed)} of {len(table)} values are missing; the first: "
            f"{image}, {method}, {metric}: {error}",
            file=sys.stderr,
        )
    print(f"written to {output}")
    return int(not n_images or bool((values.count() == 0).any()))
