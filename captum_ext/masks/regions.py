"""Masks that hide whole regions: superpixels, columns of a table, tokens."""

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ext.masks.layout import MaskLayout

__all__ = ["RegionLayout"]


class RegionLayout(MaskLayout):
    """One cell per region, with hard borders and no shift.

    Args:
        regions (sequence of Tensor): For each input the index of the region of every
            element, integers, (1, ...) and broadcastable to the input. Regions of the
            same index are drawn together, also across inputs.

    Examples::

        >>> layout = RegionLayout([torch.tensor([[0, 0, 1]])])
        >>> codes = draw_masks(layout, (0.5, 0.5), 4, torch.Generator().manual_seed(0))
        >>> layout.expand(codes.indicators(1), codes.shifts)[0].shape
        torch.Size([4, 1, 1, 3])
    """

    def __init__(self, regions: Sequence[Tensor]) -> None:
        flat = torch.cat([region.flatten().cpu() for region in regions])
        labels, index = flat.unique(return_inverse=True)
        split = index.split([region.numel() for region in regions])
        self._index = [i.view(r.shape) for i, r in zip(split, regions)]
        super().__init__(n_cells=len(labels))

    def expand(self, values: Tensor, shifts: Tensor) -> tuple[Tensor, ...]:
        return tuple(values[:, :, index.to(values.device)] for index in self._index)

    def accumulate(
        self, weights: Tensor, values: Tensor, shifts: Tensor
    ) -> tuple[Tensor, ...]:
        return self.correlate(torch.einsum("mb,mkr->krb", weights, values.to(weights)))

    def correlate(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        maps = (coefficients[:, index[0]] for index in self._index)
        return tuple(values.movedim(-1, 1) for values in maps)
