"""Similarity of embeddings as a score, Equation (A.12)."""

import math

import pytest
import torch
from torch import Tensor, nn

from captum_ext.attr import PNRISE, EmbeddingSimilarity


def mean_colors(x: Tensor) -> Tensor:
    return x.mean((2, 3))


GALLERY = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.5, 0.5, 0.5]])
QUERY = torch.tensor([0.7, 0.2, 0.1]).view(1, 3, 1, 1).expand(1, 3, 8, 8)


def test_value_is_the_formula():
    score = EmbeddingSimilarity(mean_colors, GALLERY[1], scale=0.5)
    distance = (torch.tensor([0.7, 0.2, 0.1]) - GALLERY[1]).norm()
    torch.testing.assert_close(score(QUERY), torch.exp(-distance / 0.5)[None])


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_unit_of_the_embeddings_does_not_matter(unit):
    def network(x: Tensor) -> Tensor:
        return unit * mean_colors(x)

    score = EmbeddingSimilarity.to_best_match(network, QUERY, unit * GALLERY)
    expected = EmbeddingSimilarity.to_best_match(mean_colors, QUERY, GALLERY)
    x = torch.rand(4, 3, 8, 8)
    torch.testing.assert_close(score(x), expected(x), atol=1e-5, rtol=1e-5)


def test_best_match_is_the_nearest_and_sets_the_scale():
    score = EmbeddingSimilarity.to_best_match(mean_colors, QUERY, GALLERY)
    torch.testing.assert_close(score.reference[0], GALLERY[0])
    assert score(QUERY).item() == pytest.approx(math.exp(-1))


def test_another_distance():
    def cosine(a: Tensor, b: Tensor) -> Tensor:
        return 1 - nn.functional.cosine_similarity(a, b)

    score = EmbeddingSimilarity(mean_colors, GALLERY[0], 0.1, cosine)
    known = cosine(mean_colors(QUERY), GALLERY[:1])
    torch.testing.assert_close(score(QUERY), torch.exp(-known / 0.1))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_scale_must_be_positive(scale):
    with pytest.raises(ValueError, match="scale"):
        EmbeddingSimilarity(mean_colors, GALLERY[0], scale)


def test_map_shows_the_similar_half():
    """The left half is red like the reference, the right half blue."""
    query = torch.zeros(1, 3, 8, 8)
    query[:, 0, :, :4], query[:, 2, :, 4:] = 1.0, 1.0
    score = EmbeddingSimilarity(mean_colors, torch.tensor([0.5, 0.0, 0.0]), 0.5)
    halves = (torch.arange(8) // 4).view(1, 1, 1, 8)
    maps = PNRISE(score).attribute(query, feature_mask=halves, n_masks=200)
    assert maps[0, 0, 0, 0] > 0 > maps[0, 0, 0, 7]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "broken, name",
    [
        ({"reference": torch.tensor([0.5, NAN, 0.5])}, "reference"),
        ({"reference": torch.rand(2, 3)}, "reference"),
        ({"reference": torch.rand(0)}, "reference"),
        ({"reference": [0.5, 0.5, 0.5]}, "reference"),
        ({"scale": INF}, "scale"),
        ({"scale": True}, "scale"),
        ({"network": None}, "network"),
        ({"network": lambda x: mean_colors(x) * NAN}, "network"),
        ({"network": lambda x: mean_colors(x) * INF}, "network"),
        ({"network": lambda x: x}, "network"),
        ({"network": lambda x: "embedding"}, "network"),
        ({"distance": 5}, "distance"),
        ({"distance": lambda a, b: (a - b).sum()}, "distance"),
        ({"distance": lambda a, b: (a - b).norm(dim=1, keepdim=True)}, "distance"),
        ({"distance": lambda a, b: (a - b).norm(dim=1) * NAN}, "distance"),
        ({"distance": lambda a, b: (a - b).norm(dim=1) / 0}, "distance"),
        ({"distance": lambda a, b: 0.5}, "distance"),
    ],
)
def test_what_is_not_finite_or_of_another_shape_is_refused(broken, name):
    given = {"network": mean_colors, "reference": GALLERY[0], "scale": 0.5, **broken}
    with pytest.raises((ValueError, TypeError), match=f"^{name} must"):
        PNRISE(EmbeddingSimilarity(**given)).attribute(QUERY, n_masks=4)
    if "scale" in broken:
        return
    gallery = {"gallery": GALLERY, "query": QUERY}
    gallery |= {k: v for k, v in given.items() if k in ("network", "distance")}
    if "reference" not in broken:
        with pytest.raises((ValueError, TypeError), match=f"^{name} must"):
            EmbeddingSimilarity.to_best_match(**gallery)


@pytest.mark.parametrize(
    "query, gallery, name",
    [
        (QUERY * NAN, GALLERY, "network"),
        (QUERY.expand(2, -1, -1, -1), GALLERY, "network"),
        (QUERY, GALLERY * NAN, "gallery"),
        (QUERY, GALLERY[:0], "gallery"),
        (QUERY, torch.cat([GALLERY, mean_colors(QUERY)]), "gallery"),
        (QUERY[0, 0, 0, 0].item(), GALLERY, "query"),
    ],
)
def test_query_must_have_a_match_at_a_distance(query, gallery, name):
    with pytest.raises((ValueError, TypeError), match=f"^{name} must"):
        EmbeddingSimilarity.to_best_match(mean_colors, query, gallery)
