"""The layer with the last maps, of models with a known answer and of libraries."""

import importlib
from functools import partial

import pytest
import torch
import torchvision
from torch import Tensor, nn

from captum_ext.attr import (
    LayerCAMERAS,
    LayerGradCamPlusPlus,
    last_map_layer,
    maps_of_channels_last,
    maps_of_tokens,
)
from captum_ext.attr.grad_cam import LayerGradCam
from captum_ext.attr.map_layer import map_layer
from captum_ext.attr.reshape import token_grid
from captum_ext.cli import main
from captum_ext.commands.model_options import load_classifier
from captum_ext.methods import METHODS
from captum_ext.subject import build_subject
from captum_ext.zoo import Preprocessing, ZooModel, load, sign_scene


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


# A transformer whose maps are known


class UniformAttention(nn.Module):
    """Adds to each token a share of the mean of all tokens."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.value, self.share = nn.Linear(4, 4, bias=False), share
        self.value.weight.data.copy_(torch.eye(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.share * self.value(x).mean(1, keepdim=True).expand_as(x)


class Block(nn.Module):
    def __init__(self, share: float) -> None:
        super().__init__()
        self.norm, self.attention = nn.Identity(), UniformAttention(share)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(self.norm(x))


class Transformer(nn.Module):
    """The score c is the mean of channel c over patches of 8 x 8 pixels and tokens.

    The class token and registers are zero, and only the last of three blocks mixes
    tokens.
    """

    def __init__(self, n_prefix: int = 3, mean: bool = False) -> None:
        super().__init__()
        self.n_prefix, self.mean = n_prefix, mean
        self.patches = nn.Conv2d(3, 4, 8, 8, bias=False)
        self.patches.weight.data.zero_()
        for channel in range(3):
            self.patches.weight.data[channel, channel] = 1 / 64
        self.blocks = nn.ModuleList([Block(0.0), Block(0.0), Block(1.0)])
        self.norm = nn.Identity()
        self.head = nn.Linear(4, 4, bias=False)
        self.head.weight.data.copy_(torch.eye(4))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT
        prefix = torch.zeros(len(x), self.n_prefix, 4)
        tokens = torch.cat([prefix, tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        return self.head(tokens.mean(1) if self.mean else tokens[:, 0])


@pytest.mark.parametrize("n_prefix", [1, 2, 5, 9])
@pytest.mark.parametrize("size", [(32, 32), (16, 40), (40, 24)])
def test_transformer_with_a_known_map(n_prefix, size):
    """The score is a mean over tokens, so that a patch counts by its share of it."""
    net, x = Transformer(n_prefix), noise(2, 3, *size)
    found = last_map_layer(net, x)
    assert found.name == "blocks.1" and found.layer is net.blocks[1]
    assert found.describe() == f"blocks.1 (tokens, n_prefix={n_prefix})"
    means = nn.functional.avg_pool2d(x, 8)
    n_tokens = means[0, 0].numel() + n_prefix
    maps = LayerGradCam(net, found.layer).attribute(
        x, [0, 2], reshape_transform=found.reshape_transform
    )
    expected = torch.stack([means[0, :1], means[1, 2:]]) / n_tokens
    torch.testing.assert_close(maps, expected)
    plus = LayerGradCamPlusPlus(net, found.layer).attribute(
        x, [0, 2], reshape_transform=found.reshape_transform
    )
    # One weight for each map, so that only the factor differs.
    factor = (plus / expected).flatten(1)
    torch.testing.assert_close(factor, factor[:, :1].expand_as(factor))
    raw = LayerCAMERAS(net, found.layer).attribute(
        x,
        [0, 2],
        sizes=[],
        interpolate_mode="nearest",
        relu_attributions=False,
        normalize=False,
        reshape_transform=found.reshape_transform,
    )
    torch.testing.assert_close(raw[:, :, ::8, ::8], expected)


def test_cameras_arranges_tokens_of_each_size():
    """The number of tokens in a row grows with the image."""
    net = Transformer(1)
    x = torch.zeros(1, 3, 16, 40)
    x[:, 1, 8:, :16] = 1
    maps = LayerCAMERAS(net, net.blocks[1]).attribute(
        x,
        1,
        sizes=[(32, 80), (48, 40)],
        interpolate_mode="nearest",
        reshape_transform=maps_of_tokens,
    )
    torch.testing.assert_close(maps, x[:, 1:2])
    with pytest.raises(
        ValueError, match="row of an image of 32 x 80 pixels, got 5 for 40"
    ):
        LayerCAMERAS(net, net.blocks[1]).attribute(
            x, 1, sizes=[(32, 80)], reshape_transform=partial(maps_of_tokens, width=5)
        )


def test_last_block_of_a_mean_of_tokens():
    """Without a class token all tokens of the last block count."""
    found = last_map_layer(Transformer(1, mean=True), noise(1, 3, 32, 32))
    assert found.name == "blocks.2"


@pytest.mark.parametrize("method", [LayerCAMERAS, LayerGradCamPlusPlus, LayerGradCam])
def test_patch_tokens_of_the_last_block_are_named(method):
    net = Transformer(1)
    options = {"n_steps": 1} if method is LayerCAMERAS else {}
    with pytest.warns(UserWarning, match="gradient .* zero, as at the patch tokens"):
        maps = method(net, net.blocks[2]).attribute(
            noise(1, 3, 32, 32), 1, reshape_transform=maps_of_tokens, **options
        )
    assert (maps == 0).all()


# Tokens


def test_maps_of_tokens():
    tokens = torch.arange(1 * 8 * 2).view(1, 8, 2)
    for maps in (
        maps_of_tokens(tokens, n_prefix=2, width=3),
        maps_of_tokens(tokens, n_prefix=2, size=(32, 48)),
    ):
        assert maps.shape == (1, 2, 2, 3)
        assert maps[0, 0].tolist() == [[4, 6, 8], [10, 12, 14]]


@pytest.mark.parametrize(
    "shape, options, message",
    [
        # 576 tokens are 24 x 24 or 18 x 32.
        ((1, 577, 4), {}, "^width must be the number of tokens in a row, since 576"),
        (
            (1, 201, 4),
            {"size": (224, 224)},
            "n_prefix must .*registers?.*n_prefix=5 .*14",
        ),
        ((1, 198, 4), {"size": (224, 224)}, "distillation.*n_prefix=2 .* 14 x 14"),
        ((1, 700, 4), {"size": (64, 64)}, "n_prefix must .*pass width"),
        ((1, 8, 2), {"width": 3}, "row, got 3 for 7 tokens after n_prefix=1 class"),
        ((1, 8, 2), {"n_prefix": 8, "width": 1}, r"n_prefix=8, got shape \(1, 8, 2\)"),
        ((8, 2), {"width": 1}, r"tokens \(B, n_prefix"),
        ((1, 8, 2), {"width": 0}, "width must be at least 1"),
        ((1, 8, 2), {"n_prefix": -1, "width": 3}, "n_prefix must be at least 0"),
    ],
)
def test_tokens_that_fill_no_image(shape, options, message):
    with pytest.raises(ValueError, match=message) as raised:
        maps_of_tokens(torch.zeros(shape), **options)
    assert str(raised.value).endswith(".")


@pytest.mark.parametrize(
    "n, size, expected",
    [
        (576, (384, 384), (24, 24)),
        (576, (288, 512), (18, 32)),
        (576, (512, 288), (32, 18)),
        (1212, (128, 1024), (12, 101)),  # the overlapping patches of AST
        (200, (224, 224), None),
        (210, (224, 224), None),
        (575, (288, 512), None),
        (1, (16, 16), (1, 1)),
    ],
)
def test_grid_of_an_image(n, size, expected):
    assert token_grid(n, size) == expected


def test_grid_of_any_patch_is_found():
    for height, width, patch in ((224, 224, 16), (96, 160, 8), (384, 640, 32)):
        h, w = height // patch, width // patch
        assert token_grid(h * w, (height, width)) == (h, w)


# Libraries

TORCHVISION = {
    "vgg16": "features",
    "alexnet": "features",
    "resnet18": "layer4",
    "mobilenet_v2": "features",
    "squeezenet1_0": "classifier.2",
    "densenet121": "features",
    "googlenet": "inception5b",
    "convnext_tiny": "features",
    "swin_t": "permute",
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name):
    options = {"init_weights": False} if name in ("googlenet", "vgg16") else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(torchvision.models, name)(**options).eval()
    found = last_map_layer(model, noise(1, 3, 96, 64))
    assert found.name == TORCHVISION[name] and found.reshape_transform is None
    assert found.layer is model.get_submodule(found.name)
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_norm_of_swin_keeps_channels_last():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        swin = torchvision.models.swin_t().eval()
    named = map_layer(swin, noise(1, 3, 64, 96), "norm")
    assert named.reshape_transform is maps_of_channels_last
    assert named.describe() == "norm (channels last)"
    assert map_layer(swin, noise(1, 3, 64, 96), "head").reshape_transform is None


TIMM = {
    "class token": ("vit_tiny_patch16_224", {}, "blocks.1", 1),
    "wide": ("vit_tiny_patch16_224", {"img_size": (32, 80)}, "blocks.1", 1),
    "registers": ("vit_small_patch14_reg4_dinov2", {"img_size": 56}, "blocks.1", 5),
    "distilled": ("deit_tiny_distilled_patch16_224", {}, "blocks.1", 2),
    "mean": ("vit_tiny_patch16_224", {"global_pool": "avg"}, "blocks", 1),
    "pooled by attention": ("vit_base_patch16_siglip_224", {}, "norm", 0),
}


@pytest.mark.parametrize("kind", TIMM)
def test_timm(kind):
    timm = pytest.importorskip("timm")
    name, options, expected, n_prefix = TIMM[kind]
    options = {"img_size": 64, "num_classes": 5, "depth": 3} | options
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name, pretrained=False, **options).eval()
    size = options["img_size"]
    x = noise(1, 3, *((size, size) if isinstance(size, int) else size))
    found = last_map_layer(model, x)
    assert found.describe() == f"{expected} (tokens, n_prefix={n_prefix})"
    plus = LayerGradCamPlusPlus(model, found.layer).attribute(
        x, 1, reshape_transform=found.reshape_transform, input_shaped=True
    )
    assert plus.shape == x.shape and plus.std() > 0


class Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).logits


TRANSFORMERS = {
    "ViT": ("model.vit.layers.1", 1),
    "Dinov2WithRegisters": ("model.dinov2_with_registers.layernorm", 5),
    "Swin": ("model.swin.layernorm", 0),
    "Swinv2": ("model.swinv2.layernorm", 0),
}


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_transformers(kind):
    library = pytest.importorskip("transformers")
    if kind.startswith("Swin"):
        options = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]}
        options |= {"patch_size": 4, "window_size": 4}
    else:
        options = {"hidden_size": 16, "num_hidden_layers": 3, "patch_size": 8}
        options |= {"num_attention_heads": 2, "intermediate_size": 32}
    config = getattr(library, f"{kind}Config")(image_size=32, **options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(library, f"{kind}ForImageClassification")(config)
        nn.init.normal_(model.classifier.weight)
    found = last_map_layer(Logits(model), noise(1, 3, 32, 32))
    name, n_prefix = TRANSFORMERS[kind]
    assert found.describe() == f"{name} (tokens, n_prefix={n_prefix})"


class TokensFirst(nn.Module):
    """PyTorch's own blocks, which keep the batch second."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).movedim(2, 0)
        return self.head(self.encoder(torch.cat([tokens[:1], tokens]))[0])


# Video


class MovingAverage(nn.Module):
    """The score c is the mean of channel c over blocks of 2 x 4 x 4 and all blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv3d(3, 3, (2, 4, 4), (2, 4, 4), bias=False)
        self.features.weight.data.zero_()
        for channel in range(3):
            self.features.weight.data[channel, channel] = 1 / 32
        self.pool = nn.AdaptiveAvgPool3d(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.features(x)).flatten(1)


@pytest.mark.parametrize("method", [LayerGradCam, LayerGradCamPlusPlus])
def test_map_of_a_video_model(method):
    """Blocks get the mean of the explained channel, but for a constant factor."""
    model, x = MovingAverage(), noise(2, 3, 4, 8, 12).abs()
    found = last_map_layer(model, x)
    assert (found.name, found.reshape_transform) == ("features", None)
    maps = method(model, found.layer).attribute(x, target=[2, 0])
    blocks = nn.functional.avg_pool3d(x, (2, 4, 4))
    for i, channel in enumerate([2, 0]):
        factor = maps[i, 0] / blocks[i, channel]
        torch.testing.assert_close(factor, factor.mean().expand(2, 2, 3))
        assert factor.mean() > 0


def test_map_of_a_video_model_over_its_clip():
    model, x = MovingAverage(), torch.zeros(1, 3, 4, 8, 12)
    x[0, 1, 2:, 4:, 8:] = 1
    grad_cam = LayerGradCamPlusPlus(model, model.features)
    maps = grad_cam.attribute(x, target=1, input_shaped=True)
    assert maps.shape == x.shape
    assert maps[0, 0, 3, 7, 11] == maps.max() > maps[0, 0, 0, 0, 0] == 0


@pytest.mark.parametrize(
    "name, expected, transform",
    [
        ("r3d_18", "layer4", None),
        ("mc3_18", "layer4", None),
        ("swin3d_t", "norm", maps_of_channels_last),
    ],
)
@pytest.mark.parametrize("size", [(64, 64), (72, 96)])
def test_video_models_of_torchvision(name, expected, transform, size):
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    x = noise(1, 3, 8, *size)
    found = last_map_layer(model, x)
    assert (found.name, found.reshape_transform) == (expected, transform)
    grad_cam = LayerGradCamPlusPlus(model, found.layer)
    reshape = {"reshape_transform": found.reshape_transform}
    maps = grad_cam.attribute(x, target=3, input_shaped=True, **reshape)
    assert maps.shape == x.shape and maps.any()
    if transform is not None:
        with pytest.raises(ValueError, match="reshape_transform must rearrange"):
            grad_cam.attribute(x, target=3)


def test_advice_on_video():
    model, x = MovingAverage(), noise(1, 3, 4, 8, 12)
    with pytest.raises(ValueError, match="for video use PNRISE, or LayerGradCamPlus"):
        LayerCAMERAS(model, model.features).attribute(x, target=0)
    tokens = nn.Sequential(model.features, nn.Flatten(2), Exchange(), nn.Linear(3, 3))
    with pytest.raises(ValueError, match="give a layer method the layer and a reshape"):
        last_map_layer(tokens, x)
    with pytest.raises(ValueError, match=r"\(B, C, t, h, w\) of video, got none"):
        LayerGradCamPlusPlus(tokens, tokens[2]).attribute(x, target=(0, 1))


def test_commands_refuse_models_of_video(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "from torch import nn\n"
        "from captum_ext.zoo import Preprocessing, ZooModel\n"
        "def load(weights):\n"
        "    return ZooModel(nn.Conv3d(3, 2, 3), Preprocessing.square(8), ('a', 'b'),\n"
        "                    (0.0,) * 3, (1.0,) * 3)\n"
    )
    with pytest.raises(ValueError, match="must be a classifier of images, got one of"):
        load_classifier({"model": f"{file}:load"}, [])


class Exchange(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mT.contiguous()


def test_batch_may_be_the_second_axis():
    net, x = TokensFirst(), noise(1, 3, 16, 40)
    found = last_map_layer(net, x)
    assert found.describe() == "encoder.layers.0 (tokens, n_prefix=1)"
    tokens = noise(11, 2, 8)
    maps = partial(found.reshape_transform, size=(16, 40))(tokens)
    torch.testing.assert_close(maps[1, :, 1, 3], tokens[1 + 5 + 3, 1])


# Other models


def test_inputs_and_modes_are_left_alone():
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = nn.Conv2d(3, 4, 3), nn.LazyLinear(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.conv(x.mul_(2)).flatten(1))

    net, x = InPlace(), noise(2, 3, 8, 8)
    before = x.clone()
    with torch.inference_mode():
        assert last_map_layer(net, x).name == "conv"
        inference = x.clone()
    assert last_map_layer(net, inference).name == "conv"
    assert torch.equal(x, before) and not x.requires_grad


def test_models_without_maps_are_an_error():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(
        ValueError, match="must have a module that returns maps .* none"
    ):
        last_map_layer(flat, noise(1, 3, 2, 2))
    silent = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(16, 2))
    silent[2].weight.data.zero_()
    with pytest.raises(ValueError, match="influence its largest .* gradient of zero"):
        last_map_layer(silent, noise(1, 3, 2, 2))


def test_last_layer_of_a_scripted_model_is_an_error():
    model = torch.jit.trace(nn.Conv2d(3, 2, 3), noise(1, 3, 8, 8))
    with pytest.raises(ValueError, match="got a scripted one: use PNRISE"):
        last_map_layer(model, noise(1, 3, 8, 8))


def test_branch_without_influence_is_left_out():
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.unused = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
            self.out = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            maps = self.main(x)
            self.unused(maps)
            return self.out(maps.mean((2, 3)))

    assert last_map_layer(Auxiliary(), noise(1, 3, 9, 9)).name == "main"


@pytest.mark.parametrize("pool", [nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d])
def test_pooling_to_a_fixed_size_is_left_out(pool):
    """And what follows it: a larger image does not give it more positions."""
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid()),
        nn.Sequential(pool(4), nn.Conv2d(4, 4, 1), nn.Sigmoid()),
        nn.Flatten(),
        nn.Linear(64, 2),
    )
    assert last_map_layer(net, noise(1, 3, 16, 16)).name == "0"
    # Pooling to one position is that of squeeze and excitation, or of the head.
    net[1][0] = pool(1)
    net[3] = nn.Linear(4, 2)
    assert last_map_layer(net, noise(1, 3, 16, 16)).name == "0"


class WeightedAttention(UniformAttention):
    """Attention whose weights (B, 1, N, N) are the output of a module."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.softmax = nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.softmax((x @ x.mT)[:, None])
        return weights[:, 0] @ self.value(x)


def test_weights_of_attention_are_no_maps():
    net = Transformer(1)
    net.blocks[2].attention = WeightedAttention()
    assert last_map_layer(net, noise(1, 3, 32, 32)).name == "blocks.1"


# Commands and METHODS


def zoo_model(n_prefix: int = 3) -> ZooModel:
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    names = ("red", "green", "blue", "nothing")
    preprocess = Preprocessing.square(32, mean, std)
    return ZooModel(Transformer(n_prefix), preprocess, names, mean, std)


@pytest.mark.parametrize("name", ["grad-cam", "grad-cam++"])
@pytest.mark.parametrize("layer", [None, "blocks.0"])
def test_methods_rearrange_tokens(name, layer):
    image = sign_scene(0, size=32).image
    method = METHODS[name]
    subject = build_subject(zoo_model(), image, 1, parts=method.built_from, layer=layer)
    assert subject.map_layer.name == (layer or "blocks.1")
    maps = method.attribute(subject)
    green = nn.functional.avg_pool2d(image[None, 1:2], 8)
    expected = nn.functional.interpolate(green, (32, 32), mode="bilinear")
    torch.testing.assert_close(maps / maps.max(), expected / expected.max())


MODEL = """
from test_map_layer import zoo_model

def load(weights):
    return zoo_model()
"""


def test_commands_print_the_layer(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(MODEL)
    pixels = torchvision.transforms.functional.to_pil_image(sign_scene(0).image)
    (tmp_path / "images").mkdir()
    pixels.save("images/scene.png")
    layer = "layer for layer methods: blocks.1 (tokens, n_prefix=3)"
    model = ["--model", "own.py:load"]
    words = ["explain", "images/scene.png", "--method", "grad-cam", "--target", "1"]
    assert main([*words, *model]) == 0
    assert layer in capsys.readouterr().out
    words = ["evaluate", "--dataset", "images:images", "--methods", "grad-cam,random"]
    metrics = ["--metrics", "insertion:n_steps=2", "-o", "out"]
    assert main([*words, *model, *metrics]) == 0
    assert layer in capsys.readouterr().out


def test_signs_keep_their_layer():
    signs = load("signs")
    found = last_map_layer(signs.model, signs.normalize(sign_scene(0).image)[None])
    assert found.name == "features" and found.reshape_transform is None
    assert importlib.import_module("captum_ext.attr").MapLayer is type(found)
