"""What a GPU waits for: time of the methods over that of their forward passes.

Random weights, which do not change the cost. Both sides alternate; ratios are medians
over the repeats. PN-RISE, the field, BOREx and the passes that they are compared with
run in bfloat16. Bars are ratios that should not be exceeded.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import get_model

from captum_ext.attr import PNRISE, BOREx, LayerCAMERAS, MaskingModel
from captum_ext.masking import MaskingNetwork

BARS = {"pn_rise": 1.1, "cameras": 1.3, "field": 1.15, "borex": 1.15}


class Scale(NamedTuple):
    """Sizes of one run of the benchmark."""

    device: torch.device
    network: str
    size: int
    n_masks: int
    chunk: int
    sizes: tuple[int, ...]
    batch_size: int
    repeats: int


ON_GPU = Scale(
    device=torch.device("cuda"),
    network="resnet50",
    size=224,
    n_masks=4000,
    chunk=100,
    sizes=(353, 482, 612, 741, 870, 1000),
    batch_size=64,
    repeats=7,
)
ON_CPU = Scale(
    device=torch.device("cpu"),
    network="mobilenet_v2",
    size=64,
    n_masks=16,
    chunk=8,
    sizes=(96,),
    batch_size=2,
    repeats=1,
)


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Seconds to the end of all work on the device."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    wait()
    start = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - start


def ratio(
    call: Callable[[], object], passes: Callable[[], object], scale: Scale
) -> float:
    call(), passes()
    times = [
        (seconds(call, scale.device), seconds(passes, scale.device))
        for _ in range(scale.repeats)
    ]
    return round(median(t[0] / t[1] for t in times), 3)


def image(scale: Scale, dtype: torch.dtype, n: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, scale.size, scale.size, generator=generator)
    return x.to(scale.device, dtype, memory_format=torch.channels_last)


def placed(model: nn.Module, scale: Scale) -> nn.Module:
    return model.eval().to(scale.device, memory_format=torch.channels_last)


def last_maps(model: nn.Module) -> nn.Module:
    """The last layer with maps of a network of torchvision."""
    return model.layer4 if hasattr(model, "layer4") else model.features


def perturbation_ratios(scale: Scale) -> dict[str, float]:
    """PN-RISE with many masks, the field and BOREx with a hundred passes."""
    model = placed(get_model(scale.network, weights=None).bfloat16(), scale)
    x = image(scale, torch.bfloat16)

    def passes(n: int, chunk: int) -> Callable[[], None]:
        @torch.no_grad()
        def run() -> None:
            for start in range(0, n, chunk):
                model(x.expand(min(chunk, n - start), -1, -1, -1))

        return run

    few = min(102, scale.n_masks)
    n_iterations = (few - 2) // 2
    chunk = {"perturbations_per_eval": scale.chunk}
    field = {"estimator": "field", "layout": "superpixels", "n_masks": few}
    return {
        "pn_rise": ratio(
            lambda: PNRISE(model).attribute(
                x, target=0, n_masks=scale.n_masks, **chunk
            ),
            passes(scale.n_masks, scale.chunk),
            scale,
        ),
        "field": ratio(
            lambda: PNRISE(model).attribute(x, target=0, **field, **chunk),
            passes(few, scale.chunk),
            scale,
        ),
        "borex": ratio(
            lambda: BOREx(model).attribute(
                x, target=0, n_iterations=n_iterations, **chunk
            ),
            # Ten at a time, as BOREx scores them.
            passes(few, 10),
            scale,
        ),
    }


def cameras_ratio(scale: Scale) -> float:
    model = placed(get_model(scale.network, weights=None), scale)
    x = image(scale, torch.float32)

    @torch.no_grad()
    def passes() -> None:
        for size in (scale.size, *scale.sizes):
            model(F.interpolate(x, (size, size), mode="bilinear"))

    cameras = LayerCAMERAS(model, last_maps(model))
    return ratio(lambda: cameras.attribute(x, 3, sizes=scale.sizes), passes, scale)


def masks_per_second(scale: Scale) -> float:
    network = placed(MaskingNetwork(1000, scale.network), scale)
    masking_model = MaskingModel(network)
    x = image(scale, torch.float32, scale.batch_size)

    def masks() -> None:
        with torch.autocast(scale.device.type, torch.bfloat16):
            masking_model.attribute(x, target=0)

    masks()
    times = [seconds(masks, scale.device) for _ in range(scale.repeats)]
    return round(scale.batch_size / median(times), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--cpu", action="store_true", help="tiny sizes on the CPU, to see that it runs"
    )
    on_cpu = parser.parse_args().cpu
    if not on_cpu and not torch.cuda.is_available():
        raise SystemExit(
            "gpu.py needs a GPU and torch finds none; --cpu shows that it runs."
        )
    # Random weights predict something else at each size, of which CAMERAS warns.
    warnings.simplefilter("ignore", UserWarning)
    scale = ON_CPU if on_cpu else ON_GPU
    ratios = perturbation_ratios(scale) | {"cameras": cameras_ratio(scale)}
    result = {
        "benchmark": "gpu",
        "device": "cpu" if on_cpu else torch.cuda.get_device_name(),
        **{name: {"over_passes": ratios[name], "bar": BARS[name]} for name in BARS},
        "masks_per_second": masks_per_second(scale),
        "network": scale.network,
        "size": scale.size,
        "n_masks": scale.n_masks,
        "chunk": scale.chunk,
        "repeats": scale.repeats,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
