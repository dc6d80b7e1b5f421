"""Enhanced PGD and adversarial sanity against plain loops and Captum's PGD."""

import os
from pathlib import Path

import pytest
import torch
from captum.attr import LayerGradCam
from captum.robust import PGD, AttackComparator, Perturbation
from contract import SmallNet, images
from PIL import Image
from test_metrics import some_maps
from test_metrics_curves import slow_order
from torch import Tensor, nn

from captum_ext import metrics, zoo
from captum_ext.metrics import EnhancedPGD, adversarial_sanity, enhanced_pgd
from captum_ext.metrics.pixel_maps import spatial_maps, unit_maps

TARGET = [0, 1, 2]


def unit(maps: Tensor) -> Tensor:
    return (maps / maps.amax((1, 2, 3), keepdim=True)).clamp_min(0)


def slow_attack(net, x, maps, label, radius, step_size, step_num, beta) -> Tensor:
    """Attack of one example, with the gradient of the penalty written out."""
    p = torch.zeros_like(x)
    weight = 1 - unit(maps)
    for i in range(step_num):
        z = (x + p).requires_grad_()
        (gradient,) = torch.autograd.grad(-net(z)[0, label].log(), z)
        norm = ((p * weight) ** 2).sum().sqrt()
        if norm > 0:
            gradient = gradient + beta * p * weight**2 / norm
        p = p - step_size * (step_num - i) / step_num * gradient.sign()
        p = p.clamp(-radius, radius)
        p = (x + p).clamp(0, 1) - x
    return x + p


@pytest.mark.parametrize("beta", [0.0, 0.05, 5.0])
def test_attack_equals_the_loop(beta):
    net, x, maps = SmallNet().double(), images(dtype=torch.float64), some_maps()
    attack = EnhancedPGD(net, lower_bound=0, upper_bound=1)
    settings = {"radius": 0.1, "step_size": 0.03, "step_num": 6, "beta": beta}
    attacked = attack.perturb(x, maps, **settings)
    for i in range(3):
        with torch.no_grad():
            label = net(x[i : i + 1]).argmin().item()
        expected = slow_attack(
            net, x[i : i + 1], maps[i : i + 1].double(), label, **settings
        )
        torch.testing.assert_close(attacked[i : i + 1], expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("targeted", [True, False])
def test_first_step_equals_captums(targeted):
    net, x = SmallNet(), images()
    ours = EnhancedPGD(net).perturb(
        x, some_maps(), 0.1, 0.05, 1, TARGET, targeted=targeted
    )
    x = x.requires_grad_()
    theirs = PGD(net).perturb(x, 0.1, 0.05, 1, target=TARGET, targeted=targeted)
    # Captum does not change elements whose gradient is below 1e-6.
    assert ((ours - theirs).abs() < 1e-6).float().mean() > 0.99


def test_stays_within_radius_and_bounds():
    x = images()
    for radius in (0.01, 0.2):
        attack = EnhancedPGD(SmallNet(), lower_bound=0, upper_bound=1)
        attacked = attack.perturb(x, some_maps(), radius=radius, step_size=radius)
        assert (attacked - x).abs().max() <= radius + 1e-6
        assert attacked.min() >= 0 and attacked.max() <= 1
        assert (attacked - x).abs().max() > radius / 2


def test_irrelevant_pixels_are_spared():
    x, maps = images(), unit(some_maps())
    plain, enhanced = (
        EnhancedPGD(SmallNet()).perturb(x, maps, radius=0.1, beta=beta)
        for beta in (0.0, 50.0)
    )
    outside = [((a - x) * (1 - maps)).flatten(1).norm(dim=1) for a in (plain, enhanced)]
    assert (outside[1] < outside[0] / 5).all()
    box = metrics.center_box(x)
    attacked = enhanced_pgd(SmallNet(), x, box, radius=0.1)
    outside = (attacked - x)[(box == 0).expand_as(x)]
    assert outside.abs().max() < 0.01
    assert (attacked - x).abs().max() > 0.05


def test_moves_towards_the_least_likely_label():
    net, x = SmallNet(), images()
    with torch.no_grad():
        before = net(x)
        after = net(enhanced_pgd(net, x, metrics.max_box(x), radius=0.2))
    least = before.argmin(1, keepdim=True)
    assert (after.gather(1, least) > before.gather(1, least)).all()


def test_loss_function_of_logits():
    """The negative log of a softmax equals the cross entropy of its logits."""
    net, x, maps = SmallNet(), images(), some_maps()
    logits = EnhancedPGD(
        lambda x: net(x).log(),
        lambda out, y: nn.functional.nll_loss(out, y, reduction="none"),
    )
    ours = logits.perturb(x, maps, target=torch.tensor(TARGET))
    torch.testing.assert_close(ours, enhanced_pgd(net, x, maps, target=TARGET))


def test_is_a_perturbation_of_captum():
    net, x, maps = SmallNet(), images(), some_maps()
    attack = EnhancedPGD(net)
    assert isinstance(attack, Perturbation)
    torch.testing.assert_close(attack(x, maps), attack.perturb(x, maps))
    attacked = attack.perturb((x,), (maps,))
    assert isinstance(attacked, tuple) and len(attacked) == 1

    def probability(output: Tensor, target: int) -> float:
        return float(output.detach()[:, target].mean())

    comparator = AttackComparator(net, probability)
    comparator.add_attack(attack, "enhanced", attack_kwargs={"attributions": maps})
    result = comparator.evaluate(x, target=1)
    assert set(result) == {"Original", "enhanced"}


def test_format_is_kept_and_model_left_unchanged():
    net = SmallNet()
    x = images().to(memory_format=torch.channels_last).requires_grad_()
    attacked = enhanced_pgd(net, x, some_maps())
    assert attacked.is_contiguous(memory_format=torch.channels_last)
    assert not attacked.requires_grad and x.grad is None
    assert all(p.grad is None for p in net.parameters())
    with torch.no_grad():
        torch.testing.assert_close(enhanced_pgd(net, x, some_maps()), attacked)
        assert not torch.is_grad_enabled()


def test_example_does_not_depend_on_its_batch():
    x, maps, scale = images(), some_maps(), torch.tensor([0.5, 1.0, 2.0])
    together = enhanced_pgd(SmallNet(), x, maps, additional_forward_args=scale)
    for i in range(3):
        alone = enhanced_pgd(
            SmallNet(),
            x[i : i + 1],
            maps[i : i + 1],
            additional_forward_args=(scale[i].item(),),
        )
        same = ((alone - together[i : i + 1]).abs() < 1e-5).float().mean()
        assert same > 0.99


@pytest.mark.parametrize(
    "kwargs, name",
    [
        ({"radius": 0}, "radius"),
        ({"step_size": -1.0}, "step_size"),
        ({"step_num": 0}, "step_num"),
        ({"beta": -1}, "beta"),
        ({"beta": "50"}, "beta"),
        ({"target": [0, 1]}, "target"),
        ({"attributions": some_maps() * float("nan")}, "attributions"),
    ],
)
def test_bad_arguments_of_the_attack(kwargs, name):
    def never(x: Tensor) -> Tensor:
        raise AssertionError("a forward pass was spent")

    kwargs = {"attributions": some_maps(), **kwargs}
    with pytest.raises((ValueError, TypeError), match=f"^{name} "):
        enhanced_pgd(never, images(), **kwargs)


def test_labels_that_cannot_be_attacked():
    x, maps = images(), some_maps()
    with pytest.raises(ValueError, match="target must be given"):
        enhanced_pgd(lambda x: x.mean((1, 2, 3)), x, maps)
    with pytest.raises(ValueError, match="positive probability"):
        enhanced_pgd(lambda x: 0 * x.flatten(1), x, maps, target=1)


# Adversarial sanity


def slow_sanity(net, clean, start, saliency, target, n_pixels, n_steps) -> float:
    order = slow_order(saliency)
    image, area, before, done = start.clone(), 0.0, None, 0
    with torch.no_grad():
        ideal = net(clean[None])[0, target].item()
        for step in range(n_steps + 1):
            count = step * n_pixels // n_steps
            for pixel in order[done:count]:
                image.view(3, -1)[:, pixel] = clean.reshape(3, -1)[:, pixel]
            p = net(image[None])[0, target].item()
            if before is not None:
                area += (count - done) * (before + p) / 2
            before, done = p, count
    return (ideal * n_pixels - area) / (ideal * n_pixels)


def attacked_images() -> Tensor:
    return EnhancedPGD(SmallNet()).perturb(
        images(), metrics.max_box(images()), target=TARGET, targeted=False
    )


@pytest.mark.parametrize("fraction, n_steps", [(0.1, 17), (0.5, 10), (0.9, 4)])
def test_sanity_equals_the_loop(fraction, n_steps):
    net, x, maps, start = SmallNet(), images(), some_maps(), attacked_images()
    values = adversarial_sanity(
        net, x, maps, TARGET, start, fraction=fraction, n_steps=n_steps
    )
    n_pixels = round(fraction * 168)
    for i in range(3):
        expected = slow_sanity(
            net, x[i], start[i], maps[i], TARGET[i], n_pixels, n_steps
        )
        assert values[i].item() == pytest.approx(expected, abs=1e-5)


def corner(x: Tensor) -> Tensor:
    return x[:, :, 0, 0].mean(1)


def test_sanity_at_its_extremes():
    """A model of one pixel, which the map ranks first or last."""
    x = torch.ones(1, 3, 10, 10)
    start = torch.zeros_like(x)
    first, last = torch.zeros(1, 1, 10, 10), torch.zeros(1, 1, 10, 10)
    first[..., 0, 0], last[..., 0, 0] = 1, -1
    kwargs = {"baselines": start, "n_steps": 10}
    # Only half of the first of ten steps is missing.
    assert adversarial_sanity(corner, x, first, **kwargs).item() == pytest.approx(0.05)
    assert adversarial_sanity(corner, x, last, **kwargs).item() == pytest.approx(1)


def test_default_attack_of_sanity_is_enhanced_pgd():
    net, x = SmallNet(), images()
    maps = metrics.center_box(x)
    start = enhanced_pgd(net, x, maps, radius=0.1)
    with torch.no_grad():
        target = (net(x) - net(start)).argmax(1)
    values = [
        adversarial_sanity(net, x, maps, target, given, radius=0.1, n_steps=5)
        for given in (None, start)
    ]
    torch.testing.assert_close(*values, atol=1e-6, rtol=0)


def test_failed_attack_is_refused():
    with pytest.raises(ValueError, match=r"^target .* examples \[0, 1, 2\]\.$"):
        adversarial_sanity(SmallNet(), images(), some_maps(), 0, images(), n_steps=5)


@pytest.mark.parametrize(
    "kwargs, name",
    [
        ({"fraction": 0}, "fraction"),
        ({"n_steps": 18}, "n_steps"),
        ({"radius": -1}, "radius"),
        ({"perturbations_per_eval": 0}, "perturbations_per_eval"),
        ({"target": "dog"}, "target"),
    ],
)
def test_bad_arguments_of_sanity(kwargs, name):
    def never(x: Tensor) -> Tensor:
        raise AssertionError("a forward pass was spent")

    kwargs = {"target": 0, "n_steps": 5, **kwargs}
    with pytest.raises((ValueError, TypeError), match=f"^{name} "):
        adversarial_sanity(never, images(), some_maps(), **kwargs)


def test_attack_on_real_images():
    """The attack misleads the network and spares pixels outside of Grad-CAM's map."""
    if "CAPTUM_EXT_DATA" not in os.environ:
        pytest.skip("CAPTUM_EXT_DATA is unset: no photographs and networks")
    data = Path(os.environ["CAPTUM_EXT_DATA"])
    entry = zoo.load("mobilenet_v2", data / "models" / "mobilenet_v2.pt")
    files = sorted((data / "imagenet" / "images").glob("*.jpg"))[:3]
    x = torch.cat([entry.preprocess(Image.open(file))[None] for file in files])

    def model(x: Tensor) -> Tensor:
        return entry.model(x).softmax(1)

    with torch.no_grad():
        before = model(x)
    target = before.argmax(1)
    maps = LayerGradCam(entry.model, entry.model.features[-1]).attribute(
        x, target=target, relu_attributions=True
    )
    # Inputs are normalized.
    radius, step = 12 / 255 / 0.225, 2 / 255 / 0.225
    plain, enhanced = (
        enhanced_pgd(model, x, maps, radius=radius, step_size=step, beta=beta)
        for beta in (0.0, 50 * 0.225)
    )
    S = unit_maps(spatial_maps(maps, x))[:, None].float()
    outside = [((a - x) * (1 - S)).norm() for a in (plain, enhanced)]
    assert outside[1] < outside[0] / 3
    with torch.no_grad():
        after = model(enhanced)
    labels = target[:, None]
    assert (after.gather(1, labels) < 0.3 * before.gather(1, labels)).all()
