"""Gaussian processes over candidates, against NumPy, scikit-learn and BoTorch."""

import math
import warnings

import numpy as np
import pytest
import torch
from botorch.acquisition import (
    OneShotAcquisitionFunction,
    qKnowledgeGradient,
    qLogNoisyExpectedImprovement,
    qNegIntegratedPosteriorVariance,
    qUpperConfidenceBound,
)
from botorch.acquisition.max_value_entropy_search import qMaxValueEntropy
from botorch.acquisition.objective import (
    LinearMCObjective,
    ScalarizedPosteriorTransform,
)
from botorch.generation import MaxPosteriorSampling
from botorch.sampling import SobolQMCNormalSampler
from scipy import stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern
from torch import Tensor
from torch.nn import functional as F

from captum_ext.surrogate import (
    CandidateProcess,
    InformationGain,
    WindowGrid,
    WindowProcess,
    box_means,
)
from captum_ext.surrogate.acquisition import EXPLORATION, acquisition_values
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


def explored(
    grid=GRID, n=20, prior=None, acquisition="ucb", refit_at=8, **choices: str
):
    """Processes of two examples after n windows, chosen one at a time."""
    prior = 0.1 * noise(2, *grid.size) if prior is None else prior
    process = WindowProcess(grid, prior, capacity=n + 5, **choices)
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


class LinearProcess(CandidateProcess):
    """Scores are means of unknown cells of unit variance over random masks."""

    noise = torch.tensor([0.01, 0.2], dtype=torch.float64)

    def __init__(self, capacity: int, n_candidates: int = 30, n_cells: int = 8) -> None:
        self.masks = noise(n_candidates, n_cells, seed=5)
        super().__init__(noise(2, n_candidates, seed=6), capacity)

    def prior_variance(self) -> Tensor:
        return self.masks.square().sum(1).repeat(2, 1)

    def prior_covariance(
        self, indices: Tensor, examples: slice = slice(None)
    ) -> Tensor:
        return self.masks[indices] @ self.masks.T

    def prior_map_covariance(self, example: int) -> Tensor:
        return self.masks

    def fit(self) -> Tensor:
        return torch.zeros(2, dtype=torch.bool)


def explored_cells(n: int = 6) -> LinearProcess:
    process = LinearProcess(capacity=n + 5)
    for i in range(n):
        indices = process.choose("std")
        process.observe(torch.sin(indices[:, None].double() + i))
    return process


def dense_kernel(process: CandidateProcess, example: int) -> np.ndarray:
    """Prior covariance of all candidates, written out."""
    if isinstance(process, LinearProcess):
        return (process.masks @ process.masks.T).numpy()
    X = process._parameters / process.hyperparameters.lengthscale[example]
    features = process._features[example].numpy()
    distance = np.linalg.norm((X[:, None] - X).numpy(), axis=2) * math.sqrt(3)
    return (1 + distance) * np.exp(-distance) + features @ features.T


def dense_posterior(
    process: CandidateProcess, example: int, at: list[int], scores: list[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and covariance of all candidates, by one solve."""
    scale = float(process.amplitude[example]) ** 2
    K, m = scale * dense_kernel(process, example), process.prior_mean[example].numpy()
    noisy = K[np.ix_(at, at)] + scale * float(process.noise[example]) * np.eye(len(at))
    weights = np.linalg.solve(noisy, K[at]).T
    return m + weights @ (np.array(scores) - m[at]), K - weights @ K[at]


PROCESSES = {
    "image": explored,
    "video": lambda: explored(VIDEO),
    "cells": explored_cells,
}


@pytest.mark.parametrize("make", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("n_pending", [0, 2])
def test_posterior_is_that_of_numpy(make, n_pending):
    """A pending candidate counts as if it had scored its posterior mean."""
    process = make()
    for _ in range(n_pending):
        process.choose("std")
    for b in range(2):
        model = process.model(b)
        at, scores = process.chosen[b].tolist(), process.scores[b].tolist()
        scores += process.mean[b, at[len(scores) :]].tolist()
        mean, covariance = dense_posterior(process, b, at, scores)
        posterior = model.posterior(model.candidates)
        np.testing.assert_allclose(process.mean[b], mean, atol=1e-9)
        np.testing.assert_allclose(posterior.mean[:, 0], mean, atol=1e-9)
        found = posterior.distribution.covariance_matrix
        np.testing.assert_allclose(found, covariance, atol=1e-7)
        everything = torch.arange(len(mean))
        rows = process.covariance(b, everything[::3])
        np.testing.assert_allclose(rows, covariance[::3], atol=1e-9)
        one = model.posterior(model.candidates[:, None]).variance[:, 0, 0]
        np.testing.assert_allclose(one, covariance.diagonal(), atol=1e-9)
        np.testing.assert_allclose(process.std[b].square(), one, atol=1e-12)
        assert model.train_inputs[0][:, 0].tolist() == at
        np.testing.assert_allclose(model.train_targets, scores, atol=1e-12)


def test_noise_of_observations():
    model, X = explored().model(0), torch.tensor([[[3.0], [90.0]], [[7.0], [7.0]]])
    plain, noisy = (model.posterior(X, observation_noise=o) for o in (False, True))
    given = model.posterior(X, observation_noise=torch.full((2, 1), 0.3))
    expected = model.process.noise[0] * model.process.amplitude[0] ** 2
    for posterior, variance in ((noisy, expected), (given, torch.tensor(0.3))):
        added = (
            posterior.distribution.covariance_matrix
            - plain.distribution.covariance_matrix
        )
        torch.testing.assert_close(
            added, (variance * torch.eye(2).double()).expand(2, -1, -1)
        )


@pytest.mark.parametrize("make", PROCESSES.values(), ids=PROCESSES)
def test_further_observations_equal_one_solve_with_all(make):
    """Three batches of two observations, four times, then one more for each."""
    process, example = make(), 1
    at, scores = process.chosen[1].tolist(), process.scores[1].tolist()
    X = torch.tensor([[3, 21], [17, 5], [9, 9]]).double()[..., None]
    Y = noise(4, 3, 2, 1, seed=9)
    model = process.model(example).condition_on_observations(X, Y)
    last_X, last_Y = torch.tensor([[2], [4], [6]]).double()[..., None], Y[..., :1, :]
    further = model.condition_on_observations(last_X, last_Y)
    for each, n in ((model, 2), (further, 3)):
        assert each.batch_shape == (4, 3)
        found = each.posterior(each.candidates)
        assert each.train_inputs[0].shape[-2:] == (len(at) + n, 1)
        for i, j in np.ndindex(4, 3):
            more = X[j, :, 0].tolist() + [last_X[j].item()]
            values = Y[i, j, :, 0].tolist() + [last_Y[i, j].item()]
            all_at = at + [int(k) for k in more[:n]]
            all_scores = scores + values[:n]
            mean, covariance = dense_posterior(process, example, all_at, all_scores)
            np.testing.assert_allclose(found.mean[i, j, :, 0], mean, atol=1e-8)
            np.testing.assert_allclose(
                found.distribution.covariance_matrix[i, j], covariance, atol=1e-7
            )
            assert each.train_targets[i, j].tolist() == all_scores
            # BoTorch reads the values of other points for each model of the batch.
            one = each.posterior(torch.full((4, 3, 1, 1), 8.0))
            assert one.mean[i, j].item() == pytest.approx(mean[8], abs=1e-8)
            variance = one.variance[i, j].item()
            assert variance == pytest.approx(covariance[8, 8], abs=1e-8)


def test_observation_with_a_noise_of_its_own():
    model, X = explored().model(0), torch.tensor([[3.0]])
    before = model.posterior(X).variance.item()
    exact = model.condition_on_observations(
        X, torch.ones(1, 1).double(), noise=torch.zeros(1, 1).double()
    )
    half = model.condition_on_observations(
        X, torch.ones(1, 1).double(), noise=torch.full((1, 1), before).double()
    )
    assert exact.posterior(X).mean.item() == pytest.approx(1)
    assert half.posterior(X).variance.item() == pytest.approx(before / 2)


def test_fantasies_follow_the_posterior():
    """Their mean is the posterior mean, their variance what an observation removes."""
    model = explored().model(0)
    X = torch.tensor([[[3.0]], [[90.0]]])
    sampler = SobolQMCNormalSampler(torch.Size([1024]), seed=0)
    fantasies = model.fantasize(X, sampler)
    assert fantasies.batch_shape == (1024, 2)
    at = fantasies.posterior(torch.tensor([[8.0]]))
    expected = model.posterior(torch.tensor([[8.0]]))
    mean, variance = at.mean[..., 0, 0], at.variance[..., 0, 0]
    torch.testing.assert_close(
        mean.mean(0), expected.mean[0].expand(2), atol=1e-3, rtol=0
    )
    removed = expected.variance[0] - variance[0]
    torch.testing.assert_close(mean.var(0), removed, rtol=0.02, atol=1e-6)


class _Trend(Matern):
    """scikit-learn's Matern kernel with the terms of an unknown scale and offset."""

    def __call__(self, X, Y=None, eval_gradient=False):
        if eval_gradient:
            k, gradient = super().__call__(X[:, :-2], eval_gradient=True)
            return k + X[:, -2:] @ X[:, -2:].T, gradient
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


@pytest.mark.parametrize("grid", [GRID, VIDEO], ids=["image", "video"])
def test_prior_mean_at_the_center(grid):
    """The value of the map at the pixel, of two at the same distance the first."""
    prior = noise(2, *grid.size)
    process = WindowProcess(grid, prior, capacity=1, prior_value="center")
    n_axes = len(grid.size)
    for i in range(0, len(grid.parameters), 7):
        units = torch.tensor([grid.size[0]] * (n_axes - 2) + [min(grid.size[-2:])] * 2)
        at = (grid.parameters[i, :n_axes] * units).tolist()
        pixel = tuple(math.ceil(along - 0.5 - 1e-6) for along in at)
        assert torch.equal(process.prior_mean[:, i], prior[(slice(None), *pixel)])


PAPER = {"prior_value": "center", "prior_scale": "fixed", "kernel": "authors"}


@pytest.mark.parametrize("grid", [GRID, VIDEO], ids=["image", "video"])
def test_kernel_of_the_authors_is_that_of_scikit_learn(grid):
    """Amplitude 1, noise .01, lengthscales 12 for positions and 10 for half-sides."""
    process, n_axes = explored(grid, refit_at=None, **PAPER), len(grid.size)
    X = grid.parameters.clone()
    X[:, n_axes:] = X[:, n_axes:].exp()
    # Frames; pixels of an image of 224, and halves of sides.
    X *= torch.tensor([224, 224, 112] if n_axes == 2 else [6, 224, 224, 6, 112])
    lengths = [12.0] * n_axes + [10.0] * (n_axes - 1)
    for b in range(2):
        at, m = process.chosen[b], process.prior_mean[b]
        regressor = GaussianProcessRegressor(
            Matern(lengths, "fixed", nu=1.5), alpha=0.01, optimizer=None
        )
        regressor.fit(X[at].numpy(), (process.scores[b] - m[at]).numpy())
        mean, std = regressor.predict(X.numpy(), return_std=True)
        np.testing.assert_allclose(process.mean[b] - m, mean, atol=1e-6)
        np.testing.assert_allclose(process.std[b], std, atol=1e-6)
    assert torch.equal(process.amplitude, torch.ones(2).double())


@pytest.mark.parametrize("has_trend", [True, False])
@pytest.mark.filterwarnings("ignore:The optimal value:UserWarning")
def test_fit_in_bounds_is_that_of_scikit_learn(has_trend):
    """Two lengthscales within the bounds, one at the upper one."""
    true = torch.tensor([5.0, 8.0, 90.0]).double()
    X = 15 * noise(2, 40, 3, seed=1).tanh()
    trend = noise(2, 40, 2, seed=2) * has_trend
    distance = math.sqrt(3) * torch.cdist(X / true, X / true)
    k = (1 + distance) * torch.exp(-distance) + 0.01 * torch.eye(40)
    scores = (torch.linalg.cholesky(k) @ noise(2, 40, 1, seed=3))[..., 0]
    start = Hyperparameters.of_authors(2, 3)
    fitted, failed = start.fitted_in_bounds(X, trend, scores)
    assert not failed.any() and torch.equal(fitted.noise, start.noise)
    for b in range(2):
        kernel = _Trend([12.0, 12.0, 10.0], (1, 20), nu=1.5)
        regressor = GaussianProcessRegressor(kernel, alpha=0.01)
        regressor.fit(torch.cat([X[b], trend[b]], 1).numpy(), scores[b].numpy())
        expected = regressor.kernel_.length_scale
        np.testing.assert_allclose(fitted.lengthscale[b], expected, rtol=1e-3)


def test_failed_fit_in_bounds_keeps_the_hyperparameters_of_its_example():
    start = Hyperparameters.of_authors(2, 3)
    residuals = noise(2, 5)
    residuals[0, 2] = torch.nan
    none = torch.zeros(2, 5, 0).double()
    fitted, failed = start.fitted_in_bounds(50 * noise(2, 5, 3), none, residuals)
    assert failed.tolist() == [True, False]
    assert torch.equal(fitted.lengthscale[0], start.lengthscale[0])
    assert not torch.allclose(fitted.lengthscale[1], start.lengthscale[1])


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


def expected_improvement(process: CandidateProcess, best: Tensor) -> np.ndarray:
    std = process.std.numpy()
    u = (process.mean - best[:, None]).numpy() / std
    return std * (stats.norm.pdf(u) + u * stats.norm.cdf(u))


@pytest.mark.parametrize("make", PROCESSES.values(), ids=PROCESSES)
def test_named_acquisitions_are_their_formulas(make):
    process = make()
    mean, std = process.mean, process.std
    for name, expected in (("ucb", mean + EXPLORATION * std), ("std", std)):
        found = process._acquisition_values(name)
        torch.testing.assert_close(found, expected, atol=1e-14, rtol=1e-14)
    process.choose("ucb")
    improvement = expected_improvement(process, process.scores.amax(1))
    found = process._acquisition_values("ei").exp()
    np.testing.assert_allclose(found, improvement, atol=1e-9)


def test_expected_improvement_before_any_score_is_on_the_best_mean():
    process = WindowProcess(GRID, noise(1, *GRID.size), capacity=1)
    found = process._acquisition_values("ei").exp()
    expected = expected_improvement(process, process.mean.amax(1))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def total_variance(process: CandidateProcess, example: int, at: list[int]) -> float:
    """Total posterior variance of the map after scores of some candidates."""
    K = to_map = dense_kernel(process, example)
    prior = K.trace()
    if isinstance(process, LinearProcess):
        to_map, prior = process.masks.numpy(), process.masks.shape[1]
    noisy = K[np.ix_(at, at)] + float(process.noise[example]) * np.eye(len(at))
    explained = (to_map[at] * np.linalg.solve(noisy, to_map[at])).sum()
    return float(process.amplitude[example]) ** 2 * (prior - explained)


@pytest.mark.parametrize("make", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("read_before", [True, False])
def test_information_is_the_drop_of_the_total_variance(make, read_before):
    """Measured by one solve, whether the covariance was followed or is new."""
    process = make()
    process.condition()
    for _ in range(3):
        if read_before:
            process._acquisition_values("information")
        process.choose("ucb")
    process.observe(torch.ones(2, 3).double())
    found = process._acquisition_values("information")
    for b in range(2):
        at = process.chosen[b].tolist()
        for i in (0, 7, 21, at[0], at[-1]):
            drop = total_variance(process, b, at) - total_variance(process, b, [*at, i])
            assert found[b, i].item() == pytest.approx(drop, abs=1e-9)
        covariance = process.map_covariance(b, torch.arange(found.shape[1]))
        expected = process.squared_map_covariance(b)
        torch.testing.assert_close(
            covariance.square().sum(1), expected, atol=1e-9, rtol=0
        )


def test_information_is_that_of_botorch():
    """Up to the total variance, which is the same for all candidates."""
    process = explored()
    after = process._acquisition_values(
        lambda m: qNegIntegratedPosteriorVariance(m, mc_points=m.candidates)
    )
    found = process._acquisition_values("information")
    n = found.shape[1]
    torch.testing.assert_close(
        found - found[:, :1], n * (after - after[:, :1]), atol=1e-9, rtol=0
    )


def test_information_of_a_conditioned_model_is_refused():
    model = explored().model(0)
    fantasy = model.condition_on_observations(
        torch.zeros(1, 1), torch.zeros(1, 1).double()
    )
    with pytest.raises(ValueError, match="model must be that of a process"):
        InformationGain(fantasy)


def test_knowledge_gradient_has_its_inner_maximum_over_all_candidates():
    process = explored_cells()
    model = process.model(0)
    sampler = SobolQMCNormalSampler(torch.Size([16]), seed=3)

    def acquisition(model):
        return qKnowledgeGradient(
            model, num_fantasies=None, sampler=sampler, current_value=model.mean.max()
        )

    found = acquisition_values(acquisition, model)
    z = sampler.base_samples.flatten()
    covariance = process.covariance(0, torch.arange(30))
    noise_variance = process.noise[0] * process.amplitude[0] ** 2
    for i in range(30):
        step = covariance[i] / (covariance[i, i] + noise_variance).sqrt()
        means = process.mean[0] + z[:, None] * step
        expected = means.amax(1).mean() - process.mean[0].max()
        torch.testing.assert_close(found[i], expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    "acquisition",
    [
        lambda m: qKnowledgeGradient(m, objective=LinearMCObjective(torch.ones(1))),
        lambda m: qKnowledgeGradient(
            m, posterior_transform=ScalarizedPosteriorTransform(-torch.ones(1))
        ),
        lambda m: _OneShot(m),
    ],
)
def test_other_one_shot_functions_are_refused(acquisition):
    with pytest.raises(ValueError, match="acquisition must be a qKnowledgeGradient"):
        explored().choose(acquisition)


class _OneShot(OneShotAcquisitionFunction):
    def forward(self, X): ...
    def get_augmented_q_batch_size(self, q): ...
    def extract_candidates(self, X_full): ...


def test_monte_carlo_values_are_near_the_closed_form():
    process = explored()
    found = process._acquisition_values(lambda m: qUpperConfidenceBound(m, beta=4))
    expected = process.mean + 2 * process.std
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)


def test_thompson_sampling_chooses_the_best_of_a_joint_sample():
    """As often as samples by NumPy's eigenvectors are best there."""
    process = explored_cells(3)
    model = process.model(0)
    mean, covariance = process.mean[0], process.covariance(0, torch.arange(30))
    generator = np.random.default_rng(0)
    samples = generator.multivariate_normal(
        mean.numpy(), covariance.numpy(), 20000, method="eigh"
    )
    expected = np.bincount(samples.argmax(1), minlength=30) / 20000
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sampler = MaxPosteriorSampling(model)
        best = sampler(model.candidates, num_samples=20000).long().flatten()
    found = best.bincount(minlength=30) / 20000
    np.testing.assert_allclose(found, expected, atol=0.02)
    values = acquisition_values(
        lambda m: MaxPosteriorSampling(m, replacement=False), model
    )
    assert values.sum() == 1 and values.max() == 1


@pytest.mark.parametrize(
    "acquisition",
    [
        lambda m: qLogNoisyExpectedImprovement(m, X_baseline=m.train_inputs[0]),
        lambda m: qMaxValueEntropy(m, candidate_set=m.candidates),
    ],
)
def test_other_functions_of_botorch_run(acquisition):
    process = explored_cells()
    first = process.choose(acquisition)
    second = process.choose(acquisition)
    assert (first != second).all()


def test_random_acquisition_leaves_the_global_generator_untouched():
    """A step has one stream of random numbers, for all examples, the next another."""
    process = explored()
    state = torch.get_rng_state()

    def acquisition(model):
        return lambda X: torch.rand(len(X)) + X[:, 0, 0]

    first, second = (process._acquisition_values(acquisition) for _ in range(2))
    assert torch.equal(first, second) and first.std() > 0
    assert torch.equal(first[0], first[1])
    process.choose("ucb")
    third = process._acquisition_values(acquisition)
    assert not torch.allclose(first, third)
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
    torch.testing.assert_close(grid.maps(values, "mean"), at.mean(1))
    areas = torch.tensor([25, 81]).view(2, 1, 1)
    torch.testing.assert_close(grid.maps(values, "area"), (at / areas).mean(1))


@pytest.mark.parametrize("frames", ["centered", "following"])
@pytest.mark.parametrize("size", [(9, 12), (5, 6, 7)])
def test_map_is_the_mean_over_the_windows_that_cover_a_pixel(size, frames):
    """Windows of an even side reach further to one side than to the other."""
    grid = WindowGrid(size, (4, 5), (2, 3), 1, frames)
    n_pixels = math.prod(size)
    values = noise(1, len(grid.parameters)).view(-1, n_pixels, 1)
    masks = grid.masks(torch.arange(len(grid.parameters))).double()
    covers = masks.view(-1, n_pixels, n_pixels)
    expected = ((covers * values).sum(1) / covers.sum(1)).mean(0).view(1, *size)
    torch.testing.assert_close(grid.maps(values.view(1, -1)), expected)


def test_video_map_is_the_average_pool_over_the_window():
    grid = WindowGrid((6, 8, 9), sides=(3,), durations=(5,), stride=1)
    values = noise(1, len(grid.parameters))
    expected = F.avg_pool3d(
        values.view(1, 6, 8, 9), (5, 3, 3), 1, (2, 1, 1), count_include_pad=False
    )
    torch.testing.assert_close(grid.maps(values), expected)


def test_following_windows_start_at_their_frame():
    grid = WindowGrid((6, 7, 8), (3,), (2, 4), 1, frames="following")
    values = noise(1, len(grid.parameters))
    at = values.view(2, 6, 7, 8)
    expected = torch.zeros(6, 7, 8).double()
    for k, t in enumerate((2, 4)):
        masks = grid.masks(torch.arange(2 * 336).view(2, 6, 7, 8)[k])
        of_shape = torch.zeros(6, 7, 8).double()
        for n in range(6):
            kept = torch.zeros(6)
            kept[n : n + t] = 1
            assert torch.equal(masks[n].amax((0, 1, 3, 4)), kept)
            spatial = F.avg_pool2d(at[k], 3, 1, 1, count_include_pad=False)
            of_shape[n] = spatial[max(0, n - t + 1) : n + 1].mean(0)
        expected += of_shape / 2
    torch.testing.assert_close(grid.maps(values)[0], expected)
    volumes = torch.tensor([18, 36]).view(2, 1, 1, 1)
    torch.testing.assert_close(grid.maps(values, "area")[0], (at / volumes).mean(0))


@pytest.mark.parametrize("stride", [1, 3])
def test_following_windows_start_where_their_prior_value_is(stride):
    """Positions between two frames, at a stride of 2 frames, are the first of them."""
    grid = WindowGrid((6, 7, 8), (3,), (2, 4), stride, frames="following")
    frames = torch.arange(6.0).view(1, 6, 1, 1).expand(1, 6, 7, 8)
    kept = grid.masks(torch.arange(len(grid.parameters))).amax((2, 3))
    assert torch.equal(grid.values(frames)[0], kept.argmax(1).float())


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
