"""Images of all modes and orientations are the same upright RGB everywhere."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

from captum_ext.cli import main
from captum_ext.datasets import (
    read_boxes,
    read_class_folders,
    read_coco,
    read_images,
    read_voc,
)
from captum_ext.datasets.image_files import open_image
from captum_ext.zoo import load, sign_scene, upright_rgb

# Every gray level, in two rows.
GRAY = np.arange(256, dtype=np.uint8).reshape(2, 128)
RGB = np.stack([GRAY] * 3, 2)


def saved(image: Image.Image, path: Path, **options) -> np.ndarray:
    """Pixels of an image that was written and read again."""
    image.save(path, **options)
    return np.asarray(open_image(path))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bit_image_is_its_8_bit_version(suffix, tmp_path):
    """257 times a level is the same share of the range."""
    wide = Image.fromarray(GRAY.astype(np.uint16) * 257)
    assert (saved(wide, tmp_path / f"wide{suffix}") == RGB).all()
    narrow = Image.fromarray(GRAY)
    assert (saved(narrow, tmp_path / f"narrow{suffix}") == RGB).all()


def test_wide_modes_in_memory():
    level = GRAY.astype(np.float64) / 255
    for pixels in (
        (GRAY.astype(np.uint16) * 257).astype(">u2"),
        (level * (2**31 - 1)).round().astype(np.int32),
        level.astype(np.float32),
        level.astype(np.float32)[:, :1] * 0,
        np.zeros((2, 2), np.int32),
    ):
        expected = RGB if pixels.any() else np.zeros((*pixels.shape, 3))
        assert (np.asarray(upright_rgb(Image.fromarray(pixels))) == expected).all()


@pytest.mark.parametrize(
    "pixels, message",
    [
        (np.array([[0, 255]], np.float32), r"floats in \[0, 1\], got .* 0 to 255\.$"),
        (np.array([[-0.1, 1]], np.float32), r"from -0\.1 to 1\.$"),
        (np.array([[np.nan, 1]], np.float32), "from nan to nan"),
        (np.array([[0, 4095]], np.int32), r"not all small, got .* 0 to 4095\.$"),
        (np.array([[-1, 2**31 - 1]], np.int32), "from -1 to 2.14748e"),
    ],
)
def test_values_without_a_known_range_are_refused(pixels, message, tmp_path, capsys):
    image = Image.fromarray(pixels)
    with pytest.raises(ValueError, match=f"^image must hold .*{message}"):
        upright_rgb(image)
    image.save(tmp_path / "wide.tif")
    assert main(["explain", str(tmp_path / "wide.tif")]) == 2
    assert "image must hold 8-bit or 16-bit integers or" in capsys.readouterr().err


def with_alpha(mode: str) -> Image.Image:
    """Black that is opaque, half transparent and transparent."""
    image = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((255, 128, 0)):
        image.putpixel((x, 0), (0, 0, 0, alpha))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa"])
def test_alpha_is_composed_onto_white(mode):
    rgb = upright_rgb(with_alpha(mode))
    assert [rgb.getpixel((x, 0))[0] for x in range(3)] == [0, 127, 255]
    assert upright_rgb(rgb).tobytes() == rgb.tobytes()


def test_transparent_colors_of_files(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 9, 9, 200, 100, 0])
    palette.putpixel((1, 0), 1)
    assert saved(palette, tmp_path / "p.png", transparency=0).tolist() == [
        [[255, 255, 255], [200, 100, 0]]
    ]
    assert saved(palette, tmp_path / "plain.png").tolist() == [
        [[9, 9, 9], [200, 100, 0]]
    ]
    color = Image.new("RGB", (1, 1), (7, 8, 9))
    found = saved(color, tmp_path / "rgb.png", transparency=(7, 8, 9))
    assert found.tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_other_modes_are_converted(mode):
    image = Image.new("RGB", (4, 3), (255, 255, 255)).convert(mode)
    assert np.asarray(upright_rgb(image)).min() >= 254


# EXIF orientation

SCENE = Image.fromarray((sign_scene(0).image.movedim(0, 2) * 255).byte().numpy())
UPRIGHT = SCENE.resize((96, 64))
BOX = (10, 5, 40, 50)
# How to store an upright image so that each orientation describes it.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def turned(image: Image.Image, orientation: int) -> tuple[Image.Image, Image.Exif]:
    """Image as a camera stores it, and the EXIF data that turn it upright."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    how = STORED[orientation]
    return (image if how is None else image.transpose(how)), exif


def stored_box(orientation: int) -> tuple[int, ...]:
    """Box in the stored image, from the pixels of a mask."""
    mask = Image.new("L", UPRIGHT.size)
    mask.paste(255, BOX)
    return turned(mask, orientation)[0].getbbox()


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("mode", ["RGB", "I;16", "F", "LA"])
def test_image_is_turned_upright(orientation, mode):
    image = UPRIGHT
    if mode == "I;16":
        image = Image.fromarray(np.asarray(UPRIGHT.convert("L")).astype(np.uint16) << 8)
    elif mode == "F":
        image = Image.fromarray(np.asarray(UPRIGHT.convert("L"), np.float32) / 255)
    elif mode == "LA":
        image = UPRIGHT.convert("LA")
    stored, exif = turned(image, orientation)
    stored.getexif().update(exif)
    assert stored.size == (image.size[::-1] if orientation > 4 else image.size)
    assert upright_rgb(stored).tobytes() == upright_rgb(image).tobytes()


def write_datasets(folder: Path, orientation: int, annotated: str) -> None:
    """The same photograph in all formats of files."""
    stored, exif = turned(UPRIGHT, orientation)
    width, height = (UPRIGHT if annotated == "upright" else stored).size
    size = {"width": width, "height": height} if annotated else {}
    x0, y0, x1, y1 = BOX if annotated == "upright" else stored_box(orientation)
    for name in ("images", "Annotations", "folders/cat"):
        (folder / name).mkdir(parents=True)
    (folder / "JPEGImages").symlink_to(folder / "images")
    stored.save(folder / "images" / "a.png", exif=exif)
    stored.save(folder / "folders" / "cat" / "a.png", exif=exif)
    with zipfile.ZipFile(folder / "packed.zip", "w") as archive:
        archive.write(folder / "images" / "a.png", "cat/a.png")
    (folder / "boxes.csv").write_text(
        f"image,class_index,x0,y0,x1,y1\na.png,0,{x0},{y0},{x1},{y1}\n"
    )
    tags = "".join(f"<{key}>{value}</{key}>" for key, value in size.items())
    (folder / "Annotations" / "a.xml").write_text(
        f"<annotation><filename>a.png</filename><size>{tags}</size><object>"
        f"<name>cat</name><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object></annotation>"
    )
    item = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 1}
    content = {
        "images": [{"id": 1, "file_name": "a.png", **size}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [item | {"bbox": [x0, y0, x1 - x0, y1 - y0]}],
    }
    (folder / "coco.json").write_text(json.dumps(content))


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("annotated", ["", "stored", "upright"])
def test_every_format_reads_the_same_pixels(orientation, annotated, tmp_path):
    """Boxes are turned with the image unless they were drawn in the upright one."""
    write_datasets(tmp_path, orientation, annotated)
    # In a square image, or one that is only mirrored, the size tells nothing.
    known = annotated != "upright" or orientation in (1, 5, 6, 7, 8)
    datasets = {
        "images": read_images(tmp_path / "images"),
        "folders": read_class_folders(tmp_path / "folders", ["cat"]),
        "zip": read_class_folders(tmp_path / "packed.zip", ["cat"]),
        "voc": read_voc(tmp_path, ["cat"]),
        "coco": read_coco(tmp_path / "coco.json", ["cat"]),
        "boxes": read_boxes(tmp_path / "boxes.csv"),
    }
    for kind, dataset in datasets.items():
        (example,) = dataset.examples
        assert example.read().tobytes() == UPRIGHT.tobytes(), kind
        if kind in ("voc", "coco") and known or kind == "boxes" and not annotated:
            assert example.boxes[0].edges == BOX, kind


def test_boxes_of_another_image_are_refused(tmp_path):
    write_datasets(tmp_path, 1, "stored")
    UPRIGHT.resize((48, 32)).save(tmp_path / "images" / "a.png")
    for read in (
        lambda: read_voc(tmp_path, ["cat"]),
        lambda: read_coco(tmp_path / "coco.json", ["cat"]),
    ):
        with pytest.raises(ValueError, match="96 x 64 pixels for .*a.png' of 48 x 32"):
            read()


def test_box_of_a_tiff_is_turned_too(tmp_path):
    """Pillow turns pixels of this format by itself."""
    stored, exif = turned(UPRIGHT, 6)
    (tmp_path / "images").mkdir()
    stored.save(tmp_path / "images" / "a.tif", exif=exif)
    x0, y0, x1, y1 = stored_box(6)
    table = tmp_path / "boxes.csv"
    table.write_text(f"image,class_index,x0,y0,x1,y1\na.tif,0,{x0},{y0},{x1},{y1}\n")
    (example,) = read_boxes(table).examples
    assert example.read().tobytes() == UPRIGHT.tobytes()
    assert example.boxes[0].edges == BOX


def test_preprocessing_does_what_the_commands_do(tmp_path):
    """A file opened with Pillow gives the tensor that ``explain`` explains."""
    preprocess = load("signs").preprocess
    expected = preprocess(UPRIGHT)
    wide = np.asarray(UPRIGHT.convert("L")).astype(np.uint16) * 257
    gray = preprocess(UPRIGHT.convert("L"))
    for orientation in STORED:
        stored, exif = turned(UPRIGHT, orientation)
        stored.save(tmp_path / "a.png", exif=exif)
        assert torch.equal(preprocess(Image.open(tmp_path / "a.png")), expected)
        assert torch.equal(preprocess(open_image(tmp_path / "a.png")), expected)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert torch.equal(preprocess(Image.open(tmp_path / "wide.png")), gray)
    assert ImageOps.exif_transpose(SCENE).size == SCENE.size


@pytest.mark.parametrize("command", ["explain", "refine"])
def test_commands_read_16_bits(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gray = np.asarray(SCENE.convert("L"))
    Image.fromarray(gray).save("narrow.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save("wide.png")
    method = ["--method", "grad-cam"] if command == "explain" else ["--prior", "none"]
    few = [] if command == "explain" else ["--n-iterations", "2"]
    for name in ("narrow", "wide"):
        words = [command, f"{name}.png", "--model", "signs", *method, *few]
        assert main([*words, "--save-map", f"{name}.npy"]) == 0
    assert (np.load("narrow.npy") == np.load("wide.npy")).all()
