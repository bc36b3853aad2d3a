"""The page of what is supported says what tests say, and they are the tests that there are."""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def matrix() -> ModuleType:
    """The script that makes the page."""
    spec = importlib.util.spec_from_file_location("support_matrix", ROOT / "benchmarks" / "support_matrix.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def marked(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """Family, feature, answer and test of every mark in a file, which is not imported."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for decorator in getattr(node, "decorator_list", ()):
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.supports":
                family, feature = map(ast.literal_eval, decorator.args)
                answer = next((ast.literal_eval(k.value) for k in decorator.keywords if k.arg == "answer"), "yes")
                test = f"{path.relative_to(ROOT).as_posix()}::{node.name}"  # type: ignore[attr-defined]
                yield family, feature, answer, test


def test_every_mark_was_run_and_passed_and_nothing_else_is_claimed(matrix: ModuleType) -> None:
    """After a change of marks: python benchmarks/support_matrix.py run ARCHITECTURE. The page says which never ran."""
    folders = [ROOT / "tests" / "adapters" / architecture for architecture in matrix.records()]
    found = {mark for folder in folders for path in folder.glob("test_*.py") for mark in marked(path)}
    shown = [each for _, some in matrix.records().values() for each in some]
    assert {(s.family, s.feature, s.answer, s.test) for s in shown} == found
    assert [each.test for each in shown if each.outcome != "passed"] == []
    assert {feature for _, feature, _, _ in found} == matrix.FEATURES.keys()


def test_the_page_is_made_from_the_records(matrix: ModuleType) -> None:
    """python benchmarks/support_matrix.py write."""
    assert matrix.PAGE.read_text(encoding="utf-8") == matrix.page(matrix.records())


def test_what_no_test_says_is_not_tried_and_what_failed_is_said(matrix: ModuleType) -> None:
    shown = [
        matrix.Shown("A", "opens", "yes", "tests/adapters/a/test_a.py::test_one", "passed"),
        matrix.Shown("A", "cuts", "yes", "tests/adapters/a/test_a.py::test_one", "not passed"),
        matrix.Shown("B", "opens", "refused", "tests/adapters/a/test_a.py::test_two", "passed"),
    ]
    lines = matrix.page({"a": ({"torch": "1"}, shown)}).splitlines()
    assert "| A | yes | test failed | not tried | not tried | not tried | not tried |" in lines
    assert "| B | refused | not tried | not tried | not tried | not tried | not tried |" in lines
    assert "- opens: `a/test_a.py::test_two`" in lines
    assert "- tests/adapters/a: torch 1" in lines
