"""MaskingModel and IterativeMask as Captum attributions."""

from itertools import product

import pytest
import torch
from contract import AttributionContract, SmallNet, images
from torch import nn

from captum_ext.attr import IterativeMask, MaskingModel
from captum_ext.attr.iterative_mask import _area_error, _cells
from captum_ext.masking import EvidenceRemoval, MaskingNetwork, SaliencyObjective
from captum_ext.masking.evidence_removal import blurred
from captum_ext.zoo import load, sign_scene


class TestIterativeMask(AttributionContract):
    # With a network this small, the area term would outweigh the scores.
    kwargs = {"n_steps": 8, "objective": SaliencyObjective((10, 1e-5, 5, 0.3))}

    def explainer(self, forward_func, net):
        return IterativeMask(forward_func)


class TestMaskingModel(AttributionContract):
    """The masking network takes the place of the contract's classifier."""

    network = MaskingNetwork(n_classes=3, width=8).eval()

    def explainer(self, forward_func, net):
        return MaskingModel(self.network)

    @pytest.mark.skip("classes are an argument of the network")
    def test_no_target_for_one_number_per_example(self):
        pass

    @pytest.mark.skip("the classifier is not called")
    def test_memory_format_is_passed_on_and_does_not_matter(self):
        pass

    def test_model_and_inputs_are_left_unchanged(self):
        network = MaskingNetwork(n_classes=3, width=8).train()
        before = {k: v.clone() for k, v in network.state_dict().items()}
        x = images().requires_grad_()
        maps = MaskingModel(network).attribute(x, target=1)
        assert network.training and not maps.requires_grad and x.grad is None
        for key, value in network.state_dict().items():
            assert torch.equal(value, before[key])
        assert all(p.grad is None and p.requires_grad for p in network.parameters())

    def test_model_is_left_unchanged_by_an_exception(self):
        network = MaskingNetwork(n_classes=3, width=8).eval()

        def fail(*_):
            raise KeyError("from the network")

        network.head.forward = fail
        with pytest.raises(KeyError, match="from the network"):
            MaskingModel(network).attribute(images(), target=1)
        assert torch.is_grad_enabled()

    def test_attribution_is_the_mask(self):
        x, target = images(), torch.tensor([2, 0, 1])
        maps = MaskingModel(self.network).attribute(x, target=target)
        with torch.no_grad():
            masks = self.network(x, target)
        # Other memory formats round differently.
        torch.testing.assert_close(maps, masks.expand_as(x))
        assert maps.min() >= 0 and maps.max() <= 1

    @pytest.mark.parametrize(
        "target",
        [None, 3, -4, [0, 1, 3], (0, 1), [(0, 1)] * 3, torch.tensor([0, 1, 9])],
    )
    def test_targets_that_are_not_classes(self, target):
        with pytest.raises(ValueError, match="target must be a class from 0 to 2"):
            MaskingModel(self.network).attribute(images(), target=target)

    def test_invalid_inputs_and_networks(self):
        with pytest.raises(ValueError, match="inputs must be images with 3 channels"):
            MaskingModel(self.network).attribute(torch.rand(1, 1, 8, 8), target=0)
        with pytest.raises(ValueError, match="inputs must be one tensor of images"):
            MaskingModel(self.network).attribute(torch.rand(1, 3), target=0)
        with pytest.raises(TypeError, match="network must be a MaskingNetwork"):
            MaskingModel(SmallNet())


class QuarterNet(nn.Module):
    """Two probabilities; the first is high where the upper left quarter is bright."""

    def forward(self, x):
        logit = 20 * (x[:, :, :8, :8].mean((1, 2, 3)) - 0.5)
        return torch.stack([logit, -logit], 1).softmax(1)


def test_iterative_mask_covers_the_pixels_that_determine_the_score():
    x = torch.ones(1, 3, 16, 16)
    objective = SaliencyObjective(
        evidence_removal=EvidenceRemoval(limits=([0] * 3, [1] * 3))
    )
    mask = IterativeMask(QuarterNet()).attribute(x, 0, objective=objective)[0, 0]
    inside = mask[:8, :8].mean()
    outside = (mask.sum() - 64 * inside) / 192
    # Outside the quarter, the mask affects only the area term.
    assert inside > 3 * outside


def test_iterative_mask_minimizes_its_objective():
    """The last mask is better than the first, also with new alternative images."""
    entry, scene = load("signs"), sign_scene(3)
    x = entry.normalize(scene.image)[None]
    objective = SaliencyObjective()

    def probabilities(images):
        return entry.model(images).softmax(1)

    totals = []
    for n_steps in (1, 60):
        mask = IterativeMask(probabilities).attribute(
            x, scene.label, n_steps=n_steps, objective=objective
        )
        generators = [torch.Generator().manual_seed(100 + i) for i in range(8)]
        with torch.no_grad():
            terms = objective(
                entry.model,
                x.repeat(8, 1, 1, 1),
                mask[:, :1].repeat(8, 1, 1, 1),
                torch.full((8,), scene.label),
                generators,
            )
        totals.append(float(terms.total.mean()))
    assert totals[1] < 0.8 * totals[0]


def test_iterative_mask_refuses_scores_that_are_not_probabilities():
    x = torch.rand(1, 3, 8, 8)
    with pytest.raises(ValueError, match="must return probabilities"):
        IterativeMask(lambda x: 5 + x.mean((1, 2, 3))).attribute(x)
    with pytest.raises(ValueError, match="without a gradient"):
        IterativeMask(lambda x: torch.full((len(x),), 0.5)).attribute(x)
    with pytest.raises(ValueError, match="one number for each of the 2 examples"):
        IterativeMask(lambda x: x.mean().sigmoid()).attribute(x)


class ShareNet(nn.Module):
    """One probability, which grows with the brightness of the upper left quarter."""

    def forward(self, x):
        return 0.02 + 0.96 * x[:, :, :8, :8].mean((1, 2, 3))


OF_QUARTER = SaliencyObjective(
    evidence_removal=EvidenceRemoval(limits=([0] * 3, [1] * 3))
)
# Half of an image that scores half costs less than it is worth.
SMALL_AREA = SaliencyObjective(
    (10, 1e-4, 5, 0.3), evidence_removal=OF_QUARTER.evidence_removal
)


@pytest.mark.parametrize("goal", ["preserve", "delete"])
def test_one_goal_alone_covers_the_pixels_that_determine_the_score(goal):
    x = torch.ones(1, 3, 16, 16)
    mask = IterativeMask(ShareNet()).attribute(
        x, objective=SMALL_AREA, goal=goal, mask_stride=4, n_steps=100
    )[0, 0]
    assert mask[:8, :8].mean() > 3 * mask[8:, 8:].mean()


@pytest.mark.parametrize("goal, n", [("both", 2), ("preserve", 1), ("delete", 1)])
def test_a_goal_takes_its_own_passes(goal, n):
    seen = []

    def probabilities(x):
        seen.append(x)
        return x.flatten(1).mean(1).sigmoid()

    x = torch.rand(3, 3, 8, 8)
    IterativeMask(probabilities).attribute(x, goal=goal, n_steps=2)
    assert [len(each) for each in seen] == [3 * n] * 2


def test_terms_of_one_goal_are_those_of_both_without_the_other():
    """With blur alone, since random colors would be drawn in another order."""
    objective = SaliencyObjective(evidence_removal=EvidenceRemoval(blur_probability=1))
    x, masks = images(), torch.rand(3, 1, 12, 14)
    net = SmallNet()
    generators = [torch.Generator().manual_seed(i) for i in range(3)]

    def terms(goal):
        def log_probability(edited):
            return net(edited)[:, 1].log()

        return objective.terms(log_probability, x, masks, generators, goal)

    both, preserve, delete = map(terms, ("both", "preserve", "delete"))
    none = torch.zeros(3)
    expected = (
        (preserve, both._replace(destruction=none)),
        (delete, both._replace(preservation=none)),
    )
    for one, other in expected:
        for part, same in zip(one, other):
            torch.testing.assert_close(part, same)


@pytest.mark.parametrize("area", [0.1, 0.25, 0.6])
def test_area_of_a_mask(area):
    """Masks are almost binary and cover the share that was asked for."""
    x = torch.ones(1, 3, 16, 16)
    mask = IterativeMask(ShareNet()).attribute(
        x, objective=OF_QUARTER, area=area, mask_stride=1, n_steps=200
    )[0, 0]
    covered = mask > 0.5
    assert float(covered.float().mean()) == pytest.approx(area, abs=0.05)
    assert float((mask - covered.float()).abs().mean()) < 0.1
    # What the score needs comes first.
    share = min(area, 0.25)
    assert covered[:8, :8].float().mean() * 0.25 > 0.75 * share


def test_area_error_is_that_of_the_best_binary_mask():
    """Over all binary masks of the area, the nearest one: by enumeration."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(1, 1, 2, 4, generator=generator)
    binary = torch.tensor(list(product([0.0, 1.0], repeat=8))).view(-1, 1, 2, 4)
    of_area = binary[binary.mean((1, 2, 3)) == 0.375]
    nearest = (of_area - mask).square().mean((1, 2, 3)).amin()
    torch.testing.assert_close(_area_error(mask, 0.375)[0], nearest)


def test_cells_of_the_mask_follow_the_size_of_the_image():
    assert _cells(None, (224, 224)) == (7, 7)
    assert _cells(None, (448, 448)) == (7, 7)
    assert _cells(None, (28, 56)) == (7, 14)
    # Not more cells than pixels.
    assert _cells(None, (4, 6)) == (4, 6)
    assert _cells(4, (224, 112)) == (56, 28)
    x = torch.rand(1, 3, 28, 28)
    net = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28 * 3, 2), nn.Softmax(1))
    of = IterativeMask(net)
    assert torch.equal(
        of.attribute(x, 1, n_steps=3), of.attribute(x, 1, n_steps=3, mask_stride=4)
    )


def test_blur_alone_removes_nothing_else():
    x = images()
    generators = [torch.Generator().manual_seed(i) for i in range(3)]
    phi = EvidenceRemoval(sigma=3, blur_probability=1)
    torch.testing.assert_close(phi.alternatives(x, generators), blurred(x, 3))
    never = EvidenceRemoval(noise=0, blur_probability=0)
    colors = never.alternatives(x, generators)
    assert torch.equal(colors, colors[..., :1, :1].expand_as(x))


@pytest.mark.parametrize(
    "argument, match",
    [
        ({"goal": "keep"}, "goal must be one of 'both', 'preserve', 'delete'"),
        ({"area": 1.0}, "area must lie strictly between 0 and 1"),
        ({"area": 0}, "area must lie strictly between 0 and 1"),
        ({"mask_stride": 0}, "mask_stride must be at least 1"),
    ],
)
def test_iterative_mask_refuses_values_out_of_range(argument, match):
    with pytest.raises(ValueError, match=match):
        IterativeMask(SmallNet()).attribute(images(), 1, **argument)


def test_blur_probability_out_of_range():
    with pytest.raises(
        ValueError, match="blur_probability must be a number from 0 to 1"
    ):
        EvidenceRemoval(blur_probability=1.5)
