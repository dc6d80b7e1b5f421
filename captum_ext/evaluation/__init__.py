"""Evaluation of methods on many images, with one process or several."""

from captum_ext._extras import extra

with extra("evaluation"):
    from captum_ext.evaluation.metric_specs import read_metrics
    from captum_ext.evaluation.named_metrics import METRICS, Metric
    from captum_ext.evaluation.result_tables import Results, read_results
    from captum_ext.evaluation.run_folder import image_path, map_path
    from captum_ext.evaluation.runner import evaluate
    from captum_ext.evaluation.statistics import compare_methods, summarize
    from captum_ext.methods.specs import COMPARED, read_methods

__all__ = [
    "COMPARED",
    "METRICS",
    "Metric",
    "Results",
    "compare_methods",
    "evaluate",
    "image_path",
    "map_path",
    "read_methods",
    "read_metrics",
    "read_results",
    "summarize",
]
