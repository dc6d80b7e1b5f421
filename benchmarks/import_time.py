"""Cost of importing the package and of ``captum-ext --help``, in CPU time.

Each import runs in its own process. The processes that are compared alternate, and one
round beforehand warms the disk cache; the results are medians over the repeats.
"""

import argparse
import json
import subprocess
import sys
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median

COMMANDS = {
    "captum": ["-c", "import captum.attr"],
    "attr": ["-c", "from captum_ext.attr import *"],
    "argparse": ["-c", "import argparse; argparse.ArgumentParser().parse_args()", "-h"],
    "help": ["-m", "captum_ext", "--help"],
}


def cpu_seconds(arguments: list[str]) -> float:
    """User and system time of a Python process."""
    before = getrusage(RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = getrusage(RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    rounds = [
        {name: cpu_seconds(arguments) for name, arguments in COMMANDS.items()}
        for _ in range(1 + repeats)
    ][1:]
    seconds = {name: median(times[name] for times in rounds) for name in COMMANDS}
    result = {
        "benchmark": "import_time",
        "attr_over_captum": round(median(t["attr"] / t["captum"] for t in rounds), 3),
        "attr_minus_captum_s": round(
            median(t["attr"] - t["captum"] for t in rounds), 3
        ),
        "help_over_argparse": round(
            median(t["help"] / t["argparse"] for t in rounds), 3
        ),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "repeats": repeats,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
