"""A teacher's labels: what it predicts, on distorted copies as asked for, and the same after a trip through a file."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

import equiprune as ep
from equiprune.errors import StructureError, TargetError
from equiprune.labelling.augmentation import Augmentation, augmented
from equiprune.labelling.dynamics import Dynamics, simulated
from equiprune.labelling.label import label
from equiprune.labelling.teachers import CalculatorTeacher
from equiprune.structures.labels import Labels


def molecule() -> Atoms:
    return Atoms("OH2", positions=[[0, 0, 0], [0.9, 0.1, 0], [-0.2, 0.9, 0]])


def slab() -> Atoms:
    return Atoms("Si2", positions=[[0, 0, 0], [1.5, 1.2, 1.4]], cell=[3.5, 3.6, 20], pbc=(True, True, False))


def mislabelled(atoms: Atoms) -> Atoms:
    """With labels of every kind that are not the teacher's."""
    wrong = atoms.copy()
    wrong.info |= {"REF_energy": 99.0, "REF_stress": np.full((3, 3), 99.0), "energy": 99.0, "config_type": "bulk"}
    wrong.arrays["REF_forces"] = np.full((len(wrong), 3), 99.0)
    wrong.calc = SinglePointCalculator(wrong, energy=99.0, forces=np.full((len(wrong), 3), 99.0), stress=np.ones(6))
    return wrong


def test_labels_are_the_predictions_of_the_teacher(toy: ep.Potential, structures: list[Atoms]) -> None:
    every = [*structures, molecule(), slab()]
    found = list(label(toy, every, batch_atoms=7))
    assert len(found) == len(every)
    for atoms, labelled, prediction in zip(every, found, toy.predict(every), strict=True):
        labels = Labels.of(labelled)
        assert labels.energy == pytest.approx(prediction.energy.item(), rel=1e-12)
        np.testing.assert_allclose(labels.forces, prediction.forces.numpy(), rtol=1e-9, atol=1e-12)
        if atoms.pbc.all():
            np.testing.assert_allclose(labels.stress, prediction.stress.numpy(), rtol=1e-9, atol=1e-14)
        else:
            assert labels.stress is None
        np.testing.assert_array_equal(labelled.positions, atoms.positions)
        np.testing.assert_array_equal(labelled.cell.array, atoms.cell.array)
        assert labelled.get_chemical_formula() == atoms.get_chemical_formula()
        assert (labelled.pbc == atoms.pbc).all()


@pytest.mark.parametrize("through_copies", [True, False])
def test_labels_there_were_are_dropped(through_copies: bool, toy: ep.Potential, structures: list[Atoms]) -> None:
    wrong = [mislabelled(atoms) for atoms in structures]
    source = augmented(wrong, Augmentation()) if through_copies else wrong
    for atoms, labelled, exact in zip(wrong, label(toy, source), toy.predict(structures), strict=True):
        assert Labels.of(labelled).energy == pytest.approx(exact.energy.item())
        np.testing.assert_allclose(Labels.of(labelled).forces, exact.forces.numpy(), atol=1e-12)
        assert labelled.info.keys() == {"config_type", "teacher_sha256"}
        assert labelled.arrays.keys() == {"numbers", "positions"}
        assert atoms.info["REF_energy"] == 99.0  # the input is left as it was


KEPT = {
    "traj": "mp-1",
    "step": 3,
    "charge": -1.0,
    "relaxed": True,
    "said": 'a "b" c=1',
    "a key": "x",
    "force_field": "uff",
}
GONE = {
    "REF_charge": 1.0,
    "free_energy": 1.0,
    "dft_energy": 1.0,
    "TotEnergy": 1,
    "magmom": 1.0,
    "virial": 3.0,
    "teacher_sha256": "ab",
    "vector": np.zeros(3),
    "list": [1, 2],
    "nothing": None,
    "number": "007",
    "truth": "T",
    "lines": "a b\nc",
    "empty": "",
    "nan": float("nan"),
    "pbc": "x",
    "Lattice": "y",
    7: "z",
}


def test_what_is_no_label_is_kept_and_survives_a_file(toy: ep.Potential, tmp_path: Path) -> None:
    atoms = molecule()
    atoms.info = {**KEPT, **GONE, "count": np.int64(5)}
    source = simulated(augmented([atoms], Augmentation(copies=1)), toy.calculator(), Dynamics(1, 10.0, 1))
    found = list(label(ep.prune(toy, ep.PruningPlan.nothing()), source))
    assert [one.info for one in found] == [KEPT | {"count": 5}] * 4
    ase.io.write(tmp_path / "labelled.extxyz", found, format="extxyz")
    assert [one.info for one in ep.read_structures(tmp_path / "labelled.extxyz")] == [KEPT | {"count": 5}] * 4
    assert atoms.info.keys() == {*KEPT, *GONE, "count"}  # the input is left as it was


def test_labels_say_whose_they_are(toy_parent: ep.Potential, structures: list[Atoms]) -> None:
    for labelled in label(toy_parent, structures):
        assert labelled.info["teacher_sha256"] == toy_parent.checkpoint.sha256 != ""


def test_progress_counts_the_structures(toy: ep.Potential, structures: list[Atoms]) -> None:
    done: list[int] = []
    list(label(toy, structures, batch_atoms=9, progress=done.append))
    assert sum(done) == len(structures)
    assert len(done) > 1


def test_structures_are_labelled_as_they_come(toy: ep.Potential, structures: list[Atoms]) -> None:
    """Memory does not grow with their number."""
    asked = 0

    def endless() -> Any:
        nonlocal asked
        while True:
            asked += 1
            yield structures[asked % 4]

    stream = label(toy, endless(), batch_atoms=20)
    assert [next(stream).get_chemical_formula() for _ in range(3)]
    assert asked < 20


# Distorted copies.


def test_without_copies_structures_are_only_stripped(structures: list[Atoms]) -> None:
    found = list(augmented(structures, Augmentation(rattle=9.0, strain=9.0)))
    assert len(found) == len(structures)
    for atoms, same in zip(structures, found, strict=True):
        np.testing.assert_array_equal(same.positions, atoms.positions)
        np.testing.assert_array_equal(same.cell.array, atoms.cell.array)


def test_each_structure_is_followed_by_its_copies(structures: list[Atoms]) -> None:
    found = list(augmented([mislabelled(atoms) for atoms in structures], Augmentation(copies=2)))
    formulas = [atoms.get_chemical_formula() for atoms in structures]
    assert [atoms.get_chemical_formula() for atoms in found] == [name for name in formulas for _ in range(3)]
    assert all(atoms.info == {"config_type": "bulk"} and atoms.calc is None for atoms in found)
    assert len({atoms.positions.tobytes() for atoms in found}) == len(found)


def test_copies_are_distorted_as_asked() -> None:
    crystal = Atoms("Si64", positions=np.random.default_rng(0).uniform(0, 12, (64, 3)), cell=[12, 13, 14], pbc=True)
    rattled = list(augmented([crystal], Augmentation(copies=40, rattle=0.05, strain=0.0)))[1:]
    moves = np.concatenate([copy.positions - crystal.positions for copy in rattled])
    assert moves.std() == pytest.approx(0.05, rel=0.05)
    assert abs(moves.mean()) < 0.003
    assert all((copy.cell.array == crystal.cell.array).all() for copy in rattled)

    strained = list(augmented([crystal], Augmentation(copies=300, rattle=0.0, strain=0.03)))[1:]
    strains = np.stack([np.linalg.solve(crystal.cell.array, copy.cell.array) - np.eye(3) for copy in strained])
    assert strains.std(axis=0) == pytest.approx(np.full((3, 3), 0.03), rel=0.2)
    assert abs(strains.mean(axis=0)).max() < 0.006
    for copy in strained:  # the atoms move with the cell
        np.testing.assert_allclose(
            copy.get_scaled_positions(wrap=False), crystal.get_scaled_positions(wrap=False), atol=1e-12
        )


@pytest.mark.parametrize("make", [molecule, slab])
def test_only_what_is_periodic_in_three_directions_is_strained(make: Any) -> None:
    _, *copies = augmented([make()], Augmentation(copies=5, rattle=0.0, strain=0.5))
    for copy in copies:
        np.testing.assert_array_equal(copy.cell.array, make().cell.array)
        np.testing.assert_array_equal(copy.positions, make().positions)


def test_distortions_are_those_of_the_seed(structures: list[Atoms]) -> None:
    def positions(seed: int) -> list[np.ndarray]:
        return [atoms.positions for atoms in augmented(structures, Augmentation(copies=2, seed=seed))]

    for a, b in zip(positions(3), positions(3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.allclose(positions(3)[1], positions(4)[1])


@pytest.mark.parametrize("field", ["copies", "rattle", "strain"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_impossible_distortions_are_refused(field: str, value: float) -> None:
    with pytest.raises(TargetError, match=f"`{field}` {value} is not possible"):
        Augmentation(**{field: value})


# Through a file.


def test_a_file_gives_the_labels_back(toy: ep.Potential, structures: list[Atoms], tmp_path: Path) -> None:
    found = list(label(toy, augmented([*structures, molecule(), slab()], Augmentation(copies=1))))
    path = tmp_path / "labelled.extxyz"
    ase.io.write(path, found, format="extxyz")
    for atoms, read in zip(found, ep.read_structures(path), strict=True):
        before, after = Labels.of(atoms), Labels.of(read)
        assert after.energy == pytest.approx(before.energy, abs=1e-8)
        np.testing.assert_allclose(after.forces, before.forces, rtol=0, atol=1e-8)
        assert (after.stress is None) == (before.stress is None)
        if before.stress is not None:
            np.testing.assert_allclose(after.stress, before.stress, rtol=0, atol=1e-8)
        np.testing.assert_allclose(read.positions, atoms.positions, rtol=0, atol=1e-8)
        assert read.info["teacher_sha256"] == toy.checkpoint.sha256


def test_labels_of_a_model_without_a_file_can_be_read_back(
    toy: ep.Potential, structures: list[Atoms], tmp_path: Path
) -> None:
    """A model that was pruned a moment ago has no sha256 yet."""
    child = ep.prune(toy, ep.PruningPlan.nothing())
    ase.io.write(tmp_path / "labelled.extxyz", list(label(child, structures)), format="extxyz")
    read = list(ep.read_structures(tmp_path / "labelled.extxyz"))
    assert [Labels.of(atoms).energy for atoms in read] == pytest.approx(
        [prediction.energy.item() for prediction in toy.predict(structures)]
    )


# What is refused.


def test_an_unknown_element_is_refused(toy: ep.Potential) -> None:
    with pytest.raises(StructureError, match="does not know"):
        list(label(toy, [Atoms("U")]))


def test_labels_that_are_not_numbers_are_refused(toy: ep.Potential, structures: list[Atoms]) -> None:
    broken = ep.Potential.create(toy.adapter, toy.checkpoint, torch.float64)
    with torch.no_grad():
        broken.module.readout_weight.fill_(torch.nan)
    with pytest.raises(StructureError, match=r"Structure 0 \(C4H4\): the teacher's labels are not finite"):
        list(label(broken, structures))


# Molecular dynamics of the teacher.


def test_each_structure_is_followed_by_frames_of_its_dynamics(structures: list[Atoms]) -> None:
    crystals = [bulk("Cu") * (2, 2, 2), bulk("Al") * (2, 2, 2)]
    found = list(simulated([mislabelled(atoms) for atoms in crystals], EMT(), Dynamics(3, 300.0, 5)))
    assert [atoms.get_chemical_formula() for atoms in found] == ["Cu8"] * 4 + ["Al8"] * 4
    assert all(atoms.info == {"config_type": "bulk"} and atoms.calc is None for atoms in found)
    np.testing.assert_array_equal(found[0].positions, crystals[0].positions)
    moved = [np.abs(a.positions - b.positions).max() for a, b in pairwise(found[:4])]
    assert all(0.01 < distance < 0.5 for distance in moved)


@pytest.mark.parametrize("skip", range(10))
def test_what_is_skipped_changes_nothing_of_the_rest(skip: int) -> None:
    crystals = [bulk("Cu") * (2, 1, 1), bulk("Al") * (2, 1, 1), bulk("Ni")]
    every = list(simulated(crystals, EMT(), Dynamics(2, 300.0, 2)))
    rest = list(simulated(crystals, EMT(), Dynamics(2, 300.0, 2), skip=skip))
    assert [atoms.positions.tolist() for atoms in rest] == [atoms.positions.tolist() for atoms in every[skip:]]


def test_dynamics_of_what_is_skipped_is_not_run() -> None:
    crystals = [bulk("Si"), bulk("Cu")]  # the first one fails
    assert len(list(simulated(crystals, _Failing(), Dynamics(2), skip=3))) == 3


@pytest.mark.slow
def test_dynamics_has_the_temperature_that_was_asked_for() -> None:
    """Equipartition: half of the kinetic energy that the atoms get goes into the potential of a crystal."""
    crystal = bulk("Cu") * (3, 3, 3)
    crystal.calc = EMT()
    rest = crystal.get_potential_energy()
    frames = list(simulated([crystal], EMT(), Dynamics(30, 300.0, 20, timestep=4.0)))[10:]
    excess = [EMT().get_potential_energy(atoms) - rest for atoms in frames]
    assert np.mean(excess) / (1.5 * units.kB * len(crystal)) == pytest.approx(300, rel=0.15)


def test_dynamics_is_that_of_the_seed() -> None:
    def last(seed: int) -> np.ndarray:
        return list(simulated([bulk("Cu") * (2, 2, 2)], EMT(), Dynamics(1, seed=seed)))[-1].positions

    np.testing.assert_array_equal(last(3), last(3))
    assert not np.allclose(last(3), last(4))


def test_without_frames_there_is_no_dynamics(structures: list[Atoms]) -> None:
    found = list(simulated(structures, _Failing(), Dynamics()))
    assert [len(atoms) for atoms in found] == [len(atoms) for atoms in structures]


def test_dynamics_that_flies_apart_is_refused() -> None:
    with pytest.raises(StructureError, match=r"Structure 0 \(Cu2\): molecular dynamics .*flies apart.*`timestep`"):
        list(simulated([Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 0.3]])], EMT(), Dynamics(5, timestep=20.0)))


def test_dynamics_with_a_calculator_that_fails_names_the_structure() -> None:
    with pytest.raises(StructureError, match=r"Structure 0 \(Si2\): molecular dynamics failed .*SCF not converged"):
        list(simulated([bulk("Si")], _Failing(), Dynamics(1)))


@pytest.mark.parametrize(
    ("field", "value"), [("frames", -1), ("temperature", 0), ("interval", 0), ("timestep", float("nan"))]
)
def test_impossible_dynamics_is_refused(field: str, value: float) -> None:
    with pytest.raises(TargetError, match=f"`{field}` {value} is not possible"):
        Dynamics(**{field: value})


# Teachers that are calculators of other packages.


class _Failing(Calculator):
    """Without stress, and without an answer when there is silicon."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (ASE's interface)

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = None) -> None:
        if "Si" in atoms.symbols:
            raise RuntimeError("SCF not converged")
        self.results = {"energy": 1.5 * len(atoms), "forces": np.ones((len(atoms), 3))}


class _Charged(Calculator):
    """The energy is 1 for the charge in ``info``, 10 and 100 for charges and magnetic moments of atoms."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms: Any = None, *args: Any, **kwargs: Any) -> None:
        super().calculate(atoms, *args, **kwargs)
        charges, moments = atoms.get_initial_charges().sum(), atoms.get_initial_magnetic_moments().sum()
        energy = atoms.info["charge"] + 10 * charges + 100 * moments
        self.results = {"energy": energy, "forces": np.zeros((len(atoms), 3))}


@pytest.mark.parametrize("through", ["no copies", "copies", "dynamics"])
def test_charges_and_spins_reach_the_teacher_and_the_file(through: str, tmp_path: Path) -> None:
    ions = []
    for charge in (-1, 1):
        ion = Atoms("OH", positions=[[0, 0, 0], [0, 0, 1]], info={"charge": charge})
        ion.set_initial_charges([charge, 0])
        ion.set_initial_magnetic_moments([0, 1])
        ions.append(ion)
    made: Any = {
        "no copies": lambda: ions,
        "copies": lambda: augmented(ions, Augmentation(copies=1)),
        "dynamics": lambda: simulated(ions, _Charged(), Dynamics(frames=1, interval=1)),
    }[through]()
    labelled = list(label(CalculatorTeacher(_Charged(), "test:Charged"), made))
    times = len(labelled) // 2
    assert [atoms.get_potential_energy() for atoms in labelled] == [89.0] * times + [111.0] * times
    ase.io.write(tmp_path / "labelled.extxyz", labelled)
    for atoms in ase.io.read(tmp_path / "labelled.extxyz", ":"):
        assert atoms.get_initial_charges().sum() == atoms.info["charge"]
        assert atoms.get_initial_magnetic_moments().tolist() == [0, 1]


def test_any_calculator_can_be_the_teacher() -> None:
    teacher = CalculatorTeacher.named("ase.calculators.emt:EMT", {"asap_cutoff": True})
    crystals = [bulk("Cu") * (2, 1, 1), Atoms("Al2", positions=[[0, 0, 0], [0, 0, 2.5]])]
    labelled = list(label(teacher, crystals))
    for atoms, found in zip(crystals, labelled, strict=True):
        atoms.calc = EMT(asap_cutoff=True)
        labels = Labels.of(found)
        assert labels.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
        np.testing.assert_allclose(labels.forces, atoms.get_forces(), atol=1e-12)
        assert found.info["teacher_sha256"] == teacher.fingerprint
    np.testing.assert_allclose(Labels.of(labelled[0]).stress, crystals[0].get_stress(voigt=False), atol=1e-12)
    assert Labels.of(labelled[1]).stress is None


def test_a_calculator_without_stress_labels_without_stress() -> None:
    [labelled] = label(CalculatorTeacher(_Failing(), "mine:Failing"), [bulk("Cu")])
    assert Labels.of(labelled).stress is None
    assert Labels.of(labelled).energy == 1.5


def test_a_calculator_that_fails_names_the_structure() -> None:
    with pytest.raises(StructureError, match=r"Structure 0 \(Si2\): mine:Failing failed .*SCF not converged"):
        list(label(CalculatorTeacher(_Failing(), "mine:Failing"), [bulk("Si")]))


def test_options_are_part_of_a_calculators_fingerprint() -> None:
    made = [CalculatorTeacher.named("ase.calculators.lj:LennardJones", {"epsilon": e}) for e in (0.5, 0.5, 0.6)]
    prints = [teacher.fingerprint for teacher in made]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("no.such.package:EMT", {}, "no 'EMT' in 'no.such.package'"),
        ("ase.calculators.emt:Nothing", {}, "no 'Nothing' in 'ase.calculators.emt'"),
        ("builtins:dict", {}, "no ASE calculator but a dict"),
        ("ase:Atoms", {"positions": "wrong"}, "could not be made"),
    ],
)
def test_what_is_no_calculator_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        CalculatorTeacher.named(name, options)
