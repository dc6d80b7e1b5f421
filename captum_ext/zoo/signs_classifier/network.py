"""The compact network that names the main sign of a scene."""

from pathlib import Path

import torch
from torch import Tensor, nn

from captum_ext.zoo.signs import SIGN_CLASSES

__all__ = [
    "SignsClassifier",
    "WEIGHTS_FILE",
    "normalized",
]

WEIGHTS_FILE = Path(__file__).parents[1] / "signs_classifier.pt"
"""The trained state dict that comes with the package."""

SIGNS_MEAN, SIGNS_STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
"""Mean and standard deviation (per RGB channel) of the normalized input."""


class SignsClassifier(nn.Module):
    r"""A small convolutional network for the classes of :data:`SIGN_CLASSES`.

    Seven blocks of convolution, batch norm and ReLU end in a feature map of an eighth
    of the image's side, whose mean feeds one linear layer. For CAM methods, the last
    block is ``features[-1]``: (B, 96, 12, 12) for images of 96 x 96 pixels. It takes
    images of any size, normalized by ``SIGNS_MEAN`` and ``SIGNS_STD``.

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
        r"""Scores of the classes.

        Args:
            x (Tensor): (B, 3, H, W), normalized images.

        Returns:
            Tensor: (B, 16), the logits.
        """
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits


def normalized(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] as the network wants them."""
    mean, std = torch.tensor(SIGNS_MEAN), torch.tensor(SIGNS_STD)
    return (images - mean[:, None, None]) / std[:, None, None]


def _block(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(),
    )
