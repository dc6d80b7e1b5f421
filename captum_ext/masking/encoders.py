"""Encoders of the masking network.

An encoder is a module that returns maps of an image at several strides, the finest
first. Its attribute ``strides`` holds the pixels between neighboring positions of each
map, ``channels`` their numbers of channels.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_ext._state_dicts import load_state
from captum_ext.masking.normalization import SharedBatchNorm

__all__ = ["SmallEncoder", "TorchvisionEncoder"]

# The paper computes masks at a quarter of the image's side, which needs no finer maps.
_FINEST_STRIDE = 4
_TRACED_SIZE = 224


class SmallEncoder(nn.Module):
    """Trainable encoder of the paper's Section 5.2.

    Three blocks of five 3 x 3 convolutions each: the first one halves the maps, the
    other four form two residual blocks.

    Args:
        width (int): Channels of the first block, doubled by each further block.
        n_channels (int, optional): Channels of the images. Default: 3

    Examples::

        >>> encoder = SmallEncoder(8)
        >>> encoder.strides, encoder.channels
        ((2, 4, 8), (8, 16, 32))
        >>> [maps.shape[-1] for maps in encoder(torch.rand(1, 3, 32, 32))]
        [16, 8, 4]
    """

    def __init__(self, width: int, n_channels: int = 3) -> None:
        super().__init__()
        self.strides = (2, 4, 8)
        self.channels = (width, 2 * width, 4 * width)
        self.blocks = nn.ModuleList(
            _downsampling(n_in, n_out)
            for n_in, n_out in zip((n_channels, *self.channels), self.channels)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps (B, C_i, h_i, w_i) of images (B, C, H, W), the finest first."""
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps


def _downsampling(n_in: int, n_out: int) -> nn.Sequential:
    halving = nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False),
        SharedBatchNorm(n_out),
        nn.ReLU(),
    )
    return nn.Sequential(halving, _Residual(n_out), _Residual(n_out))


class _Residual(nn.Module):
    """Two convolutions with a shortcut."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(n, n, 3, padding=1, bias=False),
            SharedBatchNorm(n),
            nn.ReLU(),
            nn.Conv2d(n, n, 3, padding=1, bias=False),
            SharedBatchNorm(n),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.residual(x))


class TorchvisionEncoder(nn.Module):
    """Torchvision classifier up to its last maps, frozen and in eval mode.

    One forward pass is traced. For each stride, the maps with the most channels are
    used, the last ones of several. In a ResNet these are the outputs of its scales.

    Args:
        name (str): Name of a torchvision classification model, such as "resnet50".
        weights (Mapping, optional): State dict of the model; entries that the maps do
            not need are ignored. Default: None (random weights)

    Raises:
        ValueError: If there is no such model, if it has maps of fewer than two
            strides, or if the weights do not fit.

    Examples::

        >>> encoder = TorchvisionEncoder("squeezenet1_0")
        >>> encoder.strides, encoder.channels
        ((4, 8, 16), (256, 512, 1000))
        >>> encoder.nodes
        ('features.5.cat', 'features.10.cat', 'classifier.2')
    """

    def __init__(self, name: str, weights: Mapping[str, Tensor] | None = None) -> None:
        from torchvision.models import get_model, list_models
        from torchvision.models.feature_extraction import create_feature_extractor

        super().__init__()
        known = list_models()
        if name not in known:
            raise ValueError(
                f"encoder must be 'small' or a torchvision model such as "
                f"'resnet50', got {name!r}."
            )
        model = get_model(name, weights=None).eval()
        chosen = _nodes_by_stride(model, name)
        self.strides = tuple(chosen)
        self.nodes = tuple(node for node, _ in chosen.values())
        self.channels = tuple(channels for _, channels in chosen.values())
        self.extractor = create_feature_extractor(
            model, list(self.nodes), suppress_diff_warning=True
        )
        self.extractor.requires_grad_(False)
        if weights is not None:
            load_state(
                self.extractor,
                weights,
                "encoder_weights",
                name,
                allow_extra=True,
            )
        self.train(False)

    def train(self, mode: bool = True) -> "TorchvisionEncoder":
        """Stay in eval mode whatever ``mode`` is, for the weights are frozen."""
        super().train(False)
        return self

    def extra_repr(self) -> str:
        """Strides and the operations that return their maps."""
        return ", ".join(f"{s}: {n}" for s, n in zip(self.strides, self.nodes))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps (B, C_i, h_i, w_i) of images (B, 3, H, W), the finest first."""
        with torch.no_grad():
            maps = self.extractor(x)
        return [maps[node] for node in self.nodes]


def _nodes_by_stride(model: nn.Module, name: str) -> dict[int, tuple[str, int]]:
    """Operation that returns the maps of each stride, and their channels."""
    from torchvision.models.feature_extraction import (
        create_feature_extractor,
        get_graph_node_names,
    )

    nodes = get_graph_node_names(model, suppress_diff_warning=True)[1]
    extractor = create_feature_extractor(model, nodes, suppress_diff_warning=True)
    with torch.no_grad():
        outputs = extractor.eval()(torch.zeros(1, 3, _TRACED_SIZE, _TRACED_SIZE))
    chosen: dict[int, tuple[str, int]] = {}
    for node, output in outputs.items():
        shape = output.shape if isinstance(output, Tensor) else ()
        # A single position is a pooled vector.
        if len(shape) != 4 or shape[2] != shape[3] or shape[2] == 1:
            continue
        stride = 2 ** round(math.log2(_TRACED_SIZE / shape[2]))
        best = chosen.get(stride, ("", 0))[1]
        if stride >= _FINEST_STRIDE and shape[1] >= best:
            chosen[stride] = (node, shape[1])
    if len(chosen) < 2:
        raise ValueError(
            f"encoder must have maps of at least two strides of {_FINEST_STRIDE} "
            f"or more, got {', '.join(map(str, chosen)) or 'none'} in {name!r}."
        )
    return dict(sorted(chosen.items()))
