"""Parameter randomization, cascading and efficient: the models and the metrics."""

import math

import pytest
import torch
from contract import SmallNet, images
from scipy.stats import rankdata
from test_metrics import some_maps
from torch import Tensor, nn

from captum_ext.metrics import efficient_mprt, parameter_randomization
from captum_ext.metrics.efficient_mprt import histogram_entropy
from captum_ext.metrics.parameter_randomization import (
    randomized_cascade,
    rank_correlation,
)


def slow_correlation(a: Tensor, b: Tensor) -> float:
    """Pearson correlation of ranks."""
    x, y = (torch.from_numpy(rankdata(m.flatten())) for m in (a, b))
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / ((x * x).sum() * (y * y).sum()).sqrt())


def test_rank_correlation():
    maps, others = some_maps(), some_maps(seed=1)
    values = rank_correlation(maps, others)
    for value, a, b in zip(values.tolist(), maps, others):
        assert value == pytest.approx(slow_correlation(a, b))
    monotone = maps.double() ** 3
    assert rank_correlation(maps, monotone).tolist() == pytest.approx([1, 1, 1])
    assert rank_correlation(maps, -maps).tolist() == pytest.approx([-1, -1, -1])
    assert rank_correlation(maps, torch.ones_like(maps)).tolist() == [0, 0, 0]


def test_metric_equals_the_loop():
    """One more randomized layer each time, starting at the output."""
    x, net = images(), SmallNet()

    def explain(model: nn.Module) -> Tensor:
        return model.conv(x).detach() * model.head.weight.detach()[1].view(1, 6, 1, 1)

    maps = explain(net)
    mean, by_layer = parameter_randomization(
        net, x, maps, explanation_func=explain, seed=3, return_layers=True
    )
    assert list(by_layer) == ["head", "norm", "conv"]
    copies = randomized_cascade(net, ["head", "norm", "conv"], seed=3)
    for copied, values in zip(copies, by_layer.values()):
        redrawn = explain(copied)
        for i in range(3):
            expected = slow_correlation(
                maps[i].double().sum(0), redrawn[i].double().sum(0)
            )
            assert values[i].item() == pytest.approx(expected)
    torch.testing.assert_close(mean, torch.stack(list(by_layer.values())).mean(0))


def test_layers_are_randomized_one_after_the_other():
    net = SmallNet()
    trained = {key: value.clone() for key, value in net.state_dict().items()}
    changed: list[set] = []
    for copied in randomized_cascade(net, ["head", "norm", "conv"], seed=0):
        assert copied is not net
        state = copied.state_dict()
        changed.append({k for k in trained if not torch.equal(state[k], trained[k])})
    assert changed[0] == {"head.weight", "head.bias"}
    # The norm's parameters are constant: their standard deviation is 0.
    assert changed[1] == changed[0]
    assert changed[2] == changed[0] | {"conv.weight", "conv.bias"}
    for key, value in net.state_dict().items():
        assert torch.equal(value, trained[key])


def test_scale_of_the_parameters_is_kept():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 64, 5), nn.Flatten(), nn.Linear(64, 100))
    *_, copied = randomized_cascade(net, ["2", "0"], seed=0)
    for old, new in zip(net.parameters(), copied.parameters()):
        assert not torch.equal(old, new)
        torch.testing.assert_close(new.std(), old.std(), rtol=0.3, atol=0)
        assert abs(new.mean() - old.mean()) < 0.3 * old.std()


def test_a_parameter_of_one_number_stays_finite():
    """Its standard deviation is 0, not that of a sample."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    (copied,) = randomized_cascade(net, ["1"], seed=0)
    assert torch.equal(copied[1].bias, net[1].bias)
    assert not torch.equal(copied[1].weight, net[1].weight)


def test_seed_reproduces_the_cascade():
    def weights(seed: int) -> Tensor:
        (copied,) = randomized_cascade(SmallNet(), ["head"], seed)
        return copied.head.weight

    state = torch.get_rng_state()
    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))
    assert torch.equal(state, torch.get_rng_state())


def test_extremes():
    """A map that depends only on the image does not change; noise does."""
    x, net = images(), SmallNet()
    kept = parameter_randomization(net, x, x, explanation_func=lambda model: x)
    assert kept.tolist() == pytest.approx([1, 1, 1])
    noise = iter(some_maps(seed=seed) for seed in range(1, 9))
    gone = parameter_randomization(
        net, x, some_maps(), explanation_func=lambda model: next(noise)
    )
    assert gone.abs().max() < 0.6
    constant = parameter_randomization(
        net, x, some_maps(), explanation_func=lambda model: torch.ones_like(x)
    )
    assert constant.tolist() == [0, 0, 0]


def test_given_layers():
    """Only the named modules are randomized, in the given order."""
    net = nn.Sequential(SmallNet(), nn.Linear(3, 2))
    x = images()
    seen = []

    def explain(model: nn.Module) -> Tensor:
        seen.append([not torch.equal(a, b) for a, b in zip(model.parameters(), old)])
        return some_maps()

    old = [p.clone() for p in net.parameters()]
    _, by_layer = parameter_randomization(
        net,
        x,
        some_maps(),
        explanation_func=explain,
        layers=["0.conv", "1"],
        return_layers=True,
    )
    assert list(by_layer) == ["0.conv", "1"]
    conv, head = [True, True], [True, True]
    rest = [False] * 4
    assert seen == [conv + rest + [False, False], conv + rest + head]


@pytest.mark.parametrize(
    "kwargs, name",
    [
        ({"forward_func": lambda x: x}, "forward_func"),
        ({"layers": ["head", "tail"]}, "layers"),
        ({"layers": ["relu"]}, "layers"),
        ({"layers": []}, "layers"),
        ({"forward_func": nn.ReLU()}, "layers"),
        ({"seed": -1}, "seed"),
        ({"explanation_func": None}, "explanation_func"),
        ({"explanation_func": lambda m: some_maps()[:2]}, "maps of explanation_func"),
    ],
)
def test_bad_arguments(kwargs, name):
    kwargs = {
        "forward_func": SmallNet(),
        "inputs": images(),
        "attributions": some_maps(),
        "explanation_func": lambda model: some_maps(),
        **kwargs,
    }
    with pytest.raises((ValueError, TypeError), match=f"^{name} "):
        parameter_randomization(**kwargs)


# Efficient MPRT


def slow_entropy(values: list[float], n_bins: int) -> float:
    low, high = min(values), max(values)
    counts = [0] * n_bins
    for value in values:
        counts[min(int((value - low) / (high - low) * n_bins), n_bins - 1)] += 1
    shares = [count / len(values) for count in counts if count]
    return -sum(share * math.log(share) for share in shares)


def test_entropy_of_histograms():
    maps = some_maps().double()
    for value, each in zip(histogram_entropy(maps, 9), maps):
        assert value.item() == pytest.approx(slow_entropy(each.flatten().tolist(), 9))
    ramp = torch.arange(100.0)[None]
    assert histogram_entropy(ramp, 10).item() == pytest.approx(math.log(10))
    for constant in (0.0, 3.0):
        assert histogram_entropy(torch.full((1, 8), constant), 10).item() == 0


def test_efficient_mprt_equals_the_loop():
    """All layers are randomized, and the map is computed once."""
    x, net, models = images(), SmallNet(), []

    def explain(model: nn.Module) -> Tensor:
        models.append(model)
        return model.conv(x).detach() * model.head.weight.detach()[1].view(1, 6, 1, 1)

    maps = explain(net)
    values = efficient_mprt(net, x, maps, explanation_func=explain, n_bins=20, seed=4)
    assert len(models) == 2
    *_, randomized = randomized_cascade(net, ["head", "norm", "conv"], seed=4)
    redrawn = explain(randomized)
    for value, old, new in zip(values.tolist(), maps, redrawn):
        before, after = (
            slow_entropy(each.double().sum(0).flatten().tolist(), 20)
            for each in (old, new)
        )
        assert value == pytest.approx((after - before) / before)


def test_efficient_mprt_at_its_extremes():
    x, net = images(), SmallNet()
    given = {"explanation_func": lambda model: some_maps()}
    assert efficient_mprt(net, x, some_maps(), **given).tolist() == [0, 0, 0]
    assert efficient_mprt(net, x, 0 * some_maps() + 1, **given).isnan().all()
    flat = {"explanation_func": lambda model: 0 * some_maps()}
    assert efficient_mprt(net, x, some_maps(), **flat).tolist() == [-1, -1, -1]
    with pytest.raises(ValueError, match="^n_bins "):
        efficient_mprt(net, x, some_maps(), **given, n_bins=1)
