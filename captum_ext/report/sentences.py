"""The results of a run in three sentences of plain words."""

from collections.abc import Sequence

import pandas as pd

from captum_ext.evaluation.result_tables import Results
from captum_ext.evaluation.statistics import compare_methods, significant_pairs
from captum_ext.report.glossary import MetricEntry, describe_methods, describe_metrics

__all__ = ["join_words", "summary_sentences"]

# Two-sided exact p-values are at least 2 ** (1 - n).
_FEWEST_IMAGES = 6
_MAX_NAMES = 3


def summary_sentences(results: Results) -> list[str]:
    """Say what was compared, which method is best, and what is missing.

    A method is best by the mean. Whether it is better than another is tested as by
    :func:`~captum_ext.evaluation.compare_methods`, with every pair of methods.

    Args:
        results (Results): Results of the run.

    Returns:
        *list[str]*: Three sentences.

    Raises:
        ValueError: If a metric is unknown.
    """
    titles = {
        # In an enumeration a name must not follow a comma.
        m.name: m.title.replace(f", {m.name}", f" ({m.name})")
        for m in describe_methods(results.settings)
    }
    metrics = describe_metrics(results.settings)
    return [
        _compared(results, [*titles.values()], metrics),
        _best(results.table, titles, metrics),
        _missing(results, titles),
    ]


def join_words(words: Sequence[str], conjunction: str = "and") -> str:
    """Enumerate words.

    Args:
        words (sequence of str): At least one word.
        conjunction (str, optional): Word before the last. Default: "and"

    Returns:
        *str*: Words with commas and the conjunction.

    Examples::

        >>> join_words(["RISE", "PN-RISE", "BOREx"])
        'RISE, PN-RISE and BOREx'
    """
    *others, last = words
    return f"{', '.join(others)} {conjunction} {last}" if others else last


def _compared(
    results: Results, titles: Sequence[str], metrics: Sequence[MetricEntry]
) -> str:
    n, settings = results.table["image"].nunique(), results.settings
    return (
        f"{join_words(titles)} {'were' if len(titles) > 1 else 'was'} evaluated on {n} "
        f"image{'s' * (n != 1)} of {settings['dataset']['source']} with the model "
        f"{settings['model']['name']} by {join_words([m.title for m in metrics])}."
    )


def _best(
    table: pd.DataFrame, titles: dict[str, str], metrics: Sequence[MetricEntry]
) -> str:
    """The best method by each metric; metrics with the same finding are one clause."""
    if len(titles) == 1:
        return "With one method there is nothing to compare."
    clauses: dict[str, list[str]] = {}
    for metric in metrics:
        clauses.setdefault(_finding(table, titles, metric), []).append(metric.title)
    parts = [f"by {join_words(by)}, {finding}" for finding, by in clauses.items()]
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _finding(table: pd.DataFrame, titles: dict[str, str], metric: MetricEntry) -> str:
    """The method with the best mean, and whether it is better than the others."""
    rows = table[table["metric"] == metric.name]
    means = rows.groupby("method", sort=False)["value"].mean().dropna()
    if means.empty:
        return "no method has a value"
    top = means.max() if metric.better == "higher" else means.min()
    best, *equal = means.index[means == top]
    if equal:
        names = join_words([titles[name] for name in (best, *equal)])
        return f"{names} share the best mean"
    pairs = significant_pairs(compare_methods(table, metric.name, metric.better))
    beaten = {*pairs.loc[pairs["better"] == best, "worse"]}
    open_ = [title for name, title in titles.items() if name not in {best, *beaten}]
    if not open_:
        return f"{titles[best]} is best, significantly better than every other method"
    if len(open_) > _MAX_NAMES:
        open_ = [f"{len(open_)} of {len(titles) - 1} other methods"]
    names = join_words(open_, "or")
    return f"{titles[best]} is best, but not significantly better than {names}"


def _missing(results: Results, titles: dict[str, str]) -> str:
    table, given = results.table, results.settings["dataset"]["images"]
    n_images, missing = table["image"].nunique(), table[table["value"].isna()]
    found = []
    if len(missing):
        counts = missing["method"].value_counts(sort=False)
        by_method = [f"{n} of {titles[name]}" for name, n in counts.items()]
        found.append(f"{len(missing)} of {len(table)} values ({', '.join(by_method)})")
    if n_images < given:
        found.append(f"{given - n_images} of {given} images, which were left out")
    if all(m["use"] != "random" for m in results.settings["methods"].values()):
        found.append("a random map, the lower bound of every metric")
    sentence = f"Missing: {'; '.join(found)}." if found else "No value is missing."
    if n_images < _FEWEST_IMAGES:
        sentence += (
            f" With fewer than {_FEWEST_IMAGES} images no difference can be "
            f"significant."
        )
    return sentence
