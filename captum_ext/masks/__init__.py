"""Random masks: layouts, drawing, fills and color palettes."""

from captum_ext.masks.fill import apply_masks, memory_format_of
from captum_ext.masks.grid import GridLayout, enlarged_cells
from captum_ext.masks.halves import smooth_halves
from captum_ext.masks.layout import (
    MaskCodes,
    MaskLayout,
    ProductLayout,
    draw_masks,
)
from captum_ext.masks.palette import Palette, image_palette, named_palette
from captum_ext.masks.regions import RegionLayout

__all__ = [
    "GridLayout",
    "MaskCodes",
    "MaskLayout",
    "Palette",
    "ProductLayout",
    "RegionLayout",
    "apply_masks",
    "draw_masks",
    "enlarged_cells",
    "memory_format_of",
    "image_palette",
    "named_palette",
    "smooth_halves",
]
