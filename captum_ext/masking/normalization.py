"""Batch norm over the batch of all processes."""

from typing import Any

import torch
from torch import Tensor, distributed, nn

from captum_ext._processes import world_size

__all__ = ["SharedBatchNorm"]


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm with the same result in one process and in several, on CPUs as well.

    ``torch.nn.SyncBatchNorm`` refuses inputs on the CPU. Processes may have shares of
    unequal size.

    Args:
        channels (int): Channels of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalized maps (B, C, h, w); by the running statistics in eval mode."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        n = _sum_over_processes(values.new_tensor(len(x) * x.shape[2] * x.shape[3]))
        mean = _sum_over_processes(values.sum((0, 2, 3))) / n
        centered = values - mean[:, None, None]
        variance = _sum_over_processes(centered.square().sum((0, 2, 3))) / n
        with torch.no_grad():
            self._update_running_statistics(mean, variance * n / (n - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        normalized = centered * scale[:, None, None] + self.bias[:, None, None]
        return normalized.to(x.dtype)

    def folded_into(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Fold the batch norm, in eval mode, into the convolution before it.

        ``torch.nn.utils.fusion.fuse_conv_bn_weights`` returns weights without gradients
        to the original ones.

        Args:
            weight (Tensor): Weight of a convolution without bias, (channels, ...).

        Returns:
            *tuple[Tensor, Tensor]*: Weight in the same shape and bias (channels,) of
            the convolution that replaces both.
        """
        assert self.running_mean is not None and self.running_var is not None
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        scaled = weight * scale.view(-1, *(1,) * (weight.dim() - 1))
        return scaled, torch.addcmul(self.bias, self.running_mean, scale, value=-1)

    def _update_running_statistics(self, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics as ``nn.BatchNorm2d`` does."""
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class _SumOverProcesses(torch.autograd.Function):
    """Differentiable sum over processes; its gradient is a sum over processes too.

    ``torch.distributed.nn.functional.all_reduce`` is the same but deprecated in favor
    of a private module, whose version has no gradient in older releases of torch.
    """

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


def _sum_over_processes(x: Tensor) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(x)
    return total
