"""Reading structures of every kind, and refusing what no model can evaluate."""

import lzma
import pickle
import shutil
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import read_xyz
from hypothesis import given
from hypothesis import strategies as st

import equiprune as ep
from equiprune.errors import StructureError
from equiprune.structures.checks import check_structures
from equiprune.structures.graph import coinciding, neighbours
from equiprune.structures.reading import fingerprint


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


# Any structure at any time.


def labelled(structures: list[Atoms]) -> list[Atoms]:
    for i, atoms in enumerate(structures):
        atoms.info = {"name": f"s{i}", "REF_energy": float(i)}
        atoms.calc = SinglePointCalculator(atoms, energy=-i, forces=np.full((len(atoms), 3), i))
    return structures


def written(path: Path, structures: list[Atoms]) -> Path:
    """Structures in the format that the suffix says, with their info."""
    path.parent.mkdir(exist_ok=True)
    if path.suffix not in (".db", ".aselmdb"):
        ase.io.write(path, structures, format="extxyz")
        return path
    with ase.db.connect(path, use_lock_file=False) as database:
        for atoms in structures:
            database.write(atoms, name=atoms.info["name"], data={"REF_energy": atoms.info["REF_energy"]})
    return path


def same(a: Atoms, b: Atoms) -> bool:
    np.testing.assert_allclose(a.positions, b.positions, atol=1e-8)
    np.testing.assert_array_equal(a.get_forces(), b.get_forces())
    assert a.get_potential_energy() == b.get_potential_energy()
    return bool((a.numbers == b.numbers).all() and (a.pbc == b.pbc).all()) and a.info == b.info


def all_same(found: Iterable[Atoms], expected: Iterable[Atoms]) -> bool:
    return all(same(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["a.xyz", "a.extxyz", "a.extxyz.gz", "a.db", "a.aselmdb", "shards"])
def test_opened_structures_are_those_that_were_written(name: str, structures: list[Atoms], tmp_path: Path) -> None:
    expected = labelled(structures)
    path = tmp_path / name
    if name == "shards":
        for shard, part in (("2.db", expected[3:]), ("0.xyz", expected[:1]), ("1.aselmdb", expected[1:3])):
            written(path / shard, part)
        (path / "metadata.npz").write_bytes(b"sizes of structures, beside the shards of fairchem")
        assert (path / "1.aselmdb-lock").exists()
    else:
        written(path, expected)
    opened = ep.open_structures(path)
    assert len(opened) == 4
    for found in (opened, list(ep.read_structures(path)), pickle.loads(pickle.dumps(opened))):
        assert all(same(found[i], expected[i]) for i in (2, 0, 3, 1, -1, -4))
    assert all_same(opened[1:][::2], expected[1::2])
    assert all_same(opened, expected)
    with pytest.raises(IndexError):
        opened[4]
    copy = tmp_path / "copy"
    shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)
    assert fingerprint(path) == fingerprint(copy)


def test_rows_that_were_deleted_are_not_there(structures: list[Atoms], tmp_path: Path) -> None:
    expected = labelled(structures)
    for name in ("a.db", "a.aselmdb"):
        path = written(tmp_path / name, expected)
        with ase.db.connect(path, use_lock_file=False) as database:
            database.delete([2])
        assert all_same(ep.open_structures(path), [expected[0], *expected[2:]])


def test_structures_begin_where_ase_says(tmp_path: Path) -> None:
    """Line ends of Windows, letters of more than one byte, a cell in VEC lines, empty lines at the end."""
    text = '2\r\nname="Å" pbc="F F F"\r\nH 0 0 0\r\nO 0 0 1\r\n1\nplain\nC 1 2 3\nVEC1 9 0 0\nVEC2 0 8 0\nVEC3 0 0 7\n'
    text += "1\n\nSi 0 0 0\n\n \n"
    (tmp_path / "a.xyz").write_bytes(text.encode())
    opened = ep.open_structures(tmp_path / "a.xyz")
    with (tmp_path / "a.xyz").open(encoding="utf-8") as stream:
        expected = list(read_xyz(stream, slice(None)))
    assert (
        [a.get_chemical_formula() for a in opened] == ["HO", "C", "Si"] == [a.get_chemical_formula() for a in expected]
    )
    for a, b in zip(opened, expected, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(a.cell.array, b.cell.array)
        assert a.info == b.info


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1\n\nH 0 0 0\n2\n\nH 0 0 0\n", "structure 1 is cut off"),
        ("1\n\nH 0 0 0\n\n1\n\nH 0 0 0\n", "an empty line after structure 0, and more after it"),
        ("1\n\nH 0 0 0\nH 0 0 0\n", "structure 1 should begin with its number of atoms, and there is 'H 0 0 0'"),
        ("-3\n\nH 0 0 0\n", "a.xyz"),
        ("99999999999999999999\n\nH 0 0 0\n", "a.xyz"),
    ],
)
def test_an_extxyz_file_that_does_not_add_up_is_refused_when_opened(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(text)
    with pytest.raises(StructureError, match=rf"a\.xyz' could not be read as structures.*{says}|{says}"):
        ep.open_structures(tmp_path / "a.xyz")


def test_a_structure_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("1\n\nH 0 0 0\n1\n\nH 0 0 zero\n")
    opened = ep.open_structures(tmp_path / "a.xyz")
    assert opened[0].get_chemical_formula() == "H"
    with pytest.raises(StructureError, match=r"Structure 1 of '.*a\.xyz' could not be read"):
        opened[1]


@pytest.mark.parametrize("suffix", ["db", "aselmdb"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.6, 0.95])
def test_a_database_that_is_cut_off_is_refused(
    suffix: str, kept: float, structures: list[Atoms], tmp_path: Path
) -> None:
    """LMDB maps a file into memory: without a check, reading beyond its end is the end of the process."""
    path = written(tmp_path / f"a.{suffix}", labelled(structures * 20))
    content = path.read_bytes()
    (tmp_path / f"cut.{suffix}").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(StructureError, match=rf"cut\.{suffix}' could not be read as structures"):
        list(ep.open_structures(tmp_path / f"cut.{suffix}"))


@pytest.mark.parametrize("name", ["a.db", "a.aselmdb", "a.lmdb", "a.traj", "a.json"])
def test_a_file_that_is_not_what_its_name_says_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("hello, this is no database " * 200)
    with pytest.raises(StructureError, match=rf"{name}' could not be read"):
        ep.open_structures(tmp_path / name)


def test_a_database_without_rows_has_no_structures(tmp_path: Path) -> None:
    for name in ("a.db", "a.aselmdb"):
        path = written(tmp_path / name, [Atoms("H", info={"name": "x", "REF_energy": 0.0})])
        with ase.db.connect(path, use_lock_file=False) as database:
            database.delete([1])
        for reader in (ep.open_structures, lambda path: list(ep.read_structures(path))):
            with pytest.raises(StructureError, match=rf"{name}' holds no structures"):
                reader(path)


def test_without_its_package_an_lmdb_database_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.aselmdb").touch()
    monkeypatch.setitem(sys.modules, "ase_db_backends.aselmdb", None)
    with pytest.raises(StructureError, match=r"pip install 'equiprune\[lmdb\]'"):
        list(ep.read_structures(tmp_path / "a.aselmdb"))


def test_reading_leaves_nothing_behind(structures: list[Atoms], tmp_path: Path) -> None:
    for name in ("a.db", "a.aselmdb", "a.xyz"):
        written(tmp_path / "made" / name, labelled(structures))
    (tmp_path / "made" / "a.aselmdb-lock").unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    list(ep.open_structures(tmp_path / "made"))
    assert {path: path.read_bytes() for path in (tmp_path / "made").iterdir()} == before


# What no model can evaluate.

BAD = {
    "has no atoms": Atoms(),
    "not finite": Atoms("H", positions=[[0, 0, np.nan]]),
    "a cell that are not finite": Atoms("H", cell=[1, 1, np.inf], pbc=True),
    "Cu, Au, which this model does not know. It knows H, O": Atoms("HCuAu", positions=np.eye(3)),
    "zero or parallel": Atoms("H", pbc=True),
    "along cell vectors that are zero": Atoms("H", cell=[3, 0, 3], pbc=(True, True, False)),
    "atoms 0 and 2 at the same place": Atoms("HOH", positions=[[1, 1, 1], [0, 0, 0], [1, 1, 1 + 1e-8]]),
    "or parallel": Atoms("H", cell=[[3, 0, 0], [3, 0, 0], [0, 0, 5]], pbc=(True, True, False)),
}


@pytest.mark.parametrize(("message", "atoms"), BAD.items(), ids=BAD)
def test_what_cannot_be_evaluated_is_refused_by_number(message: str, atoms: Atoms) -> None:
    with pytest.raises(StructureError, match=f"Structure 1 .*{message}"):
        check_structures([Atoms("H"), atoms], [1, 8])


@pytest.mark.parametrize("pbc", [False, (True, False, False), (True, False, True)])
def test_directions_that_are_not_periodic_need_no_cell(pbc: tuple[bool, bool, bool]) -> None:
    check_structures([Atoms("OH", positions=np.eye(3)[:2], cell=np.array([3.0, 0, 3]) * pbc, pbc=pbc)], [1, 8])


@given(st.integers(0, 2**32 - 1), st.tuples(st.booleans(), st.booleans(), st.booleans()), st.booleans())
def test_two_atoms_at_the_same_place_are_found_in_any_image(seed: int, pbc: tuple[bool, ...], near: bool) -> None:
    """As near as no model can evaluate, and never when they are ten times as far apart."""
    random = np.random.default_rng(seed)
    cell = 4 * np.eye(3) + random.uniform(-1.5, 1.5, (3, 3))
    atoms = Atoms("H6", positions=random.uniform(-9, 9, (6, 3)) @ cell / 4, cell=cell, pbc=pbc)
    atoms.positions[0] *= random.integers(0, 2)  # the corner of the cell, where rounding decides on the image
    direction = random.normal(size=3)
    image = random.integers(-2, 3, 3) * atoms.pbc @ cell
    atoms.positions[4] = atoms.positions[0] + image + direction / np.linalg.norm(direction) * (5e-7 if near else 5e-6)
    assert coinciding(atoms) == ((0, 4) if near else None)
    if near:
        with pytest.raises(StructureError, match="at the same place"):
            neighbours(atoms, 1.0)
