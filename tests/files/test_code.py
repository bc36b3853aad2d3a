"""The sha256 of the code: another one for any other file, name or byte."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import equiprune
from equiprune.files.code import code_sha256

SCRIPT = "import sys; sys.path.insert(0, sys.argv[1]); from equiprune.files.code import code_sha256 as f; print(f())"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The package somewhere else, as in a wheel."""
    shutil.copytree(
        Path(equiprune.__file__).parent, tmp_path / "equiprune", ignore=shutil.ignore_patterns("__pycache__")
    )
    return tmp_path / "equiprune"


def of(copied: Path) -> str:
    command = [sys.executable, "-P", "-c", SCRIPT, str(copied.parent)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_it_is_the_same_wherever_the_package_lies(copied: Path) -> None:
    assert of(copied) == code_sha256()


@pytest.mark.parametrize(
    "change",
    [
        lambda package: (package / "errors.py").write_text("# another\n" + (package / "errors.py").read_text()),
        lambda package: (package / "new.py").touch(),
        lambda package: (package / "testing.py").rename(package / "tests.py"),
    ],
    ids=["byte", "file", "name"],
)
def test_another_code_has_another(change: Callable[[Path], object], copied: Path) -> None:
    change(copied)
    assert of(copied) != code_sha256()
