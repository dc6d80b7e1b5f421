"""CAMERAS's search for sizes and its fusion of layers, against known answers."""

import pytest
import torch
from test_layers import Net, noise, slow_cameras, up
from torch import Tensor, nn
from torch.nn import functional as F

from captum_ext.attr import LayerCAMERAS, LayerGradCamPlusPlus, last_map_layer
from captum_ext.attr.image_sizes import (
    aligned_sizes,
    describe_sizes,
    next_step,
    resolutions,
)
from captum_ext.attr.map_fusion import sharpened
from captum_ext.methods import METHODS
from captum_ext.subject import build_subject
from captum_ext.zoo import load, sign_scene


def steps_to(limit: int, n_rungs: int, n_steps: int = 1000) -> dict[int, bool]:
    """Steps tried if the prediction holds up to a limit."""
    tried = {0: True}
    while len(tried) < n_steps:
        step = next_step(tried, n_rungs)
        if step is None:
            break
        assert step not in tried and 0 < step < n_rungs
        tried[step] = step <= limit
    return tried


@pytest.mark.parametrize("n_rungs", [1, 2, 7, 25])
def test_search_finds_the_largest_size(n_rungs):
    """All sizes up to the limit are tried in the end, and few beyond it."""
    for limit in range(n_rungs):
        tried = steps_to(limit, n_rungs)
        assert sorted(k for k in tried if tried[k]) == [*range(limit + 1)]
        found = [*tried].index(limit)
        assert found <= 2 * n_rungs.bit_length()
    # With 7 sizes in all, the largest of the first eight is among them.
    for limit in range(min(n_rungs, 8)):
        assert max(k for k, ok in steps_to(limit, n_rungs, 7).items() if ok) == limit


def test_order_of_the_search():
    assert [*steps_to(4, 25)] == [0, 1, 3, 7, 5, 4, 2]
    assert [*steps_to(0, 25)] == [0, 1]
    assert [*steps_to(24, 25, 7)] == [0, 1, 3, 7, 15, 24, 19]
    assert [*steps_to(20, 25, 8)][-2:] == [19, 21]
    # A failure below a size that holds is no end.
    assert next_step({0: True, 1: True, 2: False, 3: True}, 25) == 7


def test_aligned_sizes():
    assert aligned_sizes((224, 224), (330, 330), (32, 32)) == [
        (n, n) for n in (224, 256, 288, 320)
    ]
    # The first step leads to multiples; the ratio of the sides is kept nearly.
    assert aligned_sizes((220, 300), (300, 400), (32, 32)) == [
        (220, 300),
        (224, 320),
        (256, 352),
        (288, 384),
    ]
    assert aligned_sizes((300, 220), (400, 300), (32, 32))[-1] == (384, 288)
    assert aligned_sizes((64, 64), (64, 64), (8, 8)) == [(64, 64)]
    assert aligned_sizes((64, 64), (10, 10), (8, 8)) == [(64, 64)]
    # Both sides are multiples also where the ratio of the sides leads past the limits.
    assert aligned_sizes((224, 300), (330, 330), (32, 32)) == [
        (224, 300),
        (256, 320),
        (288, 320),
        (320, 320),
    ]
    assert aligned_sizes((255, 335), (256, 999), (32, 32))[1:] == [(256, 352)]
    # An axis keeps its own length if that is the largest.
    assert aligned_sizes((64, 96), (80, 90), (8, 8)) == [(64, 96), (72, 96), (80, 96)]


def test_sizes_in_words():
    tried = {(20, 20): True, (40, 40): False, (30, 30): True}
    assert describe_sizes(tried) == "sizes kept 20, 30 of 20, 30, 40"
    assert describe_sizes({(20, 30): True}) == "sizes kept 20 x 30 of 20 x 30"


class Changing(nn.Module):
    """Two classes; class 1 wins on images larger than their first pixel says."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.early = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
            self.late = nn.Sequential(nn.Conv2d(4, 5, 3, 2, 1), nn.ReLU())
            self.out = nn.Linear(5, 2)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor, limits: Tensor | None = None) -> Tensor:
        self.seen.append(tuple(x.shape))
        limit = x[:, 0, 0, 0] * 100 if limits is None else limits
        output = self.out(self.late(self.early(x)).mean((2, 3)))
        larger = (x.shape[2] > limit.round()).float()
        return output + 100 * F.one_hot(larger.long(), 2)


def limited(*limits: int) -> Tensor:
    """Images (B, 3, 20, 24) whose prediction holds up to a height."""
    x = torch.rand(len(limits), 3, 20, 24, generator=torch.Generator().manual_seed(1))
    # Interpolation leaves a corner of constant color unchanged.
    x[:, 0, :3, :3] = torch.tensor(limits)[:, None, None] / 100
    return x


@pytest.mark.parametrize("limit, largest", [(20, 20), (31, 28), (40, 40), (51, 48)])
@pytest.mark.parametrize("n_steps", [7, 12])
def test_largest_size_that_keeps_the_prediction(limit, largest, n_steps):
    net = Changing()
    options = {"max_size": (96, 120), "n_steps": n_steps, "return_sizes": True}
    with pytest.warns() if limit == 20 else pytest.MonkeyPatch.context():
        maps, (tried,) = LayerCAMERAS(net, net.late).attribute(
            limited(limit), 0, **options
        )
    assert max(height for (height, _), holds in tried.items() if holds) == largest
    assert all(holds == (height <= limit) for (height, _), holds in tried.items())
    assert [shape[2:] for shape in net.seen] == [*tried]
    assert len(tried) <= n_steps
    assert all(n % 4 == 0 for size in tried for n in size)
    # The map is that of the sizes kept.
    kept = [size for size, holds in tried.items() if holds]
    expected = slow_cameras(net, net.late, limited(limit), 0, kept)
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-4)


def test_examples_of_a_batch_have_their_own_sizes():
    x, options = limited(90, 20, 31, 55), {"max_size": 96, "return_sizes": True}
    targets, limits = [0, 1, 1, 0], torch.tensor([90, 20, 31, 55])
    net = Changing()
    for arguments in ({}, {"additional_forward_args": limits}):
        net.seen.clear()
        with pytest.warns(UserWarning, match="one size for 1 of 4 examples"):
            maps, tried = LayerCAMERAS(net, net.late).attribute(
                x, targets, **arguments, **options
            )
        assert len({tuple(each) for each in tried}) == 4
        # Examples of one size are evaluated together.
        assert net.seen[0][0] == net.seen[1][0] == 4 and net.seen[2][0] == 3
        for i in range(4):
            alone, (sizes,) = LayerCAMERAS(net, net.late).attribute(
                x[i : i + 1], targets[i], limits[i : i + 1], **options
            )
            torch.testing.assert_close(maps[i : i + 1], alone, atol=1e-5, rtol=1e-4)
            assert [*sizes.items()] == [*tried[i].items()]


def test_no_backward_pass_where_the_prediction_changes():
    net, passes = Changing(), {"forward": 0, "backward": 0}

    def count(module, inputs, output):
        passes["forward"] += 1
        if output.requires_grad:
            output.register_hook(
                lambda _: passes.update(backward=passes["backward"] + 1)
            )

    handle = net.out.register_forward_hook(count)
    # The prediction of the second example holds wherever that of the first does.
    _, tried = LayerCAMERAS(net, net.late).attribute(
        limited(40, 60), [0, 1], sizes=[30, 50, 80], return_sizes=True
    )
    handle.remove()
    assert [[*each.values()] for each in tried] == [
        [True, True, False, False],
        [True, True, True, False],
    ]
    assert passes == {"forward": 4, "backward": 3}


def slow_sharpened(net, layers, x, target, sizes, window) -> Tensor:
    """Map of the last layer times the smoothed LayerCAM maps of the others."""
    found = {layer: [] for layer in layers}
    for zeta in sizes:
        held = {}
        handles = [
            layer.register_forward_hook(
                lambda m, i, out, held=held: held.update({m: out})
            )
            for layer in layers
        ]
        score = net(up(x, zeta))[0, target]
        for handle in handles:
            handle.remove()
        for layer in layers:
            (g,) = torch.autograd.grad(score, held[layer], retain_graph=True)
            found[layer].append((held[layer].detach(), g))

    def mean(maps):
        return sum(up(each, x.shape[2:]) for each in maps) / len(maps)

    *finer, coarsest = layers
    A, W = zip(*found[coarsest])
    psi = (mean(A) * mean(W)).sum(1)[0]
    for layer in finer:
        # At the image's own size only.
        A, W = found[layer][0]
        each = (mean([A]) * mean([F.relu(W)])).sum(1)[0].relu()
        smooth = torch.zeros_like(each)
        for i in range(each.shape[0]):
            for j in range(each.shape[1]):
                r, q = window[0] // 2, window[1] // 2
                part = each[max(0, i - r) : i + r + 1, max(0, j - q) : j + q + 1]
                smooth[i, j] = part.mean()
        psi = psi * smooth / smooth.max()
    return psi[None, None]


class Smooth(nn.Module):
    """Strides 1, 2 and 4, without operations in place."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.one = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.Sigmoid())
            self.two = nn.Sequential(nn.Conv2d(4, 5, 3, 2, 1), nn.Sigmoid())
            self.four = nn.Sequential(nn.Conv2d(5, 6, 3, 2, 1), nn.Tanh())
            self.same = nn.Sequential(nn.Conv2d(6, 6, 1), nn.Sigmoid())
            self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.same(self.four(self.two(self.one(x))))
        return self.out(torch.tanh(h).mean((2, 3)))


@pytest.mark.parametrize("names", [("two", "four"), ("one", "two", "four")])
def test_several_layers(names):
    """Finer layers weight the map of the coarsest, in whatever order they are given."""
    net, x = Smooth(), noise(1, (16, 24), seed=8)
    layers = [getattr(net, name) for name in names]
    forward = lambda x: net(x)[:, 1]  # noqa: E731  (with one output all sizes count)
    options = {"sizes": [(20, 28)], "normalize": False, "relu_attributions": False}
    expected = slow_sharpened(net, layers, x, 1, [(16, 24), (20, 28)], (3, 3))
    assert expected.std() > 0.1 * expected.mean()
    for given in (layers, layers[::-1]):
        maps = LayerCAMERAS(forward, given).attribute(x, **options)
        torch.testing.assert_close(maps, expected, atol=1e-6, rtol=1e-4)
    one = LayerCAMERAS(forward, [net.four]).attribute(x, **options)
    torch.testing.assert_close(
        one, LayerCAMERAS(forward, net.four).attribute(x, **options)
    )


def test_each_layer_has_its_transform():
    """At all sizes, although only the coarsest layer is evaluated at all of them."""
    net, x = Smooth(), noise(1, (16, 24), seed=8)
    forward = lambda x: net(x)[:, 1]  # noqa: E731
    options = {"sizes": [(20, 28)], "normalize": False, "relu_attributions": False}
    both = LayerCAMERAS(forward, [net.two, net.four])
    coarse = LayerCAMERAS(forward, net.four).attribute(x, **options)
    finer = both.attribute(x, **options) / coarse
    flipped = both.attribute(
        x, reshape_transform=[None, lambda maps: maps.flip(3)], **options
    )
    torch.testing.assert_close(flipped, coarse.flip(3) * finer, rtol=1e-3, atol=1e-8)


def test_of_layers_of_one_size_the_last_is_the_coarsest():
    net, x = Smooth(), noise(1, (16, 24), seed=8)
    options = {"sizes": [], "normalize": False, "relu_attributions": False}
    for layers in ([net.four, net.same], [net.same, net.four]):
        maps = LayerCAMERAS(lambda x: net(x)[:, 1], layers).attribute(x, **options)
        expected = slow_sharpened(net, layers, x, 1, [(16, 24)], (3, 3))
        torch.testing.assert_close(maps, expected, atol=1e-6, rtol=1e-4)


def test_a_layer_without_evidence_makes_a_map_of_zeros():
    ones = torch.ones(1, 4, 4)
    assert (sharpened(ones, [-ones], (2, 2)) == 0).all()
    assert (sharpened(ones, [], (2, 2)) == 1).all()


def test_layers_are_evaluated_in_the_same_passes():
    net, x = Changing(), limited(60)
    for layers in ([net.late], [net.early, net.late]):
        net.seen.clear()
        LayerCAMERAS(net, layers).attribute(x, 0, max_size=96)
        # The stride of the coarsest layer decides.
        assert len(net.seen) == 7 and net.seen[1] == (1, 3, 24, 28)


def test_finer_layers_have_gradients_at_the_size_of_the_image_only():
    net, has_graph = Changing(), []
    handle = net.late.register_forward_hook(
        lambda module, inputs, output: has_graph.append(output.requires_grad)
    )
    LayerCAMERAS(net, [net.early, net.late]).attribute(limited(60), 0, sizes=[30, 50])
    handle.remove()
    # The graph begins at the output of the first layer that is evaluated.
    assert has_graph == [True, False, False]


def test_paper_is_one_layer_at_evenly_spaced_sizes():
    net, x = Net(relu=False), noise(1, (20, 26), seed=2)
    sizes = resolutions((20, 26), (60, 60), 4)
    maps = LayerCAMERAS(net, net.layer).attribute(
        x, 1, max_size=(60, 60), n_steps=4, sizes="paper"
    )
    expected = slow_cameras(net, net.layer, x, 1, sizes)
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-4)


class Staged(nn.Module):
    """Two stages; a convolution of the first size begins the second."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.first = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1), nn.ReLU())
        self.entry = nn.Conv2d(4, 4, 1)
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU())
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.entry(self.first(self.stem(x)))
        return self.out(self.second(h).mean((2, 3)))


def test_last_layer_of_the_stage_before():
    """The last block of the next larger size; a layer if there is no block."""
    net = Staged()
    found = last_map_layer(net, torch.rand(1, 3, 32, 32))
    assert [each.name for each in found.stages] == ["first", "second"]
    assert found.finer.layer is net.first and found.finer.finer is None
    net.first = net.first[0]
    found = last_map_layer(net, torch.rand(1, 3, 32, 32))
    assert [each.name for each in found.stages] == ["entry", "second"]
    flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    assert last_map_layer(flat, torch.rand(1, 3, 9, 9)).finer is None


def test_method_uses_the_stages_and_reports_the_sizes():
    signs, scene = load("signs"), sign_scene(0)
    method = METHODS["cameras"]
    inputs = signs.normalize(scene.image)
    subject = build_subject(signs, inputs, parts=method.built_from)
    maps, tried = method.attribute_with_details(subject, max_size=160)
    stages = subject.map_layer.stages
    expected = LayerCAMERAS(signs.model, [each.layer for each in stages]).attribute(
        inputs[None], subject.target, max_size=160
    )
    assert len(stages) == 2
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(method.attribute(subject, max_size=160), expected)
    assert [*tried][0] == (96, 96) and len(tried) > 1


@pytest.mark.parametrize(
    "layer, options, kind, message",
    [
        ([], {}, TypeError, "layer must be an nn.Module, got list"),
        ([1], {}, TypeError, "layer must be an nn.Module, got int"),
        (None, {"sizes": "even"}, ValueError, "sizes must be .*'search', 'paper'"),
        (None, {"sizes": None}, TypeError, "sizes must be a sequence"),
        (None, {"return_sizes": 1}, TypeError, "return_sizes"),
        (
            None,
            {"reshape_transform": [None]},
            ValueError,
            "each of the 2 layers, got 1",
        ),
        (None, {"reshape_transform": [None, 3]}, TypeError, "reshape_transform"),
    ],
)
def test_bad_layers_and_sizes(layer, options, kind, message):
    net = Changing()
    with pytest.raises(kind, match=message):
        given = [net.early, net.late] if layer is None else layer
        LayerCAMERAS(net, given).attribute(limited(40), 0, **options)


def test_other_methods_take_one_layer():
    net = Changing()
    with pytest.raises(TypeError, match="layer must be an nn.Module, got list"):
        LayerGradCamPlusPlus(net, [net.early])


def test_one_transform_per_layer_is_checked_before_a_pass():
    passes = []

    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            passes.append(len(x))
            return self.layer(x).mean((2, 3))

    model = Counted()
    cameras = LayerCAMERAS(model, model.layer)
    with pytest.raises(ValueError, match="each of the 1 layers, got 2"):
        cameras.attribute(torch.rand(1, 3, 8, 8), 1, reshape_transform=[None, None])
    assert not passes
