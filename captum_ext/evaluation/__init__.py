"""On many images: methods compared on a data set, on one machine or on many."""

from captum_ext.evaluation.annotations import read_boxes, read_coco, read_voc
from captum_ext.evaluation.choices import COMPARED, read_methods, read_metrics
from captum_ext.evaluation.class_map import read_class_map
from captum_ext.evaluation.datasets import Box, Dataset, Example
from captum_ext.evaluation.metrics import METRICS, Metric
from captum_ext.evaluation.readers import (
    read_arrays,
    read_class_folders,
    read_images,
    read_signs,
)
from captum_ext.evaluation.records import (
    Results,
    image_path,
    map_path,
    read_results,
)
from captum_ext.evaluation.report import write_report
from captum_ext.evaluation.runner import evaluate
from captum_ext.evaluation.statistics import compare_methods, summarize

__all__ = [
    "COMPARED",
    "METRICS",
    "Box",
    "Dataset",
    "Example",
    "Metric",
    "Results",
    "compare_methods",
    "evaluate",
    "map_path",
    "image_path",
    "read_arrays",
    "read_boxes",
    "read_class_folders",
    "read_class_map",
    "read_coco",
    "read_metrics",
    "read_methods",
    "read_images",
    "read_results",
    "read_signs",
    "read_voc",
    "summarize",
    "write_report",
]
