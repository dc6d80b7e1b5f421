"""Evidence removal: replaces the parts of an image outside a mask (Eq. 6)."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from captum_ext._type_checks import check_numbers, check_sequence
from captum_ext._validation import check_not_negative, check_positive, check_share

__all__ = ["EvidenceRemoval", "blurred", "edited"]


def edited(inputs: Tensor, masks: Tensor, alternatives: Tensor) -> Tensor:
    r"""Eq. 6 for given alternative images.

    .. math:: \Phi(X, M) = X \odot M + A \odot (1 - M).

    Args:
        inputs (Tensor): X, (B, C, H, W).
        masks (Tensor): M, (B, 1, H, W) in [0, 1].
        alternatives (Tensor): A, in the shape of X.

    Returns:
        *Tensor*: Phi(X, M) in the shape of X.

    Examples::

        >>> X, A = torch.full((1, 1, 1, 2), 8.0), torch.zeros(1, 1, 1, 2)
        >>> edited(X, torch.tensor([[[[1.0, 0.25]]]]), A)
        tensor([[[[8., 2.]]]])
    """
    return inputs * masks + alternatives * (1 - masks)


def blurred(inputs: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of torchvision, truncated at three sigma, as matrix products.

    A Gaussian blur is linear and separable. Two identity matrices are blurred instead
    of the images, which are then multiplied by them: much faster for large sigma.

    Args:
        inputs (Tensor): Images, (B, C, H, W).
        sigma (float): Standard deviation in pixels.

    Returns:
        *Tensor*: Blurred images in the same shape.

    Examples::

        >>> blurred(torch.ones(1, 3, 8, 8), sigma=10).shape
        torch.Size([1, 3, 8, 8])
    """
    rows, columns = (_blur_matrix(n, sigma, inputs) for n in inputs.shape[2:])
    return rows @ inputs @ columns.mT


def _blur_matrix(n: int, sigma: float, like: Tensor) -> Tensor:
    """Matrix (n, n) that blurs n values."""
    from torchvision.transforms.v2.functional import gaussian_blur

    # Reflection padding must be smaller than the image.
    reach = min(math.ceil(3 * sigma), n - 1)
    identity = torch.eye(n, dtype=like.dtype, device=like.device)
    return gaussian_blur(identity[None], [1, 2 * reach + 1], [sigma, sigma])[0]


class EvidenceRemoval:
    r"""Phi of Eq. 6, with a new random alternative image in every call.

    With probability 1/2 the alternative is the strongly blurred image, otherwise a
    random color with Gaussian noise, so a network cannot adapt to one replacement.
    ``blur_probability=1`` only blurs, as Fong and Vedaldi do.

    Args:
        sigma (float, optional): Standard deviation of the blur in pixels. Default: 10
        noise (float, optional): Standard deviation of the noise, as a share of the
            range of a channel. Default: 0.2
        limits (tuple[sequence of float, sequence of float], optional): Minimum and
            maximum of each channel, between which colors are drawn: ``-mean / std``
            and ``(1 - mean) / std`` for normalized images. Default: None (minimum and
            maximum of each image)
        blur_probability (float, optional): Probability of the blurred image, from 0
            to 1. Default: 0.5

    Examples::

        >>> phi = EvidenceRemoval()
        >>> generators = [torch.Generator().manual_seed(i) for i in range(2)]
        >>> phi(torch.rand(2, 3, 32, 32), torch.rand(2, 1, 32, 32), generators).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self,
        sigma: float = 10,
        noise: float = 0.2,
        limits: tuple[Sequence[float], Sequence[float]] | None = None,
        blur_probability: float = 0.5,
    ) -> None:
        self.sigma = check_positive("sigma", sigma)
        self.noise = check_not_negative("noise", noise)
        self.limits = None if limits is None else _check_limits(limits)
        self.blur_probability = check_share("blur_probability", blur_probability)

    @classmethod
    def of_normalized(
        cls, mean: Sequence[float], std: Sequence[float]
    ) -> "EvidenceRemoval":
        """Create Phi for normalized images, with the color range of such images.

        Args:
            mean (sequence of float): Mean of the normalization, per channel.
            std (sequence of float): Standard deviation of the normalization, per
                channel.

        Returns:
            *EvidenceRemoval*: Phi with the limits of normalized images.

        Examples::

            >>> EvidenceRemoval.of_normalized([0.5], [0.25]).limits
            ((-2.0,), (2.0,))
        """
        mean = check_numbers("mean", mean).tolist()
        std = check_numbers("std", std, len(mean)).tolist()
        if not min(std) > 0:
            raise ValueError(f"std must be positive, got {std}.")
        low = [-m / s for m, s in zip(mean, std)]
        high = [(1 - m) / s for m, s in zip(mean, std)]
        return cls(limits=(low, high))

    def __call__(
        self, inputs: Tensor, masks: Tensor, generators: Sequence[Generator]
    ) -> Tensor:
        """Replace the parts of the images outside the masks.

        Args:
            inputs (Tensor): X, (B, C, H, W).
            masks (Tensor): M, (B, 1, H, W) in [0, 1].
            generators (sequence of Generator): One per example, on the CPU.

        Returns:
            *Tensor*: Phi(X, M), in the shape and memory format of X.
        """
        return edited(inputs, masks, self.alternatives(inputs, generators))

    @torch.no_grad()
    def alternatives(self, inputs: Tensor, generators: Sequence[Generator]) -> Tensor:
        """Draw alternative images.

        Args:
            inputs (Tensor): X, (B, C, H, W).
            generators (sequence of Generator): One per example, on the CPU. The
                alternative of an example depends on its own generator only.

        Returns:
            *Tensor*: A, in the shape and memory format of X.
        """
        low, high = self._limits(inputs)
        drawn = torch.empty_like(inputs)
        to_blur = []
        for i, generator in enumerate(generators):
            coin, *color = torch.rand(1 + inputs.shape[1], generator=generator).tolist()
            seed = int(torch.randint(2**62, (1,), generator=generator))
            if coin < self.blur_probability:
                to_blur.append(i)
            else:
                noise = torch.randn(
                    inputs.shape[1:],
                    generator=Generator(inputs.device).manual_seed(seed),
                    device=inputs.device,
                )
                shade = torch.tensor(color, device=inputs.device)[:, None, None]
                unit = (shade + self.noise * noise).to(inputs.dtype)
                drawn[i] = low[i] + (high[i] - low[i]) * unit
        # Numbers of examples, since a GPU has to be waited for to index by a mask.
        chosen = torch.tensor(to_blur, dtype=torch.long, device=inputs.device)
        drawn[chosen] = blurred(inputs[chosen], self.sigma).to(inputs.dtype)
        return drawn

    def _limits(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Minimum and maximum of each channel, (B, C, 1, 1) each."""
        if self.limits is not None and len(self.limits[0]) != inputs.shape[1]:
            raise ValueError(
                f"limits must hold a number for each of {inputs.shape[1]} channels, "
                f"got {len(self.limits[0])}."
            )
        if self.limits is None:
            return inputs.amin((2, 3), True), inputs.amax((2, 3), True)
        low, high = (
            torch.tensor(values, dtype=inputs.dtype, device=inputs.device)
            .view(1, -1, 1, 1)
            .expand(*inputs.shape[:2], 1, 1)
            for values in self.limits
        )
        return low, high


def _check_limits(
    limits: tuple[Sequence[float], Sequence[float]],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Minimum and maximum of each channel in plain numbers."""
    ends = check_sequence("limits", limits, "minimums and maximums")
    if len(ends) != 2:
        raise ValueError(
            f"limits must hold minimums and maximums of channels, got {len(ends)}."
        )
    low, high = (check_numbers("limits", each) for each in ends)
    if low.shape != high.shape or not len(low) or not (low <= high).all():
        raise ValueError(
            f"limits must hold a minimum and a larger maximum of each channel, got "
            f"{low.tolist()} and {high.tolist()}."
        )
    return tuple(low.tolist()), tuple(high.tolist())
