"""Expectations by enumeration, unbiasedness, coverage of the standard errors."""

import itertools
import math
import resource

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ext.attr import MCRISE, PNRISE, RISE
from captum_ext.attr.estimators import (
    _fit_by_features,
    _fit_by_masks,
    standard_errors,
    uncontrolled,
)
from captum_ext.attr.masked_run import relative_errors
from captum_ext.masks import RegionLayout, draw_masks

SIZE = (5, 6)


def all_masks(grid, n_fills, probabilities, interpolated):
    """Every mask (J, H, W) with its probability, independent of the package."""
    cell = [math.ceil(n / g) for n, g in zip(SIZE, grid)]
    up = [(g + 1) * c for g, c in zip(grid, cell)]
    shifts = list(itertools.product(*(range(c) for c in cell)))
    for draw in itertools.product(range(n_fills + 1), repeat=math.prod(grid)):
        weight = math.prod(probabilities[j] for j in draw)
        categories = torch.tensor(draw).view(grid)
        planes = torch.stack([(categories == j).double() for j in range(n_fills + 1)])
        if not interpolated:
            rows = torch.arange(SIZE[0]) * grid[0] // SIZE[0]
            columns = torch.arange(SIZE[1]) * grid[1] // SIZE[1]
            yield weight, planes[:, rows][:, :, columns]
            continue
        large = F.interpolate(planes[None], up, mode="bilinear")[0]
        for y, x in shifts:
            yield weight / len(shifts), large[:, y : y + SIZE[0], x : x + SIZE[1]]


def regions(grid):
    rows = torch.arange(SIZE[0]) * grid[0] // SIZE[0]
    columns = torch.arange(SIZE[1]) * grid[1] // SIZE[1]
    return (rows[:, None] * grid[1] + columns)[None, None]


def model(x: Tensor) -> Tensor:
    """A function of images (B, 1, H, W) with interactions of all orders."""
    w = torch.linspace(-1, 1.5, math.prod(SIZE), dtype=x.dtype).view(SIZE)
    u = (x * w).flatten(1).sum(1)
    corner = x[:, 0, 0, 0] * x[:, 0, -1, -1]
    return torch.sigmoid(u) + corner * torch.tanh(x[:, 0, 2, 3])


def image() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(1, 1, *SIZE, generator=generator, dtype=torch.float64) + 0.2


def conditional_means(grid, fills, probabilities, interpolated):
    x = image()
    means = torch.zeros(len(fills) + 1, *SIZE, dtype=torch.float64)
    for weight, planes in all_masks(grid, len(fills), probabilities, interpolated):
        masked = x * planes[0] + sum(c * m for c, m in zip(fills, planes[1:]))
        means += weight * planes * model(masked)
    return means / torch.tensor(probabilities).view(-1, 1, 1)


CASES = [
    pytest.param(method, grid, interpolated, id=f"{name}-{grid}-{interpolated}")
    for name, method in (
        ("rise", (RISE, 1)),
        ("pn", (PNRISE, 1)),
        ("mc2", (MCRISE, 2)),
        ("mc3", (MCRISE, 3)),
    )
    for grid in ((2, 2), (2, 3))
    for interpolated in (True, False)
    if name != "mc3" or grid == (2, 2)
]


def run(method, n_fills, grid, interpolated, p, **kwargs):
    where = {"grid_size": grid} if interpolated else {"feature_mask": regions(grid)}
    if method is MCRISE:
        kwargs |= {"colors": torch.tensor([[-0.5], [0.7], [1.5]])[:n_fills].double()}
        kwargs |= {"mask_probability": 1 - p}
    else:
        kwargs |= {"keep_probability": p}
    explainer = method(model)
    maps, errors = explainer.attribute(
        image(), **where, **kwargs, return_std_error=True, perturbations_per_eval=64
    )
    return maps[0], errors[0]


def exact(method, n_fills, grid, interpolated, p):
    fills = [-0.5, 0.7, 1.5][:n_fills] if method is MCRISE else [0.0]
    probabilities = [p] + [(1 - p) / n_fills] * n_fills
    means = conditional_means(grid, fills, probabilities, interpolated)
    if method is RISE:
        return means[:1]
    return means[:1] - means[1:] if method is PNRISE else means[1:] - means[:1]


@pytest.mark.parametrize("estimator", ["control_variate", "monte_carlo"])
@pytest.mark.parametrize("method, grid, interpolated", CASES)
def test_expectation_is_the_enumerated_one(method, grid, interpolated, estimator):
    """Mean over seeds within 4.5 of its standard errors; the errors cover the truth."""
    method, n_fills = method
    p = 0.5 if grid == (2, 2) else 0.35
    truth = exact(method, n_fills, grid, interpolated, p)
    n_seeds = 240
    maps, errors = zip(
        *(
            run(
                method,
                n_fills,
                grid,
                interpolated,
                p,
                estimator=estimator,
                n_masks=100,
                seed=seed,
            )
            for seed in range(n_seeds)
        )
    )
    maps, errors = torch.stack(maps), torch.stack(errors)
    spread = maps.std(0) / math.sqrt(n_seeds)
    assert ((maps.mean(0) - truth).abs() <= 4.5 * spread + 1e-9).all()
    # 95% of the maps should lie within 1.96 standard errors. With these numbers of
    # pixels and seeds the share is uncertain by less than 0.03.
    covered = ((maps - truth).abs() <= 1.96 * errors + 1e-9).double().mean()
    assert 0.9 <= covered <= 0.985


@pytest.mark.parametrize("n_masks", [4, 6, 10])
def test_leave_out_fit_is_unbiased_with_very_few_masks(n_masks):
    """A fit to all masks would have the largest bias here."""
    truth = exact(PNRISE, 1, (2, 2), True, 0.5)
    maps = torch.stack(
        [
            run(PNRISE, 1, (2, 2), True, 0.5, n_masks=n_masks, seed=seed)[0]
            for seed in range(600)
        ]
    )
    spread = maps.std(0) / math.sqrt(len(maps))
    assert ((maps.mean(0) - truth).abs() <= 4.5 * spread).all()


@pytest.mark.parametrize("n_masks", [6, 300])
def test_both_forms_of_the_fit_leave_out_blocks(n_masks):
    """Residuals and coefficients of one regression per block, by its definition."""
    generator = torch.Generator().manual_seed(0)
    options = {"generator": generator, "dtype": torch.float64}
    Z, scores = torch.randn(n_masks, 4, **options), torch.randn(n_masks, 2, **options)
    X = torch.cat([torch.ones(n_masks, 1).double(), Z], 1)
    penalty = torch.diag(torch.tensor([0.0, *[0.7] * 4], dtype=torch.float64))
    expected, fits = torch.empty_like(scores), []
    for start in range(0, n_masks, 2):
        kept = torch.ones(n_masks, dtype=torch.bool)
        kept[start : start + 2] = False
        x, y = X[kept], scores[kept]
        fits.append(torch.linalg.solve(x.T @ x + penalty, x.T @ y))
        expected[~kept] = scores[~kept] - X[~kept] @ fits[-1]
    for fit in (_fit_by_features, _fit_by_masks):
        residuals, beta = fit(lambda i: Z[i : i + 256], 0.7, scores, 2)
        torch.testing.assert_close(residuals, expected)
        torch.testing.assert_close(beta, torch.stack(fits).mean(0))


def test_many_colors_need_little_memory():
    """More features than masks: 300 colors of 64 cells and more, 40 masks."""
    x = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    colors = torch.rand(300, 3, generator=torch.Generator().manual_seed(1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    maps = MCRISE(lambda x: x.mean((1, 2, 3))).attribute(x, colors, n_masks=40)
    assert maps.shape == (1, 300, 12, 12) and torch.isfinite(maps).all()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_control_variate_needs_fewer_passes():
    """With equal passes its error is a fraction of that of the paper's sum."""
    mean_error = {
        estimator: run(PNRISE, 1, (2, 3), True, 0.5, n_masks=400, estimator=estimator)[
            1
        ].mean()
        for estimator in ("control_variate", "monte_carlo")
    }
    assert mean_error["control_variate"] < 0.3 * mean_error["monte_carlo"]


@pytest.mark.parametrize("p", [0.3, 0.5, 0.8])
def test_additive_model_over_regions_is_known(p):
    """PN-RISE of sum_c b_c x_c is b_c x_c, RISE adds p times all the others."""
    x = torch.tensor([[1.0, -2.0, 3.0, 0.5]], dtype=torch.float64)
    b = torch.tensor([0.5, 1.0, -1.0, 2.0], dtype=torch.float64)

    def additive(x: Tensor) -> Tensor:
        return x @ b

    maps, error = PNRISE(additive).attribute(
        x, n_masks=2000, keep_probability=p, return_std_error=True
    )
    assert ((maps - b * x).abs() <= 4 * error + 1e-9).all()
    assert error.max() < 0.05
    rise = RISE(additive).attribute(x, n_masks=2000, keep_probability=p)
    known = b * x + p * ((b * x).sum() - b * x)
    torch.testing.assert_close(rise, known, atol=0.05, rtol=0)


def test_ignored_pixels_have_zero_saliency():
    """Proposition 1: zero for PN-RISE, and far from zero for RISE."""
    mask = torch.arange(16).view(1, 1, 4, 4)
    x = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.5

    def upper_half(x: Tensor) -> Tensor:
        return torch.sigmoid(x[:, 0, :2].flatten(1).sum(1) - 1)

    for estimator in ("control_variate", "monte_carlo"):
        maps, error = PNRISE(upper_half).attribute(
            x, feature_mask=mask, estimator=estimator, return_std_error=True
        )
        below = (maps / error)[0, 0, 2:]
        assert (below.abs() <= 3.5).all()
        assert (below.abs() <= 3).double().mean() >= 0.9
        rise, error = RISE(upper_half).attribute(
            x, feature_mask=mask, estimator=estimator, return_std_error=True
        )
        assert (rise[0, 0, 2:] > 20 * error[0, 0, 2:]).all()


def test_monte_carlo_is_the_sum_of_the_paper():
    """Sum of m f / (N p), with the masks recovered from the inputs."""
    x = image()
    seen = []

    def recording(inputs: Tensor) -> Tensor:
        seen.append(inputs)
        return model(inputs)

    maps = RISE(recording).attribute(
        x, n_masks=50, grid_size=2, estimator="monte_carlo", keep_probability=0.4
    )
    masked = torch.cat(seen)
    masks = masked / x
    expected = (masks * model(masked).view(-1, 1, 1, 1)).mean(0, keepdim=True) / 0.4
    torch.testing.assert_close(maps, expected)


@pytest.mark.parametrize("tolerance", [0.02, 0.05])
def test_tolerance_stops_when_the_error_is_reached(tolerance):
    calls = []

    def counting(x: Tensor) -> Tensor:
        calls.append(len(x))
        return model(x)

    _, error = PNRISE(counting).attribute(
        image(),
        grid_size=2,
        n_masks=50_000,
        tolerance=tolerance,
        return_std_error=True,
    )
    assert error.max() <= tolerance
    assert sum(calls) < 20_000


def test_tolerance_does_not_depend_on_the_batch():
    """An example that meets the tolerance early keeps its map."""
    batch = torch.cat([image(), 0.05 * image()])
    kwargs = {"grid_size": 2, "n_masks": 3000, "tolerance": 0.03}
    together = PNRISE(model).attribute(batch, **kwargs)
    alone = torch.cat([PNRISE(model).attribute(x[None], **kwargs) for x in batch])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("block", [1, 2, 3])
def test_standard_error_is_that_of_the_mean_over_few_blocks(block):
    """Six masks of three columns, p = .3; n - 1 blocks in the variance."""
    generator = torch.Generator().manual_seed(0)
    layout = RegionLayout([torch.arange(3)[None]])
    codes = draw_masks(layout, (0.3, 0.7), 6, generator)
    residuals = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    (errors,) = standard_errors(
        layout,
        codes,
        (0.3, 0.7),
        uncontrolled(residuals),
        block,
        lambda means: means[:1] - means[1:],
        torch.device("cpu"),
    )
    masks = (codes.cells == 0).double()
    terms = (masks - 0.3)[:, None] / (0.3 * 0.7) * residuals[:, :, None]
    blocks = terms.unflatten(0, (-1, block)).mean(1)
    expected = blocks.std(0) / len(blocks) ** 0.5
    torch.testing.assert_close(errors[0].double(), expected, rtol=1e-5, atol=1e-6)


def test_relative_error_is_the_root_mean_square_over_the_range():
    maps, errors = torch.tensor([[0.0, -4.0], [1.0, 1.0]]), torch.tensor([1.0, 7.0])
    ratios = relative_errors(maps, errors.expand(2, -1))
    assert ratios[0].item() == pytest.approx(5 / 4) and ratios[1] > 1e9
    assert relative_errors(maps, torch.zeros(2, 2)).tolist() == [0, 0]


@pytest.mark.parametrize("p, first", [(0.5, 64), (0.9, 160), (0.02, 800)])
def test_errors_wait_for_16_masks_of_the_rarest_category(p, first):
    n_scored = 0

    def counting(x: Tensor) -> Tensor:
        nonlocal n_scored
        n_scored += len(x)
        return model(x)

    kwargs = {"grid_size": 2, "n_masks": 2000, "keep_probability": p}
    PNRISE(counting).attribute(image(), **kwargs, tolerance=1e9)
    assert n_scored == first
