"""Grad-CAM++ and metrics against the package grad-cam."""

import importlib
import os
from pathlib import Path

import pytest
import torch
from captum.attr import LayerAttribution
from contract import SmallNet, images
from PIL import Image
from test_metrics import some_maps

from captum_ext import metrics, zoo
from captum_ext.attr import LayerGradCamPlusPlus, last_map_layer
from captum_ext.attr.map_fusion import unit_range
from captum_ext.metrics.pixel_maps import unit_maps
from captum_ext.metrics.road import impute, neighbor_differences

pytest.importorskip("pytorch_grad_cam")
from pytorch_grad_cam import (  # noqa: E402
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    RefineCAM,
)
from pytorch_grad_cam.metrics.cam_mult_image import (  # noqa: E402
    DropInConfidence,
    IncreaseInConfidence,
)
from pytorch_grad_cam.metrics.perturbation_confidence import (  # noqa: E402
    PerturbationConfidenceMetric,
    RemoveLeastRelevantFirst,
    RemoveMostRelevantFirst,
)
from pytorch_grad_cam.metrics.road import NoisyLinearImputer  # noqa: E402
from pytorch_grad_cam.utils.model_targets import (  # noqa: E402
    ClassifierOutputTarget,
)


def real_network():
    """A trained network and a photograph (1, 3, 224, 224)."""
    if "CAPTUM_EXT_DATA" not in os.environ:
        pytest.skip("CAPTUM_EXT_DATA is unset: no photographs and networks")
    data = Path(os.environ["CAPTUM_EXT_DATA"])
    entry = zoo.load("mobilenet_v2", data / "models" / "mobilenet_v2.pt")
    image = Image.open(min((data / "imagenet" / "images").iterdir()))
    return entry.model, entry.preprocess(image)[None]


class Scaled(torch.nn.Module):
    def __init__(self, model, factor):
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x):
        return self.factor * self.model(x)


@pytest.mark.parametrize(
    "factor, eps, agrees", [(1, 1e-6, True), (1000, 0, True), (1, 0, False)]
)
def test_grad_cam_plus_plus_of_grad_cam(factor, eps, agrees):
    """Their 1e-6 in the denominator matters unless gradients are a thousand times
    larger."""
    model, x = real_network()
    network, layer = Scaled(model, factor), model.features[-1]
    target = int(model(x).argmax())
    with GradCAMPlusPlus(network, [layer]) as peer:
        theirs = torch.from_numpy(peer(x, [ClassifierOutputTarget(target)]))
    ours = LayerGradCamPlusPlus(network, layer).attribute(
        x, target, relu_attributions=True, eps=eps
    )
    # They interpolate the normalized map.
    ours = LayerAttribution.interpolate(unit_range(ours), (224, 224), "bilinear")[0]
    difference = (unit_range(ours) - unit_range(theirs)).abs().max()
    assert (difference < 1e-4) == agrees


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_imputation_of_grad_cam(share):
    image = images()[0]
    missing = torch.rand(12, 14, generator=torch.Generator().manual_seed(2)) < share
    theirs = NoisyLinearImputer(noise=0)(image, (~missing).float())
    ours = impute(image, missing, neighbor_differences(12, 14))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


TARGETS = [ClassifierOutputTarget(i) for i in range(3)]


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    "metric, remove",
    [
        (metrics.road_most_relevant, RemoveMostRelevantFirst),
        (metrics.road_least_relevant, RemoveLeastRelevantFirst),
    ],
)
def test_road_of_grad_cam(metric, remove, fraction):
    """Without noise; their percentiles give the same numbers of pixels here."""
    net, x, maps = SmallNet(), images(), some_maps()
    removed = remove(100 * (1 - fraction), NoisyLinearImputer(noise=0))
    peer = PerturbationConfidenceMetric(removed)
    theirs = peer(x, maps[:, 0].numpy(), TARGETS, net, return_diff=False)
    ours = metric(net, x, maps, [0, 1, 2], fractions=[fraction], noise=0)
    torch.testing.assert_close(
        ours.float(), torch.from_numpy(theirs), atol=1e-6, rtol=0
    )


def test_confidence_change_of_grad_cam():
    """Theirs is the drop itself, ours is relative to the score."""
    net, x, maps = SmallNet(), images(), some_maps()
    S = unit_maps(maps)[:, 0, None].numpy()
    drop = torch.from_numpy(DropInConfidence()(x, S, TARGETS, net)).double()
    rise = torch.from_numpy(IncreaseInConfidence()(x, S, TARGETS, net)).double()
    with torch.no_grad():
        before = net(x).diagonal().double()
    args = net, x, maps, [0, 1, 2]
    torch.testing.assert_close(
        metrics.average_drop(*args) * before, drop, atol=1e-6, rtol=0
    )
    assert torch.equal(metrics.increase_in_confidence(*args), rise)


PACKAGED = {"layer_cam": LayerCAM, "hires_cam": HiResCAM, "refine_cam": RefineCAM}


@pytest.mark.parametrize("name", PACKAGED)
def test_class_activation_maps_of_the_benchmark(name, monkeypatch):
    """LayerCAM, HiResCAM and RefineCAM of ``benchmarks/cameras_quality.py``."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    quality = importlib.import_module("cameras_quality")
    with torch.random.fork_rng():
        torch.manual_seed(2)
        net = torch.nn.Sequential(
            torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3, 2, 1), torch.nn.Sigmoid()),
            torch.nn.Sequential(torch.nn.Conv2d(5, 6, 3, 2, 1), torch.nn.Sigmoid()),
            torch.nn.Flatten(),
            torch.nn.Linear(6 * 4 * 4, 3),
        )
    # Larger gradients, beside which the 1e-6 of their Grad-CAM++ does not count.
    net = Scaled(net, 1000)
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    last = last_map_layer(net, x)
    assert [each.name for each in last.stages] == ["model.0", "model.1"]
    subject = quality.Subject(net, last, last.layer, x, 1)
    layers = [each.layer for each in last.stages]
    arguments = [layers] if name == "refine_cam" else [layers[-1:]]
    package = PACKAGED[name](net, *arguments)
    theirs = torch.as_tensor(package(x, [ClassifierOutputTarget(1)]))
    ours = unit_range(quality.METHODS[name](subject))[0]
    torch.testing.assert_close(ours.detach(), theirs, atol=1e-3, rtol=0)
