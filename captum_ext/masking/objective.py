"""Training objective of a mask: Eq. 4, term by term."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from captum_ext._activations import ACTIVATIONS, Activation, log_probabilities
from captum_ext._outputs import output_tensor
from captum_ext._type_checks import check_instance, check_numbers
from captum_ext._validation import (
    check_choice,
    check_not_negative,
    check_positive,
    check_share,
)
from captum_ext.masking.evidence_removal import EvidenceRemoval

__all__ = ["GOALS", "Goal", "SaliencyObjective", "SaliencyTerms", "total_variation"]

LogProbability = Callable[[Tensor], Tensor]
Goal = Literal["both", "preserve", "delete"]
GOALS: tuple[Goal, ...] = ("both", "preserve", "delete")


class SaliencyTerms(NamedTuple):
    """Weighted terms of the objective, one number per example, (B,).

    Attributes:
        smoothness (Tensor): lambda_1 TV(M) / n.
        area (Tensor): n lambda_2 AV(M).
        preservation (Tensor): -log f_c(Phi(X, M)).
        destruction (Tensor): lambda_3 f_c(Phi(X, 1 - M)) ** lambda_4.
        selection (Tensor): Auxiliary loss on the class embedding (Section 4.1).
        distillation (Tensor): Cross-entropy between the mask and a given map.
    """

    smoothness: Tensor
    area: Tensor
    preservation: Tensor
    destruction: Tensor
    selection: Tensor
    distillation: Tensor

    @property
    def total(self) -> Tensor:
        """Sum of all terms, (B,)."""
        return torch.stack(self).sum(0)


def total_variation(masks: Tensor) -> Tensor:
    r"""Eq. 5: squared differences of neighbors, summed over all pixels.

    .. math::
        TV(M) = \sum_{ij} (M_{ij} - M_{i+1,j})^2 + \sum_{ij} (M_{ij} - M_{i,j+1})^2.

    Resizing a smooth mask hardly changes it.

    Args:
        masks (Tensor): M, (B, 1, H, W).

    Returns:
        *Tensor*: TV(M), (B,).

    Examples::

        >>> total_variation(torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]]))
        tensor([1.5000])
    """
    down = masks[..., 1:, :] - masks[..., :-1, :]
    right = masks[..., :, 1:] - masks[..., :, :-1]
    return down.square().sum((1, 2, 3)) + right.square().sum((1, 2, 3))


class SaliencyObjective:
    r"""Eq. 4: a mask that is smooth, small, sufficient and necessary.

    .. math::
        L(M) &= \frac{\lambda_1}{n} TV(M) + n \lambda_2 AV(M) \\
             &\quad - \log f_c(\Phi(X, M)) \\
             &\quad + \lambda_3 f_c(\Phi(X, 1 - M))^{\lambda_4}.

    f_c is the probability of the class, Phi removes evidence
    (:class:`~captum_ext.masking.EvidenceRemoval`), TV is the sum over pixels of Eq. 5
    and AV the mean over pixels.

    **Scale of the sums over pixels.** The paper prints the formula with n = 1. With its
    :math:`\lambda_1 = 10` and :math:`\lambda_2 = 10^{-3}`, the best mask then keeps the
    whole image: every edge costs more than it gains, and area costs almost nothing. The
    printed weights fit a TV averaged over n pixels and an area summed over n pixels.
    Here n is 10,000 for images of any size, since TV (of a smooth mask) and AV do not
    depend on the size: :math:`10^{-3} TV(M) + 10 AV(M)`. ``pixels=1`` gives the formula
    as printed.

    **Distillation**, which is not in the paper: a network can learn to draw in one pass
    the maps T of a slower method, for which training needs no pass of the classifier.
    With a share w of ``distillation``

    .. math::
        (1 - w) L(M) - w \, \operatorname{mean}[T \log M + (1 - T) \log(1 - M)]

    and the auxiliary loss are minimized, where T is zero for a class that the image
    does not show.

    Args:
        lambdas (tuple of float, optional): lambda_1 to lambda_4.
            Default: (10, 1e-3, 5, 0.3), as in the paper
        pixels (float, optional): Number of pixels n in the formula. Default: 10000
        fake_probability (float, optional): Probability that training requests the mask
            of a fake class, not the image's own, where only the area counts.
            Default: 0.3
        selection_weight (float, optional): Weight of the auxiliary loss on the
            embedding. Classes that are hard to distinguish need a larger one if the
            encoder is trained. Default: 3
        evidence_removal (EvidenceRemoval, optional): Phi. Default: None (Phi of the
            paper)
        activation (str, optional): What turns the classifier's logits into
            probabilities f_c: "softmax", "sigmoid" for independent classes, or
            "identity". Default: "softmax"
        absent_weight (float, optional): Factor of the area of the mask of a fake class.
            Above 1 it keeps masks of absent classes small where the area is cheap.
            Default: 1
        distillation (float, optional): Share w of the distillation, from 0 to 1, where
            the classifier is not called. It needs a data set with maps.
            Default: 0 (Eq. 4 alone)

    Examples::

        >>> objective = SaliencyObjective()
        >>> generators = [torch.Generator().manual_seed(i) for i in range(2)]
        >>> x, masks = torch.rand(2, 3, 16, 16), torch.rand(2, 1, 16, 16)
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
        >>> terms = objective(model, x, masks, torch.tensor([0, 3]), generators)
        >>> terms.total.shape, terms.selection
        (torch.Size([2]), tensor([0., 0.]))
    """

    def __init__(
        self,
        lambdas: tuple[float, float, float, float] = (10, 1e-3, 5, 0.3),
        pixels: float = 10_000,
        fake_probability: float = 0.3,
        selection_weight: float = 3,
        evidence_removal: EvidenceRemoval | None = None,
        activation: Activation = "softmax",
        absent_weight: float = 1,
        distillation: float = 0,
    ) -> None:
        check_choice("activation", activation, ACTIVATIONS)
        weights = check_numbers("lambdas", lambdas, 4).tolist()
        self.lambdas = tuple(check_not_negative("lambdas", each) for each in weights)
        self.pixels = check_positive("pixels", pixels)
        self.selection_weight = check_not_negative("selection_weight", selection_weight)
        self.fake_probability = check_not_negative("fake_probability", fake_probability)
        if self.fake_probability >= 1:
            raise ValueError(
                f"fake_probability must be at least 0 and below 1, got "
                f"{fake_probability}."
            )
        if evidence_removal is None:
            evidence_removal = EvidenceRemoval()
        check_instance("evidence_removal", evidence_removal, EvidenceRemoval)
        self.evidence_removal = evidence_removal
        self.activation = activation
        self.absent_weight = check_not_negative("absent_weight", absent_weight)
        self.distillation = check_share("distillation", distillation)

    @property
    def settings(self) -> dict[str, object]:
        """Everything that determines the values of the objective, in plain types."""
        phi = self.evidence_removal
        return {
            "lambdas": list(self.lambdas),
            "pixels": self.pixels,
            "fake_probability": self.fake_probability,
            "selection_weight": self.selection_weight,
            "sigma": phi.sigma,
            "noise": phi.noise,
            "limits": phi.limits and [list(values) for values in phi.limits],
            "blur_probability": phi.blur_probability,
            "activation": self.activation,
            "absent_weight": self.absent_weight,
            "distillation": self.distillation,
        }

    def __call__(
        self,
        black_box: Callable[[Tensor], Tensor],
        inputs: Tensor,
        masks: Tensor,
        target: Tensor,
        generators: Sequence[Generator],
        labels: Tensor | None = None,
        class_logits: Tensor | None = None,
        maps: Tensor | None = None,
    ) -> SaliencyTerms:
        """Compute the terms for a classifier during training.

        Args:
            black_box (Callable): Function that returns logits (B, classes) of images.
            inputs (Tensor): X, (B, C, H, W).
            masks (Tensor): M, (B, 1, H, W) in [0, 1].
            target (Tensor): Class of each mask, (B,) integers.
            generators (sequence of Generator): One per example, on the CPU, for the
                alternative images.
            labels (Tensor, optional): Class of each image, (B,). If the class of a mask
                is another one, a fake class, only the area of the mask counts, and the
                classifier is not called. Default: None (``target``)
            class_logits (Tensor, optional): Logits of all classes in the feature filter
                (Eq. 7), (B, classes). The auxiliary loss raises their sigmoid for the
                image's class and lowers it for all others. Default: None (no auxiliary
                loss)
            maps (Tensor, optional): Maps T of the images' classes, (B, 1, H, W) in
                [0, 1], for distillation. Default: None

        Returns:
            *SaliencyTerms*: Terms (B,), 0 where a term does not apply.

        Raises:
            ValueError: If there is a distillation without maps.
        """
        labels = target if labels is None else labels
        real = target == labels
        chosen = target[real].repeat(2)

        def log_probability(images: Tensor) -> Tensor:
            logits = output_tensor(black_box(images), "black_box")
            _check_logits(logits, len(images), class_logits)
            every = log_probabilities(logits.to(inputs.dtype), self.activation)
            return every.gather(1, chosen[:, None])[:, 0]

        share, none = self.distillation, masks.new_zeros(len(masks))
        distillation, eq_4 = none, [none] * 4
        if share > 0:
            distillation = share * _cross_entropy(masks, maps, real)
        if share < 1:
            found = self._eq_4(log_probability, inputs, masks, real, generators)
            eq_4 = [(1 - share) * each for each in found]
        smoothness, area, preservation, destruction = eq_4
        selection = self._selection(class_logits, labels, none)
        return SaliencyTerms(
            smoothness, area, preservation, destruction, selection, distillation
        )

    def _eq_4(
        self,
        log_probability: LogProbability,
        inputs: Tensor,
        masks: Tensor,
        real: Tensor,
        generators: Sequence[Generator],
    ) -> list[Tensor]:
        """The terms of Eq. 4 in the order of the formula; of a fake class the area."""
        area = self.area(masks)
        area = torch.where(real, area, self.absent_weight * area)
        parts = [torch.zeros_like(area)] * 3
        indices = real.nonzero()[:, 0]
        if len(indices):
            terms = self.terms(
                log_probability,
                inputs[indices],
                masks[indices],
                [generators[i] for i in indices.tolist()],
            )
            parts = [
                torch.zeros_like(area).index_put((indices,), each)
                for each in (terms.smoothness, terms.preservation, terms.destruction)
            ]
        return [parts[0], area, *parts[1:]]

    def terms(
        self,
        log_probability: LogProbability,
        inputs: Tensor,
        masks: Tensor,
        generators: Sequence[Generator],
        goal: Goal = "both",
    ) -> SaliencyTerms:
        """Compute the terms of Eq. 4 for any function that returns log f_c.

        Args:
            log_probability (Callable): Function that returns log f_c (2 B,) of 2 B
                images: all Phi(X, M), then all Phi(X, 1 - M). With one goal it gets
                the B images of that goal.
            inputs (Tensor): X, (B, C, H, W).
            masks (Tensor): M, (B, 1, H, W) in [0, 1].
            generators (sequence of Generator): One per example, on the CPU.
            goal (str, optional): "preserve" for the score of Phi(X, M) alone, "delete"
                for that of Phi(X, 1 - M) alone, or "both". Default: "both"

        Returns:
            *SaliencyTerms*: Terms (B,); the auxiliary loss and the distillation are 0,
            and so is the term of a score that is left out.
        """
        kept = {
            "both": (masks, 1 - masks),
            "preserve": (masks,),
            "delete": (1 - masks,),
        }
        edited = [self.evidence_removal(inputs, m, generators) for m in kept[goal]]
        scores = log_probability(torch.cat(edited)).chunk(len(edited))
        lambda_1, _, lambda_3, lambda_4 = self.lambdas
        area = self.area(masks)
        none = torch.zeros_like(area)
        return SaliencyTerms(
            lambda_1 / self.pixels * total_variation(masks),
            area,
            none if goal == "delete" else -scores[0],
            none if goal == "preserve" else lambda_3 * (lambda_4 * scores[-1]).exp(),
            none,
            none,
        )

    def area(self, masks: Tensor) -> Tensor:
        """Area term n lambda_2 AV(M) of masks (B, 1, H, W), (B,)."""
        return self.pixels * self.lambdas[1] * masks.mean((1, 2, 3))

    def _selection(
        self, class_logits: Tensor | None, labels: Tensor, like: Tensor
    ) -> Tensor:
        """Loss of the image's class, plus the mean loss over all other classes."""
        if class_logits is None:
            return torch.zeros_like(like)
        logits = class_logits.to(like.dtype)
        own = labels[:, None]
        others = F.logsigmoid(-logits).scatter(1, own, 0).sum(1)
        present = F.logsigmoid(logits.gather(1, own))[:, 0]
        return -self.selection_weight * (present + others / (logits.shape[1] - 1))


def _cross_entropy(masks: Tensor, maps: Tensor | None, real: Tensor) -> Tensor:
    """Mean cross-entropy (B,) between masks and maps, zero maps for fake classes."""
    if maps is None or maps.shape != masks.shape:
        found = (
            "none" if maps is None else f"{len(maps)} of shape {tuple(maps.shape[1:])}"
        )
        raise ValueError(
            f"dataset must hold a map {tuple(masks.shape[1:])} beside each of "
            f"{len(masks)} images for distillation, got {found}."
        )
    expected = maps.to(masks) * real[:, None, None, None]
    # Not torch's own, which autocast refuses and which counts log(0) as -100.
    tiny = torch.finfo(masks.dtype).eps
    kept, left = masks.clamp_min(tiny).log(), (1 - masks).clamp_min(tiny).log()
    return -(expected * kept + (1 - expected) * left).mean((1, 2, 3))


def _check_logits(logits: object, n: int, class_logits: Tensor | None) -> Tensor:
    """Logits (n, classes) of a classifier, of the classes that the network has."""
    n_classes = None if class_logits is None else class_logits.shape[1]
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"black_box must return logits, a tensor ({n}, {n_classes or 'classes'}), "
            f"got {type(logits).__name__}."
        )
    if logits.dim() != 2 or logits.shape != (n, n_classes or logits.shape[1]):
        raise ValueError(
            f"black_box must return logits ({n}, {n_classes or 'classes'}), got shape "
            f"{tuple(logits.shape)}."
        )
    return logits
