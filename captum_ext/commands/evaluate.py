"""The command captum-ext evaluate: what is asked, by words or by a file."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captum_ext._processes import process_group, rank
from captum_ext._validation import check_integer
from captum_ext.commands.model_options import (
    DEFAULT_MODEL,
    add_classifier_options,
    add_masking_network_option,
    load_classifier,
)
from captum_ext.datasets.class_map import read_class_map
from captum_ext.datasets.dataset import Dataset
from captum_ext.datasets.formats import (
    LAYOUTS,
    Layout,
    Source,
    describe_layouts,
    find_layout,
)
from captum_ext.evaluation.named_metrics import METRICS
from captum_ext.evaluation.run_folder import Results
from captum_ext.evaluation.runner import evaluate
from captum_ext.evaluation.specs import (
    COMPARED,
    needed_parts,
    read_methods,
    read_metrics,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["add_parser"]


_DEFAULTS: dict[str, Any] = {
    "model": DEFAULT_MODEL,
    "methods": "pn-rise,cameras,grad-cam,random",
    "metrics": "insertion,deletion",
    "only_correct": False,
    "seed": 0,
}

# What a settings file may hold, and of which type.
_TYPES: dict[str, tuple[type, ...]] = {
    "dataset": (str,),
    "images": (str,),
    "classes": (str,),
    "model": (str,),
    "weights": (str,),
    "masking_network": (str,),
    "methods": (str, list, dict),
    "metrics": (str, list, dict),
    "target": (str,),
    "only_correct": (bool,),
    "limit": (int,),
    "layer": (str,),
    "seed": (int,),
    "perturbations_per_eval": (int,),
    "output": (str,),
}

_EPILOG = f"""\
data sets:
{describe_layouts()}

methods:
{chr(10).join(f"  {name:22}{m.summary}" for name, m in COMPARED.items())}

metrics:
{chr(10).join(f"  {name:22}{m.summary}" for name, m in METRICS.items())}

Methods and metrics are separated by commas, their arguments by colons, and a name of
your own stands before "=": pn-rise,quick=pn-rise:n_masks=100:grid_size=10. They are the
arguments of the Python classes and functions.

settings file (TOML; options of the command line go before it):
  dataset = "boxes:imagenet/boxes.csv"
  model = "resnet50"
  limit = 300
  methods = "pn-rise,grad-cam,random"
  [metrics]
  insertion = {{n_steps = 56}}
  blurred = {{use = "insertion", baselines = "blur"}}

A run that was stopped goes on when it is started again with the same settings, also
with another number of processes:
  torchrun --nproc-per-node 2 -m captum_ext evaluate ...

exit status:
  0  every method has a value for every metric on some image; images without one
     are counted on standard error, and their errors stand in results.csv
  1  a method has no value at all for a metric
  2  what was asked cannot be done
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of captum-ext.

    Args:
        commands (argparse action): What ``add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "evaluate",
        help="compare methods on a data set",
        description="Compare methods on a data set by metrics. Writes a folder with "
        "the table (results.csv), curves, timings, images and maps.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
        # An option that was not given leaves the word to the settings file.
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    add(
        "--settings",
        type=Path,
        metavar="FILE.toml",
        help="options in a file, by their names here",
    )
    add("--dataset", metavar="KIND[:PATH]", help="what to evaluate on, see below")
    add("--images", metavar="FOLDER", help="images of boxes and coco")
    add(
        "--classes",
        metavar="FILE",
        help="which classes of the model count as which of the data set, for folders, "
        "voc and coco: lines such as '404 aeroplane' (default: those of the same name)",
    )
    add_classifier_options(parser)
    add_masking_network_option(parser)
    add(
        "--methods",
        metavar="LIST",
        help=f"see below (default: {_DEFAULTS['methods']})",
    )
    add(
        "--metrics",
        metavar="LIST",
        help=f"see below (default: {_DEFAULTS['metrics']})",
    )
    add(
        "--target",
        choices=("label", "top1"),
        help="explain the labeled or the predicted class (default: label where there "
        "are labels)",
    )
    add(
        "--only-correct",
        action="store_true",
        help="leave out images that are classified wrong",
    )
    add(
        "--limit",
        type=int,
        metavar="N",
        help="the first N images (default: all; of signs 100)",
    )
    add(
        "--layer",
        metavar="NAME",
        help="where layer methods look, a name within the model such as layer4 "
        "(default: the last part that returns maps)",
    )
    add("--seed", type=int, help=f"of all that is drawn (default: {_DEFAULTS['seed']})")
    add(
        "--perturbations-per-eval",
        type=int,
        metavar="N",
        help="images in one call of the model (default: 4 on the CPU, 64 on GPUs)",
    )
    add(
        "-o",
        "--output",
        metavar="FOLDER",
        help="new, empty, or with results of the same settings, which are completed",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    given = {name: value for name, value in vars(options).items() if name in _TYPES}
    file = getattr(options, "settings", None)
    asked = _DEFAULTS | (_read_file(file) if file else {}) | given
    for name in ("dataset", "output"):
        if name not in asked:
            raise ValueError(f"--{name} must be given, got none.")
    # Names are checked before weights are read, or even downloaded.
    methods = read_methods(asked["methods"])
    read_metrics(asked["metrics"])
    layout, path = find_layout(asked["dataset"])
    _check_options_of(layout, asked)
    if asked.get("limit") is not None:
        check_integer("--limit", asked["limit"], 1)
    classifier = load_classifier(asked, needed_parts(methods.values()))
    dataset = _dataset(layout, path, asked, classifier.class_names)
    with process_group():
        results = evaluate(
            dataset,
            classifier,
            asked["methods"],
            asked["metrics"],
            asked["output"],
            **{name: asked[name] for name in _PASSED_ON if name in asked},
            show_progress=sys.stderr.isatty(),
        )
        return _report(results, asked["output"]) if rank() == 0 else 0


_PASSED_ON = (
    "target",
    "only_correct",
    "layer",
    "seed",
    "perturbations_per_eval",
)


def _read_file(path: Path) -> dict[str, Any]:
    """Options of a settings file."""
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--settings must be a TOML file, got {str(path)!r} ({error})."
        ) from error
    options = {name.replace("-", "_"): value for name, value in content.items()}
    for name, value in options.items():
        if name not in _TYPES:
            raise ValueError(
                f"--settings must hold options among {', '.join(_TYPES)}, got {name!r} "
                f"in {str(path)!r}."
            )
        if type(value) not in _TYPES[name]:
            expected = " or ".join(each.__name__ for each in _TYPES[name])
            raise ValueError(
                f"--settings must hold {name} as {expected}, got {value!r} in "
                f"{str(path)!r}."
            )
    return options


def _check_options_of(layout: Layout, asked: Mapping[str, Any]) -> None:
    for option in ("classes", "images"):
        if option in asked and option not in layout.takes:
            takers = [name for name, kind in LAYOUTS.items() if option in kind.takes]
            raise ValueError(
                f"--{option} must go with data sets among {', '.join(takers)}, got "
                f"{asked['dataset']!r}."
            )


def _dataset(
    layout: Layout, path: str, asked: Mapping[str, Any], class_names: Sequence[str]
) -> Dataset:
    limit = asked.get("limit")
    source = Source(
        path,
        class_names,
        read_class_map(asked["classes"]) if "classes" in asked else None,
        asked.get("images"),
        range(limit or 100),
    )
    return layout.read(source).first(limit)


def _report(results: Results, output: str) -> int:
    """Say what came out; the exit status."""
    table = results.table
    values = table.groupby(["method", "metric"], sort=False)["value"]
    n_images = table["image"].nunique()
    left_out = results.settings["dataset"]["images"] - n_images
    print(f"means over {n_images} images" + f", {left_out} left out" * (left_out > 0))
    if n_images:
        means = values.mean().unstack().loc[[*results.settings["methods"]]]
        print(means[[*results.settings["metrics"]]].to_string(float_format="%.4f"))
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
