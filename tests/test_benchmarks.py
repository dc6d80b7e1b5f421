"""Formulas of the benchmarks of the papers' tables, on tiny cases."""

import importlib
import json
import math
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from captum_ext.datasets import Box, Dataset, Example
from captum_ext.zoo import load

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


# Rows


def test_rows_survive_a_cut(module, tmp_path, capsys):
    rows: ModuleType = module("rows")
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1, "b": 2, "value": 3}\n{"a": 1, "b')
    file = rows.RowFile(path, ("a", "b"))
    assert file.has(1, 2) and not file.has(2, 1)
    file.append({"a": 2, "b": 1, "value": 4})
    assert file.has(2, 1)
    assert [row["value"] for row in rows.read_rows(path)] == [3, 4]
    assert "incomplete row" in capsys.readouterr().err
    table = pd.DataFrame({"x": ["1"]}, index=pd.Index(["a"], name="name"))
    assert rows.markdown(table) == "| name | x |\n| --- | --- |\n| a | 1 |"


# Attacks


def test_where_a_perturbation_is(module):
    """Weights .5 inside, and everything outside of a map of a single pixel."""
    p = torch.tensor([[[2.0, 1.0], [0.0, 0.0]]]).expand(3, 2, 2) / 255
    S = torch.tensor([[1.0, 0.5], [0.0, 0.0]])
    found = module("attacks").where(p, S)
    # Energies 4 and 1; half of the second counts as inside.
    assert found["share"] == pytest.approx(4.5 / 5)
    assert found["inside"] == pytest.approx(math.sqrt(4.5 / 1.5), abs=1e-3)
    assert found["outside"] == pytest.approx(math.sqrt(0.5 / 2.5), abs=1e-3)
    assert found["all"] == pytest.approx(math.sqrt(5 / 4), abs=1e-3)


def test_tables_of_attacks_leave_out_failed_ones(module):
    attacks = module("attacks")
    curves = [[i / 20] * 21 for i in range(3)]
    values = {"clean": 0.9, "mean_map": 0.2, "pgd_share": 0.3, "enhanced_share": 0.6}
    rows = pd.DataFrame(
        [
            {"method": "CAMERAS", "sanity": s, "curve": c, "enhanced_confidence": e}
            | values
            for s, c, e in zip((0.2, 0.4, math.nan), curves, (0.9, 1.0, 0.2))
        ]
    )
    sanity, found = attacks.tables(rows)
    assert sanity.loc["CAMERAS", "sanity"] == pytest.approx(0.3)
    assert sanity.loc["CAMERAS", "images"] == 2
    # Both complete curves are constant: 0 and .05.
    assert sanity.loc["CAMERAS", [0.0, 0.01, 0.1]].tolist() == pytest.approx(
        [0.025] * 3
    )
    assert found.loc["CAMERAS", "confidence_median"] == 0.9
    assert found.loc["CAMERAS", "confidence_min"] == 0.2


# Pointing game


def test_examples_of_an_image_are_its_classes(module):
    voc = module("voc_pointing")
    boxes = [
        Box((3, 4), (0, 0, 1, 1)),
        Box((7,), (1, 1, 2, 2)),
        Box((3, 4), (0, 0, 2, 2)),
    ]
    image = Example("a.jpg", lambda: None, (3, 4, 7), tuple(boxes))
    found = voc.by_class(Dataset("here", (image,))).examples
    assert [e.name for e in found] == ["a.jpg/3", "a.jpg/7"]
    assert [e.labels for e in found] == [(3, 4), (7,)]
    assert [len(e.boxes) for e in found] == [2, 1]


def test_subsets_and_accuracies_of_the_pointing_game(module, tmp_path):
    voc = module("voc_pointing")
    names = (("cat", 0, 20), ("dog", 1, 96), ("cat", 1, 30))
    objects = "".join(
        f"<object><name>{name}</name><difficult>{flag}</difficult><bndbox><xmin>1</xmin>"
        f"<ymin>1</ymin><xmax>{edge}</xmax><ymax>{edge}</ymax></bndbox></object>"
        for name, flag, edge in names
    )
    file = tmp_path / "a.xml"
    file.write_text(f"<annotation>{objects}</annotation>")
    found = voc.objects(file)
    assert found[0] == {"name": "cat", "edges": [0, 0, 20, 20], "marked": False}
    entry = load("signs")
    image = Image.new("RGB", (96, 96))
    given = {name: voc.subsets(found, name, entry, image) for name in ("cat", "dog")}
    assert given["cat"] == {"All": True, "Difficult": True, "Marked": False}
    assert given["dog"] == {"All": True, "Difficult": False, "Marked": True}
    # Without an object of another class.
    assert not voc.subsets(found[::2], "cat", entry, image)["Difficult"]
    hits = pd.DataFrame({"rise": [1.0, 0.0]}, index=["cat", "dog"])
    table = voc.accuracies(hits, pd.DataFrame.from_dict(given, orient="index"))
    assert table.loc["rise"].tolist() == [0.5, 1.0, 0.0]
    assert table.loc["examples"].tolist() == [2, 1, 1]


# Localization


def test_box_mask_has_the_box(module):
    x = torch.zeros(1, 3, 6, 8)
    mask = module("localization").box_mask(torch.tensor([1.0, 2.0, 4.0, 5.0]), x)
    assert mask.shape == (1, 1, 6, 8) and mask.sum() == 9
    assert mask[0, 0, 2:5, 1:4].all()


def test_threshold_is_chosen_on_one_half_and_reported_on_the_other(module):
    """The first threshold is best on images 0 and 2, the second on 1 and 3."""
    localization = module("localization")
    errors = {"a": (0, 1, 0, 1), "b": (1, 0, 1, 0), "c": (0, 0, math.nan, 0)}
    rows = [
        {
            "image": str(i),
            "method": "gradient",
            "values": {name: [each[i], i / 10] for name, each in errors.items()},
        }
        for i in range(4)
    ]
    rows += [
        {"image": str(i), "method": "center box", "values": {"box": [i % 2, 0.5]}}
        for i in range(4)
    ]
    table = localization.table(rows)
    assert table.loc["gradient", "threshold"] == "a"
    assert table.loc["gradient", "localization error"] == 100
    assert table.loc["gradient", "saliency metric"] == pytest.approx(0.2)
    assert table.loc["center box", ["localization error", "images"]].tolist() == [50, 4]


def test_excitation_is_positive_and_conserved(module):
    """With alpha = 1 and beta = 0, relevance is redistributed, not created."""
    localization = module("localization")
    torch.manual_seed(0)

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            convolutions = [nn.Conv2d(*n, bias=False) for n in ((3, 4, 3), (4, 5, 3))]
            one, two = ([each, nn.ReLU()] for each in convolutions)
            self.features = nn.Sequential(
                *one, nn.MaxPool2d(1), *two, nn.AdaptiveAvgPool2d(1)
            )

        def forward(self, x):
            return self.features(x).flatten(1)

    model, x = Small(), torch.rand(1, 3, 8, 8)
    one, two = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    one.weight.data.abs_()
    # What is left of a pixel contradicts every class there; nothing else is left of the
    # first column.
    two.weight.data.abs_()
    two.weight.data[..., 0] *= -0.2
    localization.EXCITATION_LAYER, before = 2, localization.EXCITATION_LAYER
    try:
        with torch.no_grad():
            target = int(model(x).argmax())
            score = model(x)[0, target]
        maps = localization.excitation(model, x, target)
    finally:
        localization.EXCITATION_LAYER = before
    assert maps.shape == (1, 1, 6, 6) and (maps >= -1e-6).all()
    assert maps.sum().item() == pytest.approx(score.item(), rel=1e-3)


# Traffic signs


def test_nearest_of_another_identity(module):
    tracks = module("gtsrb_tracks")
    gallery = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    queries = torch.tensor([[0.1, 0.0], [0.2, 0.0], [0.0, 2.0]])
    nearest, others = tracks.matches(queries, gallery, torch.arange(3))
    assert nearest.tolist() == [0, 0, 2]
    assert others.tolist() == [1, 0, 0]


def test_summary_of_a_map_of_a_pair(module):
    tracks = module("gtsrb_tracks")
    maps = torch.zeros(5, 2, 2)
    maps[:, 0, 0] = torch.tensor([-3.0, -1.0, -2.0, -4.0, -5.0])
    maps[:, 1, 1] = 2.0
    inside = torch.tensor([[True, False], [False, False]])
    found = tracks.summary(maps, inside)
    assert found["on_sign"] == -3 and found["negative_on_sign"] == 1
    assert found["elsewhere"] == pytest.approx(2 / 3)
    assert found["least_harmful"] == "blue"


def test_colors_on_top(module):
    gtsrb = module("gtsrb")
    palette = gtsrb.PALETTES[8]
    assert len(palette.names) == 8 and set(gtsrb.PALETTES[5].names) < set(palette.names)
    maps = torch.zeros(3, 8, 2, 2)
    maps[:2, palette.names.index("magenta"), 0, 0] = 1
    maps[2, palette.names.index("red"), 0, 0] = 1
    # Of the rest, which does not count.
    maps[:, palette.names.index("cyan"), 1, 1] = 9
    where = torch.zeros(3, 2, 2, dtype=torch.bool)
    where[:, 0, 0] = True
    red = gtsrb.KINDS["red face"]
    assert gtsrb.share_on_top(maps, where, red, palette) == pytest.approx(
        1 / 3, abs=1e-3
    )
    assert gtsrb.best_colors(maps, where, palette) == {"magenta": 2, "red": 1}


def test_nearest_embeddings_of_the_same_kind(module):
    """Two kinds of two classes, a class alone and one of no kind."""
    embeddings = module("class_embeddings")
    C = torch.tensor([[1, 0], [9, 1], [0, 1], [1, -0.1], [-1, 0], [-1, 1]])
    kinds = ["a", "a", "b", "b", "c", ""]
    # Only the second class: the first is nearer to the fourth, the third to the sixth.
    assert embeddings.same_kind(C, kinds)[0] == 0.25
    # One of five other classes is of the kind.
    assert embeddings.same_kind(C, kinds)[1] == pytest.approx(0.2)
    assert embeddings.same_kind(C[:2], ["a", "a"]) == (1, 1)
    found = embeddings.sign_kinds(load("signs").class_names)
    assert [len(set(each)) for each in found.values()][0] > 1
    looks = embeddings.gtsrb_kinds()["look"]
    assert len(looks) == 43 and looks[14] == "red face" and looks[18] == "triangle"


# CAMERAS


def test_area_penalty_and_norm_grad(module):
    seconds = module("map_seconds")
    mask = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    assert seconds.area_penalty(mask, 0.3) == 0
    assert seconds.area_penalty(mask, 0.5).item() == pytest.approx(0.2)
    layer = nn.Conv2d(1, 2, 1, bias=False)
    layer.weight.data = torch.tensor([3.0, 4.0]).view(2, 1, 1, 1)
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(8, 1, bias=False))
    model[2].weight.data = torch.tensor([[1.0, 0, 0, 0, 2.0, 0, 0, 0]])
    x = torch.tensor([[[[2.0, 1.0], [1.0, 1.0]]]])
    found = seconds.norm_grad(model, layer, x, 0)
    # Activations (6, 8), gradients (1, 2) at the first pixel, none elsewhere.
    expected = torch.tensor([[10 * math.sqrt(5), 0], [0, 0]])
    torch.testing.assert_close(found[0, 0], expected)


def test_extremal_perturbation_keeps_what_the_model_needs(module):
    """A model of the contrast in one corner; a fourth of the image is kept."""

    class Corner(nn.Module):
        def forward(self, x):
            value = 8 * x[:, :, :16, :16].square().mean((1, 2, 3))
            return torch.stack([value, torch.zeros_like(value)], 1)

    x = torch.zeros(1, 3, 32, 32)
    x[:, :, ::4, ::4] = 4.0
    mask = module("map_seconds").extremal_perturbation(Corner(), x, 0, 150, 0.25)
    assert mask.shape == (1, 1, 32, 32)
    corner = mask[..., :12, :12].mean()
    assert corner > 0.6 and corner > 3 * mask[..., 20:, 20:].mean()


def test_time_of_a_map_beside_the_papers(module):
    seconds = module("map_seconds")
    names = [*seconds.PAPER, "forward pass"]
    rows = pd.DataFrame(
        [
            {"method": name, "seconds": 2.0 * (i + 1), "share": 1.0}
            for i, name in enumerate(names)
        ]
    )
    table = seconds.table(rows)
    assert table.loc["RISE", "forward passes"] == pytest.approx(1 / len(names))
    assert table.loc["CAMERAS", "paper, ResNet"] == 0.44


def test_confidences_under_a_map(module, tmp_path):
    confidences = module("confidences")
    S = torch.arange(16.0).view(1, 1, 4, 4)
    assert confidences.moved(S)[0, 0, 0, 0] == 10
    one, two = confidences.NETWORKS
    rows = pd.DataFrame(
        [
            {"method": "CAMERAS", "of": one, one: a, two: b, "similarity": 0.5}
            for a, b in ((0.1, 0.2), (0.2, 0.4), (0.6, 0.8))
        ]
    )
    table = confidences.table(rows)
    assert table["difference"].tolist() == pytest.approx([0.5 / 3])
    assert table["correlation"].iloc[0] == pytest.approx(rows[one].corr(rows[two]))
    assert json.dumps(table.reset_index().to_dict("records"))
