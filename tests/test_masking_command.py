"""Command captum-ext train: data sets of every format, resuming, errors."""

import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from captum_ext.cli import main
from captum_ext.masking import MaskingNetwork
from captum_ext.masking.checkpoints import load_file
from captum_ext.masking.mask_reports import MeanMasks, StepLog, mask_sheet

OWN = """
import torch
from captum_ext.zoo import Preprocessing, ZooModel

def gray(weights):
    model = torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2)
    )
    model.load_state_dict(torch.load(weights, weights_only=True))
    mean, std = (0.5,) * 3, (0.25,) * 3
    return ZooModel(
        model, Preprocessing.square(16, mean, std), ("dark", "light"), mean, std
    )
"""
TRAIN = ["train", "--model", "own.py:gray", "--weights", "own.pt", "--width", "8"]
TRAIN += ["--epochs", "2", "--batch-size", "4", "-o"]


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch) -> None:
    """Twelve images, dark and light, as arrays, as folders and as a ZIP file."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    weight = torch.tensor([[-9.0] * 3, [9.0] * 3])
    torch.save({"2.weight": weight, "2.bias": torch.zeros(2)}, "own.pt")
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 6)
    images = rng.integers(0, 128, (12, 16, 16, 3)) + 127 * labels[:, None, None, None]
    images = images.astype(np.uint8)
    np.savez("images.npz", images=images, labels=labels)
    with zipfile.ZipFile("images.zip", "w") as archive:
        for i, image in enumerate(images):
            name = f"{('dark', 'light')[labels[i]]}/{i:02}.png"
            path = Path("images", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
            archive.write(path, name)
    Path("text.zip").write_text("not an archive")


def weights(folder: str) -> dict[str, torch.Tensor]:
    return load_file(Path(folder, "network.pt"))["network"]


def test_formats_of_one_data_set_give_the_same_network(capsys):
    datasets = {
        "npz": "arrays:images.npz",
        "folders": "folders:images",
        "zip": "folders:images.zip",
    }
    for output, dataset in datasets.items():
        options = ["--dataset", dataset, "--validation", dataset]
        assert main([*TRAIN, output, *options]) == 0
    printed = capsys.readouterr().out
    assert printed.count("mean mask over 12 images") == 3
    expected = weights("npz")
    for folder in ("folders", "zip"):
        found = weights(folder)
        assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert len(pd.read_csv("npz/log.csv")) == 6
    assert len(pd.read_csv("npz/validation.csv")) == 1


def test_training_resumes_and_half_rounds_the_weights(capsys):
    arguments = ["--dataset", "arrays:images.npz", "--limit", "8"]
    assert main([*TRAIN, "out", *arguments]) == 0
    full = Path("out/network.pt").stat().st_size
    assert main([*TRAIN, "out", *arguments, "--half"]) == 0
    assert Path("out/network.pt").stat().st_size < 0.6 * full
    assert len(pd.read_csv("out/log.csv")) == 4
    assert MaskingNetwork.load("out/network.pt").n_classes == 2
    assert main([*TRAIN, "out", *arguments, "--seed", "1"]) == 2
    assert (
        "seed = 1 of the training, got a checkpoint with 0" in capsys.readouterr().err
    )


def test_training_starts_from_a_masking_network(capsys):
    """With a negligible learning rate, the weights stay those of the file."""
    start = MaskingNetwork(2, width=8, seed=7)
    start.save("start.pt")
    arguments = ["train", *TRAIN[1:5], *TRAIN[7:], "out"]
    arguments += ["--dataset", "arrays:images.npz", "--masking-network", "start.pt"]
    assert main([*arguments, "--learning-rate", "1e-12"]) == 0
    for key, value in start.state_dict().items():
        if "running" not in key and "tracked" not in key:
            torch.testing.assert_close(weights("out")[key], value)
    assert main([*arguments, "--width", "8"]) == 2
    assert "--width must be left out" in capsys.readouterr().err
    MaskingNetwork(3, width=8).save("start.pt")
    assert main(arguments) == 2
    assert "as many classes as the model, 2, got 3" in capsys.readouterr().err
    for wrong, words in (("none.pt", "existing file"), ("text.zip", "of another kind")):
        assert main([*arguments[:-1], wrong]) == 2
        error = capsys.readouterr().err
        assert "--masking-network must" in error and words in error


def test_distillation_computes_each_map_once(monkeypatch, capsys):
    """Without labels the predicted classes are explained; the black box may be any."""
    Path("unlabeled").mkdir()
    for path in Path("images").glob("*/*.png"):
        path.rename(Path("unlabeled", path.name))
    run = [*TRAIN, "out", "--dataset", "images:unlabeled", "--distill"]
    method = "pn-rise:n_masks=6:estimator=monte_carlo:grid_size=4"
    assert main([*run, method]) == 0
    maps = sorted(Path("out/maps").glob("*.png"))
    labels = [int(path.stem.rpartition("-")[2]) for path in maps]
    assert labels == [0] * 6 + [1] * 6
    for path in maps:
        assert np.asarray(Image.open(path)).max() == 255
    log = pd.read_csv("out/log.csv")
    assert (log["distillation"] > 0).all() and (log["preservation"] == 0).all()
    before, written = weights("out"), [path.stat().st_mtime_ns for path in maps]
    # As if the training had been killed while the maps were computed.
    maps[5].unlink()
    for name in ("checkpoint.pt", "checkpoint.previous.pt", "network.pt"):
        Path("out", name).unlink(missing_ok=True)
    assert main([*run, method]) == 0
    assert all(torch.equal(weights("out")[key], before[key]) for key in before)
    again = [path.stat().st_mtime_ns for path in maps]
    assert [a != b for a, b in zip(again, written)] == [i == 5 for i in range(12)]
    capsys.readouterr()
    for wrong, words in (
        ("rise:n_masks=6", "maps of the same arguments, with method {'use': 'rise',"),
        ("rise,pn-rise", "--distill must be one method"),
        ("risee", "--distill must be a known name (did you mean 'rise'"),
        ("masking-model", "must be a method without a masking network"),
    ):
        assert main([*run, wrong]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1, error


@pytest.mark.parametrize(
    "change, words",
    [
        (["--batch-size", "13"], "--batch-size must be"),
        (["--epochs", "0"], "--epochs must be"),
        (["--lambdas", "1,2,3,4"], "--lambdas must be left out with --distill"),
        (["--absent-weight", "2"], "--absent-weight must be left out with --distill"),
        (["--output", "own.py"], "--output must be a folder, got 'own.py'"),
        (["--distill", "Occlusion:sliding_window_shapes=[3]"], "--distill Occlusion: "),
    ],
)
def test_distillation_refuses_before_maps_are_computed(change, words, capsys):
    run = [*TRAIN, "out", "--dataset", "arrays:images.npz", "--distill", "rise"]
    assert main([*run, *change]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1, error
    assert not list(Path().glob("out/maps/*.png"))


def test_distillation_names_its_layers_and_can_be_corrected(capsys):
    """A method that failed leaves a folder for another one."""
    run = [
        "train",
        "--model",
        "signs",
        "--dataset",
        "signs",
        "--limit",
        "4",
        "-o",
        "out",
    ]
    run += ["--width", "8", "--epochs", "1", "--batch-size", "4", "--distill"]
    assert main([*run, "rise:n_masks=1"]) == 2
    assert main([*run, "cameras"]) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first == "layers for CAMERAS: features.2 and features"


def test_signs_are_validated_on_held_out_scenes(capsys):
    """Validation uses scenes that training does not use."""
    arguments = ["train", "--model", "signs", "--dataset", "signs", "--limit", "4"]
    arguments += ["--width", "8", "--epochs", "1", "--batch-size", "4", "-o", "out"]
    assert main([*arguments, "--validation-limit", "3"]) == 0
    assert "mean mask over 3 images" in capsys.readouterr().out
    assert [path.name for path in Path("out/masks").iterdir()] == ["step-000001.png"]


@pytest.mark.parametrize(
    "right, absent, words",
    [
        (0.28, 0.02, "class-specific (ratio 0.07)"),
        (
            0.28,
            0.28,
            "not class-specific (ratio 1.00), train longer or increase the sel",
        ),
        (0.28, 0.42, "not class-specific (ratio 1.50), train longer"),
        (0.28, 0.196, "partly class-specific (ratio 0.70), train longer"),
        (0.0, 0.0, "masks are empty, decrease the weight of the area"),
        (0.999, 0.999, "masks cover the image, increase the weight of the area"),
    ],
)
def test_verdict_on_mean_masks(right, absent, words):
    assert MeanMasks(right, absent).verdict.startswith(words)


def test_closing_line_has_the_verdict(monkeypatch, capsys):
    monkeypatch.setattr(
        "captum_ext.commands.train.mean_masks", lambda *_: MeanMasks(0.28, 0.28)
    )
    data = ["--dataset", "arrays:images.npz", "--validation", "arrays:images.npz"]
    assert main([*TRAIN, "out", *data]) == 0
    line = capsys.readouterr().out.splitlines()[-2]
    assert line.startswith("mean mask over 12 images: 0.2800 for their own class, 0.28")
    assert "absent classes: not class-specific" in line


def test_interrupted_training_keeps_its_checkpoint_and_resumes(monkeypatch, capsys):
    class Interrupted(StepLog):
        def append(self, row):
            super().append(row)
            if row["step"] == 2:
                raise KeyboardInterrupt

    arguments = [*TRAIN, "out", "--dataset", "arrays:images.npz"]
    arguments += ["--checkpoint-every", "2"]
    with monkeypatch.context() as patch:
        patch.setattr("captum_ext.masking.monitor.StepLog", Interrupted)
        assert main(arguments) == 130
    captured = capsys.readouterr().err
    assert captured == "captum-ext: interrupted; files that were written stay\n"
    assert main(arguments) == 0
    assert capsys.readouterr().err == "resumes: 2 of 6 steps done\n"
    assert pd.read_csv("out/log.csv")["step"].tolist() == [*range(6)]


class Events:
    """TensorBoard's writer, which keeps what it is told."""

    written: list = []

    def __init__(self, folder, purge_step):
        self.written.append(("open", folder, purge_step))

    def add_scalar(self, name, value, step):
        self.written.append((name, step, value))

    def add_image(self, name, image, step, dataformats):
        assert dataformats == "HWC" and image.dtype == np.uint8
        self.written.append((name, step, image.shape))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.written.append(("close",))


def test_tensorboard_gets_terms_means_and_masks(monkeypatch):
    events = SimpleNamespace(SummaryWriter=Events)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", events)
    monkeypatch.setattr(Events, "written", [])
    data = ["--dataset", "arrays:images.npz", "--validation", "arrays:images.npz"]
    assert main([*TRAIN, "out", *data, "--tensorboard"]) == 0
    first, *rows, last = Events.written
    assert first == ("open", "out/tensorboard", 0) and last == ("close",)
    log, means = pd.read_csv("out/log.csv"), pd.read_csv("out/validation.csv")
    losses = [value for name, _, value in rows if name == "training/loss"]
    np.testing.assert_allclose(losses, log["loss"])
    right = [(step, value) for name, step, value in rows if name == "mean_mask/right"]
    assert right == [(6, pytest.approx(means["right"][0]))]
    [(step, shape)] = [(step, shape) for name, step, shape in rows if name == "masks"]
    with Image.open("out/masks/step-000006.png") as sheet:
        assert step == 6 and shape == (sheet.height, sheet.width, 3)


def test_missing_tensorboard_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    arguments = [*TRAIN, "out", "--dataset", "arrays:images.npz", "--tensorboard"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "run: pip install '.[tensorboard]'" in error and error.count("\n") == 1


def test_sheet_has_a_title_above_each_column():
    grid = torch.ones(3, 200 + 8, 8 * 100 + 4)
    sheet = np.asarray(mask_sheet(grid, 4))
    assert sheet.shape[1] == grid.shape[2] and sheet.shape[0] > grid.shape[1]
    above = sheet[: sheet.shape[0] - grid.shape[1]]
    for column in np.split(above[:, 4:], 8, axis=1):
        # A gap between titles.
        assert column.min() < 128 and column[:, -4:].min() == 255
    one = np.asarray(mask_sheet(grid[:, :, :404], 1))
    np.testing.assert_array_equal(one[: len(above)], above[:, :404])


@pytest.mark.parametrize(
    "change, words",
    [
        ({"--dataset": "magic"}, "--dataset must be one of signs"),
        ({"--validation": "magic"}, "--validation must be one of signs"),
        ({"--dataset": "images:images/dark"}, "--dataset must have labels"),
        ({"--validation": "images:images/dark"}, "--validation must have labels"),
        ({"--dataset": "folders:text.zip"}, "dataset must be a ZIP file"),
        ({"--dataset": "arrays:own.pt"}, "dataset must be an .npz file"),
        (
            {"--dataset": "signs", "--limit": "4"},
            "16 classes, such as --model signs, got",
        ),
        ({"--limit": "0"}, "--limit"),
        (
            {"--validation": "arrays:images.npz", "--validation-limit": "0"},
            "--validation-limit must be at least 1, got 0",
        ),
        ({"--lambdas": "1,2"}, "--lambdas must be four numbers"),
        ({"--selection-weight": "-1"}, "--selection-weight must be a number of at"),
        ({"--encoder": "nothing"}, "nothing"),
        ({"--encoder-weights": "own.pt"}, "--encoder-weights must be left out with"),
        ({"--encoder": "resnet18", "--width": "8"}, "--width must be left out with an"),
        ({"--masking-network": "own.pt", "--encoder": "small"}, "--encoder must be"),
        ({"--masking-network": "own.pt", "--width": "8"}, "--width must be left out"),
        ({"--validation-limit": "9"}, "--validation-limit must be left out without"),
        ({"--batch-size": "13"}, "at least batch_size = 13 images, got 12"),
        ({"--model": "own.py:nothing"}, "a function of own.py"),
    ],
    ids=str,
)
def test_errors_are_one_line(change, words, capsys):
    options = {"--dataset": "arrays:images.npz", **change}
    pairs = [word for pair in options.items() for word in pair]
    # Without --width.
    assert main([*TRAIN[:5], *TRAIN[7:], "out", *pairs]) == 2
    error = capsys.readouterr().err
    assert error.startswith("captum-ext: error: ") and error.count("\n") == 1
    assert words in error and not Path("out/network.pt").exists()
