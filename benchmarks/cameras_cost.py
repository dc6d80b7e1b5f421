"""Time and memory of CAMERAS relative to pure forward passes of the same sizes.

Both process one image at a time in channels_last and alternate; the ratio is the
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
from collections.abc import Callable
from statistics import median

import torch
import torchvision
from captum.attr import LayerGradCam
from images import load_network
from torch import nn
from torch.nn import functional as F

from captum_ext.attr import PNRISE, LayerCAMERAS
from captum_ext.attr.image_sizes import resolutions


def network(name: str) -> tuple[nn.Module, nn.Module]:
    """Model, with random weights, and its last layer with maps."""
    if name == "mobilenet_v2":
        model = load_network(name).model
        return model, model.features[-1]
    model = torchvision.models.resnet50().eval().to(memory_format=torch.channels_last)
    return model, model.layer4


def calls(name: str) -> dict[str, Callable[[], object]]:
    model, layer = network(name)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, 224, 224, generator=generator)
    x = x.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def passes() -> None:
        for size in resolutions((224, 224), (1000, 1000), 7):
            model(F.interpolate(x, size, mode="bilinear"))

    return {
        "passes": passes,
        "CAMERAS": lambda: LayerCAMERAS(model, layer).attribute(x, 3),
        "Grad-CAM": lambda: LayerGradCam(model, layer).attribute(x, 3),
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
    call["passes"](), call["CAMERAS"](), call["Grad-CAM"]()
    times = [
        (seconds(call["passes"]), seconds(call["CAMERAS"])) for _ in range(repeats)
    ]
    return {
        "passes_s": round(median(t[0] for t in times), 3),
        "ratio": round(median(t[1] / t[0] for t in times), 3),
        "extra_peak_mb": round(peak_mb(name, "CAMERAS") - peak_mb(name, "passes"), 1),
        "seconds": {
            "Grad-CAM": round(
                median(seconds(call["Grad-CAM"]) for _ in range(repeats)), 3
            ),
            "CAMERAS": round(median(t[1] for t in times), 3),
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
