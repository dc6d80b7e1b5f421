"""Draws every figure of README.md and of these pages anew, into docs/figures.

    python docs/draw_figures.py               all
    python docs/draw_figures.py borex demo    those

Road signs come with the package. The photograph is scikit-image's, in the public domain
(SpaceX); mobilenet_v2 explains it, with the weights of
CAPTUM_EXT_DATA/models/mobilenet_v2.pt or torchvision's.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import cache
from importlib import import_module
from io import BytesIO
from math import sqrt
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from captum_ext._files import write_file
from captum_ext.attr import (
    MCRISE,
    PNRISE,
    RISE,
    BOREx,
    IterativeMask,
)
from captum_ext.cli import main as captum_ext
from captum_ext.masks import named_palette
from captum_ext.methods import METHODS
from captum_ext.subject import Subject, build_subject
from captum_ext.visualization import (
    color_saliency_figure,
    overlay_figure,
    refinement_figure,
    stack_figures,
)
from captum_ext.zoo import (
    ZooModel,
    find_class,
    load,
    load_signs_masks,
    sign_scene,
)

FOLDER = Path(__file__).parent / "figures"
# As wide as a page shows, and as large as a reader should have to load.
WIDTH, PIXELS, COLORS, BYTES = 1000, 800_000, 256, 150 * 1024
COMPARED = (
    "pn-rise",
    "rise",
    "borex",
    "cameras",
    "grad-cam++",
    "iterative-mask",
    "grad-cam",
    "occlusion",
    "integrated-gradients",
)


@cache
def signs() -> ZooModel:
    return load("signs")


@cache
def mobilenet() -> ZooModel:
    data = os.environ.get("CAPTUM_EXT_DATA")
    return load("mobilenet_v2", data and Path(data, "models", "mobilenet_v2.pt"))


def subject_of(entry: ZooModel, image: Tensor, target: int) -> Subject:
    """Subject of an image (3, H, W) in [0, 1] and one of its classes."""
    return build_subject(entry, entry.normalize(image), target, parts={"layer"})


def photograph() -> tuple[Subject, Tensor]:
    """A rocket before its launch; the class for it that ImageNet has."""
    from skimage.data import rocket

    entry = mobilenet()
    inputs = entry.preprocess(Image.fromarray(rocket()))
    image = entry.denormalize(inputs)
    return (
        subject_of(entry, image, find_class(entry.class_names, "missile")),
        image,
    )


def scene() -> tuple[Subject, Tensor]:
    """The road signs of the demo, and the class of the largest one."""
    drawn = sign_scene(seed=0)
    return subject_of(signs(), drawn.image, drawn.label), drawn.image


def shown(subject: Subject, *names: str) -> dict[str, Tensor]:
    """Maps of methods by their titles, as figures show them."""
    methods = [METHODS[name] for name in names]
    return {each.title: each.displayed(each.attribute(subject)) for each in methods}


def draw_methods() -> Figure:
    """The photograph by all methods, and the seconds that one core spent on each."""
    subject, image = photograph()
    maps = {}
    # Seconds of one core can be compared, whatever else the machine does. The import of
    # BoTorch, which BOREx does when it is first used, is no part of them.
    torch.set_num_threads(1)
    import_module("captum_ext.surrogate")
    for name in (*COMPARED, "mc-rise"):
        method, began = METHODS[name], time.process_time()
        options = {}
        if name == "borex":
            options["prior"] = METHODS["grad-cam++"].attribute(subject)
        found = method.attribute(subject, **options)
        seconds = f"{time.process_time() - began:.2g} s"
        print(f"{method.title}: {seconds}", flush=True)
        # One map a color has a figure of its own.
        if not method.colorwise:
            maps[f"{method.title}, {seconds}"] = method.displayed(found)
    return overlay_figure(image, maps)


def draw_demo() -> Image.Image:
    """What the command captum-ext demo draws."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "demo.png")
        captum_ext(["demo", "--output", str(file)])
        with Image.open(file) as figure:
            return figure.convert("RGB")


def draw_rise() -> Figure:
    """The default estimator beside the paper's sum of as many masks, and of many."""
    subject, image = scene()
    rise = RISE(subject.probabilities)

    def relief(n_masks: int, estimator: str) -> Tensor:
        maps = rise.attribute(
            subject.inputs, None, subject.target, n_masks=n_masks, estimator=estimator
        )
        return maps[0, :1] - maps.min()

    maps = {
        "paper's sum, 200 masks": relief(200, "monte_carlo"),
        "default, 200 masks": relief(200, "control_variate"),
        "paper's sum, 10000 masks": relief(10000, "monte_carlo"),
    }
    return overlay_figure(image, maps)


def draw_pn_rise() -> Figure:
    """What speaks for a class, and for another one."""
    subject, image = photograph()
    pn_rise = PNRISE(subject.probabilities)
    maps = {}
    for name in ("missile", "beacon"):
        target = find_class(mobilenet().class_names, name)
        maps[name] = pn_rise.attribute(subject.inputs, target=target)[0, :1]
    return overlay_figure(image, maps)


def draw_mc_rise() -> Figure:
    """Which colors would make a green sign the blue one of its shape."""
    entry = signs()
    green, blue = (
        find_class(entry.class_names, f"{color} square, cross")
        for color in ("green", "blue")
    )
    image = sign_scene(seed=0, label=green).image
    subject = subject_of(entry, image, blue)
    palette = named_palette(["red", "green", "blue"], entry.mean, entry.std)
    maps = MCRISE(subject.probabilities).attribute(subject.inputs, palette, blue)
    return color_saliency_figure(image, maps[0], palette.rgb, palette.names)


def draw_borex() -> Figure:
    """The map of Grad-CAM++, the windows that were tried, and what came of it."""
    subject, image = photograph()
    prior = METHODS["grad-cam++"].attribute(subject)
    found = BOREx(subject.probabilities).attribute(
        subject.inputs, prior, target=subject.target, return_posterior=True
    )
    return refinement_figure(
        image,
        prior[0],
        found.attributions[0, :1],
        found.std[0, :1],
        found.windows[0],
        found.scores[0],
    )


def draw_cameras() -> Figure:
    """A large and a small sign of a class, by maps of one size and of several."""
    drawn = sign_scene(seed=64)
    subject = subject_of(signs(), drawn.image, drawn.label)
    return overlay_figure(drawn.image, shown(subject, "grad-cam", "cameras"))


def draw_grad_cam_plus_plus() -> Figure:
    """Two rockets: the photograph beside its mirror image."""
    subject, image = photograph()
    both = torch.cat([image, image.flip(2)], 2)[None]
    both = interpolate(both, (224, 448), mode="bilinear", antialias=True)[0]
    subject = subject_of(mobilenet(), both, subject.target)
    return overlay_figure(both, shown(subject, "grad-cam", "grad-cam++"))


def draw_masking_model() -> Figure:
    """The mask of one forward pass beside maps of hundreds."""
    subject, image = scene()
    classifier = signs().with_masking_network(load_signs_masks())
    subject = subject._replace(classifier=classifier)
    maps = shown(subject, "masking-model", "iterative-mask", "pn-rise")
    return overlay_figure(image, maps)


def draw_iterative_mask() -> Figure:
    """Masks of two seeds, and what they keep and destroy."""
    subject, image = scene()
    mask = IterativeMask(subject.probabilities)
    maps = {
        f"seed {seed}": mask.attribute(subject.inputs, subject.target, seed=seed)[0, :1]
        for seed in (0, 1)
    }
    return overlay_figure(image, maps)


FIGURES: dict[str, Callable[[], Figure | Image.Image]] = {
    "methods": draw_methods,
    "demo": draw_demo,
    "rise": draw_rise,
    "pn_rise": draw_pn_rise,
    "mc_rise": draw_mc_rise,
    "borex": draw_borex,
    "cameras": draw_cameras,
    "grad_cam_plus_plus": draw_grad_cam_plus_plus,
    "masking_model": draw_masking_model,
    "iterative_mask": draw_iterative_mask,
}


def small(figure: Figure | Image.Image) -> bytes:
    """A PNG at most as large as a page shows, with the smoothest palette that fits."""
    image = stack_figures([figure]) if isinstance(figure, Figure) else figure
    width, height = image.size
    scale = min(1, WIDTH / width, sqrt(PIXELS / (width * height)))
    size = (round(scale * width), round(scale * height))
    image = image.resize(size, Image.Resampling.LANCZOS)
    for palette in (Image.Quantize.MEDIANCUT, Image.Quantize.FASTOCTREE):
        file = BytesIO()
        image.quantize(COLORS, palette).save(file, "png", optimize=True)
        if file.tell() <= BYTES:
            break
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="figures; none for all")
    names = parser.parse_args().names
    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        parser.error(f"names must be among {', '.join(FIGURES)}, got {unknown[0]}.")
    for name in names or FIGURES:
        path = FOLDER / f"{name}.png"
        write_file(small(FIGURES[name]()), path)
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KB", flush=True)


if __name__ == "__main__":
    main()
