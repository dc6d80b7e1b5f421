"""Devices other than the CPU, half precision, compiled models and replicas."""

import copy
import shutil
from typing import Any

import pytest
import torch
from contract import SmallNet, images
from pretended_device import DEVICE, PretendedDevice, placed
from torch import distributed, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from captum_ext._processes import process_group
from captum_ext.attr import (
    MCRISE,
    PNRISE,
    RISE,
    BOREx,
    IterativeMask,
    LayerCAMERAS,
    LayerGradCamPlusPlus,
    MaskingModel,
    Replicas,
)
from captum_ext.masking import EvidenceRemoval, MaskingNetwork, SaliencyObjective
from captum_ext.metrics import insertion

BLUR = SaliencyObjective(evidence_removal=EvidenceRemoval(blur_probability=1))
CHUNK = 8
FEW: dict[str, Any] = {"n_masks": 32, "perturbations_per_eval": CHUNK}
CELLS = torch.arange(12 * 14).view(1, 1, 12, 14) // 21
PRIOR = torch.rand(3, 1, 6, 7, generator=torch.Generator().manual_seed(0))
NETWORK = MaskingNetwork(n_classes=3, width=8).eval()


def of_layer(method):
    return lambda net: method(net, net.conv)


# Constructor from a network, and arguments on the CPU.
METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "RISE": (RISE, FEW),
    "PN-RISE": (PNRISE, {**FEW, "baselines": torch.full((1, 3, 1, 1), 0.3)}),
    "PN-RISE, errors": (PNRISE, {**FEW, "return_std_error": True}),
    "PN-RISE, cells": (PNRISE, {**FEW, "feature_mask": CELLS}),
    "PN-RISE, mixed": (PNRISE, {**FEW, "layout": "mixed"}),
    "field": (PNRISE, {**FEW, "estimator": "field", "prior": PRIOR}),
    "MC-RISE": (MCRISE, {**FEW, "colors": torch.eye(3)}),
    "BOREx": (
        BOREx,
        {"prior": PRIOR, "n_iterations": 10, "perturbations_per_eval": 10},
    ),
    "BOREx, windows": (BOREx, {"n_iterations": 6, "variant": "windows"}),
    "CAMERAS": (of_layer(LayerCAMERAS), {"max_size": (20, 20), "n_steps": 2}),
    "Grad-CAM++": (of_layer(LayerGradCamPlusPlus), {}),
    "masking model": (lambda net: MaskingModel(net), {}),
    "iterative mask": (IterativeMask, {"n_steps": 3, "objective": BLUR}),
}
every_method = pytest.mark.parametrize("name", METHODS)


def network_of(name: str) -> nn.Module:
    return copy.deepcopy(NETWORK) if name == "masking model" else SmallNet()


def maps_of(name: str, model, x, target=1, **changes):
    method, arguments = METHODS[name]
    maps = method(model).attribute(x, target=target, **{**arguments, **changes})
    return maps if isinstance(maps, tuple) else (maps,)


def test_the_pretended_device_refuses_tensors_of_the_cpu():
    with PretendedDevice() as device:
        x = placed(torch.ones(2, 3))
        assert x.device == DEVICE and (x + 1).device == DEVICE
        for mix in (lambda: x + torch.ones(3), lambda: torch.ones(1, 2) @ x):
            with pytest.raises(RuntimeError, match="on the same device"):
                mix()
        assert not device.waits
        assert float(x.sum()) == 6 and x[x > 0].cpu().tolist() == [1] * 6
        kinds = {"_local_scalar_dense": 1, "index": 1, "to CPU": 1}
        assert device.waits == kinds


@every_method
@pytest.mark.parametrize("target", [1, [2, 0, 1], torch.tensor([2, 0, 1])])
def test_arguments_on_the_cpu_and_inputs_on_another_device(name, target):
    """Nothing is mixed, and the maps are those of the CPU, where the inputs are."""
    expected = maps_of(name, network_of(name), images(), target)
    with PretendedDevice():
        maps = maps_of(name, placed(network_of(name)), placed(images()), target)
        assert all(each.device == DEVICE for each in maps)
        maps = [each.cpu() for each in maps]
    for one, other in zip(maps, expected):
        torch.testing.assert_close(one, other)


def waits(name: str, n: int) -> int:
    """How often the CPU waits for the device in a run of n masks."""
    n_masks = "n_iterations" if "BOREx" in name else "n_masks"
    changes: dict[str, Any] = {n_masks: n}
    if "prior" in METHODS[name][1]:
        changes["prior"] = PRIOR[:1]
    with PretendedDevice() as device:
        maps_of(name, placed(SmallNet()), placed(images()[:1]), **changes)
    return sum(n for kind, n in device.waits.items() if kind != "to device")


@pytest.mark.parametrize(
    "name, per_chunk",
    [
        *((name, 0) for name in METHODS if "RISE" in name and "mixed" not in name),
        ("field", 0),
        # Which layout a mask has is read once.
        ("PN-RISE, mixed", 1),
    ],
)
def test_scores_stay_on_the_device(name, per_chunk):
    assert waits(name, 32 + 10 * CHUNK) - waits(name, 32) == 10 * per_chunk


def test_a_step_of_borex_waits_once():
    """For the scores of its 5 masks, on which the next masks depend."""
    assert waits("BOREx", 30) - waits("BOREx", 10) == 4


def test_inputs_go_to_the_device_once():
    """Masks are expanded there from a few bytes each."""
    with PretendedDevice() as device:
        moved = []
        for n in (32, 96):
            device.waits.clear()
            maps_of("PN-RISE, cells", placed(SmallNet()), placed(images()), n_masks=n)
            moved.append(device.waits["to device"])
    assert moved[0] == moved[1]


@pytest.mark.parametrize("name", [n for n in METHODS if n != "BOREx, windows"])
def test_autocast(name):
    """Maps are those of the exact model but for rounding.

    Rounded scores may lead a search to other windows.
    """
    net, x = network_of(name), images()
    exact = maps_of(name, net, x)
    with torch.autocast("cpu", torch.bfloat16):
        maps = maps_of(name, net, x)
    for one, other in zip(maps, exact):
        scale = float(other.abs().max())
        torch.testing.assert_close(one.float(), other, rtol=0, atol=0.25 * scale)


@pytest.mark.parametrize("name", ["RISE", "PN-RISE", "MC-RISE", "BOREx"])
def test_masks_are_exact_under_autocast(name):
    net = SmallNet()

    def half(x):
        with torch.autocast("cpu", torch.bfloat16):
            return net(x)

    expected = maps_of(name, half, images())
    with torch.autocast("cpu", torch.bfloat16):
        maps = maps_of(name, net, images())
    assert all(map(torch.equal, maps, expected))


def compiled_gives_the_same(name: str, backend: str) -> None:
    torch._dynamo.reset()
    net = network_of(name)
    compiled = torch.compile(net, backend=backend)
    for one, other in zip(
        maps_of(name, compiled, images()), maps_of(name, net, images())
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@every_method
def test_compiled_models(name, backend):
    compiled_gives_the_same(name, backend)


@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a compiler")
@pytest.mark.parametrize("name", ["PN-RISE", "Grad-CAM++"])
def test_compiled_kernels(name):
    compiled_gives_the_same(name, "inductor")


@pytest.mark.parametrize("name", ["PN-RISE", "MC-RISE", "BOREx", "iterative mask"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_replicas(name, n):
    """Copies that share a batch give what the model gives."""
    net = SmallNet()
    replicas = Replicas(net, ["cpu"] * n)
    for one, other in zip(
        maps_of(name, replicas, images()), maps_of(name, net, images())
    ):
        torch.testing.assert_close(one, other)


def test_replicas_share_arguments_and_metrics():
    net, x = SmallNet(), images()
    scale = torch.tensor([0.5, 1.0, 2.0])
    replicas = Replicas(net, ["cpu", "cpu"])
    torch.testing.assert_close(replicas(x, scale), net(x, scale))
    torch.testing.assert_close(replicas(x, 2.0), net(x, 2.0))
    assert torch.equal(replicas(x[:1]), net(x[:1]))
    maps = torch.rand_like(x)
    torch.testing.assert_close(
        insertion(replicas, x, maps, 1, n_steps=6),
        insertion(net, x, maps, 1, n_steps=6),
    )


def test_each_replica_takes_its_share():
    seen = []

    class Net(nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return x.flatten(1)

    replicas = Replicas(Net(), ["cpu"] * 3)
    x = torch.rand(7, 1, 2, 2)
    assert torch.equal(replicas(x), x.flatten(1))
    assert seen == [3, 2, 2]


def test_replicas_refuse_what_cannot_be_split():
    with pytest.raises(ValueError, match="at least one device, got none"):
        Replicas(SmallNet(), [])
    with pytest.raises(TypeError, match="model must be an nn.Module"):
        Replicas(lambda x: x, ["cpu"])
    with pytest.raises(TypeError, match="devices must be a sequence of names"):
        Replicas(SmallNet(), "cpu")

    class Whole(nn.Module):
        def forward(self, x):
            return x.mean()

    with pytest.raises(ValueError, match="one output for each of 2 examples"):
        Replicas(Whole(), ["cpu", "cpu"])(images(4))


def test_replicas_keep_modes_and_the_model():
    net = SmallNet().train()
    net.norm.eval()
    replicas = Replicas(net, ["cpu", "cpu"])
    assert replicas.training and not replicas.copies[0].norm.training
    before = {name: each.clone() for name, each in net.state_dict().items()}
    replicas(images())
    assert all(torch.equal(net.state_dict()[name], before[name]) for name in before)


class LargestTensor(TorchDispatchMode):
    """Largest result of any operation, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.n_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for each in tree_flatten(result)[0]:
            if isinstance(each, torch.Tensor):
                # A broadcast tensor takes only its storage.
                self.n_bytes = max(self.n_bytes, each.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize(
    "options", [{}, {"layout": "superpixels"}, {"estimator": "field"}], ids=str
)
def test_memory_does_not_grow_with_the_number_of_masks(options):
    """No tensor is much larger than a large image, however many masks there are."""
    x = torch.rand(1, 3, 600, 800, generator=torch.Generator().manual_seed(0))

    def model(x):
        return x[:, :, ::10, ::10].mean((1, 2, 3))

    largest = []
    for n_masks in (8, 64):
        with LargestTensor() as mode:
            PNRISE(model).attribute(
                x, n_masks=n_masks, perturbations_per_eval=1, **options
            )
        largest.append(mode.n_bytes)
    # Two maps in double precision are 4/3 of an image of three colors.
    assert max(largest) < 3 * x.numel() * 4
    assert largest[0] == largest[1]


@pytest.mark.parametrize(
    "device, n_gpus, backend",
    [("cpu", 0, "gloo"), ("cpu", 8, "gloo"), ("cuda", 1, "gloo"), ("cuda", 2, "nccl")],
)
def test_processes_use_nccl_with_a_gpu_each(monkeypatch, device, n_gpus, backend):
    """Two processes: NCCL can neither use the CPU nor share a GPU."""
    begun = []
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(distributed, "init_process_group", begun.append)
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: None)
    with process_group(torch.device(device)):
        assert begun == [backend]
