"""Insertion and deletion: plain loops, known extremes and memory."""

import os
import warnings
import weakref
from pathlib import Path

import pytest
import torch
from contract import SmallNet, images
from PIL import Image
from test_metrics import some_maps
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from captum_ext import metrics, zoo
from captum_ext.metrics.curves import area_under, exchange, shares

TARGET = [0, 1, 2]


def slow_order(saliency: Tensor) -> list[int]:
    """Pixels by decreasing value, equal ones in row-major order."""
    values = saliency.flatten().tolist()
    return sorted(range(len(values)), key=lambda i: (-values[i], i))


def slow_curve(model, start: Tensor, end: Tensor, saliency: Tensor, n_steps: int):
    """Area and scores of one example, replacing one pixel after the other."""
    order = slow_order(saliency)
    image = start.clone()
    fractions, scores, done = [], [], 0
    for step in range(n_steps + 1):
        count = step * len(order) // n_steps
        while done < count:
            pixel = order[done]
            for channel in range(len(image)):
                image[channel].view(-1)[pixel] = end[channel].reshape(-1)[pixel]
            done += 1
        fractions.append(count / len(order))
        scores.append(float(model(image[None])))
    area = 0.0
    for i in range(n_steps):
        width = fractions[i + 1] - fractions[i]
        area += width * (scores[i] + scores[i + 1]) / 2
    return area, scores


def start_of(baselines, x: Tensor) -> Tensor:
    if isinstance(baselines, str):
        return gaussian_blur(x, [11, 11], [5.0, 5.0])
    fill = 0 if baselines is None else baselines
    return (torch.zeros_like(x) + fill).contiguous()


BASELINES = {
    "zero": None,
    "number": 0.4,
    "color": torch.tensor([0.1, 0.5, 0.9]).view(3, 1, 1),
    "each": torch.rand(3, 3, 12, 14, generator=torch.Generator().manual_seed(8)),
    "blur": "blur",
}


@pytest.mark.parametrize("n_steps", [1, 7, 24, 168])
@pytest.mark.parametrize("baselines", BASELINES.values(), ids=BASELINES)
def test_insertion_and_deletion_equal_the_loops(baselines, n_steps):
    net, x, maps = SmallNet(), images(), some_maps()
    start = start_of(baselines, x)
    kwargs = {"n_steps": n_steps, "return_curve": True, "baselines": baselines}
    inserted, rising = metrics.insertion(net, x, maps, TARGET, **kwargs)
    deleted, falling = metrics.deletion(net, x, maps, TARGET, **kwargs)
    assert rising.shape == falling.shape == (3, n_steps + 1)
    with torch.no_grad():
        for i, target in enumerate(TARGET):

            def score(image, target=target):
                return net(image)[0, target]

            area, scores = slow_curve(score, start[i], x[i], maps[i], n_steps)
            assert inserted[i].item() == pytest.approx(area, abs=1e-6)
            assert rising[i].tolist() == pytest.approx(scores, abs=1e-6)
            area, scores = slow_curve(score, x[i], start[i], maps[i], n_steps)
            assert deleted[i].item() == pytest.approx(area, abs=1e-6)
            assert falling[i].tolist() == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize("metric", [metrics.insertion, metrics.deletion])
def test_ties_are_broken_in_row_major_order(metric):
    """As if earlier pixels were higher."""
    net, x = SmallNet(), images()
    coarse = (2 * some_maps()).round()
    kwargs = {"n_steps": 20, "perturbations_per_eval": 7}
    values = metric(net, x, coarse, TARGET, **kwargs)
    falling = -torch.arange(168.0).view(1, 1, 12, 14).expand(3, 1, 12, 14)
    expected = metric(net, x, coarse.double() + 1e-6 * falling, TARGET, **kwargs)
    torch.testing.assert_close(values, expected, rtol=0, atol=0)


def test_sum_over_channels_does_not_tie_float32_values():
    """Neighboring numbers, equal for all channels as in input-shaped maps."""
    ulp = torch.finfo(torch.float32).eps
    values = 1.5 + ulp * torch.arange(168.0).view(1, 1, 12, 14)
    maps = values.expand(1, 3, 12, 14)
    falling = torch.arange(168.0).view(1, 1, 12, 14)
    kwargs = {"n_steps": 168, "perturbations_per_eval": 8}
    results = [
        metrics.insertion(SmallNet(), images(1), m, 0, **kwargs)
        for m in (maps, falling)
    ]
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_area_of_a_constant_score_is_the_score():
    x, maps = images(), some_maps()
    for metric in (metrics.insertion, metrics.deletion):
        for n_steps in (1, 13, 168):
            ones = metric(lambda x: torch.ones(len(x)), x, maps, n_steps=n_steps)
            torch.testing.assert_close(ones, torch.ones(3, dtype=torch.float64))


def bright(x: Tensor) -> Tensor:
    """Mean of a corner of 4 x 4 pixels."""
    return x[:, :, :4, :4].mean((1, 2, 3))


def corner_map() -> Tensor:
    maps = torch.zeros(1, 1, 12, 14)
    maps[..., :4, :4] = 1
    return maps


def test_extremes():
    """Areas of the perfect map and its inverse, computed by hand."""
    x = torch.ones(1, 3, 12, 14)
    share = 16 / 168
    kwargs = {"n_steps": 168}
    best = metrics.insertion(bright, x, corner_map(), **kwargs)
    worst = metrics.insertion(bright, x, -corner_map(), **kwargs)
    # A linear rise over the fraction of the corner, first or last.
    assert best.item() == pytest.approx(1 - share / 2)
    assert worst.item() == pytest.approx(share / 2)
    best = metrics.deletion(bright, x, corner_map(), **kwargs)
    worst = metrics.deletion(bright, x, -corner_map(), **kwargs)
    assert best.item() == pytest.approx(share / 2)
    assert worst.item() == pytest.approx(1 - share / 2)


def test_single_pixel():
    """The only positive pixel comes first, the others in row-major order."""
    maps = torch.zeros(1, 1, 2, 2)
    maps[..., 1, 1] = 5
    x = torch.tensor([[[[1.0, 2.0], [4.0, 8.0]]]])
    _, curve = metrics.insertion(
        lambda x: x.sum((1, 2, 3)), x, maps, n_steps=4, return_curve=True
    )
    assert curve.tolist() == [[0, 8, 9, 11, 15]]


def test_insertion_and_deletion_mirror_each_other():
    net, x, maps = SmallNet(), images(), some_maps()
    inserted = metrics.insertion(net, x, maps, TARGET, baselines=0.3, n_steps=168)
    deleted = metrics.deletion(net, x, -maps, TARGET, baselines=0.3, n_steps=168)
    torch.testing.assert_close(inserted, deleted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("chunk", [1, 3, 1000, "auto"])
def test_chunk_size_does_not_matter(chunk):
    for metric in (metrics.insertion, metrics.deletion):
        curves = [
            metric(
                SmallNet(),
                images(),
                some_maps(),
                TARGET,
                n_steps=40,
                return_curve=True,
                perturbations_per_eval=c,
            )[1]
            for c in (7, chunk)
        ]
        torch.testing.assert_close(*curves, atol=1e-6, rtol=0)


def test_pixels_of_a_video_are_voxels():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 4, 6, 5, generator=generator)
    maps = torch.randn(2, 1, 4, 6, 5, generator=generator)
    net = SmallNet()

    def score(x: Tensor) -> Tensor:
        frames = x.transpose(1, 2).flatten(0, 1)
        return net(frames)[:, 1].view(len(x), -1).prod(1) ** 0.25

    for x in (x, x.to(memory_format=torch.channels_last_3d)):  # noqa: B020
        values = metrics.insertion(score, x, maps, n_steps=30)
        with torch.no_grad():
            for i in range(2):
                area, _ = slow_curve(score, torch.zeros_like(x[i]), x[i], maps[i], 30)
                assert values[i].item() == pytest.approx(area, abs=1e-6)
    blurred = metrics.insertion(score, x, maps, n_steps=30, baselines="blur")
    assert (blurred != values).all()


def test_series():
    x = torch.rand(2, 3, 20, generator=torch.Generator().manual_seed(0))
    maps = torch.rand(2, 1, 5, generator=torch.Generator().manual_seed(1))
    values = metrics.deletion(lambda x: x.flatten(1).mean(1), x, maps, n_steps=20)
    assert values.shape == (2,) and (values > 0).all()


def test_sequences_with_exchanged_axes():
    """The score is a feature of token 1 of 4; all maps rank that token first."""

    def score(x):
        return x[:, 1, 2]

    x, maps = torch.ones(1, 4, 3), torch.zeros(1, 4, 3)
    maps[0, 1] = torch.tensor([0.0, 0.5, 0.5])
    exchanged = maps.sum(2, keepdim=True).mT
    for metric, area in ((metrics.insertion, 7 / 8), (metrics.deletion, 1 / 8)):
        value = metric(lambda x: score(x.mT), x.mT, exchanged, n_steps=4)
        assert value.item() == pytest.approx(area)
        with pytest.raises(
            ValueError, match=r"attributions\.sum\(2, keepdim=True\)\.mT"
        ):
            metric(score, x, maps.sum(2, keepdim=True), n_steps=3)


def test_maps_of_three_axes_warn_unless_they_have_one_channel():
    x = torch.rand(1, 4, 6, generator=torch.Generator().manual_seed(0))
    region = torch.zeros(1, 6, dtype=torch.bool)
    region[0, 2] = True
    with pytest.warns(UserWarning, match=r"sequences \(B, L, C\)") as warned:
        several = metrics.pointing_game(None, x, x, masks=region, tolerance=0)
    assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        total = x.sum(1, keepdim=True)
        assert several == metrics.pointing_game(
            None, x, total, masks=region, tolerance=0
        )
        alone = x[:, :1]
        metrics.deletion(lambda x: x.mean((1, 2)), alone, alone, n_steps=3)


def test_blur_of_a_tiny_image():
    x = torch.rand(1, 3, 3, 4, generator=torch.Generator().manual_seed(0))
    value = metrics.insertion(
        lambda x: x.mean((1, 2, 3)), x, x[:, :1], baselines="blur", n_steps=12
    )
    assert torch.isfinite(value).all()


def test_pure_functions():
    assert shares(7, 3).tolist() == [0, 2, 4, 7]
    counts = torch.tensor([0, 1, 4])
    assert area_under(torch.tensor([[0.0, 4.0, 8.0]]), counts).tolist() == [5.0]
    before = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
    after = torch.ones(2, 3, 4, 4)
    ranks = torch.arange(16).view(1, 4, 4).expand(2, 4, 4)
    mixed = exchange(before, after, ranks, torch.tensor([0, 5, 16]))
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    assert mixed.sum((1, 2, 3)).tolist() == [0, 0, 15, 15, 48, 48]


@pytest.mark.parametrize(
    "kwargs, name",
    [
        ({"n_steps": 0}, "n_steps"),
        ({"n_steps": 169}, "n_steps"),
        ({"n_steps": 4.0}, "n_steps"),
        ({"baselines": "black"}, "baselines"),
        ({"baselines": torch.zeros(5, 5)}, "baselines"),
        ({"perturbations_per_eval": 0}, "perturbations_per_eval"),
        ({"target": [0, 1]}, "target"),
    ],
)
def test_bad_arguments(kwargs, name):
    def never(x: Tensor) -> Tensor:
        raise AssertionError("a forward pass was spent")

    kwargs = {"target": 0, "n_steps": 8, **kwargs}
    for metric in (metrics.insertion, metrics.deletion):
        with pytest.raises((ValueError, TypeError), match=name):
            metric(never, images(), some_maps(), **kwargs)


def test_named_baselines():
    """A normalized image that starts in a named color is one of the pixels' space."""
    x, maps, net = images(), some_maps(), SmallNet()
    normalization = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.5))
    mean, std = torch.tensor(normalization).view(2, 3, 1, 1)
    z = (x - mean) / std
    for name, color in {"black": 0.0, "mean": mean, "white": 1.0}.items():
        start = metrics.named_baseline(name, z, normalization)
        torch.testing.assert_close(start * std + mean, torch.zeros(3, 1, 1) + color)
        value = metrics.insertion(
            lambda z: net(z * std + mean), z, maps, TARGET, start, n_steps=6
        )
        expected = metrics.insertion(net, x, maps, TARGET, color, n_steps=6)
        torch.testing.assert_close(value, expected, atol=1e-5, rtol=0)
    assert metrics.named_baseline("black", x) == 0
    assert metrics.named_baseline("white", x) == 1
    blurred = metrics.named_baseline("blur", z, normalization)
    assert torch.equal(blurred, start_of("blur", z))


@pytest.mark.parametrize(
    "name, normalization, message",
    [
        ("gray", None, "^name must be one of"),
        ("mean", None, "^normalization must be given"),
        ("black", ((0.5,), (0.5,)), "^normalization must be the mean"),
    ],
)
def test_bad_names_of_baselines(name, normalization, message):
    with pytest.raises(ValueError, match=message):
        metrics.named_baseline(name, images(), normalization)


def test_blur_needs_height_and_width():
    x = torch.rand(1, 2, 9)
    with pytest.raises(ValueError, match="baselines must not be 'blur'"):
        metrics.insertion(torch.sum, x, x, baselines="blur", n_steps=9)


def test_scores_that_are_not_finite():
    with pytest.raises(ValueError, match="forward_func must return finite scores"):
        metrics.insertion(
            lambda x: x.sum((1, 2, 3)).log(), images(), some_maps(), n_steps=8
        )


def test_images_are_released_chunk_by_chunk():
    seen = []

    def watching(x: Tensor) -> Tensor:
        assert len(x) <= 2 * 8
        assert not any(image() is not None for image in seen)
        seen.append(weakref.ref(x))
        return x.mean((1, 2, 3))

    kwargs = {"n_steps": 100, "perturbations_per_eval": 8}
    metrics.insertion(watching, images(2), some_maps(2), **kwargs)
    assert len(seen) == 13


def test_real_images():
    """A centered box beats its inverse on photographs with centered objects."""
    if "CAPTUM_EXT_DATA" not in os.environ:
        pytest.skip("CAPTUM_EXT_DATA is unset: no photographs and networks")
    data = Path(os.environ["CAPTUM_EXT_DATA"])
    entry = zoo.load("mobilenet_v2", data / "models" / "mobilenet_v2.pt")
    files = sorted((data / "imagenet" / "images").glob("*.jpg"))[:4]
    x = torch.cat([entry.preprocess(Image.open(file))[None] for file in files])

    def model(x: Tensor) -> Tensor:
        return entry.model(x).softmax(1)

    with torch.no_grad():
        target = model(x).argmax(1)
    maps = metrics.center_box(x)
    kwargs = {"target": target, "n_steps": 14}
    good = metrics.insertion(model, x, maps, **kwargs)
    bad = metrics.insertion(model, x, -maps, **kwargs)
    assert good.mean() > bad.mean() + 0.1
