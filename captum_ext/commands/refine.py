"""The command captum-ext refine: a poor map, made better by BOREx."""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from captum_ext._files import save_figure
from captum_ext._validation import check_integer
from captum_ext.attr import BOREx
from captum_ext.commands.image import (
    add_image_options,
    asked_subject,
    captioned,
    check_outputs,
    check_parts,
    save_map,
)
from captum_ext.methods import METHODS
from captum_ext.visualization import refinement_figure

__all__ = ["add_parser"]

_PRIORS = [
    name
    for name, method in METHODS.items()
    if not method.colorwise and method.prior is None
]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of captum-ext.

    Args:
        commands (argparse action): What ``add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "refine",
        help="refine a map of an image",
        description="Refine the map of another method, or one from a file, by windows "
        "that a Gaussian process chooses (BOREx). Draws the prior, the windows that "
        "were tried, the refined map and its standard deviation.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="priors:\n"
        + "\n".join(f"  {name:22}{METHODS[name].summary}" for name in _PRIORS)
        + "\n  MAP.npy|.pt           what --save-map of explain writes, or any map "
        "(C, h, w)\n  none                  nothing is known beforehand",
    )
    add_image_options(parser, "(3, H, W)")
    parser.add_argument(
        "--prior",
        default="grad-cam++",
        metavar="METHOD|FILE|none",
        help="the map to refine, see below (default: %(default)s)",
    )
    parser.add_argument(
        "--n-iterations",
        type=int,
        default=50,
        metavar="N",
        help="windows to try, two forward passes each (default: %(default)s)",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    output = check_outputs(options, "refined")
    check_integer("--n-iterations", options.n_iterations, 1)
    named = options.prior in _PRIORS
    known = named or options.prior == "none"
    prior = None if known else _read_map(Path(options.prior))
    built_from = METHODS[options.prior].built_from if named else ()
    check_parts(built_from, options, options.prior)
    subject, image, words = asked_subject(options, built_from)
    start = time.perf_counter()
    if named:
        prior = METHODS[options.prior].attribute(subject)
    after_prior = time.perf_counter()
    refinement = BOREx(subject.probabilities).attribute(
        subject.inputs,
        prior,
        target=subject.target,
        n_iterations=options.n_iterations,
        seed=options.seed,
        return_posterior=True,
        show_progress=subject.show_progress,
    )
    seconds = time.perf_counter() - after_prior
    figure = refinement_figure(
        image,
        None if prior is None else prior[0].mean(0),
        refinement.attributions[0].mean(0),
        refinement.std[0].mean(0),
        refinement.windows[0],
        refinement.scores[0],
    )
    save_figure(captioned(figure, words), output)
    if options.save_map:
        save_map(refinement.attributions[0].cpu(), options.save_map)
    before = f" after {after_prior - start:.1f} s for the prior" if named else ""
    print(f"BOREx: {seconds:.1f} s{before}, {output}")


def _read_map(path: Path) -> Tensor:
    """A map from a file, (1, C, h, w)."""
    if not path.is_file() or path.suffix.lower() not in (".npy", ".pt"):
        raise ValueError(
            f"--prior must be one of {', '.join(_PRIORS)}, none, or a file .npy or "
            f".pt, got {str(path)!r}."
        )
    try:
        if path.suffix.lower() == ".npy":
            value = torch.from_numpy(np.load(path, allow_pickle=False))
        else:
            value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"--prior {str(path)!r} cannot be read as a map ({error})."
        ) from error
    if not isinstance(value, Tensor) or value.dim() not in (2, 3):
        shape = (
            tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        )
        raise ValueError(
            f"--prior must hold a map (C, h, w) or (h, w), got {shape} in "
            f"{str(path)!r}."
        )
    return value.float()[(None,) * (4 - value.dim())]
