"""Draw the figures of README.md and of these pages into docs/figures.

    python docs/draw_figures.py               all figures
    python docs/draw_figures.py borex demo    the named figures

The figures of methods/*.md and the first map are those of the code above them. Road
signs come with the package. The photographs (a rocket, SpaceX, public domain; a cup of
coffee, Rachel Michetti, CC0; a man with a camera, Lav Varshney, CC0) are from
scikit-image; they are explained for mobilenet_v2 with the weights of
CAPTUM_EXT_DATA/models/mobilenet_v2.pt, or torchvision's. "photographs" needs a masking
network for it in the environment variable MOBILENET_V2_MASKS, such as
fold-1/325/training/checkpoint.pt of benchmarks/photograph_masks.py.
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

from captum_ext._files import write_file
from captum_ext.cli import main as captum_ext
from captum_ext.commands.image_outputs import FoundMap
from captum_ext.masking import MaskingNetwork
from captum_ext.methods import METHODS
from captum_ext.methods.specs import find_method, read_methods
from captum_ext.subject import Subject, build_subject
from captum_ext.visualization import overlay_figure, stack_figures
from captum_ext.zoo import ZooModel, find_class, load

DOCS = Path(__file__).parent
FOLDER = DOCS / "figures"
# A file that the pages use instead of a download.
WEIGHTS = "MOBILENET_V2_WEIGHTS"
MASKS = "MOBILENET_V2_MASKS"
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

PHOTOGRAPHED = "pn-rise,borex,cameras,masking-model,grad-cam"


@cache
def mobilenet() -> ZooModel:
    entry = load("mobilenet_v2", os.environ.get(WEIGHTS))
    if MASKS not in os.environ:
        return entry
    return entry.with_masking_network(MaskingNetwork.load(os.environ[MASKS]))


def photograph(name: str, class_name: str) -> tuple[Subject, Tensor]:
    """Photograph of scikit-image, with one of ImageNet's classes as target."""
    entry = mobilenet()
    pixels = getattr(import_module("skimage.data"), name)()
    image = entry.denormalize(entry.preprocess(Image.fromarray(pixels)))
    target = find_class(entry.class_names, class_name)
    subject = build_subject(entry, entry.normalize(image), target, parts={"layer"})
    return subject, image


def draw_methods() -> Figure:
    """Compare all methods on a photograph; print the seconds of one core for each."""
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
        found = method.attribute_with_details(subject, **options)
        print(f"{method.title}: {time.process_time() - start:.2g} s", flush=True)
        # Methods with one map per color have their own figure.
        if not method.colorwise:
            maps[method.title] = FoundMap(method, *found).shown()
    return overlay_figure(image, maps)


def draw_photographs() -> Image.Image:
    """Compare maps of two photographs: ours, then Captum's."""
    figures = []
    for name, class_name in (("camera", "tripod"), ("rocket", "missile")):
        subject, image = photograph(name, class_name)
        maps = {}
        for spec in read_methods(PHOTOGRAPHED).values():
            method = find_method(spec.use)
            title = f"{method.title} (Captum)" if method.reference else method.title
            maps[title] = FoundMap(method, *spec.attribute(subject)).shown()
        figure = overlay_figure(image, maps, signed=True)
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


def drawn_by(page: str, name: str) -> Callable[[], Figure]:
    """Drawing of a figure by the code that stands above it on a page."""

    def draw() -> Figure:
        text = (DOCS / f"{page}.md").read_text("utf-8")
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
    "first_map": drawn_by("index", "first_map"),
    "rise": drawn_by("methods/rise", "rise"),
    "pn_rise": drawn_by("methods/pn_rise", "pn_rise"),
    "mc_rise": drawn_by("methods/mc_rise", "mc_rise"),
    "mc_rise_field": drawn_by("methods/mc_rise", "mc_rise_field"),
    "borex": drawn_by("methods/borex", "borex"),
    "borex_variants": drawn_by("methods/borex", "borex_variants"),
    "cameras": drawn_by("methods/cameras", "cameras"),
    "grad_cam_plus_plus": drawn_by("methods/grad_cam_plus_plus", "grad_cam_plus_plus"),
    "masking_model": drawn_by("methods/masking_model", "masking_model"),
    "iterative_mask": drawn_by("methods/iterative_mask", "iterative_mask"),
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
    if data := os.environ.get("CAPTUM_EXT_DATA"):
        os.environ.setdefault(WEIGHTS, str(Path(data, "models", "mobilenet_v2.pt")))
    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        parser.error(f"names must be among {', '.join(FIGURES)}, got {unknown[0]}.")
    for name in names or FIGURES:
        path = FOLDER / f"{name}.png"
        write_file(small(FIGURES[name]()), path)
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KB", flush=True)


if __name__ == "__main__":
    main()
