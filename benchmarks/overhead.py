"""Wall time of PN-RISE relative to pure forward passes of the same number and shape.

Both use the same chunks in the same memory format and alternate; the ratio is the
median over the repeats.
"""

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

import torch
from images import load_network
from torch import Tensor

from captum_ext.attr import PNRISE


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(
    model: Callable[[Tensor], Tensor], size: int, chunk: int, n_masks: int, repeats: int
) -> dict[str, float]:
    """Milliseconds per pass, pure and within PN-RISE, and their ratio."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, size, size, generator=generator)
    image = image.to(memory_format=torch.channels_last)
    batch = image.repeat(chunk, 1, 1, 1).to(memory_format=torch.channels_last)
    explainer = PNRISE(model)

    @torch.no_grad()
    def pure() -> None:
        for _ in range(n_masks // chunk):
            model(batch)

    def explained(chunk: int | str) -> Callable[[], object]:
        return lambda: explainer.attribute(
            image, target=0, n_masks=n_masks, perturbations_per_eval=chunk
        )

    pure(), explained(chunk)()
    times = [
        (seconds(pure), seconds(explained(chunk)), seconds(explained("auto")))
        for _ in range(repeats)
    ]
    return {
        "chunk": chunk,
        "pure_ms": round(1e3 * median(t[0] for t in times) / n_masks, 2),
        "ratio": round(median(t[1] / t[0] for t in times), 3),
        "ratio_auto_chunk": round(median(t[2] / t[0] for t in times), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-masks", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    n_masks, repeats = arguments.n_masks, arguments.repeats
    mobilenet = load_network("mobilenet_v2").model
    resnet20 = load_network("resnet20").model
    result = {
        "benchmark": "overhead",
        "mobilenet_v2_224": measure(mobilenet, 224, 4, n_masks, repeats),
        "resnet20_32": measure(resnet20, 32, 32, 4 * n_masks, repeats),
        "n_masks": n_masks,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
