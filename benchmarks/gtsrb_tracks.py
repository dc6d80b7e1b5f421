"""MC-RISE on re-identification: which color, where, makes two images one identity?

Equation (A.12) of the supplement of PN-RISE and MC-RISE on traffic signs: the 30 images
of one physical sign, taken as a car approaches it, are one identity (a track). The
embedding is what the last layer of the network of gtsrb.py gets, of length 1. The
gallery is one image of each track, the 15th; queries are the last images of tracks
drawn at random.

The score of a pair is exp(-d / d0), where d is the distance of the embeddings and d0
the distance of the query to its nearest image in the gallery, its match. It is
explained by MC-RISE with five colors for two pairs of each query: with the gallery's
image of its own track ("matched") and with the nearest image of another one
("mismatched").

Prints the share of queries whose match is of their own track, and for both kinds of
pairs the mean of the map over the sign and over the rest of the image, the color that
lowers the similarity least, on the mean, over the sign, and the correlation of the two
maps of a query. Rows are appended to ``tracks.jsonl`` in the output folder, so that a
command that was stopped resumes; ``--report`` prints the table, and the folder gets a
figure of the maps of the first query.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import gtsrb
import numpy as np
import pandas as pd
import torch
from gtsrb import Signs
from PIL import Image
from rows import RowFile, markdown, read_rows
from torch import Generator, Tensor, nn

from captum_ext.attr import MCRISE, EmbeddingSimilarity

TRACK, GALLERY, QUERY = 30, 14, 29
PALETTE = gtsrb.PALETTES[5]
# The supplement's masking probability; a mask covers a tenth of the cells.
MC_RISE: dict[str, Any] = {"n_masks": 1000, "grid_size": 10, "mask_probability": 0.1}


class Embedding(nn.Module):
    """Inputs of a network's last layer, of length 1, (B, E)."""

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.body = network[:-1]

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(self.body(x), dim=1)


def frames(signs: Signs, index: int) -> Signs:
    """One frame of each track; track t has the images from 30 t on."""
    return Signs(*(values[index::TRACK] for values in signs))


def matches(queries: Tensor, gallery: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest image of the gallery to each query, and the nearest of another identity.

    Args:
        queries (Tensor): Embeddings (Q, E).
        gallery (Tensor): Embeddings (G, E), one of each identity.
        own (Tensor): Index of the query's identity in the gallery, (Q,).
    """
    distances = torch.cdist(queries, gallery)
    nearest = distances.argmin(1)
    others = distances.scatter(1, own[:, None], torch.inf).argmin(1)
    return nearest, others


def summary(maps: Tensor, inside: Tensor) -> dict[str, Any]:
    """Numbers of a map (K, H, W) of a pair, for the pixels of the sign (H, W)."""
    colors = maps[:, inside].mean(1)
    return {
        "on_sign": float(maps[:, inside].mean()),
        "elsewhere": float(maps[:, ~inside].mean()),
        "negative_on_sign": float((maps[:, inside] < 0).float().mean()),
        "least_harmful": PALETTE.names[int(colors.argmax())],
    }


def explained(
    network: nn.Module, query: Tensor, reference: Tensor, scale: float
) -> Tensor:
    """Map (K, H, W) of the similarity of a query (1, 3, H, W) to an embedding."""
    score = EmbeddingSimilarity(network, reference, scale)
    return MCRISE(score).attribute(query, PALETTE, seed=0, **MC_RISE)[0]


def correlation(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


@torch.no_grad()
def run(arguments: argparse.Namespace) -> None:
    """Append the rows that the output folder lacks."""
    file = RowFile(arguments.output / "tracks.jsonl", ("seed", "track"))
    seed = arguments.seed
    network = Embedding(gtsrb.trained(arguments.output / f"gtsrb-{seed}.pt", seed))
    signs = gtsrb.read_signs("train")
    queries, kept = frames(signs, QUERY), frames(signs, GALLERY)
    inputs = gtsrb.normalized(queries.images)
    embedded = network.eval()(inputs)
    gallery = network(gtsrb.normalized(kept.images))
    own = torch.arange(len(inputs))
    nearest, others = matches(embedded, gallery, own)
    boxes = gtsrb.boxed(queries)
    drawn = torch.randperm(len(inputs), generator=Generator().manual_seed(seed))
    for track in drawn[: arguments.queries].tolist():
        if file.has(seed, track):
            continue
        d0 = float((embedded[track] - gallery[nearest[track]]).norm())
        maps = [
            explained(network, inputs[track, None], gallery[i], d0)
            for i in (track, int(others[track]))
        ]
        pairs = {
            kind: summary(each, boxes[track])
            for kind, each in zip(("matched", "mismatched"), maps)
        }
        other = int(others[track])
        file.append(
            {
                "seed": seed,
                "track": track,
                "right": int(nearest[track]) == track,
                "right_of_all": float((nearest == own).float().mean()),
                "same_class": bool(queries.labels[track] == kept.labels[other]),
                "correlation": correlation(*maps),
                **pairs,
            }
        )
        figure = arguments.output / f"tracks-{seed}.png"
        if not figure.exists():
            images = (kept.images[track], kept.images[other])
            draw(queries.images[track], images, maps, figure)


def draw(
    query: Tensor, references: tuple[Tensor, Tensor], maps: list[Tensor], path: Path
) -> None:
    """The maps of both pairs of a query, each below the other image."""
    parts = [gtsrb.drawn(query, each, PALETTE) for each in maps]
    width = parts[0].shape[1]
    pictures = []
    for image, part in zip(references, parts):
        pixels = (image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        shown = np.full((128, width, 3), 255, np.uint8)
        shown[:, :128] = Image.fromarray(pixels).resize((128, 128))
        pictures += [shown, part]
    Image.fromarray(np.concatenate(pictures)).save(path)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over the queries, by kind of pair."""
    lines = {}
    for kind in ("matched", "mismatched"):
        each = pd.DataFrame(rows[kind].tolist())
        color = each.least_harmful.value_counts()
        lines[kind] = {
            "map on the sign": each.on_sign.mean(),
            "elsewhere": each.elsewhere.mean(),
            "negative share on the sign": each.negative_on_sign.mean(),
            "least harmful color": f"{color.index[0]} ({color.iloc[0]})",
        }
    return pd.DataFrame.from_dict(lines, orient="index")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="output folder")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", action="store_true", help="only print the table")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    if not arguments.report:
        run(arguments)
    rows = pd.DataFrame(read_rows(arguments.output / "tracks.jsonl"))
    rows = rows[rows.seed == arguments.seed]
    found = table(rows)
    print(markdown(found.round(4).rename_axis("pair")), "\n")
    result = {
        "benchmark": "gtsrb_tracks",
        "queries": len(rows),
        "right": round(rows.right.mean(), 4),
        "right_of_all": round(rows.right_of_all.mean(), 4),
        "mismatched_of_the_same_class": round(rows.same_class.mean(), 4),
        "correlation": round(rows.correlation.mean(), 4),
    }
    print(json.dumps(result | found.round(5).to_dict("index")))


if __name__ == "__main__":
    main()
