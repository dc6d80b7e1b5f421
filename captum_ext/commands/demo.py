"""Command captum-ext demo: explain a built-in scene with every method."""

import argparse
import time
from pathlib import Path

from captum_ext import zoo
from captum_ext._files import save_image
from captum_ext.commands.image_outputs import (
    FoundMap,
    add_caption,
    draw_colors,
    draw_overlays,
    print_subject,
)
from captum_ext.commands.output_files import check_writable
from captum_ext.methods import METHODS
from captum_ext.subject import build_subject
from captum_ext.visualization import stack_figures

__all__ = ["add_parser"]

_OTHER_CLASS = "blue circle, bar"
_COLORS = ("red", "blue", "yellow", "black", "white")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to captum-ext.

    Args:
        commands (argparse action): Result of ``add_subparsers``.
    """
    parser = commands.add_parser(
        "demo",
        description="Explain a built-in road-sign scene with every method and write "
        "one figure. Takes half a minute and needs no internet connection.",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("captum-ext-demo.png"),
        metavar="OUT.png",
        help="figure to write (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="random seed (default: 0)"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    check_writable(options.output, (".png", ".jpg"), "--output")
    signs = zoo.load("signs").with_masking_network(zoo.load_signs_masks())
    scene = zoo.sign_scene(0)
    methods = [method for method in METHODS.values() if not method.reference]
    subject = build_subject(
        signs,
        signs.normalize(scene.image),
        scene.label,
        parts={part for method in methods for part in method.built_from},
        colors=_COLORS,
        seed=options.seed,
        show_progress=True,
    )
    print_subject(subject, methods)
    # Color-wise methods explain another class: the sign has the target's color already.
    other = subject._replace(target=zoo.find_class(signs.class_names, _OTHER_CLASS))
    question = f"what would make it {_OTHER_CLASS}"
    plain, figures = {}, []
    for method in methods:
        start = time.perf_counter()
        explained = other if method.colorwise else subject
        found = FoundMap(method, *method.attribute_with_details(explained))
        about = f" ({question})" if method.colorwise else ""
        print(f"{method.title}: {time.perf_counter() - start:.1f} s{about}")
        if method.colorwise:
            figures.append(add_caption(draw_colors(other, found.shown()), question))
        else:
            plain[method.title] = found
    overview = draw_overlays(subject, plain)
    save_image(stack_figures([overview, *figures]), options.output)
    print(f"written to {options.output}")
