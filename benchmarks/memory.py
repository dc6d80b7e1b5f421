"""Peak memory of PN-RISE with many masks compared with few.

Each number of masks runs in its own process, whose peak resident size is read at the
end.
"""

import argparse
import json
import resource
import subprocess
import sys


def peak(n_masks: int) -> float:
    """Peak resident size in MB of a process that uses this many masks."""
    command = [sys.executable, __file__, "--child", str(n_masks)]
    output = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(output.stdout)


def child(n_masks: int) -> None:
    from images import labeled_images, load_network

    from captum_ext.attr import PNRISE

    entry = load_network("mobilenet_v2")
    image = next(labeled_images(entry))
    PNRISE(entry.model).attribute(
        image.inputs, target=0, n_masks=n_masks, perturbations_per_eval=4
    )
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(kilobytes / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return
    few, many = peak(500), peak(8000)
    result = {
        "benchmark": "memory",
        "peak_mb_at_500_masks": round(few, 1),
        "peak_mb_at_8000_masks": round(many, 1),
        "difference_mb": round(many - few, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
