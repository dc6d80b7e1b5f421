"""Data sets of labeled images and boxes, and readers for their file formats."""

from captum_ext.datasets.annotations import read_boxes, read_coco, read_voc
from captum_ext.datasets.class_map import read_class_map
from captum_ext.datasets.dataset import Box, Dataset, Example
from captum_ext.datasets.readers import (
    read_arrays,
    read_class_folders,
    read_images,
    read_signs,
)

__all__ = [
    "Box",
    "Dataset",
    "Example",
    "read_arrays",
    "read_boxes",
    "read_class_folders",
    "read_class_map",
    "read_coco",
    "read_images",
    "read_signs",
    "read_voc",
]
