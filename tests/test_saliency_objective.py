"""Eq. 4 to 6, by hand and by finite differences, and which terms apply when."""

import math

import pytest
import torch
from torch import Generator, nn
from torchvision.transforms.v2.functional import gaussian_blur

from captum_ext.masking import EvidenceRemoval, SaliencyObjective
from captum_ext.masking.evidence_removal import blurred, edited
from captum_ext.masking.objective import total_variation


def generators(n: int, seed: int = 0) -> list[Generator]:
    return [Generator().manual_seed(seed + i) for i in range(n)]


class ZeroAlternatives(EvidenceRemoval):
    """Phi with zeros as alternative images."""

    def alternatives(self, inputs, generators):
        return torch.zeros_like(inputs)


class SumNet(nn.Module):
    """Two classes; the odds of the first are exp(sum of the pixels)."""

    def forward(self, x):
        total = x.sum((1, 2, 3))
        return torch.stack([total, torch.zeros_like(total)], 1)


@pytest.mark.parametrize("pixels, smoothness, area", [(1, 15, 5e-4), (1e4, 1.5e-3, 5)])
def test_terms_by_hand(pixels, smoothness, area):
    """A mask ((0, 1), (1/2, 1/2)): TV = 1 + 0 + 1/4 + 1/4 = 3/2, AV = 1/2."""
    X = torch.tensor([[[[9.0, math.log(3)], [0.0, 0.0]]]])
    M = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]])
    objective = SaliencyObjective(pixels=pixels, evidence_removal=ZeroAlternatives())
    terms = objective(SumNet(), X, M, torch.tensor([0]), generators(1))
    # Preserved: log 3, so f = 3/4. Destroyed: 9, so f = 1 / (1 + exp(-9)).
    assert float(terms.smoothness) == pytest.approx(smoothness)
    assert float(terms.area) == pytest.approx(area)
    assert float(terms.preservation) == pytest.approx(math.log(4 / 3))
    destroyed = 1 / (1 + math.exp(-9))
    assert float(terms.destruction) == pytest.approx(5 * destroyed**0.3)
    assert float(terms.selection) == 0
    expected = smoothness + area + math.log(4 / 3) + 5 * destroyed**0.3
    assert float(terms.total) == pytest.approx(expected)


def test_total_variation_does_not_depend_on_the_size():
    """TV of a ramp is the same in an image of twice the size."""
    ramp = torch.linspace(0, 1, 65).expand(1, 1, 65, 65)
    fine = torch.linspace(0, 1, 129).expand(1, 1, 129, 129)
    # 65 rows of 64 steps of 1/64, and 129 of 128.
    torch.testing.assert_close(total_variation(ramp), torch.tensor([65 / 64]))
    torch.testing.assert_close(total_variation(fine), torch.tensor([129 / 128]))


def test_gradient_matches_finite_differences():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)
        ).double()
    generator = Generator().manual_seed(1)
    X, M = (
        torch.rand(3, c, 6, 6, dtype=torch.double, generator=generator) for c in (3, 1)
    )
    target, labels = torch.tensor([0, 1, 2]), torch.tensor([0, 2, 2])
    objective = SaliencyObjective()

    def terms_of(masks):
        terms = objective(net, X, masks, target, generators(3), labels)
        return torch.stack(terms[:4])

    assert torch.autograd.gradcheck(terms_of, M.requires_grad_())


def test_only_the_area_counts_for_a_fake_class():
    """Other terms and their gradients are 0; the classifier is not called."""
    batch_sizes = []

    def black_box(x):
        batch_sizes.append(len(x))
        return SumNet()(x)

    # The sums are small, so that no probability is near 0 or 1.
    x = 0.01 * torch.rand(3, 3, 8, 8, generator=Generator().manual_seed(0))
    masks = torch.rand(3, 1, 8, 8, generator=Generator().manual_seed(1))
    masks.requires_grad_()
    target, labels = torch.tensor([1, 0, 1]), torch.tensor([0, 0, 0])
    objective = SaliencyObjective()
    terms = objective(black_box, x, masks, target, generators(3), labels)
    assert batch_sizes == [2]
    for name in ("smoothness", "preservation", "destruction"):
        each = getattr(terms, name)
        assert each[0] == each[2] == 0 and each[1] != 0
        (gradient,) = torch.autograd.grad(each.sum(), masks, retain_graph=True)
        assert (gradient[0] == 0).all() and (gradient[2] == 0).all()
        assert (gradient[1] != 0).any()
    (gradient,) = torch.autograd.grad(terms.total.sum(), masks)
    torch.testing.assert_close(gradient[0], torch.full((1, 8, 8), 10 / 64))
    batch_sizes.clear()
    all_fake = objective(black_box, x, masks, target, generators(3), 1 - target)
    assert not batch_sizes
    torch.testing.assert_close(all_fake.total, all_fake.area)
    firm = SaliencyObjective(absent_weight=4)
    found = firm(black_box, x, masks, target, generators(3), labels)
    expected = terms.area * torch.tensor([4, 1, 4])
    torch.testing.assert_close(found.area, expected)


@pytest.mark.parametrize("share", [0.25, 1])
def test_distillation_by_hand(share):
    """Masks of 1/4: for the map 1, log 4; for the map 1/2, the mean with log(4/3)."""
    X, target = torch.rand(3, 1, 2, 2), torch.tensor([0, 0, 1])
    M = torch.full((3, 1, 2, 2), 0.25)
    maps = torch.tensor([1.0, 0.5, 1.0]).view(3, 1, 1, 1).expand_as(M)
    labels = torch.tensor([0, 0, 0])

    def terms(share, black_box):
        objective = SaliencyObjective(
            evidence_removal=ZeroAlternatives(), distillation=share
        )
        return objective(
            black_box, X, M, target, generators(3), labels, maps=maps if share else None
        )

    def unused(x):
        raise AssertionError("the classifier is not needed for maps alone")

    found = terms(share, unused if share == 1 else SumNet())
    kept, left = math.log(4), math.log(4 / 3)
    # The map of a class that the image does not show is zero.
    expected = share * torch.tensor([kept, (kept + left) / 2, left])
    torch.testing.assert_close(found.distillation, expected)
    eq_4 = terms(0, SumNet())
    assert (eq_4.distillation == 0).all()
    torch.testing.assert_close(found.total - expected, (1 - share) * eq_4.total)


def test_distillation_is_finite_at_masks_of_zero_and_one():
    M = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).requires_grad_()
    objective = SaliencyObjective(distillation=1)
    terms = objective(
        SumNet(), M, M, torch.tensor([0]), generators(1), maps=1 - M.detach()
    )
    (gradient,) = torch.autograd.grad(terms.total.sum(), M)
    assert terms.distillation.isfinite().all() and gradient.isfinite().all()


@pytest.mark.parametrize(
    "maps, found", [(None, "none"), (torch.rand(1, 1, 4, 4), r"1 of shape \(1, 4, 4\)")]
)
def test_distillation_needs_a_map_for_each_image(maps, found):
    objective = SaliencyObjective(distillation=0.5)
    masks = torch.rand(2, 1, 4, 4)
    message = rf"^dataset must hold a map \(1, 4, 4\) beside .* got {found}"
    with pytest.raises(ValueError, match=message):
        objective(
            SumNet(), masks, masks, torch.tensor([0, 0]), generators(2), maps=maps
        )


def test_selection_by_hand():
    """-log sigmoid of the image's class, plus the mean -log(1 - sigmoid) of others."""
    log3 = math.log(3)
    class_logits = torch.tensor([[log3, 0.0, -log3], [log3, -log3, 0.0]])
    x, masks = torch.rand(2, 3, 4, 4), torch.rand(2, 1, 4, 4)
    target, labels = torch.tensor([0, 0]), torch.tensor([0, 2])
    objective = SaliencyObjective(selection_weight=2)
    args = x, masks, target, generators(2), labels, class_logits
    terms = objective(lambda x: torch.zeros(len(x), 3), *args)
    two, four, third = math.log(2), math.log(4), math.log(4 / 3)
    expected = [third + (two + third) / 2, two + (four + third) / 2]
    torch.testing.assert_close(terms.selection, 2 * torch.tensor(expected))


def test_gradient_of_a_probability_that_underflows():
    """f = exp(-1000) underflows to 0; its logarithm is -1000."""
    x = torch.full((1, 1, 10, 10), -10.0)
    masks = torch.ones(1, 1, 10, 10).requires_grad_()
    objective = SaliencyObjective(evidence_removal=ZeroAlternatives())
    terms = objective(SumNet(), x, masks, torch.tensor([0]), generators(1))
    assert terms.preservation.item() == pytest.approx(1000)
    (gradient,) = torch.autograd.grad(terms.total.sum(), masks)
    assert torch.isfinite(gradient).all()


# Evidence removal


def test_edited_is_a_convex_combination():
    X, A = torch.rand(2, 3, 5, 5), torch.rand(2, 3, 5, 5)
    ones = torch.ones(2, 1, 5, 5)
    assert torch.equal(edited(X, ones, A), X)
    assert torch.equal(edited(X, 0 * ones, A), A)
    torch.testing.assert_close(edited(X, 0.5 * ones, A), (X + A) / 2)


@pytest.mark.parametrize("size", [(80, 96), (32, 32), (7, 90)])
def test_blur_matches_torchvision(size):
    x = torch.rand(2, 3, *size, generator=Generator().manual_seed(0))
    kernel = [2 * min(30, n - 1) + 1 for n in (size[1], size[0])]
    expected = gaussian_blur(x, kernel, [10.0, 10.0])
    torch.testing.assert_close(blurred(x, 10.0), expected, atol=1e-5, rtol=1e-4)


def test_half_of_the_alternatives_are_blurred_and_half_colored():
    x = torch.rand(1, 3, 8, 8, generator=Generator().manual_seed(0)).expand(
        1000, -1, -1, -1
    )
    phi = EvidenceRemoval(noise=0, limits=([-1, 0, 2], [1, 1, 3]))
    drawn = phi.alternatives(x, generators(1000))
    blurred_x = blurred(x[:1], 10.0)
    is_blurred = torch.tensor([torch.allclose(each, blurred_x[0]) for each in drawn])
    assert 450 < int(is_blurred.sum()) < 550
    colors = drawn[~is_blurred]
    assert torch.equal(colors, colors[..., :1, :1].expand_as(colors))
    # Uniform between the limits of each channel.
    mean, std = colors[..., 0, 0].mean(0), colors[..., 0, 0].std(0)
    torch.testing.assert_close(mean, torch.tensor([0.0, 0.5, 2.5]), atol=0.1, rtol=0)
    width = torch.tensor([2.0, 1.0, 1.0]) / 12**0.5
    torch.testing.assert_close(std, width, atol=0.05, rtol=0)


def test_standard_deviation_of_the_noise():
    x = torch.zeros(40, 1, 64, 64)
    phi = EvidenceRemoval(noise=0.2, limits=([0], [10]))
    drawn = phi.alternatives(x, generators(40))
    std = drawn.std((1, 2, 3))
    colored = std > 1
    assert 5 < int(colored.sum()) < 35
    torch.testing.assert_close(
        std[colored], torch.full_like(std[colored], 2), atol=0.1, rtol=0
    )
    assert (std[~colored] == 0).all()


def test_alternatives_differ_by_call_and_depend_only_on_their_example():
    x = torch.rand(8, 3, 8, 8)
    phi, used = EvidenceRemoval(), generators(8)
    first, second = (phi.alternatives(x, used) for _ in range(2))
    assert not torch.equal(first, second)
    again = phi.alternatives(x, generators(8))
    torch.testing.assert_close(first, again)
    alone = phi.alternatives(x[5:6], generators(1, seed=5))
    torch.testing.assert_close(first[5:6], alone)


def test_global_generator_is_unchanged():
    state = torch.get_rng_state()
    x, masks = torch.rand(4, 3, 8, 8, generator=Generator()), torch.zeros(4, 1, 8, 8)
    SaliencyObjective()(SumNet(), x, masks, torch.zeros(4).long(), generators(4))
    assert torch.equal(state, torch.get_rng_state())


def test_invalid_arguments():
    with pytest.raises(ValueError, match="distillation must be a number from 0 to 1"):
        SaliencyObjective(distillation=1.5)
    with pytest.raises(ValueError, match="lambdas must hold 4 numbers"):
        SaliencyObjective((1, 2, 3))
    with pytest.raises(ValueError, match="lambdas must be a number of at least 0"):
        SaliencyObjective((1, -2, 3, 4))
    with pytest.raises(ValueError, match="fake_probability"):
        SaliencyObjective(fake_probability=1)
    with pytest.raises(ValueError, match="sigma must be a positive number"):
        EvidenceRemoval(sigma=0)


@pytest.mark.parametrize(
    "limits",
    [
        ([float("nan")], [1.0]),
        ([0.0], [float("inf")]),
        ([1.0], [0.0]),
        ([0.0], [1.0, 1.0]),
        ([], []),
        ([0.0],),
        5,
    ],
)
def test_limits_must_be_finite_and_in_order(limits):
    with pytest.raises((ValueError, TypeError), match="^limits must "):
        EvidenceRemoval(limits=limits)
