"""Scenes, the built-in classifier and classifiers by name."""

import csv
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.models import WeightsEnum, densenet121, googlenet, squeezenet1_1

from captum_ext.masking import MaskingNetwork
from captum_ext.zoo import (
    SIGN_CLASSES,
    BoxPreprocessing,
    SignDataset,
    SignsClassifier,
    find_class,
    load,
    load_signs_masks,
    sign_scene,
    sign_video,
    signs_masks,
    train_signs_classifier,
)
from captum_ext.zoo.signs import COLOR_PAIRS
from captum_ext.zoo.signs_classifier import WEIGHTS_FILE
from captum_ext.zoo.signs_classifier import __main__ as command
from captum_ext.zoo.signs_classifier.recipe import confusion, draw_scenes

TINY: dict[str, Any] = {"n_scenes": 64, "n_epochs": 1, "batch_size": 32}


def same(one: Any, other: Any) -> bool:
    """Whether two scenes, videos or state dicts are equal bit by bit."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def pil(image: Tensor) -> Image.Image:
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())


def assert_tight(mask: Tensor, box: tuple[int, int, int, int]) -> None:
    x0, y0, x1, y1 = box
    inside = mask[y0:y1, x0:x1]
    assert inside.sum() == mask.sum() > 0
    assert inside[0].any() and inside[-1].any()
    assert inside[:, 0].any() and inside[:, -1].any()


# Scenes


@pytest.mark.parametrize("draw", [sign_scene, sign_video])
def test_a_scene_depends_only_on_its_seed(draw: Callable[..., Any]) -> None:
    assert same(draw(5), draw(5))
    assert not torch.equal(draw(5).image, draw(6).image)


def test_an_item_does_not_depend_on_the_length_of_the_dataset() -> None:
    scene = sign_scene(10)
    for n in (4, 50):
        image, label = SignDataset(n, seed=7)[3]
        assert torch.equal(image, scene.image) and label == scene.label


def test_a_dataset_works_with_a_loader() -> None:
    batches = list(DataLoader(SignDataset(3, seed=1, size=32), batch_size=2))
    assert [list(images.shape) for images, _ in batches] == [
        [2, 3, 32, 32],
        [1, 3, 32, 32],
    ]


@pytest.mark.parametrize("seed", range(12))
def test_boxes_are_tight_and_the_main_sign_is_the_largest(seed: int) -> None:
    scene = sign_scene(seed, n_signs=1 + seed % 4)
    assert scene.image.shape == (3, 96, 96) and scene.image.dtype == torch.float32
    assert 0 <= scene.image.min() and scene.image.max() <= 1
    assert len(scene.objects) == 1 + seed % 4
    assert scene.label == scene.objects[0].label
    for item in scene.objects:
        assert_tight(item.mask, item.box)
    areas = [int(item.mask.sum()) for item in scene.objects]
    assert all(60 < area < 0.7 * areas[0] for area in areas[1:])
    assert torch.stack([item.mask for item in scene.objects]).sum(0).max() == 1


def test_every_class_can_be_set_and_is_drawn_at_random() -> None:
    labels = range(len(SIGN_CLASSES))
    assert [sign_scene(0, label=label).label for label in labels] == list(labels)
    assert {sign_scene(seed, size=32).label for seed in range(150)} == set(labels)


@pytest.mark.parametrize("pair", COLOR_PAIRS)
def test_color_pairs_differ_in_the_fill_of_the_main_sign(pair: tuple[int, int]) -> None:
    one, other = (sign_scene(3, label=label) for label in pair)
    differs = (one.image != other.image).any(0)
    mask = one.objects[0].mask
    assert not (differs & ~mask).any()
    assert 0.25 < differs.sum() / mask.sum() < 0.9
    for a, b in zip(one.objects, other.objects):
        assert torch.equal(a.mask, b.mask)


@pytest.mark.parametrize("seed", range(6))
def test_occlusion_hides_only_a_part_of_the_main_sign(seed: int) -> None:
    free, hidden = (sign_scene(seed, n_signs=3, occluded=o) for o in (False, True))
    shares = [
        float((b.mask & a.mask).sum() / a.mask.sum())
        for a, b in zip(free.objects, hidden.objects)
    ]
    assert 0.65 < shares[0] < 1
    assert shares[1:] == [1, 1]


def test_a_scene_is_the_same_at_every_size() -> None:
    small, large = (sign_scene(4, size=size).image for size in (48, 192))
    shrunk = torch.nn.functional.avg_pool2d(large, 4)
    assert (small - shrunk).abs().mean() < 0.025


@pytest.mark.parametrize("occluded", [False, True])
def test_the_sign_of_a_video_moves(occluded: bool) -> None:
    video = sign_video(2, n_frames=6, size=64, occluded=occluded)
    assert video.image.shape == (3, 6, 64, 64)
    assert video.masks.shape == (6, 64, 64) and video.boxes.shape == (6, 4)
    for mask, box in zip(video.masks, video.boxes):
        assert_tight(mask, tuple(box.tolist()))
    places = torch.stack([mask.nonzero().float().mean(0) for mask in video.masks])
    steps = (places[1:] - places[:-1]).norm(dim=1)
    assert (steps > 1).all() and (places[-1] - places[0]).norm() > 15
    assert video.masks[0].sum() != video.masks[-1].sum()


def test_the_background_of_a_video_is_static() -> None:
    video = sign_video(2, n_frames=4)
    image = video.image[:, :, :, video.masks.any(0).any(0).logical_not()]
    assert (image[:, 1:] - image[:, :-1]).abs().mean() < 0.03


@pytest.mark.parametrize(
    "call, error, said",
    [
        (lambda: sign_scene("0"), TypeError, "seed must be an int, got str"),
        (lambda: sign_scene(-1), ValueError, "seed must be at least 0, got -1"),
        (lambda: sign_scene(2**32), ValueError, "seed must be at most 4294967295"),
        (
            lambda: sign_scene(0, size=31),
            ValueError,
            "size must be at least 32",
        ),
        (
            lambda: sign_scene(0, n_signs=5),
            ValueError,
            "n_signs must be at most 4, got 5",
        ),
        (
            lambda: sign_scene(0, label=16),
            ValueError,
            "label must be at most 15, got 16",
        ),
        (lambda: sign_video(0, n_frames=1), ValueError, "n_frames must be at least 2"),
        (lambda: SignDataset(0), ValueError, "n must be at least 1"),
        (lambda: SignDataset(2, seed=2**32 - 1), ValueError, "seed must be at most"),
        (
            lambda: SignDataset(2)[2],
            IndexError,
            "index must lie between 0 and 1, got 2",
        ),
    ],
)
def test_bad_arguments_of_scenes(
    call: Callable[[], Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        call()


# The classifier


def test_the_built_in_classifier_is_accurate_on_held_out_scenes() -> None:
    counts = confusion(load("signs").model, *draw_scenes(500, 10_000_000, False))
    assert counts.diagonal().sum() / counts.sum() >= 0.97


def test_the_weights_of_the_built_in_classifier_are_small() -> None:
    assert WEIGHTS_FILE.stat().st_size <= 1_000_000


def test_built_in_masks_cover_the_signs_of_the_target_class() -> None:
    network = load_signs_masks()
    assert not network.training and network.n_classes == len(SIGN_CLASSES)
    scenes = [sign_scene(seed) for seed in range(20_000_000, 20_000_064)]
    model = load("signs")
    x = torch.stack([model.normalize(scene.image) for scene in scenes])
    labels = torch.tensor([scene.label for scene in scenes])
    signs = torch.stack([scene.objects[0].mask for scene in scenes])[:, None]
    with torch.no_grad():
        right, absent = network(x, labels), network(x, (labels + 5) % 16)
    assert right[signs].mean() > 4 * right[~signs].mean()
    assert absent.mean() < right.mean() / 3


def test_the_built_in_masking_network_is_small() -> None:
    file = Path(signs_masks.__file__).with_suffix(".pt")
    assert file.stat().st_size <= 2_000_000


@pytest.mark.parametrize("height, width", [(96, 96), (64, 128), (224, 224)])
def test_the_classifier_accepts_any_size(height: int, width: int) -> None:
    model = load("signs").model
    assert isinstance(model, SignsClassifier)
    x = torch.zeros(2, 3, height, width)
    assert model(x).shape == (2, len(SIGN_CLASSES))
    assert model.features(x).shape == (2, 96, height // 8, width // 8)


def test_training_depends_only_on_its_seed() -> None:
    states = []
    for seed in (3, 3, 4):
        torch.rand(1)
        states.append(dict(train_signs_classifier(seed, **TINY).state_dict()))
    assert same(states[0], states[1]) and not same(states[0], states[2])


def test_bad_arguments_of_training() -> None:
    with pytest.raises(
        ValueError, match="n_scenes must be at least one batch .* got 8"
    ):
        train_signs_classifier(n_scenes=8)
    with pytest.raises(ValueError, match="n_epochs must be .* got 0"):
        train_signs_classifier(n_epochs=0)


def test_the_training_command_writes_weights_and_prints_the_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new.pt"
    monkeypatch.setattr(
        command,
        "train_signs_classifier",
        lambda seed, show_progress: train_signs_classifier(seed, **TINY),
    )
    monkeypatch.setattr(command, "_N_HELD_OUT", 40)
    monkeypatch.setattr(sys, "argv", ["command", "--output", str(output)])
    command.main()
    assert list(tmp_path.iterdir()) == [output]
    assert load("signs", weights=output).class_names == SIGN_CLASSES
    assert "on 40 scenes of seeds 0 to 39" in capsys.readouterr().out


def test_the_global_random_state_is_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save(squeezenet1_1().state_dict(), file)
    state = torch.get_rng_state()
    sign_scene(0)
    sign_video(0, n_frames=2)
    train_signs_classifier(**TINY)
    load("signs")
    load("squeezenet1_1", weights=file)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_masking_network_needs_the_classes_of_its_model() -> None:
    signs = load("signs")
    assert signs.masking_network is None
    network = load_signs_masks()
    assert signs.with_masking_network(network).masking_network is network
    with pytest.raises(ValueError, match="classes as the model, 16, got 3"):
        signs.with_masking_network(MaskingNetwork(3, width=8))


# Models by name


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_preprocessing_accepts_images_of_every_mode(mode: str) -> None:
    image = pil(sign_scene(0, size=150).image).convert(mode)
    assert load("signs").preprocess(image).shape == (3, 96, 96)


def test_preprocessing_of_boxes_is_a_protocol() -> None:
    assert isinstance(load("signs").preprocess, BoxPreprocessing)
    assert not isinstance(len, BoxPreprocessing)


def test_denormalize_undoes_preprocessing() -> None:
    signs, image = load("signs"), sign_scene(1).image
    seen = signs.preprocess(pil(image))
    assert (signs.denormalize(seen) - image).abs().max() <= 0.5 / 255 + 1e-6
    assert (signs.normalize(image) - seen).abs().max() <= 2.1 / 255 + 1e-6


def test_normalize_accepts_images_videos_and_colors() -> None:
    """Channels are the first axis; values outside of [0, 1] are clamped."""
    signs, image = load("signs"), sign_scene(1).image
    for like in (image, image[:, None].expand(-1, 2, -1, -1), image[:, 0, 0]):
        inputs = signs.normalize(like)
        for c, (mean, std) in enumerate(zip(signs.mean, signs.std)):
            torch.testing.assert_close(inputs[c], (like[c] - mean) / std)
        torch.testing.assert_close(signs.denormalize(inputs), like)
    assert signs.denormalize(torch.full((3,), 99.0)).tolist() == [1, 1, 1]
    for wrong in (image[None], image[:1], image.byte(), torch.tensor(0.5)):
        with pytest.raises(ValueError, match="image must be .* with its 3 channels"):
            signs.normalize(wrong)
        with pytest.raises(ValueError, match="inputs must be .* with its 3 channels"):
            signs.denormalize(wrong)


@pytest.mark.parametrize("n_classes", [10, 1000])
@pytest.mark.parametrize(
    "packed",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {f"module.{key}": value for key, value in state.items()},
    ],
)
def test_a_state_dict_file_is_loaded(
    tmp_path: Path, n_classes: int, packed: Callable[[dict[str, Tensor]], Any]
) -> None:
    saved, file = squeezenet1_1(num_classes=n_classes).eval(), tmp_path / "weights.pt"
    torch.save(packed(saved.state_dict()), file)
    loaded = load("squeezenet1_1", weights=file)
    x = loaded.preprocess(Image.new("RGB", (300, 250), "red"))[None]
    assert not loaded.model.training and x.shape == (1, 3, 224, 224)
    assert torch.equal(loaded.model(x), saved(x))
    assert len(loaded.class_names) == n_classes
    assert loaded.class_names[0] == {10: "class 0", 1000: "tench"}[n_classes]


def test_old_densenets_and_googlenets_without_auxiliary_classifiers_load(
    tmp_path: Path,
) -> None:
    file = tmp_path / "weights.pt"
    densenet = densenet121().state_dict()
    old = {
        key.replace("norm1", "norm.1").replace("conv2", "conv.2"): value
        for key, value in densenet.items()
        if "denselayer" in key
    }
    rest = {key: v for key, v in densenet.items() if "denselayer" not in key}
    torch.save({**old, **rest}, file)
    assert same(dict(load("densenet121", file).model.state_dict()), dict(densenet))
    bare = googlenet(aux_logits=False, init_weights=False).state_dict()
    torch.save(bare, file)
    assert same(dict(load("googlenet", file).model.state_dict()), dict(bare))


@pytest.mark.parametrize("weights", [None, "DEFAULT", "IMAGENET1K_V1"])
def test_weights_by_their_torchvision_name(
    weights: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = squeezenet1_1().state_dict()
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: state)
    loaded = load("squeezenet1_1", weights)
    assert same(dict(loaded.model.state_dict()), dict(state))
    assert loaded.class_names[:2] == ("tench", "goldfish")
    assert loaded.mean == (0.485, 0.456, 0.406) and not loaded.model.training


def test_a_failed_download_suggests_a_local_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def urlopen(*_: Any, **__: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", urlopen)
    with pytest.raises(OSError, match="no route to host.* pass it as weights=FILE"):
        load("squeezenet1_1")


OWN_FILE = """
from pathlib import Path
import neighbor
from captum_ext.zoo import load, ZooModel

answer = 42

def with_weights(weights):
    entry = load("signs", weights)
    assert __name__ != "__main__" and neighbor.loaded
    return entry._replace(model=entry.model.train(), class_names=("own",) * 16)

def nothing(weights):
    return load("signs").model

def two(weights, more):
    return load("signs")

def failing(weights):
    raise KeyError(weights)
"""


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    (tmp_path / "neighbor.py").write_text("loaded = True")
    file = tmp_path / "own.py"
    file.write_text(OWN_FILE)
    return file


@pytest.mark.parametrize("weights", [None, WEIGHTS_FILE])
def test_an_own_function_in_a_file_returns_a_model(
    own_file: Path, weights: Path | None
) -> None:
    """The file may import its neighbors; the import state is restored."""
    before, modules = list(sys.path), {"own", "__main__"} & {*sys.modules}
    entry = load(f"{own_file}:with_weights", weights)
    assert sys.path == before and {"own", "__main__"} & {*sys.modules} == modules
    assert entry.class_names == ("own",) * 16 and not entry.model.training
    assert same(dict(entry.model.state_dict()), dict(load("signs").model.state_dict()))


@pytest.mark.parametrize(
    "function, said",
    [
        ("missing", "must end in a function of .*own.py, got"),
        ("answer", "must end in a function of .*own.py, got"),
        ("", "must end in a function of .*own.py, got"),
        ("two", "must be a function of one argument, weights.*'more'"),
        ("nothing", "must be a function that returns .* returns SignsClassifier"),
    ],
)
def test_own_functions_that_are_rejected(
    own_file: Path, function: str, said: str
) -> None:
    with pytest.raises(ValueError, match=f"^name {said}[^\n]*\\.$"):
        load(f"{own_file}:{function}")
    with pytest.raises(ValueError, match="of an existing file, got"):
        load(f"{own_file.parent}/none.py:load")


def test_an_own_function_in_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("own_models")
    monkeypatch.setitem(sys.modules, "own_models", module)
    monkeypatch.setattr(module, "signs", lambda weights: load("signs"), raising=False)
    assert load("own_models:signs").class_names == SIGN_CLASSES
    for name in ("own_models:missing", "own_modls:signs", "own_models:", "a b:c"):
        with pytest.raises(ValueError, match=f"^name must .* got '{name}'.*\\.$"):
            load(name)


def test_errors_of_an_own_file_propagate(own_file: Path) -> None:
    with pytest.raises(KeyError, match="w.pt"):
        load(f"{own_file}:failing", "w.pt")
    own_file.write_text("import nowhere_at_all")
    before = list(sys.path)
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        load(f"{own_file}:failing")
    assert sys.path == before


def test_an_unknown_model_suggests_similar_names() -> None:
    with pytest.raises(
        ValueError, match="name must be .* got 'resnet5' .did you mean 'resnet"
    ):
        load("resnet5")
    with pytest.raises(
        ValueError, match="name must be .* or FILE.py:FUNCTION, got 'own.py'"
    ):
        load("own.py")


@pytest.mark.parametrize("name", ["signs", "resnet18"])
def test_weights_that_are_not_a_file(name: str) -> None:
    with pytest.raises(
        ValueError, match="weights must be an existing .* got 'none.pt'"
    ):
        load(name, weights="none.pt")


def test_weights_of_another_model(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    state = SignsClassifier().state_dict()
    torch.save(state, file)
    with pytest.raises(
        ValueError, match="weights of resnet18, got none for conv1.weight"
    ):
        load("resnet18", weights=file)
    torch.save({**state, "classifier.bias": torch.zeros(3)}, file)
    with pytest.raises(ValueError, match=r"shape \(3,\) instead of \(16,\) for class"):
        load("signs", weights=file)
    torch.save({**state, "more": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match="an unexpected more"):
        load("signs", weights=file)


@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.write_text("hello"),
        lambda file: file.write_bytes(b""),
        lambda file: pil(torch.rand(3, 8, 8)).save(file, "PNG"),
        lambda file: torch.save([1, 2], file),
        lambda file: torch.save({"epoch": 1}, file),
        lambda file: torch.save({1: torch.zeros(1)}, file),
        lambda file: torch.save(SignsClassifier(), file),
    ],
)
def test_files_without_a_state_dict(
    write: Callable[[Path], Any], tmp_path: Path
) -> None:
    file = tmp_path / "weights.pt"
    write(file)
    with pytest.raises(ValueError, match="holds something else"):
        load("signs", weights=file)


@pytest.mark.parametrize(
    "query, index",
    [(3, 3), ("3", 3), ("Cardigan", 1), ("cardigan", 2), ("BOW", 0), ("sund", 4)],
)
def test_find_class(query: int | str, index: int) -> None:
    names = ("bow", "Cardigan", "cardigan", "rainbow", "ice cream, sundae")
    assert find_class(names, query) == index


@pytest.mark.parametrize(
    "query, said",
    [
        ("red circle", "class must match a single .* 0 'red circle, bar'"),
        ("red circel, bar", "got .* .did you mean 'red circle, bar'"),
        (16, "class must be a name or an index from 0 to 15, got '16'"),
        (-1, "class must be a name .* got '-1'"),
    ],
)
def test_errors_of_find_class_suggest_names(query: int | str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        find_class(SIGN_CLASSES, query)


# Real networks


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_0"])
def test_real_networks_classify_real_images(name: str) -> None:
    folder = os.environ.get("CAPTUM_EXT_DATA")
    if folder is None:
        pytest.skip("CAPTUM_EXT_DATA does not name the folder with the real data")
    data = Path(folder)
    loaded = load(name, weights=data / "models" / f"{name}.pt")
    with open(data / "imagenet" / "boxes.csv", newline="") as file:
        truth = {row["image"]: int(row["class_index"]) for row in csv.DictReader(file)}
    names = list(truth)[:24]
    images = [Image.open(data / "imagenet" / "images" / name) for name in names]
    with torch.no_grad():
        logits = loaded.model(torch.stack([loaded.preprocess(i) for i in images]))
    top = logits.topk(5).indices
    labels = torch.tensor([truth[name] for name in names])
    assert (top == labels[:, None]).any(1).float().mean() >= 0.6


def test_classifier_has_a_compact_representation():
    signs = load("signs")
    text = "ZooModel(SignsClassifier, 16 classes, 3 channels, softmax"
    assert repr(signs) == f"{text})"
    masked = signs.with_masking_network(load_signs_masks())
    assert repr(masked) == f"{text}, with a masking network)"
    one = signs._replace(class_names=("a",))
    assert repr(one) == "ZooModel(SignsClassifier, 1 class, 3 channels, sigmoid)"
