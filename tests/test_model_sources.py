"""Models of timm, Hugging Face and ONNX, black boxes, and models of any channels."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Occlusion, Saliency
from PIL import Image
from torch import Tensor, nn
from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

from captum_ext._extras import MissingExtraError
from captum_ext.attr import PNRISE
from captum_ext.cli import main
from captum_ext.datasets import read_signs
from captum_ext.evaluation import evaluate, read_results
from captum_ext.masking import MaskingNetwork
from captum_ext.methods import METHODS
from captum_ext.subject import build_subject
from captum_ext.zoo import (
    BlackBox,
    BlackBoxError,
    BoxPreprocessing,
    Preprocessing,
    ZooModel,
    load,
    sign_scene,
    sign_video,
)
from captum_ext.zoo.class_names import default_class_names


def ramps(width: int = 90, height: int = 60) -> Image.Image:
    """Image whose red and green are the column and the row in thirds of a byte."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([2 * x, 2 * y, np.full_like(x, 99)], -1)
    return Image.fromarray(pixels.astype(np.uint8))


def assert_boxes_follow_the_pixels(entry: ZooModel) -> None:
    """The box of a rectangle is where preprocessing shows the rectangle's colors."""
    assert isinstance(entry.preprocess, BoxPreprocessing)
    edges = torch.tensor([[30.0, 15.0, 60.0, 45.0]])
    (box,) = entry.preprocess.boxes(edges, (60, 90)).tolist()
    seen = entry.denormalize(entry.preprocess(ramps())) * 255 / 2
    x0, y0, x1, y1 = box
    rows, columns = seen.shape[1:]
    row, column = int((y0 + y1) / 2), int((x0 + x1) / 2)
    # A pixel's center is at 0.5; interpolation is linear in a ramp.
    for at, low, high, start, stop, values in (
        (columns, x0, x1, 30, 60, seen[0, row]),
        (rows, y0, y1, 15, 45, seen[1, :, column]),
    ):
        inside = range(int(low) + 2, min(int(high) - 2, at))
        assert len(inside) > 3
        for i in inside:
            share = (i + 0.5 - low) / (high - low)
            expected = start + share * (stop - start) - 0.5
            assert abs(float(values[i]) - expected) < 0.6


# timm


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm", reason="the extra timm is not installed")


@pytest.mark.parametrize("n_classes", [3, 1000])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_timm_with_weights_from_a_file(timm, n_classes, suffix, tmp_path) -> None:
    made = timm.create_model("vit_tiny_patch16_224", num_classes=n_classes).eval()
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save(made.state_dict(), file)
    else:
        from safetensors.torch import save_file

        save_file(made.state_dict(), file)
    before = torch.get_rng_state()
    entry = load("timm:vit_tiny_patch16_224", file)
    assert torch.equal(torch.get_rng_state(), before)
    assert entry.mean == entry.std == (0.5,) * 3 and not entry.model.training
    assert entry.class_names == default_class_names(n_classes)
    assert entry.activation == "softmax"
    x = entry.preprocess(Image.new("L", (300, 250)))[None]
    assert x.shape == (1, 3, 224, 224) and x.unique().tolist() == [-1]
    with torch.no_grad():
        assert torch.equal(entry.model(x), made(x))
    assert_boxes_follow_the_pixels(entry)


def test_timm_of_one_output_means_sigmoid(timm, tmp_path) -> None:
    state = timm.create_model("mobilenetv3_small_050", num_classes=1).state_dict()
    torch.save(state, tmp_path / "weights.pt")
    entry = load("timm:mobilenetv3_small_050", tmp_path / "weights.pt")
    assert entry.applied_activation == "sigmoid" and entry.class_names == ("class 0",)


def test_timm_reads_a_folder_with_labels(timm, tmp_path) -> None:
    """A folder as timm saves models for the hub, with preprocessing of its own."""
    made = timm.create_model("resnet10t", num_classes=2)
    made.pretrained_cfg |= {"crop_pct": 1.0, "crop_mode": "squash"}
    timm.models.save_for_hf(
        made, tmp_path, model_config={"label_names": ["cat", "dog"]}
    )
    entry = load(f"timm:local-dir:{tmp_path}")
    assert entry.class_names == ("cat", "dog")
    assert torch.equal(
        entry.model.state_dict()["fc.bias"], made.state_dict()["fc.bias"]
    )
    assert_boxes_follow_the_pixels(entry)


def test_timm_with_another_geometry_has_no_boxes(timm, tmp_path) -> None:
    made = timm.create_model("resnet10t", num_classes=2)
    made.pretrained_cfg |= {"crop_mode": "border"}
    timm.models.save_for_hf(made, tmp_path)
    entry = load(f"timm:local-dir:{tmp_path}")
    assert not isinstance(entry.preprocess, BoxPreprocessing)
    assert entry.preprocess(Image.new("L", (70, 50))).shape == (3, 176, 176)


def test_errors_of_timm(timm, tmp_path, monkeypatch) -> None:
    with pytest.raises(
        ValueError, match="^name must be timm:NAME .* 'resnet81' .did you"
    ):
        load("timm:resnet81")
    with pytest.raises(ValueError, match="weights must be an existing state-dict file"):
        load("timm:resnet10t", "none.pt")
    torch.save({"fc.weight": torch.zeros(3, 2)}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="weights of timm:resnet10t, got none for"):
        load("timm:resnet10t", tmp_path / "weights.pt")
    made = timm.create_model("resnet10t", num_classes=0)
    timm.models.save_for_hf(made, tmp_path)
    with pytest.raises(ValueError, match="which has no classes"):
        load(f"timm:local-dir:{tmp_path}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="timm:resnet10t could not .* --weights FILE"):
        load("timm:resnet10t")
    for weights in (None, tmp_path / "weights.pt"):
        with pytest.raises(OSError, match="pass its folder as timm:local-dir:FOLDER.$"):
            load("timm:hf-hub:none/such", weights)


# Hugging Face


def save_vit(folder: Path, processor: Any = None, **config: Any) -> nn.Module:
    """Save a tiny vision transformer and its processor."""
    import transformers

    settings = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    settings |= {"intermediate_size": 16, "image_size": 32, "patch_size": 8, **config}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = transformers.ViTForImageClassification(
            transformers.ViTConfig(**settings)
        )
    made.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    (processor or transformers.ViTImageProcessor(size=size)).save_pretrained(folder)
    return made.eval()


LABELS = {0: "cat", 1: "dog", 2: "neither"}


@pytest.fixture
def hf() -> Any:
    return pytest.importorskip("transformers", reason="the extra hf is not installed")


def test_hugging_face_from_a_folder(hf, tmp_path) -> None:
    made = save_vit(tmp_path, id2label=LABELS)
    before = torch.get_rng_state()
    entry = load(f"hf:{tmp_path}")
    assert torch.equal(torch.get_rng_state(), before)
    assert entry.class_names == ("cat", "dog", "neither")
    assert entry.activation == "softmax" and not entry.model.training
    assert entry.mean == pytest.approx((0.5,) * 3)
    assert entry.std == pytest.approx((0.5,) * 3)
    x = entry.preprocess(Image.new("RGBA", (70, 50)))[None]
    assert x.shape == (1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(entry.model(x), made(x).logits)
    assert_boxes_follow_the_pixels(entry)


@pytest.mark.parametrize(
    "problem, n_labels, activation",
    [
        ("multi_label_classification", 3, "sigmoid"),
        ("single_label_classification", 3, "softmax"),
        (None, 1, "sigmoid"),
        ("regression", 1, "identity"),
    ],
)
def test_activation_of_hugging_face(hf, problem, n_labels, activation, tmp_path):
    save_vit(tmp_path, num_labels=n_labels, problem_type=problem)
    assert load(f"hf:{tmp_path}").applied_activation == activation


def processors() -> dict[str, Callable[[], Any]]:
    import transformers as t

    square, edge = {"height": 32, "width": 32}, {"shortest_edge": 40}
    return {
        "crop": lambda: t.CLIPImageProcessor(size=edge, crop_size=square),
        "convnext": lambda: t.ConvNextImageProcessor(
            size={"shortest_edge": 32}, crop_pct=0.875
        ),
        "large convnext": lambda: t.ConvNextImageProcessor(
            size={"shortest_edge": 384}, crop_pct=1.0
        ),
        "squash and crop": lambda: t.DeiTImageProcessor(
            size={"height": 48, "width": 40}, crop_size=square
        ),
        "offset": lambda: t.EfficientNetImageProcessor(
            size=square, rescale_offset=True, rescale_factor=1 / 127.5
        ),
        "bytes": lambda: t.ViTImageProcessor(
            size=square, do_rescale=False, image_mean=[99.0] * 3, image_std=[9.0] * 3
        ),
        "reversed channels": lambda: t.MobileViTImageProcessor(
            size={"shortest_edge": 36}, crop_size=square
        ),
    }


@pytest.mark.parametrize(
    "name",
    [
        *("crop", "convnext", "large convnext", "squash and crop", "offset", "bytes"),
        "reversed channels",
    ],
)
def test_processors_of_hugging_face(hf, name, tmp_path) -> None:
    """Boxes and normalization are those of the processor; images are RGB."""
    processor = processors()[name]()
    made = save_vit(tmp_path, processor)
    entry = load(f"hf:{tmp_path}")
    assert_boxes_follow_the_pixels(entry)
    for color in ("red", "white"):
        image = Image.new("RGB", (60, 50), color)
        x = entry.preprocess(image)
        seen = entry.denormalize(x).mean((1, 2))
        rgb = torch.tensor([1.0, color == "white", color == "white"])
        torch.testing.assert_close(seen, rgb, atol=1e-3, rtol=0)
        if x.shape[1:] == (32, 32):
            pixels = processor(images=image, return_tensors="pt")["pixel_values"]
            with torch.no_grad():
                expected = made(pixels).logits
                torch.testing.assert_close(entry.model(x[None]), expected)


def test_hugging_face_of_one_channel(hf, tmp_path) -> None:
    size = {"height": 32, "width": 32}
    processor = hf.ViTImageProcessor(size=size, image_mean=[0.2], image_std=[0.4])
    save_vit(tmp_path, processor, num_channels=1)
    entry = load(f"hf:{tmp_path}")
    assert entry.mean == pytest.approx((0.2,)) and entry.std == pytest.approx((0.4,))
    assert entry.preprocess(ramps()).shape == (1, 32, 32)


def test_hugging_face_with_weights_from_a_file(hf, tmp_path) -> None:
    made = save_vit(tmp_path)
    state = {key: 2 * value for key, value in made.state_dict().items()}
    torch.save(state, tmp_path / "doubled.pt")
    entry = load(f"hf:{tmp_path}", tmp_path / "doubled.pt")
    key = "classifier.weight"
    assert torch.equal(entry.model.state_dict()[f"model.{key}"], state[key])
    with pytest.raises(ValueError, match=f"weights of hf:{tmp_path}, got none for"):
        torch.save({"weight": torch.zeros(1)}, tmp_path / "doubled.pt")
        load(f"hf:{tmp_path}", tmp_path / "doubled.pt")


def test_errors_of_hugging_face(hf, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="^hf:none/such must be a folder .* hf:FOLDER.$"):
        load("hf:none/such")
    with pytest.raises(OSError, match="must be a folder with a model"):
        load(f"hf:{tmp_path}")
    hf.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="of an image classifier, got .*, a Bert.$"):
        load(f"hf:{tmp_path}")
    save_vit(tmp_path, num_channels=4)
    with pytest.raises(
        ValueError, match="of 1 or 3 channels, got .* with 4: .*FILE.py"
    ):
        load(f"hf:{tmp_path}")


def test_a_model_without_a_trained_head_is_refused(hf, tmp_path) -> None:
    """transformers only logs that the classifier has random weights."""
    save_vit(tmp_path).vit.save_pretrained(tmp_path)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with pytest.raises(ValueError, match="classifier is trained, .* classifier.bias"):
        load(f"hf:{tmp_path}")


def test_hugging_face_through_the_command(hf, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    ramps().save("ramps.png")
    save_vit(tmp_path / "vit", id2label=LABELS)
    options = ["--model", "hf:vit", "--n-masks", "16", "--target", "dog"]
    assert main(["explain", "ramps.png", *options, "--save-map", "map.npy"]) == 0
    assert "class 1, dog: probability" in capsys.readouterr().out
    assert np.load("map.npy").shape == (3, 32, 32)


# ONNX


def small_cnn(channels: int = 3, n_classes: int = 5) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(channels, 4, 3, 2),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, n_classes),
        ).eval()


@pytest.fixture
def ort() -> Any:
    pytest.importorskip("onnx", reason="onnx, which exports models, is not installed")
    return pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


def export(model: nn.Module, file: Path, x: Tensor, **options: Any) -> str:
    torch.onnx.export(model, (x,), file, dynamo=False, **options)
    return f"onnx:{file}"


FREE = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
FREE_SIZE = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n", 2: "h", 3: "w"}}}
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*legacy TorchScript:DeprecationWarning"
)


@pytest.mark.parametrize("n, options", [(1, {}), (4, {}), (2, FREE)])
def test_onnx_gives_the_scores_of_the_model(ort, n, options, tmp_path) -> None:
    """Also where the file fixes the number of images per call."""
    made = small_cnn()
    entry = load(export(made, tmp_path / "m.onnx", torch.rand(n, 3, 40, 40), **options))
    assert isinstance(entry.model, BlackBox) and entry.activation == "softmax"
    assert entry.model.batch_size == (None if options else n)
    x = torch.randn(6, 3, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(entry.model(x), made(x))
    assert entry.class_names == tuple(f"class {i}" for i in range(5))
    assert entry.preprocess(ramps()).shape == (3, 40, 40)
    assert_boxes_follow_the_pixels(entry)


def test_onnx_exported_by_dynamo(ort, tmp_path) -> None:
    pytest.importorskip("onnxscript")
    made, x = small_cnn(), torch.randn(3, 3, 32, 32)
    torch.onnx.export(made, (x[:1],), tmp_path / "m.onnx", dynamo=True, verbose=False)
    entry = load(f"onnx:{tmp_path / 'm.onnx'}")
    with torch.no_grad():
        torch.testing.assert_close(entry.model(x), made(x))


class ChannelsLast(nn.Module):
    """A model as TensorFlow exports it, with a softmax at its end."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.permute(0, 3, 1, 2)).softmax(1)


def test_onnx_with_channels_last_that_ends_in_probabilities(ort, tmp_path) -> None:
    made = small_cnn()
    file = export(ChannelsLast(made), tmp_path / "m.onnx", torch.rand(1, 32, 32, 3))
    entry, x = load(file), torch.randn(2, 3, 32, 32)
    assert entry.activation == "identity"
    with torch.no_grad():
        torch.testing.assert_close(entry.model(x), made(x).softmax(1))


def test_onnx_of_any_size_one_channel_and_one_output(ort, tmp_path) -> None:
    made = small_cnn(1, 1)
    made[-1].bias.data.fill_(-9)
    entry = load(
        export(made, tmp_path / "m.onnx", torch.rand(2, 1, 40, 40), **FREE_SIZE)
    )
    assert entry.applied_activation == "sigmoid" and len(entry.mean) == 1
    assert entry.preprocess(ramps()).shape == (1, 224, 224)
    rgb = export(
        small_cnn(), tmp_path / "rgb.onnx", torch.rand(2, 3, 40, 40), **FREE_SIZE
    )
    expected = SqueezeNet1_1_Weights.DEFAULT.transforms()(ramps())
    assert torch.equal(load(rgb).preprocess(ramps()), expected)
    # Convolutional heads keep two axes of one pixel.
    made = small_cnn()[:-2].eval()
    entry = load(export(made, tmp_path / "c.onnx", torch.rand(1, 3, 32, 40)))
    assert entry.model(torch.rand(2, 3, 32, 40)).shape == (2, 6)
    assert entry.preprocess(ramps()).shape == (3, 32, 40)
    whole = torch.tensor([[-9.0, -9.0, 99.0, 99.0]])
    assert entry.preprocess.boxes(whole, (60, 90)).tolist() == [[0, 0, 40, 32]]
    assert_boxes_follow_the_pixels(entry)


class TwoOutputs(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean((2, 3)), x


def test_errors_of_onnx(ort, tmp_path) -> None:
    x = torch.rand(1, 3, 32, 32)
    with pytest.raises(ValueError, match="onnx:FILE of an existing file, got 'none"):
        load("onnx:none.onnx")
    (tmp_path / "text.onnx").write_text("text")
    with pytest.raises(ValueError, match="onnx:FILE of an ONNX model, got .*text.onnx"):
        load(f"onnx:{tmp_path / 'text.onnx'}")
    two = export(TwoOutputs(), tmp_path / "two.onnx", x)
    with pytest.raises(ValueError, match="one output, scores, got .* FILE.py:FUNCTION"):
        load(two)
    five = export(small_cnn(5), tmp_path / "five.onnx", torch.rand(1, 5, 32, 32))
    with pytest.raises(ValueError, match="of 1 or 3 channels, got .*FILE.py:FUNCTION"):
        load(five)
    good = export(small_cnn(), tmp_path / "good.onnx", x)
    with pytest.raises(ValueError, match="weights must be left out .* got 'w.pt'"):
        load(good, "w.pt")


def test_onnx_files_have_different_digests(ort, tmp_path) -> None:
    """An evaluation must not resume with another model."""
    from captum_ext._state_dicts import weights_digest

    digests = set()
    for n_classes in (2, 3):
        made = small_cnn(3, n_classes)
        name = export(made, tmp_path / f"{n_classes}.onnx", torch.rand(1, 3, 32, 32))
        digests.add(weights_digest(load(name).model))
    assert len(digests) == 2


def test_onnx_of_a_real_network(ort, tmp_path) -> None:
    """The map of an ONNX file is that of the PyTorch model."""
    folder = os.environ.get("CAPTUM_EXT_DATA")
    if folder is None:
        pytest.skip("CAPTUM_EXT_DATA does not name the folder with the real data")
    entry = load("squeezenet1_0", Path(folder) / "models" / "squeezenet1_0.pt")
    name = export(entry.model, tmp_path / "m.onnx", torch.rand(1, 3, 224, 224), **FREE)
    onnx = load(name)
    assert onnx.class_names == entry.class_names and onnx.mean == entry.mean
    image = next((Path(folder) / "imagenet" / "images").iterdir())
    with Image.open(image) as opened:
        x, same = (e.preprocess(opened)[None] for e in (onnx, entry))
    assert torch.equal(x, same)
    options: dict[str, Any] = {"target": 7, "n_masks": 32}
    maps = [PNRISE(e.model).attribute(x, **options) for e in (onnx, entry)]
    torch.testing.assert_close(*maps, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "name, package", [("timm:x", "timm"), ("hf:x", "transformers")]
)
def test_a_missing_extra_is_named(name, package, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"\.\[{name[:-2]}\]'"):
        load(name)


def test_the_extra_of_onnx_and_safetensors_is_named(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(MissingExtraError, match=r"\.\[onnx\]'"):
        load("onnx:x")
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"")
    with pytest.raises(MissingExtraError, match=r"\.\[timm\]'"):
        load("resnet18", file)


# Black boxes


def shares(images: np.ndarray) -> np.ndarray:
    """Shares of the three channels in the brightness of the right half."""
    sums = images[:, :, images.shape[2] // 2 :].mean((1, 2)) + 0.1
    return sums / sums.sum(1, keepdims=True)


class Paid:
    """A function that counts images and may break off."""

    def __init__(self, fail_at: int | None = None, error: BaseException | None = None):
        self.n_images, self.fail_at, self.error = 0, fail_at, error
        self.sizes: list[int] = []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        if self.fail_at is not None and len(self.sizes) >= self.fail_at:
            raise self.error or KeyboardInterrupt
        self.n_images += len(images)
        self.sizes.append(len(images))
        return shares(images)


def test_a_black_box_is_called_with_images_in_channels_last() -> None:
    seen = []

    def function(images: np.ndarray) -> list[list[float]]:
        seen.append(images)
        return images.mean((1, 2)).tolist()

    x = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    scores = BlackBox(function)(x)
    assert seen[0].shape == (2, 4, 5, 3) and seen[0].dtype == np.float32
    torch.testing.assert_close(scores, x.mean((2, 3)).float())
    assert scores.dtype == torch.float32


def test_one_number_per_image_is_one_class() -> None:
    assert BlackBox(lambda images: [1, 2])(torch.rand(2, 3, 4, 4)).tolist() == [
        [1],
        [2],
    ]


@pytest.mark.parametrize(
    "returned, said",
    [
        (np.zeros((3, 2)), r"for N = 2 images, got shape \(3, 2\)"),
        (np.zeros((2, 2, 1)), "for N = 2 images, got shape"),
        (np.zeros((2, 0)), "for N = 2 images, got shape"),
        (1.0, r"got shape \(\)"),
        (["cat", "dog"], "function must return numbers"),
        ([[1.0], [1.0, 2.0]], "function must return numbers"),
        (None, "function must return"),
    ],
)
def test_other_values_than_scores_are_refused(returned, said) -> None:
    with pytest.raises(ValueError, match=said):
        BlackBox(lambda images: returned)(torch.rand(2, 3, 4, 4))


@pytest.mark.parametrize(
    "options, error, said",
    [
        ({"function": 3}, TypeError, "function must be callable, got int"),
        ({"batch_size": 0}, ValueError, "batch_size must be"),
        ({"max_passes": 0}, ValueError, "max_passes must be"),
        ({"retries": -1}, ValueError, "retries must be"),
        ({"retries": 0.5}, TypeError, "retries must be"),
        ({"wait": -1}, ValueError, "wait must be"),
        ({"retry_on": "OSError"}, TypeError, "retry_on must hold types of exc"),
        ({"retry_on": (OSError, KeyboardInterrupt)}, TypeError, "retry_on must"),
    ],
)
def test_bad_arguments_of_a_black_box(options, error, said) -> None:
    with pytest.raises(error, match=said):
        BlackBox(**{"function": shares, **options})


def test_calls_have_at_most_batch_size_images() -> None:
    paid = Paid()
    x = torch.rand(7, 3, 4, 4)
    scores = BlackBox(paid, batch_size=3)(x)
    assert paid.sizes == [3, 3, 1]
    torch.testing.assert_close(scores, BlackBox(shares)(x))


def test_max_passes_are_not_exceeded() -> None:
    paid = Paid()
    box = BlackBox(paid, max_passes=10, batch_size=4)
    box(torch.rand(6, 3, 4, 4))
    with pytest.raises(BlackBoxError, match="max_passes must be at least 14 for .* 10"):
        box(torch.rand(8, 3, 4, 4))
    assert paid.n_images == box.n_passes == 10


def test_failed_calls_are_repeated_after_growing_waits(monkeypatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("captum_ext.zoo.black_box.time.sleep", waits.append)
    left = [ConnectionError("reset"), TimeoutError("slow")]

    def function(images: np.ndarray) -> np.ndarray:
        if left:
            raise left.pop()
        return shares(images)

    x = torch.rand(2, 3, 4, 4)
    box = BlackBox(function, wait=0.5)
    torch.testing.assert_close(box(x), BlackBox(shares)(x))
    assert waits == [0.5, 1.0] and box.n_passes == 6


def test_calls_that_always_fail_are_given_up(monkeypatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("captum_ext.zoo.black_box.time.sleep", waits.append)
    box = BlackBox(Paid(0, ConnectionError("reset")), retries=3)
    with pytest.raises(BlackBoxError, match="one of 4 attempts, got ConnectionError"):
        box(torch.rand(1, 3, 4, 4))
    assert waits == [1, 2, 4] and box.n_passes == 4
    with pytest.raises(KeyError):
        BlackBox(Paid(0, KeyError()))(torch.rand(1, 3, 4, 4))
    with pytest.raises(BlackBoxError, match="KeyError"):
        BlackBox(Paid(0, KeyError()), retry_on=KeyError)(torch.rand(1, 3, 4, 4))


def test_a_killed_run_pays_nothing_twice(tmp_path) -> None:
    """The rest of the images is paid by the second run, and the map is the same."""
    x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"target": 0, "n_masks": 40}
    expected = PNRISE(BlackBox(shares)).attribute(x, **options)
    whole = Paid()
    PNRISE(BlackBox(whole, cache=tmp_path / "whole")).attribute(x, **options)

    killed, resumed, third = Paid(fail_at=5), Paid(), Paid()
    cache = tmp_path / "folders" / "cache"
    with pytest.raises(KeyboardInterrupt):
        PNRISE(BlackBox(killed, batch_size=3, cache=cache)).attribute(x, **options)
    assert 0 < killed.n_images < whole.n_images
    maps = PNRISE(BlackBox(resumed, batch_size=3, cache=cache)).attribute(x, **options)
    assert killed.n_images + resumed.n_images == whole.n_images
    torch.testing.assert_close(maps, expected)
    again = PNRISE(BlackBox(third, cache=cache)).attribute(x, **options)
    assert third.n_images == 0 and torch.equal(again, maps)
    assert not list(cache.rglob("*.partial"))


def test_the_cache_tells_images_apart_by_content_and_shape(tmp_path) -> None:
    paid = Paid()
    box = BlackBox(paid, cache=tmp_path)
    x = torch.rand(2, 3, 4, 6)
    scores = box(torch.cat([x, x]))
    assert paid.n_images == 2
    assert torch.equal(scores[:2], scores[2:]) and not torch.equal(*scores[:2])
    assert torch.equal(box(x.to(memory_format=torch.channels_last)), scores[:2])
    assert torch.equal(box(x.flip(0)), scores[:2].flip(0)) and paid.n_images == 2
    same_bytes = x.movedim(1, -1).reshape(2, 6, 4, 3).movedim(-1, 1)
    box(same_bytes)
    box(x + 1e-7)
    assert paid.n_images == 6


def test_a_cache_of_something_else_is_refused(tmp_path) -> None:
    x = torch.rand(2, 3, 4, 4)
    box = BlackBox(shares, cache=tmp_path)
    box(x[:1])
    with pytest.raises(ValueError, match="cache must be a folder of this function's"):
        BlackBox(lambda images: images.mean((1, 2, 3)), cache=tmp_path)(x)
    for file in tmp_path.rglob("*.npy"):
        file.write_bytes(b"")
    with pytest.raises(ValueError, match="cache must be"):
        box(x)


SHARED_CACHE = """
import sys, numpy as np, torch
from captum_ext.zoo import BlackBox
x = torch.rand(60, 3, 4, 4, generator=torch.Generator().manual_seed(0))
box = BlackBox(lambda images: images.mean((1, 2)), batch_size=1, cache=sys.argv[1])
assert torch.equal(box(x), BlackBox(box.function)(x))
"""


def test_two_processes_share_a_cache(tmp_path) -> None:
    command = [sys.executable, "-c", SHARED_CACHE, str(tmp_path)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        assert (process.communicate()[1], process.returncode) == (b"", 0)
    assert len(list(tmp_path.rglob("*.npy"))) == 60
    assert not list(tmp_path.rglob("*.partial"))


NO_INSIDE = "got a black box, which is only called: use pn-rise .PNRISE., borex"


def boxed(function: Any = shares, side: int = 16) -> ZooModel:
    names = ("red", "green", "blue")
    return ZooModel(
        BlackBox(function),
        Preprocessing.square(side),
        names,
        (0.0,) * 3,
        (1.0,) * 3,
        activation="identity",
    )


@pytest.mark.parametrize(
    "method", [n for n in METHODS if n not in ("masking-model", "mc-rise")]
)
def test_methods_on_a_black_box(method) -> None:
    """Black-box methods run; others say why they cannot, before they are paid for."""
    paid = Paid()
    entry, x = boxed(paid), torch.rand(3, 16, 16)
    parts = METHODS[method].built_from
    if method in ("pn-rise", "rise", "borex", "occlusion"):
        maps = METHODS[method].attribute(build_subject(entry, x, parts=parts))
        assert maps.shape == (1, 3, 16, 16) and maps.abs().sum() > 0
        return
    with pytest.raises(ValueError, match=NO_INSIDE):
        METHODS[method].attribute(build_subject(entry, x, parts=parts))
    assert paid.n_images <= 1


def test_gradients_of_a_black_box_in_python() -> None:
    x = torch.rand(1, 3, 8, 8, requires_grad=True)
    with pytest.raises(ValueError, match=NO_INSIDE):
        Saliency(BlackBox(shares)).attribute(x, target=0)
    maps = Occlusion(BlackBox(shares)).attribute(x, (3, 4, 4), (3, 4, 4), target=0)
    assert maps.abs().sum() > 0


# Own functions that return black boxes


OWN = """
import numpy as np
from captum_ext.zoo import BlackBox

def shares(images):
    assert images.dtype == np.float32 and images.shape[1:] == (224, 224, 3)
    assert 0 <= images.min() and images.max() <= 1
    sums = images.mean((1, 2)) + 0.1
    return sums / sums.sum(1, keepdims=True)

def function(weights):
    return shares

def budget(weights):
    return BlackBox(shares, max_passes=int(weights), batch_size=1, cache="cache")

def broken(weights):
    def fail(images):
        raise ConnectionError("no route to host")
    return BlackBox(fail, retries=0)

def number(weights):
    return 3

def classes(weights):
    return BlackBox
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    scene = sign_scene(0).image.permute(1, 2, 0).mul(255).byte().numpy()
    Image.fromarray(scene).save("scene.png")


def test_a_function_of_numpy_images_is_a_model(own, capsys) -> None:
    entry = load("own.py:function")
    assert entry.class_names == ("class 0", "class 1", "class 2")
    assert entry.activation == "identity" and entry.std == (1, 1, 1)
    for name, said in (("number", "int"), ("classes", "type")):
        with pytest.raises(ValueError, match=f"function of NumPy .* returns {said}"):
            load(f"own.py:{name}")
    arguments = ["explain", "scene.png", "--model", "own.py:function"]
    options = ["--n-masks", "8", "--save-map", "map.npy"]
    assert main([*arguments, *options]) == 0
    assert np.load("map.npy").shape == (3, 224, 224)
    assert main([*arguments, "--method", "grad-cam"]) == 2
    error = capsys.readouterr().err
    assert "use pn-rise (PNRISE)" in error and error.count("\n") == 1


def test_a_budget_ends_the_command_and_its_cache_resumes_it(own, capsys) -> None:
    arguments = ["explain", "scene.png", "--model", "own.py:budget", "--n-masks", "16"]
    arguments += ["--save-map", "map.npy", "--weights"]
    assert main([*arguments, "9"]) == 2
    error = capsys.readouterr().err
    assert "max_passes must be at least 10" in error and error.count("\n") == 1
    assert main([*arguments, "12"]) == 0
    resumed = np.load("map.npy")
    options = ["--model", "own.py:function", "--n-masks", "16", "--save-map", "map.npy"]
    assert main(["explain", "scene.png", *options]) == 0
    np.testing.assert_allclose(np.load("map.npy"), resumed, atol=1e-6)


def test_an_evaluation_ends_with_the_budget_and_resumes(tmp_path) -> None:
    """Errors of an endpoint are no results: a rerun computes the rest."""
    methods, metrics = "rise:n_masks=16,random", "deletion:n_steps=4"
    cache = tmp_path / "cache"

    def run(folder: str, **options: Any) -> tuple[Any, BlackBox]:
        entry = boxed(side=32)
        box = BlackBox(shares, batch_size=1, cache=cache, **options)
        entry = entry._replace(model=box)
        dataset = read_signs(2)
        labeled = dataset._replace(
            examples=tuple(e._replace(labels=(1,), boxes=()) for e in dataset.examples)
        )
        found = evaluate(labeled, entry, methods, metrics, tmp_path / folder)
        return found.table, box

    with pytest.raises(BlackBoxError, match="max_passes"):
        run("run", max_passes=40)
    resumed, rest = run("run")
    assert resumed["error"].isna().all() and len(resumed) == 4
    table, nothing = run("other")
    assert rest.n_passes > 0 and nothing.n_passes == 0
    columns = ["image", "method", "metric", "value"]
    assert table[columns].equals(resumed[columns])


# Models of one channel and of many


CHANNELS = """
import torch
from torch import nn
from torchvision.transforms.functional import pil_to_tensor
from captum_ext.zoo import Preprocessing, ZooModel

def cnn(channels):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 16),
    )

def gray(weights):
    names = tuple(f"sign {i}" for i in range(16))
    preprocess = Preprocessing.square(32, (0.4,), (0.2,))
    return ZooModel(cnn(1), preprocess, names, (0.4,), (0.2,))

MEAN, STD = (0.1, 0.2, 0.3, 0.4, 0.5), (0.5,) * 5

class FiveBands:
    def __call__(self, image):
        rgb = pil_to_tensor(image.convert("RGB").resize((32, 32))) / 255
        bands = torch.cat([rgb, rgb.amax(0, True), rgb.amin(0, True)])
        return (bands - torch.tensor(MEAN)[:, None, None]) / 0.5

    def boxes(self, boxes, size):
        return boxes * 32 / torch.tensor([*size[::-1], *size[::-1]])

def five(weights):
    names = tuple(f"sign {i}" for i in range(16))
    return ZooModel(cnn(5), FiveBands(), names, MEAN, STD)

def two(weights):
    names = tuple(f"sign {i}" for i in range(16))
    preprocess = lambda image: FiveBands()(image)[3:]
    return ZooModel(cnn(2), preprocess, names, MEAN[3:], STD[3:])
"""


@pytest.fixture
def channels(own) -> None:
    Path("own.py").write_text(CHANNELS)


WITHOUT_TRAINING = [m for m in METHODS if m not in ("masking-model", "mc-rise")]


@pytest.mark.parametrize("kind, n", [("gray", 1), ("two", 2), ("five", 5)])
@pytest.mark.parametrize("method", WITHOUT_TRAINING)
def test_explain_models_of_any_channels(channels, kind, n, method) -> None:
    if kind == "two" and method not in ("pn-rise", "cameras"):
        return
    arguments = ["explain", "scene.png", "--model", f"own.py:{kind}", "--method"]
    arguments += [method, "-o", "out.png", "--save-map", "map.npy"]
    assert main(arguments) == 0
    layers = method in ("cameras", "grad-cam", "grad-cam++")
    maps = np.load("map.npy")
    assert maps.shape == (1 if layers else n, 32, 32) and np.isfinite(maps).all()
    assert Path("out.png").stat().st_size > 1000


@pytest.mark.parametrize("kind, n", [("gray", 1), ("five", 5)])
def test_colors_of_other_channels_than_rgb_are_refused(
    channels, kind, n, capsys
) -> None:
    command = ["explain", "scene.png", "--model", f"own.py:{kind}"]
    for options in ([], ["--colors", "red"]):
        assert main([*command, "--method", "mc-rise", *options]) == 2
        error = capsys.readouterr().err
        assert f"a tensor (K, {n})" in error and error.count("\n") == 1


@pytest.mark.parametrize("kind", ["gray", "five"])
def test_refine_and_evaluate_models_of_any_channels(channels, kind) -> None:
    model = ["--model", f"own.py:{kind}"]
    refine = ["refine", "scene.png", *model, "--n-iterations", "4", "-o", "out.png"]
    assert main(refine) == 0
    evaluate = ["evaluate", *model, "--dataset", "signs", "--limit", "1", "-o", "run"]
    evaluate += ["--methods", "pn-rise:n_masks=16,borex:n_iterations=4,rise:n_masks=8"]
    evaluate[-1] += ",grad-cam,cameras,random,center-box,max-box"
    evaluate += ["--metrics", "insertion,blurred=insertion:baselines=blur,deletion"]
    evaluate[-1] += ",pointing-game,f-measure,saliency-metric"
    assert main(evaluate) == 0
    assert len(list(Path("run/maps").rglob("*.png"))) == 8
    assert main(["report", "run"]) == 0


@pytest.mark.parametrize("kind, n", [("gray", 1), ("two", 2), ("five", 5)])
def test_train_a_masking_network_of_any_channels(channels, kind, n) -> None:
    model = ["--model", f"own.py:{kind}"]
    train = ["train", *model, "--dataset", "signs", "--limit", "8", "--epochs", "1"]
    train += ["--validation", "signs", "--batch-size", "4", "--width", "4", "-o", "out"]
    assert main(train) == 0
    assert list(Path("out/masks").glob("*.png"))
    explain = ["explain", "scene.png", *model, "--method", "masking-model"]
    explain += ["--masking-network", "out/network.pt", "--save-map", "map.npy"]
    assert main(explain) == 0
    assert np.load("map.npy").shape == (n, 32, 32)


def test_a_black_box_cannot_train_a_masking_network(own, capsys) -> None:
    train = ["train", "--model", "own.py:function", "--dataset", "signs", "-o", "out"]
    assert main([*train, "--limit", "4", "--batch-size", "2", "--width", "4"]) == 2
    assert "got a black box" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["gray", "five"])
def test_video_of_any_channels(channels, kind) -> None:
    frames = sign_video(0, n_frames=8, size=32).image.movedim(0, -1)
    np.savez("clip.npz", frames=frames.mul(255).byte().numpy())
    arguments = ["explain", "clip.npz", "--model", f"own.py:{kind}", "--n-masks", "8"]
    assert main([*arguments, "--frames", "8", "-o", "out.png"]) == 0
    assert Path("out.gif").is_file()


GTSRB = """
import numpy as np, torch
from torch import nn
from captum_ext.zoo import Preprocessing, ZooModel

def gray(weights):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 8 * 8, 43),
    )
    data = np.load(weights)
    x = torch.from_numpy(data["images"][::3]).float().mean(3)[:, None] / 255
    labels = torch.from_numpy(data["labels"][::3]).long()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(3):
        for chosen in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            logits = model((x[chosen] - 0.35) / 0.25)
            nn.functional.cross_entropy(logits, labels[chosen]).backward()
            optimizer.step()
    names = tuple(f"sign {i}" for i in range(43))
    preprocess = Preprocessing.square(32, (0.35,), (0.25,))
    return ZooModel(model, preprocess, names, (0.35,), (0.25,))
"""


def test_real_signs_in_gray(own) -> None:
    """A trained model of one channel: methods beat a random map."""
    if "CAPTUM_EXT_DATA" not in os.environ:
        pytest.skip("CAPTUM_EXT_DATA does not name the folder with the real data")
    folder = Path(os.environ["CAPTUM_EXT_DATA"]) / "gtsrb"
    Path("own.py").write_text(GTSRB)
    with np.load(folder / "test.npz") as found:
        images, labels = found["images"][:24], found["labels"][:24]
    np.savez("some.npz", images=images, labels=labels)
    with torch.random.fork_rng():
        arguments = [
            "evaluate",
            "--model",
            "own.py:gray",
            "--dataset",
            "arrays:some.npz",
        ]
        arguments += ["--weights", str(folder / "train.npz"), "-o", "run"]
        arguments += ["--methods", "pn-rise,borex:n_iterations=30,rise,random"]
        assert main([*arguments, "--metrics", "insertion,deletion"]) == 0
    table = read_results("run").table
    assert table["error"].isna().all()
    means = table.groupby(["method", "metric"])["value"].mean()
    for method in ("pn-rise", "borex", "rise"):
        assert means[method, "insertion"] > means["random", "insertion"]
        assert means[method, "deletion"] < means["random", "deletion"]


def test_a_masking_network_needs_the_channels_of_its_model(channels) -> None:
    with pytest.raises(ValueError, match="as many channels as the model, 1, got 3"):
        load("own.py:gray").with_masking_network(MaskingNetwork(16, width=4))


def test_encoders_of_torchvision_have_three_channels() -> None:
    with pytest.raises(ValueError, match="n_channels must be 3 for an encoder of .* 5"):
        MaskingNetwork(3, "squeezenet1_0", n_channels=5)


def test_what_is_shown_of_many_channels(channels) -> None:
    """The first three of five channels, the first one of two, gray for one."""
    for kind, shown in (("gray", [0]), ("two", [0]), ("five", [0, 1, 2])):
        entry = load(f"own.py:{kind}")
        with Image.open("scene.png") as image:
            x = entry.preprocess(image)
        subject = build_subject(entry, x)
        std, mean = (torch.tensor(v)[:, None, None] for v in (entry.std, entry.mean))
        torch.testing.assert_close(subject.image, (x * std + mean)[shown].clamp(0, 1))
        assert subject.palette is None
        if kind != "two":
            torch.testing.assert_close(entry.normalize(entry.denormalize(x)), x)


def test_preprocessing_of_other_channels_names_the_numbers() -> None:
    with pytest.raises(ValueError, match="one number each .* got 2 and 2"):
        Preprocessing.square(8, (0.5,) * 2, (0.5,) * 2)
    with pytest.raises(ValueError, match="got 1 and 3"):
        Preprocessing.square(8, (0.5,), (0.5,) * 3)


def test_torchvision_of_one_output_means_sigmoid(tmp_path) -> None:
    torch.save(squeezenet1_1(num_classes=1).state_dict(), tmp_path / "weights.pt")
    entry = load("squeezenet1_1", tmp_path / "weights.pt")
    assert entry.applied_activation == "sigmoid"
    assert load("signs").activation == "softmax"
