"""MaskingModel and IterativeMask as Captum attributions."""

import pytest
import torch
from contract import AttributionContract, SmallNet, images
from torch import nn

from captum_ext.attr import IterativeMask, MaskingModel
from captum_ext.masking import EvidenceRemoval, MaskingNetwork, SaliencyObjective
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
