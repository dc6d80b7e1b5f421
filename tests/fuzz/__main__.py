"""Run generated calls and print those that end wrongly.

python -m tests.fuzz --calls 20000 --seed 1
"""

import argparse
import sys
import time
from collections import Counter

import torch

from .verdict import check_call


def main() -> int:
    """Exit status 1 if there is a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first call")
    given = parser.parse_args()
    torch.set_num_threads(1)
    started, faults = time.perf_counter(), Counter[str]()
    for number in range(given.first, given.first + given.calls):
        fault = check_call(given.seed, number)
        if fault is not None:
            faults[fault.name] += 1
            print(fault, flush=True)
    seconds = time.perf_counter() - started
    print(f"{given.calls} calls in {seconds:.0f} s, {faults.total()} faults")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
