"""Time of a map: Table 1 of the supplement of CAMERAS, with its settings.

RISE with 6000 masks, extremal perturbation with 1000 iterations and an area of 30%,
NormGrad, Grad-CAM and CAMERAS, one image at a time. RISE and extremal perturbation take
as long as their passes: ``--share 0.02`` runs a fiftieth of them, and the result is
that time divided by the share. The time is that of the processor (``process_time``), in
all threads together, which other processes change less than the time on the clock; the
last column divides it by that of one forward pass, measured between the methods.

One row per network, image and method is appended to the output file; a command that was
stopped resumes. ``--report`` prints the table.
"""

import argparse
import json
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import pandas as pd
import torch
from captum.attr import LayerGradCam
from images import labeled_images, load_network
from rows import RowFile, markdown, read_rows, row_parser
from torch import Tensor, nn
from torch.nn import functional as F

from captum_ext.attr import RISE, LayerCAMERAS, last_map_layer
from captum_ext.metrics import named_baseline

N_MASKS, N_ITERATIONS, AREA = 6000, 1000, 0.3
# The supplement's seconds on a Titan V, batch size 1.
PAPER = {
    "RISE": {"ResNet": 26.4, "DenseNet": 79.7, "Inception": 55.9},
    "extremal perturbation": {"ResNet": 35.8, "DenseNet": 64.1, "Inception": 60.9},
    "NormGrad": {"ResNet": 7.0, "DenseNet": 2.5, "Inception": 5.0},
    "Grad-CAM": {"ResNet": 0.07, "DenseNet": 0.08, "Inception": 0.08},
    "CAMERAS": {"ResNet": 0.44, "DenseNet": 0.57, "Inception": 0.54},
}


def norm_grad(model: nn.Module, layer: nn.Module, x: Tensor, target: int) -> Tensor:
    """NormGrad of order 0 (Rebuffi et al., CVPR 2020), (1, 1, h, w).

    With a convolution of 1 x 1 as the virtual identity layer, the gradient of its
    weights at a pixel is the outer product of the layer's activations and gradients
    there. Its Frobenius norm is the product of both norms.
    """
    kept: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _m, _i, out: kept.append(out))
    try:
        score = model(x)[0, target]
    finally:
        hook.remove()
    (gradient,) = torch.autograd.grad(score, kept[0])
    return kept[0].detach().norm(dim=1, keepdim=True) * gradient.norm(
        dim=1, keepdim=True
    )


def area_penalty(mask: Tensor, area: float) -> Tensor:
    """Mean squared distance of the sorted mask to one with this share of ones."""
    values = mask.flatten().sort().values
    ideal = torch.zeros_like(values)
    ideal[round((1 - area) * len(values)) :] = 1
    return (values - ideal).square().mean()


def smooth(parameters: Tensor, size: tuple[int, int]) -> Tensor:
    """Mask (1, 1, H, W) in [0, 1]: a sigmoid of cells, enlarged smoothly."""
    return F.interpolate(parameters.sigmoid(), size, mode="bicubic").clamp(0, 1)


def extremal_perturbation(
    model: nn.Module,
    x: Tensor,
    target: int,
    n_iterations: int = N_ITERATIONS,
    area: float = AREA,
) -> Tensor:
    """Smooth mask of a fixed area that keeps the score, (1, 1, H, W).

    The idea of Fong et al. (ICCV 2019) with simpler parts: one blurred image in place
    of a pyramid, cells that are enlarged in place of a smooth maximum, and Adam. The
    weight of the area grows by 1.0035 in each iteration, as there.
    """
    height, width = x.shape[2:]
    hidden = named_baseline("blur", x)
    parameters = torch.zeros(1, 1, height // 8, width // 8, requires_grad=True)
    optimizer = torch.optim.Adam([parameters], lr=0.1)
    weight = 3.0
    for _ in range(n_iterations):
        mask = smooth(parameters, (height, width))
        score = model(hidden + mask * (x - hidden)).softmax(1)[0, target]
        optimizer.zero_grad()
        (weight * area_penalty(mask, area) - score).backward()
        optimizer.step()
        weight *= 1.0035
    return smooth(parameters, (height, width)).detach()


Call = Callable[[Tensor, int], object]


def calls(model: nn.Module, layer: nn.Module, share: float) -> dict[str, Call]:
    """Methods by name; the first two run a share of their passes."""

    @torch.no_grad()
    def probability(x: Tensor) -> Tensor:
        return model(x).softmax(1)  # type: ignore[no-any-return]

    rise, n_iterations = RISE(probability), round(share * N_ITERATIONS)
    n_masks = round(share * N_MASKS)
    return {
        "RISE": lambda x, t: rise.attribute(
            x, target=t, n_masks=n_masks, perturbations_per_eval=4
        ),
        "extremal perturbation": lambda x, t: extremal_perturbation(
            model, x, t, n_iterations
        ),
        "NormGrad": lambda x, t: norm_grad(model, layer, x, t),
        "Grad-CAM": lambda x, t: LayerGradCam(model, layer).attribute(x, t),
        "CAMERAS": lambda x, t: LayerCAMERAS(model, layer).attribute(x, t),
        "forward pass": lambda x, _: probability(x),
    }


def cpu_seconds(call: Call, x: Tensor, target: int) -> float:
    start = time.process_time()
    call(x, target)
    return time.process_time() - start


def run(arguments: argparse.Namespace) -> None:
    """Append the rows that the output file lacks."""
    file = RowFile(arguments.output, ("model", "image", "method"))
    entry = load_network(arguments.model)
    model = entry.model
    for image in islice(labeled_images(entry), arguments.n_images):
        layer = last_map_layer(model, image.inputs)[1]
        every = calls(model, layer, arguments.share)
        # The first call of a shape selects its kernels.
        every["forward pass"](image.inputs, image.label)
        for name, call in every.items():
            if file.has(arguments.model, image.name, name):
                continue
            scaled = name in ("RISE", "extremal perturbation")
            took = cpu_seconds(call, image.inputs, image.label)
            file.append(
                {
                    "model": arguments.model,
                    "image": image.name,
                    "method": name,
                    "seconds": took / (arguments.share if scaled else 1),
                    "share": arguments.share if scaled else 1.0,
                }
            )


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Medians over images, by method, with the paper's seconds."""
    medians = rows.groupby("method").seconds.median()
    found = pd.DataFrame({"seconds": medians, "images": rows.groupby("method").size()})
    found["forward passes"] = medians / medians["forward pass"]
    found["share"] = rows.groupby("method").share.min()
    paper = pd.DataFrame(PAPER).T.add_prefix("paper, ")
    return found.join(paper).loc[[*PAPER, "forward pass"]]


def main() -> None:
    parser = row_parser(__doc__.split("\n")[0], 5)
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--share", type=float, default=1.0)
    arguments = parser.parse_args()
    if not arguments.report:
        run(arguments)
    rows = pd.DataFrame(read_rows(arguments.output))
    found = table(rows[rows.model == arguments.model])
    print(
        markdown(found.round(3).astype(object).fillna("").rename_axis("method")), "\n"
    )
    result: dict[str, Any] = {"benchmark": "map_seconds", "model": arguments.model}
    result["threads"] = torch.get_num_threads()
    print(json.dumps(result | found.fillna(-1).round(4).to_dict("index")))


if __name__ == "__main__":
    main()
