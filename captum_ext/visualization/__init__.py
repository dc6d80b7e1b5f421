"""Figures of attributions, on top of ``captum.attr.visualization``.

Captum's functions draw one map on its own scale. The functions here draw several
maps on a shared scale: methods side by side, the colors of MC-RISE, the frames of a
video. They return figures, which notebooks show, and never use pyplot;
:func:`overlay` returns the blended pixels, and :func:`to_numpy_image` prepares images
for Captum's functions.
"""

from captum_ext.visualization.array_conversion import (
    beyond_error,
    shown_map,
    to_numpy_image,
)
from captum_ext.visualization.figures import (
    color_saliency_figure,
    overlay,
    overlay_figure,
)
from captum_ext.visualization.panels import stack_figures
from captum_ext.visualization.refinement import refinement_figure
from captum_ext.visualization.sequences import (
    bar_figure,
    series_figure,
    token_figure,
)
from captum_ext.visualization.video import video_gif, video_strip

__all__ = [
    "bar_figure",
    "beyond_error",
    "color_saliency_figure",
    "overlay",
    "overlay_figure",
    "refinement_figure",
    "series_figure",
    "shown_map",
    "stack_figures",
    "to_numpy_image",
    "token_figure",
    "video_gif",
    "video_strip",
]
