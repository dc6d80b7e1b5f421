"""Command captum-ext explain: explain images or a video with one method or several."""

import argparse
import sys
import time
from collections.abc import Mapping
from textwrap import fill
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from captum_ext import zoo
from captum_ext._files import save_figure, save_image
from captum_ext._validation import check_integer, check_positive
from captum_ext._warnings import about_image
from captum_ext.attr.image_sizes import describe_sizes
from captum_ext.attr.masked_run import relative_errors
from captum_ext.commands.image_options import (
    COLORS,
    add_image_options,
    check_clip_method,
    check_part_options,
    find_subject,
    read_images,
)
from captum_ext.commands.image_outputs import (
    FoundMap,
    counted_passes,
    draw_maps,
    print_subject,
    print_uniform,
    save_clip,
)
from captum_ext.commands.model_options import load_classifier
from captum_ext.commands.output_files import (
    FIGURE_SUFFIXES,
    Job,
    list_jobs,
    save_map,
)
from captum_ext.datasets.clip_files import is_clip
from captum_ext.methods import METHODS, Method
from captum_ext.methods.attribution_classes import RefusedValueError, errors_named
from captum_ext.methods.specs import (
    Spec,
    find_method,
    method_options,
    needed_parts,
    read_methods,
    used_methods,
)
from captum_ext.subject import Subject, check_parts

__all__ = ["add_parser"]

_WIDTH = 88

_EPILOG = f"""\
methods:
{chr(10).join(f"  {name:22}{m.summary}" for name, m in METHODS.items())}
  CLASS                 any attribution of Captum by class name, such as DeepLift
  FILE.py:CLASS         your own, a class derived from captum.attr.Attribution

Methods are separated by commas and drawn in one figure, their arguments follow after
colons, and "=" gives one another name: pn-rise,quick=pn-rise:n_masks=100. captum-ext
methods lists the arguments.

--against explains why the model says one class and not another: what is explained is
the logit of --target minus that of --against, for every method. Red raises --target
over --against, blue does the opposite. For a misclassified image,
--target top1 --against RIGHT asks why the prediction is not the right class.

exit status:
  0  all images are explained
  2  invalid options, or an image that cannot be explained; of several images, all
     others are explained
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to captum-ext.

    Args:
        commands (argparse action): Result of ``add_subparsers``.
    """
    white_box = [name for name, m in METHODS.items() if "model" in m.built_from]
    parser = commands.add_parser(
        "explain",
        description=fill(
            "Explain the classification of images or a video and draw the maps over "
            "them. A video is classified by the mean probabilities of its frames. "
            f"Methods that look inside the model ({', '.join(white_box)}) explain the "
            "logit of the class, of a video its log probability; all others explain "
            "its probability.",
            _WIDTH,
            break_on_hyphens=False,
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
    )
    add_image_options(
        parser,
        "(C, H, W), (1, H, W) for layer methods, (K, H, W) for K colors, or "
        "(C, T, H, W) for a video",
        several=True,
    )
    _add_method_options(parser)
    parser.set_defaults(run=_run)


def _add_method_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--method",
        default="pn-rise",
        metavar="NAME[:ARG=VALUE],...",
        help="methods and their arguments, see below (default: %(default)s)",
    )
    add(
        "--against",
        metavar="INDEX|NAME|topN",
        help="class that --target is compared with, see below",
    )
    add(
        "--n-masks",
        type=int,
        metavar="N",
        help="number of forward passes of methods with random masks (default: until "
        "the standard error is small, 402 at most for pn-rise)",
    )
    add(
        "--tolerance",
        type=float,
        metavar="T",
        help="standard error, as a fraction of the map's range, at which methods with "
        "random masks stop: their argument rtol (default: .3; .1 for rise)",
    )
    add(
        "--colors",
        metavar="NAMES",
        help=f"colors for mc-rise, separated by commas (default: {COLORS})",
    )


def _run(options: argparse.Namespace) -> int:
    specs = _read_specs(options)
    parts = needed_parts(specs.values())
    colorwise = any(_method(spec).colorwise for spec in specs.values())
    if colorwise:
        # Named, so that a model of other channels than RGB is refused.
        options.colors = options.colors or COLORS
    elif options.colors is not None:
        raise ValueError(f"--colors must be used with mc-rise, got {options.method!r}.")
    stacked = colorwise and len(specs) > 1
    jobs = list_jobs(
        options.image,
        [*specs],
        options.output,
        options.save_map,
        # Stacked figures are pixels.
        (".png", ".jpg") if stacked else FIGURE_SUFFIXES,
    )
    uses = [spec.use for spec in specs.values()]
    check_clip_method(options, "--method", uses, [*METHODS])
    check_part_options(parts, options, ", ".join(uses))
    if len(jobs) == 1:
        # An unreadable image should not wait for a download of the classifier.
        read_images(options, jobs[0].image)
    classifier = load_classifier(vars(options), parts)
    check_parts(classifier, parts, options.layer)
    status, shown = 0, set[str]()
    for job in jobs:
        try:
            with about_image(str(job.image), shown):
                _explain(job, options, classifier, specs, len(jobs) > 1)
        except ValueError as error:
            # Other images would be refused for the same value.
            refused = job is jobs[0] and isinstance(error, RefusedValueError)
            if refused or len(jobs) == 1:
                raise
            message = " ".join(str(error).split())
            print(f"captum-ext: error: {job.image}: {message}", file=sys.stderr)
            status = 2
    return status


def _read_specs(options: argparse.Namespace) -> dict[str, Spec]:
    """Methods with their arguments, among them --n-masks and --tolerance."""
    specs = read_methods(options.method, colorwise=True)
    given: dict[str, Any] = {}
    if options.n_masks is not None:
        given["n_masks"] = check_integer("--n-masks", options.n_masks, 2)
    if options.tolerance is not None:
        given["rtol"] = check_positive("--tolerance", options.tolerance)
    for argument, value in given.items():
        takers = [
            spec
            for spec in specs.values()
            if argument in method_options(_method(spec)) - {*spec.options}
        ]
        if not takers:
            option = "--n-masks" if argument == "n_masks" else "--tolerance"
            raise ValueError(
                f"{option} must be used with a method that has random masks and no "
                f"{argument} of its own, got {options.method!r}."
            )
        for spec in takers:
            spec.options[argument] = value
    masking = [spec.use for spec in specs.values() if _method(spec).mask]
    if options.against is not None and masking:
        raise ValueError(
            f"--against must be used with methods that explain a score, got "
            f"{', '.join(masking)!r}."
        )
    return specs


def _method(spec: Spec) -> Method:
    return find_method(spec.use)


def _explain(
    job: Job,
    options: argparse.Namespace,
    classifier: zoo.ZooModel,
    specs: Mapping[str, Spec],
    several: bool,
) -> None:
    """Explain an image by all methods, and write the figure and the maps."""
    clip = is_clip(job.image)
    parts = needed_parts(specs.values())
    images = read_images(options, job.image)
    subject = find_subject(options, classifier, images, parts, clip)
    print_subject(
        subject, used_methods(specs.values()), job.image.name if several else ""
    )
    found = {}
    for name, spec in specs.items():
        method = _method(spec)
        title = method.title if name == spec.use else name
        found[title] = _map(name, title, spec, subject, options.tolerance)
    for each, path in zip(found.values(), job.maps):
        save_map(each.maps[0].cpu(), path)
    job.figure.parent.mkdir(exist_ok=True)
    if clip:
        [each] = found.values()
        save_clip(subject, each.shown(), job.figure)
    else:
        figure = draw_maps(subject, found)
        if isinstance(figure, Figure):
            save_figure(figure, job.figure)
        else:
            save_image(figure, job.figure)
    print(f"written to {job.figure}", flush=True)


def _map(
    name: str, title: str, spec: Spec, subject: Subject, tolerance: float | None
) -> FoundMap:
    """Map of a method; passes, time, and error or sizes are printed."""
    start = time.perf_counter()
    with errors_named(f"--method {name}", _method(spec).reference, spec.options):
        with counted_passes(subject.model) as passes:
            maps, details = spec.attribute(subject)
    plural = "es" * (passes.number != 1)
    included = " with those of the prior" if spec.options.get("prior") else ""
    seconds = time.perf_counter() - start
    spent = f"{passes.number} pass{plural}{included}, {seconds:.1f} s"
    if isinstance(details, Tensor):
        # Typical standard error in units of the range of the map.
        (relative,) = relative_errors(maps, details).tolist()
        spent += f", standard error {relative:.0%} of the map's range"
        if tolerance is not None and relative > tolerance:
            spent += " (for --tolerance, increase --n-masks)"
    elif details is not None:
        spent += f", {describe_sizes(details)}"
    print(f"{title}: {spent}", flush=True)
    print_uniform(_method(spec), title, maps)
    return FoundMap(_method(spec), maps, details, spec.options)
