"""The command captum-ext explain: one image, one method, one figure."""

import argparse
import time

from captum_ext._files import save_figure
from captum_ext._validation import check_integer
from captum_ext.commands.image import (
    COLORS,
    add_image_options,
    asked_subject,
    check_outputs,
    check_parts,
    map_figure,
    save_map,
)
from captum_ext.methods import METHODS, Method

__all__ = ["add_parser"]

_INSIDE = ", ".join(name for name, m in METHODS.items() if "model" in m.built_from)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of captum-ext.

    Args:
        commands (argparse action): What ``add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "explain",
        help="explain the classification of an image",
        description="Explain the classification of an image and draw the map over "
        f"it. Methods that look into the model ({_INSIDE}) explain the logit of the "
        "class, all others its softmax probability.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="methods:\n"
        + "\n".join(f"  {name:22}{m.summary}" for name, m in METHODS.items()),
    )
    add_image_options(
        parser, "(3, H, W), (1, H, W) of layer methods, or one per color (K, H, W)"
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
        help="forward passes that methods with random masks spend (default: the "
        "method's own)",
    )
    parser.add_argument(
        "--colors",
        default=COLORS,
        metavar="NAMES",
        help="colors for mc-rise, separated by commas (default: %(default)s)",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if options.method not in METHODS:
        raise ValueError(
            f"--method must be one of {', '.join(METHODS)}, got {options.method!r}."
        )
    method = METHODS[options.method]
    output = check_outputs(options, options.method)
    chosen = _chosen_options(method, options)
    asked = asked_subject(options, method.built_from, options.colors)
    start = time.perf_counter()
    maps = method.attribute(asked.subject, **chosen)
    seconds = time.perf_counter() - start
    save_figure(map_figure(method, asked, maps), output)
    if options.save_map:
        save_map(maps[0].cpu(), options.save_map)
    print(f"{method.title}: {seconds:.1f} s, {output}")


def _chosen_options(method: Method, options: argparse.Namespace) -> dict[str, object]:
    """Arguments that the command line adds to the method's own."""
    check_parts(method.built_from, options, options.method)
    if options.n_masks is None:
        return {}
    if "n_masks" not in method.options():
        raise ValueError(
            f"--n-masks is for methods with random masks, got {options.method!r}."
        )
    return {"n_masks": check_integer("--n-masks", options.n_masks, 2)}
