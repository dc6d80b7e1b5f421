"""Results of an evaluation as text and as a single HTML page."""

from captum_ext.report.page import write_report

__all__ = ["write_report"]
