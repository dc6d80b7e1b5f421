"""The pixel field: closed forms, enumeration, and the estimator of the RISE family."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from captum_ext.attr import MCRISE, PNRISE, RISE
from captum_ext.masks import RegionLayout, smooth_halves
from captum_ext.surrogate.field import Cells, field_kernel, fit_field, whitened

N = 6


def line(n: int) -> Cells:
    """n cells along a line of unit length, of different sizes."""
    return Cells(
        torch.linspace(1, 2, n).double(), torch.arange(n).double()[:, None] / n
    )


def all_masks(n: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=n))).double()


def shapley_values(value, n: int) -> torch.Tensor:
    """Mean marginal contribution over all orders."""
    total = torch.zeros(n).double()
    orders = list(itertools.permutations(range(n)))
    for order in orders:
        mask = torch.zeros(1, n).double()
        before = value(mask)[0]
        for player in order:
            mask[0, player] = 1
            after = value(mask)[0]
            total[player] += after - before
            before = after
    return total / len(orders)


@pytest.fixture
def game():
    """Second-order model of N columns, as a function of (B, N)."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(N, generator=generator).double()
    b = torch.randn(N, N, generator=generator).double()
    return lambda x: 0.3 + x @ a + ((x @ b) * x).sum(1)


@pytest.mark.parametrize("keep_probability", [0.3, 0.5])
def test_second_order_model_is_recovered(game, keep_probability):
    x = torch.ones(1, N).double()
    attribution = PNRISE(game).attribute(
        x, estimator="field", n_masks=100, keep_probability=keep_probability
    )
    torch.testing.assert_close(
        attribution[0], shapley_values(game, N), atol=1e-6, rtol=0
    )


def test_scores_of_soft_masks_are_linear_in_the_field(game):
    phi = shapley_values(game, N)
    w = torch.rand(5, N, generator=torch.Generator().manual_seed(1)).double()
    one, zero = torch.ones(1, N).double(), torch.zeros(1, N).double()
    halved = (game(w) - game(zero) + game(one) - game(1 - w)) / 2
    torch.testing.assert_close(halved, w @ phi)


@pytest.mark.parametrize("n_masks", [4, 10, 40])
def test_map_sums_to_the_difference_of_the_ends(n_masks):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(2))
    x = torch.rand(2, 3, 12, 12)
    maps = PNRISE(model).attribute(
        x, baselines=0.2, target=1, estimator="field", n_masks=n_masks, grid_size=4
    )
    ends = (model(x) - model(torch.full_like(x, 0.2)))[:, 1].double()
    torch.testing.assert_close(maps.double().sum((1, 2, 3)), ends, atol=1e-6, rtol=0)


@pytest.mark.parametrize("with_prior", [False, True])
def test_posterior_is_the_average_of_dense_processes(with_prior):
    cells, total = line(N), 0.7
    generator = torch.Generator().manual_seed(0)
    w = (torch.rand(8, N, generator=generator) < 0.5).double()
    scores = torch.randn(8, generator=generator).double()
    prior = torch.randn(N, generator=generator).double() if with_prior else None
    x, size = cells.positions.numpy(), cells.sizes.numpy()
    masks = np.concatenate([w.numpy(), np.ones((1, N))])
    y = np.append(scores.numpy(), total)
    p = prior.numpy() / np.abs(prior.numpy()).sum() if with_prior else np.zeros(N)
    fits = []
    for length, independent, noise, scale in itertools.product(
        (0.15, 0.3, 0.6), (1, 3), (1e-10, 0.1, 0.3), (0.3, 1, 3) if with_prior else [0]
    ):
        d = np.abs(x - x.T) * math.sqrt(3) / length
        k = (0.02 + (1 + d) * np.exp(-d) + independent * np.eye(N)) * np.outer(
            size, size
        )
        k = k / k.sum() + scale**2 * np.outer(p, p)
        s = masks @ k @ masks.T + np.diag([*[noise] * len(scores), 1e-12])
        inverse = np.linalg.inv(s)
        quadratic = y @ inverse @ y
        covariance = k - k @ masks.T @ inverse @ masks @ k
        fits.append(
            (
                -np.linalg.slogdet(s)[1] / 2 - len(y) / 2 * np.log(quadratic),
                -7.0 if noise < 0.1 else 0.0,
                k @ masks.T @ inverse @ y,
                quadratic / (len(y) - 2) * covariance.diagonal(),
            )
        )
    evidence, log_prior, means, variances = map(np.array, zip(*fits))
    weights = np.exp(evidence + log_prior - (evidence + log_prior).max())
    weights = weights[:, None] / weights.sum()
    mean = (weights * means).sum(0)
    variance = (weights * (variances + (means - mean) ** 2)).sum(0)
    estimate = fit_field(cells, w, scores, total, prior)
    np.testing.assert_allclose(estimate.mean, mean, atol=1e-6)
    np.testing.assert_allclose(estimate.std, np.sqrt(variance), atol=1e-6)


def test_kernel_is_the_formula_and_the_total_has_variance_one():
    cells = line(3)
    k = field_kernel(cells, length=0.5, independent=2.0)
    smooth = 0.02 + (1 + math.sqrt(3) / 1.5) * math.exp(-math.sqrt(3) / 1.5)
    assert float(k.sum()) == pytest.approx(1)
    assert float(k[0, 1] / k[0, 0]) == pytest.approx(smooth * 1.5 / 3.02)


def test_evidence_is_the_integral_over_the_amplitude():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(3, 3, generator=generator).double()
    s, y = root @ root.T + torch.eye(3), torch.tensor([0.3, -1.0, 0.5]).double()
    log_amplitudes = torch.linspace(-12, 12, 200_001).double()
    squares = (2 * log_amplitudes).exp()
    quadratic = y @ torch.linalg.solve(s, y)

    def integral(covariance, quadratic):
        logs = -torch.logdet(covariance) / 2 - 3 * log_amplitudes
        return torch.logsumexp(logs - quadratic / squares / 2, 0)

    other = torch.eye(3).double()
    expected = integral(s, quadratic) - integral(other, y @ y)
    got = whitened(torch.linalg.cholesky(s), y)[2] - whitened(other, y)[2]
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_prior_fades_or_keeps_its_detail(mirrored):
    cells = Cells(torch.ones(32).double(), torch.arange(32).double()[:, None] / 32)
    truth = torch.exp(-((cells.positions[:, 0] - 0.2) ** 2) / 0.005)
    prior = truth.flip(0) if mirrored else truth
    masks = smooth_halves(
        cells.positions, cells.sizes, 20, torch.Generator().manual_seed(0)
    ).double()
    with_prior = fit_field(cells, masks, masks @ truth, float(truth.sum()), prior).mean
    without = fit_field(cells, masks, masks @ truth, float(truth.sum())).mean

    def error(field):
        return float((field - truth).norm() / truth.norm())

    if mirrored:
        assert error(with_prior) < min(0.3 * error(prior), 1.3 * error(without))
    else:
        assert error(with_prior) < 0.3 * error(without)


def test_deviations_cover_the_field():
    """Of 1200 cells of fields drawn from the process, 95 % lie within 1.96 std."""
    cells = line(12)
    k = field_kernel(cells, length=0.3, independent=3.0)
    L = torch.linalg.cholesky(k)
    generator = torch.Generator().manual_seed(0)
    z = []
    for _ in range(100):
        phi = L @ torch.randn(12, generator=generator).double()
        w = (torch.rand(48, 12, generator=generator) < 0.5).double()
        noise = 0.1**0.5 * torch.randn(48, generator=generator).double()
        estimate = fit_field(cells, w, w @ phi + noise, float(phi.sum()))
        z.append((estimate.mean - phi) / estimate.std)
    inside = (torch.stack(z).abs() < 1.96).double().mean()
    assert 0.9 < float(inside) < 0.98


def test_colors_are_fields_with_the_color_as_baseline():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(2))
    x, colors = torch.rand(1, 3, 12, 12), torch.rand(2, 3)
    n_pairs = 10
    both = MCRISE(model).attribute(
        x,
        colors,
        target=1,
        estimator="field",
        grid_size=4,
        n_masks=3 + 4 * n_pairs,
    )
    for k, color in enumerate(colors):
        one = PNRISE(model).attribute(
            x,
            color[:, None, None],
            target=1,
            estimator="field",
            grid_size=4,
            n_masks=2 + 2 * n_pairs,
        )
        torch.testing.assert_close(both[:, k], -one.sum(1), atol=1e-7, rtol=1e-5)


def test_batch_gives_what_examples_give_and_chunks_do_not_matter():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(2))
    x = torch.rand(2, 3, 12, 12)
    regions = torch.randint(5, (2, 1, 12, 12))
    for mask in (None, regions):
        kwargs = {"target": 1, "estimator": "field", "n_masks": 22}
        whole = PNRISE(model).attribute(
            x, feature_mask=mask, perturbations_per_eval=7, **kwargs
        )
        for i in range(2):
            one = PNRISE(model).attribute(
                x[i : i + 1],
                feature_mask=None if mask is None else mask[i : i + 1],
                perturbations_per_eval=1,
                **kwargs,
            )
            torch.testing.assert_close(whole[i], one[0])


def test_tolerances_stop_each_example_by_itself():
    weight = torch.linspace(-1, 1, 48).reshape(1, 3, 4, 4)
    calls = []

    def model(x):
        calls.append(len(x))
        return (x * weight).sum((1, 2, 3)) + 0.3 * torch.sin(9 * x.sum((1, 2, 3)))

    x = torch.rand(1, 3, 4, 4)
    PNRISE(model).attribute(x, estimator="field", n_masks=400, rtol=0.5)
    few = sum(calls)
    calls.clear()
    PNRISE(model).attribute(x, estimator="field", n_masks=400)
    assert few < sum(calls) == 400


def test_several_inputs_share_one_field(game):
    inputs = (torch.ones(1, 2).double(), torch.ones(1, 4).double())
    maps = PNRISE(lambda a, b: game(torch.cat([a, b], 1))).attribute(
        inputs, estimator="field", n_masks=100
    )
    torch.testing.assert_close(
        torch.cat(maps, 1)[0], shapley_values(game, N), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"prior": torch.ones(1, 1, 4)}, "prior must be None if estimator"),
        ({"estimator": "fields"}, "estimator must be"),
        ({"estimator": "field", "rtol": 0.0}, "rtol must be"),
    ],
)
def test_bad_arguments_are_refused_before_any_pass(kwargs, message):
    def model(x):
        raise AssertionError

    with pytest.raises(ValueError, match=message):
        PNRISE(model).attribute(torch.ones(1, 1, 4), **kwargs)


def test_rise_has_no_field():
    with pytest.raises(ValueError, match="estimator must be"):
        RISE(nn.Flatten()).attribute(torch.ones(1, 4), estimator="field")


def test_halves_keep_about_half_and_are_connected():
    blocks = torch.arange(196).reshape(1, 1, 14, 14)
    layout = RegionLayout([blocks])
    positions, sizes = layout.positions(), layout.sizes()
    halves = smooth_halves(positions, sizes, 400, torch.Generator().manual_seed(0))
    assert (halves.sum(1) == 98).all()
    near = halves[:, :-1] == halves[:, 1:]
    # Neighbors along a row agree far more often than independent cells do.
    assert float(near.double().mean()) > 0.8
    assert float((halves.double().mean(0) - 0.5).abs().max()) < 5 * 0.5 / 400**0.5
    again = smooth_halves(positions, sizes, 400, torch.Generator().manual_seed(0))
    assert torch.equal(halves, again)


def test_a_cell_larger_than_the_half_is_kept_alone_at_times():
    sizes = torch.tensor([0.9, 0.1]).double()
    far = torch.tensor([[0.0], [1e3]]).double()
    halves = smooth_halves(far, sizes, 50, torch.Generator().manual_seed(0))
    assert halves[:, 0].any() and not halves[:, 0].all()


def test_layout_geometry():
    regions = torch.tensor([[0, 0, 1], [0, 0, 1]])[None, None]
    layout = RegionLayout([regions, torch.tensor([[2, 3]])])
    torch.testing.assert_close(
        layout.sizes(), torch.tensor([4 / 3, 2 / 3, 1, 1]).double()
    )
    assert layout.counts([18, 2]).tolist() == [12, 6, 1, 1]
    assert layout.counts().tolist() == [4, 2, 1, 1]
    near = torch.cdist(layout.positions(), layout.positions())
    assert float(near[0, 1]) == pytest.approx(1.5 / 2)
    assert (near[2:] + torch.eye(4)[2:] * 1e4).min() > 100
