"""Screening of labels: by force and by disagreement, and that the others stay as they are."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator

import equiprune as ep
from equiprune.errors import StructureError, TargetError
from equiprune.labelling.augmentation import Augmentation
from equiprune.labelling.dynamics import Dynamics
from equiprune.labelling.job import LabellingJob, LabellingModels, remaining
from equiprune.labelling.screening import NO_SCREENING, Objection, Screening
from equiprune.labelling.tally import Tally, ended_said, left_out_said
from equiprune.labelling.teachers import CalculatorTeacher
from equiprune.progress import silent

FORCES = np.array([[0, 0, 0], [3.0, 0, 4.0]])


class Pushing(Calculator):
    """The force on the second atom is its distance from the first, times a factor."""

    implemented_properties = ("energy", "forces")

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def calculate(self, atoms: Atoms | None = None, *args: object, **kwargs: object) -> None:
        super().calculate(atoms, *args, **kwargs)
        distance = atoms.positions[1, 2]
        energy = np.inf if distance > 8 else 0.0
        self.results = {"energy": energy, "forces": np.array([[0, 0, 0], [0, 0, self.factor * distance]])}


def dimers(*distances: float) -> list[Atoms]:
    return [Atoms("H2", positions=[[0, 0, 0], [0, 0, distance]]) for distance in distances]


def screened(structures: list[Atoms], screening: Screening, second: float | None = None) -> tuple[list[float], Tally]:
    """Distances of the dimers that are left."""
    teachers = [CalculatorTeacher(Pushing(f), "test:Pushing") for f in (1.0, second) if f is not None]
    models = LabellingModels(teachers[0], second=teachers[1] if teachers[1:] else None)
    job = LabellingJob(Augmentation(), Dynamics(), None, screening=screening)
    batches = list(remaining(models, structures, job, Tally(), silent))
    return [float(atoms.positions[1, 2]) for batch, _ in batches for atoms in batch], batches[-1][1]


def test_the_length_of_the_largest_force_counts() -> None:
    labels = {"forces": FORCES}
    assert Screening(largest_force=4.99).objection(labels) is Objection.FORCE
    assert Screening(largest_force=5.0).objection(labels) is None
    assert NO_SCREENING.objection({"forces": 1e9 * FORCES}) is None
    assert (NO_SCREENING.asked, Screening(5.0).asked, Screening(None, 5.0).asked) == (False, True, True)


@pytest.mark.parametrize(
    ("second", "objection"), [(0.0, Objection.DISAGREEMENT), (0.9, None), (np.nan, Objection.DISAGREEMENT)]
)
def test_the_largest_difference_on_an_atom_counts(second: float, objection: Objection | None) -> None:
    screening = Screening(largest_disagreement=0.6)
    assert screening.disagreement({"forces": FORCES}, {"forces": second * FORCES}) is objection


def test_structures_with_large_forces_are_left_out_and_counted() -> None:
    left, tally = screened(dimers(1, 5, 2, 9, 4), Screening(largest_force=4.0))
    assert left == [1, 2, 4]
    assert tally.left_out == {"not_finite": 1, "largest_force": 1, "largest_disagreement": 0}
    assert tally.visits == 5
    assert left_out_said(tally, Screening(largest_force=4.0)) == [
        "Structures left out: 1 with labels that are no numbers, 1 with a force above 4 eV/Angstrom."
    ]


def test_structures_on_which_teachers_disagree_are_left_out_and_counted() -> None:
    screening = Screening(largest_force=6.0, largest_disagreement=1.5)
    left, tally = screened(dimers(1, 7, 2, 4), screening, second=1.5)
    assert left == [1, 2]
    assert tally.left_out == {"not_finite": 0, "largest_force": 1, "largest_disagreement": 1}
    assert left_out_said(tally, screening)[0].endswith("teachers disagree by more than 1.5 eV/Angstrom.")
    assert ended_said(tally) == []


def test_nothing_is_left_out_unless_it_is_asked_for() -> None:
    left, tally = screened(dimers(1, 5), NO_SCREENING)
    assert (left, sum(tally.left_out.values())) == ([1, 5], 0)
    with pytest.raises(StructureError, match=r"Structure 1 \(H2\): the teacher's labels are not finite"):
        screened(dimers(1, 9), NO_SCREENING)


def test_elements_that_another_model_does_not_know_are_an_error_that_says_which_model(toy: ep.Potential) -> None:
    teacher, job = CalculatorTeacher(Pushing(), "test:Pushing"), LabellingJob(Augmentation(), Dynamics(1), None)
    structures = [*dimers(1), Atoms("HU", positions=[[0, 0, 0], [0, 0, 2]])]
    with pytest.raises(StructureError, match=r"Structure 1 \(HU\) has U, which the student does not know\. It knows H"):
        list(remaining(LabellingModels(teacher, student=toy), structures, job, Tally(), silent))


@pytest.mark.parametrize("name", ["largest_force", "largest_disagreement"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_limits_are_refused(name: str, value: float) -> None:
    with pytest.raises(TargetError, match=f"`{name}` {value} is not possible: give a positive number of eV/Angstrom"):
        Screening(**{name: value})
