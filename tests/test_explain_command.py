"""Command captum-ext explain: several images and methods, a class to compare with."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from captum_ext._warnings import warn_of_examples
from captum_ext.attr import PNRISE, RISE
from captum_ext.cli import main
from captum_ext.commands.image_options import find_target
from captum_ext.commands.image_outputs import FoundMap
from captum_ext.datasets import read_images
from captum_ext.evaluation import evaluate
from captum_ext.methods import METHODS, Method
from captum_ext.methods.specs import read_methods
from captum_ext.subject import build_subject
from captum_ext.visualization import refinement_figure
from captum_ext.zoo import Preprocessing, ZooModel, load, sign_scene

ALL_PARTS = """
import torch
from captum_ext.zoo import Preprocessing, ZooModel

class AllParts(torch.nn.Module):
    def forward(self, x):
        bright = 8 * (x.mean((1, 2, 3)) > 0.9).float()
        return torch.stack([bright, 4 - 0 * bright], 1)

def network(weights):
    mean, std = (0.0,) * 3, (0.8,) * 3
    return ZooModel(
        AllParts(), Preprocessing.square(32, mean, std), ("all", "none"), mean, std
    )
"""

EXPLAIN = ["explain", "--model", "signs"]


@pytest.fixture(autouse=True)
def scenes(tmp_path, monkeypatch) -> None:
    """Three scenes in the folder scenes, from which the tests run."""
    monkeypatch.chdir(tmp_path)
    Path("scenes").mkdir()
    for seed in range(3):
        pixels = sign_scene(seed).image.permute(1, 2, 0).mul(255).byte().numpy()
        Image.fromarray(pixels).save(f"scenes/{seed}.png")


@pytest.fixture
def figures(monkeypatch) -> list:
    """Figures that a command writes, with their files."""
    written = []
    monkeypatch.setattr(
        "captum_ext.commands.explain.save_figure",
        lambda figure, path: written.append((figure, str(path))),
    )
    return written


def assert_equal_maps(one: str, other: str) -> None:
    """Equal up to the rounding of batches, whose sizes follow the speed."""
    found, expected = np.load(one), np.load(other)
    atol = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def inputs_of(seed: int) -> torch.Tensor:
    return load("signs").preprocess(Image.open(f"scenes/{seed}.png"))[None]


def test_each_image_has_its_figure_and_the_map_that_it_has_alone(capsys):
    methods = ["--method", "rise:n_masks=16,grad-cam++"]
    several = [*EXPLAIN, *methods, "scenes", "--save-map", "maps", "-o", "figures"]
    assert main(several) == 0
    printed = capsys.readouterr().out
    for seed in range(3):
        assert f"{seed}.png: class {sign_scene(seed).label}, " in printed
        for method in ("rise", "grad-cam++"):
            # Alone, among the methods and the images.
            alone = "rise:n_masks=16" if method == "rise" else method
            arguments = [*EXPLAIN, f"scenes/{seed}.png", "--method", alone]
            assert main([*arguments, "--save-map", "alone.npy"]) == 0
            assert_equal_maps(f"maps/{seed}-{method}.npy", "alone.npy")
            assert Path(f"{seed}-{method}.png").is_file()
    found = {path.name for path in Path("figures").iterdir()}
    assert found == {f"{seed}-rise-grad-cam++.png" for seed in range(3)}


def test_the_classifier_is_loaded_once(monkeypatch, figures):
    calls = []
    monkeypatch.setattr(
        "captum_ext.commands.model_options.zoo.load",
        lambda *arguments: calls.append(arguments) or load(*arguments),
    )
    assert main([*EXPLAIN, "scenes", "--method", "gradient"]) == 0
    assert len(calls) == 1 and len(figures) == 3


def test_a_figure_has_a_panel_for_each_method(figures):
    methods = "pn-rise:n_masks=16,few=rise:n_masks=8,cameras,DeepLift"
    assert main([*EXPLAIN, "scenes/0.png", "--method", methods]) == 0
    [(figure, path)] = figures
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == ["image", "PN-RISE", "few", "CAMERAS", "DeepLift", ""]
    assert path == "0-pn-rise-few-cameras-DeepLift.png"


def test_unsigned_methods_alone_have_colors_of_their_own(figures):
    for methods, least in (
        ("grad-cam,cameras", "0"),
        ("grad-cam,pn-rise:n_masks=8", "lowers\nthe score"),
    ):
        assert main([*EXPLAIN, "scenes/0.png", "--method", methods]) == 0
        labels = figures[-1][0].axes[-1].get_yticklabels()
        assert labels[0].get_text() == least


def test_colors_are_drawn_below_other_methods():
    arguments = [*EXPLAIN, "scenes/0.png", "--method", "gradient,mc-rise"]
    arguments += ["--n-masks", "8", "--colors", "red,blue"]
    assert main([*arguments, "-o", "both.png"]) == 0
    assert main([*arguments, "--method", "gradient", "-o", "one.png"]) == 2
    assert main([*arguments, "--method", "mc-rise", "-o", "colors.png"]) == 0
    both, colors = (Image.open(f"{name}.png") for name in ("both", "colors"))
    assert both.width == colors.width and both.height > colors.height + 200
    assert main([*arguments, "-o", "both.svg"]) == 2


def test_options_of_all_methods_equal_those_of_one():
    """--n-masks and --tolerance are n_masks and rtol of the methods that take them."""
    base = [*EXPLAIN, "scenes/1.png", "--save-map"]
    assert (
        main([*base, "a", "--method", "pn-rise,rise:n_masks=8", "--n-masks", "16"]) == 0
    )
    assert main([*base, "b", "--method", "pn-rise:n_masks=16,rise:n_masks=8"]) == 0
    assert main([*base, "c", "--method", "pn-rise,gradient", "--tolerance", "0.5"]) == 0
    assert main([*base, "d", "--method", "pn-rise:rtol=0.5,gradient"]) == 0
    for one, other, method in (
        ("a", "b", "pn-rise"),
        ("a", "b", "rise"),
        ("c", "d", "pn-rise"),
    ):
        assert_equal_maps(f"{one}/1-{method}.npy", f"{other}/1-{method}.npy")
    expected = RISE(lambda x: load("signs").model(x).softmax(1)).attribute(
        inputs_of(1), target=sign_scene(1).label, n_masks=8, seed=0
    )
    np.testing.assert_allclose(np.load("a/1-rise.npy"), expected[0], atol=1e-5)


def test_an_error_above_the_tolerance_is_said(capsys):
    arguments = [*EXPLAIN, "scenes/1.png", "--n-masks", "16", "--tolerance"]
    assert main([*arguments, "0.001"]) == 0
    assert "(for --tolerance, increase --n-masks)" in capsys.readouterr().out
    assert main([*arguments, "100"]) == 0
    assert "increase" not in capsys.readouterr().out


def test_other_images_are_explained_if_one_is_unreadable(capsys):
    Path("scenes/1.png").write_text("not an image")
    assert main([*EXPLAIN, "scenes", "missing.png", "--method", "gradient"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(
        "captum-ext: error: scenes/1.png: image must be an image"
    )
    assert lines[1].startswith("captum-ext: error: missing.png: image must be an exist")
    assert sorted(p.name for p in Path().glob("*.png")) == [
        "0-gradient.png",
        "2-gradient.png",
    ]


# --against


class Linear(nn.Module):
    """Logits that are sums of pixels with known weights."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 3 * 8 * 8, generator=generator) / 30)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ self.weight.T


def linear_subject(activation: str = "softmax", **changes: int):
    entry = ZooModel(
        Linear().eval(),
        Preprocessing.square(8),
        ("a", "b", "c"),
        (0.0,) * 3,
        (1.0,) * 3,
        activation=activation,
    )
    x = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(1))
    return build_subject(entry, x)._replace(**changes)


def test_against_explains_the_difference_of_logits():
    """Of a linear model, by hand: weights of gradients, weights times pixels."""
    subject = linear_subject(target=2, against=0)
    weight = subject.model.weight.detach()
    difference = (weight[2] - weight[0]).view(1, 3, 8, 8)
    methods = read_methods("gradient,integrated-gradients,occlusion,InputXGradient")
    maps = {name: spec.attribute(subject)[0] for name, spec in methods.items()}
    product = difference * subject.inputs
    torch.testing.assert_close(maps["gradient"], difference.abs())
    torch.testing.assert_close(
        maps["integrated-gradients"], product, atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(maps["InputXGradient"], product)
    # Each pixel is a window here, which is hidden in all channels at once.
    expected = product.sum(1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(maps["occlusion"], expected, atol=1e-6, rtol=1e-4)


def test_against_is_antisymmetric_and_equals_the_library():
    spec = read_methods("pn-rise:n_masks=32")["pn-rise"]
    one, _ = spec.attribute(linear_subject(target=2, against=0))
    other, _ = spec.attribute(linear_subject(target=0, against=2))
    torch.testing.assert_close(one, -other)
    subject = linear_subject()
    expected = PNRISE(
        lambda x: subject.model(x)[:, 2] - subject.model(x)[:, 0]
    ).attribute(subject.inputs, n_masks=32, estimator="field", layout="superpixels")
    torch.testing.assert_close(one, expected)


@pytest.mark.parametrize("activation", ["softmax", "identity"])
def test_against_keeps_the_prediction(activation):
    """CAMERAS compares it between sizes."""
    subject = linear_subject(activation, target=2, against=0)
    subject.model.weight.data.abs_()
    scores = subject.explained("model")(subject.inputs)
    assert scores.argmax() == subject.model(subject.inputs).argmax()
    assert scores[0, subject.against] == 0


def test_against_compares_log_probabilities_of_a_model_that_returns_them():
    subject = linear_subject("identity", target=0, against=1)
    subject.model.weight.data.abs_()
    score = subject.explained("probabilities")(subject.inputs)[:, subject.target]
    p = subject.model(subject.inputs)
    torch.testing.assert_close(score, (p[:, 0] / p[:, 1]).log())
    subject.model.weight.data[1] = 0
    assert torch.isfinite(subject.explained("model")(subject.inputs)).all()


def test_against_on_the_command_line(figures, capsys):
    arguments = [*EXPLAIN, "scenes/0.png", "--method", "gradient", "--save-map"]
    assert main([*arguments, "map.pt", "--target", "3", "--against", "top1"]) == 0
    x, model = inputs_of(0).requires_grad_(), load("signs").model
    right = sign_scene(0).label
    (model(x)[:, 3] - model(x)[:, right]).sum().backward()
    found = torch.load("map.pt", weights_only=True)
    torch.testing.assert_close(found, x.grad[0].abs(), atol=1e-5, rtol=1e-3)
    printed = capsys.readouterr().out
    assert re.search(r"class 3, .*\d, against class 0, red circle, bar: prob", printed)
    caption = figures[0][0].axes[0].get_xlabel()
    assert re.fullmatch(
        r"blue circle, arrow: ...., *|[^\n]*\nagainst red [^\n]*", caption
    )


def test_classes_by_rank():
    subject = linear_subject()
    order = subject.class_probabilities.argsort(descending=True).tolist()
    found = [find_target("--target", f"top{n}", subject) for n in (1, 2, 3)]
    assert found == order
    with pytest.raises(ValueError, match="--against must be at most top3, got .top4"):
        find_target("--against", "top4", subject)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("scenes -o out.png", "--output must be a folder for several images"),
        ("scenes --save-map map.npy", "--save-map must be a folder for several"),
        ("scenes -o scenes", "--output must be another folder than that of the images"),
        ("scenes -o nowhere/out", "--output must be a folder in an existing one"),
        ("scenes/0.png -o scenes/0.png", "--output must have another name than the im"),
        ("scenes/0.png other/0.png", "image must be files of different names"),
        (". --method gradient", "image must be a file or a folder with image files"),
        (
            "scenes/0.png --against top1",
            "--against must be another class than --target",
        ),
        ("scenes/0.png --against red", "--against must match a single name, got 'red'"),
        (
            "scenes/0.png --method masking-model --against 1",
            "--against must be used with methods that explain a score, got 'mask",
        ),
        ("scenes/0.png --method pn-rise:n_mask=9", "(did you mean 'n_masks'?)"),
        (
            "scenes/0.png --method pn-rise:n_masks=1",
            "--method pn-rise: n_masks must be",
        ),
        (
            "scenes/0.png --method occlusion:strides=500",
            "--method occlusion: Stride dimension 500 cannot be larger",
        ),
        (
            "scenes/0.png --method pn-rise:n_masks=few",
            "--method must give pn-rise an integer as n_masks, got 'few'",
        ),
        ("scenes/0.png --method rise,rise", "--method must have different names"),
        ("scenes/0.png --method pn-rize", "--method must be a known name"),
        (
            "scenes/0.png --method gradient --tolerance .1",
            "--tolerance must be used with",
        ),
        (
            "scenes/0.png --method rise:n_masks=9 --n-masks 8",
            "--n-masks must be used with a method that has random masks and no n_masks",
        ),
        ("scenes/0.png --colors red", "--colors must be used with mc-rise, got 'pn-ri"),
        (
            "scenes/0.png --tolerance 0",
            "--tolerance must be a positive number, got 0.0",
        ),
        (
            "scenes/0.png --device qpu",
            "--device must be a device that PyTorch has here",
        ),
        ("scenes/0.png --model sings", "--model must be 'signs', 'resnet20'"),
        ("scenes/0.png --model sings", "(did you mean 'signs'"),
        ("scenes/0.png --weights none.pt", "--weights must be an existing"),
        ("scenes/0.png --layer featurs --method cameras", "did you mean 'features'"),
        ("scenes/0.png --colors rde --method mc-rise", "--colors must be among"),
    ],
)
def test_errors_name_options_in_one_line(arguments, words, capsys):
    Path("other").mkdir()
    Path("other/0.png").write_bytes(Path("scenes/0.png").read_bytes())
    given = arguments.split()
    model = [] if "--model" in given else ["--model", "signs"]
    assert main(["explain", *given, *model]) == 2
    error = capsys.readouterr().err
    assert error.startswith("captum-ext: error: ") and error.count("\n") == 1
    assert words in error


@pytest.mark.parametrize("output", ["closed", "closed/out.png", "closed/new"])
def test_folder_that_cannot_be_written_is_refused_at_once(output, monkeypatch, capsys):
    Path("closed").mkdir()
    # Nothing is closed to a superuser.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed")
    for option in ("--output", "--save-map"):
        given = output.replace("png", "npy") if option == "--save-map" else output
        assert main([*EXPLAIN, "missing.png", option, given]) == 2
        error = capsys.readouterr().err
        assert f"{option} must be in a folder that can be written, got " in error


def test_refused_value_is_reported_once(capsys):
    assert main([*EXPLAIN, "scenes", "--method", "rise:grid_size=99"]) == 2
    [error] = capsys.readouterr().err.splitlines()
    assert error.startswith("captum-ext: error: --method rise: grid_size must ")


def test_device():
    arguments = [*EXPLAIN, "scenes/0.png", "--method", "gradient", "--device", "cpu"]
    assert main(arguments) == 0


def test_photograph_with_several_methods(figures):
    if "CAPTUM_EXT_DATA" not in os.environ:
        pytest.skip("CAPTUM_EXT_DATA is unset: no real images and networks")
    data = Path(os.environ["CAPTUM_EXT_DATA"])
    image = data / "imagenet" / "images" / "ILSVRC2012_val_00000003.jpg"
    arguments = ["explain", str(image), "--model", "mobilenet_v2", "--weights"]
    arguments += [str(data / "models" / "mobilenet_v2.pt"), "--against", "collie"]
    arguments += ["--method", "grad-cam,gradient", "--save-map", "maps"]
    assert main(arguments) == 0
    maps = np.load("maps/ILSVRC2012_val_00000003-grad-cam.npy")
    assert maps.shape == (1, 224, 224) and maps.max() > 0
    assert len(figures[0][0].axes) == 4


WARNS = """
import warnings
from captum.attr import PerturbationAttribution
from captum_ext._warnings import warn_of_examples

class Warns(PerturbationAttribution):
    def attribute(self, inputs, target=None):
        for _ in range(2):
            warn_of_examples("odd", 1, 1, "no reason")
            warnings.warn("hooks are set")
        return inputs
"""


def texts_of(caught: list) -> list[str]:
    return [str(each.message) for each in caught]


def test_warnings_name_their_image_and_those_of_others_come_once(tmp_path):
    Path("own.py").write_text(WARNS)
    images = ["scenes/0.png", "scenes/1.png"]
    with pytest.warns(UserWarning) as caught:
        assert main([*EXPLAIN, *images, "--method", "own.py:Warns"]) == 0
    expected = [f"{image}: odd: no reason." for image in images]
    assert texts_of(caught) == [expected[0], "hooks are set", expected[1]]
    with pytest.warns(UserWarning) as caught:
        results = evaluate(
            read_images("scenes"), load("signs"), "own.py:Warns", "sparseness", "out"
        )
    assert results.table["value"].notna().all()
    assert texts_of(caught) == [
        "0.png: odd: no reason.",
        "hooks are set",
        "1.png: odd: no reason.",
        "2.png: odd: no reason.",
    ]


def test_warnings_of_refine_name_the_image(monkeypatch):
    def warn(*_: object) -> None:
        warn_of_examples("odd", 1, 1, "no reason")

    monkeypatch.setattr("captum_ext.commands.refine.print_subject", warn)
    with pytest.warns(UserWarning, match="^scenes/0.png: odd: no reason.$"):
        assert main(["refine", "--model", "signs", "scenes/0.png"]) == 0


def test_uniform_maps_start_at_their_lowest_value():
    """Of signed maps only; a few outliers change nothing."""
    method, outliers = METHODS["pn-rise"], [0.0, 9.0]
    for low, uniform in ((0.0, False), (0.29, False), (0.31, True), (0.9, True)):
        values = torch.tensor([low] * 60 + [1.0] * 60 + outliers)
        maps = values.expand(1, 3, 1, -1)
        assert method.is_uniform(maps) == uniform
        shown = method.displayed(maps)[0, 0]
        assert float(shown[0]) == pytest.approx(0 if uniform else low)
        assert float(shown[60]) == pytest.approx(1 - low if uniform else 1)
        assert not METHODS["masking-model"].is_uniform(maps)
        assert not method.is_uniform(-maps)


def test_figures_show_what_exceeds_its_error():
    maps, error = torch.tensor([4.0, 1.0, -2.0]), torch.full((3,), 2.0)
    plain, reduced = [[[4.0, 1.0, -2.0]]], [[[3.0, 0.0, 0.0]]]
    for name, options, expected in (
        ("pn-rise", {}, reduced),
        ("borex", {}, reduced),
        ("borex", {"variant": "field"}, reduced),
        # Its deviation is that of a window.
        ("borex", {"variant": "paper"}, plain),
        # Its zero means nothing.
        ("rise", {}, [[[6.0, 3.0, 0.0]]]),
    ):
        shape = (1, 3, 1, 3)
        found = FoundMap(
            METHODS[name], maps.expand(shape), error.expand(shape), options
        )
        assert found.shown().tolist() == expected
        assert found._replace(details=None).shown().tolist() in (plain, expected)
    colors = FoundMap(
        METHODS["mc-rise"], torch.ones(1, 5, 2, 2), torch.ones(1, 5, 2, 2)
    )
    assert colors.shown().shape == (5, 2, 2) and not colors.shown().any()


def test_passes_of_a_prior_are_counted(capsys):
    """The field has none by default, windows refine RISE with 100 masks."""
    for options, passes in (
        ("", "10 passes, "),
        (":variant=windows", "110 passes with"),
    ):
        method = f"borex{options}:n_iterations=4"
        assert main([*EXPLAIN, "scenes/0.png", "--method", method]) == 0
        assert f"BOREx: {passes}" in capsys.readouterr().out


def test_map_within_its_error_says_so(monkeypatch, figures):
    attribute = Method.attribute_with_details

    def uncertain(self, subject, **options):
        maps, error = attribute(self, subject, **options)
        return maps, error + 1e6

    monkeypatch.setattr(Method, "attribute_with_details", uncertain)
    assert main([*EXPLAIN, "scenes/0.png", "--n-masks", "20"]) == 0
    assert figures[0][0].axes[1].get_xlabel() == "nothing exceeds its error"


SCRIPTED = """
import torch
from captum_ext.zoo import load

def scripted(weights):
    signs = load("signs")
    return signs._replace(model=torch.jit.script(signs.model))
"""


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_scripted_model_is_explained(capsys):
    """It takes no hooks, by which passes are counted."""
    Path("own.py").write_text(SCRIPTED)
    words = ["scenes/0.png", "--model", "own.py:scripted", "-o", "out.png"]
    assert main(["explain", *words, "--n-masks", "8"]) == 0
    assert main(["refine", *words, "--prior", "none", "--n-iterations", "4"]) == 0
    passes = re.findall(r"(PN-RISE|BOREx): (\d+) passes", capsys.readouterr().out)
    assert [name for name, n in passes if int(n) >= 8] == ["PN-RISE", "BOREx"]


def test_refine_draws_maps_as_explain(monkeypatch):
    """A map of RISE, and a map without contrast, from their lowest values on."""
    drawn = []

    def draw(*maps):
        drawn.append(maps)
        return refinement_figure(*maps)

    monkeypatch.setattr("captum_ext.commands.refine.refinement_figure", draw)
    high = np.linspace(1, 2, 96 * 96, dtype=np.float32).reshape(96, 96)
    np.save("high.npy", high)
    for prior in ("rise", "high.npy"):
        words = ["refine", "scenes/0.png", "--model", "signs", "--prior", prior]
        assert main([*words, "--n-iterations", "5"]) == 0
        _, before, *_ = drawn.pop()
        assert before.min() == 0 and before.max() > 0


def test_uniform_maps_are_named(tmp_path, capsys, monkeypatch):
    """A network that needs every part of an image, as far as halves can tell."""
    path = tmp_path / "own.py"
    path.write_text(ALL_PARTS)
    Image.fromarray(np.full((32, 32, 3), 200, np.uint8)).save(tmp_path / "x.png")
    command = ["explain", str(tmp_path / "x.png"), "--model", f"{path}:network"]
    assert main([*command, "-o", str(tmp_path / "out.png"), "--n-masks", "20"]) == 0
    assert "every part of the image counts nearly the same" in capsys.readouterr().out
    figures = []
    monkeypatch.setattr(
        "captum_ext.commands.refine.save_figure", lambda f, _: figures.append(f)
    )
    for prior in ("rise", "none"):
        command = ["refine", *command[1:4], "--n-iterations", "10", "--prior", prior]
        assert main(command) == 0
        assert "every part of the image counts nearly" in capsys.readouterr().out
        captions = {a.get_title(): a.get_xlabel() for a in figures[-1].axes}
        assert captions["map"] == "colors start at the lowest value"
        assert not captions.get("prior")
