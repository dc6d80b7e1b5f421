"""The code of Captum's tutorials, with classes of this package instead of Captum's.

Each test follows a part of TorchVision_Interpret, Resnet_TorchVision_Ablation or
CIFAR_TorchVision_Interpret on a small network. It runs with Captum's class and with
classes of this package; they differ only in arguments of their own, such as the windows
of Occlusion or the colors of MC-RISE, and in the number of forward passes.
"""

from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import (
    DeepLift,
    FeatureAblation,
    IntegratedGradients,
    LayerAttribution,
    LayerGradCam,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from captum.attr import visualization as viz
from matplotlib import pyplot as plt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

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
from captum_ext.masks import named_palette
from captum_ext.zoo import load, sign_scene

pytestmark = pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")

SIGNS, SCENE = load("signs"), sign_scene(seed=0)
PALETTE = named_palette(3, SIGNS.mean, SIGNS.std)
WINDOWS = {"strides": (3, 8, 8), "sliding_window_shapes": (3, 15, 15)}
COLORS = {"colors": PALETTE, "input_shaped": True, "n_masks": 200}


@pytest.fixture(autouse=True)
def pyplot():
    """Pyplot without a display, restored afterwards."""
    backend = plt.get_backend()
    plt.switch_backend("agg")
    yield
    plt.close("all")
    plt.switch_backend(backend)


class Cells(NamedTuple):
    """Variables that the first cells of TorchVision_Interpret define."""

    model: nn.Module
    transformed_img: Tensor
    input: Tensor
    pred_label_idx: Tensor


@pytest.fixture(scope="module")
def cells() -> Cells:
    img = to_pil_image(SCENE.image)
    transform = transforms.Compose(
        [transforms.Resize(96), transforms.CenterCrop(96), transforms.ToTensor()]
    )
    transformed_img = transform(img)
    input = transforms.Normalize(SIGNS.mean, SIGNS.std)(transformed_img).unsqueeze(0)
    output = F.softmax(SIGNS.model(input), dim=1)
    prediction_score, pred_label_idx = torch.topk(output, 1)
    pred_label_idx.squeeze_()
    assert pred_label_idx == SCENE.label and prediction_score > 0.9
    return Cells(SIGNS.model, transformed_img, input, pred_label_idx)


def channels_last(image: Tensor) -> np.ndarray:
    return np.transpose(image.squeeze().cpu().detach().numpy(), (1, 2, 0))


def assert_finds_the_sign(attributions: Tensor) -> None:
    """The map is larger on the sign than elsewhere, by a fifth of its range."""
    sign = SCENE.objects[0].mask
    flat = attributions[0].detach().mean(0)
    assert flat.isfinite().all()
    lead = flat[sign].mean() - flat[~sign].mean()
    assert lead > 0.2 * (flat.max() - flat.min())


@pytest.mark.parametrize(
    "method, own",
    [
        (Occlusion, {"baselines": 0, **WINDOWS}),
        (RISE, {"baselines": 0, "n_masks": 200}),
        (PNRISE, {"baselines": 0, "n_masks": 200}),
        (BOREx, {"baselines": 0, "n_iterations": 15}),
        (MCRISE, COLORS),
    ],
)
def test_occlusion_of_torchvision_interpret(method, own, cells):
    occlusion = method(cells.model)
    attributions_occ = occlusion.attribute(
        cells.input, target=cells.pred_label_idx, **own
    )
    figure, axes = viz.visualize_image_attr_multiple(
        channels_last(attributions_occ),
        channels_last(cells.transformed_img),
        ["original_image", "heat_map"],
        ["all", "positive"],
        show_colorbar=True,
        outlier_perc=2,
    )
    assert attributions_occ.shape == cells.input.shape
    assert_finds_the_sign(attributions_occ)
    assert isinstance(figure, Figure) and len(axes) == 2


@pytest.mark.parametrize("method", [IntegratedGradients, IterativeMask])
def test_integrated_gradients_of_torchvision_interpret(method, cells):
    # The iterative mask needs probabilities; integrated gradients supports them.
    model = nn.Sequential(cells.model, nn.Softmax(dim=1))
    integrated_gradients = method(model)
    attributions_ig = integrated_gradients.attribute(
        cells.input, target=cells.pred_label_idx, n_steps=20
    )
    default_cmap = LinearSegmentedColormap.from_list(
        "custom blue", [(0, "#ffffff"), (0.25, "#000000"), (1, "#000000")], N=256
    )
    figure, _ = viz.visualize_image_attr(
        channels_last(attributions_ig),
        channels_last(cells.transformed_img),
        method="heat_map",
        cmap=default_cmap,
        show_colorbar=True,
        sign="positive",
        outlier_perc=1,
    )
    assert attributions_ig.shape == cells.input.shape
    assert isinstance(figure, Figure)
    if method is IterativeMask:
        assert_finds_the_sign(attributions_ig)


@pytest.mark.parametrize(
    "method, own",
    [
        (Occlusion, {"baselines": 0, **WINDOWS}),
        (RISE, {"n_masks": 64}),
        (PNRISE, {"n_masks": 64}),
        (MCRISE, {**COLORS, "n_masks": 64}),
        (BOREx, {"n_iterations": 4}),
    ],
)
def test_noise_tunnel_of_torchvision_interpret(method, own, cells):
    noise_tunnel = NoiseTunnel(method(cells.model))
    attributions_nt = noise_tunnel.attribute(
        cells.input,
        nt_samples=2,
        nt_type="smoothgrad_sq",
        target=cells.pred_label_idx,
        **own,
    )
    viz.visualize_image_attr_multiple(
        channels_last(attributions_nt),
        channels_last(cells.transformed_img),
        ["original_image", "heat_map"],
        ["all", "positive"],
        show_colorbar=True,
    )
    assert attributions_nt.shape == cells.input.shape
    # Squares are not negative.
    assert attributions_nt.isfinite().all() and attributions_nt.min() >= 0


@pytest.mark.parametrize(
    "method, own",
    [
        (LayerGradCam, {}),
        (LayerGradCamPlusPlus, {}),
        (LayerCAMERAS, {"max_size": 240}),
    ],
)
def test_layer_grad_cam_of_the_vision_tutorial(method, own, cells):
    layer_gradcam = method(cells.model, cells.model.features)
    attributions_lgc = layer_gradcam.attribute(
        cells.input, target=cells.pred_label_idx, **own
    )
    viz.visualize_image_attr(
        attributions_lgc[0].cpu().permute(1, 2, 0).detach().numpy(),
        sign="all",
        title="Last features",
    )
    upsampled = LayerAttribution.interpolate(attributions_lgc, cells.input.shape[2:])
    figure, _ = viz.visualize_image_attr_multiple(
        upsampled[0].cpu().permute(1, 2, 0).detach().numpy(),
        cells.transformed_img.permute(1, 2, 0).numpy(),
        ["original_image", "blended_heat_map", "masked_image"],
        ["all", "positive", "positive"],
        show_colorbar=True,
        titles=["Original", "Positive Attribution", "Masked"],
        fig_size=(18, 6),
    )
    assert upsampled.shape == (1, 1, 96, 96)
    assert_finds_the_sign(upsampled)


@pytest.mark.parametrize(
    "method, own",
    [
        (FeatureAblation, {}),
        (RISE, {"n_masks": 64}),
        (PNRISE, {"n_masks": 64}),
        (MCRISE, COLORS),
    ],
)
def test_feature_ablation_of_resnet_torchvision_ablation(method, own, cells):
    # A segmentation with gaps in its labels, as in Pascal VOC.
    seg_mask = 255 * torch.ones(96, 96, dtype=torch.uint8)
    seg_mask[4:-4, 4:-4] = 0
    seg_mask[SCENE.objects[0].mask] = 5
    feature_mask = seg_mask.numpy().reshape(1, 1, 96, 96).astype(int)
    feature_mask[feature_mask == 5] = 1
    feature_mask[feature_mask == 255] = 2

    ablator = method(cells.model)
    attribution_map = ablator.attribute(
        cells.input,
        target=cells.pred_label_idx,
        feature_mask=torch.tensor(feature_mask),
        **own,
    )
    viz.visualize_image_attr(
        channels_last(attribution_map),
        method="heat_map",
        sign="all",
        show_colorbar=True,
    )
    assert attribution_map.shape == cells.input.shape
    regions = [attribution_map[0, 0][feature_mask[0, 0] == i] for i in range(3)]
    assert all(torch.equal(region, region[:1].expand_as(region)) for region in regions)
    background, sign, border = (float(region[0]) for region in regions)
    assert sign > max(background, border)


class Net(nn.Module):
    """A small network for images of 32 x 32 pixels, untrained."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
            self.fc1, self.fc2 = nn.Linear(16 * 5 * 5, 84), nn.Linear(84, 10)
        self.pool1, self.pool2 = nn.MaxPool2d(2, 2), nn.MaxPool2d(2, 2)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.relu2(self.conv2(x)))
        return self.fc2(self.relu3(self.fc1(x.view(-1, 16 * 5 * 5))))


@pytest.fixture
def loaded():
    """A batch of the data loader: four images in [-1, 1] and their labels."""
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return 2 * images - 1, torch.tensor([3, 8, 8, 0])


def attribute_image_features(net, algorithm, input, target, **kwargs):
    net.zero_grad()
    return algorithm.attribute(input, target=target, **kwargs)


def show(attributions, image, sign):
    original_image = np.transpose((image.cpu().detach().numpy() / 2) + 0.5, (1, 2, 0))
    return viz.visualize_image_attr(
        np.transpose(attributions.squeeze(0).cpu().detach().numpy(), (1, 2, 0)),
        original_image,
        method="blended_heat_map",
        sign=sign,
        show_colorbar=True,
        title="Overlayed",
    )


@pytest.mark.parametrize(
    "make, own",
    [
        (lambda net: Saliency(net), {}),
        (lambda net: IterativeMask(nn.Sequential(net, nn.Softmax(1))), {"n_steps": 10}),
        (lambda net: MaskingModel(MaskingNetwork(n_classes=10, width=8)), {}),
        (lambda net: RISE(net), {"n_masks": 64}),
        (lambda net: PNRISE(net), {"n_masks": 64}),
        (lambda net: BOREx(net), {"n_iterations": 4}),
    ],
    ids=["Saliency", "IterativeMask", "MaskingModel", "RISE", "PNRISE", "BOREx"],
)
def test_saliency_of_cifar_torchvision_interpret(make, own, loaded):
    net, (images, labels), ind = Net().eval(), loaded, 3
    input = images[ind].unsqueeze(0)
    input.requires_grad = True
    saliency = make(net)
    grads = saliency.attribute(input, target=labels[ind].item(), **own)
    figure, _ = show(grads, images[ind], "absolute_value")
    assert grads.shape == input.shape and grads.isfinite().all()
    assert isinstance(figure, Figure)


@pytest.mark.parametrize(
    "method, own",
    [
        (DeepLift, {}),
        (RISE, {"n_masks": 64}),
        (PNRISE, {"n_masks": 64}),
        (BOREx, {"n_iterations": 4}),
    ],
)
def test_deep_lift_of_cifar_torchvision_interpret(method, own, loaded):
    net, (images, labels), ind = Net().eval(), loaded, 3
    input = images[ind].unsqueeze(0)
    input.requires_grad = True
    attr_dl = attribute_image_features(
        net, method(net), input, labels[ind], baselines=input * 0, **own
    )
    figure, _ = show(attr_dl, images[ind], "all")
    assert attr_dl.shape == input.shape and attr_dl.isfinite().all()
    assert isinstance(figure, Figure)
