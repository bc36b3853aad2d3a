"""A calculator of one's own, in a file of the working directory."""

import sys
from pathlib import Path

import pytest
from command_line import Run
from runs import bare, write

import equiprune as ep
from equiprune.errors import TargetError
from equiprune.labelling.teachers import CalculatorTeacher
from equiprune.structures.labels import Labels

OWN = """
import colorsys
from ase.calculators.lj import LennardJones

class Soft(LennardJones):
    shade = colorsys.rgb_to_hls(1, 1, 1)
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six structures without labels."""
    return write(tmp_path / "data.xyz", bare(6))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory in which a file is called as a module that Python has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('this is no part of Python')")
    return tmp_path


def test_a_teacher_may_be_a_file_of_the_working_directory(cli: Run, here: Path, data: Path) -> None:
    (here / "calculators_of_mine.py").write_text(OWN)
    before = list(sys.path)
    ran = cli("label", "calculators_of_mine:Soft", data, "-o", here / "mine.xyz")
    assert ran.code == 0, ran.err
    assert sys.path == before
    assert cli("label", "ase.calculators.lj:LennardJones", data, "-o", here / "theirs.xyz").code == 0
    mine, theirs = (list(ep.read_structures(here / name)) for name in ("mine.xyz", "theirs.xyz"))
    assert [Labels.of(atoms).energy for atoms in mine] == [Labels.of(atoms).energy for atoms in theirs]


def test_the_working_directory_is_left_again_after_an_error(here: Path) -> None:
    (here / "calculators_that_fail.py").write_text("import nothing_that_there_is")
    before = list(sys.path)
    with pytest.raises(TargetError, match=r"no 'Soft' in 'calculators_that_fail' .*nothing_that_there_is"):
        CalculatorTeacher.named("calculators_that_fail:Soft")
    assert sys.path == before
