"""Random masks of several layouts, regions of several sizes for example."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise, product

import torch
from torch import Tensor

from captum_ext.masks.layout import MaskLayout, check_layouts, mask_shapes

__all__ = ["MixedLayout"]

# Pixels in which layouts are compared, and features for which they are computed at a
# time: large images take no more memory than small ones.
_MOST_PIXELS = 2**16
_FEATURES_AT_ONCE = 8


class MixedLayout(MaskLayout):
    """Masks of several layouts: each mask is drawn from one of them at random.

    The expected map is the mean of the maps of the single layouts. All masks share the
    linear model of a control variate: its features are those of the finest layout, to
    which the features of the other layouts are mapped by their overlap. For regions
    they say which share of each region of the finest layout a mask hides.

    Args:
        layouts (sequence of MaskLayout): Layouts whose masks have the same shapes. All
            are equally likely.

    Raises:
        ValueError: If the masks of the layouts differ in shape.
        TypeError: If ``layouts`` is empty or holds something other than layouts.

    Examples::

        >>> image = torch.rand(1, 3, 32, 32)
        >>> layout = MixedLayout(
        ...     [RegionLayout([superpixels(image, n)]) for n in (10, 20)]
        ... )
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5))
        >>> PNRISE(model).attribute(image, target=1, layout=layout).shape
        torch.Size([1, 3, 32, 32])
    """

    def __init__(self, layouts: Sequence[MaskLayout]) -> None:
        self.layouts = layouts = check_layouts(layouts)
        _check_shapes(layouts)
        # The first shift chooses the layout; the others are the layouts' own.
        axes = [1, *(len(layout.n_shifts) for layout in layouts)]
        self._axes = [slice(*ends) for ends in pairwise(accumulate(axes))]
        covariances = [_covariances(layout) for layout in layouts]
        finest = max(covariances, key=len)
        self._overlaps = [_overlap(finest, other) for other in covariances]
        variances = map(_sum_of_variances, layouts, self._overlaps)
        super().__init__(
            # A mask takes as many of the cells as its layout has.
            n_cells=max(layout.n_cells for layout in layouts),
            n_shifts=(
                len(layouts),
                *(n for layout in layouts for n in layout.n_shifts),
            ),
            n_features=len(finest),
            norm=sum(variances) / len(layouts),
        )

    def _parts(
        self, values: Tensor, shifts: Tensor
    ) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        """For each layout with masks: its position, their rows, cells and shifts."""
        # Read once: the CPU would wait for a GPU at every layout.
        chosen = shifts[:, 0].tolist()
        for i, layout in enumerate(self.layouts):
            own = [row for row, each in enumerate(chosen) if each == i]
            if own:
                rows = torch.tensor(own, device=values.device)
                cells = values[rows, :, : layout.n_cells]
                yield i, rows, cells, shifts[rows.to(shifts.device), self._axes[i]]

    def expand(self, values: Tensor, shifts: Tensor) -> tuple[Tensor, ...]:
        rows, masks = [], []
        for i, own, cells, own_shifts in self._parts(values, shifts):
            rows.append(own)
            masks.append(self.layouts[i].expand(cells, own_shifts))
        order = torch.cat(rows).argsort()
        return tuple(torch.cat(parts)[order] for parts in zip(*masks))

    def accumulate(
        self, weights: Tensor, values: Tensor, shifts: Tensor
    ) -> tuple[Tensor, ...]:
        sums = [
            self.layouts[i].accumulate(weights[rows], cells, own_shifts)
            for i, rows, cells, own_shifts in self._parts(values, shifts)
        ]
        return tuple(torch.stack(parts).sum(0) for parts in zip(*sums))

    def features(self, values: Tensor, shifts: Tensor) -> Tensor:
        features = values.new_zeros(*values.shape[:2], self.n_features)
        for i, rows, cells, own_shifts in self._parts(values, shifts):
            own = self.layouts[i].features(cells, own_shifts)
            features[rows] = own @ self._overlaps[i].T.to(own)
        return features

    def correlate(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        maps = [
            layout.correlate(overlap.T.to(coefficients) @ coefficients)
            for layout, overlap in zip(self.layouts, self._overlaps)
        ]
        return tuple(torch.stack(parts).mean(0) for parts in zip(*maps))


def _covariances(layout: MaskLayout) -> Tensor:
    """Covariance of each feature with a few thousand pixels, (n_features, n_pixels)."""
    covariances = []
    for beta in torch.eye(layout.n_features)[None].split(_FEATURES_AT_ONCE, dim=2):
        maps = layout.correlate(beta)
        pixels = torch.cat([each[0].flatten(1) for each in maps], dim=1)
        covariances.append(pixels[:, :: -(-pixels.shape[1] // _MOST_PIXELS)])
    return torch.cat(covariances)


def _overlap(one: Tensor, other: Tensor) -> Tensor:
    """Share of each feature of another layout in each feature of one.

    Features are compared by their covariances with pixels: for regions the share is
    that of their pixels. The estimate is unbiased whatever these numbers are.
    """
    # A cell of a layout may be in no pixel.
    norms = one.square().sum(1, keepdim=True).clamp_min(1e-12)
    return one @ other.T / norms


def _sum_of_variances(layout: MaskLayout, overlap: Tensor) -> float:
    """Sum of the variances of mapped features if each cell has variance 1."""
    shifts = torch.tensor(list(product(*map(range, layout.n_shifts))))
    cells = torch.eye(layout.n_cells).expand(len(shifts), -1, -1)
    features = layout.features(cells, shifts) @ overlap.T
    return float(features.double().square().sum()) / len(shifts)


def _check_shapes(layouts: Sequence[MaskLayout]) -> None:
    """Check that the masks of all layouts have the same shapes."""
    shapes = {mask_shapes(layout) for layout in layouts}
    if len(shapes) > 1:
        raise ValueError(
            f"layouts must give masks of the same shapes, got "
            f"{' and '.join(map(str, sorted(shapes)))}."
        )
