"""The text of extxyz files, as programs write it: encodings, exponents of Fortran, names that are no elements."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import StringIO
from itertools import islice
from typing import IO

from ase import Atoms
from ase.data import atomic_numbers

_MARK = b"\xef\xbb\xbf"
"""A byte-order mark, which some editors put before UTF-8."""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_FORTRAN = re.compile(r"(?<![^\s=\"'])([+-]?(?:\d+\.\d*|\.\d+))[dD]([+-]?\d+)(?![^\s\"'])")
"""A number in double precision as Fortran writes it: 0.119D+00."""
_KEYS = {
    "Lattice": re.compile(r"(?:^|\s)(lattice)\s*=\s*[\"'{\[]?\s*(?:[-+.\deE]+[\s,]+){8}", re.IGNORECASE),
    "Properties": re.compile(r"(?:^|\s)(properties)\s*=\s*\"?\w+:[SRIL]:\d", re.IGNORECASE),
    "pbc": re.compile(r"(?:^|\s)(pbc)\s*=\s*[\"'{\[]?\s*[TF01]", re.IGNORECASE),
}
"""Keys with a meaning of their own, in any spelling, where their value shows that they are meant."""
_DESCRIBED = re.compile(r"Properties=\"?([^\s\"]+)")
_COLUMNS = 1000
"""More than any structure without atoms describes."""
_ISOTOPES = {"D": "H", "T": "H"}
_LABEL = re.compile(r"([A-Z][a-z]?)[\d_'*+-].*")
"""A label of a site, which begins with its element: O1, Fe2+, H_a."""


@dataclass(frozen=True)
class Symbols:
    """Treatment of names of atoms that are no elements; unless something is asked for, they are refused.

    Attributes:
        cut: take the element that a label of a site begins with: O1 is O.
        renamed: element by name: ``{"D": "H"}``.

    >>> Symbols(cut=True).element("O1"), Symbols(renamed={"D": "H"}).element("D")
    ('O', 'H')
    """

    cut: bool = False
    renamed: Mapping[str, str] = field(default_factory=dict)

    def element(self, name: str) -> str:
        """The element that is meant. Raises `ValueError` saying what the name looks like, and what can be asked for."""
        if name in self.renamed:
            return self.renamed[name]
        if name.capitalize() in atomic_numbers:  # as ASE takes it
            return name.capitalize()
        label = _LABEL.fullmatch(name)
        if label and label[1] in atomic_numbers and self.cut:
            return label[1]
        raise ValueError(_no_element(name, label[1] if label else ""))


AS_WRITTEN = Symbols()


def _no_element(name: str, begins: str) -> str:
    if name in _ISOTOPES:
        return (
            f"'{name}' is an isotope of {_ISOTOPES[name]}, which has the same potential energy; models know only "
            f"elements. 'equiprune convert --rename {name}={_ISOTOPES[name]}' takes it as that"
        )
    if begins in atomic_numbers:
        return (
            f"'{name}' is no element; it looks like the label of a site of {begins}. 'equiprune convert --cut-labels' "
            "keeps the element of each label"
        )
    return f"'{name}' is no element. 'equiprune convert --rename {name}=ELEMENT' takes it as one"


def extxyz_parts(stream: IO[bytes]) -> Iterator[bytes]:
    """The bytes of each structure, one after another. Raises `ValueError` for what does not add up."""
    part, number = b"", 0
    for line in stream:
        if line.lstrip().startswith(b"VEC") and part:  # an old way to give the cell, after the atoms
            part += line
            continue
        if part:
            yield part
            number += 1
        if not line.strip():  # ends the file, as in ase.io.extxyz
            if any(rest.strip() for rest in stream):
                raise ValueError(
                    f"there is an empty line after structure {number - 1}, and more after it; remove empty lines "
                    "between structures"
                )
            return
        atoms = number_of_atoms(line, number)
        lines = [line, *islice(stream, atoms + 1)]
        if len(lines) < atoms + 2:
            raise ValueError(f"structure {number} is cut off")
        part = b"".join(lines)
    if part:
        yield part


def number_of_atoms(line: bytes, structure: int) -> int:
    """The number on the first line of a structure. Raises `ValueError` saying what is there instead."""
    if line.startswith(_UTF16):
        raise ValueError("it is text in UTF-16; convert it: iconv -f UTF-16 -t UTF-8 OLD > NEW")
    try:
        if (number := int(line.removeprefix(_MARK))) >= 0:
            return number
        raise ValueError
    except ValueError:
        found = line[:40].decode("ascii", "backslashreplace").strip()
        raise ValueError(
            f"structure {structure} should begin with its number of atoms, and there is '{found}'; do numbers of atoms "
            "and lines agree before it?"
        ) from None


def atoms_in(text: bytes, symbols: Symbols = AS_WRITTEN) -> Atoms:
    """The structure that the lines of one structure give."""
    from ase.io.extxyz import read_xyz  # slow to import, and only needed here

    first, comment, atoms = re.split(r"\r\n|\n|\r", _decoded(text), maxsplit=2)
    _check_spelling(comment)
    comment = _FORTRAN.sub(r"\1E\2", comment)
    _check_columns(comment, atoms)
    try:
        return next(read_xyz(StringIO(f"{first}\n{comment}\n{atoms}", newline=None), 0))
    except (KeyError, ValueError):  # rare: looked into only where ASE cannot read it
        again = _FORTRAN.sub(r"\1E\2", _with_elements(comment, atoms, int(first), symbols))
        return next(read_xyz(StringIO(f"{first}\n{comment}\n{again}", newline=None), 0))


def _decoded(text: bytes) -> str:
    try:
        return text.removeprefix(_MARK).decode()
    except UnicodeDecodeError as error:
        wrong = text[error.start]
        raise ValueError(
            f"it is not UTF-8 (byte 0x{wrong:02x}, in Latin-1 '{chr(wrong)}'); convert it: iconv -f LATIN1 -t UTF-8 "
            "OLD > NEW"
        ) from None


def _check_spelling(comment: str) -> None:
    """Raise `ValueError` for a key that reads as the cell, the columns or the periodicity, but is spelt otherwise."""
    for key, pattern in _KEYS.items():
        found = [match[1] for match in pattern.finditer(comment)]
        if found and key not in found:
            raise ValueError(
                f"'{found[0]}=' is not '{key}=', and case matters: as it stands the file has no {key}. Correct it: "
                f"sed 's/{found[0]}=/{key}=/' OLD > NEW"
            )


def _check_columns(comment: str, atoms: str) -> None:
    """Raise `ValueError` for more columns than the first atom has; ASE would make all of them, billions too."""
    described = _DESCRIBED.search(comment)
    widths = [int(width) for width in described[1].split(":")[2::3] if width.isdecimal()] if described else []
    there = len(atoms.partition("\n")[0].split())
    if widths and sum(widths) > max(there, 1) and (there or sum(widths) > _COLUMNS):
        raise ValueError(f"its Properties describe {sum(widths)} columns, and the first atom has {there}")


def _with_elements(comment: str, atoms: str, count: int, symbols: Symbols) -> str:
    """The lines of atoms with elements in the column of species."""
    column = _species_column(comment)
    lines = atoms.split("\n")
    for i, line in enumerate(lines[:count]):
        words = line.split()
        if column is not None and column < len(words) and not words[column].isdigit():
            words[column] = symbols.element(words[column])
            lines[i] = " ".join(words)
    return "\n".join(lines)


def _species_column(comment: str) -> int | None:
    """The word of a line that names the element; None where the columns have none."""
    described = _DESCRIBED.search(comment)
    if not described:
        return 0
    place, parts = 0, described[1].split(":")
    for name, _, width in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        if name == "species":
            return place
        place += int(width)
    return None
