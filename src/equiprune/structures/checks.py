"""Checks of structures that no model, or one of them, can evaluate; errors name where a structure is from."""

from collections.abc import Iterable, Iterator, Sequence

from ase import Atoms
from ase.data import chemical_symbols

from equiprune.errors import StructureError
from equiprune.structures.geometry import unworkable
from equiprune.structures.global_inputs import GlobalInput, numbers_of
from equiprune.structures.graph import coinciding
from equiprune.structures.sequences import Origin, no_elements, origin


def check_structures(
    structures: Iterable[Atoms],
    elements: Iterable[int],
    origins: Sequence[Origin] | None = None,
    inputs: Sequence[GlobalInput] = (),
) -> None:
    """Raise `StructureError` for what no model can evaluate, or this one cannot.

    ``origins`` say where the structures are from; unless given, that is where they are in ``structures``. ``inputs``
    are what the model reads of a whole structure.
    """
    known = frozenset(elements)
    for i, atoms in enumerate(structures):
        _check(atoms, known, (origins[i] if origins else origin(structures, i)).of(atoms), inputs)


def checked(
    structures: Iterable[Atoms], elements: Iterable[int], use: str = "", inputs: Sequence[GlobalInput] = ()
) -> Iterator[tuple[Origin, Atoms]]:
    """The structures and where they are from, each once it is known to be fit for its ``use``.

    Raises as `check_structures` does.
    """
    known = frozenset(elements)
    for i, atoms in enumerate(structures):
        place = origin(structures, i, use)
        _check(atoms, known, place.of(atoms), inputs)
        yield place, atoms


def check_elements(atoms: Atoms, where: str) -> None:
    """Raise `StructureError` for atomic numbers that no element has."""
    if wrong := no_elements(atoms):
        raise StructureError(
            f"{where} has the atomic number {wrong[0]}, and elements have 1 to {len(chemical_symbols) - 1}."
        )


def _check(atoms: Atoms, known: frozenset[int], where: str, inputs: Sequence[GlobalInput]) -> None:
    if len(atoms) == 0:
        raise StructureError(f"{where} has no atoms.")
    check_elements(atoms, where)
    if why := unworkable(atoms):
        raise StructureError(f"{where} {why}.")
    unknown = sorted({int(z) for z in atoms.numbers} - known)
    if unknown:
        raise StructureError(
            f"{where} has {', '.join(chemical_symbols[z] for z in unknown)}, which this model does not know. "
            f"It knows {', '.join(chemical_symbols[z] for z in sorted(known))}."
        )
    if pair := coinciding(atoms):
        raise StructureError(f"{where} has atoms {pair[0]} and {pair[1]} at the same place. Remove one.")
    numbers_of(atoms, inputs, where)
