"""Readers of each data set format, on generated and on real files."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from captum_ext.datasets import (
    Box,
    Dataset,
    Example,
    read_arrays,
    read_boxes,
    read_class_folders,
    read_class_map,
    read_coco,
    read_images,
    read_signs,
    read_voc,
)
from captum_ext.datasets.formats import DATASET_FORMATS, DatasetSource, find_format
from captum_ext.datasets.training_images import (
    InMemoryImages,
    LabeledImages,
    training_images,
)
from captum_ext.zoo import SIGN_CLASSES, Preprocessing, load, sign_scene

NAMES = ("cat", "dog", "crane", "crane")


def paint(path: Path, size=(40, 30), color="red", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, **options)
    return path


def voc_xml(filename: str, *objects: tuple[str, int, int, int, int]) -> str:
    items = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, x0, y0, x1, y1 in objects
    )
    return f"<annotation><filename>{filename}</filename>{items}</annotation>"


def write_voc(folder: Path, images="images", annotations="annotations") -> Path:
    for name in ("b.jpg", "a.jpg", "c.jpg"):
        paint(folder / images / name)
    (folder / annotations).mkdir()
    for name, text in {
        "a": voc_xml("a.jpg", ("dog", 1, 1, 10, 20), ("cat", 5, 6, 7, 8)),
        "b": voc_xml("b.jpg", ("person", 1, 1, 9, 9), ("Crane", 3, 3, 30, 30)),
        "c": voc_xml("c.jpg", ("person", 1, 1, 9, 9)),
    }.items():
        (folder / annotations / f"{name}.xml").write_text(text)
    return folder


def write_coco(folder: Path) -> Path:
    for name in ("x.jpg", "y.jpg"):
        paint(folder / "images" / name)
    annotation = {"image_id": 7, "iscrowd": 0, "area": 1}
    content = {
        "images": [{"id": 9, "file_name": "y.jpg"}, {"id": 7, "file_name": "x.jpg"}],
        "categories": [{"id": 3, "name": "dog"}, {"id": 8, "name": "tree"}],
        "annotations": [
            {**annotation, "id": 1, "category_id": 3, "bbox": [1, 2, 10.5, 20]},
            {**annotation, "id": 2, "category_id": 3, "bbox": [1, 2, 0, 20]},
            {**annotation, "id": 3, "category_id": 8, "bbox": [1, 2, 3, 4]},
            {**annotation, "id": 4, "category_id": 3, "bbox": [0, 0, 9, 9]}
            | {"iscrowd": 1},
            {**annotation, "id": 5, "category_id": 8, "bbox": [1, 2, 3, 4]}
            | {"image_id": 9},
        ],
    }
    file = folder / "instances.json"
    file.write_text(json.dumps(content))
    return file


def contents(dataset: Dataset) -> list[tuple[str, tuple, tuple]]:
    return [(e.name, e.labels, e.boxes) for e in dataset.examples]


def test_folder_of_images(tmp_path):
    paint(tmp_path / "b.png")
    paint(tmp_path / "a.JPG")
    (tmp_path / "notes.txt").write_text("no image")
    dataset = read_images(tmp_path)
    assert contents(dataset) == [("a.JPG", (), ()), ("b.png", (), ())]
    assert not dataset.has_labels and not dataset.has_boxes
    assert dataset.examples[0].read().size == (40, 30)


def test_class_folders_are_matched_by_name(tmp_path):
    paint(tmp_path / "Dog" / "1.png")
    paint(tmp_path / "crane" / "2.png")
    dataset = read_class_folders(tmp_path, NAMES)
    assert contents(dataset) == [("Dog/1.png", (1,), ()), ("crane/2.png", (2, 3), ())]
    assert dataset.has_labels and dataset.examples[1].read().mode == "RGB"


def test_class_folders_with_other_names_are_matched_in_order(tmp_path):
    for i in range(4):
        paint(tmp_path / f"n0{i}" / "1.png")
    dataset = read_class_folders(tmp_path, NAMES)
    assert [e.labels for e in dataset.examples] == [(0,), (1,), (2,), (3,)]


def test_class_folders_with_a_class_map(tmp_path):
    paint(tmp_path / "images" / "n7" / "1.png")
    (tmp_path / "map.txt").write_text("0 n7\n\n3 n7\n")
    class_map = read_class_map(tmp_path / "map.txt")
    assert class_map == {"n7": (0, 3)}
    dataset = read_class_folders(tmp_path / "images", NAMES, class_map)
    assert dataset.examples[0].labels == (0, 3)


def write_archive(folder: Path, *names: str) -> Path:
    """Images in different grays, and the files that macOS adds."""
    with zipfile.ZipFile(folder / "packed.zip", "w") as archive:
        for i, name in enumerate(names):
            path = paint(folder / "unpacked" / name, color=(9 * i,) * 3)
            archive.write(path, name)
            archive.writestr(f"__MACOSX/{Path(name).parent}/._{Path(name).name}", b"")
        archive.writestr("notes.txt", "no image")
    return folder / "packed.zip"


@pytest.mark.parametrize("below", ["", "all/train/"])
def test_zipped_class_folders(below, tmp_path):
    names = [f"{below}{name}" for name in ("Dog/2.png", "Dog/1.png", "crane/1.png")]
    packed = read_class_folders(write_archive(tmp_path, *names), NAMES)
    unpacked = read_class_folders(tmp_path / "unpacked" / below, NAMES)
    assert packed.source == str(tmp_path / "packed.zip")
    assert [(e.labels, e.read().getpixel((0, 0))) for e in packed.examples] == [
        (e.labels, e.read().getpixel((0, 0))) for e in unpacked.examples
    ]
    assert packed.examples[0].name == f"{below}Dog/1.png"
    assert packed.examples[0].read().mode == "RGB"


def test_processes_can_read_one_archive_at_the_same_time(tmp_path):
    names = [f"cat/{i}.png" for i in range(24)]
    examples = read_class_folders(write_archive(tmp_path, *names), NAMES).examples
    images = LabeledImages(examples, lambda image: torch.tensor(image.getpixel((0, 0))))
    expected = [tuple(image.tolist()) for image, _ in images]
    context = torch.multiprocessing.get_context("fork")
    loader = DataLoader(images, 2, num_workers=2, multiprocessing_context=context)
    found = [tuple(row) for batch, _ in loader for row in batch.tolist()]
    assert found == expected and len(set(expected)) == 24


def write_arrays(path: Path, **arrays: np.ndarray) -> Path:
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    plain = {"images": images, "labels": np.array([3, 0], np.int16)}
    np.savez(path, **plain | arrays)
    return path


@pytest.mark.parametrize("key", [None, "boxes", "roi"])
def test_arrays(key, tmp_path):
    edges = np.array([[0, 1, 4.5, 4], [1, 1, 2, 2]], np.float32)
    file = write_arrays(tmp_path / "a.npz", **({key: edges} if key else {}))
    dataset = read_arrays(file)
    boxes = [(Box((3,), (0, 1, 4.5, 4)),), (Box((0,), (1, 1, 2, 2)),)]
    assert contents(dataset) == [
        ("0", (3,), boxes[0] if key else ()),
        ("1", (0,), boxes[1] if key else ()),
    ]
    second = dataset.examples[1].read()
    assert second.size == (5, 4) and second.getpixel((4, 3)) == (117, 118, 119)
    dataset.check(4)
    dataset.describe()


def test_boxes_in_a_table(tmp_path):
    (tmp_path / "images").mkdir()
    table = tmp_path / "boxes.csv"
    table.write_text(
        "wnid,image,class_index,x0,y0,x1,y1\n"
        "n1,NA,2,0.5,1,3,4\nn1,b.jpg,1,1,2,3,4\nn1,NA,0,5,6,7,8\n"
    )
    dataset = read_boxes(table)
    assert contents(dataset) == [
        ("NA", (0, 2), (Box((2,), (0.5, 1, 3, 4)), Box((0,), (5, 6, 7, 8)))),
        ("b.jpg", (1,), (Box((1,), (1, 2, 3, 4)),)),
    ]
    assert dataset.has_labels and dataset.has_boxes
    with pytest.raises(FileNotFoundError, match="NA"):
        dataset.examples[0].read()


@pytest.mark.parametrize(
    "below, images, annotations",
    [
        ("", "images", "annotations"),
        ("", "JPEGImages", "Annotations"),
        ("VOC2012", "JPEGImages", "Annotations"),
        ("VOCdevkit/VOC2012", "JPEGImages", "Annotations"),
    ],
)
def test_pascal_voc(below, images, annotations, tmp_path):
    """VOC counts pixels from 1 and includes the last; unknown classes are ignored."""
    write_voc(tmp_path / below, images, annotations)
    dataset = read_voc(tmp_path, NAMES)
    assert contents(dataset) == [
        ("a.jpg", (0, 1), (Box((1,), (0, 0, 10, 20)), Box((0,), (4, 5, 7, 8)))),
        ("b.jpg", (2, 3), (Box((2, 3), (2, 2, 30, 30)),)),
    ]
    assert dataset.examples[0].read().size == (40, 30)


def test_pascal_voc_with_a_class_map(tmp_path):
    dataset = read_voc(write_voc(tmp_path), NAMES, {"person": [3]})
    assert [(e.name, e.labels) for e in dataset.examples] == [
        ("b.jpg", (3,)),
        ("c.jpg", (3,)),
    ]


def test_coco(tmp_path, capsys):
    """Crowds, boxes without an area and unknown categories are ignored."""
    dataset = read_coco(write_coco(tmp_path), NAMES)
    assert contents(dataset) == [("x.jpg", (1,), (Box((1,), (1, 2, 11.5, 22)),))]
    assert dataset.examples[0].read().size == (40, 30)
    assert capsys.readouterr().out == ""
    mapped = read_coco(tmp_path / "instances.json", (), {"tree": [5]})
    assert [(e.name, e.labels) for e in mapped.examples] == [
        ("x.jpg", (5,)),
        ("y.jpg", (5,)),
    ]


def test_signs_are_the_scenes_and_their_boxes():
    dataset = read_signs(3, seed=5)
    scene = sign_scene(6)
    example = dataset.examples[1]
    assert example.name == "scene-6" and example.labels == (scene.label,)
    assert example.boxes == tuple(Box((o.label,), o.box) for o in scene.objects)
    entry = load("signs")
    seen = entry.denormalize(entry.preprocess(example.read()))
    assert (seen - scene.image).abs().max() <= 1 / 255
    dataset.check(len(SIGN_CLASSES))


def test_description_depends_on_names_labels_and_boxes():
    one = read_signs(3)
    box = Box((1,), (0.0, 0.0, 1.0, 1.0))
    changed = [
        one.first(2),
        one._replace(source="elsewhere"),
        *(
            one._replace(examples=(one.examples[0]._replace(**change), *one[1][1:]))
            for change in ({"name": "x"}, {"labels": (9,)}, {"boxes": (box,)})
        ),
    ]
    assert one.describe() == read_signs(3).describe()
    assert one.first(None) == one
    for other in changed:
        assert other.describe() != one.describe()


@pytest.mark.parametrize(
    "names, labels",
    [
        ([], ()),
        (["a", "a"], ()),
        (["../a"], ()),
        (["/a"], ()),
        (["a"], (4,)),
        (["a"], (-1,)),
    ],
)
def test_data_sets_that_do_not_fit_the_model_are_an_error(names, labels):
    examples = tuple(Example(name, lambda: Image.new("L", (1, 1))) for name in names)
    examples = tuple(example._replace(labels=labels) for example in examples)
    with pytest.raises(ValueError, match=r"^dataset must [^\n]*\.$"):
        Dataset("somewhere", examples).check(4)


ARRAYS = {
    "floats": {"images": np.zeros((2, 4, 5, 3))},
    "gray": {"images": np.zeros((2, 4, 5), np.uint8)},
    "few labels": {"labels": np.zeros(1, int)},
    "named labels": {"labels": np.array(["cat", "dog"])},
    "few boxes": {"boxes": np.array([[0, 0, 1, 1]])},
    "turned boxes": {"roi": np.array([[0, 0, 1, 1], [2, 0, 1, 1]])},
    "objects": {"labels": np.array([None, "x"], object)},
}


def test_errors_are_one_sentence(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "file.txt").write_text("no such thing")
    paint(tmp_path / "folders" / "zebra" / "1.png")
    header = "image,class_index,x0,y0,x1,y1\n"
    for name, text in {
        "columns": "image,x0,y0,x1,y1\na,1,2,3,4\n",
        "text": header + "a,tabby,1,2,3,4\n",
        "turned": header + "a,0,3,2,1,4\n",
        "nan": header + "a,0,nan,2,1,4\n",
        "hole": header + "a,0,,2,1,4\n",
    }.items():
        (tmp_path / f"{name}.csv").write_text(text)
    write_voc(tmp_path / "voc")
    (tmp_path / "voc" / "annotations" / "d.xml").write_text("<annotation>")
    write_voc(tmp_path / "two" / "VOC2007")
    write_voc(tmp_path / "two" / "VOC2012")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "text.zip").write_text("no archive")
    (tmp_path / "text.npz").write_text("no arrays")
    (tmp_path / "empty.npz").write_bytes(b"")
    for name, arrays in ARRAYS.items():
        write_arrays(tmp_path / f"{name}.npz", **arrays)
    (tmp_path / "lines.txt").write_text("404 aeroplane\naeroplane 404\n")
    (tmp_path / "coco").mkdir()
    write_coco(tmp_path / "coco")
    calls = {
        "no folder": lambda: read_images(tmp_path / "nowhere"),
        "no table": lambda: read_boxes(tmp_path / "nowhere.csv"),
        "no images": lambda: read_boxes(tmp_path / "text.csv", tmp_path / "no"),
        "unknown folder": lambda: read_class_folders(tmp_path / "folders", NAMES),
        **{
            name: lambda name=name: read_boxes(tmp_path / f"{name}.csv")
            for name in ("columns", "text", "turned", "nan", "hole")
        },
        "no voc": lambda: read_voc(tmp_path, NAMES),
        "two voc": lambda: read_voc(tmp_path / "two", NAMES),
        "broken xml": lambda: read_voc(tmp_path / "voc", NAMES),
        "nothing known": lambda: read_voc(tmp_path / "two" / "VOC2007", ["lion"]),
        "no coco": lambda: read_coco(tmp_path / "file.txt", NAMES),
        "a list": lambda: read_coco(tmp_path / "list.json", NAMES),
        "no category": lambda: read_coco(tmp_path / "coco/instances.json", ["lion"]),
        "no map": lambda: read_class_map(tmp_path / "nowhere.txt"),
        "turned lines": lambda: read_class_map(tmp_path / "lines.txt"),
        "no archive": lambda: read_class_folders(tmp_path / "text.zip", NAMES),
        "missing archive": lambda: read_class_folders(tmp_path / "no.zip", NAMES),
        "no arrays": lambda: read_arrays(tmp_path / "nowhere.npz"),
        **{
            name: lambda name=name: read_arrays(tmp_path / f"{name}.npz")
            for name in [*ARRAYS, "text", "empty"]
        },
    }
    for name, call in calls.items():
        with pytest.raises(ValueError) as error:
            call()
        text = " ".join(str(error.value).split())
        assert text.startswith(("dataset must ", "class map must ")), (name, text)
        assert text.endswith("."), (name, text)


# Formats, and images for training


def test_every_format_is_read(tmp_path):
    paint(tmp_path / "images" / "1.png")
    paint(tmp_path / "folders" / "cat" / "1.png")
    (tmp_path / "boxes.csv").write_text("image,class_index,x0,y0,x1,y1\na,1,1,2,3,4\n")
    (tmp_path / "coco").mkdir()
    paths = {
        "signs": "",
        "images": tmp_path / "images",
        "folders": tmp_path / "folders",
        "arrays": write_arrays(tmp_path / "a.npz"),
        "boxes": tmp_path / "boxes.csv",
        "voc": write_voc(tmp_path / "voc"),
        "coco": write_coco(tmp_path / "coco"),
    }
    assert paths.keys() == DATASET_FORMATS.keys()
    for kind, path in paths.items():
        dataset_format, found = find_format(f"{kind}:{path}" if path else kind)
        names = SIGN_CLASSES if kind == "signs" else NAMES
        dataset = dataset_format.read(DatasetSource(found, names, scenes=range(5, 7)))
        assert found == str(path) and dataset.source.endswith(str(path) or "signs")
        if kind == "signs":
            assert [e.name for e in dataset.examples] == ["scene-5", "scene-6"]


def test_signs_are_refused_for_a_model_of_other_classes():
    for n in (4, 1000):
        with pytest.raises(ValueError, match=f"of its 16 classes.* a model of {n}."):
            DATASET_FORMATS["signs"].read(DatasetSource("", ("sign",) * n))


@pytest.mark.parametrize(
    "words, expected",
    [
        ("", "one of signs, .*"),
        ("magic:x", "one of signs, .*"),
        ("signs:x", "signs"),
        ("voc", "voc:FOLDER"),
        ("voc:", "voc:FOLDER"),
        ("Voc:x", r"of a known kind \(did you mean 'voc'\?\)"),
    ],
)
def test_unknown_formats_are_an_error(words, expected):
    message = f"^--validation must be {expected}, got '{words}'.$"
    with pytest.raises(ValueError, match=message):
        find_format(words, "validation")


def test_images_are_sampled_without_replacement():
    dataset = read_signs(8)
    sample = dataset.sample(5, seed=0)
    names = [example.name for example in sample.examples]
    assert len({*names}) == 5 and names != [e.name for e in dataset.examples[:5]]
    assert sample == dataset.sample(5, seed=0) != dataset.sample(5, seed=1)
    assert dataset.sample(8, seed=0) == dataset.sample(None, seed=0) == dataset


def test_few_images_are_kept_in_memory(monkeypatch):
    entry, dataset = load("signs"), read_signs(3)
    in_memory = training_images(dataset, entry)
    monkeypatch.setattr(
        "captum_ext.datasets.training_images._MAX_BYTES", 3 * 3 * 96**2 - 1
    )
    on_access = training_images(dataset, entry)
    assert isinstance(in_memory, InMemoryImages)
    assert isinstance(on_access, LabeledImages)
    for (one, label), (other, same), example in zip(
        in_memory, on_access, dataset.examples
    ):
        assert label == same == example.labels[0]
        torch.testing.assert_close(one, other, atol=0.01, rtol=0)


# Boxes follow the preprocessing


@pytest.mark.parametrize("size", [(60, 90), (90, 60), (33, 33), (20, 100), (200, 50)])
def test_boxes_follow_their_pixels(size):
    """The pixels of a bright box stay within it when both are preprocessed."""
    preprocess = load("signs").preprocess
    height, width = size
    generator = torch.Generator().manual_seed(height)
    for _ in range(8):
        corners = torch.rand(2, 2, generator=generator).sort(0).values
        x0, y0, x1, y1 = (corners * torch.tensor([width, height])).round().flatten()
        if x0 == x1 or y0 == y1:
            continue
        image = Image.new("RGB", (width, height))
        image.paste((255, 255, 255), tuple(map(int, (x0, y0, x1, y1))))
        tensor = preprocess(image)[0]
        bright = tensor > (tensor.min() + tensor.max()) / 2
        found = preprocess.boxes(torch.stack([x0, y0, x1, y1])[None], size)
        if tensor.min() == tensor.max():
            assert found.shape[0] == (tensor.min() > 0)
            continue
        rows, columns = bright.nonzero().unbind(1)
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert found.shape == (1, 4)
        assert (found[0] - torch.stack(edges)).abs().max() <= 1


def test_boxes_outside_the_crop_are_dropped():
    """Of 200 x 100 pixels, the middle 100 x 100 are used, at half the size."""
    preprocess = Preprocessing(lambda image: torch.zeros(3, 50, 50), 50, 50)
    boxes = torch.tensor([[0, 0, 50, 100], [0, 0, 60, 100], [40, -9, 200, 999]])
    seen = preprocess.boxes(boxes, (100, 200))
    assert seen.tolist() == [[0, 0, 5, 50], [0, 0, 50, 50]]
    assert preprocess.boxes(torch.empty(0, 4), (100, 200)).shape == (0, 4)


# Real data sets


@pytest.fixture
def data() -> Path:
    if "CAPTUM_EXT_DATA" not in os.environ:
        pytest.skip("CAPTUM_EXT_DATA is unset: no real data sets")
    return Path(os.environ["CAPTUM_EXT_DATA"])


def test_real_boxes_lie_within_their_images(data):
    dataset = read_boxes(data / "imagenet" / "boxes.csv")
    dataset.check(1000)
    assert len(dataset.examples) == 300
    assert sum(len(example.boxes) for example in dataset.examples) == 449
    for example in dataset.examples[:20]:
        width, height = example.read().size
        for _, (x0, y0, x1, y1) in example.boxes:
            assert 0 <= x0 < x1 <= width + 1 and 0 <= y0 < y1 <= height + 1


def test_real_arrays(data):
    dataset = read_arrays(data / "gtsrb" / "test.npz")
    dataset.check(43)
    assert len(dataset.examples) == 2000
    for example in dataset.examples[:20]:
        ((classes, (x0, y0, x1, y1)),) = example.boxes
        assert classes == example.labels and example.read().size == (32, 32)
        assert 0 <= x0 < x1 <= 32 and 0 <= y0 < y1 <= 32


def test_real_voc(data):
    class_map = read_class_map(data / "voc" / "voc_to_imagenet.txt")
    dataset = read_voc(data / "voc", (), class_map)
    dataset.check(1000)
    assert class_map["aeroplane"] == (404, 405, 403, 895)
    assert 0 < len(dataset.examples) <= 100
    first = dataset.examples[0]
    assert first.name == "2007_000032.jpg" and 404 in first.labels
    assert first.read().size == (500, 281)
    everything = read_voc(data / "voc", (), dict.fromkeys([*class_map, "person"], (0,)))
    assert sum(len(example.boxes) for example in everything.examples) == 273


@pytest.mark.parametrize("empty_class", [False, True])
def test_folders_without_images_are_one_sentence(empty_class, tmp_path):
    if empty_class:
        (tmp_path / "cat").mkdir()
    with pytest.raises(FileNotFoundError, match="^dataset must be a .* per class, got"):
        read_class_folders(tmp_path, ["cat"])
