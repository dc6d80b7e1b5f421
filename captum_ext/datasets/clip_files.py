"""Video files: evenly spaced frames as images."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from captum_ext._extras import extra
from captum_ext.zoo import upright_rgb

__all__ = ["is_clip", "read_frames"]

# Containers that FFmpeg reads.
_CONTAINERS = (".avi", ".mkv", ".mov", ".mp4", ".webm")


def is_clip(path: Path) -> bool:
    """Whether the name of a file is that of a video, or it is an animated GIF.

    Args:
        path (Path): File, which need not exist.
    """
    suffix = path.suffix.lower()
    if suffix != ".gif" or not path.is_file():
        return suffix in (*_CONTAINERS, ".npz")
    try:
        with Image.open(path) as image:
            return getattr(image, "is_animated", False)
    except OSError:
        return False


def read_frames(path: Path, n_frames: int) -> list[Image.Image]:
    """Read evenly spaced frames of a video, the first and the last among them.

    Args:
        path (Path): Video: a file of FFmpeg's (.mp4, .avi, ...), which needs the extra
            ``video``; an animated GIF; or .npz with an array ``frames`` (T, H, W, 3)
            uint8.
        n_frames (int): Number of frames. Those of shorter videos are repeated.

    Returns:
        *list[PIL.Image.Image]*: RGB images.

    Raises:
        ValueError: If the file does not exist or holds no video.
        MissingExtraError: If the extra is not installed.
    """
    if not path.is_file():
        raise ValueError(f"image must be an existing file, got {str(path)!r}.")
    try:
        # Counted by decoding: what containers say about it is often wrong.
        n = sum(1 for _ in _decoded(path))
        if n == 0:
            raise ValueError("no frames")
        wanted = np.linspace(0, n - 1, n_frames).round().astype(int).tolist()
        found = {i: f for i, f in enumerate(_decoded(path)) if i in wanted}
    except (OSError, ValueError, LookupError, BadZipFile) as error:
        raise ValueError(
            f"image must be a video that can be read, got {str(path)!r} ({error})."
        ) from error
    return [found[i] for i in wanted]


def _decoded(path: Path) -> Iterator[Image.Image]:
    """All frames of a video in order."""
    suffix = path.suffix.lower()
    if suffix == ".npz":
        yield from map(Image.fromarray, _stored_frames(path))
    elif suffix == ".gif":
        with Image.open(path) as image:
            for frame in ImageSequence.Iterator(image):
                yield upright_rgb(frame)
    else:
        with extra("video"):
            import av
        with closing(av.open(str(path))) as container:
            for frame in container.decode(video=0):
                # Phones store pictures as the camera was held.
                yield frame.to_image().rotate(frame.rotation, expand=True)


def _stored_frames(path: Path) -> NDArray[np.uint8]:
    """Array ``frames`` of a file."""
    with np.load(path, allow_pickle=False) as arrays:
        frames = arrays["frames"]
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise ValueError(
            f"frames must be an array (T, H, W, 3) uint8, got {frames.shape} "
            f"{frames.dtype}"
        )
    return frames
