"""Reading structures of every kind, and refusing what no model can evaluate."""

import lzma
from itertools import islice
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms

import equiprune as ep
from equiprune.errors import StructureError
from equiprune.structures import check_structures, fingerprint


def test_a_file_gives_its_structures_in_order(xyz: Path, structures: list[Atoms]) -> None:
    assert [len(atoms) for atoms in ep.read_structures(xyz)] == [len(atoms) for atoms in structures]


def test_compressed_files_are_read(xyz: Path, tmp_path: Path) -> None:
    compressed = tmp_path / "structures.xyz.xz"
    compressed.write_bytes(lzma.compress(xyz.read_bytes()))
    for a, b in zip(ep.read_structures(compressed), ep.read_structures(xyz), strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)


def test_a_directory_is_all_its_files_in_order_of_name(tmp_path: Path) -> None:
    for name, symbol in (("b.xyz", "O"), ("a.xyz", "H"), ("deeper/c.xyz", "C")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        ase.io.write(tmp_path / name, Atoms(symbol))
    (tmp_path / ".hidden").write_text("not a structure")
    assert [atoms.get_chemical_formula() for atoms in ep.read_structures(tmp_path)] == ["H", "O", "C"]


def test_a_database_is_read(tmp_path: Path, structures: list[Atoms]) -> None:
    ase.io.write(tmp_path / "data.db", structures)
    assert [len(atoms) for atoms in ep.read_structures(tmp_path / "data.db")] == [len(atoms) for atoms in structures]


def test_structures_are_streamed_and_a_bad_file_is_named(xyz: Path) -> None:
    (xyz.parent / "unreadable.xyz").write_text("hello")
    stream = ep.read_structures(xyz.parent)
    assert len(list(islice(stream, 4))) == 4
    with pytest.raises(StructureError, match=r"unreadable\.xyz' could not be read"):
        next(stream)


@pytest.mark.parametrize("content", ["", "hello", "2\n\nH 0 0 0\n"])
def test_a_file_without_structures_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "data.xyz"
    path.write_text(content)
    with pytest.raises(StructureError, match=r"data\.xyz"):
        list(ep.read_structures(path))


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="holds no structures"):
        list(ep.read_structures(tmp_path))


def test_a_missing_path_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="no such file"):
        ep.read_structures(tmp_path / "missing.xyz")


def test_a_fingerprint_is_of_the_content(xyz: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.xyz"
    copy.write_bytes(xyz.read_bytes())
    assert fingerprint(copy) == fingerprint(xyz)
    copy.write_bytes(xyz.read_bytes() + b"\n")
    assert fingerprint(copy) != fingerprint(xyz)


BAD = {
    "has no atoms": Atoms(),
    "not finite": Atoms("H", positions=[[0, 0, np.nan]]),
    "a cell that are not finite": Atoms("H", cell=[1, 1, np.inf], pbc=True),
    "Cu, Au, which this model does not know. It knows H, O": Atoms("HCuAu", positions=np.eye(3)),
    "zero or parallel": Atoms("H", pbc=True),
    "along cell vectors that are zero": Atoms("H", cell=[3, 0, 3], pbc=(True, True, False)),
    "or parallel": Atoms("H", cell=[[3, 0, 0], [3, 0, 0], [0, 0, 5]], pbc=(True, True, False)),
}


@pytest.mark.parametrize(("message", "atoms"), BAD.items(), ids=BAD)
def test_what_cannot_be_evaluated_is_refused_by_number(message: str, atoms: Atoms) -> None:
    with pytest.raises(StructureError, match=f"Structure 1 .*{message}"):
        check_structures([Atoms("H"), atoms], [1, 8])


@pytest.mark.parametrize("pbc", [False, (True, False, False), (True, False, True)])
def test_directions_that_are_not_periodic_need_no_cell(pbc: tuple[bool, bool, bool]) -> None:
    check_structures([Atoms("OH", positions=np.eye(3)[:2], cell=np.array([3.0, 0, 3]) * pbc, pbc=pbc)], [1, 8])
