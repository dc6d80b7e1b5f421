"""Time and memory of CAMERAS relative to pure forward passes of the sizes it tries.

With two layers and searched sizes, as on the command line, and with one layer and the
paper's sizes; the gradient of two layers goes through the last stage as well. Both
process one image at a time in channels_last and alternate; the ratio is the
median over the repeats. Each also runs in its own process to compare their peak memory.
The third part is the supplement's Table 1: seconds per map of Grad-CAM, CAMERAS and
PN-RISE with its defaults.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from statistics import median

import torch
import torchvision
from captum.attr import LayerGradCam
from images import labeled_images, load_network
from torch import Tensor, nn
from torch.nn import functional as F

from captum_ext.attr import PNRISE, LayerCAMERAS, last_map_layer
from captum_ext.attr.image_sizes import Size


def network(name: str) -> tuple[nn.Module, Tensor]:
    """Model and an image; a photograph for trained weights, noise for random ones."""
    if name == "mobilenet_v2":
        entry = load_network(name)
        return entry.model, next(labeled_images(entry)).inputs
    model = torchvision.models.resnet50().eval().to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, 224, 224, generator=generator)
    return model, x.to(memory_format=torch.channels_last)


def calls(name: str) -> dict[str, Callable[[], object]]:
    model, x = network(name)
    last = last_map_layer(model, x)
    two_layers = LayerCAMERAS(model, [each.layer for each in last.stages])
    one_layer = LayerCAMERAS(model, last.layer)
    _, (searched,) = two_layers.attribute(x, 3, return_sizes=True)
    _, (spaced,) = one_layer.attribute(x, 3, sizes="paper", return_sizes=True)

    @torch.no_grad()
    def passes(sizes: Iterable[Size]) -> None:
        for size in sizes:
            model(F.interpolate(x, size, mode="bilinear"))

    return {
        "passes": lambda: passes(searched),
        "CAMERAS": lambda: two_layers.attribute(x, 3),
        "passes, paper": lambda: passes(spaced),
        "CAMERAS, paper": lambda: one_layer.attribute(x, 3, sizes="paper"),
        "Grad-CAM": lambda: LayerGradCam(model, last.layer).attribute(x, 3),
        "PN-RISE": lambda: PNRISE(model).attribute(x, target=3),
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


def measure(name: str, repeats: int) -> dict[str, object]:
    call = calls(name)
    pairs = {"": ("passes", "CAMERAS"), "_paper": ("passes, paper", "CAMERAS, paper")}
    result: dict[str, object] = {}
    call["Grad-CAM"]()
    for suffix, (passes, cameras) in pairs.items():
        times = [
            (seconds(call[passes]), seconds(call[cameras])) for _ in range(repeats)
        ]
        ratio = median(theirs / own for own, theirs in times)
        result[f"passes{suffix}_s"] = round(median(t[0] for t in times), 3)
        result[f"cameras{suffix}_s"] = round(median(t[1] for t in times), 3)
        result[f"ratio{suffix}"] = round(ratio, 3)
    return result | {
        "extra_peak_mb": round(peak_mb(name, "CAMERAS") - peak_mb(name, "passes"), 1),
        "seconds": {
            "Grad-CAM": round(
                median(seconds(call["Grad-CAM"]) for _ in range(repeats)), 3
            ),
            "PN-RISE": round(median(seconds(call["PN-RISE"]) for _ in range(3)), 1),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, call = arguments.child
        calls(name)[call]()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    result = {
        "benchmark": "cameras_cost",
        "mobilenet_v2": measure("mobilenet_v2", arguments.repeats),
        "resnet50": measure("resnet50", arguments.repeats),
        "batch_size": 1,
        "repeats": arguments.repeats,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
