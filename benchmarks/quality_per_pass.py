"""Quality of maps per forward pass: methods of this package and of others.

Explains the probability of the right class on ImageNet images that the network
classifies correctly, with each method at each number of passes. One row per network,
image, method, number of passes and seed is appended to the output file; a command that
was stopped resumes. ``--report`` prints the means per method and the
paired tests of one method against each other one.

Metrics: insertion and deletion from the mean color and insertion from a blurred image
(28 steps each), the mean F of the k highest pixels over all k, the pointing game (15
pixels of tolerance), mu-fidelity, seconds, and the passes that were really made. A
pass is one image through the network, whatever its size: CAMERAS's are larger.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import islice, product
from typing import Any

import numpy as np
import pandas as pd
import torch
from captum.attr import LayerGradCam
from images import LabeledImage, labeled_images, load_network
from numpy.typing import NDArray
from peers import BATCH, PEERS, SMOOTHED, Method, packaged
from rows import RowFile, difference_table, markdown, read_rows, row_parser
from torch import Tensor, nn

from captum_ext.attr import PNRISE, BOREx, LayerCAMERAS, last_map_layer
from captum_ext.evaluation.statistics import holm
from captum_ext.metrics import deletion, f_measure, insertion, pointing_game
from captum_ext.metrics.mu_fidelity import (
    correlation,
    grid_cells,
    random_subsets,
    subset_scores,
    subset_sums,
)

N_STEPS = 28
# Of mu-fidelity: random subsets of a fifth of the cells of a grid.
SIDE = 14
SUBSETS = random_subsets(64, SIDE**2, 0.2, seed=0)
KEYS = ["model", "image", "method", "passes", "seed"]
# Whether a metric is better when higher (1) or lower (-1).
METRICS = {
    "insertion": 1,
    "insertion_blur": 1,
    "deletion": -1,
    "f": 1,
    "pointing": 1,
    "mu_fidelity": 1,
}
N_FLIPS, LEVEL = 20_000, 0.05


class Network(nn.Module):
    """Probabilities of a classifier in batches of BATCH; counts its passes."""

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.model = model
        self.last_layer = last_map_layer(model, example)[1]
        self.passes = 0

    def logits(self, x: Tensor) -> Tensor:
        self.passes += len(x)
        fast = x.contiguous(memory_format=torch.channels_last)
        return torch.cat([self.model(chunk) for chunk in fast.split(BATCH)])

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).softmax(1)


def grad_cam(f: Network, x: Tensor, target: int) -> Tensor:
    method = LayerGradCam(f.logits, f.last_layer)
    return method.attribute(x, target, relu_attributions=True).detach()


def cameras(f: Network, x: Tensor, target: int) -> Tensor:
    return LayerCAMERAS(f.logits, f.last_layer).attribute(x, target).detach()


Prior = Callable[[Network, Tensor, int], Tensor]


def by_pnrise(prior: Prior | None = None, **settings: Any) -> Callable[..., Tensor]:
    """PN-RISE with the passes that the prior leaves, in pairs."""

    def explain(f: Network, x: Tensor, target: int, n_passes: int, seed: int) -> Tensor:
        given = dict(settings)
        if prior is not None:
            given["prior"] = prior(f, x, target)
        return PNRISE(f).attribute(
            x,
            target=target,
            n_masks=(n_passes - f.passes) // 2 * 2,
            seed=seed,
            perturbations_per_eval=BATCH,
            **given,
        )[0, 0]

    return explain


def by_borex(prior: Prior | None = None, **settings: Any) -> Callable[..., Tensor]:
    """BOREx with the passes that the prior leaves: 2 N + 2 for N masks."""

    def explain(f: Network, x: Tensor, target: int, n_passes: int, seed: int) -> Tensor:
        given = None if prior is None else prior(f, x, target)
        return BOREx(f).attribute(
            x,
            given,
            target=target,
            n_iterations=(n_passes - f.passes - 2) // 2,
            seed=seed,
            **settings,
        )[0, 0]

    return explain


FIELD: dict[str, Any] = {"estimator": "field", "layout": "superpixels"}
SQUARES: dict[str, Any] = {"estimator": "field", "layout": "grid", "grid_size": 8}
OURS: dict[str, Method] = {
    "field": packaged(by_pnrise(**FIELD), "skimage"),
    "field_grad_cam": packaged(by_pnrise(grad_cam, **FIELD), "skimage"),
    "field_cameras": packaged(by_pnrise(cameras, **FIELD), "skimage"),
    "field_squares": packaged(by_pnrise(**SQUARES)),
    "pnrise_grid": packaged(by_pnrise()),
    "pnrise_superpixels": packaged(by_pnrise(layout="superpixels"), "skimage"),
    "borex": packaged(by_borex(), "skimage"),
    "borex_grad_cam": packaged(by_borex(grad_cam), "skimage"),
    "borex_cameras": packaged(by_borex(cameras), "skimage"),
    "borex_windows": packaged(by_borex(variant="windows")),
    "borex_paper": packaged(by_borex(variant="paper")),
}
METHODS = OURS | PEERS | SMOOTHED


def qualities(
    f: Network, image: LabeledImage, attribution: Tensor, hidden: Tensor
) -> dict[str, float]:
    """Values of a map (H, W), given the scores without each subset of cells."""
    x, label, boxes = image.inputs, image.label, [image.boxes]
    maps = attribution[None, None]
    sums = subset_sums(maps[0].double(), grid_cells(x.shape[2:], SIDE), SUBSETS)
    # 0 for a constant map, as for a random one.
    fidelity = correlation(sums, -hidden).nan_to_num()
    steps: dict[str, Any] = {"n_steps": N_STEPS, "perturbations_per_eval": BATCH}
    values = {
        "insertion": insertion(f, x, maps, label, **steps),
        "insertion_blur": insertion(f, x, maps, label, "blur", **steps),
        "deletion": deletion(f, x, maps, label, **steps),
        "f": f_measure(None, x, maps, boxes=boxes) / maps.numel(),
        "pointing": pointing_game(None, x, maps, boxes=boxes),
        "mu_fidelity": fidelity,
    }
    return {name: round(float(value), 5) for name, value in values.items()}


def explained(
    f: Network, name: str, image: LabeledImage, n_passes: int, seed: int
) -> tuple[Tensor, dict[str, float]]:
    """Map (H, W), with the passes and the seconds that it took."""
    # Several packages draw from the global generators.
    torch.manual_seed(seed)
    np.random.seed(seed)
    f.passes, start = 0, time.perf_counter()
    maps = METHODS[name].explain(f, image.inputs, image.label, n_passes, seed)
    seconds = round(time.perf_counter() - start, 3)
    return maps.detach(), {"spent": f.passes, "seconds": seconds}


def right_images(f: Network, images: Iterable[LabeledImage]) -> Iterator[LabeledImage]:
    """Images with a box that the network classifies correctly."""
    for image in images:
        if len(image.boxes) and int(f(image.inputs).argmax()) == image.label:
            yield image


def run(arguments: argparse.Namespace, names: list[str]) -> None:
    """Append the rows that the output file lacks."""
    file = RowFile(arguments.output, KEYS)
    entry = load_network(arguments.model)
    images = islice(labeled_images(entry), arguments.skip, None)
    f = Network(entry.model, next(labeled_images(entry)).inputs)
    for image in islice(right_images(f, images), arguments.n_images):
        hidden = subset_scores(
            f,
            image.inputs,
            grid_cells(image.inputs.shape[2:], SIDE),
            SUBSETS,
            image.label,
            perturbations_per_eval=BATCH,
        )
        for n_passes, name in product(arguments.passes, names):
            key = (arguments.model, image.name, name, n_passes, arguments.seed)
            if file.has(*key):
                continue
            try:
                maps, cost = explained(f, name, image, n_passes, arguments.seed)
            except Exception as error:
                # Of another package: the others go on, and it is tried again.
                print(f"{name} failed: {error!r}", file=sys.stderr, flush=True)
                continue
            values = qualities(f, image, maps, hidden)
            row = dict(zip(KEYS, key)) | cost | values
            file.append(row)
        print(image.name, file=sys.stderr, flush=True)


def mean_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over images; seconds are medians, for the first call may compile."""
    groups = rows.groupby(["model", "passes", "method"], sort=False)
    means = groups[[*METRICS, "spent"]].mean()
    return means.assign(
        seconds=groups["seconds"].median(), images=groups["image"].nunique()
    )


@cache
def signs(n: int) -> NDArray[np.float64]:
    return np.random.default_rng(0).choice([-1.0, 1.0], (N_FLIPS, n))


def sign_flip_p(differences: NDArray[np.float64]) -> float:
    """Two-sided p-value of a mean difference, by random flips of the pairs."""
    sums = np.abs(signs(len(differences)) @ differences)
    extreme = np.sum(sums >= abs(differences.sum()) - 1e-9)
    return float((1 + extreme) / (1 + N_FLIPS))


def test_table(rows: pd.DataFrame, ours: str) -> pd.DataFrame:
    """Mean difference to each other method, positive where ours is better, and p.

    P-values are corrected by Holm's method within a metric, network and number of
    passes, for the methods of other packages and of this one separately.
    """
    tests = []
    for (model, passes), group in rows.groupby(["model", "passes"], sort=False):
        for metric, sign in METRICS.items():
            table = group.pivot_table(metric, "image", "method", sort=False)
            if ours not in table:
                continue
            for family in (PEERS, OURS):
                others = [n for n in table if n in family and n != ours]
                pairs = [sign * (table[ours] - table[n]).dropna() for n in others]
                p = holm([sign_flip_p(d.to_numpy()) for d in pairs])
                tests += [
                    (model, passes, name, metric, d.mean(), value)
                    for name, d, value in zip(others, pairs, p)
                ]
    columns = ["model", "passes", "method", "metric", "difference", "p"]
    return pd.DataFrame(tests, columns=columns)


def verdicts(tests: pd.DataFrame) -> list[dict[str, Any]]:
    """Metrics significantly better than all other packages', or worse than any's."""
    peers = tests[tests.method.isin(list(PEERS))]
    significant = peers.p < LEVEL
    judged = peers.assign(
        best=significant & (peers.difference > 0),
        worse=significant & (peers.difference < 0),
    )
    keys = ["model", "passes", "metric"]
    found = judged.groupby(keys, sort=False).agg({"best": "all", "worse": "any"})
    return [
        {
            "model": model,
            "passes": passes,
            "significantly_best": group.metric[group.best].tolist(),
            "significantly_worse": group.metric[group.worse].tolist(),
        }
        for (model, passes), group in found.reset_index().groupby(keys[:2], sort=False)
    ]


def report(rows: pd.DataFrame, ours: str) -> dict[str, Any]:
    """Print the tables; return the last line."""
    means = mean_table(rows)
    digits = dict.fromkeys([*METRICS, "seconds"], 3) | {"spent": 1}
    print(means.round(digits).to_string(), "\n")
    print(markdown(means.round(digits)), "\n")
    tests = test_table(rows, ours)
    if len(tests):
        wide = difference_table(tests, ["model", "passes", "method"])
        print(f"{ours} minus each other method, signed so that + is better (p)")
        print(wide.to_string(), "\n")
        print(markdown(wide), "\n")
    return {"ours": ours, "verdicts": verdicts(tests)}


def parsed() -> argparse.Namespace:
    parser = row_parser(__doc__, 40)
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--skip", type=int, default=20)
    parser.add_argument("--passes", type=int, nargs="+", default=[50, 100, 200, 500])
    parser.add_argument("--methods", help="names with commas (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ours", choices=list(OURS), default="field")
    arguments = parser.parse_args()
    names = arguments.methods.split(",") if arguments.methods else list(METHODS)
    if not set(names) <= set(METHODS):
        parser.error(f"--methods must be among {', '.join(METHODS)}; got {names}")
    arguments.methods = names
    return arguments


def main() -> None:
    arguments = parsed()
    result: dict[str, Any] = {"benchmark": "quality_per_pass"}
    if not arguments.report:
        reasons = {name: METHODS[name].missing() for name in arguments.methods}
        for name in [name for name, reason in reasons.items() if reason]:
            print(f"skipped {name}: {reasons[name]}", file=sys.stderr)
        run(arguments, [name for name, reason in reasons.items() if not reason])
        result["skipped"] = {name: r for name, r in reasons.items() if r}
    rows = pd.DataFrame(read_rows(arguments.output))
    rows = rows[rows.method.isin(arguments.methods)]
    order = rows.method.map(list(METHODS).index)
    rows = rows.assign(order=order).sort_values(["model", "passes", "order"])
    result |= {"rows": len(rows), "threads": torch.get_num_threads()}
    print(json.dumps(result | report(rows, arguments.ours)))


if __name__ == "__main__":
    main()
