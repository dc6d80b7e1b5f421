"""Figures of a video: a strip of frames, and an animation."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from captum_ext.visualization.maps import (
    ArrayLike,
    FloatArray,
    flat_map,
    read_image,
    rescaled,
    robust_scale,
)
from captum_ext.visualization.painting import overlay
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
    r"""Draws frames of a video in one row and the map over each of them below.

    The frames are evenly spaced and include the first and the last. One scale serves
    the whole video: the 99th percentile of the non-zero magnitudes of all its frames.
    Colors are those of :func:`overlay_figure`.

    Args:
        video (Tensor or numpy.ndarray): One video with values in [0, 1]: a tensor of
            shape (3, T, H, W) or (1, T, H, W), or an array of shape (T, H, W, 3) or
            (T, H, W, 1).
        maps (Tensor or numpy.ndarray): Its attribution, in any unit: a tensor of shape
            (C, T, H, W) or (T, H, W), or an array of shape (T, H, W, C) or (T, H, W).
            Channels are summed; a layer's map (C, t, h, w) that is smaller is
            interpolated trilinearly.
        n_frames (int, optional): Number of frames shown; no more than T are.
            Default: 8
        label (str, optional): What the color bar metrics. Default: "attribution"

    Returns:
        matplotlib.figure.Figure: A figure with two rows of axes and the color bar,
        which has the maps' unit. Saving it is the caller's.

    Raises:
        TypeError: If ``video`` or ``maps`` is neither a tensor nor an array.
        ValueError: If one of them has a shape that does not fit or holds NaN or
            infinity; if the video leaves [0, 1]; if ``n_frames`` is below one.

    Examples::

        >>> import torch
        >>> from captum_ext.visualization import video_strip
        >>> figure = video_strip(torch.rand(3, 16, 32, 32), torch.randn(1, 16, 32, 32))
    """
    if n_frames < 1:
        raise ValueError(f"n_frames must be at least 1, got {n_frames}.")
    frames, values, scale, signed = _read_video(video, maps)
    shown = np.linspace(0, len(frames) - 1, min(n_frames, len(frames))).round()
    frames, values = frames[shown.astype(int)], values[shown.astype(int)]
    titles = [f"frame {t:.0f}" for t in shown] + [""] * len(shown)
    size = frames.shape[1:3]
    figure, panels = panel_grid(
        titles, len(shown), size, PANEL_INCHES, right=BAR_INCHES
    )
    for panel, pixels in zip(panels, [*frames, *overlay(frames, values, signed)]):
        show(panel, pixels)
    add_color_bar(figure, panels, signed, label=label, scale=scale)
    return figure


def video_gif(video: ArrayLike, maps: ArrayLike, frame_duration: int = 120) -> bytes:
    r"""Renders a video beside its attribution as an animated GIF that repeats forever.

    Colors and scale are those of :func:`video_strip`. Each frame has as many pixels
    as the video's, twice side by side with a gap between.

    Args:
        video (Tensor or numpy.ndarray): One video with values in [0, 1], as in
            :func:`video_strip`.
        maps (Tensor or numpy.ndarray): Its attribution, as in :func:`video_strip`.
        frame_duration (int, optional): How long each frame is shown, in milliseconds;
            GIF keeps whole hundredths of a second. Equal frames that follow each other
            are stored once and shown for as long as all of them.
            Default: 120

    Returns:
        bytes: The content of a GIF file. Saving it is the caller's.

    Raises:
        TypeError: If ``video`` or ``maps`` is neither a tensor nor an array.
        ValueError: If one of them has a shape that does not fit or holds NaN or
            infinity; if the video leaves [0, 1]; if ``frame_duration`` is below 10.

    Examples::

        >>> import torch
        >>> from captum_ext.visualization import video_gif
        >>> gif = video_gif(torch.rand(3, 4, 32, 32), torch.randn(1, 4, 32, 32))
        >>> gif[:6]
        b'GIF89a'
    """
    if frame_duration < 10:
        raise ValueError(
            f"frame_duration must be at least 10 milliseconds, got {frame_duration}."
        )
    frames, values, _, signed = _read_video(video, maps)
    n_frames, height, width, _ = frames.shape
    gap = np.ones((n_frames, height, round(GAP_SHARE * width), 3))
    pixels = np.concatenate([frames, gap, overlay(frames, values, signed)], axis=2)
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
    """Frames (T, H, W, 3), rescaled maps (T, H, W), their scale, and the sign."""
    frames = read_image(video, "video", layout="THW")
    values = flat_map(maps, frames.shape[:3], "maps")
    scale = robust_scale(values)
    return frames, rescaled(values, scale), scale, bool(values.min() < 0)
