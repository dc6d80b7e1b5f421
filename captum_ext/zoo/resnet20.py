"""ResNet-20 for images of 32 x 32 pixels, which torchvision does not provide."""

from torch import Tensor, nn
from torch.nn.functional import pad

__all__ = ["ResNet20"]


class ResNet20(nn.Module):
    """ResNet-20: three stages of three blocks with 16, 32 and 64 channels.

    Shortcuts have no weights: where the number of channels grows, they are padded with
    zeros. Parameter names are those of the widely used CIFAR-10 weights.

    Source: K. He, X. Zhang, S. Ren, J. Sun, Deep Residual Learning for Image
    Recognition, CVPR 2016; Section 4.2, option A.

    Args:
        num_classes (int, optional): Number of classes. Default: 10

    Examples::

        >>> import torch
        >>> from captum_ext.zoo.resnet20 import ResNet20
        >>> ResNet20().eval()(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(16, 16)
        self.layer2 = _stage(16, 32)
        self.layer3 = _stage(32, 64)
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of the classes.

        Args:
            x (Tensor): Normalized images, (B, 3, H, W).

        Returns:
            Tensor: Logits, (B, classes).
        """
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        _Block(n_in, n_out), _Block(n_out, n_out), _Block(n_out, n_out)
    )


class _Block(nn.Module):
    """Two convolutions and a shortcut; halves the maps where channels double."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.stride, self.n_new = n_out // n_in, n_out - n_in
        self.conv1 = nn.Conv2d(n_in, n_out, 3, self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        residual = self.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.n_new:
            shortcut = pad(shortcut, (0, 0, 0, 0, self.n_new // 2, self.n_new // 2))
        return self.relu(residual + shortcut)
