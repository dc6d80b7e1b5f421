"""The floor of every table: a map that knows nothing of the picture or the model."""

import torch
from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor
from torch.nn import functional as F

from captum_ext._captum import TargetType
from captum_ext._validation import check_integer, check_picture

__all__ = ["RandomMap"]


class RandomMap(Attribution):
    """A random grid, enlarged: as smooth as the maps that it is compared with.

    Noise of single pixels would be no floor. It destroys a picture faster than any map
    of the object does, and so looks good by deletion.

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
            inputs (Tensor): Pictures (B, C, H, W), for their shape.
            target (int, tuple, Tensor, or list, optional): Not used. Default: None
            grid_size (int, optional): Cells of the grid along each side. Default: 7
            seed (int, optional): Seed of the grid. Default: 0

        Returns:
            *Tensor*: In the shape of ``inputs``, equal for all examples and channels,
            in [0, 1].

        Raises:
            ValueError: If an argument is out of its range.
            TypeError: If an argument is of the wrong type.
        """
        size = check_picture(inputs).shape[2:]
        n_cells = check_integer("grid_size", grid_size, 1)
        seed = check_integer("seed", seed, 0, 2**64 - 1)
        cells = torch.rand(
            1, 1, n_cells, n_cells, generator=torch.Generator().manual_seed(seed)
        )
        maps = F.interpolate(cells, size, mode="bilinear")
        return maps.to(inputs).expand_as(inputs).contiguous()
