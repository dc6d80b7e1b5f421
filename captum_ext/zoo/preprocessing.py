"""From an image to what the model takes, and boxes along with it."""

from collections.abc import Callable, Sequence

from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes

__all__ = ["Preprocessing"]


class Preprocessing:
    """Resizes and crops an image around its center, and normalizes it.

    Args:
        transform (Callable): An RGB image to the tensor (3, H, W) that the model
            expects.
        resize (int): To how many pixels it resizes the shorter side.
        crop (int): Height and width in pixels of what it cuts out of the middle.

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
        """The middle of an image whose shorter side becomes so many pixels.

        Args:
            side (int): Height and width of the tensor.
            mean (sequence of float): Of the normalization, RGB in [0, 1].
            std (sequence of float): Of the normalization, RGB.

        Returns:
            Preprocessing: Bilinear, as torchvision resizes.

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
        """The tensor (3, H, W) of an image of any mode."""
        return self._transform(image.convert("RGB"))

    def boxes(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Boxes of an image, where they lie in its tensor.

        Args:
            boxes (Tensor): x0, y0, x1, y1 as edges in pixels, (N, 4).
            size (tuple of int): Height and width of the image.

        Returns:
            Tensor: In pixels of the tensor, (M, 4) float32, cut at its edges. What is
            cut away wholly is left out, so M may be less than N.
        """
        table = boxes.float().reshape(-1, 4)
        there = BoundingBoxes(table, format="XYXY", canvas_size=size)
        seen = self._geometry(there).as_subclass(Tensor).clamp(0, self._crop)
        return seen[(seen[:, :2] < seen[:, 2:]).all(1)]
