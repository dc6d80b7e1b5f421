"""What came out: the results of an evaluation as text and as one HTML page."""

from captum_ext.report.page import write_report

__all__ = ["write_report"]
