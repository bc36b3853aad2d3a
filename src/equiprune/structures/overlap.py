"""Validation structures that are learnt from as well: the best model would be chosen by what it has learnt."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence

import numpy as np
from ase import Atoms

from equiprune.structures.sequences import origin

_SHOWN = 5
"""Numbers of structures in a line that people read."""


def geometry(atoms: Atoms) -> int:
    """64 bits that are the same for the same atoms in the same places and cell, whatever their labels."""
    found = hashlib.blake2b(digest_size=8)
    for part in (atoms.numbers, atoms.positions + 0.0, atoms.cell.array + 0.0, atoms.pbc):  # no negative zeros
        found.update(np.ascontiguousarray(part).tobytes())
    return int.from_bytes(found.digest(), "little", signed=True)


class Overlap:
    """Held-out structures that are met again. Of those they are compared with, nothing is kept.

    >>> held_out = array("q", map(geometry, [Atoms("H"), Atoms("C"), Atoms("O"), Atoms("C")]))
    >>> overlap = Overlap(held_out)
    >>> for atoms in (Atoms("Si"), Atoms("C")):
    ...     overlap.meet(geometry(atoms))
    >>> overlap.places
    [1, 3]
    """

    def __init__(self, held_out: array[int]) -> None:
        """From the `geometry` of each one."""
        self._known, self._which = np.unique(np.array(held_out, dtype=np.int64), return_inverse=True)
        self._met = np.zeros(len(self._known), dtype=bool)

    def meet(self, found: int) -> None:
        """The `geometry` of another structure."""
        place = int(np.searchsorted(self._known, found))
        if place < len(self._known) and self._known[place] == found:
            self._met[place] = True

    @property
    def places(self) -> list[int]:
        """Numbers of the structures that were met, among those that are held out."""
        return np.flatnonzero(self._met[self._which]).tolist()


def overlap_said(held_out: Sequence[Atoms], places: Sequence[int], use: str) -> str:
    """That these validation structures are also there for another use, in a line.

    >>> overlap_said([Atoms("H"), Atoms("C"), Atoms("O")], [2], "training")  # doctest: +NORMALIZE_WHITESPACE
    '1 of the 3 validation structures is a training structure too (number 2): the best model would be chosen by what it
    has learnt. Leave it out of one of the two sets.'
    """
    numbers = [str(origin(held_out, place).number) for place in places]
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    one = len(numbers) == 1
    are, which, them = ("is a", "number", "it") if one else ("are", "numbers", "them")
    return (
        f"{len(numbers)} of the {len(held_out)} validation structures {are} {use} structure{'' if one else 's'} too "
        f"({which} {', '.join(numbers[:_SHOWN])}{more}): the best model would be chosen by what it has learnt. Leave "
        f"{them} out of one of the two sets."
    )
