"""What errors say: one sentence with the argument, what is right, and what came."""

import re

import numpy as np
import pytest
import torch
from contract import SmallNet, images
from PIL import Image
from torch import Tensor

from captum_ext import attr, metrics
from captum_ext._type_checks import check_finite
from captum_ext._validation import (
    check_choice,
    check_integer,
    check_not_negative,
    check_positive,
    check_probability,
)

NAN, INF = float("nan"), float("inf")
MAPS = torch.rand(3, 1, 12, 14, generator=torch.Generator().manual_seed(1))


class Counting(SmallNet):
    """A network that counts its passes."""

    passes = 0

    def forward(self, x: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        self.passes += 1
        return super().forward(x, scale)


@pytest.mark.parametrize("bad", [[INF], [-INF, INF], [NAN]])
def test_numbers_that_are_not_finite(bad):
    values = torch.tensor([1.0, 2.0, *bad])
    with pytest.raises(ValueError, match=f"^x must be finite, got {len(bad)} NaN"):
        check_finite("x", values)
    # Finite numbers whose sum is not.
    large = torch.full((9,), 6e4, dtype=torch.float16)
    assert check_finite("x", large) is large


def maps_of(x: object) -> Tensor:
    """Maps of a batch, or of an image without the axis of examples."""
    return MAPS[:, 0] if isinstance(x, Tensor) and x.dim() == 3 else MAPS


def methods(net: Counting) -> dict:
    """Functions of inputs, target and other arguments."""
    return {
        "RISE": attr.RISE(net).attribute,
        "PNRISE": attr.PNRISE(net).attribute,
        "BOREx": attr.BOREx(net).attribute,
        "MCRISE": lambda x, **kw: attr.MCRISE(net).attribute(x, torch.eye(3), **kw),
        "IterativeMask": attr.IterativeMask(net).attribute,
        "LayerCAMERAS": attr.LayerCAMERAS(net, net.conv).attribute,
        "LayerGradCamPlusPlus": attr.LayerGradCamPlusPlus(net, net.conv).attribute,
        "insertion": lambda x, **kw: metrics.insertion(
            net, x, maps_of(x), n_steps=9, **kw
        ),
        "saliency_metric": lambda x, **kw: metrics.saliency_metric(net, x, MAPS, **kw),
        "pgd": lambda x, **kw: metrics.enhanced_pgd(net, x, maps_of(x), **kw),
    }


NAMES = list(methods(Counting()))


def message(name: str, inputs: object, **kwargs: object) -> str:
    """The error of a method, which must be one sentence and cost no pass."""
    net = Counting()
    with pytest.raises((ValueError, TypeError)) as error:
        methods(net)[name](inputs, **{"target": 1, **kwargs})
    text = str(error.value)
    assert text.endswith(".") and text.count(". ") == 0 and "\n" not in text
    assert not net.passes
    return text


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "inputs, said",
    [
        (images().numpy(), "got ndarray; convert it by torch.from_numpy"),
        (Image.new("RGB", (8, 8)), "got Image; convert it by torchvision.*to_tensor"),
        ("image.png", "a tensor or a tuple of tensors, got str"),
        ([images()], "a tensor or a tuple of tensors, got list"),
        (None, "a tensor or a tuple of tensors, got NoneType"),
        ((), "at least one tensor, got an empty tuple"),
        (images().to("meta"), "hold values, got a tensor of the meta device"),
        (images().to_sparse(), "dense, got a tensor that is torch.sparse_coo"),
        (torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "that is nested"),
        (
            torch.quantize_per_tensor(images(), 0.1, 0, torch.quint8),
            "dense, got a tensor that is quantized",
        ),
        (images().to(torch.complex64), "real numbers, got torch.complex64"),
        (images() * NAN, "finite, got 1512 NaN or infinite values among 1512"),
        (images()[:0], r"at least one example, got a tensor of shape \(0, 3, 12, 14\)"),
        (torch.tensor(0.5), r"at least one example, got a tensor of shape \(\)"),
    ],
)
def test_inputs(name, inputs, said):
    assert re.search(f"^inputs must .*{said}", message(name, inputs))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "MCRISE"])
def test_unbatched_image(name):
    """It looks like three sequences; a model that fails, fails with what to do."""
    net = SmallNet()
    # As of torchvision's models, the batch norm refuses three axes.
    with pytest.raises(ValueError, match="^inputs must .*by inputs.None.") as error:
        methods(net)[name](images()[0], target=1)
    assert str(error.value).count(". ") == 0


def test_errors_of_sequences_stay_those_of_the_model():
    def failing(x: Tensor) -> Tensor:
        raise RuntimeError("from the model")

    with pytest.raises(RuntimeError, match="^from the model"):
        attr.PNRISE(failing).attribute(torch.rand(2, 3, 9), n_masks=4)


@pytest.mark.parametrize("name", NAMES[:-1])
def test_missing_target(name):
    net = Counting()
    with pytest.raises(ValueError, match="target") as error:
        methods(net)[name](images())
    assert "pass target" in str(error.value)


@pytest.mark.parametrize(
    "name, rest",
    [
        ("RISE", ()),
        ("PNRISE", ()),
        ("MCRISE", (torch.eye(3),)),
        ("BOREx", ()),
        ("IterativeMask", ()),
    ],
)
def test_unknown_keyword_names_the_class(name, rest):
    """In the constructor and in ``attribute``: Python's own words."""
    cls, net = getattr(attr, name), SmallNet()
    with pytest.raises(TypeError, match=rf"{name}\.__init__\(\) got .*'layer'"):
        cls(net, layer=net.conv)
    with pytest.raises(TypeError, match=rf"{name}\.attribute\(\) got .*'layer'"):
        cls(net).attribute(images(), *rest, layer=net.conv)


@pytest.mark.parametrize("value", [None, 5, "model", [SmallNet()]])
@pytest.mark.parametrize("name", ["RISE", "PNRISE", "MCRISE", "BOREx", "IterativeMask"])
def test_forward_func(name, value):
    with pytest.raises(TypeError, match="^forward_func must be callable, got "):
        getattr(attr, name)(value)


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"layer": 0}, "layer must be an nn.Module, got int"),
        ({"layer": "conv"}, "layer must be an nn.Module, got str"),
        ({"forward_func": 0}, "forward_func must be callable, got int"),
        ({"device_ids": 5}, "device_ids must be a sequence of integers, got 5"),
        ({"device_ids": ["cuda"]}, "device_ids must be an int, got str"),
        ({"device_ids": [-1]}, "device_ids must be at least 0, got -1"),
    ],
)
@pytest.mark.parametrize("name", ["LayerCAMERAS", "LayerGradCamPlusPlus"])
def test_arguments_of_layer_attributions(name, arguments, said):
    net = SmallNet()
    with pytest.raises((ValueError, TypeError), match=f"^{said}"):
        getattr(attr, name)(**{"forward_func": net, "layer": net.conv, **arguments})


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("reshape_transform", 5, "callable, got int"),
        ("reshape_transform", lambda t: t * NAN, "finite, got .* NaN"),
        ("reshape_transform", lambda t: None, "a function that returns a tensor"),
        ("eps", NAN, "a number of at least 0, got nan"),
        ("eps", -1e-6, "a number of at least 0, got -1e-06"),
        ("grad_kwargs", 5, "an instance of dict, got int"),
        ("relu_attributions", "no", "True or False, got 'no'"),
        ("attr_dim_summation", 1, "True or False, got 1"),
        ("attribute_to_layer_input", None, "True or False, got None"),
        (
            "input_shaped",
            np.array([True, False]),
            "True or False, got ndarray of shape",
        ),
    ],
)
def test_arguments_of_grad_cam(name, value, said):
    net = SmallNet()
    with pytest.raises((ValueError, TypeError), match=f"^{name} must .*{said}"):
        attr.LayerGradCamPlusPlus(net, net.conv).attribute(
            images(), target=1, **{name: value}
        )


def test_objective_must_be_one():
    with pytest.raises(TypeError, match="^objective must be an instance of Saliency"):
        attr.IterativeMask(SmallNet()).attribute(images(), target=1, objective=-1)


NO_NUMBERS = {
    "string": "0.5",
    "complex": 1j,
    "complex of NumPy": np.complex64(1j),
    "complex tensor": torch.tensor(1j),
    "bool": True,
    "bool of NumPy": np.bool_(True),
    "bool tensor": torch.tensor(True),
    "two numbers": torch.tensor([0.1, 0.2]),
    "two numbers of NumPy": np.array([0.1, 0.2]),
    "one in a list": [0.5],
    "meta": torch.tensor(0.5, device="meta"),
    "none": None,
    "object": object(),
}
CHECKS = [check_positive, check_not_negative, check_probability]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_no_numbers(check, value):
    with pytest.raises(TypeError, match="^x must be a number, got "):
        check("x", value)
    with pytest.raises(TypeError, match="^x must be an int, got "):
        check_integer("x", value, 0)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("value", [NAN, INF, -INF, -1, 10**400, -(10**400)])
def test_numbers_out_of_range(check, value):
    with pytest.raises(ValueError, match="^x must .*, got ") as error:
        check("x", value)
    assert len(str(error.value)) < 100


@pytest.mark.parametrize(
    "value", [0.5, np.float32(0.5), np.float64(0.5), np.array(0.5), torch.tensor(0.5)]
)
def test_numbers_are_returned_as_floats(value):
    for check in CHECKS:
        found = check("x", value)
        assert found == 0.5 and type(found) is float


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_integers_are_returned_as_ints(value):
    found = check_integer("x", value, 0)
    assert found == 3 and type(found) is int


@pytest.mark.parametrize(
    "value", [2.0, np.float64(2), torch.tensor(2.0), NAN, [2], "2"]
)
def test_no_integers(value):
    with pytest.raises(TypeError, match="^x must be an int, got "):
        check_integer("x", value, 0)


@pytest.mark.parametrize("value", [-1, 10, 10**400, -(10**5000)], ids=range(4))
def test_integers_out_of_range(value):
    with pytest.raises(ValueError, match="^x must be at (least 0|most 9), got "):
        check_integer("x", value, 0, 9)
    with pytest.raises(ValueError, match="^x must be at (least 11|most)"):
        check_integer("x", value, 11)


@pytest.mark.parametrize(
    "value",
    [
        "c",
        5,
        None,
        ["a"],
        np.array(["a", "b"]),
        np.array("a"),
        torch.zeros(2),
        b"a",
        object(),
    ],
)
def test_choices(value):
    with pytest.raises(ValueError, match="^x must be one of 'a', 'b', got ") as error:
        check_choice("x", value, ("a", "b"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, value",
    [
        ("estimator", np.array(["field", "monte_carlo"])),
        ("layout", np.array(["grid", "mixed"])),
        ("layout", torch.zeros(3)),
        ("show_progress", "no"),
        ("return_std_error", 1),
        ("keep_probability", torch.tensor([0.5, 0.5])),
        ("n_masks", 10**400),
        ("grid_size", "22"),
        ("grid_size", (True, 2)),
        ("feature_mask", torch.zeros(12, 14, dtype=torch.long, device="meta")),
        ("baselines", 10**400),
        ("baselines", True),
        ("baselines", images().numpy()),
        ("baselines", images().to("meta")),
        ("tolerance", 1j),
    ],
)
def test_arguments_of_pn_rise(name, value):
    assert message("PNRISE", images(), **{name: value}).startswith(f"{name} must ")


def test_numbers_as_baselines_are_exact():
    """A number is not rounded to the default dtype."""
    x = torch.ones(2, 3, 4, 4, dtype=torch.float64)
    seen: list[torch.Tensor] = []

    def f(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x.sum((1, 2, 3))

    attr.RISE(f).attribute(x, 0.1, n_masks=64, grid_size=1)
    assert torch.cat(seen).unique().tolist() == [pytest.approx(0.1, abs=1e-15), 1]


def test_integer_baselines_must_fit():
    x = torch.ones(1, 3, 8, 8, dtype=torch.uint8)
    regions = torch.arange(8).view(1, 1, 1, 8)
    for baseline in (300, -1, torch.tensor(300)):
        with pytest.raises(ValueError, match="^baselines must fit into .*uint8, got "):
            attr.PNRISE(SmallNet()).attribute(x, baseline, 1, feature_mask=regions)
