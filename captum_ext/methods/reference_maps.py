"""Reference maps, which depend on neither the image nor the model."""

from collections.abc import Callable

import torch
from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor
from torch.nn import functional as F

from captum_ext._captum import TargetType
from captum_ext._validation import check_image, check_integer
from captum_ext.metrics import center_box, max_box

__all__ = ["CenterBox", "MaxBox", "RandomMap"]


class RandomMap(Attribution):
    """A random grid, upsampled to be as smooth as the maps that it is compared with.

    Noise of single pixels would not be a lower bound: it destroys an image faster than
    any map of the object, and so scores well by deletion.

    Args:
        forward_func (Callable): Not called.

    Examples::

        >>> RandomMap(None).attribute(torch.rand(1, 3, 32, 32), seed=1).shape
        torch.Size([1, 3, 32, 32])
    """

    @log_usage()
    def attribute(
        self,
        inputs: Tensor,
        target: TargetType = None,
        grid_size: int = 7,
        seed: int = 0,
    ) -> Tensor:
        """
        Args:
            inputs (Tensor): Images (B, C, H, W), used for their shape.
            target (int, tuple, Tensor, or list, optional): Not used. Default: None
            grid_size (int, optional): Cells of the grid per side. Default: 7
            seed (int, optional): Seed of the grid. Default: 0

        Returns:
            *Tensor*: Maps in the shape of ``inputs``, equal for all examples and
            channels, in [0, 1].

        Raises:
            ValueError: If an argument is out of its range.
            TypeError: If an argument has the wrong type.
        """
        size = check_image(inputs).shape[2:]
        n_cells = check_integer("grid_size", grid_size, 1)
        seed = check_integer("seed", seed, 0, 2**64 - 1)
        cells = torch.rand(
            1, 1, n_cells, n_cells, generator=torch.Generator().manual_seed(seed)
        )
        maps = F.interpolate(cells, size, mode="bilinear")
        return maps.to(inputs).expand_as(inputs).contiguous()


class _Box(Attribution):
    """1 inside a box and 0 outside, drawn by a subclass."""

    _draw: Callable[[Tensor], Tensor]

    @log_usage()
    def attribute(self, inputs: Tensor, target: TargetType = None) -> Tensor:
        """
        Args:
            inputs (Tensor): Images (B, C, H, W), used for their shape.
            target (int, tuple, Tensor, or list, optional): Not used. Default: None

        Returns:
            *Tensor*: Maps in the shape of ``inputs``, equal for all channels.
        """
        return self._draw(check_image(inputs)).expand_as(inputs).contiguous()


class CenterBox(_Box):
    """1 inside a centered box of half the image's area and 0 outside.

    Source: P. Dabkowski, Y. Gal, Real Time Image Saliency for Black Box Classifiers,
    NeurIPS 2017, Section 5.1.

    Args:
        forward_func (Callable): Not called.

    Examples::

        >>> CenterBox(None).attribute(torch.rand(1, 3, 224, 224)).mean()
        tensor(0.4975)
    """

    _draw = staticmethod(center_box)


class MaxBox(_Box):
    """1 everywhere: the box is the whole image.

    Source: P. Dabkowski, Y. Gal, Real Time Image Saliency for Black Box Classifiers,
    NeurIPS 2017, Section 5.1.

    Args:
        forward_func (Callable): Not called.

    Examples::

        >>> MaxBox(None).attribute(torch.rand(1, 3, 32, 32)).unique()
        tensor([1.])
    """

    _draw = staticmethod(max_box)
