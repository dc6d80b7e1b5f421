"""Metrics of boxes and masks: plain loops and cases computed by hand."""

import math

import pytest
import torch
from contract import SmallNet, images
from test_metrics import BOXES, some_maps
from test_metrics_curves import slow_order
from torch import Tensor

from captum_ext import metrics
from captum_ext.metrics.boxes import box_regions, salient_boxes, tightest_boxes

H, W = 12, 14


def image(n: int = 1, height: int = H, width: int = W) -> Tensor:
    return torch.zeros(n, 3, height, width)


def one_pixel(row: int, column: int, height: int = H, width: int = W) -> Tensor:
    maps = torch.zeros(1, 1, height, width)
    maps[..., row, column] = 1
    return maps


def slow_region(boxes: Tensor) -> list[list[bool]]:
    return [
        [
            any(
                x0 < column + 1 and x1 > column and y0 < row + 1 and y1 > row
                for x0, y0, x1, y1 in boxes.tolist()
            )
            for column in range(W)
        ]
        for row in range(H)
    ]


def masks_of(boxes: list[Tensor]) -> Tensor:
    return torch.tensor([slow_region(each) for each in boxes])


# Boxes


def test_regions_of_boxes():
    """Pixels that a box covers in part belong to it, at any of its edges."""
    fractions = torch.tensor([[1.5, 2.5, 4.5, 6.5], [9.9, 8.1, 10.0, 8.2]])
    for boxes in [*BOXES, fractions]:
        assert box_regions(boxes, (H, W)).tolist() == slow_region(boxes)


def test_boxes_of_regions():
    for boxes in BOXES:
        whole = boxes[:1].round()
        assert (
            tightest_boxes(box_regions(whole, (H, W))[None]).tolist() == whole.tolist()
        )


def test_salient_boxes():
    """Thresholds relative to the maximum and the mean of the clipped map."""
    maps = torch.tensor([[[0.0, 1.0, 2.0, -9.0], [0.0, 4.0, 0.0, 1.0]]])
    by_value = [salient_boxes(maps, t, "value").tolist() for t in (0.1, 0.5, 1.0)]
    assert by_value == [[[1, 0, 4, 2]], [[1, 0, 3, 2]], [[1, 1, 2, 2]]]
    # The mean of the clipped map is 1.
    by_mean = [salient_boxes(maps, t, "mean").tolist() for t in (1.0, 1.5, 4.0)]
    assert by_mean == [[[1, 0, 4, 2]], [[1, 0, 3, 2]], [[1, 1, 2, 2]]]
    with pytest.raises(ValueError, match="threshold"):
        salient_boxes(maps, 4.5, "mean")
    nothing = salient_boxes(-maps.abs(), 0.5, "value")
    assert nothing.tolist() == [[0, 0, 4, 2]]


def test_boxes_of_masks():
    """A threshold in the range [0, 1], whatever the maximum; the mean over channels."""
    masks = torch.tensor([[[0.1, 0.4, 0.6, 0.2]], [[0.1, 0.4, 0.3, 0.2]]])
    assert salient_boxes(masks, 0.5, "mask").tolist() == [[2, 0, 3, 1], [0, 0, 4, 1]]
    assert salient_boxes(masks, 0.4, "mask").tolist() == [[1, 0, 3, 1], [1, 0, 2, 1]]
    assert salient_boxes(masks, 0.5, "value").tolist() == [[1, 0, 3, 1], [1, 0, 4, 1]]
    for wrong in (2 * masks, -masks):
        with pytest.raises(ValueError, match="^attributions must lie in "):
            salient_boxes(wrong, 0.5, "mask")
    x, boxes = torch.zeros(1, 3, 1, 4), [torch.tensor([[1.0, 0, 3, 1]])]
    same = masks[:1, None].expand(1, 3, 1, 4)
    for threshold, error in ((0.4, 0), (0.7, 1)):
        given = {"boxes": boxes, "threshold": threshold, "thresholding": "mask"}
        assert metrics.localization_error(None, x, same, **given).item() == error


# F-measure


def slow_f(saliency: Tensor, region: list[list[bool]]) -> tuple[float, float]:
    inside = [cell for row in region for cell in row]
    hits, total, products = 0, 0.0, 0.0
    for k, pixel in enumerate(slow_order(saliency), start=1):
        hits += inside[pixel]
        precision, recall = hits / k, hits / sum(inside)
        products += precision * recall
        if hits:
            total += 2 * precision * recall / (precision + recall)
    return total, products / len(inside)


def test_f_measure_equals_the_loop():
    maps, x = some_maps(), image(3)
    sums = metrics.f_measure(None, x, maps, boxes=BOXES)
    means = metrics.f_measure(
        None, x, maps, boxes=BOXES, variant="recall_times_precision"
    )
    for i in range(3):
        total, mean = slow_f(maps[i], slow_region(BOXES[i]))
        assert sums[i].item() == pytest.approx(total)
        assert means[i].item() == pytest.approx(mean)


def test_f_measure_of_masks_and_video():
    maps, x, masks = some_maps(), image(3), masks_of(BOXES)
    expected = metrics.f_measure(None, x, maps, boxes=BOXES)
    torch.testing.assert_close(metrics.f_measure(None, x, maps, masks=masks), expected)
    video = torch.rand(3, 1, 5, H, W, generator=torch.Generator().manual_seed(0))
    frames = masks[:, None].expand(3, 5, H, W)
    torch.testing.assert_close(
        metrics.f_measure(None, video, video, boxes=BOXES),
        metrics.f_measure(None, video, video, masks=frames),
    )


def test_f_measure_at_its_extremes():
    """The mask of the object is best, its inverse worst."""
    masks = masks_of(BOXES)
    perfect = masks[:, None].double()
    x, n = image(3), masks.flatten(1).sum(1)
    best = metrics.f_measure(None, x, perfect, masks=masks)
    worst = metrics.f_measure(None, x, -perfect, masks=masks)
    N = H * W
    for i, size in enumerate(n.tolist()):
        # Inside first: F_k = 2k / (k + n), then 2n / (k + n); outside first: 0 for the
        # first N - n pixels.
        high = sum(2 * min(k, size) / (k + size) for k in range(1, N + 1))
        low = sum(2 * (k - N + size) / (k + size) for k in range(N - size, N + 1))
        assert best[i].item() == pytest.approx(high)
        assert worst[i].item() == pytest.approx(low)
    for seed in range(5):
        value = metrics.f_measure(None, x, some_maps(seed=seed), masks=masks)
        assert (worst <= value).all() and (value <= best).all()


# Pointing game


@pytest.mark.parametrize(
    "row, column, tolerance, hit",
    [
        (4, 5, 0, 1),  # inside
        (3, 4, 0, 1),  # first pixel
        (6, 8, 0, 1),  # last pixel
        (7, 8, 0, 0),  # below
        (7, 8, 1, 1),
        (10, 12, 5, 0),  # 4 below and 4 to the right: 5.66 away
        (9, 12, 5, 1),  # 3 and 4: exactly 5
        (9, 12, 4.9, 0),
    ],
)
def test_pointing_game_by_hand(row, column, tolerance, hit):
    """A box of rows 3 to 6 and columns 4 to 8."""
    value = metrics.pointing_game(
        None,
        image(),
        one_pixel(row, column),
        boxes=[torch.tensor([[4, 3, 9, 7]])],
        tolerance=tolerance,
    )
    assert value.tolist() == [hit]


def test_hitting_any_box_counts():
    boxes = [torch.tensor([[0, 0, 2, 2], [10, 8, 12, 11]])]
    for row, column, hit in [(1, 1, 1), (9, 11, 1), (5, 5, 0)]:
        maps = one_pixel(row, column)
        value = metrics.pointing_game(None, image(), maps, boxes=boxes, tolerance=0)
        assert value.tolist() == [hit]


@pytest.mark.parametrize("tolerance, hit", [(2.9, 0.0), (3.0, 1.0)])
def test_pointing_game_in_volumes_and_sequences(tolerance, hit):
    """The distance is along all axes: (2, 2, 1) has length 3."""
    maps = torch.zeros(1, 1, 5, 6, 7)
    maps[0, 0, 1, 1, 1] = 1
    masks = torch.zeros(1, 5, 6, 7, dtype=torch.bool)
    masks[0, 3, 3, 2] = True
    x = torch.rand(1, 2, 5, 6, 7)
    found = metrics.pointing_game(None, x, maps, masks=masks, tolerance=tolerance)
    assert found.tolist() == [hit]
    line, region = torch.zeros(1, 1, 9), torch.zeros(1, 9, dtype=torch.bool)
    line[0, 0, 2], region[0, 5] = 1, True
    x = torch.rand(1, 4, 9)
    found = metrics.pointing_game(None, x, line, masks=region, tolerance=tolerance)
    assert found.tolist() == [hit]
    with pytest.raises(ValueError, match="boxes must be those of images or video"):
        metrics.pointing_game(None, x, line, boxes=[torch.tensor([[0, 0, 1, 1]])])


def test_pointing_game_equals_the_loop():
    masks = masks_of(BOXES)
    for seed in range(10):
        maps = some_maps(seed=seed)
        for tolerance in (0, 1, 2.5, 15):
            values = metrics.pointing_game(
                None, image(3), maps, masks=masks, tolerance=tolerance
            )
            for i in range(3):
                row, column = divmod(slow_order(maps[i])[0], W)
                nearest = min(
                    math.hypot(r - row, c - column)
                    for r in range(H)
                    for c in range(W)
                    if masks[i, r, c]
                )
                assert values[i].item() == float(nearest <= tolerance)


def test_share_of_several_maxima_that_hit():
    maps = one_pixel(2, 3) + one_pixel(8, 1) + one_pixel(2, 9)
    for edges, share in [((3, 2, 4, 3), 1), ((3, 2, 10, 3), 2), ((0, 0, 1, 1), 0)]:
        boxes = [torch.tensor([edges])]
        for rounded in (maps, maps * (1 + 1e-8 * torch.rand_like(maps))):
            value = metrics.pointing_game(
                None, image(), rounded, boxes=boxes, tolerance=0
            )
            assert value.item() == pytest.approx(share / 3)


def test_difficult_examples():
    quarter = torch.tensor([[0, 0, 4, 4]])
    less = torch.tensor([[0, 0, 4, 3]])
    twice = torch.tensor([[0, 0, 4, 3], [1, 0, 4, 3]])
    more = torch.tensor([[0, 0, 4, 3], [4, 4, 8, 6]])
    other, none = torch.tensor([[5, 5, 8, 8]]), torch.empty(0, 4)
    result = metrics.is_difficult(
        [quarter, less, less, twice, more], [other, other, none, other, other], (8, 8)
    )
    assert result.tolist() == [False, True, False, True, False]


# Localization error


def slow_iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (a, b)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize("thresholding", ["value", "mean"])
@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_localization_error_equals_the_loop(threshold, thresholding):
    errors = []
    for seed in range(8):
        maps = some_maps(seed=seed)
        values = metrics.localization_error(
            None,
            image(3),
            maps,
            boxes=BOXES,
            threshold=threshold,
            thresholding=thresholding,
        )
        for i in range(3):
            positive = maps[i, 0].clamp_min(0).double()
            high = positive.mean() if thresholding == "mean" else positive.max()
            kept = (positive >= threshold * high).nonzero().tolist()
            rows, columns = zip(*kept)
            box = [min(columns), min(rows), max(columns) + 1, max(rows) + 1]
            found = max(slow_iou(box, truth) for truth in BOXES[i].tolist())
            assert values[i].item() == float(found <= 0.5)
        errors += values.tolist()
    assert 0 < sum(errors) < len(errors)


def test_localization_error_at_its_extremes():
    x, masks = image(3), masks_of([each[:1] for each in BOXES])
    perfect = masks[:, None].double()
    assert metrics.localization_error(None, x, perfect, boxes=BOXES).sum() == 0
    # The box around the inverse is the whole image; the third box covers over half.
    inverse = metrics.localization_error(None, x, 1 - perfect, boxes=BOXES)
    assert inverse.tolist() == [1, 1, 0]
    half = [torch.tensor([[0, 0, 7, 12]])]
    # The whole image overlaps its half by exactly 0.5, which is not enough.
    error = metrics.localization_error(None, x[:1], metrics.max_box(x[:1]), boxes=half)
    assert error.tolist() == [1]


def test_baseline_boxes_are_maps():
    x = image(2, 224, 224)
    center = salient_boxes(metrics.center_box(x)[:, 0], 0.5, "value")
    assert center.tolist() == [[33, 33, 191, 191]] * 2
    whole = salient_boxes(metrics.max_box(x)[:, 0], 0.5, "value")
    assert whole.tolist() == [[0, 0, 224, 224]] * 2


# Saliency metric


def slow_crop(image: Tensor, box: list[int]) -> Tensor:
    """Crop resized pixel by pixel: bilinear, corners not aligned, border repeated."""
    x0, y0, x1, y1 = box
    crop = image[:, y0:y1, x0:x1].tolist()
    height, width = y1 - y0, x1 - x0

    def weights(i: int, size: int, target: int) -> list[tuple[int, float]]:
        position = max(0.0, (i + 0.5) * size / target - 0.5)
        low = int(position)
        share = position - low
        return [(low, 1 - share), (min(low + 1, size - 1), share)]

    return torch.tensor(
        [
            [
                [
                    sum(
                        channel[r][c] * a * b
                        for r, a in weights(row, height, H)
                        for c, b in weights(column, width, W)
                    )
                    for column in range(W)
                ]
                for row in range(H)
            ]
            for channel in crop
        ]
    )


def test_saliency_metric_equals_the_loop():
    net, x, maps, target = SmallNet(), images(), some_maps(), [0, 1, 2]
    values = metrics.saliency_metric(net, x, maps, target, threshold=0.6)
    boxes = salient_boxes(maps[:, 0].double(), 0.6, "value").tolist()
    assert len({tuple(box) for box in boxes}) == 3
    for i, box in enumerate(boxes):
        with torch.no_grad():
            p = net(slow_crop(x[i], box)[None])[0, target[i]].item()
        a = (box[2] - box[0]) * (box[3] - box[1]) / (H * W)
        expected = math.log(max(a, 0.05)) - math.log(p)
        assert values[i].item() == pytest.approx(expected, abs=1e-5)


def test_saliency_metric_at_its_extremes():
    x = torch.rand(1, 3, H, W)
    net = SmallNet()
    with torch.no_grad():
        p = net(x)[0, 1].item()
    whole = metrics.saliency_metric(net, x, metrics.max_box(x), 1)
    assert whole.item() == pytest.approx(-math.log(p), abs=1e-5)
    sure = metrics.saliency_metric(lambda x: torch.ones(len(x)), x, one_pixel(5, 5))
    assert sure.item() == pytest.approx(math.log(0.05))
    never = metrics.saliency_metric(lambda x: torch.zeros(len(x)), x, one_pixel(5, 5))
    assert 80 < never.item() < 90


# Errors


GOOD = torch.tensor([[1.0, 1.0, 5.0, 5.0]])
WRONG_BOXES = {
    "too few": ([GOOD], "boxes"),
    "one table": (GOOD, "boxes"),
    "none": (None, "boxes"),
    "five columns": ([GOOD, GOOD, torch.ones(1, 5)], "boxes"),
    "no width": ([GOOD, GOOD, torch.tensor([[3.0, 1.0, 3.0, 4.0]])], "boxes"),
    "NaN": ([GOOD, GOOD, GOOD * float("nan")], "boxes"),
    "infinite": ([GOOD, GOOD, torch.tensor([[0, 0, math.inf, 1]])], "boxes"),
    "number": (3, "boxes"),
}


@pytest.mark.parametrize("boxes, name", WRONG_BOXES.values(), ids=WRONG_BOXES)
@pytest.mark.parametrize(
    "metric",
    [metrics.f_measure, metrics.pointing_game, metrics.localization_error],
)
def test_wrong_boxes(metric, boxes, name):
    with pytest.raises((ValueError, TypeError), match=f"^{name} ") as error:
        metric(None, image(3), some_maps(), boxes=boxes)
    text = str(error.value)
    assert text.endswith(".") and text.count(". ") == 0 and ", got " in text


@pytest.mark.parametrize(
    "kwargs, name",
    [
        ({"boxes": [GOOD + 50] * 3}, "boxes"),
        ({"boxes": BOXES, "masks": masks_of(BOXES)}, "boxes"),
        ({"masks": masks_of(BOXES).float()}, "masks"),
        ({"masks": masks_of(BOXES)[:, :5]}, "masks"),
    ],
)
@pytest.mark.parametrize("metric", [metrics.f_measure, metrics.pointing_game])
def test_wrong_regions(metric, kwargs, name):
    with pytest.raises((ValueError, TypeError), match=f"^{name} "):
        metric(None, image(3), some_maps(), **kwargs)


@pytest.mark.parametrize(
    "metric, kwargs, name",
    [
        (metrics.f_measure, {"variant": "mean"}, "variant"),
        (metrics.pointing_game, {"tolerance": -1}, "tolerance"),
        (metrics.localization_error, {"threshold": 0}, "threshold"),
        (metrics.localization_error, {"threshold": 1.2}, "threshold"),
        (metrics.localization_error, {"thresholding": "energy"}, "thresholding"),
    ],
)
def test_wrong_settings(metric, kwargs, name):
    with pytest.raises(ValueError, match=f"^{name} "):
        metric(None, image(3), some_maps(), boxes=BOXES, **kwargs)


@pytest.mark.parametrize(
    "metric",
    [metrics.localization_error, metrics.saliency_metric],
)
def test_metrics_of_images_refuse_video(metric):
    video = torch.rand(3, 1, 5, H, W)
    kwargs = {} if metric is metrics.saliency_metric else {"boxes": BOXES}
    with pytest.raises(ValueError, match=r"inputs must be \(B, C, H, W\), got"):
        metric(SmallNet(), video, video, 0, **kwargs)


def test_difficult_needs_both_sequences():
    with pytest.raises(ValueError, match="other_boxes"):
        metrics.is_difficult([GOOD], [], (8, 8))


# Constant maps, and images without the object


CONSTANT = torch.full((1, 1, H, W), 0.3)
CORNERS = [torch.tensor([[c, r, c + 1, r + 1]]) for c in (0, W - 1) for r in (0, H - 1)]


@pytest.mark.parametrize("tolerance", [0, 1, 15])
@pytest.mark.parametrize("boxes", [*CORNERS, torch.tensor([[4, 3, 9, 7]])])
def test_constant_map_hits_by_chance(boxes, tolerance):
    """The share of single-pixel maps that hit, at every corner alike."""
    hits = [
        metrics.pointing_game(
            None, image(), one_pixel(r, c), boxes=[boxes], tolerance=tolerance
        ).item()
        for r in range(H)
        for c in range(W)
    ]
    for maps in (CONSTANT, 0 * CONSTANT, -CONSTANT, torch.full((1, 1, 3, 4), 0.3)):
        value = metrics.pointing_game(
            None, image(), maps, boxes=[boxes], tolerance=tolerance
        )
        assert value.item() == pytest.approx(sum(hits) / len(hits))


def test_constant_map_has_the_expected_f_measure():
    """F_k is linear in the hits, so the mean over random orders is its expectation."""
    boxes = [torch.tensor([[4, 3, 9, 7]])]
    value = metrics.f_measure(None, image(), CONSTANT, boxes=boxes)
    N, n = H * W, 20
    expected = sum(2 * k * n / N / (k + n) for k in range(1, N + 1))
    assert value.item() == pytest.approx(expected)
    g = torch.Generator().manual_seed(0)
    orders = torch.stack([torch.randperm(N, generator=g) for _ in range(300)])
    maps = orders.view(300, 1, H, W).double()
    found = metrics.f_measure(None, image(300), maps, boxes=boxes * 300)
    error = found.std().item() / 300**0.5
    assert found.mean().item() == pytest.approx(expected, abs=4 * error)


def test_constant_map_has_the_box_of_the_whole_image():
    for maps in (CONSTANT[0], 0 * CONSTANT[0], torch.full((1, H, W), -0.3)):
        for threshold in (0.5, 1.5):
            box = salient_boxes(maps.double(), threshold, "mean")
            assert box.tolist() == [[0, 0, W, H]]


def test_constant_map_is_inserted_in_random_order():
    """The area under the curve of a region is that of chance, at every corner alike."""
    x = torch.ones(1, 3, H, W)
    for boxes in CORNERS:
        region = box_regions(boxes, (H, W)).float()
        area = metrics.insertion(
            lambda x, region=region: (x[:, 0] * region).sum((1, 2)),
            x,
            CONSTANT,
            n_steps=H * W,
        )
        # In rows, the corners of the image are first and last.
        assert 0.01 < area.item() < 0.99


def test_batch_goes_on_without_the_object():
    maps, x = some_maps(), image(3)
    boxes = [BOXES[0], torch.zeros(0, 4), BOXES[2]]
    masks = torch.stack(
        [masks_of(BOXES)[0], torch.zeros(H, W).bool(), masks_of(BOXES)[2]]
    )
    for metric in ("pointing_game", "f_measure", "localization_error"):
        expected = getattr(metrics, metric)(None, x, maps, boxes=BOXES)
        value = getattr(metrics, metric)(None, x, maps, boxes=boxes)
        assert value.isnan().tolist() == [False, True, False]
        assert torch.equal(value[::2], expected[::2])
        if metric != "localization_error":
            of_masks = getattr(metrics, metric)(None, x, maps, masks=masks)
            torch.testing.assert_close(of_masks, value, equal_nan=True)
    assert metrics.is_difficult(boxes, [BOXES[1]] * 3, (64, 64)).tolist() == [
        True,
        False,
        True,
    ]
