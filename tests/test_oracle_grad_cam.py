"""Grad-CAM++ against the package grad-cam, on a trained network."""

import os
from pathlib import Path

import pytest
import torch
from captum.attr import LayerAttribution
from PIL import Image

from captum_ext import zoo
from captum_ext.attr import LayerGradCamPlusPlus
from captum_ext.attr.cameras import unit_range

pytest.importorskip("pytorch_grad_cam")
from pytorch_grad_cam import GradCAMPlusPlus  # noqa: E402
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
