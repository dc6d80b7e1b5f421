"""A masking model that learns the maps of CAMERAS on photographs, cross-validated.

The photographs are those of ImageNet and of Pascal VOC in the data folder, without
their labels: a map explains the class that mobilenet_v2 predicts. In each of four folds
the masking network, whose encoder is mobilenet_v2, is trained on three quarters of
ImageNet's and on all of VOC's, and evaluated on the photographs of the other quarter
whose label it predicts. Smaller training sets, trained for the same number of steps,
show the effect of more photographs.

Prints tables of means and of paired tests, then one JSON line. Everything is kept in
the output folder, where a stopped command resumes.
"""

import argparse
import json
import time
from pathlib import Path

import pandas as pd
import torch
from images import data_folder, load_network
from quality_per_pass import sign_flip_p
from rows import difference_table, markdown
from torch.utils.data import Subset

from captum_ext.commands.distillation import images_with_maps, read_method
from captum_ext.datasets import Dataset, read_boxes, read_images
from captum_ext.evaluation import evaluate, read_metrics, read_results
from captum_ext.evaluation.metric_specs import find_metric
from captum_ext.evaluation.statistics import holm
from captum_ext.masking import (
    MaskingNetwork,
    SaliencyObjective,
    train_masking_network,
)
from captum_ext.zoo import ZooModel

METRICS = (
    "insertion:n_steps=14,blurred=insertion:n_steps=14:baselines=blur,"
    "deletion:n_steps=14,f-measure,pointing-game,positive-map-density,"
    "negative-map-density,localization-error:thresholding=value,"
    "saliency-metric:thresholding=value"
)
N_FOLDS, BATCH_SIZE = 4, 16
OURS, REFERENCES = "masking-model", ("grad-cam", "cameras", "random")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="output folder")
    parser.add_argument("--distill", default="cameras", help="method to learn")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[1000, 100, 30],
        help="most training photographs",
    )
    parser.add_argument("--folds", type=int, nargs="+", default=range(N_FOLDS))
    parser.add_argument("--report", action="store_true", help="only print the tables")
    arguments = parser.parse_args()
    if not arguments.report:
        run(arguments)
    rows = read_all(arguments.output)
    print(json.dumps({"benchmark": "photograph_masks"} | report(rows)))


def run(arguments: argparse.Namespace) -> None:
    """Train and evaluate all networks of the folds."""
    entry = load_network("mobilenet_v2")
    folder = data_folder()
    labeled = read_boxes(folder / "imagenet/boxes.csv", folder / "imagenet/images")
    others = read_images(folder / "voc/images")
    examples = [*labeled.examples, *others.examples]
    unlabeled = tuple(each._replace(labels=(), boxes=()) for each in examples)
    images = images_with_maps(
        Dataset("photographs", unlabeled),
        entry,
        read_method(arguments.distill),
        arguments.output,
        seed=0,
        show_progress=True,
    )
    n_labeled = len(labeled.examples)
    for fold in arguments.folds:
        test = labeled._replace(examples=labeled.examples[fold::N_FOLDS])
        held_out = set(range(n_labeled)[fold::N_FOLDS])
        rest = [i for i in range(len(images)) if i not in held_out]
        # Of ImageNet and VOC alike.
        order = torch.randperm(
            len(rest), generator=torch.Generator().manual_seed(fold)
        ).tolist()
        for size in arguments.sizes:
            chosen = Subset(images, sorted(rest[i] for i in order[:size]))
            output = arguments.output / f"fold-{fold}" / f"{len(chosen)}"
            network = trained(entry, chosen, output, arguments.steps)
            evaluate(
                test,
                entry.with_masking_network(network),
                OURS if size != max(arguments.sizes) else [OURS, *REFERENCES],
                METRICS,
                output / "test",
                only_correct=True,
                show_progress=True,
            )


def trained(
    entry: ZooModel, images: Subset, output: Path, n_steps: int
) -> MaskingNetwork:
    """A masking network after as many steps as come closest to whole epochs."""
    weights = entry.model.state_dict()
    network = MaskingNetwork(1000, "mobilenet_v2", weights)
    start = time.perf_counter()
    train_masking_network(
        network,
        entry.model,
        images,
        output / "training",
        objective=SaliencyObjective(selection_weight=0, distillation=1),
        n_epochs=max(1, round(n_steps / (len(images) // BATCH_SIZE))),
        batch_size=BATCH_SIZE,
        show_progress=True,
    )
    print(f"{time.perf_counter() - start:.0f} seconds of training")
    return network


def read_all(folder: Path) -> pd.DataFrame:
    """Values of all networks and methods: fold, image, method, metric, value."""
    tables = []
    for file in sorted(folder.glob("fold-*/*/test/results.csv")):
        table = read_results(file.parent).table
        size = file.parts[-3]
        ours = table.method == OURS
        table["method"] = table.method.where(~ours, f"{OURS} of {size} photographs")
        tables.append(table)
    return pd.concat(tables).dropna(subset="value")


def report(rows: pd.DataFrame) -> dict[str, object]:
    """Print the means and the tests; return the numbers of photographs."""
    wide = rows.pivot_table("value", ["image", "metric"], "method").dropna()
    means = wide.groupby("metric").mean().T
    print(markdown(means[list(dict.fromkeys(rows.metric))].round(3)), "\n")
    names = [name for name in wide if name.startswith(OURS)]
    names.sort(key=lambda name: -int(name.split()[-2]))
    tests, specs = [], read_metrics(METRICS)
    for name in names:
        for reference in REFERENCES:
            for metric, group in wide.groupby("metric", sort=False):
                better = find_metric(specs[metric].use).higher_is_better
                sign = 1 if better else -1
                difference = sign * (group[name] - group[reference])
                p = sign_flip_p(difference.to_numpy())
                tests.append((name, reference, metric, difference.mean(), p))
    columns = ["method", "compared with", "metric", "difference", "p"]
    table = pd.DataFrame(tests, columns=columns)
    # For the metrics of one comparison.
    groups = table.groupby(["method", "compared with"], sort=False)
    table["p"] = groups["p"].transform(lambda p: holm(p))
    print("Differences, signed so that + is better (p)")
    print(markdown(difference_table(table, columns[:2])), "\n")
    return {"images": int(wide.index.get_level_values("image").nunique())}


if __name__ == "__main__":
    main()
