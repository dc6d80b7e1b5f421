"""What a mask has to be: Eq. 4, term by term."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from captum_ext._validation import check_not_negative, check_positive
from captum_ext.masking.evidence import EvidenceRemoval

__all__ = ["SaliencyObjective", "SaliencyTerms", "total_variation"]

LogProbability = Callable[[Tensor], Tensor]


class SaliencyTerms(NamedTuple):
    """The terms of the objective as they enter its sum, one number an example, (B,).

    Attributes:
        smoothness (Tensor): lambda_1 TV(M), scaled.
        area (Tensor): lambda_2 AV(M), scaled.
        preservation (Tensor): -log f_c(Phi(X, M)).
        destruction (Tensor): lambda_3 f_c(Phi(X, 1 - M)) ** lambda_4.
        selection (Tensor): The auxiliary loss on the embedding of Section 4.1.
    """

    smoothness: Tensor
    area: Tensor
    preservation: Tensor
    destruction: Tensor
    selection: Tensor

    @property
    def total(self) -> Tensor:
        """L(M), and the auxiliary loss, (B,)."""
        return torch.stack(self).sum(0)


def total_variation(masks: Tensor) -> Tensor:
    r"""Eq. 5: squared differences of neighbors, summed over all pixels.

    .. math::
        TV(M) = \sum_{ij} (M_{ij} - M_{i+1,j})^2 + \sum_{ij} (M_{ij} - M_{i,j+1})^2.

    Enlarging a smooth mask leaves it nearly as it is.

    Args:
        masks (Tensor): M, (B, 1, H, W).

    Returns:
        *Tensor*: (B,).

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
        L(M) = \frac{\lambda_1}{n} TV(M) + n \lambda_2 AV(M) - \log f_c(\Phi(X, M))
               + \lambda_3 f_c(\Phi(X, 1 - M))^{\lambda_4}.

    f_c is the probability of the class, Phi removes evidence
    (:class:`~captum_ext.masking.EvidenceRemoval`), TV is the sum over pixels of Eq. 5
    and AV the mean over pixels.

    **How sums over pixels are scaled.** The paper prints the formula with n = 1. With
    its :math:`\lambda_1 = 10` and :math:`\lambda_2 = 10^{-3}` the best mask then keeps
    the whole image: no edge is worth its price, and area costs nothing. They are
    weights of a TV that is averaged over n pixels and an area that is summed over n
    pixels. Here n is 10,000 for images of any size, since TV (of a smooth mask) and
    AV do not depend on the size: :math:`10^{-3} TV(M) + 10 AV(M)`. ``pixels=1`` gives
    the formula as printed.

    Args:
        lambdas (tuple of float, optional): lambda_1 to lambda_4.
            Default: (10, 1e-3, 5, 0.3), as in the paper
        pixels (float, optional): n. Default: 10000
        fake_probability (float, optional): How often training asks for a class that is
            not the image's, for which the area alone counts. Default: 0.3
        selection_weight (float, optional): Of the auxiliary loss on the embedding. An
            encoder that is trained along on classes that are hard to tell needs more.
            Default: 3
        evidence_removal (EvidenceRemoval, optional): Phi. Default: None (as in the
            paper)

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
    ) -> None:
        if len(lambdas) != 4:
            raise ValueError(f"lambdas must be four numbers, got {lambdas!r}.")
        for value in lambdas:
            check_not_negative("lambdas", value)
        check_positive("pixels", pixels)
        check_not_negative("selection_weight", selection_weight)
        if not 0 <= fake_probability < 1:
            raise ValueError(
                f"fake_probability must be at least 0 and below 1, got "
                f"{fake_probability}."
            )
        self.lambdas = tuple(map(float, lambdas))
        self.pixels = float(pixels)
        self.fake_probability = float(fake_probability)
        self.selection_weight = float(selection_weight)
        self.evidence_removal = evidence_removal or EvidenceRemoval()

    @property
    def settings(self) -> dict[str, object]:
        """All that determines its values, in plain types."""
        phi = self.evidence_removal
        return {
            "lambdas": list(self.lambdas),
            "pixels": self.pixels,
            "fake_probability": self.fake_probability,
            "selection_weight": self.selection_weight,
            "sigma": phi.sigma,
            "noise": phi.noise,
            "limits": phi.limits and [list(values) for values in phi.limits],
        }

    def __call__(
        self,
        black_box: Callable[[Tensor], Tensor],
        inputs: Tensor,
        masks: Tensor,
        target: Tensor,
        generators: Sequence[Generator],
        labels: Tensor | None = None,
        evidence: Tensor | None = None,
    ) -> SaliencyTerms:
        """The terms for a classifier, as training needs them.

        Args:
            black_box (Callable): Logits (B, classes) of images.
            inputs (Tensor): X, (B, C, H, W).
            masks (Tensor): M, (B, 1, H, W) in [0, 1].
            target (Tensor): The class of each mask, (B,) integers.
            generators (sequence of Generator): One for each example, on the CPU, for
                alternative images.
            labels (Tensor, optional): The classes of the images, (B,). Where a mask
                was asked for another class, a fake one, only its area counts, and the
                classifier is not asked. Default: None (those of the masks)
            evidence (Tensor, optional): What the feature filter found of every class,
                (B, classes): its sigmoid has to be high for the image's class and low
                for all others. Default: None (no auxiliary loss)

        Returns:
            *SaliencyTerms*: One number an example each, (B,); 0 where one does not
            apply.
        """
        labels = target if labels is None else labels
        real = (target == labels).nonzero()[:, 0]
        chosen = target[real].repeat(2)

        def log_probability(images: Tensor) -> Tensor:
            logits = black_box(images).to(inputs.dtype)
            return logits.log_softmax(1).gather(1, chosen[:, None])[:, 0]

        area = self.area(masks)
        parts = [torch.zeros_like(area)] * 3
        if len(real):
            found = self.of_right_class(
                log_probability,
                inputs[real],
                masks[real],
                [generators[i] for i in real.tolist()],
            )
            smoothness, _, preservation, destruction, _ = found
            parts = [
                torch.zeros_like(area).index_put((real,), each)
                for each in (smoothness, preservation, destruction)
            ]
        return SaliencyTerms(
            parts[0], area, parts[1], parts[2], self._selection(evidence, labels, area)
        )

    def of_right_class(
        self,
        log_probability: LogProbability,
        inputs: Tensor,
        masks: Tensor,
        generators: Sequence[Generator],
    ) -> SaliencyTerms:
        """The terms of Eq. 4 for any function that gives log f_c.

        Args:
            log_probability (Callable): log f_c (2 B,) of 2 B images: all that are
                preserved, then all that are destroyed.
            inputs (Tensor): X, (B, C, H, W).
            masks (Tensor): M, (B, 1, H, W) in [0, 1].
            generators (sequence of Generator): One for each example, on the CPU.

        Returns:
            *SaliencyTerms*: (B,) each; the auxiliary loss is 0.
        """
        both = torch.cat(
            [
                self.evidence_removal(inputs, masks, generators),
                self.evidence_removal(inputs, 1 - masks, generators),
            ]
        )
        preserved, destroyed = log_probability(both).chunk(2)
        lambda_1, _, lambda_3, lambda_4 = self.lambdas
        area = self.area(masks)
        return SaliencyTerms(
            lambda_1 / self.pixels * total_variation(masks),
            area,
            -preserved,
            lambda_3 * (lambda_4 * destroyed).exp(),
            torch.zeros_like(area),
        )

    def area(self, masks: Tensor) -> Tensor:
        """The scaled area of masks (B, 1, H, W), (B,)."""
        return self.pixels * self.lambdas[1] * masks.mean((1, 2, 3))

    def _selection(
        self, evidence: Tensor | None, labels: Tensor, like: Tensor
    ) -> Tensor:
        """Mean over all classes that could be asked for in place of the right one."""
        if evidence is None:
            return torch.zeros_like(like)
        evidence = evidence.to(like.dtype)
        right = labels[:, None]
        absent = F.logsigmoid(-evidence).scatter(1, right, 0).sum(1)
        found = F.logsigmoid(evidence.gather(1, right))[:, 0]
        return -self.selection_weight * (found + absent / (evidence.shape[1] - 1))
