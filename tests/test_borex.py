"""BOREx: the contract, Algorithm 2 written out, and invalid arguments."""

import numpy as np
import pytest
import torch
from botorch.acquisition import (
    UpperConfidenceBound,
    qKnowledgeGradient,
    qLogExpectedImprovement,
)
from botorch.generation import MaxPosteriorSampling
from contract import AttributionContract, SmallNet, images
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern
from torch import Tensor
from torch.nn import functional as F

from captum_ext.attr import BOREx, LayerGradCamPlusPlus, WindowVariant
from captum_ext.attr.prior_maps import prior_maps
from captum_ext.surrogate import WindowGrid, WindowProcess, hyperparameters
from captum_ext.surrogate.acquisition import EXPLORATION


def blocks(size: tuple[int, int], counts: tuple[int, int]) -> Tensor:
    """Regions (1, 1, H, W): equal blocks of an image."""
    rows, columns = (torch.arange(n) * c // n for n, c in zip(size, counts))
    return (rows[:, None] * counts[1] + columns)[None, None]


class TestContractOfField(AttributionContract):
    # Few cells, so that scores differ by more than the precision of bfloat16.
    kwargs = {"n_iterations": 12, "feature_mask": blocks((12, 14), (3, 3))}

    def explainer(self, forward_func, net):
        return BOREx(forward_func)

    def test_tuple_of_two_inputs(self):
        net, x = SmallNet(), images()
        y = x[:, :1] - 0.5
        regions = self.kwargs.get("feature_mask")
        shared = {} if regions is None else {"feature_mask": (regions, regions)}
        two = self.attribute(lambda x, y: net(x + y), (x, y), target=1, **shared)
        assert [maps.shape for maps in two] == [x.shape, y.shape]
        assert torch.equal(two[0][:, :1], two[1])


class TestContractOfWindows(TestContractOfField):
    # Smaller windows change the scores by less than the precision of bfloat16.
    kwargs = {"variant": "windows", "n_iterations": 12, "mask_sizes": (6, 9)}

    @pytest.mark.parametrize("shared", [True, False])
    def test_regions(self, shared):
        """Windows are no regions."""
        with pytest.raises(ValueError, match="feature_mask must be None if variant"):
            super().test_regions(shared)


class TestContractOfPaper(TestContractOfWindows):
    # Windows that do not depend on the scores, which bfloat16 changes.
    kwargs = {
        "variant": "paper",
        "n_iterations": 9,
        "mask_sizes": (6, 9),
        "acquisition": "std",
    }


def slow_borex(f, x, prior, target, sides, n, beta, stride=4):
    """Algorithm 2 for one image, with a new process at each step."""
    grid = WindowGrid(x.shape[2:], sides, (), stride)
    tried: list[int] = []
    scores: list[Tensor] = []
    fitted = None
    for i in range(n):
        process = WindowProcess(grid, prior_maps([prior], 1, x.shape[2:]), n)
        for window in tried:
            process.add_pending(torch.tensor([window]))
        process.observe(torch.tensor(scores, dtype=torch.float64).view(1, -1))
        if i in (10, 20):
            process.refit()
            fitted = process.hyperparameters
        if fitted is not None:
            process.hyperparameters = fitted
            process.condition()
        u = process.mean if i == 0 else process.mean + beta * process.std
        window = int(u.argmax())
        m = 1 - grid.masks(torch.tensor(window))
        flipped = 1 - m
        s = f(x * flipped)[0, target] - f(x * m)[0, target]
        s = (s + f(x)[0, target] - f(0 * x)[0, target]) / 2
        tried.append(window)
        scores.append(s.item())
    return tried, scores


@pytest.mark.parametrize(
    "n, q, expected",
    [
        (9, 1, []),
        (10, 1, [10]),
        (11, 2, [10, 11]),
        (25, 3, [12, 24, 25]),
        (40, 5, [10, 20, 40]),
    ],
)
def test_hyperparameters_are_fitted_from_10_masks_on(n, q, expected, monkeypatch):
    """Whenever the number of masks has doubled, and after the last one."""
    fitted = []
    monkeypatch.setattr(
        WindowProcess, "refit", lambda self: fitted.append(self.scores.shape[1])
    )
    BOREx(SmallNet()).attribute(
        images()[:1], target=1, variant="windows", n_iterations=n, masks_per_step=q
    )
    assert fitted == expected


def prior_of(x: Tensor, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(x), 1, *x.shape[2:], generator=generator)


def big_images(n: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(8)
    return torch.rand(n, 3, 24, 28, generator=generator)


def test_windows_are_those_of_algorithm_2():
    net, x = SmallNet(), big_images()
    tried, scores = slow_borex(net, x, prior_of(x), 1, (7, 11), 24, EXPLORATION)
    grid = WindowGrid((24, 28), (7, 11), (), 4)
    found = BOREx(net).attribute(
        x,
        prior_of(x),
        target=1,
        variant=WindowVariant(stride=4),
        mask_sizes=(7, 11),
        n_iterations=24,
        acquisition="ucb",
        return_posterior=True,
    )
    expected = grid.masks(torch.tensor(tried)) > 0
    assert torch.equal(found.masks[0], expected)
    start, stop = (edge.double() for edge in grid.bounds(grid.parameters[tried]))
    torch.testing.assert_close(found.centers[0], (start + stop - 1) / 2)
    torch.testing.assert_close(
        found.scores[0], torch.tensor(scores, dtype=torch.float64), atol=1e-6, rtol=0
    )


class Literal:
    """Algorithm 2 of the paper for one image or video, in NumPy and scikit-learn.

    Every pixel is a position. Windows with the same acquisition value are taken in a
    random order, as the package does.
    """

    def __init__(self, prior: Tensor, sides, durations=(1,), seed: int = 0) -> None:
        i0 = prior.double().numpy()
        self.i0 = 0.1 * i0 / np.abs(i0).mean()
        self.size, n_axes = self.i0.shape, self.i0.ndim
        self.shapes = [(t, r, r)[3 - n_axes :] for t in durations for r in sides]
        pixels = list(np.ndindex(self.size))
        self.windows = [(at, shape) for shape in self.shapes for at in pixels]
        scale = 224 / min(self.size[-2:])
        self.X = np.array(
            [
                [
                    *at[:-2],
                    *(scale * i for i in at[-2:]),
                    *shape[:-2],
                    scale * shape[-1] / 2,
                ]
                for at, shape in self.windows
            ]
        )
        self.mu0 = np.tile(self.i0.ravel(), len(self.shapes))
        generator = torch.Generator().manual_seed(seed)
        order = torch.rand(len(self.X), generator=generator, dtype=torch.float64)
        self.order = order.numpy()
        lengths = [12.0] * n_axes + [10.0] * (n_axes - 1)
        self.kernel = Matern(lengths, (1, 20), nu=1.5)

    def mask(self, window: int) -> np.ndarray:
        """0 inside the window and 1 outside."""
        at, shape = self.windows[window]
        inside = np.ones(self.size, dtype=bool)
        for axis, (i, length) in enumerate(zip(at, shape)):
            first = i if axis < len(at) - 2 else i - (length - 1) // 2
            along = np.arange(self.size[axis])
            kept = (first <= along) & (along < first + length)
            inside &= np.expand_dims(kept, [a for a in range(len(at)) if a != axis])
        return 1 - inside

    @torch.no_grad()
    def run(self, f, x: Tensor, n: int, beta: float):
        """Scored windows, their scores, and the map."""

        def M(mask: np.ndarray) -> float:
            return float(f(x * torch.from_numpy(mask).to(x)))

        D, s, kernel = [], [], self.kernel
        for j in range(n + 1):
            mu, std = self.mu0, np.ones(len(self.X))
            if j:
                X, r = self.X[D], np.array(s) - self.mu0[D]
                if j in (10, 20) or (j == n and n > 10):
                    fit = GaussianProcessRegressor(self.kernel, alpha=0.01).fit(X, r)
                    kernel = fit.kernel_
                gp = GaussianProcessRegressor(kernel, alpha=0.01, optimizer=None)
                added, std = gp.fit(X, r).predict(self.X, return_std=True)
                mu = self.mu0 + added
            if j == n:
                break
            u = mu + beta * std
            u = u + 1e-6 * (u.max() - u.mean()) * self.order
            D.append(int(u.argmax()))
            m = self.mask(D[-1])
            s.append(M(1 - m) - M(m))
        per_shape = mu.reshape(len(self.shapes), *self.size)
        volumes = [np.prod(shape) for shape in self.shapes]
        i_sal = sum(each / v for each, v in zip(per_shape, volumes)) / len(volumes)
        return D, s, i_sal


AT_BOUND = pytest.mark.filterwarnings("ignore:The optimal value:UserWarning")


@AT_BOUND
@pytest.mark.parametrize("n", [9, 24])
def test_paper_is_algorithm_2(n):
    """The same windows in the same order and the same map, before and after fits."""
    net, x = SmallNet().double(), big_images().double()
    prior = prior_of(x)
    literal = Literal(prior[0, 0], (7, 11))

    def score(x: Tensor) -> Tensor:
        return 3 * net(x)[:, 1]

    D, s, i_sal = literal.run(score, x, n, EXPLORATION)
    found = BOREx(score).attribute(
        x,
        prior,
        variant="paper",
        mask_sizes=(7, 11),
        n_iterations=n,
        return_posterior=True,
    )
    masks = np.stack([literal.mask(window) == 0 for window in D])
    np.testing.assert_array_equal(found.masks[0], masks)
    np.testing.assert_allclose(found.scores[0], s, atol=1e-12)
    scale = np.abs(i_sal).max()
    np.testing.assert_allclose(found.attributions[0, 1], i_sal, atol=1e-6 * scale)


@AT_BOUND
def test_paper_is_algorithm_2_on_video():
    """Windows hide frames n to n + t - 1, and weigh 1 / (r^2 t)."""
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(1, 2, 6, 9, 11, generator=generator, dtype=torch.float64)
    weights = torch.randn(6, 9, 11, generator=generator, dtype=torch.float64)
    prior = torch.rand(1, 1, 6, 9, 11, generator=generator, dtype=torch.float64)

    def score(x: Tensor) -> Tensor:
        return (x[:, 0] * x[:, 1] * weights).mean((1, 2, 3)).tanh()

    literal = Literal(prior[0, 0], (3, 5), (2, 3))
    D, s, i_sal = literal.run(score, x, 14, EXPLORATION)
    found = BOREx(score).attribute(
        x,
        prior,
        variant=WindowVariant.paper(durations=[2, 3]),
        mask_sizes=(3, 5),
        n_iterations=14,
        return_posterior=True,
    )
    masks = np.stack([literal.mask(window) == 0 for window in D])
    np.testing.assert_array_equal(found.masks[0], masks)
    np.testing.assert_allclose(found.scores[0], s, atol=1e-12)
    scale = np.abs(i_sal).max()
    np.testing.assert_allclose(found.attributions[0, 0], i_sal, atol=1e-6 * scale)


def score_of(f, x: Tensor, mask: Tensor, score: str) -> float:
    """Score of a mask by its definition."""
    alone, rest, whole, nothing = (
        f(x * kept)[0, 1].item() for kept in (mask, ~mask, mask | True, mask & False)
    )
    return {
        "mean": (alone - nothing + whole - rest) / 2,
        "difference": alone - rest,
        "drop": whole - rest,
    }[score]


@pytest.mark.parametrize("score", ["mean", "difference", "drop"])
def test_scores_are_their_definitions(score):
    net, x = SmallNet(), images(1)
    found = BOREx(net).attribute(
        x,
        target=1,
        variant=WindowVariant(score=score),
        n_iterations=6,
        return_posterior=True,
    )
    for mask, s in zip(found.masks[0], found.scores[0]):
        assert s.item() == pytest.approx(score_of(net, x, mask, score), abs=1e-6)


def test_first_window_has_the_highest_prior_mean_unless_the_acquisition_chooses():
    """The deviation is largest where a prior of unknown scale is farthest from 0."""
    net, x = SmallNet(), big_images()
    prior = prior_of(x) - 0.7
    grid = WindowGrid((24, 28), (7, 11), (), 1)
    means = grid.means(prior[:, 0].double())
    kwargs = {"target": 1, "mask_sizes": (7, 11), "return_posterior": True}
    kwargs |= {"n_iterations": 1, "acquisition": "std"}
    by_prior, by_std = (
        BOREx(net).attribute(x, prior, variant=WindowVariant(first=first), **kwargs)
        for first in ("prior", "acquisition")
    )
    assert torch.equal(by_prior.masks[0, 0], grid.masks(means.argmax()) > 0)
    assert torch.equal(by_std.masks[0, 0], grid.masks(means.abs().argmax()) > 0)
    assert not torch.equal(by_prior.masks, by_std.masks)


@pytest.mark.parametrize("change", list(WindowVariant.__dataclass_fields__))
def test_each_choice_of_the_paper_matters(change):
    """On a video, with the paper's other choices.

    The highest mean + 10 std is first the highest prior mean, another one is not.
    """
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(1, 1, 6, 12, 11, generator=generator)
    weights = torch.randn(6, 12, 11, generator=generator)
    default = getattr(WindowVariant(), change)
    changed = {"durations": (2, 3), "stride": 2}.get(change, default)
    acquisition = "std" if change == "first" else None
    maps = [
        BOREx(lambda x: (x[:, 0].square() * weights).mean((1, 2, 3))).attribute(
            x,
            x.roll(2, 4),
            variant=variant,
            mask_sizes=(3, 5),
            n_iterations=6,
            acquisition=acquisition,
        )
        for variant in ("paper", WindowVariant.paper(**{change: changed}))
    ]
    assert not torch.allclose(*maps, rtol=1e-3, atol=0)


def test_deviation_of_windows_is_averaged_as_the_map():
    """The weighting does not change which windows are scored."""
    net, x = SmallNet(), big_images()
    kwargs = {"target": 1, "mask_sizes": (5,), "n_iterations": 6}
    plain, area = (
        BOREx(net).attribute(
            x,
            prior_of(x),
            variant=WindowVariant(weighting=weighting),
            return_posterior=True,
            **kwargs,
        )
        for weighting in ("mean", "area")
    )
    torch.testing.assert_close(area.attributions, plain.attributions / 25)
    torch.testing.assert_close(area.std, plain.std / 25)


def test_named_variants_are_their_choices():
    net, x = SmallNet(), images()
    kwargs = {"target": 1, "n_iterations": 4, "perturbations_per_eval": 1}
    named = {"windows": WindowVariant(), "paper": WindowVariant.paper()}
    for name, choices in named.items():
        maps = [
            BOREx(net).attribute(x, prior_of(x), variant=variant, **kwargs)
            for variant in (name, choices)
        ]
        assert torch.equal(*maps)


@pytest.mark.parametrize(
    "wrong, error, message",
    [
        (
            {"score": "flip"},
            ValueError,
            "score must be one of 'mean', 'difference', 'd",
        ),
        ({"weighting": "r"}, ValueError, "weighting must be one of 'window', 'area'"),
        ({"prior_value": 0}, ValueError, "prior_value must be one of 'mean', 'center'"),
        ({"prior_scale": 1}, ValueError, "prior_scale must be one of 'learned', 'fix"),
        ({"kernel": "rbf"}, ValueError, "kernel must be one of 'learned', 'authors'"),
        ({"first": None}, ValueError, "first must be one of 'prior', 'acquisition'"),
        ({"frames": "all"}, ValueError, "frames must be one of 'centered', 'following"),
        ({"stride": 0}, ValueError, "stride must be at least 1, got 0"),
        ({"stride": 1.5}, TypeError, "stride must be an int"),
        (
            {"durations": 2},
            TypeError,
            "durations must be a sequence of integers",
        ),
        ({"durations": [0]}, ValueError, "durations must be at least 1, got 0"),
    ],
)
def test_wrong_choices_are_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        WindowVariant.paper(**wrong)


def weights_of(size, seed: int = 0) -> Tensor:
    """Weights of the pixels: two positive blobs and a negative one."""
    rows, columns = torch.meshgrid(*map(torch.arange, size), indexing="ij")
    total = torch.zeros(size)
    for (row, column), weight in zip(((10, 12), (30, 34), (12, 36)), (2, 1, -1.5)):
        total += weight * torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 40)
    return total


def correlation(a: Tensor, b: Tensor) -> float:
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


@pytest.mark.parametrize("score", ["mean", "drop"])
@pytest.mark.parametrize("has_prior", [True, False])
def test_recovers_the_map_of_an_additive_model(score, has_prior):
    """Signs included, with a wrong prior or none."""
    weights = weights_of((40, 48))
    x = torch.ones(1, 1, 40, 48)
    prior = prior_of(x) if has_prior else None
    maps = BOREx(lambda x: (x[:, 0] * weights).sum((1, 2))).attribute(
        x,
        prior,
        variant=WindowVariant(score=score),
        mask_sizes=(9, 13),
        acquisition="std",
        n_iterations=150,
    )
    blurred = F.avg_pool2d(weights[None], 11, 1, 5)
    assert correlation(maps[0, 0], blurred) > 0.9


def test_unit_is_that_of_the_score():
    """Maps scale with the score once it outweighs the prior on the amplitude."""
    net, x = SmallNet(), big_images()
    large, huge = (
        BOREx(lambda x, s=s: s * net(x)).attribute(
            x,
            target=1,
            variant="windows",
            n_iterations=30,
            mask_sizes=(7, 11),
            acquisition="std",
            return_posterior=True,
        )
        for s in (1e3, 1e6)
    )
    assert torch.equal(large.masks, huge.masks)
    scale = large.attributions.abs().max().item()
    torch.testing.assert_close(
        huge.attributions / 1e3, large.attributions, rtol=0, atol=1e-4 * scale
    )
    torch.testing.assert_close(huge.std / 1e3, large.std, rtol=2e-3, atol=0)


def test_large_score_of_a_window_makes_its_pixels_positive():
    """In an additive model a window scores the sum of its pixels."""
    x = torch.ones(1, 1, 20, 20)
    inside = torch.zeros(20, 20)
    inside[4:10, 4:10] = 1 / 36
    found = BOREx(lambda x: (x[:, 0] * inside).sum((1, 2))).attribute(
        x,
        variant=WindowVariant(stride=2),
        mask_sizes=(6,),
        n_iterations=60,
        return_posterior=True,
    )
    for mask, score in zip(found.masks[0], found.scores[0]):
        assert score.item() == pytest.approx(inside[mask].sum().item(), abs=1e-5)
    assert found.attributions[0, 0, 4:10, 4:10].mean() > found.attributions.mean()


def test_steps_are_full_batches():
    """2 q masked inputs per example and step, after the two ends of the score."""
    sizes = []
    net, x = SmallNet(), images(2)

    def recording(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return net(x)

    kwargs = {"target": 1, "n_iterations": 10, "perturbations_per_eval": 100}
    BOREx(recording).attribute(x, masks_per_step=4, **kwargs)
    assert sizes == 2 * [2, 8, 8, 4]
    sizes.clear()
    BOREx(recording).attribute(x[:1], **kwargs)
    assert sizes == [2, 10, 10]
    sizes.clear()
    kwargs["variant"] = "windows"
    BOREx(recording).attribute(x, masks_per_step=4, **kwargs)
    assert sizes == [4, 16, 16, 8]
    sizes.clear()
    BOREx(recording).attribute(x[:1], **kwargs)
    assert sizes == [2] * 11
    sizes.clear()
    kwargs["variant"] = "paper"
    BOREx(recording).attribute(x[:1], **kwargs)
    assert sizes == [1] + [2] * 10
    sizes.clear()
    kwargs["variant"] = WindowVariant(score="drop")
    BOREx(recording).attribute(x[:1], **kwargs)
    assert sizes == [1] * 11


def test_several_windows_per_step_find_nearly_the_same_map():
    net, x = SmallNet(), big_images()
    one, four = (
        BOREx(net).attribute(
            x,
            prior_of(x),
            target=1,
            variant="windows",
            mask_sizes=(7, 11),
            n_iterations=120,
            masks_per_step=q,
        )
        for q in (1, 4)
    )
    assert not torch.equal(one, four)
    assert correlation(one, four) > 0.9


VARIANTS = pytest.mark.parametrize("variant", ["field", "windows", "paper"])


@VARIANTS
def test_constant_prior_has_no_effect(variant):
    net, x = SmallNet(), images()
    maps = [
        BOREx(net).attribute(x, prior, target=1, variant=variant, n_iterations=5)
        for prior in (None, torch.full((3, 1, 4, 4), 7.0), torch.zeros(3, 2, 12, 14))
    ]
    torch.testing.assert_close(maps[0], maps[1])
    torch.testing.assert_close(maps[0], maps[2])


@VARIANTS
def test_only_the_spatial_pattern_of_a_prior_matters(variant):
    net, x = SmallNet(), images()
    kwargs = {"target": 1, "variant": variant, "n_iterations": 5}
    prior = prior_of(x)
    forms = [prior, 1e4 * prior, prior.expand(-1, 3, -1, -1), (prior, prior)]
    forms += [(0.3 * prior - prior.flip(2), 0.7 * prior + prior.flip(2))]
    forms += [lambda inputs, target: prior, prior.flip(3)]
    maps = [BOREx(net).attribute(x, p, **kwargs) for p in forms]
    for same in maps[1:-1]:
        torch.testing.assert_close(maps[0], same, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(maps[0], maps[-1])


@VARIANTS
def test_candidates_are_halves_by_default(variant):
    net, x = SmallNet(), images()
    kwargs = {"target": 1, "variant": variant, "n_iterations": 5}
    # The chunk that "auto" finds depends on the time and changes the rounding.
    kwargs["perturbations_per_eval"] = 1
    same = {"candidates": ("halves",)} if variant == "field" else {}
    maps = [BOREx(net).attribute(x, **kwargs, **more) for more in ({}, same)]
    assert torch.equal(*maps)


def test_prior_maps_are_summed_and_have_a_mean_absolute_value_of_a_tenth():
    """Over channels and maps, each example by itself, whatever the unit."""
    first = torch.tensor([[[[1.0, -3.0]], [[2.0, 0.5]]], [[[4.0, 4.0]], [[8.0, 8.0]]]])
    second = torch.tensor([[[[0.5, 0.0]]], [[[1.0, 1.0]]]])
    # 3.5 and -2.5 in all; constant for the other example.
    expected = torch.tensor([[[3.5, -2.5]], [[0.0, 0.0]]]).double() / 30
    for scale in (1, 1e-12, 1e12):
        maps = prior_maps([scale * first, scale * second], 2, (1, 2))
        torch.testing.assert_close(maps, expected)
    assert not prior_maps([], 2, (1, 2)).any()
    wide = prior_maps([torch.tensor([[[[0.0, 4.0]]]])], 1, (2, 4))
    torch.testing.assert_close(wide[0, 0], wide[0, 1])
    assert (wide[0, 0, 1:] >= wide[0, 0, :-1]).all()
    assert float(wide.abs().mean()) == pytest.approx(0.1)


@VARIANTS
def test_prior_from_an_attribution_and_a_layer(variant):
    net, x = SmallNet(), images()
    kwargs = {"target": [0, 1, 2], "variant": variant, "n_iterations": 5}
    layer = LayerGradCamPlusPlus(net, net.relu)
    called = BOREx(net).attribute(x, layer.attribute, **kwargs)
    given = layer.attribute(x, target=[0, 1, 2])
    expected = BOREx(net).attribute(x, given, **kwargs)
    torch.testing.assert_close(called, expected)
    coarse = F.avg_pool2d(given, 2)
    maps = BOREx(net).attribute(x, coarse, **kwargs)
    assert maps.shape == x.shape


@pytest.mark.parametrize("prior", [True, False])
def test_video(prior):
    """The map follows a moving object."""
    frames = torch.zeros(8, 20, 20)
    for t in range(8):
        frames[t, 6:12, 2 * t : 2 * t + 6] = 1
    x = torch.ones(1, 2, 8, 20, 20)
    found = BOREx(lambda x: (x[:, 0] * frames).mean((1, 2, 3))).attribute(
        x,
        frames[None, None] if prior else None,
        variant=WindowVariant(durations=(2, 4)),
        mask_sizes=(5, 8),
        n_iterations=150,
        acquisition="std",
        return_posterior=True,
    )
    assert found.attributions.shape == found.std.shape == x.shape
    assert found.masks.shape == (1, 150, 8, 20, 20)
    assert correlation(found.attributions[0, 0], frames) > 0.5
    first, last = found.attributions[0, 0, 0], found.attributions[0, 0, -1]
    assert correlation(first, frames[0]) > correlation(first, frames[-1])
    assert correlation(last, frames[-1]) > correlation(last, frames[0])


@VARIANTS
def test_posterior(variant):
    net, x = SmallNet(), images()
    kwargs = {"target": 1, "variant": variant, "acquisition": "std"}
    few, many = (
        BOREx(net).attribute(x, n_iterations=n, return_posterior=True, **kwargs)
        for n in (3, 40)
    )
    assert few.masks.shape == (3, 3, 12, 14) and few.centers.shape == (3, 3, 2)
    assert torch.equal(few.masks, many.masks[:, :3])
    torch.testing.assert_close(few.scores, many.scores[:, :3])
    assert many.std.shape == x.shape and (many.std > 0).all()
    plain = BOREx(net).attribute(x, n_iterations=3, **kwargs)
    assert torch.equal(few.attributions, plain)


def test_one_number_per_batch():
    """Captum's convention: shared windows and one map."""
    net, x = SmallNet(), images()
    kwargs = {"variant": "windows", "n_iterations": 6, "return_posterior": True}
    found = BOREx(lambda x: net(x)[:, 1].mean()).attribute(x, prior_of(x), **kwargs)
    assert found.attributions.shape == (1, 3, 12, 14)
    assert found.masks.shape == (1, 6, 12, 14)
    alone = BOREx(lambda x: net(x)[:, 1].mean()).attribute(x[:1], **kwargs)
    expected = BOREx(net).attribute(x[:1], target=1, **kwargs)
    torch.testing.assert_close(alone.attributions, expected.attributions)


@VARIANTS
def test_botorch_acquisition_is_the_named_one(variant):
    net, x = SmallNet(), images(2)
    kwargs = {"target": 1, "variant": variant, "n_iterations": 14}
    kwargs["return_posterior"] = True
    named = BOREx(net).attribute(x, prior_of(x), acquisition="ucb", **kwargs)
    built = BOREx(net).attribute(
        x,
        prior_of(x),
        acquisition=lambda m: UpperConfidenceBound(m, beta=EXPLORATION**2),
        **kwargs,
    )
    assert torch.equal(named.masks, built.masks)


BOTORCH = {
    "information": "information",
    "knowledge gradient": lambda m: qKnowledgeGradient(m, num_fantasies=4),
    "Monte Carlo": lambda m: qLogExpectedImprovement(m, m.mean.max()),
    "Thompson sampling": lambda m: MaxPosteriorSampling(m, replacement=False),
}


@VARIANTS
@pytest.mark.parametrize("acquisition", BOTORCH.values(), ids=BOTORCH)
def test_other_acquisitions_of_botorch(acquisition, variant):
    """A batch gives what its examples give alone, and the seed decides."""
    net, x = SmallNet(), big_images(2)
    kwargs = {
        "target": 1,
        "variant": variant,
        "n_iterations": 8,
        "masks_per_step": 2,
        "mask_sizes": None if variant == "field" else (7, 11),
        "acquisition": acquisition,
        "return_posterior": True,
    }
    state = torch.get_rng_state()
    both = BOREx(net).attribute(x, **kwargs)
    assert torch.equal(state, torch.get_rng_state())
    again = BOREx(net).attribute(x, **kwargs)
    assert torch.equal(both.masks, again.masks)
    for i in range(2):
        alone = BOREx(net).attribute(x[i : i + 1], **kwargs)
        assert torch.equal(alone.masks[0], both.masks[i])
    assert torch.isfinite(both.attributions).all()
    other = BOREx(net).attribute(x, **kwargs, seed=1)
    assert not torch.equal(both.masks, other.masks)


def test_refinement_has_a_compact_representation():
    kwargs = {"target": 1, "n_iterations": 2, "return_posterior": True}
    found = BOREx(SmallNet()).attribute(images(), **kwargs)
    shape = tuple(images().shape)
    assert (
        repr(found) == f"Refinement(attributions {shape}, {len(found.scores[0])} masks)"
    )


def test_progress_counts_the_masks(capsys, monkeypatch):
    """Those of all examples for the field, steps of the batch for windows."""
    monkeypatch.setattr("captum_ext._progress._SECONDS", 0)
    kwargs = {"target": 1, "n_iterations": 5, "show_progress": True}
    for variant, shown in ("field", "15 of 15"), ("windows", "5 of 5"):
        BOREx(SmallNet()).attribute(images(), variant=variant, **kwargs)
        printed = capsys.readouterr().err
        assert "BOREx masks" in printed and shown in printed


@VARIANTS
def test_integer_inputs(variant):
    x = torch.randint(0, 255, (2, 3, 12, 14), dtype=torch.uint8)
    net = SmallNet()
    maps = BOREx(lambda x: net(x / 255)).attribute(
        x, target=1, variant=variant, n_iterations=4
    )
    assert maps.shape == x.shape and maps.dtype == torch.float32


WRONG = [
    (
        {"variant": "pixels"},
        ValueError,
        "variant must be one of 'field', 'windows', 'paper', got 'pixels'",
    ),
    *(
        (
            {name: value, "variant": variant},
            ValueError,
            f"{name} must be None if variant is {shown}",
        )
        for name, value in {
            "feature_mask": blocks((12, 14), (3, 3)),
            "candidates": ["halves"],
            "rtol": 0.1,
        }.items()
        for variant, shown in {
            "windows": "'windows'",
            "paper": "'paper'",
            WindowVariant(stride=2): "WindowVariant",
        }.items()
    ),
    ({"tolerance": 0.0}, ValueError, "tolerance must be"),
    ({"feature_mask": torch.zeros(1, 1, 5, 5).long()}, ValueError, "feature_mask must"),
    ({"feature_mask": torch.zeros(1, 1, 12, 14)}, TypeError, "feature_mask must hold"),
    ({"candidates": 5}, TypeError, "candidates must be a sequence of names"),
    ({"candidates": ["half"]}, ValueError, "candidates must be one of 'halves'"),
    ({"candidates": []}, ValueError, "candidates must hold a kind that gives masks"),
    (
        {"candidates": ["parts"]},
        ValueError,
        "candidates must hold a kind that gives masks, .* without a prior",
    ),
    ({"mask_sizes": (13,)}, ValueError, "mask_sizes must be at most 12, got 13"),
    ({"mask_sizes": (9,)}, ValueError, "mask_sizes must be None unless 'squares' are"),
    ({"mask_sizes": ()}, ValueError, "mask_sizes must hold at least one integer"),
    ({"mask_sizes": 5}, TypeError, "mask_sizes must be a sequence of integers, got 5"),
    (
        {"variant": WindowVariant(durations=(2,))},
        ValueError,
        "durations must be None unless inputs are video",
    ),
    ({"prior": torch.rand(2, 1, 12, 14)}, ValueError, "prior must have .* 3 maps"),
    ({"prior": torch.rand(3, 12, 14)}, ValueError, "prior must have 4 axes"),
    (
        {"prior": torch.full((3, 1, 4, 4), torch.nan)},
        ValueError,
        "prior must be finite",
    ),
    ({"prior": "rise"}, TypeError, "prior must be one tensor or a tuple of one"),
    ({"acquisition": "lcb"}, ValueError, "acquisition must be one of 'ucb'"),
    ({"n_iterations": 0}, ValueError, "n_iterations must be at least 1"),
    ({"masks_per_step": 0}, ValueError, "masks_per_step must be at least 1"),
    ({"seed": -1}, ValueError, "seed must be at least 0"),
    ({"perturbations_per_eval": 0}, ValueError, "perturbations_per_eval must be"),
    ({"target": [1, 2]}, ValueError, "target must hold one index"),
    ({"baselines": torch.nan}, ValueError, "baselines must be finite"),
]


@pytest.mark.parametrize("wrong, error, message", WRONG)
def test_bad_arguments_are_refused_before_any_forward_pass(wrong, error, message):
    def never(x: Tensor) -> Tensor:
        raise AssertionError("called")

    with pytest.raises(error, match=message):
        BOREx(never).attribute(images(), **{"target": 1, **wrong})


@pytest.mark.parametrize("differ", ["channels", "inputs"])
def test_cells_belong_to_whole_pixels(differ):
    x, regions = images(), blocks((12, 14), (3, 3))
    masks = (regions, regions.flip(3))
    if differ == "channels":
        x, masks = (x,), (torch.cat([*masks, regions], 1),)
    else:
        x = (x, x)
    with pytest.raises(
        ValueError, match=f"feature_mask must be the same for all {differ}"
    ):
        BOREx(SmallNet()).attribute(x, feature_mask=masks, target=1)


def test_form_of_the_cells_does_not_matter():
    """Regions are broadcast, over examples and channels and along axes."""
    net, x, columns = SmallNet(), images(), torch.arange(14) // 4
    forms = [columns, columns.view(1, 1, 1, 14), columns.expand(3, 3, 12, 14) + 7]
    maps = [
        BOREx(net).attribute(x, prior_of(x), target=1, n_iterations=5, feature_mask=f)
        for f in forms
    ]
    for same in maps[1:]:
        torch.testing.assert_close(same, maps[0])


@pytest.mark.parametrize(
    "inputs", [torch.rand(3, 5), (torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 9))]
)
def test_inputs_of_other_shapes_are_refused(inputs):
    with pytest.raises(ValueError, match="inputs must be .* all of one size, got"):
        BOREx(SmallNet()).attribute(inputs, target=1)


@pytest.mark.parametrize(
    "acquisition, message",
    [
        (
            lambda m: lambda X: X[:, 0],
            r"one number for each of the \d+ candidates .* got",
        ),
        (lambda m: lambda X: X[:5, 0, 0], r"one number for each .* got \(5,\)"),
        (lambda m: lambda X: 1.0, "one number for each"),
        (lambda m: lambda X: X[:, 0, 0] * torch.nan, "acquisition must return finite"),
    ],
)
@VARIANTS
def test_acquisition_of_the_wrong_shape_is_refused(variant, acquisition, message):
    with pytest.raises(ValueError, match=message):
        BOREx(SmallNet()).attribute(
            images(), target=1, variant=variant, acquisition=acquisition
        )


@VARIANTS
def test_scores_that_are_not_finite_are_refused(variant):
    with pytest.raises(ValueError, match="forward_func must return finite scores"):
        BOREx(lambda x: x.mean((1, 2, 3)) * torch.nan).attribute(
            images(), variant=variant
        )


def test_failed_fit_warns_and_gives_a_map(monkeypatch):
    def fails(covariance: Tensor, residuals: Tensor) -> Tensor:
        return torch.full(covariance.shape[:-2], torch.nan)

    net, x = SmallNet(), images()
    monkeypatch.setattr(hyperparameters, "log_marginal_likelihood", fails)
    with pytest.warns(UserWarning, match="could not be fitted"):
        maps = BOREx(net).attribute(x, target=1, variant="windows", n_iterations=12)
    assert torch.isfinite(maps).all()


def test_windows_of_sequences_name_the_field():
    with pytest.raises(ValueError, match="leave out variant for sequences"):
        BOREx(lambda x: x.mean((1, 2))).attribute(torch.rand(1, 2, 9), variant="paper")


def test_windows_of_a_video_last_half_of_it_or_all():
    x = torch.rand(1, 2, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    borex = BOREx(lambda x: (x[:, 0, 1] * x[:, 1, 4]).sum((1, 2)))
    found, expected = (
        borex.attribute(x, variant=variant, n_iterations=6)
        for variant in ("windows", WindowVariant(durations=(3, 6)))
    )
    assert torch.equal(found, expected)
