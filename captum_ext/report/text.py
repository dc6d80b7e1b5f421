"""Tables of a run as text, with tests against a baseline as in BOREx's Table 1."""

import math
from textwrap import fill

import pandas as pd

from captum_ext.evaluation.result_tables import Results
from captum_ext.evaluation.statistics import LEVEL, compare_methods, summarize
from captum_ext.report.glossary import (
    MetricEntry,
    describe_methods,
    describe_metrics,
)
from captum_ext.report.sentences import summary_sentences

__all__ = ["baseline_of", "number_text", "p_text", "star", "text_report"]

_WIDTH = 88


def text_report(results: Results, baseline: str | None = None) -> str:
    """Three sentences, and means, medians and tests of a run, a table per metric.

    Args:
        results (Results): Results of the run.
        baseline (str, optional): Name of the method that all others are compared with.
            Default: None (the first method)

    Returns:
        *str*: Sentences, tables and a note.

    Raises:
        ValueError: If the baseline is not one of the methods, or a metric is unknown.
    """
    titles = {m.name: m.title for m in describe_methods(results.settings)}
    baseline = baseline_of(results, baseline)
    summary = summarize(results.table).set_index(["metric", "method"])
    tables = [
        _metric_table(metric, results.table, summary.loc[metric.name], titles, baseline)
        for metric in describe_metrics(results.settings)
    ]
    summarized = "\n".join(
        fill(s, _WIDTH, break_on_hyphens=False) for s in summary_sentences(results)
    )
    return "\n\n".join([summarized, *tables, _note(titles[baseline])])


def baseline_of(results: Results, baseline: str | None) -> str:
    """Name of the method that the tables compare all others with.

    Args:
        results (Results): Results of the run.
        baseline (str, optional): Name of a method, or None for the first.

    Returns:
        *str*: Name of a method of the run.

    Raises:
        ValueError: If the baseline is not one of the methods.
    """
    methods = [*results.settings["methods"]]
    baseline = methods[0] if baseline is None else baseline
    if baseline not in methods:
        raise ValueError(
            f"baseline must be one of {', '.join(methods)}, got {baseline!r}."
        )
    return baseline


def number_text(value: float) -> str:
    """Format a number: four digits, at most three decimals, a dash for NaN.

    Args:
        value (float): Number or NaN.

    Returns:
        *str*: Text of the number.

    Examples::

        >>> [number_text(value) for value in (0.12345, -12.345, 28559.06)]
        ['0.123', '-12.35', '28559']
        >>> [number_text(value) for value in (-0.0001, float("nan"))]
        ['0.000', '-']
    """
    if math.isnan(value):
        return "-"
    decimals = 3 - sum(abs(value) >= limit for limit in (10, 100, 1000))
    text = f"{value:.{decimals}f}"
    return "0.000" if text == "-0.000" else text


def p_text(p: float) -> str:
    """Format a p-value.

    Args:
        p (float): P-value in [0, 1].

    Returns:
        *str*: Three decimals, or ``<0.001``.

    Examples::

        >>> p_text(0.04), p_text(1e-9)
        ('0.040', '<0.001')
    """
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def star(p: float) -> str:
    """Mark a significant p-value.

    Args:
        p (float): Corrected p-value in [0, 1].

    Returns:
        *str*: An asterisk if it is below 0.05.

    Examples::

        >>> [star(p) for p in (0.05, 0.04)]
        ['', '*']
    """
    return "*" if p < LEVEL else ""


def _metric_table(
    metric: MetricEntry,
    table: pd.DataFrame,
    summary: pd.DataFrame,
    titles: dict[str, str],
    baseline: str,
) -> str:
    tests = compare_methods(table, metric.name, metric.better, baseline)
    by_method = {test["method"]: test for test in tests.to_dict("records")}
    rows = [["", "n", "mean", "", "median", "", "difference", "effect", "p "]]
    for name, title in titles.items():
        row = summary.loc[name]
        centers = [*_center_cells(row, "mean"), *_center_cells(row, "median")]
        tested = _test_cells(by_method[name]) if name in by_method else [""] * 3
        rows.append([title, f"{row['n']:.0f}", *centers, *tested])
    return "\n".join([f"{metric.title}, {metric.better} is better", *_aligned(rows)])


def _center_cells(row: pd.Series, center: str) -> list[str]:
    low, high = (number_text(row[f"{center}_{end}"]) for end in ("low", "high"))
    return [number_text(row[center]), f"[{low}, {high}]"]


def _test_cells(test: dict[str, float]) -> list[str]:
    numbers = [number_text(test[name]) for name in ("median_difference", "effect")]
    return [*numbers, f"{p_text(test['p_holm'])}{star(test['p_holm']):1}"]


def _aligned(rows: list[list[str]]) -> list[str]:
    """Lines with aligned columns, the first one left and all others right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(
            [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        ).rstrip()
        for first, *others in rows
    ]


def _note(baseline: str) -> str:
    return f"""\
In brackets: 95% bootstrap interval of the value before.
Difference: median of method minus {baseline} on the same images.
Effect: rank-biserial correlation; positive if the method is better than {baseline},
negative if it is worse; 1 or -1 if so on every image where they differ.
p: two-sided Wilcoxon signed-rank test that the method differs from {baseline},
corrected by Holm's method for the methods in the table. * p < {LEVEL}.
The sentences at the top and the page test every pair: corrected for more tests, a
difference with a star may not be significant there."""
