"""Gallery of a report: choice of images, and embedding of them and their maps."""

from base64 import b64encode
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from PIL import Image

from captum_ext.evaluation.run_folder import image_path, map_path
from captum_ext.evaluation.statistics import Better

__all__ = [
    "Case",
    "GalleryImage",
    "by_importance",
    "data_uri",
    "find_case",
    "gallery_images",
]

# Both keep a page below 10 MB: an image and eight maps are about 150 kB.
MAX_IMAGES = 24
MAX_BYTES = 8_000_000
MAX_SIDE = 224
JPEG_QUALITY = 85


class Case(NamedTuple):
    """The images with the best and the worst mean over methods by a metric.

    Attributes:
        metric (str): Name of the metric.
        best, worst (str): Names of the images.
        best_mean, worst_mean (float): Mean values over methods.
    """

    metric: str
    best: str
    best_mean: float
    worst: str
    worst_mean: float


class GalleryImage(NamedTuple):
    """An image and its maps, embedded in a page.

    Attributes:
        name (str): Name of the image in its data set.
        image (str): The image as a ``data:`` URI.
        maps (dict[str, str]): Maps over the image by method, as ``data:`` URIs.
    """

    name: str
    image: str
    maps: dict[str, str]


def find_case(table: pd.DataFrame, metric: str, better: Better) -> Case | None:
    """Find the images with the best and the worst mean over methods by a metric.

    Of equal images, the first counts.

    Args:
        table (pandas.DataFrame): Table with the columns image, method, metric, value.
        metric (str): Name of the metric.
        better (str): Whether "higher" or "lower" values are better.

    Returns:
        *Case, optional*: The images; None if the metric has no value.

    Examples::

        >>> import pandas
        >>> table = pandas.DataFrame({
        ...     "image": ["a", "a", "b", "b"],
        ...     "method": ["rise", "pn-rise"] * 2,
        ...     "metric": "deletion",
        ...     "value": [0.25, 0.25, 0.5, 0.125],
        ... })
        >>> find_case(table, "deletion", better="lower")[1:]
        ('a', 0.25, 'b', 0.3125)
    """
    rows = table[table["metric"] == metric]
    means = rows.groupby("image", sort=False)["value"].mean().dropna()
    if means.empty:
        return None
    # Sums of the same values in another order must be equal.
    means = means.round(12)
    high, low = str(means.idxmax()), str(means.idxmin())
    best, worst = (high, low) if better == "higher" else (low, high)
    return Case(metric, best, float(means[best]), worst, float(means[worst]))


def by_importance(cases: list[Case], images: Iterable[str]) -> list[str]:
    """Order images for the gallery: best and worst cases first.

    Args:
        cases (list of Case): The best and worst images.
        images (iterable of str): All images; duplicates are allowed.

    Returns:
        *list[str]*: Names without duplicates.

    Examples::

        >>> by_importance([Case("deletion", "c", 0.1, "b", 0.9)], ["a", "b", "c"])
        ['c', 'b', 'a']
    """
    first = [image for case in cases for image in (case.best, case.worst)]
    return list(dict.fromkeys([*first, *images]))


def gallery_images(
    folder: Path, images: list[str], methods: list[str], max_bytes: int = MAX_BYTES
) -> list[GalleryImage]:
    """Embed images with their maps, as many as a page may hold.

    Args:
        folder (Path): Folder of the run.
        images (list of str): Names of images in order. Images without a file are
            skipped.
        methods (list of str): Names of the methods. Maps without a file are skipped.
        max_bytes (int, optional): Largest number of characters of all URIs.
            Default: 8,000,000

    Returns:
        *list[GalleryImage]*: At most 24 images, in the order of ``images``.
    """
    chosen: list[GalleryImage] = []
    for name in images:
        if len(chosen) == MAX_IMAGES:
            break
        image = image_path(folder, name)
        if not image.is_file():
            continue
        files = {method: map_path(folder, name, method) for method in methods}
        maps = {
            method: data_uri(file) for method, file in files.items() if file.is_file()
        }
        embedded = GalleryImage(name, data_uri(image), maps)
        max_bytes -= sum(map(len, [embedded.image, *maps.values()]))
        if max_bytes < 0:
            break
        chosen.append(embedded)
    return chosen


def data_uri(file: Path) -> str:
    """Embed an image file as a JPEG of at most 224 x 224 pixels.

    Args:
        file (Path): Image file in any format that Pillow reads.

    Returns:
        *str*: ``data:`` URI.
    """
    content = BytesIO()
    with Image.open(file) as image:
        small = image.convert("RGB")
    small.thumbnail((MAX_SIDE, MAX_SIDE))
    small.save(content, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{b64encode(content.getvalue()).decode()}"
