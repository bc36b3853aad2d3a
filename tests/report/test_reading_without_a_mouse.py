"""The page by keyboard and by ear, in both themes, and on paper: what can be checked without a browser."""

import re
from html.parser import HTMLParser
from importlib.resources import files
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from runs_on_disk import errors, speed, stage, whole_run

from equiprune.report.figures import PALETTE
from equiprune.report.parts import Figure
from equiprune.report.report import report_page
from equiprune.report.run_directory import RunDirectory
from equiprune.report.sections import sections

CSS = files("equiprune.report").joinpath("page.css").read_text(encoding="utf-8")
JS = files("equiprune.report").joinpath("page.js").read_text(encoding="utf-8")
VOID = {"meta", "link", "br", "img", "input"}
NATIVE = {"a": "href", "button": "type", "select": "id", "summary": None}
"""Elements that a keyboard reaches, and the attribute that each needs for it here."""


class Element:
    """A tag with its attributes, its parents and the text in it."""

    def __init__(self, tag: str, attributes: dict[str, str], parents: tuple["Element", ...]) -> None:
        self.tag, self.attributes, self.parents, self.text = tag, attributes, parents, ""

    def inside(self, tag: str) -> bool:
        return any(parent.tag == tag for parent in self.parents)

    @property
    def name(self) -> str:
        """What a screen reader says it is."""
        return (self.attributes.get("aria-label") or self.text).strip()


class Page(HTMLParser):
    """All elements in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {key: value or "" for key, value in attrs}, tuple(self.open))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, *tags: str) -> list[Element]:
        return [element for element in self.elements if element.tag in tags]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    text = report_page(whole_run(tmp_path_factory.mktemp("whole") / "run"))
    return Page(re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL))


def test_headings_begin_with_one_title_and_leave_out_no_level(page: Page) -> None:
    levels = [int(element.tag[1]) for element in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(levels) == 1 + len(page.all("section"))
    assert page.all("html")[0].attributes["lang"] == "en"


def test_sections_are_named_by_their_headings(page: Page) -> None:
    headings = {element.attributes["id"] for element in page.all("h2")}
    assert {element.attributes["aria-labelledby"] for element in page.all("section")} == headings


def test_whatever_can_be_used_is_reached_by_keyboard_and_has_a_name(page: Page) -> None:
    used = [element for element in page.elements if element.tag in NATIVE]
    assert {element.tag for element in used} == set(NATIVE)
    for element in used:
        needed = NATIVE[element.tag]
        assert needed is None or element.attributes.get(needed)
        assert element.attributes.get("tabindex", "0") == "0"
        if element.tag == "select":
            [label] = [each for each in page.all("label") if each.attributes["for"] == element.attributes["id"]]
            assert label.name
        else:
            assert element.name
    assert not any(key.startswith("on") for element in page.elements for key in element.attributes)
    handled = set(re.findall(r'querySelectorAll\("\.(\w+)"\)', JS))
    assert handled == {"choice", "picture", "copy"}
    for element in page.elements:  # what the script listens to is an element that a keyboard reaches
        assert not handled & set(element.attributes.get("class", "").split()) or element.tag in NATIVE


def test_what_scrolls_is_reached_by_keyboard_and_has_a_name(page: Page) -> None:
    scrolling = [e for e in page.elements if e.tag == "pre" or e.attributes.get("class") == "wide"]
    assert {element.tag for element in scrolling} >= {"pre", "div"}
    for element in scrolling:
        assert element.attributes["tabindex"] == "0"
        assert element.attributes["role"] == "region"
        assert element.attributes["aria-label"]
    assert all(any(parent in scrolling for parent in table.parents) for table in page.all("table"))


def test_every_figure_has_a_text_and_a_table_in_its_place(page: Page) -> None:
    figures = page.all("figure")
    assert figures
    for figure in figures:
        within = [element for element in page.elements if figure in element.parents]
        [drawn] = [element for element in within if element.attributes.get("class") == "figure"]
        [caption] = [element for element in within if element.tag == "figcaption"]
        assert drawn.attributes["role"] == "img"
        assert drawn.attributes["aria-label"] == caption.text.strip()
        assert any(element.tag == "table" and element.inside("details") for element in within)


def test_menus_of_figures_are_elements_and_have_every_choice(page: Page) -> None:
    menus = page.all("select")
    assert {menu.attributes["data-for"] for menu in menus} == {"figure-cost-0", "figure-elements-0"}
    for menu in menus:
        options = [e for e in page.all("option") if menu in e.parents]
        assert [e.attributes["value"] for e in options] == [str(i) for i in range(len(options))]
        assert all(option.name for option in options)
    assert "updatemenus: []" in JS  # plotly's own menus are drawn for a mouse alone


def test_cells_have_heads(page: Page) -> None:
    assert all(head.attributes.get("scope") in ("col", "row") for head in page.all("th"))
    assert all(head.name for head in page.all("th") if head.inside("thead"))
    for table in page.all("table"):
        assert any(table in head.parents for head in page.all("th"))


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    [policy] = [e for e in page.all("meta") if e.attributes.get("http-equiv") == "Content-Security-Policy"]
    allowed = dict(rule.strip().split(" ", 1) for rule in policy.attributes["content"].split(";"))
    assert allowed.pop("default-src") == "'none'"
    assert {source for of in allowed.values() for source in of.split()} == {"'unsafe-inline'", "data:", "blob:"}
    first = page.elements.index(policy)
    assert not {element.tag for element in page.elements[:first]} & {"script", "style", "link", "img"}
    assert not re.search(r"url\(|@import", CSS)
    assert not re.search(r"https?://|\b(?:fetch|XMLHttpRequest|WebSocket|import)\b", JS)


# Colours.


def themes() -> dict[str, dict[str, str]]:
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6});", line)) for line in CSS.splitlines() if "--text: #" in line)
    return {"light": light, "dark": dark}


def contrast(one: str, other: str) -> float:
    """Ratio of luminances as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_the_definition() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("colour", PALETTE)
def test_markers_contrast_with_the_page(theme: str, colour: str) -> None:
    assert contrast(colour, themes()[theme]["page"]) >= 3


def test_markers_cover_what_is_behind_them(tmp_path: Path) -> None:
    """A colour that the page shines through has less contrast than it was chosen for."""
    found = sections(RunDirectory.read(whole_run(tmp_path / "run")))
    traces = [
        trace for part in found for block in part.blocks if isinstance(block, Figure) for trace in block.drawn.data
    ]
    markers = [
        trace.marker for trace in traces if trace.type == "scatter" and "markers" in trace.mode and trace.marker.color
    ]
    assert {marker.color for marker in markers} >= set(PALETTE[:2])
    assert all(marker.opacity is None for marker in markers)


SIGHT = {
    "every colour": np.eye(3),
    "no red": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "no green": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "no blue": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}
"""What is seen of linear red, green and blue, by Machado, Oliveira and Fernandes (2009)."""
LIGHTNESS_AND_HUE = np.array([[0, 116, 0], [500, -500, 0], [0, 200, -200]])
"""L (without its constant), a and b of CIELAB, from cube roots of X, Y and Z."""


def seen(colour: str, sight: str) -> np.ndarray:
    """A colour in CIELAB as it is seen."""
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])
    of_white = to_xyz @ np.clip(np.array(SIGHT[sight]) @ linear, 0, 1) / to_xyz.sum(axis=1)
    return LIGHTNESS_AND_HUE @ np.where(of_white > 0.008856, np.cbrt(of_white), 7.787 * of_white + 16 / 116)


@pytest.mark.parametrize("sight", SIGHT)
def test_markers_are_told_apart_without_some_colours(sight: str) -> None:
    """The closest two of Okabe and Ito's, with grey, are 10 apart; 2 is what an eye just tells."""
    apart = [np.linalg.norm(seen(one, sight) - seen(other, sight)) for one, other in combinations(PALETTE, 2)]
    assert min(apart) > 14


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("text", ["text", "soft", "link"])
@pytest.mark.parametrize("behind", ["page", "panel"])
def test_text_contrasts_with_what_is_behind_it(theme: str, text: str, behind: str) -> None:
    of = themes()[theme]
    assert contrast(of[text], of[behind]) >= 4.5


def test_colours_of_text_come_from_the_theme_alone() -> None:
    written = re.findall(r"(?<![\w-])(?:color|background): ([^;]+);", CSS)
    assert written
    assert all(value.startswith("var(--") for value in written)
    assert themes()["light"].keys() == themes()["dark"].keys()


# Paper.


def test_paper_is_light_and_what_is_closed_is_open_there() -> None:
    assert re.search(r"@media screen and \(prefers-color-scheme: dark\) \{\s*:root:not\(\[data-printing\]\)", CSS)
    printed = [rule for rule in CSS.split("@media print")[1:] if "::details-content" in rule]
    assert len(printed) == 1  # in a block of its own: a browser that does not know it leaves out no other rule
    assert re.search(r"details::details-content \{ content-visibility: visible; display: block;", printed[0])
    before, after = (JS.split(f'"{event}"')[1] for event in ("beforeprint", "afterprint"))
    assert "details.open = true" in before
    assert "details.open = false" in after


def test_narrow_screens_are_named_to_the_browser(page: Page) -> None:
    [viewport] = [e for e in page.all("meta") if e.attributes.get("name") == "viewport"]
    assert viewport.attributes["content"] == "width=device-width, initial-scale=1"


def test_text_alternatives_of_a_hostile_name_stay_text(tmp_path: Path) -> None:
    hostile = '"><img src=x onerror=alert(1)>'
    stage(tmp_path / "evaluate", ["evaluate"], [errors("a", 1.0), errors(hostile, 2.0)])
    stage(tmp_path / "benchmark", ["benchmark"], [speed("a", 10.0), speed(hostile, 20.0)])
    text = re.sub(r"<script>.*?</script>", "", report_page(tmp_path), flags=re.DOTALL)
    assert not Page(text).all("img")
