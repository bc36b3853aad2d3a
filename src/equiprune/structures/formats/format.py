"""The protocol of a format: recognise a file or folder, give its structures with labels in eV and Angstrom.

A format whose files allow it is `RandomAccess`: any structure is read when it is asked for, and 8 bytes each are kept
in memory. One whose files do not is `Streamed`: one structure after another, and all of them in memory only where
somebody wants them in another order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from equiprune.errors import StructureError
from equiprune.structures.labels import SOURCES

_SAID = 400
"""Characters of what a reader says of a file that it cannot read."""


class Format(ABC):
    """A kind of files, or of folders that are one data set."""

    name: ClassVar[str]
    """Words for it in the docs and in messages."""

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """True for a path of this kind, by its name and first bytes; raises nothing."""

    @abstractmethod
    def open(self, path: Path) -> Sequence[Atoms]:
        """The structures in the order of the file, each read whenever it is asked for. Raises `StructureError`."""

    @abstractmethod
    def stream(self, path: Path) -> Iterator[Atoms]:
        """The same, one after another. Raises `StructureError`."""


class RandomAccess(Format):
    """Base of formats in which any structure can be read at any time."""

    def stream(self, path: Path) -> Iterator[Atoms]:
        return iter(self.open(path))


class Streamed(Format):
    """Base of formats that can only be read from the beginning."""

    def open(self, path: Path) -> Sequence[Atoms]:
        return list(self.stream(path))


@contextmanager
def reading(path: Path, index: int | None = None) -> Iterator[None]:
    """Whatever a reader raises is a `StructureError` that names the file, and the structure if there is one."""
    what = f"'{path}'" if index is None else f"Structure {index} of '{path}'"
    try:
        yield
    except StructureError:
        raise
    except Exception as error:  # each reader has its own exceptions, some of which draw over several lines
        said = " ".join(str(error).split()) or type(error).__name__
        said = said if len(said) <= _SAID else f"{said[:_SAID]}..."  # some quote what they could not read, all of it
        raise StructureError(f"{what} could not be read as structures ({said}).") from error


def with_labels(atoms: Atoms, values: Mapping[str, Any], sources: Mapping[str, str]) -> Atoms:
    """The structure itself with labels, those that are not None.

    Args:
        atoms: without labels.
        values: in eV, eV/Angstrom, eV/Angstrom^3 with ASE's sign, by what ASE calls the result.
        sources: names and units that they have in the file, which are said wherever labels are counted.
    """
    found = {name: value for name, value in values.items() if value is not None}
    if found:
        atoms.calc = SinglePointCalculator(atoms, **found)
        atoms.info[SOURCES] = {name: sources[name] for name in found if name in sources}
    return atoms
