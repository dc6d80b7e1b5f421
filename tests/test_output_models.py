"""Models that return other things than scores of classes, or have no gradients."""

import warnings

import pytest
import torch
import torchvision
from torch import Tensor, nn

from captum_ext import metrics
from captum_ext.attr import (
    MCRISE,
    PNRISE,
    RISE,
    BOREx,
    IterativeMask,
    LayerCAMERAS,
    LayerGradCamPlusPlus,
    maps_of_tokens,
)
from captum_ext.methods import METHODS
from captum_ext.subject import build_subject
from captum_ext.targets import DetectionTarget, SegmentationTarget, SimilarityTarget
from captum_ext.zoo import ZooModel


def images(n: int, size: int) -> Tensor:
    """Noise with a dark square."""
    x = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))
    x[:, :, size // 4 : size // 2, size // 4 : size // 2] *= 0.1
    return x


def calibrated(constructor, x: Tensor, **kwargs) -> nn.Module:
    """A network with random weights, whose outputs depend on the image."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = constructor(weights=None, weights_backbone=None, **kwargs).eval()
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
                module.train()
        with torch.no_grad():
            model(x)
    return model.eval()


@pytest.fixture(scope="module")
def detector() -> nn.Module:
    constructor = torchvision.models.detection.ssdlite320_mobilenet_v3_large
    options = {"num_classes": 5, "topk_candidates": 20, "detections_per_img": 20}
    return calibrated(constructor, images(2, 64), **options)


@pytest.fixture(scope="module")
def segmenter() -> nn.Module:
    constructor = torchvision.models.segmentation.lraspp_mobilenet_v3_large
    return calibrated(constructor, images(2, 64), num_classes=5)


def score_by_hand(found: dict[str, Tensor], box: Tensor, label: int) -> float:
    best = 0.0
    for b, i, p in zip(found["boxes"].tolist(), found["labels"], found["scores"]):
        x0, y0 = max(b[0], box[0]), max(b[1], box[1])
        x1, y1 = min(b[2], box[2]), min(b[3], box[3])
        shared = max(x1 - x0, 0) * max(y1 - y0, 0)
        areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (b, box)]
        if i == label:
            best = max(best, float(p * shared / (sum(areas) - shared)))
    return best


def test_detector(detector):
    x = images(2, 64)
    with torch.no_grad():
        found = detector(x)
    second = [(f["boxes"][1], int(f["labels"][1])) for f in found]
    targets = [DetectionTarget(*each) for each in second]
    for target, output, (box, label) in zip(targets, found, second):
        # The box itself is detected: its score is at least the detection's.
        known = score_by_hand(output, box.tolist(), label)
        assert target(output).item() == pytest.approx(known, rel=1e-5)
        assert known >= float(output["scores"][1]) - 1e-6
    halves = (torch.arange(64) // 32).view(1, 1, 1, 64)
    maps = PNRISE(detector).attribute(
        x, target=targets, feature_mask=halves, estimator="field", n_masks=6
    )
    # The field sums to the score of the image minus that of the black one.
    with torch.no_grad():
        black = detector(torch.zeros_like(x))
    expected = [float(t(f) - t(b)) for t, f, b in zip(targets, found, black)]
    sums = maps.sum((1, 2, 3)).tolist()
    assert sums == pytest.approx(expected, abs=1e-4) and min(map(abs, sums)) > 0.01
    # Boxes of every scale depend on the first layer.
    layer = detector.backbone.features[0]
    maps = LayerGradCamPlusPlus(detector, layer).attribute(x, target=targets)
    assert maps.shape == (2, 1, 20, 20) and (maps.flatten(1).abs().amax(1) > 0).all()


def test_errors_of_a_detector(detector):
    x, layer = images(2, 64), detector.backbone.features[1]
    target = DetectionTarget([0, 0, 32, 32], 1)
    for call in (
        lambda: PNRISE(detector).attribute(x, target=1, n_masks=4),
        lambda: LayerGradCamPlusPlus(detector, layer).attribute(x),
    ):
        with pytest.raises(TypeError, match=r"DetectionTarget\(box, label\)"):
            call()
    with pytest.raises(TypeError, match="layer must return a tensor .* OrderedDict"):
        LayerGradCamPlusPlus(detector, detector.backbone).attribute(x, target=target)
    for given in (target, [target, target]):
        with pytest.raises(ValueError, match="must not be a DetectionTarget"):
            LayerCAMERAS(detector, layer).attribute(x, target=given)


def test_segmentation(segmenter):
    x = images(1, 64)
    with torch.no_grad():
        scores = segmenter(x)["out"][0]
    mask = scores.argmax(0) == 1
    target = SegmentationTarget(1, mask)
    assert target(segmenter(x)).item() == pytest.approx(float(scores[1][mask].sum()))
    expected_of = {
        "target": (segmenter, target),
        "wrapper": (lambda x: (segmenter(x)["out"][:, 1] * mask).sum((1, 2)), None),
    }
    layer = segmenter.backbone["16"]
    for explain in (
        lambda f, t: PNRISE(f).attribute(x, target=t, n_masks=8),
        lambda f, t: MCRISE(f).attribute(x, torch.zeros(1, 3), target=t, n_masks=8),
        lambda f, t: BOREx(f).attribute(x, target=t, n_iterations=2),
        lambda f, t: LayerGradCamPlusPlus(f, layer).attribute(x, target=t),
        lambda f, t: metrics.insertion(f, x, x, target=t, n_steps=4),
    ):
        found, expected = (explain(*each) for each in expected_of.values())
        torch.testing.assert_close(found, expected)
        assert found.abs().max() > 0
    with pytest.raises(ValueError, match=r"SegmentationTarget\(category, mask\)"):
        PNRISE(segmenter).attribute(x, target=1, n_masks=4)
    with pytest.raises(ValueError, match="mask of the output's size"):
        PNRISE(segmenter).attribute(
            x, target=SegmentationTarget(1, torch.ones(32, 32)), n_masks=4
        )


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    transformers = pytest.importorskip(
        "transformers", reason="the package transformers is not installed"
    )
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    config = transformers.ViTConfig(
        image_size=16, patch_size=4, num_attention_heads=2, num_labels=3, **sizes
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.ViTForImageClassification(config).eval()
    # Weights of a new network are so small that all scores are about equal.
    for parameter in model.parameters():
        parameter.data *= 8
    return model


def of_vit(vit: nn.Module):
    x = images(2, 16)
    patches = vit.vit.embeddings.patch_embeddings.projection
    last = [m for m in vit.modules() if isinstance(m, nn.LayerNorm)][-3]
    tokens = {"reshape_transform": maps_of_tokens}
    yield lambda f: RISE(f).attribute(x, target=1, n_masks=8)
    yield lambda f: PNRISE(f).attribute(x, target=[1, 2], n_masks=8)
    yield lambda f: MCRISE(f).attribute(x, torch.zeros(1, 3), target=-1, n_masks=8)
    yield lambda f: BOREx(f).attribute(x, target=1, n_iterations=3)
    yield lambda f: LayerGradCamPlusPlus(f, patches).attribute(x, target=1)
    yield lambda f: LayerGradCamPlusPlus(f, last).attribute(x, target=1, **tokens)
    yield lambda f: LayerCAMERAS(f, last).attribute(x, target=1, n_steps=1, **tokens)
    yield lambda f: metrics.insertion(f, x, x, target=1, n_steps=4)
    yield lambda f: metrics.deletion(f, x, x, target=1, n_steps=4)


def test_transformer(vit):
    """The same maps from a ModelOutput as from its logits."""
    for call in of_vit(vit):
        found = call(vit)
        torch.testing.assert_close(found, call(lambda x: vit(x).logits))
        assert found.abs().max() > 0

    def probabilities(x: Tensor) -> dict[str, Tensor]:
        return {"logits": vit(x).logits.softmax(1), "all": vit(x).logits}

    x = images(2, 16)
    for explain in (
        lambda f: IterativeMask(f).attribute(x, target=1, n_steps=2),
        lambda f: metrics.positive_map_density(f, x, x, target=1),
        lambda f: metrics.enhanced_pgd(f, x, x, step_num=2),
    ):
        torch.testing.assert_close(
            explain(probabilities), explain(lambda x: probabilities(x)["logits"])
        )


def test_embeddings_of_a_transformer(vit):
    x = images(2, 16)
    with torch.no_grad():
        reference = vit.vit(x).last_hidden_state[0, 0]
    # Without a pooling layer the hidden states are the only floating tensor.
    target = SimilarityTarget(reference)

    def token(x: Tensor) -> Tensor:
        return vit.vit(x).last_hidden_state[:, 0]

    assert target(token(x))[0].item() == pytest.approx(1.0)
    found = PNRISE(token).attribute(x, target=target, n_masks=8)
    cosine = nn.CosineSimilarity()
    expected = PNRISE(lambda x: cosine(token(x), reference[None])).attribute(
        x, n_masks=8
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_keys_of_a_transformer_are_named(vit):
    def states(x: Tensor) -> object:
        return vit(x, output_hidden_states=True)

    x = images(1, 16)
    assert PNRISE(states).attribute(x, target=1, n_masks=4).shape == x.shape

    def without_logits(x: Tensor) -> object:
        output = vit.vit(x)
        output["pooled"] = output.last_hidden_state[:, 0]
        return output

    message = r"with last_hidden_state, pooled: .*model\(x\)\['last_hidden_state'\]"
    with pytest.raises(TypeError, match=message):
        PNRISE(without_logits).attribute(x, target=1, n_masks=4)


class OneLogit(nn.Module):
    """A binary classifier (B,) in an output object."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.conv(x).relu().mean((1, 2, 3)) - 0.1}


METHODS_OF_IMAGES = [
    name for name in METHODS if name not in ("masking-model", "mc-rise")
]


@pytest.mark.parametrize("name", METHODS_OF_IMAGES)
def test_methods_by_name_explain_output_objects(name):
    """Captum's methods too, which know only tensors."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = OneLogit().eval()
    method = METHODS[name]
    quick = {"n_masks": 40, "n_iterations": 5, "n_steps": 2}
    options = {k: v for k, v in quick.items() if k in method.options()}
    maps = method.attribute(of(net), **options)
    assert maps.abs().max() > 0 and torch.isfinite(maps).all()

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)["logits"][:, None]

    expected = method.attribute(of(Plain().eval()), **options)
    torch.testing.assert_close(maps, expected)


def of(model: nn.Module):
    entry = ZooModel(model, None, ("present",), (0.5,) * 3, (0.25,) * 3)
    return build_subject(entry, images(1, 16)[0], parts=("layer", "model"))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.flat = nn.Conv2d(3, 4, 3), nn.Flatten()
        self.head = nn.Linear(4 * 6 * 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flat(self.conv(x)))


def without_gradients(kind: str) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = Small().eval()
        if kind == "scripted":
            return torch.jit.script(net)
        if kind == "traced":
            return torch.jit.trace(net, images(1, 8))
        return torch.ao.quantization.quantize_dynamic(net, {nn.Linear})


@pytest.mark.parametrize("kind", ["scripted", "traced", "quantized"])
def test_layers_without_gradients(kind):
    model, x = without_gradients(kind), images(2, 8)
    message = f"got a {kind.replace('traced', 'scripted')} one: use PNRISE"
    for method in (LayerCAMERAS, LayerGradCamPlusPlus):
        for forward_func in (model, lambda x: model(x)):
            if forward_func is not model and kind == "quantized":
                continue  # A function hides the model; the layer is not quantized.
            with pytest.raises(ValueError, match=message):
                method(forward_func, model.conv).attribute(x, target=1)
    entry = ZooModel(model, None, ("a", "b", "c"), (0.5,) * 3, (0.25,) * 3)
    with pytest.raises(ValueError, match=message):
        build_subject(entry, x[0], parts=("model", "layer"))
    maps = PNRISE(model).attribute(x, target=1, n_masks=8)
    assert maps.shape == x.shape and maps.abs().max() > 0


def test_score_without_a_gradient_names_pn_rise():
    net, x = Small(), images(2, 8)
    with pytest.raises(ValueError, match="without a gradient: .* use PNRISE"):
        LayerGradCamPlusPlus(lambda x: net(x).detach(), net.conv).attribute(x, 1)
