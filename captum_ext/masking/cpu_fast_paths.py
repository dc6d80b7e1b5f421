"""Layers of the decoder that compute what torch's layers compute, in less time.

Each takes the place of one layer of torch, with the same arguments and the same state
dict. The decoder can be read as if torch's layers were there.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_ext.masking.normalization import SharedBatchNorm

__all__ = ["ConvolutionStack", "DoublingConvolution"]


class DoublingConvolution(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d(n_in, n_out, 2, stride=2)``, on CPUs as a matrix product.

    The 2 x 2 squares that the input positions write do not overlap, so one matrix
    product computes them all. It is faster on CPUs, above all in the backward pass.

    The four positions of a square start with the same weights: otherwise short
    trainings leave regular dots in the masks.

    Args:
        n_in (int): Channels of the input.
        n_out (int): Channels of the result.

    Examples::

        >>> DoublingConvolution(8, 4)(torch.rand(1, 8, 3, 5)).shape
        torch.Size([1, 4, 6, 10])
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, 2, stride=2)
        with torch.no_grad():
            self.weight.copy_(self.weight[:, :, :1, :1].expand_as(self.weight).clone())

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Maps (B, n_out, 2 h, 2 w) of maps (B, n_in, h, w)."""
        if x.device.type != "cpu":
            return super().forward(x)
        assert self.bias is not None
        n, _, height, width = x.shape
        n_out = self.out_channels
        weight = self.weight.permute(0, 2, 3, 1).flatten(1).T
        squares = F.linear(x.movedim(1, -1), weight, self.bias.repeat(4))
        rows = squares.view(n, height, width, 2, 2, n_out).transpose(2, 3)
        return rows.reshape(n, 2 * height, 2 * width, n_out).movedim(-1, 1)


class ConvolutionStack(nn.Sequential):
    """``nn.Sequential`` of convolutions, each with a batch norm, and ReLUs in between.

    Memory traffic dominates the cost of the maps. Maps that are to be concatenated are
    therefore convolved one by one and summed, and in eval mode the batch norms are
    folded into the convolutions.

    Args:
        *args (Module): Convolution without bias, batch norm, ReLU, convolution,
            batch norm, and so on.

    Examples::

        >>> from captum_ext.masking.normalization import SharedBatchNorm
        >>> convolution = nn.Conv2d(8, 4, 1, bias=False)
        >>> stack = ConvolutionStack(convolution, SharedBatchNorm(4))
        >>> stack(torch.rand(1, 5, 6, 6), torch.rand(1, 3, 6, 6)).shape
        torch.Size([1, 4, 6, 6])
    """

    def forward(self, *maps: Tensor) -> Tensor:
        """The result for maps (B, C_i, h, w), concatenated along the channels."""
        layers = list(self)
        h = _normalized(layers[0], layers[1], *maps)
        for relu, convolution, norm in zip(layers[2::3], layers[3::3], layers[4::3]):
            h = _normalized(convolution, norm, relu(h))
        return h


def _normalized(convolution: nn.Module, norm: nn.Module, *maps: Tensor) -> Tensor:
    """Convolution and batch norm of concatenated maps."""
    assert isinstance(convolution, nn.Conv2d) and isinstance(norm, SharedBatchNorm)
    weight, bias = convolution.weight, None
    if not norm.training:
        weight, bias = norm.folded_into(weight)
    # Split with channels last: gradients then have the strides of the whole weight.
    weights = weight.permute(0, 2, 3, 1).split([part.shape[1] for part in maps], -1)
    h = _convolved(maps[0], weights[0], bias)
    for part, part_weight in zip(maps[1:], weights[1:]):
        h = h.add_(_convolved(part, part_weight))
    return norm(h) if norm.training else h


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Size-preserving convolution with a weight (n_out, k, k, n_in).

    A 1 x 1 convolution is a matrix product, which has less overhead on CPUs.
    """
    k = weight.shape[1]
    if k == 1 and x.device.type == "cpu":
        return F.linear(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)
    return F.conv2d(x, weight.movedim(-1, 1), bias, padding=k // 2)
