"""Content of the HTML report, as plain values for its template."""

import json
import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from captum_ext.evaluation.ranks import rank_methods
from captum_ext.evaluation.result_tables import Results
from captum_ext.evaluation.statistics import (
    compare_methods,
    mean_band,
    significant_pairs,
    summarize,
)
from captum_ext.report.curve_plot import curve_plot, legend_key
from captum_ext.report.gallery import Case, GalleryImage, find_case
from captum_ext.report.glossary import (
    MethodEntry,
    MetricEntry,
    describe_methods,
    describe_metrics,
)
from captum_ext.report.rank_plot import rank_plot
from captum_ext.report.sentences import summary_sentences
from captum_ext.report.text import number_text
from captum_ext.visualization.painting import heat_map

__all__ = ["find_cases", "report_content"]

MAX_FAILURES = 50


class _Run(NamedTuple):
    """Results, with the metrics and methods that they compare."""

    results: Results
    metrics: list[MetricEntry]
    methods: list[MethodEntry]

    @property
    def table(self) -> pd.DataFrame:
        return self.results.table

    @property
    def titles(self) -> dict[str, str]:
        """Titles of the methods by name in the table."""
        return {method.name: method.title for method in self.methods}


def find_cases(results: Results) -> list[Case]:
    """Find the best and worst images by each metric that has values.

    Args:
        results (Results): Results of the run.

    Returns:
        *list[Case]*: Cases in the order of the metrics.

    Raises:
        ValueError: If a metric is unknown.
    """
    metrics = describe_metrics(results.settings)
    cases = [find_case(results.table, m.name, m.better) for m in metrics]
    return [case for case in cases if case is not None]


def report_content(results: Results, gallery: list[GalleryImage]) -> dict[str, Any]:
    """Collect the variables of the template.

    Args:
        results (Results): Results of the run.
        gallery (list of GalleryImage): Images to show with their maps.

    Returns:
        *dict*: Strings, numbers, and lists and dicts of them by variable name.

    Raises:
        ValueError: If a metric is unknown.
    """
    settings = results.settings
    run = _Run(results, describe_metrics(settings), describe_methods(settings))
    summary = summarize(run.table).set_index(["method", "metric"])
    tests = {
        metric.name: compare_methods(run.table, metric.name, metric.better)
        for metric in run.metrics
    }
    cases, failures = find_cases(results), _failures(run)
    return {
        "title": _title(run),
        "sentences": summary_sentences(results),
        "facts": _facts(results),
        "n_images": run.table["image"].nunique(),
        "metrics": run.metrics,
        "methods": run.methods,
        "means": _locations(run, summary, "mean"),
        "medians": _locations(run, summary, "median"),
        "wins": _win_counts(run, tests),
        "comparisons": [
            _comparison(run, metric, tests[metric.name])
            for metric in run.metrics
            if not tests[metric.name].empty
        ],
        "diagrams": _diagrams(run),
        "plots": _plots(run, summary["mean"]),
        "cases": _linked(run, cases, gallery),
        "gallery": [
            _gallery_entry(run, f"image-{n}", image, cases)
            for n, image in enumerate(gallery, 1)
        ],
        "color_keys": _color_keys(run),
        "failures": failures[:MAX_FAILURES],
        "n_failures": len(failures),
        "seconds": _seconds(run),
        "version": results.provenance.get("captum_ext", ""),
        "settings": _readable(settings),
        "provenance": _readable(results.provenance),
    }


def _title(run: _Run) -> str:
    methods, metrics = len(run.methods), len(run.metrics)
    return (
        f"{methods} attribution method{'s' * (methods > 1)} by "
        f"{metrics} metric{'s' * (metrics > 1)}"
    )


def _facts(results: Results) -> list[tuple[str, str]]:
    table, settings = results.table, results.settings
    n_images, n_given = table["image"].nunique(), settings["dataset"]["images"]
    left_out = "" if n_images == n_given else f" of {n_given}"
    n_errors = int(table["value"].isna().sum())
    return [
        ("Data set", settings["dataset"]["source"]),
        ("Model", settings["model"]["name"]),
        ("Images", f"{n_images}{left_out}"),
        ("Errors", f"{n_errors} of {len(table)} values" if n_errors else "none"),
    ]


def _readable(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _locations(run: _Run, summary: pd.DataFrame, center: str) -> list[dict[str, Any]]:
    """Rows of the table of means or medians."""
    best = {
        metric.name: _best(summary.xs(metric.name, level="metric")[center], metric)
        for metric in run.metrics
    }

    def cell(method: MethodEntry, metric: MetricEntry) -> dict[str, Any]:
        row = summary.loc[(method.name, metric.name)]
        return {
            "value": row[center],
            "low": row[f"{center}_low"],
            "high": row[f"{center}_high"],
            "n": int(row["n"]),
            "errors": int(row["errors"]),
            "best": row[center] == best[metric.name],
        }

    return [
        {"method": method.title, "cells": [cell(method, m) for m in run.metrics]}
        for method in run.methods
    ]


def _best(values: pd.Series, metric: MetricEntry) -> float:
    """The best of several values, or NaN if all are equal."""
    if values.nunique() < 2:
        return math.nan
    return values.max() if metric.better == "higher" else values.min()


def _win_counts(run: _Run, tests: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Number of methods that each method is significantly better than, by metric."""
    winners = [significant_pairs(each)["better"] for each in tests.values()]
    return [
        {"method": title, "wins": [int((won == name).sum()) for won in winners]}
        for name, title in run.titles.items()
    ]


def _comparison(run: _Run, metric: MetricEntry, tests: pd.DataFrame) -> dict[str, Any]:
    """Matrix of effects of a metric with their p-values, and a list of all tests."""
    cells = {}
    for test in tests.itertuples():
        cells[test.method, test.other] = {"effect": test.effect, "p": test.p_holm}
        cells[test.other, test.method] = {"effect": -test.effect, "p": test.p_holm}
    titled = tests.assign(
        method=tests["method"].map(run.titles), other=tests["other"].map(run.titles)
    )
    return {
        "metric": metric,
        "rows": [
            {"method": title, "cells": [cells.get((name, o)) for o in run.titles]}
            for name, title in run.titles.items()
        ],
        "tests": titled.to_dict("records"),
    }


def _diagrams(run: _Run) -> list[dict[str, Any]]:
    """A critical-difference diagram for each metric with enough methods and images."""
    diagrams = []
    for number, metric in enumerate(run.metrics, 1):
        ranking = rank_methods(run.table, metric.name, metric.better)
        if ranking is not None:
            id = f"ranks-{number}"
            drawing = rank_plot(ranking, run.titles, id)
            diagrams.append(
                {"id": id, "metric": metric, "drawing": drawing, "ranking": ranking}
            )
    return diagrams


def _plots(run: _Run, means: pd.Series) -> list[dict[str, Any]]:
    """A plot of mean curves for each metric that has curves."""
    curves = run.results.curves
    plots = []
    for number, metric in enumerate(run.metrics, 1):
        rows = curves[curves.index.get_level_values("metric") == metric.name]
        if rows.empty:
            continue
        id = f"plot-{number}"
        mean = rows.groupby(level="method").mean().dropna(axis="columns", how="all")
        legend = [
            {
                "method": method.title,
                "key": legend_key(n, f"{id}-key-{n}"),
                "mean": means[method.name, metric.name],
            }
            for n, method in enumerate(run.methods)
        ]
        bands = {}
        for name, of_method in rows.groupby(level="method"):
            known = of_method.dropna(axis="columns")
            if len(known) > 1 and not known.columns.empty:
                bands[str(name)] = mean_band(known)
        # A method without curves keeps its index, so that others keep their lines.
        drawing = curve_plot(mean.reindex([*run.titles]), id, bands)
        plots.append({"id": id, "metric": metric, "drawing": drawing, "legend": legend})
    return plots


def _linked(
    run: _Run, cases: list[Case], gallery: list[GalleryImage]
) -> list[dict[str, Any]]:
    """The best and worst images, with the ids of their gallery entries."""
    ids = {image.name: f"image-{n}" for n, image in enumerate(gallery, 1)}
    metrics = {metric.name: metric for metric in run.metrics}
    return [
        {
            "metric": metrics[case.metric],
            "ends": [
                {"image": image, "id": ids.get(image), "mean": mean}
                for image, mean in (
                    (case.best, case.best_mean),
                    (case.worst, case.worst_mean),
                )
            ],
        }
        for case in cases
    ]


def _gallery_entry(
    run: _Run, id: str, image: GalleryImage, cases: list[Case]
) -> dict[str, Any]:
    """An image with its maps and all their values."""
    rows = run.table[run.table["image"] == image.name]
    values = rows.pivot(index="metric", columns="method", values="value")
    facts = rows.iloc[0]
    worst = {c.metric: "worst case" for c in cases if c.worst == image.name}
    best = {c.metric: "best case" for c in cases if c.best == image.name}
    return {
        **image._asdict(),
        "id": id,
        "facts": f"Explained class {_class(run, facts['target'])}, probability "
        f"{number_text(facts['probability'])}, label {_class(run, facts['label'])}",
        "rows": [
            {
                "metric": metric,
                "case": (worst | best).get(metric.name),
                "numbers": [values.at[metric.name, name] for name in run.titles],
            }
            for metric in run.metrics
        ],
    }


def _class(run: _Run, index: Any) -> str:
    """Index of a class with its name, if it is known."""
    if pd.isna(index):
        return "unknown"
    names = run.results.class_names
    known = index < len(names) and names[index] != str(index)
    return f"{index} ({names[index]})" if known else str(index)


def _color_keys(run: _Run) -> list[dict[str, Any]]:
    """Colors of signed and unsigned maps, for the kinds that the run has."""
    keys = []
    for signed in (True, False):
        titles = [m.title for m in run.methods if m.signed == signed]
        if titles:
            # On gray of medium brightness, colors are shown as they are.
            strip = np.full((1, 33, 3), 0.5)
            colors = heat_map(
                strip, np.linspace(-1 if signed else 0, 1, 33)[None], signed
            )
            shades = (255 * colors[0]).round().astype(int).tolist()
            stops = ", ".join(f"rgb({r}, {g}, {b})" for r, g, b in shades)
            keys.append({"signed": signed, "methods": titles, "stops": stops})
    return keys


def _failures(run: _Run) -> list[dict[str, Any]]:
    """Errors, grouped by method and message."""
    failed = run.table[run.table["value"].isna()]
    groups = failed.groupby(["method", "error"], sort=False, dropna=False)
    return [
        {
            "method": run.titles[method],
            "error": error,
            "n": rows["image"].nunique(),
            "image": rows["image"].iloc[0],
            "metrics": ", ".join(rows["metric"].unique()),
        }
        for (method, error), rows in groups
    ]


def _seconds(run: _Run) -> dict[str, float]:
    """Median time per map of each method."""
    medians = run.results.timings.groupby("method")["seconds"].median()
    return {name: medians.get(name, math.nan) for name in run.titles}
