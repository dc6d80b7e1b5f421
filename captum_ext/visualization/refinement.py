"""Figure of a BOREx refinement: prior, masks, map, what changed, and deviation."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from captum_ext.visualization.array_conversion import (
    ArrayLike,
    FloatArray,
    finite_array,
    flat_map,
    read_image,
    rescaled,
    robust_scale,
)
from captum_ext.visualization.figures import PANEL_INCHES
from captum_ext.visualization.painting import (
    DEVIATION,
    blend,
    color_scale,
    colored,
    faded,
    heat_map,
)
from captum_ext.visualization.panels import (
    BAR_GRAY,
    BAR_INCHES,
    LABEL_SIZE,
    SIGNED_ENDS,
    add_color_bar,
    add_range_bar,
    panel_grid,
    show,
    show_scaled,
)

__all__ = ["refinement_figure"]

# Area of a dot in points squared, as matplotlib has it.
DOT_AREA = 30


def refinement_figure(
    image: ArrayLike,
    prior: ArrayLike | None,
    refined: ArrayLike,
    std: ArrayLike,
    centers: ArrayLike,
    scores: ArrayLike,
) -> Figure:
    r"""Draw a prior map, the scored masks, the refined map and its uncertainty.

    Maps are drawn as in :func:`overlay_figure`, each divided by its own scale, which is
    shown below. Masks are dots at their centers in the color of their score, those with
    the largest magnitude on top. What changed is the difference of map and prior, each
    divided by its own scale: red where the map has more than the prior, blue where it
    has less, and no color where the two are proportional. The standard deviation has
    its own colors, from its least to its largest value; if these print alike, it is
    constant and has one color.

    Args:
        image (Tensor or numpy.ndarray): One image with values in [0, 1]: a tensor
            of shape (3, H, W) or (1, H, W), or an array of shape (H, W, 3) or
            (H, W, 1).
        prior (Tensor or numpy.ndarray, optional): The prior map, a tensor (C, h, w) or
            an array (h, w, C); None omits its panel and what changed.
        refined (Tensor or numpy.ndarray): The refined map, a tensor (C, H, W) or an
            array (H, W, C).
        std (Tensor or numpy.ndarray): Posterior standard deviation, in the form of
            ``refined``.
        centers (Tensor or numpy.ndarray): Row and column of the center of each mask in
            pixels, (N, 2). The first pixel has the center (0, 0).
        scores (Tensor or numpy.ndarray): Scores of the masks, (N,).

    Returns:
        matplotlib.figure.Figure: A figure with axes for the image, the prior, the
        masks, the map, what changed, the standard deviation, and the color bar of all
        but the last.

    Raises:
        TypeError: If an argument is neither a tensor nor an array.
        ValueError: If the image or a map has a wrong shape or contains NaN or
            infinity; if the image is not in [0, 1]; if the numbers of centers and
            scores differ.

    Examples::

        >>> import torch
        >>> from captum_ext.visualization import refinement_figure
        >>> image, refined = torch.rand(3, 64, 64), torch.randn(3, 64, 64)
        >>> centers = torch.tensor([[7.5, 7.5], [23.5, 35.5]])
        >>> figure = refinement_figure(
        ...     image, None, refined, refined.abs(), centers, torch.tensor([0.1, 0.7])
        ... )
    """
    pixels = read_image(image, "image")
    size = pixels.shape[:2]
    before = None if prior is None else flat_map(prior, size, "prior")
    after = flat_map(refined, size, "refined")
    deviation = flat_map(std, size, "std")
    points, values = finite_array(centers, "centers"), finite_array(scores, "scores")
    if values.ndim != 1:
        raise ValueError(f"scores must have the shape (N,), got {values.shape}.")
    if points.shape != (len(values), 2):
        raise ValueError(
            f"centers must have the shape ({len(values)}, 2), one for each of the "
            f"scores, got {points.shape}."
        )
    masks = f"{len(values)} masks"
    titles = ["image", masks, "map", "standard deviation"]
    if before is not None:
        titles = ["image", "prior", masks, "map", "what changed", "standard deviation"]
    # Six panels fill two rows: the map is below the image, what changed below the
    # prior, and the deviation below the masks.
    figure, panels = panel_grid(
        titles,
        4 if before is None else 3,
        size,
        PANEL_INCHES,
        below=0.36,
        right=BAR_INCHES,
    )
    by_title = dict(zip(titles, panels))
    show(panels[0], pixels)
    _show_masks(by_title[masks], pixels, points, values)
    show_scaled(by_title["map"], pixels, after, True)
    if before is not None:
        show_scaled(by_title["prior"], pixels, before, True)
        _show_change(by_title["what changed"], pixels, before, after)
    _show_deviation(figure, panels[-1], pixels, deviation)
    add_color_bar(figure, panels, True, "", SIGNED_ENDS)
    return figure


def _show_masks(
    panel: Axes, pixels: FloatArray, centers: FloatArray, scores: FloatArray
) -> None:
    """Draw a dot for each mask, in the colors of the color bar."""
    show(panel, faded(pixels))
    colormap, norm = color_scale(True)
    order = np.argsort(np.abs(scores))
    rgba = colormap(norm(rescaled(scores[order], robust_scale(scores))))
    colors = blend(np.full(3, BAR_GRAY), rgba[:, :3], rgba[:, 3])
    panel.scatter(
        centers[order, 1],
        centers[order, 0],
        s=DOT_AREA,
        c=colors,
        marker="o",
        edgecolors="black",
        linewidths=0.5,
        # Whole also at the edge of the image.
        clip_on=False,
    )


def _show_change(
    panel: Axes, pixels: FloatArray, before: FloatArray, after: FloatArray
) -> None:
    """Draw the difference of two maps as they are drawn."""
    drawn_before = rescaled(before, robust_scale(before))
    drawn_after = rescaled(after, robust_scale(after))
    show(panel, heat_map(pixels, drawn_after - drawn_before, True))
    panel.set_xlabel("red: added, blue: removed", fontsize=LABEL_SIZE)


def _show_deviation(
    figure: Figure, panel: Axes, pixels: FloatArray, deviation: FloatArray
) -> None:
    """Draw the deviation from its least to its largest value."""
    least, largest = float(deviation.min()), float(deviation.max())
    # A range whose ends print alike would show rounding errors.
    if f"{least:.3g}" == f"{largest:.3g}":
        middle = np.full_like(deviation, 0.5)
        show(panel, colored(pixels, middle, DEVIATION, Normalize(0, 1)))
        panel.set_xlabel(f"constant = {least:.3g}", fontsize=LABEL_SIZE)
        return
    show(panel, colored(pixels, deviation, DEVIATION, Normalize(least, largest)))
    add_range_bar(figure, panel, DEVIATION, least, largest)
