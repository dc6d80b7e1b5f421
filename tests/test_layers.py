"""Layer attributions against explicit loops, Captum and closed forms."""

import math

import captum.attr
import pytest
import torch
import torchvision
from captum.attr import Attribution, LayerAttribution, LayerGradientXActivation
from contract import AttributionContract
from torch import Tensor, nn
from torch.nn import functional as F

from captum_ext.attr import (
    LayerCAMERAS,
    LayerGradCamPlusPlus,
    last_map_layer,
    maps_of_channels_last,
    maps_of_tokens,
)
from captum_ext.attr.grad_cam import LayerGradCam
from captum_ext.attr.grad_cam_plus_plus import channel_weights
from captum_ext.attr.image_sizes import resolutions
from captum_ext.attr.layers import evaluate_layer
from captum_ext.attr.map_fusion import fused_map, unit_range


class LayerContract(AttributionContract):
    input_shaped = {"input_shaped": True}


class TestContractOfCAMERAS(LayerContract):
    # With a ReLU the maps of some of the test images would be nearly zero.
    kwargs = {"max_size": (40, 44), "n_steps": 3, "relu_attributions": False}

    def explainer(self, forward_func, net) -> Attribution:
        return LayerCAMERAS(forward_func, net.relu)

    def output_shape(self, inputs):
        return torch.Size([len(inputs), 1, *inputs.shape[2:]])


class TestContractOfGradCamPlusPlus(LayerContract):
    def explainer(self, forward_func, net) -> Attribution:
        return LayerGradCamPlusPlus(forward_func, net.relu)

    def output_shape(self, inputs):
        return torch.Size([len(inputs), 1, *inputs.shape[2:]])


class Net(nn.Module):
    """Strided maps, an in-place operation after the layer, and a nonlinear head, whose
    gradients differ between positions."""

    def __init__(self, relu: bool = True) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.stem = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1, bias=False), nn.Tanh())
            self.layer = nn.Conv2d(5, 7, 3, 2, 1, bias=False)
            self.act = nn.ReLU(inplace=True) if relu else nn.Identity()
            self.head = nn.Conv2d(7, 6, 3, padding=1, bias=False)
            self.out = nn.Linear(6, 4, bias=False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        h = self.head(self.act(self.layer(self.stem(x))))
        return self.out(torch.tanh(h).mean((2, 3)))


def up(maps: Tensor, size, mode: str = "bilinear") -> Tensor:
    return F.interpolate(maps, size, mode=mode)


def slow_cameras(net, layer, x, target, sizes, mode="bilinear") -> Tensor:
    """Algorithm 1 for one image (1, C, H, W), one size after the other."""
    size = x.shape[2:]
    label = net(x).argmax()
    A_bar = W_bar = n = 0
    for zeta in sizes:
        held = []
        handle = layer.register_forward_hook(
            lambda m, i, out, held=held: held.append(out) or out.clone()
        )
        output = net(up(x, zeta, mode))
        handle.remove()
        (W,) = torch.autograd.grad(output[0, target], held[0])
        if output.argmax() == label:
            A_bar = A_bar + up(held[0].detach(), size, mode)
            W_bar = W_bar + up(W, size, mode)
            n += 1
    psi = F.relu((A_bar / n * (W_bar / n)).sum(1, keepdim=True))
    if psi.max() == psi.min():
        return torch.zeros_like(psi)
    return (psi - psi.min()) / (psi.max() - psi.min())


def noise(n: int, size=(20, 26), seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, *size, generator=generator)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("size", [(20, 20), (20, 26)], ids=["square", "wide"])
def test_cameras_is_algorithm_1(size, mode):
    """Six images whose predictions change at some sizes only."""
    net, x = Net(relu=False), noise(6, size, seed=2)
    sizes = resolutions(size, (60, 60), 4)
    predictions = torch.stack([net(up(x, s, mode)).argmax(1) for s in sizes], 1)
    kept = (predictions == predictions[:, :1]).tolist()
    assert len({tuple(each) for each in kept}) > 1
    maps = LayerCAMERAS(net, net.layer).attribute(
        x,
        [0, 1, 2, 3, 0, 1],
        max_size=(60, 60),
        n_steps=4,
        sizes="paper",
        interpolate_mode=mode,
    )
    for i, example in enumerate(x):
        expected = slow_cameras(
            net,
            net.layer,
            example[None],
            i % 4,
            sizes,
            mode,
        )
        torch.testing.assert_close(maps[i : i + 1], expected, atol=1e-5, rtol=1e-4)


class Pooled(nn.Module):
    """A head that pools, so that gradients are equal at all positions."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(4)
            self.features = nn.Sequential(nn.Conv2d(3, 9, 3, 2, 1), nn.Tanh())
            self.out = nn.Linear(9, 4)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.features(x).mean((2, 3)))


@pytest.mark.parametrize(
    "net, name, mode, at_input",
    [
        (Pooled(), "features", "bilinear", False),
        (Pooled(), "features", "bicubic", False),
        (Net(), "layer", "nearest", False),
        (Net(), "act", "nearest", True),
    ],
)
def test_one_step_is_gradient_times_activation(net, name, mode, at_input):
    """Interpolation and product commute if gradients are constant within a cell."""
    x, layer = noise(3, (24, 32)), net.get_submodule(name)
    product = LayerGradientXActivation(net, layer).attribute(
        x, 1, attribute_to_layer_input=at_input
    )
    summed = up(product.sum(1, keepdim=True), x.shape[2:], mode).detach()
    options = {"interpolate_mode": mode, "attribute_to_layer_input": at_input}
    cameras = LayerCAMERAS(net, layer)
    maps = cameras.attribute(x, 1, n_steps=1, **options)
    torch.testing.assert_close(maps, unit_range(F.relu(summed)), atol=1e-5, rtol=0)
    raw = cameras.attribute(x, 1, n_steps=1, normalize=False, **options)
    torch.testing.assert_close(raw, F.relu(summed), atol=1e-6, rtol=1e-5)
    signed = cameras.attribute(
        x, 1, n_steps=1, normalize=False, relu_attributions=False, **options
    )
    assert (signed < 0).any()
    torch.testing.assert_close(signed, summed, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize(
    "shapes, size",
    [
        ([(3, 4), (5, 7)], (20, 9)),
        ([(7, 5)], (224, 100)),
        ([(2, 1), (30, 40), (9, 9)], (60, 75)),
        ([(40, 50), (3, 3)], (8, 11)),
    ],
    ids=["one tile", "tiles of the largest side", "several maps", "fewer pixels"],
)
def test_fusion(shapes, size, mode):
    """Like maps that are interpolated to all pixels; tiles may end beyond the last."""
    generator = torch.Generator().manual_seed(1)
    A, W = ([torch.randn(6, *n, generator=generator) for n in shapes] for _ in range(2))
    A_bar, W_bar = (sum(up(x[None], size, mode) for x in xs) / len(xs) for xs in (A, W))
    expected = (A_bar * W_bar).sum(1)[0]
    torch.testing.assert_close(
        fused_map(A, W, size, mode), expected, atol=1e-4, rtol=1e-4
    )


def test_number_of_tiles_at_once_never_matters(monkeypatch):
    A, W = ([noise(1, (n, n), seed=n + i)[0] for n in (4, 9)] for i in (0, 1))
    expected = fused_map(A, W, (90, 61))
    monkeypatch.setattr("captum_ext.attr.map_fusion._PIECE", 1)
    torch.testing.assert_close(fused_map(A, W, (90, 61)), expected)


def test_sizes_of_an_image():
    assert resolutions((224, 224), (1000, 1000), 7) == [
        (n, n) for n in (224, 353, 483, 612, 741, 871, 1000)
    ]
    assert resolutions((10, 30), (20, 20), 3) == [(10, 30), (15, 30), (20, 30)]
    assert resolutions((10, 10), (10, 10), 5) == [(10, 10)]
    assert resolutions((10, 10), (90, 90), 1) == [(10, 10)]


def sizes_seen(x, **options):
    seen = []
    net = Net()

    def recording(x: Tensor) -> Tensor:
        seen.append(tuple(x.shape[2:]))
        return net(x)

    LayerCAMERAS(recording, net.layer).attribute(x, 0, **options)
    return seen


@pytest.mark.parametrize(
    "options, expected",
    [
        (
            {"sizes": "paper", "max_size": 60, "n_steps": 3},
            [(20, 30), (30, 45), (40, 60)],
        ),
        ({"sizes": "paper", "max_size": (30, 40), "n_steps": 2}, [(20, 30), (30, 40)]),
        ({"sizes": "paper", "max_size": (30, 10), "n_steps": 2}, [(20, 30), (30, 30)]),
        ({"sizes": "paper", "max_size": 12}, [(20, 30)]),
        ({"max_size": 12}, [(20, 30)]),
        ({"sizes": [(16, 24), 60, (20, 30)]}, [(20, 30), (16, 24), (40, 60)]),
        ({"sizes": []}, [(20, 30)]),
    ],
)
def test_sizes_of_the_model_inputs(options, expected):
    assert sizes_seen(noise(1, (20, 30)), **options) == expected


def test_size_counts_if_the_prediction_stays_the_same():
    """A size that changes the prediction of an example is ignored."""
    net = Net()

    def changing(x: Tensor) -> Tensor:
        output = net(x)
        if x.shape[2] > 20:
            output = output + 100 * F.one_hot(1 - first, 4) * moved[:, None]
        return output

    x = noise(2)
    first = torch.tensor([0, 1])
    forced = 50 * F.one_hot(first, 4)

    def forward(x: Tensor) -> Tensor:
        return changing(x) + forced

    moved = torch.tensor([1, 0])
    cameras = LayerCAMERAS(forward, net.layer)
    both = cameras.attribute(x, 2, sizes=[50], normalize=False)
    moved = torch.tensor([0, 0])
    unmoved = cameras.attribute(x, 2, sizes=[50], normalize=False)
    one = cameras.attribute(x, 2, n_steps=1, normalize=False)
    torch.testing.assert_close(both[0], one[0])
    torch.testing.assert_close(both[1], unmoved[1])
    assert not torch.allclose(both[1], one[1])


def test_every_size_counts_for_one_number_per_example():
    net, x = Net(), noise(2)
    scores = LayerCAMERAS(lambda x: net(x)[:, 1], net.layer)
    expected = torch.cat(
        [
            slow_cameras(lambda x: net(x)[:, 1:2], net.layer, e[None], 0, sizes)
            for e in x
            for sizes in [resolutions((20, 26), (50, 50), 3)]
        ]
    )
    options = {"sizes": "paper", "max_size": (50, 50), "n_steps": 3}
    maps = scores.attribute(x, **options)
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-4)
    scalar = LayerCAMERAS(lambda x: net(x)[:, 1].sum(), net.layer)
    alone = scalar.attribute(x[:1], **options)
    torch.testing.assert_close(alone, expected[:1], atol=1e-5, rtol=1e-4)


def test_map_is_zero_without_positive_contributions():
    net = Pooled()
    net.features[1] = nn.Sigmoid()
    with torch.no_grad():
        net.out.weight.copy_(-net.out.weight.abs())
    negative = "zero for 2 of 2 examples: all evidence at the layer is negative"
    for method, options in (
        (LayerCAMERAS, {"max_size": 40}),
        (LayerGradCamPlusPlus, {}),
        (LayerGradCam, {"relu_attributions": True}),
    ):
        with pytest.warns(UserWarning, match=negative):
            maps = method(net, net.features).attribute(noise(2), 0, **options)
        assert (maps == 0).all()
    with torch.no_grad():
        net.out.weight.zero_()
    for method, options in ((LayerCAMERAS, {"n_steps": 1}), (LayerGradCamPlusPlus, {})):
        with pytest.warns(UserWarning, match="the gradient of the score .* is zero"):
            maps = method(net, net.features).attribute(noise(2), 0, **options)
        assert (maps == 0).all()


def test_reasons_of_zero_maps_are_counted_by_example():
    """One map with evidence, one with negative evidence, one without activations."""
    net = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(3, 1, bias=False))
    net[2].weight.data.fill_(1.0)
    x = torch.tensor([1.0, 1.0, -1.0]).view(3, 1, 1, 1).expand(3, 3, 1, 1)
    signs = torch.tensor([1.0, -1.0, 1.0])
    explainer = LayerGradCamPlusPlus(lambda x: net(x)[:, 0] * signs, net[0])
    with pytest.warns(UserWarning) as caught:
        maps = explainer.attribute(x, relu_attributions=True)
    assert (maps.flatten(1).sum(1) > 0).tolist() == [True, False, False]
    texts = [str(each.message) for each in caught]
    assert len(texts) == 2 and all("1 of 3 examples" in text for text in texts)
    assert "activations of the layer are zero" in texts[0]
    assert "negative" in texts[1]
    # The line of the caller is named.
    assert {each.filename for each in caught} == {__file__}


def test_cameras_warns_of_one_size_and_of_constant_maps():
    net, x = Net(), noise(2)

    def changing(x: Tensor) -> Tensor:
        moved = torch.tensor([1.0, 0.0])[:, None] * (x.shape[2] > 20)
        output = net(x)
        return output + 100 * F.one_hot(output.argmin(1), 4) * moved

    with pytest.warns(UserWarning, match="one size for 1 of 2 examples"):
        LayerCAMERAS(changing, net.layer).attribute(x, 2, sizes=[35, 50])
    one = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Sigmoid(), nn.Flatten(), nn.Linear(3, 1)
    )
    one[3].weight.data.fill_(1.0)
    with pytest.warns(UserWarning, match="zero for 2 of 2 .* the same at all pixels"):
        LayerCAMERAS(one, one[1]).attribute(x, 0, n_steps=1)


def test_grad_cam_is_captums():
    net, x = Net(), noise(3)
    for name, options in (
        ("layer", {}),
        ("layer", {"relu_attributions": True}),
        ("act", {"attribute_to_layer_input": True, "attr_dim_summation": False}),
        ("out", {}),
    ):
        layer = net.get_submodule(name)
        expected = captum.attr.LayerGradCam(net, layer).attribute(x, 1, **options)
        maps = LayerGradCam(net, layer).attribute(x, 1, **options)
        torch.testing.assert_close(maps, expected.detach())


@pytest.mark.parametrize("method", [LayerCAMERAS, LayerGradCamPlusPlus, LayerGradCam])
def test_layers_that_need_a_transform_say_which(method):
    x = noise(2, (24, 24))
    for tokens, name in ((True, "maps_of_tokens"), (False, "maps_of_channels_last")):
        net = Layered(tokens)
        with pytest.raises(ValueError, match=f"^reshape_transform must .*{name}, got"):
            method(net, net.rearrange).attribute(x, 1)


@pytest.mark.parametrize("method", [LayerCAMERAS, LayerGradCamPlusPlus, LayerGradCam])
def test_few_channels_are_not_taken_for_rows(method):
    """6 channels of 8 x 10 positions: 6 / 8 is exactly the ratio of 15 x 20 pixels."""
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)
    )
    assert method(net, net[0]).attribute(noise(1, (15, 20)), 1).shape[1] == 1


def slow_grad_cam_plus_plus(A: Tensor, g: Tensor) -> Tensor:
    """The closed form in Python floats, for A and g of shape (C, n)."""
    channels = []
    for A_k, g_k in zip(A.tolist(), g.tolist()):
        w = 0.0
        for g_ij in g_k:
            if g_ij > 0:
                alpha = g_ij**2 / (2 * g_ij**2 + sum(A_k) * g_ij**3)
                w += alpha * max(g_ij, 0.0)
        channels.append([w * a for a in A_k])
    return torch.tensor(channels).sum(0)


@pytest.mark.parametrize("scale", [1.0, 1e-20], ids=["usual", "tiny"])
@pytest.mark.parametrize("shape", [(5, 3, 4), (5, 2, 3, 4), (5,), (5, 6)])
def test_grad_cam_plus_plus_is_the_closed_form(shape, scale):
    """Images, video, vectors and sequences; gradients whose squares underflow."""
    generator = torch.Generator().manual_seed(0)
    A = torch.rand(2, *shape, generator=generator)
    g = torch.randn(2, *shape, generator=generator)
    g[g.abs() < 0.2] = 0
    maps = (channel_weights(A, scale * g) * A).sum(1) / scale
    for i in range(2):
        flat = (x[i].double().reshape(shape[0], -1) for x in (A, g))
        A_i, g_i = flat
        expected = slow_grad_cam_plus_plus(A_i, scale * g_i) / scale
        torch.testing.assert_close(
            maps[i].flatten(), expected.float(), atol=1e-6, rtol=1e-4
        )


def test_video():
    class Video(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(3, 6, 3, padding=1)
            self.pool = nn.AvgPool3d((1, 2, 2))
            self.out = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.tanh(self.pool(self.conv(x).relu())).sum((2, 3, 4)))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Video()
        x = torch.rand(2, 3, 4, 8, 10)
    explainer = LayerGradCamPlusPlus(net, net.pool)
    maps = explainer.attribute(x, [0, 2])
    assert maps.shape == (2, 1, 4, 4, 5)
    A, g, _ = evaluate_layer(net, net.pool, (x,), [0, 2])
    for i in range(2):
        flat = slow_grad_cam_plus_plus(A[0][i].flatten(1), g[0][i].flatten(1))
        torch.testing.assert_close(maps[i].flatten(), flat, atol=1e-5, rtol=1e-4)
    shaped = explainer.attribute(x, [0, 2], input_shaped=True)
    assert shaped.shape == x.shape
    expected = up(maps, x.shape[2:], "trilinear").expand_as(x)
    torch.testing.assert_close(shaped, expected)


def test_arguments_of_captums_grad_cam():
    net, x = Net(), noise(2)
    explainer = LayerGradCamPlusPlus(net, net.layer)
    maps = explainer.attribute(x, 1)
    assert (maps < 0).any()
    torch.testing.assert_close(
        explainer.attribute(x, 1, relu_attributions=True), F.relu(maps)
    )
    channels = explainer.attribute(x, 1, attr_dim_summation=False)
    assert channels.shape[1] == 7
    torch.testing.assert_close(channels.sum(1, keepdim=True), maps)
    at_input = LayerGradCamPlusPlus(net, net.act).attribute(
        x, 1, attribute_to_layer_input=True
    )
    torch.testing.assert_close(at_input, maps)
    bigger = LayerAttribution.interpolate(maps, (20, 26), "bilinear")
    shaped = explainer.attribute(x, 1, input_shaped=True)
    torch.testing.assert_close(shaped, bigger.expand_as(x))


def test_gradients_stop_at_the_layer():
    """No graph is built before it, even if parameters and inputs require gradients."""
    net, x = Net(), noise(2).requires_grad_()
    graphs = {}
    for name in ("stem", "layer", "head"):
        net.get_submodule(name).register_forward_hook(
            lambda module, _, output, name=name: graphs.update(
                {name: output.grad_fn is not None}
            )
        )
    A, g, output = evaluate_layer(net, net.layer, (x,), 1)
    assert graphs == {"stem": False, "layer": False, "head": True}
    assert not any(t.requires_grad for t in (*A, *g, output))
    assert x.grad is None and all(p.grad is None for p in net.parameters())
    h = net.layer(net.stem(x)).detach().requires_grad_()
    score = net.out(torch.tanh(net.head(h.relu())).mean((2, 3)))[:, 1].sum()
    (expected,) = torch.autograd.grad(score, h)
    torch.testing.assert_close(g[0], expected)
    torch.testing.assert_close(A[0], h.detach())


def test_input_of_the_layer_is_left_unchanged():
    net, x = Net(), noise(1)
    LayerGradCamPlusPlus(net, net.stem).attribute(x, 1, attribute_to_layer_input=True)
    assert not x.requires_grad


@pytest.mark.parametrize("method", [LayerCAMERAS, LayerGradCamPlusPlus])
def test_no_hook_is_left_by_an_exception_after_the_layer(method):
    net = Net()
    net.head.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        method(net, net.layer).attribute(noise(1), 1)
    for name, module in net.named_modules():
        assert len(module._forward_hooks) == (name == "head")
        assert not module._forward_pre_hooks
    assert torch.is_grad_enabled()


class Layered(nn.Module):
    """Channels-last maps, or tokens after a class token, of any size."""

    def __init__(self, tokens: bool) -> None:
        super().__init__()
        self.tokens = tokens
        self.net = Net(relu=False)
        self.rearrange = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.net.layer(self.net.stem(x)).movedim(1, -1)
        shape = h.shape
        if self.tokens:
            h = torch.cat([h[:, :1, 0], h.flatten(1, 2)], 1)
        h = self.rearrange(h)
        if self.tokens:
            h = h[:, 1:].reshape(shape)
        h = self.net.head(h.movedim(-1, 1))
        return self.net.out(torch.tanh(h).mean((2, 3)))


@pytest.mark.parametrize("tokens", [False, True], ids=["channels last", "tokens"])
@pytest.mark.parametrize("method", [LayerCAMERAS, LayerGradCamPlusPlus])
def test_reshape_transform(method, tokens):
    net, x = Layered(tokens), noise(2, (24, 24))
    options = {"max_size": 48, "n_steps": 3} if method is LayerCAMERAS else {}
    plain = method(net.net, net.net.layer).attribute(x, 1, **options)
    reshape = maps_of_tokens if tokens else maps_of_channels_last
    maps = method(net, net.rearrange).attribute(
        x, 1, reshape_transform=reshape, **options
    )
    torch.testing.assert_close(maps, plain, atol=1e-6, rtol=1e-5)


def test_swin():
    """Channels last, images of any size."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        swin = torchvision.models.swin_t().eval()
    name, layer, reshape, _ = last_map_layer(swin, noise(1, (64, 64)))
    assert name == "permute" and reshape is None
    for method, options in (
        (LayerCAMERAS, {"max_size": 96, "n_steps": 2, "normalize": False}),
        (LayerGradCamPlusPlus, {}),
    ):
        permuted = method(swin, layer).attribute(noise(1, (64, 64)), 3, **options)
        maps = method(swin, swin.norm).attribute(
            noise(1, (64, 64)), 3, reshape_transform=maps_of_channels_last, **options
        )
        torch.testing.assert_close(maps, permuted)
        assert maps.abs().max() > 0


def test_vit():
    """Tokens, one image size: Grad-CAM++ works, the error of CAMERAS suggests it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vit = torchvision.models.vit_b_16().eval()
        vit.heads.head.weight.data.normal_()
    x = noise(1, (224, 224))
    name, layer, reshape, _ = last_map_layer(vit, x)
    assert name == "encoder.layers.encoder_layer_10"
    assert reshape.keywords == {"n_prefix": 1}
    plus = LayerGradCamPlusPlus(vit, layer).attribute(
        x, 5, reshape_transform=maps_of_tokens
    )
    assert plus.shape == (1, 1, 14, 14) and plus.std() > 0
    with pytest.raises(ValueError, match="1000 x 1000 pixels .*LayerGradCamPlusPlus"):
        LayerCAMERAS(vit, layer).attribute(
            x, 5, n_steps=2, sizes="paper", reshape_transform=maps_of_tokens
        )


class FixedHead(nn.Module):
    def __init__(self, view: tuple[int, ...]) -> None:
        super().__init__()
        self.conv, self.view = nn.Conv2d(3, 2, 3, padding=1), view
        self.out = nn.Linear(2 * 8 * 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.conv(x).reshape(self.view or (len(x), -1)))


@pytest.mark.parametrize(
    "view, reason",
    [((), "shapes cannot be multiplied"), ((-1, 128), "one number for each")],
    ids=["flattened head", "another batch"],
)
def test_size_that_the_model_refuses_is_named(view, reason):
    net = FixedHead(view)
    with pytest.raises(ValueError, match=rf"16 x 16 pixels .*{reason}.*sizes .*\.$"):
        LayerCAMERAS(net, net.conv).attribute(noise(2, (8, 8)), 1, sizes=[16])
    one = LayerCAMERAS(net, net.conv).attribute(noise(2, (8, 8)), 1, n_steps=1)
    assert one.shape == (2, 1, 8, 8)


def test_outputs_must_keep_their_shape():
    net = Net()

    def dense(x: Tensor) -> Tensor:
        return net.layer(net.stem(x))

    with pytest.raises(ValueError, match="one shape at all sizes"):
        LayerCAMERAS(dense, net.layer).attribute(
            noise(1), (1, 0, 0), max_size=40, n_steps=2
        )


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.unused = Net(), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).detach()


NET = Net()
BAD = [
    ({"inputs": torch.full((1, 3, 20, 20), math.nan)}, ValueError, "finite"),
    ({"inputs": noise(1)[0]}, ValueError, "one tensor of images"),
    ({"inputs": (noise(1), noise(1))}, ValueError, "additional_forward_args"),
    ({"inputs": torch.ones(1, 3, 9, 9, dtype=torch.int32)}, TypeError, "int32"),
    ({"target": [0, 1]}, ValueError, "one index for each of the 1 examples"),
    ({"target": 99}, ValueError, "target must select"),
    ({"target": "cat"}, TypeError, "target"),
    ({"n_steps": 0}, ValueError, "n_steps must be at least 1, got 0"),
    ({"n_steps": 2.5}, TypeError, "n_steps must be an int"),
    ({"max_size": (40, 40, 40)}, ValueError, "max_size must be a height and a width"),
    ({"max_size": 0}, ValueError, "max_size must be at least 1"),
    ({"max_size": "large"}, TypeError, "max_size"),
    ({"sizes": 40}, TypeError, "sizes must be a sequence"),
    ({"interpolate_mode": "cubic"}, ValueError, "'bilinear', 'bicubic', 'nearest'"),
]


@pytest.mark.parametrize(
    "change, kind, message", BAD, ids=[str(b[0])[:30] for b in BAD]
)
def test_bad_input(change, kind, message):
    calls = []

    def counting(x: Tensor) -> Tensor:
        calls.append(1)
        return NET(x)

    arguments = {"inputs": noise(1), "target": 1, **change}
    with pytest.raises(kind, match=message) as raised:
        LayerCAMERAS(counting, NET.layer).attribute(**arguments)
    assert str(raised.value).endswith(".")
    # The number of classes is known only from the output.
    assert len(calls) == (change.get("target") == 99)


@pytest.mark.parametrize("method", [LayerCAMERAS, LayerGradCamPlusPlus])
@pytest.mark.parametrize(
    "forward_func, layer, message",
    [
        (NET, nn.ReLU(), "layer must be a module that forward_func calls, got ReLU"),
        (lambda x: NET(x).sum(0), NET.layer, "target must select|one number for each"),
        (lambda x: NET(x)[:1].sum(), NET.layer, "one number for each of the 2"),
        (lambda x: NET(x) * math.nan, NET.layer, "finite scores, got NaN"),
        (lambda x: NET(x).detach(), NET.layer, "layer must have a differentiable"),
        (lambda x: {"a": NET(x), "b": NET(x)}, NET.layer, r"dict with a, b: .*\['a'\]"),
    ],
)
def test_models_that_cannot_be_explained(method, forward_func, layer, message):
    target = None if "of the 2" in message else 1
    with pytest.raises((ValueError, TypeError), match=message):
        method(forward_func, layer).attribute(noise(2), target)


def test_layers_without_maps():
    with pytest.raises(ValueError, match=r"maps \(2, C, h, w\), got \(2, 4\)"):
        LayerCAMERAS(NET, NET.out).attribute(noise(2), 1, n_steps=1)
    with pytest.raises(ValueError, match="input_shaped must be False"):
        LayerGradCamPlusPlus(NET, NET.out).attribute(noise(2), 1, input_shaped=True)
