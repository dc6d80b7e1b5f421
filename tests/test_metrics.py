"""Tests that every metric must pass: signature, batches, side effects, errors."""

import inspect

import pytest
import torch
from contract import SmallNet, images, is_logged
from torch import Tensor
from torch.nn import functional as F

from captum_ext import metrics

B, H, W = 3, 12, 14
TARGET = [0, 1, 2]
BOXES = [
    torch.tensor([[2.0, 1.0, 9.0, 8.0]]),
    torch.tensor([[0.0, 0.0, 3.5, 4.0], [6.0, 6.0, 13.0, 11.0]]),
    torch.tensor([[5.0, 2.0, 14.0, 12.0]]),
]


def some_maps(n: int = B, seed: int = 0) -> Tensor:
    """Maps (B, 1, H, W) with a hill and noise, of both signs."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 1, 3, 4, generator=generator)
    noise = 0.1 * torch.randn(n, 1, H, W, generator=generator)
    return F.interpolate(coarse, (H, W), mode="bicubic") + noise


def no_arguments(i: slice, x: Tensor) -> dict:
    return {}


def boxes(i: slice, x: Tensor) -> dict:
    return {"boxes": BOXES[i]}


def attacked(i: slice, x: Tensor) -> dict:
    """The network predicts label 0 for all images, and another after the attack."""
    attack = metrics.EnhancedPGD(SmallNet())
    maps = metrics.max_box(x)
    start = attack.perturb(x.float(), maps, 0.6, 0.15, target=0, targeted=False)
    return {"baselines": start, "n_steps": 8, "target": 0}


def explained(i: slice, x: Tensor) -> dict:
    def explain(model):
        return model.conv(x).detach()

    return {"explanation_func": explain}


METRICS = {
    metrics.average_drop: no_arguments,
    metrics.increase_in_confidence: no_arguments,
    metrics.mu_fidelity: lambda i, x: {"grid_size": 4, "n_subsets": 24},
    metrics.road_most_relevant: no_arguments,
    metrics.road_least_relevant: no_arguments,
    metrics.relevance_mass: boxes,
    metrics.relevance_rank: boxes,
    metrics.sparseness: no_arguments,
    metrics.efficient_mprt: explained,
    metrics.insertion: lambda i, x: {"n_steps": 24},
    metrics.deletion: lambda i, x: {"n_steps": 24},
    metrics.f_measure: boxes,
    metrics.pointing_game: lambda i, x: {"tolerance": 1, **boxes(i, x)},
    metrics.localization_error: boxes,
    metrics.saliency_metric: no_arguments,
    metrics.positive_map_density: no_arguments,
    metrics.negative_map_density: no_arguments,
    metrics.adversarial_sanity: attacked,
    metrics.parameter_randomization: explained,
}
GEOMETRIC = (
    metrics.f_measure,
    metrics.pointing_game,
    metrics.localization_error,
    metrics.relevance_mass,
    metrics.relevance_rank,
    metrics.sparseness,
)
PROBABLE = (
    metrics.average_drop,
    metrics.increase_in_confidence,
    metrics.saliency_metric,
    metrics.positive_map_density,
    metrics.negative_map_density,
    metrics.adversarial_sanity,
)


def each(metrics):
    return pytest.mark.parametrize("metric", metrics, ids=lambda m: m.__name__)


every = each(METRICS)
RANDOMIZING = (metrics.parameter_randomization, metrics.efficient_mprt)
SCORING = (
    metrics.insertion,
    metrics.deletion,
    metrics.mu_fidelity,
    metrics.road_most_relevant,
    metrics.road_least_relevant,
)
scoring = each([*PROBABLE, *SCORING])


def measured(metric, maps, x=None, i=slice(None), model=None, **kwargs) -> Tensor:
    x = images()[i] if x is None else x
    return metric(
        SmallNet() if model is None else model,
        x,
        maps,
        **{"target": TARGET[i], **METRICS[metric](i, x), **kwargs},
    )


def test_every_metric_is_tested():
    others = {"EnhancedPGD", "enhanced_pgd", "is_difficult", "center_box", "max_box"}
    others.add("named_baseline")
    assert {m.__name__ for m in METRICS} == set(metrics.__all__) - others


@every
def test_signature(metric):
    assert is_logged(metric)
    names = list(inspect.signature(metric.__wrapped__).parameters.values())
    assert [p.name for p in names[:6]] == [
        "forward_func",
        "inputs",
        "attributions",
        "target",
        "baselines",
        "additional_forward_args",
    ]
    assert all(p.kind is p.KEYWORD_ONLY for p in names[6:])


@every
def test_one_number_per_example(metric):
    values = measured(metric, some_maps())
    assert values.shape == (B,) and values.dtype == torch.float64
    assert values.device.type == "cpu" and torch.isfinite(values).all()
    binary = (metrics.increase_in_confidence, *GEOMETRIC)
    assert len(values.unique()) > 1 or metric in binary


@every
def test_example_does_not_depend_on_its_batch(metric):
    together = measured(metric, some_maps())
    for i in range(B):
        alone = slice(i, i + 1)
        value = measured(metric, some_maps()[alone], i=alone)
        torch.testing.assert_close(value, together[alone], atol=1e-5, rtol=1e-5)


@every
def test_sum_over_channels(metric):
    expected = measured(metric, some_maps())
    parts = torch.tensor([0.5, -0.25, 0.75]).view(1, 3, 1, 1)
    for maps in (some_maps().expand(B, 3, H, W), some_maps() * parts):
        torch.testing.assert_close(measured(metric, maps), expected)


@every
def test_layer_maps_are_interpolated(metric):
    coarse = torch.randn(B, 5, 3, 4, generator=torch.Generator().manual_seed(3))
    maps = F.interpolate(coarse.double().sum(1, keepdim=True), (H, W), mode="bilinear")
    torch.testing.assert_close(measured(metric, coarse), measured(metric, maps))


@every
def test_scale_of_a_map_does_not_matter(metric):
    values = [measured(metric, some_maps() * scale) for scale in (1, 1e-6, 300)]
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[0], values[2])


@every
def test_tuples_of_one(metric):
    expected = measured(metric, some_maps())
    x = images()
    kwargs = METRICS[metric](slice(None), x)
    values = metric(SmallNet(), (x,), (some_maps(),), **{"target": TARGET, **kwargs})
    torch.testing.assert_close(values, expected)


@each([m for m in METRICS if m not in RANDOMIZING])
def test_dtype_of_the_model(metric):
    expected = measured(metric, some_maps())
    x, maps = images(dtype=torch.float64), some_maps().double()
    values = measured(metric, maps, x, model=SmallNet().double())
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=1e-4)


@every
def test_memory_format_is_kept_and_does_not_matter(metric):
    class Watching(SmallNet):
        formats: set = set()

        def forward(self, x: Tensor) -> Tensor:
            last = x.is_contiguous(memory_format=torch.channels_last)
            Watching.formats.add(last and not x.is_contiguous())
            return super().forward(x)

    expected = measured(metric, some_maps())
    last = images().to(memory_format=torch.channels_last)
    values = measured(metric, some_maps(), last, model=Watching())
    assert Watching.formats <= {True}
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=1e-4)


@scoring
def test_additional_forward_args_follow_their_example(metric):
    scale = torch.tensor([0.5, 1.0, 2.0])
    together = measured(metric, some_maps(), additional_forward_args=scale)
    for i in range(B):
        alone = slice(i, i + 1)
        value = measured(
            metric,
            some_maps()[alone],
            i=alone,
            additional_forward_args=(scale[i].item(),),
        )
        torch.testing.assert_close(value, together[alone], atol=1e-5, rtol=1e-5)


@every
def test_model_and_inputs_are_left_unchanged(metric):
    net = SmallNet()
    net.head.weight.requires_grad_(False)
    net.norm.weight.grad = torch.ones(6)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    required = [p.requires_grad for p in net.parameters()]
    x = images().requires_grad_()
    kept = x.detach().clone()
    state = torch.get_rng_state()
    values = measured(metric, some_maps().requires_grad_(), x, model=net)
    assert not values.requires_grad and torch.is_grad_enabled()
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(x, kept) and x.grad is None and x.requires_grad
    assert required == [p.requires_grad for p in net.parameters()]
    assert torch.equal(net.norm.weight.grad, torch.ones(6))
    assert net.conv.weight.grad is None and not net.training
    assert not any(m._forward_hooks for m in net.modules())
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key])


@every
def test_works_without_gradients(metric):
    expected = measured(metric, some_maps())
    with torch.no_grad():
        torch.testing.assert_close(measured(metric, some_maps()), expected)
        assert not torch.is_grad_enabled()


@each(GEOMETRIC)
def test_geometric_metrics_call_no_model(metric):
    kwargs = METRICS[metric](slice(None), images())
    values = metric(None, images(), some_maps(), **kwargs)
    torch.testing.assert_close(values, measured(metric, some_maps()))


@each([m for m in METRICS if m not in GEOMETRIC])
def test_other_metrics_need_a_model(metric):
    kwargs = METRICS[metric](slice(None), images())
    with pytest.raises(TypeError, match="forward_func"):
        metric(None, images(), some_maps(), **{"target": 0, **kwargs})


NAN = some_maps()
NAN[1, 0, 3, 3] = float("nan")
WRONG = {
    "NaN": {"attributions": NAN},
    "infinite": {"attributions": NAN.nan_to_num(float("inf"))},
    "without channels": {"attributions": some_maps()[:, 0]},
    "too few": {"attributions": some_maps()[:2]},
    "none": {"attributions": None},
    "two": {"attributions": (some_maps(), some_maps())},
    "empty": {"attributions": some_maps()[..., :0]},
    "image of NaN": {"inputs": NAN.expand(B, 3, H, W)},
    "table": {"inputs": torch.rand(3, 5)},
    "two inputs": {"inputs": (images(), images())},
    "integers": {"inputs": images().to(torch.uint8)},
}


class Never(SmallNet):
    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("a forward pass was spent")


def refused(call, name: str) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"^{name} ") as error:
        call()
    text = str(error.value)
    assert text.endswith(".") and text.count(". ") == 0 and ", got " in text


@every
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_bad_arguments_are_refused_before_any_forward_pass(metric, wrong):
    kwargs = {
        **METRICS[metric](slice(None), images()),
        "inputs": images(),
        "attributions": some_maps(),
        "target": 0,
        **wrong,
    }
    refused(lambda: metric(Never(), **kwargs), *wrong)


@each(PROBABLE)
def test_scores_must_be_probabilities(metric):
    refused(
        lambda: measured(metric, some_maps(), model=lambda x: 5 * SmallNet()(x) - 1),
        "forward_func",
    )


@scoring
def test_one_number_per_batch_is_refused(metric):
    net = SmallNet()
    refused(
        lambda: measured(
            metric, some_maps(), model=lambda x: net(x)[:, 0].mean(), target=None
        ),
        "forward_func",
    )
