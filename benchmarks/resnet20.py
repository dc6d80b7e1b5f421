"""CIFAR-10 ResNet-20 with the weights of the data folder."""

import torch
import torch.nn.functional as F
from images import data_folder
from torch import Tensor, nn

__all__ = ["load_resnet20"]


class Block(nn.Module):
    """Two convolutions and a parameter-free shortcut, padded to more channels."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.stride, self.n_new = stride, n_out - n_in

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        pad = (0, 0, 0, 0, self.n_new // 2, self.n_new // 2)
        return (h + F.pad(shortcut, pad)).relu()


class ResNet20(nn.Module):
    """Three stages of three blocks with 16, 32 and 64 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        widths = {1: (16, 16), 2: (16, 32), 3: (32, 64)}
        for stage, (n_in, n_out) in widths.items():
            first = Block(n_in, n_out, 1 if stage == 1 else 2)
            rest = [Block(n_out, n_out, 1) for _ in range(2)]
            setattr(self, f"layer{stage}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn1(self.conv1(x)).relu()
        h = self.layer3(self.layer2(self.layer1(h)))
        return self.linear(h.mean((2, 3)))


def load_resnet20() -> ResNet20:
    """Trained network in eval mode."""
    path = data_folder() / "models" / "cifar10_resnet20.th"
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    model = ResNet20()
    model.load_state_dict({k.removeprefix("module."): v for k, v in state.items()})
    return model.eval()
