"""Metrics of Quantus by name, with its values as known answers."""

import pytest
import torch

from captum_ext.evaluation.metric_specs import find_metric, read_metrics
from captum_ext.evaluation.own_code import own_metric
from captum_ext.metrics import relevance_mass
from captum_ext.report.glossary import describe_metrics
from captum_ext.subject import build_subject
from captum_ext.zoo import load, sign_scene

pytest.importorskip("quantus")
BOX = torch.tensor([[20.0, 10.0, 60.0, 50.0]])


@pytest.fixture(scope="module")
def subject():
    signs = load("signs")
    return build_subject(signs, signs.normalize(sign_scene(seed=0).image), None)


@pytest.fixture(scope="module")
def maps():
    return torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def value(name, subject, maps, **options):
    metric = find_metric(f"quantus:{name}")
    boxes = BOX if metric.needs_boxes else None
    return metric.evaluate(subject, maps, boxes, **options).value


def test_mass_is_that_of_this_package(subject, maps):
    ours = relevance_mass(None, subject.inputs, maps, boxes=[BOX])
    assert value("RelevanceMassAccuracy", subject, maps) == pytest.approx(
        float(ours), abs=1e-5
    )


def test_perfect_and_opposite_maps(subject):
    inside = torch.zeros(1, 1, 96, 96)
    inside[..., 10:50, 20:60] = 1
    assert value("TopKIntersection", subject, inside, k=100) == 1
    assert value("TopKIntersection", subject, 1 - inside, k=100) == 0
    assert value("AUC", subject, inside) == pytest.approx(1)


def test_map_of_a_linear_score_is_faithful():
    inputs = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    # Quantus hides pixels by the lowest value.
    inputs[0, 0, 0, 0] = 0
    weights = torch.linspace(-1, 1, 64).view(8, 8)

    def score(x):
        return torch.stack([torch.zeros(len(x)), (x * weights).sum((1, 2, 3))], 1)

    metric = find_metric("quantus:FaithfulnessEstimate")
    options = {"target": 1, "features_in_step": 8}
    right = metric.function(score, inputs, inputs * weights, **options)
    wrong = metric.function(score, inputs, -inputs * weights, **options)
    assert float(right) == pytest.approx(1)
    assert float(wrong) == pytest.approx(-1)


def test_direction_is_that_of_quantus():
    assert find_metric("quantus:Sparseness").higher_is_better
    assert not find_metric("quantus:Complexity").higher_is_better
    specs = read_metrics("quantus:Sparseness,quantus:RelevanceRankAccuracy")
    assert [spec.use for spec in specs.values()] == [
        "quantus:Sparseness",
        "quantus:RelevanceRankAccuracy",
    ]


def test_reports_know_title_and_direction():
    names = ("Sparseness", "Complexity")
    settings = {"metrics": {name: {"use": f"quantus:{name}"} for name in names}}
    found = [(each.title, each.arrow) for each in describe_metrics(settings)]
    assert found == [("Sparseness", "↑"), ("Complexity", "↓")]


def test_own_metrics_still_need_a_direction():
    with pytest.raises(ValueError, match="better=higher or better=lower"):
        read_metrics("math:sqrt")


@pytest.mark.parametrize("name", ["MPRT", "MaxSensitivity", "Focus"])
def test_metrics_that_explain_are_refused(name):
    with pytest.raises(ValueError, match=f"given map of one image.*{name}"):
        own_metric(f"quantus:{name}")


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match="classes of quantus, got 'quantus:Nothing'"):
        own_metric("quantus:Nothing")


def test_failure_of_quantus_is_one_sentence(subject, maps):
    with pytest.raises(ValueError, match="in 'quantus:FaithfulnessEstimate'"):
        value("FaithfulnessEstimate", subject, maps, features_in_step=97)


def test_curves_are_refused(subject, maps):
    with pytest.raises(ValueError, match="one number per map, got 9"):
        value("Selectivity", subject, maps, patch_size=32)
