"""Random masks: layouts, regions, drawing, fills and color palettes."""

from captum_ext.masks.candidates import candidate_masks
from captum_ext.masks.fill import apply_masks, memory_format_of
from captum_ext.masks.grid import GridLayout, enlarged_cells
from captum_ext.masks.halves import smooth_halves
from captum_ext.masks.layout import (
    MaskCodes,
    MaskLayout,
    ProductLayout,
    draw_masks,
)
from captum_ext.masks.mixed import MixedLayout
from captum_ext.masks.palette import Palette, image_palette, named_palette
from captum_ext.masks.regions import RegionLayout, disjoint_regions, sequence_mask
from captum_ext.masks.superpixels import superpixels

__all__ = [
    "GridLayout",
    "MaskCodes",
    "MaskLayout",
    "MixedLayout",
    "Palette",
    "ProductLayout",
    "RegionLayout",
    "apply_masks",
    "candidate_masks",
    "disjoint_regions",
    "draw_masks",
    "enlarged_cells",
    "image_palette",
    "memory_format_of",
    "named_palette",
    "sequence_mask",
    "smooth_halves",
    "superpixels",
]
