"""Preprocessing of images, and of boxes in them, for a classifier."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "BoxPreprocessing",
    "Preprocessing",
    "upright_rgb",
]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Normalization of torchvision's classifiers, RGB in [0, 1]."""

# Color behind transparent pixels: white, as in browsers.
_BACKGROUND = (255, 255, 255)
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
# File formats whose mode "I" holds 16 bits.
_16_BIT = ("PNG", "PPM")


def upright_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to upright RGB with 8 bits a channel.

    The image is rotated as its EXIF orientation says. Transparent pixels are composed
    onto white. 16-bit and 32-bit integers are scaled by the range of
    their type, floats from [0, 1]. Converting an image twice changes nothing more.

    Args:
        image (PIL.Image.Image): Image of any mode, as ``PIL.Image.open`` returns it.

    Returns:
        *PIL.Image.Image*: RGB image.

    Raises:
        ValueError: If floats are not in [0, 1], or 32-bit integers are negative or so
            small that the image would be black.

    Examples::

        >>> import numpy as np
        >>> from PIL import Image
        >>> gray = Image.fromarray(np.array([[0, 257, 65535]], np.uint16))
        >>> [upright_rgb(gray).getpixel((x, 0)) for x in range(3)]
        [(0, 0, 0), (1, 1, 1), (255, 255, 255)]
        >>> upright_rgb(Image.new("LA", (1, 1), (0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    is_16_bit = image.mode.startswith("I;16") or image.format in _16_BIT
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_levels(image, is_16_bit)).convert("RGB")
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        # Pillow converts premultiplied gray to nothing else than gray with alpha.
        image = image.convert("LA") if image.mode == "La" else image
        above = image.convert("RGBA")
        image = Image.new("RGBA", above.size, _BACKGROUND)
        image.alpha_composite(above)
    return image.convert("RGB")


def _levels(image: Image.Image, is_16_bit: bool) -> NDArray[np.uint8]:
    """Gray levels (H, W) of an image of integers, or floats, of more than 8 bits."""
    values = np.asarray(image).astype(np.float64)
    low, high = values.min(), values.max()
    if image.mode == "F":
        most, expected = 1, "floats in [0, 1]"
        fits = low >= 0 and high <= 1
    else:
        most = 2**16 - 1 if is_16_bit else 2**31 - 1
        expected = "32-bit integers from 0 to 2**31 - 1 that are not all small"
        # Small numbers, such as counts, would silently become a black image.
        fits = is_16_bit or (low >= 0 and (high == 0 or high >= most / 255))
    if not fits:
        raise ValueError(
            f"image must hold 8-bit or 16-bit integers or {expected}, got values from "
            f"{low:.6g} to {high:.6g}."
        )
    return (values * (255 / most)).round().astype(np.uint8)


@runtime_checkable
class BoxPreprocessing(Protocol):
    """Preprocessing of images that also maps boxes from an image to its tensor."""

    def __call__(self, image: Image.Image) -> Tensor:
        """Preprocess an image to a tensor (C, H, W)."""

    def boxes(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Map boxes to the tensor; see :meth:`Preprocessing.boxes`."""


class Preprocessing:
    """Resize an image, crop its center and normalize it.

    Args:
        transform (Callable): Function from an image of the mode ``mode`` to the tensor
            (C, H, W) that the model expects.
        resize (int or tuple[int, int]): Length in pixels to which ``transform`` resizes
            the shorter side; or height and width to which it resizes the image.
        crop (int or tuple[int, int]): Height and width in pixels of the center that it
            crops, or one number for both.
        mode (str, optional): Mode of Pillow to which images are converted, "L" for a
            model of one channel. Default: "RGB"

    Examples::

        >>> import torch
        >>> from PIL import Image
        >>> from captum_ext.zoo import load
        >>> preprocess = load("signs").preprocess
        >>> preprocess(Image.new("L", (200, 100))).shape
        torch.Size([3, 96, 96])
        >>> boxes = torch.tensor([[0, 0, 100, 100], [0, 0, 40, 100]])
        >>> preprocess.boxes(boxes, (100, 200))
        tensor([[ 0.,  0., 48., 96.]])
    """

    def __init__(
        self,
        transform: Callable[[Image.Image], Tensor],
        resize: int | tuple[int, int],
        crop: int | tuple[int, int],
        mode: str = "RGB",
    ) -> None:
        self._transform, self._mode = transform, mode
        self._geometry = v2.Compose([v2.Resize(resize), v2.CenterCrop(crop)])
        height, width = (crop, crop) if isinstance(crop, int) else crop
        self._edges = torch.tensor([width, height, width, height])

    @classmethod
    def square(
        cls,
        side: int,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> "Preprocessing":
        """Preprocessing to a square, the center of the resized image.

        Args:
            side (int): Height and width of the tensor in pixels.
            mean (sequence of float, optional): Mean of the normalization, in units of
                pixels in [0, 1]: three numbers for RGB, one for gray images. Default: 0
            std (sequence of float, optional): Standard deviation of the normalization,
                in the same form. Default: 1

        Returns:
            Preprocessing: Preprocessing with torchvision's bilinear resizing.

        Raises:
            ValueError: If there are not one or three numbers.

        Examples::

            >>> from PIL import Image
            >>> preprocess = Preprocessing.square(32, (0.5,) * 3, (0.25,) * 3)
            >>> preprocess(Image.new("RGB", (48, 40), "white")).unique()
            tensor([2.])
            >>> Preprocessing.square(32, [0.5], [0.5])(Image.new("RGB", (8, 8))).shape
            torch.Size([1, 32, 32])
        """
        mode = {1: "L", 3: "RGB"}.get(len(mean))
        if mode is None or len(mean) != len(std):
            raise ValueError(
                f"mean and std must hold one number each for gray images or three for "
                f"RGB, got {len(mean)} and {len(std)}."
            )
        steps = [
            transforms.Resize(side),
            transforms.CenterCrop(side),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
        return cls(transforms.Compose(steps), side, side, mode)

    def __call__(self, image: Image.Image) -> Tensor:
        """Preprocess an image of any mode to a tensor (C, H, W).

        The mode is converted and the image turned upright by :func:`upright_rgb`.
        """
        return self._transform(upright_rgb(image).convert(self._mode))

    def boxes(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Map boxes in an image to boxes in its tensor.

        Args:
            boxes (Tensor): Edges x0, y0, x1, y1 in pixels of the upright image,
                (N, 4).
            size (tuple of int): Height and width of the upright image in pixels.

        Returns:
            Tensor: Edges in pixels of the tensor, (M, 4) float32, clipped to it. Boxes
            outside the crop are left out, so M may be less than N.
        """
        table = boxes.float().reshape(-1, 4)
        in_image = BoundingBoxes(table, format="XYXY", canvas_size=size)
        cropped = self._geometry(in_image).as_subclass(Tensor).clamp_min(0)
        cropped = cropped.minimum(self._edges)
        return cropped[(cropped[:, :2] < cropped[:, 2:]).all(1)]
