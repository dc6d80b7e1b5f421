"""Command captum-ext explain: explain an image or a video with one method."""

import argparse
import time

from torch import Tensor

from captum_ext._files import save_figure
from captum_ext._validation import check_integer
from captum_ext.attr.image_sizes import describe_sizes
from captum_ext.attr.masked_run import relative_errors
from captum_ext.commands.image_options import (
    COLORS,
    add_image_options,
    check_clip_method,
    check_outputs,
    check_part_options,
    read_subject,
)
from captum_ext.commands.image_outputs import (
    counted_passes,
    draw_map,
    save_clip,
    save_map,
)
from captum_ext.methods import METHODS, Method

__all__ = ["add_parser"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to captum-ext.

    Args:
        commands (argparse action): Result of ``add_subparsers``.
    """
    white_box = [name for name, m in METHODS.items() if "model" in m.built_from]
    parser = commands.add_parser(
        "explain",
        description="Explain the classification of an image or a video and draw the "
        "map over it. A video is classified by the mean probabilities of its frames. "
        f"Methods that look inside the model ({', '.join(white_box)}) explain the "
        "logit of the class, of a video its log probability; all others explain its "
        "probability.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="methods:\n"
        + "\n".join(f"  {name:22}{m.summary}" for name, m in METHODS.items()),
    )
    add_image_options(
        parser,
        "(C, H, W), (1, H, W) for layer methods, (K, H, W) for K colors, or "
        "(C, T, H, W) for a video",
    )
    parser.add_argument(
        "--method",
        default="pn-rise",
        metavar="NAME",
        help=f"{', '.join(METHODS)} (default: %(default)s)",
    )
    parser.add_argument(
        "--n-masks",
        type=int,
        metavar="N",
        help="number of forward passes of methods with random masks (default: until "
        "the standard error is small, 402 at most for pn-rise)",
    )
    parser.add_argument(
        "--colors",
        metavar="NAMES",
        help=f"colors for mc-rise, separated by commas (default: {COLORS})",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if options.method not in METHODS:
        raise ValueError(
            f"--method must be one of {', '.join(METHODS)}, got {options.method!r}."
        )
    method = METHODS[options.method]
    output = check_outputs(options, options.method)
    check_clip_method(options, "--method", options.method, METHODS)
    method_options = _method_options(method, options)
    colors = options.colors or (COLORS if method.colorwise else None)
    subject = read_subject(options, method.built_from, colors)
    start = time.perf_counter()
    with counted_passes(subject.model) as passes:
        tried, error = None, None
        if "return_sizes" in method.options():
            maps, tried = method.attribute_with_sizes(subject, **method_options)
        else:
            maps, error = method.attribute_with_error(subject, **method_options)
    seconds = time.perf_counter() - start
    if subject.inputs.dim() == 5:
        save_clip(subject, method.displayed(maps), output)
    else:
        save_figure(draw_map(method, subject, maps), output)
    if options.save_map:
        save_map(maps[0].cpu(), options.save_map)
    spent = f"{passes.number} passes, {seconds:.1f} s"
    if error is not None:
        spent += f", {_described_error(maps, error)}"
    if tried is not None:
        spent += f", {describe_sizes(tried)}"
    print(f"{method.title}: {spent}, {output}")


def _described_error(maps: Tensor, error: Tensor) -> str:
    """Typical standard error in units of the range of the map."""
    (relative,) = relative_errors(maps, error).tolist()
    return f"standard error {relative:.0%} of the map's range"


def _method_options(method: Method, options: argparse.Namespace) -> dict[str, object]:
    """Options of the method that the command line sets."""
    check_part_options(method.built_from, options, options.method)
    if options.n_masks is None:
        return {}
    if "n_masks" not in method.options():
        raise ValueError(
            f"--n-masks must be used with a method that has random masks, got "
            f"{options.method!r}."
        )
    return {"n_masks": check_integer("--n-masks", options.n_masks, 2)}
