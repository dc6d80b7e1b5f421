"""Localization error and saliency metric: Tables 2 and 3 of the masking model's paper.

Maps of the right class on ImageNet images, for SqueezeNet, whose layers Captum's LRP
and guided backpropagation support. Rows without a map are the ground-truth boxes (the
saliency metric is the mean over the boxes of an image), the box that covers half of the
image in its center, and the whole image. "Excitation" is Captum's LRP with the rule
alpha = 1, beta = 0, which is excitation backpropagation, down to a layer of 27 x 27
pixels.

As in the papers, each method gets the threshold, of the map's mean or maximum, that is
best for it: chosen on every other image by the localization error, reported on the
others. Boxes do not depend on it.

Rows are appended to the output file; a command that was stopped resumes. ``--report``
prints the table.
"""

import argparse
import json
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import pandas as pd
import torch
from attacks import Classifier
from captum.attr import LRP, GuidedBackprop, LayerGradCam, LayerLRP, Saliency
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule
from images import LabeledImage, labeled_images, load_network
from rows import RowFile, markdown, read_rows, row_parser
from torch import Tensor, nn

from captum_ext.metrics import (
    center_box,
    localization_error,
    max_box,
    saliency_metric,
)

MODEL = "squeezenet1_0"
# Of 27 x 27 pixels, as the layer that excitation backpropagation is shown for.
EXCITATION_LAYER = 6
THRESHOLDS = {
    "value": (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7),
    "mean": (0.5, 1.0, 1.5, 2.0, 3.0, 4.0),
}
BOXES = ("ground-truth boxes", "center box", "max box")
# GoogLeNet on ImageNet's validation set: localization error in %, saliency metric.
PAPER: dict[str, tuple[float, float | None]] = {
    "ground-truth boxes": (0.0, 0.284),
    "max box": (59.7, 1.366),
    "center box": (46.3, 0.645),
    "gradient": (41.7, 0.451),
    "guided backpropagation": (42.0, None),
    "LRP": (57.8, None),
    "Grad-CAM": (48.1, None),
    "excitation": (39.0, 0.415),
}


def with_rule(model: nn.Module, rule: type) -> nn.Module:
    """The model with a rule of relevance propagation at each convolution."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.rule = rule()
    return model


def gradient(model: nn.Module, x: Tensor, target: int) -> Tensor:
    """Largest absolute gradient of the channels."""
    return Saliency(model).attribute(x, target).amax(1, keepdim=True)


def guided_backpropagation(model: nn.Module, x: Tensor, target: int) -> Tensor:
    found = GuidedBackprop(model).attribute(x, target)
    return found.abs().amax(1, keepdim=True)


def lrp(model: nn.Module, x: Tensor, target: int) -> Tensor:
    with_rule(model, EpsilonRule)
    return LRP(model).attribute(x, target).sum(1, keepdim=True)


def excitation(model: nn.Module, x: Tensor, target: int) -> Tensor:
    layer = model.features[EXCITATION_LAYER]  # type: ignore[index, union-attr]
    with_rule(model, Alpha1_Beta0_Rule)
    found = LayerLRP(model, layer).attribute(x, target)
    return found.sum(1, keepdim=True)  # type: ignore[union-attr, no-any-return]


def grad_cam(model: nn.Module, x: Tensor, target: int) -> Tensor:
    layer = model.features[-1]  # type: ignore[index]
    return LayerGradCam(model, layer).attribute(x, target, relu_attributions=True)


METHODS: dict[str, Callable[[nn.Module, Tensor, int], Tensor]] = {
    "gradient": gradient,
    "guided backpropagation": guided_backpropagation,
    "LRP": lrp,
    "Grad-CAM": grad_cam,
    "excitation": excitation,
}


def box_mask(box: Tensor, x: Tensor) -> Tensor:
    """Mask (1, 1, H, W) of the whole pixels of a box x0 y0 x1 y1."""
    mask = torch.zeros_like(x[:, :1])
    x0, y0, x1, y1 = box.round().int().tolist()
    mask[..., y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = 1
    return mask


def both(
    f: Callable[[Tensor], Tensor], image: LabeledImage, maps: Tensor, **how: Any
) -> tuple[float, float]:
    """Localization error and saliency metric of a map; NaN if no pixel is left."""
    try:
        return (
            float(
                localization_error(None, image.inputs, maps, boxes=[image.boxes], **how)
            ),
            float(saliency_metric(f, image.inputs, maps, image.label, **how)),
        )
    except ValueError:
        return float("nan"), float("nan")


def box_rows(f: Callable[[Tensor], Tensor], image: LabeledImage) -> dict[str, Any]:
    """Values of the rows without a map, by method."""
    x, given = image.inputs, {"threshold": 0.5, "thresholding": "value"}
    truth = [both(f, image, box_mask(box, x), **given) for box in image.boxes]
    means = torch.tensor(truth, dtype=torch.float64).mean(0).tolist()
    each = (means, *(both(f, image, box(x), **given) for box in (center_box, max_box)))
    return {name: {"box": list(v)} for name, v in zip(BOXES, each)}


def map_values(
    f: Callable[[Tensor], Tensor], image: LabeledImage, maps: Tensor
) -> dict[str, list[float]]:
    """Values by threshold."""
    return {
        f"{share} of {'maximum' if reference == 'value' else 'mean'}": list(
            both(f, image, maps, threshold=share, thresholding=reference)
        )
        for reference, shares in THRESHOLDS.items()
        for share in shares
    }


def run(arguments: argparse.Namespace) -> None:
    """Append the rows that the output file lacks."""
    file = RowFile(arguments.output, ("image", "method"))
    entry = load_network(MODEL)
    for module in entry.model.modules():
        if isinstance(module, nn.ReLU):
            # Captum's guided backpropagation and LRP hook it.
            module.inplace = False
    f = Classifier(entry.model)
    images = (image for image in labeled_images(entry) if len(image.boxes))
    for image in islice(images, arguments.n_images):
        if not file.has(image.name, BOXES[-1]):
            for name, values in box_rows(f, image).items():
                file.append({"image": image.name, "method": name, "values": values})
        for name, explain in METHODS.items():
            if file.has(image.name, name):
                continue
            maps = explain(entry.model, image.inputs, image.label).detach()
            values = map_values(f, image, maps)
            file.append({"image": image.name, "method": name, "values": values})


def table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Error and metric on one half, at the threshold chosen on the other, by method.

    A threshold that leaves no pixel of some map is no choice.
    """
    lines = {}
    for name in PAPER:
        own = sorted((r for r in rows if r["method"] == name), key=lambda r: r["image"])
        if not own:
            continue
        values = pd.DataFrame([row["values"] for row in own])
        errors = values.map(lambda pair: pair[0]).dropna(axis=1)
        chosen = errors[::2].mean().idxmin()
        reported = values[chosen] if name in BOXES else values[chosen][1::2]
        paper_error, paper_metric = PAPER[name]
        lines[name] = {
            "localization error": 100 * reported.map(lambda v: v[0]).mean(),
            "paper's": paper_error,
            "saliency metric": reported.map(lambda v: v[1]).mean(),
            "median": reported.map(lambda v: v[1]).median(),
            "paper's ": "" if paper_metric is None else paper_metric,
            "threshold": chosen,
            "images": len(reported),
        }
    return pd.DataFrame.from_dict(lines, orient="index")


def main() -> None:
    parser = row_parser(__doc__.split("\n")[0], 300)
    arguments = parser.parse_args()
    if not arguments.report:
        run(arguments)
    found = table(read_rows(arguments.output))
    print(markdown(found.round(3).rename_axis("method")), "\n")
    result: dict[str, Any] = {"benchmark": "localization", "model": MODEL}
    print(json.dumps(result | found.round(4).to_dict("index")))


if __name__ == "__main__":
    main()
