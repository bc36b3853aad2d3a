"""The page in a browser, where there is one; and what is said of a page, from what a browser answered."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import BROWSER, Seen, complaint, findings, messages, seen_from, started, survey
from runs_on_disk import scaling, speed, stage, whole_run

import equiprune as ep
from equiprune.report.parts import Figure
from equiprune.report.run_directory import RunDirectory
from equiprune.report.sections import sections

GOOD = Seen(390, 390, {"model": 300.0}, ["figure-cost-0"], ["summary a", "div b"], [0, 1], [], ["file:///report.html"])


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs a Chromium or Chrome")
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wrong_in_a_browser(tmp_path: Path, width: int) -> None:
    run = whole_run(tmp_path / "run")
    stage(run / "sizes", ["benchmark"], {"timings": [speed("a", 10.0)], "scaling": [scaling("a", 20.0, 0.5)]})
    parts = [part for part in sections(RunDirectory.read(run)) if part.blocks]
    drawn = [f"figure-{block.name}" for part in parts for block in part.blocks if isinstance(block, Figure)]
    path = ep.write_report(run, tmp_path / "report.html")
    with started(str(BROWSER), tmp_path / "profile") as tab:
        seen = survey(tab, path.as_uri(), width)
    assert findings(seen, width, [*(part.name for part in parts), "missing"], drawn) == []
    assert {stop.split()[0] for stop in seen.stops} == {"a", "select", "button", "div", "pre", "summary"}


# What is said of a page.


def test_nothing_is_said_of_a_good_page() -> None:
    assert findings(GOOD, 390, ["model"], ["figure-cost-0"]) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"page": 391}, "391 wide in a window of 390"),
        ({"window": 500, "page": 500}, "the window is 500 wide, not 390"),
        ({"panels": {}}, "no panel model"),
        ({"panels": {"model": 0}}, "no panel model"),
        ({"drawn": []}, "no figure figure-cost-0"),
        ({"reached": [0]}, "not reached by keyboard: div b"),
        ({"reached": [1, 0]}, "the keyboard goes through the page in another order than the eye"),
        ({"complaints": ["x is not defined"]}, "complaint: x is not defined"),
        ({"loaded": ["https://example.org/a.js"]}, "loaded: https://example.org/a.js"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Any], says: str) -> None:
    assert findings(replace(GOOD, **change), 390, ["model"], ["figure-cost-0"]) == [says]


def event(method: str, **params: Any) -> dict[str, Any]:
    return {"method": method, "params": params}


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (event("Runtime.consoleAPICalled", type="error", args=[{"value": "a"}, {"description": "b"}]), "a b"),
        (event("Runtime.consoleAPICalled", type="log", args=[{"value": "a"}]), ""),
        (event("Runtime.exceptionThrown", exceptionDetails={"text": "Uncaught"}), "Uncaught"),
        (
            event("Runtime.exceptionThrown", exceptionDetails={"text": "t", "exception": {"description": "E: x"}}),
            "E: x",
        ),
        (event("Log.entryAdded", entry={"level": "error", "text": "Refused to load"}), "Refused to load"),
        (event("Log.entryAdded", entry={"level": "info", "text": "t"}), ""),
        (event("Page.loadEventFired"), ""),
    ],
)
def test_errors_and_warnings_are_complaints(said: dict[str, Any], text: str) -> None:
    assert complaint(said) == text


def test_what_was_seen_is_the_survey_with_complaints_and_addresses() -> None:
    survey = {name: getattr(GOOD, name) for name in ("window", "page", "panels", "drawn", "stops")}
    request = event("Network.requestWillBeSent", request={"url": "file:///report.html"})
    warning = event("Log.entryAdded", entry={"level": "warning", "text": "slow"})
    found = seen_from(survey, [0, 1], [request, event("Page.loadEventFired"), warning])
    assert found == replace(GOOD, complaints=["slow"])


def test_messages_end_at_zero_bytes() -> None:
    assert messages(b'{"id": 1}\0{"method": "a"}\0{"id"') == ([{"id": 1}, {"method": "a"}], b'{"id"')
    assert messages(b"") == ([], b"")
