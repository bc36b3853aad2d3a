"""Text of extxyz as programs and people write it: encodings, Fortran, names that are no elements, misspelt keys."""

import bz2
from pathlib import Path

import numpy as np
import pytest
from command_line import Run

import equiprune as ep
from equiprune.errors import StructureError
from equiprune.structures.formats.extxyz_text import Symbols

FRAME = (
    '2\nLattice="4 0 0 0 5 0 0 0 6" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5 {more}pbc="T T T"\n'
    "H 0.5 0 0 0.1 0 0\nO 0 0 1.25 -0.1 0 0\n"
)
PLAIN = FRAME.format(more="")


def read(content: bytes | str, tmp_path: Path, **how: Symbols) -> list[object]:
    """By both ways, which agree."""
    path = tmp_path / "a.extxyz"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    opened = list(ep.open_structures(path, **how))
    assert [a.positions.tolist() for a in ep.read_structures(path, **how)] == [a.positions.tolist() for a in opened]
    return opened


def refusal(content: bytes | str, tmp_path: Path) -> str:
    with pytest.raises(StructureError) as found:
        read(content, tmp_path)
    return str(found.value)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_byte_order_mark_is_harmless(frames: int, tmp_path: Path) -> None:
    marked = b"\xef\xbb\xbf" + (PLAIN * frames).encode()
    for atoms in read(marked, tmp_path):
        assert atoms.get_potential_energy() == -1.5
        np.testing.assert_array_equal(atoms.positions, [[0.5, 0, 0], [0, 0, 1.25]])
    assert ep.open_structures(tmp_path / "a.extxyz").sizes.tolist() == [2] * frames
    (tmp_path / "b.extxyz.bz2").write_bytes(bz2.compress(marked))
    assert len(ep.open_structures(tmp_path / "b.extxyz.bz2")) == frames


@pytest.mark.parametrize("encoding", ["latin1", "cp1252", "cp437", "mac_roman"])
def test_text_in_another_encoding_says_how_to_convert_it(encoding: str, tmp_path: Path) -> None:
    said = refusal(PLAIN.encode() + FRAME.format(more='note="5 Å" ').encode(encoding), tmp_path)
    assert "Structure 1 of" in said
    assert "it is not UTF-8 (byte 0x" in said
    assert "iconv -f LATIN1 -t UTF-8" in said


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_says_how_to_convert_it(encoding: str, tmp_path: Path) -> None:
    said = refusal(PLAIN.encode(encoding), tmp_path)
    assert "iconv -f UTF-16" in said if encoding == "utf-16" else "should begin with its number of atoms" in said


def test_letters_of_utf_8_are_read(tmp_path: Path) -> None:
    [atoms] = read(FRAME.format(more='note="5 Å, 日本" '), tmp_path)
    assert atoms.info["note"] == "5 Å, 日本"


@pytest.mark.parametrize("exponent", ["D0", "D+00", "d0", "D-00", "D00"])
def test_exponents_of_fortran_are_read(exponent: str, tmp_path: Path) -> None:
    text = PLAIN.replace("H 0.5 ", f"H 0.5{exponent} ").replace("-1.5", f"-1.5{exponent}").replace("-0.1", "-1.D-1")
    [atoms] = read(text, tmp_path)
    assert atoms.get_potential_energy() == -1.5
    np.testing.assert_array_equal(atoms.positions, [[0.5, 0, 0], [0, 0, 1.25]])
    np.testing.assert_array_equal(atoms.get_forces()[1], [-0.1, 0, 0])


def test_fortran_s_powers_of_ten_are_not_lost(tmp_path: Path) -> None:
    [atoms] = read(PLAIN.replace("1.25", "0.125D+01").replace("4 0 0", "0.4D1 0.0D0 0"), tmp_path)
    assert (atoms.positions[1, 2], atoms.cell.array[0, 0]) == (1.25, 4.0)


def test_names_of_deuterium_and_sites_are_explained(tmp_path: Path) -> None:
    said = refusal(PLAIN.replace("H 0.5", "D 0.5"), tmp_path)
    assert "'D' is an isotope of H" in said
    assert "--rename D=H" in said
    for name in ("O1", "O2-", "O_a", "O'", "O*"):
        said = refusal(PLAIN.replace("O 0", f"{name} 0"), tmp_path)
        assert f"'{name}' is no element; it looks like the label of a site of O" in said
        assert "--cut-labels" in said
    assert "'Wat' is no element. 'equiprune convert --rename Wat=ELEMENT'" in refusal(
        PLAIN.replace("O 0", "Wat 0"), tmp_path
    )


def test_capitals_beside_a_name_that_is_refused_stay_elements(tmp_path: Path) -> None:
    text = PLAIN.replace("H 0.5", "FE 0.5").replace("O 0", "O1 0")
    [atoms] = read(text, tmp_path, symbols=Symbols(cut=True))
    assert atoms.get_chemical_symbols() == ["Fe", "O"]


def test_names_are_taken_as_asked(tmp_path: Path) -> None:
    text = PLAIN.replace("H 0.5", "D 0.5").replace("O 0", "O1 0")
    [atoms] = read(text, tmp_path, symbols=Symbols(cut=True, renamed={"D": "H"}))
    assert atoms.get_chemical_symbols() == ["H", "O"]
    assert "'D' is an isotope" in _refused_with(text, tmp_path, Symbols(cut=True))


def _refused_with(text: str, tmp_path: Path, symbols: Symbols) -> str:
    with pytest.raises(StructureError) as found:
        read(text, tmp_path, symbols=symbols)
    return str(found.value)


def test_a_column_of_species_that_is_not_the_first_is_found(tmp_path: Path) -> None:
    text = '1\nProperties=pos:R:3:species:S:1 pbc="F F F"\n0 0 1.5 D\n'
    [atoms] = read(text, tmp_path, symbols=Symbols(renamed={"D": "H"}))
    assert (atoms.get_chemical_formula(), atoms.positions[0, 2]) == ("H", 1.5)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("Lattice=", "lattice="), ("Lattice=", "LATTICE="), ("Properties=", "properties="), ("pbc=", "PBC=")],
)
def test_a_misspelt_key_says_what_it_should_be(right: str, wrong: str, tmp_path: Path) -> None:
    said = refusal(PLAIN.replace(right, wrong), tmp_path)
    assert f"'{wrong}' is not '{right}'" in said
    assert f"sed 's/{wrong}/{right}/'" in said


def test_an_entry_that_is_called_alike_is_none(tmp_path: Path) -> None:
    [atoms] = read(FRAME.format(more="lattice=fcc properties=good "), tmp_path)
    assert (atoms.info["lattice"], atoms.info["properties"]) == ("fcc", "good")


def test_a_converted_file_has_the_elements_that_were_asked_for(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(PLAIN.replace("H 0.5", "D 0.5").replace("O 0", "O1 0"))
    ran = cli("convert", tmp_path / "a.xyz", "-o", tmp_path / "b.xyz", "--rename", "D=H", "--cut-labels")
    assert ran.code == 0, ran.err
    [atoms] = ep.read_structures(tmp_path / "b.xyz")
    assert atoms.get_chemical_symbols() == ["H", "O"]
