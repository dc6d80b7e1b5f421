"""Figures of video attributions: a strip of frames and an animated GIF."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from captum_ext._type_checks import check_instance
from captum_ext._validation import check_integer
from captum_ext.visualization.array_conversion import (
    ArrayLike,
    FloatArray,
    flat_map,
    read_image,
    rescaled,
    robust_scale,
)
from captum_ext.visualization.painting import heat_map
from captum_ext.visualization.panels import (
    BAR_INCHES,
    add_color_bar,
    panel_grid,
    show,
)

__all__ = [
    "GAP_SHARE",
    "PANEL_INCHES",
    "video_gif",
    "video_strip",
]

PANEL_INCHES = 1.35
GAP_SHARE = 0.03


def video_strip(
    video: ArrayLike,
    maps: ArrayLike,
    n_frames: int = 8,
    label: str = "attribution",
) -> Figure:
    r"""Draw frames of a video in one row and the same frames with the map below.

    The frames are evenly spaced and include the first and the last. All frames share
    one scale, the 99th percentile of the non-zero magnitudes of the whole map. Colors
    are those of :func:`overlay_figure`.

    Args:
        video (Tensor or numpy.ndarray): One video with values in [0, 1]: a tensor of
            shape (3, T, H, W) or (1, T, H, W), or an array of shape (T, H, W, 3) or
            (T, H, W, 1).
        maps (Tensor or numpy.ndarray): Attribution of the video, in any unit: a tensor
            of shape (C, T, H, W) or (T, H, W), or an array of shape (T, H, W, C) or
            (T, H, W). Channels are averaged; a layer's map (C, t, h, w) that is smaller
            is interpolated trilinearly.
        n_frames (int, optional): Number of frames shown, at most T. Default: 8
        label (str, optional): Label of the color bar. Default: "attribution"

    Returns:
        matplotlib.figure.Figure: A figure with two rows of axes and a color bar in the
        unit of the map.

    Raises:
        TypeError: If ``video`` or ``maps`` is neither a tensor nor an array.
        ValueError: If one of them has a wrong shape or contains NaN or infinity; if the
            video is not in [0, 1]; if ``n_frames`` is below 1.

    Examples::

        >>> import torch
        >>> from captum_ext.visualization import video_strip
        >>> figure = video_strip(torch.rand(3, 16, 32, 32), torch.randn(1, 16, 32, 32))
    """
    n_frames = check_integer("n_frames", n_frames, 1)
    check_instance("label", label, str)
    frames, values, scale, signed = _read_video(video, maps)
    shown = np.linspace(0, len(frames) - 1, min(n_frames, len(frames))).round()
    frames, values = frames[shown.astype(int)], values[shown.astype(int)]
    titles = [f"frame {t:.0f}" for t in shown] + [""] * len(shown)
    size = frames.shape[1:3]
    figure, panels = panel_grid(
        titles, len(shown), size, PANEL_INCHES, right=BAR_INCHES
    )
    for panel, pixels in zip(panels, [*frames, *heat_map(frames, values, signed)]):
        show(panel, pixels)
    ticks = [f"{tick:.2g}" for tick in np.linspace(-scale if signed else 0, scale, 5)]
    add_color_bar(figure, panels, signed, label, ticks)
    return figure


def video_gif(video: ArrayLike, maps: ArrayLike, frame_duration: int = 120) -> bytes:
    r"""Render a video and its attribution side by side as a looping animated GIF.

    Colors and scale are those of :func:`video_strip`. Each frame shows the video and
    the overlay at the size of the video, with a gap between them.

    Args:
        video (Tensor or numpy.ndarray): One video with values in [0, 1], as in
            :func:`video_strip`.
        maps (Tensor or numpy.ndarray): Attribution of the video, as in
            :func:`video_strip`.
        frame_duration (int, optional): Duration of each frame in milliseconds, rounded
            by the format to hundredths of a second. Consecutive equal frames are stored
            as one frame with their total duration. Default: 120

    Returns:
        bytes: Content of a GIF file.

    Raises:
        TypeError: If ``video`` or ``maps`` is neither a tensor nor an array.
        ValueError: If one of them has a wrong shape or contains NaN or infinity; if the
            video is not in [0, 1]; if ``frame_duration`` is below 10.

    Examples::

        >>> import torch
        >>> from captum_ext.visualization import video_gif
        >>> gif = video_gif(torch.rand(3, 4, 32, 32), torch.randn(1, 4, 32, 32))
        >>> gif[:6]
        b'GIF89a'
    """
    # The format counts hundredths of a second in 16 bits.
    frame_duration = check_integer("frame_duration", frame_duration, 10, 655_350)
    frames, values, _, signed = _read_video(video, maps)
    n_frames, height, width, _ = frames.shape
    gap = np.ones((n_frames, height, round(GAP_SHARE * width), 3))
    pixels = np.concatenate([frames, gap, heat_map(frames, values, signed)], axis=2)
    first, *rest = (
        Image.fromarray(frame).quantize()
        for frame in (255 * pixels).round().astype(np.uint8)
    )
    file = BytesIO()
    first.save(
        file,
        format="GIF",
        save_all=True,
        append_images=rest,
        duration=frame_duration,
        loop=0,
    )
    return file.getvalue()


def _read_video(
    video: ArrayLike, maps: ArrayLike
) -> tuple[FloatArray, FloatArray, float, bool]:
    """Frames (T, H, W, 3), scaled maps (T, H, W), the scale, and if there is a sign."""
    frames = read_image(video, "video", layout="THW")
    values = flat_map(maps, frames.shape[:3], "maps")
    scale = robust_scale(values)
    return frames, rescaled(values, scale), scale, bool(values.min() < 0)
