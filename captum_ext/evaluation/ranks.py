"""Mean ranks of methods, with the Friedman test and Nemenyi's critical difference."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import friedmanchisquare, studentized_range

from captum_ext.evaluation.statistics import LEVEL, Better, values_by_method

__all__ = ["Ranking", "critical_difference", "rank_methods"]


class Ranking(NamedTuple):
    """Mean ranks of methods by a metric.

    Attributes:
        ranks (pandas.Series): Mean rank by method, 1 for a method that is best on every
            image, in ascending order.
        n (int): Number of images where all methods have a value.
        p (float): P-value of the Friedman test that all methods are equal.
        critical_difference (float): Methods differ significantly if their mean ranks
            differ by at least this much.
    """

    ranks: pd.Series
    n: int
    p: float
    critical_difference: float


def critical_difference(n_methods: int, n_images: int) -> float:
    """Critical difference of mean ranks by Nemenyi's test, at a level of 0.05.

    Source: P. Nemenyi, Distribution-free Multiple Comparisons, 1963; J. Demsar,
    Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 2006.

    Args:
        n_methods (int): Number of methods, at least 2.
        n_images (int): Number of images.

    Returns:
        *float*: Difference of mean ranks.

    Examples::

        >>> round(critical_difference(4, 14), 2)
        1.25
    """
    quantile = studentized_range.ppf(1 - LEVEL, n_methods, np.inf) / np.sqrt(2)
    variance = n_methods * (n_methods + 1) / (6 * n_images)
    return float(quantile * np.sqrt(variance))


def rank_methods(
    table: pd.DataFrame, metric: str, better: Better = "higher"
) -> Ranking | None:
    """Rank the methods on each image, and test whether the mean ranks differ.

    Equal values share the mean of their ranks. Images where a method has no value are
    left out.

    Source: M. Friedman, The Use of Ranks to Avoid the Assumption of Normality, 1937.

    Args:
        table (pandas.DataFrame): Table with the columns image, method, metric and
            value, one row per image, method and metric.
        metric (str): Metric to rank by.
        better (str, optional): Whether "higher" or "lower" values are better.
            Default: "higher"

    Returns:
        *Ranking, optional*: ``(ranks, n, p, critical_difference)``; None with fewer
        than three methods or ten images, where the approximations of the tests do not
        hold.

    Raises:
        ValueError: If the table is invalid or the metric is unknown.
    """
    values = values_by_method(table, metric).dropna()
    n, n_methods = values.shape
    if n_methods < 3 or n < 10:
        return None
    ranks = values.rank(axis=1, ascending=better == "lower")
    mean_ranks = ranks.mean().sort_values(kind="stable")
    all_equal = (ranks == (n_methods + 1) / 2).all(axis=None)
    p = 1.0 if all_equal else float(friedmanchisquare(*ranks.to_numpy().T).pvalue)
    return Ranking(mean_ranks, n, p, critical_difference(n_methods, n))
