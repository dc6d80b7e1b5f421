"""The report: content, well-formed HTML, and the command."""

import re
import shutil
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from synthetic_run import BETTER, HOSTILE, METHODS, SCRIPT, noise, write_run

from captum_ext._files import save_image
from captum_ext.cli import main
from captum_ext.evaluation import Results, image_path, map_path, read_results
from captum_ext.evaluation.ranks import Ranking, critical_difference
from captum_ext.evaluation.statistics import compare_methods, summarize
from captum_ext.report.curve_plot import curve_plot, legend_key
from captum_ext.report.gallery import Case, by_importance, find_case, gallery_images
from captum_ext.report.mean_table import latex_table, mean_table
from captum_ext.report.page import render_report, write_report
from captum_ext.report.rank_plot import equal_groups
from captum_ext.report.sentences import summary_sentences
from captum_ext.report.text import text_report


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def path(folder):
    return write_report(folder)


@pytest.fixture(scope="module")
def page(path):
    return Page(path.read_text(encoding="utf-8"))


class Element:
    def __init__(self, tag, attributes, parent):
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children = []

    def find(self, *tags):
        """Descendants with one of the tags, in document order."""
        for child in self.children:
            if isinstance(child, Element):
                if child.tag in tags:
                    yield child
                yield from child.find(*tags)

    @property
    def text(self):
        parts = (c if isinstance(c, str) else c.text for c in self.children)
        return " ".join("".join(parts).split())

    def __getitem__(self, name):
        return self.attributes.get(name)


class Page(HTMLParser):
    """A page as a tree; elements that are not closed in order are an error."""

    VOID = {"meta", "link", "img", "br"}

    def __init__(self, text):
        super().__init__()
        self.root = self.open = Element("", {}, None)
        self.feed(text)
        self.close()
        assert self.open is self.root, f"{self.open.tag} is not closed"

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), f"{tag} has attributes twice"
        element = Element(tag, dict(attributes), self.open)
        self.open.children.append(element)
        if tag not in self.VOID:
            self.open = element

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert tag == self.open.tag, f"{tag} ends within {self.open.tag}"
        self.open = self.open.parent

    def handle_data(self, text):
        self.open.children.append(text)

    def find(self, *tags):
        return list(self.root.find(*tags))

    def all(self):
        def walk(element):
            for child in element.children:
                if isinstance(child, Element):
                    yield child
                    yield from walk(child)

        return list(walk(self.root))

    def table(self, caption):
        """Rows of cells of the only table whose caption starts with a text."""
        [table] = [
            t
            for t in self.find("table")
            if next(t.find("caption")).text.startswith(caption)
        ]
        return [[*row.find("th", "td")] for row in table.find("tr")]


def numbers(cells):
    return [float(cell["data-value"]) for cell in cells if cell["data-value"]]


@pytest.mark.parametrize("text", ["<p><b>x</p></b>", "<p>", "<p id=a id=b></p>"])
def test_parser_rejects_malformed_pages(text):
    with pytest.raises(AssertionError):
        Page(text)


def test_ids_are_unique_and_references_are_resolved(page):
    ids = [e["id"] for e in page.all() if e["id"]]
    assert len(set(ids)) == len(ids)
    for element in page.all():
        for name in (element["aria-labelledby"] or "").split():
            assert name in ids
        if (element["href"] or "").startswith("#"):
            assert element["href"][1:] in ids


def test_nothing_is_loaded(page, path):
    for element in page.all():
        for attribute in ("src", "href", "srcset", "data", "xlink:href", "action"):
            assert re.match(r"(data:|#)", element[attribute] or "#")
    style = page.find("style")[0].text
    assert "url(" not in style and "@import" not in style
    assert not page.find("iframe", "object", "embed", "base")
    [policy] = [m for m in page.find("meta") if m["http-equiv"]]
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert policy["content"] == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'"
    )
    assert "http://" not in path.read_text() and "https://" not in path.read_text()


def test_page_has_title_headings_and_facts(page):
    [html], [title], [heading] = (page.find(tag) for tag in ("html", "title", "h1"))
    assert html["lang"] == "en" and title.text == heading.text
    assert "4 attribution methods by 3 metrics" in title.text
    levels = [int(h.tag[1]) for h in page.find("h1", "h2", "h3")]
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))
    assert {"header", "nav", "main"} <= {e.tag for e in page.all()}
    facts = {d.text: next(d.parent.find("dd")).text for d in page.find("dt")}
    assert facts["Data set"] == SCRIPT and facts["Model"] == "signs"
    assert facts["Images"] == "12" and facts["Errors"] == "3 of 144 values"


def test_every_image_has_an_alternative_text(page):
    images = page.find("img")
    assert len(images) == 12 * (1 + len(METHODS))
    assert all(
        re.match("data:image/jpeg;base64,[A-Za-z0-9+/]+=*$", i["src"]) for i in images
    )
    texts = [image["alt"] for image in images]
    assert len(set(texts)) == len(texts)
    assert f"Map of PN-RISE over the image {HOSTILE}" in texts
    for drawing in page.find("svg"):
        assert drawing["aria-hidden"] or drawing["aria-labelledby"]


def test_tables_have_captions_and_headings(page):
    tables = page.find("table")
    assert len(tables) > 10
    for table in tables:
        [caption] = table.find("caption")
        assert caption.text
        assert all(h["scope"] in ("col", "row") for h in table.find("th"))
        widths = {len([*row.find("th", "td")]) for row in table.find("tr")}
        assert len(widths) == 1
        box = table.parent
        assert box["tabindex"] == "0" and box["aria-labelledby"] == caption["id"]


@pytest.mark.parametrize("center, caption", [("mean", "Means"), ("median", "Medians")])
def test_means_and_medians_are_those_of_the_table(folder, page, center, caption):
    summary = summarize(read_results(folder).table).set_index(["method", "metric"])
    header, *rows = page.table(caption)
    assert [h.text for h in header] == [
        "Method",
        "Insertion ↑, higher is better",
        "Deletion ↓, lower is better",
        "Pointing game ↑, higher is better",
    ]
    titles = ["RISE", "RISE, quick", "PN-RISE", "Random map"]
    assert [row[0].text for row in rows] == titles
    for method, row in zip(METHODS, rows):
        expected = [summary.loc[(method, metric), center] for metric in BETTER]
        assert numbers(row) == expected
        for cell, metric, value in zip(row[1:], BETTER, expected):
            low, high = summary.loc[
                (method, metric), [f"{center}_low", f"{center}_high"]
            ]
            assert f"{value:.3f}" in cell.text
            assert f"[{low:.3f}, {high:.3f}]" in cell.text
            assert ("n = 11" in cell.text) == (method == "rise")


def test_the_best_value_is_marked_by_more_than_color(page):
    _, *rows = page.table("Means")
    for column, better in enumerate(BETTER.values(), 1):
        values = [float(row[column]["data-value"]) for row in rows]
        best = max(values) if better == "higher" else min(values)
        for row, value in zip(rows, values):
            marked = "★" in row[column].text and "best" in row[column].text
            assert marked == (value == best) == (row[column]["class"] == "best")


def test_matrices_hold_effects_and_corrected_p_values(folder, page):
    table = read_results(folder).table
    for title, (metric, better) in zip(("Insertion", "Deletion"), BETTER.items()):
        tests = compare_methods(table, metric, better)
        by_pair = tests.set_index(["method", "other"])
        header, *rows = page.table(f"{title} ")
        for method, row in zip(METHODS, rows):
            for other, cell in zip(METHODS, row[1:]):
                if method == other:
                    assert cell.text == "–"
                    continue
                sign = 1 if (method, other) in by_pair.index else -1
                test = by_pair.loc[(method, other)[::sign]]
                assert float(cell["data-value"]) == sign * test["effect"]
                shown = f"{sign * test['effect']:+.3f}".replace("-", "−")
                shown += "*" if test["p_holm"] < 0.05 else ""
                p = test["p_holm"]
                assert cell.text == f"{shown} {'<0.001' if p < 0.001 else f'{p:.3f}'}"
        full = page.table(f"Tests by {title}")[1:]
        effects = [float(row[5]["data-value"]) for row in full]
        assert effects == tests["effect"].tolist()


def test_wins_are_counts_of_significant_differences(folder, page):
    tests = compare_methods(read_results(folder).table, "deletion", "lower")
    found = tests[tests["p_holm"] < 0.05]
    won = pd.concat(
        [found[found["effect"] > 0]["method"], found[found["effect"] < 0]["other"]]
    ).value_counts()
    rows = page.table("Number of other methods")[1:]
    assert [int(row[2].text) for row in rows] == [won.get(m, 0) for m in METHODS]
    assert won.sum() > 0


def test_curves_have_axes_and_a_legend(page):
    plots = [f for f in page.find("figure") if f["class"] == "plot"]
    assert [next(p.find("figcaption")).text.split()[0] for p in plots] == [
        "Insertion",
        "Deletion",
    ]
    for plot in plots:
        drawing, *keys = plot.find("svg")
        assert len(keys) == len(METHODS)
        labels = [text.text for text in drawing.find("text")]
        assert "share of the pixels" in labels and "100%" in labels
        assert "PN-RISE" in plot.text


def test_diagrams_have_a_mark_for_each_method(page):
    diagrams = [f for f in page.find("figure") if "ranks" in f["class"]]
    assert len(diagrams) == 3
    for diagram in diagrams:
        assert "Friedman test: p <0.001, 11 images." in diagram.text
        labels = [text.text for text in diagram.find("text")]
        assert labels[:4] == ["1", "2", "3", "4"]
        assert labels[4] == f"critical difference {critical_difference(4, 11):.2f}"
        for title in ("RISE", "RISE, quick", "PN-RISE", "Random map"):
            assert [re.fullmatch(rf"{title} \d\.\d\d", t) for t in labels]


@pytest.mark.parametrize(
    "ranks, difference, p, groups",
    [
        ([1.0, 1.5, 2.25], 0.8, 0.01, [(1.0, 1.5), (1.5, 2.25)]),
        ([1.0, 1.5, 2.25], 0.75, 0.01, [(1.0, 1.5)]),
        ([1.0, 2.0, 3.0], 2.5, 0.01, [(1.0, 3.0)]),
        ([1.0, 2.0, 3.0], 1.0, 0.01, []),
        ([1.0, 2.0, 3.0], 1.0, 0.05, [(1.0, 3.0)]),
        ([1.0, 1.2, 1.4, 3.0], 0.5, 0.01, [(1.0, 1.4)]),
    ],
)
def test_bars_join_methods_that_do_not_differ(ranks, difference, p, groups):
    assert equal_groups(Ranking(pd.Series(ranks), 20, p, difference)) == groups


def test_gallery_names_classes_and_explains_colors(folder):
    results = read_results(folder)._replace(class_names=("a", "b", "c", "stop <b>"))
    gallery = gallery_images(folder, [HOSTILE], [*METHODS])
    page = Page(render_report(results, gallery))
    captions = [c.text for a in page.find("article") for c in a.find("caption")]
    assert captions[0].startswith("Explained class 3 (stop <b>), probability 0.900")
    assert captions[0].endswith("label 3 (stop <b>)")
    [keys] = [e for e in page.find("ul") if e["class"] == "color-keys"]
    signed, unsigned = keys.find("li")
    assert signed.text == "lowers the score raises the score PN-RISE"
    assert unsigned.text == "unimportant important RISE; RISE, quick; Random map"


def test_ids_within_plots_are_referenced(page):
    for drawing in page.find("svg"):
        ids = {e["id"] for e in drawing.find("path", "g", "clippath") if e["id"]}
        assert {use["href"][1:] for use in drawing.find("use")} == ids


def test_colors_of_plots_are_those_of_the_style_sheet(page, path):
    """In light and in dark: no color but variables that the page defines."""
    style = page.find("style")[0].text
    drawn = "".join(re.findall("<svg.*?</svg>", path.read_text(), re.DOTALL))
    assert not re.search("(?:fill|stroke): #", drawn)
    for variable in set(re.findall(r"var\((--[\w-]+)\)", drawn)):
        assert style.count(f"{variable}: #") == 2


def test_lines_differ_by_dash_and_marker_not_only_by_color():
    keys = [legend_key(n, "key") for n in range(8)]
    markers = [re.search('<defs><path id="[^"]*" d="([^"]*)', key)[1] for key in keys]
    dashes = [re.findall("stroke-dasharray: ([^;]*)", key) for key in keys]
    assert len(set(markers)) == 7 and markers[7] == markers[0]
    assert len(set(map(str, dashes))) == 8


def test_hostile_names_stay_text(page):
    assert len(page.find("script")) == 1 and not page.find("b", "i")
    assert not [e for e in page.all() if any(n.startswith("on") for n in e.attributes)]
    assert HOSTILE in [heading.text for heading in page.find("h3")]
    assert SCRIPT in [row[1].text for row in page.table("Errors")]
    blocks = page.find("pre")
    assert blocks and all(SCRIPT in block.text for block in blocks)


def test_errors_are_grouped_by_message(page):
    [row] = page.table("Errors")[1:]
    assert [cell.text for cell in row] == [
        "RISE",
        SCRIPT,
        "1",
        "image 11.jpg",
        "insertion, deletion, pointing-game",
    ]


def test_list_of_errors_is_limited(folder):
    results = read_results(folder)
    errors = [f"broken {i}" for i in range(len(results.table))]
    table = results.table.assign(value=float("nan"), error=errors)
    page = Page(render_report(results._replace(table=table), []))
    rows = page.table("Errors")[1:]
    assert [row[1].text for row in rows] == errors[:50]
    assert "50 of 144 kinds" in page.find("main")[0].text
    means = [cell.text for row in page.table("Means")[1:] for cell in row[1:]]
    assert set(means) == {"–"}


def test_metrics_and_methods_are_explained_with_their_sources(page):
    text = page.find("main")[0].text
    assert "How fast the score rises as the highest pixels are inserted; higher" in text
    assert "J. Zhang et al., Top-down Neural Attention" in text
    assert "n_masks=50" in text and "captum_ext 0.1.0" in text


def test_same_results_give_the_same_bytes(folder, path, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "elsewhere")
    again = write_report(copied, tmp_path / "again.html")
    assert again.read_bytes() == path.read_bytes()


def test_best_and_worst_images_are_by_the_mean_of_all_methods():
    table = pd.DataFrame(
        [
            ("a", "m", 0.1),
            ("a", "n", 0.3),
            ("b", "m", 0.9),
            ("b", "n", float("nan")),
            ("c", "m", 0.3),
            ("c", "n", 0.1),
            ("d", "m", float("nan")),
            ("d", "n", float("nan")),
        ],
        columns=["image", "method", "value"],
    ).assign(metric="f")
    assert find_case(table, "f", "higher") == Case("f", "b", 0.9, "a", 0.2)
    assert find_case(table, "f", "lower") == Case("f", "a", 0.2, "b", 0.9)
    assert find_case(table[table["image"] == "d"], "f", "lower") is None


def test_cases_link_to_their_maps(folder, page):
    table = read_results(folder).table
    case = find_case(table, "deletion", "lower")
    row = page.table("Images and their mean")[2]
    assert [row[1].text, row[3].text] == [case.best, case.worst]
    [link] = row[3].find("a")
    [place] = [e for e in page.find("article") if e["id"] == link["href"][1:]]
    assert next(place.find("h3")).text == case.worst
    assert "worst case" in place.text


def test_best_and_worst_images_come_first():
    cases = [Case("f", "d", 1.0, "b", 0.0), Case("g", "b", 1.0, "c", 0.0)]
    assert by_importance(cases, ["a", "b", "c", "d"]) == ["d", "b", "c", "a"]


def test_gallery_is_limited(tmp_path):
    rng = np.random.default_rng(0)
    for name in "abcd":
        save_image(noise(rng, 300), image_path(tmp_path, name))
        for method in ("m", "n"):
            save_image(noise(rng, 300), map_path(tmp_path, name, method))
    every = gallery_images(
        tmp_path, ["b", "missing", "a", "c", "d"], ["m", "n", "none"]
    )
    assert [each.name for each in every] == ["b", "a", "c", "d"]
    assert [*every[0].maps] == ["m", "n"]
    sizes = [len(e.image) + sum(map(len, e.maps.values())) for e in every]
    for n in range(5):
        assert (
            gallery_images(tmp_path, [*"bacd"], ["m", "n"], sum(sizes[:n])) == every[:n]
        )


def test_many_noisy_maps_stay_below_ten_megabytes(tmp_path):
    """Noise compresses worst."""
    methods = {f"m{i}": {"use": "random"} for i in range(12)}
    folder = write_run(tmp_path / "run", 30, methods, {"deletion": {"use": "deletion"}})
    rng = np.random.default_rng(0)
    for file in folder.rglob("*.png"):
        if file.parent.parent.name == "maps":
            save_image(noise(rng, 224), file)
    assert 5e6 < write_report(folder).stat().st_size < 10e6


@pytest.mark.parametrize(
    "methods, n, images",
    [({"rise": {"use": "rise"}}, 3, True), (METHODS, 2, False), (METHODS, 1, True)],
    ids=["one method", "no images", "one image"],
)
def test_small_runs_have_well_formed_pages(methods, n, images, tmp_path):
    metrics = {"pointing-game": {"use": "pointing-game"}}
    folder = write_run(tmp_path / "run", n, methods, metrics, images)
    page = Page(write_report(folder).read_text())
    ids = {e["id"] for e in page.all()}
    assert "curves" not in ids and ("gallery" in ids) == images
    assert ("tests" in ids) == (len(methods) > 1)
    for link in page.find("a"):
        assert link["href"][1:] in ids


def test_unknown_metric_is_an_error(folder):
    results = read_results(folder)
    settings = {**results.settings, "metrics": {"x": {"use": "magic"}}}
    with pytest.raises(ValueError, match="got 'magic'"):
        render_report(results._replace(settings=settings), [])


def lines_of(plot: str) -> list[np.ndarray]:
    """Coordinates of the frame of a plot, followed by those of each line."""
    paths = [
        (path.attrib["d"], path.attrib["style"])
        for path in ElementTree.fromstring(plot).iter("path")
        if "id" not in path.attrib
    ]
    frame = " ".join(d for d, style in paths if "--quiet" in style)
    lines = [d for d, style in paths if "--series" in style]
    return [
        np.array(re.findall(r"[ML] (\S+) (\S+)", d), dtype=float)
        for d in (frame, *lines)
    ]


def test_coordinates_of_curves():
    curves = pd.DataFrame([[0.0, 0.4, 0.8], [1.0, 0.5, 0.0]], ["a", "b"], [0, 0.5, 1])
    plot = curve_plot(curves, "plot")
    frame, *lines = lines_of(plot)
    (left, top), (right, bottom) = frame.min(0), frame.max(0)
    for line, scores in zip(lines, curves.to_numpy()):
        x = left + (right - left) * np.array([0, 0.5, 1])
        y = bottom - (bottom - top) * scores
        np.testing.assert_allclose(line, np.stack([x, y], 1), atol=0.01)
    labels = [text.text for text in ElementTree.fromstring(plot).iter("text")]
    assert {"0", "0.2", "0.4", "0.6", "0.8", "1"} <= {*labels}


@pytest.mark.parametrize("scores", [[0.0, 0.0], [-1.0, -2.0], [1e-9, 0.0]])
def test_curves_of_any_height_stay_within_the_frame(scores):
    curves = pd.DataFrame([scores], ["a"], [0.0, 1.0])
    frame, line = lines_of(curve_plot(curves, "plot"))
    assert (frame.min(0) <= line).all() and (line <= frame.max(0)).all()


def test_bands_are_drawn_from_low_to_high():
    curves = pd.DataFrame([[0.0, 0.5]], ["a"], [0.0, 1.0])
    band = pd.Series([0.0, 0.25], [0.0, 1.0]), pd.Series([0.5, 1.0], [0.0, 1.0])
    root = ElementTree.fromstring(curve_plot(curves, "plot", {"a": band}))
    [use] = [u for u in root.iter("use") if "opacity" in u.attrib["style"]]
    paths = {path.attrib.get("id"): path.attrib["d"] for path in root.iter("path")}
    outline = paths[use.attrib["href"][1:]]
    corners = np.array(re.findall(r"[ML] (\S+) (\S+)", outline), dtype=float)
    y = corners[:, 1] + float(use.attrib["y"])
    frame, _ = lines_of(curve_plot(curves, "plot", {"a": band}))
    (_, top), (_, bottom) = frame.min(0), frame.max(0)
    heights = np.unique(((bottom - y) / (bottom - top)).round(3))
    assert heights.tolist() == [0.0, 0.25, 0.5, 1.0]


def test_a_method_without_curves_keeps_its_line():
    curves = pd.DataFrame([[np.nan, np.nan], [0.5, 1.0]], ["a", "b"], [0.0, 1.0])
    plot = curve_plot(curves, "plot")
    assert len(lines_of(plot)) == 2
    assert "--series-1" in plot and "--series-0" not in plot


def test_text_has_the_tests_against_a_baseline(folder):
    results = read_results(folder)
    text = text_report(results, "random")
    tests = compare_methods(results.table, "insertion", "higher", "random")
    sentences, insertion, deletion, pointing, note = text.split("\n\n")
    assert sentences.split() == " ".join(summary_sentences(results)).split()
    title, header, *lines = insertion.splitlines()
    assert title == "Insertion, higher is better"
    assert header.split() == ["n", "mean", "median", "difference", "effect", "p"]
    for line, test in zip(lines, tests.to_dict("records")):
        p = f"{test['p_holm']:.3f}" if test["p_holm"] >= 0.001 else "<0.001"
        difference, effect, shown = line.split()[-3:]
        assert difference == f"{test['median_difference']:.3f}"
        assert effect == f"{test['effect']:.3f}"
        assert shown.rstrip("*") == p
    assert lines[-1].startswith("Random map") and lines[-1].endswith("]")
    assert "than Random map" in note and text.isascii()


def test_the_first_method_is_the_baseline_by_default(folder):
    results = read_results(folder)
    assert text_report(results) == text_report(results, "rise")


def results_of(values, **settings):
    """Results from values by metric and method, image by image; None is missing."""
    rows = [
        (f"{i}.jpg", method, metric, value)
        for metric, by_method in values.items()
        for method, of_method in by_method.items()
        for i, value in enumerate(of_method)
    ]
    table = pd.DataFrame(rows, columns=["image", "method", "metric", "value"])
    methods = dict.fromkeys(table["method"])
    settings = {
        "dataset": {"source": "signs", "images": table["image"].nunique()},
        "model": {"name": "signs"},
        "methods": {name: {"use": name} for name in methods} | settings,
        "metrics": {name: {"use": name} for name in values},
    }
    return Results(table, pd.DataFrame(), pd.DataFrame(), settings, {})


def test_sentences_say_what_is_best_and_what_is_missing():
    low, high = [0.1 * i for i in range(8)], [0.1 * i + 0.05 for i in range(8)]
    mixed = [value + (-1) ** i * 0.01 for i, value in enumerate(low)]
    mixed[0] += 0.02
    results = results_of(
        {
            "insertion": {"rise": low, "pn-rise": high, "random": mixed},
            "deletion": {"rise": low, "pn-rise": high, "random": [*mixed[:7], None]},
        },
        random={"use": "rise", "n_masks": 3},
    )
    assert summary_sentences(results) == [
        "RISE, PN-RISE and RISE (random) were evaluated on 8 images of signs with the "
        "model signs by Insertion and Deletion.",
        "By Insertion, PN-RISE is best, significantly better than every other method; "
        "by Deletion, RISE (random) is best, but not significantly better than RISE.",
        "Missing: 1 of 48 values (1 of RISE (random)); a random map, the lower bound "
        "of every metric.",
    ]


@pytest.mark.parametrize(
    "values, sentence, missing",
    [
        ({"random": [1.0] * 6}, "With one method there is nothing to compare.", "No"),
        (
            {"random": [1.0] * 3, "rise": [1.0] * 3},
            "By Insertion, Random map and RISE share the best mean.",
            "No value is missing. With fewer than 6 images",
        ),
        (
            {"random": [None] * 6, "rise": [None] * 6},
            "By Insertion, no method has a value.",
            "Missing: 12 of 12 values (6 of Random map, 6 of RISE).",
        ),
    ],
)
def test_sentences_of_degenerate_runs(values, sentence, missing):
    found = summary_sentences(results_of({"insertion": values}))
    assert found[1] == sentence and found[2].startswith(missing)


def test_table_of_means_has_the_numbers_of_summary_and_tests(folder):
    results = read_results(folder)
    table = mean_table(results, "random").set_index(["metric", "method"])
    summary = summarize(results.table).set_index(["metric", "method"])
    names = ["n", "mean", "mean_low", "mean_high"]
    pd.testing.assert_frame_equal(
        table[names], summary.loc[table.index, names], check_names=False
    )
    for metric, better in BETTER.items():
        tests = compare_methods(results.table, metric, better, "random")
        for test in tests.itertuples():
            row = table.loc[(metric, test.method)]
            assert (row["effect"], row["p_holm"]) == (test.effect, test.p_holm)
            assert row["significant"] == ("*" if test.p_holm < 0.05 else "")
        assert np.isnan(table.loc[(metric, "random"), "p_holm"])
    assert set(table["better"]) == {"higher", "lower"}


def test_latex_escapes_names_and_marks_the_best():
    values = {"rise": [0.0] * 9, "a_b": [float(i) for i in range(9)]}
    text = latex_table(results_of({"deletion": values}, a_b={"use": "rise"}))
    lines = [line.strip() for line in text.splitlines()]
    assert r"& Deletion $\downarrow$ \\" in lines
    assert r"RISE & \textbf{0.000} [0.000, 0.000] \\" in lines
    [line] = [line for line in lines if line.startswith(r"RISE, a\_b & 4.000* [")]
    assert r"differs significantly from RISE:" in text
    better = latex_table(
        results_of({"insertion": {"rise": [-1.0], "a_b": [0.0]}}, a_b={"use": "rise"}),
        "a_b",
    )
    assert r"RISE & $-$1.000 \\" in better and r"from RISE, a\_b:" in better


def test_command_writes_csv_and_latex(folder, tmp_path, capsys):
    results, files = read_results(folder), [tmp_path / n for n in ("a.csv", "b.tex")]
    page = str(tmp_path / "page.html")
    words = ["report", str(folder), "-o", page, "--baseline", "quick"]
    assert main([*words, "--csv", str(files[0]), "--latex", str(files[1])]) == 0
    assert capsys.readouterr().out.endswith(f"{page}, {files[0]}, {files[1]}\n")
    table = mean_table(results, "quick")
    read = pd.read_csv(files[0], keep_default_na=False, na_values={"p_holm": [""]})
    assert read["mean"].tolist() == table["mean"].tolist()
    assert read["significant"].tolist() == table["significant"].tolist()
    assert files[1].read_text() == latex_table(results, "quick")
    assert len([*tmp_path.iterdir()]) == 3


def test_command_prints_the_tables_and_writes_the_page(folder, path, tmp_path, capsys):
    output = tmp_path / "page.html"
    arguments = ["report", str(folder), "-o", str(output), "--baseline", "random"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(text_report(read_results(folder), "random"))
    assert printed.endswith(f"written to {output}\n")
    assert output.read_bytes() == path.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"results": "nowhere"}, "nowhere"),
        ({"--baseline": "magic"}, "baseline must be one of rise, quick, pn-rise"),
        ({"-o": "nowhere/page.html"}, "nowhere/page.html"),
        ({"-o": "."}, "--output must be a file"),
        ({"--csv": "nowhere/a.csv"}, "--csv and --latex must be files in existing"),
    ],
    ids=str,
)
def test_errors_are_one_line(change, words, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = {"results": str(folder), "-o": "page.html", **change}
    results = options.pop("results")
    pairs = [word for pair in options.items() for word in pair]
    assert main(["report", results, *pairs]) == 2
    error = capsys.readouterr().err
    assert error.startswith("captum-ext: error: ") and error.count("\n") == 1
    assert words in error and not [*tmp_path.iterdir()]
