"""Class embeddings of a masking network: Figure 7 of its paper, in numbers and drawn.

The share of classes whose nearest embedding (by the cosine) is of a class of the same
kind, and the share by chance. The built-in network for road signs has 16 classes, of
the kinds color, shape and symbol, the words of their names; a network that
gtsrb_masks.py trained (``--masking-network FOLDER/masks-1/checkpoint.pt``) has 43
classes, of kinds such as "red rim".

``--figure FILE`` draws the embeddings by t-SNE, a class each, in the colors of the
first kind.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import gtsrb
import torch
from torch import Tensor
from torch.nn.functional import normalize

from captum_ext.masking import MaskingNetwork
from captum_ext.zoo import load, load_signs_masks


def sign_kinds(names: Sequence[str]) -> dict[str, list[str]]:
    """Kinds of the built-in classes, from names such as "red circle, bar"."""
    parts = [name.replace(",", "").split() for name in names]
    return {
        kind: [each[i] for each in parts]
        for i, kind in enumerate(("color", "shape", "symbol"))
    }


def gtsrb_kinds() -> dict[str, list[str]]:
    """Kinds of GTSRB's classes by their look; the rest is of no kind."""
    names = {c: name for name, kind in gtsrb.KINDS.items() for c in kind.classes}
    names |= dict.fromkeys([11, *range(18, 32)], "triangle")
    names |= dict.fromkeys([6, 32, 41, 42], "end of a limit")
    return {"look": [names.get(c, "") for c in range(gtsrb.N_CLASSES)]}


def same_kind(C: Tensor, kinds: Sequence[str]) -> tuple[float, float]:
    """Share of the classes whose nearest embedding is of their kind, and by chance.

    Only classes count that share their kind with another one.

    Args:
        C (Tensor): Embeddings (classes, E).
        kinds (sequence of str): Kind of each class; "" for none.
    """
    unit = normalize(C, dim=1)
    nearest = (unit @ unit.T).fill_diagonal_(-2).argmax(1).tolist()
    counts = {kind: list(kinds).count(kind) for kind in kinds if kind}
    counted = [i for i, kind in enumerate(kinds) if counts.get(kind, 0) > 1]
    right = [kinds[nearest[i]] == kinds[i] for i in counted]
    chance = [(counts[kinds[i]] - 1) / (len(C) - 1) for i in counted]
    return round(sum(right) / len(right), 3), round(sum(chance) / len(chance), 3)


def draw(C: Tensor, kinds: Sequence[str], names: Sequence[str], path: Path) -> None:
    """The embeddings by t-SNE, in one color for each kind."""
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE

    unit = normalize(C, dim=1).numpy()
    points = TSNE(perplexity=5, init="pca", random_state=0).fit_transform(unit)
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for kind in dict.fromkeys(kinds):
        own = [i for i, each in enumerate(kinds) if each == kind]
        axes.scatter(*points[own].T, s=40, label=kind or "other")
    for name, point in zip(names, points):
        axes.annotate(
            name, point, xytext=(0, 5), textcoords="offset points", fontsize=6
        )
    axes.set(xticks=[], yticks=[])
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--masking-network", type=Path, help="of gtsrb_masks.py")
    parser.add_argument("--figure", type=Path, help="file for a figure")
    arguments = parser.parse_args()
    if arguments.masking_network:
        network = MaskingNetwork.load(arguments.masking_network)
        names = [str(c) for c in range(gtsrb.N_CLASSES)]
        kinds = gtsrb_kinds()
    else:
        network, names = load_signs_masks(), list(load("signs").class_names)
        kinds = sign_kinds(names)
    C = network.feature_filter.embedding.weight.detach()
    if arguments.figure:
        draw(C, next(iter(kinds.values())), names, arguments.figure)
    shares = {kind: same_kind(C, each) for kind, each in kinds.items()}
    result = {
        kind: {"nearest_of_same_kind": share, "by_chance": chance}
        for kind, (share, chance) in shares.items()
    }
    print(json.dumps({"benchmark": "class_embeddings", "classes": len(C)} | result))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
