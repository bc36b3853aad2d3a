"""The page of what is supported, docs/support.md, from tests that ran.

    python benchmarks/support_matrix.py run sevennet     # the marked tests of tests/adapters/sevennet, here and now
    python benchmarks/support_matrix.py write            # the page, from what all such runs recorded

Each architecture is run where its package is installed, and leaves its record in benchmarks/support. A record has the
tests that carry ``@pytest.mark.supports(family, feature)``; where a test has parameters, all of them must pass.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "benchmarks" / "support"
PAGE = ROOT / "docs" / "support.md"

FEATURES: Mapping[str, str] = {
    "opens": "an upstream file or its weights come in as upstream itself has them",
    "cuts": "a smaller model is made and counted",
    "exact": "in float64 the smaller model equals the masked parent, in energy, forces and stress where it has them",
    "trains": "a model is trained by equiprune and is an ordinary one afterwards",
    "exports": "a file of upstream's own format is written and read back",
    "stock tool": "upstream's own calculator opens what was written and gives the same numbers",
}
"""Columns, and what a yes means."""

_HEAD = """# What is supported

Which kinds of models can be opened, cut, trained and given back, each answer a test that ran. This page is made from
records of those runs (`python benchmarks/support_matrix.py`), not from claims: *not tried* means that no test is named
for it here, and *refused* that a test shows the refusal, by name. No official file was at hand where weights are
random.
"""


@dataclass(frozen=True)
class Shown:
    """One answer.

    Attributes:
        family: of models; a row.
        feature: a column.
        answer: yes or refused.
        test: that shows it.
        outcome: passed or not.
    """

    family: str
    feature: str
    answer: str
    test: str
    outcome: str


def records(folder: Path = RECORDS) -> dict[str, tuple[Mapping[str, str], list[Shown]]]:
    """Packages and answers by the architecture whose tests ran."""
    read = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    return {name: (record["packages"], [Shown(**shown) for shown in record["shown"]]) for name, record in read.items()}


def page(read: Mapping[str, tuple[Mapping[str, str], Sequence[Shown]]]) -> str:
    """The page as Markdown."""
    shown = [each for _, some in read.values() for each in some]
    families = sorted({each.family for each in shown})
    table = [f"| Models | {' | '.join(FEATURES)} |", f"|{'---|' * (len(FEATURES) + 1)}"]
    table += [f"| {f} | {' | '.join(_cell(shown, f, feature) for feature in FEATURES)} |" for f in families]
    meanings = [f"- **{feature}**: {meaning}." for feature, meaning in FEATURES.items()]
    parts = [_HEAD, "\n".join(table), "\n".join(meanings), "## The tests"]
    parts += [_tests(shown, family) for family in families]
    return "\n\n".join(part.strip("\n") for part in [*parts, _packages(read)]) + "\n"


def _cell(shown: Sequence[Shown], family: str, feature: str) -> str:
    found = [each for each in shown if (each.family, each.feature) == (family, feature)]
    if any(each.outcome != "passed" for each in found):
        return "test failed"
    return ", ".join(sorted({each.answer for each in found})) or "not tried"


def _tests(shown: Sequence[Shown], family: str) -> str:
    rows = [
        f"- {feature}: `{each.test.removeprefix('tests/adapters/')}`"
        for feature in FEATURES
        for each in shown
        if (each.family, each.feature) == (family, feature)
    ]
    return "\n".join([f"**{family}**", "", *rows])


def _packages(read: Mapping[str, tuple[Mapping[str, str], Sequence[Shown]]]) -> str:
    said = [
        f"- tests/adapters/{name}: {', '.join(f'{package} {version}' for package, version in packages.items())}"
        for name, (packages, _) in read.items()
    ]
    said += [
        f"- tests/adapters/{name}: marked, but not run for this page yet" for name in marked_folders() - read.keys()
    ]
    return "\n".join(["## With which packages", "", *sorted(said)])


def marked_folders() -> set[str]:
    """Architectures that have marked tests."""
    tests = (ROOT / "tests" / "adapters").glob("*/test_*.py")
    return {path.parent.name for path in tests if "@pytest.mark.supports(" in path.read_text(encoding="utf-8")}


def run(architecture: str, *options: str) -> int:
    """Run the marked tests of an architecture and keep their record; the exit code of pytest."""
    RECORDS.mkdir(exist_ok=True)
    tests, paths = f"tests/adapters/{architecture}", [str(ROOT / "src"), str(ROOT / "tests")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]),
        "EQUIPRUNE_SUPPORT": str(RECORDS / f"{architecture}.json"),
    }
    command = [sys.executable, "-m", "pytest", "-p", "support_record", "-m", "supports", tests, *options]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def main(words: Sequence[str]) -> int:
    match list(words):
        case ["run", architecture, *options]:
            return run(architecture, *options)
        case ["write"]:
            PAGE.write_text(page(records()))
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
