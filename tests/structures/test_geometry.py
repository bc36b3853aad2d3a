"""Geometries that would hang, kill or fill a neighbour list are refused before it is made."""

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms

from equiprune.errors import StructureError
from equiprune.structures.checks import check_structures
from equiprune.structures.closeness import too_close
from equiprune.structures.geometry import unworkable
from equiprune.structures.graph import neighbours

CELL = 5 * np.eye(3)


def water(cell: np.ndarray = CELL, pbc: object = True, last: tuple[float, ...] = (0, 0, 1.0)) -> Atoms:
    return Atoms("OH2", positions=[(0, 0, 0), (1, 0, 0), last], cell=cell, pbc=pbc)


def with_entry(row: int, column: int, value: float) -> np.ndarray:
    cell = CELL.copy()
    cell[row, column] = value
    return cell


IMPOSSIBLE = {
    "a long vector": (water(with_entry(2, 0, 2**31)), "a cell vector longer than 10,000 Angstrom"),
    "an infinite vector": (water(with_entry(0, 0, np.inf)), "not finite"),
    "an atom at nan": (water(last=(0, 0, np.nan)), "not finite"),
    "an atom far from the origin": (water(last=(0, 0, 1e30)), "more than 1,000,000 Angstrom from the origin"),
    "an atom far above a slab": (water(pbc=(1, 1, 0), last=(0, 0, 2e4)), "more than 10,000 Angstrom apart"),
    "a skew cell": (water(with_entry(1, 0, 5000) @ np.diag([1, 1e-3, 1])), "Angstrom thick"),
    "a cell in nanometres cubed": (water(CELL / 20), "atoms per cubic Angstrom; check the unit"),
    "parallel vectors": (water(np.array([[5, 0, 0], [5, 0, 0], [0, 0, 5.0]])), "zero or parallel"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
@pytest.mark.parametrize("look", [lambda a: neighbours(a, 4.0), lambda a: check_structures([a], [1, 8])])
def test_what_no_list_can_be_made_of_is_refused(name: str, look: Callable[[Atoms], object]) -> None:
    atoms, says = IMPOSSIBLE[name]
    with pytest.raises(StructureError, match=says):
        look(atoms)
    too_close(atoms, 0.5)  # ends


@pytest.mark.parametrize("pbc", [True, (1, 1, 0), (1, 0, 0), False])
def test_ordinary_structures_are_possible(pbc: object) -> None:
    assert unworkable(water(pbc=pbc)) == ""
    assert unworkable(Atoms(pbc=False)) == ""
    assert len(neighbours(water(np.diag([5, 5, 9000.0]), pbc), 1.5).pairs[0]) >= 4
