"""Mask layouts as an argument: the grid's map, exact expectations, refusals."""

import itertools
import math
import warnings

import pytest
import torch
from contract import SmallNet, images
from torch import Tensor

from captum_ext.attr import MCRISE, PNRISE, RISE, BOREx
from captum_ext.attr.estimators import conditional_means, cross_fit
from captum_ext.attr.field_search import shared_cells
from captum_ext.attr.mask_layouts import mask_layouts
from captum_ext.masks import (
    GridLayout,
    MaskCodes,
    MaskLayout,
    MixedLayout,
    ProductLayout,
    RegionLayout,
    sequence_mask,
    superpixels,
)

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
def test_grid_by_name_is_the_default(method):
    assert torch.equal(attribute(method, layout="grid"), attribute(method))
    sized = attribute(method, layout="grid", grid_size=4)
    assert torch.equal(sized, attribute(method, grid_size=4))


def test_grid_by_name_of_a_table_is_its_columns():
    def total(x: Tensor) -> Tensor:
        return x.sum(1)

    table = images()[:, 0, 0]
    maps = PNRISE(total).attribute(table, layout="grid", n_masks=32)
    assert torch.equal(maps, PNRISE(total).attribute(table, n_masks=32))


@pytest.mark.parametrize("n_examples", [1, 3])
@pytest.mark.parametrize("method", [RISE, PNRISE, MCRISE])
def test_superpixels_by_name_are_a_feature_mask(method, n_examples):
    x = images(n_examples)
    kwargs = {"inputs": x, "return_std_error": True}
    maps = attribute(method, layout="superpixels", **kwargs)
    expected = attribute(method, feature_mask=superpixels(x), **kwargs)
    for found, known in zip(maps, expected):
        torch.testing.assert_close(found, known, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("estimator", ["control_variate", "field"])
def test_superpixels_of_video_by_name(estimator):
    x = torch.rand(2, 3, 4, 12, 14, generator=torch.Generator().manual_seed(0))
    kwargs = {"inputs": x, "estimator": estimator, "n_masks": 32}
    explainer = PNRISE(lambda x: x.flatten(1).square().sum(1))
    maps = explainer.attribute(layout="superpixels", **kwargs)
    expected = explainer.attribute(feature_mask=superpixels(x), **kwargs)
    torch.testing.assert_close(maps, expected, atol=1e-6, rtol=1e-5)
    for i, cells in enumerate(shared_cells((x, 2 * x), None)):
        assert all(torch.equal(r, superpixels(x[i : i + 1])) for r in cells.regions)


def mixed_superpixels(image: Tensor) -> MaskLayout:
    sizes = (25, 50, 100)
    return MixedLayout([RegionLayout([superpixels(image, n)]) for n in sizes])


@pytest.mark.parametrize("method", [RISE, PNRISE, MCRISE])
def test_mixed_by_name_is_superpixels_of_three_sizes(method):
    x = torch.rand(2, 3, 32, 36, generator=torch.Generator().manual_seed(0))
    maps = attribute(method, x, layout="mixed")
    for i in range(2):
        layout = mixed_superpixels(x[i : i + 1])
        alone = attribute(method, x[i : i + 1], layout=layout)
        torch.testing.assert_close(maps[i : i + 1], alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["superpixels", "mixed"])
def test_superpixels_of_an_image_beside_a_table(name):
    x, y = images(), images()[:, 0, 0, :4]
    explainer = PNRISE(lambda x, y: x.flatten(1).sum(1) * y.sum(1))
    maps = explainer.attribute((x, y), layout=name, n_masks=32)
    for i in range(3):
        one = x[i : i + 1], y[i : i + 1]
        image = mixed_superpixels(one[0])
        if name == "superpixels":
            image = RegionLayout([superpixels(one[0])])
        layout = ProductLayout([image, RegionLayout([torch.arange(4)[None]])])
        expected = explainer.attribute(one, layout=layout, n_masks=32)
        for each, alone in zip(maps, expected):
            torch.testing.assert_close(each[i : i + 1], alone)


def test_one_layout_for_the_batch_or_one_for_each_example():
    x = (images(),)
    assert len(mask_layouts(x, None, None, "grid")) == 1
    assert len(mask_layouts(x, None, None, "superpixels")) == 3
    assert len(mask_layouts(x, None, None, "mixed")) == 3


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


def conditional(layout: MaskLayout, p: float) -> Tensor:
    """Conditional means (2, L) over all cells and shifts, by their definition."""
    means = torch.zeros(2, LENGTH, dtype=torch.float64)
    for shift in itertools.product(*map(range, layout.n_shifts)):
        for draw in itertools.product((0.0, 1.0), repeat=layout.n_cells):
            weight = p ** draw.count(0.0) * (1 - p) ** draw.count(1.0)
            cells = torch.tensor(draw, dtype=torch.float64)[None, None]
            hidden = layout.expand(cells, torch.tensor([shift]))[0][0, 0, 0, 0]
            score = interacting(SEQUENCE * (1 - hidden))
            means += weight * score * torch.stack([1 - hidden, hidden])
    n_shifts = math.prod(layout.n_shifts)
    return means / n_shifts / torch.tensor([[p], [1 - p]], dtype=torch.float64)


def pairs(layout: MaskLayout, p: float) -> list[tuple[MaskCodes, float]]:
    """All pairs of masks that antithetic numbers give for p <= 1/2, and their odds."""
    both = {(0, 1): p, (1, 1): 1 - 2 * p, (1, 0): p}
    both = {cell: weight for cell, weight in both.items() if weight > 0}
    shifts = list(itertools.product(*map(range, layout.n_shifts)))
    return [
        (
            MaskCodes(
                torch.tensor(cells, dtype=torch.uint8).T, torch.tensor([shift, shift])
            ),
            math.prod(both[cell] for cell in cells) / len(shifts),
        )
        for cells in itertools.product(both, repeat=layout.n_cells)
        for shift in shifts
    ]


def row(*labels: int) -> MaskLayout:
    return RegionLayout([torch.tensor(labels).view(1, 1, -1)])


TWO_REGIONS = row(0, 0, 1, 1, 1)
MIXED = {
    "regions": MixedLayout([TWO_REGIONS, row(0, 1, 1, 0, 0)]),
    "of two sizes": MixedLayout([row(0, 0, 0, 0, 0), row(0, 1, 1, 1, 0)]),
    "with a grid": MixedLayout([TWO_REGIONS, GridLayout((LENGTH,), (2,))]),
}


@pytest.mark.parametrize(
    "name, p",
    [("regions", 0.5), ("regions", 0.4), ("of two sizes", 0.4), ("with a grid", 0.5)],
)
def test_expected_control_variate_is_exact(name, p):
    """Mean of the estimate over every draw of two pairs, each with its probability."""
    layout = MIXED[name]
    mean = torch.zeros(2, LENGTH, dtype=torch.float64)
    for (one, weight), (other, odds) in itertools.product(pairs(layout, p), repeat=2):
        codes = MaskCodes(
            torch.cat([one.cells, other.cells]), torch.cat([one.shifts, other.shifts])
        )
        hidden = layout.expand(codes.indicators(1).double(), codes.shifts)[0]
        scores = interacting(SEQUENCE * (1 - hidden[:, 0, 0]))[:, None]
        fit = cross_fit(layout, codes, (p, 1 - p), scores, 2)
        (means,) = conditional_means(layout, codes, (p, 1 - p), fit)
        mean += weight * odds * means[:, 0, 0]
    truth = conditional(layout, p)
    assert (truth[0] - truth[1]).abs().min() > 0.01
    torch.testing.assert_close(mean, truth, atol=1e-6, rtol=0)


def test_expected_map_of_mixed_is_the_mean_of_its_layouts():
    parts = MIXED["with a grid"].layouts
    expected = sum(conditional(part, 0.4) for part in parts) / 2
    torch.testing.assert_close(
        conditional(MixedLayout(parts), 0.4), expected, atol=1e-6, rtol=0
    )


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
    "a mask per channel": (MCRISE, {"layout": CHANNELS}, "a channel axis of 1"),
    "unknown name": (
        PNRISE,
        {"layout": "squares"},
        "must be one of 'grid', 'superpixels', 'mixed', got 'squares'",
    ),
    "class": (PNRISE, {"layout": RegionLayout}, "name or an instance of MaskLayout"),
    "superpixels of a table": (
        PNRISE,
        {"layout": "superpixels", "inputs": torch.rand(3, 5)},
        r"unless inputs are images .* got inputs of shape \(3, 5\); .* feature_mask",
    ),
    "superpixels of a sequence": (
        PNRISE,
        {"layout": "superpixels", "inputs": (images(), torch.rand(3, 4, 9))},
        r"shape \(3, 3, 12, 14\), \(3, 4, 9\); .* feature_mask",
    ),
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
    "regions and a grid": (
        PNRISE,
        {"layout": "grid", "feature_mask": REGIONS},
        "got feature_mask and layout",
    ),
    "regions, a grid and its size": (
        PNRISE,
        {"layout": "grid", "feature_mask": REGIONS, "grid_size": 2},
        "got feature_mask and grid_size and layout",
    ),
    "superpixels and a grid": (
        PNRISE,
        {"layout": "superpixels", "grid_size": 2},
        "got grid_size and layout",
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
    with pytest.raises((ValueError, TypeError), match="n_cells must be a"):
        MaskLayout.__init__(GRID, n_cells)


@pytest.mark.parametrize("n_shifts", [4, [4], (0,)])
def test_bad_numbers_of_shifts_are_refused(n_shifts):
    with pytest.raises((ValueError, TypeError), match="n_shifts must be a"):
        MaskLayout.__init__(GRID, 4, n_shifts)


# Sequences with the batch first and features last

WEIGHTS = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
SEQUENCES = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(2))


def weighted(x: torch.Tensor) -> torch.Tensor:
    return (x * WEIGHTS).sum((1, 2))


def test_positions_of_sequences_are_hidden_as_a_whole():
    """Features of a position get one value: what it adds to a linear score."""
    added = (SEQUENCES * WEIGHTS).sum(2, keepdim=True)
    seen = []

    def recorded(x: torch.Tensor) -> torch.Tensor:
        seen.append((x != 0).float())
        return weighted(x)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maps = PNRISE(recorded).attribute(
            SEQUENCES, feature_mask=sequence_mask(SEQUENCES), n_masks=1000
        )
    shown = torch.cat(seen)
    assert (shown == shown[:, :, :1]).all() and 0 < shown.mean() < 1
    torch.testing.assert_close(maps, added.expand_as(maps), atol=0.05, rtol=0)
    field = PNRISE(weighted).attribute(
        SEQUENCES, feature_mask=sequence_mask(SEQUENCES), n_masks=32, estimator="field"
    )
    torch.testing.assert_close(field * 4, added.expand_as(field), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("n_regions", [1, 2, 4, 5, 6])
def test_regions_of_sequences_are_equal_parts(n_regions):
    regions = sequence_mask(SEQUENCES, n_regions)
    assert regions.shape == (1, 6, 1)
    sizes = regions.flatten().bincount()
    assert len(sizes) == n_regions and sizes.max() - sizes.min() <= 1
    assert (regions.flatten().diff() >= 0).all()


@pytest.mark.parametrize(
    "inputs, n_regions, message",
    [
        (
            SEQUENCES[0],
            None,
            r"inputs must be sequences \(B, L, C\), got shape \(6, 4\)",
        ),
        (SEQUENCES, 7, "n_regions must be"),
        (SEQUENCES, 0, "n_regions must be"),
    ],
)
def test_sequence_mask_refuses(inputs, n_regions, message):
    with pytest.raises(ValueError, match=message):
        sequence_mask(inputs, n_regions)


@pytest.mark.parametrize(
    "method, options",
    [(RISE, {}), (PNRISE, {}), (PNRISE, {"estimator": "field"})],
)
def test_axis_of_sequences_must_be_meant(method, options):
    options = {"n_masks": 16} | options
    said = r"\(2, 6, 4\) are masked along their last axis.*layout='grid'.*sequence_mask"
    with pytest.warns(UserWarning, match=said) as caught:
        maps = method(weighted).attribute(SEQUENCES, **options)
    assert len(caught) == 1 and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        meant = method(weighted).attribute(SEQUENCES, layout="grid", **options)
        method(weighted).attribute(SEQUENCES, grid_size=2, **options)
        method(lambda x: weighted(x[..., 0])).attribute(SEQUENCES[..., None], **options)
    assert torch.equal(maps, meant)


def test_positions_of_a_sequence_are_apart():
    """Along the axis of the regions, in units of its length; neighbors touch."""
    layout = RegionLayout([sequence_mask(SEQUENCES, 3).expand(1, 6, 4)])
    steps = layout.positions().diff(dim=0)
    expected = torch.tensor([0, 1 / 3, 0]).double().expand(2, 3)
    torch.testing.assert_close(steps, expected)
    touching = layout.neighbors().fill_diagonal_(False)
    assert touching.triu().nonzero().tolist() == [[0, 1], [1, 2]]


def test_borex_warns_of_sequences_too():
    """Regions say which axis is meant."""
    borex = BOREx(lambda x: x[:, 1].sum(1))
    said = r"\(2, 6, 4\) are masked .* pass feature_mask=torch.arange\(4\) if they are"
    with pytest.warns(UserWarning, match=said):
        series = borex.attribute(SEQUENCES, n_iterations=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = borex.attribute(SEQUENCES, n_iterations=4, feature_mask=torch.arange(4))
    torch.testing.assert_close(series, same)
