"""Decoder of the masking network: the blocks of the paper's Figure 4.

The feature filter and the upsampling blocks with their bottlenecks, from the encoder's
coarsest maps to the two channels that make the mask.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_ext.masking.cpu_fast_paths import ConvolutionStack, DoublingConvolution
from captum_ext.masking.normalization import SharedBatchNorm

__all__ = [
    "Bottleneck",
    "FeatureFilter",
    "UpsamplingBlock",
    "class_weights",
    "mask_of_channels",
]


class FeatureFilter(nn.Module):
    r"""Eq. 7: attenuates positions that do not match the class.

    .. math:: Y_{ij} = X_{ij} \, \sigma(X_{ij}^T C_s).

    Args:
        n_classes (int): Number of classes.
        channels (int): Channels of the maps X, the length of an embedding C_s.
        C (Tensor, optional): Initial embeddings, (n_classes, channels).
            Default: None (random)
    """

    def __init__(self, n_classes: int, channels: int, C: Tensor | None = None) -> None:
        super().__init__()
        if C is not None:
            initial = C.detach().cpu().float().clone()
            self.embedding = nn.Embedding.from_pretrained(initial, freeze=False)
            return
        self.embedding = nn.Embedding(n_classes, channels)
        # Long embeddings would saturate the sigmoid from the start.
        nn.init.normal_(self.embedding.weight, std=channels**-0.5)

    def forward(self, X: Tensor, target: Tensor) -> Tensor:
        """Y in the shape of X, (B, C, h, w)."""
        C = self.embedding(target)
        return X * torch.einsum("bchw,bc->bhw", X, C).sigmoid()[:, None]

    def class_logits(self, X: Tensor) -> Tensor:
        """Maximum of X_ij^T C_s over all positions for each class s, (B, classes)."""
        C = self.embedding.weight
        return torch.einsum("bchw,sc->bshw", X, C).amax((2, 3))


def class_weights(
    weights: Mapping[str, Tensor], n_classes: int, channels: int
) -> Tensor | None:
    """The last layer of a classifier as embeddings, if its shape fits.

    Where a classifier is linear in the mean of its last maps X over all positions, its
    logit of a class s is the mean of X_ij^T C_s, up to a bias. This is what Eq. 7 needs
    of an embedding, for every class, before any training. Another layer of the same
    shape, or another set of as many classes, is no worse than random numbers.

    Args:
        weights (Mapping): State dict of the classifier.
        n_classes (int): Number of classes.
        channels (int): Channels of the maps X.

    Returns:
        *Tensor* or None: C, the last entry of shape (n_classes, channels); None if
        there is none.

    Examples::

        >>> weights = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 2)).state_dict()
        >>> class_weights(weights, n_classes=2, channels=8).shape
        torch.Size([2, 8])
    """
    fitting = [w for w in weights.values() if w.shape == (n_classes, channels)]
    return fitting[-1] if fitting else None


class Bottleneck(nn.Module):
    """Residual block of a 1 x 1, a 3 x 3 and a 1 x 1 convolution.

    Args:
        n_in (int): Channels of all inputs together.
        n_out (int): Channels of the first input and of the result.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        n_inner = max(8, n_out // 4)
        self.residual = ConvolutionStack(
            nn.Conv2d(n_in, n_inner, 1, bias=False),
            SharedBatchNorm(n_inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_inner, n_inner, 3, padding=1, bias=False),
            SharedBatchNorm(n_inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_inner, n_out, 1, bias=False),
            SharedBatchNorm(n_out),
        )

    def forward(self, x: Tensor, *skips: Tensor) -> Tensor:
        """Maps (B, n_out, h, w) of the concatenation of x and skips; x is the shortcut.

        The sum and the ReLU are computed in place, for memory.
        """
        return self.residual(x, *skips).add_(x).relu_()


class UpsamplingBlock(nn.Module):
    """Doubles maps, concatenates the encoder's maps, and applies bottlenecks.

    The shortcut of the first bottleneck is the upsampled maps alone, which already have
    the right number of channels.

    Args:
        n_in (int): Channels of the coarse maps.
        n_skip (int): Channels of the encoder's maps.
        n_out (int): Channels of the result.
        n_bottlenecks (int): Number of bottlenecks, at least 1.
    """

    def __init__(self, n_in: int, n_skip: int, n_out: int, n_bottlenecks: int) -> None:
        super().__init__()
        self.upsample = DoublingConvolution(n_in, n_out)
        self.bottlenecks = nn.ModuleList(
            Bottleneck(n_out + n_skip if i == 0 else n_out, n_out)
            for i in range(n_bottlenecks)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Maps (B, n_out, h, w) at the size of the encoder's (B, n_skip, h, w)."""
        x = self.upsample(x)
        if x.shape[2:] != skip.shape[2:]:
            # The strides do not divide the side of the image.
            x = F.interpolate(x, skip.shape[2:], mode="bilinear")
        first, *others = self.bottlenecks
        x = first(x, skip)
        for bottleneck in others:
            x = bottleneck(x)
        return x


def mask_of_channels(channels: Tensor) -> Tensor:
    r"""Eq. 8: the mask computed from two channels.

    .. math:: M_s = \frac{|C_0|}{|C_0| + |C_1|}.

    Args:
        channels (Tensor): C_0 and C_1, (B, 2, h, w).

    Returns:
        *Tensor*: (B, 1, h, w) in [0, 1]; 0 where both channels are 0.

    Examples::

        >>> mask_of_channels(torch.tensor([3.0, -1.0]).view(1, 2, 1, 1))
        tensor([[[[0.7500]]]])
    """
    sizes = channels.abs()
    return sizes[:, :1] / sizes.sum(1, True).clamp_min(torch.finfo(sizes.dtype).tiny)
