"""Forward passes that the default estimator needs for the error of the paper's sum.

Each image is scored under 4000 masks drawn in pairs. Every single mask has the paper's
distribution, so all of them together give the standard error of the paper's sum at 4000
masks, and the first n give the standard error of the default estimator at n. The
benchmark finds the smallest n whose root mean square error over the pixels is no
larger. It explains the predicted class by its softmax probability.

The floor is the number of passes that any estimator would need whose control variate is
linear in the mask and known exactly: at 4000 masks fitting it costs next to nothing.
What it leaves are effects of third and higher order.
"""

import argparse
import json
from statistics import median

import torch
from images import LabeledImage, labeled_images, load_network
from torch import Tensor

from captum_ext._scores import ChunkedScores
from captum_ext.attr.estimators import cross_fit, standard_errors, uncontrolled
from captum_ext.masks import GridLayout, apply_masks, draw_masks

PAPER_MASKS = 4000
PROBABILITIES = (0.5, 0.5)


def pn_rise_contrast(means: Tensor) -> Tensor:
    """PN-RISE's map from the means of kept and of hidden pixels."""
    return means[:1] - means[1:]


def passes_needed(score: ChunkedScores, inputs: Tensor, seed: int) -> tuple[int, int]:
    """Smallest even number of passes with the paper's error, and its floor."""
    layout = GridLayout(inputs.shape[2:], (7, 7))
    generator = torch.Generator().manual_seed(seed)
    codes = draw_masks(layout, PROBABILITIES, PAPER_MASKS, generator, paired=True)

    def perturb(start: int, stop: int) -> tuple[Tensor, ...]:
        rows = codes[start:stop]
        (masks,) = layout.expand(rows.indicators(1), rows.shifts)
        return (apply_masks(inputs, [inputs.new_zeros(1)], masks),)

    scores = score(perturb, 0, PAPER_MASKS)

    def error(n_masks: int, block: int) -> float:
        seen, known = codes[:n_masks], scores[:n_masks]
        if block == 2:
            fit = cross_fit(layout, seen, PROBABILITIES, known, block)
        else:
            fit = uncontrolled(known)
        (errors,) = standard_errors(
            layout, seen, PROBABILITIES, fit, block, pn_rise_contrast, inputs.device
        )
        return float(errors.square().mean().sqrt())

    wanted = error(PAPER_MASKS, 1)
    too_few, enough = 2, PAPER_MASKS // 2
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if error(2 * middle, 2) <= wanted:
            enough = middle
        else:
            too_few = middle
    floor = PAPER_MASKS * (error(PAPER_MASKS, 2) / wanted) ** 2
    return 2 * enough, round(floor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--n-images", type=int, default=30)
    arguments = parser.parse_args()
    entry = load_network(arguments.model)

    @torch.no_grad()
    def probabilities(x: Tensor) -> Tensor:
        return entry.model(x).softmax(1)

    def row(image: LabeledImage, seed: int) -> tuple[int, bool, float, int]:
        probability, target = probabilities(image.inputs)[0].max(0)
        score = ChunkedScores(probabilities, 1, int(target))
        n_masks, floor = passes_needed(score, image.inputs, seed)
        return n_masks, int(target) == image.label, float(probability), floor

    rows = []
    for seed, image in enumerate(labeled_images(entry)):
        if len(rows) == arguments.n_images:
            break
        rows.append(row(image, seed))
        print(image.name, *rows[-1], flush=True)

    def middle(chosen: list[tuple[int, bool, float, int]]) -> dict[str, float]:
        if not chosen:
            return {"images": 0}
        return {
            "images": len(chosen),
            "median_passes": median(r[0] for r in chosen),
            "median_floor": median(r[3] for r in chosen),
        }

    result = {
        "benchmark": "passes",
        "model": arguments.model,
        "paper_masks": PAPER_MASKS,
        "all": middle(rows),
        "classified_right": middle([r for r in rows if r[1]]),
        "right_and_sure": middle([r for r in rows if r[1] and r[2] >= 0.9]),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
