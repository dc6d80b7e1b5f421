"""Time and memory of CAMERAS relative to pure forward passes of the sizes it tries.

With two layers and searched sizes, as on the command line, and with one layer and the
paper's sizes; the gradient of two layers goes through the last stage as well, at the
image's own size. Both process one image at a time in channels_last and alternate. The
seconds and ratios are medians over the repeats, of all images together; the ratio of
the least and of the most expensive image is printed as well. On the first image, both
also run in processes of their own to compare their peak memory. The third part is the
supplement's Table 1: seconds per map of Grad-CAM, CAMERAS and PN-RISE.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from itertools import islice
from statistics import median

import numpy as np
import torch
import torchvision
from captum.attr import LayerGradCam
from images import labeled_images, load_network
from torch import Tensor, nn
from torch.nn import functional as F

from captum_ext.attr import PNRISE, LayerCAMERAS, last_map_layer
from captum_ext.attr.image_sizes import Size

Calls = dict[str, Callable[[], object]]


def network(name: str, n_images: int) -> tuple[nn.Module, list[Tensor]]:
    """Model and images; photographs for trained weights, noise for random ones."""
    if name == "mobilenet_v2":
        entry = load_network(name)
        images = islice(labeled_images(entry), n_images)
        return entry.model, [each.inputs for each in images]
    torch.manual_seed(0)
    model = torchvision.models.resnet50().eval().to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, 224, 224, generator=generator)
    return model, [x.to(memory_format=torch.channels_last)]


def calls(model: nn.Module, x: Tensor) -> Calls:
    last = last_map_layer(model, x)
    two_layers = LayerCAMERAS(model, [each.layer for each in last.stages])
    one_layer = LayerCAMERAS(model, last.layer)
    target = int(model(x).argmax())
    _, (searched,) = two_layers.attribute(x, target, return_sizes=True)
    _, (spaced,) = one_layer.attribute(x, target, sizes="paper", return_sizes=True)

    @torch.no_grad()
    def passes(sizes: Iterable[Size]) -> None:
        for size in sizes:
            model(F.interpolate(x, size, mode="bilinear"))

    return {
        "passes": lambda: passes(searched),
        "CAMERAS": lambda: two_layers.attribute(x, target),
        "passes, paper": lambda: passes(spaced),
        "CAMERAS, paper": lambda: one_layer.attribute(x, target, sizes="paper"),
        "Grad-CAM": lambda: LayerGradCam(model, last.layer).attribute(x, target),
        "PN-RISE": lambda: PNRISE(model).attribute(x, target=target),
    }


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_mb(name: str, call: str) -> float:
    """Peak resident size of a process that makes one call, in MB."""
    command = [sys.executable, __file__, "--child", name, call]
    output = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(output.stdout)


def ratios(images: list[Calls], repeats: int, suffix: str) -> dict[str, object]:
    """Seconds of the passes of all images, and of their maps relative to these."""
    times = np.array(
        [
            [
                [seconds(c[name + suffix]) for name in ("passes", "CAMERAS")]
                for c in images
            ]
            for _ in range(repeats)
        ]
    )
    passes, maps = times.sum(1).T
    of_images = np.median(times[..., 1] / times[..., 0], 0)
    return {
        "passes_s": round(np.median(passes), 3),
        "cameras_s": round(np.median(maps), 3),
        "ratio": round(np.median(maps / passes), 3),
        "least": round(of_images.min(), 3),
        "most": round(of_images.max(), 3),
    }


def measure(name: str, n_images: int, repeats: int) -> dict[str, object]:
    model, images = network(name, n_images)
    of_images = [calls(model, x) for x in images]
    first = of_images[0]
    first["Grad-CAM"]()
    return {
        "images": len(images),
        "two layers": ratios(of_images, repeats, ""),
        "paper": ratios(of_images, repeats, ", paper"),
        "extra_peak_mb": round(peak_mb(name, "CAMERAS") - peak_mb(name, "passes"), 1),
        "seconds": {
            "Grad-CAM": round(
                median(seconds(first["Grad-CAM"]) for _ in range(repeats)), 3
            ),
            "PN-RISE": round(median(seconds(first["PN-RISE"]) for _ in range(3)), 1),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-images", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, call = arguments.child
        model, (x,) = network(name, 1)
        calls(model, x)[call]()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    result = {
        "benchmark": "cameras_cost",
        "mobilenet_v2": measure("mobilenet_v2", arguments.n_images, arguments.repeats),
        "resnet50": measure("resnet50", arguments.n_images, arguments.repeats),
        "batch_size": 1,
        "repeats": arguments.repeats,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
