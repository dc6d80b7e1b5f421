"""MC-RISE on real traffic signs: is a sign's own color the best of five, or of eight?

Trains a small network on the German traffic signs in the folder that the environment
variable CAPTUM_EXT_DATA names (only once: the output folder keeps its weights) and runs
MC-RISE with five or eight colors on test signs of four kinds whose color is known. The
signs are chosen at random from those that the network classifies correctly and whose
color is visible: at night many have none.

The best color of a sign is the one whose map has the largest mean over the colored part
of the sign ("on_part") or over its whole box ("on_sign"). The correct answer is the
sign's own color; a guess is correct one time in K. With ``--colors 8`` the colors are
all corners of the RGB cube, as in Figure 2 of the supplement. The colored part consists
of the pixels of the box with at least half of the sign's largest excess of its own
color: for red R - (G + B) / 2, for blue B - (R + G) / 2, for yellow (R + G) / 2 - B.

Two scores are explained. "class" is the probability of the sign's class. "kind" is the
sum of the probabilities of all classes of its kind. For example, all eight speed limits
are white with a red rim, so the color of the rim identifies the kind, not the class.

Prints one JSON line and writes a figure of one sign of each kind, for the score "kind".

The commands of the package take the network as ``--model benchmarks/gtsrb.py:load
--weights FOLDER/gtsrb-0.pt``.
"""

import argparse
import io
import json
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from captum_ext._files import save_tensors
from captum_ext.attr import MCRISE
from captum_ext.masks import Palette, named_palette
from captum_ext.visualization import color_saliency_figure
from captum_ext.zoo import Preprocessing, ZooModel

N_CLASSES, N_EPOCHS = 43, 8
MEAN, STD = (0.34, 0.31, 0.32), (0.27, 0.26, 0.27)
PALETTES = {
    5: named_palette(["red", "blue", "yellow", "white", "black"], MEAN, STD),
    8: named_palette(8, MEAN, STD),
}
MIN_EXCESS = 0.1
# A cell is about as wide as a rim; the other settings are defaults.
MC_RISE = {"n_masks": 2000, "grid_size": 10, "mask_probability": 0.5}


class Kind(NamedTuple):
    """Signs of one color: the color and their classes."""

    color: str
    classes: list[int]


KINDS = {
    "red rim": Kind("red", [0, 1, 2, 3, 4, 5, 7, 8]),
    "red face": Kind("red", [14, 17]),
    "blue face": Kind("blue", [33, 34, 35, 36, 37, 38, 40]),
    "yellow face": Kind("yellow", [12]),
}


class Signs(NamedTuple):
    """Images (N, 3, 32, 32) in [0, 1], labels (N,), boxes (N, 4) x0 y0 x1 y1."""

    images: Tensor
    labels: Tensor
    boxes: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="output folder")
    parser.add_argument("--seed", type=int, default=0, help="seed (default 0)")
    parser.add_argument("--colors", type=int, choices=[*PALETTES], default=5)
    parser.add_argument("--signs", type=int, default=24, help="signs of each kind")
    parser.add_argument("--epochs", type=int, default=N_EPOCHS, help="of training")
    parser.add_argument("--training-signs", type=int, help="default: all")
    arguments = parser.parse_args()
    palette = PALETTES[arguments.colors]
    arguments.output.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    test = read_signs("test")
    file = arguments.output / f"gtsrb-{arguments.seed}.pt"
    model = trained(file, arguments.seed, arguments.epochs, arguments.training_signs)
    known = predictions(model, test.images) == test.labels
    trained_at = time.perf_counter()
    result: dict[str, object] = {
        "benchmark": "gtsrb",
        "accuracy": round(known.float().mean().item(), 4),
        "colors": palette.names,
        **MC_RISE,
    }
    figures = []
    for name, kind in KINDS.items():
        chosen, parts, boxes = choose(
            test, known, kind, arguments.signs, arguments.seed
        )
        row: dict[str, object] = {"signs": len(chosen.labels), "own": kind.color}
        for score in ("class", "kind"):
            maps = explain(model, chosen, kind, score, palette, arguments.seed)
            row[score] = {
                "on_part": share_on_top(maps, parts, kind, palette),
                "on_sign": share_on_top(maps, boxes, kind, palette),
                "best_on_part": best_colors(maps, parts, palette),
            }
        result[name] = row
        figures.append(drawn(chosen.images[0], maps[0], palette))
    end = time.perf_counter()
    result["seed"] = arguments.seed
    result["threads"] = torch.get_num_threads()
    result["seconds_to_train_or_load"] = round(trained_at - start)
    result["seconds_to_explain"] = round(end - trained_at)
    figure = Image.fromarray(np.concatenate(figures))
    figure.save(arguments.output / f"gtsrb-{arguments.seed}-{arguments.colors}.png")
    print(json.dumps(result))


def data_file(part: str) -> Path:
    """File with the arrays of "train" or "test"."""
    file = Path(os.environ.get("CAPTUM_EXT_DATA", "")) / "gtsrb" / f"{part}.npz"
    if not file.exists():
        sys.exit(f"CAPTUM_EXT_DATA must name the folder of the data, found no {file}.")
    return file


def read_signs(part: str) -> Signs:
    with np.load(data_file(part)) as data:
        return Signs(
            torch.from_numpy(data["images"]).permute(0, 3, 1, 2) / 255,
            torch.from_numpy(data["labels"]).long(),
            torch.from_numpy(data["roi"]),
        )


def trained(
    file: Path, seed: int, n_epochs: int = N_EPOCHS, n_signs: int | None = None
) -> nn.Module:
    """Network of the seed, read from the file or trained and written to it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network()
    if file.exists():
        model.load_state_dict(torch.load(file, weights_only=True))
        return model.eval()
    signs = read_signs("train")
    order = torch.randperm(len(signs.labels), generator=Generator().manual_seed(seed))
    chosen = order[:n_signs].sort().values
    train(model, Signs(*(part[chosen] for part in signs)), seed, n_epochs)
    save_tensors(model.state_dict(), file)
    return model.eval()


def network() -> nn.Sequential:
    """Logits of normalized images (B, 3, 32, 32)."""
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


def load(weights: str | None) -> ZooModel:
    """Network with weights that this benchmark wrote, for the commands."""
    if weights is None or not Path(weights).is_file():
        raise ValueError(f"weights must be a file of this benchmark, got {weights!r}.")
    model = network()
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    preprocess = Preprocessing.square(32, MEAN, STD)
    class_names = tuple(f"sign {i}" for i in range(N_CLASSES))
    return ZooModel(model.eval(), preprocess, class_names, MEAN, STD)


def train(
    model: nn.Module, signs: Signs, seed: int, n_epochs: int, batch_size: int = 64
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
            inputs = normalized(augmented(signs.images[batch], generator))
            loss = cross_entropy(model(inputs), signs.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        mean = total * n_epochs / n_steps
        print(f"epoch {epoch + 1} of {n_epochs}: loss {mean:.3f}", file=sys.stderr)


def augmented(images: Tensor, generator: Generator) -> Tensor:
    """Slightly rotated, scaled and shifted images, darker or lighter."""

    def spread(width: float, *shape: int) -> Tensor:
        random = torch.rand(len(images), *shape, generator=generator)
        return (2 * random - 1) * width

    angle, scale = spread(0.2), 1 + spread(0.15)
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    turn = torch.stack([cosine, -sine, sine, cosine], 1).view(-1, 2, 2)
    theta = torch.cat([turn, spread(0.15, 2, 1)], 2)
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    moved = grid_sample(images, grid, padding_mode="border", align_corners=False)
    return (moved * (1 + spread(0.4, 1, 1, 1))).clamp(0, 1)


def normalized(images: Tensor) -> Tensor:
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    return (images - mean[:, None, None]) / std[:, None, None]


@torch.no_grad()
def predictions(model: nn.Module, images: Tensor) -> Tensor:
    chunks = normalized(images).split(100)
    return torch.cat([model(chunk).argmax(1) for chunk in chunks])


def choose(
    signs: Signs, known: Tensor, kind: Kind, n_signs: int, seed: int
) -> tuple[Signs, Tensor, Tensor]:
    """Signs of the kind, their colored parts and their boxes, (N, 32, 32) each."""
    chosen = known & torch.isin(signs.labels, torch.tensor(kind.classes))
    excess = color_excess(signs.images, kind.color)
    inside = boxed(signs)
    largest = excess.where(inside, 0).amax((1, 2))
    index = (chosen & (largest >= MIN_EXCESS)).nonzero()[:, 0]
    generator = Generator().manual_seed(seed)
    index = index[torch.randperm(len(index), generator=generator)[:n_signs]]
    parts = inside & (excess >= largest[:, None, None] / 2)
    return Signs(*(values[index] for values in signs)), parts[index], inside[index]


def color_excess(images: Tensor, color: str) -> Tensor:
    """Mean of the color's channels minus the mean of the others, (N, H, W)."""
    has = PALETTES[5].rgb[PALETTES[5].names.index(color)] > 0
    return images[:, has].mean(1) - images[:, ~has].mean(1)


def boxed(signs: Signs) -> Tensor:
    """Whether the center of each pixel lies in the sign's box, (N, 32, 32)."""
    x0, y0, x1, y1 = signs.boxes.T[:, :, None]
    centers = torch.arange(signs.images.shape[-1]) + 0.5
    columns = (x0 <= centers) & (centers <= x1)
    rows = (y0 <= centers) & (centers <= y1)
    return rows[:, :, None] & columns[:, None, :]


def explain(
    model: nn.Module,
    signs: Signs,
    kind: Kind,
    score: str,
    palette: Palette,
    seed: int,
) -> Tensor:
    """Maps (N, K, 32, 32) of the probability of the sign's class or of its kind."""

    def probabilities(inputs: Tensor) -> Tensor:
        return model(inputs).softmax(1)

    def kind_probability(inputs: Tensor) -> Tensor:
        return probabilities(inputs)[:, kind.classes].sum(1)

    by_class = score == "class"
    return MCRISE(probabilities if by_class else kind_probability).attribute(
        normalized(signs.images),
        palette,
        target=signs.labels if by_class else None,
        seed=seed,
        **MC_RISE,
    )


def top_colors(maps: Tensor, where: Tensor) -> Tensor:
    """Index (N,) of the color with the largest mean map at ``where``."""
    return (maps * where[:, None]).sum((2, 3)).argmax(1)


def share_on_top(maps: Tensor, where: Tensor, kind: Kind, palette: Palette) -> float:
    """Share of the signs whose own color is on top at ``where``."""
    own = top_colors(maps, where) == palette.names.index(kind.color)
    return round(own.float().mean().item(), 3)


def best_colors(maps: Tensor, where: Tensor, palette: Palette) -> dict[str, int]:
    """Numbers of signs by the color that is on top."""
    top = top_colors(maps, where).tolist()
    return {palette.names[i]: top.count(i) for i in sorted({*top}, key=top.count)[::-1]}


def drawn(image: Tensor, maps: Tensor, palette: Palette) -> np.ndarray:
    """The maps of one sign as an image."""
    figure = color_saliency_figure(image, maps, palette.rgb, palette.names)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return np.asarray(Image.open(file).convert("RGB"))


if __name__ == "__main__":
    main()
