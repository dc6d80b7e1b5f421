"""Generated calls end in a right result or one sentence, and cover the public API."""

import importlib
import inspect
import re
from pathlib import Path

import pytest
import torch
from fuzz.calls import CALLS, EXCEPTIONS
from fuzz.verdict import check_call
from public_api import rooms

N_CALLS, N_PARTS = 2000, 4


def public_names() -> list[str]:
    """Public functions and classes, as "room.name"."""
    found = []
    for room in rooms():
        module = importlib.import_module(room)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isroutine(value):
                found.append(f"{room.removeprefix('captum_ext.')}.{name}")
    return found


def test_every_public_name_is_called_or_an_exception():
    names = public_names()
    excepted = {name for name in names if {name, name.split(".")[0]} & {*EXCEPTIONS}}
    assert {*names} - excepted == {*CALLS}
    used = {part for name in excepted for part in (name, name.split(".")[0])}
    assert {*EXCEPTIONS} <= used, "an exception without a name"


@pytest.mark.parametrize("name", CALLS)
def test_every_parameter_has_a_kind(name):
    call = CALLS[name]
    assert {*call.parameters()} <= {*call.kinds}
    assert {*call.given} <= {*call.parameters()}


@pytest.mark.parametrize("part", range(N_PARTS))
def test_generated_calls(part):
    """The faults of another seed: ``python -m tests.fuzz --seed 1``."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        n = N_CALLS // N_PARTS
        numbers = range(part * n, (part + 1) * n)
        faults = [fault for i in numbers if (fault := check_call(0, i))]
    finally:
        torch.set_num_threads(before)
    assert not faults, "\n".join(map(str, faults))


REPORTS = (Path(__file__).parent / "public_reports.md").read_text(encoding="utf-8")


def test_public_reports_name_existing_tests():
    rows = re.findall(r"^\| (https\S+) \| (.+) \| (\S+)::(\w+) \|$", REPORTS, re.M)
    assert len(rows) == REPORTS.count("\n| http") > 20
    assert len({link for link, *_ in rows}) == len(rows)
    for link, _, file, test in rows:
        assert re.fullmatch(
            r"https://github.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+", link
        )
        source = (Path(__file__).parent / file).read_text(encoding="utf-8")
        assert re.search(rf"^ *def {test}\(", source, re.M), (file, test)
