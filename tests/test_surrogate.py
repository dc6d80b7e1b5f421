"""Gaussian process over windows, against scikit-learn, BoTorch and itself."""

import math
import warnings

import numpy as np
import pytest
import torch
from botorch.acquisition import (
    ExpectedImprovement,
    PosteriorStandardDeviation,
    UpperConfidenceBound,
)
from botorch.models.model import Model
from scipy import stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern
from torch import Tensor
from torch.nn import functional as F

from captum_ext.surrogate import WindowGrid, WindowProcess, box_means
from captum_ext.surrogate.acquisition import EXPLORATION
from captum_ext.surrogate.hyperparameters import (
    AMPLITUDE,
    AMPLITUDE_WEIGHT,
    Hyperparameters,
    log_marginal_likelihood,
)

GRID = WindowGrid((32, 40), sides=(5, 9, 14), durations=(), stride=4)
VIDEO = WindowGrid((6, 16, 20), sides=(5, 8), durations=(2, 3), stride=4)


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def scores_of(windows: Tensor, grid: WindowGrid = GRID) -> Tensor:
    """A smooth function of the parameters, different for each example."""
    angles = 7 * grid.parameters[windows].sum(-1)
    return torch.sin(angles + torch.arange(len(windows)).view(-1, 1))


def explored(grid=GRID, n=20, prior=None, acquisition="ucb", refit_at=8):
    """Processes of two examples after n windows, chosen one at a time."""
    prior = 0.1 * noise(2, *grid.size) if prior is None else prior
    process = WindowProcess(grid, prior, capacity=n + 5)
    for i in range(n):
        windows = process.choose(acquisition)
        process.observe(scores_of(windows[:, None], grid))
        if i + 1 == refit_at:
            process.refit()
    return process


@pytest.mark.parametrize("grid", [GRID, VIDEO], ids=["image", "video"])
def test_one_at_a_time_equals_from_scratch(grid):
    process = explored(grid)
    mean, std = process.mean.clone(), process.std.clone()
    process.condition()
    torch.testing.assert_close(process.mean, mean, atol=1e-9, rtol=0)
    torch.testing.assert_close(process.std, std, atol=1e-9, rtol=0)


@pytest.mark.parametrize("grid", [GRID, VIDEO], ids=["image", "video"])
def test_posterior_is_that_of_botorch(grid):
    process = explored(grid)
    for b in range(2):
        with torch.no_grad():
            posterior = process.model(b).posterior(grid.parameters)
        mean, std = posterior.mean[:, 0], posterior.variance[:, 0].sqrt()
        torch.testing.assert_close(process.mean[b], mean, atol=1e-6, rtol=0)
        torch.testing.assert_close(process.std[b], std, atol=1e-6, rtol=0)


class _Trend(Matern):
    """scikit-learn's Matern kernel with the terms of an unknown scale and offset."""

    def __call__(self, X, Y=None, eval_gradient=False):
        Y = X if Y is None else Y
        features, others = X[:, -2:], Y[:, -2:]
        return super().__call__(X[:, :-2], Y[:, :-2]) + features @ others.T

    def diag(self, X):
        return super().diag(X[:, :-2]) + (X[:, -2:] ** 2).sum(1)


@pytest.mark.parametrize("has_prior", [True, False])
def test_posterior_is_that_of_scikit_learn(has_prior):
    prior = 0.1 * noise(2, *GRID.size) * has_prior
    process = explored(prior=prior)
    m = box_means(prior, *GRID.bounds(GRID.parameters))
    for b in range(2):
        unit = m[b].square().mean().sqrt().clamp_min(1e-300)
        trend = torch.stack([m[b] / unit, 0.3 * torch.ones_like(m[b])])
        X = torch.cat([GRID.parameters, trend.T], 1).numpy()
        at = process.chosen[b]
        regressor = GaussianProcessRegressor(
            _Trend(process.hyperparameters.lengthscale[b].numpy(), "fixed", nu=1.5),
            alpha=float(process.hyperparameters.noise[b]),
            optimizer=None,
        )
        regressor.fit(X[at], (process.scores[b] - m[b, at]).numpy())
        mean, std = regressor.predict(X, return_std=True)
        amplitude = float(process.amplitude[b])
        np.testing.assert_allclose(process.mean[b] - m[b], mean, atol=1e-6)
        np.testing.assert_allclose(process.std[b] / amplitude, std, atol=1e-6)


def test_unknown_scale_and_offset_are_generalized_least_squares():
    """Equation (2.42) of Rasmussen and Williams is the limit of a vague prior."""
    process = explored()
    vague = 1e3 * process._features
    process._features = vague
    process.condition()
    for b in range(2):
        at, H = process.chosen[b], vague[b] / 1e3
        k = process._matern(GRID.parameters[at], GRID.parameters).to_dense()[b]
        K_inverse = torch.linalg.inv(
            k[:, at] + process.hyperparameters.noise[b] * torch.eye(len(at))
        )
        r = process.scores[b] - process.prior_mean[b, at]
        beta = torch.linalg.solve(H[at].T @ K_inverse @ H[at], H[at].T @ K_inverse @ r)
        expected = H @ beta + k.T @ K_inverse @ (r - H[at] @ beta)
        mean = process.mean[b] - process.prior_mean[b]
        torch.testing.assert_close(mean, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("grid", [GRID, VIDEO], ids=["image", "video"])
def test_mean_without_an_observation_is_the_prior(grid):
    prior = noise(2, *grid.size)
    process = WindowProcess(grid, prior, capacity=1)
    for i in range(0, len(grid.parameters), 7):
        inside = grid.masks(torch.tensor(i)).double()
        expected = (prior * inside).flatten(1).sum(1) / inside.sum()
        torch.testing.assert_close(process.mean[:, i], expected)


def test_useless_prior_fades():
    """With noise ten times the scores the error is little larger than without."""
    everywhere = torch.arange(len(GRID.parameters))[None]
    scored = noise(len(GRID.parameters), seed=2).argsort()[:80]
    errors = []
    for scale in (0, 10):
        process = WindowProcess(GRID, scale * noise(1, *GRID.size), capacity=80)
        for i in scored:
            process.add_pending(i[None])
        process.observe(scores_of(scored[None]))
        errors.append((process.mean - scores_of(everywhere)).square().mean())
    assert errors[1] < 1.1 * errors[0] < 0.5


def test_posterior_does_not_depend_on_the_unit_of_scores():
    small, large = (
        WindowProcess(GRID, torch.zeros(1, *GRID.size).double(), 12) for _ in range(2)
    )
    for i in range(12):
        windows = torch.tensor([17 * i])
        for process, unit in ((small, 1), (large, 1000)):
            process.add_pending(windows)
            process.observe(unit * scores_of(windows[:, None]))
    torch.testing.assert_close(1000 * small.mean, large.mean)
    ratio = large.std / (1000 * small.std)
    assert ratio.max() < 1.01 and ratio.min() > 0.7


def test_amplitude_is_the_mode_under_its_prior():
    """Scores of zero leave the prior's sum of squares over more observations."""
    process = WindowProcess(GRID, torch.zeros(1, 32, 40).double(), capacity=3)
    for n in (1, 2, 3):
        process.choose("std")
        process.observe(torch.zeros(1, 1).double())
        expected = AMPLITUDE * math.sqrt(AMPLITUDE_WEIGHT / (AMPLITUDE_WEIGHT + n))
        assert process.amplitude.item() == pytest.approx(expected)


def test_pending_windows_change_the_std_as_scored_ones_do():
    """A pending window counts as if it had scored its posterior mean."""
    pending, scored = explored(), explored()
    windows = pending.choose("ucb")
    scored.add_pending(windows)
    scored.observe(scored.mean.gather(1, windows[:, None]))
    torch.testing.assert_close(pending.mean, scored.mean)
    ratio = pending.std / pending.amplitude[:, None]
    torch.testing.assert_close(ratio, scored.std / scored.amplitude[:, None])


def test_several_pending_windows_equal_one_at_a_time():
    one, several = explored(n=0), explored(n=0)
    windows = torch.tensor([[3, 90, 41, 7], [200, 4, 150, 33]])
    for each in windows.unbind(1):
        one.add_pending(each)
        one.observe(scores_of(each[:, None]))
        several.add_pending(each)
    several.observe(scores_of(windows))
    torch.testing.assert_close(one.mean, several.mean)
    torch.testing.assert_close(one.std, several.std)
    assert torch.equal(several.chosen, windows)


class _Absolute(UpperConfidenceBound):
    def forward(self, X: Tensor) -> Tensor:
        mean, sigma = self._mean_and_sigma(X)
        return (mean.abs() + self.beta.sqrt() * sigma).squeeze(-1)


@pytest.mark.parametrize("name", ["ucb", "abs_ucb", "ei", "std"])
def test_named_acquisitions_are_those_of_botorch(name):
    def make(model: Model):
        best = model.train_targets.max()
        return {
            "ucb": lambda: UpperConfidenceBound(model, beta=EXPLORATION**2),
            "abs_ucb": lambda: _Absolute(model, beta=EXPLORATION**2),
            "ei": lambda: ExpectedImprovement(model, best_f=best),
            "std": lambda: PosteriorStandardDeviation(model),
        }[name]()

    process = explored()
    with torch.no_grad():
        expected = process._acquisition_values(make)
    torch.testing.assert_close(
        process._acquisition_values(name), expected, atol=1e-5, rtol=1e-5
    )


def test_random_acquisition_leaves_the_global_generator_untouched():
    process = explored()
    state = torch.get_rng_state()
    first, second = (
        process._acquisition_values(
            lambda model: lambda X: torch.rand(len(X)) + X[:, 0, 0]
        )
        for _ in range(2)
    )
    assert torch.equal(first, second) and first.std() > 0
    assert torch.equal(state, torch.get_rng_state())


def test_log_marginal_likelihood_is_student_t():
    K = torch.cov(noise(5, 40)) + torch.eye(5)
    r = noise(5, seed=1)
    t = stats.multivariate_t(shape=AMPLITUDE**2 * K.numpy(), df=AMPLITUDE_WEIGHT)
    constant = t.logpdf(np.zeros(5)) + 0.5 * torch.logdet(K).item()
    expected = t.logpdf(r.numpy()) - constant
    assert log_marginal_likelihood(K, r).item() == pytest.approx(expected, abs=1e-9)
    assert log_marginal_likelihood(-K, r).isnan()


@pytest.mark.parametrize("true", [0.15, 0.3, 0.45])
def test_fit_recovers_the_lengthscale(true):
    """Mean logarithm of the fits to 16 draws from the process."""
    process = WindowProcess(GRID, torch.zeros(16, *GRID.size).double(), 120)
    X = GRID.parameters / torch.tensor([true, true, 0.8])
    distance = math.sqrt(3) * torch.cdist(X, X)
    k = (1 + distance) * torch.exp(-distance) + 1e-8 * torch.eye(len(X))
    f = torch.linalg.cholesky(k) @ noise(len(X), 16, seed=3)
    order = noise(len(X), seed=4).argsort()[:120]
    for i in order:
        process.add_pending(i.expand(16))
    process.observe(f[order].T)
    process.refit()
    found = process.hyperparameters.lengthscale[:, 0].log().mean().exp()
    assert found.item() == pytest.approx(true, rel=0.25)


def test_failed_fit_keeps_the_hyperparameters_of_its_example():
    process = explored()
    process.scores = process.scores.clone()
    before = process.hyperparameters
    process.hyperparameters = Hyperparameters(
        before.lengthscale * 1.1, before.noise * 1.1
    )
    process.scores[0, 3] = torch.inf
    with pytest.warns(UserWarning, match="could not be fitted for examples \\[0\\]"):
        process.refit()
    after = process.hyperparameters
    torch.testing.assert_close(after.lengthscale[0], before.lengthscale[0] * 1.1)
    assert not torch.allclose(after.lengthscale[1], before.lengthscale[1] * 1.1)


def test_examples_are_fitted_independently():
    together = explored()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prior = 0.1 * noise(2, *GRID.size)
        alone = WindowProcess(GRID, prior[1:], capacity=25)
        for i in range(20):
            windows = alone.choose("ucb")
            both = torch.cat([windows, windows])[:, None]
            alone.observe(scores_of(both)[1:])
            if i == 7:
                alone.refit()
    assert torch.equal(alone.chosen[0], together.chosen[1])
    torch.testing.assert_close(alone.mean[0], together.mean[1])


@pytest.mark.parametrize("grid", [GRID, VIDEO], ids=["image", "video"])
def test_windows_are_clipped_at_the_borders_and_centered(grid):
    starts, stops = grid.bounds(grid.parameters)
    size = torch.tensor(grid.size)
    assert (starts >= 0).all() and (stops <= size).all() and (starts < stops).all()
    whole = (starts > 0).all(1) & (stops < size).all(1)
    middle = (starts + stops - 1)[whole] / 2
    units = torch.tensor([grid.size[0]] * (len(size) - 2) + [min(grid.size[-2:])] * 2)
    off = middle - grid.parameters[whole, : len(size)] * units
    assert off.abs().max() <= 0.5
    if len(size) == 2:
        sides = (stops - starts)[whole]
        assert set(sides.flatten().tolist()) == {5, 9, 14}
    volumes = grid.masks(torch.arange(len(starts))).flatten(1).sum(1)
    torch.testing.assert_close(volumes.long(), (stops - starts).prod(1))


def test_map_is_the_average_pool_over_the_window():
    """The border does not count, as in the authors' code."""
    grid = WindowGrid((24, 32), sides=(5, 9), durations=(), stride=1)
    values = noise(2, len(grid.parameters))
    at = values.view(2, 2, 24, 32)
    expected = [
        F.avg_pool2d(at[:, i], r, 1, r // 2, count_include_pad=False)
        for i, r in enumerate((5, 9))
    ]
    torch.testing.assert_close(grid.maps(values), sum(expected) / 2)
    torch.testing.assert_close(grid.maps(values, averaged=False), at.mean(1))


def test_video_map_is_the_average_pool_over_the_window():
    grid = WindowGrid((6, 8, 9), sides=(3,), durations=(5,), stride=1)
    values = noise(1, len(grid.parameters))
    expected = F.avg_pool3d(
        values.view(1, 6, 8, 9), (5, 3, 3), 1, (2, 1, 1), count_include_pad=False
    )
    torch.testing.assert_close(grid.maps(values), expected)


@pytest.mark.parametrize("size", [(7, 9), (3, 6, 5)])
def test_box_means(size):
    maps = noise(2, *size)
    corners = [noise(11, seed=i).abs() % 1 for i in range(2 * len(size))]
    start = torch.stack([(c * n).long() for c, n in zip(corners, size)], 1)
    longest = torch.tensor(size) - start
    length = torch.stack(corners[len(size) :], 1)
    stop = start + 1 + (length * (longest - 1)).long()
    for i, mean in enumerate(box_means(maps, start, stop).T):
        box = [slice(a, b) for a, b in zip(start[i].tolist(), stop[i].tolist())]
        torch.testing.assert_close(mean, maps[(slice(None), *box)].flatten(1).mean(1))
