"""Masking network: shapes, formulas and files."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import conv_transpose2d, interpolate

from captum_ext.masking import MaskingNetwork
from captum_ext.masking.cpu_fast_paths import DoublingConvolution
from captum_ext.masking.decoder import FeatureFilter, UpsamplingBlock, mask_of_channels
from captum_ext.masking.encoders import TorchvisionEncoder
from captum_ext.masking.normalization import SharedBatchNorm

SCALES = {
    "resnet50": ((4, 8, 16, 32), (256, 512, 1024, 2048), (768, 384, 192)),
    "mobilenet_v2": ((4, 8, 16, 32), (144, 192, 576, 1280), (432, 144, 72)),
    "squeezenet1_0": ((4, 8, 16), (256, 512, 1000), (384, 192)),
}


@pytest.mark.parametrize("name", SCALES)
def test_torchvision_encoders(name):
    strides, channels, decoder_channels = SCALES[name]
    network = MaskingNetwork(5, name)
    assert (network.strides, network.channels) == (strides, channels)
    assert network.decoder_channels == decoder_channels
    x = torch.rand(1, 3, 96, 72)
    masks = network(x, torch.tensor([4]))
    assert masks.shape == (1, 1, 96, 72)
    assert masks.min() >= 0 and masks.max() <= 1
    # The names of Figure 4 appear in the printed network.
    for word in ("strides", "channels", "FeatureFilter", "UpsamplingBlock"):
        assert word in repr(network)


def test_encoder_returns_the_maps_of_each_stage():
    """The scales of a ResNet are the outputs of its stages."""
    from torchvision.models import get_model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_model("resnet18", weights=None).eval()
    encoder = TorchvisionEncoder("resnet18", model.state_dict())
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        h = model.maxpool(model.relu(model.bn1(model.conv1(x))))
        for maps, stage in zip(encoder(x), (1, 2, 3, 4)):
            h = getattr(model, f"layer{stage}")(h)
            torch.testing.assert_close(maps, h)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_b0"])
def test_embedding_is_initialized_with_the_last_layer(name):
    """The mean of X_ij^T C_s over positions is the logit of s without its bias."""
    from torchvision.models import get_model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_model(name, weights=None, num_classes=7).eval()
    weights = model.state_dict()
    network = MaskingNetwork(7, name, weights)
    C = network.feature_filter.embedding.weight
    x = torch.rand(2, 3, 96, 64)
    with torch.no_grad():
        shares = torch.einsum("bchw,sc->bshw", network.encoder(x)[-1], C)
        bias = list(weights.values())[-1]
        torch.testing.assert_close(shares.mean((2, 3)) + bias, model(x))
        C.zero_()
    assert model.state_dict()[list(weights)[-2]].any()
    halves = {key: value.half() for key, value in weights.items()}
    other = MaskingNetwork(7, name, halves)
    assert other.feature_filter.embedding.weight.dtype == torch.float32


@pytest.mark.parametrize("name, n_classes", [("resnet18", 3), ("squeezenet1_0", 1000)])
def test_embedding_is_random_if_the_last_layer_does_not_fit(name, n_classes):
    from torchvision.models import get_model

    weights = get_model(name, weights=None).state_dict()
    network = MaskingNetwork(n_classes, name, weights)
    C = network.feature_filter.embedding.weight.detach()
    assert C.square().sum(1).mean().item() == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_upsampling_block_equals_torch_s_layers(training, size, layout):
    """The fast paths have the values and gradients of torch's layers."""
    generator = torch.Generator().manual_seed(0)
    block = UpsamplingBlock(8, 5, 16, n_bottlenecks=2)
    for tensor in block.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    block.double().train(training).to(memory_format=layout)
    coarse = torch.randn(2, 8, 3, 4, generator=generator).double()
    skip = torch.randn(2, 5, *size, generator=generator).double()
    coarse, skip = (x.contiguous(memory_format=layout) for x in (coarse, skip))
    layers = copy.deepcopy(block)
    maps = block(coarse, skip)
    upsample = layers.upsample
    expected = conv_transpose2d(coarse, upsample.weight, upsample.bias, stride=2)
    if expected.shape[2:] != size:
        expected = interpolate(expected, size, mode="bilinear")
    both = torch.cat([expected, skip], 1)
    for bottleneck in layers.bottlenecks:
        expected = torch.relu(expected + nn.Sequential(*bottleneck.residual)(both))
        both = expected
    torch.testing.assert_close(maps, expected)
    direction = torch.randn(maps.shape, generator=generator).double()
    maps.backward(direction)
    expected.backward(direction)
    for fast, plain in zip(block.parameters(), layers.parameters()):
        torch.testing.assert_close(fast.grad, plain.grad)


def test_gradients_have_the_strides_of_their_weights():
    """Otherwise DistributedDataParallel copies them, with a warning."""
    network = MaskingNetwork(3, width=8).to(memory_format=torch.channels_last)
    x = torch.rand(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    network(x, torch.tensor([0, 1])).sum().backward()
    for name, parameter in network.named_parameters():
        if parameter.dim() == 4:
            assert parameter.grad.stride() == parameter.stride(), name


def test_torchvision_encoder_is_frozen():
    network = MaskingNetwork(3, "squeezenet1_0", decoder_channels=(16, 8))
    before = {k: v.clone() for k, v in network.encoder.state_dict().items()}
    network.train()
    assert network.training
    assert not any(module.training for module in network.encoder.modules())
    masks = network(torch.rand(2, 3, 64, 64), torch.tensor([0, 1]))
    masks.sum().backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is None) == name.startswith("encoder")
    for key, value in network.encoder.state_dict().items():
        assert torch.equal(value, before[key])


def test_small_encoder_is_the_cifar_variant_of_the_paper():
    network = MaskingNetwork(10)
    convolutions = [
        [m for m in block.modules() if isinstance(m, nn.Conv2d)]
        for block in network.encoder.blocks
    ]
    assert [len(block) for block in convolutions] == [5, 5, 5]
    assert [len(block.bottlenecks) for block in network.upsampling] == [1, 1]
    assert all(p.requires_grad for p in network.parameters())


def test_shared_batch_norm_is_batch_norm_in_one_process():
    x = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    one, other = SharedBatchNorm(4), nn.BatchNorm2d(4)
    assert torch.equal(one(x), other(x))
    assert torch.equal(one.running_var, other.running_var)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (9, 8)])
def test_images_of_any_size(size):
    network = MaskingNetwork(4, width=8)
    masks = network(torch.rand(2, 3, *size), torch.tensor([0, 3]))
    assert masks.shape == (2, 1, *size) and torch.isfinite(masks).all()


@torch.no_grad()
def test_example_does_not_depend_on_its_batch():
    network = MaskingNetwork(4, width=8).eval()
    x, target = torch.rand(3, 3, 32, 32), torch.tensor([0, 3, 1])
    together = network(x, target)
    for i in range(3):
        alone = network(x[i : i + 1], target[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=1e-4)


def test_feature_filter_by_hand():
    """Eq. 7 at two positions, with sigmoid(log 3) = 3/4."""
    feature_filter = FeatureFilter(n_classes=2, channels=2)
    log3 = float(torch.tensor(3.0).log())
    with torch.no_grad():
        feature_filter.embedding.weight.copy_(torch.tensor([[9.0, 9.0], [log3, 0.0]]))
    X = torch.tensor([[1.0, 0.0], [4.0, 5.0]]).view(1, 2, 1, 2)
    Y = feature_filter(X, torch.tensor([1]))
    expected = torch.tensor([[45.0, log3]])
    torch.testing.assert_close(feature_filter.class_logits(X), expected)
    expected = torch.tensor([[0.75, 0.0], [3.0, 2.5]]).view(1, 2, 1, 2)
    torch.testing.assert_close(Y, expected)


def test_mask_of_channels_by_hand():
    channels = torch.tensor([[3.0, -1.0, 0.0, 0.0], [-1.0, -1.0, 2.0, 0.0]])
    masks = mask_of_channels(channels.view(1, 2, 2, 2))
    assert masks.flatten().tolist() == [0.75, 0.5, 0.0, 0.0]


def test_seed_determines_the_weights_without_side_effects():
    state = torch.get_rng_state()
    one, same, other = (MaskingNetwork(3, width=8, seed=s) for s in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    pairs = zip(one.state_dict().values(), same.state_dict().values())
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(one.head.weight, other.head.weight)


@pytest.mark.parametrize("encoder", ["small", "squeezenet1_0"])
def test_saved_network_is_loaded_unchanged(encoder, tmp_path):
    network = MaskingNetwork(3, encoder, width=8, decoder_channels=[16, 8], seed=5)
    network.save(tmp_path / "network.pt")
    loaded = MaskingNetwork.load(tmp_path / "network.pt")
    assert loaded.settings == network.settings and not loaded.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key])


def test_half_precision_halves_the_file_and_rounds_the_weights(tmp_path):
    network = MaskingNetwork(3, width=16)
    network.save(tmp_path / "full.pt")
    network.save(tmp_path / "half.pt", half=True)
    sizes = [(tmp_path / f"{name}.pt").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    loaded = MaskingNetwork.load(tmp_path / "half.pt")
    assert next(loaded.parameters()).dtype == torch.float32
    for key, value in network.state_dict().items():
        torch.testing.assert_close(
            loaded.state_dict()[key], value, rtol=2**-11, atol=2**-25
        )


def test_files_that_are_not_networks(tmp_path):
    network = MaskingNetwork(3, width=8)
    path = tmp_path / "network.pt"
    network.save(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-1], b"", b"not a network"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="truncated or of another kind"):
            MaskingNetwork.load(path)
    torch.save(network.state_dict(), path)
    with pytest.raises(ValueError, match="settings do not fit this version"):
        MaskingNetwork.load(path)
    with pytest.raises(ValueError, match="existing file"):
        MaskingNetwork.load(tmp_path / "missing.pt")
    torch.save({"settings": network.settings | {"width": 16}, "network": {}}, path)
    with pytest.raises(ValueError, match="weights of this architecture"):
        MaskingNetwork.load(path)


def test_weights_of_another_architecture_are_refused_as_a_whole():
    network = MaskingNetwork(3, width=8)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    for other in (MaskingNetwork(4, width=8), MaskingNetwork(3, width=16)):
        with pytest.raises(ValueError, match="path must hold .* shape .* instead"):
            network.fill(other.state_dict(), "path")
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


def test_invalid_arguments():
    with pytest.raises(ValueError, match="maps of at least two strides"):
        MaskingNetwork(3, "vit_b_16")
    with pytest.raises(ValueError, match="'small' or a torchvision model"):
        MaskingNetwork(3, "resnet5000")
    with pytest.raises(ValueError, match="n_classes must be at least 2"):
        MaskingNetwork(1)
    with pytest.raises(ValueError, match="encoder_weights must hold .* got none"):
        MaskingNetwork(3, "squeezenet1_0", {})
    for wrong in (16, (16, 8, 4), ()):
        with pytest.raises(ValueError, match="decoder_channels must be 2 integers"):
            MaskingNetwork(3, decoder_channels=wrong)
    with pytest.raises(ValueError, match="decoder_channels must be at least 1, got 0"):
        MaskingNetwork(3, decoder_channels=(16, 0))
    with pytest.raises(ValueError, match="encoder_weights must be None"):
        MaskingNetwork(3, "small", {})


def test_doubling_starts_without_dots():
    """Each position of a 2 x 2 square gets the same at first, and its own later."""
    layer = DoublingConvolution(6, 4)
    squares = layer(torch.randn(2, 6, 3, 5)).unfold(2, 2, 2).unfold(3, 2, 2)
    assert torch.equal(squares, squares[..., :1, :1].expand_as(squares))
    first = nn.ConvTranspose2d(600, 4, 2, stride=2).weight
    torch.testing.assert_close(
        DoublingConvolution(600, 4).weight.std(), first.std(), rtol=0.1, atol=0
    )
    optimizer = torch.optim.SGD(layer.parameters(), 1)
    layer(torch.ones(1, 6, 1, 1))[..., 0, 0].sum().backward()
    optimizer.step()
    assert not torch.equal(layer.weight[..., 0, 0], layer.weight[..., 1, 1])
