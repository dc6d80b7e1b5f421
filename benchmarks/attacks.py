"""Enhanced PGD and adversarial sanity: Figures 3 and 7 of the supplement of CAMERAS.

ImageNet images that the network classifies correctly are attacked within 12/255 towards
their least likely class, by PGD and, for the map of each method, by enhanced PGD. The
pixels of the image that enhanced PGD attacked are then cleaned in the order of the map,
up to a tenth of them, which gives the curve of the original class's probability over
the number of cleaned pixels, and the sanity score.

For both attacks a row has the confidence in the attacked class and where the
perturbation is: the share of its energy (the sum of squares) inside the map, which is 1
if the map is 1 wherever there is a perturbation, and its root mean square inside and
outside, all weighted by the map in [0, 1] and in units of 1/255.

Rows are appended to the output file; a command that was stopped resumes. ``--report``
prints the tables, ``--figure FILE`` draws the mean curves.
"""

import argparse
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from images import LabeledImage, labeled_images, load_network
from quality_per_pass import Network, by_pnrise, cameras, grad_cam, right_images
from rows import RowFile, markdown, read_rows, row_parser
from torch import Tensor

from captum_ext.attr import LayerGradCamPlusPlus
from captum_ext.metrics import adversarial_sanity, enhanced_pgd
from captum_ext.metrics.pixel_maps import spatial_maps, unit_maps
from captum_ext.zoo import ZooModel

N_STEPS, FRACTION, BETA = 20, 0.1, 50.0
N_PIXELS = 224**2
ATTACKS = ("pgd", "enhanced")


def grad_cam_plus_plus(f: Network, x: Tensor, target: int) -> Tensor:
    method = LayerGradCamPlusPlus(f.logits, f.last_layer)
    return method.attribute(x, target, relu_attributions=True).detach()


def pn_rise(f: Network, x: Tensor, target: int) -> Tensor:
    """The field on superpixels with 100 passes."""
    f.passes = 0
    explain = by_pnrise(estimator="field", layout="superpixels")
    return explain(f, x, target, 100, 0)[None, None]


METHODS: dict[str, Callable[[Network, Tensor, int], Tensor]] = {
    "Grad-CAM": grad_cam,
    "Grad-CAM++": grad_cam_plus_plus,
    "CAMERAS": cameras,
    "PN-RISE": pn_rise,
}


class Classifier(torch.nn.Module):
    """Probabilities, which an attack differentiates."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).softmax(1)  # type: ignore[no-any-return]


def where(p: Tensor, S: Tensor) -> dict[str, float]:
    """Where a perturbation p (C, H, W) is, for a map S (H, W) in [0, 1].

    Returns the share of its energy in the map and its root mean squares inside, outside
    and over all, each the mean of the squares under the weights S, 1 - S or 1.
    """
    energy = p.double().square().mean(0)
    S = S.double()
    means = {
        "inside": (energy * S).sum() / S.sum(),
        "outside": (energy * (1 - S)).sum() / (1 - S).sum(),
        "all": energy.mean(),
    }
    rms = {name: round(float(mean.sqrt() * 255), 3) for name, mean in means.items()}
    share = float((energy * S).sum() / energy.sum())
    return {"share": round(share, 4), **rms}


def attacked_values(
    entry: ZooModel, f: Classifier, image: LabeledImage, attacked: Tensor, S: Tensor
) -> dict[str, float]:
    """Confidence in the least likely class of the image, and where the change is."""
    std = torch.tensor(entry.std)[:, None, None]
    with torch.no_grad():
        least = int(f(image.inputs).argmin())
        confidence = float(f(attacked)[0, least])
    change = ((attacked - image.inputs)[0] * std).detach()
    return {"confidence": confidence, **where(change, S)}


def rows_of(
    entry: ZooModel, network: Network, image: LabeledImage, name: str, plain: Tensor
) -> dict[str, Any]:
    """Values of one method for an image that PGD has attacked."""
    f, x, target = Classifier(entry.model), image.inputs, image.label
    normalization = (entry.mean, entry.std)
    maps = METHODS[name](network, x, target)
    S = unit_maps(spatial_maps(maps, x))[0]
    enhanced = enhanced_pgd(f, x, maps, normalization, beta=BETA)
    sanity, curve = adversarial_sanity(
        f,
        x,
        maps,
        target,
        enhanced,
        fraction=FRACTION,
        n_steps=N_STEPS,
        perturbations_per_eval=4,
        return_curve=True,
    )
    with torch.no_grad():
        clean = float(f(x)[0, target])
    row = {"sanity": float(sanity), "clean": clean, "mean_map": float(S.mean())}
    for attack, attacked in zip(ATTACKS, (plain, enhanced)):
        values = attacked_values(entry, f, image, attacked, S)
        row |= {f"{attack}_{name}": value for name, value in values.items()}
    return row | {"curve": [round(p, 5) for p in curve[0].tolist()]}


def run(arguments: argparse.Namespace) -> None:
    """Append the rows that the output file lacks."""
    file = RowFile(arguments.output, ("model", "image", "method"))
    entry = load_network(arguments.model)
    network = Network(entry.model, next(labeled_images(entry)).inputs)
    images = islice(labeled_images(entry), arguments.skip, None)
    for image in islice(right_images(network, images), arguments.n_images):
        keys = {name: (arguments.model, image.name, name) for name in METHODS}
        missing = [name for name in METHODS if not file.has(*keys[name])]
        if not missing:
            continue
        anywhere = torch.ones_like(image.inputs[:, :1])
        plain = enhanced_pgd(
            Classifier(entry.model),
            image.inputs,
            anywhere,
            (entry.mean, entry.std),
            beta=0.0,
        )
        for name in missing:
            row = dict(zip(file.keys, keys[name]))
            file.append(row | rows_of(entry, network, image, name, plain))


def tables(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sanity and mean probabilities by cleaned pixels; attacks by method.

    Rows without a sanity score, where the attack fails, are left out of the first
    table, and counted.
    """
    names = [name for name in METHODS if name in set(rows.method)]
    kept = rows[rows.sanity.notna()]
    groups = kept.groupby("method")
    curves = pd.DataFrame(kept.curve.tolist(), index=kept.index)
    curves.columns = [round(i * FRACTION / N_STEPS, 4) for i in curves]
    shown = curves[[c for c in curves if round(100 * c, 2) in (0, 1, 2, 5, 10)]]
    sanity = pd.DataFrame({"sanity": groups.sanity.mean(), "images": groups.size()})
    sanity = sanity.join(shown.groupby(kept.method).mean())
    attacks = rows.groupby("method")[[c for c in rows if c.startswith(ATTACKS)]].mean()
    lowest = rows.groupby("method").enhanced_confidence.agg(["median", "min"])
    attacks = attacks.join(lowest.add_prefix("confidence_"))
    attacks["mean_map"] = rows.groupby("method").mean_map.mean()
    return sanity.loc[names], attacks.loc[names]


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Mean curves of the methods, as in Figure 3."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    kept = rows[rows.sanity.notna()]
    for name in METHODS:
        curves = torch.tensor(kept[kept.method == name].curve.tolist())
        pixels = torch.linspace(0, FRACTION * N_PIXELS, curves.shape[1])
        axes.plot(pixels, curves.mean(0), label=name)
    axes.axhline(kept.clean.mean(), color="gray", linestyle=":", label="clean image")
    axes.set(xlabel="cleaned pixels", ylabel="probability", ylim=(0, 1))
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = row_parser(__doc__.split("\n")[0], 100)
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--skip", type=int, default=20)
    parser.add_argument("--figure", type=Path, help="file for the mean curves")
    arguments = parser.parse_args()
    if not arguments.report:
        run(arguments)
    found = pd.DataFrame(read_rows(arguments.output))
    result: dict[str, Any] = {"benchmark": "attacks", "model": arguments.model}
    rows = found[found.model == arguments.model]
    for table in tables(rows):
        print(markdown(table.round(3)), "\n")
        result |= {str(k): result.get(k, {}) | v for k, v in table.T.to_dict().items()}
    if arguments.figure:
        draw(rows, arguments.figure)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
