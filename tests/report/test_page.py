"""The page: true numbers, and nothing that a file could smuggle in."""

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from runs_on_disk import compressed_run, errors, scaling, speed, stage, whole_run, write

import equiprune as ep
from equiprune.errors import OutputError
from equiprune.report.report import report_page
from equiprune.report.run_directory import RunDirectory
from equiprune.report.sections import Figure, Table, sections


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_run(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return report_page(run)


class Outline(HTMLParser):
    """Links, elements and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [(given["href"] or "")[1:]] if tag == "a" else []
        self.loads += [given[name] or "" for name in ("src", "href") if tag != "a" and name in given]


def figures_of(text: str) -> dict[str, dict]:
    found = re.findall(r'data-figure="([^"]+)">(.*?)</script>', text)
    return {name: json.loads(value) for name, value in found}


@pytest.mark.slow
def test_every_panel_is_there_once_and_nothing_is_loaded(page: str) -> None:
    outline = Outline(page)
    assert len(outline.ids) == len(set(outline.ids))
    assert set(outline.links) <= set(outline.ids)
    assert {"model", "cost", "errors", "speed", "certificate", "removed", "training", "stages"} <= set(outline.ids)
    assert [load for load in outline.loads if not load.startswith("data:")] == []
    assert "main" in outline.tags
    assert set(figures_of(page)) == {
        "figure-cost-0",
        "figure-parity-0-energy",
        "figure-parity-0-forces",
        "figure-elements-0",
        "figure-removed-0",
        "figure-curve-0",
    }


@pytest.mark.slow
def test_what_is_missing_is_said_with_the_command_that_gives_it(page: str) -> None:
    text = html.unescape(page)
    assert "Molecular dynamics. 'equiprune md' moves atoms with models." in text
    assert "Discovery of stable materials. 'equiprune discovery'" in text


def test_the_headline_has_the_measured_ratio(run: Path) -> None:
    [model] = [part for part in sections(RunDirectory.read(run)) if part.name == "model"]
    said = [block for block in model.blocks if isinstance(block, str)]
    conditions = "64 atoms, float32, toy on cpu, equiprune's code, 1 thread"
    assert f"2.50 times as fast as toy, with 1.00 of its memory ({conditions})." in said
    assert "Forces of mine.extxyz to 8 meV/Angstrom (toy 2), mean absolute error." in said


def test_the_headline_of_a_compressed_model_is_about_its_copy_that_was_timed(tmp_path: Path) -> None:
    run = compressed_run(tmp_path / "compact")
    [model] = [part for part in sections(RunDirectory.read(run)) if part.name == "model"]
    said = [block for block in model.blocks if isinstance(block, str)]
    assert [text.partition(" (")[0] for text in said[1:]] == [
        "2.50 times as fast as toy, with 1.00 of its memory",
        "Forces of mine.extxyz to 8 meV/Angstrom",
    ]
    [table] = [block for block in model.blocks if isinstance(block, Table)]
    assert table.rows[:2] == [["in this folder", "model"], ["called in figures and tables", "train"]]


def test_errors_stand_against_the_speed_of_the_same_model(run: Path, page: str) -> None:
    data = figures_of(page)["figure-cost-0"]["data"]
    shown = {(each["name"], each["x"][0], each["y"][0]) for each in data if each["visible"]}
    assert shown == {("toy", 1.0, 2.0), ("prune", 2.5, 8.0)}
    [figure] = next(part.blocks for part in sections(RunDirectory.read(run)) if part.name == "cost")
    assert isinstance(figure, Figure)
    assert [row[:3] for row in figure.numbers.rows] == [["toy", "1.00x", "2"], ["prune", "2.50x", "8"]]


def test_engines_have_figures_of_their_own(tmp_path: Path) -> None:
    rates = {("a", "equiprune"): 20.0, ("b", "equiprune"): 30.0, ("a", "upstream"): 5.0, ("b", "upstream"): 15.0}
    stage(tmp_path / "time", ["benchmark"], [speed(m, rate) | {"engine": e} for (m, e), rate in rates.items()])
    stage(tmp_path / "evaluate", ["evaluate"], [errors("a", 1.0), errors("b", 2.0)])
    found = figures_of(report_page(tmp_path))
    speeds = {name: [each["x"][0] for each in figure["data"] if each["visible"]] for name, figure in found.items()}
    assert speeds == {"figure-cost-0": [1.0, 1.5], "figure-cost-1": [1.0, 3.0]}


def test_scaling_has_a_figure_and_says_what_is_not_determined(tmp_path: Path) -> None:
    lines = [scaling("a", 20.0, 0.5), scaling("b", 30.0, None)]
    stage(tmp_path / "sizes", ["benchmark"], {"timings": [speed("a", 10.0), speed("b", 20.0)], "scaling": lines})
    drawn = figures_of(report_page(tmp_path))["figure-scaling-0"]["data"]
    assert [(each["name"], each["x"]) for each in drawn if each["mode"] == "markers"] == [
        ("a, equiprune", [8, 800]),
        ("b, equiprune", [8, 800]),
    ]
    assert [round(each["y"][-1]) for each in drawn] == [420, 420, 30, 30]
    [found] = [part for part in sections(RunDirectory.read(tmp_path)) if part.name == "speed"]
    _, table = [block for block in found.blocks if isinstance(block, Table)]
    [numbers] = [block.numbers for block in found.blocks if isinstance(block, Figure)]
    assert [row[0] for row in table.rows] == ["a", "b"]
    assert table.rows[0][2:] == ["20 +- 0.1", "0.5 +- 0.1", "40 atoms", "0.9 +- ?", "12 %"]
    assert table.rows[1][3:5] == ["not determined", "not determined"]
    assert numbers.rows == [["8", "24", "30"], ["800", "420", "30"]]


def test_removed_channels_are_those_of_the_plan(run: Path) -> None:
    found = RunDirectory.read(run)
    [removed] = [part for part in sections(found) if part.name == "removed"]
    [drawn] = [block.drawn for block in removed.blocks if isinstance(block, Figure)]
    assert found.result is not None
    [plan] = found.result.content.plans
    kept, gone = drawn.data
    rows = [(name, ir, mul) for name, mask in plan.masks.items() for mul, ir in mask.irreps]
    for (name, ir, mul), some, others in zip(rows, kept.z, gone.z, strict=True):
        assert sum(value is not None for value in some) == len(plan.masks[name].of(ir))
        assert sum(value is not None for value in others) == mul - len(plan.masks[name].of(ir))
        values = [value for value in some if value is not None]
        assert values == sorted(values, reverse=True)


def test_a_model_that_lost_no_channel_has_a_page_too(tmp_path: Path) -> None:
    """As where a budget is kept by what there is."""
    toy = ep.load("toy")
    ep.save(ep.prune(toy, ep.PruningPlan.nothing()), tmp_path / "model")
    assert "No channel was removed." in report_page(tmp_path)


def test_text_from_files_is_shown_and_does_nothing(tmp_path: Path) -> None:
    hostile = "</script><img src=x onerror=alert(1)>{{ 7*7 }}<b>&amp;"
    stage(tmp_path / "evaluate", ["evaluate", hostile, "--data", hostile], [errors("a", 1.0), errors(hostile, 2.0)])
    stage(tmp_path / "benchmark", ["benchmark"], [speed("a", 10.0), speed(hostile, 20.0)])
    write(tmp_path / "plan.json", {"reason": hostile})
    text = report_page(tmp_path)
    outline = Outline(text)
    assert "img" not in outline.tags
    assert "b" not in outline.tags
    assert "49" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL).replace("149", "")
    assert html.escape(hostile, quote=False) in text
    names = {each["name"] for each in figures_of(text)["figure-cost-0"]["data"]}
    assert html.escape(hostile, quote=False) in names  # plotly takes tags for formats


def test_results_of_physics_have_panels(tmp_path: Path) -> None:
    stage(tmp_path / "benchmark", ["benchmark"], [speed("a", 10.0), speed("b", 20.0)])
    value = {"unit": "GPa", "mean": 80.0, "structures": 3}
    models = {"a": {"bulk_modulus": {**value, "against": {"data": {"mae": 4.0}}}}}
    models["b"] = {"bulk_modulus": {**value, "against": {"data": {"mae": 6.0}, "a": {"mae": 3.0}}}}
    found = {"property": "elasticity", "structures": 4, "compared": 3, "models": models}
    write(tmp_path / "elastic.json", {"properties": [found]})
    metrics = {"on_shared": {"full_test_set": {"F1": 0.8, "MAE": 0.03, "RMSE": None}}}
    whole = {"materials": 9, "available": 90, "stable_against": "the convex hull", "shared": 8}
    write(tmp_path / "wbm.json", {**whole, "models": [{"model": "a", **metrics}]})
    moved = {"model": "b", "passed": False, "atoms": 8, "time_ps": 2.0, "crashed": {"said": "atoms are lost"}}
    curve = {"pair": ["O", "H"], "radii": [1.0, 2.0], "values": [0.0, 1.0], "errors": [0.1, 0.1]}
    moved |= {"drift_meV_per_atom_per_ps": {"slope": 0.1, "error": 0.02}, "temperature_K": None, "rdf": [curve]}
    write(tmp_path / "md.json", {"passed": False, "models": [moved]})
    text = report_page(tmp_path)
    shown = figures_of(text)
    assert set(shown) == {"figure-cost-0", "figure-rdf-0-O-H"}
    labels = [button["label"] for button in shown["figure-cost-0"]["layout"]["updatemenus"][0]["buttons"]]
    assert labels == [
        "elasticity, bulk modulus, MAE from the data (GPa)",
        "formation energy, full test set, MAE (meV/atom)",
    ]
    for words in ("atoms are lost", "0.1 +- 0.02", "MAE from a", "30", "8 of 9 materials"):
        assert words in text


def test_a_page_is_never_overwritten(run: Path, tmp_path: Path) -> None:
    path = ep.write_report(run, tmp_path / "report.html")
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(OutputError, match="never overwritten"):
        ep.write_report(run, path)
