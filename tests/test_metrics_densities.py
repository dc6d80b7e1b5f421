"""Map densities: known values, plain loops, extremes, CAMERAS against Grad-CAM."""

import pytest
import torch
from captum.attr import LayerGradCam
from contract import SmallNet, images
from test_metrics import some_maps
from torch import Tensor

from captum_ext import metrics, zoo
from captum_ext.attr import LayerCAMERAS, last_map_layer
from captum_ext.metrics.pixel_maps import rank_maps, spatial_maps, unit_maps


def half_of_sum(x: Tensor) -> Tensor:
    """A "probability": half the sum of the first row of the first channel."""
    return x[:, 0, 0].sum(1) / 2


def test_densities_by_hand():
    x = torch.tensor([[[[0.8, 0.4], [1.0, 1.0]]]])
    maps = torch.tensor([[[[3.0, 1.5], [-5.0, 0.0]]]])
    # S = [1, .5; 0, 0]: P(I * S) = (.8 + .2) / 2 = .5, times 4 / 1.5.
    positive = metrics.positive_map_density(half_of_sum, x, maps)
    assert positive.item() == pytest.approx(0.5 * 4 / 1.5)
    # 1 - S = [0, .5; 1, 1]: P = (0 + .2) / 2 = .1, times 4 / 2.5.
    negative = metrics.negative_map_density(half_of_sum, x, maps)
    assert negative.item() == pytest.approx(0.1 * 4 / 2.5)
    # On a baseline of 0.2: P(I * S + .2 * (1 - S)) = (.8 + .2 + .1) / 2 = .55.
    gray = metrics.positive_map_density(half_of_sum, x, maps, baselines=0.2)
    assert gray.item() == pytest.approx(0.55 * 4 / 1.5)


def test_densities_equal_the_loops():
    net, x, maps, target = SmallNet(), images(), some_maps(), [0, 1, 2]
    positive = metrics.positive_map_density(net, x, maps, target, 0.3)
    negative = metrics.negative_map_density(net, x, maps, target, 0.3)
    for i in range(3):
        highest = max(0.0, maps[i].max().item())
        shown, hidden = x[i].clone(), x[i].clone()
        kept = left = 0.0
        for row in range(12):
            for column in range(14):
                S = max(0.0, maps[i, 0, row, column].item()) / highest
                kept, left = kept + S, left + 1 - S
                for c in range(3):
                    value = x[i, c, row, column].item()
                    shown[c, row, column] = value * S + 0.3 * (1 - S)
                    hidden[c, row, column] = value * (1 - S) + 0.3 * S
        with torch.no_grad():
            p, q = net(torch.stack([shown, hidden]))[:, target[i]].tolist()
        assert positive[i].item() == pytest.approx(p * 168 / kept, rel=1e-5)
        assert negative[i].item() == pytest.approx(q * 168 / left, rel=1e-5)


def bright_corner(x: Tensor) -> Tensor:
    return x[:, :, :4, :4].mean((1, 2, 3))


def test_densities_at_their_extremes():
    x = torch.ones(1, 3, 12, 14)
    corner = torch.zeros(1, 1, 12, 14)
    corner[..., :4, :4] = 1
    density = metrics.positive_map_density
    assert density(bright_corner, x, corner).item() == pytest.approx(168 / 16)
    assert density(bright_corner, x, 1 - corner).item() == 0
    assert density(bright_corner, x, metrics.max_box(x)).item() == pytest.approx(1)
    pixel = torch.zeros(1, 1, 12, 14)
    pixel[..., 2, 3] = 0.01
    assert density(bright_corner, x, pixel).item() == pytest.approx(168 / 16)
    density = metrics.negative_map_density
    assert density(bright_corner, x, corner).item() == 0
    inverse = density(bright_corner, x, 1 - corner)
    assert inverse.item() == pytest.approx(168 / 16)
    # A map without positive values removes nothing.
    assert density(bright_corner, x, 0 * corner).item() == pytest.approx(1)


def test_undefined_densities_are_refused():
    x = images()
    maps = some_maps()
    maps[1] = -maps[1].abs()
    with pytest.raises(ValueError, match=r"attributions .* examples \[1\]\.$"):
        metrics.positive_map_density(bright_corner, x, maps)
    maps[2] = 0.4
    with pytest.raises(ValueError, match=r"attributions .* examples \[2\]\.$"):
        metrics.negative_map_density(bright_corner, x, maps)


def test_video():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 4, 6, 5, generator=generator)
    maps = torch.rand(2, 1, 4, 6, 5, generator=generator)
    values = metrics.positive_map_density(lambda x: x.flatten(1).mean(1), x, maps)
    S = maps / maps.amax((1, 2, 3, 4), keepdim=True)
    expected = (x * S).flatten(1).mean(1) / S.flatten(1).mean(1)
    torch.testing.assert_close(values, expected.double())


# Maps


def test_unit_maps():
    maps = torch.tensor([[[-4.0, 1.0]], [[-1.0, -2.0]], [[5.0, 5.0]]])
    assert unit_maps(maps).tolist() == [[[0, 1]], [[0, 0]], [[1, 1]]]
    inside = unit_maps(some_maps())
    assert inside.min() == 0 and (inside.amax((1, 2, 3)) == 1).all()


def test_rank_maps():
    maps = torch.tensor([[[2.0, 5.0], [5.0, -1.0]], [[0.0, 0.0], [0.0, 1.0]]])
    assert rank_maps(maps).tolist() == [[[2, 0], [1, 3]], [[1, 2], [3, 0]]]


def test_constant_maps_are_ranked_at_random():
    """In one order for all values and rounding; each rank occurs once."""
    maps = torch.tensor([0.0, 0.3, -0.3]).view(3, 1, 1).expand(3, 20, 30)
    maps = maps * (1 + 1e-7 * torch.rand(3, 20, 30))
    ranks = rank_maps(maps)
    assert torch.equal(ranks[0], ranks[1]) and torch.equal(ranks[0], ranks[2])
    assert torch.equal(ranks[0].flatten().sort().values, torch.arange(600))
    correlation = torch.corrcoef(
        torch.stack([ranks[0].flatten(), torch.arange(600)]).double()
    )
    assert abs(correlation[0, 1]) < 4 / 600**0.5


def test_spatial_maps_of_every_layout():
    for shape in [(2, 3, 8), (2, 3, 8, 6), (2, 3, 4, 8, 6)]:
        x = torch.rand(shape)
        same = spatial_maps(x, x)
        assert same.shape == (2, *shape[2:]) and same.dtype == torch.float64
        torch.testing.assert_close(same, x.double().sum(1))
        layer = torch.ones(2, 5, *(2,) * (len(shape) - 2))
        whole = spatial_maps(layer, x)
        torch.testing.assert_close(whole, torch.full_like(same, 5))


def test_spatial_maps_of_constants_are_exact():
    """Interpolation rounds a third; nothing but a constant is left of it."""
    coarse = torch.full((2, 3, 5, 5), 1 / 3)
    coarse[1, :, 0, 0] = 1
    maps = spatial_maps(coarse, torch.rand(2, 3, 33, 31))
    assert maps[0].unique().tolist() == [pytest.approx(1)]
    assert len(maps[1].unique()) > 9
    coarse, x = coarse[:1], torch.rand(1, 3, 33, 31)
    with pytest.raises(ValueError, match="a value below their maximum"):
        metrics.negative_map_density(lambda x: x.mean((1, 2, 3)), x, coarse)
    net = SmallNet()
    given = {"explanation_func": lambda model: x}
    assert metrics.efficient_mprt(net, x, coarse, **given).isnan().all()
    assert metrics.parameter_randomization(net, x, coarse, **given).item() == 0
    masks = torch.zeros(1, 33, 31, dtype=torch.bool)
    masks[:, :9, :9] = True
    rank = metrics.relevance_rank(None, x, coarse, masks=masks)
    assert rank.item() == pytest.approx(81 / (33 * 31))


# From sharp to coarse maps


def test_density_falls_from_cameras_to_grad_cam():
    """The supplement's check: maps interpolated by its Equation 2.

    ``benchmarks/cameras_quality.py`` runs it on photographs.
    """
    entry = zoo.load("signs")
    scenes = [zoo.sign_scene(seed) for seed in range(8)]
    x = torch.stack([entry.normalize(scene.image) for scene in scenes])
    target = torch.tensor([scene.label for scene in scenes])

    def model(x: Tensor) -> Tensor:
        return entry.model(x).softmax(1)

    at = (entry.model, last_map_layer(entry.model, x[:1])[1])
    cam = LayerGradCam(*at).attribute(x, target, relu_attributions=True)
    sharp = unit_maps(LayerCAMERAS(*at).attribute(x, target, max_size=(384, 384)))
    coarse = unit_maps(spatial_maps(cam, x))[:, None]
    densities = [
        metrics.positive_map_density(
            model, x, sharp + gamma * (coarse - sharp), target, rescale=False
        ).mean()
        for gamma in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert all(a > b for a, b in zip(densities, densities[1:]))
