"""Figures: known values, positions of panels, and no changes of global state."""

import random
from io import BytesIO

import matplotlib
import numpy as np
import pytest
import torch
from captum.attr import visualization
from matplotlib.figure import Figure
from PIL import Image
from torch.nn import functional as F

from captum_ext.visualization import (
    bar_figure,
    beyond_error,
    color_saliency_figure,
    overlay,
    overlay_figure,
    refinement_figure,
    series_figure,
    shown_map,
    stack_figures,
    to_numpy_image,
    token_figure,
    video_gif,
    video_strip,
)
from captum_ext.visualization.painting import (
    DEVIATION,
    DIVERGING,
    SEQUENTIAL,
    best_colors,
    blend,
    faded,
    heat_map,
    painted,
)

SIZE = (24, 32)
COLORS = torch.tensor([[1.0, 0, 0], [1, 1, 1], [0, 0, 0], [0.5, 0.5, 0.5]])


def random_tensor(*shape, low=-1.0, high=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(*shape, generator=generator)


def random_image(*shape):
    return random_tensor(*(shape or (3, *SIZE)), low=0.0)


def random_video(n_frames=5):
    return random_image(3, n_frames, *SIZE)


FIGURES = {
    "series": lambda: series_figure(random_tensor(2, 9), random_tensor(2, 9)),
    "bars": lambda: bar_figure(random_tensor(5)),
    "tokens": lambda: token_figure(["a", "b"], random_tensor(2)),
    "overlay": lambda: overlay_figure(random_image(), {"a": random_tensor(3, *SIZE)}),
    "colors": lambda: color_saliency_figure(
        random_image(), random_tensor(4, *SIZE), COLORS
    ),
    "refinement": lambda: refinement_figure(
        random_image(),
        random_tensor(1, 3, 4),
        random_tensor(3, *SIZE),
        random_tensor(3, *SIZE).abs(),
        torch.tensor([[4.5, 4.5]]),
        torch.tensor([0.5]),
    ),
    "strip": lambda: video_strip(random_video(), random_tensor(1, 5, *SIZE)),
}


class TestShownMap:
    def test_channels_are_summed_before_scaling(self):
        channels = random_tensor(3, *SIZE)
        expected = channels.sum(0) / channels.sum(0).abs().max()
        shown = shown_map(channels, percentile=100)
        np.testing.assert_allclose(shown, expected, atol=1e-6)

    @pytest.mark.parametrize("sign", [1, -1])
    def test_scaling_is_symmetric(self, sign):
        attribution = random_tensor(1, *SIZE)
        shown = shown_map(sign * attribution)
        np.testing.assert_array_equal(shown, sign * shown_map(attribution))
        assert np.abs(shown).max() == 1

    def test_nonnegative_map_starts_at_zero(self):
        shown = shown_map(torch.tensor([[0.0, 2.0], [4.0, 8.0]]), percentile=100)
        np.testing.assert_array_equal(shown, [[0, 0.25], [0.5, 1]])

    @pytest.mark.parametrize("value, expected", [(0.0, 0), (3.0, 1), (-1e-300, -1)])
    def test_constant_map(self, value, expected):
        shown = shown_map(np.full(SIZE, value))
        np.testing.assert_array_equal(shown, np.full(SIZE, float(expected)))

    def test_outliers_do_not_change_the_scale(self):
        attribution = random_tensor(1, *SIZE, low=0.5)
        attribution[0, 0, :3] = 1e30
        assert shown_map(attribution)[1:].min() > 0.4

    def test_zeros_do_not_count_as_magnitudes(self):
        attribution = torch.zeros(1, *SIZE)
        attribution[0, 0, 0] = 5
        assert shown_map(attribution)[0, 0] == 1

    def test_layer_map_is_interpolated_to_the_image_size(self):
        ramp = torch.linspace(-1, 1, 7).expand(1, 7, 7)
        shown = shown_map(ramp, size=(224, 224))
        assert shown.shape == (224, 224)
        assert (np.diff(shown, axis=1) >= 0).all()
        np.testing.assert_allclose(shown, -shown[:, ::-1], atol=1e-6)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_dtype_gradient_and_layout_do_not_matter(self, dtype):
        attribution = random_tensor(3, *SIZE).to(dtype).requires_grad_()
        shown = shown_map(attribution)
        assert shown.dtype == np.float64
        np.testing.assert_array_equal(shown, shown_map(to_numpy_image(attribution)))


class TestPainting:
    def test_zero_has_the_middle_entry_of_an_odd_colormap(self):
        middle = DIVERGING(0.5)
        assert DIVERGING.N % 2 == 1
        assert middle == tuple(DIVERGING.colors[DIVERGING.N // 2])
        assert middle[0] == middle[1] == middle[2] and middle[3] == 0
        assert SEQUENTIAL(0.0)[3] == 0

    def test_colors_of_deviations_let_the_image_through_evenly(self):
        opacities = DEVIATION(np.linspace(0, 1, 9))[:, 3]
        assert np.ptp(opacities) == 0 and 0.5 < opacities[0] < 1

    @pytest.mark.parametrize("signed", [True, False])
    def test_zero_map_is_the_image_with_a_quarter_of_its_color(self, signed):
        image = to_numpy_image(random_image())
        shown = heat_map(image, np.zeros(SIZE), signed)
        luma = (image @ [0.299, 0.587, 0.114])[..., None]
        np.testing.assert_allclose(shown, (image + 3 * luma) / 4)

    def test_texture_of_the_image_stays_visible_under_the_largest_value(self):
        """Black and white differ by at least half of the range."""
        image = np.stack([np.zeros((1, 1, 3)), np.ones((1, 1, 3))])
        for signed, value in ((True, 1.0), (True, -1.0), (False, 1.0)):
            dark, light = heat_map(image, np.full((2, 1, 1), value), signed)
            assert (light - dark).max() > 0.5

    @pytest.mark.parametrize("strength", [0.01, 0.3, 1.0])
    def test_positive_is_red_and_negative_is_blue(self, strength):
        image = np.full((1, 1, 3), 0.5)
        red, _, blue = heat_map(image, np.array([[strength]]), True)[0, 0]
        assert red > blue
        red, _, blue = heat_map(image, np.array([[-strength]]), True)[0, 0]
        assert blue > red

    @pytest.mark.parametrize("color", COLORS.double().numpy())
    def test_negative_values_are_dotted(self, color):
        """Negative values give dots in panels of any color, positive ones never."""
        image, strength = np.full((*SIZE, 3), 0.5), np.full(SIZE, 0.6)
        positive = painted(image, strength, color)
        negative = painted(image, -strength, color)
        assert len(np.unique(positive.reshape(-1, 3), axis=0)) == 1
        assert len(np.unique(negative.reshape(-1, 3), axis=0)) == 2
        assert np.ptp(negative) > 0.3

    def test_area_of_dots_grows_with_strength(self):
        image, color = np.full((26, 26, 3), 0.5), np.ones(3)
        means = [
            painted(image, np.full((26, 26), -strength), color).mean()
            for strength in (0.0, 0.2, 0.6, 1.0)
        ]
        assert (np.diff(means) < -0.02).all()

    def test_best_color_is_the_largest_positive_one(self):
        values = np.array([[[0.9, -0.5, 0.1]], [[0.2, -0.1, 0.8]]])
        colors = np.array([[1.0, 0, 0], [0, 0, 1.0]])
        pixels, strength = best_colors(np.full((1, 3, 3), 0.5), values, colors)
        np.testing.assert_array_equal(strength, [[0.9, 0, 0.8]])
        assert pixels[0, 0].argmax() == 0 and pixels[0, 2].argmax() == 2
        assert np.ptp(pixels[0, 1]) < 1e-12


class TestFigures:
    @pytest.mark.parametrize("n_maps", [1, 3, 9])
    def test_overlay_has_one_panel_per_map_and_a_color_bar(self, n_maps):
        maps = {f"method {i}": random_tensor(1, *SIZE, seed=i) for i in range(n_maps)}
        *panels, bar = overlay_figure(random_image(), maps).axes
        assert [panel.get_title() for panel in panels] == ["image", *maps]
        assert bar.get_ylim() == (-1, 1)

    def test_color_bar_is_signed_if_one_map_is(self):
        positive = random_tensor(1, *SIZE, low=0.0)
        image = random_image()
        assert overlay_figure(image, {"a": positive}).axes[-1].get_ylim() == (0, 1)
        both = {"a": positive, "b": -positive}
        assert overlay_figure(image, both).axes[-1].get_ylim() == (-1, 1)

    def test_signed_says_which_colors_are_used(self):
        positive = {"a": random_tensor(1, *SIZE, low=0.0)}
        figure = overlay_figure(random_image(), positive, signed=True)
        assert figure.axes[-1].get_ylim() == (-1, 1)

    def test_color_bar_says_what_its_ends_mean(self):
        maps = random_tensor(1, *SIZE)
        figures = [overlay_figure(random_image(), {"a": m}) for m in (maps, maps.abs())]
        signed, unsigned = (
            [label.get_text() for label in figure.axes[-1].get_yticklabels()]
            for figure in figures
        )
        assert signed == ["lowers\nthe score", "0", "raises\nthe score"]
        assert unsigned == ["0", "important"]

    @pytest.mark.parametrize("share", [0.1, 0.4])
    def test_contour_encloses_the_share_of_the_highest_values(self, share):
        values = torch.arange(24 * 32.0).view(1, *SIZE)
        panel = overlay_figure(random_image(), {"a": values}, contour=share).axes[1]
        levels = {float(each.levels[0]) for each in panel.collections}
        (level,) = levels
        above = (values > level).double().mean().item()
        assert abs(above - share) < 1 / values.numel()

    def test_overlay_is_the_panel_of_the_figure(self):
        image, maps = random_image(), random_tensor(3, *SIZE)
        drawn = overlay_figure(image, {"a": maps}).axes[1].images[0].get_array()
        np.testing.assert_array_equal(overlay(image, maps), (255 * drawn).round())

    def test_overlay_takes_bytes_batches_and_pil_images(self):
        maps = random_tensor(3, *SIZE)
        as_bytes = (255 * random_image()).round().byte()
        image = as_bytes.double() / 255
        expected = overlay(image, maps)
        assert expected.dtype == np.uint8 and expected.shape == (*SIZE, 3)
        array = as_bytes.permute(1, 2, 0).numpy()
        for same in (as_bytes, array, Image.fromarray(array), image[None], array[None]):
            np.testing.assert_array_equal(overlay(same, maps[None]), expected)

    def test_notebooks_show_an_overlay(self):
        drawn = overlay(random_image(), random_tensor(1, *SIZE))
        shown = Image.open(BytesIO(drawn._repr_png_()))
        np.testing.assert_array_equal(shown, drawn)
        assert drawn[0]._repr_png_() is None and (drawn / 255)._repr_png_() is None

    def test_notebooks_show_figures(self):
        png = FIGURES["overlay"]()._repr_png_()
        assert Image.open(BytesIO(png)).format == "PNG"

    def test_image_is_shown_unchanged(self):
        image = random_image()
        figure = overlay_figure(image, {"a": torch.zeros(1, *SIZE)})
        shown = figure.axes[0].images[0].get_array()
        np.testing.assert_array_equal(shown, to_numpy_image(image))

    @pytest.mark.parametrize("image", [random_image(1, *SIZE), random_image()])
    @pytest.mark.parametrize("as_array", [False, True])
    def test_images_in_every_form(self, image, as_array):
        image = to_numpy_image(image) if as_array else image.half()
        figure = overlay_figure(image, {"a": torch.rand(1, 6, 8)})
        shown = figure.axes[0].images[0].get_array()
        expected = image if as_array else to_numpy_image(image)
        np.testing.assert_array_equal(shown, np.broadcast_to(expected, shown.shape))

    def test_colors_have_one_panel_each_and_share_one_scale(self):
        maps = random_tensor(4, *SIZE)
        maps[1] *= 10
        names = ["red", "white", "black", "gray"]
        panels = color_saliency_figure(random_image(), maps, COLORS, names).axes
        titles = [panel.get_title() for panel in panels]
        assert titles == ["image", *names, "best color"]
        bars = [panel.child_axes[0] for panel in panels[1:-1]]
        ticks = {tuple(t.get_text() for t in bar.get_xticklabels()) for bar in bars}
        assert len(ticks) == 1

    def test_colors_without_names_show_their_codes(self):
        panels = FIGURES["colors"]().axes
        titles = [panel.get_title() for panel in panels[1:-1]]
        assert titles == ["#ff0000", "#ffffff", "#000000", "#808080"]

    @pytest.mark.parametrize("n_frames, expected", [(1, 1), (3, 3), (8, 5)])
    def test_strip_has_two_rows(self, n_frames, expected):
        maps = random_tensor(1, 5, *SIZE)
        figure = video_strip(random_video(), maps, n_frames=n_frames)
        assert len(figure.axes) == 2 * expected + 1

    def test_strip_shows_first_and_last_frame_on_one_scale(self):
        maps = torch.zeros(1, 5, *SIZE)
        maps[0, 4] = 2.0
        figure = video_strip(random_video(), maps, n_frames=2)
        first, last, below_first, below_last, _ = figure.axes
        assert (first.get_title(), last.get_title()) == ("frame 0", "frame 4")
        for frame, below, differs in (
            (first, below_first, False),
            (last, below_last, True),
        ):
            plain = faded(frame.images[0].get_array())
            change = np.abs(below.images[0].get_array() - plain).max(-1)
            assert (change > 1e-9).all() if differs else (change < 1e-9).all()

    def test_layer_map_of_a_video(self):
        layer = random_tensor(8, 2, 3, 4)
        figure = video_strip(random_video(), layer, n_frames=2)
        full = F.interpolate(
            layer.double().mean(0)[None, None], (5, *SIZE), mode="trilinear"
        )[0]
        expected = video_strip(random_video(), full, n_frames=2)
        for panel, other in zip(figure.axes[:-1], expected.axes[:-1]):
            np.testing.assert_array_equal(
                panel.images[0].get_array(), other.images[0].get_array()
            )

    @pytest.mark.parametrize("size", [(24, 32), (64, 24)])
    @pytest.mark.parametrize("n_maps", [3, 9])
    def test_titles_stay_apart_and_inside(self, n_maps, size):
        names = [f"Layer CAMERAS of some_long_module.{i}" for i in range(n_maps)]
        maps = {name: torch.rand(1, *size) for name in names}
        figure = overlay_figure(random_image(3, *size), maps)
        figure.draw_without_rendering()
        texts = [panel.title for panel in figure.axes[:-1]]
        texts += [panel.xaxis.label for panel in figure.axes[1:-1]]
        boxes = [text.get_window_extent() for text in texts]
        for i, box in enumerate(boxes):
            assert figure.bbox.containsx(box.x0) and figure.bbox.containsx(box.x1)
            assert figure.bbox.containsy(box.y0) and figure.bbox.containsy(box.y1)
            assert not any(box.overlaps(other) for other in boxes[:i])


class TestGif:
    @pytest.mark.parametrize("duration", [120, 50])
    def test_frames_duration_and_loop(self, duration):
        content = video_gif(random_video(), random_tensor(1, 5, *SIZE), duration)
        with Image.open(BytesIO(content)) as gif:
            assert gif.format == "GIF" and gif.n_frames == 5
            assert gif.info["loop"] == 0
            for t in range(5):
                gif.seek(t)
                assert gif.info["duration"] == duration

    def test_frame_and_overlay_are_side_by_side(self):
        video = torch.ones(3, 2, *SIZE)
        maps = torch.ones(1, 2, *SIZE)
        maps[0, 1] = -1
        with Image.open(BytesIO(video_gif(video, maps))) as gif:
            frames = []
            for t in range(2):
                gif.seek(t)
                frames.append(np.asarray(gif.convert("RGB")).astype(int))
        height, width = SIZE
        assert frames[0].shape == (height, 2 * width + 1, 3)
        for frame, strong, weak in ((frames[0], 0, 2), (frames[1], 2, 0)):
            assert frame[:, :width].min() > 250
            assert (frame[:, -width:, strong] > frame[:, -width:, weak]).all()


class TestGlobalState:
    @pytest.mark.parametrize("name", [*FIGURES, "gif"])
    def test_global_state_is_left_unchanged(self, name):
        from matplotlib import pyplot

        def state():
            return (
                dict(matplotlib.rcParams),
                pyplot.get_fignums(),
                random.getstate(),
                str(np.random.get_state()),
                torch.get_rng_state().tolist(),
            )

        before = state()
        if name == "gif":
            video_gif(random_video(), random_tensor(1, 5, *SIZE))
        else:
            figure = FIGURES[name]()
            assert isinstance(figure, Figure)
            figure.savefig(BytesIO(), format="png", dpi=40)
        assert state() == before

    def test_arguments_are_left_unchanged(self):
        image, attribution = random_image().double(), random_tensor(3, *SIZE)
        copies = image.clone(), attribution.clone()
        overlay_figure(image, {"a": attribution})
        to_numpy_image(image)[:] = 7
        assert torch.equal(image, copies[0]) and torch.equal(attribution, copies[1])


def refinement(
    prior=None, refined=None, std=None, centers=((0, 0),), scores=(1.0,), size=SIZE
):
    """Panels by title, in order, of a gray image's refinement."""
    figure = refinement_figure(
        torch.full((3, *size), 0.5),
        prior,
        random_tensor(1, *size) if refined is None else refined,
        random_tensor(1, *size, low=0.1) if std is None else std,
        torch.tensor(centers, dtype=torch.float64),
        torch.tensor(scores),
    )
    *panels, bar = figure.axes
    assert bar.get_ylim() == (-1, 1)
    return {panel.get_title().replace("\n", " "): panel for panel in panels}


def pixels_of(panel):
    return np.asarray(panel.images[0].get_array())


GRAY_PANEL = np.full((*SIZE, 3), 0.5)


class TestRefinement:
    def test_titles(self):
        without = ["image", "1 masks", "map", "standard deviation"]
        assert list(refinement()) == without
        before, after = ["image", "prior", "1 masks"], ["map", "what changed"]
        with_prior = refinement(prior=random_tensor(1, 3, 4))
        assert list(with_prior) == [*before, *after, "standard deviation"]

    def test_maps_are_drawn_as_in_overlay_figure(self):
        maps = {"prior": random_tensor(1, 3, 4), "map": random_tensor(3, *SIZE, seed=1)}
        panels = refinement(maps["prior"], maps["map"])
        expected = overlay_figure(torch.full((3, *SIZE), 0.5), maps)
        for panel in expected.axes[1:-1]:
            same = panels[panel.get_title()]
            np.testing.assert_array_equal(pixels_of(same), pixels_of(panel))

    def test_dots_lie_at_the_centers_with_the_largest_magnitude_on_top(self):
        centers = ((4, 6.5), (0, 31), (23, 2))
        panel = refinement(centers=centers, scores=(0.5, -2.0, 0.1))["3 masks"]
        assert panel.get_xlim() == (-0.5, 31.5) and panel.get_ylim() == (23.5, -0.5)
        (dots,) = panel.collections
        np.testing.assert_array_equal(dots.get_offsets(), [[2, 23], [6.5, 4], [31, 0]])
        red, _, blue, _ = dots.get_facecolors().T
        assert ((red > blue) == [True, True, False]).all()
        np.testing.assert_allclose(pixels_of(panel), GRAY_PANEL, atol=1e-12)

    def test_dots_have_the_color_of_their_score(self):
        scores = (0.0, 0.1, -0.3, 1.0, -1.0)
        panel = refinement(centers=5 * ((0, 0),), scores=scores)["5 masks"]
        none, *signed = panel.collections[0].get_facecolors()
        assert np.ptp(none[:3]) < 1e-12
        for score, (red, _, blue, alpha) in zip(scores[1:], signed):
            assert (red - blue) * score > 0 and alpha == 1
        strongest = DIVERGING([1.0, 0.0])
        opaque = 0.8 + strongest[:, 3:] * (strongest[:, :3] - 0.8)
        np.testing.assert_allclose(signed[-2][:3], opaque[0], atol=1e-12)
        np.testing.assert_allclose(signed[-1][:3], opaque[1], atol=1e-12)

    @pytest.mark.parametrize("factor", [1.0, 30.0])
    def test_nothing_changed_where_map_and_prior_are_proportional(self, factor):
        prior = random_tensor(1, *SIZE)
        panel = refinement(prior, factor * prior)["what changed"]
        np.testing.assert_allclose(pixels_of(panel), GRAY_PANEL, atol=1e-6)

    def test_change_is_red_where_the_map_has_more_and_blue_where_it_has_less(self):
        prior, refined = torch.ones(1, *SIZE), torch.ones(1, *SIZE)
        refined[..., :8] = 3.0
        prior[..., -8:] = 200.0
        drawn = pixels_of(refinement(prior, 10 * refined)["what changed"])
        red, blue = drawn[..., 0], drawn[..., 2]
        assert (red > blue)[:, :-8].all() and (blue > red)[:, -8:].all()
        # 1 - 1/200 on the left, 1/3 - 1/200 in the middle, 1/3 - 1 on the right.
        expected = np.array([[1 - 1 / 200, 1 / 3 - 1 / 200, 1 / 3 - 1]])
        three = heat_map(np.full((1, 3, 3), 0.5), expected, True)
        np.testing.assert_allclose(drawn[:1, [0, 16, -1]], three, atol=1e-12)

    @pytest.mark.parametrize("offset", [0.0, 5.0])
    def test_deviation_is_drawn_from_its_least_to_its_largest_value(self, offset):
        std = offset + random_tensor(1, *SIZE, low=0.1).double()
        panel = refinement(std=std)["standard deviation"]
        (bar,) = panel.child_axes
        least, largest = std.min().item(), std.max().item()
        assert bar.get_xlim() == (least, largest)
        labels = [label.get_text() for label in bar.get_xticklabels()]
        assert labels == [f"{least:.3g}", f"{largest:.3g}"]
        drawn = pixels_of(panel).reshape(-1, 3)
        for index, color in (
            (std.argmin(), DEVIATION(0.0)),
            (std.argmax(), DEVIATION(1.0)),
        ):
            expected = blend(GRAY_PANEL[0, 0], np.array(color[:3]), np.array(color[3]))
            np.testing.assert_allclose(drawn[index], expected, atol=1e-12)

    @pytest.mark.parametrize("value", [0.0, 0.125])
    def test_constant_deviation_has_one_color_and_says_so(self, value):
        std = value * (1 + 1e-7 * random_tensor(1, *SIZE))
        panel = refinement(std=std)["standard deviation"]
        assert panel.get_xlabel() == f"constant = {value:.3g}"
        assert not panel.child_axes
        color = np.array(DEVIATION(0.5))
        expected = blend(GRAY_PANEL[0, 0], color[:3], color[3])
        np.testing.assert_allclose(
            pixels_of(panel), np.broadcast_to(expected, (*SIZE, 3)), atol=1e-12
        )

    @pytest.mark.parametrize("size", [(24, 32), (24, 64), (64, 24)])
    @pytest.mark.parametrize("with_prior", [True, False])
    def test_texts_stay_apart_and_inside(self, with_prior, size):
        prior = random_tensor(1, *size) if with_prior else None
        panels = list(refinement(prior, size=size).values())
        figure = panels[0].figure
        figure.draw_without_rendering()
        texts = [panel.title for panel in panels]
        texts += [panel.xaxis.label for panel in panels[1:-1]]
        texts += panels[-1].child_axes[0].get_xticklabels()
        boxes = [text.get_window_extent() for text in texts]
        for i, box in enumerate(boxes):
            assert figure.bbox.containsx(box.x0) and figure.bbox.containsx(box.x1)
            assert figure.bbox.containsy(box.y0) and figure.bbox.containsy(box.y1)
            assert not any(box.overlaps(other) for other in boxes[:i])


@pytest.mark.parametrize(
    "largest, words",
    [
        (-0.1, "no color raises the score"),
        (0.0, "no color raises the score"),
        (0.49, "no color raises the score\nby more than 0.49"),
        (0.51, ""),
        (3.0, ""),
    ],
)
def test_figure_says_that_no_color_raises_the_score(largest, words):
    maps = torch.full((2, *SIZE), -1.0)
    maps[1, 5, 5] = largest
    *panels, best = color_saliency_figure(random_image(), maps, COLORS[:2]).axes
    assert best.get_xlabel() == words
    assert all(panel.get_xlabel() == "" for panel in panels)


def test_what_exceeds_its_error():
    """The nonnegative garrote: zero up to the error, and nearly the value far above."""
    values = torch.linspace(-3, 3, 61)
    reduced = beyond_error(values, torch.ones(()))
    expected = [v - 1 / v if abs(v) > 1 else 0.0 for v in values.tolist()]
    torch.testing.assert_close(reduced, torch.tensor(expected))
    assert reduced.dtype == values.dtype and (reduced[values.abs() < 0.99] == 0).all()
    torch.testing.assert_close(beyond_error(values, torch.zeros(61)), values)
    assert (beyond_error(values, torch.full((61,), torch.inf)) == 0).all()
    # The unit does not matter.
    scaled = beyond_error(1e-20 * values.double(), 1e-20 * torch.ones(61).double())
    torch.testing.assert_close(1e20 * scaled, reduced.double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "attribution, error, message",
    [
        (torch.ones(3), torch.ones(2), r"got shapes \(2,\) and \(3,\)"),
        (torch.ones(3), -torch.ones(3), "not be negative or NaN"),
        (torch.ones(3), torch.full((3,), torch.nan), "not be negative or NaN"),
    ],
)
def test_errors_that_are_refused(attribution, error, message):
    with pytest.raises(ValueError, match=f"^std_error must .*{message}"):
        beyond_error(attribution, error)


def test_captum_draws_converted_maps():
    figure, _ = visualization.visualize_image_attr(
        to_numpy_image(random_tensor(3, *SIZE).requires_grad_()),
        to_numpy_image(random_image()),
        method="blended_heat_map",
        sign="all",
        use_pyplot=False,
    )
    assert isinstance(figure, Figure)


def broken(tensor, value, n_broken=3):
    tensor = tensor.clone()
    tensor.view(-1)[:n_broken] = value
    return tensor


IMAGE, MAP, VIDEO = random_image(), random_tensor(1, *SIZE), random_video()
ERRORS = [
    (lambda: overlay_figure(broken(IMAGE, torch.nan), {"a": MAP}), "image.* 3 NaN"),
    (lambda: overlay_figure(IMAGE, {"a": broken(MAP, torch.inf)}), "'a'.* 3 NaN"),
    (lambda: overlay_figure(IMAGE * 255, {"a": MAP}), r"image.*\[0, 1\].* 25\d"),
    (
        lambda: overlay_figure(IMAGE[:2], {"a": MAP}),
        "image must have 1 or 3 channels.* got 2",
    ),
    (
        lambda: overlay_figure(torch.stack([IMAGE, IMAGE]), {"a": MAP}),
        "image must be a tensor.*batch",
    ),
    (lambda: overlay_figure(IMAGE, {}), "maps must hold at least one map"),
    (
        lambda: overlay_figure(IMAGE, {"a": MAP}, contour=1.0),
        "contour must lie strictly between 0 and 1, got 1.0",
    ),
    (lambda: overlay_figure(IMAGE, {"a": torch.stack([MAP, MAP])}), "'a'.*batch"),
    (lambda: overlay_figure(IMAGE, {"a": MAP[..., :9]}), r"'a'.*\(24, 32.*\(24, 9\)"),
    (lambda: overlay_figure(IMAGE, {"a": torch.rand(1, 25, 33)}), "'a'.*smaller"),
    (lambda: overlay_figure(IMAGE, {"a": MAP.numpy()}), "'a'.*proportions"),
    (lambda: overlay_figure(IMAGE, {"a": MAP[:, :0]}), "'a'.*at least one value"),
    (
        lambda: color_saliency_figure(IMAGE, MAP, COLORS),
        "maps must hold .* 4 colors.* got 1",
    ),
    (
        lambda: color_saliency_figure(IMAGE, MAP, COLORS[:1], ["a", "b"]),
        "names must hold .* 1 colors, got 2",
    ),
    (
        lambda: color_saliency_figure(IMAGE, MAP, COLORS[:1, :2]),
        "colors must have the shape",
    ),
    (
        lambda: color_saliency_figure(IMAGE, MAP, -COLORS[:1]),
        "colors must be red, green, blue in",
    ),
    (
        lambda: refinement_figure(
            IMAGE, None, MAP, MAP, torch.zeros(3, 2), torch.zeros(2)
        ),
        r"centers must have the shape \(2, 2\), .* got \(3, 2\)",
    ),
    (lambda: video_strip(VIDEO, MAP[0]), "maps must be a tensor"),
    (
        lambda: video_strip(VIDEO, random_tensor(1, 6, 2, 2)),
        "maps must have the image's size",
    ),
    (lambda: video_strip(IMAGE, VIDEO), "video must be a tensor"),
    (lambda: overlay_figure(IMAGE[0], {"a": MAP}), "image must be a tensor"),
    (
        lambda: video_strip(VIDEO, VIDEO, n_frames=0),
        "n_frames must be at least 1, got 0",
    ),
    (
        lambda: video_gif(VIDEO, broken(VIDEO, -torch.inf)),
        "maps must be finite, got 3 NaN",
    ),
    (
        lambda: video_gif(VIDEO, VIDEO, frame_duration=5),
        "frame_duration must be at least 10, got 5",
    ),
    (lambda: shown_map(MAP, percentile=0), "percentile must be .* got 0"),
    (lambda: to_numpy_image(MAP[0]), "image must have the shape"),
]
TYPE_ERRORS = [
    (lambda: overlay_figure(IMAGE, MAP), "maps must be a dict .* got Tensor"),
    (lambda: overlay_figure([[0.5]], {"a": MAP}), "image must be .* got list"),
    (lambda: overlay_figure(IMAGE, {"a": None}), "'a'.* must be .* got NoneType"),
    (lambda: color_saliency_figure(IMAGE, MAP, "red"), "colors must be .* got str"),
    (
        lambda: to_numpy_image(np.zeros((2, 2, 3))),
        "image must be a tensor, got ndarray",
    ),
]


@pytest.mark.parametrize("call, message", ERRORS)
def test_value_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("call, message", TYPE_ERRORS)
def test_type_errors(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_stacked_figures_keep_their_widths():
    wide, narrow = Figure((4, 1), dpi=50), Figure((2, 1), dpi=50)
    narrow.set_facecolor("black")
    stacked = stack_figures([wide, narrow])
    assert stacked.size == (200, 100)
    assert stacked.getpixel((50, 75)) == (0, 0, 0)
    assert stacked.getpixel((150, 75)) == (255, 255, 255)
    with pytest.raises(ValueError, match="figures"):
        stack_figures([])


class TestSequences:
    def test_series_has_one_panel_per_channel_with_its_line_and_colors(self):
        series, scores = random_tensor(2, 9), torch.zeros(2, 9)
        scores[0, 3], scores[1, 5] = 2.0, -2.0
        figure = series_figure(series, scores, ["a", "b"])
        first, second, bar = figure.axes
        assert (first.get_ylabel(), second.get_ylabel()) == ("a", "b")
        for panel, values in zip((first, second), series.double().numpy()):
            np.testing.assert_array_equal(panel.lines[0].get_ydata(), values)
        red, blue = (each.images[0].get_array()[0] for each in (first, second))
        assert red[3, 0] > red[3, 2] and blue[5, 2] > blue[5, 0]
        for colors, position in ((red, 3), (blue, 5)):
            np.testing.assert_array_equal(np.delete(colors, position, 0), 1.0)
        assert bar.get_ylim() == (-2.0, 2.0)

    def test_series_as_an_array_has_its_channels_last(self):
        series, scores = random_tensor(2, 9), random_tensor(2, 9, seed=1)
        figures = [
            series_figure(series, scores),
            series_figure(series.T.numpy(), scores.T.numpy()),
            series_figure(series[None], scores[None]),
        ]
        drawn = [[p.images[0].get_array() for p in f.axes[:-1]] for f in figures]
        np.testing.assert_array_equal(drawn[0], drawn[1])
        np.testing.assert_array_equal(drawn[0], drawn[2])

    def test_bars_are_sorted_and_the_last_sums_up_the_rest(self):
        scores = torch.tensor([[0.125, -3.0, 0.5, 2.0, -0.25]])
        (axes,) = bar_figure(scores, [*"abcde"], [1, 2, 3, 4, 5], n_bars=3).axes
        assert [patch.get_width() for patch in axes.patches] == [-3.0, 2.0, 0.375]
        labels = [label.get_text() for label in axes.get_yticklabels()]
        assert labels == ["b = 2", "d = 4", "3 other columns"]
        blue, red = (patch.get_facecolor() for patch in axes.patches[:2])
        assert blue[2] > blue[0] and red[0] > red[2]

    def test_all_bars_are_shown_if_they_fit(self):
        (axes,) = bar_figure(torch.tensor([0.1, -3.0]), n_bars=2).axes
        labels = [label.get_text() for label in axes.get_yticklabels()]
        assert labels == ["column 1", "column 0"]

    def test_tokens_have_the_color_of_their_score_and_stay_apart(self):
        tokens = 12 * ["many", "words", "of", "$5", "or more"]
        scores = random_tensor(60)
        figure = token_figure(tokens, scores)
        axes, _ = figure.axes
        assert len(axes.texts) == len(axes.patches) == 60
        for score, box in zip(scores, axes.patches):
            red, _, blue, _ = box.get_facecolor()
            assert (red - blue) * score > 0
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in axes.texts]
        for i, box in enumerate(boxes):
            assert figure.bbox.containsx(box.x0) and figure.bbox.containsx(box.x1)
            assert not any(box.overlaps(other) for other in boxes[:i])

    @pytest.mark.parametrize(
        "call, message",
        [
            (
                lambda: series_figure(torch.rand(2, 9), torch.rand(2, 8)),
                r"attribution must have the shape of the series, \(2, 9\), got",
            ),
            (lambda: series_figure(torch.rand(9), torch.rand(9)), "series must have 2"),
            (
                lambda: series_figure(torch.rand(2, 9), torch.rand(2, 9), ["a"]),
                "names must hold 2 texts, got 1",
            ),
            (lambda: bar_figure(torch.rand(3), n_bars=0), "n_bars must be at least 1"),
            (
                lambda: bar_figure(torch.rand(3), values=[1]),
                "values must hold 3 texts, got 1",
            ),
            (
                lambda: bar_figure(torch.tensor([torch.nan])),
                "attribution must be finite",
            ),
            (
                lambda: token_figure(["a"], torch.rand(2)),
                "tokens must hold 2 texts, got 1",
            ),
        ],
    )
    def test_errors(self, call, message):
        with pytest.raises(ValueError, match=message):
            call()
