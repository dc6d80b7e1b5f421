"""MC-RISE on real traffic signs: is a sign's own colour the best of five?

Trains a small network on the German traffic signs in the folder that the environment
variable CAPTUM_EXT_DATA names (once: its weights stay in the output folder) and
explains the probability of the right class with five colours, on test signs that the
network knows and whose colour shows. The colour that comes out on top of a sign is the
one with the largest mean of MC-RISE over the part of the sign that has the sign's own
colour. The right answer is the own colour, and a guess is right one time in five.

Prints one JSON line and writes a figure of one sign of each kind.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import Generator, nn, Tensor
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from captum_ext.attr import MCRISE
from captum_ext.masks import named_palette
from captum_ext.visualization import color_saliency_figure

N_CLASSES = 43
MEAN, STD = (0.34, 0.31, 0.32), (0.27, 0.26, 0.27)
PALETTE = named_palette(["red", "blue", "yellow", "white", "black"], MEAN, STD)
KINDS = {
    "red rim": ("red", (0, 1, 2, 3, 4, 5, 7, 8)),
    "red face": ("red", (14, 17)),
    "blue face": ("blue", (33, 34, 35, 36, 37, 38, 40)),
    "yellow face": ("yellow", (12,)),
}
N_SIGNS = 50
MIN_EXCESS = 0.1
N_MASKS = 2000
GRID_SIZE = 7
MASK_PROBABILITY = 0.5


class Signs(NamedTuple):
    """Pictures (N, 3, 32, 32) in [0, 1], labels (N,), boxes (N, 4) x0 y0 x1 y1."""

    pictures: Tensor
    labels: Tensor
    boxes: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="seed (default 0)")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    model = trained(arguments.output / f"gtsrb-{arguments.seed}.pt", arguments.seed)
    test = read_signs("test")
    right = predictions(model, test.pictures) == test.labels
    result = {
        "benchmark": "gtsrb",
        "accuracy": round(right.float().mean().item(), 4),
    }


def read_signs(part: str) -> Signs:
    folder = os.environ.get("CAPTUM_EXT_DATA")
    if folder is None:
        sys.exit("CAPTUM_EXT_DATA must name the folder that holds gtsrb/train.npz.")
    with np.load(Path(folder) / "gtsrb" / f"{part}.npz") as data:
        return Signs(
            torch.from_numpy(data["images"]).permute(0, 3, 1, 2) / 255,
            torch.from_numpy(data["labels"]).long(),
            torch.from_numpy(data["roi"]),
        )


def trained(file: Path, seed: int) -> nn.Module:
    """The network of the seed, read from the file or trained and written there."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network()
    if file.exists():
        model.load_state_dict(torch.load(file, weights_only=True))
        return model.eval()
    train(model, read_signs("train"), seed)
    partial = file.with_name(file.name + ".partial")
    torch.save(model.state_dict(), partial)
    os.replace(partial, file)
    return model.eval()


def network() -> nn.Sequential:
    """Logits of normalized pictures (B, 3, 32, 32)."""
    widths = (3, 32, 32, 48, 64, 96, 128)
    blocks = [
        nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, stride=1 + i % 2, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
        )
        for i, (c_in, c_out) in enumerate(zip(widths, widths[1:]))
    ]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(128 * 4 * 4, N_CLASSES))


def train(
    model: nn.Module, signs: Signs, seed: int, n_epochs: int = 8, batch_size: int = 64
) -> None:
    generator = Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    n_steps = n_epochs * (len(signs.labels) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, n_steps)
    model.train()
    for epoch in range(n_epochs):
        order = torch.randperm(len(signs.labels), generator=generator)
        total = 0.0
        for batch in order.split(batch_size)[: n_steps // n_epochs]:
            inputs = normalized(augmented(signs.pictures[batch], generator))
            loss = cross_entropy(model(inputs), signs.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        mean = total * n_epochs / n_steps
        print(f"epoch {epoch + 1} of {n_epochs}: loss {mean:.3f}", file=sys.stderr)


def augmented(pictures: Tensor, generator: Generator) -> Tensor:
    """Turned, scaled and moved a little, and darker or lighter."""

    def spread(width: float, *shape: int) -> Tensor:
        random = torch.rand(len(pictures), *shape, generator=generator)
        return (2 * random - 1) * width

    angle, scale = spread(0.2), 1 + spread(0.15)
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    turn = torch.stack([cosine, -sine, sine, cosine], 1).view(-1, 2, 2)
    theta = torch.cat([turn, spread(0.15, 2, 1)], 2)
    grid = affine_grid(theta, list(pictures.shape), align_corners=False)
    moved = grid_sample(
        pictures, grid, padding_mode="border", align_corners=False
    )
    return (moved * (1 + spread(0.4, 1, 1, 1))).clamp(0, 1)


def normalized(pictures: Tensor) -> Tensor:
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    return (pictures - mean[:, None, None]) / std[:, None, None]


@torch.no_grad()
def predictions(model: nn.Module, pictures: Tensor) -> Tensor:
    chunks = normalized(pictures).split(100)
    return torch.cat([model(chunk).argmax(1) for chunk in chunks])


if __name__ == "__main__":
    main()
