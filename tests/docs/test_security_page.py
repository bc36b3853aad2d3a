"""SECURITY.md: every promise names a test that exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


def test_the_tests_it_names_exist() -> None:
    assert [f"{file}::{name}" for file, name in NAMED if f"def {name}(" not in (ROOT / file).read_text()] == []


def test_every_promise_names_one() -> None:
    promises = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| Threat")]
    assert len(promises) > 5
    assert [line for line in promises if not re.search(r"`tests/[\w/]+\.py::\w+`", line)] == []
