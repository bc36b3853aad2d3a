"""Screening of labels: by force and by disagreement, and that the others stay as they are."""

import logging

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


class Failing(Pushing):
    """It fails where the atoms are 3 Angstrom apart."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def calculate(self, atoms: Atoms | None = None, *args: object, **kwargs: object) -> None:
        super().calculate(atoms, *args, **kwargs)
        if atoms.positions[1, 2] == 3:
            raise self.error


def dimers(*distances: float) -> list[Atoms]:
    return [Atoms("H2", positions=[[0, 0, 0], [0, 0, distance]]) for distance in distances]


Given = float | Calculator
"""A calculator, or the factor of a pushing one."""


def screened(
    structures: list[Atoms], screening: Screening, second: Given | None = None, first: Given = 1.0
) -> tuple[list[float], Tally]:
    """Distances of the dimers that are left."""

    def teacher(given: Given) -> CalculatorTeacher:
        return CalculatorTeacher(given if isinstance(given, Calculator) else Pushing(given), "test:Pushing")

    models = LabellingModels(teacher(first), second=None if second is None else teacher(second))
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
    assert tally.left_out == {"failed": 0, "not_finite": 1, "largest_force": 1, "largest_disagreement": 0}
    assert tally.visits == 5
    assert left_out_said(tally, Screening(largest_force=4.0)) == [
        "Structures left out: 1 with labels that are no numbers, 1 with a force above 4 eV/Angstrom."
    ]


def test_structures_on_which_teachers_disagree_are_left_out_and_counted() -> None:
    screening = Screening(largest_force=6.0, largest_disagreement=1.5)
    left, tally = screened(dimers(1, 7, 2, 4), screening, second=1.5)
    assert left == [1, 2]
    assert tally.left_out == {"failed": 0, "not_finite": 0, "largest_force": 1, "largest_disagreement": 1}
    assert left_out_said(tally, screening)[0].endswith("teachers disagree by more than 1.5 eV/Angstrom.")
    assert ended_said(tally) == []


def test_nothing_is_left_out_unless_it_is_asked_for() -> None:
    left, tally = screened(dimers(1, 5), NO_SCREENING)
    assert (left, sum(tally.left_out.values())) == ([1, 5], 0)
    with pytest.raises(StructureError, match=r"Structure 1 \(H2\): the teacher's labels are not finite"):
        screened(dimers(1, 9), NO_SCREENING)


def test_structures_on_which_a_calculator_fails_are_left_out_counted_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    screening, failing = Screening(largest_force=100.0), Failing(ValueError("no convergence"))
    with caplog.at_level(logging.INFO, "equiprune"):
        left, tally = screened(dimers(1, 3, 2), screening, first=failing)
    assert (left, tally.visits, tally.left_out["failed"]) == ([1, 2], 3, 1)
    assert left_out_said(tally, screening) == ["Structures left out: 1 on which the calculator failed."]
    assert caplog.messages == ["Structure 1 (H2): test:Pushing failed (ValueError: no convergence). It is left out."]


def test_a_calculator_that_fails_is_an_error_unless_structures_may_be_left_out() -> None:
    failing, says = (
        Failing(ValueError("no convergence")),
        r"Structure 1 \(H2\): .*no convergence.* give `largest_force`",
    )
    with pytest.raises(StructureError, match=says):
        screened(dimers(1, 3, 2), NO_SCREENING, first=failing)


def test_a_second_teacher_that_fails_disagrees() -> None:
    failing = Failing(ValueError("no convergence"))
    left, tally = screened(dimers(1, 3, 2), Screening(largest_disagreement=1.5), second=failing)
    assert (left, tally.left_out["largest_disagreement"], tally.left_out["failed"]) == ([1, 2], 1, 0)


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt("Ctrl-C"),
        MemoryError("none is left"),
        RuntimeError("CUDA out of memory"),
        StructureError("unknown element"),
    ],
)
def test_what_is_no_failure_of_a_calculator_is_never_left_out(error: BaseException) -> None:
    with pytest.raises(type(error), match=str(error)):
        screened(dimers(1, 3, 2), Screening(largest_force=100.0), first=Failing(error))


def test_tallies_without_failures_are_read() -> None:
    earlier = Tally().to_json()
    del earlier["left_out"]["failed"]
    assert Tally.from_json(earlier) == Tally()


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
