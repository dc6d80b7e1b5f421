"""Models in training mode, models that work in place, and inference mode."""

import functools
import warnings

import pytest
import torch
from contract import SmallNet, images
from torch import Tensor, nn

from captum_ext import attr, metrics
from captum_ext.masking import MaskingNetwork

TARGET = [0, 1, 2]
MAPS = torch.rand(3, 1, 12, 14, generator=torch.Generator().manual_seed(1))


class InPlace(nn.Module):
    """A network that changes its input first."""

    def __init__(self) -> None:
        super().__init__()
        self.net = SmallNet()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.mul_(2).sub_(0.3))


def randomization(net: InPlace, x: Tensor) -> Tensor:
    def explain(model: InPlace) -> Tensor:
        return attr.LayerGradCamPlusPlus(model, model.net.conv).attribute(x, TARGET)

    return metrics.parameter_randomization(net, x, MAPS, explanation_func=explain)


def sanity(net: InPlace, x: Tensor) -> Tensor:
    # Dark images of another predicted label are a successful attack.
    return metrics.adversarial_sanity(
        net, x, MAPS, 0, torch.full_like(x, -8), fraction=0.3, n_steps=3
    )


# Every method and metric, as a function of a network and inputs.
CALLS = {
    "RISE": lambda net, x: attr.RISE(net).attribute(x, target=TARGET, n_masks=20),
    "PN-RISE": lambda net, x: attr.PNRISE(net).attribute(x, target=TARGET, n_masks=20),
    "field": lambda net, x: attr.PNRISE(net).attribute(
        x, target=TARGET, n_masks=20, estimator="field"
    ),
    "MC-RISE": lambda net, x: attr.MCRISE(net).attribute(
        x, torch.eye(3), TARGET, n_masks=20
    ),
    "BOREx": lambda net, x: attr.BOREx(net).attribute(x, target=TARGET, n_iterations=6),
    "BOREx windows": lambda net, x: attr.BOREx(net).attribute(
        x, target=TARGET, n_iterations=12, variant="paper"
    ),
    "iterative mask": lambda net, x: attr.IterativeMask(net).attribute(
        x, TARGET, n_steps=3
    ),
    "CAMERAS": lambda net, x: attr.LayerCAMERAS(net, net.net.conv).attribute(
        x, TARGET, max_size=20, n_steps=3
    ),
    "Grad-CAM++": lambda net, x: attr.LayerGradCamPlusPlus(net, net.net.conv).attribute(
        x, TARGET
    ),
    "masking model": lambda net, x: attr.MaskingModel(
        MaskingNetwork(3, width=4)
    ).attribute(x, TARGET),
    "insertion": lambda net, x: metrics.insertion(net, x, MAPS, TARGET, n_steps=5),
    "deletion": lambda net, x: metrics.deletion(
        net, x, MAPS, TARGET, baselines="blur", n_steps=5
    ),
    "adversarial sanity": sanity,
    "PGD": lambda net, x: metrics.enhanced_pgd(net, x, MAPS, step_num=3),
    "saliency metric": lambda net, x: metrics.saliency_metric(net, x, MAPS, TARGET),
    "positive density": lambda net, x: metrics.positive_map_density(
        net, x, MAPS, TARGET
    ),
    "negative density": lambda net, x: metrics.negative_map_density(
        net, x, MAPS, TARGET
    ),
    "randomization": randomization,
}
CALLS_OF_THE_MODEL = {*CALLS} - {"masking model", "randomization"}


@pytest.mark.parametrize("name", CALLS)
def test_in_place_models_leave_the_inputs_unchanged(name):
    x = images()
    CALLS[name](InPlace(), x)
    assert torch.equal(x, images())


def test_in_place_models_leave_the_inputs_of_other_functions_unchanged():
    net, x = InPlace(), images()
    attr.last_map_layer(net, x)
    attr.EmbeddingSimilarity.to_best_match(net, x[:1], torch.rand(4, 3))
    assert torch.equal(x, images())


@pytest.mark.parametrize("name", CALLS)
def test_inference_mode_changes_nothing(name):
    net, x = InPlace(), images()
    expected = CALLS[name](net, x)
    with torch.inference_mode():
        inference = images()
        torch.testing.assert_close(CALLS[name](net, x), expected)
        torch.testing.assert_close(CALLS[name](net, inference), expected)
    assert inference.is_inference()
    torch.testing.assert_close(CALLS[name](net, inference), expected)


@pytest.mark.parametrize("method", ["IterativeMask", "LayerGradCamPlusPlus"])
def test_arguments_of_inference_mode_take_part_in_gradients(method):
    net = SmallNet()
    layer = () if method == "IterativeMask" else (net.conv,)
    scale = torch.tensor([0.5, 1.0, 2.0])
    with torch.inference_mode():
        inference = scale.clone()
    maps = [
        getattr(attr, method)(net, *layer).attribute(
            images(), TARGET, additional_forward_args=(each,)
        )
        for each in (scale, inference)
    ]
    torch.testing.assert_close(*maps)


@pytest.mark.parametrize("name", sorted(CALLS_OF_THE_MODEL))
def test_training_mode_warns_once_and_keeps_the_buffers(name):
    net = InPlace()
    net.train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        CALLS[name](net, images())
    assert len(caught) == 1, [str(each.message) for each in caught]
    text = str(caught[0].message)
    assert text.startswith("forward_func ") and "BatchNorm2d 'net.norm'" in text
    assert caught[0].filename == __file__
    assert net.net.norm.training
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_buffers_are_kept_after_an_exception():
    net = SmallNet().train()
    before = net.norm.running_mean.clone()

    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            self.net(x)
            raise KeyError("from the model")

    with pytest.warns(UserWarning, match="eval mode"), pytest.raises(KeyError):
        attr.PNRISE(Failing()).attribute(images(), target=1, n_masks=4)
    assert torch.equal(net.norm.running_mean, before)


class Counter(nn.Module):
    """Puts a new tensor into its buffer in each call."""

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.count = self.count + 1
        self.calls += 1
        return x.flatten(1).sum(1)


def test_buffers_that_a_module_replaces_are_kept():
    net = Counter()
    attr.RISE(net).attribute(images(), n_masks=4)
    assert net.calls > 1 and net.count == 0


def forms_of(net: nn.Module) -> list:
    return [net, net.forward, functools.partial(net), functools.partial(net.forward)]


@pytest.mark.parametrize("form", range(4))
def test_methods_and_partials_of_a_model_warn_as_well(form):
    net = SmallNet().train()
    before = net.norm.running_mean.clone()
    with pytest.warns(UserWarning, match="BatchNorm2d 'norm' in training mode"):
        attr.RISE(forms_of(net)[form]).attribute(images(), target=1, n_masks=4)
    assert torch.equal(net.norm.running_mean, before)


@pytest.mark.parametrize(
    "module, warned",
    [
        (nn.Dropout(0.5), True),
        (nn.Dropout(0.0), False),
        (nn.LayerNorm(4), False),
        (nn.BatchNorm1d(4), True),
        (nn.BatchNorm1d(4).eval(), False),
        (nn.Sequential(nn.Identity(), nn.Dropout()), True),
    ],
)
def test_only_what_depends_on_the_batch_or_on_chance_warns(module, warned):
    net = nn.Sequential(nn.Linear(4, 4), nn.Identity())
    net[1] = module
    state = torch.get_rng_state()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        attr.RISE(net).attribute(torch.rand(3, 4), target=1, n_masks=4)
    torch.set_rng_state(state)
    assert bool(caught) == warned
