"""RISE, PN-RISE and MC-RISE: the contract, input shapes, invalid arguments."""

import numpy as np
import pytest
import torch
from contract import AttributionContract, SmallNet, images
from torch import Tensor

from captum_ext.attr import MCRISE, PNRISE, RISE
from captum_ext.masks import image_palette, named_palette

COLORS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 1.0]])

# 3 x 3 blocks.
SHARED_REGIONS = (3 * (torch.arange(12) // 4)[:, None] + torch.arange(14) // 5).view(
    1, 1, 12, 14
)


class TestRISE(AttributionContract):
    kwargs = {"n_masks": 64, "grid_size": 4}

    def explainer(self, forward_func, net):
        return RISE(forward_func)

    def test_tuple_of_two_inputs(self):
        self.kwargs = {"n_masks": 64}
        super().test_tuple_of_two_inputs()


class TestPNRISE(TestRISE):
    def explainer(self, forward_func, net):
        return PNRISE(forward_func)


class TestMCRISE(AttributionContract):
    kwargs = {"n_masks": 64, "grid_size": 4, "colors": COLORS}
    input_shaped = {"input_shaped": True}

    def explainer(self, forward_func, net):
        return MCRISE(forward_func)

    def output_shape(self, inputs):
        return torch.Size((len(inputs), len(COLORS), *inputs.shape[2:]))

    def test_tuple_of_two_inputs(self):
        self.kwargs = {"n_masks": 64, "colors": (COLORS, torch.tensor([[0.0], [1.0]]))}
        y = torch.rand(3, 4)
        net = SmallNet()
        maps = self.attribute(lambda x, y: net(x) * y.sum(), (images(), y), target=1)
        assert [m.shape for m in maps] == [(3, 2, 12, 14), (3, 2, 4)]


class TestPNRISEOnBlocks(TestPNRISE):
    kwargs = {"estimator": "field", "n_masks": 42, "grid_size": 3}

    def test_tuple_of_two_inputs(self):
        self.kwargs = {"estimator": "field", "n_masks": 12}
        AttributionContract.test_tuple_of_two_inputs(self)


class TestPNRISEOnRegions(TestPNRISEOnBlocks):
    kwargs = {"estimator": "field", "n_masks": 42, "feature_mask": SHARED_REGIONS}


class TestPNRISEOnSuperpixels(TestPNRISEOnBlocks):
    kwargs = {"estimator": "field", "n_masks": 42, "layout": "superpixels"}

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_dtype(self, dtype):
        """Superpixels are those of the rounded image; small cells have small scores."""
        x = images(dtype=dtype)
        maps = self.attribute(SmallNet().to(dtype), x, target=1)
        assert maps.dtype == dtype
        expected = self.attribute(SmallNet(), x.float(), target=1)
        both = torch.stack([maps.float().flatten(), expected.flatten()])
        least = 0.9 if dtype == torch.bfloat16 else 1 - 1e-5
        assert float(torch.corrcoef(both)[0, 1]) > least


class TestMCRISEOnBlocks(TestMCRISE):
    kwargs = {**TestMCRISE.kwargs, "estimator": "field", "n_masks": 43, "grid_size": 3}

    def test_tuple_of_two_inputs(self):
        super().test_tuple_of_two_inputs()
        self.kwargs |= {"estimator": "field", "n_masks": 43}
        super().test_tuple_of_two_inputs()


class TestMCRISEOnRegions(TestMCRISEOnBlocks):
    kwargs = {
        **TestMCRISE.kwargs,
        "estimator": "field",
        "n_masks": 43,
        "grid_size": None,
        "feature_mask": SHARED_REGIONS,
    }


class TestMCRISEOnSuperpixels(TestMCRISEOnBlocks):
    kwargs = {
        **TestMCRISE.kwargs,
        "estimator": "field",
        "n_masks": 43,
        "grid_size": None,
        "layout": "superpixels",
    }


def total(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)


def assert_within_errors(maps: Tensor, error: Tensor, expected: Tensor) -> None:
    """Within five standard errors, which are at most a hundredth of the values."""
    assert ((maps - expected).abs() <= 5 * error).all()
    assert error.max() < 0.01 * expected.abs().max()


@pytest.mark.parametrize("shape", [(2, 5), (2, 3, 20), (2, 3, 8, 9), (2, 3, 5, 8, 9)])
@pytest.mark.parametrize("method", [RISE, PNRISE])
def test_input_shapes(method, shape):
    """Tables, sequences, images and video; constant over channels."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    maps = method(total).attribute(x, n_masks=32)
    assert maps.shape == x.shape
    if len(shape) > 2:
        assert torch.equal(maps[:, :1].expand_as(maps), maps)


@pytest.mark.parametrize(
    "shape, expected",
    [((2, 5), (2, 2, 5)), ((2, 1, 9), (2, 2, 9)), ((2, 1, 5, 8, 9), (2, 2, 5, 8, 9))],
)
def test_shapes_of_color_maps(shape, expected):
    colors = torch.tensor([[0.0], [1.0]])
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    grid = {"grid_size": 2} if len(shape) > 2 else {}
    maps = MCRISE(total).attribute(x, colors, n_masks=1000, **grid)
    assert maps.shape == expected
    # Painting black lowers the total and painting white raises it, everywhere.
    assert (maps[:, 0] < 0).all() and (maps[:, 1] > 0).all()


def test_input_shaped_map_is_minus_the_mean_over_colors():
    colors = torch.tensor([[1.0, 0, 0], [0, 1, 1], [0.5, 0.5, 0]])
    kwargs = {"target": 1, "n_masks": 64}
    maps = MCRISE(SmallNet()).attribute(images(), colors, **kwargs)
    shaped = MCRISE(SmallNet()).attribute(images(), colors, input_shaped=True, **kwargs)
    expected = -maps.mean(1, keepdim=True).expand_as(shaped)
    torch.testing.assert_close(shaped, expected)


def test_regions_are_constant_and_shared_across_inputs():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 1, 4, 4, generator=generator)
    y = torch.rand(2, 3, generator=generator)
    regions = torch.arange(4).view(1, 1, 4, 1).expand(1, 1, 4, 4)
    (maps, columns), (_, error) = PNRISE(lambda x, y: total(x) + total(y)).attribute(
        (x, y),
        feature_mask=(regions, torch.tensor([[0, 1, 9]])),
        n_masks=400,
        return_std_error=True,
    )
    assert torch.equal(maps[..., :1].expand_as(maps), maps)
    torch.testing.assert_close(columns[:, 0], maps[:, 0, 0, 0])
    # Region 0 is the first row together with the first column of the table.
    both = x[:, 0, 0].sum(1) + y[:, 0]
    assert_within_errors(columns[:, 0], error[:, 0], both)


def test_regions_of_each_example():
    x = torch.ones(2, 1, 1, 4)
    regions = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]]).view(2, 1, 1, 4)
    maps, error = PNRISE(total).attribute(
        x, feature_mask=regions, n_masks=400, return_std_error=True
    )
    expected = torch.tensor([[2.0, 2, 2, 2], [1, 3, 3, 3]]).view_as(x)
    assert_within_errors(maps, error, expected)


def test_progress_counts_the_masks(capsys, monkeypatch):
    monkeypatch.setattr("captum_ext._progress._SECONDS", 0)
    PNRISE(total).attribute(images(), n_masks=64, show_progress=True)
    shown = capsys.readouterr().err
    assert "PN-RISE masks" in shown and "64 of 64" in shown


def test_one_number_per_batch():
    """Captum's convention: one map for the batch, one perturbation per call."""
    sizes = []

    def mean_score(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return SmallNet()(x)[:, 1].mean()

    x = images()
    maps = PNRISE(mean_score).attribute(x, n_masks=64, grid_size=4)
    assert maps.shape == (1, 3, 12, 14)
    each = PNRISE(SmallNet()).attribute(x, target=1, n_masks=64, grid_size=4)
    torch.testing.assert_close(maps, each.mean(0, keepdim=True), atol=1e-5, rtol=1e-4)
    assert set(sizes) == {3}
    alone = PNRISE(mean_score).attribute(x[:1], n_masks=64, grid_size=4)
    torch.testing.assert_close(alone, each[:1], atol=1e-5, rtol=1e-4)


def test_one_number_per_batch_wastes_one_call():
    """With one example it shows when two perturbations share a call."""
    sizes = []

    def mean_score(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return total(x).mean()

    PNRISE(mean_score).attribute(images(1), n_masks=64, grid_size=4)
    assert sizes.count(2) == 1 and sizes.count(1) == 64


def test_integer_inputs_with_regions():
    """Tokens: hidden ones are replaced by the baseline."""
    tokens = torch.tensor([[4, 7, 1], [2, 2, 9]])
    table = torch.linspace(0, 1, 10)
    maps, error = PNRISE(lambda t: table[t].sum(1)).attribute(
        tokens, n_masks=400, return_std_error=True
    )
    assert maps.dtype == torch.float32
    assert_within_errors(maps, error, table[tokens])


@pytest.mark.parametrize("budget", [5, 40])
def test_out_of_memory_halves_the_chunk(budget):
    """Chunks shrink, the map stays the same."""

    def tight(x: Tensor) -> Tensor:
        if len(x) > budget:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return total(x)

    x = images(1)
    maps = PNRISE(tight).attribute(x, n_masks=300, grid_size=4)
    expected = PNRISE(total).attribute(
        x, n_masks=300, grid_size=4, perturbations_per_eval=5
    )
    torch.testing.assert_close(maps, expected)


def test_out_of_memory_of_the_cpu_halves_the_chunk():
    """A series (B, C, L) is not taken for an image without the axis of examples."""

    def tight(x: Tensor) -> Tensor:
        if len(x) > 5:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return x.flatten(1).sum(1)

    maps = PNRISE(tight).attribute(torch.ones(1, 3, 12), n_masks=100, layout="grid")
    assert maps.shape == (1, 3, 12)


def test_other_runtime_errors_are_not_swallowed():
    def broken(x: Tensor) -> Tensor:
        raise RuntimeError("from the model")

    with pytest.raises(RuntimeError, match="from the model"):
        PNRISE(broken).attribute(images())


def test_palettes():
    """Named colors are normalized; the main colors of an image are its pixels."""
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.2, 0.1)
    palette = named_palette(8, mean, std)
    back = palette.colors * torch.tensor(std) + torch.tensor(mean)
    torch.testing.assert_close(back, palette.rgb, atol=1e-6, rtol=0)
    assert len(set(palette.names)) == 8
    halves = torch.zeros(1, 3, 4, 4)
    halves[..., 2:] = torch.tensor([0.1, 0.9, 0.5]).view(3, 1, 1)
    own = image_palette(halves, 2)
    torch.testing.assert_close(own[0], torch.tensor([[0, 0, 0], [0.1, 0.9, 0.5]]))
    maps = MCRISE(SmallNet()).attribute(
        images(), image_palette(images(), 3), target=1, n_masks=32
    )
    assert maps.shape == (3, 3, 12, 14)


def test_color_that_raises_the_score_has_the_highest_map():
    """A score that red in the upper half and blue in the lower half raise."""

    def prefers(x: Tensor) -> Tensor:
        red, blue = x[:, 0] - x[:, 1:].mean(1), x[:, 2] - x[:, :2].mean(1)
        return torch.sigmoid(red[:, :8].mean((1, 2)) + blue[:, 8:].mean((1, 2)))

    x = torch.full((1, 3, 16, 16), 0.5)
    palette = named_palette(["red", "green", "blue"])
    maps = MCRISE(prefers).attribute(x, palette, n_masks=800)[0]
    assert (maps[:, :5].argmax(0) == 0).all() and (maps[:, 11:].argmax(0) == 2).all()
    assert (maps[0, :5] > 0).all() and (maps[1, :5] < 0).all()


@pytest.mark.parametrize("estimator", ["field", "control_variate", "monte_carlo"])
def test_more_colors_than_a_byte_can_count(estimator):
    """Painting a column that is the score in color k adds c_k."""
    colors = torch.linspace(1, 2, 300)[:, None]
    maps = MCRISE(lambda x: x[:, 0]).attribute(
        torch.zeros(1, 1), colors, n_masks=2400, estimator=estimator
    )
    if estimator == "field":
        torch.testing.assert_close(maps[0], colors)
    torch.testing.assert_close(
        maps[0, 255:].mean(), colors[255:].mean(), atol=0.4, rtol=0
    )


NAN = images()
NAN[0, 0, 0, 0] = float("nan")
REFUSED = {
    "keep_probability 0": (PNRISE, {"keep_probability": 0.0}, "keep_probability"),
    "keep_probability 1": (RISE, {"keep_probability": 1.0}, "keep_probability"),
    "mask_probability": (MCRISE, {"mask_probability": 1.5}, "mask_probability"),
    "grid too large": (PNRISE, {"grid_size": 13}, "grid_size"),
    "grid of three axes": (PNRISE, {"grid_size": (2, 2, 2)}, "grid_size"),
    "grid of no cells": (PNRISE, {"grid_size": 0}, "grid_size"),
    "one mask": (PNRISE, {"n_masks": 1}, "n_masks"),
    "grid of a float": (PNRISE, {"grid_size": 3.0}, "grid_size"),
    "grid and regions": (
        PNRISE,
        {"grid_size": 2, "feature_mask": torch.zeros(1, 1, 1, 1, dtype=torch.long)},
        "grid_size",
    ),
    "probability as text": (PNRISE, {"keep_probability": "0.5"}, "keep_probability"),
    "target as a bool": (PNRISE, {"target": True}, "target"),
    "seed": (PNRISE, {"seed": 2**64}, "seed"),
    "integer image": (PNRISE, {"inputs": torch.ones(1, 3, 8, 8).byte()}, "inputs"),
    "fraction for integers": (
        PNRISE,
        {"inputs": torch.ones(2, 3).long(), "baselines": 0.7},
        "baselines",
    ),
    "masks as a float": (PNRISE, {"n_masks": 10.0}, "n_masks"),
    "two targets for three": (PNRISE, {"target": [0, 1]}, "target"),
    "target as text": (PNRISE, {"target": "dog"}, "target"),
    "baseline": (PNRISE, {"baselines": torch.zeros(1, 3, 5, 5)}, "baselines"),
    "NaN baseline": (PNRISE, {"baselines": float("nan")}, "baselines"),
    "two baselines": (PNRISE, {"baselines": (0, 0)}, "baselines"),
    "wide colors": (MCRISE, {"colors": torch.zeros(2, 4)}, "colors"),
    "no colors": (MCRISE, {"colors": torch.zeros(0, 3)}, "colors"),
    "colors as a list": (MCRISE, {"colors": [[0, 0, 0]]}, "colors"),
    "NaN": (PNRISE, {"inputs": NAN}, "inputs"),
    "empty batch": (PNRISE, {"inputs": torch.zeros(0, 3, 8, 8)}, "inputs"),
    "list": (PNRISE, {"inputs": [1.0]}, "inputs"),
    "batch sizes": (PNRISE, {"inputs": (images(2), images(3))}, "inputs"),
    "estimator": (PNRISE, {"estimator": "magic"}, "estimator"),
    "tolerance": (PNRISE, {"tolerance": -1.0}, "tolerance"),
    "error of two masks": (
        PNRISE,
        {"n_masks": 2, "return_std_error": True},
        "n_masks",
    ),
    "chunk": (PNRISE, {"perturbations_per_eval": 0}, "perturbations_per_eval"),
    "chunk name": (PNRISE, {"perturbations_per_eval": "x"}, "perturbations_per_eval"),
    "float regions": (
        PNRISE,
        {"feature_mask": torch.zeros(1, 1, 1, 1)},
        "feature_mask",
    ),
    "regions": (
        PNRISE,
        {"feature_mask": torch.zeros(1, 1, 5, 5, dtype=torch.long)},
        "feature_mask",
    ),
    "regions by channel": (
        MCRISE,
        {"feature_mask": torch.arange(3).view(1, 3, 1, 1)},
        "feature_mask",
    ),
}


@pytest.mark.parametrize("method, kwargs, name", REFUSED.values(), ids=REFUSED)
def test_bad_arguments_are_refused_before_any_forward_pass(method, kwargs, name):
    def never(*inputs: Tensor) -> Tensor:
        raise AssertionError("a forward pass was spent")

    kwargs = {"inputs": images(), "target": 0, **kwargs}
    if method is MCRISE:
        kwargs = {"colors": COLORS, **kwargs}
    with pytest.raises((ValueError, TypeError), match=name) as error:
        method(never).attribute(**kwargs)
    assert str(error.value).count(". ") == 0 and str(error.value).endswith(".")


@pytest.mark.parametrize("output", [(1.0, 2.0, "x"), {"logits": 1}, None])
def test_output_that_is_not_a_number(output):
    with pytest.raises(TypeError, match="forward_func must return a tensor"):
        PNRISE(lambda x: output).attribute(images())


def test_map_that_the_dtype_cannot_hold():
    """Scores of float16 inputs may exceed the range of float16."""
    with pytest.raises(ValueError, match="fit into torch.float16"):
        RISE(lambda x: 1e5 * total(x.float())).attribute(images().half(), n_masks=8)


def test_numpy_integers_and_a_grid_next_to_a_table():
    x, y = images(), torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    kwargs = {"n_masks": np.int64(32), "seed": np.int32(1)}
    maps = PNRISE(lambda x, y: total(x) + total(y)).attribute(
        (x, y), grid_size=np.int64(3), **kwargs
    )
    assert [m.shape for m in maps] == [x.shape, y.shape]


def test_palettes_of_several_inputs_and_of_one_example():
    x, palette = images(), named_palette(2)
    kwargs = {"n_masks": 32, "target": None}
    maps = MCRISE(lambda x, y: total(x) + total(y)).attribute(
        (x, x), (palette, palette), **kwargs
    )
    assert [m.shape for m in maps] == [(3, 2, 12, 14)] * 2
    one = MCRISE(total).attribute(x, palette.colors[None], **kwargs)
    torch.testing.assert_close(one, MCRISE(total).attribute(x, palette, **kwargs))


def test_regions_of_all_channels_are_accepted_for_colors():
    regions = (torch.arange(14) // 4).expand(1, 3, 12, 14)
    maps = [
        MCRISE(SmallNet()).attribute(
            images(), COLORS, target=1, n_masks=32, feature_mask=mask
        )
        for mask in (regions, regions[:, :1])
    ]
    torch.testing.assert_close(*maps)


def test_tolerance_waits_for_rare_masks():
    """A run does not stop before the rarest category was drawn."""
    _, error = PNRISE(lambda x: torch.sin(total(x))).attribute(
        images(1),
        n_masks=4000,
        keep_probability=0.01,
        tolerance=1e-3,
        return_std_error=True,
    )
    assert error.max() > 1e-3


@pytest.mark.parametrize("length", [40_000])
def test_long_sequence(length):
    """Memory grows with the length of a sequence, not with its square."""
    x = torch.ones(1, 1, length)
    maps = PNRISE(lambda x: x.mean((1, 2))).attribute(x, n_masks=200)
    assert maps.shape == x.shape and (maps > 0).all()


@pytest.mark.parametrize("target", [7, [0, 1, 9], torch.tensor([0, 1, 9]), (1, 1)])
def test_target_beyond_the_output(target):
    with pytest.raises(ValueError, match=r"target .* shape \(\d+, 3\)"):
        PNRISE(SmallNet()).attribute(images(), target=target)


def test_output_without_a_target():
    with pytest.raises(ValueError, match="target"):
        PNRISE(SmallNet()).attribute(images())


def test_fixed_chunk_with_one_number_a_batch():
    with pytest.raises(ValueError, match="perturbations_per_eval"):
        PNRISE(lambda x: x.sum()).attribute(images(), perturbations_per_eval=4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_counted(value):
    """They are not averaged into a map."""
    seen = []

    def sometimes(x: Tensor) -> Tensor:
        scores = total(x)
        for i in range(len(scores)):
            seen.append(len(seen) % 10 == 3)
            if seen[-1]:
                scores[i] = value
        return scores

    with pytest.raises(ValueError, match="10 of 100 scores"):
        PNRISE(sometimes).attribute(images(1), n_masks=100)
