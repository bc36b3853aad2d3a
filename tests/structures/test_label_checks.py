"""Labels under other names, in other units and signs: what is named, what is converted, what is doubted."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from command_line import Run

from equiprune.errors import StructureError
from equiprune.structures.label_checks import label_doubts, likely_keys
from equiprune.structures.labels import SOURCES, LabelKeys, Labels, label_sources
from equiprune.structures.stress_units import StressUnit


def copper(count: int = 12, *, stretch: float = 0.0) -> list[Atoms]:
    """A walk of 4 atoms of copper with labels of EMT; with ``stretch`` the volume changes along it."""
    random, atoms, found = np.random.default_rng(0), bulk("Cu", cubic=True), []
    for i in range(count):
        atoms = atoms.copy()
        atoms.rattle(0.02, rng=random)
        if stretch:
            atoms.set_cell(bulk("Cu", cubic=True).cell * (1 + stretch * (i / count - 0.5)), scale_atoms=True)
        calc = EMT()
        results = {q: calc.get_property(q, atoms) for q in ("energy", "forces", "stress")}
        atoms.calc = SinglePointCalculator(atoms, **results)
        found.append(atoms)
    return found


def changed(structures: list[Atoms], **factors: float) -> list[Atoms]:
    """Copies with labels that are multiples of what they were."""
    for atoms in structures:
        results = {name: value * factors.get(name, 1.0) for name, value in atoms.calc.results.items()}
        atoms.calc = SinglePointCalculator(atoms, **results)
    return structures


def test_sound_labels_are_not_doubted() -> None:
    assert label_doubts(copper()) == label_doubts(copper(stretch=0.2)) == []


@pytest.mark.parametrize(
    ("factors", "says"),
    [
        ({"energy": units.mol / units.kcal}, "energies change 2"),
        ({"forces": -1.0}, "energies change -"),
        ({"energy": 1 / units.Hartree}, "energies change 0.03"),
    ],
)
def test_energies_in_another_unit_than_forces_show_along_a_trajectory(factors: dict[str, float], says: str) -> None:
    [doubt] = label_doubts(changed(copper(), **factors))
    assert says in doubt
    assert "differ in unit or sign" in doubt


@pytest.mark.parametrize(("factor", "says"), [(1 / units.GPa, "160.2"), (10 / units.GPa, "1602")])
def test_stresses_in_gigapascal_or_kbar_are_large(factor: float, says: str) -> None:
    [doubt] = label_doubts(changed(copper(stretch=0.2), stress=factor))
    assert says in doubt
    assert "`stress_unit`" in doubt


def test_the_sign_of_pressure_shows_where_the_volume_changes() -> None:
    [doubt] = label_doubts(changed(copper(stretch=0.2), stress=-1.0))
    assert "Stresses of Cu have the other sign than ASE's" in doubt


def test_forces_that_do_not_add_up_to_zero_are_pointed_out() -> None:
    structures = copper()
    for atoms in structures[::2]:
        atoms.calc.results["forces"] = atoms.calc.results["forces"] + 0.5
    assert "Forces do not add up to zero in 6 of 12 structures" in label_doubts(structures)[0]
    for atoms in structures:
        atoms.calc.results.pop("energy")
    assert len(label_doubts(structures)) == 1


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        (StressUnit("GPa"), 1 / units.GPa),
        (StressUnit("kbar", "pressure"), -10 / units.GPa),
        (StressUnit("eV/Angstrom^3", "pressure"), -1.0),
    ],
)
@pytest.mark.parametrize("voigt", [True, False])
def test_stresses_are_converted_as_said(unit: StressUnit, factor: float, voigt: bool) -> None:
    [atoms] = copper(1)
    expected = atoms.get_stress(voigt=False)
    given = factor * (atoms.get_stress() if voigt else expected.ravel())
    named = atoms.copy()
    named.info["dft_stress"] = given
    found = LabelKeys(stress="dft_stress", stress_unit=unit).on(named)
    np.testing.assert_allclose(Labels.of(found).stress, expected, rtol=1e-12)
    atoms.calc = SinglePointCalculator(atoms, stress=given if voigt else given.reshape(3, 3))
    found = LabelKeys(stress_unit=unit).on(atoms)
    np.testing.assert_allclose(Labels.of(found).stress, expected, rtol=1e-12)
    assert label_sources(found, Labels.of(found)) == {"stress": f"stress ({unit})"}


@pytest.mark.parametrize(("sign", "factor"), [("pressure", -1), ("tension", 1)])
def test_virials_are_divided_by_the_volume(sign: str, factor: int) -> None:
    [atoms] = copper(1)
    expected = atoms.get_stress(voigt=False)
    atoms.info["virial"] = factor * expected * atoms.get_volume()
    keys = LabelKeys(stress="virial", stress_unit=StressUnit("eV", sign))  # type: ignore[arg-type]
    np.testing.assert_allclose(Labels.of(keys.on(atoms)).stress, expected, rtol=1e-12)


def test_a_stress_is_not_converted_twice_nor_without_a_volume() -> None:
    [atoms] = copper(1)
    atoms.info[SOURCES] = {"stress": "DeePMD virial"}
    with pytest.raises(StructureError, match="was converted already, from DeePMD virial"):
        LabelKeys(stress_unit=StressUnit("GPa")).on(atoms)
    molecule = Atoms("H", info={"virial": np.eye(3)})
    with pytest.raises(StructureError, match="it has no cell"):
        LabelKeys(stress="virial", stress_unit=StressUnit("eV")).on(molecule)
    with pytest.raises(StructureError, match="not 3 x 3 numbers"):
        LabelKeys(stress="virial", stress_unit=StressUnit("GPa")).on(Atoms("H", info={"virial": "high"}))


def test_entries_that_look_like_labels_are_found_by_name_and_size() -> None:
    atoms = Atoms("H2", info={"mace_energy": -1.0, "virials": np.ones(9), "Energy_note": "x", "stress_of_day": 1.0})
    atoms.arrays["dft_forces"] = np.zeros((2, 3))
    atoms.arrays["force_constants"] = np.zeros((2, 9))
    expected = {"energy": ["mace_energy"], "forces": ["dft_forces"], "stress": ["virials"]}
    assert likely_keys([Atoms("H2"), atoms]) == expected


def named(path: Path) -> Path:
    found = []
    for atoms in copper(2):
        copy = Atoms("Si4", atoms.positions * 1.4, cell=atoms.cell * 1.4, pbc=True)
        copy.info |= {"dft_energy": atoms.get_potential_energy(), "dft_virial": np.ones(9)}
        copy.arrays["dft_forces"] = atoms.get_forces()
        found.append(copy)
    write(path, found, format="extxyz")
    return path


SAYS = ("dft_energy (--energy-key dft_energy)", "dft_forces (--forces-key dft_forces)", "--stress-key", "--stress-unit")


def test_missing_labels_name_what_looks_like_them(refused: Run, tmp_path: Path) -> None:
    data = named(tmp_path / "a.xyz")
    refused("evaluate", "toy", "--data", data, says=SAYS)
    refused("train", "toy", "--data", data, "-o", tmp_path / "run", says=SAYS[:2])


def test_a_virial_without_its_sign_is_refused(refused: Run, tmp_path: Path) -> None:
    words = ("--stress-key", "dft_virial", "--stress-unit", "eV")
    refused("evaluate", "toy", "--data", named(tmp_path / "a.xyz"), *words, says=("--stress-sign", "DeePMD, GAP"))


@pytest.fixture
def in_kbar(tmp_path: Path) -> None:
    """Structures of an element that the toy knows, as ``a.xyz``."""
    structures = changed(copper(stretch=0.2), stress=10 / units.GPa)
    for atoms in structures:
        atoms.numbers[:] = 14
        atoms.calc = SinglePointCalculator(atoms, **atoms.calc.results)
    write(tmp_path / "a.xyz", structures, format="extxyz")


@pytest.mark.usefixtures("in_kbar")
def test_doubts_are_said_before_training(cli: Run, tmp_path: Path) -> None:
    """Whatever comes then: here a pattern of frozen parameters that matches none."""
    words = ["--freeze", "nothing*", "--epochs", 1, "-o", tmp_path / "run"]
    ran = cli("train", "toy", "--data", tmp_path / "a.xyz", *words)
    assert ran.code == 2
    assert "1602 times too much: give --stress-unit" in " ".join(ran.err.split())


@pytest.mark.usefixtures("in_kbar")
def test_doubts_are_said_by_evaluate(cli: Run, tmp_path: Path) -> None:
    ran = cli("evaluate", "toy", "--data", tmp_path / "a.xyz", "--limit", 10)
    assert ran.code == 0, ran.err
    assert "give --stress-unit" in ran.err
    quiet = cli("evaluate", "toy", "--data", tmp_path / "a.xyz", "--stress-unit", "kbar", "--limit", 10)
    assert "Stresses are large" not in quiet.err
    assert "stress from stress (kbar, positive under tension) (10 of 10)" in quiet.err
