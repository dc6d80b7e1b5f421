"""The command captum-ext evaluate: what is asked by words, by a file, and of files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from captum_ext.cli import main
from captum_ext.datasets import read_signs
from captum_ext.evaluation import read_results
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


def test_a_masking_network_is_named_in_the_settings_file_and_counts(capsys):
    settings = 'dataset = "signs"\nlimit = 1\nmethods = "masking-model"\n'
    settings += 'masking_network = "network-0.pt"\n'
    Path("run.toml").write_text(settings)
    asked = ["evaluate", "--settings", "run.toml", *QUICK]
    assert main(asked) == 0
    first = Path("out/results.csv").read_bytes()
    Path("network-0.pt").rename("moved.pt")
    assert main([*asked, "--masking-network", "moved.pt"]) == 0
    assert Path("out/results.csv").read_bytes() == first
    assert main([*asked, "--masking-network", "network-1.pt"]) == 2
    assert "masking_network.sha256" in capsys.readouterr().err


def test_masks_of_the_signs_are_built_in():
    asked = ["--dataset", "signs", "--limit", "1", "--methods", "masking-model"]
    assert main(["evaluate", *asked, *QUICK]) == 0
    assert read_results("out").table["value"].notna().all()


def test_arrays_are_evaluated_with_their_boxes():
    write_arrays("scenes.npz")
    boxes = ["--methods", "center-box,max-box"]
    assert main(["evaluate", "--dataset", "arrays:scenes.npz", *boxes, *QUICK]) == 0
    asked = ["evaluate", "--dataset", "signs", "--limit", "2", *boxes, *QUICK[:-1]]
    assert main([*asked, "signs"]) == 0
    arrays, signs = (read_results(folder).table for folder in ("out", "signs"))
    assert arrays["value"].tolist() == signs["value"].tolist()
    assert arrays["probability"].tolist() == signs["probability"].tolist()


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
            "--masking-network must be a file",
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
