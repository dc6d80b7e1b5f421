"""HSIC and Sobol attributions of the benchmarks against closed forms."""

import importlib.util
import itertools
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch

PATH = Path(__file__).parent.parent / "benchmarks" / "peers.py"


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("peers", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_total_sobol_indices_of_a_linear_function(peers):
    """Independent uniform cells: the squared weights over their sum."""
    weights = torch.tensor([3.0, -2.0, 1.0, 0.0], dtype=torch.float64)
    design = peers.sobol_design(4, 2048, seed=0)
    indices = peers.total_sobol(design @ weights, 2048)
    expected = weights.square() / weights.square().sum()
    torch.testing.assert_close(indices, expected, atol=0.01, rtol=0)


def test_total_sobol_indices_of_a_product(peers):
    """x y on [0, 1]: variance 7 / 144, of which 4 / 144 remain when y is known."""
    design = peers.sobol_design(2, 4096, seed=0)
    indices = peers.total_sobol(design.prod(1), 4096)
    expected = torch.full((2,), 4 / 7, dtype=torch.float64)
    torch.testing.assert_close(indices, expected, atol=0.01, rtol=0)


@pytest.mark.parametrize("hidden", [False, True])
def test_hsic_over_all_masks(peers, hidden):
    """The score is one cell, or its negation; the others are independent of it.

    The median distance of two scores is 1, so that L is 1 or exp(-1/2), and both
    centered matrices have two values of opposite sign.
    """
    kept = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)))
    scores = 1 - kept[:, 1] if hidden else kept[:, 1]
    expected = torch.tensor([0, (1 - math.exp(-0.5)) / 4, 0], dtype=torch.float64)
    torch.testing.assert_close(peers.hsic(kept, scores), expected)


def test_hsic_of_an_unbalanced_independent_cell(peers):
    """All pairs of a cell that is mostly hidden and another one that is the score."""
    kept = torch.tensor(list(itertools.product([0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0])))
    dependence = peers.hsic(kept, kept[:, 1])
    assert dependence[0].abs() < 1e-12 < 0.01 < dependence[1]


@pytest.mark.parametrize("name", ["hsic", "sobol"])
@pytest.mark.parametrize("n_passes", [50, 100, 200, 500])
def test_the_only_cell_that_counts_is_highest(peers, name, n_passes):
    """Within the budget; the score is the mean of the top right sixteenth."""
    spent = []

    def probabilities(x):
        spent.append(len(x))
        score = x[:, 0, :14, 42:].mean((1, 2))
        return torch.stack([1 - score, score], 1)

    x = torch.ones(1, 3, 56, 56)
    saliency = peers.PEERS[name].explain(probabilities, x, 1, n_passes, 0)
    assert 0.8 * n_passes < sum(spent) <= n_passes
    row, column = divmod(int(saliency.argmax()), 56)
    assert row < 14 and column >= 42
