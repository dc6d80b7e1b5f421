"""The masking network: from an image and a class to a mask, in one forward pass."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_ext._files import save_tensors
from captum_ext._state_dicts import load_state
from captum_ext._validation import check_decoder_channels, check_integer
from captum_ext.masking.checkpoints import load_file
from captum_ext.masking.encoders import SmallEncoder, TorchvisionEncoder
from captum_ext.masking.normalization import SharedBatchNorm

__all__ = [
    "FeatureFilter",
    "MaskingNetwork",
    "SelectedMasks",
    "UpsamplingBlock",
    "class_weights",
    "mask_of_channels",
]


class SelectedMasks(NamedTuple):
    """What the network says of images and classes.

    Attributes:
        masks (Tensor): M_s at the size of the images, (B, 1, H, W) in [0, 1].
        evidence (Tensor): The largest X_ij^T C_s of Eq. 7 for every class s, whose
            sigmoid says whether the class is in the image, (B, classes).
    """

    masks: Tensor
    evidence: Tensor


def mask_of_channels(channels: Tensor) -> Tensor:
    r"""Eq. 8: the mask of two channels.

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


class FeatureFilter(nn.Module):
    r"""Eq. 7: weakens places that do not look like the class.

    .. math:: Y_{ij} = X_{ij} \, \sigma(X_{ij}^T C_s).

    Args:
        n_classes (int): Number of classes.
        channels (int): Channels of the maps X, the length of an embedding C_s.
        C (Tensor, optional): Embeddings to start from, (n_classes, channels).
            Default: None (drawn at random)
    """

    def __init__(self, n_classes: int, channels: int, C: Tensor | None = None) -> None:
        super().__init__()
        if C is not None:
            own = C.detach().cpu().float().clone()
            self.embedding = nn.Embedding.from_pretrained(own, freeze=False)
            return
        self.embedding = nn.Embedding(n_classes, channels)
        # Long embeddings must not saturate the sigmoid from the start.
        nn.init.normal_(self.embedding.weight, std=channels**-0.5)

    def forward(self, X: Tensor, target: Tensor) -> Tensor:
        """Y in the shape of X, (B, C, h, w)."""
        C = self.embedding(target)
        return X * torch.einsum("bchw,bc->bhw", X, C).sigmoid()[:, None]

    def strongest(self, X: Tensor) -> Tensor:
        """The largest X_ij^T C_s of each class, (B, classes)."""
        C = self.embedding.weight
        return torch.einsum("bchw,sc->bshw", X, C).amax((2, 3))


def class_weights(
    weights: Mapping[str, Tensor], n_classes: int, channels: int
) -> Tensor | None:
    """The last layer of a classifier, if it fits embeddings.

    Where the classifier is linear in the mean of its last maps X over places, its logit
    of a class s is the mean of X_ij^T C_s, up to a bias: what Eq. 7 asks of an
    embedding, for every class, before any training. Other layers of the same shape, or
    other classes of the same number, are no worse a start than random numbers.

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


class _Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions around a shortcut."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        n_inner = max(8, n_out // 4)
        self.residual = nn.Sequential(
            nn.Conv2d(n_in, n_inner, 1, bias=False),
            SharedBatchNorm(n_inner),
            nn.ReLU(),
            nn.Conv2d(n_inner, n_inner, 3, padding=1, bias=False),
            SharedBatchNorm(n_inner),
            nn.ReLU(),
            nn.Conv2d(n_inner, n_out, 1, bias=False),
            SharedBatchNorm(n_out),
        )

    def forward(self, x: Tensor, *beside: Tensor) -> Tensor:
        """Of x, which is the shortcut, and the channels of other maps beside it."""
        layers = list(self.residual)
        h = _normalized(layers[0], layers[1], x, *beside)
        # The ReLUs between them in place: what they are given is needed no more.
        for convolution, norm in zip(layers[3::3], layers[4::3]):
            h = _normalized(convolution, norm, h.relu_())
        return h.add_(x).relu_()


def _normalized(convolution: nn.Module, norm: nn.Module, *x: Tensor) -> Tensor:
    """A convolution and its batch norm, of maps side by side.

    Memory is what maps cost: large ones are not copied side by side only to become few
    channels, and in eval mode the norm is part of the convolution.
    """
    assert isinstance(convolution, nn.Conv2d) and isinstance(norm, SharedBatchNorm)
    weight, bias = convolution.weight, None
    if not norm.training:
        weight, bias = norm.folded_into(weight)
    # Channels last before it is split: gradients lie as the whole weight does, then.
    weights = weight.permute(0, 2, 3, 1).split([part.shape[1] for part in x], -1)
    h = _convolved(x[0], weights[0], bias)
    for part, its_weight in zip(x[1:], weights[1:]):
        h = h.add_(_convolved(part, its_weight))
    return norm(h) if norm.training else h


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A convolution that keeps the size, by a weight (n_out, k, k, n_in).

    One of 1 x 1 is a matrix product, which CPUs are quicker to start.
    """
    k = weight.shape[1]
    if k == 1 and x.device.type == "cpu":
        return F.linear(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)
    return F.conv2d(x, weight.movedim(-1, 1), bias, padding=k // 2)


def _doubled(convolution: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """A transposed convolution whose squares of 2 x 2 places do not overlap.

    Each place then makes its own square: one matrix product, which is faster on CPUs,
    above all backwards.
    """
    if x.device.type != "cpu":
        return convolution(x)
    assert convolution.bias is not None
    (n, _, height, width), n_out = x.shape, convolution.out_channels
    # Where the weights lie in channels_last, none is copied.
    weight = convolution.weight.permute(0, 2, 3, 1).flatten(1).T
    squares = F.linear(x.movedim(1, -1), weight, convolution.bias.repeat(4))
    rows = squares.view(n, height, width, 2, 2, n_out).transpose(2, 3)
    return rows.reshape(n, 2 * height, 2 * width, n_out).movedim(-1, 1)


class UpsamplingBlock(nn.Module):
    """Doubles maps, puts the encoder's own beside them, and refines both.

    The first bottleneck sees the upsampled maps and the encoder's; its shortcut are the
    upsampled ones, which have the right number of channels already.

    Args:
        n_in (int): Channels of the coarse maps.
        n_skip (int): Channels of the encoder's maps.
        n_out (int): Channels of the result.
        n_bottlenecks (int): Number of bottlenecks, at least 1.
    """

    def __init__(self, n_in: int, n_skip: int, n_out: int, n_bottlenecks: int) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose2d(n_in, n_out, 2, stride=2)
        self.bottlenecks = nn.ModuleList(
            _Bottleneck(n_out + n_skip if i == 0 else n_out, n_out)
            for i in range(n_bottlenecks)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Maps (B, n_out, h, w) at the size of the encoder's (B, n_skip, h, w)."""
        x = _doubled(self.upsample, x)
        if x.shape[2:] != skip.shape[2:]:
            # Strides that do not divide the image's side.
            x = F.interpolate(x, skip.shape[2:], mode="bilinear")
        first, *others = self.bottlenecks
        x = first(x, skip)
        for bottleneck in others:
            x = bottleneck(x)
        return x


def _narrowing(skips: Sequence[int]) -> list[int]:
    """Channels of the decoder beside a ready encoder's, the coarsest first."""
    found = [3 * skips[0] // 4]
    for n in skips[1:]:
        found.append(min(3 * n // 4, found[-1] // 2))
    return found


class MaskingNetwork(nn.Module):
    r"""A network that sees an image and a class and draws the mask of the class.

    A U-Net: the encoder's coarsest maps go through the feature filter, which weakens
    places that do not look like the class (Eq. 7); upsampling blocks then join them
    with finer and finer maps of the encoder; the mask is made of two channels (Eq. 8)
    and enlarged to the size of the image. Print it to compare it with the paper's
    Figure 4: ``strides`` and ``channels`` are those of the encoder's maps, the finest
    first; ``decoder_channels`` are those behind each upsampling block, the coarsest
    first.

    It is of use once it is trained, by
    :func:`~captum_ext.masking.train_masking_network` or ``captum-ext train``.

    Source: P. Dabkowski, Y. Gal, Real Time Image Saliency for Black Box Classifiers,
    NeurIPS 2017; Section 4.

    Args:
        n_classes (int): Number of classes of the classifier.
        encoder (str, optional): A classification model of torchvision, frozen, whose
            maps of stride 4 and more are used; or "small", three blocks of five
            convolutions that are trained along (Section 5.2), for images of 32 to
            some hundred pixels. Default: "small"
        encoder_weights (Mapping, optional): State dict of torchvision's model. A last
            layer with a row for each of ``n_classes`` and a column for each channel of
            the coarsest maps gives the embeddings to start from.
            Default: None (random weights, and so of little use)
        width (int, optional): Channels of the small encoder's first block, doubled by
            each further one. Default: 32
        decoder_channels (Sequence[int], optional): Channels behind each upsampling
            block, the coarsest first. Default: None (three quarters of those of the
            encoder's maps beside them, and at most half of those before: 768, 384 and
            192 for ResNet-50, as in the paper; as many as the small encoder's)
        n_bottlenecks (int, optional): Bottlenecks in an upsampling block.
            Default: None (3; 1 for the small encoder, as in the paper)
        seed (int, optional): Of the initial weights. Default: 0

    Raises:
        ValueError: If an argument is out of its range, if there is no such encoder or
            it has maps of fewer than two strides, or if its weights do not fit.

    Examples::

        >>> network = MaskingNetwork(n_classes=10, width=8)
        >>> network.strides, network.channels, network.decoder_channels
        ((2, 4, 8), (8, 16, 32), (16, 8))
        >>> network(torch.rand(2, 3, 32, 32), torch.tensor([3, 7])).shape
        torch.Size([2, 1, 32, 32])
    """

    def __init__(
        self,
        n_classes: int,
        encoder: str = "small",
        encoder_weights: Mapping[str, Tensor] | None = None,
        *,
        width: int = 32,
        decoder_channels: Sequence[int] | None = None,
        n_bottlenecks: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        small = encoder == "small"
        if small and encoder_weights is not None:
            raise ValueError(
                "encoder_weights must be None for the encoder 'small', which is "
                "trained along, got some."
            )
        self.n_classes = check_integer("n_classes", n_classes, 2)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(check_integer("seed", seed, 0, 2**64 - 1))
            self.encoder: SmallEncoder | TorchvisionEncoder = (
                SmallEncoder(check_integer("width", width, 1))
                if small
                else TorchvisionEncoder(encoder, encoder_weights)
            )
            *skips, coarsest = self.encoder.channels
            if decoder_channels is None:
                decoder_channels = skips[::-1] if small else _narrowing(skips[::-1])
            if n_bottlenecks is None:
                n_bottlenecks = 1 if small else 3
            self.decoder_channels = check_decoder_channels(decoder_channels, len(skips))
            self._settings = {
                "n_classes": self.n_classes,
                "encoder": encoder,
                "width": width,
                "decoder_channels": self.decoder_channels,
                "n_bottlenecks": check_integer("n_bottlenecks", n_bottlenecks, 1),
            }
            C = class_weights(encoder_weights or {}, n_classes, coarsest)
            self.feature_filter = FeatureFilter(n_classes, coarsest, C)
            n_out = self.decoder_channels
            self.upsampling = nn.ModuleList(
                UpsamplingBlock(*block, n_bottlenecks)
                for block in zip((coarsest, *n_out), reversed(skips), n_out)
            )
            self.head = nn.Conv2d(n_out[-1], 2, 1)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels between neighboring places of the encoder's maps, finest first."""
        return self.encoder.strides

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the encoder's maps, the finest first."""
        return self.encoder.channels

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments that make a network of the same architecture."""
        return dict(self._settings)

    def extra_repr(self) -> str:
        """What can be held against the paper's figure."""
        return (
            f"n_classes={self.n_classes}, strides={self.strides}, "
            f"channels={self.channels}, decoder_channels={self.decoder_channels}"
        )

    def forward(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Draw masks.

        Args:
            inputs (Tensor): Images (B, 3, H, W), normalized as for the classifier.
            target (Tensor): A class for each, (B,) integers below ``n_classes``.

        Returns:
            *Tensor*: (B, 1, H, W) in [0, 1].
        """
        return self._draw(self.encoder(inputs), target, inputs)

    def select(self, inputs: Tensor, target: Tensor) -> SelectedMasks:
        """Draw masks, and say which classes the feature filter finds.

        Args:
            inputs (Tensor): Images (B, 3, H, W), normalized as for the classifier.
            target (Tensor): A class for each, (B,) integers below ``n_classes``.

        Returns:
            *SelectedMasks*: Masks (B, 1, H, W) and evidence (B, classes).
        """
        maps = self.encoder(inputs)
        evidence = self.feature_filter.strongest(maps[-1])
        return SelectedMasks(self._draw(maps, target, inputs), evidence)

    def _draw(self, encoded: Sequence[Tensor], target: Tensor, like: Tensor) -> Tensor:
        *skips, coarsest = encoded
        maps = self.feature_filter(coarsest, target)
        for block, skip in zip(self.upsampling, reversed(skips)):
            maps = block(maps, skip)
        # The quotient in full precision, whatever a convolution is computed in.
        small = mask_of_channels(self.head(maps).to(like.dtype))
        return F.interpolate(small, like.shape[2:], mode="bilinear")

    def save(self, path: str | Path, half: bool = False) -> None:
        """Write architecture and weights into one file, whole or not at all.

        Args:
            path (str or Path): The file.
            half (bool, optional): Whether weights are rounded to 16 bits, for a file
                of half the size. Default: False

        Raises:
            OSError: If the file cannot be written; one of that name stays as it was.
        """
        dtype = torch.float16 if half else torch.float32
        weights = {
            key: value.to(dtype) if value.is_floating_point() else value
            for key, value in self.state_dict().items()
        }
        save_tensors({"settings": self.settings, "network": weights}, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> "MaskingNetwork":
        """Read what :meth:`save` or a training wrote.

        Args:
            path (str or Path): A file of :meth:`save`, or a checkpoint.

        Returns:
            *MaskingNetwork*: In eval mode, on the CPU, weights in ``channels_last``.

        Raises:
            ValueError: If there is no such file, or it is truncated or something else.

        Examples::

            >>> MaskingNetwork(n_classes=2, width=8).save("network.pt")
            >>> MaskingNetwork.load("network.pt").n_classes
            2
        """
        content = load_file(Path(path))
        settings: Any = content.get("settings")
        if isinstance(settings, dict) and "network" in settings:
            settings = settings["network"]
        try:
            network = cls(**settings)
        except TypeError:
            raise ValueError(
                f"path must be a file that MaskingNetwork.save wrote, got "
                f"{str(path)!r}, with settings of no network of this version."
            ) from None
        network.fill(content.get("network"), f"path {str(path)!r}")
        return network.eval().to(memory_format=torch.channels_last)

    def fill(self, weights: object, source: str) -> None:
        """Take over weights of the same architecture.

        Args:
            weights (dict): A state dict.
            source (str): Where it comes from, for messages.

        Raises:
            ValueError: If it is not of this architecture; nothing is taken over then.
        """
        state = weights if isinstance(weights, dict) else {}
        load_state(self, state, source, "this architecture")
