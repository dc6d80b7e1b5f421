"""Evaluation: values against the library's functions, resuming, errors and checks."""

import itertools
import json
import linecache
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import DeepLift, FeatureAblation, LayerGradCam, Saliency
from PIL import Image
from torch import nn
from torchvision.transforms.functional import gaussian_blur

from captum_ext._state_dicts import weights_digest
from captum_ext.attr import PNRISE, RISE, BOREx, WindowVariant, last_map_layer
from captum_ext.datasets import Box, Dataset, Example, read_signs
from captum_ext.evaluation import (
    COMPARED,
    METRICS,
    evaluate,
    image_path,
    map_path,
    read_methods,
    read_metrics,
    read_results,
)
from captum_ext.evaluation.image_maps import read_map
from captum_ext.evaluation.image_rows import seed_of
from captum_ext.evaluation.provenance import called_functions
from captum_ext.evaluation.result_tables import merge_tables
from captum_ext.evaluation.run_folder import (
    Row,
    RowWriter,
    check_folder,
    read_rows,
    read_settings,
    start_run,
)
from captum_ext.masking import MaskingNetwork
from captum_ext.masks import superpixels
from captum_ext.methods.attribution_classes import captum_methods
from captum_ext.methods.reference_maps import CenterBox, MaxBox, RandomMap
from captum_ext.methods.specs import Spec, describe_specs, read_specs
from captum_ext.metrics import (
    adversarial_sanity,
    center_box,
    deletion,
    insertion,
    localization_error,
    max_box,
    pointing_game,
    positive_map_density,
    saliency_metric,
)
from captum_ext.metrics.boxes import salient_boxes
from captum_ext.metrics.pixel_maps import spatial_maps
from captum_ext.report.glossary import describe_methods, describe_metrics
from captum_ext.subject import build_subject
from captum_ext.zoo import BlackBox, Preprocessing, ZooModel, load, sign_scene
from captum_ext.zoo.python_function import find_function

QUICK = {"methods": "random", "metrics": "insertion:n_steps=4"}


@pytest.fixture(scope="module")
def signs() -> ZooModel:
    entry = load("signs")
    return entry._replace(model=entry.model.to(memory_format=torch.channels_last))


def run(dataset, model, folder, **options):
    """A fast evaluation with the given options."""
    arguments = {**QUICK, **options}
    methods, metrics = arguments.pop("methods"), arguments.pop("metrics")
    return evaluate(dataset, model, methods, metrics, folder, **arguments)


def new_network(n_classes: int = 16, seed: int = 0) -> MaskingNetwork:
    """An untrained masking network."""
    return MaskingNetwork(n_classes, width=8, seed=seed).eval()


def inputs_of(entry: ZooModel, example: Example):
    batch = entry.preprocess(example.read())[None]
    return batch.contiguous(memory_format=torch.channels_last)


def values(results, method, metric) -> list[float]:
    table = results.table
    chosen = table[(table["method"] == method) & (table["metric"] == metric)]
    return chosen["value"].tolist()


def content(folder: Path) -> dict[str, bytes]:
    """Files that must not depend on how a run proceeded."""
    files = [folder / "results.csv", folder / "curves.csv"]
    files += [p for p in (folder / "images").rglob("*.jpg")]
    files += [p for p in (folder / "maps").rglob("*.png")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


class Calls:
    """Counts the calls of a module."""

    def __init__(self, module: nn.Module) -> None:
        self.n = 0
        self.handle = module.register_forward_pre_hook(self.count)

    def count(self, *_: object) -> None:
        self.n += 1


# The table


def test_table_equals_direct_calls_of_the_library(signs, tmp_path):
    dataset = read_signs(2)
    metrics = "insertion:n_steps=6,deletion:n_steps=5:baselines=blur,pointing-game"
    metrics += ",positive-map-density"
    results = run(
        dataset,
        signs,
        tmp_path,
        methods="grad-cam,pn-rise:n_masks=16",
        metrics=metrics,
        seed=5,
        perturbations_per_eval=2,
    )
    expected = []
    for example in dataset.examples:
        x = inputs_of(signs, example)
        target = example.labels[0]
        boxes = [torch.tensor([b.edges for b in example.boxes if target in b.classes])]

        def f(inputs):
            return signs.model(inputs).softmax(1)

        layer = last_map_layer(signs.model, x)[1]
        cam = LayerGradCam(signs.model, layer).attribute(
            x, target, relu_attributions=True
        )
        pn = PNRISE(f).attribute(
            x,
            target=target,
            estimator="field",
            layout="superpixels",
            n_masks=16,
            seed=seed_of(5, example.name),
            perturbations_per_eval=2,
        )
        for method, maps in {"grad-cam": cam, "pn-rise": pn}.items():
            maps = LayerGradCam.interpolate(maps, tuple(x.shape[2:]), "bilinear")
            kept = read_map(tmp_path / "maps" / example.name / f"{method}.npz")
            torch.testing.assert_close(kept, maps, rtol=0, atol=0)
            of = {"target": target, "perturbations_per_eval": 2}
            for metric, value in {
                "insertion": insertion(f, x, maps, n_steps=6, **of),
                "deletion": deletion(f, x, maps, n_steps=5, baselines="blur", **of),
                "pointing-game": pointing_game(f, x, maps, boxes=boxes),
                "positive-map-density": positive_map_density(f, x, maps, target),
            }.items():
                with torch.no_grad():
                    probability = float(f(x)[0, target])
                expected.append(
                    [example.name, target, target, probability, method, metric]
                    + [float(value)]
                )
    assert results.table.columns.tolist()[-1] == "error"
    assert results.table["error"].isna().all()
    assert results.table.drop(columns="error").values.tolist() == expected


def attributed(signs, example, method):
    """Inputs, target, map and probabilities of an image, as the evaluation has them."""
    subject = build_subject(signs, signs.preprocess(example.read()), example.labels[0])
    maps = COMPARED[method].attribute(subject)
    return subject.inputs, subject.target, maps, subject.probabilities


def test_baselines_by_name(signs, tmp_path):
    """Names are colors of the image before normalization."""
    names = ("black", "mean", "blur", "white")
    for use in ("insertion", "positive-map-density"):
        steps = {"n_steps": 4} if use == "insertion" else {}
        metrics = {n: {"use": use, "baselines": n, **steps} for n in names}
        dataset, folder = read_signs(1), tmp_path / use
        results = run(dataset, signs, folder, methods="center-box", metrics=metrics)
        found = results.table["value"].tolist()
        x, target, maps, f = attributed(signs, dataset.examples[0], "center-box")
        colors = [torch.zeros(3), torch.tensor(signs.mean), None, torch.ones(3)]
        for value, color in zip(found, colors):
            start = (
                gaussian_blur(x, [11, 11], [5.0, 5.0])
                if color is None
                else signs.normalize(color).view(3, 1, 1)
            )
            function = METRICS[use].function
            expected = function(f, x, maps, target, start, **steps).item()
            assert value == pytest.approx(expected, abs=1e-5)


def test_thresholds_of_masks_are_absolute(signs, tmp_path):
    """No pixel of this mask reaches .99, which gives the whole image."""
    model = signs.with_masking_network(new_network())
    metrics = "saliency-metric:threshold=0.99"
    dataset = read_signs(1)
    results = run(
        dataset,
        model,
        tmp_path,
        methods="masking-model,grad-cam",
        metrics=f"{metrics},relative={metrics}:thresholding=value",
    )
    x, target, maps, f = attributed(model, dataset.examples[0], "masking-model")
    absolute, relative = (
        saliency_metric(f, x, maps, target, threshold=0.99, thresholding=t).item()
        for t in ("mask", "value")
    )
    assert absolute != pytest.approx(relative, abs=0.01)
    found = values(results, "masking-model", "saliency-metric")
    assert found == pytest.approx([absolute], abs=1e-5)
    found = values(results, "masking-model", "relative")
    assert found == pytest.approx([relative], abs=1e-5)
    assert values(results, "grad-cam", "saliency-metric") == values(
        results, "grad-cam", "relative"
    )


def test_attacks_are_in_units_of_pixels(signs, tmp_path):
    dataset = read_signs(1, seed=5)
    metrics = "adversarial-sanity:n_steps=4"
    results = run(
        dataset,
        signs,
        tmp_path,
        methods="center-box",
        metrics=f"{metrics},weak={metrics}:radius=1e-6",
    )
    x, target, maps, f = attributed(signs, dataset.examples[0], "center-box")
    normalization = (signs.mean, signs.std)
    expected = adversarial_sanity(
        f, x, maps, target, n_steps=4, normalization=normalization
    )
    found = values(results, "center-box", "adversarial-sanity")
    assert found == pytest.approx(expected.tolist(), abs=1e-5)
    assert results.table["error"].tolist()[1] == (
        "metric must give a finite value, got nan because the attack does not change "
        "the prediction."
    )


def test_curves_and_timings(signs, tmp_path):
    """Curves with fewer points have gaps; the value is the area under the curve."""
    metrics = "insertion:n_steps=4,deletion:n_steps=2,pointing-game"
    results = run(read_signs(2), signs, tmp_path, metrics=metrics)
    curves = results.curves
    assert curves.columns.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curves.index.names == ["image", "method", "metric"]
    assert curves.index.tolist() == [
        (f"scene-{i}", "random", metric)
        for i in range(2)
        for metric in ("insertion", "deletion")
    ]
    shown = curves.loc[("scene-1", "random", "insertion")]
    area = float(torch.trapezoid(torch.tensor(shown.tolist()), dx=0.25))
    assert area == pytest.approx(values(results, "random", "insertion")[1], abs=1e-5)
    hidden = curves.loc[("scene-0", "random", "deletion")]
    assert hidden.isna().tolist() == [False, True, False, True, False]
    assert results.timings.columns.tolist() == ["image", "method", "seconds"]
    assert results.timings["image"].tolist() == ["scene-0", "scene-1"]
    assert (results.timings["seconds"] > 0).all()


def test_rows_depend_only_on_the_image(signs, tmp_path):
    """Neither other images nor their order matter, even for random methods."""
    dataset = read_signs(3)
    turned = dataset._replace(examples=dataset.examples[::-1])
    kwargs = {"methods": "random,pn-rise:n_masks=16"}
    one = run(dataset, signs, tmp_path / "one", **kwargs).table
    other = run(turned, signs, tmp_path / "other", **kwargs).table
    alone = run(dataset.first(1), signs, tmp_path / "alone", **kwargs).table
    pd.testing.assert_frame_equal(
        one.sort_values(["image", "method"], ignore_index=True),
        other.sort_values(["image", "method"], ignore_index=True),
    )
    pd.testing.assert_frame_equal(alone, one[:2])
    assert one["image"].tolist() == one["image"].sort_values().tolist()
    assert other["image"].tolist() == other["image"].sort_values().tolist()[::-1]


def test_random_maps_depend_on_the_seed(signs, tmp_path):
    found = [
        values(run(read_signs(1), signs, tmp_path / str(s), seed=s), *pair)
        for s in (0, 1)
        for pair in [("random", "insertion")]
    ]
    assert found[0] != found[1]


def test_several_specs_of_one_method_and_metric(signs, tmp_path):
    results = run(
        read_signs(1),
        signs,
        tmp_path,
        methods="coarse=random:grid_size=2,random",
        metrics={
            "insertion": {"n_steps": 4},
            "blurred": {"use": "insertion", "n_steps": 4, "baselines": "blur"},
        },
    )
    names = results.table[["method", "metric"]].values.tolist()
    expected = itertools.product(["coarse", "random"], ["insertion", "blurred"])
    assert names == list(map(list, expected))
    assert results.table["value"].nunique() == 4
    assert results.settings["methods"]["coarse"] == {"use": "random", "grid_size": 2}


OWN = """
from captum.attr import Saliency

class Scaled(Saliency):
    def attribute(self, inputs, target=None, factor=0.5):
        return factor * super().attribute(inputs, target)

def total(forward_func, inputs, attributions, target=None, power=1):
    return forward_func(inputs)[:, target] * attributions.sum() ** power

def inside(forward_func, inputs, attributions, *, target, boxes):
    return len(boxes[0])

class Total:
    def __init__(self, power):
        self.power = power

    def __call__(self, *arguments, target):
        return total(*arguments, target, self.power)
"""


def test_own_methods_and_metrics_equal_direct_calls(signs, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    own = tmp_path / "own.py"
    results = run(
        read_signs(1),
        signs,
        tmp_path / "out",
        methods=f"{own}:Scaled,double={own}:Scaled:factor=2",
        metrics=f"{own}:total:power=2:better=lower,other={own}:Total:power=2"
        f":better=higher,{own}:inside:better=higher",
    )
    [example] = read_signs(1).examples
    x, target = inputs_of(signs, example), example.labels[0]
    maps = Saliency(signs.model).attribute(x.requires_grad_(), target)
    probability = signs.model(x).softmax(1)[0, target].item()
    for method, factor in (("Scaled", 0.5), ("double", 2)):
        expected = probability * (factor * maps).sum().item() ** 2
        assert values(results, method, "total") == pytest.approx([expected], rel=1e-5)
        assert values(results, method, "other") == values(results, method, "total")
        assert values(results, method, "inside") == [1]
    described = {m.name: m for m in describe_metrics(results.settings)}
    assert [described[n].better for n in ("total", "other")] == ["lower", "higher"]
    own.unlink()
    assert [m.title for m in describe_methods(results.settings)] == ["Scaled", "double"]


@pytest.mark.parametrize("name", captum_methods())
def test_captum_attributions_have_a_map_by_class_name(name, signs, tmp_path):
    if name == "LayerLRP":
        pytest.skip("Captum's needs a rule for the nested layer of this network")
    few = {"ShapleyValueSampling": ":n_samples=1"}
    text = name + few.get(name, "")
    kwargs = {"methods": text, "metrics": "pointing-game"}
    if name == "LayerFeatureAblation":
        text = f"{name}:perturbations_per_eval=64"
        kwargs["methods"] = text
    torch.manual_seed(1)
    first = run(read_signs(1), signs, tmp_path / "a", **kwargs)
    assert first.table["value"].notna().all(), first.table["error"].tolist()
    torch.manual_seed(2)
    run(read_signs(1), signs, tmp_path / "b", **kwargs)
    maps = [read_map(tmp_path / n / "maps/scene-0" / f"{name}.npz") for n in "ab"]
    assert torch.equal(*maps) and maps[0].shape[2:] == (96, 96)
    assert maps[0].std() > 0


def test_captum_attribution_equals_a_direct_call(signs, tmp_path):
    text = "cam=LayerGradCam:relu_attributions=true,DeepLift:baselines=0.5,grad-cam"
    text += ",FeatureAblation"
    run(read_signs(1), signs, tmp_path, methods=text, metrics="pointing-game")
    cam, deep_lift, named, ablation = (
        read_map(tmp_path / "maps/scene-0" / f"{name}.npz")
        for name in ("cam", "DeepLift", "grad-cam", "FeatureAblation")
    )
    assert torch.equal(cam, named)
    [example] = read_signs(1).examples
    x = inputs_of(signs, example).requires_grad_()
    direct = DeepLift(signs.model).attribute(x, 0.5, example.labels[0])
    torch.testing.assert_close(deep_lift, direct.detach())
    # Methods that perturb the image explain the probability, of superpixels.
    direct = FeatureAblation(lambda x: signs.model(x).softmax(1)).attribute(
        x.detach(), 0, example.labels[0], feature_mask=superpixels(x.detach(), 50)
    )
    torch.testing.assert_close(ablation, direct, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "methods, metrics, words",
    [
        ("DeepLft", "insertion", "did you mean 'DeepLift'?"),
        ("magic", "insertion", "a class of captum.attr or your own FILE"),
        ("none.py:Method", "insertion", "of an existing file"),
        ("math:sqrt", "insertion", "classes derived from captum.attr.Attribution"),
        ("random", "math:sqrt", "must have better=higher or better=lower, got None"),
        ("random", "none.py:metric:better=lower", "of an existing file"),
        (
            "DeepLift:magic=1",
            "insertion",
            "arguments of DeepLift, each among baselines, got",
        ),
    ],
)
def test_wrong_names_are_an_error_before_the_run(methods, metrics, words):
    with pytest.raises(ValueError, match=words):
        read_methods(methods)
        read_metrics(metrics)


def test_mc_rise_with_one_map_per_image(signs, tmp_path):
    methods = "mc-rise:input_shaped=true:n_masks=32"
    results = run(read_signs(1), signs, tmp_path, methods=methods)
    assert results.table["value"].notna().all()


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_has_a_value(metric, signs, tmp_path):
    # On other scenes the classifier is too confident to be attacked.
    unsure = read_signs(1, seed=5)
    methods = "pn-rise:n_masks=32"
    results = run(unsure, signs, tmp_path, methods=methods, metrics=metric)
    assert results.table["error"].isna().all() and results.table["value"].notna().all()
    curves = [key[2] for key in results.curves.index]
    assert curves == [metric] * METRICS[metric].has_curve


@pytest.mark.filterwarnings("ignore:scene-0. CAMERAS uses one size")
@pytest.mark.parametrize("method", COMPARED)
def test_every_method_has_a_map(method, signs, tmp_path):
    options = COMPARED[method].options()
    kwargs = {
        **({"n_masks": 16} if "n_masks" in options else {}),
        **({"n_steps": 3} if "n_steps" in options else {}),
        **({"input_shaped": True} if COMPARED[method].colorwise else {}),
    }
    results = run(
        read_signs(1),
        signs.with_masking_network(new_network()),
        tmp_path,
        methods={method: kwargs},
    )
    assert results.table["error"].isna().all(), results.table["error"].tolist()
    with Image.open(map_path(tmp_path, "scene-0", method)) as drawn:
        assert drawn.size == (96, 96)


def test_mask_of_a_network_is_a_map_and_a_prior(signs, tmp_path):
    """For the preprocessed image and the target."""
    network, example = new_network(), read_signs(1).examples[0]
    x, target = inputs_of(signs, example), example.labels[0]
    with torch.no_grad():
        mask = network(x, torch.tensor([target]))
    masks = "masking-model,borex:prior=masking-model:n_iterations=2"
    model = signs.with_masking_network(network)
    results = run(read_signs(1), model, tmp_path, methods=masks)
    assert results.table["error"].isna().all()

    def f(inputs):
        return signs.model(inputs).softmax(1)

    expected = insertion(f, x, mask, target=target, n_steps=4)
    found = values(results, "masking-model", "insertion")
    assert found == pytest.approx(expected.tolist(), abs=1e-5)


# Reference maps

REFERENCES = {
    "center-box": (CenterBox, center_box, [14, 14, 82, 82]),
    "max-box": (MaxBox, max_box, [0, 0, 96, 96]),
}


@pytest.mark.parametrize("thresholding", ["value", "mean"])
@pytest.mark.parametrize("threshold", [1e-6, 0.5, 1.0])
@pytest.mark.parametrize("name", REFERENCES)
def test_reference_box_is_found_with_any_threshold(name, threshold, thresholding):
    reference, _, box = REFERENCES[name]
    x = torch.rand(2, 3, 96, 96)
    maps = spatial_maps(reference(None).attribute(x), x)
    assert salient_boxes(maps, threshold, thresholding).tolist() == [box] * 2


@pytest.mark.parametrize("name", REFERENCES)
def test_values_of_reference_boxes_equal_direct_calls(name, signs, tmp_path):
    metrics = "localization-error:thresholding=mean,saliency-metric"
    metrics += ",positive-map-density"
    results = run(read_signs(3), signs, tmp_path, methods=name, metrics=metrics)

    def f(inputs):
        return signs.model(inputs).softmax(1)

    for i, example in enumerate(read_signs(3).examples):
        x, target = inputs_of(signs, example), example.labels[0]
        box = [torch.tensor([b.edges for b in example.boxes if target in b.classes])]
        maps = REFERENCES[name][1](x)
        for metric, expected in {
            "localization-error": localization_error(None, x, maps, boxes=box),
            "saliency-metric": saliency_metric(f, x, maps, target=target),
            "positive-map-density": positive_map_density(f, x, maps, target),
        }.items():
            found = values(results, name, metric)[i]
            assert found == pytest.approx(float(expected), abs=1e-6)


# Targets


@pytest.fixture
def labeled_scenes(signs) -> Dataset:
    """Scenes with a correct, a wrong and several labels."""
    scenes = [sign_scene(i) for i in range(3)]
    assert len({scene.label for scene in scenes}) > 1
    dataset = read_signs(3)
    wrong = (scenes[1].label + 1) % 16
    examples = (
        dataset.examples[0],
        dataset.examples[1]._replace(labels=(wrong,)),
        dataset.examples[2]._replace(labels=tuple(range(16))),
    )
    return dataset._replace(examples=examples)


def test_target_is_the_most_probable_label(labeled_scenes, signs, tmp_path):
    table = run(labeled_scenes, signs, tmp_path).table
    scenes = [sign_scene(i).label for i in range(3)]
    assert table["target"].tolist() == table["label"].tolist()
    assert table["label"].tolist() == [scenes[0], (scenes[1] + 1) % 16, scenes[2]]
    assert (table["probability"] > 0.5).tolist() == [True, False, True]


def test_target_is_the_prediction_with_top1(labeled_scenes, signs, tmp_path):
    table = run(labeled_scenes, signs, tmp_path, target="top1").table
    assert table["target"].tolist() == [sign_scene(i).label for i in range(3)]
    assert table["label"][1] != table["target"][1]
    assert (table["probability"] > 0.5).all()


def test_misclassified_images_are_left_out(labeled_scenes, signs, tmp_path):
    results = run(labeled_scenes, signs, tmp_path, only_correct=True)
    assert results.table["image"].tolist() == ["scene-0", "scene-2"]
    left_out = read_rows(tmp_path)["scene-1", None, None]
    assert left_out.target == (sign_scene(1).label + 1) % 16 and left_out.value is None
    calls = Calls(signs.model)
    again = run(labeled_scenes, signs, tmp_path, only_correct=True)
    calls.handle.remove()
    assert calls.n == 0
    pd.testing.assert_frame_equal(again.table, results.table)


def test_target_is_the_prediction_without_labels(signs, tmp_path):
    dataset = read_signs(1)
    bare = dataset.examples[0]._replace(labels=(), boxes=())
    results = run(dataset._replace(examples=(bare,)), signs, tmp_path)
    assert results.settings["target"] == "top1"
    assert results.table["label"].isna().all()
    assert results.table["target"][0] == sign_scene(0).label


def test_boxes_are_those_of_the_target_within_the_crop(signs, tmp_path):
    """Of a wide image, the model sees the middle, but not the ends."""
    scene = read_signs(1).examples[0]
    (label,) = scene.labels
    x0, y0, x1, y1 = scene.boxes[0].edges
    other = (label + 1) % 16

    def wide() -> Image.Image:
        image = Image.new("RGB", (288, 96))
        image.paste(scene.read(), (96, 0))
        return image

    seen = Box((label,), (x0 + 96, y0, x1 + 96, y1))
    unseen = Box((label,), (0.0, 0.0, 90.0, 96.0))
    foreign = Box((other,), (96.0, 0.0, 192.0, 96.0))
    examples = (
        Example("plain", scene.read, (label,), (scene.boxes[0],)),
        Example("wide", wide, (label,), (unseen, seen)),
        Example("cut", wide, (label,), (unseen,)),
        Example("foreign", wide, (label,), (foreign,)),
    )
    metrics = "f-measure,insertion:n_steps=4"
    table = run(Dataset("here", examples), signs, tmp_path, metrics=metrics).table
    by_image = {key: rows for key, rows in table.groupby("image")}
    plain, moved = (by_image[n]["value"].tolist() for n in ("plain", "wide"))
    # Names determine the random maps; the boxes are the same.
    x = inputs_of(signs, examples[0])
    for name, found in (("plain", plain), ("wide", moved)):
        maps = RandomMap(None).attribute(x, seed=seed_of(0, name))
        edges = torch.tensor([scene.boxes[0].edges])
        by_hand = METRICS["f-measure"].function(None, x, maps, boxes=[edges])
        assert found[0] == float(by_hand)
    for name in ("cut", "foreign"):
        rows = by_image[name]
        assert rows["value"].isna().tolist() == [True, False]
        assert "box" in rows["error"].iloc[0]


# Errors


def test_unreadable_image_gives_rows_with_the_error(signs, tmp_path, caplog):
    def broken() -> Image.Image:
        raise OSError("no\nsuch image")

    dataset = read_signs(3)
    first, second, third = dataset.examples
    examples = (first, second._replace(read=broken), third)
    kwargs = {"methods": "random,grad-cam"}
    table = run(dataset._replace(examples=examples), signs, tmp_path / "a", **kwargs)
    whole = run(dataset, signs, tmp_path / "b", **kwargs)
    failed = table.table[table.table["image"] == "scene-1"]
    assert failed["error"].tolist() == ["no such image"] * 2
    assert failed[["value", "label", "target", "probability"]].isna().all(axis=None)
    rest = table.table["image"] != "scene-1"
    pd.testing.assert_frame_equal(table.table[rest], whole.table[rest])
    assert "scene-1, grad-cam, insertion: no such image" in caplog.text
    assert not image_path(tmp_path / "a", "scene-1").exists()


def test_failing_method_gives_rows_with_the_error(signs, tmp_path):
    """Rows of other methods are not affected."""
    methods = "occlusion:sliding_window_shapes=[3],random"
    metrics = "insertion:n_steps=4,pointing-game"
    table = run(read_signs(2), signs, tmp_path, methods=methods, metrics=metrics).table
    failed = table["method"] == "occlusion"
    assert failed.any()
    assert table["value"].isna().tolist() == failed.tolist()
    assert all("Occlusion shape" in error for error in table["error"][failed])
    assert table["probability"].notna().all()


def test_failing_metric_gives_a_row_with_the_error(signs, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    metrics = f"{tmp_path / 'own.py'}:total:power=1e9:better=lower,pointing-game"
    table = run(read_signs(1), signs, tmp_path / "out", metrics=metrics).table
    assert table["value"].isna().tolist() == [True, False]
    assert "finite" in table["error"][0]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"methods": "rise:keep_probability=3"}, "methods must give rise values that"),
        ({"methods": "random,a=pn-rise:n_masks=1"}, "must give a values that it acce"),
        ({"methods": "borex:prior=rise:prior.grid_size=0"}, "grid_size must be at lea"),
        ({"methods": "borex:n_iterations=0"}, "n_iterations must be at least 1, got 0"),
        ({"metrics": "insertion:n_steps=0"}, "metrics must give insertion values that"),
        ({"metrics": "insertion:n_steps=99999999"}, "n_steps must be"),
        ({"metrics": "localization-error:threshold=-1"}, "threshold must"),
    ],
    ids=str,
)
def test_refused_values_are_one_sentence_before_anything_is_written(
    change, words, signs, tmp_path
):
    """One forward pass: the probabilities of an image."""
    for examples in (read_signs(1).examples, read_signs(4).examples):
        calls = Calls(signs.model)
        with pytest.raises(ValueError) as error:
            run(Dataset("here", examples), signs, tmp_path, **change)
        calls.handle.remove()
        assert words in str(error.value) and "\n" not in str(error.value)
        assert calls.n == min(len(examples), 3) and not [*tmp_path.iterdir()]


def test_value_that_one_image_refuses_gives_a_row_with_the_error(signs, tmp_path):
    """Its size is that of the image; a run that has begun tries no value again."""

    def preprocess(image: Image.Image) -> torch.Tensor:
        small = image.width < 96
        return torch.zeros(3, *((4, 4) if small else (96, 96)))

    wide = read_signs(2).examples
    tiny = Example("tiny", lambda: Image.new("RGB", (4, 4)), (0,), ())
    model = signs._replace(preprocess=preprocess)
    kwargs = {"metrics": "insertion:n_steps=20"}
    table = run(Dataset("here", (tiny, *wide)), model, tmp_path, **kwargs).table
    assert table["value"].isna().tolist() == [True, False, False]
    assert "n_steps" in table["error"][0]
    again = run(Dataset("here", (tiny, *wide)), model, tmp_path, **kwargs).table
    pd.testing.assert_frame_equal(again, table)


def test_interruption_is_not_recorded_as_an_error(signs, tmp_path):
    def interrupted() -> Image.Image:
        raise KeyboardInterrupt

    dataset = read_signs(2)
    second = dataset.examples[1]
    examples = (dataset.examples[0], second._replace(read=interrupted))
    with pytest.raises(KeyboardInterrupt):
        run(dataset._replace(examples=examples), signs, tmp_path)
    assert list(read_rows(tmp_path)) == [("scene-0", "random", "insertion")]
    with pytest.raises(ValueError, match="not complete"):
        read_results(tmp_path)
    results = run(dataset, signs, tmp_path)
    assert len(results.table) == 2


# Resuming


def test_complete_run_is_not_computed_again(signs, tmp_path):
    first = run(read_signs(2), signs, tmp_path)
    before = content(tmp_path)
    calls = Calls(signs.model)
    again = run(read_signs(2), signs, tmp_path)
    calls.handle.remove()
    assert calls.n == 0 and content(tmp_path) == before
    pd.testing.assert_frame_equal(first.table, again.table)
    assert len(again.provenance["restarts"]) == 1


@pytest.mark.parametrize("torn", ["", '{"image": "scene-2", "met', '{"image": "sc'])
def test_whole_rows_are_kept_and_incomplete_ones_computed(torn, signs, tmp_path):
    kwargs = {
        "methods": "random,grad-cam",
        "metrics": "insertion:n_steps=4,deletion:n_steps=4",
    }
    run(read_signs(4), signs, tmp_path, **kwargs)
    before = content(tmp_path)
    part = tmp_path / "parts" / "rank-0.jsonl"
    lines = part.read_text().splitlines(keepends=True)
    # All rows of image 0, and of image 1 those of one method and a half.
    part.write_text("".join(lines[:7]) + torn)
    for name in ("results.csv", "curves.csv", "timings.csv"):
        (tmp_path / name).unlink()
    run(read_signs(4), signs, tmp_path, **kwargs)
    assert content(tmp_path) == before
    added = (tmp_path / "parts" / "rank-0-1.jsonl").read_text().splitlines()
    assert len(added) == 16 - 7
    assert json.loads(added[0])["image"] == "scene-1"
    assert json.loads(added[0])["metric"] == "deletion"


@pytest.mark.parametrize(
    "change, words",
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"methods": "random:grid_size=5"}, "methods.random.grid_size is None there"),
        ({"metrics": "insertion:n_steps=5"}, "metrics.insertion.n_steps is 4 there"),
        ({"only_correct": True}, "only_correct is False there and True here"),
        ({"target": "top1"}, "target is label there and top1 here"),
        ({"perturbations_per_eval": 3}, "perturbations_per_eval is 4 there and 3"),
        ({"dataset": read_signs(2)}, "dataset.images is 1 there and 2 here"),
        ({"dataset": read_signs(1, seed=9)}, "dataset.sha256"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_results_of_other_settings_are_an_error(change, words, signs, tmp_path):
    run(read_signs(1), signs, tmp_path)
    before = content(tmp_path)
    kwargs = {"dataset": read_signs(1), **change}
    with pytest.raises(ValueError, match="holds results of other settings") as error:
        run(kwargs.pop("dataset"), signs, tmp_path, **kwargs)
    assert words in str(error.value)
    assert content(tmp_path) == before


def test_methods_and_metrics_are_added_without_new_maps(tmp_path):
    signs, calls = load("signs"), []
    first, together = tmp_path / "first", tmp_path / "together"
    both = {
        "methods": "random,pn-rise:n_masks=20",
        "metrics": "insertion,pointing-game",
    }
    run(read_signs(2), signs, first, methods="pn-rise:n_masks=20", metrics="insertion")
    maps = sorted(first.glob("maps/*/*.npz"))
    stamps = [path.stat().st_mtime_ns for path in maps]
    signs.model.register_forward_hook(lambda *_: calls.append(1))
    # Only the probabilities of the two images: the metric needs no passes.
    run(
        read_signs(2),
        signs,
        first,
        methods=[*both["methods"].split(",")[1:]],
        metrics="pointing-game",
    )
    assert len(calls) == 2 and len(maps) == 2
    assert [path.stat().st_mtime_ns for path in maps] == stamps
    added = run(read_signs(2), signs, first, **both).table
    expected = run(read_signs(2), signs, together, **both).table
    keys, values = ["image", "method", "metric"], ["label", "target", "value"]
    pd.testing.assert_frame_equal(
        added.set_index(keys)[values].sort_index(),
        expected.set_index(keys)[values].sort_index(),
    )


def test_a_method_is_added_to_those_that_need_a_layer(signs, tmp_path):
    run(read_signs(1), signs, tmp_path, methods="grad-cam")
    table = run(read_signs(1), signs, tmp_path, methods="random").table
    assert table["method"].tolist() == ["grad-cam", "random"]
    assert table["value"].notna().all()


def test_methods_that_need_a_layer_or_network_are_added_to_others(signs, tmp_path):
    """The first layer of a run is kept from then on."""
    signs = signs.with_masking_network(new_network())
    run(read_signs(1), signs, tmp_path, methods="random")
    run(read_signs(1), signs, tmp_path, methods="grad-cam")
    table = run(read_signs(1), signs, tmp_path, methods="masking-model,cameras").table
    methods = ["random", "grad-cam", "masking-model", "cameras"]
    assert table["method"].tolist() == methods
    settings = read_settings(tmp_path)["settings"]
    assert settings["layer"] == "features"
    # CAMERAS takes the stage before as well.
    assert settings["stages"] == ["features.2", "features"]
    with pytest.raises(ValueError, match="layer is features there and features.0 here"):
        run(read_signs(1), signs, tmp_path, methods="grad-cam", layer="features.0")
    with pytest.raises(ValueError, match="masking_network.sha256"):
        other = signs.with_masking_network(new_network(seed=1))
        run(read_signs(1), other, tmp_path, methods="random")


def test_damaged_map_is_computed_again(signs, tmp_path):
    first = run(read_signs(1), signs, tmp_path)
    (file,) = tmp_path.glob("maps/*/*.npz")
    file.write_bytes(file.read_bytes()[:50])
    run(read_signs(1), signs, tmp_path, metrics="deletion")
    assert read_map(file).shape == (1, 3, 96, 96)
    with pytest.raises(ValueError, match="file must be the map of a run"):
        read_map(tmp_path / "settings.json")
    assert len(first.table)


def test_results_of_another_layer_are_an_error(signs, tmp_path):
    """The layer that was chosen counts, not whether it was named."""
    run(read_signs(1), signs, tmp_path, methods="grad-cam")
    run(read_signs(1), signs, tmp_path, methods="grad-cam", layer="features")
    with pytest.raises(ValueError, match="layer is features there and features.0 here"):
        run(read_signs(1), signs, tmp_path, methods="grad-cam", layer="features.0")


def test_results_of_other_weights_are_an_error(tmp_path):
    one, other = load("signs"), load("signs")
    run(read_signs(1), one, tmp_path)
    with torch.no_grad():
        next(other.model.parameters())[0, 0, 0, 0] += 1
    with pytest.raises(ValueError, match="model.sha256"):
        run(read_signs(1), other, tmp_path)


def scores_of(images: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    bright = (images.mean((1, 2, 3)) > threshold).astype(np.float32)
    return np.stack([bright, 1 - bright, *[0 * bright] * 14], 1)


class Endpoint:
    """A function that counts its calls."""

    def __init__(self, url: str) -> None:
        self.url, self.n_calls = url, 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.n_calls += 1
        return scores_of(images)


class Forest:
    """A classifier like those of scikit-learn."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def predict(self, images: np.ndarray) -> np.ndarray:
        return scores_of(images, self.threshold)


def with_threshold(threshold: float):
    return lambda images: scores_of(images, threshold)


@pytest.mark.parametrize(
    "one, same, other",
    [
        (scores_of, scores_of, lambda images: scores_of(images)),
        (with_threshold(0.4), with_threshold(0.4), with_threshold(0.5)),
        (partial(scores_of, threshold=0.4),) * 2 + (partial(scores_of, threshold=1),),
        (Endpoint("a"), Endpoint("a"), Endpoint("b")),
        (Forest(0.4).predict, Forest(0.4).predict, Forest(0.5).predict),
    ],
)
def test_results_of_another_function_are_an_error(tmp_path, one, same, other):
    def black_box(function):
        box = BlackBox(function)
        return load("signs")._replace(model=box, activation="identity")

    kwargs = {"methods": "random", "metrics": "insertion:n_steps=3"}
    first = run(read_signs(1), black_box(one), tmp_path, **kwargs)
    again = run(read_signs(1), black_box(one), tmp_path, **kwargs)
    run(read_signs(1), black_box(same), tmp_path, **kwargs)
    pd.testing.assert_frame_equal(first.table, again.table)
    with pytest.raises(ValueError, match="model.functions is"):
        run(read_signs(1), black_box(other), tmp_path, **kwargs)


def test_changed_file_of_a_function(tmp_path):
    """What the function calls counts, other functions of the file do not."""
    file = tmp_path / "endpoint.py"
    source = (
        "URL = 'a'\n"
        "def ask(images): return images.mean((1, 2, 3)), URL\n"
        "def scores(images): return ask(images)[0]\n"
        "def load(weights): return scores, 1\n"
    )

    def digest(text: str) -> list[str]:
        file.write_text(text)
        linecache.clearcache()
        return called_functions(BlackBox(find_function(f"{file}:scores")))

    known = digest(source)
    assert digest(source) == known == digest(source.replace("scores, 1", "scores, 2"))
    assert digest(source.replace("'a'", "'b'")) != known
    assert digest(source.replace("mean", "std")) != known
    assert digest(source.replace("[0]", "[-2]")) != known


def test_results_of_another_masking_network_are_an_error(signs, tmp_path):
    """Equal weights make equal networks."""
    kwargs = {"methods": "masking-model,random"}
    one, same, other = (
        signs.with_masking_network(network)
        for network in (new_network(), new_network(), new_network(seed=1))
    )
    first = run(read_signs(1), one, tmp_path, **kwargs)
    again = run(read_signs(1), same, tmp_path, **kwargs)
    pd.testing.assert_frame_equal(first.table, again.table)
    with pytest.raises(ValueError, match="masking_network.sha256"):
        run(read_signs(1), other, tmp_path, **kwargs)


def test_unused_masking_network_is_not_a_setting(signs, tmp_path):
    first = run(read_signs(1), signs.with_masking_network(new_network()), tmp_path)
    again = run(read_signs(1), signs, tmp_path)
    pd.testing.assert_frame_equal(first.table, again.table)


def test_order_of_methods_is_not_a_setting(signs, tmp_path):
    """The table keeps the order of the first start."""
    first = run(read_signs(1), signs, tmp_path, methods="random,grad-cam")
    again = run(read_signs(1), signs, tmp_path, methods="grad-cam,random")
    pd.testing.assert_frame_equal(first.table, again.table)


# Checks before any computation


class Untouchable(nn.Module):
    """A classifier that must not be called."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        raise AssertionError("the model was called")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"methods": "pn-ris"}, "did you mean 'pn-rise'?"),
        ({"methods": "pn-rise:n_mask=4"}, "n_masks"),
        ({"methods": "pn-rise:seed=4"}, "'seed'"),
        ({"methods": "random,random"}, "different names"),
        ({"methods": "a/b=random"}, "different names"),
        ({"methods": "random:grid_size"}, "[AS=]NAME[:ARG=VALUE]"),
        ({"methods": {"random": 3}}, "tables"),
        ({"methods": []}, "at least one"),
        ({"methods": "mc-rise"}, "input_shaped=true"),
        ({"methods": "iterative-mask:objective=x"}, "'objective'"),
        ({"methods": "borex:variant.flip=false"}, "choices, each among score"),
        (
            {"methods": "borex:variant.score=half"},
            "give variant 'mean' or 'difference'",
        ),
        ({"methods": "quick=rise:n_masks=many"}, "must give quick an integer as n_m"),
        ({"methods": "rise:n_masks=true"}, "must give rise an integer as n_masks"),
        ({"methods": "pn-rise:rtol=hello"}, "must give pn-rise a number as rtol, got"),
        ({"methods": "pn-rise:layout=hex"}, "pn-rise 'grid' or 'superpixels' or 'mix"),
        ({"methods": "occlusion:strides=x"}, "an integer or a list of integers"),
        (
            {"methods": {"occlusion": {"strides": [3, "x"]}}},
            "lists of integers as strides",
        ),
        ({"methods": "borex:prior=rise:prior.n_masks=x"}, "prior an integer as n_mas"),
        ({"methods": "DeepLift:baselines=x"}, "a number or a list of numbers as"),
        ({"metrics": "insertion:n_steps=x"}, "must give insertion an integer as n_st"),
        (
            {"metrics": "road-most-relevant:fractions=1"},
            "a list of numbers as fractions",
        ),
        ({"methods": "borex:variant=field:variant.stride=3"}, "variant must be one of"),
        ({"methods": "borex:variant=pixels"}, "variant must be one of 'field'"),
        ({"methods": "masking-model"}, "masking_network must be given"),
        ({"methods": "borex:prior=masking-model"}, "masking_network must be given"),
        ({"metrics": "insertions"}, "did you mean 'insertion'?"),
        ({"metrics": "insertion:steps=4"}, "n_steps"),
        ({"metrics": "insertion:return_curve=true"}, "return_curve"),
        ({"metrics": "pointing-game:baselines=0"}, "baselines"),
        ({"metrics": "insertion:baselines=gray"}, "'black'"),
        ({"metrics": ""}, "metrics must"),
        ({"dataset": Dataset("nowhere", ())}, "at least one image"),
        ({"metrics": "pointing-game", "dataset": "bare"}, "boxes for pointing-game"),
        ({"target": "label", "dataset": "bare"}, "labels for every image"),
        ({"only_correct": True, "dataset": "bare"}, "labels for every image"),
        ({"target": "best"}, "'top1'"),
        ({"layer": "features"}, "layer must be used with a layer method such as cam"),
        ({"layer": "layer4", "methods": "grad-cam"}, "layer4"),
        ({"seed": -1}, "seed"),
        ({"perturbations_per_eval": -1}, "perturbations_per_eval"),
        ({"output": "file.txt"}, "file.txt"),
        ({"output": "file.txt/below"}, "cannot be written"),
        ({"output": "."}, "something else"),
        ({"preprocess": len, "metrics": "f-measure"}, "method boxes"),
    ],
    ids=str,
)
def test_errors_are_one_sentence_before_the_model_is_called(
    change, words, signs, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("file.txt").write_text("no results")
    kwargs = {"dataset": read_signs(1), "output": "out", **change}
    dataset, folder = kwargs.pop("dataset"), kwargs.pop("output")
    if dataset == "bare":
        example = read_signs(1).examples[0]._replace(labels=(), boxes=())
        dataset = Dataset("here", (example,))
    preprocess = kwargs.pop("preprocess", signs.preprocess)
    model = signs._replace(model=Untouchable(), preprocess=preprocess)
    with pytest.raises((ValueError, OSError)) as error:
        run(dataset, model, folder, **kwargs)
    text = str(error.value)
    assert words in text and text.endswith(".") and "\n" not in text
    assert not Path("out").exists()


def test_damaged_folder_is_an_error(signs, tmp_path):
    run(read_signs(1), signs, tmp_path)
    part = tmp_path / "parts" / "rank-0.jsonl"
    line = part.read_text()
    for damage in ("no row\n", '{"imag": 3}\n', "[]\n"):
        part.write_text(damage + line)
        with pytest.raises(ValueError, match="line 1 of .*rank-0.jsonl"):
            run(read_signs(1), signs, tmp_path)
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(ValueError, match="settings.json .* is damaged"):
        run(read_signs(1), signs, tmp_path)
    with pytest.raises(ValueError, match="an evaluation wrote"):
        read_results(tmp_path / "nowhere")


# Names and arguments


def test_specs_are_parsed():
    text = (
        "rise , a=rise:n_masks=4:keep_probability=0.5,b=pn-rise:estimator=monte_carlo"
    )
    specs = read_methods(text)
    assert describe_specs(specs) == {
        "rise": {"use": "rise"},
        "a": {"use": "rise", "n_masks": 4, "keep_probability": 0.5},
        "b": {"use": "pn-rise", "estimator": "monte_carlo"},
    }
    assert read_methods(describe_specs(specs)) == specs
    assert read_methods(text.split(",")) == specs


USUAL = {"n_masks": 100, "grid_size": 8, "keep_probability": 0.3}


@pytest.mark.parametrize(
    "text, prior",
    [
        ("borex", None),
        ("borex:variant=field", None),
        ("borex:variant=windows", Spec("rise", USUAL)),
        ("borex:variant.score=drop", Spec("rise", USUAL)),
        ("borex:prior.n_masks=50", Spec("rise", USUAL | {"n_masks": 50})),
        ("borex:prior=none", None),
        ("borex:prior=grad-cam", Spec("grad-cam", {})),
        ("pn-rise:prior=grad-cam", Spec("grad-cam", {})),
        ("pn-rise:prior=none", None),
        ("borex:prior=rise:prior.n_masks=9", Spec("rise", {"n_masks": 9})),
        ("borex:prior.n_masks=9:prior.use=pn-rise", Spec("pn-rise", {"n_masks": 9})),
        (
            "borex:prior=borex:prior.prior=none",
            Spec("borex", {"prior": None}),
        ),
    ],
)
def test_priors_are_specs(text, prior):
    specs = read_methods(text)
    (spec,) = specs.values()
    assert spec.options["prior"] == prior
    assert read_methods(describe_specs(specs)) == specs


@pytest.mark.parametrize(
    "text, variant",
    [
        ("variant=field", "field"),
        ("variant=paper", "paper"),
        ("variant=windows", "windows"),
        ("variant.score=drop", WindowVariant(score="drop")),
        (
            "variant=paper:variant.weighting=window:variant.durations=[2, 4]",
            WindowVariant.paper(weighting="window", durations=(2, 4)),
        ),
        ("variant.use=paper:variant.stride=3", WindowVariant.paper(stride=3)),
    ],
)
def test_variants_are_names_or_choices(text, variant):
    specs = read_methods([f"borex:{text}"])
    assert specs["borex"].options["variant"] == variant
    written = json.loads(json.dumps(describe_specs(specs)))
    assert read_methods(written) == specs


def test_variants_are_those_of_borex(tmp_path):
    """A map of chosen choices, beside those of the names, which differ."""
    methods = {
        name: {"use": "borex", "variant": variant, "n_iterations": 2, "prior": "none"}
        for name, variant in {
            "windows": "windows",
            "same": {"score": "mean"},
            "paper": "paper",
        }.items()
    }
    table = evaluate(
        read_signs(1), load("signs"), methods, "insertion:n_steps=8", tmp_path
    ).table.set_index("method")
    assert table["error"].isna().all()
    assert table["value"]["windows"] == table["value"]["same"]
    assert table["value"]["windows"] != table["value"]["paper"]


def test_prior_is_computed_once_and_refined(tmp_path):
    """The prior has the arguments of the row above, and so the same map."""
    methods = "rise:n_masks=16,borex:prior=rise:prior.n_masks=16:n_iterations=3"
    signs = load("signs")
    table = evaluate(read_signs(2), signs, methods, "insertion:n_steps=8", tmp_path)
    example = read_signs(2).examples[1]
    x = signs.preprocess(example.read())[None]
    shared = {
        "target": example.labels[0],
        "seed": seed_of(0, example.name),
        "perturbations_per_eval": 4,
    }

    def probabilities(x):
        return signs.model(x).softmax(1)

    prior = RISE(probabilities).attribute(x, n_masks=16, **shared)
    maps = BOREx(probabilities).attribute(x, prior, n_iterations=3, **shared)
    expected = insertion(probabilities, x, maps, target=example.labels[0], n_steps=8)
    rows = table.table.set_index(["image", "method"])["value"]
    assert rows["scene-1", "borex"] == pytest.approx(float(expected), abs=1e-5)
    seconds = table.timings.set_index(["image", "method"])["seconds"]
    assert seconds["scene-1", "borex"] > seconds["scene-1", "rise"]


def test_prior_uses_the_default_layer(tmp_path):
    results = evaluate(
        read_signs(1),
        load("signs"),
        "borex:prior=grad-cam:n_iterations=2",
        "pointing-game",
        tmp_path,
    )
    assert results.table["error"].isna().all()


@pytest.mark.parametrize(
    "text, value",
    [("3", 3), ("0.5", 0.5), ("true", True), ("blur", "blur"), ("'3'", "3")]
    + [("[3, 4]", [3, 4]), ("2024-01-01", "2024-01-01"), ("", "")],
)
def test_argument_values_are_parsed_as_toml(text, value):
    # Without the check of types, which would refuse most of them.
    specs = read_specs(
        "metrics", [f"a:b={text}"], str, {"a"}, lambda _: frozenset({"b"})
    )
    found = specs["a"].options["b"]
    assert found == value and type(found) is type(value)


def test_random_map_is_smooth_and_determined_by_its_seed():
    x = torch.rand(2, 3, 64, 64)
    state = torch.get_rng_state()
    maps = RandomMap(None).attribute(x, seed=3)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(maps, RandomMap(None).attribute(x, seed=3))
    assert not torch.equal(maps, RandomMap(None).attribute(x, seed=4))
    assert maps.shape == x.shape and torch.equal(maps[0, 0], maps[1, 2])
    assert 0 <= maps.min() and maps.max() <= 1
    assert maps.diff(dim=-1).abs().max() <= 7 / 64 + 1e-6
    noise = RandomMap(None).attribute(x, grid_size=64, seed=3)
    assert noise.diff(dim=-1).abs().max() > 0.5


# The folder


def test_tables_are_read_as_written(tmp_path):
    """Including names that look like missing values, and all digits of numbers."""
    images = ["NA", "null", "1", "a,b\"c'", "d/e.png"]
    settings = {
        "methods": {"m": {"use": "random"}},
        "metrics": {"x": {"use": "insertion"}, "y": {"use": "deletion"}},
    }
    start_run(tmp_path, settings, {"command": "by hand"}, ["NA", "a b"])
    third = 1 / 3
    with RowWriter(tmp_path, 0) as writer:
        for image in images:
            row = Row(image, 2, 3, third, "m", "x", third, None, [0.0, third], 0.5)
            writer.append(row)
            writer.append(row._replace(metric="y", value=None, error="failed, NA"))
    merge_tables(tmp_path, images)
    table, curves, timings, read, provenance, names = read_results(tmp_path)
    assert table["image"].tolist() == [i for i in images for _ in range(2)]
    assert table["value"].tolist()[::2] == [third] * 5
    assert table["value"].isna().tolist() == [False, True] * 5
    assert table["error"].isna().tolist() == [True, False] * 5
    assert table["error"][1] == "failed, NA"
    assert table["label"].tolist() == [2] * 10 and table["target"][0] == 3
    assert curves.loc[("NA", "m", "x")].tolist() == [0, 0.333333]
    assert timings.values.tolist() == [[image, "m", 0.5] for image in images]
    assert read == settings and provenance == {"command": "by hand"}
    assert names == ("NA", "a b")
    (tmp_path / "class_names.json").unlink()
    assert read_results(tmp_path).class_names == ()


def test_a_row_with_a_value_precedes_one_with_an_error(tmp_path):
    start_run(tmp_path, {}, {})
    row = Row("a", method="m", metric="x")
    with RowWriter(tmp_path, 0) as first, RowWriter(tmp_path, 0) as second:
        first.append(row._replace(error="out of memory"))
        second.append(row._replace(value=1.0))
        second.append(row._replace(value=2.0))
    assert sorted(p.name for p in (tmp_path / "parts").iterdir()) == [
        "rank-0-1.jsonl",
        "rank-0.jsonl",
    ]
    assert read_rows(tmp_path) == {row.key: row._replace(value=1.0)}


def test_merging_requires_all_rows(tmp_path):
    settings = {"methods": {"m": {}}, "metrics": {"x": {}}}
    start_run(tmp_path, settings, {})
    with RowWriter(tmp_path, 0) as writer:
        writer.append(Row("a", method="m", metric="x", value=1.0))
    with pytest.raises(ValueError, match="lacks 1 rows such as b, m, x"):
        merge_tables(tmp_path, ["a", "b"])
    assert not (tmp_path / "results.csv").exists()


def test_folder_with_only_hidden_files_counts_as_empty(tmp_path):
    (tmp_path / ".settings.json.partial").write_text("{")
    check_folder(tmp_path, {})
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="something else"):
        check_folder(tmp_path, {})


# Side effects and custom models


def test_run_has_no_side_effects(signs, tmp_path):
    state = torch.get_rng_state()
    requires = [p.requires_grad for p in signs.model.parameters()]
    methods = "pn-rise:n_masks=16,grad-cam,integrated-gradients,random"
    run(read_signs(1), signs, tmp_path, methods=methods)
    assert torch.equal(torch.get_rng_state(), state)
    assert not signs.model.training and torch.is_grad_enabled()
    assert [p.requires_grad for p in signs.model.parameters()] == requires
    assert all(p.grad is None for p in signs.model.parameters())
    hooks = [m for m in signs.model.modules() if m._forward_hooks]
    assert not hooks and not list(tmp_path.rglob("*.partial"))


def test_digest_ignores_the_memory_format(signs):
    plain = load("signs").model
    assert weights_digest(plain) == weights_digest(signs.model)
    half = nn.Linear(2, 2).to(torch.bfloat16)
    assert weights_digest(half) != weights_digest(nn.Linear(2, 2))


def test_custom_model(tmp_path):
    """A model that only uses the right half of an image, and its ideal map."""

    class RightHalf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            right = x[:, :, :, 4:].mean((1, 2, 3))
            return torch.stack([right, -right], 1) * self.scale * 4

    def transform(image):
        return torch.full((3, 8, 8), image.getpixel((0, 0))[0] / 255)

    preprocess = Preprocessing(transform, 8, 8)
    entry = ZooModel(RightHalf(), preprocess, ("lit", "dark"), (0.0,) * 3, (1.0,) * 3)
    box = Box((0,), (8.0, 0.0, 16.0, 16.0))

    def bright() -> Image.Image:
        return Image.new("RGB", (16, 16), "white")

    dataset = Dataset("here", (Example("white", bright, (0,), (box,)),))
    metrics = "pointing-game:tolerance=0,insertion:n_steps=2,localization-error"
    methods = "integrated-gradients"
    table = run(dataset, entry, tmp_path, methods=methods, metrics=metrics).table
    # The right half is inserted first; the left half changes nothing.
    certain = 1 / (1 + torch.tensor(-8.0).exp().item())
    expected = [1.0, (0.5 + certain) / 2 / 2 + certain / 2, 0.0]
    assert table["value"].tolist() == pytest.approx(expected, abs=1e-5)
