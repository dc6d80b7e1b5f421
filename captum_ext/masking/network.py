"""Masking network: computes the mask of a class in one forward pass."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_ext._files import save_tensors
from captum_ext._state_dicts import load_state
from captum_ext._type_checks import check_instance, check_tensor
from captum_ext._validation import check_integer
from captum_ext.masking.checkpoints import load_file
from captum_ext.masking.decoder import (
    FeatureFilter,
    UpsamplingBlock,
    class_weights,
    mask_of_channels,
)
from captum_ext.masking.encoders import SmallEncoder, TorchvisionEncoder

__all__ = ["MaskingNetwork", "MasksAndLogits"]

_CLASS_TYPES = (torch.int64, torch.int32)


class MasksAndLogits(NamedTuple):
    """Masks of the target classes and logits of all classes.

    Attributes:
        masks (Tensor): M_s at the size of the images, (B, 1, H, W) in [0, 1].
        class_logits (Tensor): Maximum of X_ij^T C_s (Eq. 7) over all positions for
            every class s, (B, classes). Its sigmoid estimates whether the class is in
            the image.
    """

    masks: Tensor
    class_logits: Tensor


class MaskingNetwork(nn.Module):
    r"""Network that maps an image and a class to the mask of the class.

    A U-Net: the feature filter attenuates positions of the encoder's coarsest maps that
    do not match the class (Eq. 7); upsampling blocks combine them with finer and finer
    maps of the encoder; two channels give the mask (Eq. 8), which is resized to the
    size of the image. Print the network to compare it with the paper's Figure 4:
    ``strides`` and ``channels`` describe the encoder's maps, the finest first;
    ``decoder_channels`` the output of each upsampling block, the coarsest first.

    The network has to be trained by :func:`~captum_ext.masking.train_masking_network`
    or ``captum-ext train`` before its masks mean anything.

    Source: P. Dabkowski, Y. Gal, Real Time Image Saliency for Black Box Classifiers,
    NeurIPS 2017; Section 4.

    Args:
        n_classes (int): Number of classes of the classifier.
        encoder (str, optional): Name of a torchvision classification model, which is
            frozen and whose maps of stride 4 and above are used; or "small" for three
            trainable blocks of five convolutions (Section 5.2), suited to images of 32
            to a few hundred pixels. Default: "small"
        encoder_weights (Mapping, optional): State dict of the torchvision model. If
            its last layer has ``n_classes`` rows and one column per channel of the
            coarsest maps, it initializes the class embeddings.
            Default: None (random weights, suited to tests only)
        width (int, optional): Channels of the small encoder's first block, doubled by
            each further block. Default: 32
        decoder_channels (Sequence[int], optional): Output channels of each upsampling
            block, the coarsest first. Default: None (with the small encoder, the
            channels of its maps; otherwise three quarters of the channels of the
            encoder's maps of the same size, at most half of those of the block before:
            768, 384 and 192 for ResNet-50, as in the paper)
        n_bottlenecks (int, optional): Bottlenecks per upsampling block.
            Default: None (3; 1 for the small encoder, as in the paper)
        seed (int, optional): Seed of the initial weights. Default: 0
        n_channels (int, optional): Channels of the images; other numbers need the small
            encoder. Default: 3

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
        n_channels: int = 3,
    ) -> None:
        super().__init__()
        small = _is_small(encoder, encoder_weights)
        self.n_classes = check_integer("n_classes", n_classes, 2)
        self.n_channels = check_integer("n_channels", n_channels, 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(check_integer("seed", seed, 0, 2**64 - 1))
            self.encoder = _encoder(encoder, encoder_weights, width, self.n_channels)
            *skips, coarsest = self.encoder.channels
            if decoder_channels is None:
                decoder_channels = skips[::-1] if small else _narrowing(skips[::-1])
            if n_bottlenecks is None:
                n_bottlenecks = 1 if small else 3
            self.decoder_channels = _checked_decoder_channels(
                decoder_channels, len(skips)
            )
            self._settings = {
                "n_classes": self.n_classes,
                "encoder": encoder,
                "width": width,
                "decoder_channels": self.decoder_channels,
                "n_bottlenecks": check_integer("n_bottlenecks", n_bottlenecks, 1),
                "n_channels": self.n_channels,
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
        """Pixels between neighboring positions of the encoder's maps, finest first."""
        return self.encoder.strides

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the encoder's maps, the finest first."""
        return self.encoder.channels

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments that create a network of the same architecture."""
        return dict(self._settings)

    def extra_repr(self) -> str:
        """Numbers to compare with the paper's Figure 4."""
        return (
            f"n_classes={self.n_classes}, strides={self.strides}, "
            f"channels={self.channels}, decoder_channels={self.decoder_channels}"
        )

    def forward(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Compute masks.

        Args:
            inputs (Tensor): Images (B, C, H, W), normalized as for the classifier.
            target (Tensor): Class of each image, (B,) integers below ``n_classes``.

        Returns:
            *Tensor*: Masks (B, 1, H, W) in [0, 1].
        """
        self._check(inputs, target)
        return self._decode(self.encoder(inputs), target, inputs)

    def with_class_logits(self, inputs: Tensor, target: Tensor) -> MasksAndLogits:
        """Compute masks, and the logits of all classes in the feature filter.

        Args:
            inputs (Tensor): Images (B, C, H, W), normalized as for the classifier.
            target (Tensor): Class of each image, (B,) integers below ``n_classes``.

        Returns:
            *MasksAndLogits*: Masks (B, 1, H, W) and class logits (B, classes).
        """
        self._check(inputs, target)
        maps = self.encoder(inputs)
        logits = self.feature_filter.class_logits(maps[-1])
        return MasksAndLogits(self._decode(maps, target, inputs), logits)

    def _check(self, inputs: Tensor, target: Tensor) -> None:
        """Refuse what are no images with one class each."""
        check_tensor("inputs", inputs)
        check_tensor("target", target)
        is_images = inputs.dim() == 4 and inputs.shape[1] == self.n_channels
        if not is_images or not inputs.is_floating_point():
            raise ValueError(
                f"inputs must be floating-point images (B, {self.n_channels}, H, W), "
                f"got {inputs.dtype} of shape {tuple(inputs.shape)}."
            )
        if target.shape != inputs.shape[:1] or target.dtype not in _CLASS_TYPES:
            raise ValueError(
                f"target must hold a class for each of {len(inputs)} images, int64 or "
                f"int32, got {target.dtype} of shape {tuple(target.shape)}."
            )
        # A GPU would have to wait for the comparison.
        if target.device.type == "cpu" and len(target):
            low, high = target.aminmax()
            if low < 0 or high >= self.n_classes:
                raise ValueError(
                    f"target must hold classes from 0 to {self.n_classes - 1}, got "
                    f"{int(low)} to {int(high)}."
                )

    def _decode(self, maps: Sequence[Tensor], target: Tensor, like: Tensor) -> Tensor:
        *skips, coarsest = maps
        x = self.feature_filter(coarsest, target)
        for block, skip in zip(self.upsampling, reversed(skips)):
            x = block(x, skip)
        # Under autocast the head returns 16 bits, too few for the quotient of Eq. 8.
        mask = mask_of_channels(self.head(x).to(like.dtype))
        return F.interpolate(mask, like.shape[2:], mode="bilinear")

    def save(self, path: str | Path, half: bool = False) -> None:
        """Write architecture and weights to one file, atomically.

        Args:
            path (str or Path): Path of the file.
            half (bool, optional): Whether to round weights to 16 bits, for a file of
                half the size. Default: False

        Raises:
            OSError: If the file cannot be written; an existing file is unchanged.
        """
        dtype = torch.float16 if half else torch.float32
        weights = {
            key: value.to(dtype) if value.is_floating_point() else value
            for key, value in self.state_dict().items()
        }
        save_tensors({"settings": self.settings, "network": weights}, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> "MaskingNetwork":
        """Read a file of :meth:`save` or a checkpoint of the training.

        Args:
            path (str or Path): Path of the file.

        Returns:
            *MaskingNetwork*: In eval mode, on the CPU, weights in ``channels_last``.

        Raises:
            ValueError: If there is no such file, or it is truncated or of another kind.

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
                f"path must be a file written by MaskingNetwork.save, got "
                f"{str(path)!r}, whose settings do not fit this version."
            ) from None
        network.fill(content.get("network"), f"path {str(path)!r}")
        return network.eval().to(memory_format=torch.channels_last)

    def fill(self, weights: object, source: str) -> None:
        """Load weights of the same architecture.

        Args:
            weights (dict): A state dict.
            source (str): Origin of the weights, for messages.

        Raises:
            ValueError: If the weights are of another architecture; the network is
                unchanged then.
        """
        state = weights if isinstance(weights, dict) else {}
        load_state(self, state, source, "this architecture")


def _is_small(encoder: str, encoder_weights: Mapping[str, Tensor] | None) -> bool:
    """Whether the encoder is the small one, which has no given weights."""
    check_instance("encoder", encoder, str)
    if encoder_weights is not None:
        check_instance("encoder_weights", encoder_weights, Mapping)
        if encoder == "small":
            raise ValueError(
                "encoder_weights must be None for the encoder 'small', which is "
                f"trained, got {type(encoder_weights).__name__}."
            )
    return encoder == "small"


def _encoder(
    name: str, weights: Mapping[str, Tensor] | None, width: int, n_channels: int
) -> SmallEncoder | TorchvisionEncoder:
    """Trainable encoder of any images, or a frozen one of RGB images."""
    if name == "small":
        return SmallEncoder(check_integer("width", width, 1), n_channels)
    if n_channels != 3:
        raise ValueError(
            f"n_channels must be 3 for an encoder of torchvision, got {n_channels}."
        )
    return TorchvisionEncoder(name, weights)


def _narrowing(skips: Sequence[int]) -> list[int]:
    """Decoder channels for a torchvision encoder, the coarsest first."""
    found = [3 * skips[0] // 4]
    for n in skips[1:]:
        found.append(min(3 * n // 4, found[-1] // 2))
    return found


def _checked_decoder_channels(
    channels: Sequence[int], n_blocks: int
) -> tuple[int, ...]:
    """Return one number of channels per upsampling block, or raise."""
    if not isinstance(channels, Sequence) or len(channels) != n_blocks:
        raise ValueError(
            f"decoder_channels must be {n_blocks} integers for this encoder, one per "
            f"upsampling block, got {channels!r}."
        )
    return tuple(check_integer("decoder_channels", n, 1) for n in channels)
