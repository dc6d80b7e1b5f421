"""The command captum-ext report: tables as text, and an HTML page."""

import argparse
from pathlib import Path

from captum_ext._files import write_file
from captum_ext.evaluation import read_results
from captum_ext.report import write_report
from captum_ext.report.mean_table import (
    latex_table,
    mean_table,
)
from captum_ext.report.text import text_report

__all__ = ["add_parser"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of captum-ext.

    Args:
        commands (argparse action): Return value of ``add_subparsers``.
    """
    parser = commands.add_parser(
        "report",
        description="Print three sentences on an evaluation, and means, medians and "
        "paired tests, one table per metric, and write them with curves and a gallery "
        "of maps to an HTML page. The tables test all methods against one, the page "
        "tests every pair; p-values are corrected for the number of tests.",
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
    for suffix, kind in (("csv", "CSV"), ("latex", "LaTeX")):
        parser.add_argument(
            f"--{suffix}",
            type=Path,
            metavar="FILE",
            help=f"also write means with intervals and significance as a {kind} table",
        )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    results = read_results(options.results)
    text = text_report(results, options.baseline)
    for path in (options.csv, options.latex):
        if path is not None and (path.is_dir() or not path.resolve().parent.is_dir()):
            raise ValueError(
                f"--csv and --latex must be files in existing folders, got "
                f"{str(path)!r}."
            )
    written = [write_report(options.results, options.output)]
    if options.csv is not None:
        table = mean_table(results, options.baseline)
        content = table.to_csv(index=False, lineterminator="\n")
        write_file(content.encode(), options.csv)
        written.append(options.csv)
    if options.latex is not None:
        content = latex_table(results, options.baseline)
        write_file(content.encode(), options.latex)
        written.append(options.latex)
    print(f"{text}\n\nwritten to {', '.join(map(str, written))}")
