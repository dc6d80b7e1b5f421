"""Figures of matplotlib as SVG elements in the colors and the font of a page."""

import re
from contextlib import AbstractContextManager
from io import BytesIO
from xml.etree import ElementTree

from matplotlib import style
from matplotlib.figure import Figure

__all__ = ["COLORS", "N_SERIES", "page_style", "svg_element"]

N_SERIES = 8
"""Number of colors of lines."""

_FONT_SIZE = 13

_SERIES = tuple(f"series-{n}" for n in range(N_SERIES))
_VARIABLES = ("text", "quiet", "rule", "page", *_SERIES)
COLORS = {name: f"#{number:06x}" for number, name in enumerate(_VARIABLES, 1)}
"""Stand-ins for the CSS variables that they are replaced by in the SVG."""

_BY_COLOR = {color: f"var(--{name})" for name, color in COLORS.items()}


def page_style() -> AbstractContextManager[None]:
    """Matplotlib's default style with the colors and sizes of the page."""
    return style.context(
        [
            "default",
            {
                "axes.axisbelow": True,
                "axes.edgecolor": COLORS["quiet"],
                "axes.labelcolor": COLORS["quiet"],
                "axes.spines.right": False,
                "axes.spines.top": False,
                "figure.frameon": False,
                "font.size": _FONT_SIZE,
                "grid.color": COLORS["rule"],
                "lines.linewidth": 2,
                "lines.markeredgecolor": COLORS["page"],
                "lines.markersize": 9,
                "savefig.transparent": True,
                "svg.fonttype": "none",
                # Ids are hashes with a random salt by default.
                "svg.hashsalt": "captum_ext",
                "xtick.color": COLORS["quiet"],
                "ytick.color": COLORS["quiet"],
            },
        ]
    )


def svg_element(figure: Figure, id: str, attributes: dict[str, str]) -> str:
    """Turn a figure into an SVG element that shares a page with others.

    Args:
        figure (Figure): Figure drawn with :func:`page_style` and :data:`COLORS`.
        id (str): Start of the ids within the SVG.
        attributes (dict[str, str]): Attributes of the element.

    Returns:
        *str*: SVG element.
    """
    content = BytesIO()
    unset = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(content, format="svg", metadata=unset)
    root = ElementTree.fromstring(content.getvalue())
    referenced = set(re.findall(r"#(\w+)", content.getvalue().decode()))
    for parent in list(root.iter()):
        for child in list(parent):
            # Its rules would hold for the whole page.
            if child.tag.endswith("}style"):
                parent.remove(child)
    for element in root.iter():
        # In HTML, elements and attributes of SVG need no namespace.
        element.tag = element.tag.partition("}")[2]
        element.attrib = {
            name.rpartition("}")[2]: _on_page(name, value, id)
            for name, value in element.attrib.items()
            if name != "id" or value in referenced
        }
        if not (element.text or "").strip():
            element.text = None
        element.tail = None
    root.attrib = {"viewBox": root.attrib["viewBox"]} | attributes
    return ElementTree.tostring(root, encoding="unicode")


def _on_page(name: str, value: str, id: str) -> str:
    """The value of an attribute with the ids, colors and font of the page."""
    if name == "id":
        return f"{id}-{value}"
    if name == "style":
        value = re.sub(r"font-family: [^;]*; ?", "", value)
        return re.sub("#[0-9a-f]{6}", lambda color: _BY_COLOR[color[0]], value)
    value = re.sub(r"#(?=\w)", f"#{id}-", value)
    return " ".join(value.split())
