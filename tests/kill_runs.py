"""Kill runs at random instants and compare what comes out with undisturbed runs.

    python tests/kill_runs.py --kills 200

Starts small evaluations, of one and of two processes, and small trainings of a masking
network. A kill is SIGKILL, half of them after a random time and half of them at a
random place: within a row, or while a file (a checkpoint, a figure, a table) is
replaced. A killed run is started again in its folder and killed again, until it is
complete. Every other round is disturbed in another way:

- the disk is full at a random point: a small tmpfs, or a limit of the size of files
  where it may not be mounted. The run must end with an error and resume;
- a file of rows is damaged: zeros, as after a power failure, or a line is cut. The run
  must refuse it until the line is removed;
- two runs are started in one folder: one of them must be refused, unless the other has
  already ended.

Every complete run must have the tables, maps and images of an undisturbed evaluation,
or the weights and logs of an undisturbed training, byte for byte. Prints one JSON line:
the numbers of kills and of the other disturbances; rows lost (there before a kill, and
not after), rows doubled (written twice), runs that differ, and errors other than those
above. Its exit status is 1 if any of these four is not 0.
"""

import argparse
import json
import multiprocessing
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import killed_worker
import masking_worker
from killed_worker import Place, evaluate_and_die
from masking_worker import KillPoint, work
from several_processes import exit_codes, quietly

# Not the workers: a fork server does not know the folder of this file.
PRELOADED = ("captum_ext.datasets", "captum_ext.evaluation", "captum_ext.masking")
OTHERS = ("full disk", "damaged rows", "two runs at once")
# Errors that a disturbed run may end with.
FULL = ("cannot be written", "could not be written", "No space left", "too large")
REFUSED = "to which no other run writes"


class Job(NamedTuple):
    """What is run: its processes, its places, and what must not depend on kills."""

    name: str
    run: Callable[..., None]
    n_ranks: int
    place: Callable[[random.Random], Any]
    same: Callable[[Path, Path], bool]


def same_files(one: Path, other: Path) -> bool:
    return killed_worker.files(one) == killed_worker.files(other)


JOBS = [
    *(
        Job(
            f"evaluate, {n} process{'es' * (n > 1)}",
            evaluate_and_die,
            n,
            lambda rng: Place(rng.randrange(2500), rng.randrange(60)),
            same_files,
        )
        for n in (1, 2)
    ),
    Job(
        "train",
        work,
        1,
        lambda rng: KillPoint(rng.randrange(8, 100), rng.randrange(30)),
        masking_worker.same,
    ),
]


class Runs:
    """Starts jobs in a folder, and counts what must not happen."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.rng = root, random.Random(seed)
        self.processes = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload([*PRELOADED])
        self.n_started = 0
        self.counts: Counter[str] = Counter()
        self.bad: Counter[str] = Counter(lost=0, doubled=0, different=0, errors=0)
        self.seconds: dict[str, float] = {}

    def processes_of(
        self, job: Job, folder: Path, place: Any = None, call: Any = None
    ) -> list[Any]:
        """Processes of a run, not started."""
        self.n_started += 1
        meeting = self.root / f"meeting-{self.n_started}"
        function = call or job.run
        return [
            self.processes.Process(
                target=quietly,
                args=(self.errors, function, folder, place, rank, job.n_ranks, meeting),
            )
            for rank in range(job.n_ranks)
        ]

    @property
    def errors(self) -> Path:
        return self.root / "errors.txt"

    def raised(self) -> list[str]:
        """Errors of the runs since the last call."""
        text = self.errors.read_text() if self.errors.exists() else ""
        self.errors.unlink(missing_ok=True)
        return text.splitlines()

    def expect(self, *allowed: str) -> list[str]:
        """Count errors of other kinds; return those that are allowed."""
        found = self.raised()
        known = [e for e in found if any(text in e for text in allowed)]
        for error in found:
            if error not in known:
                self.bad["errors"] += 1
                print(error, file=sys.stderr)
        return known

    def complete(self, job: Job, folder: Path) -> None:
        """Run to the end, and compare with the undisturbed run."""
        start = time.perf_counter()
        codes = exit_codes(self.processes_of(job, folder))
        # The load of the machine changes.
        self.seconds[job.name] = time.perf_counter() - start
        self.expect()
        self.bad["errors"] += any(codes)
        self.bad["different"] += not job.same(folder, self.undisturbed(job))
        self.bad["doubled"] += doubled(folder)
        shutil.rmtree(folder)

    def undisturbed(self, job: Job) -> Path:
        folder = self.root / f"undisturbed {job.run.__name__}"
        if not folder.exists():
            exit_codes(self.processes_of(job._replace(n_ranks=1), folder))
        return folder

    def killed(self, job: Job, folder: Path) -> bool:
        """Start a run and kill it; False if it had ended before."""
        before = killed_worker.whole_lines(folder)
        if self.rng.random() < 0.5:
            started = self.processes_of(job, folder)
            after = self.rng.uniform(0, self.seconds[job.name])
            codes = exit_codes(started, self.rng.choice(started), after)
        else:
            codes = exit_codes(self.processes_of(job, folder, job.place(self.rng)))
        # A process may notice that the other one is gone before it is killed, too.
        self.expect("Connection closed", "connect", "gloo")
        self.bad["lost"] += (before - killed_worker.whole_lines(folder)).total()
        self.counts[job.name] += -signal.SIGKILL in codes
        return any(codes)

    def full_disk(self, job: Job, folder: Path) -> None:
        """Fill a disk at a random point, and go on with a larger one."""
        share = self.rng.random()
        with small_disk(folder.parent) as enlarge:
            if enlarge:
                enlarge(int(4096 + share * disk_use(self.undisturbed(job))))
                exit_codes(self.processes_of(job, folder))
                enlarge(2**28)
            else:
                place = job.run, int(200 + 8000 * share)
                limited = self.processes_of(job, folder, place, with_small_files)
                exit_codes(limited)
            self.counts["full disk"] += bool(self.expect(*FULL))
            self.complete(job, folder)

    def damaged_rows(self, job: Job, folder: Path) -> None:
        """Damage a row; the run refuses it, and goes on when it is removed."""
        place = Place(self.rng.randrange(800, 4000), 10**9)
        exit_codes(self.processes_of(job, folder, place))
        self.expect("gloo", "onnect")
        parts = [p for p in (folder / "parts").glob("*") if b"\n" in p.read_bytes()]
        if parts:
            part = self.rng.choice(parts)
            damage(part, self.rng)
            codes = exit_codes(self.processes_of(job, folder))
            refused = bool(self.expect("is damaged", "gloo", "onnect")) and any(codes)
            self.bad["errors"] += not refused
            self.counts["damaged rows"] += refused
            part.write_bytes(b"".join(filter(is_row, part.read_bytes().splitlines(1))))
        self.complete(job, folder)

    def two_at_once(self, job: Job, folder: Path) -> None:
        """Start two runs; one is refused, or it finds the other's result."""
        one, two = (self.processes_of(job, folder)[0] for _ in range(2))
        one.start()
        one.join(self.rng.uniform(0, self.seconds[job.name] / 4))
        two.start()
        two.join()
        one.join()
        refused = len(self.expect(REFUSED))
        self.bad["errors"] += sorted([one.exitcode, two.exitcode]) != [0, refused]
        self.counts["two runs at once, one refused"] += refused
        self.complete(job, folder)

    def round(self, job: Job, n_kills: int, other: str | None) -> None:
        """A run in a new folder, killed or disturbed until it is complete."""
        folder = self.root / "disk" / "run"
        single = job._replace(n_ranks=1)
        if other == "full disk":
            self.full_disk(single, folder)
        elif other == "damaged rows":
            self.damaged_rows(job if job.run is evaluate_and_die else JOBS[0], folder)
        elif other == "two runs at once":
            self.two_at_once(single, folder)
        else:
            while self.kills < n_kills and self.killed(job, folder):
                pass
            self.complete(job, folder)
        self.counts["rounds"] += 1

    @property
    def kills(self) -> int:
        return sum(self.counts[job.name] for job in JOBS)


def with_small_files(
    folder: Path, place: tuple[Callable[..., None], int], *arguments: Any
) -> None:
    """A run whose files may not grow beyond a number of bytes."""
    run, n_bytes = place
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))
    run(folder, None, *arguments)


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[int], None] | None]:
    """Function that sets the bytes of a file system at the folder; None without one."""

    folder.mkdir(exist_ok=True)

    def mount(options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        return not subprocess.run(command, capture_output=True).returncode

    if not mount("size=4k"):
        yield None
        return
    try:
        yield (
            lambda n_bytes: (
                None
                if mount(f"remount,size={n_bytes}")
                else sys.exit("the tmpfs could not be enlarged")
            )
        )
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def disk_use(folder: Path) -> int:
    """Bytes in whole pages, as on a tmpfs."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in files)


def damage(part: Path, rng: random.Random) -> None:
    """Write zeros into a line of a file, or cut it within."""
    lines = part.read_bytes().splitlines(keepends=True)
    whole = [i for i, line in enumerate(lines) if line.endswith(b"\n")]
    index = rng.choice(whole)
    line = lines[index]
    at = rng.randrange(1, len(line) - 1)
    zeros = bytes(min(40, len(line) - 1 - at))
    cut = line[:at] + zeros + line[at + len(zeros) :]
    lines[index] = cut if rng.random() < 0.5 else line[:at] + b"\n"
    part.write_bytes(b"".join(lines))


def is_row(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def doubled(folder: Path) -> int:
    """Rows that were written more than once."""
    lines = killed_worker.whole_lines(folder).elements()
    rows = [json.loads(line) for line in lines]
    keys = Counter((row["image"], row["method"], row["metric"]) for row in rows)
    return len(rows) - len(keys)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as root:
        runs = Runs(Path(root), arguments.seed)
        for job in JOBS:
            runs.undisturbed(job)
            runs.complete(job, Path(root) / "measured")
        n_others = 0
        while runs.kills < arguments.kills:
            job = JOBS[runs.counts["rounds"] % len(JOBS)]
            other = None
            if runs.counts["rounds"] % 2:
                other = OTHERS[n_others % len(OTHERS)]
                n_others += 1
            runs.round(job, arguments.kills, other)
            print(dict(runs.counts), dict(runs.bad), file=sys.stderr, flush=True)
        result = {"kills": runs.kills, **runs.counts, **runs.bad}
    result["seconds"] = round(time.perf_counter() - start)
    print(json.dumps(result))
    return int(any(runs.bad.values()))


if __name__ == "__main__":
    sys.exit(main())
