"""BOREx against the maps that it refines: the comparisons of its paper's tables.

Images that the network classifies correctly, of Pascal VOC (the predicted class counts
as the VOC class of an object in the image) or of ImageNet (numbers 101 to 300). Priors
are RISE with 100 masks, Grad-CAM++, CAMERAS and integrated gradients.

P-values are those of one-sided Wilcoxon signed-rank tests that BOREx of a prior is
better than the prior, than BOREx without a prior and, for the variants on windows, than
BOREx without one of the paper's ideas; over all images, and over those where the
prior's insertion is below 0.6.

Rows are written by ``captum_ext.evaluation.evaluate`` to a folder within the output
folder per data set, variant and list of N, so that a command that was stopped resumes.
``--report`` prints the tables of the images that are complete so far.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, cast

import pandas as pd
import torch
from images import data_folder, load_network
from PIL import Image
from rows import markdown
from scipy.stats import wilcoxon
from torch import Tensor, nn

from captum_ext.datasets import Dataset, read_boxes, read_class_map, read_voc
from captum_ext.evaluation import evaluate
from captum_ext.evaluation.run_folder import read_rows
from captum_ext.zoo import ZooModel

N_STEPS = 14
N_PIXELS = 224**2
# Whether a metric is better when higher (1) or lower (-1).
METRICS = {"insertion": 1, "deletion": -1, "f-measure": 1}
PRIORS: dict[str, dict[str, Any]] = {
    "rise": {"n_masks": 100, "grid_size": 8, "keep_probability": 0.3},
    "grad-cam++": {},
    "cameras": {},
    "integrated-gradients": {},
}
VARIANTS = ("field", "windows", "paper")
# Choices of windows: no flipped mask, no average over windows, and Mokuwe et al.
ABLATIONS: dict[str, dict[str, Any]] = {
    "no-flip": {"score": "drop"},
    "simple-average": {"weighting": "mean"},
    "mokuwe": {"score": "drop", "weighting": "mean"},
}
# Number of masks of the ablations, as in the paper.
N_ABLATED = 50
POOR, LEVEL = 0.6, 0.05
# P-values of the paper's Tables 1 and 2, N = 50, by prior and compared map.
PAPER: dict[tuple[str, str], dict[str, float]] = {
    ("rise", "prior"): dict(zip(METRICS, (1.016e-23, 0.8874, 8.307e-21))),
    ("grad-cam++", "prior"): dict(zip(METRICS, (5.090e-8, 6.790e-4, 1.0))),
    ("rise", "mokuwe"): dict(zip(METRICS, (6.630e-11, 0.3111, 1.800e-5))),
    ("rise", "no-flip"): dict(zip(METRICS, (1.416e-4, 2.024e-3, 2.987e-29))),
    ("rise", "simple-average"): dict(zip(METRICS, (1.184e-46, 4.871e-3, 2.026e-3))),
    ("rise", "none"): dict(zip(METRICS, (0.384624, 0.22194, 0.04514))),
    ("rise", "none, poor"): dict(zip(METRICS, (3.219e-3, 0.647929, 0.024825))),
}


class Remembering(nn.Module):
    """A network that takes no pass for an image that it has seen before.

    BOREx with several N or priors hides the same parts. Methods that need gradients or
    hook a layer run the network itself.

    Args:
        model (nn.Module): Network.
        fast (Callable): Function with the same outputs, which needs no gradients.
        capacity (int, optional): Largest number of remembered images. Default: 4096
    """

    def __init__(
        self, model: nn.Module, fast: Callable[[Tensor], Tensor], capacity: int = 4096
    ) -> None:
        super().__init__()
        self.model, self.fast, self.capacity = model, fast, capacity
        self._known: dict[bytes, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        hooked = any(module._forward_hooks for module in self.model.modules())
        if torch.is_grad_enabled() or hooked:
            return cast(Tensor, self.model(x))
        rows = x.permute(0, 2, 3, 1).contiguous()
        keys = [hashlib.blake2b(row.numpy()).digest() for row in rows]
        new = [i for i, key in enumerate(keys) if key not in self._known]
        if len(self._known) + len(new) > self.capacity:
            self._known, new = {}, [*range(len(x))]
        if new:
            self._known |= zip([keys[i] for i in new], self.fast(x[new]))
        return torch.stack([self._known[key] for key in keys])


def without_gradients(entry: ZooModel) -> Callable[[Tensor], Tensor]:
    """The network with fused layers: a third of the time, equal up to rounding."""
    example = entry.preprocess(Image.new("RGB", (256, 256)))[None]
    example = example.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        traced = torch.jit.freeze(torch.jit.trace(entry.model, example))
    # Not as a module, for its layers take no hooks.
    fused: Any = torch.jit.optimize_for_inference(traced)
    return lambda x: fused(x)


class Comparison(NamedTuple):
    """BOREx of a prior with N masks, compared with another map.

    Attributes:
        n_masks (int): N.
        prior (str): Name of the prior.
        other (str): "prior", "none" for BOREx without a prior, or an ablation.
        poor (bool): Whether only images count where the prior's insertion is low.
    """

    n_masks: int
    prior: str
    other: str
    poor: bool = False

    @property
    def methods(self) -> tuple[str, str]:
        """Names of the two maps in the rows."""
        name = self.other if self.other == "none" else f"{self.prior}-{self.other}"
        other = self.prior if self.other == "prior" else f"{name}-{self.n_masks}"
        return f"{self.prior}-{self.n_masks}", other

    @property
    def published(self) -> Mapping[str, float]:
        """The paper's p-values by metric, if it made the comparison."""
        name = f"{self.other}, poor" if self.poor else self.other
        return PAPER.get((self.prior, name), {}) if self.n_masks == N_ABLATED else {}


def comparisons(variant: str, n_masks: int) -> Iterator[Comparison]:
    for prior, other, poor in product(PRIORS, ("prior", "none"), (False, True)):
        yield Comparison(n_masks, prior, other, poor)
    if variant != "field" and n_masks == N_ABLATED:
        yield from (Comparison(n_masks, "rise", name) for name in ABLATIONS)


def method_specs(variant: str, n_masks: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Specs of the priors, and of BOREx of each prior and of none."""
    priors = {name: {"use": name, **options} for name, options in PRIORS.items()}
    specs: dict[str, dict[str, Any]] = {**priors}
    for n in n_masks:
        borex = {"use": "borex", "variant": variant, "n_iterations": n}
        for name, prior in {"none": "none", **priors}.items():
            specs[f"{name}-{n}"] = {**borex, "prior": prior}
        if variant != "field" and n == N_ABLATED:
            for name, choices in ABLATIONS.items():
                specs[f"rise-{name}-{n}"] = {
                    **borex,
                    "variant": {"use": variant, **choices},
                    "prior": "none" if name == "mokuwe" else priors["rise"],
                }
    return specs


def dataset(name: str, entry: ZooModel) -> Dataset:
    """Images of "voc", or the last 200 of "imagenet"."""
    folder = data_folder() / name
    if name == "voc":
        classes = read_class_map(folder / "voc_to_imagenet.txt")
        return read_voc(folder, entry.class_names, classes)
    found = read_boxes(folder / "boxes.csv")
    return found._replace(examples=found.examples[100:])


def run(arguments: argparse.Namespace) -> None:
    """Compute the rows that the output folder lacks."""
    entry = load_network(arguments.model)
    model = Remembering(entry.model, without_gradients(entry)).eval()
    entry = entry._replace(model=model)
    images = dataset(arguments.data, entry).first(arguments.limit)
    for variant in arguments.variants:
        evaluate(
            images,
            entry,
            method_specs(variant, arguments.masks),
            {
                "insertion": {"n_steps": N_STEPS},
                "deletion": {"n_steps": N_STEPS},
                "f-measure": {},
            },
            arguments.output / folder_name(arguments.data, variant, arguments.masks),
            only_correct=True,
        )


def folder_name(data: str, variant: str, n_masks: Sequence[int]) -> str:
    return "-".join([data, variant, *map(str, n_masks)])


def read_table(folder: Path) -> pd.DataFrame:
    """Values of the images that are complete: (image, metric) by method.

    F is divided by the number of pixels. It is NaN where cropping removed the object.
    """
    rows = [row for row in read_rows(folder).values() if row.method]
    if not rows:
        raise SystemExit(f"{folder} holds no rows.")
    values = {(row.image, row.metric, row.method): row.value for row in rows}
    table = pd.Series(values, dtype=float).unstack()
    counts = pd.Series(row.image for row in rows).value_counts()
    complete = counts.index[counts == len(METRICS) * table.shape[1]]
    table = table.loc[sorted(complete)]
    table.loc[(slice(None), "f-measure"), :] /= N_PIXELS
    return table


def differences(table: pd.DataFrame, comparison: Comparison, metric: str) -> pd.Series:
    """How much better BOREx is than the other map, by image."""
    values = table.xs(metric, level=1)
    if comparison.poor:
        values = values[table.xs("insertion", level=1)[comparison.prior] < POOR]
    ours, other = comparison.methods
    return (METRICS[metric] * (values[ours] - values[other])).dropna()


def one_sided(values: pd.Series) -> float:
    """P-value of the one-sided Wilcoxon signed-rank test, as in the paper."""
    nonzero = values[values != 0]
    return (
        float(wilcoxon(nonzero, alternative="greater").pvalue) if len(nonzero) else 1.0
    )


def tested(table: pd.DataFrame, comparison: Comparison) -> dict[str, Any]:
    """Mean differences of a comparison and p-values in both directions, by metric."""
    result: dict[str, Any] = comparison._asdict() | {"images": 0}
    for metric in METRICS:
        each = differences(table, comparison, metric)
        result["images"] = max(result["images"], len(each))
        result[metric] = {
            "difference": float(each.mean()),
            "p": one_sided(each),
            "p_worse": one_sided(-each),
        }
    return result


def mean_table(table: pd.DataFrame, n_masks: Sequence[int]) -> pd.DataFrame:
    """Mean values: (prior, metric) by number of masks, 0 for the prior itself."""
    means = table.groupby(level=1).mean().T[[*METRICS]]
    names = {(prior, 0): prior for prior in PRIORS}
    names |= {(p, n): f"{p}-{n}" for p, n in product(["none", *PRIORS], n_masks)}
    rows = means.loc[[*names.values()]].set_axis(pd.MultiIndex.from_tuples(names))
    wide = rows.stack().unstack(1)
    return wide.loc[[*product(["none", *PRIORS], METRICS)]]


def cell(test: Mapping[str, float], published: float | None) -> str:
    """Difference, whether it is significantly worse, and p beside the paper's."""
    worse = ", worse" if test["p_worse"] < LEVEL else ""
    paper = "" if published is None else f" (paper {published:.2g})"
    return f"{test['difference']:+.3f}{worse}, p {test['p']:.2g}{paper}"


def report(data: str, variant: str, n_masks: Sequence[int], output: Path) -> Any:
    """Print the tables of a variant as Markdown; return them as JSON."""
    table = read_table(output / folder_name(data, variant, n_masks))
    n_images = table.index.get_level_values(0).nunique()
    means = mean_table(table, n_masks)
    print(f"{data}, BOREx {variant}, {n_images} images\n")
    shown = means.map(lambda x: "" if x != x else f"{x:.3f}")
    shown = shown.rename_axis(["prior", "metric"])
    print(markdown(shown.rename(columns={0: "prior itself"})), "\n")
    found = [c for n in n_masks for c in comparisons(variant, n)]
    tests = [tested(table, comparison) for comparison in found]
    lines = []
    for comparison, test in zip(found, tests):
        than = comparison.other + f", insertion < {POOR}" * comparison.poor
        cells = [cell(test[m], comparison.published.get(m)) for m in METRICS]
        named = [comparison.n_masks, comparison.prior, than, test["images"]]
        lines.append(named + cells)
    columns = ["masks", "BOREx of", "better than", "images", *METRICS]
    print(markdown(pd.DataFrame(lines, columns=columns).set_index("masks")), "\n")
    rows = [
        {"prior": prior, "metric": metric} | values.dropna().to_dict()
        for (prior, metric), values in means.iterrows()
    ]
    return {"images": n_images, "means": rows, "tests": tests}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=["voc", "imagenet"])
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["field"])
    parser.add_argument("--masks", type=int, nargs="+", default=[25, 50, 100])
    parser.add_argument("--limit", type=int, help="number of images (default: all)")
    parser.add_argument("--output", type=Path, required=True, help="folder of runs")
    parser.add_argument("--report", action="store_true", help="only print the tables")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    if not arguments.report:
        run(arguments)
    result: dict[str, Any] = {"benchmark": "borex_tables", "data": arguments.data}
    for variant in arguments.variants:
        given = (arguments.data, variant, arguments.masks, arguments.output)
        result[variant] = report(*given)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
