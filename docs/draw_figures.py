"""Draw the figures of README.md and of these pages into docs/figures.

    python docs/draw_figures.py               all figures
    python docs/draw_figures.py borex demo    the named figures

Road signs come with the package. The photographs (a rocket, SpaceX, public domain; a
cup of coffee, Rachel Michetti, CC0; a cat, Stefan van der Walt, CC0) are from
scikit-image; they are explained for
mobilenet_v2 with the weights of CAPTUM_EXT_DATA/models/mobilenet_v2.pt, or
torchvision's.
"""

import argparse
import os
import re
import tempfile
import time
from collections.abc import Callable
from functools import cache
from importlib import import_module
from io import BytesIO
from math import sqrt
from pathlib import Path
from typing import Any

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

DOCS = Path(__file__).parent
FOLDER = DOCS / "figures"
# Width of a page, and limits on what a reader has to load.
WIDTH, PIXELS, COLORS, BYTES = 1000, 800_000, 256, 175 * 1024
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

PHOTOGRAPHED = ("pn-rise", "borex", "cameras", "grad-cam", "occlusion")


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


def photograph(name: str, class_name: str) -> tuple[Subject, Tensor]:
    """Photograph of scikit-image, with one of ImageNet's classes as target."""
    entry = mobilenet()
    pixels = getattr(import_module("skimage.data"), name)()
    image = entry.denormalize(entry.preprocess(Image.fromarray(pixels)))
    target = find_class(entry.class_names, class_name)
    return subject_of(entry, image, target), image


def scene() -> tuple[Subject, Tensor]:
    """Road-sign scene of the demo, with the class of the largest sign as target."""
    drawn = sign_scene(seed=0)
    return subject_of(signs(), drawn.image, drawn.label), drawn.image


def shown(subject: Subject, *names: str) -> dict[str, Tensor]:
    """Maps by method title, as figures show them."""
    methods = [METHODS[name] for name in names]
    return {each.title: each.displayed(each.attribute(subject)) for each in methods}


def draw_methods() -> Figure:
    """Compare all methods on the photograph, with the seconds of one core for each."""
    subject, image = photograph("coffee", "espresso")
    maps = {}
    # Seconds of one core are comparable whatever else the machine does. BOREx imports
    # BoTorch on first use; import it before timing.
    torch.set_num_threads(1)
    import_module("captum_ext.surrogate")
    for name in (*COMPARED, "mc-rise"):
        method, start = METHODS[name], time.process_time()
        options = {}
        if name == "borex":
            options["prior"] = METHODS["grad-cam++"].attribute(subject)
        found = method.attribute(subject, **options)
        # No line breaks before the unit.
        seconds = f"{time.process_time() - start:.2g}\N{NO-BREAK SPACE}s"
        print(f"{method.title}: {seconds}", flush=True)
        # Methods with one map per color have their own figure.
        if not method.colorwise:
            maps[f"{method.title}, {seconds}"] = method.displayed(found)
    return overlay_figure(image, maps)


def draw_photographs() -> Image.Image:
    """Compare maps of three photographs: ours, then Captum's."""
    figures = []
    for name, class_name in (
        ("chelsea", "tiger cat"),
        ("coffee", "espresso"),
        ("rocket", "missile"),
    ):
        subject, image = photograph(name, class_name)
        prior = METHODS["grad-cam++"].attribute(subject)
        maps = {}
        for name in PHOTOGRAPHED:
            method = METHODS[name]
            options = {"prior": prior} if name == "borex" else {}
            title = f"{method.title} (Captum)" if method.reference else method.title
            maps[title] = method.displayed(method.attribute(subject, **options))
        figure = overlay_figure(image, maps)
        figure.axes[0].set_title(class_name)
        figures.append(figure)
    return stack_figures(figures)


def draw_demo() -> Image.Image:
    """Run the command captum-ext demo."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "demo.png")
        captum_ext(["demo", "--output", str(file)])
        with Image.open(file) as figure:
            return figure.convert("RGB")


def draw_rise() -> Figure:
    """Compare the default estimator with the paper's sum of as many and more masks."""
    subject, image = scene()
    rise = RISE(subject.probabilities)

    def above_minimum(n_masks: int, estimator: str) -> Tensor:
        maps = rise.attribute(
            subject.inputs, None, subject.target, n_masks=n_masks, estimator=estimator
        )
        return maps[0, :1] - maps.min()

    maps = {
        "paper's sum, 200 masks": above_minimum(200, "monte_carlo"),
        "default, 200 masks": above_minimum(200, "control_variate"),
        "paper's sum, 10000 masks": above_minimum(10000, "monte_carlo"),
    }
    return overlay_figure(image, maps)


def draw_pn_rise() -> Figure:
    """Compare the unbiased estimate on the grid with the field of fewer passes."""
    subject, image = photograph("coffee", "espresso")
    pn_rise = PNRISE(subject.probabilities)
    field = {"estimator": "field", "layout": "superpixels"}
    maps = {}
    for title, n_masks, options in (
        ("default", 1000, {}),
        ("field", 102, field),
        ("field", 402, field),
    ):
        found = pn_rise.attribute(
            subject.inputs, target=subject.target, n_masks=n_masks, **options
        )
        maps[f"{title}, {n_masks} passes"] = found[0, :1]
    return overlay_figure(image, maps)


def draw_mc_rise() -> Image.Image:
    """Show which colors would turn a green sign into the blue sign of its shape.

    Above the default, below the field.
    """
    entry = signs()
    green, blue = (
        find_class(entry.class_names, f"{color} square, cross")
        for color in ("green", "blue")
    )
    image = sign_scene(seed=0, label=green).image
    subject = subject_of(entry, image, blue)
    palette = named_palette(["red", "green", "blue"], entry.mean, entry.std)
    mc_rise = MCRISE(subject.probabilities)
    figures = []
    for options in ({}, {"estimator": "field", "layout": "superpixels"}):
        maps = mc_rise.attribute(subject.inputs, palette, blue, **options)
        figures.append(
            color_saliency_figure(image, maps[0], palette.rgb, palette.names)
        )
    return stack_figures(figures)


def draw_borex() -> Figure:
    """Show the map of Grad-CAM++, the scored masks, the map and what changed."""
    subject, image = photograph("coffee", "espresso")
    prior = METHODS["grad-cam++"].attribute(subject)
    found = BOREx(subject.probabilities).attribute(
        subject.inputs, prior, target=subject.target, return_posterior=True
    )
    return refinement_figure(
        image,
        prior[0],
        found.attributions[0, :1],
        found.std[0, :1],
        found.centers[0],
        found.scores[0],
    )


def draw_borex_variants() -> Figure:
    """Compare the maps of BOREx's variants, from the map of Grad-CAM++."""
    subject, image = photograph("coffee", "espresso")
    prior = METHODS["grad-cam++"].attribute(subject)
    borex = BOREx(subject.probabilities)
    maps = {
        variant: borex.attribute(
            subject.inputs, prior, target=subject.target, variant=variant
        )[0, :1]
        for variant in ("field", "windows", "paper")
    }
    return overlay_figure(image, {"prior": prior[0], **maps})


def draw_cameras() -> Figure:
    """Compare maps from one and several image sizes, on a large and a small sign."""
    drawn = sign_scene(seed=64)
    subject = subject_of(signs(), drawn.image, drawn.label)
    return overlay_figure(drawn.image, shown(subject, "grad-cam", "cameras"))


def draw_grad_cam_plus_plus() -> Figure:
    """Compare maps of two rockets: the photograph next to its mirror image."""
    subject, image = photograph("rocket", "missile")
    both = torch.cat([image, image.flip(2)], 2)[None]
    both = interpolate(both, (224, 448), mode="bilinear", antialias=True)[0]
    subject = subject_of(mobilenet(), both, subject.target)
    return overlay_figure(both, shown(subject, "grad-cam", "grad-cam++"))


def draw_masking_model() -> Figure:
    """Compare the mask of one forward pass with maps of many passes."""
    subject, image = scene()
    classifier = signs().with_masking_network(load_signs_masks())
    subject = subject._replace(classifier=classifier)
    maps = shown(subject, "masking-model", "iterative-mask", "pn-rise")
    return overlay_figure(image, maps)


def draw_iterative_mask() -> Figure:
    """Compare the masks of two seeds."""
    subject, image = scene()
    mask = IterativeMask(subject.probabilities)
    maps = {
        f"seed {seed}": mask.attribute(subject.inputs, subject.target, seed=seed)[0, :1]
        for seed in (0, 1)
    }
    return overlay_figure(image, maps)


def drawn_by(page: str, name: str) -> Callable[[], Figure]:
    """Drawing of a figure by the code that stands above it on a page."""

    def draw() -> Figure:
        text = (DOCS / f"{page}.md").read_text()
        above = text.partition(f"figures/{name}.png)")[0]
        names: dict[str, Any] = {"__name__": "__main__"}
        here = os.getcwd()
        # The code saves its figures in the current folder.
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                for block in code_blocks(above):
                    exec(compile(block, f"{page}.md", "exec"), names)
            finally:
                os.chdir(here)
        return names["figure"]

    return draw


def code_blocks(text: str) -> list[str]:
    """Python blocks of a page, each at its line in the page."""
    return [
        "\n" * text.count("\n", 0, block.start(1)) + block[1]
        for block in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.M)
    ]


FIGURES: dict[str, Callable[[], Figure | Image.Image]] = {
    "photographs": draw_photographs,
    "methods": draw_methods,
    "demo": draw_demo,
    "rise": draw_rise,
    "pn_rise": draw_pn_rise,
    "mc_rise": draw_mc_rise,
    "borex": draw_borex,
    "borex_variants": draw_borex_variants,
    "cameras": draw_cameras,
    "grad_cam_plus_plus": draw_grad_cam_plus_plus,
    "masking_model": draw_masking_model,
    "iterative_mask": draw_iterative_mask,
    "attacks": drawn_by("howto/attacks", "attacks"),
}


def small(figure: Figure | Image.Image) -> bytes:
    """Encode a figure as PNG within the limits, with the best palette that fits."""
    image = stack_figures([figure]) if isinstance(figure, Figure) else figure
    width, height = image.size
    scale = min(1, WIDTH / width, sqrt(PIXELS / (width * height)))
    size = (round(scale * width), round(scale * height))
    image = image.resize(size, Image.Resampling.LANCZOS)
    # A median cut loses colors of few pixels, such as the ends of a color bar.
    for palette in (Image.Quantize.MAXCOVERAGE, Image.Quantize.FASTOCTREE):
        file = BytesIO()
        image.quantize(COLORS, palette, kmeans=1).save(file, "png", optimize=True)
        if file.tell() <= BYTES:
            break
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="names of figures (default: all)")
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
