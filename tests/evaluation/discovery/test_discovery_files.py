"""Files of discovery: what they say is read, and what is damaged, cut off or foreign is one clear error."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from equiprune.errors import StructureError, TargetError
from equiprune.evaluation.discovery import Material, described, open_starts, read_entries, read_summary, sampled

HEAD = (
    "material_id,formula,n_sites,volume,uncorrected_energy,uncorrected_energy_from_cse,"
    "e_form_per_atom_mp2020_corrected,e_above_hull_mp2020_corrected_ppd_mp,unique_prototype"
)
ROWS = ["wbm-1-1,Mg1 O1,2,18.0,-11.9,-12.0,-2.85,-0.01,True", "wbm-1-2,Ac6 U2,8,300.5,-40.1,-40.0,0.1,0.2,False"]


def write_gz(path: Path, text: str, keep: int | None = None) -> Path:
    path.write_bytes(gzip.compress(text.encode())[:keep])
    return path


def summary(folder: Path, *rows: str, head: str = HEAD) -> Path:
    return write_gz(folder / "summary.csv.gz", "\n".join([head, *(rows or ROWS)]) + "\n")


# The summary.


def test_a_summary_says_what_its_columns_are(tmp_path: Path) -> None:
    assert read_summary(summary(tmp_path)) == [
        Material("wbm-1-1", frozenset({12, 8}), 2, -6.0, -2.85, -0.01, True),
        Material("wbm-1-2", frozenset({89, 92}), 8, -5.0, 0.1, 0.2, False),
    ]


def test_a_summary_may_lack_what_is_not_needed(tmp_path: Path) -> None:
    head = HEAD.replace("uncorrected_energy_from_cse,", "").replace(",unique_prototype", "")
    [found] = read_summary(summary(tmp_path, "a,Mg1 O1,2,18.0,-11.9,-2.85,-0.01", head=head))
    assert (found.raw_energy, found.unique_prototype) == (-5.95, None)


def test_a_summary_is_read_whatever_it_is_packed_with(tmp_path: Path) -> None:
    expected = read_summary(summary(tmp_path))
    plain = tmp_path / "plain.csv"
    plain.write_text("\n".join([HEAD, *ROWS]))
    assert read_summary(plain) == expected


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["a,Mg1 O1,2,18.0,-11.9"], "line 2: not 9 columns"),
        ([ROWS[0], ""], "line 3: not 9 columns"),
        ([ROWS[0], ROWS[0]], "line 3: wbm-1-1 is there twice"),
        (["a,Mg1 O1,2,18,-11.9,nan,-2.85,-0.01,True"], "line 2: uncorrected_energy_from_cse is nan"),
        (["a,Mg1 O1,2,18,-11.9,-12,,-0.01,True"], "line 2: could not convert string to float"),
        (["a,Mg1 O1,2,18,-11.9,-12,-2,-0.01,maybe"], "line 2: unique_prototype is 'maybe', neither True nor False"),
        (["a,Mg1 O1,0,18,-11.9,-12,-2,-0.01,True"], "line 2: n_sites is 0"),
        (["a,Xx2,2,18,-11.9,-12,-2,-0.01,True"], "line 2: 'Xx2' is no formula"),
        (["a,Mg-O,2,18,-11.9,-12,-2,-0.01,True"], "line 2: 'Mg-O' is no formula"),
    ],
)
def test_a_damaged_line_of_a_summary_is_said(tmp_path: Path, rows: list[str], says: str) -> None:
    with pytest.raises(StructureError, match=rf"summary.csv.gz', {says}.*get the file again"):
        read_summary(summary(tmp_path, *rows))


def test_a_table_of_something_else_is_no_summary(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match=r"line 1: there is no column material_id, formula, n_sites, e_form"):
        read_summary(summary(tmp_path, "1,2", head="a,b"))
    with pytest.raises(StructureError, match=r"line 1: there is no column uncorrected_energy_from_cse"):
        read_summary(summary(tmp_path, head=HEAD.replace("uncorrected_energy", "energy")))
    with pytest.raises(StructureError, match=r"has no materials, only the names of columns"):
        read_summary(write_gz(tmp_path / "only.csv.gz", HEAD))


READERS: list[Callable[[Path], Any]] = [read_summary, lambda path: list(read_entries(path, {"a"}))]


@pytest.mark.parametrize("read", READERS)
def test_a_file_that_is_missing_empty_or_not_what_its_name_says_is_refused(
    tmp_path: Path, read: Callable[[Path], Any]
) -> None:
    with pytest.raises(StructureError, match=r"There is no .* at '.*nowhere.gz'"):
        read(tmp_path / "nowhere.gz")
    with pytest.raises(StructureError, match=r"'.*empty.gz' is empty. Give"):
        read(write_gz(tmp_path / "empty.gz", ""))
    (tmp_path / "plain.gz").write_text("material_id\n")
    with pytest.raises(StructureError, match=r"'.*plain.gz', line 1: cannot be read .*Not a gzipped file"):
        read(tmp_path / "plain.gz")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(StructureError, match=r"'.*binary.csv', line 1: not text in UTF-8"):
        read(tmp_path / "binary.csv")


# Entries.

ENTRY = {"energy": -12.0, "structure": {}, "parameters": {}, "data": {}, "composition": {"Mg": 1, "O": 1}}


def entry_line(name: str, **changed: Any) -> str:
    return json.dumps({"material_id": name, "formula_from_cse": "Mg1 O1", "computed_structure_entry": ENTRY | changed})


def test_entries_that_are_wanted_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write_gz(tmp_path / "cse.jsonl.gz", "\n".join(entry_line(name) for name in "cab"))
    assert [name for name, _ in read_entries(path, {"a", "c", "d"})] == ["c", "a"]
    assert next(read_entries(path, {"b"}))[1] == ENTRY


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"material_id": "b", "computed', "line 2: not JSON"),
        ("[1, 2]", "line 2: neither material_id nor computed_structure_entry may be missing"),
        ('{"material_id": "b"}', "line 2: neither material_id nor computed_structure_entry may be missing"),
        ('{"material_id": "b", "computed_structure_entry": {"energy": 1}}', "line 2: the entry of b has no structure,"),
    ],
)
def test_a_damaged_entry_is_said(tmp_path: Path, line: str, says: str) -> None:
    path = write_gz(tmp_path / "cse.jsonl.gz", f"{entry_line('a')}\n{line}\n")
    with pytest.raises(StructureError, match=rf"cse.jsonl.gz', {says}"):
        list(read_entries(path, {"a"}))


def test_a_file_that_is_cut_off_is_said_with_the_line(tmp_path: Path) -> None:
    text = "\n".join(entry_line(str(i), energy=i * 0.7919) for i in range(3000))
    whole = len(gzip.compress(text.encode()))
    path = write_gz(tmp_path / "cse.jsonl.gz", text, keep=whole // 2)
    with pytest.raises(StructureError, match=r"cse.jsonl.gz', line \d+: (the file is cut off|not JSON)"):
        list(read_entries(path, {"a"}))


# Starting structures.


def extxyz(atoms: Atoms) -> str:
    text = io.StringIO()
    ase.io.write(text, atoms, format="extxyz")
    return text.getvalue()


def zipped(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def crystal(symbols: str, **info: Any) -> Atoms:
    return Atoms(symbols, scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[4, 4, 4], pbc=True, info=info)


def test_structures_of_a_zip_file_are_read_by_name(tmp_path: Path) -> None:
    members = {
        f"{name}.extxyz": extxyz(crystal(symbols, material_id=name)) for name, symbols in (("a", "MgO"), ("b", "NaF"))
    }
    found = open_starts(zipped(tmp_path / "starts.extxyz.zip", {**members, "readme.txt": "hello"}))
    assert list(found) == ["a", "b"]
    assert found["b"].get_chemical_formula() == "FNa"
    assert found["b"].pbc.all()
    assert "c" not in found


def test_files_that_are_called_otherwise_are_looked_into(tmp_path: Path) -> None:
    members = {f"x/{i}.extxyz": extxyz(crystal("MgO", material_id=f"wbm-1-{i}")) for i in (1, 2)}
    found = open_starts(zipped(tmp_path / "starts.zip", members))
    assert list(found) == ["wbm-1-1", "wbm-1-2"]
    assert len(found["wbm-1-2"]) == 2


def test_structures_of_another_file_say_who_they_are(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "starts.extxyz", [crystal("MgO", material_id="a"), crystal("NaF", id="b")], format="extxyz")
    assert sorted(open_starts(tmp_path / "starts.extxyz")) == ["a", "b"]
    ase.io.write(tmp_path / "nameless.extxyz", [crystal("MgO")], format="extxyz")
    with pytest.raises(StructureError, match=r"Structure 0 \(MgO\) has neither material_id nor id"):
        open_starts(tmp_path / "nameless.extxyz")


def test_damaged_zip_files_are_said(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "whole.zip", {"a.extxyz": extxyz(crystal("MgO"))})
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(StructureError, match=r"'.*cut.zip' could not be read as a zip file"):
        open_starts(cut)
    with pytest.raises(StructureError, match=r"There is no zip file of structures at '.*none.zip'"):
        open_starts(tmp_path / "none.zip")
    with pytest.raises(StructureError, match=r"'.*other.zip' holds no extxyz file"):
        open_starts(zipped(tmp_path / "other.zip", {"readme.txt": "hello"}))
    for name, text in {"half": extxyz(crystal("MgO"))[:-40], "nothing": "", "foreign": "hello\nyou\n"}.items():
        found = open_starts(zipped(tmp_path / f"{name}.zip", {"a.extxyz": text}))
        with pytest.raises(StructureError, match=rf"'a.extxyz' in '.*{name}.zip' could not be read as a structure"):
            found["a"]


def test_a_damaged_member_of_a_zip_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "flipped.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.extxyz", extxyz(crystal("MgO", material_id="a")))
    content = bytearray(path.read_bytes())
    content[content.index(b"4.0")] = ord("5")
    path.write_bytes(content)
    with pytest.raises(StructureError, match=r"flipped.zip' could not be read"):
        open_starts(path)["a"]


# Structures that say all of themselves.

INFO = {"id": "a", "corrected_energy": -12.7, "eform_per_atom": -2.5, "corrected_eform_per_atom": -2.85}


def said(energy: float | None = -12.0, **changed: Any) -> Atoms:
    atoms = crystal("MgO", **{key: value for key, value in (INFO | changed).items() if value is not None})
    atoms.calc = None if energy is None else SinglePointCalculator(atoms, energy=energy)
    return atoms


def test_structures_say_what_they_are() -> None:
    assert list(described([said(), said(id="b")])) == [
        Material("a", frozenset({8, 12}), 2, -6.0, -2.85),
        Material("b", frozenset({8, 12}), 2, -6.0, -2.85),
    ]


@pytest.mark.parametrize(
    ("atoms", "says"),
    [
        (said(eform_per_atom=None), r"Structure 0 \(MgO\) has no eform_per_atom in its info. Give `summary`"),
        (said(None), r"Structure 0 \(a\): the energy of its calculator \(None\)"),
        (said(corrected_energy="high"), r"must be numbers"),
        (said(float("nan")), r"must be numbers"),
        (said(-11.0), r"is -1.7000 eV, but the formation energies differ by -0.3500 eV/atom with 2 atoms"),
    ],
)
def test_structures_that_do_not_say_enough_are_refused(atoms: Atoms, says: str) -> None:
    with pytest.raises(StructureError, match=says):
        list(described([atoms]))


def test_a_name_comes_once() -> None:
    with pytest.raises(StructureError, match="Structure 1 is called a, as one before it"):
        list(described([said(), said()]))


# The sample.


def test_a_sample_is_drawn_by_its_seed_and_keeps_the_order() -> None:
    materials = [Material(str(i), frozenset({1}), 1, 0.0, 0.0) for i in range(50)]
    first, again, other = (sampled(materials, 20, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert [int(each.name) for each in first] == sorted({int(each.name) for each in first})
    assert sampled(materials, None, 0) == materials
    assert sampled(materials, 50, 3) == materials
    with pytest.raises(TargetError, match=r"`sample` 51 is not possible: there are 50 materials"):
        sampled(materials, 51, 0)
