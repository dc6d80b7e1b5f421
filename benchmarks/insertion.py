"""Wall time of insertion relative to pure forward passes of the same number and shape.

Pure passes run with the chunk size that is fastest for them, insertion with that and
with "auto". They alternate, in the same memory format; the ratio is the median over the
repeats.
"""

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

import torch
from images import load_network
from torch import Tensor

from captum_ext.metrics import insertion

CHUNKS = (1, 2, 4, 8, 16)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def batch_of(image: Tensor, n: int) -> Tensor:
    return image.repeat(n, 1, 1, 1).to(memory_format=torch.channels_last)


@torch.no_grad()
def pure(model: Callable[[Tensor], Tensor], image: Tensor, n: int, chunk: int) -> None:
    batch, rest = batch_of(image, chunk), batch_of(image, n % chunk)
    for _ in range(n // chunk):
        model(batch)
    if len(rest):
        model(rest)


def measure(
    model: Callable[[Tensor], Tensor], size: int, n_steps: int, repeats: int
) -> dict[str, float]:
    """Milliseconds per pass, pure and within insertion, and their ratio."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, size, size, generator=generator)
    image = image.to(memory_format=torch.channels_last)
    saliency = torch.randn(1, 1, size, size, generator=generator)

    def passes(chunk: int, n: int = n_steps) -> float:
        return seconds(lambda: pure(model, image, n, chunk))

    def inserted(chunk: int | str) -> float:
        return seconds(
            lambda: insertion(
                model,
                image,
                saliency,
                target=0,
                n_steps=n_steps,
                perturbations_per_eval=chunk,
            )
        )

    # The first call of a shape selects its kernels.
    trials = {c: [passes(c, 32) for _ in range(4)][1:] for c in CHUNKS}
    best = min(CHUNKS, key=lambda c: min(trials[c]))
    inserted(best), inserted("auto")
    times = [(passes(best), inserted(best), inserted("auto")) for _ in range(repeats)]
    return {
        "best_chunk": best,
        "pure_ms": round(1e3 * median(t[0] for t in times) / n_steps, 2),
        "ratio": round(median(t[1] / t[0] for t in times), 3),
        "ratio_auto_chunk": round(median(t[2] / t[0] for t in times), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-steps", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    n_steps, repeats = arguments.n_steps, arguments.repeats
    mobilenet = load_network("mobilenet_v2").model
    result = {
        "benchmark": "insertion",
        "mobilenet_v2_224": measure(mobilenet, 224, n_steps, repeats),
        "n_steps": n_steps,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
