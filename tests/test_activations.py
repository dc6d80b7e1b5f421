"""Probabilities of a classifier: softmax, sigmoid of one or several outputs, none."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from captum_ext.cli import main
from captum_ext.datasets import Dataset, Example
from captum_ext.evaluation import evaluate
from captum_ext.masking import SaliencyObjective
from captum_ext.masking.checkpoints import load_file
from captum_ext.methods import METHODS
from captum_ext.subject import build_subject
from captum_ext.zoo import FrameAverage, Preprocessing, ZooModel

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
MEAN, STD = (0.5,) * 3, (0.25,) * 3


class LeftMinusRight(nn.Module):
    """One logit: the mean of the left half minus that of the right half."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        halves = x.chunk(2, -1)
        means = [half.mean((1, 2, 3)) for half in halves]
        return self.scale * (means[0] - means[1])[:, None]


def one_output(names: tuple[str, ...] = ("lit",), **kwargs) -> ZooModel:
    preprocess = Preprocessing.square(16, MEAN, STD)
    model = LeftMinusRight().eval()
    return ZooModel(model, preprocess, names, MEAN, STD, **kwargs)


def entry(n: int, activation: str) -> ZooModel:
    names = tuple(map(str, range(n)))
    return ZooModel(nn.Identity(), None, names, MEAN, STD, activation=activation)


@pytest.mark.parametrize(
    "activation, expected",
    [
        ("softmax", LOGITS.exp() / LOGITS.exp().sum(1, keepdim=True)),
        ("sigmoid", 1 / (1 + (-LOGITS).exp())),
        ("identity", LOGITS),
    ],
)
def test_probabilities_of_several_outputs(activation, expected):
    model = entry(3, activation)
    torch.testing.assert_close(model.probabilities(LOGITS), expected)
    torch.testing.assert_close(model.probabilities({"logits": LOGITS}), expected)
    assert model.applied_activation == activation


def test_one_output_has_a_sigmoid():
    """The softmax of one number is 1, whatever the image."""
    one = LOGITS[:, :1]
    for activation in ("softmax", "sigmoid"):
        model = entry(1, activation)
        assert model.applied_activation == "sigmoid"
        for logits in (one, one[:, 0]):
            torch.testing.assert_close(model.probabilities(logits), one.sigmoid())
    torch.testing.assert_close(entry(1, "identity").probabilities(one), one)


@pytest.mark.parametrize("n, activation", [(2, "softmax"), (4, "sigmoid")])
def test_one_logit_per_class_name(n, activation):
    with pytest.raises(ValueError, match=rf"logits \(B, {n}\), .* got shape \(2, 3\)"):
        entry(n, activation).probabilities(LOGITS)


def test_unknown_activation():
    with pytest.raises(ValueError, match="activation must be one of 'softmax'"):
        entry(3, "relu").probabilities(LOGITS)


@pytest.mark.parametrize("method", ["pn-rise", "occlusion", "integrated-gradients"])
def test_map_of_one_output_has_the_right_signs(method):
    """The left half supports the class, the right half contradicts it."""
    image = torch.ones(3, 16, 16)
    image[:, ::4, ::4] = 2.0
    subject = build_subject(one_output(), image)
    assert subject.target == 0 and subject.class_probabilities.tolist() == [0.5]
    maps = METHODS[method].attribute(subject)[0].mean(0)
    assert maps[:, :6].mean() > 1e-4 and maps[:, 10:].mean() < -1e-4


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "identity"])
def test_video_is_classified_by_the_mean_of_its_frames(activation):
    frames = torch.tensor([[1.0, 0.2, 0.5], [0.3, 2.0, 0.1]])
    model = entry(3, activation)

    class PerFrame(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images[:, :, 0, 0]

    video = frames.T[None, :, :, None, None]
    average = FrameAverage(PerFrame(), activation)
    expected = model.probabilities(frames).mean(0)
    torch.testing.assert_close(model.probabilities(average(video))[0], expected)


@pytest.mark.parametrize("model", [nn.Flatten(), nn.Flatten(0)], ids=["B1", "B"])
def test_mean_of_frames_that_are_certain_is_finite(model):
    average = FrameAverage(model, "sigmoid")
    video = torch.tensor([200.0, 200.0, -3.0, 3.0]).view(2, 1, 2, 1, 1)
    assert average(video).flatten().tolist() == pytest.approx([200, 0], abs=1e-5)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "identity"])
def test_objective_uses_the_probability_of_the_class(activation):
    outputs = torch.tensor([[0.2, 0.7, 0.4], [0.6, 0.3, 0.1]])
    masks = torch.full((1, 1, 4, 4), 0.5)
    terms = SaliencyObjective(activation=activation)(
        lambda images: {"logits": outputs},
        torch.rand(1, 3, 4, 4),
        masks,
        torch.tensor([1]),
        [torch.Generator().manual_seed(0)],
    )
    kept, removed = entry(3, activation).probabilities(outputs)[:, 1].tolist()
    assert terms.preservation.item() == pytest.approx(-math.log(kept))
    assert terms.destruction.item() == pytest.approx(5 * removed**0.3)


def test_metrics_use_the_probability_of_one_output(tmp_path):
    image = Image.new("RGB", (16, 16), "white")
    image.paste("black", (8, 0, 16, 16))
    dataset = Dataset("here", (Example("half", lambda: image, (0,)),))
    metrics = "insertion:n_steps=1,deletion:n_steps=1"
    found = evaluate(
        dataset, one_output(), "integrated-gradients", metrics, tmp_path / "out"
    )
    assert found.settings["model"]["activation"] == "sigmoid"
    # White and black are 2 and -2 after normalization; the baseline is zero.
    area = (1 / (1 + math.exp(-4)) + 0.5) / 2
    assert found.table["value"].tolist() == pytest.approx([area, area], abs=1e-6)


OWN = """
import torch

from captum_ext.zoo import Preprocessing, ZooModel

def model(weights):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, int(weights)))
    torch.nn.init.constant_(net[1].weight[:1], 2 / 768)
    torch.nn.init.constant_(net[1].bias[:1], -1)
    names = tuple("abc"[:int(weights)])
    mean, std = (0.5,) * 3, (0.25,) * 3
    preprocess = Preprocessing.square(16, mean, std)
    activation = "softmax" if int(weights) == 1 else "sigmoid"
    return ZooModel(net, preprocess, names, mean, std, activation=activation)
"""


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    Image.new("RGB", (16, 16), "white").save("white.png")


@pytest.mark.parametrize("method", ["pn-rise", "gradient", "rise"])
def test_explain_one_output(method, workplace, capsys):
    arguments = ["explain", "white.png", "--model", "own.py:model", "--weights", "1"]
    arguments += ["--method", method, "-o", "out.png", "--save-map", "map.npy"]
    assert main(arguments) == 0
    # The logit of a white image, 2 after normalization, is 3; that of zero is -1.
    printed = "class 0, a: probability 0.953 (activation: sigmoid)"
    assert printed in capsys.readouterr().out
    maps = np.load("map.npy")
    expected = {
        "pn-rise": (1 / (1 + math.exp(-3)) - 1 / (1 + math.exp(1))) / 768,
        "gradient": 2 / 768,
        "rise": None,
    }[method]
    if expected is None:
        assert maps.min() > 0.5
    else:
        assert maps.mean() == pytest.approx(expected, rel=1e-4) and maps.min() > 0


def test_softmax_is_not_named(tmp_path, capsys):
    Image.new("RGB", (96, 96)).save(tmp_path / "black.png")
    arguments = ["explain", str(tmp_path / "black.png"), "--model", "signs"]
    arguments += ["--method", "gradient", "-o", str(tmp_path / "out.png")]
    assert main(arguments) == 0
    assert "activation" not in capsys.readouterr().out


def test_training_uses_the_activation_of_the_model(workplace, capsys):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (4, 16, 16, 3)).astype(np.uint8)
    np.savez("images.npz", images=images, labels=np.arange(4) % 3)
    arguments = ["train", "--model", "own.py:model", "--weights", "3", "--width", "8"]
    arguments += ["--epochs", "1", "--batch-size", "4", "-o", "out"]
    assert main([*arguments, "--dataset", "arrays:images.npz"]) == 0
    assert "activation: sigmoid" in capsys.readouterr().out
    settings = load_file(Path("out", "checkpoint.pt"))["settings"]
    assert settings["objective"]["activation"] == "sigmoid"
