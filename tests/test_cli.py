"""Command line: output files, printed lines and one-line errors."""

import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import captum_ext
from captum_ext._suggestions import did_you_mean, known_name
from captum_ext._validation import check_choice
from captum_ext.attr import MaskingModel
from captum_ext.cli import main
from captum_ext.evaluation import METRICS
from captum_ext.masking import MaskingNetwork
from captum_ext.methods import METHODS
from captum_ext.methods.attribution_classes import captum_methods
from captum_ext.methods.specs import method_options
from captum_ext.zoo import load, load_signs_masks, sign_scene


@pytest.fixture
def scene_file(tmp_path: Path) -> Path:
    image = sign_scene(0).image.permute(1, 2, 0).mul(255).byte().numpy()
    path = tmp_path / "scene.png"
    Image.fromarray(image).save(path)
    return path


def test_demo_writes_one_figure(tmp_path, capsys):
    output = tmp_path / "demo.png"
    assert main(["demo", "--output", str(output)]) == 0
    with Image.open(output) as figure:
        assert figure.width > 800 and figure.height > 800
    printed = capsys.readouterr().out
    for method in METHODS.values():
        assert (f"{method.title}: " in printed) is not method.reference


@pytest.mark.parametrize("method", ["pn-rise", "rise", "mc-rise"])
@pytest.mark.parametrize("suffix", [".npy", ".pt"])
def test_explain_writes_figure_and_map(method, suffix, scene_file, tmp_path, capsys):
    figure, saved = tmp_path / "out.png", tmp_path / f"map{suffix}"
    arguments = ["explain", str(scene_file), "--model", "signs", "--method", method]
    arguments += ["--n-masks", "64", "-o", str(figure), "--save-map", str(saved)]
    colors = ["--colors", "red,blue"] if method == "mc-rise" else []
    assert main([*arguments, *colors]) == 0
    printed = capsys.readouterr().out
    assert "red circle, bar: probability" in printed and " s, " in printed
    with Image.open(figure) as image:
        assert image.width > 300
    maps = np.load(saved) if suffix == ".npy" else torch.load(saved, weights_only=True)
    assert maps.shape == ((2 if method == "mc-rise" else 3), 96, 96)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("method", ["cameras", "grad-cam", "grad-cam++"])
def test_layer_methods(method, scene_file, tmp_path, capsys):
    """The last layer with maps is found and printed; naming it changes nothing.

    CAMERAS takes the stage before as well, unless a layer is named.
    """
    saved = [tmp_path / f"{i}.pt" for i in range(3)]
    arguments = ["explain", str(scene_file), "--model", "signs", "--method", method]
    arguments += ["-o", str(tmp_path / "out.png"), "--save-map"]
    assert main([*arguments, str(saved[0])]) == 0
    printed = capsys.readouterr().out
    layers = "layers for CAMERAS: features.2 and features\n"
    layer = "layer for layer methods: features\n"
    assert (layer in printed, layers in printed) == (
        (False, True) if method == "cameras" else (True, False)
    )
    assert ("sizes kept 96" in printed) == (method == "cameras")
    assert main([*arguments, str(saved[1]), "--layer", "features.6"]) == 0
    assert main([*arguments, str(saved[2]), "--layer", "features.2"]) == 0
    found, named, other = (torch.load(path, weights_only=True) for path in saved)
    assert found.shape == (1, 96, 96) and found.max() > 0
    assert torch.allclose(named, found) == (method != "cameras")
    assert not torch.allclose(other, found)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "method", ["gradient", "occlusion", "integrated-gradients", "iterative-mask"]
)
def test_other_methods(method, scene_file, tmp_path):
    saved = tmp_path / "map.npy"
    arguments = ["explain", str(scene_file), "--model", "signs", "--method", method]
    arguments += ["-o", str(tmp_path / "out.png"), "--save-map", str(saved)]
    assert main(arguments) == 0
    assert np.load(saved).shape == (3, 96, 96)


def masks_of(network: MaskingNetwork, scene_file: Path, target: int) -> torch.Tensor:
    inputs = load("signs").preprocess(Image.open(scene_file))[None]
    return MaskingModel(network).attribute(inputs, target=target)[0]


@pytest.mark.parametrize("command", ["explain --method", "refine --prior"])
def test_masking_network_from_a_file(command, scene_file, tmp_path, monkeypatch):
    """The command's mask equals the library's and can be a prior."""
    monkeypatch.chdir(tmp_path)
    network = MaskingNetwork(16, width=8).eval()
    network.save("network.pt")
    name, option = command.split()
    arguments = [name, str(scene_file), "--model", "signs", option, "masking-model"]
    arguments += ["--target", "5", "-o", "out.png", "--save-map", "map.pt"]
    arguments += ["--n-iterations", "2"] if name == "refine" else []
    assert main([*arguments, "--masking-network", "network.pt"]) == 0
    maps = torch.load("map.pt", weights_only=True)
    expected = masks_of(network, scene_file, 5)
    if name == "explain":
        torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-4)
    assert maps.shape == expected.shape and Path("out.png").is_file()


def test_signs_has_a_built_in_masking_network(scene_file, tmp_path):
    saved = tmp_path / "map.pt"
    arguments = ["explain", str(scene_file), "--model", "signs", "-o"]
    arguments += [str(tmp_path / "out.png"), "--method", "masking-model"]
    assert main([*arguments, "--save-map", str(saved)]) == 0
    maps = torch.load(saved, weights_only=True)
    expected = masks_of(load_signs_masks(), scene_file, sign_scene(0).label)
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-4)


OWN = """
import torch
from colors import MEAN, STD
from captum_ext.zoo import Preprocessing, ZooModel

def bright(weights):
    model = torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2)
    )
    model.load_state_dict(torch.load(weights, weights_only=True))
    names = ("dark", "bright")
    return ZooModel(model, Preprocessing.square(16, MEAN, STD), names, MEAN, STD)
"""


def test_own_classifier(scene_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("folder/colors.py").write_text("MEAN, STD = (0.5,) * 3, (0.25,) * 3")
    Path("folder/own.py").write_text(OWN)
    weight = torch.tensor([[-9.0] * 3, [9.0] * 3])
    torch.save({"2.weight": weight, "2.bias": torch.zeros(2)}, "own.pt")
    arguments = ["explain", str(scene_file), "--model", "folder/own.py:bright"]
    arguments += ["--weights", "own.pt", "--method", "gradient", "-o", "out.png"]
    assert main([*arguments, "--save-map", "map.npy", "--target", "bright"]) == 0
    assert "class 1, bright: probability" in capsys.readouterr().out
    np.testing.assert_allclose(np.load("map.npy"), 9 / 16**2, rtol=1e-5)


def test_figure_is_written_to_the_current_folder_by_default(
    scene_file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    arguments = ["explain", str(scene_file), "--model", "signs", "--n-masks", "16"]
    assert main(arguments) == 0
    assert (tmp_path / "scene-pn-rise.png").is_file()


def test_map_equals_that_of_the_library(scene_file, tmp_path):
    """The command explains the softmax probability of the preprocessed image."""
    from captum_ext.attr import PNRISE

    saved = tmp_path / "map.pt"
    arguments = ["explain", str(scene_file), "--model", "signs", "--n-masks", "32"]
    arguments += ["-o", str(tmp_path / "o.png"), "--save-map", str(saved)]
    assert main([*arguments, "--target", "blue circle, bar", "--seed", "3"]) == 0
    entry = load("signs")
    inputs = entry.preprocess(Image.open(scene_file))[None]
    expected = PNRISE(lambda x: entry.model(x).softmax(1)).attribute(
        inputs, target=1, estimator="field", layout="superpixels", n_masks=32, seed=3
    )
    maps = torch.load(saved, weights_only=True)
    torch.testing.assert_close(maps, expected[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"image": "missing.jpg"}, "missing.jpg"),
        ({"image": "text.png"}, "text.png"),
        ({"--model": "resnet5000"}, "resnet50"),
        ({"--method": "magic"}, "pn-rise"),
        ({"--target": "zebra"}, "zebra"),
        ({"--target": "999"}, "999"),
        ({"--weights": "missing.pt"}, "missing.pt"),
        ({"--weights": "misfit.pt"}, "misfit.pt"),
        ({"--n-masks": "1"}, "--n-masks"),
        ({"--n-masks": "ten"}, "--n-masks must be an integer, got 'ten'."),
        ({"--tolerance": "x"}, "--tolerance must be a number, got 'x'."),
        ({"--method": "cameras", "--n-masks": "50"}, "random masks"),
        ({"--method": "cameras", "--layer": "featurs.6"}, "features.6"),
        ({"--layer": "features.6"}, "cameras"),
        ({"--masking-network": "network.pt"}, "used with masking-model, got 'pn-rise'"),
        (
            {"--method": "masking-model", "--masking-network": "misfit.pt"},
            "--masking-network must be a file written by MaskingNetwork.save",
        ),
        (
            {"--method": "masking-model", "--masking-network": "text.png"},
            "--masking-network must be a complete file",
        ),
        (
            {"--method": "masking-model", "--masking-network": "missing.pt"},
            "missing.pt",
        ),
        (
            {"--method": "masking-model", "--masking-network": "network.pt"},
            "as many classes as the model, 16, got 3",
        ),
        (
            {"--method": "masking-model", "--model": "resnet5000"},
            "--masking-network must be a file that captum-ext train wrote",
        ),
        (
            {"--method": "masking-model", "--weights": "misfit.pt"},
            "--masking-network must be a file that captum-ext train wrote",
        ),
        ({"--seed": "-1"}, "--seed"),
        ({"--seed": "9" * 23}, "--seed"),
        ({"--method": "mc-rise", "--colors": "red,mauve"}, "mauve"),
        ({"-o": "nowhere/out.png"}, "nowhere"),
        ({"-o": "out.docx"}, ".png"),
        ({"--save-map": "map.csv"}, ".npy"),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
def test_errors_are_one_line(change, words, scene_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("text.png").write_text("not an image")
    torch.save({"weight": torch.zeros(3)}, "misfit.pt")
    MaskingNetwork(3, width=8).save("network.pt")
    options = {"image": str(scene_file), "--model": "signs", **change}
    image = options.pop("image")
    arguments = ["explain", image, *(word for pair in options.items() for word in pair)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("captum-ext: error: ") and error.count("\n") == 1
    assert words in error and "Traceback" not in error


REFINE = ["--model", "signs", "--n-iterations", "4", "-o"]


@pytest.mark.parametrize("prior", ["grad-cam++", "rise", "none", "map.npy", "map.pt"])
def test_refine_writes_figure_and_map(prior, scene_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if prior.startswith("map"):
        cells = torch.rand(1, 7, 7, generator=torch.Generator().manual_seed(0))
        np.save("map.npy", cells.numpy())
        torch.save(cells, "map.pt")
    arguments = ["refine", str(scene_file), "--prior", prior, *REFINE, "out.png"]
    assert main([*arguments, "--save-map", "refined.npy"]) == 0
    assert "BOREx: " in capsys.readouterr().out
    with Image.open("out.png") as figure:
        assert figure.width > 1000
    assert np.load("refined.npy").shape == (3, 96, 96)


def test_refine_by_the_paper(scene_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    maps = []
    for variant in ("field", "windows", "paper"):
        arguments = ["refine", str(scene_file), "--prior", "none", *REFINE, "out.png"]
        arguments += ["--variant", variant, "--save-map", "refined.npy"]
        assert main(arguments) == 0
        maps.append(np.load("refined.npy"))
    assert len({each.tobytes() for each in maps}) == 3


@pytest.mark.parametrize(
    "change, words",
    [
        ({"--prior": "mc-rise"}, "did you mean 'rise'"),
        ({"--prior": "magic"}, "among pn-rise, rise, "),
        ({"--prior": "missing.npy"}, "missing.npy"),
        ({"--prior": "text.npy"}, "must be a file with a map"),
        ({"--prior": "flat.npy"}, "(C, h, w)"),
        ({"--prior": "nan.npy"}, "prior"),
        ({"--n-iterations": "0"}, "--n-iterations"),
        ({"--prior": "rise", "--layer": "features.6"}, "--layer"),
    ],
)
def test_errors_of_refine_are_one_line(
    change, words, scene_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("text.npy").write_text("not a map")
    np.save("flat.npy", np.zeros(3))
    np.save("nan.npy", np.full((7, 7), np.nan))
    arguments = ["refine", str(scene_file), *REFINE, "out.png"]
    assert main([*arguments, *(w for pair in change.items() for w in pair)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("captum-ext: error: ") and error.count("\n") == 1
    assert words in error


@pytest.mark.parametrize(
    "command, words",
    [
        ("", "captum-ext demo"),
        ("demo", "built-in"),
        ("explain", "explain its probability"),
        ("refine", "masking-model"),
        ("evaluate", "arrays:FILE.npz"),
        ("train", "arrays:FILE.npz"),
        ("report", "paired tests"),
        ("models", "List classifiers"),
        ("methods", "List attribution methods"),
        ("metrics", "the better direction"),
    ],
)
def test_help_of_each_command(command, words, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert words in printed
    takes_model = command in ("explain", "refine", "evaluate", "train")
    assert ("FILE.py:FUNCTION" in printed) == takes_model


# Iterative masks take 80 backward passes and are tested with signs only.
@pytest.mark.parametrize("method", [m for m in METHODS if m != "iterative-mask"])
def test_real_image_and_network(method, tmp_path):
    if "CAPTUM_EXT_DATA" not in os.environ:
        pytest.skip("CAPTUM_EXT_DATA is unset: no real images and networks")
    data = Path(os.environ["CAPTUM_EXT_DATA"])
    image = data / "imagenet" / "images" / "ILSVRC2012_val_00000003.jpg"
    output = tmp_path / "out.png"
    arguments = ["explain", str(image), "--model", "mobilenet_v2", "--method", method]
    arguments += ["--weights", str(data / "models" / "mobilenet_v2.pt")]
    if "n_masks" in METHODS[method].options():
        arguments += ["--n-masks", "40"]
    if method == "masking-model":
        network = tmp_path / "network.pt"
        MaskingNetwork(1000, width=8).save(network)
        arguments += ["--masking-network", str(network)]
    assert main([*arguments, "-o", str(output)]) == 0
    assert output.stat().st_size > 10_000


@pytest.mark.parametrize(
    "words, error",
    [
        ("explian photo.jpg", "command must be a known name .*'explain'"),
        ("explain photo.jpg --modle signs", "unknown option --modle .*'--model'"),
        ("explain photo.jpg --n-mask=3 --metod x", "unknown option --metod .*'--meth"),
        ("refine photo.jpg --variant feild", "--variant must be one of .*'field'"),
        (
            "evaluate --dataset sign -o out",
            "--dataset must be of a known kind .*'signs'",
        ),
        (
            "evaluate --dataset signs --metrics insert -o o",
            "--metrics must .*'insertion'",
        ),
        ("evaluate --dataset signs --methods borx -o o", "--methods must be .*'borex'"),
        ("evaluate --dataset signs --target top -o o", "--target must be .*'top1'"),
        ("methods pnrise", "WORD must be .*'pn-rise'"),
        ("metrics instertion", "WORD must be .*'insertion'"),
        ("models mobilnet_v2", "WORD must be .*'mobilenet_v2'"),
        ("explain photo.jpg --method pnrise", "--method must be .*'pn-rise'"),
        ("explain photo.jpg --method rise:n_mask=9", "--method must .*'n_masks'"),
        (
            "refine photo.jpg --prior gradcam",
            "--prior must be a known name .*'grad-cam",
        ),
    ],
)
def test_misspelled_words_get_a_suggestion(words, error, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("photo.jpg")
    assert main(words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(
        "captum-ext: error: " + error.replace(".*", r".*\(did you mean .*"), line
    )
    # Not among all other names.
    assert len(line) < 120


@pytest.mark.parametrize(
    "choices, expected",
    [
        (["pn-rise", "borex"], " (did you mean 'pn-rise'?)"),
        (["borex"], ""),
        (["PN-RISE"], " (did you mean 'PN-RISE'?)"),
        (["mc-rise", "pn-rise", "rise"], " (did you mean 'pn-rise'?)"),
        (["pn-rism", "pn-rise"], " (did you mean 'pn-rism' or 'pn-rise'?)"),
    ],
)
def test_suggestions(choices, expected):
    assert did_you_mean("pn-ris", choices) == expected
    with pytest.raises(ValueError) as error:
        check_choice("method", "pn-ris", choices)
    assert str(error.value).endswith(f"got 'pn-ris'{expected}.")
    listed = f"a known name{expected}" if expected else f"among {', '.join(choices)}"
    assert known_name("pn-ris", choices) == f"{listed}, got 'pn-ris'"


def test_list_of_methods_is_complete(capsys):
    assert main(["methods"]) == 0
    printed = capsys.readouterr().out
    for name, method in METHODS.items():
        entry = re.search(
            rf"^{re.escape(name)} +{re.escape(method.summary)}\n( .*\n)+", printed, re.M
        )
        listed = entry[0].partition("arguments: ")[2].replace(",", " ").split()
        assert {*listed} - {"none"} == method_options(method)
    assert {*captum_methods()} <= {*re.findall(r"\w+", printed)}
    assert main(["methods", "Lift"]) == 0
    assert set(re.findall(r"\w*Lift\w*", capsys.readouterr().out)) == {
        name for name in captum_methods() if "Lift" in name
    }


@pytest.mark.parametrize(
    "kind, name", [*product(["methods"], METHODS), *product(["metrics"], METRICS)]
)
def test_arguments_of_one_name_are_described(kind, name, capsys):
    """All of them, with their defaults."""
    assert main([kind, name]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split()[0] == name
    printed = dict(re.findall(r"^  (\w+)=?(.*?) \(", "\n".join(lines), re.M))
    entry = METHODS[name] if kind == "methods" else METRICS[name]
    assert {*printed} == (
        method_options(entry) if kind == "methods" else entry.options()
    )
    assert "Not described." not in lines and max(map(len, lines)) <= 88
    if kind == "methods":
        assert {k: str(v) for k, v in entry.defaults.items()}.items() <= printed.items()


def test_description_of_an_argument(capsys):
    assert main(["methods", "rise"]) == 0
    printed = capsys.readouterr().out
    assert "\n  rtol=0.1 (float)\n      Typical standard error (root mean" in printed
    assert "\n  keep_probability=0.5 (float)\n" in printed
    # The name of one of Captum's classes may be a part of it.
    assert main(["methods", "valuesampling"]) == 0
    printed = capsys.readouterr().out
    assert "\n  n_samples=25 (int)\n      The number of feature permut" in printed
    assert main(["methods", "masking-model"]) == 0
    assert capsys.readouterr().out.endswith("\nno arguments\n")


def test_list_of_metrics_has_their_directions(capsys):
    assert main(["metrics"]) == 0
    printed = capsys.readouterr().out
    for name, metric in METRICS.items():
        better = "higher" if metric.higher_is_better else "lower"
        boxes = ", needs boxes" if metric.needs_boxes else ""
        assert re.search(rf"^{name} .*\({better} is better{boxes}\)$", printed, re.M)


def test_list_of_models_has_every_source(capsys):
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    for words in (
        "signs, resnet20",
        "mobilenet_v2",
        "timm:NAME",
        "hf:NAME",
        "onnx:",
    ):
        assert words in printed
    assert "fcn_resnet50" not in printed
    assert main(["models", "resnet1"]) == 0
    found = set(re.findall(r"[\w:.]+", capsys.readouterr().out.split("timm:\n")[0]))
    assert found == {"torchvision:", "resnet101", "resnet152", "resnet18"} | {
        "wide_resnet101_2"
    }
    assert main(["models", "nothing"]) == 2


@pytest.mark.parametrize(
    "words, status",
    [
        ("models", 0),
        ("methods", 0),
        ("metrics --help", 0),
        ("explain scene.png --model signs --method gradient -o out.png", 0),
        ("explain missing.png --model signs", 2),
    ],
)
def test_lines_that_nobody_reads_change_nothing(words, status, scene_file, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "captum_ext", *words.split()]
    # PYTHONPATH: the current folder is that of the image.
    run = subprocess.run(
        command,
        stdout=writer,
        stderr=subprocess.PIPE if status == 0 else writer,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(captum_ext.__file__).parents[1])},
    )
    os.close(writer)
    assert run.returncode == status and not run.stderr
    assert (tmp_path / "out.png").is_file() == ("-o" in words.split())


@pytest.mark.parametrize("words", ["methods random", "--version", "refine --help"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
def test_full_disk_behind_a_redirection_is_one_error(words, unbuffered):
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "captum_ext", *words.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )
    assert run.returncode == 2 and run.stderr.count("\n") == 1


def test_interruption_has_one_line_and_status_130(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("captum_ext.commands.demo._run", interrupted)
    assert main(["demo"]) == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "captum-ext: interrupted; files that were written stay"


def test_command_prints_warnings_in_one_line():
    code = (
        "import sys, warnings\n"
        "from captum_ext.commands import demo\n"
        "demo._run = lambda options: warnings.warn('two\\nlines', stacklevel=1)\n"
        "sys.argv = ['captum-ext', 'demo']\n"
        "from captum_ext.cli import main\n"
        "sys.exit(main())\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0
    assert "captum-ext: warning: two lines" in run.stderr.splitlines()
