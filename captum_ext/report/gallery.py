"""Which images a report shows, and how they get into its page."""

from base64 import b64encode
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from PIL import Image

from captum_ext.evaluation.run_folder import image_path, map_path
from captum_ext.evaluation.statistics import Better

__all__ = ["Case", "Exhibit", "by_importance", "data_uri", "exhibits", "find_case"]

# Together they keep a page below 10 MB: an image and eight maps are about 150 kB.
MAX_EXHIBITS = 24
MAX_BYTES = 8_000_000
SIDE = 224
QUALITY = 85


class Case(NamedTuple):
    """The images on which methods do best and worst by a metric.

    Attributes:
        metric (str): Name of the metric.
        best, worst (str): Names of the images.
        best_mean, worst_mean (float): Mean of the methods' values there.
    """

    metric: str
    best: str
    best_mean: float
    worst: str
    worst_mean: float


class Exhibit(NamedTuple):
    """An image and its maps, as they stand in a page.

    Attributes:
        name (str): Of the image in its data set.
        image (str): The image as a ``data:`` URI.
        maps (dict[str, str]): Maps over the image by method, as ``data:`` URIs.
    """

    name: str
    image: str
    maps: dict[str, str]


def find_case(table: pd.DataFrame, metric: str, better: Better) -> Case | None:
    """The images on which methods do best and worst by a metric.

    The mean over methods is taken, so that a single one that fails everywhere does not
    choose them; of equal images the first counts.

    Args:
        table (pandas.DataFrame): Columns image, method, metric and value.
        metric (str): The metric.
        better (str): Whether its "higher" or "lower" values are good.

    Returns:
        *Case, optional*: None without a value.

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
    # Sums of the same values in another order are to be equal.
    means = means.round(12)
    high, low = str(means.idxmax()), str(means.idxmin())
    best, worst = (high, low) if better == "higher" else (low, high)
    return Case(metric, best, float(means[best]), worst, float(means[worst]))


def by_importance(cases: list[Case], images: Iterable[str]) -> list[str]:
    """Images in the order in which a page that cannot hold all takes them.

    Args:
        cases (list of Case): The best and worst ones, which come first.
        images (iterable of str): All of them, also several times.

    Returns:
        *list[str]*: Each once.

    Examples::

        >>> by_importance([Case("deletion", "c", 0.1, "b", 0.9)], ["a", "b", "c"])
        ['c', 'b', 'a']
    """
    first = [image for case in cases for image in (case.best, case.worst)]
    return list(dict.fromkeys([*first, *images]))


def exhibits(
    folder: Path, images: list[str], methods: list[str], max_bytes: int = MAX_BYTES
) -> list[Exhibit]:
    """Images with their maps, as many as a page can hold.

    Args:
        folder (Path): Of the run.
        images (list of str): Names of images, the most important first. Those whose
            files are missing are passed over.
        methods (list of str): Names of the methods whose maps are shown, where there
            are any.
        max_bytes (int, optional): Characters of all URIs together. Default: 8,000,000

    Returns:
        *list[Exhibit]*: At most 24, in the order of ``images``.
    """
    chosen: list[Exhibit] = []
    for name in images:
        if len(chosen) == MAX_EXHIBITS:
            break
        image = image_path(folder, name)
        if not image.is_file():
            continue
        files = {method: map_path(folder, name, method) for method in methods}
        maps = {
            method: data_uri(file) for method, file in files.items() if file.is_file()
        }
        exhibit = Exhibit(name, data_uri(image), maps)
        max_bytes -= sum(map(len, [exhibit.image, *maps.values()]))
        if max_bytes < 0:
            break
        chosen.append(exhibit)
    return chosen


def data_uri(file: Path) -> str:
    """An image file as a small JPEG within a ``data:`` URI.

    Args:
        file (Path): Any image that Pillow reads.

    Returns:
        *str*: The image with no side longer than 224 pixels.
    """
    content = BytesIO()
    with Image.open(file) as image:
        small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    small.save(content, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{b64encode(content.getvalue()).decode()}"
