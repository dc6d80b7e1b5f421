"""Preprocessing of images, and of boxes in them, for a classifier."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes

__all__ = ["BoxPreprocessing", "Preprocessing"]


@runtime_checkable
class BoxPreprocessing(Protocol):
    """Preprocessing of images that also maps boxes from an image to its tensor."""

    def __call__(self, image: Image.Image) -> Tensor:
        """Preprocess an image to a tensor (3, H, W)."""

    def boxes(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Map boxes to the tensor; see :meth:`Preprocessing.boxes`."""


class Preprocessing:
    """Resize an image, crop its center and normalize it.

    Args:
        transform (Callable): Function from an RGB image to the tensor (3, H, W) that
            the model expects.
        resize (int): Length in pixels to which ``transform`` resizes the shorter side.
        crop (int): Height and width in pixels of the center that it crops.

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
        self, transform: Callable[[Image.Image], Tensor], resize: int, crop: int
    ) -> None:
        self._transform = transform
        self._geometry = v2.Compose([v2.Resize(resize), v2.CenterCrop(crop)])
        self._crop = crop

    @classmethod
    def square(
        cls, side: int, mean: Sequence[float], std: Sequence[float]
    ) -> "Preprocessing":
        """Preprocessing to a square, the center of the resized image.

        Args:
            side (int): Height and width of the tensor in pixels.
            mean (sequence of float): Mean of the normalization, RGB in [0, 1].
            std (sequence of float): Standard deviation of the normalization, RGB.

        Returns:
            Preprocessing: Preprocessing with torchvision's bilinear resizing.

        Examples::

            >>> from PIL import Image
            >>> preprocess = Preprocessing.square(32, (0.5,) * 3, (0.25,) * 3)
            >>> preprocess(Image.new("RGB", (48, 40), "white")).unique()
            tensor([2.])
        """
        steps = [
            transforms.Resize(side),
            transforms.CenterCrop(side),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
        return cls(transforms.Compose(steps), side, side)

    def __call__(self, image: Image.Image) -> Tensor:
        """Preprocess an image of any mode to a tensor (3, H, W)."""
        return self._transform(image.convert("RGB"))

    def boxes(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Map boxes in an image to boxes in its tensor.

        Args:
            boxes (Tensor): Edges x0, y0, x1, y1 in pixels of the image, (N, 4).
            size (tuple of int): Height and width of the image in pixels.

        Returns:
            Tensor: Edges in pixels of the tensor, (M, 4) float32, clipped to it. Boxes
            outside the crop are left out, so M may be less than N.
        """
        table = boxes.float().reshape(-1, 4)
        in_image = BoundingBoxes(table, format="XYXY", canvas_size=size)
        cropped = self._geometry(in_image).as_subclass(Tensor).clamp(0, self._crop)
        return cropped[(cropped[:, :2] < cropped[:, 2:]).all(1)]
