"""Average drop, increase in confidence, mu-fidelity and ROAD against known answers."""

import pytest
import torch
from contract import SmallNet, images
from test_metrics import some_maps
from test_metrics_curves import slow_order
from torch import Tensor

from captum_ext import metrics
from captum_ext.metrics.mu_fidelity import (
    correlation,
    grid_cells,
    random_subsets,
    subset_scores,
    subset_sums,
)
from captum_ext.metrics.road import impute, neighbor_differences

TARGET = [0, 1, 2]


def brightness(x: Tensor) -> Tensor:
    return x.mean((1, 2, 3))


# Average drop and increase in confidence


@pytest.mark.parametrize("fill", [0.0, 0.4])
def test_confidence_change_equals_the_loop(fill):
    net, x, maps = SmallNet(), images(), some_maps()
    given = {"target": TARGET, "baselines": fill}
    drops = metrics.average_drop(net, x, maps, **given)
    rises = metrics.increase_in_confidence(net, x, maps, **given)
    for i, target in enumerate(TARGET):
        S = maps[i].clamp_min(0) / maps[i].max()
        with torch.no_grad():
            before = net(x[i : i + 1])[0, target].item()
            after = net((x[i] * S + fill * (1 - S))[None])[0, target].item()
        expected = max(0.0, before - after) / before
        assert drops[i].item() == pytest.approx(expected, abs=1e-6)
        assert rises[i].item() == (after > before)


def test_confidence_at_its_extremes():
    x = torch.full((1, 3, 4, 4), 0.5)
    whole, half, nothing = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4), -x[:, :1]
    half[..., 2:, :] = 0
    args = (brightness, x)
    assert metrics.average_drop(*args, whole).tolist() == [0]
    assert metrics.average_drop(*args, half).tolist() == [0.5]
    assert metrics.average_drop(*args, half, None, 1.0).tolist() == [0]
    assert metrics.increase_in_confidence(*args, whole).tolist() == [0]
    assert metrics.increase_in_confidence(*args, half, None, 1.0).tolist() == [1]
    for metric in (metrics.average_drop, metrics.increase_in_confidence):
        assert metric(*args, nothing).isnan().all()
    assert metrics.average_drop(brightness, 0 * x, half).isnan().all()


# Mu-fidelity


def test_mu_fidelity_equals_the_loop():
    net, x, maps = SmallNet(), images(), some_maps()
    values = metrics.mu_fidelity(
        net, x, maps, TARGET, 0.3, n_subsets=12, grid_size=3, fraction=0.4, seed=5
    )
    subsets = random_subsets(12, 9, 0.4, seed=5)
    for i, target in enumerate(TARGET):
        sums, drops = [], []
        for subset in subsets:
            hidden, total = x[i].clone(), 0.0
            for row in range(12):
                for column in range(14):
                    if subset[row * 3 // 12 * 3 + column * 3 // 14]:
                        hidden[:, row, column] = 0.3
                        total += maps[i, 0, row, column].item()
            with torch.no_grad():
                both = net(torch.stack([x[i], hidden]))[:, target]
            sums.append(total)
            drops.append((both[0] - both[1]).item())
        expected = torch.corrcoef(torch.tensor([sums, drops]))[0, 1].item()
        assert values[i].item() == pytest.approx(expected, abs=1e-4)


def test_mu_fidelity_of_a_linear_model():
    x, weights = images(), torch.randn(3, 12, 14)
    model = lambda x: (x * weights).sum((1, 2, 3))  # noqa: E731
    given = {"n_subsets": 16, "grid_size": 6, "baselines": 0.5}
    exact = (x - 0.5) * weights
    ones = torch.ones(3).double()
    for sign in (1, -1):
        value = metrics.mu_fidelity(model, x, sign * exact, **given)
        torch.testing.assert_close(value, sign * ones, atol=1e-5, rtol=0)


def test_mu_fidelity_of_random_and_constant_maps():
    x = images(1)
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(200, 1, 12, 14, generator=generator)
    given = {"n_subsets": 64, "grid_size": 4}
    model = lambda x: (x * x[:, :, :1]).sum((1, 2, 3))  # noqa: E731
    values = metrics.mu_fidelity(model, x.expand(200, 3, 12, 14), random, **given)
    assert abs(values.mean().item()) < 0.1
    maps = some_maps()
    maps[1] = 0.7
    net = SmallNet()
    values = metrics.mu_fidelity(net, images(), maps, TARGET, **given)
    assert values.isnan().tolist() == [False, True, False]
    # A model that looks at nothing.
    values = metrics.mu_fidelity(lambda x: 0 * brightness(x), images(), maps, **given)
    assert values.isnan().all()


def test_parts_of_mu_fidelity():
    assert random_subsets(5, 49, 0.2, 0).sum(1).tolist() == [10] * 5
    assert torch.equal(random_subsets(5, 49, 0.2, 1), random_subsets(5, 49, 0.2, 1))
    assert not torch.equal(random_subsets(5, 49, 0.2, 1), random_subsets(5, 49, 0.2, 2))
    cells = grid_cells((12, 14), 5)
    assert cells.unique().tolist() == list(range(25))
    subsets = random_subsets(8, 25, 0.3, 0)
    maps = some_maps()[:, 0].double()
    hidden = subsets[:, cells].double()
    expected = torch.einsum("mhw,bhw->mb", hidden, maps)
    torch.testing.assert_close(subset_sums(maps, cells, subsets), expected)
    scores = subset_scores(brightness, torch.ones(2, 3, 12, 14), cells, subsets)
    torch.testing.assert_close(scores[:, 0], 1 - hidden.mean((1, 2)))
    assert correlation(torch.tensor([[1.0], [1.0]]), torch.rand(2, 1)).isnan().all()


# ROAD


def slow_imputed(image: Tensor, missing: Tensor) -> Tensor:
    """Repeated averaging until nothing changes."""
    weights = torch.tensor([[1.0, 2.0, 1.0], [2.0, 0.0, 2.0], [1.0, 2.0, 1.0]]).double()
    kernel = weights[None, None]
    current = image.double().clone()
    present = torch.ones(1, 1, *missing.shape).double()
    total = torch.nn.functional.conv2d(present, kernel, padding=1)[0, 0]
    for _ in range(4000):
        sums = torch.nn.functional.conv2d(current[:, None], kernel, padding=1)[:, 0]
        current = torch.where(missing, sums / total, image.double())
    return current


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_imputed_pixels_are_means_of_their_neighbors(share):
    image = images()[0]
    missing = torch.rand(12, 14, generator=torch.Generator().manual_seed(1)) < share
    filled = impute(image, missing, neighbor_differences(12, 14))
    torch.testing.assert_close(
        filled.double(), slow_imputed(image, missing), atol=1e-5, rtol=0
    )
    assert torch.equal(filled[:, ~missing], image[:, ~missing])


def test_one_pixel_left_fills_the_image():
    image, missing = images()[0], torch.ones(12, 14, dtype=torch.bool)
    missing[3, 5] = False
    filled = impute(image, missing, neighbor_differences(12, 14))
    torch.testing.assert_close(filled, image[:, 3:4, 5:6].expand(3, 12, 14))


@pytest.mark.parametrize("metric", ["road_most_relevant", "road_least_relevant"])
def test_road_equals_the_loop(metric):
    net, x, maps = SmallNet(), images(), some_maps()
    fractions, differences = (0.25, 0.6), neighbor_differences(12, 14)
    values = getattr(metrics, metric)(
        net, x, maps, TARGET, fractions=fractions, noise=0
    )
    for i, target in enumerate(TARGET):
        order = slow_order(maps[i] if "most" in metric else -maps[i])
        scores = []
        for fraction in fractions:
            missing = torch.zeros(168, dtype=torch.bool)
            missing[order[: round(fraction * 168)]] = True
            filled = impute(x[i], missing.view(12, 14), differences)
            with torch.no_grad():
                scores.append(net(filled[None])[0, target].item())
        assert values[i].item() == pytest.approx(sum(scores) / 2, abs=1e-6)


def test_noise_of_road_is_seeded_and_only_on_removed_pixels():
    x, maps, seen = torch.zeros(2, 3, 40, 50), torch.rand(2, 1, 40, 50), []

    def watching(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return brightness(x)

    given = {"fractions": [0.4], "noise": 0.5, "perturbations_per_eval": 1}
    runs = [
        metrics.road_most_relevant(watching, x, maps, **given, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    changed = (seen[0] != 0).all(1)
    lowest = maps[:, 0].flatten(1).sort(1).values[:, 1200]
    assert torch.equal(changed, maps[:, 0] >= lowest[:, None, None])
    assert seen[0][changed[:, None].expand_as(x)].std().item() == pytest.approx(
        0.5, abs=0.02
    )


def test_random_maps_have_one_value_by_both_orders():
    net, x = SmallNet(), images(1).expand(60, 3, 12, 14)
    maps = torch.rand(60, 1, 12, 14, generator=torch.Generator().manual_seed(0))
    most = metrics.road_most_relevant(net, x, maps, 1).mean().item()
    least = metrics.road_least_relevant(net, x, maps, 1).mean().item()
    assert most == pytest.approx(least, abs=0.003)


@pytest.mark.parametrize(
    "metric, kwargs, name",
    [
        ("mu_fidelity", {"n_subsets": 1}, "n_subsets"),
        ("mu_fidelity", {"grid_size": 13}, "grid_size"),
        ("mu_fidelity", {"fraction": 1.0}, "fraction"),
        ("mu_fidelity", {"grid_size": 4, "seed": -1}, "seed"),
        ("road_most_relevant", {"fractions": []}, "fractions"),
        ("road_most_relevant", {"fractions": 0.5}, "fractions"),
        ("road_least_relevant", {"fractions": [0.5, 1]}, "fractions"),
        ("road_least_relevant", {"noise": -0.1}, "noise"),
        ("road_least_relevant", {"seed": 0.5}, "seed"),
    ],
)
def test_bad_arguments(metric, kwargs, name):
    def never(x: Tensor) -> Tensor:
        raise AssertionError("a forward pass was spent")

    with pytest.raises((ValueError, TypeError), match=f"^{name} "):
        getattr(metrics, metric)(never, images(), some_maps(), 0, **kwargs)
