"""BOREx on video: refining the maps of RISE and Grad-CAM++.

The score of a class is the mean of an image classifier's probabilities over the frames.
On road-sign videos, where the moving sign is known, one-sided Wilcoxon signed-rank
tests over the videos compare the refined map with its prior; for the clips of the data
folder only the values are printed.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy
import torch
from images import data_folder, load_network
from scipy.stats import wilcoxon
from torch import Tensor, nn

from captum_ext import zoo
from captum_ext.attr import PNRISE, RISE, BOREx, LayerGradCamPlusPlus
from captum_ext.metrics import deletion, f_measure, insertion

CLIPS = {"archery": "bow", "abseiling": "cliff", "basketball": "basketball"}
LOWER_IS_BETTER = {"deletion"}
N_STEPS = 28


class FrameAverage(nn.Module):
    """Mean probabilities over the frames of videos (B, C, T, H, W).

    Args:
        features (nn.Module): Frames (N, C, H, W) to maps (N, K, h, w).
        head (nn.Module): Maps to logits (N, classes).
    """

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features, self.head = features, head
        # Gathers the maps of all frames into a video, for layer methods.
        self.maps = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        frames = x.movedim(2, 1)
        maps = self.features(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        maps = self.maps(maps.movedim(1, 2)).movedim(2, 1)
        logits = self.head(maps.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return logits.softmax(2).mean(1)


class Video(NamedTuple):
    """Normalized frames (1, C, T, H, W), their class and, if known, its pixels."""

    inputs: Tensor
    label: int
    masks: Tensor | None


def sign_videos(n: int, n_frames: int) -> tuple[FrameAverage, Iterator[Video]]:
    entry = zoo.load("signs")
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), entry.model.classifier)
    videos = (zoo.sign_video(seed, n_frames) for seed in range(n))
    return FrameAverage(entry.model.features, head).eval(), (
        Video(entry.normalize(v.image)[None], v.label, v.masks[None]) for v in videos
    )


def clips() -> tuple[FrameAverage, Iterator[Video]]:
    entry = load_network("mobilenet_v2")
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), entry.model.classifier)
    files = {
        name: next((data_folder() / "video").glob(f"*{name}*_16x224.npz"))
        for name in CLIPS
    }
    return FrameAverage(entry.model.features, head).eval(), (
        Video(
            entry.normalize(frames_of(file))[None],
            zoo.find_class(entry.class_names, CLIPS[name]),
            None,
        )
        for name, file in files.items()
    )


def frames_of(file: Path) -> Tensor:
    """RGB in [0, 1], (3, T, H, W)."""
    frames = torch.from_numpy(numpy.load(file)["frames"])
    return frames.permute(3, 0, 1, 2).float() / 255


def blocks_of(x: Tensor, cells: tuple[int, ...]) -> Tensor:
    """Index of the block of each pixel of a video, (1, 1, T, H, W)."""
    index = torch.zeros((), dtype=torch.long)
    for n, k in zip(x.shape[2:], cells):
        index = index[..., None] * k + torch.arange(n) * k // n
    return index[None, None]


def measured(model: FrameAverage, video: Video) -> dict[str, dict[str, float]]:
    """Metrics by method."""
    x, label, masks = video
    priors = {
        "RISE": RISE(model).attribute(x, target=label, n_masks=100),
        "Grad-CAM++": LayerGradCamPlusPlus(model, model.maps).attribute(
            x, label, relu_attributions=True
        ),
    }
    blocks = blocks_of(x, (8, 9, 9))
    refined = {"BOREx": BOREx(model).attribute(x, target=label)}
    for name, prior in priors.items():
        for kind, arguments in {
            "": {},
            ", blocks,": {"feature_mask": blocks},
            ", windows,": {"variant": "windows"},
        }.items():
            maps = BOREx(model).attribute(x, prior, target=label, **arguments)
            refined[f"BOREx{kind} of {name}"] = maps
    pn_rise = PNRISE(model)
    by_pairs = {
        "PN-RISE": pn_rise.attribute(x, target=label, n_masks=102),
        "PN-RISE, field": pn_rise.attribute(
            x, target=label, n_masks=102, estimator="field", layout="superpixels"
        ),
    }
    values = {}
    for name, maps in (priors | refined | by_pairs).items():
        each = {
            "insertion": insertion(model, x, maps.detach(), label, n_steps=N_STEPS),
            "deletion": deletion(model, x, maps.detach(), label, n_steps=N_STEPS),
        }
        if masks is not None:
            each["f_measure"] = f_measure(None, x, maps.detach(), masks=masks)
        values[name] = {metric: float(value) for metric, value in each.items()}
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=40)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--clips", action="store_true", help="use the three real clips")
    arguments = parser.parse_args()
    model, videos = (
        clips() if arguments.clips else sign_videos(arguments.videos, arguments.frames)
    )
    rows = [measured(model, video) for video in videos]
    result: dict[str, object] = {
        "benchmark": "borex_video",
        "data": "clips" if arguments.clips else "signs",
        "videos": len(rows),
    }
    for metric in rows[0]["RISE"]:
        by_method = {name: [row[name][metric] for row in rows] for name in rows[0]}
        digits = 1 if metric == "f_measure" else 4
        result[metric] = {
            name: round(mean(values), digits) for name, values in by_method.items()
        }
        if not arguments.clips:
            alternative = "less" if metric in LOWER_IS_BETTER else "greater"
            result[f"{metric}_p"] = {
                name: wilcoxon(
                    by_method[name],
                    by_method[name.split(" of ")[1]],
                    alternative=alternative,
                ).pvalue
                for name in by_method
                if " of " in name
            }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
