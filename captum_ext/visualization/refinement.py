"""Figure of a BOREx refinement: prior map, windows, refined map and its std."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

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
from captum_ext.visualization.painting import color_scale, overlay
from captum_ext.visualization.panels import (
    BAR_INCHES,
    LABEL_SIZE,
    add_color_bar,
    panel_grid,
    show,
)

__all__ = ["refinement_figure"]


def refinement_figure(
    image: ArrayLike,
    prior: ArrayLike | None,
    refined: ArrayLike,
    std: ArrayLike,
    windows: ArrayLike,
    scores: ArrayLike,
) -> Figure:
    r"""Draw the prior map, the evaluated windows, the refined map and its std.

    Maps are drawn as in :func:`overlay_figure`, each scaled by itself; the scale is
    shown below. Windows are outlined in the color of their score, those with the
    largest magnitude on top. The last panel shows the posterior standard deviation,
    which is large where no window was evaluated nearby.

    Args:
        image (Tensor or numpy.ndarray): One image with values in [0, 1]: a tensor
            of shape (3, H, W) or (1, H, W), or an array of shape (H, W, 3) or
            (H, W, 1).
        prior (Tensor or numpy.ndarray, optional): The prior map, a tensor (C, h, w) or
            an array (h, w, C); None omits its panel.
        refined (Tensor or numpy.ndarray): The refined map, a tensor (C, H, W) or an
            array (H, W, C).
        std (Tensor or numpy.ndarray): Posterior standard deviation, in the form of
            ``refined``.
        windows (Tensor or numpy.ndarray): First row and column of each window, and
            those after the last, (N, 2, 2).
        scores (Tensor or numpy.ndarray): Scores of the windows, (N,).

    Returns:
        matplotlib.figure.Figure: A figure with axes for the image, each map, the
        windows, the standard deviation and the color bar.

    Raises:
        TypeError: If an argument is neither a tensor nor an array.
        ValueError: If the image or a map has a wrong shape or contains NaN or
            infinity; if the image is not in [0, 1]; if the numbers of windows and
            scores differ.

    Examples::

        >>> import torch
        >>> from captum_ext.visualization import refinement_figure
        >>> image, refined = torch.rand(3, 64, 64), torch.randn(3, 64, 64)
        >>> windows = torch.tensor([[[0, 0], [16, 16]], [[8, 20], [40, 52]]])
        >>> figure = refinement_figure(
        ...     image, None, refined, refined.abs(), windows, torch.tensor([0.1, 0.7])
        ... )
    """
    pixels = read_image(image, "image")
    size = pixels.shape[:2]
    maps = {"refined map": flat_map(refined, size, "refined")}
    if prior is not None:
        maps = {"prior": flat_map(prior, size, "prior"), **maps}
    deviation = flat_map(std, size, "std")
    bounds, values = finite_array(windows, "windows"), finite_array(scores, "scores")
    if bounds.shape != (len(values), 2, 2):
        raise ValueError(
            f"windows must have the shape ({len(values)}, 2, 2), one for each score, "
            f"got {bounds.shape}."
        )
    titles = ["image", *maps, "standard deviation"]
    titles.insert(-2, f"{len(values)} windows")
    figure, panels = panel_grid(
        titles, len(titles), size, PANEL_INCHES, below=0.22, right=BAR_INCHES
    )
    by_title = dict(zip(titles, panels))
    show(by_title["image"], pixels)
    for title, each in maps.items():
        scale = robust_scale(each)
        show(by_title[title], overlay(pixels, rescaled(each, scale), True))
        by_title[title].set_xlabel(f"scale = {scale:.2g}", fontsize=LABEL_SIZE)
    evaluated = panels[-3]
    show(evaluated, overlay(pixels, np.zeros(size), True))
    scale = robust_scale(values)
    colormap, norm = color_scale(True)
    strengths = rescaled(values, scale)
    for number in np.argsort(np.abs(values)):
        evaluated.add_patch(_outline(bounds[number], colormap(norm(strengths[number]))))
    evaluated.set_xlabel(f"scale = {scale:.2g}", fontsize=LABEL_SIZE)
    scale = robust_scale(deviation)
    show(panels[-1], overlay(pixels, rescaled(deviation, scale), True))
    panels[-1].set_xlabel(f"scale = {scale:.2g}", fontsize=LABEL_SIZE)
    add_color_bar(figure, panels, True, label="attribution / scale")
    return figure


def _outline(bounds: FloatArray, color: tuple[float, ...]) -> Rectangle:
    """Outline of a window, opaque also in transparent colors."""
    (top, left), (bottom, right) = bounds
    return Rectangle(
        (left - 0.5, top - 0.5),
        right - left,
        bottom - top,
        fill=False,
        edgecolor=color[:3],
        linewidth=1.2,
    )
