"""Command captum-ext refine: refine a map of an image or a video with BOREx."""

import argparse
import time
from pathlib import Path
from textwrap import fill

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from captum_ext._files import save_figure
from captum_ext._suggestions import known_name
from captum_ext._validation import check_integer
from captum_ext._warnings import about_image
from captum_ext.attr import BOREx, Refinement
from captum_ext.attr.window_search import VARIANTS
from captum_ext.commands.image_options import (
    add_image_options,
    check_clip_method,
    check_part_options,
    find_subject,
    read_images,
)
from captum_ext.commands.image_outputs import (
    FoundMap,
    add_caption,
    add_uniform_caption,
    counted_passes,
    print_subject,
    print_uniform,
    save_clip,
    target_caption,
)
from captum_ext.commands.model_options import load_classifier
from captum_ext.commands.output_files import Job, list_jobs, save_map
from captum_ext.datasets.clip_files import is_clip
from captum_ext.methods import METHODS, Method
from captum_ext.subject import Subject
from captum_ext.visualization import refinement_figure

__all__ = ["add_parser"]

# Also of a prior from a file, whose method is unknown.
_BOREX = METHODS["borex"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to captum-ext.

    Args:
        commands (argparse action): Result of ``add_subparsers``.
    """
    parser = commands.add_parser(
        "refine",
        description=fill(
            "Refine the map of another method, or a map from a file, with a Gaussian "
            "process (BOREx). Draws the prior, the centers of the scored masks, the "
            "map, what changed and the standard deviation; of a video, its frames and "
            "the map.",
            88,
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="priors:\n"
        + "\n".join(f"  {name:22}{METHODS[name].summary}" for name in _priors())
        + "\n  MAP.npy|.pt           map (C, h, w), or (C, T, h, w) for a video, such "
        "as\n                        --save-map of explain writes"
        "\n  none                  no prior map",
    )
    add_image_options(parser, "(C, H, W), or (C, T, H, W) for a video")
    parser.add_argument(
        "--prior",
        metavar="METHOD|FILE|none",
        help="map to refine, see below (default: grad-cam++, none for a video)",
    )
    parser.add_argument(
        "--n-iterations",
        type=int,
        default=50,
        metavar="N",
        help="number of masks, two forward passes each (default: %(default)s)",
    )
    parser.add_argument(
        "--variant",
        choices=("field", *VARIANTS),
        default="field",
        help="masks of superpixels (field), square windows, or the paper's choices for "
        "windows (default: %(default)s)",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    [path] = options.image
    if path.is_dir():
        raise ValueError(f"image must be one file, got the folder {str(path)!r}.")
    [job] = list_jobs([path], ["refined"], options.output, options.save_map)
    check_integer("--n-iterations", options.n_iterations, 1)
    clip = is_clip(job.image)
    chosen = options.prior or ("none" if clip else "grad-cam++")
    method = METHODS[chosen] if chosen in _priors() else None
    check_clip_method(options, "--prior", [chosen] if method else [], _priors())
    prior = None
    if method is None and chosen != "none":
        prior = _read_map(Path(chosen), "T, h, w" if clip else "h, w")
    parts = () if method is None else method.built_from
    check_part_options(parts, options, chosen)
    with about_image(str(path), set()):
        _refine(job, options, method, prior)


def _refine(
    job: Job, options: argparse.Namespace, method: Method | None, prior: Tensor | None
) -> None:
    """Refine the map of a method, or that of a file, and write the figure."""
    clip = is_clip(job.image)
    parts = () if method is None else method.built_from
    images = read_images(options, job.image)
    classifier = load_classifier(vars(options), parts)
    subject = find_subject(options, classifier, images, parts, clip)
    print_subject(subject, [] if method is None else [method])
    start = time.perf_counter()
    if method is not None:
        prior = method.attribute(subject)
    after_prior = time.perf_counter()
    with counted_passes(subject.model) as passes:
        refinement = BOREx(subject.probabilities).attribute(
            subject.inputs,
            prior,
            target=subject.target,
            variant=options.variant,
            n_iterations=options.n_iterations,
            seed=options.seed,
            return_posterior=True,
            show_progress=subject.show_progress,
        )
    seconds = time.perf_counter() - after_prior
    maps = refinement.attributions[0][None]
    if clip:
        save_clip(subject, _shown(refinement, options.variant), job.figure)
    else:
        shown = _shown(refinement, options.variant)
        figure = _figure(subject, method or _BOREX, prior, refinement, shown)
        save_figure(add_caption(figure, target_caption(subject)), job.figure)
    for path in job.maps:
        save_map(maps[0].cpu(), path)
    before = f" after {after_prior - start:.1f} s for the prior" if method else ""
    print(f"BOREx: {passes.number} passes, {seconds:.1f} s{before}")
    print_uniform(_BOREX, "BOREx", maps)
    print(f"written to {job.figure}")


def _figure(
    subject: Subject,
    method: Method,
    prior: Tensor | None,
    refinement: Refinement,
    shown: Tensor,
) -> Figure:
    """Figure of the refinement of an image, with maps as explain draws them."""
    maps = refinement.attributions[0][None]
    figure = refinement_figure(
        subject.image,
        None if prior is None else method.displayed(prior),
        shown,
        refinement.std[0].mean(0),
        refinement.centers[0],
        refinement.scores[0],
    )
    panels = [axes.get_title() for axes in figure.axes]
    if prior is not None:
        add_uniform_caption(figure, method, prior, panels.index("prior"))
    add_uniform_caption(figure, _BOREX, maps, panels.index("map"))
    return figure


def _shown(refinement: Refinement, variant: str) -> Tensor:
    """Refined map as figures show it."""
    maps, std = (each[0][None] for each in refinement[:2])
    return FoundMap(_BOREX, maps, std, {"variant": variant}).shown()


def _priors() -> list[str]:
    """Names of the methods whose maps can be refined."""
    return [n for n, m in METHODS.items() if not m.colorwise and m.prior is None]


def _read_map(path: Path, axes: str) -> Tensor:
    """Read a map (1, C, h, w) or (1, C, T, h, w) from a file, with or without C."""
    n_axes = 1 + len(axes.split(", "))
    if not path.is_file() or path.suffix.lower() not in (".npy", ".pt"):
        others = ", none, or an existing file .npy or .pt"
        raise ValueError(f"--prior must be {known_name(path, _priors(), others)}.")
    try:
        if path.suffix.lower() == ".npy":
            value = torch.from_numpy(np.load(path, allow_pickle=False))
        else:
            value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"--prior must be a file with a map, got {str(path)!r} ({error})."
        ) from error
    if not isinstance(value, Tensor) or value.dim() not in (n_axes - 1, n_axes):
        shape = (
            tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        )
        raise ValueError(
            f"--prior must hold a map (C, {axes}) or ({axes}), got {shape} in "
            f"{str(path)!r}."
        )
    return value.float()[(None,) * (n_axes + 1 - value.dim())]
