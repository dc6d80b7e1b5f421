"""Progress without a terminal: lines at most every ten seconds."""

import io

import pytest
from tqdm.auto import tqdm

from captum_ext._progress import LineProgress, print_resumed, progress


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("captum_ext._progress.time.monotonic", lambda: now[0])
    return now


def test_a_line_every_ten_seconds(clock, capsys):
    for _ in progress(range(6), desc="images"):
        clock[0] += 4
    # After 4, 8, 12, ..., 24 seconds: 12 and 24 are ten seconds after the last line.
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["images: 3 of 6, 12 s", "images: 6 of 6, 24 s"]


def test_a_short_run_prints_nothing(clock, capsys):
    with progress(desc="masks", total=100) as bar:
        clock[0] = 9.9
        bar.update(100)
    assert capsys.readouterr().err == ""


def test_a_resumed_run_counts_what_is_done(clock, capsys):
    with progress(desc="training", total=40, initial=12) as bar:
        clock[0] = 10
        bar.set_postfix({"loss": "0.5"})
        bar.update()
    print_resumed(12, 40, "steps")
    print_resumed(0, 40, "steps")
    assert capsys.readouterr().err.splitlines() == [
        "training: 13 of 40, 10 s, loss=0.5",
        "resumes: 12 of 40 steps done",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_the_bar_of_captum(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    bar = progress(range(3), desc="images")
    assert isinstance(bar, tqdm)
    assert list(bar) == [0, 1, 2] and "3/3" in terminal.getvalue()


def test_nothing_is_shown_unless_it_is_asked_for(capsys):
    assert not isinstance(progress(range(3), desc="images", show=False), LineProgress)
    assert list(progress(range(3), desc="images", show=False)) == [0, 1, 2]
    assert capsys.readouterr().err == ""
