"""Paired tests, corrections and intervals against enumeration and worked examples."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, rankdata

from captum_ext.evaluation.ranks import critical_difference, rank_methods
from captum_ext.evaluation.statistics import (
    compare_methods,
    holm,
    mean_band,
    signed_rank,
    summarize,
)

NAN = float("nan")


def table_of(metric="insertion", **methods):
    """A table from the values of each method, image by image."""
    rows = [
        (f"{i}.jpg", method, metric, value)
        for method, values in methods.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["image", "method", "metric", "value"])


def normal(seed, n, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, n)


def positive_rank_sum(differences):
    return rankdata(np.abs(differences))[np.asarray(differences) > 0].sum()


def enumerated_p(differences):
    """Share of all sign combinations with a rank sum at least as far from its mean."""
    differences = np.asarray([d for d in differences if d != 0])
    sums = [
        positive_rank_sum(np.abs(differences) * signs)
        for signs in product((-1, 1), repeat=len(differences))
    ]
    distances = np.abs(np.asarray(sums) - np.mean(sums))
    distance = abs(positive_rank_sum(differences) - np.mean(sums))
    return np.mean(distances >= distance - 1e-9)


def slow_holm(p):
    """Holm's correction written as in its definition."""
    corrected = []
    for one in p:
        smaller_or_equal = [other for other in p if other <= one]
        steps = [
            (len(p) - sum(q < other for q in p)) * other for other in smaller_or_equal
        ]
        corrected.append(min(1.0, max(steps)))
    return corrected


@pytest.mark.parametrize(
    "differences",
    [
        normal(0, 9),
        normal(1, 10, shift=0.8),
        [1, 2, 3, 4, 5],
        [-1, -2, -3],
        [1, 1, 1, -1, 2, 2, -3],
        [0, 0, 1, 0, -2, 3, 4],
        [0.5],
    ],
    ids=str,
)
def test_signed_rank_equals_enumeration(differences):
    effect, p = signed_rank(differences)
    assert p == pytest.approx(enumerated_p(differences), rel=1e-12)
    positive = positive_rank_sum([d for d in differences if d])
    negative = positive_rank_sum([-d for d in differences if d])
    expected = (positive - negative) / (positive + negative)
    assert effect == pytest.approx(expected, abs=1e-12)


def test_many_differences_follow_the_normal_approximation():
    differences = normal(2, 200, shift=0.2)
    n = len(differences)
    excess = positive_rank_sum(differences) - n * (n + 1) / 4
    z = excess / np.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    sample = np.random.default_rng(3).normal(size=1_000_000)
    assert signed_rank(differences).p == pytest.approx(
        2 * np.mean(sample >= z), abs=2e-3
    )


def test_differences_of_one_size_give_the_sign_test():
    """The case of a metric that is 0 or 1, such as the pointing game."""
    hits = [1] * 9 + [-1] * 2 + [0] * 50
    assert signed_rank(hits).p == pytest.approx(2 * binom.sf(8, 11, 0.5))
    assert signed_rank(hits).effect == pytest.approx(7 / 11)


@pytest.mark.parametrize("n", [1, 5, 300])
def test_differences_of_zero_are_not_significant(n):
    assert signed_rank(np.zeros(n)) == (0.0, 1.0)


def test_few_pairs_cannot_be_significant():
    assert signed_rank([1, 2, 3, 4, 5]) == (1.0, 2**-4)


@pytest.mark.parametrize(
    "p, expected",
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.02], [0.02]),
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.01, 0.01, 0.01], [0.03, 0.03, 0.03]),
        ([], []),
    ],
)
def test_holm_worked_examples(p, expected):
    np.testing.assert_allclose(holm(p), expected)


@pytest.mark.parametrize("seed", range(5))
def test_holm_equals_its_definition(seed):
    p = np.random.default_rng(seed).random(12).round(1) / 10
    np.testing.assert_allclose(holm(p), slow_holm(p))


def test_all_pairs_are_compared_and_corrected_together():
    values = {name: normal(i, 30, shift=i) for i, name in enumerate("cab")}
    tests = compare_methods(table_of(**values), "insertion")
    pairs = [("c", "a"), ("c", "b"), ("a", "b")]
    assert list(zip(tests["method"], tests["other"])) == pairs
    for row in tests.itertuples():
        differences = values[row.method] - values[row.other]
        assert row.p == signed_rank(differences).p
        assert row.median_difference == pytest.approx(np.median(differences))
    np.testing.assert_allclose(tests["p_holm"], slow_holm(tests["p"]))


def test_lower_may_be_better():
    table = table_of("deletion", a=normal(0, 20), b=normal(1, 20, shift=3))
    higher = compare_methods(table, "deletion", "higher")
    lower = compare_methods(table, "deletion", "lower")
    assert lower.loc[0, "p"] == higher.loc[0, "p"] < 0.001
    assert lower.loc[0, "effect"] == -higher.loc[0, "effect"] > 0.9
    assert lower.loc[0, "median_difference"] == higher.loc[0, "median_difference"] < 0


def test_with_a_baseline_only_its_pairs_are_compared():
    values = {name: normal(i, 30) for i, name in enumerate("abc")}
    tests = compare_methods(table_of(**values), "insertion", baseline="b")
    assert tests[["method", "other"]].values.tolist() == [["a", "b"], ["c", "b"]]
    np.testing.assert_allclose(tests["p_holm"], slow_holm(tests["p"]))


def test_images_without_both_values_are_excluded_and_counted():
    a, b = [1.0, 2.0, NAN, 4.0, 5.0], [0.5, NAN, 0.5, 3.0, 3.0]
    table = table_of(a=a, b=b).iloc[:-1]  # One row was never written.
    tests = compare_methods(table, "insertion")
    assert tests["n"].tolist() == [2] and tests["excluded"].tolist() == [3]
    assert tests.loc[0, "p"] == signed_rank([0.5, 1.0]).p


def test_methods_without_a_common_image_are_not_compared():
    tests = compare_methods(table_of(a=[1.0, NAN], b=[NAN, 1.0]), "insertion")
    assert tests.empty and "p_holm" in tests


def test_rows_of_other_metrics_are_ignored():
    ours = table_of(a=normal(0, 9), b=normal(1, 9))
    both = pd.concat([table_of("deletion", a=normal(2, 9), b=normal(3, 9)), ours])
    pd.testing.assert_frame_equal(
        compare_methods(both, "insertion"), compare_methods(ours, "insertion")
    )


@pytest.mark.parametrize(
    "change, words",
    [
        ({"metric": "F"}, "metric must be one of 'insertion', got 'F'"),
        ({"better": "more"}, "better must be 'higher' or 'lower', got 'more'"),
        ({"baseline": "c"}, "baseline must be one of 'a', 'b', got 'c'"),
        ({"table": table_of(a=[1.0]).drop(columns="value")}, "named value"),
        ({"table": pd.concat([table_of(a=[1.0])] * 2)}, "several of '0.jpg', 'a'"),
        ({"table": table_of(a=[float("inf")])}, "infinite"),
        ({"table": table_of()}, "at least one row"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invalid_comparisons_are_an_error(change, words):
    arguments = {"table": table_of(a=[1.0], b=[2.0]), "metric": "insertion", **change}
    with pytest.raises(ValueError, match=words) as problem:
        compare_methods(**arguments)
    assert str(problem.value).endswith(".")


def test_summary_counts_and_averages():
    table = pd.concat(
        [
            table_of(a=[1.0, 2.0, 6.0, NAN], b=[NAN] * 4),
            table_of("pointing-game", a=[0.0, 1.0, 1.0, 1.0]),
        ]
    )
    summary = summarize(table)
    assert summary[["method", "metric", "n", "errors"]].values.tolist() == [
        ["a", "insertion", 3, 1],
        ["b", "insertion", 0, 4],
        ["a", "pointing-game", 4, 0],
    ]
    np.testing.assert_equal(summary["mean"].to_numpy(), [3.0, NAN, 0.75])
    np.testing.assert_equal(summary["median"].to_numpy(), [2.0, NAN, 1.0])
    assert summary.loc[1].drop(["method", "metric", "n", "errors"]).isna().all()


def test_intervals_are_those_of_all_resamples():
    """Four values have 256 equally probable resamples, which can be enumerated."""
    values = [0.0, 1.0, 10.0, 100.0]
    every = np.array(list(product(values, repeat=4)))
    row = summarize(table_of(a=values)).loc[0]
    for name, center in (("mean", every.mean(1)), ("median", np.median(every, 1))):
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        # The distribution is discrete: the sampled quantile is next to the exact one.
        assert np.mean(center < low) <= 0.03 and np.mean(center <= low) >= 0.02
        assert np.mean(center > high) <= 0.03 and np.mean(center >= high) >= 0.02


def test_interval_of_a_mean_of_many_values_is_normal():
    values = normal(0, 2000)
    row = summarize(table_of(a=values)).loc[0]
    half = 1.96 * values.std() / np.sqrt(len(values))
    expected = [values.mean() - half, values.mean() + half]
    interval = [row["mean_low"], row["mean_high"]]
    np.testing.assert_allclose(interval, expected, atol=0.1 * half)


@pytest.mark.parametrize("values", [[0.25], [0.25, NAN]])
def test_one_value_has_no_interval(values):
    row = summarize(table_of(a=values)).loc[0]
    assert row["mean"] == row["median"] == 0.25
    assert np.isnan(row["mean_low"]) and np.isnan(row["median_high"])


def test_intervals_depend_only_on_values_and_seed():
    np.random.seed(0)
    before = np.random.get_state()[1].tolist()
    a, b = normal(0, 40), normal(1, 40)
    alone = summarize(table_of(a=a))
    together = summarize(table_of(b=b, a=a))
    pd.testing.assert_series_equal(alone.loc[0], together.loc[1], check_names=False)
    assert not summarize(table_of(a=a), seed=1).equals(alone)
    assert np.random.get_state()[1].tolist() == before


def test_chunk_size_does_not_change_intervals(monkeypatch):
    table = table_of(a=normal(0, 40))
    whole = summarize(table)
    monkeypatch.setattr("captum_ext.evaluation.statistics._CHUNK", 40 * 7)
    pd.testing.assert_frame_equal(summarize(table), whole)


def test_ranks_and_friedman_test_by_hand():
    """Ranks 1, 2, 3 on six images, 2, 1, 3 on three, 1.5, 1.5, 3 on one."""
    first, second = [3.0] * 6 + [2.0] * 3 + [2.5], [2.0] * 6 + [3.0] * 3 + [2.5]
    table = table_of(c=[1.0] * 10, b=second, a=first)
    ranking = rank_methods(table, "insertion")
    assert ranking.ranks.to_dict() == {"a": 1.35, "b": 1.65, "c": 3.0}
    assert [*ranking.ranks.index] == ["a", "b", "c"] and ranking.n == 10
    # 12 n / (k (k + 1)) sum (R - (k + 1) / 2) ** 2, over the correction for one tie.
    statistic = 10 * (0.65**2 + 0.35**2 + 1) / (1 - 6 / 240)
    assert ranking.p == pytest.approx(np.exp(-statistic / 2))
    lower = rank_methods(table, "insertion", "lower")
    assert lower.ranks.to_dict() == pytest.approx({"c": 1.0, "b": 2.35, "a": 2.65})


@pytest.mark.parametrize(
    "n_methods, q", [(2, 1.960), (3, 2.343), (4, 2.569), (10, 3.164)]
)
def test_critical_difference_has_the_published_quantiles(n_methods, q):
    """Demsar's Table 5(a), at a level of 0.05."""
    expected = q * np.sqrt(n_methods * (n_methods + 1) / (6 * 30))
    assert critical_difference(n_methods, 30) == pytest.approx(expected, rel=1e-3)


def test_few_methods_or_images_are_not_ranked():
    values = {name: normal(i, 10) for i, name in enumerate("abc")}
    assert rank_methods(table_of(**values), "insertion").n == 10
    assert rank_methods(table_of(a=values["a"], b=values["b"]), "insertion") is None
    values["c"][0] = NAN
    assert rank_methods(table_of(**values), "insertion") is None
    equal = rank_methods(
        table_of(a=[1.0] * 12, b=[1.0] * 12, c=[1.0] * 12), "insertion"
    )
    assert equal.p == 1 and equal.ranks.tolist() == [2, 2, 2]


def test_bands_are_the_intervals_of_each_mean():
    curves = pd.DataFrame({0.0: normal(0, 30), 1.0: normal(1, 30)})
    low, high = mean_band(curves)
    for share in curves:
        row = summarize(table_of(a=curves[share])).loc[0]
        expected = [row["mean_low"], row["mean_high"]]
        np.testing.assert_allclose([low[share], high[share]], expected, rtol=1e-12)
