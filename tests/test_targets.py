"""Targets: every form selects the same scores; detectors, segmentation, embeddings."""

import math
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel, Saliency
from contract import SmallNet, images
from torch import Tensor, nn

from captum_ext import metrics
from captum_ext._outputs import output_tensor, select_scores
from captum_ext.attr import (
    MCRISE,
    PNRISE,
    RISE,
    BOREx,
    IterativeMask,
    LayerCAMERAS,
    LayerGradCamPlusPlus,
    MaskingModel,
)
from captum_ext.masking import MaskingNetwork
from captum_ext.targets import DetectionTarget, SegmentationTarget, SimilarityTarget

NET = SmallNet()
COLORS = torch.tensor([[0.0, 0.5, 1.0], [1.0, 0.2, 0.1]])
WINDOWS = {"variant": "paper", "n_iterations": 3}


def cameras(model, **kwargs):
    return LayerCAMERAS(model, NET.conv).attribute(images(), sizes=[18], **kwargs)


METHODS = {
    "rise": lambda f, **kw: RISE(f).attribute(images(), n_masks=6, **kw),
    "pn-rise": lambda f, **kw: PNRISE(f).attribute(images(), n_masks=6, **kw),
    "field": lambda f, **kw: PNRISE(f).attribute(
        images(), n_masks=6, estimator="field", **kw
    ),
    "mc-rise": lambda f, **kw: MCRISE(f).attribute(images(), COLORS, n_masks=6, **kw),
    "borex": lambda f, **kw: BOREx(f).attribute(images(), n_iterations=3, **kw),
    "windows": lambda f, **kw: BOREx(f).attribute(images(), **WINDOWS, **kw),
    "cameras": cameras,
    "grad-cam++": lambda f, **kw: LayerGradCamPlusPlus(f, NET.conv).attribute(
        images(), **kw
    ),
    "iterative-mask": lambda f, **kw: IterativeMask(f).attribute(
        images(), n_steps=2, **kw
    ),
}
SCORING = {
    "insertion": {"n_steps": 3},
    "deletion": {"n_steps": 3},
    "positive_map_density": {},
    "negative_map_density": {},
    "saliency_metric": {},
}
MAPS = images()[:, :1]


def measure(name):
    return lambda f, **kw: getattr(metrics, name)(
        f, images(), MAPS, **SCORING[name], **kw
    )


CALLS = {**METHODS, **{name: measure(name) for name in SCORING}}
EVERYWHERE = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
# One of each way of scoring.
KINDS = ("pn-rise", "borex", "grad-cam++", "iterative-mask", "insertion")
EACH_KIND = pytest.mark.parametrize("call", [CALLS[name] for name in KINDS], ids=KINDS)


def column(i: int):
    """pytorch-grad-cam's convention: class i of one example or of a batch."""
    return lambda output: output[..., i]


SAME_TARGETS = {
    "numpy integer": np.int64(2),
    "array without axes": np.array(2),
    "array": np.array([2, 2, 2]),
    "unsigned tensor": torch.tensor([2, 2, 2], dtype=torch.uint8),
    "list of numpy integers": [np.int32(2), 2, torch.tensor(2)],
    "negative": -1,
    "negative list": [-1, 2, -1],
    "negative tensor": torch.tensor([-1, 2, -1]),
    "tuples of numpy integers": [(np.int64(2),)] * 3,
    "function": column(2),
    "functions": [column(2)] * 3,
}


@EVERYWHERE
def test_forms_of_a_target(call):
    expected = call(NET, target=2)
    for target in SAME_TARGETS.values():
        found = call(NET, target=target)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@EVERYWHERE
def test_functions_belong_to_their_examples(call):
    several = call(NET, target=[column(2), column(0), lambda output: output[1]])
    torch.testing.assert_close(several, call(NET, target=[2, 0, 1]))


Scores = namedtuple("Scores", "loss logits")
OUTPUTS = {
    "mapping": lambda y: {"logits": y, "hidden": torch.ones(9)},
    "one tensor": lambda y: {"out": y, "classes": y.argmax(1), "state": None},
    "tuple": lambda y: (y,),
    "list": lambda y: [y],
    "named tuple": lambda y: Scores(torch.zeros(4), y),
    "loss": lambda y: (torch.tensor(0.5), y),
    "object": lambda y: SimpleNamespace(logits=y, hidden=y),
}


@pytest.mark.parametrize("wrap", OUTPUTS.values(), ids=OUTPUTS)
def test_tensor_of_an_output_object(wrap):
    scores = torch.rand(3, 4)
    assert output_tensor(wrap(scores)) is scores


@EVERYWHERE
def test_output_objects_give_the_map_of_their_scores(call):
    expected = call(NET, target=1)
    for wrap in (OUTPUTS["mapping"], OUTPUTS["tuple"]):
        found = call(lambda x, wrap=wrap: wrap(NET(x)), target=1)
        torch.testing.assert_close(found, expected)


@EVERYWHERE
def test_a_function_gets_the_whole_output(call):
    found = call(lambda x: {"a": NET(x), "b": x}, target=lambda y: y["a"][:, 1])
    torch.testing.assert_close(found, call(NET, target=1))


@pytest.mark.parametrize(
    "output, names, wrapper",
    [
        (
            {"a": torch.ones(2, 3), "b": torch.ones(2)},
            "dict with a, b",
            r"\(x\)\['a'\]",
        ),
        (Scores(torch.ones(2), 3 * [0])._replace(logits=torch.ones(2, 3)), None, None),
        ((torch.ones(2, 3), torch.ones(2, 3)), "tuple with 0, 1", r"model\(x\)\[0\]"),
        (SimpleNamespace(a=torch.ones(2), b=torch.ones(2)), "with a, b", r"\(x\)\.a"),
        ({"text": "cat"}, "dict with text", "wrap the model"),
        ("cat", "got str", "tensor or a number"),
        (None, "got NoneType", "tensor or a number"),
    ],
)
def test_output_objects_without_scores(output, names, wrapper):
    if names is None:
        assert output_tensor(output) is output.logits
        return
    with pytest.raises(TypeError, match=names) as raised:
        output_tensor(output)
    assert raised.match(wrapper)


@pytest.mark.parametrize("value", [0.25, [0.5, 0.25], np.ones((2, 3), np.float32)])
def test_numbers_and_arrays_are_tensors(value):
    torch.testing.assert_close(output_tensor(value), torch.as_tensor(value))


@pytest.mark.parametrize("classes", [[np.ones((2, 3))], {"scores": np.ones((2, 3))}])
def test_arrays_in_output_objects(classes):
    assert output_tensor(classes).shape == (2, 3)


class GradCamSegmentation:
    """pytorch-grad-cam's SemanticSegmentationTarget, for the output of one example."""

    def __init__(self, category: int, mask: Tensor) -> None:
        self.category, self.mask = category, mask

    def __call__(self, output: Tensor) -> Tensor:
        return (output[self.category, :, :] * self.mask).sum()


def test_targets_of_pytorch_grad_cam():
    """They are for one example each: right in a list, an error alone."""
    scores = torch.arange(24.0).view(2, 2, 2, 3)
    theirs, ours = (
        kind(0, torch.eye(2, 3)) for kind in (GradCamSegmentation, SegmentationTarget)
    )
    assert select_scores(scores, [theirs, theirs]).tolist() == [0 + 4, 12 + 16]
    assert ours(scores).tolist() == select_scores(scores, [ours, ours]).tolist()
    assert ours(scores).tolist() == [4, 28]
    with pytest.raises(ValueError, match="one example's output in a list"):
        select_scores(scores, theirs)


WRONG_TARGETS = {
    "number per batch": (lambda y: y[0, 1], ValueError, "one number per example"),
    "too many": (lambda y: y, ValueError, "one number for each of the"),
    "too few": (lambda y: y[:1, 0], ValueError, "one number for each of the"),
    "no number": (lambda y: "cat", TypeError, "target must be a function that returns"),
    "several each": ([lambda y: y] * 3, ValueError, "return one number each"),
    "two functions": ([column(0)] * 2, ValueError, "one index for each of the 3"),
    "mixed list": ([column(0), 1, 2], TypeError, "target must be an int, tuple"),
    "float": (1.0, TypeError, "target must be an int, tuple"),
    "bool": (np.True_, TypeError, "target must be an int, tuple"),
    "text": ("cat", TypeError, "target must be an int, tuple"),
    "float tensor": (torch.ones(3), ValueError, "one integer per example"),
    "bool tensor": (torch.ones(3).bool(), ValueError, "one integer per example"),
    "float array": (np.ones(3), ValueError, "one integer per example"),
    "two axes": (torch.ones(3, 1).long(), ValueError, "one integer per example"),
    "too negative": (-4, ValueError, "target must select one number"),
    "too negative in a list": ([-4, 0, 0], ValueError, "must select one number"),
    "too large": ([0, 3, 0], ValueError, "target must select one number"),
}


@pytest.mark.parametrize("wrong", WRONG_TARGETS.values(), ids=WRONG_TARGETS)
@EACH_KIND
def test_wrong_targets(call, wrong):
    target, error, message = wrong
    with pytest.raises(error, match=message):
        call(NET, target=target)


def test_targets_that_cannot_fit_are_refused_before_any_forward_pass():
    def never(x: Tensor) -> Tensor:
        raise AssertionError("called")

    for target in (1.0, torch.ones(3), np.ones((3, 1)), [column(0)] * 2):
        with pytest.raises((TypeError, ValueError), match="target must"):
            PNRISE(never).attribute(images(), target=target)


def test_masking_model_counts_from_the_last_class():
    model = MaskingModel(MaskingNetwork(n_classes=4, width=8).eval())
    expected = model.attribute(images(), target=[3, 0, 2])
    for target in ([-1, 0, -2], np.array([-1, 0, 2]), [np.int64(3), -4, 2]):
        assert torch.equal(model.attribute(images(), target=target), expected)


def test_noise_tunnel_passes_functions_on():
    kwargs = {"nt_samples": 2, "stdevs": 0.0, "n_masks": 6}
    tunnel = NoiseTunnel(PNRISE(NET))
    for target in (column(1), [column(1)] * 3):
        maps = tunnel.attribute(images(), target=target, **kwargs)
        expected = PNRISE(NET).attribute(images(), target=1, n_masks=6)
        torch.testing.assert_close(maps, expected, atol=1e-6, rtol=1e-5)


def test_attack_and_sanity_of_a_function():
    x, clean = images(), NET(images()).argmax(1)
    attacked = [metrics.enhanced_pgd(NET, x, MAPS, target=t) for t in (2, column(2))]
    torch.testing.assert_close(*attacked)
    wrapped = metrics.enhanced_pgd(lambda x: {"logits": NET(x)}, x, MAPS)
    torch.testing.assert_close(wrapped, metrics.enhanced_pgd(NET, x, MAPS))
    # Dark images of another predicted label are a successful attack.
    kwargs = {"n_steps": 3, "baselines": torch.full_like(x, -8)}
    target = clean
    functions = [column(int(t)) for t in target]
    found = [
        metrics.adversarial_sanity(NET, x, MAPS, target=t, **kwargs)
        for t in (target, functions)
    ]
    torch.testing.assert_close(*found)
    assert found[0].isfinite().all()


def test_convergence_delta_of_a_function():
    x, kwargs = images(), {"n_iterations": 3}
    for target in (column(1), [column(1), column(0), column(2)], [-1, 0, 1]):
        maps = BOREx(NET).attribute(x, target=target, **kwargs)
        delta = BOREx(NET).compute_convergence_delta(
            maps, torch.zeros_like(x), x, target=target
        )
        torch.testing.assert_close(delta, torch.zeros(3), atol=1e-5, rtol=0)


def test_prior_gets_a_plain_target():
    prior = Saliency(NET)
    found = BOREx(NET).attribute(
        images(), prior.attribute, target=np.int64(1), n_iterations=3
    )
    expected = BOREx(NET).attribute(
        images(), prior.attribute(images(), target=1), target=1, n_iterations=3
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("variant", ["field", "paper"])
def test_prior_of_one_number_per_batch(variant):
    """The one map of the batch is the prior of each example."""

    def total(x: Tensor) -> Tensor:
        return NET(x)[:, 1].mean()

    x, kwargs = images(), {"n_iterations": 3, "variant": variant}
    prior = RISE(total).attribute(x, n_masks=8)
    assert prior.shape == (1, 3, 12, 14)
    for given in (prior, lambda x, target: RISE(total).attribute(x, n_masks=8)):
        found = BOREx(total).attribute(x, given, **kwargs)
        expected = BOREx(total).attribute(x, prior.expand_as(x), **kwargs)
        torch.testing.assert_close(found, expected)


def weighted(x: Tensor, table: Tensor) -> Tensor:
    """First channel's left half plus twice the first column, plus 3 times the next."""
    left = x[:, 0, :, :2].sum((1, 2))
    return left + 2 * table[:, 0] + 3 * table[:, 1]


@pytest.mark.parametrize("estimator", ["control_variate", "field"])
def test_regions_of_one_of_two_inputs(estimator):
    """The table's columns are regions of their own, whatever the image's indices."""
    x, table = torch.ones(2, 1, 4, 4), torch.ones(2, 3)
    halves = (torch.arange(4) // 2).view(1, 1, 1, 4) * 5
    kwargs = {"n_masks": 800, "estimator": estimator, "feature_mask": (halves, None)}
    image_map, table_map = PNRISE(weighted).attribute((x, table), **kwargs)
    share = 8 if estimator == "control_variate" else 1
    expected = torch.tensor([1.0, 1.0, 0.0, 0.0]) * share
    tolerance = 0.3 if estimator == "control_variate" else 0.05
    torch.testing.assert_close(
        image_map[0, 0], expected.expand(4, 4), atol=tolerance, rtol=0
    )
    torch.testing.assert_close(
        table_map[0], torch.tensor([2.0, 3.0, 0.0]), atol=tolerance, rtol=0
    )
    both = PNRISE(weighted).attribute((x, table), n_masks=8, feature_mask=(None, None))
    torch.testing.assert_close(both, PNRISE(weighted).attribute((x, table), n_masks=8))


def test_image_without_regions_has_blocks():
    x = torch.ones(1, 1, 14, 14)
    table_mask = torch.tensor([[0, 0, 1]])
    maps, _ = PNRISE(weighted).attribute(
        (x, torch.ones(1, 3)), n_masks=8, feature_mask=(None, table_mask)
    )
    blocks = maps[0, 0].unflatten(0, (7, 2)).unflatten(2, (7, 2))
    assert (blocks == blocks[:, :1, :, :1]).all() and blocks.unique().numel() > 9


def test_cells_of_borex_are_those_of_the_other_input():
    x = (images(), images().flip(3))
    cells = (torch.arange(14) // 2).view(1, 1, 1, 14).expand(1, 1, 12, 14)
    kwargs = {"target": 1, "n_iterations": 3}

    def forward(a: Tensor, b: Tensor) -> Tensor:
        return NET(a) + NET(b)

    both = BOREx(forward).attribute(x, feature_mask=(cells, cells), **kwargs)
    for masks in ((cells, None), (None, cells)):
        found = BOREx(forward).attribute(x, feature_mask=masks, **kwargs)
        torch.testing.assert_close(found, both)


class PixelScores(nn.Module):
    """Scores of two classes: the red channel and minus the green one."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": torch.stack([x[:, 0], -x[:, 1]], 1), "aux": x}


def test_segmentation_target_is_the_sum():
    scores = torch.arange(24.0).view(1, 2, 3, 4)
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[0, 1] = mask[2, 3] = True
    # Elements 12 + 1 and 12 + 11 of the second class.
    for output in (scores, {"logits": scores}, {"out": scores, "aux": scores + 1}):
        assert SegmentationTarget(1, mask)(output).tolist() == [36.0]
    assert SegmentationTarget(1, mask)(scores[0]).item() == 36
    assert SegmentationTarget(0, mask / 2)(scores).tolist() == [6.0]
    assert SegmentationTarget(1, torch.ones(4))(scores[0]).tolist() == [22, 70]
    volume = scores[:, :, None].expand(2, 2, 5, 3, 4)
    everywhere = torch.ones(5, 3, 4)
    assert SegmentationTarget(0, everywhere)(volume).tolist() == [330.0] * 2


def test_segmentation_sum_exceeds_half_precision():
    scores = torch.full((1, 1, 100, 100), 60.0, dtype=torch.float16)
    total = SegmentationTarget(0, torch.ones(100, 100))(scores)
    assert total.dtype == torch.float32 and total.item() == 600_000


def test_map_of_a_segmentation_target():
    """The class is the red channel: only pixels of the mask matter."""
    x = torch.ones(1, 3, 8, 8)
    mask = torch.zeros(8, 8)
    mask[:4, :4] = 1.0
    quarters = (torch.arange(8) // 4)[:, None] * 2 + torch.arange(8) // 4
    kwargs = {"feature_mask": quarters.view(1, 1, 8, 8), "estimator": "field"}
    maps = PNRISE(PixelScores()).attribute(
        x, target=SegmentationTarget(0, mask), n_masks=60, **kwargs
    )
    # The 16 is shared by the pixels and channels of the first quarter.
    torch.testing.assert_close(maps, (mask / 3).expand_as(x), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    "category, mask, error, message",
    [
        (1.0, torch.ones(2, 2), TypeError, "category must be an int"),
        (-1, torch.ones(2, 2), ValueError, "category must be at least 0"),
        (0, np.ones((2, 2)), TypeError, "mask must be a tensor"),
        (0, torch.zeros(2, 2), ValueError, "mask must be finite with a positive"),
        (0, torch.full((2, 2), math.nan), ValueError, "mask must be finite"),
    ],
)
def test_bad_segmentation_targets(category, mask, error, message):
    with pytest.raises(error, match=message):
        SegmentationTarget(category, mask)


@pytest.mark.parametrize("category, size", [(0, (4, 3)), (2, (3, 4))])
def test_segmentation_output_of_another_size(category, size):
    target = SegmentationTarget(category, torch.ones(size))
    with pytest.raises(ValueError, match=r"output of shape \(1, 2, 3, 4\)"):
        target(torch.ones(1, 2, 3, 4))


def detections(boxes, labels, scores) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.long),
        "scores": torch.tensor(scores),
    }


@pytest.mark.parametrize(
    "found, score",
    [
        (detections([[0, 0, 4, 2]], [1], [0.8]), 0.8),
        # Half of the box, nothing else: IoU 1/2.
        (detections([[0, 0, 2, 2]], [1], [0.8]), 0.4),
        # Overlap 4 of a union of 8 + 8 - 4.
        (detections([[2, 0, 6, 2]], [1], [0.9]), 0.3),
        (detections([[0, 0, 4, 2]], [2], [0.8]), 0.0),
        (detections([[8, 8, 9, 9]], [1], [0.8]), 0.0),
        (detections([[0, 0, 4, 2], [0, 0, 2, 2]], [2, 1], [1.0, 0.5]), 0.25),
        (detections([[0, 0, 4, 2], [0, 0, 2, 2]], [1, 1], [0.2, 0.6]), 0.3),
        (detections([], [], []), 0.0),
    ],
)
def test_score_of_a_box(found, score):
    target = DetectionTarget([0, 0, 4, 2], 1)
    assert target(found).item() == pytest.approx(score)
    empty = detections([], [], [])
    assert target([found, empty]).tolist() == pytest.approx([score, 0.0])


class BrightBox(nn.Module):
    """A detector of one box, whose probability is the mean of the box's pixels."""

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        found = []
        for image in x:
            probability = image[:, :4, :4].mean()[None]
            box = detections([[0, 0, 4, 4]], [3], [1.0])
            keep = probability > 0.05
            found.append({k: v[keep] for k, v in box.items()})
            found[-1]["scores"] = probability[keep]
        return found


def black_boxes(target):
    x = torch.ones(2, 3, 8, 8)
    kwargs = {"target": target, "perturbations_per_eval": 3}
    model = BrightBox()
    yield RISE(model).attribute(x, n_masks=40, **kwargs)
    yield PNRISE(model).attribute(x, n_masks=40, **kwargs)
    yield PNRISE(model).attribute(x, n_masks=40, estimator="field", **kwargs)
    yield -MCRISE(model).attribute(x, torch.zeros(1, 3), n_masks=40, **kwargs)
    cells = (torch.arange(64) // 4 % 2).view(1, 1, 8, 8)
    yield BOREx(model).attribute(x, n_iterations=20, feature_mask=cells, **kwargs)


def test_black_box_methods_explain_a_detection():
    target = DetectionTarget([0, 0, 4, 4], 3)
    for one, several in zip(black_boxes(target), black_boxes([target, target])):
        assert one[:, :, :4, :4].mean() > 0.003 + one[:, :, 4:, 4:].mean()
        torch.testing.assert_close(one, several)


def test_targets_of_two_images_differ():
    """The second image's target is half of the detected box: half the score."""
    targets = [DetectionTarget([0, 0, 4, 4], 3), DetectionTarget([0, 0, 4, 2], 3)]
    x = torch.ones(2, 3, 8, 8)
    first, second = PNRISE(BrightBox()).attribute(x, target=targets, n_masks=20)
    torch.testing.assert_close(second, first / 2)


def test_metrics_of_a_detection():
    x = torch.ones(2, 3, 8, 8)
    maps = torch.zeros(2, 1, 8, 8)
    maps[:, :, :4, :4] = 1 - torch.arange(16).view(4, 4) / 100
    target = DetectionTarget([0, 0, 4, 4], 3)
    area = metrics.deletion(BrightBox(), x, maps, target=target, n_steps=4)
    # After a quarter of the pixels, all of the box, nothing is detected.
    assert area.tolist() == pytest.approx([0.125] * 2)


@pytest.mark.parametrize(
    "box, label, error, message",
    [
        ([0, 0, 4], 1, ValueError, "box must"),
        ([0, 0, 0, 4], 1, ValueError, "x0 < x1"),
        ([0, 4, 4, 0], 1, ValueError, "y0 < y1"),
        ([0, 0, math.inf, 4], 1, ValueError, "box must"),
        ([0, 0, math.nan, 4], 1, ValueError, "box must"),
        ("box", 1, TypeError, "box must"),
        ([0, 0, 4, 4], "cat", TypeError, "label must be an int"),
    ],
)
def test_bad_boxes(box, label, error, message):
    with pytest.raises(error, match=message):
        DetectionTarget(box, label)


@pytest.mark.parametrize("output", [torch.ones(1, 3), [torch.ones(3)], [{"a": 1}], []])
def test_outputs_without_detections(output):
    with pytest.raises(ValueError, match="must return a list of detections"):
        DetectionTarget([0, 0, 4, 4], 1)(output)


@EVERYWHERE
def test_detections_need_a_target(call):
    def detector(x: Tensor) -> list[dict[str, Tensor]]:
        NET(x)
        return [detections([[0, 0, 4, 4]], [1], [0.5]) for _ in x]

    for target in (None, 1, [0, 1, 2]):
        with pytest.raises(TypeError, match=r"DetectionTarget\(box, label\)"):
            call(detector, target=target)


@EVERYWHERE
def test_segmentation_needs_a_target(call):
    def pixels(x: Tensor) -> dict[str, Tensor]:
        return {"out": NET(x)[:, :, None, None].expand(-1, -1, 12, 14)}

    for target in (None, 1):
        with pytest.raises(ValueError, match=r"SegmentationTarget\(category, mask\)"):
            call(pixels, target=target)


def test_cosine_similarity():
    reference = torch.tensor([0.0, 2.0])
    embeddings = torch.tensor([[3.0, 4.0], [0.0, -1.0], [5.0, 0.0]])
    for target in (SimilarityTarget(reference), SimilarityTarget(reference[None])):
        assert target(embeddings).tolist() == pytest.approx([0.8, -1.0, 0.0])
        assert target({"image_embeds": embeddings}).shape == (3,)
        assert target(embeddings[0]).item() == pytest.approx(0.8)


@EVERYWHERE
def test_similarity_target_equals_its_formula(call):
    reference = torch.tensor([0.5, 0.1, 0.9])

    def score(x: Tensor) -> Tensor:
        y = NET(x)
        return y @ reference / (y.norm(dim=1) * reference.norm())

    expected = call(score, target=None)
    for target in (SimilarityTarget(reference), [SimilarityTarget(reference)] * 3):
        found = call(lambda x: {"embeds": NET(x)}, target=target)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


def test_similarity_with_a_scale():
    target = SimilarityTarget(torch.zeros(2), scale=5.0)
    assert target(torch.tensor([[3.0, 4.0]])).item() == pytest.approx(math.exp(-1))

    def largest(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().amax(1)

    target = SimilarityTarget(torch.zeros(2), 2.0, largest)
    assert target(torch.tensor([[3.0, 4.0]])).item() == pytest.approx(math.exp(-2))


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (([0.0, 1.0],), TypeError, "reference must be a floating point tensor"),
        ((torch.ones(2).long(),), TypeError, "reference must be a floating point"),
        ((torch.ones(2, 3),), ValueError, "reference must be one finite embedding"),
        ((torch.tensor([0.0, math.nan]),), ValueError, "reference must be one finite"),
        ((torch.zeros(2),), ValueError, "reference must not be zero"),
        ((torch.ones(2), 0.0), ValueError, "scale must be a positive number"),
        ((torch.ones(2), math.nan), ValueError, "scale must be a positive number"),
        ((torch.ones(2), None, max), ValueError, "scale must be given"),
    ],
)
def test_bad_similarity_targets(arguments, error, message):
    with pytest.raises(error, match=message):
        SimilarityTarget(*arguments)


def test_embeddings_and_distances_of_the_wrong_shape():
    with pytest.raises(ValueError, match=r"embeddings \(B, 2\)"):
        SimilarityTarget(torch.ones(2))(torch.ones(4, 3))
    target = SimilarityTarget(torch.ones(2), 1.0, lambda a, b: a - b)
    with pytest.raises(ValueError, match=r"distance must return one number for each"):
        target(torch.ones(4, 2))


def test_select_scores_of_one_example_each():
    output = torch.arange(6.0).view(2, 3)
    assert select_scores(output, [-1, -3]).tolist() == [2.0, 3.0]
    assert select_scores(output, torch.tensor([-1, 0])).tolist() == [2.0, 3.0]
    assert select_scores(output, [lambda y: y.sum(), lambda y: y[-1]]).tolist() == [
        3,
        5,
    ]
