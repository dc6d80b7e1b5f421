"""Architecture and normalization of the signs classifier."""

from pathlib import Path

import torch
from torch import Tensor, nn

from captum_ext.zoo.signs import SIGN_CLASSES

__all__ = ["SIGNS_MEAN", "SIGNS_STD", "SignsClassifier", "WEIGHTS_FILE", "normalized"]

WEIGHTS_FILE = Path(__file__).parents[1] / "signs_classifier.pt"
"""State-dict file of the trained classifier."""

SIGNS_MEAN, SIGNS_STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
"""Mean and standard deviation of the input normalization, RGB in [0, 1]."""


class SignsClassifier(nn.Module):
    r"""Small convolutional network for the classes of :data:`SIGN_CLASSES`.

    Seven blocks of convolution, batch norm and ReLU lead to feature maps of an eighth
    of the image's side, whose spatial mean feeds one linear layer. For CAM methods, the
    last block is ``features[-1]``: (B, 96, 12, 12) for images of 96 x 96 pixels. Images
    may have any size and are normalized by ``SIGNS_MEAN`` and ``SIGNS_STD``.

    Examples::

        >>> import torch
        >>> from captum_ext.zoo import SignsClassifier
        >>> SignsClassifier().eval()(torch.zeros(2, 3, 96, 96)).shape
        torch.Size([2, 16])
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _block(3, 16, stride=2),
            _block(16, 32, stride=2),
            _block(32, 32),
            _block(32, 64, stride=2),
            _block(64, 64),
            _block(64, 64),
            _block(64, 96),
        )
        self.classifier = nn.Linear(96, len(SIGN_CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        r"""Compute the logits of the classes.

        Args:
            x (Tensor): Normalized images, (B, 3, H, W).

        Returns:
            Tensor: Logits, (B, 16).
        """
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits


def normalized(images: Tensor) -> Tensor:
    """Normalize images (B, 3, H, W) in [0, 1] for the network."""
    mean, std = torch.tensor(SIGNS_MEAN), torch.tensor(SIGNS_STD)
    return (images - mean[:, None, None]) / std[:, None, None]


def _block(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(),
    )
