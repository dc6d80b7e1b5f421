"""The command captum-ext: explain a picture, or look at the demonstration."""

import argparse
import difflib
import os
import sys
import time
from pathlib import Path
from typing import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor, nn

from captum_ext import __version__, zoo
from captum_ext._validation import check_integer
from captum_ext.attr import last_map_layer
from captum_ext.evaluation.command import add_parser as add_evaluate
from captum_ext.evaluation.report_command import add_parser as add_report
from captum_ext.masks import named_palette
from captum_ext.methods import METHODS, Method, Subject
from captum_ext.visualization import (
    color_saliency_figure,
    overlay_figure,
    stack_figures,
)

__all__ = ["main"]

_EPILOG = """\
examples:
  captum-ext demo
      explain a built-in road-sign scene with every method; needs no network
  captum-ext explain photo.jpg --model resnet50
      what speaks for the most probable class, and what against it
  captum-ext explain photo.jpg --model mobilenet_v2 --weights FILE.pt --target tabby
      another class, and weights from a file in place of a download
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments (sequence of str, optional): The words behind ``captum-ext``.
            Default: None (those of the command line)

    Returns:
        *int*: Exit status, 0 for success and 2 for input that cannot be used, which is
        described in one line on standard error.

    Examples::

        >>> main(["explain", "missing.jpg"])
        2
    """
    options = _parser().parse_args(arguments)
    try:
        check_integer("--seed", vars(options).get("seed", 0), 0, 2**64 - 1)
        return options.run(options) or 0
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"captum-ext: error: {message}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="captum-ext",
        description="Explain what a vision model looks at.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    explain = commands.add_parser(
        "explain",
        help="explain the classification of a picture",
        description="Explain the classification of a picture and draw the map over "
        "it. Layer methods (cameras, grad-cam, grad-cam++) explain the logit of the "
        "class, all others its softmax probability.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="methods:\n"
        + "\n".join(f"  {name:22}{m.summary}" for name, m in METHODS.items()),
    )
    explain.add_argument("image", type=Path, help="picture file (JPEG, PNG, ...)")
    explain.add_argument(
        "--method",
        default="pn-rise",
        metavar="NAME",
        help=f"{', '.join(METHODS)} (default: %(default)s)",
    )
    explain.add_argument(
        "--model",
        default="mobilenet_v2",
        metavar="NAME",
        help="any torchvision classification model, or signs, the built-in one "
        "(default: %(default)s)",
    )
    explain.add_argument(
        "--weights",
        metavar="FILE|NAME",
        help="state-dict file or torchvision weights name (default: torchvision's "
        "best, downloaded)",
    )
    explain.add_argument(
        "--target",
        default="top1",
        metavar="INDEX|NAME|top1",
        help="class to explain: its number, its name or a part of it, or top1, the "
        "most probable one (default: %(default)s)",
    )
    explain.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT.png",
        help="figure to write (default: the picture's name with -METHOD.png)",
    )
    explain.add_argument(
        "--save-map",
        type=Path,
        metavar="MAP.npy|.pt",
        help="also write the map itself, (3, H, W), (1, H, W) of layer methods, or one "
        "per colour (K, H, W)",
    )
    explain.add_argument(
        "--layer",
        metavar="NAME",
        help="where layer methods look, a name within the model such as layer4 or "
        "features.18 (default: the last convolutional one)",
    )
    explain.add_argument(
        "--n-masks",
        type=int,
        metavar="N",
        help="forward passes that methods with random masks spend (default: the "
        "method's own)",
    )
    explain.add_argument(
        "--colors",
        default="red,green,blue,black,white",
        metavar="NAMES",
        help="colours for mc-rise, separated by commas (default: %(default)s)",
    )
    explain.set_defaults(run=_explain)

    demo = commands.add_parser(
        "demo",
        help="explain a built-in scene with every method",
        description="Explain a built-in road-sign scene with every method and write "
        "one figure. Needs no network and takes a few seconds.",
    )
    demo.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("captum-ext-demo.png"),
        metavar="OUT.png",
        help="figure to write (default: %(default)s)",
    )
    demo.set_defaults(run=_demo)
    for command in (explain, demo):
        command.add_argument(
            "--seed", type=int, default=0, help="seed of the masks (default: 0)"
        )
    add_evaluate(commands)
    add_report(commands)
    return parser


def _explain(options: argparse.Namespace) -> None:
    if options.method not in METHODS:
        raise ValueError(
            f"--method must be one of {', '.join(METHODS)}, got {options.method!r}."
        )
    method = METHODS[options.method]
    output = options.output or Path(f"{options.image.stem}-{options.method}.png")
    _check_writable(output, (".png", ".jpg", ".pdf", ".svg"), "--output")
    if options.save_map:
        _check_writable(options.save_map, (".npy", ".pt"), "--save-map")
    chosen = _chosen_options(method, options)
    image = _open_image(options.image)
    entry = zoo.load(options.model, options.weights)
    subject, picture = _subject(
        entry, entry.preprocess(image), options, method.layerwise
    )

    maps, seconds = _timed(method, subject, chosen)
    _figure(method, picture, maps, subject).savefig(output)
    if options.save_map:
        _save_map(maps[0].cpu(), options.save_map)
    print(f"{method.title}: {seconds:.1f} s, {output}")


def _chosen_options(method: Method, options: argparse.Namespace) -> dict[str, object]:
    """Arguments that the command line adds to the method's own."""
    if options.layer is not None and not method.layerwise:
        raise ValueError(
            f"--layer is for layer methods, expected one of "
            f"{', '.join(n for n, m in METHODS.items() if m.layerwise)}, got "
            f"{options.method!r}."
        )
    if options.n_masks is None:
        return {}
    if "n_masks" not in method.options():
        raise ValueError(
            f"--n-masks is for methods with random masks, got {options.method!r}."
        )
    return {"n_masks": check_integer("--n-masks", options.n_masks, 2)}


def _demo(options: argparse.Namespace) -> None:
    _check_writable(options.output, (".png", ".jpg"), "--output")
    entry = zoo.load("signs")
    scene = zoo.sign_scene(0)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (entry.mean, entry.std))
    options.target, options.layer = scene.label, None
    options.colors = "red,blue,yellow,black,white"
    subject, picture = _subject(
        entry, (scene.picture - mean) / std, options, layerwise=True
    )
    # Colours are asked for another class: its own colour is there already.
    other = zoo.find_class(entry.class_names, _DEMO_OTHER_CLASS)
    overlays, figures = {}, []
    for method in METHODS.values():
        if method.reference:
            continue
        if method.colorwise:
            subject = subject._replace(target=other)
            print(
                f"{method.title} asks what would make it class {other}, "
                f"{entry.class_names[other]}"
            )
        maps, seconds = _timed(method, subject, {})
        print(f"{method.title}: {seconds:.1f} s")
        if method.colorwise:
            figures.append(_figure(method, picture, maps, subject))
        else:
            overlays[method.title] = _shown(method, maps)
    stack_figures([overlay_figure(picture, overlays), *figures]).save(options.output)
    print(f"written to {options.output}")


_DEMO_OTHER_CLASS = "blue circle, bar"


def _subject(
    entry: zoo.ZooModel,
    inputs: Tensor,
    options: argparse.Namespace,
    layerwise: bool,
) -> tuple[Subject, Tensor]:
    """What to explain, and the picture (3, H, W) in [0, 1] that the model sees."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = entry.model.to(device).to(memory_format=torch.channels_last)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (entry.mean, entry.std))
    picture = (inputs * std + mean).clamp(0, 1)
    batch = inputs[None].to(device, memory_format=torch.channels_last)
    with torch.no_grad():
        probabilities = model(batch).softmax(1)[0]
    if options.target == "top1":
        target = int(probabilities.argmax())
    else:
        target = zoo.find_class(entry.class_names, options.target)
    name = entry.class_names[target]
    print(f"class {target}, {name}: probability {float(probabilities[target]):.3f}")
    palette = named_palette(options.colors.split(","), entry.mean, entry.std)
    layer_name, layer = _layer(model, batch, options.layer)
    if layerwise:
        print(f"layer of layer methods: {layer_name}")
    subject = Subject(
        model,
        layer,
        batch,
        target,
        palette,
        options.seed,
        show_progress=sys.stderr.isatty(),
    )
    return subject, picture


def _layer(model: nn.Module, batch: Tensor, name: str | None) -> tuple[str, nn.Module]:
    if name is None:
        return last_map_layer(model, batch)
    try:
        return name, model.get_submodule(name)
    except AttributeError:
        known = [path for path, _ in model.named_modules() if path]
        similar = difflib.get_close_matches(name, known, 3) or known[-3:]
        raise ValueError(
            f"--layer must be a part of the model such as {', '.join(similar)}, got "
            f"{name!r}."
        ) from None


def _timed(
    method: Method, subject: Subject, chosen: dict[str, object]
) -> tuple[Tensor, float]:
    start = time.perf_counter()
    maps = method.attribute(subject, **chosen)
    return maps, time.perf_counter() - start


def _figure(method: Method, picture: Tensor, maps: Tensor, subject: Subject) -> Figure:
    if method.colorwise:
        palette = subject.palette
        return color_saliency_figure(picture, maps[0], palette.rgb, palette.names)
    return overlay_figure(picture, {method.title: _shown(method, maps)})


def _shown(method: Method, maps: Tensor) -> Tensor:
    # The mean keeps the unit of maps that are equal in all channels.
    shown = maps[0].mean(0, keepdim=True)
    return shown - shown.min() if method.relief else shown


def _open_image(path: Path) -> Image.Image:
    if not path.is_file():
        raise ValueError(f"picture {str(path)!r} does not exist.")
    try:
        return ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(
            f"picture {str(path)!r} cannot be read as a picture ({error})."
        ) from error


def _check_writable(path: Path, suffixes: Sequence[str], argument: str) -> None:
    if path.suffix.lower() not in suffixes:
        raise ValueError(
            f"{argument} must end in {' or '.join(suffixes)}, got {str(path)!r}."
        )
    if not path.resolve().parent.is_dir():
        raise ValueError(f"{argument} {str(path)!r} lies in no existing folder.")


def _save_map(maps: Tensor, path: Path) -> None:
    """Write the map whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "wb") as file:
        if path.suffix.lower() == ".npy":
            np.save(file, maps.numpy())
        else:
            torch.save(maps, file)
    os.replace(partial, path)
