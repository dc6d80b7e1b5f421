"""RISE, PN-RISE and MC-RISE against xaitk-saliency and shapiq, metrics against others.

Conventions of xaitk-saliency: an indicator of 1 marks *un*perturbed parts, also in the
masks of each color: color k paints where its mask is 0. ``p1`` is the keep probability.
A returned map is divided by its largest absolute value. ``RISEScoring(p1=p)`` is
PN-RISE up to that factor. ``MCRISEScoring`` exchanges the weights p and 1 - p of m_k
and m_0; it equals MC-RISE at p = 1/2 only.

It enlarges masks by skimage's ``resize(mode="reflect")``, which mirrors cells at the
border where torch's ``interpolate`` clamps them. Along an axis of s cells the enlarged
grids differ in the outermost half cell, by up to 1/2 (3/4 in corners), and nowhere
else; a test below measures this. In the end-to-end comparison the model therefore sees
the inside only, and maps are compared there.

PN-RISE on regions is compared with the Banzhaf values of shapiq, which evaluates a game
on every coalition.

Insertion and deletion are compared with saliency-maps-metrics. It multiplies by masks,
supports equal steps only, and breaks ties by ``topk``: the maps here have no ties. Its
area uses a function that NumPy 2.4 removed; SciPy's is used instead.
"""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from torch import Tensor

from captum_ext import metrics
from captum_ext.attr import MCRISE, PNRISE, RISE
from captum_ext.attr.estimators import conditional_means, uncontrolled
from captum_ext.masks import (
    GridLayout,
    MaskCodes,
    RegionLayout,
    apply_masks,
    draw_masks,
    superpixels,
)

SIZE, CELLS = 24, 4
N_MASKS = 6000
IMAGE = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
COLORS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.2, 1.0], [1.0, 1.0, 1.0]])


@pytest.fixture
def xaitk() -> SimpleNamespace:
    """Classes of xaitk-saliency; tests are skipped if it is not installed."""
    pytest.importorskip("xaitk_saliency")
    from xaitk_saliency.impls.gen_classifier_conf_sal.mc_rise_scoring import (
        MCRISEScoring,
    )
    from xaitk_saliency.impls.gen_classifier_conf_sal.rise_scoring import RISEScoring
    from xaitk_saliency.impls.perturb_image.mc_rise import MCRISEGrid
    from xaitk_saliency.impls.perturb_image.rise import RISEGrid

    return SimpleNamespace(
        MCRISEGrid=MCRISEGrid,
        MCRISEScoring=MCRISEScoring,
        RISEGrid=RISEGrid,
        RISEScoring=RISEScoring,
    )


def inside() -> slice:
    """Pixels that no shift moves into the outermost half of an enlarged cell."""
    cell = math.ceil(SIZE / CELLS)
    half = (CELLS + 1) * cell / CELLS / 2
    return slice(math.ceil(half), math.floor((CELLS + 1) * cell - half - cell) + 1)


INSIDE = inside()


def model(x: Tensor) -> Tensor:
    """Scores (B,) in [0, 1] of images (B, 3, 24, 24), with interacting regions."""
    x = x[:, :, INSIDE, INSIDE]
    corner = x[:, 0, :6, :6].mean((1, 2)) - x[:, 2, :6, :6].mean((1, 2)) / 2
    rest = x[:, 1, 9:, 4:].mean((1, 2))
    dark = x[:, :, 2:8, 12:].mean((1, 2, 3))
    return torch.sigmoid(8 * corner + 6 * corner * rest - 7 * dark)


def normalized(maps: Tensor) -> Tensor:
    """Maps (..., H, W), each divided by its largest absolute value."""
    return maps / maps.abs().amax((-2, -1), keepdim=True)


def drawn(n_fills: int, p: float):
    """Layout, codes, probabilities and masks (M, K, H, W) of the hidden parts."""
    layout = GridLayout((SIZE, SIZE), (CELLS, CELLS))
    probabilities = (p, *((1 - p) / n_fills,) * n_fills)
    generator = torch.Generator().manual_seed(4)
    codes = draw_masks(layout, probabilities, 300, generator)
    (masks,) = layout.expand(codes.indicators(n_fills), codes.shifts)
    return layout, codes, probabilities, masks[:, :, 0, 0]


def some_scores() -> Tensor:
    """Scores (300, 2) of 300 masks for two classes of different scales."""
    generator = torch.Generator().manual_seed(6)
    scores = torch.rand(300, 2, generator=generator, dtype=torch.float64)
    return scores * torch.tensor([1.0, 0.1])


@pytest.mark.parametrize("debiased", [False, True], ids=["rise", "pn-rise"])
@pytest.mark.parametrize("p", [0.5, 0.3])
def test_scoring_of_rise(xaitk, p, debiased):
    """Same masks, same scores, same map."""
    layout, codes, probabilities, hidden = drawn(1, p)
    fit = uncontrolled(some_scores())
    means = conditional_means(layout, codes, probabilities, fit)[0][:, :, 0]
    ours = means[0] - means[1] if debiased else means[0]
    theirs = xaitk.RISEScoring(p1=p if debiased else 0.0).generate(
        np.zeros(2), some_scores().numpy(), (1 - hidden[:, 0]).double().numpy()
    )
    expected = torch.from_numpy(theirs)
    torch.testing.assert_close(normalized(ours), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("n_fills", [1, 2, 5])
def test_scoring_of_mc_rise(xaitk, n_fills):
    layout, codes, probabilities, hidden = drawn(n_fills, 0.5)
    fit = uncontrolled(some_scores())
    means = conditional_means(layout, codes, probabilities, fit)[0][:, :, 0]
    theirs = xaitk.MCRISEScoring(k=n_fills, p1=0.5).generate(
        np.zeros(2),
        some_scores().numpy(),
        (1 - hidden).transpose(0, 1).double().numpy(),
    )
    expected = torch.from_numpy(theirs)
    ours = normalized(means[1:] - means[:1])
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def test_masks_differ_only_in_the_outermost_half_cell(xaitk):
    """The same cells with the same shift, enlarged by both packages."""
    grid = xaitk.RISEGrid(n=40, s=CELLS, p1=0.5, seed=3, threads=0)
    theirs = torch.from_numpy(grid.perturb(np.zeros((SIZE, SIZE))))
    layout = GridLayout((SIZE, SIZE), (CELLS, CELLS))
    cells = torch.from_numpy(grid.grid).reshape(40, 1, -1)
    differences = []
    for shift in itertools.product(*map(range, layout.n_shifts)):
        (ours,) = layout.expand(cells, torch.tensor([shift]).expand(40, 2))
        differences.append((ours[:, 0, 0, 0] - theirs).abs())
    differences = torch.stack(differences)
    within = differences[..., INSIDE, INSIDE].flatten(2).amax(2)
    right = within.argmin(0)
    assert (within.amin(0) < 1e-5).all()
    assert len(right.unique()) > 10
    border = differences[right, torch.arange(40)].flatten(1).amax(1)
    assert 0.3 < border.max() <= 0.75


def agree(theirs: Tensor, ours: Tensor, error: Tensor, theirs_error: Tensor) -> None:
    """Equal up to the factor of their normalization, within 4.5 standard errors.

    One factor per map is fitted. The rest must be noise, small compared to the map.
    """
    for their, our, e, f in zip(theirs, ours, error, theirs_error):
        their, our, e, f = (m[INSIDE, INSIDE].double() for m in (their, our, e, f))
        factor = (their * our).sum() / their.square().sum()
        assert factor > 0
        combined = (e.square() + f.square()).sqrt()
        assert ((factor * their - our).abs() <= 4.5 * combined).all()
        assert combined.max() < 0.1 * (our.max() - our.min())


@pytest.mark.parametrize("method, debiased", [(RISE, False), (PNRISE, True)])
@pytest.mark.parametrize("p", [0.5, 0.3])
def test_rise_end_to_end(xaitk, method, debiased, p):
    """Their masks and scoring; our masks, chunks and estimators."""
    grid = xaitk.RISEGrid(n=N_MASKS, s=CELLS, p1=p, seed=0, threads=0)
    masks = grid.perturb(np.zeros((SIZE, SIZE)))
    scores = model(IMAGE * torch.from_numpy(masks)[:, None])
    theirs = xaitk.RISEScoring(p1=p if debiased else 0.0).generate(
        np.zeros(1), scores[:, None].double().numpy(), masks.astype(np.float64)
    )
    ours, error = method(model).attribute(IMAGE, **settings(keep_probability=p), seed=1)
    _, theirs_error = method(model).attribute(
        IMAGE, **settings(keep_probability=p), estimator="monte_carlo"
    )
    agree(torch.from_numpy(theirs), ours[:, 0], error[:, 0], theirs_error[:, 0])


def test_mc_rise_end_to_end(xaitk):
    k = len(COLORS)
    grid = xaitk.MCRISEGrid(n=N_MASKS, s=CELLS, p1=0.5, k=k, seed=0, threads=0)
    masks = grid.perturb(np.zeros((SIZE, SIZE)))
    hidden = 1 - torch.from_numpy(masks).float().transpose(0, 1)
    fills = [color.view(3, 1, 1) for color in COLORS]
    scores = model(apply_masks(IMAGE, fills, hidden[:, :, None, None]))
    theirs = xaitk.MCRISEScoring(k=k, p1=0.5).generate(
        np.zeros(1), scores[:, None].double().numpy(), masks
    )
    ours, error = MCRISE(model).attribute(IMAGE, COLORS, **settings(), seed=1)
    _, theirs_error = MCRISE(model).attribute(
        IMAGE, COLORS, **settings(), estimator="monte_carlo"
    )
    agree(torch.from_numpy(theirs)[:, 0], ours[0], error[0], theirs_error[0])


def settings(**kwargs):
    return {
        "n_masks": N_MASKS,
        "grid_size": CELLS,
        "perturbations_per_eval": 500,
        "return_std_error": True,
        **kwargs,
    }


REGIONS = superpixels(IMAGE, n_segments=6, compactness=50.0)
N_REGIONS = int(REGIONS.max()) + 1
GRAY = torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)


def game(coalitions: np.ndarray) -> np.ndarray:
    """Scores of the image with only the regions of each coalition, (2^n, n) bool."""
    kept = torch.from_numpy(coalitions)[:, REGIONS[0, 0]]
    return model(torch.where(kept[:, None], IMAGE, GRAY)).double().numpy()


@pytest.fixture
def banzhaf() -> Tensor:
    """Exact Banzhaf values of the regions."""
    shapiq = pytest.importorskip("shapiq")
    values = shapiq.ExactComputer(game, n_players=N_REGIONS)("BV", order=1)
    return torch.from_numpy(values.get_n_order_values(1))


def test_pn_rise_over_all_masks_is_the_banzhaf_value(banzhaf):
    """(A.4) with p = 1/2, averaged over each of the 2^n masks of n regions."""
    hidden = np.array(list(itertools.product([0, 1], repeat=N_REGIONS)), np.uint8)
    codes = MaskCodes(torch.from_numpy(hidden), torch.empty(len(hidden), 0))
    fit = uncontrolled(torch.from_numpy(game(hidden == 0))[:, None])
    layout = RegionLayout([REGIONS])
    means = conditional_means(layout, codes, (0.5, 0.5), fit)[0][:, 0, 0]
    expected = banzhaf[REGIONS[0, 0]]
    assert banzhaf.abs().max() > 0.05
    torch.testing.assert_close(means[0] - means[1], expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("estimator", ["control_variate", "monte_carlo"])
def test_pn_rise_estimates_the_banzhaf_value(banzhaf, estimator):
    """Within 4.5 standard errors, which are small compared to the values."""
    maps, error = PNRISE(model).attribute(
        IMAGE,
        GRAY,
        feature_mask=REGIONS,
        n_masks=N_MASKS,
        estimator=estimator,
        perturbations_per_eval=500,
        return_std_error=True,
    )
    expected = banzhaf[REGIONS[0, 0]]
    assert ((maps[0, 0] - expected).abs() <= 4.5 * error[0, 0]).all()
    assert error.max() < 0.1 * banzhaf.abs().max()


@pytest.mark.parametrize("n_steps", [9, 64, SIZE * SIZE])
@pytest.mark.parametrize("replaced_by", ["black", "blur"])
def test_insertion_and_deletion(replaced_by, n_steps):
    """Curves and areas of a model with interacting regions."""
    oracle = pytest.importorskip("saliency_maps_metrics.multi_step_metrics")
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(2, 3, SIZE, SIZE, generator=generator)
    maps = torch.randn(2, 1, SIZE, SIZE, generator=generator)
    for theirs, ours in [
        (oracle.Insertion(replaced_by, max_step_nb=n_steps), metrics.insertion),
        (oracle.Deletion(replaced_by, max_step_nb=n_steps), metrics.deletion),
    ]:
        scores, _ = theirs.compute_scores(
            lambda x: model(x)[:, None], images, maps, [0, 0]
        )
        area, curves = ours(
            model,
            images,
            maps,
            baselines=theirs.get_masking_data(images),
            n_steps=n_steps,
            return_curve=True,
        )
        expected = torch.from_numpy(scores).double().view(2, n_steps + 1)
        torch.testing.assert_close(curves, expected, atol=1e-5, rtol=0)
        areas = trapezoid(expected.numpy(), dx=1 / n_steps)
        torch.testing.assert_close(area, torch.from_numpy(areas), atol=1e-5, rtol=0)
