"""Tests that every drop-in Captum attribution must pass, for test classes to inherit.

The test class of a method derives from ``AttributionContract``, creates the explainer
and lists the arguments it needs. Tests of an optional argument are skipped only if
``attribute`` does not have that argument.
"""

import inspect
from collections.abc import Callable

import pytest
import torch
from captum.attr import Attribution, NoiseTunnel
from captum.attr import visualization as viz
from captum.log import log_usage
from captum.metrics import infidelity, sensitivity_max
from torch import Tensor, nn

from captum_ext.visualization import to_numpy_image


class SmallNet(nn.Module):
    """Images (B, 3, H, W) to three probabilities, with batch norm and in-place ReLU."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 6, 3, padding=1)
            self.norm = nn.BatchNorm2d(6)
            self.relu = nn.ReLU(inplace=True)
            self.head = nn.Linear(6, 3)
        self.eval()

    def forward(self, x: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        h = self.relu(self.norm(self.conv(x)))
        scale = scale.view(-1, 1) if isinstance(scale, Tensor) else scale
        return (4 * self.head(h.mean((2, 3))) * scale).softmax(1)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = SmallNet()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.net(x) + 0.1 * torch.sin(y).sum(1, keepdim=True)


def is_logged(function: Callable) -> bool:
    """Whether the outermost decorator of a function is Captum's ``log_usage``."""
    # All functions that one decorator returns share its code object.
    return function.__code__ is log_usage()(is_logged).__code__


def images(n: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(n, 3, 12, 14, generator=generator).to(dtype)


class AttributionContract:
    """Base of the test classes of attributions.

    A subclass overrides ``explainer``, ``kwargs``, and ``output_shape`` if its maps do
    not have the shape of the inputs.
    """

    kwargs: dict = {}
    # Arguments that give the output the shape of the input, for Captum's metrics.
    input_shaped: dict = {}

    def explainer(self, forward_func, net) -> Attribution:
        """Attribution of a function; ``net`` is the network that it calls."""
        raise NotImplementedError

    def attribute(self, forward_func, inputs, net=None, **kwargs):
        explainer = self.explainer(forward_func, net or forward_func)
        return explainer.attribute(inputs, **{**self.kwargs, **kwargs})

    def of_small_net(self) -> Attribution:
        net = SmallNet()
        return self.explainer(net, net)

    def output_shape(self, inputs: Tensor) -> torch.Size:
        return inputs.shape

    def has_argument(self, name: str) -> bool:
        return name in inspect.signature(self.of_small_net().attribute).parameters

    def skip_without(self, name: str) -> None:
        if not self.has_argument(name):
            pytest.skip(f"attribute has no argument {name}")

    def test_name_is_that_of_the_paper(self):
        name = self.of_small_net().get_name()
        assert "- " not in name and " -" not in name and len(name.split()) <= 3

    def test_is_logged_outermost(self):
        assert is_logged(type(self.of_small_net()).attribute)

    def test_shape_dtype_and_storage(self):
        x = images()
        maps = self.attribute(SmallNet(), x, target=1)
        assert maps.shape == self.output_shape(x)
        assert maps.dtype == x.dtype and maps.device == x.device
        assert maps.is_contiguous() and not maps.requires_grad
        assert torch.isfinite(maps).all()

    def test_input_shaped_map(self):
        maps = self.attribute(SmallNet(), images(), target=1, **self.input_shaped)
        assert maps.shape == images().shape

    def test_map_is_not_constant(self):
        maps = self.attribute(SmallNet(), images(), target=1)
        assert (maps.flatten(1).std(1) > 0).all()

    def test_example_does_not_depend_on_its_batch(self):
        x = images()
        target = [0, 1, 2]
        together = self.attribute(SmallNet(), x, target=target)
        for i in range(3):
            alone = self.attribute(SmallNet(), x[i : i + 1], target=target[i])
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("chunk", [1, 3, 1000, "auto"])
    def test_chunk_size_does_not_matter(self, chunk):
        self.skip_without("perturbations_per_eval")
        maps = [
            self.attribute(SmallNet(), images(), target=0, perturbations_per_eval=c)
            for c in (7, chunk)
        ]
        torch.testing.assert_close(*maps, atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize(
        "targets",
        [
            ([1, 1, 1], 1),
            (torch.tensor([1, 1, 1]), 1),
            (torch.tensor(1), 1),
            (torch.tensor([1]), 1),
            ((1,), 1),
            ([(1,), (1,), (1,)], 1),
        ],
        ids=["list", "tensor", "scalar", "one", "tuple", "tuples"],
    )
    def test_forms_of_target(self, targets):
        chunk = (
            {"perturbations_per_eval": 4}
            if self.has_argument("perturbations_per_eval")
            else {}
        )
        maps = [
            self.attribute(SmallNet(), images(), target=t, **chunk) for t in targets
        ]
        torch.testing.assert_close(*maps)

    def test_no_target_for_one_number_per_example(self):
        net = SmallNet()
        maps = self.attribute(lambda x: net(x)[:, 2], images(), net)
        expected = self.attribute(net, images(), target=2)
        torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-4)

    def test_additional_forward_args_follow_their_example(self):
        self.skip_without("additional_forward_args")
        scale = torch.tensor([0.2, 1.0, 3.0])
        together = self.attribute(
            SmallNet(), images(), target=1, additional_forward_args=scale
        )
        for i, s in enumerate(scale):
            alone = self.attribute(
                SmallNet(),
                images()[i : i + 1],
                target=1,
                additional_forward_args=(s.item(),),
            )
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("form", ["number", "tensor", "one", "tuple"])
    def test_forms_of_baselines(self, form):
        self.skip_without("baselines")
        x = images()
        baselines = {
            "number": 0.3,
            "tensor": torch.full_like(x, 0.3),
            "one": torch.full_like(x[:1], 0.3),
            "tuple": (0.3,),
        }[form]
        maps = self.attribute(SmallNet(), x, target=1, baselines=baselines)
        expected = self.attribute(SmallNet(), x, target=1, baselines=0.3)
        torch.testing.assert_close(maps, expected)
        zero = self.attribute(SmallNet(), x, target=1)
        assert not torch.allclose(maps, zero)

    def test_tuple_of_one_input(self):
        maps = self.attribute(SmallNet(), (images(),), target=1)
        assert isinstance(maps, tuple) and len(maps) == 1
        torch.testing.assert_close(
            maps[0], self.attribute(SmallNet(), images(), target=1)
        )

    def test_tuple_of_two_inputs(self):
        """Perturbations may hide parts of several inputs."""
        self.skip_without("perturbations_per_eval")
        y = torch.rand(3, 4, generator=torch.Generator().manual_seed(1))
        two = self.attribute(TwoInputs(), (images(), y), target=1)
        assert isinstance(two, tuple) and len(two) == 2
        assert two[0].shape == self.output_shape(images())
        assert two[1].shape[0] == 3 and two[1].shape[-1] == 4

    @pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])
    def test_regions(self, shared):
        """Maps are constant on superpixels and ignore those of other examples."""
        self.skip_without("feature_mask")
        columns = torch.arange(14).expand(3, 1, 12, 14)
        widths = torch.tensor([7, 3, 2]).view(3, 1, 1, 1)
        regions = columns[:1] // 4 if shared else columns // widths
        net, kwargs = SmallNet(), {"target": [0, 1, 2]}
        kwargs |= {
            name: None for name in ("grid_size", "layout") if self.has_argument(name)
        }
        maps = self.attribute(net, images(), feature_mask=regions, **kwargs)
        assert torch.equal(maps[:, :, :1].expand_as(maps), maps)
        assert torch.equal(maps[..., 0], maps[..., 1])
        for i in range(3):
            alone = self.attribute(
                net,
                images()[i : i + 1],
                feature_mask=regions if shared else regions[i : i + 1],
                **{**kwargs, "target": i},
            )
            torch.testing.assert_close(maps[i : i + 1], alone, atol=1e-5, rtol=1e-4)

    def test_another_seed_gives_another_map(self):
        self.skip_without("seed")
        maps = [
            self.attribute(SmallNet(), images(), target=1, seed=seed) for seed in (0, 1)
        ]
        assert not torch.allclose(*maps, rtol=1e-3)

    def test_seed_reproduces_and_global_generator_is_untouched(self):
        state = torch.get_rng_state()
        maps = [self.attribute(SmallNet(), images(), target=1) for _ in range(2)]
        torch.testing.assert_close(*maps, atol=1e-6, rtol=1e-5)
        assert torch.equal(state, torch.get_rng_state())

    def test_memory_format_is_passed_on_and_does_not_matter(self):
        formats = set()
        net = SmallNet()

        def watching(x: Tensor) -> Tensor:
            formats.add(x.is_contiguous(memory_format=torch.channels_last))
            return net(x)

        x = images()
        last = x.to(memory_format=torch.channels_last)
        expected = self.attribute(net, x, target=1)
        maps = self.attribute(watching, last, net, target=1)
        assert formats == {True}
        assert maps.is_contiguous()
        torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_dtype(self, dtype):
        net = SmallNet().to(dtype)
        maps = self.attribute(net, images(dtype=dtype), target=1)
        assert maps.dtype == dtype
        expected = self.attribute(SmallNet(), images(), target=1)
        scale = expected.abs().max()
        error = (maps.float() - expected).abs().max() / scale
        assert error < (0.25 if dtype == torch.bfloat16 else 1e-3)

    def test_model_and_inputs_are_left_unchanged(self):
        net = SmallNet()
        net.head.weight.requires_grad_(False)
        # A frozen norm in eval mode in a network in training mode, as in fine-tuning.
        net.train()
        net.norm.eval()
        before = {k: v.clone() for k, v in net.state_dict().items()}
        modes = [m.training for m in net.modules()]
        grads = [p.requires_grad for p in net.parameters()]
        x = images().requires_grad_()
        self.attribute(net, x, target=1)
        assert modes == [m.training for m in net.modules()]
        assert grads == [p.requires_grad for p in net.parameters()]
        assert all(p.grad is None for p in net.parameters()) and x.grad is None
        for module in net.modules():
            assert not module._forward_hooks and not module._backward_hooks
            assert not module._forward_pre_hooks
        for key, value in net.state_dict().items():
            assert torch.equal(value, before[key])
        assert torch.is_grad_enabled()

    def test_model_is_left_unchanged_by_an_exception(self):
        net = SmallNet()

        def failing(x: Tensor) -> Tensor:
            net(x)
            raise KeyError("from the model")

        with pytest.raises(KeyError, match="from the model"):
            self.attribute(failing, images(), net, target=1)
        assert torch.is_grad_enabled()
        for module in net.modules():
            assert not module._forward_hooks and not module._backward_hooks

    def test_noise_tunnel(self):
        tunnel = NoiseTunnel(self.of_small_net())
        maps = tunnel.attribute(
            images(), target=[0, 1, 2], nt_samples=2, stdevs=0.0, **self.kwargs
        )
        plain = self.attribute(SmallNet(), images(), target=[0, 1, 2])
        torch.testing.assert_close(maps, plain, atol=1e-5, rtol=1e-4)

    def test_sensitivity_max(self):
        scores = sensitivity_max(
            self.of_small_net().attribute,
            images(),
            n_perturb_samples=2,
            target=1,
            **self.kwargs,
        )
        assert scores.shape == (3,) and torch.isfinite(scores).all()

    def test_infidelity(self):
        def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
            return 0.1 * inputs, 0.9 * inputs

        maps = self.attribute(SmallNet(), images(), target=1, **self.input_shaped)
        scores = infidelity(SmallNet(), perturb, images(), maps, target=1)
        assert scores.shape == (3,) and torch.isfinite(scores).all()

    def test_captum_visualization(self):
        maps = self.attribute(SmallNet(), images(), target=1, **self.input_shaped)
        figure, _ = viz.visualize_image_attr(
            to_numpy_image(maps[0]),
            to_numpy_image(images()[0]),
            method="blended_heat_map",
            sign="all",
            use_pyplot=False,
        )
        assert figure.axes

    def test_data_parallel_module(self):
        plain = self.attribute(SmallNet(), images(), target=1)
        net = SmallNet()
        wrapped = self.attribute(nn.DataParallel(net), images(), net, target=1)
        torch.testing.assert_close(wrapped, plain, atol=1e-5, rtol=1e-4)
