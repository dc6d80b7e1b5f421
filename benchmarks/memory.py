"""Peak memory of PN-RISE with many masks compared with few.

"mobilenet_v2" explains a photograph, "large" an image of 4000 x 3000 pixels for a model
without any cost, one mask at a time: the peak should depend on the size of the image,
not on the number of masks. Each run has its own process, whose peak resident size is
read at the end.
"""

import argparse
import json
import resource
import subprocess
import sys

import torch
from torch import Tensor

from captum_ext.attr import PNRISE

# Few and many masks.
RUNS = {"mobilenet_v2": (500, 8000), "large": (4, 16)}
LARGE = (3000, 4000)


def peak(case: str, n_masks: int) -> float:
    """Peak resident size in MB of a process that uses this many masks."""
    command = [sys.executable, __file__, "--child", case, str(n_masks)]
    output = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(output.stdout)


def mean_of_parts(inputs: Tensor) -> Tensor:
    """A score that depends on a few pixels."""
    return inputs[:, :, ::100, ::100].mean((1, 2, 3))


def child(case: str, n_masks: int) -> None:
    if case == "large":
        x = torch.rand(1, 3, *LARGE, generator=torch.Generator().manual_seed(0))
        PNRISE(mean_of_parts).attribute(x, n_masks=n_masks, perturbations_per_eval=1)
    else:
        from images import labeled_images, load_network

        entry = load_network(case)
        image = next(labeled_images(entry))
        PNRISE(entry.model).attribute(
            image.inputs, target=0, n_masks=n_masks, perturbations_per_eval=4
        )
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(kilobytes / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=RUNS, help="one of the two (default: both)")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        case, n_masks = arguments.child
        child(case, int(n_masks))
        return
    result: dict[str, object] = {"benchmark": "memory"}
    for case in [arguments.only] if arguments.only else RUNS:
        few, many = (peak(case, n) for n in RUNS[case])
        result[case] = {
            "masks": RUNS[case],
            "peak_mb": (round(few, 1), round(many, 1)),
            "difference_mb": round(many - few, 1),
        }
    image_mb = 3 * LARGE[0] * LARGE[1] * 4 / 2**20
    print(json.dumps(result | {"large_image_mb": round(image_mb, 1)}))


if __name__ == "__main__":
    main()
