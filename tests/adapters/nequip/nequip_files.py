"""A package of a small random model, written once, and files that are not quite it."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from random_nequip import KINDS, random_checkpoint

from equiprune.adapters import Checkpoint
from equiprune.adapters.nequip import NequIPAdapter, export
from equiprune.errors import CheckpointError

BOTH_PARITIES = "both parities, trained constants, numbers of neighbours by element"


def small() -> Checkpoint:
    """A model with both parities and every kind of constant."""
    return random_checkpoint(KINDS[BOTH_PARITIES])


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its package."""
    [path] = export.write(small(), tmp_path_factory.mktemp("package") / "small.nequip.zip")
    return path


def with_files(package: Path, path: Path, files: Mapping[str, bytes]) -> Path:
    """The package with other content of some files; stored, as torch does."""
    with zipfile.ZipFile(package) as before, zipfile.ZipFile(path, "w") as after:
        for name in before.namelist():
            inside = name.partition("/")[2]
            after.writestr(name, files.get(inside, before.read(name)))
    return path


def refusal(path: Path) -> str:
    """The message of the error, which names the file."""
    with pytest.raises(CheckpointError) as caught:
        NequIPAdapter().read(path)
    assert f"'{path}'" in str(caught.value)
    return str(caught.value)
