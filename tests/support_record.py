"""Plug-in of pytest that records which tests of supported features ran, and how they ended.

``python benchmarks/support_matrix.py run FOLDER`` uses it. A test says what it shows with
``@pytest.mark.supports(family, feature)``, and one that shows a refusal with ``answer="refused"``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

PACKAGES = ("torch", "e3nn", "sevenn", "mace-torch", "nequip", "nequix", "jax", "fairchem-core", "ase")


def shown_by(item: pytest.Item) -> Iterator[tuple[str, str, str, str]]:
    """Family, feature, answer, and the test that says so: of one with parameters all must pass."""
    for node, mark in item.iter_markers_with_node("supports"):
        name = getattr(node, "originalname", None) or node.name
        path = item.path.relative_to(item.config.rootpath).as_posix()
        family, feature = mark.args
        yield family, feature, mark.kwargs.get("answer", "yes"), f"{path}::{name}"


class Recorder:
    """Outcomes of the session, by test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes: dict[tuple[str, str, str, str], set[str]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
        report = yield
        if report.when == "call" or report.outcome != "passed":
            for shown in shown_by(item):
                self.outcomes.setdefault(shown, set()).add(report.outcome)
        return report

    def pytest_sessionfinish(self) -> None:
        installed = {found.metadata["Name"]: found.version for found in distributions()}
        names = ("family", "feature", "answer", "test")
        shown = [
            {**dict(zip(names, key, strict=True)), "outcome": "passed" if ended == {"passed"} else "not passed"}
            for key, ended in sorted(self.outcomes.items())
        ]
        packages = {name: installed[name] for name in PACKAGES if name in installed}
        self.path.write_text(json.dumps({"packages": packages, "shown": shown}, indent=1) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Recorder(Path(os.environ["EQUIPRUNE_SUPPORT"])))
