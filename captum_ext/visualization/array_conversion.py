"""Conversion of images, videos and attributions to NumPy arrays.

Tensors have their channels first, NumPy arrays last, as in Captum. The modules of this
package use float64 arrays with channels last.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from captum_ext._interpolation import resize
from captum_ext._type_checks import advice_on, check_tensor
from captum_ext._validation import check_integers, check_positive

__all__ = [
    "ArrayLike",
    "DEFAULT_PERCENTILE",
    "FloatArray",
    "LAYOUT",
    "RANGE_TOLERANCE",
    "beyond_error",
    "finite_array",
    "flat_map",
    "read_array",
    "read_image",
    "rescaled",
    "robust_scale",
    "shown_map",
    "to_numpy_image",
]

FloatArray = NDArray[np.float64]
ArrayLike = Tensor | NDArray[np.generic] | Image.Image

DEFAULT_PERCENTILE = 99.0
# Undoing a normalization in half precision exceeds [0, 1] by about this much.
RANGE_TOLERANCE = 1e-2
LAYOUT = {2: "HW", 3: "THW"}


def to_numpy_image(image: Tensor) -> FloatArray:
    r"""Convert an image or a map for Captum's plotting functions.

    Args:
        image (Tensor): One image or one attribution map of shape (C, H, W), of any
            real dtype, on any device, with or without gradient.

    Returns:
        numpy.ndarray: A copy of shape (H, W, C), float64, values unchanged.

    Raises:
        TypeError: If ``image`` is not a tensor.
        ValueError: If ``image`` does not have three dimensions.

    Examples::

        >>> import torch
        >>> from captum.attr import visualization
        >>> from captum_ext.visualization import to_numpy_image
        >>> image, attribution = torch.rand(3, 32, 32), torch.randn(3, 32, 32)
        >>> figure, axes = visualization.visualize_image_attr(
        ...     to_numpy_image(attribution),
        ...     to_numpy_image(image),
        ...     method="blended_heat_map",
        ...     sign="all",
        ...     use_pyplot=False,
        ... )
    """
    check_tensor("image", image)
    if image.dim() != 3:
        raise ValueError(
            f"image must have the shape (C, H, W), without the batch dimension, got "
            f"{tuple(image.shape)}."
        )
    return image.detach().cpu().double().permute(1, 2, 0).numpy().copy()


def shown_map(
    attribution: ArrayLike,
    size: tuple[int, int] | None = None,
    percentile: float = DEFAULT_PERCENTILE,
) -> FloatArray:
    r"""Scale an attribution map to [-1, 1] for a color map.

    The map is averaged over channels, interpolated to the image's size if it is a
    layer's, and divided by a percentile of its non-zero magnitudes, which a few
    outliers or many zeros do not change. Zero stays zero.

    Args:
        attribution (Tensor or numpy.ndarray): One map: a tensor of shape (C, H, W) or
            (H, W), or an array of shape (H, W, C) or (H, W), in any unit.
        size (tuple[int, int], optional): Height and width of the image in pixels; a
            map that is smaller and of similar proportions is interpolated bilinearly.
            Default: None (the size of the map)
        percentile (float, optional): Percentile of the non-zero magnitudes, in
            (0, 100], that becomes 1.
            Default: 99.0

    Returns:
        numpy.ndarray: Array of shape (H, W) in [-1, 1]. Signs are kept; a map of zeros
        stays zero.

    Raises:
        TypeError: If ``attribution`` is neither a tensor nor an array.
        ValueError: If ``attribution`` has a wrong number of dimensions, is empty,
            contains NaN or infinity, or does not match ``size``; if ``percentile`` is
            outside (0, 100].

    Examples::

        >>> import torch
        >>> from captum_ext.visualization import shown_map
        >>> shown_map(torch.randn(1, 7, 7), size=(224, 224)).shape
        (224, 224)
    """
    percentile = check_positive("percentile", percentile)
    if percentile > 100:
        raise ValueError(f"percentile must be a number in (0, 100], got {percentile}.")
    if size is not None:
        height, width = check_integers("size", size, 1, n=2)
        size = height, width
    values = flat_map(attribution, size, "attribution")
    return rescaled(values, robust_scale(values, percentile))


def beyond_error(attribution: Tensor, std_error: Tensor) -> Tensor:
    r"""Reduce a map by its standard error, so that a figure shows what stands out.

    A value v with the standard error sigma becomes

    .. math::
        v \max(0, 1 - \sigma^2 / v^2),

    the nonnegative garrote: zero up to the error, and nearly v far above it. It is for
    figures only: sums and ranks are no longer those of the attribution. The zero of
    the map must mean something, as it does for PN-RISE and BOREx, not for RISE.

    Source: L. Breiman, Better Subset Regression Using the Nonnegative Garrote,
    Technometrics 37, 1995.

    Args:
        attribution (Tensor): Attribution of any shape.
        std_error (Tensor): Standard error of each value, in the unit of the attribution
            and of a shape that broadcasts to its.

    Returns:
        *Tensor*: Map in the shape and dtype of ``attribution``.

    Raises:
        TypeError: If an argument is not a tensor.
        ValueError: If the shapes do not fit, or if a standard error is negative or NaN.

    Examples::

        >>> beyond_error(torch.tensor([4.0, 1.0, -2.0]), torch.tensor([2.0]))
        tensor([3., 0., 0.])
    """
    check_tensor("attribution", attribution)
    check_tensor("std_error", std_error)
    try:
        error = std_error.expand_as(attribution)
    except RuntimeError:
        raise ValueError(
            f"std_error must broadcast to the shape of attribution, got shapes "
            f"{tuple(std_error.shape)} and {tuple(attribution.shape)}."
        ) from None
    if not (error >= 0).all():
        raise ValueError("std_error must not be negative or NaN, got such values.")
    kept = attribution * (1 - (error / attribution).square())
    return torch.where(attribution.abs() > error, kept, 0)


def flat_map(
    attribution: ArrayLike, size: tuple[int, ...] | None, name: str
) -> FloatArray:
    """The attribution averaged over channels, at the image's size.

    Unlike the sum, the mean keeps the unit of maps that are equal in all channels.

    ``size`` is (H, W), or (T, H, W) for a video.
    """
    layout = "HW" if size is None else LAYOUT[len(size)]
    channels = read_array(attribution, name, layout, channels_optional=True)
    values: FloatArray = channels.mean(-1)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name} must have a finite mean over channels, got an overflow."
        )
    if size is None or values.shape == size:
        return values
    if not _is_layer_of(values.shape, size):
        raise ValueError(
            f"{name} must have the image's size {size} or be a layer's map, smaller "
            f"and of similar proportions, got {values.shape}."
        )
    resized = resize(torch.from_numpy(values)[None, None], size)
    return resized[0, 0].numpy()


def _is_layer_of(layer: tuple[int, ...], image: tuple[int, ...]) -> bool:
    """Whether a map of the first size may come from a layer of a model of the image.

    Proportions must be similar: with channels mistaken for rows, a map is very flat.
    """
    *layer_frames, height, width = layer
    *frames, full_height, full_width = image
    if (height, width) == (full_height, full_width):
        return layer_frames <= frames
    stretch = (height / full_height) / (width / full_width)
    is_smaller = height < full_height and width < full_width
    return is_smaller and 0.5 <= stretch <= 2 and layer_frames <= frames


def robust_scale(values: FloatArray, percentile: float = DEFAULT_PERCENTILE) -> float:
    """A percentile of the non-zero magnitudes; 1 if all values are zero."""
    magnitudes = np.abs(values[values != 0])
    return float(np.percentile(magnitudes, percentile)) if magnitudes.size else 1.0


def rescaled(values: FloatArray, scale: float) -> FloatArray:
    """Values in units of ``scale``, clipped to [-1, 1]."""
    # Clipping first keeps the quotient finite for huge outliers and a tiny scale.
    return np.clip(values, -scale, scale) / scale


def read_image(image: ArrayLike, name: str, layout: str = "HW") -> FloatArray:
    """An image or video (``layout`` THW) in [0, 1] with three channels last.

    Bytes are divided by 255.
    """
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert("RGB"))
    is_bytes = getattr(image, "dtype", None) in (torch.uint8, np.uint8)
    pixels = read_array(image, name, layout) / (255 if is_bytes else 1)
    if pixels.shape[-1] not in (1, 3):
        raise ValueError(
            f"{name} must have 1 or 3 channels, first in a tensor, last in an array, "
            f"got {pixels.shape[-1]}."
        )
    low, high = pixels.min(), pixels.max()
    if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        raise ValueError(
            f"{name} must lie in [0, 1], without the model's normalization, got values "
            f"from {low:.3g} to {high:.3g}."
        )
    return np.broadcast_to(pixels.clip(0, 1), (*pixels.shape[:-1], 3))


def read_array(
    value: ArrayLike, name: str, layout: str, channels_optional: bool = False
) -> FloatArray:
    """Finite values with channels last; a missing channel axis is added.

    A batch of one is taken as its example.
    """
    array = finite_array(value, name)
    if array.ndim == len(layout) + 2 and len(array) == 1:
        array = array[0]
    if channels_optional and array.ndim == len(layout):
        return array[..., None]
    if array.ndim != len(layout) + 1:
        sides = ", ".join(layout)
        bare = f" or ({sides})" if channels_optional else ""
        raise ValueError(
            f"{name} must be a tensor (C, {sides}) or an array ({sides}, C){bare}, "
            f"alone or as a batch of one, got shape {array.shape}."
        )
    return np.moveaxis(array, 0, -1) if isinstance(value, Tensor) else array


def finite_array(value: ArrayLike, name: str) -> FloatArray:
    """Finite values as a float64 array; others are refused."""
    if isinstance(value, Tensor):
        array = check_tensor(name, value).detach().cpu().double().numpy()
    elif not isinstance(value, np.ndarray):
        raise TypeError(
            f"{name} must be a tensor or a NumPy array, got {type(value).__name__}"
            f"{advice_on(value)}."
        )
    elif value.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, got {value.dtype}.")
    else:
        array = value.astype(np.float64)
    if array.size == 0:
        raise ValueError(
            f"{name} must hold at least one value, got shape {array.shape}."
        )
    broken = array.size - np.count_nonzero(np.isfinite(array))
    if broken:
        raise ValueError(
            f"{name} must be finite, got {broken} NaN or infinite values of "
            f"{array.size}."
        )
    return array
