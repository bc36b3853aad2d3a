"""Relaxed structures beside DFT's: corrections that change with the kind of anion, and distances."""

import builtins
import warnings
from typing import Any

import pytest
from ase import Atoms
from ase.build import bulk

from equiprune.errors import EquipruneError, StructureError
from equiprune.evaluation.discovery import (
    ModelRelaxations,
    Outcome,
    Relaxed,
    compared_with_entries,
    compared_with_starts,
)
from equiprune.evaluation.discovery.against_dft import UNMATCHED, correction_change, differences, distance

OXIDE = bulk("MgO", "rocksalt", a=4.2)
PEROXIDE = Atoms(
    "LiLiOO",
    scaled_positions=[[0, 0, 0], [0, 0, 0.5], [0.33, 0.66, 0.40], [0.33, 0.66, 0.60]],
    cell=[3.2, 3.2, 7.7, 90, 90, 120],
    pbc=True,
)
"""Two oxygens 1.54 Angstrom apart."""
APART = PEROXIDE.copy()
APART.positions[2:, 2] += [-1.0, 1.0]


def no_pymatgen(name: str, *more: Any, imported: Any = builtins.__import__) -> Any:
    if name.startswith("pymatgen"):
        raise ImportError(name)
    return imported(name, *more)


def entry_of(atoms: Atoms, **parameters: Any) -> dict[str, Any]:
    """A computed structure entry of pymatgen, as files have it."""
    pytest.importorskip("pymatgen")
    from pymatgen.entries.computed_entries import ComputedStructureEntry
    from pymatgen.io.ase import AseAtomsAdaptor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        structure = AseAtomsAdaptor.get_structure(atoms)
    made = ComputedStructureEntry(structure, -1.0, parameters={"run_type": "GGA", "hubbards": {}, **parameters})
    found: dict[str, Any] = made.as_dict()
    return found


@pytest.mark.slow
def test_the_same_kind_of_anion_keeps_the_correction() -> None:
    strained = OXIDE.copy()
    strained.set_cell(OXIDE.cell.array * 1.05, scale_atoms=True)
    assert correction_change(entry_of(OXIDE), strained) == 0.0
    assert correction_change(entry_of(PEROXIDE), PEROXIDE) == 0.0


@pytest.mark.slow
def test_a_peroxide_that_relaxes_into_an_oxide_is_corrected_as_one() -> None:
    """MP2020 corrects oxides by -0.687 eV per oxygen, peroxides by -0.465 (doi:10.1038/s41598-021-94550-5, table 1)."""
    entry = entry_of(PEROXIDE)
    assert correction_change(entry, APART) == pytest.approx((-0.687 + 0.465) / 2)
    assert correction_change(entry_of(APART), PEROXIDE) == pytest.approx((0.687 - 0.465) / 2)


def test_without_oxygen_and_sulphur_distances_change_nothing() -> None:
    """And pymatgen is not asked."""
    assert correction_change({}, bulk("NaCl", "rocksalt", a=5.6)) == 0.0


@pytest.mark.slow
def test_distances_are_those_of_structures_that_match() -> None:
    pytest.importorskip("pymatgen")
    moved = PEROXIDE.copy()
    moved.positions[2, 2] += 0.1
    unit = (PEROXIDE.cell.volume / 4) ** (1 / 3)
    assert 0 < distance(PEROXIDE, moved) <= 0.1 / unit
    shifted = PEROXIDE.copy()
    shifted.positions += [0.3, 0.2, 0.1]
    shifted.wrap()
    assert distance(PEROXIDE, shifted) == pytest.approx(0, abs=1e-6)
    assert distance(PEROXIDE, OXIDE) == UNMATCHED


def ended(atoms: Atoms) -> Relaxed:
    return Relaxed(Outcome.CONVERGED, 1, -1.0, atoms.positions, atoms.cell.array)


@pytest.mark.slow
def test_each_model_is_compared_where_it_has_a_structure() -> None:
    pytest.importorskip("pymatgen")
    starts = {"a": PEROXIDE, "b": OXIDE}
    models = [
        ModelRelaxations("one", {"a": ended(APART), "b": ended(OXIDE)}),
        ModelRelaxations("two", {"a": Relaxed(Outcome.FAILED, 1), "b": ended(OXIDE)}),
    ]
    steps: list[int] = []
    entries = [("b", entry_of(OXIDE)), ("a", entry_of(PEROXIDE))]
    found = compared_with_entries(entries, models, starts, steps.append)
    assert len(steps) == 2
    assert {model: sorted(each) for model, each in found.items()} == {"one": ["a", "b"], "two": ["b"]}
    assert found["one"]["a"].correction == pytest.approx(-0.111)
    assert found["two"]["b"].rmsd == pytest.approx(0, abs=1e-6)
    of_starts = compared_with_starts(models, starts)
    assert of_starts["one"]["a"].correction == 0
    assert of_starts["one"]["a"].rmsd == pytest.approx(found["one"]["a"].rmsd)


@pytest.mark.slow
def test_what_has_no_entry_or_a_damaged_one_is_said() -> None:
    pytest.importorskip("pymatgen")
    with pytest.raises(StructureError, match="There is no entry of 1 relaxed materials, such as a"):
        differences([], {"m": {"a": OXIDE}})
    damaged = entry_of(OXIDE) | {"structure": {"lattice": 1}}
    with pytest.raises(StructureError, match=r"The entry of a cannot be compared \("):
        differences([("a", damaged)], {"m": {"a": OXIDE}})
    other = entry_of(OXIDE, run_type="SCAN")
    with pytest.raises(StructureError, match=r"The entry of a cannot be compared \(CompatibilityError"):
        differences([("a", other)], {"m": {"a": OXIDE}})


def test_pymatgen_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "__import__", no_pymatgen)
    models = [ModelRelaxations("one", {"b": ended(OXIDE)})]
    for compare in (lambda: compared_with_starts(models, {"b": OXIDE}), lambda: compared_with_entries([], models, {})):
        with pytest.raises(EquipruneError, match=r"need pymatgen. Install it: pip install 'equiprune\[discovery\]'"):
            compare()
