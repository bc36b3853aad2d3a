"""docs/robustness.md: every fault names a test that exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.partition("## Broken files")[0].splitlines() if line.startswith("| ")][1:]


def test_every_fault_names_a_test_that_exists() -> None:
    assert len(ROWS) > 20
    named = [re.search(r"\| `(tests/[\w/]+\.py)::(\w+)` \|$", line) for line in ROWS]
    assert [line for line, found in zip(ROWS, named, strict=True) if found is None] == []
    lost = [found[0] for found in named if found and f"def {found[2]}(" not in (ROOT / found[1]).read_text()]
    assert lost == []


def test_each_command_has_its_faults() -> None:
    for command in ("label", "calibrate", "train", "run"):
        assert sum(f"`{command}`" in line.split("|")[1] for line in ROWS) > 3
