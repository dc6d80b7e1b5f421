"""RISE, PN-RISE and MC-RISE against xaitk-saliency, metrics against others.

xaitk-saliency's conventions: an indicator of 1 marks what is *un*perturbed, also for
each color's masks, so that color k paints where its mask is 0; ``p1`` is the keep
probability; a map is returned divided by its largest absolute value.
``RISEScoring(p1=p)`` is PN-RISE up to that factor. ``MCRISEScoring`` weights m_k and
m_0 with p and 1 - p exchanged, and so it is MC-RISE at p = 1/2 only.

Its masks are enlarged by skimage's ``resize(mode="reflect")``, which mirrors cells at
the border where torch's ``interpolate`` clamps them. Along an axis of s cells the
enlarged grid differs in its outermost half cell, by up to 1/2 (3/4 where two axes
meet), and nowhere else; a test below metrics it. In the end-to-end comparison the
model therefore looks at the inside only, and the maps are compared there.

Insertion and deletion are compared with saliency-maps-metrics. It multiplies by masks,
takes whole shares of pixels only, and leaves ties to ``topk``: the maps have none. Its
area uses a function that NumPy 2.4 removed; SciPy's takes its place.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from saliency_maps_metrics.multi_step_metrics import Deletion, Insertion
from scipy.integrate import trapezoid
from torch import Tensor

from captum_ext import metrics
from captum_ext.attr import MCRISE, PNRISE, RISE
from captum_ext.attr.estimators import conditional_means, uncontrolled
from captum_ext.masks import GridLayout, apply_masks, draw_masks

pytest.importorskip("xaitk_saliency")
from xaitk_saliency.impls.gen_classifier_conf_sal.mc_rise_scoring import (  # noqa: E402
    MCRISEScoring,
)
from xaitk_saliency.impls.gen_classifier_conf_sal.rise_scoring import (  # noqa: E402
    RISEScoring,
)
from xaitk_saliency.impls.perturb_image.mc_rise import MCRISEGrid  # noqa: E402
from xaitk_saliency.impls.perturb_image.rise import RISEGrid  # noqa: E402

SIZE, CELLS = 24, 4
N_MASKS = 6000
IMAGE = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
COLORS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.2, 1.0], [1.0, 1.0, 1.0]])


def inside() -> slice:
    """Pixels that no shift brings into the outermost half of an enlarged cell."""
    cell = math.ceil(SIZE / CELLS)
    half = (CELLS + 1) * cell / CELLS / 2
    return slice(math.ceil(half), math.floor((CELLS + 1) * cell - half - cell) + 1)


INSIDE = inside()


def model(x: Tensor) -> Tensor:
    """Images (B, 3, 24, 24) to (B,) in [0, 1], with regions that interact."""
    x = x[:, :, INSIDE, INSIDE]
    corner = x[:, 0, :6, :6].mean((1, 2)) - x[:, 2, :6, :6].mean((1, 2)) / 2
    rest = x[:, 1, 9:, 4:].mean((1, 2))
    dark = x[:, :, 2:8, 12:].mean((1, 2, 3))
    return torch.sigmoid(8 * corner + 6 * corner * rest - 7 * dark)


def shape_of(maps: Tensor) -> Tensor:
    """Maps (..., H, W), each divided by its largest absolute value."""
    return maps / maps.abs().amax((-2, -1), keepdim=True)


def drawn(n_fills: int, p: float):
    """Layout, codes, probabilities and masks (M, K, H, W) of what is hidden."""
    layout = GridLayout((SIZE, SIZE), (CELLS, CELLS))
    probabilities = (p, *((1 - p) / n_fills,) * n_fills)
    generator = torch.Generator().manual_seed(4)
    codes = draw_masks(layout, probabilities, 300, generator)
    (masks,) = layout.expand(codes.indicators(n_fills), codes.shifts)
    return layout, codes, probabilities, masks[:, :, 0, 0]


def some_scores() -> Tensor:
    """300 masks' scores of two classes, of different scales."""
    generator = torch.Generator().manual_seed(6)
    scores = torch.rand(300, 2, generator=generator, dtype=torch.float64)
    return scores * torch.tensor([1.0, 0.1])


@pytest.mark.parametrize("debiased", [False, True], ids=["rise", "pn-rise"])
@pytest.mark.parametrize("p", [0.5, 0.3])
def test_scoring_of_rise(p, debiased):
    """Same masks, same scores, same map."""
    layout, codes, probabilities, hidden = drawn(1, p)
    fit = uncontrolled(some_scores())
    means = conditional_means(layout, codes, probabilities, fit)[0][:, :, 0]
    ours = means[0] - means[1] if debiased else means[0]
    theirs = RISEScoring(p1=p if debiased else 0.0).generate(
        np.zeros(2), some_scores().numpy(), (1 - hidden[:, 0]).double().numpy()
    )
    expected = torch.from_numpy(theirs)
    torch.testing.assert_close(shape_of(ours), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("n_fills", [1, 2, 5])
def test_scoring_of_mc_rise(n_fills):
    layout, codes, probabilities, hidden = drawn(n_fills, 0.5)
    fit = uncontrolled(some_scores())
    means = conditional_means(layout, codes, probabilities, fit)[0][:, :, 0]
    theirs = MCRISEScoring(k=n_fills, p1=0.5).generate(
        np.zeros(2),
        some_scores().numpy(),
        (1 - hidden).transpose(0, 1).double().numpy(),
    )
    expected = torch.from_numpy(theirs)
    ours = shape_of(means[1:] - means[:1])
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def test_masks_differ_in_the_outermost_half_cell_alone():
    """The same cells with the same shift, enlarged by either package."""
    grid = RISEGrid(n=40, s=CELLS, p1=0.5, seed=3, threads=0)
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
    """Equal up to the factor that their normalization took, within 4.5 errors.

    The factor is fitted, one number a map; what remains has to be noise, and the
    noise has to be small beside the map.
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
def test_rise_from_end_to_end(method, debiased, p):
    """Their masks and scoring; our masks, chunks and estimators."""
    grid = RISEGrid(n=N_MASKS, s=CELLS, p1=p, seed=0, threads=0)
    masks = grid.perturb(np.zeros((SIZE, SIZE)))
    scores = model(IMAGE * torch.from_numpy(masks)[:, None])
    theirs = RISEScoring(p1=p if debiased else 0.0).generate(
        np.zeros(1), scores[:, None].double().numpy(), masks.astype(np.float64)
    )
    ours, error = method(model).attribute(IMAGE, **settings(keep_probability=p), seed=1)
    _, theirs_error = method(model).attribute(
        IMAGE, **settings(keep_probability=p), estimator="monte_carlo"
    )
    agree(torch.from_numpy(theirs), ours[:, 0], error[:, 0], theirs_error[:, 0])


def test_mc_rise_from_end_to_end():
    k = len(COLORS)
    grid = MCRISEGrid(n=N_MASKS, s=CELLS, p1=0.5, k=k, seed=0, threads=0)
    masks = grid.perturb(np.zeros((SIZE, SIZE)))
    hidden = 1 - torch.from_numpy(masks).float().transpose(0, 1)
    fills = [color.view(3, 1, 1) for color in COLORS]
    scores = model(apply_masks(IMAGE, fills, hidden[:, :, None, None]))
    theirs = MCRISEScoring(k=k, p1=0.5).generate(
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


@pytest.mark.parametrize("n_steps", [9, 64, SIZE * SIZE])
@pytest.mark.parametrize("replaced_by", ["black", "blur"])
def test_insertion_and_deletion(replaced_by, n_steps):
    """Curves and areas of a model whose regions interact."""
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(2, 3, SIZE, SIZE, generator=generator)
    maps = torch.randn(2, 1, SIZE, SIZE, generator=generator)
    for theirs, ours in [
        (Insertion(replaced_by, max_step_nb=n_steps), metrics.insertion),
        (Deletion(replaced_by, max_step_nb=n_steps), metrics.deletion),
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
