"""Reports of evaluations: tables as text, and an HTML page."""

from captum_ext.report.page import write_report

__all__ = ["write_report"]
