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
NORMALIZATION = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.5))


def unit(maps: Tensor) -> Tensor:
    return (maps / maps.amax((1, 2, 3), keepdim=True)).clamp_min(0)


def slow_attack(net, x, maps, label, radius, step_size, step_num, beta) -> Tensor:
    """Attack of one example, with the gradient of the penalty written out."""
    p = torch.zeros_like(x)
    weight = 1 - unit(maps)
    for i in range(step_num):
        z = (x + p).requires_grad_()
        (gradient,) = torch.autograd.grad(-net(z)[0, label].log(), z)
        mean_square = ((p * weight) ** 2).mean()
        if mean_square > 0:
            gradient += beta * p * weight**2 / (p.numel() * mean_square.sqrt())
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


def test_attack_of_normalized_inputs_is_that_of_their_pixels():
    """Radius, step size, penalty and bounds are those of pixels in every channel."""
    net, x, maps = SmallNet().double(), images(dtype=torch.float64), some_maps()
    mean, std = torch.tensor(NORMALIZATION).double().view(2, 3, 1, 1)
    x[0, :, :2], x[1, :, 3:] = 0.99, 0.01
    given = {"radius": 0.05, "step_size": 0.02, "beta": 3.0, "step_num": 7}
    expected = EnhancedPGD(net, lower_bound=0, upper_bound=1).perturb(x, maps, **given)
    attacked = enhanced_pgd(
        lambda z: net(z * std + mean), (x - mean) / std, maps, NORMALIZATION, **given
    )
    torch.testing.assert_close(attacked * std + mean, expected, atol=1e-9, rtol=0)
    change = (attacked * std + mean - x).abs().amax((0, 2, 3))
    assert change.tolist() == pytest.approx([0.05] * 3)
    assert expected.min() == 0 and expected.max() == 1


@pytest.mark.parametrize(
    "normalization", [((0.5,), (0.5,)), ((0, 0, 0), (1, 0, 1)), ((0, 0, 0), (1, 1))]
)
def test_bad_normalization(normalization):
    with pytest.raises(ValueError, match="^normalization must "):
        enhanced_pgd(SmallNet(), images(), some_maps(), normalization)


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
    """Images of label 0 that the network gives another label."""
    return EnhancedPGD(SmallNet()).perturb(
        images(), metrics.max_box(images()), 0.6, 0.15, target=0, targeted=False
    )


@pytest.mark.parametrize("fraction, n_steps", [(0.1, 17), (0.5, 10), (0.9, 4)])
def test_sanity_equals_the_loop(fraction, n_steps):
    net, x, maps, start = SmallNet(), images(), some_maps(), attacked_images()
    values = adversarial_sanity(
        net, x, maps, 0, start, fraction=fraction, n_steps=n_steps
    )
    n_pixels = round(fraction * 168)
    for i in range(3):
        expected = slow_sanity(net, x[i], start[i], maps[i], 0, n_pixels, n_steps)
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
    value, curve = adversarial_sanity(corner, x, first, return_curve=True, **kwargs)
    assert value.item() == pytest.approx(0.05)
    # The pixel is the first of the ten that are cleaned.
    assert curve.tolist() == [[0] + [1] * 10]


@pytest.mark.parametrize("normalization", [None, NORMALIZATION])
def test_default_attack_of_sanity_is_enhanced_pgd(normalization):
    def sharp(x: Tensor) -> Tensor:
        """The attack changes its predictions."""
        center = torch.tensor([0.445, 0.377, 0.178])
        return (300 * (SmallNet()(x) - center)).softmax(1)

    x = images()
    maps = metrics.center_box(x)
    start = enhanced_pgd(sharp, x, maps, normalization, radius=0.3, beta=0.2)
    with torch.no_grad():
        target = sharp(x).argmax(1)
    given = {"radius": 0.3, "beta": 0.2, "normalization": normalization, "n_steps": 5}
    values = [
        adversarial_sanity(sharp, x, maps, target, each, **given)
        for each in (None, start)
    ]
    assert values[0].isfinite().all()
    torch.testing.assert_close(*values, atol=1e-6, rtol=0)


def test_failed_attacks_have_no_value():
    """The prediction must change and the target's probability must fall."""
    x, start, maps = images(), attacked_images(), some_maps()
    some = torch.stack([start[0], x[1], start[2]])
    values = adversarial_sanity(SmallNet(), x, maps, 0, some, n_steps=5)
    assert values.isnan().tolist() == [False, True, False]
    # The attack raises the probability of label 1.
    risen = adversarial_sanity(SmallNet(), x, maps, [0, 1, 1], start, n_steps=5)
    assert risen.isnan().tolist() == [False, True, True]

    def unchanged(x: Tensor) -> Tensor:
        """Probabilities fall, but the predictions stay the same."""
        return torch.stack([0.6 + 0.4 * corner(x), 0.4 - 0.4 * corner(x)], 1)

    bright = torch.ones_like(x)
    values = adversarial_sanity(unchanged, bright, maps, 0, 0.0, n_steps=5)
    assert values.isnan().all()


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
    """More than 99% confidence in the attacked label, with the pixels outside of
    Grad-CAM's map spared."""
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
    normalization = (entry.mean, entry.std)
    plain, enhanced = (
        enhanced_pgd(model, x, maps, normalization, beta=beta) for beta in (0.0, 50.0)
    )
    S = unit_maps(spatial_maps(maps, x))[:, None].float()
    outside = [((a - x) * (1 - S)).norm() for a in (plain, enhanced)]
    assert outside[1] < outside[0] / 5
    std = torch.tensor(entry.std).view(3, 1, 1)
    assert ((enhanced - x) * std).abs().max() < 12.01 / 255
    with torch.no_grad():
        after = model(enhanced)
    assert (after.gather(1, before.argmin(1, keepdim=True)) > 0.99).all()
