"""The command captum-ext demo: every method on a built-in scene."""

import argparse
import time
from pathlib import Path

from captum_ext import zoo
from captum_ext._files import save_image
from captum_ext.commands.image import (
    captioned,
    check_writable,
    map_figure,
    shown_values,
    subject_of,
)
from captum_ext.methods import METHODS
from captum_ext.visualization import overlay_figure, stack_figures

__all__ = ["add_parser"]

_OTHER_CLASS = "blue circle, bar"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of captum-ext.

    Args:
        commands (argparse action): What ``add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "demo",
        help="explain a built-in scene with every method",
        description="Explain a built-in road-sign scene with every method and write "
        "one figure. Needs no network and takes half a minute.",
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
        "--seed", type=int, default=0, help="of all that is drawn (default: 0)"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    check_writable(options.output, (".png", ".jpg"), "--output")
    entry = zoo.load("signs")
    scene = zoo.sign_scene(0)
    shown = [method for method in METHODS.values() if not method.reference]
    asked = subject_of(
        entry,
        entry.normalize(scene.image),
        scene.label,
        {part for method in shown for part in method.built_from},
        masking_network=zoo.load_signs_masks(),
        colors="red,blue,yellow,black,white",
        seed=options.seed,
    )
    # Colors are asked for another class: its own color is there already.
    other = zoo.find_class(entry.class_names, _OTHER_CLASS)
    painting = asked._replace(
        subject=asked.subject._replace(target=other),
        words=f"what would make it {_OTHER_CLASS}",
    )
    overlays, figures = {}, []
    for method in shown:
        if method.colorwise:
            print(f"{method.title} asks {painting.words}")
        about = painting if method.colorwise else asked
        start = time.perf_counter()
        maps = method.attribute(about.subject)
        print(f"{method.title}: {time.perf_counter() - start:.1f} s")
        if method.colorwise:
            figures.append(map_figure(method, about, maps))
        else:
            overlays[method.title] = shown_values(method, maps)
    overview = captioned(overlay_figure(asked.image, overlays), asked.words)
    figure = stack_figures([overview, *figures])
    save_image(figure, options.output)
    print(f"written to {options.output}")
