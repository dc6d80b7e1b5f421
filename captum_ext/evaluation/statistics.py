"""Statistics of a table of values: means, medians, intervals and paired tests.

Tables have one row per image, method and metric, with the columns ``image``,
``method``, ``metric`` and ``value``. Values that could not be computed are NaN; they
are counted and excluded.
"""

from collections.abc import Callable
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap, rankdata, wilcoxon

__all__ = [
    "LEVEL",
    "Better",
    "PairedTest",
    "compare_methods",
    "holm",
    "mean_band",
    "signed_rank",
    "significant_pairs",
    "summarize",
    "values_by_method",
]

Better = Literal["higher", "lower"]

COLUMNS = ("image", "method", "metric", "value")
LEVEL = 0.05
"""Level of significance: differences with a smaller corrected p-value have a star."""

CONFIDENCE = 0.95
N_RESAMPLES = 2000
# Resampled values in memory at once.
_CHUNK = 2**20


class PairedTest(NamedTuple):
    """Result of a test of paired differences.

    Attributes:
        effect (float): Matched-pairs rank-biserial correlation in [-1, 1]: the
            positive share of the rank sum minus the negative share.
        p (float): Two-sided p-value.
    """

    effect: float
    p: float


def signed_rank(differences: ArrayLike) -> PairedTest:
    """Two-sided Wilcoxon signed-rank test of paired differences.

    Differences of zero are dropped, as by Wilcoxon; if all are zero, p is 1. SciPy
    computes p exactly for up to 50 differences without ties and up to 13 with ties, and
    from the normal approximation otherwise. With n nonzero differences an exact p is at
    least 2 ** (1 - n): fewer than six cannot be below 0.05.

    If all differences have one size, as for a metric that is 0 or 1, all ranks are
    equal and the test is the sign test of the pairs that differ (McNemar's).

    Source: F. Wilcoxon, Individual Comparisons by Ranking Methods, 1945; D. Kerby, The
    Simple Difference Formula, 2014 (effect).

    Args:
        differences (array_like): Finite numbers (n,).

    Returns:
        *PairedTest*: ``(effect, p)``; ``(0, 1)`` without nonzero differences.

    Examples::

        >>> signed_rank([0.5, 0.25, -0.125])
        PairedTest(effect=0.666..., p=0.5)
    """
    values = np.asarray(differences, dtype=float)
    values = values[values != 0]
    if not values.size:
        return PairedTest(0.0, 1.0)
    ranks = rankdata(np.abs(values))
    effect = ranks @ np.sign(values) / ranks.sum()
    return PairedTest(float(effect), float(wilcoxon(values).pvalue))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Correct p-values for multiple tests by Holm's step-down method.

    The smallest is multiplied by their number, the next by one less, and so on; the
    results are made monotonic and capped at 1. Rejecting hypotheses whose corrected
    p-value is below a level keeps the probability of any false rejection below it.

    Source: S. Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.

    Args:
        p (array_like): P-values (n,) in any order.

    Returns:
        *numpy.ndarray*: Corrected p-values (n,) in the same order.

    Examples::

        >>> holm([0.01, 0.04, 0.03, 0.005]).round(3).tolist()
        [0.03, 0.06, 0.06, 0.02]
    """
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return corrected


def compare_methods(
    table: pd.DataFrame,
    metric: str,
    better: Better = "higher",
    baseline: str | None = None,
) -> pd.DataFrame:
    """Test for each pair of methods whether they differ by a metric.

    Each test is the two-sided Wilcoxon signed-rank test over the images where both
    methods have a value. The sign of the effect tells which one is better. The p-values
    of all returned rows are corrected together.

    Args:
        table (pandas.DataFrame): Table with the columns image, method, metric and
            value, one row per image, method and metric.
        metric (str): Metric to compare by.
        better (str, optional): Whether "higher" or "lower" values are better.
            Default: "higher"
        baseline (str, optional): Method that all others are compared with.
            Default: None (every pair once)

    Returns:
        *pandas.DataFrame*: One row per pair with a common image, in the order of the
        methods in the table:

        - **method**, **other**: Names; ``other`` is the baseline or the later of the
          two.
        - **n**: Number of images where both have a value.
        - **excluded**: Number of images where only one of them or neither has a value.
        - **median_difference**: Median of ``method`` minus ``other``, in the unit of
          the metric.
        - **effect**: Rank-biserial correlation, 1 if ``method`` is better on every
          image, -1 if it is worse on every image.
        - **p**, **p_holm**: Two-sided p-value, and corrected by Holm's method for the
          number of rows.

    Raises:
        ValueError: If the table is empty, lacks a column or has several rows for one
            image, method and metric, if a value is infinite, or if ``metric``,
            ``better`` or ``baseline`` is unknown.

    Examples::

        >>> import pandas
        >>> table = pandas.DataFrame({
        ...     "image": [*"abcde"] * 2,
        ...     "method": ["ours"] * 5 + ["theirs"] * 5,
        ...     "metric": "insertion",
        ...     "value": [0.6, 0.7, 0.8, 0.9, 0.7, 0.5, 0.4, 0.4, 0.4, 0.3],
        ... })
        >>> compare_methods(table, "insertion", baseline="theirs").T
                                0
        method               ours
        other              theirs
        n                       5
        excluded                0
        median_difference     0.4
        effect                1.0
        p                  0.0625
        p_holm             0.0625
    """
    if better not in ("higher", "lower"):
        raise ValueError(f"better must be 'higher' or 'lower', got {better!r}.")
    values = values_by_method(table, metric)
    methods = list(values)
    if baseline is not None and baseline not in methods:
        raise ValueError(
            f"baseline must be one of {', '.join(map(repr, methods))}, got "
            f"{baseline!r}."
        )
    sign = 1 if better == "higher" else -1
    pairs = [(method, baseline) for method in methods if method != baseline]
    rows = []
    for method, other in combinations(methods, 2) if baseline is None else pairs:
        differences = (values[method] - values[other]).dropna()
        if differences.empty:
            continue
        rows.append(
            {
                "method": method,
                "other": other,
                "n": len(differences),
                "excluded": len(values) - len(differences),
                "median_difference": differences.median(),
                **signed_rank(sign * differences)._asdict(),
            }
        )
    columns = ["method", "other", "n", "excluded", "median_difference", "effect", "p"]
    tests = pd.DataFrame(rows, columns=columns)
    return tests.assign(p_holm=holm(tests["p"]))


def significant_pairs(tests: pd.DataFrame) -> pd.DataFrame:
    """Which method is better in each pair that differs significantly.

    Args:
        tests (pandas.DataFrame): Result of :func:`compare_methods`.

    Returns:
        *pandas.DataFrame*: One row per pair, with the columns **better** and **worse**.
    """
    found = tests[tests["p_holm"] < LEVEL]
    is_better = found["effect"] > 0
    return pd.DataFrame(
        {
            "better": found["method"].where(is_better, found["other"]),
            "worse": found["other"].where(is_better, found["method"]),
        }
    )


def summarize(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Mean and median of each method by each metric, with bootstrap intervals.

    Intervals are 95% percentile intervals over 2000 resamples of the images. Each row
    has its own random generator, so that it does not depend on other rows.

    Args:
        table (pandas.DataFrame): Table with the columns image, method, metric and
            value, one row per image, method and metric.
        seed (int, optional): Seed of the resamples. Default: 0

    Returns:
        *pandas.DataFrame*: One row per method and metric, in the order of the table:

        - **method**, **metric**: Names.
        - **n**: Number of images with a value.
        - **errors**: Number of images without a value.
        - **mean**, **mean_low**, **mean_high**: Mean and its interval.
        - **median**, **median_low**, **median_high**: Median and its interval.

        Numbers are NaN without a value, intervals with fewer than two values.

    Raises:
        ValueError: If the table is empty, lacks a column or has several rows for one
            image, method and metric, or if a value is infinite.

    Examples::

        >>> import pandas
        >>> table = pandas.DataFrame({
        ...     "image": [*"abcd"],
        ...     "method": "ours",
        ...     "metric": "insertion",
        ...     "value": [0.5, 0.5, 0.75, float("nan")],
        ... })
        >>> summarize(table)[["n", "errors", "median", "median_low", "median_high"]]
           n  errors  median  median_low  median_high
        0  3       1     0.5         0.5         0.75
    """
    _check_table(table)
    rows = []
    for metric in table["metric"].unique():
        of_metric = table[table["metric"] == metric]
        for method in of_metric["method"].unique():
            column = of_metric.loc[of_metric["method"] == method, "value"]
            values = column.dropna().to_numpy(dtype=float)
            row = {"method": method, "metric": metric, "n": len(values)}
            row |= {"errors": len(column) - len(values)}
            rows.append(row | _location(values, seed))
    return pd.DataFrame(rows)


def mean_band(values: pd.DataFrame, seed: int = 0) -> tuple[pd.Series, pd.Series]:
    """Bootstrap intervals of the mean of each column, from resamples of the rows.

    Intervals are 95% percentile intervals over 2000 resamples, each for itself: a whole
    curve is within its band less often.

    Args:
        values (pandas.DataFrame): At least two rows of finite numbers, such as curves
            by image.
        seed (int, optional): Seed of the resamples. Default: 0

    Returns:
        *tuple[pandas.Series, pandas.Series]*: Lower and upper limits by column.

    Examples::

        >>> import pandas
        >>> low, high = mean_band(pandas.DataFrame({0.0: [1.0, 1.0], 1.0: [0.0, 2.0]}))
        >>> low.tolist(), high.tolist()
        ([1.0, 0.0], [1.0, 2.0])
    """
    interval = _interval(values.to_numpy(dtype=float), np.mean, seed)
    low, high = (pd.Series(limit, values.columns) for limit in interval)
    return low, high


def _location(values: NDArray[np.float64], seed: int) -> dict[str, float]:
    """Mean and median with their intervals."""
    center = low = high = np.full(2, np.nan)
    if len(values):
        center = _mean_and_median(values)
    if len(values) > 1:
        low, high = _interval(values, _mean_and_median, seed)
    return {
        f"{name}{end}": float(numbers[i])
        for i, name in enumerate(("mean", "median"))
        for end, numbers in (("", center), ("_low", low), ("_high", high))
    }


def _interval(
    values: NDArray[np.float64],
    statistic: Callable[..., NDArray[np.float64]],
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percentile bootstrap interval of a statistic over the first axis."""
    low, high = bootstrap(
        (values,),
        statistic,
        axis=0,
        vectorized=True,
        n_resamples=N_RESAMPLES,
        batch=max(1, _CHUNK // values.size),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return low, high


def _mean_and_median(
    values: NDArray[np.float64], axis: int = -1
) -> NDArray[np.float64]:
    return np.stack([np.mean(values, axis), np.median(values, axis)])


def values_by_method(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Arrange the values of a metric with one row per image, one column per method.

    Args:
        table (pandas.DataFrame): Table with the columns image, method, metric and
            value, one row per image, method and metric.
        metric (str): Name of the metric.

    Returns:
        *pandas.DataFrame*: Values by image (the index), methods in the order of the
        table; NaN without a value.

    Raises:
        ValueError: If the table is invalid or the metric is unknown.
    """
    _check_table(table)
    rows = table[table["metric"] == metric]
    if rows.empty:
        known = ", ".join(map(repr, table["metric"].unique()))
        raise ValueError(f"metric must be one of {known}, got {metric!r}.")
    values = rows.pivot(index="image", columns="method", values="value")
    return values.astype(float)[list(rows["method"].unique())]


def _check_table(table: pd.DataFrame) -> None:
    if table.empty:
        raise ValueError("table must have at least one row, got none.")
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise ValueError(
            f"table must have the columns {', '.join(COLUMNS)}, got none named "
            f"{', '.join(missing)}."
        )
    twice = table.duplicated(["image", "method", "metric"])
    if twice.any():
        image, method, metric = table.loc[twice, list(COLUMNS[:3])].iloc[0]
        raise ValueError(
            f"table must have one row per image, method and metric, got several "
            f"of {image!r}, {method!r}, {metric!r}."
        )
    if np.isinf(table["value"].astype(float)).any():
        raise ValueError("table must hold finite values or NaN, got infinite ones.")
