"""Train the signs classifier, write its weights and print its accuracy."""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from captum_ext._files import save_tensors
from captum_ext.zoo.signs import COLOR_PAIRS, SIGN_CLASSES
from captum_ext.zoo.signs_classifier.recipe import (
    FIRST_TRAINING_SEED,
    confusion,
    draw_scenes,
    train_signs_classifier,
)

_N_HELD_OUT = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m captum_ext.zoo.signs_classifier", description=__doc__
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the training (default: 0)"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="state-dict file to write"
    )
    arguments = parser.parse_args()
    start = time.perf_counter()
    model = train_signs_classifier(arguments.seed, show_progress=True)
    minutes = (time.perf_counter() - start) / 60
    save_tensors(model.state_dict(), arguments.output)
    size = arguments.output.stat().st_size / 1000
    n_threads = torch.get_num_threads()
    print(f"{arguments.output}: {size:.0f} kB")
    print(f"drawing and training took {minutes:.1f} minutes with {n_threads} threads")
    held_out = draw_scenes(_N_HELD_OUT, seed=0, show_progress=True)
    _report(confusion(model, *held_out))


def _report(counts: Tensor) -> None:
    """Print the accuracy overall and per class, and confusions within color pairs."""
    right, total = counts.diagonal(), counts.sum(1)
    print(
        f"held-out accuracy {right.sum() / total.sum():.2%} on {total.sum()} scenes of "
        f"seeds 0 to {total.sum() - 1}; training seeds start at {FIRST_TRAINING_SEED}"
    )
    for name, n_right, n_total in zip(SIGN_CLASSES, right, total):
        print(f"  {name:22} {n_right} of {n_total}")
    print("confused with the other class of a pair that differs only in color:")
    for i, j in COLOR_PAIRS:
        wrong = counts[i, j] + counts[j, i]
        both = total[i] + total[j]
        print(f"  {SIGN_CLASSES[i]} / {SIGN_CLASSES[j]}: {wrong} of {both}")


if __name__ == "__main__":
    main()
