"""A run that is killed at any time and started again gives the same table."""

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from killed_worker import (
    Place,
    evaluate_and_die,
    files,
    small_evaluation,
    whole_lines,
)
from several_processes import exit_codes, quietly

from captum_ext._processes import only_writer
from captum_ext.cli import main
from captum_ext.evaluation.run_folder import Row

WORKER = Path(__file__).with_name("killed_worker.py")
N_KILLS = 20


@pytest.fixture(scope="module")
def processes():
    """Context of processes that start fast, forked from one with all imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["captum_ext.evaluation"])
    return context


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    with one_thread():
        small_evaluation(folder)
    return folder


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit PyTorch to one thread, as in the killed processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def start(processes, folder: Path, places: list[Place | None], meeting: Path):
    """Run one process per place and return their exit codes."""
    started = [
        processes.Process(
            target=evaluate_and_die,
            args=(folder, place, rank, len(places), meeting),
        )
        for rank, place in enumerate(places)
    ]
    return exit_codes(started)


@pytest.mark.parametrize("n_ranks", [1, 2])
def test_killed_at_random_places(n_ranks, processes, undisturbed, tmp_path):
    """Within rows, between them, and within images, maps and settings.

    A different number of processes completes the run.
    """
    rng = random.Random(n_ranks)
    folder = tmp_path / "run"
    for kill in range(N_KILLS):
        places = [Place(rng.randrange(300), rng.randrange(6)) for _ in range(n_ranks)]
        before = whole_lines(folder)
        codes = start(processes, folder, places, tmp_path / f"meeting-{kill}")
        assert -signal.SIGKILL in codes
        # Rows are never lost.
        assert not before - whole_lines(folder)
    assert not (folder / "results.csv").exists()
    others = [None] * (3 - n_ranks)
    assert not any(start(processes, folder, others, tmp_path / "last meeting"))
    assert files(folder) == files(undisturbed)
    # No row was computed twice.
    rows = [Row(**json.loads(line)) for line in whole_lines(folder).elements()]
    assert len(rows) == len({row.key for row in rows}) == 16 * 2 * 2


def test_killed_while_tables_are_written(processes, undisturbed, tmp_path):
    """At each of the files that are written after the last row."""
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    for path in folder.glob("*.csv"):
        path.unlink()
    for n_files in range(5):
        place = Place(10**9, n_files)
        codes = start(processes, folder, [place], tmp_path / "meeting")
        assert codes == [-signal.SIGKILL]
        assert not (folder / "results.csv").exists()
    assert start(processes, folder, [Place(0, 5)], tmp_path / "meeting") == [0]
    assert files(folder) == files(undisturbed)


@pytest.mark.parametrize("n_files", [0, 1, 2, 3, 4, 40, 82, 84])
def test_full_disk_ends_the_run_and_leaves_no_rows(
    n_files, undisturbed, tmp_path, monkeypatch
):
    """Settings, names, an image, an array, a drawn map and tables are not written."""
    folder, replace, left = tmp_path / "run", os.replace, n_files

    def replace_or_fail(*paths):
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(*paths)

    with one_thread():
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace_or_fail)
            with pytest.raises(OSError, match="No space left on device"):
                small_evaluation(folder)
        assert all(b'"error": null' in line for line in whole_lines(folder))
        small_evaluation(folder)
    assert files(folder) == files(undisturbed)


def test_second_run_is_refused_while_one_writes(processes, undisturbed, tmp_path):
    """By all its processes, and while only one process of the other is left."""
    folder = tmp_path / "run"
    with only_writer(folder):
        codes = [start_and_refuse(processes, folder, n, tmp_path) for n in (1, 2)]
    assert codes == [[1], [1, 1]]
    assert not (folder / "settings.json").exists()
    assert start(processes, folder, [None], tmp_path / "meeting") == [0]
    assert files(folder) == files(undisturbed)


def start_and_refuse(processes, folder: Path, n_ranks: int, root: Path):
    errors, meeting = root / f"errors-{n_ranks}", root / f"meeting-{n_ranks}"
    started = [
        processes.Process(
            target=quietly,
            args=(errors, evaluate_and_die, folder, None, rank, n_ranks, meeting),
        )
        for rank in range(n_ranks)
    ]
    codes = exit_codes(started)
    assert "to which no other run writes" in errors.read_text()
    return codes


# The command

ASKED = ["--model", "signs", "--dataset", "signs", "--limit", "24"]
ASKED += ["--methods", "pn-rise:n_masks=32,random"]
ASKED += ["--metrics", "insertion:n_steps=14,pointing-game"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    with one_thread():
        assert main(["evaluate", *ASKED, "-o", str(folder)]) == 0
    return folder


def test_command_is_killed_and_started_again(reference, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "captum_ext", "evaluate", *ASKED, "-o", folder]
    for _ in range(2):
        n_before = whole_lines(folder).total()
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        while whole_lines(folder).total() < n_before + 5 and process.poll() is None:
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert not (folder / "results.csv").exists()
    with one_thread():
        assert main(["evaluate", *ASKED, "-o", str(folder)]) == 0
    assert files(folder) == files(reference)
    assert set(whole_lines(folder).values()) == {1}


def test_killed_rank_fails_the_run_and_the_next_start_completes_it(reference, tmp_path):
    folder = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    evaluate = ["evaluate", *ASKED, "-o", str(folder)]
    options = {"env": ENVIRONMENT, "text": True, "capture_output": True}
    killed = subprocess.run([*torchrun, WORKER, "2500", *evaluate], **options)
    assert killed.returncode != 0 and "SIGKILL" in killed.stderr
    assert not (folder / "results.csv").exists()
    n_before = whole_lines(folder).total()
    assert n_before >= 2500 // 400
    completed = subprocess.run([*torchrun, "-m", "captum_ext", *evaluate], **options)
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.count("means over 24 images") == 1
    assert files(folder) == files(reference)
    assert set(whole_lines(folder).values()) == {1}
    names = {path.name.split("-")[1][0] for path in (folder / "parts").iterdir()}
    assert names == {"0", "1"}
