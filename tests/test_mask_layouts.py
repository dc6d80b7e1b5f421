"""Mask layouts as an argument: the grid's map, exact expectations, refusals."""

import itertools
import math

import pytest
import torch
from contract import SmallNet, images
from torch import Tensor

from captum_ext.attr import MCRISE, PNRISE, RISE
from captum_ext.masks import GridLayout, MaskLayout, ProductLayout, RegionLayout

COLORS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 1.0]])


class Stripes(MaskLayout):
    """Hard stripes of three pixels in a sequence, at a random shift."""

    width = 3

    def __init__(self, length: int) -> None:
        n_cells = (length + self.width - 2) // self.width + 1
        super().__init__(n_cells, n_shifts=(self.width,))
        self.pixels = torch.arange(length)

    def expand(self, values: Tensor, shifts: Tensor) -> tuple[Tensor, ...]:
        pixels = self.pixels.to(values.device)
        cells = (pixels + shifts.long()) // self.width
        index = cells[:, None].expand(-1, values.shape[1], -1)
        return (values.gather(2, index)[:, :, None, None],)


class OnlyExpand(MaskLayout):
    """Another layout without its fast methods."""

    def __init__(self, layout: MaskLayout) -> None:
        super().__init__(layout.n_cells, layout.n_shifts)
        self.layout = layout

    def expand(self, values: Tensor, shifts: Tensor) -> tuple[Tensor, ...]:
        return self.layout.expand(values, shifts)


def attribute(method, inputs=None, forward_func=None, **kwargs):
    if method is MCRISE:
        kwargs = {"colors": COLORS, **kwargs}
    explainer = method(forward_func or SmallNet())
    inputs = images() if inputs is None else inputs
    return explainer.attribute(inputs, target=1, n_masks=64, **kwargs)


@pytest.mark.parametrize("method", [RISE, PNRISE, MCRISE])
@pytest.mark.parametrize("input_shaped", [False, True])
def test_grid_as_a_layout_gives_the_map_of_grid_size(method, input_shaped):
    kwargs = {"input_shaped": input_shaped} if method is MCRISE else {}
    expected = attribute(method, grid_size=4, **kwargs)
    maps = attribute(method, layout=GridLayout((12, 14), (4, 4)), **kwargs)
    assert torch.equal(maps, expected)


@pytest.mark.parametrize("method", [RISE, PNRISE, MCRISE])
@pytest.mark.parametrize("estimator", ["control_variate", "monte_carlo"])
def test_expand_alone_gives_the_map_of_regions(method, estimator):
    regions = torch.arange(14).expand(1, 1, 12, 14) // 4
    kwargs = {"estimator": estimator, "return_std_error": True}
    expected = attribute(method, feature_mask=regions, **kwargs)
    layout = OnlyExpand(RegionLayout([regions]))
    for found, known in zip(attribute(method, layout=layout, **kwargs), expected):
        torch.testing.assert_close(found, known)


def test_expand_alone_is_close_to_the_grid_of_monte_carlo():
    """Only the control variate depends on the features of a layout."""
    layout = GridLayout((12, 14), (4, 4))
    maps = [
        attribute(PNRISE, layout=each, estimator="monte_carlo")
        for each in (layout, OnlyExpand(layout))
    ]
    torch.testing.assert_close(*maps, atol=1e-6, rtol=1e-4)


def test_layout_of_two_inputs():
    x, y = images(), torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    columns = RegionLayout([torch.arange(4)[None]])
    layout = ProductLayout([GridLayout((12, 14), (3, 3)), OnlyExpand(columns)])
    explainer = PNRISE(lambda x, y: x.flatten(1).sum(1) * y.sum(1))
    maps = explainer.attribute((x, y), layout=layout, n_masks=32)
    expected = explainer.attribute((x, y), grid_size=3, n_masks=32)
    torch.testing.assert_close(maps, expected)


def test_masks_with_axes_of_length_1_fill_the_input():
    """One value per row, repeated along the columns."""
    rows = RegionLayout([torch.arange(12).view(1, 1, 12, 1)])
    assert attribute(PNRISE, layout=rows).shape == (3, 3, 12, 14)
    assert attribute(MCRISE, layout=rows).shape == (3, 2, 12, 14)


LENGTH = 5
SEQUENCE = torch.linspace(0.3, 1.2, LENGTH, dtype=torch.float64).view(1, 1, LENGTH)


def interacting(x: Tensor) -> Tensor:
    """A function of sequences (B, 1, L) that is not linear in the mask."""
    x = x[:, 0]
    return torch.sigmoid(x.sum(1)) + x[:, 0] * x[:, 2] * torch.tanh(x[:, 4])


def enumerated(fills: list[float], probabilities: list[float]) -> Tensor:
    """Conditional means (K + 1, L) over all cells and shifts of the stripes."""
    means = torch.zeros(len(probabilities), LENGTH, dtype=torch.float64)
    n_cells = Stripes(LENGTH).n_cells
    for shift in range(Stripes.width):
        stripe = (torch.arange(LENGTH) + shift) // Stripes.width
        for draw in itertools.product(range(len(probabilities)), repeat=n_cells):
            category = torch.tensor(draw)[stripe]
            weight = math.prod(probabilities[j] for j in draw) / Stripes.width
            masked = SEQUENCE.clone()
            for k, fill in enumerate(fills, start=1):
                masked[0, 0, category == k] = fill
            kept = torch.stack([category == j for j in range(len(probabilities))])
            means += weight * kept * interacting(masked)
    return means / torch.tensor(probabilities, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("estimator", ["control_variate", "monte_carlo"])
@pytest.mark.parametrize("method", [RISE, PNRISE, MCRISE])
def test_expectation_is_the_enumerated_one(method, estimator):
    """Mean over seeds within 4.5 of its own standard errors."""
    kwargs = {"layout": Stripes(LENGTH), "n_masks": 100, "estimator": estimator}
    if method is MCRISE:
        means = enumerated([-0.5, 0.7], [0.4, 0.3, 0.3])
        kwargs |= {"colors": torch.tensor([[-0.5], [0.7]]), "mask_probability": 0.6}
        truth = means[1:] - means[:1]
    else:
        means = enumerated([0.0], [0.4, 0.6])
        kwargs |= {"keep_probability": 0.4}
        truth = means[:1] - (means[1:] if method is PNRISE else 0)
    maps = torch.stack(
        [
            method(interacting).attribute(SEQUENCE, seed=seed, **kwargs)[0]
            for seed in range(200)
        ]
    )
    spread = maps.std(0) / math.sqrt(len(maps))
    assert ((maps.mean(0) - truth).abs() <= 4.5 * spread + 1e-9).all()


GRID = GridLayout((12, 14), (2, 2))
CHANNELS = RegionLayout([torch.arange(3).view(1, 3, 1, 1)])
REGIONS = torch.zeros(1, 1, 1, 1, dtype=torch.long)


class Changed(OnlyExpand):
    """Another layout whose masks are changed."""

    def __init__(self, layout: MaskLayout, change) -> None:
        super().__init__(layout)
        self.change = change

    def expand(self, values: Tensor, shifts: Tensor) -> tuple[Tensor, ...]:
        return self.change(super().expand(values, shifts))


REFUSED = {
    "another size": (
        PNRISE,
        {"layout": GridLayout((12, 12), (2, 2))},
        "return one tensor",
    ),
    "fewer axes": (PNRISE, {"layout": GridLayout((14,), (2,))}, "return one tensor"),
    "two masks": (PNRISE, {"layout": ProductLayout([GRID, GRID])}, "return one tensor"),
    "each its own": (
        PNRISE,
        {"layout": RegionLayout([torch.arange(3).view(3, 1, 1, 1)])},
        "return one tensor",
    ),
    "a mask per channel": (MCRISE, {"layout": CHANNELS}, "a channel axis of 1"),
    "text": (PNRISE, {"layout": "superpixels"}, "must be an instance of MaskLayout"),
    "class": (PNRISE, {"layout": RegionLayout}, "must be an instance of MaskLayout"),
    "no tuple": (
        PNRISE,
        {"layout": Changed(GRID, lambda masks: masks[0])},
        "must return a tuple .* got Tensor",
    ),
    "one mask for all": (
        PNRISE,
        {"layout": Changed(GRID, lambda masks: (masks[0][:1],))},
        "return one tensor",
    ),
    "scaled": (
        PNRISE,
        {"layout": Changed(GRID, lambda masks: (2 * masks[0],))},
        "sum to 1 .* from 2 to 2",
    ),
    "grid": (PNRISE, {"layout": GRID, "grid_size": 2}, "got grid_size and layout"),
    "regions": (
        MCRISE,
        {"layout": GRID, "feature_mask": REGIONS},
        "got feature_mask and layout",
    ),
}


@pytest.mark.parametrize("method, kwargs, message", REFUSED.values(), ids=REFUSED)
def test_bad_layouts_are_refused_before_any_forward_pass(method, kwargs, message):
    def never(x: Tensor) -> Tensor:
        raise AssertionError("a forward pass was spent")

    with pytest.raises((ValueError, TypeError), match=message) as error:
        attribute(method, forward_func=never, **kwargs)
    assert str(error.value).count(". ") == 0 and str(error.value).endswith(".")


def test_channels_may_have_different_masks():
    maps = attribute(PNRISE, layout=CHANNELS)
    assert torch.equal(maps[..., :1, :1].expand_as(maps), maps)
    assert not torch.equal(maps[:, 0], maps[:, 1])


@pytest.mark.parametrize("n_cells", [0, 2.5, None])
def test_bad_numbers_of_cells_are_refused(n_cells):
    with pytest.raises(ValueError, match="n_cells must be a positive integer"):
        MaskLayout.__init__(GRID, n_cells)


@pytest.mark.parametrize("n_shifts", [4, [4], (0,)])
def test_bad_numbers_of_shifts_are_refused(n_shifts):
    with pytest.raises(ValueError, match="n_shifts must be a tuple of positive"):
        MaskLayout.__init__(GRID, 4, n_shifts)
