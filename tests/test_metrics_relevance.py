"""Relevance mass and rank, sparseness: plain loops and cases computed by hand."""

import itertools
import math

import pytest
import torch
from test_metrics import BOXES, some_maps
from test_metrics_regions import masks_of
from torch import Tensor

from captum_ext import metrics
from captum_ext.metrics.relevance import mass_inside, rank_inside
from captum_ext.metrics.sparseness import gini_index


def image(n: int = 3) -> Tensor:
    return torch.zeros(n, 3, 12, 14)


def slow_mass(values: list[float], inside: list[bool]) -> float:
    positive = [max(v, 0.0) for v in values]
    hits = sum(v for v, hit in zip(positive, inside) if hit)
    return hits / sum(positive)


def slow_rank(values: list[float], inside: list[bool]) -> float:
    """Mean over all orders of equal pixels."""
    n, K, shares = len(values), sum(inside), []
    for order in itertools.permutations(range(n)):
        if all(values[a] >= values[b] for a, b in itertools.pairwise(order)):
            shares.append(sum(inside[i] for i in order[:K]) / K)
    return sum(shares) / len(shares)


def test_mass_equals_the_loop():
    maps, masks = some_maps(), masks_of(BOXES)
    ours = metrics.relevance_mass(None, image(), maps, boxes=BOXES)
    for value, each, region in zip(ours.tolist(), maps, masks):
        expected = slow_mass(each.flatten().tolist(), region.flatten().tolist())
        assert value == pytest.approx(expected)
    by_masks = metrics.relevance_mass(None, image(), maps, masks=masks)
    assert torch.equal(ours, by_masks)


@pytest.mark.parametrize("n_inside", [1, 2, 4, 6])
def test_rank_equals_the_mean_over_orders(n_inside):
    generator = torch.Generator().manual_seed(n_inside)
    maps = torch.randint(-1, 3, (20, 6), generator=generator).double()
    order = torch.rand(20, 6, generator=generator).argsort(1)
    regions = order < n_inside
    for value, each, region in zip(rank_inside(maps, regions), maps, regions):
        expected = slow_rank(each.tolist(), region.tolist())
        assert value.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    "metric, formula",
    [
        (metrics.relevance_mass, mass_inside),
        (metrics.relevance_rank, rank_inside),
    ],
)
def test_floors_and_ceilings(metric, formula):
    """The object's share of the image for constant maps, on average for random ones."""
    masks = masks_of(BOXES)
    shares, perfect = masks.double().mean((1, 2)), masks[:, None].double()

    def value(maps: Tensor) -> Tensor:
        return metric(None, image(), maps, masks=masks)

    torch.testing.assert_close(value(perfect), torch.ones(3).double())
    torch.testing.assert_close(value(torch.ones(3, 1, 12, 14)), shares)
    # The third object is larger than half of the image.
    assert value(1 - perfect)[:2].tolist() == [0, 0]
    random = torch.rand(400, 12, 14, generator=torch.Generator().manual_seed(0))
    mean = formula(random, masks[:1].expand(400, 12, 14)).mean().item()
    assert mean == pytest.approx(shares[0].item(), abs=0.01)


def test_relevance_without_positive_values_or_without_an_object():
    maps = torch.tensor([[-1.0, 0.0], [1.0, 2.0]])
    regions = torch.tensor([[True, False], [False, False]])
    assert mass_inside(maps, regions).isnan().tolist() == [True, True]
    assert rank_inside(maps, regions).isnan().tolist() == [False, True]
    negative = metrics.relevance_mass(
        None, image(), -torch.ones(3, 1, 9, 9), boxes=BOXES
    )
    assert negative.isnan().all()


@pytest.mark.parametrize("metric", [metrics.relevance_mass, metrics.relevance_rank])
def test_image_without_the_object_has_no_value(metric):
    boxes = [BOXES[0], torch.empty(0, 4), BOXES[2]]
    values = metric(None, image(), some_maps(), boxes=boxes)
    assert values.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("kwargs", [{}, {"boxes": BOXES, "masks": masks_of(BOXES)}])
@pytest.mark.parametrize("metric", [metrics.relevance_mass, metrics.relevance_rank])
def test_one_of_boxes_and_masks_is_needed(metric, kwargs):
    with pytest.raises(ValueError, match="^boxes or masks must be given"):
        metric(None, image(), some_maps(), **kwargs)


def slow_gini(values: list[float]) -> float:
    """Mean absolute difference of all pairs, relative to twice the mean."""
    v = [abs(value) for value in values]
    differences = sum(abs(a - b) for a in v for b in v) / len(v) ** 2
    return differences / (2 * sum(v) / len(v))


def test_gini_index():
    maps = some_maps()[:, :, :4, :5]
    for value, each in zip(gini_index(maps.double()), maps):
        assert value.item() == pytest.approx(slow_gini(each.flatten().tolist()))
    ramp = torch.arange(1.0, 1001)[None]
    assert gini_index(ramp).item() == pytest.approx(1 / 3, abs=1e-3)
    assert gini_index(torch.full((1, 7), -2.0)).item() == 0
    assert gini_index(torch.eye(1, 7)).item() == pytest.approx(6 / 7)


def test_sparseness_of_noise_and_of_zeros():
    generator = torch.Generator().manual_seed(1)
    noise = torch.rand(1, 1, 200, 200, generator=generator)
    x = torch.zeros(1, 3, 200, 200)
    value = metrics.sparseness(None, x, noise).item()
    assert value == pytest.approx(1 / 3, abs=0.01)
    normal = torch.randn(1, 1, 200, 200, generator=generator)
    value = metrics.sparseness(None, x, normal).item()
    assert value == pytest.approx(math.sqrt(2) - 1, abs=0.01)
    assert metrics.sparseness(None, x, 0 * noise).isnan().all()
