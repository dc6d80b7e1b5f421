"""Time that BOREx spends outside the model.

Measures the seconds per image outside the model for 50 masks, the total time relative
to the same number of pure forward passes, for one mask a step and for ten, of the field
and of its variants on windows; and how the time outside the model grows with the number
of masks, and of windows. Medians over the repeats.
"""

import argparse
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from images import load_network
from torch import Tensor

from captum_ext.attr import BOREx, WindowVariant


class Timed:
    """Model that adds up the seconds spent in it."""

    def __init__(self, model: Callable[[Tensor], Tensor]) -> None:
        self._model = model
        self.seconds = 0.0

    def __call__(self, inputs: Tensor) -> Tensor:
        start = time.perf_counter()
        output = self._model(inputs)
        self.seconds += time.perf_counter() - start
        return output


def outside_and_whole(
    model: Callable[[Tensor], Tensor], image: Tensor, prior: Tensor, **options: Any
) -> tuple[float, float]:
    """Seconds per map outside the model, and in total."""
    timed = Timed(model)
    start = time.perf_counter()
    BOREx(timed).attribute(image, prior, target=0, **options)
    whole = time.perf_counter() - start
    return whole - timed.seconds, whole


@torch.no_grad()
def pure(model: Callable[[Tensor], Tensor], image: Tensor, chunk: int) -> float:
    """Seconds for 100 forward passes in chunks."""
    batch = image.repeat(chunk, 1, 1, 1).to(memory_format=torch.channels_last)
    start = time.perf_counter()
    for _ in range(100 // chunk):
        model(batch)
    return time.perf_counter() - start


def mean_score(inputs: Tensor) -> Tensor:
    """Model without any cost."""
    return inputs[:, :1, 0, 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, 224, 224, generator=generator)
    image = image.to(memory_format=torch.channels_last)
    prior = torch.rand(1, 1, 14, 14, generator=generator)
    model = load_network("mobilenet_v2").model
    chunks = (1, 2, 4, 10, 20)

    def outside(**options: Any) -> float:
        times = [
            outside_and_whole(mean_score, image, prior, **options)[0]
            for _ in range(repeats)
        ]
        return round(median(times), 3)

    outside_and_whole(model, image, prior)
    passes = [[pure(model, image, c) for c in chunks] for _ in range(repeats)]
    best = min(median(times) for times in zip(*passes))

    def of(variant: str) -> dict[str, Any]:
        times = {
            q: [
                outside_and_whole(
                    model, image, prior, variant=variant, masks_per_step=q
                )
                for _ in range(repeats)
            ]
            for q in (1, 10)
        }
        return {
            "seconds_outside_the_model": {
                q: round(median(t[0] for t in each), 3) for q, each in times.items()
            },
            "ratio": {
                q: round(median(t[1] for t in each) / best, 3)
                for q, each in times.items()
            },
            "seconds_by_masks": {
                n: outside(variant=variant, n_iterations=n) for n in (25, 50, 100, 200)
            },
        }

    result = {
        "benchmark": "borex_overhead",
        "pure_seconds_of_100_passes": round(best, 3),
        "field": of("field"),
        "windows": of("windows"),
        "paper": of("paper"),
        "seconds_by_windows": {
            4 * (-(-224 // s)) ** 2: outside(variant=WindowVariant(stride=s))
            for s in (16, 8, 4)
        },
        "repeats": repeats,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
