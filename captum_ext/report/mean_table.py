"""The table of means of a run, for spreadsheets and papers."""

import math

import pandas as pd

from captum_ext.evaluation.result_tables import Results
from captum_ext.evaluation.statistics import compare_methods, summarize
from captum_ext.report.glossary import describe_methods, describe_metrics
from captum_ext.report.text import baseline_of, number_text, star

__all__ = ["latex_table", "mean_table"]


def mean_table(results: Results, baseline: str | None = None) -> pd.DataFrame:
    """Means with intervals, and tests against a baseline, as numbers.

    Args:
        results (Results): Results of the run.
        baseline (str, optional): Name of the method that all others are compared with.
            Default: None (the first method)

    Returns:
        *pandas.DataFrame*: One row per metric and method: metric, better ("higher" or
        "lower"), method, n (images with a value), mean, mean_low, mean_high (95%
        bootstrap interval), baseline, effect, p_holm, and significant ("*" or ""), as
        :func:`~captum_ext.evaluation.compare_methods` gives them.

    Raises:
        ValueError: If the baseline is not one of the methods, or a metric is unknown.
    """
    baseline = baseline_of(results, baseline)
    summary = summarize(results.table)[
        ["metric", "method", "n", "mean", "mean_low", "mean_high"]
    ]
    tables = []
    for metric in describe_metrics(results.settings):
        tests = compare_methods(results.table, metric.name, metric.better, baseline)
        rows = summary[summary["metric"] == metric.name].merge(
            tests[["method", "effect", "p_holm"]], on="method", how="left"
        )
        rows.insert(1, "better", metric.better)
        rows.insert(len(rows.columns) - 2, "baseline", baseline)
        tables.append(rows.assign(significant=rows["p_holm"].map(star)))
    return pd.concat(tables, ignore_index=True)


def latex_table(results: Results, baseline: str | None = None) -> str:
    """Means with intervals as a LaTeX table, one row per method.

    The best mean of a metric is bold, and a star marks a significant difference from
    the baseline. The table needs the package ``booktabs``.

    Args:
        results (Results): Results of the run.
        baseline (str, optional): Name of the method that all others are compared with.
            Default: None (the first method)

    Returns:
        *str*: Environment ``table``.

    Raises:
        ValueError: If the baseline is not one of the methods, or a metric is unknown.
    """
    baseline = baseline_of(results, baseline)
    table = mean_table(results, baseline)
    methods = {m.name: m.title for m in describe_methods(results.settings)}
    columns = {}
    for metric in describe_metrics(results.settings):
        rows = table[table["metric"] == metric.name].set_index("method")
        means = rows["mean"]
        best = means.max() if metric.better == "higher" else means.min()
        columns[f"{metric.title} {metric.arrow}"] = [
            _cell(rows.loc[name], bool(means[name] == best)) for name in methods
        ]
    styled = pd.DataFrame(columns, index=[*methods.values()]).style
    styled.format_index(escape="latex", axis="index")
    styled.format_index(_with_arrow, escape="latex", axis="columns")
    return styled.to_latex(
        hrules=True,
        column_format="l" + "r" * len(columns),
        position_float="centering",
        caption=f"Means with 95\\% bootstrap intervals. * differs significantly from "
        f"{_escaped(methods[baseline])}: two-sided Wilcoxon signed-rank test, "
        f"corrected by Holm's method for the methods of a column, $p < 0.05$.",
    )


def _cell(row: pd.Series, best: bool) -> str:
    mean, low, high = (
        number_text(row[name]).replace("-", "$-$" if row["n"] else "--")
        for name in ("mean", "mean_low", "mean_high")
    )
    interval = "" if math.isnan(row["mean_low"]) else f" [{low}, {high}]"
    shown = rf"\textbf{{{mean}}}" if best else mean
    return f"{shown}{row['significant']}{interval}"


def _with_arrow(title: str) -> str:
    """LaTeX of a title that ends in an arrow."""
    return title.replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$")


def _escaped(text: str) -> str:
    """LaTeX of a text, escaped by pandas as the names in the table are."""
    styled = pd.DataFrame([text]).style.format(escape="latex").hide(axis="columns")
    return styled.hide(axis="index").to_latex().splitlines()[1].removesuffix(r" \\")
