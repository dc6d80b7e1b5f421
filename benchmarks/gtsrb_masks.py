"""The masking model on real traffic signs, by the two metrics of its paper.

Takes the network of gtsrb.py as the classifier, trains a masking network for it on the
training signs (both are kept in the output folder and trained only once), and compares
methods and baselines on randomly chosen signs of the test set, which neither network
has seen. Both metrics use the tightest box around the part of a map that exceeds a
threshold; the threshold of each method is chosen on one half of the signs, and the
method is evaluated on the other half.

A stage of the training is EPOCHS:LAMBDAS, or EPOCHS:LAMBDAS:W, where the area of the
mask of a class that the image does not show costs W times as much as that of its own.
With a smaller area weight in a second stage and W = 1, hardly anything keeps masks of
absent classes small any more.

Prints one JSON line: for each metric and method the mean and the median over the second
half, the threshold, and the p-value of a one-sided Wilcoxon signed-rank test that the
masking model is better; and the mean masks of the images' own and of absent classes,
to which ``--signs 0`` is limited.
The folder keeps the results for ``captum-ext report``.
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
from captum_ext.masking.mask_reports import mean_masks

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
    parser.add_argument("--output", type=Path, required=True, help="output folder")
    parser.add_argument(
        "--signs",
        type=int,
        default=1000,
        help="signs in both halves together (default 1000)",
    )
    parser.add_argument(
        "--training-signs", type=int, help="number of training signs (default: all)"
    )
    parser.add_argument(
        "--stages",
        nargs="+",
        default=["15:10,1e-3,5,0.3"],
        metavar="EPOCHS:LAMBDAS[:W]",
        help="consecutive stages of the masking network's training",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed (default 0)")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    # Some maps do not exceed high thresholds, which would log a warning each time.
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
    if arguments.signs:
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
    """Masking network of the output folder; training resumes if it is not finished."""
    network = MaskingNetwork(gtsrb.N_CLASSES, seed=arguments.seed)
    phi = EvidenceRemoval.of_normalized(entry.mean, entry.std)
    black_box = entry.model.to(memory_format=torch.channels_last)
    dataset = read_arrays(gtsrb.data_file("train"))
    images = training_images(
        dataset.sample(arguments.training_signs, arguments.seed), entry
    )
    for i, stage in enumerate(arguments.stages):
        n_epochs, lambdas, *weight = stage.split(":")
        lambda_1, lambda_2, lambda_3, lambda_4 = map(float, lambdas.split(","))
        network = train_masking_network(
            network,
            black_box,
            images,
            arguments.output / f"masks-{i + 1}",
            objective=SaliencyObjective(
                (lambda_1, lambda_2, lambda_3, lambda_4),
                evidence_removal=phi,
                absent_weight=float(weight[0]) if weight else 1,
            ),
            n_epochs=int(n_epochs),
            learning_rate=3e-3,
            seed=arguments.seed,
        )
    return network


def table(
    entry: zoo.ZooModel, network: MaskingNetwork, arguments: argparse.Namespace
) -> pd.DataFrame:
    """Values per image, method, metric and threshold."""
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
    """Results per method on one half, at the threshold that is best on the other."""
    rows = table[table["metric"].str.startswith(metric)]
    best: dict[str, tuple[str, pd.Series]] = {}
    for method, group in rows.groupby("method", sort=False):
        values = group.pivot(index="image", columns="metric", values="value")
        # A map that does not exceed a threshold has no value there.
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
    """p-value of the test that our values are smaller."""
    if ours.equals(theirs):
        return 1.0
    return float(wilcoxon(ours, theirs, alternative="less").pvalue)


if __name__ == "__main__":
    main()
