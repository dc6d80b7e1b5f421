"""Benchmarks: HSIC and Sobol against closed forms, and the tables of BOREx."""

import importlib
import itertools
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from captum_ext.evaluation import read_methods
from captum_ext.evaluation.run_folder import Row, RowWriter

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def peers(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("peers")


@pytest.fixture
def tables(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("borex_tables")


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


class Counting(nn.Module):
    """Logits of images, and the number of images that it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.n_seen = nn.Linear(3 * 4 * 4, 2), 0

    def forward(self, x):
        self.n_seen += len(x)
        return self.linear(x.flatten(1))


def test_remembered_images_take_no_pass(tables):
    network = Counting()
    remembering = tables.Remembering(network, network, capacity=5)
    x = torch.rand(6, 3, 4, 4)
    with torch.no_grad():
        for batch, n_seen in (
            (x[:4], 4),
            (x[:4].to(memory_format=torch.channels_last), 4),
            (x[1:5], 5),
            # No room for another one: all are forgotten.
            (x[2:], 9),
            (x[2:], 9),
            (x[:1], 10),
        ):
            torch.testing.assert_close(
                remembering(batch), network.linear(batch.flatten(1))
            )
            assert network.n_seen == n_seen


def test_methods_of_layers_and_gradients_run_the_network(tables):
    network = Counting()
    remembering = tables.Remembering(network, Counting())
    x = torch.rand(1, 3, 4, 4, requires_grad=True)
    with torch.no_grad():
        remembering(x)
        calls = []
        handle = network.linear.register_forward_hook(lambda *_: calls.append(1))
        remembering(x)
        assert len(calls) == 1
        handle.remove()
    (gradient,) = torch.autograd.grad(remembering(x)[0, 1], x)
    torch.testing.assert_close(gradient.flatten(), network.linear.weight[1])


@pytest.mark.parametrize("variant", ["field", "windows", "paper"])
def test_each_comparison_is_of_evaluated_maps(tables, variant):
    masks = [25, 50, 100]
    specs = tables.method_specs(variant, masks)
    assert list(read_methods(specs)) == list(specs)
    found = [c for n in masks for c in tables.comparisons(variant, n)]
    assert {name for c in found for name in c.methods} == specs.keys()
    published = [c.published for c in found if c.published]
    expected = tables.PAPER.values()
    if variant != "field":
        assert sorted(map(str, published)) == sorted(map(str, expected))


def test_differences_and_p_values_of_known_rows(tables, tmp_path):
    """Of six images with rows, one is incomplete and one lacks a box."""
    priors = [0.7, 0.5, 0.3, 0.65, 0.1]
    (tmp_path / "parts").mkdir()
    with RowWriter(tmp_path, 0) as writer:
        writer.append(Row("misclassified.jpg"))
        writer.append(Row("5", method="rise", metric="insertion", value=0.0))
        for (i, prior), name in itertools.product(
            enumerate(priors), ["rise", "rise-50"]
        ):
            gain = 0.1 * (i + 1) * (name == "rise-50")
            f = None if i == 4 else 50176 * (0.5 - gain)
            values = {"insertion": prior + gain, "deletion": 0.3 - gain, "f-measure": f}
            for metric, value in values.items():
                writer.append(Row(f"{i}", method=name, metric=metric, value=value))
    table = tables.read_table(tmp_path)
    all_images, poor = (
        tables.tested(table, tables.Comparison(50, "rise", "prior", poor))
        for poor in (False, True)
    )
    assert (all_images["images"], poor["images"]) == (5, 3)
    assert all_images["insertion"] == pytest.approx(
        {"difference": 0.3, "p": 1 / 32, "p_worse": 1}
    )
    assert all_images["deletion"] == pytest.approx(all_images["insertion"])
    assert all_images["f-measure"] == pytest.approx(
        {"difference": -0.25, "p": 1, "p_worse": 1 / 16}
    )
    assert poor["insertion"] == pytest.approx(
        {"difference": 1 / 3, "p": 1 / 8, "p_worse": 1}
    )
    assert tables.cell(poor["insertion"], 1.016e-23) == "+0.333, p 0.12 (paper 1e-23)"
    assert tables.cell(all_images["f-measure"], None) == "-0.250, p 1"
    worse = all_images["f-measure"] | {"p_worse": 0.04}
    assert tables.cell(worse, None) == "-0.250, worse, p 1"
