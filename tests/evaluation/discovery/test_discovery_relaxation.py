"""Relaxations of discovery: how each can end, what is kept, and going on after an interruption."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT

import equiprune as ep
from equiprune.errors import OutputError, StructureError, TargetError
from equiprune.evaluation.discovery import (
    LEADERBOARD,
    Material,
    Outcome,
    RelaxationFolder,
    RelaxationWork,
    Relaxed,
    finished,
    known_to,
    relax,
)
from equiprune.files.shared_work import ALONE, Role, Share, UnfinishedError

RULES = LEADERBOARD
COPPER = bulk("Cu", a=3.5)


class Pulling(Calculator):
    """A pressure (eV/Angstrom^3, positive outwards) whatever the volume, and forces as they are given."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, pressure: float, force: float = 0.0) -> None:
        super().__init__()
        self.pressure, self.force = pressure, force

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = {
            "energy": -self.pressure * self.atoms.cell.volume,
            "forces": np.full((len(self.atoms), 3), self.force),
            "stress": np.array([-self.pressure] * 3 + [0.0] * 3),
        }


class Failing(Pulling):
    def __init__(self, error: Exception) -> None:
        super().__init__(0.0)
        self.error = error

    def calculate(self, *arguments: Any, **named: Any) -> None:
        raise self.error


def test_copper_relaxes_to_the_lattice_of_its_potential() -> None:
    """EMT's own lattice constant of copper is 3.59 Angstrom."""
    found = relax(COPPER, EMT(), RULES)
    assert found.outcome is Outcome.CONVERGED
    assert abs(np.linalg.det(found.cell)) == pytest.approx(3.59**3 / 4, rel=5e-3)
    again = found.of(COPPER)
    again.calc = EMT()
    assert again.get_potential_energy() == pytest.approx(found.energy)
    assert again.get_potential_energy() < Atoms(COPPER, calculator=EMT()).get_potential_energy()
    assert COPPER.cell.array == pytest.approx(bulk("Cu", a=3.5).cell.array)


def test_steps_that_are_used_up_leave_an_energy() -> None:
    found = relax(COPPER, EMT(), replace(RULES, steps=1))
    assert (found.outcome, found.steps) == (Outcome.UNCONVERGED, 1)
    assert found.energy is not None


@pytest.mark.slow
def test_what_is_at_rest_takes_no_step() -> None:
    rest = relax(COPPER, EMT(), replace(RULES, fmax=0.03))
    assert relax(rest.of(COPPER), EMT(), RULES).steps == 0


@pytest.mark.parametrize(
    ("calculator", "outcome"),
    [
        (Pulling(-1.0), Outcome.COLLAPSED),
        (Pulling(1.0), Outcome.FLOWN_APART),
        (Pulling(0.0, np.nan), Outcome.NOT_FINITE),
        (Pulling(np.inf), Outcome.NOT_FINITE),
        (Failing(ValueError("broken")), Outcome.FAILED),
    ],
)
def test_relaxations_that_end_badly_say_why_and_have_no_energy(calculator: Calculator, outcome: Outcome) -> None:
    found = relax(COPPER, calculator, RULES)
    assert (found.outcome, found.energy, found.positions) == (outcome, None, None)
    assert found.steps < RULES.steps
    assert (found.said == "ValueError: broken") == (outcome is Outcome.FAILED)


def test_atoms_at_rest_that_are_too_close_have_collapsed() -> None:
    close = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 1.0]], cell=[5, 5, 5], pbc=True)
    assert relax(close, Pulling(0.0), RULES).outcome is Outcome.COLLAPSED
    assert relax(close, Pulling(0.0), replace(RULES, closest=0.3)).outcome is Outcome.CONVERGED


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("The following operation failed in TorchScript: CUDA out of memory."),
        KeyboardInterrupt(),
    ],
)
def test_a_full_memory_and_an_interruption_are_no_outcome(error: Exception) -> None:
    with pytest.raises(type(error)):
        relax(COPPER, Failing(error), RULES)


@pytest.mark.parametrize(
    "found", [relax(COPPER, EMT(), replace(RULES, steps=1)), Relaxed(Outcome.FAILED, 3, said="ValueError: no")]
)
def test_a_record_is_read_as_it_was(found: Relaxed) -> None:
    again = Relaxed.from_record(json.loads(json.dumps(found.to_record())))
    assert (again.outcome, again.steps, again.energy, again.said) == (
        found.outcome,
        found.steps,
        found.energy,
        found.said,
    )
    np.testing.assert_array_equal(again.cell, found.cell)
    np.testing.assert_array_equal(again.positions, found.positions)


# Many, of one model.


@pytest.fixture
def starts() -> dict[str, Atoms]:
    """Crystals of the toy's elements."""
    found = {name: bulk("Si", "diamond", a=a) for name, a in (("a", 5.3), ("b", 5.5), ("c", 5.7))}
    return found | {"d": bulk("SiC", "zincblende", a=4.4)}


def materials_of(starts: dict[str, Atoms]) -> list[Material]:
    return [Material(n, frozenset(a.numbers.tolist()), len(a), 0.0, 0.0) for n, a in starts.items()]


def work(
    toy: ep.Potential, starts: dict[str, Atoms], folder: Path, share: Share = ALONE, **rules: Any
) -> RelaxationWork:
    rules = {"steps": 2} | rules
    return RelaxationWork(
        toy, materials_of(starts), starts, replace(RULES, **rules), RelaxationFolder(folder / "w", "0" * 64, share)
    )


@pytest.mark.slow
def test_all_are_relaxed_and_kept(toy: ep.Potential, starts: dict[str, Atoms], tmp_path: Path) -> None:
    steps: list[int] = []
    once = work(toy, starts, tmp_path)
    once.do(steps.append)
    assert sum(steps) == 4
    found = once.finish()
    assert list(found) == ["a", "b", "c", "d"]
    alone = relax(starts["d"], toy.calculator(), replace(RULES, steps=2))
    assert found["d"].to_record() == alone.to_record()


@pytest.mark.slow
def test_an_interruption_costs_one_relaxation(
    toy: ep.Potential, starts: dict[str, Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {name: found.to_record() for name, found in work(toy, starts, tmp_path / "whole").finish().items()}
    asked: list[str] = []

    class Interrupted(dict[str, Atoms]):
        def __getitem__(self, name: str) -> Atoms:
            asked.append(name)
            if len(asked) == 3:
                raise KeyboardInterrupt
            return super().__getitem__(name)

    with pytest.raises(KeyboardInterrupt):
        work(toy, Interrupted(starts), tmp_path / "cut").finish()
    found = work(toy, Interrupted(starts), tmp_path / "cut").finish()
    assert {name: each.to_record() for name, each in found.items()} == whole
    assert len(asked) == 3 + 2


@pytest.mark.slow
def test_relaxations_of_something_else_are_refused(toy: ep.Potential, starts: dict[str, Atoms], tmp_path: Path) -> None:
    work(toy, starts, tmp_path).finish()
    for other in (
        work(toy, starts, tmp_path, steps=4),
        work(toy.with_dtype(torch.float32), starts, tmp_path),
        work(toy, {"a": starts["a"]}, tmp_path),
    ):
        with pytest.raises(OutputError, match="another model, other data or other settings"):
            other.do()


@pytest.mark.slow
def test_one_of_several_processes_does_not_wait(toy: ep.Potential, starts: dict[str, Atoms], tmp_path: Path) -> None:
    first = work(toy, starts, tmp_path, Share(0, 2))

    class Meanwhile(dict[str, Atoms]):
        def __getitem__(self, name: str) -> Atoms:
            if name == "a":
                for role in (Role.HELPS, Role.MAY_BE_LAST):
                    other = work(toy, starts, tmp_path, Share(1, 2, role))
                    other.do()
                    with pytest.raises(UnfinishedError, match="Other processes finish the"):
                        finished({"toy": other})
            return super().__getitem__(name)

    replace(first, starts=Meanwhile(starts)).do()
    last = work(toy, starts, tmp_path, Share(1, 2, Role.MAY_BE_LAST))
    assert last.complete
    assert finished({"toy": last})["toy"].keys() == first.finish().keys() == starts.keys()


def test_a_structure_that_is_missing_or_no_crystal_is_said(
    toy: ep.Potential, starts: dict[str, Atoms], tmp_path: Path
) -> None:
    nothing = replace(materials_of(starts)[0], name="e")
    with pytest.raises(StructureError, match="no starting structure of 1 of 1 materials, such as e"):
        RelaxationWork(toy, [nothing], starts, RULES, RelaxationFolder(tmp_path, ""))
    starts["b"].pbc = (True, True, False)
    with pytest.raises(StructureError, match="b is not periodic in three directions"):
        work(toy, starts, tmp_path).do()


def test_a_model_without_stress_is_refused(toy: ep.Potential, starts: dict[str, Atoms], tmp_path: Path) -> None:
    class Direct(type(toy)):  # type: ignore[misc]
        @property
        def quantities(self) -> tuple[str, ...]:
            return ("energy", "forces")

    direct = Direct(**{name: getattr(toy, name) for name in toy.__dataclass_fields__})
    with pytest.raises(TargetError, match="toy models have no stress, and so relax no cells"):
        work(direct, starts, tmp_path)


def test_materials_of_unknown_elements_are_told_apart(toy: ep.Potential, starts: dict[str, Atoms]) -> None:
    known = materials_of(starts)
    unknown = replace(known[0], name="e", elements=frozenset({14, 79}))
    assert known_to(toy, [*known, unknown]) == known
    with pytest.raises(TargetError, match="knows the elements of none of the materials"):
        known_to(toy, [unknown])
