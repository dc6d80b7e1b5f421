"""Mask layouts, fills and palettes against explicit loops and enumerations."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from skimage.segmentation import slic
from torch import Tensor

from captum_ext._interpolation import resize
from captum_ext.masks import (
    GridLayout,
    MaskCodes,
    MaskLayout,
    MixedLayout,
    Palette,
    ProductLayout,
    RegionLayout,
    apply_masks,
    candidate_masks,
    disjoint_regions,
    draw_masks,
    enlarged_cells,
    image_palette,
    memory_format_of,
    named_palette,
    smooth_halves,
    superpixels,
)


class OnlyExpand(MaskLayout):
    """Another layout without its fast methods."""

    def __init__(self, layout: MaskLayout) -> None:
        super().__init__(layout.n_cells, layout.n_shifts)
        self.layout = layout

    def expand(self, values: Tensor, shifts: Tensor) -> tuple[Tensor, ...]:
        return self.layout.expand(values, shifts)


def stripes() -> MaskLayout:
    return OnlyExpand(GridLayout((2, 3), (1, 3)))


SHARED = torch.tensor([[[[0, 0, 4], [900_000_007, 4, 4]]]])
TABLE = torch.tensor([[5, 5, -3, 2]])

# Small enough to enumerate: at most 9 cells and 12 shifts.
LAYOUTS = {
    "1-D": lambda: GridLayout((7,), (3,)),
    "1-D, one cell": lambda: GridLayout((4,), (1,)),
    "1-D, one cell per pixel": lambda: GridLayout((4,), (4,)),
    "2-D": lambda: GridLayout((5, 6), (2, 3)),
    "3-D": lambda: GridLayout((2, 3, 5), (1, 2, 2)),
    "expand alone": lambda: OnlyExpand(GridLayout((5, 6), (2, 3))),
    "regions": lambda: RegionLayout([SHARED]),
    "regions of two inputs": lambda: RegionLayout([SHARED, TABLE]),
    "product": lambda: ProductLayout(
        [
            GridLayout((3, 4), (2, 2)),
            OnlyExpand(RegionLayout([TABLE])),
            GridLayout((5,), (2,)),
        ]
    ),
    "mixed": lambda: MixedLayout(
        [GridLayout((2, 3), (2, 2)), RegionLayout([SHARED]), stripes()]
    ),
    "mixed, two inputs": lambda: MixedLayout(
        [
            ProductLayout([GridLayout((2, 3), (2, 1)), RegionLayout([TABLE])]),
            RegionLayout([SHARED, TABLE]),
        ]
    ),
}
N_EXAMPLES = 3

every_layout = pytest.mark.parametrize("name", LAYOUTS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def some_shifts(layout, n_masks: int) -> Tensor:
    drawn = [
        torch.randint(n, (n_masks,), generator=generator(3)) for n in layout.n_shifts
    ]
    return torch.stack(drawn, 1) if drawn else torch.empty(n_masks, 0).long()


def all_shifts(layout) -> Tensor:
    ranges = [range(n) for n in layout.n_shifts]
    return torch.tensor(list(itertools.product(*ranges))).reshape(
        math.prod(layout.n_shifts), len(ranges)
    )


def all_codes(layout):
    """Cells -1 and 1 (mean 0, variance 1) in every way, with every shift."""
    cells = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=layout.n_cells)))
    shifts = all_shifts(layout)
    values = cells.double().repeat_interleave(len(shifts), 0)[:, None]
    return values, shifts.repeat(len(cells), 1)


def interpolated(position: int, size: int, n_cells: int, values: Tensor) -> Tensor:
    """One pixel of an axis that is enlarged to (n_cells + 1) ceil(size / n_cells)."""
    enlarged = (n_cells + 1) * math.ceil(size / n_cells)
    source = max((position + 0.5) * n_cells / enlarged - 0.5, 0.0)
    low = min(math.floor(source), n_cells - 1)
    high = min(low + 1, n_cells - 1)
    return (1 - (source - low)) * values[low] + (source - low) * values[high]


def expanded_by_hand(size, grid, values: Tensor, shift) -> Tensor:
    """One mask of one category, pixel by pixel."""
    mask = torch.empty(size, dtype=torch.float64)
    for pixel in itertools.product(*map(range, size)):
        value = values.view(grid)
        for axis, (n, s) in enumerate(zip(size, grid)):
            value = interpolated(pixel[axis] + int(shift[axis]), n, s, value)
        mask[pixel] = value
    return mask


def explicit_sum(layout, weights, values, shifts):
    """sum_n weights[n] expand(values, shifts)[n], mask by mask: (K, B, ...)."""
    sums = []
    for masks in layout.expand(values, shifts):
        masks = masks.expand(*masks.shape[:2], N_EXAMPLES, *masks.shape[3:])
        total = torch.zeros_like(masks[0])
        for n, b in itertools.product(range(len(masks)), range(N_EXAMPLES)):
            total[:, b] += weights[n, b] * masks[n, :, b]
        sums.append(total)
    return sums


@pytest.mark.parametrize("size, n_cells", [(4, 2), (7, 3), (5, 5), (6, 1), (224, 7)])
def test_enlarged_cells(size, n_cells):
    """Rows sum to 1 and are F.interpolate's weights, with room for every shift."""
    rows = enlarged_cells(size, n_cells)
    n_shifts = math.ceil(size / n_cells)
    assert len(rows) >= size + n_shifts - 1
    assert (rows >= 0).all()
    torch.testing.assert_close(rows.sum(1), torch.ones(len(rows)))
    cells = torch.rand(1, 1, n_cells, generator=generator())
    large = F.interpolate(cells, (n_cells + 1) * n_shifts, mode="linear")[0, 0]
    torch.testing.assert_close(rows @ cells[0, 0], large)


@pytest.mark.parametrize(
    "size, grid",
    [((7,), (3,)), ((5, 6), (2, 3)), ((4, 4), (4, 1)), ((2, 5, 4), (2, 3, 2))],
)
def test_expand_is_an_explicit_loop(size, grid):
    layout = GridLayout(size, grid)
    values = numbers(4, 2, layout.n_cells)
    shifts = some_shifts(layout, 4)
    (masks,) = layout.expand(values, shifts)
    assert masks.shape == (4, 2, 1, 1, *size)
    for n, k in itertools.product(range(4), range(2)):
        expected = expanded_by_hand(size, grid, values[n, k], shifts[n])
        torch.testing.assert_close(masks[n, k, 0, 0], expected, atol=1e-6, rtol=0)


def test_expanded_grid_is_bilinear_interpolation_and_crop():
    """Algorithm 1 of the supplement, lines 9 and 10, in one call of torch."""
    layout = GridLayout((9, 13), (3, 4))
    values = numbers(5, 2, 12)
    shifts = some_shifts(layout, 5)
    (masks,) = layout.expand(values, shifts)
    large = F.interpolate(values.unflatten(2, (3, 4)), (12, 20), mode="bilinear")
    for n, (y, x) in enumerate(shifts.tolist()):
        expected = large[n, :, y : y + 9, x : x + 13]
        torch.testing.assert_close(masks[n, :, 0, 0], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("regions", [SHARED, TABLE], ids=["image", "table"])
def test_expand_indexes_regions(regions):
    """Cells are numbered by sorted label, whatever the labels."""
    layout = RegionLayout([regions])
    labels = sorted(set(regions.flatten().tolist()))
    assert layout.n_cells == len(labels)
    values = numbers(4, 2, len(labels))
    (masks,) = layout.expand(values, torch.empty(4, 0))
    assert masks.shape == (4, 2, *regions.shape)
    for position in itertools.product(*map(range, regions.shape)):
        cell = labels.index(int(regions[position]))
        assert torch.equal(masks[(..., *position)], values[:, :, cell])


def test_regions_of_one_label_are_one_cell_across_inputs():
    layout = RegionLayout([torch.tensor([[7, 8]]), torch.tensor([[8, 9, 8]])])
    values = numbers(2, 1, 3)
    first, second = layout.expand(values, torch.empty(2, 0))
    assert torch.equal(first[..., 1], second[..., 0])
    assert torch.equal(second[..., 2], second[..., 0])


def test_product_expands_its_parts_separately():
    parts = [GridLayout((3, 4), (2, 2)), RegionLayout([TABLE])]
    layout = ProductLayout(parts)
    values, shifts = numbers(6, 2, layout.n_cells), some_shifts(layout, 6)
    image, table = layout.expand(values, shifts)
    assert torch.equal(image, parts[0].expand(values[..., :4], shifts)[0])
    assert torch.equal(table, parts[1].expand(values[..., 4:], shifts)[0])


def test_mixed_takes_each_mask_from_the_layout_of_its_first_shift():
    parts = [GridLayout((2, 3), (2, 2)), RegionLayout([SHARED]), stripes()]
    layout = MixedLayout(parts)
    assert layout.n_cells == 4
    assert layout.n_shifts == (3, *parts[0].n_shifts, *parts[2].n_shifts)
    values, shifts = numbers(9, 2, 4), some_shifts(layout, 9)
    assert set(shifts[:, 0].tolist()) == {0, 1, 2}
    (masks,) = layout.expand(values, shifts)
    own = [shifts[:, 1:3], shifts[:, 3:3], shifts[:, 3:]]
    for n, i in enumerate(shifts[:, 0].tolist()):
        row = slice(n, n + 1)
        cells = values[row, :, : parts[i].n_cells]
        (expected,) = parts[i].expand(cells, own[i][row])
        assert torch.equal(masks[row], expected)


@pytest.mark.parametrize(
    "layouts, said",
    [
        ([], "got none"),
        ([stripes(), "grid"], "got str"),
        ([stripes(), RegionLayout([TABLE])], r"\(1, 1, 2, 3\).* and .*\(1, 4\)"),
        ([stripes(), RegionLayout([SHARED, TABLE])], "same shapes"),
    ],
)
def test_mixed_refuses(layouts, said):
    with pytest.raises((ValueError, TypeError), match=f"layouts must .*{said}"):
        MixedLayout(layouts)


@every_layout
@pytest.mark.parametrize("n_fills", [1, 3])
def test_accumulate_is_the_weighted_sum_of_masks(name, n_fills):
    """<accumulate(w, v), g> = <w, <expand(v), g>>, term by term."""
    layout = LAYOUTS[name]()
    weights = numbers(11, N_EXAMPLES, seed=1)
    values = numbers(11, n_fills, layout.n_cells)
    shifts = some_shifts(layout, 11)
    expected = explicit_sum(layout, weights, values, shifts)
    maps = layout.accumulate(weights, values, shifts)
    assert len(maps) == len(expected)
    for total, known in zip(maps, expected):
        assert total.dtype == torch.float64
        torch.testing.assert_close(total.expand_as(known), known, atol=1e-6, rtol=1e-6)


@every_layout
def test_features_are_linear(name):
    layout = LAYOUTS[name]()
    one, other = numbers(5, 2, layout.n_cells), numbers(5, 2, layout.n_cells, seed=9)
    shifts = some_shifts(layout, 5)
    features = layout.features(one, shifts)
    assert features.shape == (5, 2, layout.n_features)
    torch.testing.assert_close(
        layout.features(2 * one - 3 * other, shifts),
        2 * features - 3 * layout.features(other, shifts),
    )


@pytest.mark.parametrize("size, grid", [((7,), (3,)), ((5, 6), (2, 3))])
def test_features_of_a_grid_are_the_pooled_mask(size, grid):
    layout = GridLayout(size, grid)
    values, shifts = numbers(4, 2, layout.n_cells), some_shifts(layout, 4)
    masks = layout.expand(values, shifts)[0][:, :, 0, 0]
    pool = F.adaptive_avg_pool1d if len(size) == 1 else F.adaptive_avg_pool2d
    windows = [min(s + 1, n) for n, s in zip(size, grid)]
    expected = pool(masks, windows[0] if len(size) == 1 else windows).flatten(2)
    torch.testing.assert_close(layout.features(values, shifts), expected)


def test_features_of_mixed_regions_are_shares_of_the_finest():
    fine, coarse = (torch.arange(54).view(1, 1, 6, 9) // n for n in (4, 11))
    layout = MixedLayout([RegionLayout([coarse]), RegionLayout([fine])])
    assert layout.n_features == 14
    values, shifts = numbers(7, 2, layout.n_cells), some_shifts(layout, 7)
    masks = layout.expand(values, shifts)[0][:, :, 0, 0]
    expected = [masks[:, :, fine[0, 0] == label].mean(2) for label in range(14)]
    torch.testing.assert_close(
        layout.features(values, shifts), torch.stack(expected, 2), atol=1e-6, rtol=0
    )


@every_layout
def test_correlate_is_the_enumerated_covariance(name):
    """Cov(m(lambda), phi . beta) over all cells and shifts, each equally likely."""
    layout = LAYOUTS[name]()
    values, shifts = all_codes(layout)
    beta = numbers(2, layout.n_features, N_EXAMPLES, seed=4)
    features = layout.features(values, shifts)[:, 0]
    masks = layout.expand(values, shifts)
    for k in range(2):
        h = features @ beta[k]
        assert h.mean(0).abs().max() < 1e-9
        for mask, covariance in zip(masks, layout.correlate(beta)):
            mask = mask[:, 0].expand(-1, N_EXAMPLES, *mask.shape[3:])
            expected = torch.einsum("nb,nb...->b...", h, mask) / len(h)
            torch.testing.assert_close(
                covariance[k].expand_as(expected), expected, atol=1e-6, rtol=1e-6
            )


@every_layout
def test_norm_is_the_enumerated_sum_of_variances(name):
    layout = LAYOUTS[name]()
    values, shifts = all_codes(layout)
    features = layout.features(values, shifts)[:, 0]
    variances = features.square().mean(0) - features.mean(0).square()
    assert layout.norm == pytest.approx(float(variances.sum()), rel=1e-6)


@every_layout
def test_counts_and_shapes_of_masks(name):
    layout = LAYOUTS[name]()
    codes = draw_masks(layout, (0.5, 0.5), 6, generator())
    assert len(codes) == 6
    assert codes.cells.shape == (6, layout.n_cells)
    assert codes.shifts.shape == (6, len(layout.n_shifts))
    masks = layout.expand(codes.indicators(1), codes.shifts)
    assert all(mask.shape[:2] == (6, 1) for mask in masks)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(
    "probabilities", [(0.5, 0.5), (0.3, 0.7), (0.3, 0.2, 0.1, 0.4), (0.01, 0.99)]
)
def test_frequencies_of_categories(probabilities, paired):
    """Each member of a pair, and each cell, within 4.5 standard errors."""
    layout = RegionLayout([torch.arange(10)[None]])
    codes = draw_masks(layout, probabilities, 4000, generator(), paired)
    for members in (codes[::2], codes[1::2]):
        for category, p in enumerate(probabilities):
            share = (members.cells == category).double().mean(0)
            error = math.sqrt(p * (1 - p) / len(members))
            assert ((share - p).abs() <= 4.5 * error).all()


@pytest.mark.parametrize("paired", [False, True])
def test_cells_are_independent(paired):
    """Correlations of distinct cells, within 4.5 standard errors of 0."""
    layout = RegionLayout([torch.arange(8)[None]])
    cells = draw_masks(layout, (0.5, 0.5), 8000, generator(), paired).cells[::2]
    correlation = torch.corrcoef(cells.T.double()) - torch.eye(8)
    assert correlation.abs().max() <= 4.5 / math.sqrt(len(cells))


def test_shifts_are_equally_likely():
    layout = GridLayout((9, 10), (3, 2))
    shifts = draw_masks(layout, (0.5, 0.5), 6000, generator()).shifts.long()
    both = torch.bincount(5 * shifts[:, 0] + shifts[:, 1], minlength=15)
    expected = 6000 / 15
    assert len(both) == 15
    assert ((both - expected).abs() <= 4.5 * math.sqrt(expected)).all()


def test_shifts_of_a_long_axis_are_in_range():
    """A few seconds of audio have more shifts than fit into 15 bits."""
    layout = RegionLayout([torch.arange(3)[None]])
    layout.n_shifts = (60_000,)
    shifts = draw_masks(layout, (0.5, 0.5), 200, generator()).shifts.long()
    assert (shifts >= 0).all() and 40_000 < shifts.max() < 60_000


def test_pairs_are_complementary_at_one_half():
    layout = GridLayout((8, 8), (4, 4))
    codes = draw_masks(layout, (0.5, 0.5), 2000, generator(), paired=True)
    assert torch.equal(codes.cells[::2], 1 - codes.cells[1::2])
    assert torch.equal(codes.shifts[::2], codes.shifts[1::2])
    (masks,) = layout.expand(codes.indicators(1), codes.shifts)
    torch.testing.assert_close(masks[::2] + masks[1::2], torch.ones_like(masks[::2]))


@pytest.mark.parametrize("probabilities", [(0.3, 0.7), (0.5, 0.2, 0.3)])
def test_pairs_never_share_an_extreme_category(probabilities):
    """u and 1 - u cannot both lie in the first or last p < 1/2 of [0, 1)."""
    layout = RegionLayout([torch.arange(10)[None]])
    cells = draw_masks(layout, probabilities, 2000, generator(), paired=True).cells
    both = cells[::2] == cells[1::2]
    for category in (0, len(probabilities) - 1):
        if probabilities[category] < 0.5:
            assert not (both & (cells[::2] == category)).any()


def test_odd_number_of_masks():
    layout = RegionLayout([torch.arange(3)[None]])
    assert len(draw_masks(layout, (0.5, 0.5), 7, generator())) == 7
    assert len(draw_masks(layout, (0.5, 0.5), 7, generator(), paired=True)) == 6


def test_seed_determines_masks_and_the_global_generator_is_untouched():
    layout = GridLayout((8, 8), (4, 4))
    state = torch.get_rng_state()
    one, same, other = (
        draw_masks(layout, (0.5, 0.5), 20, generator(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one.cells, same.cells) and torch.equal(one.shifts, same.shifts)
    assert not torch.equal(one.cells, other.cells)


@pytest.mark.parametrize(
    "size, grid, n_bytes", [((224, 224), (7, 7), 57), ((16, 224, 224), (7, 7, 7), 355)]
)
def test_a_mask_takes_a_few_bytes(size, grid, n_bytes):
    """One byte per cell and four per axis, in storage of exactly that size."""
    codes = draw_masks(GridLayout(size, grid), (0.5, 0.5), 1000, generator())
    parts = codes.cells, codes.shifts
    stored = sum(part.untyped_storage().nbytes() for part in parts)
    assert stored == 1000 * n_bytes
    assert codes.cells.dtype == torch.uint8 and codes.shifts.dtype == torch.int32
    assert codes.cells.is_contiguous() and codes.shifts.is_contiguous()


def test_slices_of_codes_are_views():
    codes = draw_masks(GridLayout((8, 8), (4, 4)), (0.5, 0.5), 20, generator())
    part = codes[4:9]
    assert isinstance(part, MaskCodes) and len(part) == 5
    assert torch.equal(part.cells, codes.cells[4:9])
    assert torch.equal(part.shifts, codes.shifts[4:9])
    assert part.cells.data_ptr() == codes.cells[4:].data_ptr()


def test_indicators_omit_the_kept_category():
    codes = MaskCodes(
        torch.tensor([[0, 1, 2, 3]], dtype=torch.uint8), torch.empty(1, 0)
    )
    expected = torch.tensor([[[0.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]])
    assert torch.equal(codes.indicators(3), expected)


@pytest.mark.parametrize("n_fills", [1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 5), (2, 3, 6), (2, 3, 4, 5), (2, 3, 2, 4, 5)])
def test_apply_masks_is_equation_8(shape, n_fills):
    """i m_0 + sum_k c_k m_k, mask by mask, then example by example."""
    inputs = numbers(*shape)
    pixels = (1, *shape[2:]) if len(shape) > 2 else shape[1:]
    raw = torch.rand(4, n_fills + 1, 1, *pixels, generator=generator()).double()
    masks = raw[:, 1:] / raw.sum(1, keepdim=True)
    fills = [numbers(*(1,) * (len(shape) - 1), seed=k) for k in range(n_fills)]
    masked = apply_masks(inputs, fills, masks)
    assert masked.shape == (4 * shape[0], *shape[1:])
    for n, b in itertools.product(range(4), range(shape[0])):
        expected = inputs[b] * (1 - masks[n].sum(0)[0])
        for k, fill in enumerate(fills):
            expected = expected + masks[n, k, 0] * fill
        torch.testing.assert_close(masked[n * shape[0] + b], expected)


def test_apply_masks_with_one_fill_and_mask_per_example():
    inputs, fill = numbers(2, 3, 4, 4), numbers(2, 3, 1, 1, seed=1)
    masks = (numbers(5, 1, 2, 1, 4, 4, seed=2) > 0).double()
    masked = apply_masks(inputs, [fill], masks).unflatten(0, (5, 2))
    expected = torch.where(masks[:, 0] > 0, fill, inputs)
    torch.testing.assert_close(masked, expected)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_apply_masks_to_integers_chooses(dtype):
    """Tokens are replaced, not blended."""
    inputs = torch.tensor([[1, 0, 1, 1]]).to(dtype)
    fills = [torch.zeros(1, dtype=dtype), torch.ones(1, dtype=dtype)]
    masks = torch.tensor([[[[0.0, 0, 1, 1]], [[0.0, 1, 0, 0]]]])
    masked = apply_masks(inputs, fills, masks)
    assert masked.dtype == dtype
    assert masked.tolist() == torch.tensor([[1, 1, 0, 0]]).to(dtype).tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_apply_masks_keeps_the_dtype(dtype):
    inputs = numbers(2, 3, 4, 4).to(dtype)
    masks = torch.rand(3, 1, 1, 1, 4, 4, generator=generator())
    masked = apply_masks(inputs, [torch.zeros(1, dtype=dtype)], masks)
    assert masked.dtype == dtype
    expected = (inputs.double() * (1 - masks[:, 0].double())).flatten(0, 1)
    resolution = torch.finfo(dtype).resolution
    torch.testing.assert_close(
        masked.double(), expected, atol=4 * resolution, rtol=4 * resolution
    )


FORMATS = {
    "contiguous": ((2, 3, 4, 5), torch.contiguous_format),
    "channels last": ((2, 3, 4, 5), torch.channels_last),
    "video": ((2, 3, 2, 4, 5), torch.contiguous_format),
    "video, channels last": ((2, 3, 2, 4, 5), torch.channels_last_3d),
    "table": ((2, 5), torch.contiguous_format),
    "one channel": ((2, 1, 4, 5), torch.contiguous_format),
}


@pytest.mark.parametrize("shape, stored", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("n_masks", [1, 3])
def test_apply_masks_keeps_the_memory_format(shape, stored, n_masks):
    inputs = numbers(*shape).contiguous(memory_format=stored)
    assert memory_format_of(inputs) == stored
    masks = torch.rand(n_masks, 1, 1, *(1,) * (len(shape) - 1), generator=generator())
    masked = apply_masks(inputs, [torch.zeros(1)], masks)
    assert masked.is_contiguous(memory_format=stored)
    plain = apply_masks(inputs.contiguous(), [torch.zeros(1)], masks)
    torch.testing.assert_close(masked, plain)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[..., ::2],
        lambda x: x.transpose(2, 3),
        lambda x: x[:1].expand(3, -1, -1, -1),
        lambda x: x[:, :1].expand(-1, 3, -1, -1),
    ],
    ids=["strided", "transposed", "expanded batch", "expanded channels"],
)
def test_apply_masks_to_views(view):
    """The result is contiguous, and the inputs stay unchanged."""
    inputs = view(numbers(2, 3, 4, 6))
    before = inputs.clone()
    masks = torch.rand(2, 1, 1, 1, *inputs.shape[2:], generator=generator()).double()
    masked = apply_masks(inputs, [torch.zeros(1).double()], masks)
    assert masked.is_contiguous() and torch.equal(inputs, before)
    expected = (inputs * (1 - masks[:, 0])).flatten(0, 1)
    torch.testing.assert_close(masked, expected)


def smooth_images(n: int = 2, channels: int = 3, size: int = 48) -> Tensor:
    coarse = torch.rand(n, channels, 5, 5, generator=generator())
    return F.interpolate(coarse, (size, size + 8), mode="bicubic")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("n_segments", [12, 60])
def test_superpixels_are_connected_and_about_as_many_as_wanted(channels, n_segments):
    regions = superpixels(smooth_images(channels=channels), n_segments)
    assert regions.shape == (2, 1, 48, 56) and regions.dtype == torch.int64
    for labels in regions[:, 0]:
        n = int(labels.max()) + 1
        assert torch.equal(labels.unique(), torch.arange(n))
        assert n_segments / 2 < n < 2 * n_segments
        for label in range(n):
            assert ndimage.label((labels == label).numpy())[1] == 1


def test_superpixels_follow_edges():
    """A bright disk on a dark ground, up to the pixels at its rim."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    distance = ((y - 30).square() + (x - 35).square()).sqrt()
    disk = (distance < 18).float().expand(1, 3, -1, -1)
    (labels,) = superpixels(disk, 40)[0]
    away = (distance - 18).abs() > 2
    for label in range(int(labels.max()) + 1):
        values = disk[0, 0][(labels == label) & away]
        assert len(values.unique()) <= 1


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_compact_superpixels_are_nearly_rectangles_and_others_are_not(channels):
    image = smooth_images(1, channels)
    compact = superpixels(image, 16, compactness=1e6)[0, 0]
    y, x = torch.meshgrid(torch.arange(48), torch.arange(56), indexing="ij")
    for label in range(int(compact.max()) + 1):
        height, width = (axis[compact == label].unique() for axis in (y, x))
        assert (compact == label).sum() > 0.9 * len(height) * len(width)
    usual = superpixels(image, 16)[0, 0]
    pairs = torch.stack([compact.flatten(), usual.flatten()], 1)
    # About as many pairs of labels as regions if they were nearly the same.
    assert len(pairs.unique(dim=0)) > 2.5 * (int(compact.max()) + 1)


def test_texture_does_not_break_superpixels_up():
    noise = torch.rand(1, 3, 48, 48, generator=generator())
    assert 20 < int(superpixels(noise, 30).max()) < 60


@pytest.mark.parametrize("channels", [1, 3])
def test_superpixels_ignore_scale_offset_and_batch(channels):
    images = smooth_images(channels=channels).double()
    regions = superpixels(images, 30)
    assert torch.equal(superpixels(images, 30), regions)
    assert torch.equal(superpixels(7.5 * images - 3, 30), regions)
    for i in range(2):
        assert torch.equal(superpixels(images[i : i + 1], 30)[0], regions[i])


def moving_square(step: int, n_frames: int = 8) -> Tensor:
    """Whether a pixel belongs to a square that moves to the right, (T, H, W)."""
    square = torch.zeros(n_frames, 48, 48).bool()
    for t in range(n_frames):
        square[t, 18:30, 4 + step * t : 16 + step * t] = True
    return square


@pytest.mark.parametrize("step", [2, 3, 4])
def test_a_region_of_a_video_follows_what_moves(step):
    """One region is the square, but for its corners, in each frame; a block is not."""
    square = moving_square(step)
    video = torch.where(square, 0.8, 0.2).expand(1, 3, -1, -1, -1)
    labels = superpixels(video, 12)[0, 0]
    block = torch.zeros(48, 48).bool()
    block[18:30, 4:16] = True
    region = labels == labels[square].mode().values
    for kept, follows in ((region, True), (block.expand_as(square), False)):
        shared = (kept & square).sum((1, 2)) / (kept | square).sum((1, 2))
        assert bool(shared.min() > 0.8) == follows


def test_regions_of_a_video_are_connected_through_its_frames():
    frames = torch.stack([smooth_images(), smooth_images().roll(2, 3)], 2)
    regions = superpixels(frames.repeat_interleave(3, 2), 40)
    assert regions.shape == (2, 1, 6, 48, 56) and regions.dtype == torch.int64
    for labels in regions[:, 0]:
        n = int(labels.max()) + 1
        assert torch.equal(labels.unique(), torch.arange(n)) and 20 < n < 80
        for label in range(n):
            assert ndimage.label((labels == label).numpy())[1] == 1


def test_time_of_a_video_is_as_long_as_two_thirds_of_a_side():
    """Whatever the numbers of frames and pixels; no frame is blurred into another."""
    video = torch.stack([smooth_images(1), smooth_images(1).roll(2, 3)], 2)
    video = video.repeat_interleave(3, 2).double()
    known = slic(
        video[0].movedim(0, -1).numpy(),
        60,
        spacing=(2 / 3 * 48 / 6, 1, 1),
        sigma=(0, 1, 1),
        min_size_factor=0.25,
        start_label=0,
    )
    assert torch.equal(superpixels(video, 60)[0, 0], torch.from_numpy(known))


def test_superpixels_of_a_video_ignore_scale_offset_and_batch():
    video = torch.stack([smooth_images(), smooth_images().roll(2, 3)], 2).double()
    regions = superpixels(video, 30)
    assert torch.equal(superpixels(7.5 * video - 3, 30), regions)
    for i in range(2):
        assert torch.equal(superpixels(video[i : i + 1], 30)[0], regions[i])


def test_a_video_has_more_superpixels_than_an_image_by_default():
    image = smooth_images(1, size=96)
    video = image[:, :, None].expand(-1, -1, 8, -1, -1)
    assert torch.equal(superpixels(image), superpixels(image, 70))
    assert torch.equal(superpixels(video), superpixels(video, 150))


def test_superpixels_of_other_types_and_of_tiny_images():
    levels = (smooth_images(1).clamp(0, 1) * 255).byte()
    assert torch.equal(superpixels(levels, 30), superpixels(levels.float(), 30))
    assert superpixels(levels.bfloat16(), 30).dtype == torch.int64
    assert superpixels(torch.rand(1, 3, 1, 4, generator=generator()), 50).max() < 4


@pytest.mark.filterwarnings("error")
def test_an_image_of_one_color_is_one_region():
    images = smooth_images(3)
    images[0], images[1] = 0.3, torch.tensor([1.0, 0.5, 0.0])[:, None, None]
    regions = superpixels(images, 30)
    assert (regions[:2] == 0).all() and regions[2].max() > 0


@pytest.mark.parametrize(
    "change, error, said",
    [
        ({"images": torch.zeros(3, 8, 8)}, ValueError, r"T, H, W\), got \(3, 8, 8\)"),
        ({"images": torch.zeros(1, 1, 3, 2, 8, 8)}, ValueError, "1, 3, 2, 8, 8"),
        ({"images": torch.zeros(1, 0, 8, 8)}, ValueError, "got .1, 0, 8, 8"),
        ({"images": torch.full((1, 3, 8, 8), math.nan)}, ValueError, "be finite"),
        ({"images": [[0.0]]}, TypeError, "be a tensor, got list"),
        ({"n_segments": 0}, ValueError, "be at least 1, got 0"),
        ({"n_segments": 2.5}, TypeError, "be an int, got float"),
        ({"compactness": 0}, ValueError, "be a positive number, got 0"),
    ],
)
def test_superpixels_refuse(change, error, said):
    with pytest.raises(error, match=f"^{next(iter(change))} must .*{said}"):
        superpixels(**{"images": torch.rand(1, 3, 8, 8), **change})


def test_disjoint_regions_of_two_masks():
    first = torch.tensor([[1, 1, 0], [1, 1, 0]])
    second = torch.tensor([[0, 1, 1], [0, 0, 0]])
    regions = disjoint_regions([first, second])
    assert regions.dtype == torch.int64
    # Neither, the second, the first, both.
    assert regions.tolist() == [[[[2, 3, 1], [2, 2, 0]]]]
    assert disjoint_regions([1 - first]).tolist() == [[[[0, 0, 1], [0, 0, 1]]]]


@pytest.mark.parametrize("n_masks", [1, 3, 70])
def test_pixels_of_one_region_are_covered_by_the_same_masks(n_masks):
    masks = torch.rand(n_masks, 5, 6, generator=generator()) > 0.5
    masks[:, :2, :2] = False
    masks[:, 2, :3] = masks[:, 3, 2:5]
    labels = disjoint_regions(masks).flatten()
    covered = masks.flatten(1).T
    same = (covered[:, None] == covered).all(2)
    assert torch.equal(labels[:, None] == labels, same)
    assert torch.equal(labels.unique(), torch.arange(len(covered.unique(dim=0))))
    assert torch.equal(labels == 0, ~covered.any(1))


def test_disjoint_regions_of_every_form_of_masks():
    masks = torch.rand(3, 5, 6, generator=generator())
    regions = disjoint_regions(masks)
    for same in (masks > 0.5, (masks > 0.5).byte(), list(masks), list(masks.numpy())):
        assert torch.equal(disjoint_regions(same), regions)
    assert disjoint_regions(torch.tensor([[[0.5, 0.6]]])).tolist() == [[[[0, 1]]]]


@pytest.mark.parametrize(
    "masks, said",
    [
        (torch.zeros(4, 4), r"shape \(N, H, W\), got \(4, 4\)"),
        (torch.zeros(0, 4, 4), r"shape \(N, H, W\), got \(0, 4, 4\)"),
        ([], "one shape .* got none"),
        ([torch.zeros(4, 4), torch.zeros(4, 5)], r"got \(4, 4\) and \(4, 5\)"),
        (torch.full((1, 4, 4), 255), r"in \[0, 1\], got values from 255 to 255"),
        (torch.full((1, 4, 4), math.nan), r"in \[0, 1\], got"),
    ],
)
def test_disjoint_regions_refuse(masks, said):
    with pytest.raises(ValueError, match=f"^masks must .*{said}"):
        disjoint_regions(masks)


# Regions of an image, row by row: 0 and 3 touch by a corner only.
MAP = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [4, 2, 3, 3]])[None, None]


def test_neighbors_share_a_side():
    expected = {(0, 1), (0, 2), (1, 3), (2, 3), (2, 4)}
    touching = RegionLayout([MAP]).neighbors()
    assert torch.equal(touching, touching.T)
    pairs = {tuple(sorted(pair)) for pair in touching.nonzero().tolist()}
    assert {(i, j) for i, j in pairs if i != j} == expected


def test_neighbors_in_time_and_over_inputs():
    """Tubes touch from frame to frame; columns of a table touch nothing."""
    video = torch.tensor([[[0, 1]], [[2, 1]], [[2, 3]]])[None, None]
    layout = RegionLayout([video, 4 + torch.tensor([[0, 1]])])
    touching = layout.neighbors().fill_diagonal_(False)
    pairs = {tuple(pair) for pair in touching.triu().nonzero().tolist()}
    assert pairs == {(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)}
    sequence = RegionLayout([torch.tensor([[[0, 0, 1, 2]]])])
    touching = sequence.neighbors().fill_diagonal_(False)
    assert touching.triu().nonzero().tolist() == [[0, 1], [1, 2]]


def test_sums_and_positions_of_regions():
    """Pixels in units of the shorter side, frames and steps in that of their number."""
    layout = RegionLayout([MAP])
    values = torch.arange(16.0).view(1, 1, 4, 4)
    expected = [values[MAP == i].sum() for i in range(5)]
    torch.testing.assert_close(layout.sums([values]), torch.stack(expected).double())
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    for i in range(5):
        inside = MAP[0, 0] == i
        center = layout.positions()[i]
        assert center[0] == pytest.approx(float(rows[inside].mean()) / 4)
        assert center[1] == pytest.approx(float(columns[inside].mean()) / 4)
    video = RegionLayout([torch.arange(2 * 3 * 8).view(1, 1, 2, 3, 8)])
    steps = video.positions()[[24, 8, 1]] - video.positions()[0]
    expected = torch.tensor([[1 / 2, 0, 0], [0, 1 / 3, 0], [0, 0, 1 / 3]])
    torch.testing.assert_close(steps[:, :3], expected.double())
    sequence = RegionLayout([torch.arange(5).view(1, 1, 5)])
    assert sequence.positions()[:, 0].tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])


def test_regions_of_a_part_of_the_axes_count_their_elements():
    """Regions may be broadcast: rows of an image, channels."""
    rows = RegionLayout([torch.tensor([0, 0, 1]).view(1, 1, 3, 1)])
    values = torch.arange(12.0).view(1, 1, 3, 4)
    assert rows.sums([values]).tolist() == [
        values[:, :, :2].sum(),
        values[0, 0, 2].sum(),
    ]
    assert rows.counts([24]).tolist() == [16, 8]
    channels = RegionLayout([torch.arange(2).view(1, 2, 1, 1)])
    assert channels.sums([values]).tolist() == [66, 66]


KINDS = ("halves", "squares", "regions", "parts")
TILES = RegionLayout([torch.arange(36).view(1, 1, 6, 6)])
TWO_PEAKS = torch.zeros(6, 6)
TWO_PEAKS[0, :2], TWO_PEAKS[4:, 4], TWO_PEAKS[3, 0] = 3, 2, 1.5


@pytest.mark.parametrize("kinds", [KINDS, *((kind,) for kind in KINDS)])
@pytest.mark.parametrize("layout", [TILES, RegionLayout([MAP])], ids=["tiles", "map"])
def test_candidates_are_unique_and_neither_empty_nor_full(kinds, layout):
    n = layout.n_cells
    prior = torch.rand(n, generator=generator())
    masks = candidate_masks(layout, kinds, [0.5, 3.0], generator(), prior)
    assert masks.dtype == torch.bool and masks.shape[1] == n and len(masks)
    assert len(masks.unique(dim=0)) == len(masks)
    assert ((masks.sum(1) > 0) & (masks.sum(1) < n)).all()
    again = candidate_masks(layout, kinds, [0.5, 3.0], generator(), prior)
    assert torch.equal(masks, again)


def test_candidates_of_each_kind_are_all_there():
    def of(*kinds, prior=None):
        masks = candidate_masks(TILES, kinds, [0.5], generator(), prior)
        return {tuple(mask.nonzero()[:, 0].tolist()) for mask in masks}

    assert of("regions") == {(i,) for i in range(36)}
    squares = of("squares")
    # Sides of three tiles around each, cut at the borders.
    assert len(squares) == 36 and (0, 1, 6, 7) in squares
    assert (7, 8, 9, 13, 14, 15, 19, 20, 21) in squares
    halves = of("halves")
    drawn = smooth_halves(TILES.positions(), TILES.sizes(), 400, generator())
    assert halves == {tuple(half.nonzero()[:, 0].tolist()) for half in drawn}
    assert of("parts") == set()
    # The highest 5, 10, 20 and 30 % of 36 tiles.
    parts = of("parts", prior=TWO_PEAKS.flatten())
    assert {(0, 1), (28, 34), (0, 1, 28, 34)} <= parts
    assert of("regions", "squares") == of("regions") | squares


def test_parts_are_connected_and_of_the_highest_values_with_pairs():
    prior = torch.rand(36, generator=generator())
    masks = candidate_masks(TILES, ["parts"], [], generator(), prior)
    found = {tuple(mask.nonzero()[:, 0].tolist()) for mask in masks}
    expected = set()
    for n in (2, 4, 7, 11):
        top = prior >= prior.sort(descending=True).values[n - 1]
        labels, count = ndimage.label(top.view(6, 6))
        labels = torch.from_numpy(labels).flatten()
        parts = [labels == i for i in range(1, count + 1)]
        parts = sorted(parts, key=lambda part: -int(part.sum()))
        for one, two in itertools.product(parts[:4], repeat=2):
            expected.add(tuple((one | two).nonzero()[:, 0].tolist()))
    assert found == expected


def test_only_region_is_its_own_candidate():
    layout = RegionLayout([torch.zeros(1, 1, 3, 3).long()])
    masks = candidate_masks(layout, KINDS, [0.5], generator(), torch.ones(1))
    assert masks.tolist() == [[True]]
    parts = candidate_masks(layout, ["parts"], [], generator(), torch.ones(1))
    assert parts.tolist() == [[True]]


@pytest.mark.parametrize("names, n", [(1, 1), (5, 5), (8, 8), (["cyan", "red"], 2)])
def test_named_palette(names, n):
    palette = named_palette(names, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    assert len(palette.names) == n
    assert palette.rgb.shape == palette.colors.shape == (n, 3)
    back = palette.colors * torch.tensor([0.5, 0.6, 0.7])
    torch.testing.assert_close(back + torch.tensor([0.1, 0.2, 0.3]), palette.rgb)
    assert len(palette.rgb.unique(dim=0)) == n


@pytest.mark.parametrize(
    "names, said",
    [
        (0, "at least 1, got 0"),
        (9, "at most 8, got 9"),
        (["red", "mauve", "puce"], "got mauve, puce"),
    ],
)
def test_named_palette_refuses(names, said):
    with pytest.raises(ValueError, match=f"names must be .*{said}"):
        named_palette(names)


def test_image_palette_finds_the_colors_darkest_first():
    """The palette of three flat patches is their colors, whatever the seed."""
    colors = torch.tensor([[0.9, 0.8, 1.0], [0.0, 0.1, 0.0], [1.0, 0.0, 0.2]])
    image = colors.T.repeat_interleave(8, 1).view(1, 3, 4, 6)
    for seed in range(5):
        palette = image_palette(image, 3, seed)
        torch.testing.assert_close(palette[0], colors[[1, 2, 0]])


def test_image_palette_of_a_batch_and_of_video():
    state = torch.get_rng_state()
    images = torch.rand(3, 3, 8, 8, generator=generator())
    together = image_palette(images, 4)
    assert torch.equal(state, torch.get_rng_state())
    assert together.shape == (3, 4, 3) and together.dtype == images.dtype
    for i in range(3):
        torch.testing.assert_close(image_palette(images[i : i + 1], 4)[0], together[i])
    still = images[:, :, None].expand(-1, -1, 5, -1, -1).double()
    assert image_palette(still, 2).shape == (3, 2, 3)
    assert image_palette(still, 2).dtype == torch.float64


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n_distinct", [1, 2])
def test_image_palette_of_an_image_with_fewer_colors(n_distinct):
    """The colors of a flat image are repeated."""
    colors = torch.tensor([[0.2, 0.4, 0.1], [0.9, 0.5, 1.0]])[:n_distinct]
    image = colors.T.repeat_interleave(32 // n_distinct, 1).view(1, 3, 4, 8)
    palette = image_palette(image, 5)
    assert palette.shape == (1, 5, 3)
    distances = torch.cdist(palette[0], colors)
    assert distances.amin(1).max() < 1e-6 and distances.amin(0).max() < 1e-6


@pytest.mark.parametrize("n_colors", [0, 17])
def test_image_palette_refuses(n_colors):
    with pytest.raises(ValueError, match=f"n_colors must .*, got {n_colors}"):
        image_palette(torch.zeros(1, 3, 4, 4), n_colors)


@pytest.mark.parametrize("size", [(9,), (5, 9), (3, 5, 9)])
def test_resize_is_linear_along_all_axes(size):
    """A linear ramp keeps its differences away from the borders."""
    ramp = torch.arange(6.0).expand(2, 1, *(4,) * (len(size) - 1), 6)
    found = resize(ramp, size)
    assert found.shape == (2, 1, *size)
    inner = found[..., 1:-1].diff(dim=-1)
    torch.testing.assert_close(inner, torch.full_like(inner, 6 / 9))
    assert resize(ramp, ramp.shape[2:]) is ramp


def test_candidate_halves_are_halves_by_size():
    """One region has as many pixels as the other eight together."""
    regions = torch.zeros(4, 8, dtype=torch.long)
    regions[:, 4:] = torch.arange(1, 9).view(4, 2).repeat_interleave(2, 1)
    layout = RegionLayout([regions[None, None]])
    generator = torch.Generator().manual_seed(0)
    masks = candidate_masks(layout, ["halves"], [], generator)
    with_large = masks[masks[:, 0]]
    assert len(with_large) and len(with_large) < len(masks)
    n_small = with_large[:, 1:].sum(1)
    assert (n_small <= 4).all() and (n_small == 0).any()
    assert (masks[~masks[:, 0]][:, 1:].sum(1) >= 5).all()


@pytest.mark.parametrize("n_fills", [255, 256, 300])
def test_many_fills_keep_their_numbers(n_fills):
    """Beyond the range of a byte, too: each fill gets its share of the cells."""
    layout = RegionLayout([torch.arange(100)[None]])
    probabilities = (0.5, *(0.5 / n_fills,) * n_fills)
    for paired in (False, True):
        codes = draw_masks(layout, probabilities, 4000, generator(), paired)
        counts = torch.bincount(codes.cells.flatten().long(), minlength=n_fills + 1)
        shares = counts / counts.sum()
        assert len(counts) == n_fills + 1 and counts.min() > 300
        torch.testing.assert_close(
            shares, torch.tensor(probabilities), atol=2e-3, rtol=0
        )
        cells = codes[:10].indicators(n_fills)
        assert torch.equal(cells.sum(1), (codes.cells[:10] > 0).float())
        assert torch.equal(
            (cells * torch.arange(1, n_fills + 1)[:, None]).sum(1),
            codes.cells[:10].float(),
        )


@pytest.mark.parametrize("probabilities", [(0.0, 1.0), (1.0, 0.0), (0.5, 0.5, 0.0)])
def test_categories_of_probability_0_are_never_drawn(probabilities, monkeypatch):
    """Not even for the uniform numbers 0 and 1 - 0."""
    drawn = torch.linspace(0, 1 - 2**-24, 8).repeat(3, 1)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: drawn)
    layout = RegionLayout([torch.arange(8)[None]])
    for paired in (False, True):
        codes = draw_masks(
            layout, probabilities, 6 if paired else 3, generator(), paired
        )
        found = set(codes.cells.flatten().tolist())
        assert found == {k for k, p in enumerate(probabilities) if p > 0}


@pytest.mark.parametrize(
    "probabilities",
    [(0.5, 0.6), (0.5, 0.4), (1.5, -0.5), (float("nan"), 0.5), (), ((0.5, 0.5),), 0.5],
)
def test_probabilities_must_add_up(probabilities):
    layout = RegionLayout([torch.arange(3)[None]])
    with pytest.raises((ValueError, TypeError), match="^probabilities must "):
        draw_masks(layout, probabilities, 4, generator())


NAN = float("nan")


@pytest.mark.parametrize(
    "change, name",
    [
        ({"inputs": torch.full((2, 3, 4, 4), NAN)}, "inputs"),
        ({"fills": [torch.tensor(NAN)]}, "fills"),
        ({"fills": [torch.zeros(5)]}, "fills"),
        ({"fills": [torch.zeros(1), torch.zeros(1)]}, "fills"),
        ({"fills": []}, "fills"),
        ({"masks": torch.full((5, 1, 1, 1, 4, 4), NAN)}, "masks"),
        ({"masks": torch.full((5, 1, 1, 1, 4, 4), 1.5)}, "masks"),
        ({"masks": torch.full((5, 1, 1, 1, 4, 4), -0.5)}, "masks"),
        ({"masks": torch.ones(4, 4)}, "masks"),
        ({"masks": torch.ones(5, 1, 1, 1, 4, 5)}, "masks"),
        (
            {
                "masks": torch.full((5, 2, 1, 1, 4, 4), 0.6),
                "fills": [torch.zeros(1), torch.ones(1)],
            },
            "masks",
        ),
    ],
)
def test_apply_masks_refuses(change, name):
    """NaN, shapes that do not fit, and masks that hide more than everything."""
    given = {
        "inputs": torch.rand(2, 3, 4, 4),
        "fills": [torch.zeros(1)],
        "masks": torch.ones(5, 1, 1, 1, 4, 4),
    }
    assert apply_masks(**given).shape == (10, 3, 4, 4)
    with pytest.raises(ValueError, match=f"^{name} must "):
        apply_masks(**{**given, **change})


@pytest.mark.parametrize("name", ["mean", "std"])
@pytest.mark.parametrize("value", [(NAN, 1, 1), (1, 1), ("a",) * 3, 1, (10**400,) * 3])
def test_named_palette_refuses_numbers(name, value):
    with pytest.raises((ValueError, TypeError), match=f"^{name} must "):
        named_palette(2, **{name: value})


def test_palettes_must_be_finite():
    with pytest.raises(ValueError, match="^colors must be finite"):
        Palette(("a",), torch.zeros(1, 3), torch.full((1, 3), NAN))
    with pytest.raises(ValueError, match="^inputs must be finite"):
        image_palette(torch.full((1, 3, 4, 4), NAN), 2)
