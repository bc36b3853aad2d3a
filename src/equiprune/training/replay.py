"""Replay: structures from a second labelled set in every epoch, so that what a model knew is not forgotten.

What is drawn depends on seed and epoch only: the set is gone through again and again, each time in another order, and
an epoch takes up where the one before it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from equiprune.errors import StructureError, TargetError
from equiprune.structures.labels import Labels
from equiprune.structures.sequences import Mapped
from equiprune.training.references import FAR, Offsets, Referenced, evenly_spaced


@dataclass(frozen=True)
class Replay:
    """A second set.

    Attributes:
        structures: labelled; empty for no replay.
        share: of the structures of an epoch, that are replayed; those of the first set are all there as well.
    """

    structures: Sequence[Atoms] = ()
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise TargetError(f"`replay_share` {self.share} is not possible: give a fraction between 0 and 1.")

    def per_epoch(self, own: int) -> int:
        """Number of structures replayed beside ``own`` structures, at least one.

        >>> Replay([Atoms("Cu")] * 9, share=0.25).per_epoch(30)
        10
        """
        return max(1, round(own * self.share / (1 - self.share))) if self.structures else 0

    def drawn(self, own: int, epoch: int, seed: int) -> list[int]:
        """The structures of an epoch, numbered after the ``own`` ones."""
        count, size = self.per_epoch(own), len(self.structures)
        found: list[int] = []
        for place in range(epoch * count, (epoch + 1) * count):
            if place % size == 0 or not found:
                turn = np.random.default_rng([seed, place // size, size]).permutation(size)
            found.append(own + int(turn[place % size]))
        return found


NO_REPLAY = Replay()
"""One set is enough."""


def replay_said(replay: Replay, referenced: Referenced, own: int) -> str:
    """A line on what is replayed beside ``own`` structures; labels that the model is far from are pointed out."""
    count = replay.per_epoch(own)
    moved = "moved with the references" if referenced.changes else "as they are"
    said = (
        f"Replay: {count} structures in an epoch of {own + count}, out of {len(replay.structures)}, energies {moved}."
    )
    found = Offsets.of(referenced.potential, evenly_spaced(replay.structures), "replay")
    if found is None:
        return said
    advice = " The model is far from them: replay suits a model that knows them, so retrain a pruned one first."
    return f"{said} Labels minus model: {found.mean:+.3f} eV/atom.{advice if abs(found.mean) > FAR else ''}"


def relabelled(structures: Sequence[Atoms], changes: Mapping[int, float]) -> Sequence[Atoms]:
    """Structures whose energies move by ``changes[Z]`` eV for every atom of element Z, when they are asked for.

    Atom energies move along.
    """
    return Mapped(structures, partial(_relabelled, changes=dict(changes))) if changes else structures


def _relabelled(atoms: Atoms, changes: Mapping[int, float]) -> Atoms:
    try:
        labels = Labels.of(atoms)
    except StructureError:  # whoever looks at the structures in turn says which one it is
        return atoms
    if labels.energy is None:
        return atoms
    moved = atoms.copy()
    moved.info.pop("REF_energy", None)
    results = dict(atoms.calc.results) if atoms.calc else {}
    shares = np.array([changes.get(int(z), 0.0) for z in atoms.numbers])
    results["energy"] = labels.energy + shares.sum()
    if labels.atom_energies is not None:
        moved.arrays.pop("REF_atom_energies", None)
        moved.info.pop("REF_atom_energies", None)
        results["energies"] = labels.atom_energies + shares
    moved.calc = SinglePointCalculator(moved, **results)
    return moved
