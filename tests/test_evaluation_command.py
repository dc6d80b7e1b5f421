"""The command captum-ext evaluate: options, settings file, and missing packages."""

import importlib
import sys
from dataclasses import fields
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch

from captum_ext.cli import main
from captum_ext.datasets import read_signs
from captum_ext.evaluation import COMPARED, evaluate, read_results
from captum_ext.evaluation.options import EvaluationOptions
from captum_ext.evaluation.run_folder import RowWriter
from captum_ext.masking import MaskingNetwork

QUICK = ["--model", "signs", "--metrics", "localization-error", "-o", "out"]


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        MaskingNetwork(16, width=8, seed=seed).save(f"network-{seed}.pt")
    return tmp_path


def write_arrays(path: str, n: int = 2) -> None:
    examples = read_signs(n).examples
    np.savez(
        path,
        images=np.stack([np.asarray(example.read()) for example in examples]),
        labels=[example.labels[0] for example in examples],
        boxes=[example.boxes[0].edges for example in examples],
    )


def test_masking_network_of_the_settings_file_is_a_setting(capsys):
    settings = 'dataset = "signs"\nlimit = 1\nmethods = "masking-model"\n'
    settings += 'masking_network = "network-0.pt"\n'
    Path("run.toml").write_text(settings)
    words = ["evaluate", "--settings", "run.toml", *QUICK]
    assert main(words) == 0
    first = Path("out/results.csv").read_bytes()
    Path("network-0.pt").rename("moved.pt")
    assert main([*words, "--masking-network", "moved.pt"]) == 0
    assert Path("out/results.csv").read_bytes() == first
    assert main([*words, "--masking-network", "network-1.pt"]) == 2
    assert "masking_network.sha256" in capsys.readouterr().err


def test_methods_are_added_beside_a_masking_network(capsys):
    """The network is that of all methods of the folder, not only of the new ones."""
    words = ["evaluate", "--dataset", "signs", "--limit", "1", *QUICK]
    network = ["--masking-network", "network-0.pt"]
    assert main([*words, "--methods", "random", *network]) == 2
    error = capsys.readouterr().err
    assert "--masking-network must be used with masking-model, got 'random'" in error
    assert main([*words, "--methods", "random", "--layer", "features"]) == 2
    assert "--layer must be used with cameras or" in capsys.readouterr().err
    assert main([*words, "--methods", "masking-model", *network]) == 0
    assert main([*words, "--methods", "random", *network]) == 0
    assert [*read_results("out").settings["methods"]] == ["masking-model", "random"]


def test_signs_have_a_built_in_masking_network():
    words = ["--dataset", "signs", "--limit", "1", "--methods", "masking-model"]
    assert main(["evaluate", *words, *QUICK]) == 0
    assert read_results("out").table["value"].notna().all()


def test_arrays_are_evaluated_with_their_boxes():
    write_arrays("scenes.npz")
    boxes = ["--methods", "center-box,max-box"]
    assert main(["evaluate", "--dataset", "arrays:scenes.npz", *boxes, *QUICK]) == 0
    words = ["evaluate", "--dataset", "signs", "--limit", "2", *boxes, *QUICK[:-1]]
    assert main([*words, "signs"]) == 0
    arrays, signs = (read_results(folder).table for folder in ("out", "signs"))
    assert arrays["value"].tolist() == signs["value"].tolist()
    assert arrays["probability"].tolist() == signs["probability"].tolist()


def test_function_and_command_share_options_and_defaults():
    parameters = signature(evaluate).parameters
    for field in fields(EvaluationOptions):
        assert parameters[field.name].default == field.default


def test_options_override_the_settings_file():
    Path("run.toml").write_text(
        'dataset = "signs"\nlimit = 1\nmethods = "random"\nmetrics = "insertion"\n'
        'model = "signs"\nseed = 3\nonly-correct = true\noutput = "other"\n'
    )
    assert main(["evaluate", "--settings", "run.toml", "--seed", "4", *QUICK]) == 0
    settings = read_results("out").settings
    assert settings["seed"] == 4 and settings["only_correct"]
    assert [*settings["metrics"]] == ["localization-error"]
    assert settings["dataset"]["images"] == 1 and not Path("other").exists()


def test_help_lists_options_formats_methods_and_metrics(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["evaluate", "--help"])
    assert exit.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in (
        "--perturbations-per-eval N images per call of the model (default: 4",
        "--target {label,top1} explain",
        "--seed N seed of all random numbers (default: 0)",
        "--only-correct leave out misclassified images --",
        "--model NAME|FILE.py:FUNCTION",
        "voc:FOLDER Pascal VOC's XML",
        f"pn-rise {COMPARED['pn-rise'].summary}",
        "deletion how fast the score falls",
    ):
        assert words in text


@pytest.fixture
def without_package(monkeypatch):
    """Hides packages; modules of this one are imported anew, for the test only."""

    def ours() -> dict[str, object]:
        return {n: m for n, m in sys.modules.items() if n.split(".")[0] == "captum_ext"}

    def hide(*names: str) -> None:
        for name in ours():
            del sys.modules[name]
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)

    before = ours()
    yield hide
    for name in ours():
        del sys.modules[name]
    sys.modules.update(before)


@pytest.mark.parametrize(
    "module, package",
    [
        ("captum_ext.evaluation", "pandas"),
        ("captum_ext.report", "pandas"),
        ("captum_ext.report", "jinja2"),
    ],
)
def test_missing_package_names_the_extra(module, package, without_package):
    without_package(package)
    message = rf"^{package} is not installed.*'\.\[evaluation\]'$"
    with pytest.raises(ModuleNotFoundError, match=message):
        importlib.import_module(module)


@pytest.mark.parametrize(
    "read, package", [("read_boxes", "pandas"), ("read_coco", "pycocotools")]
)
def test_reader_without_its_package_names_the_extra(read, package, without_package):
    """The others work without it."""
    Path("images").mkdir()
    Path("boxes").write_text("")
    without_package(package, f"{package}.coco")
    datasets = importlib.import_module("captum_ext.datasets")
    assert len(datasets.read_signs(2).examples) == 2
    arguments = ["boxes", *([["cat"]] if read == "read_coco" else [])]
    with pytest.raises(ModuleNotFoundError, match=r"\.\[evaluation\]"):
        getattr(datasets, read)(*arguments)


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "--dataset", "signs", *QUICK],
        ["evaluate", "--help"],
        ["report", "out"],
    ],
    ids=" ".join,
)
def test_command_without_pandas_is_one_line(command, without_package, capsys):
    without_package("pandas")
    assert importlib.import_module("captum_ext.cli").main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("captum-ext: error: pandas is not installed")
    assert "run: pip install '.[evaluation]'" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "change, words",
    [
        ({"--dataset": "magic"}, "--dataset must be one of signs, images:FOLDER"),
        ({"--dataset": "arrays:none.npz"}, "none.npz"),
        ({"--dataset": "arrays:text.npz"}, "images (N, H, W, 3)"),
        ({"--dataset": "folders:text.zip"}, "ZIP file"),
        ({"--classes": "map.txt"}, "--classes must go with data sets among folders"),
        ({"--images": "."}, "--images must go with data sets among boxes, coco"),
        ({"--limit": "0"}, "--limit"),
        ({"--settings": "run.toml"}, "masking_network as str"),
        ({"--model": "own.py:load"}, "of an existing file"),
        (
            {"--methods": "masking-model", "--model": "resnet5000"},
            "--masking-network must be a file that captum-ext train wrote",
        ),
        (
            {"--methods": "borex:prior=masking-model", "--model": "resnet5000"},
            "--masking-network must be a file that captum-ext train wrote",
        ),
        (
            {"--methods": "masking-model", "--masking-network": "text.npz"},
            "--masking-network must be a complete file",
        ),
        (
            {"--methods": "masking-model", "--masking-network": "three.pt"},
            "as many classes as the model, 16, got 3",
        ),
    ],
    ids=str,
)
def test_errors_are_one_line(change, words, capsys):
    for name in ("text.npz", "text.zip"):
        Path(name).write_text("something else")
    Path("run.toml").write_text("masking_network = 3")
    MaskingNetwork(3, width=8).save("three.pt")
    options = {"--dataset": "signs", "--limit": "1", "--methods": "random"}
    options |= {"--model": "signs"} | change
    pairs = [word for pair in options.items() for word in pair]
    calls = []
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda *call: calls.append(call)
    )
    try:
        assert main(["evaluate", *pairs, "-o", "out"]) == 2
    finally:
        hook.remove()
    error = capsys.readouterr().err
    assert error.startswith("captum-ext: error: ") and error.count("\n") == 1
    assert words in error and not calls and not Path("out").exists()


def test_interrupted_run_keeps_its_rows_and_resumes(monkeypatch, capsys):
    """Of three images, the second is interrupted after its first row."""
    words = ["--dataset", "signs", "--limit", "3", "--methods", "random,center-box"]
    append, written = RowWriter.append, []

    def interrupted(writer, row):
        append(writer, row)
        written.append(row)
        if len(written) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RowWriter, "append", interrupted)
        assert main(["evaluate", *words, *QUICK]) == 130
    error = capsys.readouterr().err
    assert error == "captum-ext: interrupted; files that were written stay\n"
    assert main(["evaluate", *words, *QUICK]) == 0
    assert capsys.readouterr().err == "resumes: 1 of 3 images done\n"
    table = read_results("out").table
    assert len(table) == 6 and table["value"][:3].tolist() == [r.value for r in written]


def test_device_is_that_of_the_run(capsys):
    words = ["--dataset", "signs", "--limit", "1", "--methods", "random"]
    assert main(["evaluate", *words, *QUICK, "--device", "cpu"]) == 0
    assert read_results("out").settings["device"] == "cpu"
    assert repr(read_results("out")) == "Results(1 image: random by localization-error)"
    assert main(["evaluate", *words, *QUICK, "--device", "qpu"]) == 2
    assert "--device must be a device that PyTorch has here" in capsys.readouterr().err
