"""Notebooks under tutorials/: they run, and their stored outputs are clean."""

import importlib.util
import os
import re
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import captum_ext

FOLDER = Path(captum_ext.__file__).parent.parent / "tutorials"
PATHS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 500 * 1024

_spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
execute = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(execute)

each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def stored(path):
    return nbformat.read(path, as_version=4)


def outputs(notebook):
    """Return the kinds of outputs and the printed words of each code cell.

    Numbers are ignored: their last digits depend on the processor.
    """
    return [
        (
            [(o.output_type, sorted(o.get("data", {}))) for o in cell.outputs],
            [re.findall(r"[^\W\d_]+", o.get("text", "")) for o in cell.outputs],
        )
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_notebooks_are_numbered_from_1_to_10():
    assert [path.name[:2] for path in PATHS] == [f"{n:02}" for n in range(1, 11)]


@each_notebook
def test_notebook_runs_and_reproduces_its_outputs(path):
    """Offline, those on photographs print other words: they explain road signs."""
    fresh = execute.executed(path, offline=True)
    assert execute.problems(fresh) == []
    on_photographs = execute.OFFLINE in path.read_text()
    for new, old in zip(outputs(fresh), outputs(stored(path)), strict=True):
        assert new[0] == old[0]
        assert on_photographs or new == old


@pytest.mark.skipif(
    "CAPTUM_EXT_DATA" not in os.environ, reason="CAPTUM_EXT_DATA is not set"
)
def test_notebook_on_a_photograph_reproduces_its_outputs():
    path = FOLDER / "04_sharp_maps.ipynb"
    assert outputs(execute.executed(path)) == outputs(stored(path))


@each_notebook
def test_stored_notebook_is_complete_and_clean(path):
    notebook = stored(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert execute.problems(notebook) == []
    shown = {
        kind for kinds, _ in outputs(notebook) for _, data in kinds for kind in data
    }
    assert shown & {"image/jpeg", "text/html"}
    assert path.stat().st_size < LARGEST


@each_notebook
def test_stored_notebook_does_not_change_by_cleaning(path):
    """Ids, metadata and images do not depend on who executes the notebook."""
    notebook = stored(path)
    assert execute.cleaned(deepcopy(notebook)) == notebook
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


@each_notebook
def test_notebook_starts_with_a_question(path):
    first = stored(path).cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# .+\?\n\n\S", first.source)


@each_notebook
def test_links_between_notebooks_resolve(path):
    for cell in stored(path).cells:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", cell.source):
            assert (FOLDER / link).is_file(), link


@pytest.mark.parametrize(
    "output",
    [
        new_output("stream", name="stderr", text="careful"),
        new_output("error", ename="ValueError", evalue="no", traceback=[]),
        new_output("stream", name="stdout", text="read /home/me/file.csv"),
        new_output("stream", name="stdout", text="a FutureWarning: old"),
        new_output("execute_result", {"text/plain": "<object at 0x7f64af6e7130>"}),
    ],
    ids=["stderr", "error", "path", "warning", "address"],
)
def test_noise_in_an_output_is_a_problem(output):
    notebook = new_notebook(cells=[new_code_cell(outputs=[output])])
    assert len(execute.problems(execute.cleaned(notebook))) == 1


def test_ordinary_output_is_not_a_problem():
    text = "seeds 0/1: 0.3 a/b </td> of 1/2 https://captum.ai/api/ torch.Size([1, 3])"
    printed = new_output("stream", name="stdout", text=text)
    notebook = new_notebook(cells=[new_code_cell(outputs=[printed])])
    assert execute.problems(notebook) == []


def test_cell_ids_are_numbers():
    def fresh():
        return execute.cleaned(
            new_notebook(cells=[new_markdown_cell(), new_code_cell()])
        )

    assert fresh() == fresh()
    assert [cell.id for cell in fresh().cells] == ["cell-01", "cell-02"]


@pytest.mark.parametrize(
    "source, refusal",
    [
        ("1 / 0", CellExecutionError),
        ("import warnings; warnings.warn('careful')", SystemExit),
    ],
)
def test_notebook_that_fails_or_warns_is_not_changed(
    source, refusal, tmp_path, monkeypatch
):
    path = tmp_path / "01_broken.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), path)
    before = path.read_bytes()
    monkeypatch.setattr(execute, "FOLDER", tmp_path)
    monkeypatch.setattr("sys.argv", ["execute.py", "01"])
    with pytest.raises(refusal):
        execute.main()
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match="names such as 01_first_map, got 'nope'"):
        execute.notebooks(["01", "nope"])
