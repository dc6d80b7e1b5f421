"""The pixel field: closed forms, enumeration, BOREx and the RISE family on it."""

import itertools
import math

import numpy as np
import pytest
import torch
from botorch.generation import MaxPosteriorSampling
from torch import nn

from captum_ext.attr import MCRISE, PNRISE, RISE, BOREx
from captum_ext.masks import (
    GridLayout,
    RegionLayout,
    candidate_masks,
    smooth_halves,
    superpixels,
)
from captum_ext.surrogate.acquisition import acquisition_values
from captum_ext.surrogate.field import (
    Cells,
    field_kernel,
    field_kernels,
    fit_field,
    kernels_with_prior,
    whitened,
)
from captum_ext.surrogate.field_process import FieldProcess
from captum_ext.surrogate.hyperparameters import AMPLITUDE, AMPLITUDE_WEIGHT

N = 6


def never(*inputs):
    raise AssertionError("called")


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


@pytest.mark.parametrize("keep_probability", [0.2, 0.5, 0.7])
def test_halves_keep_the_share(keep_probability):
    """The first half of each pair keeps it, the second one the rest."""
    shares = []

    def model(x):
        shares.extend(x.flatten(1).double().mean(1).tolist())
        return x.sum((1, 2, 3))

    x = torch.ones(1, 1, 10, 10)
    PNRISE(model).attribute(
        x,
        estimator="field",
        n_masks=22,
        keep_probability=keep_probability,
        perturbations_per_eval=22,
    )
    assert shares[:2] == [1, 0]
    assert shares[2::2] == pytest.approx([keep_probability] * 10)
    assert shares[3::2] == pytest.approx([1 - keep_probability] * 10)


@pytest.mark.parametrize("n_masks", [4, 10, 40])
def test_map_sums_to_the_difference_of_the_ends(n_masks):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(2))
    x = torch.rand(2, 3, 12, 12)
    maps = PNRISE(model).attribute(
        x, baselines=0.2, target=1, estimator="field", n_masks=n_masks, grid_size=4
    )
    ends = (model(x) - model(torch.full_like(x, 0.2)))[:, 1].double()
    torch.testing.assert_close(maps.double().sum((1, 2, 3)), ends, atol=1e-6, rtol=0)


def fitted(cells: Cells, prior: torch.Tensor | None = None) -> list[torch.Tensor]:
    """Candidate kernels of a fit."""
    return list(kernels_with_prior(field_kernels(cells), prior))


def dense_kernels(cells: Cells, prior: torch.Tensor | None) -> list[np.ndarray]:
    """Kernels of all candidates of the hyperparameters, written out."""
    x, size = cells.positions.numpy(), cells.sizes.numpy()
    p = np.zeros(len(x)) if prior is None else prior.numpy()
    p = p / max(np.abs(p).sum(), 1e-300)
    found = []
    for length, independent, scale in itertools.product(
        (0.15, 0.3, 0.6), (1, 3), (0.3, 1, 3) if prior is not None else [0]
    ):
        d = np.linalg.norm(x[:, None] - x, axis=2) * math.sqrt(3) / length
        k = 0.02 + (1 + d) * np.exp(-d) + independent * np.eye(len(x))
        k = k * np.outer(size, size)
        found.append(k / k.sum() + scale**2 * np.outer(p, p))
    return found


def dense_fit(k, noise, masks, scores, total):
    """Log density, mean and variance of the cells given scores and the total."""
    masks = np.concatenate([masks, np.ones((1, len(k)))])
    y = np.append(scores, total)
    s = masks @ k @ masks.T + np.diag([*[noise] * len(scores), 1e-12])
    inverse = np.linalg.inv(s)
    quadratic = y @ inverse @ y
    covariance = k - k @ masks.T @ inverse @ masks @ k
    return (
        -np.linalg.slogdet(s)[1] / 2 - len(y) / 2 * np.log(quadratic),
        k @ masks.T @ inverse @ y,
        quadratic / max(1, len(y) - 2) * covariance.diagonal(),
    )


@pytest.mark.parametrize("n", [1, 2, 8])
@pytest.mark.parametrize("with_prior", [False, True])
def test_posterior_is_the_average_of_dense_processes(with_prior, n):
    cells, total = line(N), 0.7
    generator = torch.Generator().manual_seed(0)
    w = (torch.rand(n, N, generator=generator) < 0.5).double()
    scores = torch.randn(n, generator=generator).double()
    prior = torch.randn(N, generator=generator).double() if with_prior else None
    fits = [
        dense_fit(k, noise, w.numpy(), scores.numpy(), total)
        for k in dense_kernels(cells, prior)
        for noise in ((0.1, 0.3, 1e-10) if n >= N else (0.1, 0.3))
    ]
    evidence, means, variances = map(np.array, zip(*fits))
    weights = np.exp(evidence - evidence.max())
    weights = weights[:, None] / weights.sum()
    mean = (weights * means).sum(0)
    variance = (weights * (variances + (means - mean) ** 2)).sum(0)
    estimate = fit_field(fitted(cells, prior), w, scores, total)
    np.testing.assert_allclose(estimate.mean, mean, atol=1e-6)
    np.testing.assert_allclose(estimate.std, np.sqrt(variance), atol=1e-6)


def process_of(total: float = 0.7, with_prior: bool = False) -> FieldProcess:
    """Process over all masks of N cells, before any score."""
    prior = torch.linspace(-1, 2, N).double() if with_prior else None
    masks = all_masks(N)[1:-1]
    return FieldProcess(line(N), masks, total, prior, capacity=20)


def explore(process: FieldProcess, n: int, acquisition: str = "information") -> None:
    """Choose and score n masks one after the other."""
    for _ in range(n):
        at = process.choose(acquisition)
        process.observe(torch.sin(3.0 * at[:, None].double()))


def dense_process(process: FieldProcess, k: np.ndarray, noise: float, total: float):
    """Mean, covariance of the cells and amplitude, of a process on its total."""
    with_total = k.sum(1)
    m = with_total / with_total.sum() * total
    k = k - np.outer(with_total, with_total) / with_total.sum()
    at, y = process.masks[process.chosen[0]].numpy(), process.scores[0].numpy()
    inverse = np.linalg.inv(at @ k @ at.T + noise * np.eye(len(at)))
    residuals = y - at @ m
    squares = AMPLITUDE_WEIGHT * AMPLITUDE**2 + residuals @ inverse @ residuals
    amplitude = math.sqrt(squares / (AMPLITUDE_WEIGHT + len(y)))
    to_masks = k @ at.T @ inverse
    return m + to_masks @ residuals, k - to_masks @ at @ k, amplitude


def assert_is_dense(process: FieldProcess, k, noise: float, total: float) -> None:
    mean, covariance, amplitude = dense_process(process, k, noise, total)
    masks = process.masks.numpy()
    np.testing.assert_allclose(process.mean[0], masks @ mean, atol=1e-6)
    std = amplitude * np.sqrt(((masks @ covariance) * masks).sum(1).clip(1e-12))
    np.testing.assert_allclose(process.std[0], std, atol=1e-6)
    joint = amplitude**2 * masks[:7] @ covariance @ masks.T
    found = process.covariance(0, torch.arange(7))
    np.testing.assert_allclose(found, joint, atol=1e-6)


@pytest.mark.parametrize("with_prior", [False, True])
def test_process_is_that_of_numpy(with_prior):
    """Before any score, one at a time, after a fit, and after further scores."""
    total = 0.7
    process = process_of(total, with_prior)
    dense = dense_kernels(line(N), torch.linspace(-1, 2, N) if with_prior else None)
    first = dense[len(dense) // 2]
    assert_is_dense(process, first, 0.1, total)
    explore(process, 8)
    assert_is_dense(process, first, 0.1, total)
    process.refit()
    at, y = process.masks[process.chosen[0]].numpy(), process.scores[0].numpy()
    best = max(
        ((k, noise) for k in dense for noise in (0.1, 0.3, 1e-10)),
        key=lambda pair: dense_fit(*pair, at, y, total)[0],
    )
    assert not np.allclose(best[0], first)
    assert_is_dense(process, *best, total)
    explore(process, 4)
    assert_is_dense(process, *best, total)
    mean, std = process.mean.clone(), process.std.clone()
    process.condition()
    torch.testing.assert_close(process.mean, mean, atol=1e-9, rtol=0)
    torch.testing.assert_close(process.std, std, atol=1e-9, rtol=0)


def test_seed_decides_random_choices():
    def chosen(seed):
        masks = all_masks(N)[1:-1]
        process = FieldProcess(line(N), masks, 0.7, None, capacity=5, seed=seed)
        for _ in range(4):
            process.choose(lambda m: MaxPosteriorSampling(m, replacement=False))
        return process.chosen.tolist()

    assert chosen(0) == chosen(0) != chosen(1)


def test_fit_finds_scores_without_noise():
    process = process_of(total=1.0)
    phi = torch.linspace(0, 1, N).double()
    phi /= phi.sum()
    for _ in range(10):
        at = process.choose("information")
        process.observe((process.masks[at] @ phi)[:, None])
    process.refit()
    assert process.noise.tolist() == [1e-10]
    torch.testing.assert_close(process.mean[0], process.masks @ phi, atol=1e-6, rtol=0)


def test_pending_masks_count_as_scored_at_their_mean():
    pending, scored = process_of(), process_of()
    explore(pending, 3)
    explore(scored, 3)
    for _ in range(2):
        pending.choose("information")
        at = scored.choose("information")
        scored.observe(scored.mean.gather(1, at[:, None]))
    assert torch.equal(pending.chosen, scored.chosen)
    torch.testing.assert_close(pending.mean, scored.mean)
    ratio = scored.amplitude / pending.amplitude
    torch.testing.assert_close(pending.std * ratio, scored.std)


def test_information_is_the_drop_of_the_variance_of_all_pixels():
    """A cell of s pixels has s values phi_i / s."""
    total = 0.7
    process = process_of(total)
    explore(process, 5, "ucb")
    found = acquisition_values("information", process.model(0))
    k = dense_kernels(line(N), None)[3]
    _, covariance, amplitude = dense_process(process, k, 0.1, total)
    sizes, drops = process._cells.sizes.numpy(), []
    for w in process.masks.numpy():
        row = covariance @ w
        after = covariance - np.outer(row, row) / (w @ row + 0.1)
        drops.append(((covariance - after).diagonal() / sizes).sum())
    np.testing.assert_allclose(found, amplitude**2 * np.array(drops), atol=1e-9)


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
    scores, total = masks @ truth, float(truth.sum())
    with_prior = fit_field(fitted(cells, prior), masks, scores, total).mean
    without = fit_field(fitted(cells), masks, scores, total).mean

    def error(field):
        return float((field - truth).norm() / truth.norm())

    if mirrored:
        assert error(with_prior) < min(0.5 * error(prior), 1.1 * error(without))
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
        estimate = fit_field(fitted(cells), w, w @ phi + noise, float(phi.sum()))
        z.append((estimate.mean - phi) / estimate.std)
    inside = (torch.stack(z).abs() < 1.96).double().mean()
    assert 0.9 < float(inside) < 0.98


def test_colors_are_fields_with_the_color_as_baseline():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(2))
    x, colors = torch.rand(1, 3, 12, 12), torch.rand(2, 3)
    n_pairs = 10
    given = {"target": 1, "estimator": "field", "grid_size": 4}
    given["return_std_error"] = True
    maps, errors = MCRISE(model).attribute(x, colors, n_masks=3 + 4 * n_pairs, **given)
    for k, color in enumerate(colors):
        one, error = PNRISE(model).attribute(
            x, color[:, None, None], n_masks=2 + 2 * n_pairs, **given
        )
        torch.testing.assert_close(maps[:, k], -one.sum(1), atol=1e-7, rtol=1e-5)
        torch.testing.assert_close(errors[:, k], error.sum(1), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("n_masks, passes", [(12, 10), (15, 10), (16, 16), (21, 16)])
def test_no_more_passes_than_masks(n_masks, passes):
    """Three colors: 1 + K (1 + 2 n) passes for n halves."""
    n_scored = 0

    def model(x):
        nonlocal n_scored
        n_scored += len(x)
        return x.sum((1, 2, 3))

    MCRISE(model).attribute(
        torch.ones(1, 3, 8, 8), torch.eye(3), estimator="field", n_masks=n_masks
    )
    assert n_scored == passes


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


def test_finished_examples_keep_their_maps():
    """A batch gives what its examples give, wherever each of them stops."""
    x = torch.stack([torch.zeros(3, 8, 8), torch.rand(3, 8, 8)])
    x[0, 0, 0, 0] = 1

    def model(x):
        return x.mean((1, 2, 3)) + torch.sin(40 * x.mean((1, 2, 3)))

    kwargs = {"estimator": "field", "n_masks": 200, "rtol": 0.2, "grid_size": 4}
    kwargs["return_std_error"] = True
    whole, error = PNRISE(model).attribute(x, **kwargs)
    passes = []
    for i in range(2):
        calls: list[int] = []

        def counting(x, calls=calls):
            calls.append(len(x))
            return model(x)

        one = PNRISE(counting).attribute(
            x[i : i + 1], perturbations_per_eval=10, **kwargs
        )
        passes.append(sum(calls))
        torch.testing.assert_close(whole[i], one[0][0])
        torch.testing.assert_close(error[i], one[1][0])
    # 16 pairs, 24, 36 and so on.
    assert passes[0] == 34 < passes[1]
    assert passes[1] in (50, 74, 110, 164, 200)


def test_prior_and_regions_of_each_example():
    x, regions = torch.rand(3, 1, 6, 8).double(), torch.randint(4, (3, 1, 6, 8))
    prior = torch.rand(3, 1, 6, 8)

    def model(x):
        return torch.sin(7 * x.square().mean((1, 2, 3)))

    for mask in (blocks((6, 8), (3, 4)), regions):
        for method, kwargs in (
            (BOREx, {"n_iterations": 5}),
            (PNRISE, {"estimator": "field", "n_masks": 12}),
        ):
            whole = method(model).attribute(
                x, prior=prior, feature_mask=mask, target=None, **kwargs
            )
            for i in range(3):
                one = method(model).attribute(
                    x[i : i + 1],
                    prior=prior[i : i + 1],
                    feature_mask=mask[i % len(mask)][None],
                    **kwargs,
                )
                torch.testing.assert_close(whole[i], one[0])


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
    with pytest.raises(ValueError, match=message):
        PNRISE(never).attribute(torch.ones(1, 1, 4), **kwargs)


@pytest.mark.parametrize("shapes", [[(1, 4)], [(1, 1, 4), (1, 3)]])
def test_a_prior_needs_inputs_of_one_size(shapes):
    inputs = tuple(map(torch.ones, shapes))
    with pytest.raises(ValueError, match="prior must be None unless inputs have axes"):
        PNRISE(never).attribute(inputs, estimator="field", prior=inputs[0])


@pytest.mark.parametrize("method, more", [(PNRISE, ()), (MCRISE, (torch.eye(3),))])
def test_cells_must_be_regions(method, more):
    with pytest.raises(ValueError, match="layout must be one of 'grid', 'superp"):
        method(never).attribute(
            torch.rand(1, 3, 8, 8), *more, estimator="field", layout="mixed"
        )
    with pytest.raises(
        TypeError, match="layout must be 'grid', 'superpixels' or a Reg"
    ):
        method(never).attribute(
            torch.rand(1, 3, 8, 8),
            *more,
            estimator="field",
            layout=GridLayout((8, 8), (4, 4)),
        )


def test_rise_has_no_field():
    with pytest.raises(ValueError, match="estimator must be"):
        RISE(never).attribute(torch.ones(1, 4), estimator="field")


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


def test_halves_are_those_of_a_gaussian_field_cut_at_its_median():
    """Two cells agree as often as in samples of NumPy, in all places alike."""
    side = torch.arange(14).double() / 14
    positions = torch.cartesian_prod(side, side)
    squares = torch.cdist(positions, positions).square().numpy()
    covariance = np.exp(-squares / (2 * 0.22**2))
    samples = np.random.default_rng(0).multivariate_normal(
        np.zeros(196), covariance, 1500
    )
    drawn = torch.from_numpy(samples > np.median(samples, 1, keepdims=True))
    halves = smooth_halves(
        positions, torch.ones(196).double(), 1500, torch.Generator().manual_seed(0)
    )
    grids = [masks.view(1500, 14, 14) for masks in (halves, drawn)]
    for d, rows in itertools.product((1, 3, 6), (slice(0, 7), slice(7, 14))):
        found, expected = (
            float((grid[:, rows, d:] == grid[:, rows, :-d]).double().mean())
            for grid in grids
        )
        assert found == pytest.approx(expected, abs=0.015)


def test_a_cell_larger_than_the_half_is_kept_alone_at_times():
    sizes = torch.tensor([0.9, 0.1]).double()
    far = torch.tensor([[0.0], [1e3]]).double()
    halves = smooth_halves(far, sizes, 50, torch.Generator().manual_seed(0))
    assert halves[:, 0].any() and not halves[:, 0].all()
    # The middle one of equal cells is kept, whatever the rounding.
    positions, sizes = torch.rand(7, 2).double(), torch.ones(7).double()
    halves = smooth_halves(positions, sizes, 50, torch.Generator().manual_seed(0))
    assert (halves.sum(1) == 4).all()


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


def blocks(size, counts) -> torch.Tensor:
    """Regions (1, 1, ...): equal blocks, numbered along the axes."""
    index = torch.zeros(()).long()
    for n, c in zip(size, counts):
        index = index[..., None] * c + torch.arange(n) * c // n
    return index[None, None]


# Six regions of different sizes.
PATCHES = blocks((6, 10), (2, 3))


def on_patches(game, scale=1.0):
    """Game on the means of the patches over the channels."""

    def model(x):
        kept = [x.mean(1)[:, PATCHES[0, 0] == i].mean(1) for i in range(N)]
        return scale * game(torch.stack(kept, 1))

    return model


@pytest.mark.parametrize("q", [1, 4])
@pytest.mark.parametrize("kind", ["halves", "squares", "regions", "parts"])
@pytest.mark.parametrize("acquisition", ["information", "std"])
def test_borex_recovers_the_shapley_values_of_a_second_order_model(
    game, kind, acquisition, q
):
    x = torch.ones(1, 2, 6, 10).double()
    prior = torch.arange(60.0).view(1, 1, 6, 10).sin()
    kinds = [kind, "regions", "halves"]
    found = BOREx(on_patches(game)).attribute(
        x,
        prior if kind == "parts" else None,
        feature_mask=PATCHES,
        candidates=kinds,
        n_iterations=14,
        acquisition=acquisition,
        masks_per_step=q,
        return_posterior=True,
    )
    maps, phi = found.attributions[0], shapley_values(game, N)
    assert torch.equal(maps[0], maps[1])
    sums = (
        torch.zeros(N)
        .double()
        .index_add_(0, PATCHES.flatten().repeat(2), maps.flatten())
    )
    torch.testing.assert_close(sums, phi, atol=1e-6, rtol=0)
    for i in range(N):
        assert float(maps[:, PATCHES[0, 0] == i].std()) < 1e-9
    w = torch.stack([found.masks[0, :, PATCHES[0, 0] == i][:, 0] for i in range(N)], 1)
    torch.testing.assert_close(found.scores[0], w.double() @ phi, atol=1e-9, rtol=0)


@pytest.mark.parametrize("acquisition", ["ucb", "information"])
@pytest.mark.parametrize("has_prior", [True, False])
def test_masks_of_borex_are_those_of_the_process_step_by_step(acquisition, has_prior):
    """Fits after 10 and 20 scores and at the end; the parts follow the prior."""
    x, regions, n = torch.rand(1, 2, 12, 16).double(), blocks((12, 16), (4, 5)), 23
    prior = torch.rand(1, 1, 12, 16).double() if has_prior else None
    kinds = ["parts", "squares"]

    def model(x):
        return torch.sin(9 * x.square().mean((1, 2, 3)))

    kwargs = {"feature_mask": regions, "candidates": kinds, "mask_sizes": (3, 6)}
    found = BOREx(model).attribute(
        x,
        prior,
        n_iterations=n,
        acquisition=acquisition,
        masks_per_step=1,
        seed=3,
        return_posterior=True,
        **kwargs,
    )
    layout = RegionLayout([regions])
    prior_sums = None if prior is None else layout.sums([prior])
    total = float(model(x) - model(0 * x))
    means = None if prior is None else prior_sums / layout.counts()
    masks = candidate_masks(
        layout, kinds, [3 / 12, 6 / 12], torch.Generator().manual_seed(3), means
    ).double()
    cells = Cells(layout.sizes(), layout.positions())
    process = FieldProcess(cells, masks, total, prior_sums, n, seed=3)
    for i in range(n):
        kept = masks[process.choose(acquisition)][:, regions[0]]
        assert torch.equal(found.masks[0, i], kept[0, 0] > 0)
        halved = (model(x * kept) - model(x * (1 - kept)) + total) / 2
        torch.testing.assert_close(found.scores[:, i], halved)
        process.observe(halved[None])
        if i + 1 in (10, 20, n):
            process.refit()
    w = masks[process.chosen[0]]
    expected = fit_field(fitted(cells, prior_sums), w, process.scores[0], total)
    n_elements = 2 * regions.flatten().bincount()
    for maps, values in (found.attributions, expected.mean), (found.std, expected.std):
        of_pixels = (values / n_elements)[regions].expand_as(maps)
        torch.testing.assert_close(maps, of_pixels)


def sums(maps) -> torch.Tensor:
    each = maps if isinstance(maps, tuple) else (maps,)
    return sum(m.double().flatten(1).sum(1) for m in each)


@pytest.mark.parametrize("size", [(12, 14), (4, 10, 12)], ids=["image", "video"])
@pytest.mark.parametrize("n_inputs", [1, 2])
@pytest.mark.parametrize("has_prior", [True, False])
def test_maps_of_borex_sum_to_the_difference_of_the_ends(size, n_inputs, has_prior):
    generator = torch.Generator().manual_seed(2)
    inputs = tuple(
        torch.rand(2, c, *size, generator=generator).double() for c in (3, 1)[:n_inputs]
    )
    baselines = tuple(torch.full_like(x[:1], 0.2 * i) for i, x in enumerate(inputs, 1))
    prior = torch.rand(2, 1, *size, generator=generator) if has_prior else None
    weights = torch.randn(4, 3, generator=generator).double()

    def model(*inputs):
        features = torch.cat([x.square().flatten(2).mean(2) for x in inputs], 1)
        return torch.tanh(5 * features @ weights[: features.shape[1]])

    args = {"target": [2, 0]}
    borex = BOREx(model)
    assert borex.has_convergence_delta()
    maps = borex.attribute(inputs, prior, baselines, n_iterations=7, **args)
    whole, nothing = (model(*each)[:, [2, 0]] for each in (inputs, baselines))
    ends = whole.diagonal() - torch.stack([nothing[0, 0], nothing[0, 1]])
    torch.testing.assert_close(sums(maps), ends, atol=1e-6, rtol=0)
    delta = borex.compute_convergence_delta(
        maps,
        tuple(b.expand_as(x) for b, x in zip(baselines, inputs)),
        inputs,
        target=[2, 0],
    )
    torch.testing.assert_close(delta, torch.zeros(2).double(), atol=1e-6, rtol=0)
    plain = borex.compute_convergence_delta(
        tuple(1 + m for m in maps), baselines, inputs, target=[2, 0]
    )
    n_elements = sum(x[0].numel() for x in inputs)
    assert plain.tolist() == pytest.approx([n_elements] * 2)


def test_tolerance_stops_each_example_by_itself():
    """A model that ignores an example needs fewer masks for it."""
    x = torch.stack([torch.zeros(3, 12, 14), torch.rand(3, 12, 14)])
    calls = []

    def model(x):
        calls.append(len(x))
        return torch.sin(40 * x.mean((1, 2, 3))) / 2

    kwargs = {
        "feature_mask": blocks((12, 14), (3, 4)),
        "n_iterations": 40,
        "tolerance": 0.02,
        "masks_per_step": 4,
        "return_posterior": True,
    }
    found = BOREx(model).attribute(x, **kwargs)
    n = (~found.scores.isnan()).sum(1)
    assert 10 <= n[0] < n[1] == found.scores.shape[1]
    assert sum(calls) == 4 + 2 * n.sum()
    assert not found.masks[0, n[0] :].any() and found.masks[1].any((1, 2)).all()
    assert found.scores[0, n[0] :].isnan().all()
    assert found.centers[0, n[0] :].isnan().all()
    assert torch.isfinite(found.centers[0, : n[0]]).all()
    for i in range(2):
        alone = BOREx(model).attribute(x[i : i + 1], **kwargs)
        assert torch.equal(alone.masks[0], found.masks[i, : n[i]])
        torch.testing.assert_close(alone.attributions[0], found.attributions[i])
    every = BOREx(model).attribute(x, **{**kwargs, "tolerance": 1e-9})
    assert every.scores.shape == (2, 40) and torch.isfinite(every.scores).all()


def blob(row: float, column: float, size: int = 24) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return torch.exp(-((y - row) ** 2 + (x - column) ** 2) / 8.0)


@pytest.mark.parametrize("method", ["BOREx", "PN-RISE"])
def test_maps_of_two_priors_are_nearer_to_the_truth_than_the_priors(method):
    truth = blob(3, 2.5, size=12).repeat_interleave(2, 0).repeat_interleave(2, 1)
    truth /= truth.sum()
    x = torch.ones(1, 1, 24, 24)

    def model(x):
        return (x[:, 0] * truth).sum((1, 2))

    def of(prior):
        regions = blocks((24, 24), (12, 12))
        if method == "BOREx":
            return BOREx(model).attribute(
                x, prior, feature_mask=regions, n_iterations=30
            )[0, 0]
        return PNRISE(model).attribute(
            x, feature_mask=regions, estimator="field", n_masks=62, prior=prior
        )[0, 0]

    def error(field):
        return float((field - truth).norm() / truth.norm())

    mirrored = truth.flip(1)
    right, wrong, none = (
        of(p) for p in (7 * truth[None, None], mirrored[None, None], None)
    )
    assert error(right) < 0.2 * error(none)
    assert error(wrong) < min(0.6 * error(mirrored), 1.3 * error(none))
    assert float((right - wrong).norm()) < float((truth - mirrored).norm())


@pytest.mark.parametrize("regions", [None, torch.zeros(1, 1, 6, 8).long()])
@pytest.mark.parametrize("prior", [True, False])
def test_one_cell_gets_the_total(regions, prior):
    x = torch.rand(2, 3, *((1, 1) if regions is None else (6, 8))).double()
    found = BOREx(lambda x: x.square().sum((1, 2, 3))).attribute(
        x,
        torch.rand(2, 1, 2, 2) if prior else None,
        feature_mask=regions,
        candidates=["halves", "squares", "regions", "parts"],
        n_iterations=12,
        return_posterior=True,
    )
    ends = x.square().sum((1, 2, 3))
    torch.testing.assert_close(sums(found.attributions), ends)
    assert float(found.attributions.flatten(1).std(1, correction=0).max()) < 1e-6
    assert torch.isfinite(found.std).all() and float(found.std.max()) < 1e-5


@pytest.mark.parametrize("method", [BOREx, PNRISE])
@pytest.mark.parametrize("prior", [True, False])
def test_model_without_influence_gives_zero(method, prior):
    x = torch.rand(2, 3, 12, 14)
    more = {"prior": torch.rand(2, 1, 12, 14)} if prior else {}
    kwargs = {"return_posterior": True} if method is BOREx else {"n_masks": 40}
    if method is PNRISE:
        kwargs |= {"estimator": "field", "return_std_error": True}
    found = method(lambda x: x.new_full((len(x),), 0.3)).attribute(x, **more, **kwargs)
    assert not found[0].any()
    assert torch.isfinite(found[1]).all()


def test_one_number_per_batch_explains_each_example_alone():
    x = torch.rand(2, 3, 12, 14)
    maps = [
        BOREx(model).attribute(x, n_iterations=4)
        for model in (lambda x: x.sum((1, 2, 3)), lambda x: x.sum())
    ]
    torch.testing.assert_close(*maps)


def test_cells_are_superpixels_of_the_first_input():
    """Of each example its own; a map has one value on each."""
    x, y = torch.rand(2, 2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    maps = BOREx(lambda x, y: (x + y).square().sum((1, 2, 3))).attribute((x, y))
    for each in maps:
        for values, regions in zip(each[:, 0], superpixels(x)[:, 0]):
            n = int(regions.max()) + 1
            assert n > 20
            for i in range(n):
                assert values[regions == i].unique().numel() == 1
            assert values.unique().numel() > n / 2


def test_cells_of_a_video_are_blocks_of_all_axes():
    x = torch.rand(1, 3, 4, 18, 20)
    f = lambda x: x.square().sum((1, 2, 3, 4))  # noqa: E731
    maps = PNRISE(f).attribute(x, estimator="field")[0, 0]
    regions = blocks((4, 18, 20), (4, 9, 9))[0, 0]
    assert maps.unique().numel() > 100
    for i in regions.unique():
        assert maps[regions == i].unique().numel() == 1


def test_color_map_of_the_shape_of_the_input_is_minus_the_mean():
    x, colors = torch.rand(2, 3, 12, 14).double(), torch.eye(3).double()
    kwargs = {"estimator": "field", "n_masks": 34, "grid_size": 4}
    kwargs["return_std_error"] = True

    def model(x):
        return torch.tanh(x.square().mean((1, 2, 3)))

    maps, errors = MCRISE(model).attribute(x, colors, **kwargs)
    shaped, error = MCRISE(model).attribute(x, colors, input_shaped=True, **kwargs)
    # An element of a pixel gets a third of what the pixel of a color map has.
    expected = -maps.mean(1, keepdim=True).expand_as(shaped) / 3
    torch.testing.assert_close(shaped, expected)
    root = errors.square().sum(1, keepdim=True).sqrt() / 3
    torch.testing.assert_close(error, root.expand_as(error) / 3)
    ends = torch.stack([model(x - x + c[:, None, None]) for c in colors]).mean(0)
    torch.testing.assert_close(sums(shaped), model(x) - ends)


def test_std_error_of_pixels_is_that_of_their_cells():
    """Elements of a cell share its deviation as they share its value."""
    x, regions = torch.rand(1, 2, 6, 10), PATCHES
    weights = torch.rand(2, 6, 10)

    def model(x):
        return torch.sin(9 * (x * weights).mean((1, 2, 3)))

    kwargs = {"estimator": "field", "n_masks": 20, "return_std_error": True}
    maps, errors = PNRISE(model).attribute(x, feature_mask=regions, **kwargs)
    layout = RegionLayout([regions])
    halves = smooth_halves(
        layout.positions(), layout.sizes(), 9, torch.Generator().manual_seed(0)
    ).double()
    masked = [model(x * w.float()[:, PATCHES[0]]) for w in (halves, 1 - halves)]
    total = (model(x) - model(0 * x)).double()
    scores = (masked[0] - masked[1] + total) / 2
    cells = Cells(layout.sizes(), layout.positions())
    expected = fit_field(fitted(cells), halves, scores.double(), float(total))
    n_elements = 2 * PATCHES.flatten().bincount()
    for values, each in (maps, expected.mean), (errors, expected.std):
        of_pixels = (each / n_elements)[PATCHES].expand_as(values)
        torch.testing.assert_close(values, of_pixels.float(), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("candidates", [None, "squares", ["regions", "halves"]])
def test_borex_recovers_a_linear_model_of_a_sequence(candidates):
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 24, generator=generator)
    x = torch.randn(3, 2, 24, generator=generator)

    def f(x):
        return (x * weights).flatten(1).sum(1)

    found = BOREx(f).attribute(
        x, n_iterations=40, candidates=candidates, return_posterior=True
    )
    # A mask hides both channels of an element, which share what it adds.
    expected = (x * weights).sum(1, keepdim=True).expand_as(x) / 2
    torch.testing.assert_close(found.attributions, expected, atol=1e-5, rtol=0)
    masks = found.masks.double()
    assert masks.shape == (3, 40, 24)
    steps = torch.arange(24).double()
    centers = (masks * steps).sum(2) / masks.sum(2)
    torch.testing.assert_close(found.centers[..., 0], centers, equal_nan=True)
