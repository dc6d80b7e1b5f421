"""The command captum-ext report: tables as text, and an HTML page."""

import argparse
from pathlib import Path

from captum_ext.evaluation import read_results
from captum_ext.report import write_report
from captum_ext.report.text import text_report

__all__ = ["add_parser"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of captum-ext.

    Args:
        commands (argparse action): Return value of ``add_subparsers``.
    """
    parser = commands.add_parser(
        "report",
        description="Print means, medians and paired tests of an evaluation, one table "
        "per metric, and write them with curves and a gallery of maps to an HTML page. "
        "The tables test all methods against one, the page tests every method against "
        "every other; p-values are corrected for the number of tests.",
    )
    parser.add_argument(
        "results",
        type=Path,
        metavar="RESULTS",
        help="folder that captum-ext evaluate wrote",
    )
    parser.add_argument(
        "--baseline",
        metavar="METHOD",
        help="method that the tables compare all others with (default: the first)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="REPORT.html",
        help="page to write (default: report.html in RESULTS)",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    text = text_report(read_results(options.results), options.baseline)
    page = write_report(options.results, options.output)
    print(f"{text}\n\nwritten to {page}")
