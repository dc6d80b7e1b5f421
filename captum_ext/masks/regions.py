"""Masks that hide whole regions: superpixels, columns of a table, tokens."""

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ext._type_checks import check_sequence, check_tensor, shown
from captum_ext._validation import check_integer
from captum_ext.masks.layout import DeviceCopies, MaskLayout

__all__ = ["RegionLayout", "disjoint_regions", "sequence_mask"]

# Distance at which cells are independent of each other.
_FAR = 1e3


class RegionLayout(MaskLayout):
    """One cell per region, with hard borders and no shift.

    Args:
        regions (sequence of Tensor): For each input the index of the region of every
            element, integers, (1, ...) and broadcastable to the input. Regions of the
            same index are drawn together, also across inputs.

    Attributes:
        regions (list[Tensor]): The same from 0 to ``n_cells`` - 1, on the CPU.

    Examples::

        >>> layout = RegionLayout([torch.tensor([[0, 0, 1]])])
        >>> codes = draw_masks(layout, (0.5, 0.5), 4, torch.Generator().manual_seed(0))
        >>> layout.expand(codes.indicators(1), codes.shifts)[0].shape
        torch.Size([4, 1, 1, 3])
    """

    def __init__(self, regions: Sequence[Tensor]) -> None:
        regions = _check_regions(regions)
        flat = torch.cat([region.flatten().cpu() for region in regions])
        labels, index = flat.unique(return_inverse=True)
        split = index.split([region.numel() for region in regions])
        self.regions = [i.view(r.shape) for i, r in zip(split, regions)]
        self._copies = list(map(DeviceCopies, self.regions))
        super().__init__(n_cells=len(labels))

    def expand(self, values: Tensor, shifts: Tensor) -> tuple[Tensor, ...]:
        indices = [index.on(values.device) for index in self._copies]
        return tuple(_gathered(values, index) for index in indices)

    def accumulate(
        self, weights: Tensor, values: Tensor, shifts: Tensor
    ) -> tuple[Tensor, ...]:
        return self.correlate(torch.einsum("mb,mkr->krb", weights, values.to(weights)))

    def correlate(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        maps = (coefficients[:, index[0]] for index in self.regions)
        return tuple(values.movedim(-1, 1) for values in maps)

    def sums(self, maps: Sequence[Tensor]) -> Tensor:
        """Sum of a map over each region.

        Args:
            maps (sequence of Tensor): One map (1, ...) per input, broadcastable with
                its regions.

        Returns:
            *Tensor*: (n_cells,) float64.
        """
        total = torch.zeros(self.n_cells, dtype=torch.float64)
        for index, each in zip(self.regions, maps):
            index, values = torch.broadcast_tensors(index, each.double().cpu())
            total.index_add_(0, index.flatten(), values.flatten())
        return total

    def counts(self, n_elements: Sequence[int] | None = None) -> Tensor:
        """Number of elements of each region, (n_cells,) float64.

        Args:
            n_elements (sequence of int, optional): Number of elements of each map over
                which the regions are spread. Default: None (those of the regions)
        """
        n = [index.numel() for index in self.regions]
        repeats = [m / each for m, each in zip(n_elements or n, n)]
        return self.sums([torch.tensor(each) for each in repeats])

    def sizes(self) -> Tensor:
        """Size of each region, (n_cells,) float64, in mean regions of its input."""
        means = [index.numel() / len(index.unique()) for index in self.regions]
        return self.sums([torch.tensor(1 / mean) for mean in means])

    def neighbors(self) -> Tensor:
        """Whether two regions touch each other along an axis, (n_cells, n_cells) bool.

        Those of series and sequences also touch along the channel axis, which is that
        of the positions of a sequence (B, L, C). Regions of inputs without an axis
        after the channel axis touch no other.
        """
        touching = torch.zeros(self.n_cells, self.n_cells, dtype=torch.bool)
        for index in self.regions:
            for axis in range(1 if index.dim() == 3 else 2, index.dim()):
                first = index.narrow(axis, 0, index.shape[axis] - 1)
                second = index.narrow(axis, 1, index.shape[axis] - 1)
                touching[first.flatten(), second.flatten()] = True
        return touching | touching.T

    def positions(self) -> Tensor:
        """Centers of the regions, (n_cells, d) float64.

        Coordinates are in units of the shorter side of an image, or of the length of
        the time axis or of an axis of a series or sequence, whose positions may lie
        along the channel axis, (B, L, C). A last coordinate sets the inputs apart, and
        regions of inputs without an axis after the channel axis from each other.
        """
        d = max(index.dim() for index in self.regions) - 2
        sums = []
        for axis in range(d):
            along = [_coordinate(index, axis) for index in self.regions]
            sums.append(self.sums(along))
        if any(index.dim() == 3 for index in self.regions):
            along = [_channel_coordinate(index) for index in self.regions]
            sums.append(self.sums(along))
        apart = [
            index if index.dim() == 2 else torch.tensor(number)
            for number, index in enumerate(self.regions)
        ]
        sums.append(self.sums([_FAR * each.double() for each in apart]))
        return torch.stack(sums, 1) / self.counts()[:, None]


def _gathered(values: Tensor, index: Tensor) -> Tensor:
    """Values of regions (M, K, n) at their elements, (M, K, *index.shape).

    ``gather`` is several times as fast as indexing along the last axis.
    """
    elements = index.flatten().expand(*values.shape[:2], -1)
    return values.gather(2, elements).unflatten(2, index.shape)


def _coordinate(index: Tensor, axis: int) -> Tensor:
    """Coordinate of each element along a spatial axis, 0 if there is no such axis."""
    size = index.shape[2:]
    if axis >= len(size):
        return torch.zeros(())
    unit = size[axis] if axis < len(size) - 2 else min(size[-2:])
    along = torch.arange(size[axis]).double() / unit
    return along.reshape(-1, *(1,) * (len(size) - 1 - axis))


def _channel_coordinate(index: Tensor) -> Tensor:
    """Coordinate of each element of a sequence along its channel axis, else 0."""
    if index.dim() != 3:
        return torch.zeros(())
    return torch.arange(index.shape[1]).double().view(-1, 1) / index.shape[1]


def sequence_mask(inputs: Tensor, n_regions: int | None = None) -> Tensor:
    """Regions of sequences (B, L, C): all features of a position belong together.

    A ``feature_mask`` for embedded tokens, for tokens of a transformer and for series
    with the channels last, whose positions are hidden as a whole. Without it their axis
    L would count as channels, and C be masked.

    Args:
        inputs (Tensor): Sequences (B, L, C).
        n_regions (int, optional): Number of regions of neighboring positions, as equal
            as possible, at most L. Default: None (L, one for each position)

    Returns:
        *Tensor*: Index of the region of each position, (1, L, 1) int64 on the device of
        ``inputs``.

    Raises:
        ValueError: If the inputs have other axes or there are more regions than
            positions.

    Examples::

        >>> sequence_mask(torch.rand(1, 5, 8)).flatten()
        tensor([0, 1, 2, 3, 4])
        >>> sequence_mask(torch.rand(1, 5, 8), n_regions=2).flatten()
        tensor([0, 0, 0, 1, 1])
    """
    check_tensor("inputs", inputs)
    if inputs.dim() != 3 or not inputs.numel():
        raise ValueError(
            f"inputs must be sequences (B, L, C), got shape {tuple(inputs.shape)}."
        )
    length = inputs.shape[1]
    if n_regions is None:
        n_regions = length
    n_regions = check_integer("n_regions", n_regions, 1, length)
    positions = torch.arange(length, device=inputs.device)
    return (positions * n_regions // length).view(1, -1, 1)


def disjoint_regions(masks: Tensor | Sequence[Tensor]) -> Tensor:
    """Regions of overlapping masks: pixels that the same masks cover belong together.

    This turns the masks of any segmentation, of SAM or of Captum's ``ImageMaskInput``
    for example, into a ``feature_mask``.

    Args:
        masks (Tensor or sequence of Tensor): N masks (N, H, W), or a sequence of N
            masks (H, W): boolean, or numbers in [0, 1] that cover pixels above 0.5.

    Returns:
        *Tensor*: Index of the region of each pixel, (1, 1, H, W) int64 on the device of
        ``masks``, from 0 without gaps. Pixels that no mask covers are one region, the
        first.

    Raises:
        ValueError: If ``masks`` do not have shape (N, H, W) or are not in [0, 1].

    Examples::

        >>> disjoint_regions(torch.tensor([[[1, 1, 0, 0]], [[0, 1, 1, 0]]]))
        tensor([[[[2, 3, 1, 0]]]])
    """
    if not isinstance(masks, Tensor):
        given = check_sequence("masks", masks, "masks")
        masks = _stacked([check_tensor("masks", _mask(each)) for each in given])
    check_tensor("masks", masks)
    if masks.dim() != 3 or not masks.numel():
        raise ValueError(f"masks must have shape (N, H, W), got {tuple(masks.shape)}.")
    if not ((masks >= 0) & (masks <= 1)).all():
        raise ValueError(
            f"masks must be boolean or lie in [0, 1], got values from "
            f"{float(masks.min()):.3g} to {float(masks.max()):.3g}."
        )
    labels = torch.zeros(masks.shape[1:], dtype=torch.long, device=masks.device)
    for covered in masks > 0.5:
        # Numbered anew after each mask, so that any number of masks fits into 64 bits.
        labels = (2 * labels + covered).unique(return_inverse=True)[1]
    return labels[None, None]


def _check_regions(regions: Sequence[Tensor]) -> list[Tensor]:
    """Regions, checked to be integer tensors (1, ...) that are not empty."""
    checked = []
    for region in check_sequence("regions", regions, "tensors"):
        check_tensor("regions", region, "tensors")
        kinds = region.is_floating_point(), region.dtype == torch.bool
        if any(kinds) or region.dim() < 2 or len(region) != 1 or not region.numel():
            raise ValueError(
                f"regions must hold integer tensors (1, ...), got {region.dtype} of "
                f"shape {tuple(region.shape)}."
            )
        checked.append(region)
    if not checked:
        raise ValueError("regions must hold one tensor for each input, got none.")
    return checked


def _mask(value: object) -> Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"masks must be tensors or arrays, got {shown(value)}."
        ) from None


def _stacked(masks: list[Tensor]) -> Tensor:
    shapes = sorted({tuple(mask.shape) for mask in masks})
    if len(shapes) != 1:
        raise ValueError(
            f"masks must hold one or several masks of one shape (H, W), got "
            f"{' and '.join(map(str, shapes)) or 'none'}."
        )
    return torch.stack(masks)
