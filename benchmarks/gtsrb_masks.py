"""The masking model on real traffic signs, by the two metrics of its paper.

Takes the network of gtsrb.py as classifier, trains a masking network for it on the
training signs (both once: they stay in the output folder), and compares methods and
baselines on signs of the test set that are drawn at random, which neither network has
seen. Both metrics take the tightest box round what of a map exceeds a threshold; each
method gets the threshold that is best for it on one half of the signs, and is judged on
the other.

Prints one JSON line: for each metric and method the mean and the median over the signs
it is judged on, the threshold, and the p of a one-sided Wilcoxon signed-rank test that
the masking model is better; and the masks' mean for the right and for absent classes.
The folder keeps the results, for ``captum-ext report``.
"""

import argparse
import json
import logging
import time
from pathlib import Path

import gtsrb
import pandas as pd
import torch
from scipy.stats import wilcoxon

from captum_ext import zoo
from captum_ext.datasets import read_arrays
from captum_ext.datasets.training_images import (
    InMemoryImages,
    LabeledImages,
    training_images,
)
from captum_ext.evaluation import evaluate
from captum_ext.masking import (
    EvidenceRemoval,
    MaskingNetwork,
    SaliencyObjective,
    train_masking_network,
)
from captum_ext.masking.record import mean_masks

METHODS = (
    "masking-model,center-box,max-box,gradient,grad-cam,pn-rise:n_masks=500,"
    "iterative-mask"
)
METRICS = ("localization-error", "saliency-metric")
THRESHOLDS = {
    "value": (0.001, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7),
    "mean": (0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 1.0, 1.25, 1.5, 2.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--signs", type=int, default=1000, help="of both halves")
    parser.add_argument(
        "--stages",
        nargs="+",
        default=["15:10,1e-3,5,0.3"],
        metavar="EPOCHS:LAMBDAS",
        help="of the masking network's training, one after the other",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed (default 0)")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    # High thresholds leave nothing of some maps, and need not say so each time.
    logging.getLogger("captum_ext").setLevel(logging.ERROR)
    weights = arguments.output / f"gtsrb-{arguments.seed}.pt"
    gtsrb.trained(weights, arguments.seed)
    entry = gtsrb.load(str(weights))
    start = time.perf_counter()
    network = masking_network(entry, arguments)
    seconds = time.perf_counter() - start
    test = signs("test", entry)
    result = {
        "benchmark": "gtsrb_masks",
        "signs": arguments.signs,
        "stages": arguments.stages,
        "mean_masks": mean_masks(network, test, len(test))._asdict(),
    }
    values = table(entry, network, arguments)
    result |= {name: compared(name, values) for name in METRICS}
    result["seconds_to_train_or_load"] = round(seconds)
    result["threads"] = torch.get_num_threads()
    print(json.dumps(result))


def signs(part: str, entry: zoo.ZooModel) -> InMemoryImages | LabeledImages:
    return training_images(read_arrays(gtsrb.data_file(part)), entry)


def masking_network(
    entry: zoo.ZooModel, arguments: argparse.Namespace
) -> MaskingNetwork:
    """The network of the output folder, trained there as far as it is not yet."""
    network = MaskingNetwork(gtsrb.N_CLASSES, seed=arguments.seed)
    phi = EvidenceRemoval.of_normalized(entry.mean, entry.std)
    black_box = entry.model.to(memory_format=torch.channels_last)
    images = signs("train", entry)
    for i, stage in enumerate(arguments.stages):
        n_epochs, lambdas = stage.split(":")
        one, two, three, four = map(float, lambdas.split(","))
        network = train_masking_network(
            network,
            black_box,
            images,
            arguments.output / f"masks-{i + 1}",
            objective=SaliencyObjective((one, two, three, four), evidence_removal=phi),
            n_epochs=int(n_epochs),
            learning_rate=3e-3,
            seed=arguments.seed,
        )
    return network


def table(
    entry: zoo.ZooModel, network: MaskingNetwork, arguments: argparse.Namespace
) -> pd.DataFrame:
    """Values by image, method, metric and threshold."""
    dataset = read_arrays(gtsrb.data_file("test"))
    metrics = {
        f"{metric}-{share}-{reference}": {
            "use": metric,
            "threshold": share,
            "thresholding": reference,
        }
        for metric in METRICS
        for reference, shares in THRESHOLDS.items()
        for share in shares
    }
    return evaluate(
        dataset.sample(arguments.signs, arguments.seed),
        entry.with_masking_network(network),
        METHODS,
        metrics,
        arguments.output / "test",
        seed=arguments.seed,
    ).table


def compared(metric: str, table: pd.DataFrame) -> dict[str, dict[str, object]]:
    """By method, on every other sign, at the threshold that is best on the rest."""
    rows = table[table["metric"].str.startswith(metric)]
    best: dict[str, tuple[str, pd.Series]] = {}
    for method, its_rows in rows.groupby("method", sort=False):
        values = its_rows.pivot(index="image", columns="metric", values="value")
        # Where a threshold leaves nothing of a map there is no value, and no mean.
        values = values.dropna(axis=1)
        threshold = values[::2].mean().idxmin()
        best[method] = threshold.removeprefix(f"{metric}-"), values[threshold][1::2]
    ours = best["masking-model"][1]
    return {
        method: {
            "mean": round(values.mean(), 4),
            "median": round(values.median(), 4),
            "threshold": threshold,
            "p": None if values is ours else p_of_better(ours, values),
        }
        for method, (threshold, values) in best.items()
    }


def p_of_better(ours: pd.Series, theirs: pd.Series) -> float:
    """Of the test that ours are less."""
    if ours.equals(theirs):
        return 1.0
    return float(wilcoxon(ours, theirs, alternative="less").pvalue)


if __name__ == "__main__":
    main()
