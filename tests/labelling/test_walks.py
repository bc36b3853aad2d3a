"""Walks of a student and of a teacher: what they visit, where they end, and that interruptions change nothing."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

import equiprune as ep
from equiprune.errors import StructureError, TargetError
from equiprune.labelling import job
from equiprune.labelling.augmentation import Augmentation
from equiprune.labelling.dynamics import Dynamics, simulated
from equiprune.labelling.job import LabellingJob, LabellingModels, remaining
from equiprune.labelling.relaxation import Relaxation
from equiprune.labelling.screening import Screening
from equiprune.labelling.tally import Tally
from equiprune.labelling.teachers import PotentialTeacher
from equiprune.labelling.walks import BEGINNING, Driver, EarlyEnd, Place, Visit, Why, visited
from equiprune.potentials.hessian import Rows
from equiprune.progress import silent
from equiprune.structures.closeness import too_close

pytestmark = pytest.mark.slow  # whole runs

HOT = Dynamics(3, 300.0, 2)


class Whimsical(Calculator):
    """A student that knows a spring between two atoms, and what to do wrong with each of four elements."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms: Any = None, *args: Any, **kwargs: Any) -> None:
        super().calculate(atoms, *args, **kwargs)
        symbols, towards = set(atoms.get_chemical_symbols()), atoms.positions.mean(0) - atoms.positions
        if "C" in symbols:
            raise RuntimeError("SCF not converged")
        strength = {"Si": np.nan, "O": -80.0, "F": 300.0}
        spring = np.linalg.norm(towards[0]) - 1.25
        [factor] = [value for symbol, value in strength.items() if symbol in symbols] or [0.1 * spring]
        self.results = {"energy": 0.0, "forces": factor * towards}


def pair(first: str, second: str, distance: float = 2.5) -> Atoms:
    return Atoms([first, second], positions=[[4, 4, 4], [4, 4, 4 + distance]], cell=[9, 9, 9], pbc=True)


def alone(*symbols: str) -> Atoms:
    return Atoms(symbols, positions=[[0, 0, 0], [0, 0, 2.8]])


def positions(visits: Any) -> list[bytes]:
    return [visit.atoms.positions.tobytes() + visit.atoms.cell.array.tobytes() for visit in visits]


# What is visited.


def test_a_student_that_is_the_teacher_reaches_the_frames_of_the_teacher(toy: ep.Potential) -> None:
    structures = [molecule("H2O"), molecule("CO", cell=[6, 6, 6], pbc=True)]
    by_teacher = simulated(structures, toy.calculator(), HOT)
    by_student = visited(structures, Driver(toy.calculator(), student=True), [HOT])
    assert [atoms.positions.tobytes() for atoms in by_teacher] == [v.atoms.positions.tobytes() for v in by_student]


@pytest.mark.parametrize("student", [True, False])
def test_each_structure_is_followed_by_the_frames_of_every_walk(student: bool) -> None:
    crystals, relaxation = [bulk("Cu") * (2, 1, 1), bulk("Al").repeat((1, 2, 1))], Relaxation(2, 6)
    found = list(visited(crystals, Driver(EMT(), student=student), [HOT, relaxation]))
    one = [(None, 0), (HOT, 1), (HOT, 2), (HOT, 3), (relaxation, 1), (relaxation, 2)]
    assert [(visit.walk, visit.frame) for visit in found] == one * 2
    assert [visit.start for visit in found] == [0] * 6 + [1] * 6
    assert [visit.after for visit in found][4:8] == [Place(0, 5), Place(1), Place(1, 1), Place(1, 2)]
    assert len(set(positions(found))) == 12
    assert all(visit.atoms.calc is None for visit in found)


def test_a_relaxation_goes_downhill_with_the_cell() -> None:
    loose = bulk("Cu", cubic=True)
    loose.rattle(0.1, seed=1)
    loose.set_cell(1.05 * loose.cell.array, scale_atoms=True)
    frames = [visit.atoms for visit in visited([loose], Driver(EMT()), [Relaxation(3, 18)])]
    energies = [EMT().get_potential_energy(atoms) for atoms in frames]
    assert len(frames) == 4
    assert energies == sorted(energies, reverse=True)
    assert frames[-1].get_volume() < 0.99 * loose.get_volume()
    # the frames are those after 6, 12 and 18 steps, whatever came between
    last = [visit.atoms for visit in visited([loose], Driver(EMT()), [Relaxation(1, 18)])][-1]
    np.testing.assert_array_equal(last.positions, frames[-1].positions)


def test_what_is_not_periodic_or_has_no_stress_keeps_its_cell() -> None:
    slab = bulk("Cu", cubic=True)
    slab.rattle(0.1, seed=1)
    slab.pbc = (True, True, False)
    springs = pair("H", "N", 2.9)
    for atoms, calculator in ((slab, EMT()), (springs, Whimsical())):
        _, frame = visited([atoms], Driver(calculator), [Relaxation(1, 5)])
        np.testing.assert_array_equal(frame.atoms.cell.array, atoms.cell.array)
        assert np.abs(frame.atoms.positions - atoms.positions).max() > 1e-3


def test_a_structure_at_rest_has_no_frames_of_a_relaxation_and_none_is_missed() -> None:
    rested = list(visited([Atoms("Cu", positions=[[0, 0, 0]])], Driver(EMT(), student=True), [Relaxation(3, 30)]))
    assert [visit.walk for visit in rested] == [None]
    nearly = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.3]])
    frames = [visit.atoms for visit in visited([nearly], Driver(EMT(), student=True), [Relaxation(20, 400)])][1:]
    assert 0 < len(frames) < 20
    assert np.abs(EMT().get_forces(frames[-1])).max() < 0.02


# Where walks end.


@pytest.mark.parametrize(
    ("symbols", "why"),
    [("CH", Why.FAILED), ("SiH", Why.NOT_FINITE), ("OH", Why.FLOWN_APART), ("FH", Why.TOO_CLOSE)],
)
@pytest.mark.parametrize("walk", [Dynamics(40, 300.0, 5), Relaxation(40, 400)], ids=["dynamics", "relaxation"])
def test_a_student_that_is_wrong_ends_its_walk_and_says_why(symbols: str, why: Why, walk: Any) -> None:
    found = list(visited([alone(*Atoms(symbols).symbols), alone("H", "N")], Driver(Whimsical(), student=True), [walk]))
    last = next(i for i, item in enumerate(found) if isinstance(item, EarlyEnd))
    assert found[last].why is why
    assert all(isinstance(visit, Visit) and visit.start == 0 for visit in found[:last])
    assert [visit.start for visit in found[last + 1 :]] == [1] * (len(found) - last - 1)
    assert len(found) - last - 1 > 1  # the next structure has its walk


@pytest.mark.parametrize("symbols", ["CH", "SiH", "OH"])
def test_a_teacher_that_is_wrong_is_an_error_that_names_the_structure(symbols: str) -> None:
    structures = [alone("H", "N"), alone(*Atoms(symbols).symbols)]
    with pytest.raises(StructureError, match=r"^Structure 1 \(.*\): (molecular dynamics|The structure)"):
        list(visited(structures, Driver(Whimsical()), [Dynamics(40, 300.0, 5)]))
    with pytest.raises(StructureError, match=r"^Structure 1 \(.*\): (relaxation|The structure)"):
        list(visited(structures, Driver(Whimsical()), [Relaxation(40, 400)]))


def test_the_second_walk_is_made_where_the_first_one_ended() -> None:
    found = list(visited([pair("C", "H")], Driver(Whimsical(), student=True), [HOT, Relaxation(1, 2)]))
    assert [type(item) for item in found] == [Visit, EarlyEnd, EarlyEnd]
    assert [item.after for item in found] == [Place(0, 1), Place(0, 2), Place(0, 3)]


@pytest.mark.parametrize(
    ("atoms", "close"),
    [
        (molecule("H2O"), False),
        (molecule("C2H2"), False),
        (Atoms("CO", positions=[[0, 0, 0], [0, 0, 0.7]]), True),
        (Atoms("CO", positions=[[0, 0, 0], [0, 0, 0.72]]), False),
        (Atoms("CO", positions=[[0, 0, 0.1], [0, 0, 7.9]], cell=[8, 8, 8], pbc=True), True),  # through the boundary
        (Atoms("CO", positions=[[0, 0, 0.1], [0, 0, 7.9]], cell=[8, 8, 8], pbc=False), False),
        (Atoms("C", cell=[0.7, 8, 8], pbc=True), True),  # its own image
        (Atoms("C", cell=[0.1, 0.1, 0.1], pbc=True), True),
        (bulk("Cu"), False),
        (Atoms(), False),
    ],
)
def test_atoms_closer_than_half_their_radii_are_too_close(atoms: Atoms, close: bool) -> None:
    assert too_close(atoms, 0.5) is close


@pytest.mark.parametrize(
    ("frames", "steps", "says"), [(-1, 9, "`relaxation_frames` -1"), (9, 8, "`relaxation_steps` 8")]
)
def test_impossible_relaxations_are_refused(frames: int, steps: int, says: str) -> None:
    with pytest.raises(TargetError, match=f"{says} is not possible"):
        Relaxation(frames, steps)


# Interruptions.


def models(toy: ep.Potential) -> LabellingModels:
    """A student that explodes in every way; the second teacher differs from the first where there is hydrogen."""
    student: Any = SimpleNamespace(calculator=Whimsical, elements=toy.elements | {7, 9}, checkpoint=toy.checkpoint)
    other = ep.prune(toy, ep.allocate(toy, [ep.Channels(4)], ep.data_free_scores(toy, ep.Magnitude())))
    return LabellingModels(PotentialTeacher(toy), student, PotentialTeacher(other))


SOURCE = [pair("H", "H", 1.5), pair("O", "H"), pair("Si", "H"), pair("C", "H"), pair("H", "H", 1.2), pair("O", "O")]
JOB = LabellingJob(
    Augmentation(),
    Dynamics(3, 100.0, 4),
    None,
    relaxation=Relaxation(1, 8),
    screening=Screening(largest_disagreement=1.0),
)


def flat(batches: Any) -> list[tuple[Any, ...]]:
    """All that is written of structures: also the Hessian's products, which are arrays."""
    return [
        (*(array.tobytes() for array in atoms.arrays.values()), atoms.calc.results["forces"].tobytes(), atoms.info)
        for batch, _ in batches
        for atoms in batch
    ]


@pytest.mark.parametrize("asked", [JOB, replace(JOB, probes=Rows(1))], ids=["labels", "products"])
def test_what_was_interrupted_after_any_batch_goes_on_to_the_same_bits(
    asked: LabellingJob, toy: ep.Potential, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "BATCH_ATOMS", 5)
    made = models(toy)
    median = np.median([_difference(made, atoms) for atoms in SOURCE])
    asked = replace(asked, screening=Screening(largest_disagreement=float(median)))
    whole = list(remaining(made, SOURCE, asked, Tally(), silent))
    last = whole[-1][1]
    assert last.walks_ended["flown_apart"] > 0 < last.walks_ended["failed"]
    assert last.walks_ended["not_finite"] > 0 < last.left_out["largest_disagreement"]
    assert last.starts == 6
    assert {len(batch) for batch, _ in whole} >= {0, 1, 2}
    assert last.frames > 0
    done = 0
    for number, (batch, tally) in enumerate(whole):
        done += len(batch)
        begun = Tally.from_json(tally.to_json())
        assert begun == tally
        if number % 3 == 0:  # each takes as long as the rest
            rest = list(remaining(made, SOURCE, asked, begun, silent))
            assert flat(rest) == flat(whole[number + 1 :])
            assert [tally for _, tally in rest] == [tally for _, tally in whole[number + 1 :]]
    assert done == last.visits - sum(last.left_out.values())


def test_products_are_drawn_by_the_place_among_all_structures(
    toy: ep.Potential, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "BATCH_ATOMS", 5)
    asked = LabellingJob(Augmentation(), Dynamics(), Rows(1))
    made = LabellingModels(PotentialTeacher(toy))
    found = [atoms for batch, _ in remaining(made, SOURCE, asked, Tally(), silent) for atoms in batch]
    expected = ep.with_products(toy, ep.label(toy, SOURCE), Rows(1))
    for atoms, same in zip(found, expected, strict=True):
        np.testing.assert_array_equal(atoms.arrays["hessian_vectors"], same.arrays["hessian_vectors"])


def _difference(made: LabellingModels, atoms: Atoms) -> float:
    first, second = (one.potential.predict([atoms])[0].forces.numpy() for one in (made.teacher, made.second))
    return float(np.linalg.norm(first - second, axis=1).max())


@pytest.mark.parametrize("begin", [Place(i, j) for i in range(3) for j in range(5)])
def test_what_comes_before_changes_nothing_of_the_rest(begin: Place) -> None:
    structures = [bulk("Cu") * (2, 1, 1), bulk("Al") * (2, 1, 1), bulk("Ni")]
    walks = [Dynamics(2, 300.0, 2), Relaxation(2, 4)]
    every = list(visited(structures, Driver(EMT()), walks))
    rest = list(visited(structures, Driver(EMT()), walks, begin=begin))
    before = sum((visit.start, i) < (begin.starts, begin.visits) for visit, i in _numbered(every))
    assert positions(rest) == positions(every[before:])
    assert [visit.after for visit in rest] == [visit.after for visit in every[before:]]


def _numbered(visits: list[Any]) -> list[tuple[Any, int]]:
    counts: dict[int, int] = {}
    numbered = []
    for visit in visits:
        numbered.append((visit, counts.setdefault(visit.start, 0)))
        counts[visit.start] += 1
    return numbered


def test_tallies_that_this_version_does_not_know_are_refused() -> None:
    whole = Tally().to_json()
    for broken in ({}, whole | {"left_out": {}}, whole | {"walks_ended": {"bored": 1}}, whole | {"place": [1]}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            Tally.from_json(broken)
    assert Tally.from_json(whole) == Tally(BEGINNING)
    assert Tally.of(7, 3) == Tally(Place(2, 1), 7)
