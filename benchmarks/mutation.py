"""Mutation testing of blocks/, pruning/ and potentials/: how many small changes of the code the tests notice.

The changes are those of mutmut (`pip install "mutmut>=3.8,<3.9"`): another operator, number, word, condition or
argument. A random sample of each folder is tried, the same for the same seed and code. Each mutant runs in a child of
one warm process, by tests that reach its line, those of its own folder and the quickest first. That takes about 20
minutes of one core. Survivors are printed as they are found. Needs Linux or macOS.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from mutating import FOLDERS

ROOT = Path(__file__).resolve().parents[1]
TESTS = (*(f"tests/{f}" for f in FOLDERS), "tests/verification", "tests/searching", "tests/training/test_references.py")
EXAMPLES = "tests/test_public_api.py::test_modules_are_documented_and_their_examples_run"
KEYS = ("path", "function", "line", "before", "after")
COLUMNS = ("tried", "killed", "too slow", "survived", "unreached", "score")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--sample", type=int, default=200, help="mutants of each folder; 0 for all")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", default="", help="paths with these words in them, apart by commas")
    options.add_argument("--seconds", type=float, default=10.0, help="of tests for one mutant")
    options.add_argument(
        "--again", type=Path, help="file of --json, of the same code: those not killed are tried again"
    )
    options.add_argument("--json", type=Path, help="file for every mutant and what became of it")
    given = options.parse_args()
    before = json.loads(given.again.read_text()) if given.again else []
    os.chdir(ROOT)
    os.environ |= {"CI": "1", "OMP_NUM_THREADS": "1"}  # hypothesis draws the same examples for every mutant
    sys.path.insert(0, str(ROOT / "src"))
    mutants, examples = drawn(given.sample, given.seed, given.only.split(","))
    rows = tried(mutants, examples, given.seconds, before)
    table(rows)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


def drawn(sample: int, seed: int, words: list[str]) -> tuple[list, list[str]]:
    """A sample of the mutants of each folder, and the tests that run the examples of its modules."""
    try:
        from mutating.mutants import mutants_of
    except ImportError as error:
        sys.exit(f'{error}: pip install "mutmut>=3.8,<3.9"')
    mutants, examples = [], []
    for folder in FOLDERS:
        paths = sorted((ROOT / "src" / "equiprune" / folder).rglob("*.py"))
        here = {path: name_of(path) for path in paths if any(word in str(path) for word in words) and imported(path)}
        found = [mutant for path in here for mutant in mutants_of(path)]
        chosen = random.Random(seed).sample(range(len(found)), sample) if sample and sample < len(found) else None
        mutants += found if chosen is None else [found[i] for i in sorted(chosen)]
        examples += [f"{EXAMPLES}[{name}]" for name in here.values()]
        print(f"{folder}: {len(found)} mutants in all", file=sys.stderr)
    return mutants, examples


def tried(mutants: list, examples: list[str], seconds: float, before: list[dict]) -> list[dict]:
    """A dictionary of each mutant; those that were killed before are not tried again."""
    import pytest
    from mutating.trials import Trials

    known = [row for row in before if row["outcome"] in ("killed", "too slow")]
    if before and [mutant.row(ROOT) for mutant in mutants] != [{key: row[key] for key in KEYS} for row in before]:
        sys.exit("The file given to --again is of other code or another sample.")
    left = [mutant for mutant, row in zip(mutants, before, strict=True) if row not in known] if before else mutants
    speech = os.fdopen(os.dup(2), "w", buffering=1)
    trials = Trials(left, seconds, lambda text: print(text, file=speech))
    with tempfile.TemporaryDirectory() as box:
        settings = ("-m", "not slow", "-p", "no:cacheprovider", f"--basetemp={box}/tests")
        status = pytest.main([*settings, *TESTS, *examples], plugins=[trials])
    if status != 0:
        sys.exit(f"pytest ended with status {int(status)}")
    return known + [outcome.row(ROOT) for outcome in trials.outcomes]


def imported(path: Path) -> bool:
    """Import the module of a path; False, and said, where it needs a package that is not here."""
    try:
        importlib.import_module(name_of(path))
    except ImportError as error:
        print(f"{path.name}: skipped: {error}", file=sys.stderr)
        return False
    return True


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")


def table(rows: list[dict]) -> None:
    """One line per folder and one for all; a change that gives no Python is not counted."""
    print("| Folder | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (len(COLUMNS) + 1))
    for name in (*FOLDERS, ""):
        counts = Counter(r["outcome"] for r in rows if f"src/equiprune/{name}" in r["path"])
        del counts["impossible"]
        if total := counts.total():
            noticed = counts["killed"] + counts["too slow"]
            numbers = [total, *(counts[column] for column in COLUMNS[1:-1]), f"{100 * noticed / total:.1f} %"]
            print(f"| {f'`{name}/`' if name else 'together'} | " + " | ".join(map(str, numbers)) + " |")
    print(f"{sum(r['seconds'] for r in rows):.0f} s of CPU time for the mutants")


if __name__ == "__main__":
    main()
