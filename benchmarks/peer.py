"""Wall time of RISE in the package dianna and here, for the same number of masks.

By default dianna passes masked images to the model in batches of 100, in contiguous
memory. Both packages run with the fastest of several batch sizes, dianna also with its
default and this package also with "auto". Needs ``pip install dianna``.
"""

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from dianna.methods.rise_image import RISEImage
from images import labeled_images, load_network
from numpy.typing import NDArray

from captum_ext.attr import RISE

BATCH_SIZES = (1, 2, 4, 8, 16, 32)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-masks", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    n_masks = arguments.n_masks
    entry = load_network("mobilenet_v2")
    image = next(labeled_images(entry)).inputs
    # dianna's users pass a model as it is loaded, without a memory format.
    plain = load_network("mobilenet_v2").model.to(memory_format=torch.contiguous_format)

    @torch.no_grad()
    def scores(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return plain(torch.from_numpy(np.ascontiguousarray(batch))).numpy()

    def peer(batch_size: int, n_masks: int = n_masks) -> Callable[[], object]:
        explainer = RISEImage(n_masks=n_masks, feature_res=7, p_keep=0.5)
        array = image[0].contiguous().numpy()
        return lambda: explainer.explain(scores, array, [0], batch_size=batch_size)

    def ours(chunk: int | str, n_masks: int = n_masks) -> Callable[[], object]:
        return lambda: RISE(entry.model).attribute(
            image, target=0, n_masks=n_masks, perturbations_per_eval=chunk
        )

    def fastest(run: Callable[[int, int], Callable[[], object]]) -> int:
        for size in BATCH_SIZES:
            run(size, max(size, 2))()
        trial = {size: seconds(run(size, 64)) for size in BATCH_SIZES}
        return min(trial, key=trial.__getitem__)

    best, our_best = fastest(peer), fastest(ours)
    times = [
        (
            seconds(ours(our_best)),
            seconds(ours("auto")),
            seconds(peer(100)),
            seconds(peer(best)),
        )
        for _ in range(arguments.repeats)
    ]
    result = {
        "benchmark": "peer",
        "peer": "dianna",
        "n_masks": n_masks,
        "ours_seconds": round(median(t[0] for t in times), 2),
        "peer_default_over_ours": round(median(t[2] / t[0] for t in times), 2),
        "peer_default_over_ours_auto": round(median(t[2] / t[1] for t in times), 2),
        "peer_best_over_ours": round(median(t[3] / t[0] for t in times), 2),
        "our_chunk": our_best,
        "peer_default_batch": 100,
        "peer_best_batch": best,
        "repeats": arguments.repeats,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
