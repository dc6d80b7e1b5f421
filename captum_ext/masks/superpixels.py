"""Superpixels: connected regions of similar color, through time in video."""

import torch
from torch import Tensor

from captum_ext._type_checks import check_tensor
from captum_ext._validation import check_integer, check_positive

__all__ = ["superpixels"]

# Regions by the number of axes, measured on ImageNet classifiers and on moving signs.
_N_SEGMENTS = {4: 70, 5: 150}
# Distance between the first and the last frame in units of the shorter side of a frame:
# more cuts regions in time, less loses objects that move (measured on moving signs).
_DURATION = 2 / 3


def superpixels(
    images: Tensor, n_segments: int | None = None, compactness: float = 10.0
) -> Tensor:
    """Connected regions of similar color, by SLIC.

    The regions serve as ``feature_mask`` of any perturbation method, Captum's included.
    Regions of a video are connected through its frames: they follow what moves.

    Each image or video is scaled to [0, 1] by its own least and largest value, so that
    a common factor or offset changes nothing: images may be normalized for a model.
    Images of 3 channels are taken as RGB and compared in CIELAB.

    Source: R. Achanta, A. Shaji, K. Smith, A. Lucchi, P. Fua, S. Suesstrunk, SLIC
    Superpixels Compared to State-of-the-art Superpixel Methods, TPAMI 2012, as
    scikit-image implements it.

    Args:
        images (Tensor): Images (B, C, H, W) or video (B, C, T, H, W), of any range.
        n_segments (int, optional): Approximate number of regions of an image or of a
            whole video. Default: None (70, 150 for video)
        compactness (float, optional): Weight of distance against color; regions
            approach squares as it grows. Default: 10

    Returns:
        *Tensor*: Index of the region of each pixel, (B, 1, H, W) or (B, 1, T, H, W)
        int64 on the device of ``images``, from 0 to n - 1 in an image of n regions; 0
        everywhere in an image of one color.

    Raises:
        ValueError: If ``images`` have another shape or are not finite, or another
            argument is out of its range.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> images = torch.rand(2, 3, 32, 32)
        >>> regions = superpixels(images, n_segments=9)
        >>> regions.shape
        torch.Size([2, 1, 32, 32])
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5))
        >>> PNRISE(model).attribute(images, target=1, feature_mask=regions).shape
        torch.Size([2, 3, 32, 32])
    """
    check_tensor("images", images)
    if images.dim() not in (4, 5) or not images.numel():
        raise ValueError(
            f"images must have shape (B, C, H, W) or (B, C, T, H, W), got "
            f"{tuple(images.shape)}."
        )
    if not torch.isfinite(images).all():
        raise ValueError("images must be finite, got NaN or infinite values.")
    if n_segments is None:
        n_segments = _N_SEGMENTS[images.dim()]
    n_segments = check_integer("n_segments", n_segments, 1)
    check_positive("compactness", compactness)
    labels = [
        _slic(image, n_segments, float(compactness))
        for image in images.detach().cpu().double()
    ]
    return torch.stack(labels)[:, None].to(images.device)


def _slic(image: Tensor, n_segments: int, compactness: float) -> Tensor:
    """Labels ([T,] H, W) of one image (C, H, W) or video (C, T, H, W) float64."""
    from skimage.segmentation import slic

    pixels = image.flatten(1)
    if (pixels == pixels[:, :1]).all():
        return torch.zeros(image.shape[1:], dtype=torch.long)
    is_rgb = len(image) == 3
    sigma, spacing = [1.0, 1.0], [1.0, 1.0]
    if image.dim() == 4:
        n_frames, *size = image.shape[1:]
        # Frames are not blurred into each other.
        sigma, spacing = [0.0, *sigma], [_DURATION * min(size) / n_frames, *spacing]
    # SLIC scales the image to [0, 1] itself.
    labels = slic(
        image.movedim(0, -1).numpy(),
        n_segments,
        # Lightness runs from 0 to 100, other channels from 0 to 1.
        compactness if is_rgb else compactness / 100,
        # Texture would cut regions into pieces that are too small to be kept; with
        # these two an average photograph has n_segments regions.
        sigma=sigma,
        spacing=spacing,
        min_size_factor=0.25,
        start_label=0,
        convert2lab=is_rgb,
        channel_axis=-1,
    )
    return torch.from_numpy(labels).unique(return_inverse=True)[1]
