"""Whole measurements: shared, interrupted, gone on with; the same structures for all; nothing ends the rest."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from pair_potentials import Broken, Wrong, fcc, springs

import equiprune as ep
from equiprune.errors import OutputError, StructureError, TargetError
from equiprune.evaluation.properties.bulk import RelaxedCrystal
from equiprune.evaluation.properties.comparison import DATA, Errors, Limit, Measured, said, table
from equiprune.evaluation.properties.dimers import Dimers
from equiprune.evaluation.properties.locality import Locality
from equiprune.evaluation.properties.measuring import Measuring, measured, model_of
from equiprune.evaluation.properties.outcomes import Outcome, Why, check_finite, outcome
from equiprune.evaluation.properties.quantity import Examination, Model, Property, Quantity
from equiprune.evaluation.properties.subjects import Subject, named, sampled
from equiprune.evaluation.relaxation import RelaxationRules
from equiprune.files.settings import kind
from equiprune.files.shared_work import ALONE, Share, Shared

RULES = RelaxationRules(0.005, optimiser="BFGS", largest_change=2.0)


@kind("mass_in_tests")
@dataclass(frozen=True)
class Mass(Property):
    """A property that needs no model: the mass of an atom, and its charge where it is a noble gas."""

    name: ClassVar[str] = "mass"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("mass", "mass", "Da", "mass_Da"),
        Quantity("charge", "charge", "e"),
    )
    needs_stress: ClassVar[bool] = False

    def measure(self, subject: Subject, model: Model, rest: Any) -> Any:
        more = model.calculator.energy
        return {"mass": float(subject.atoms.get_masses().sum()) + more, "charge": None if more else 1.0}


def crystals() -> dict[str, Atoms]:
    structures = [fcc(), fcc(1.01, "Ni"), fcc(0.99, "Au").repeat((2, 1, 1))]
    structures[0].info["mass_Da"] = 60.0
    return named(structures, [0, 1, 2])


def two() -> dict[str, Model]:
    return {"springs": Model(springs()), "stiff": Model(springs(epsilon=0.5), frozenset({29, 28}))}


def of(models: dict[str, Model], *examined: Property) -> list[Examination]:
    return [each.of(crystals()) for each in examined]


def run(folder: Path, models: dict[str, Model], *examined: Property, share: Share = ALONE) -> list[Measured]:
    return measured(models, of(models, *examined), Shared(folder, {"of": "tests"}, share), rules=RULES)


def pieces(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("piece-*.jsonl")}


@pytest.mark.slow
def test_every_model_has_values_of_the_same_structures(tmp_path: Path) -> None:
    [found] = run(tmp_path / "work", two(), RelaxedCrystal())
    assert found.complete == [0, 1]
    [lost] = found.left_out
    assert (lost.structure, lost.model, lost.outcome.why) == ("2 Au2", "stiff", Why.UNKNOWN_ELEMENT)
    assert lost.outcome.said == "it does not know Au"
    energy = found.examined.quantities[0]
    assert found.mean("springs", energy) == pytest.approx(-1800, abs=0.1)
    assert found.mean("stiff", energy) == pytest.approx(-3000, abs=0.1)
    assert found.errors("stiff", energy, "springs").mae == pytest.approx(1200, abs=0.1)
    assert found.errors("stiff", energy, DATA) is None


@pytest.mark.slow
def test_two_processes_give_the_same_bytes_as_one(tmp_path: Path) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    run(alone, two(), RelaxedCrystal(), Locality())
    work = Measuring(two(), of(two(), RelaxedCrystal(), Locality()), RULES)
    folder = Shared(shared, {"of": "tests"})
    left = [0, 1, 2]

    def part(number: int) -> Any:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return work.record(number)

    with pytest.raises(KeyboardInterrupt):
        work.of(folder).do(part, Share(1, 2))
    assert 0 < len(pieces(shared)) < len(work.items)
    run(shared, two(), RelaxedCrystal(), Locality(), share=Share(0, 2))
    assert pieces(shared) == pieces(alone)


@pytest.mark.slow
def test_what_is_finished_is_not_done_again(tmp_path: Path) -> None:
    first = run(tmp_path / "work", two(), RelaxedCrystal())
    broken = {name: Model(Wrong(), model.elements) for name, model in two().items()}
    again = run(tmp_path / "work", broken, RelaxedCrystal())
    assert [each.to_json() for each in again] == [each.to_json() for each in first]


@pytest.mark.slow
@pytest.mark.parametrize("examined", [[Locality()], [RelaxedCrystal(), Locality()]])
def test_other_work_is_refused(tmp_path: Path, examined: list[Property]) -> None:
    run(tmp_path / "work", two(), RelaxedCrystal())
    with pytest.raises(OutputError, match="another model, other data or other settings"):
        run(tmp_path / "work", two(), *examined)


def test_a_model_that_fails_leaves_the_others_their_values(tmp_path: Path) -> None:
    models = {"springs": Model(springs()), "broken": Model(Broken())}
    [found] = run(tmp_path / "work", models, RelaxedCrystal())
    assert found.complete == []
    assert {lost.model for lost in found.left_out} == {"broken"}
    assert found.outcomes["springs"][0].values["volume"] > 0
    assert found.mean("springs", found.examined.quantities[0]) is None
    assert "Over 0 of 3" in " ".join(said(found))
    assert table(found)[1][2] == "none"
    assert not Limit("relaxation", "volume", 1e9).held([found])


def test_a_structure_is_relaxed_once_for_all_its_properties(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []

    def counting(atoms: Atoms, *more: Any) -> Any:
        from equiprune.evaluation.properties.at_rest import relaxed

        counted.append(len(atoms))
        return relaxed(atoms, *more)

    @kind("relaxed_in_tests")
    @dataclass(frozen=True)
    class Again(RelaxedCrystal):
        name: ClassVar[str] = "again"

    monkeypatch.setattr("equiprune.evaluation.properties.measuring.relaxed", counting)
    run(tmp_path / "work", {"springs": Model(springs())}, RelaxedCrystal(), Again())
    assert counted == [2, 1, 1]


def test_errors_are_against_the_data_where_there_are_any(tmp_path: Path) -> None:
    models = {"a": Model(Wrong()), "b": Model(Wrong(energy=2.0))}
    [found] = run(tmp_path / "work", models, Mass())
    mass, charge = found.examined.quantities
    assert (found.judged_by(mass), found.judged_by(charge)) == (DATA, "a")
    assert found.errors("a", mass, DATA) == Errors(pytest.approx(3.546), pytest.approx(3.546), 1)
    assert found.errors("b", mass, "a") == Errors(pytest.approx(2.0), pytest.approx(2.0), 3)
    assert found.compared(charge) == []
    assert found.to_json()["models"]["b"]["charge"] == {"unit": "e", "mean": None, "structures": 0, "against": {}}
    sentences = " ".join(said(found))
    assert "charge over 0." in sentences
    assert "Data on mass of 1." in sentences
    assert Limit("mass", "mass", 5.6).held([found])
    assert not Limit("mass", "mass", 5.5).held([found])


def test_tables_have_units_means_and_errors(tmp_path: Path) -> None:
    models = {"a": Model(Wrong()), "b": Model(Wrong(energy=2.0))}
    rows = table(run(tmp_path / "work", models, Mass())[0])
    assert rows[0] == ["model", "", "mass, Da", "charge, e"]
    assert [row[:2] for row in rows[1:]] == [
        ["a", "mean"],
        ["", "MAE (RMSE), the data"],
        ["b", "mean"],
        ["", "MAE (RMSE), the data"],
        ["", "MAE (RMSE), a"],
    ]
    assert rows[-1][2:] == ["2 (2)", ""]


def test_many_that_are_left_out_are_counted() -> None:
    subjects = tuple(Subject(str(i), Atoms("Cu")) for i in range(13))
    lost = Outcome(why=Why.NOT_AT_REST, said="not at rest")
    found = Measured(Examination(Mass(), subjects), {"a": [lost] * 13})
    assert "9 (a: not at rest); and 3 more in the JSON." in said(found)[-1]
    assert len(found.to_json()["left_out"]) == 13


def test_outcomes_are_read_as_they_were_written() -> None:
    for one in (Outcome({"a": 1.0, "b": [1.0, 2.0], "c": None}), Outcome(why=Why.COLLAPSED, said="it collapses")):
        assert Outcome.from_record(one.to_record()) == one


def test_a_lack_of_memory_is_not_the_models_fault() -> None:
    def measure() -> Any:
        raise MemoryError

    with pytest.raises(MemoryError):
        outcome(measure)


def test_infinite_numbers_in_a_curve_are_found() -> None:
    with pytest.raises(ep.EquipruneError, match="the far force is not a finite number"):
        check_finite({"a": None, "far_force": [0.0, np.inf]})


def test_a_model_without_stress_relaxes_no_cells() -> None:
    class Flat(Wrong):
        implemented_properties = ("energy", "forces")

    with pytest.raises(TargetError, match="flat has no stress, which relaxation needs"):
        measured({"flat": Model(Flat())}, of({}, RelaxedCrystal()), Shared(Path("never"), {}))


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(TargetError, match="nothing to measure relaxation of"):
        measured({"springs": Model(springs())}, [RelaxedCrystal().of({})], Shared(Path("never"), {}))


def test_a_potential_says_what_it_knows(toy: ep.Potential) -> None:
    model = model_of(toy)
    assert model.elements == {1, 6, 8, 14}
    assert model.cutoff == toy.architecture.cutoff


@pytest.mark.slow
def test_potentials_are_measured(toy: ep.Potential, tmp_path: Path) -> None:
    pairs = Dimers(points=10).pairs({1: None, 6: None})
    [found] = ep.properties({"toy": toy, "copy": toy}, [pairs], Shared(tmp_path / "work", {}))
    assert found.complete == [0, 1]
    energy = found.examined.quantities[0]
    assert found.errors("copy", energy, "toy") == Errors(0, 0, 2)
    assert found.mean("toy", found.examined.quantities[2]) < 1e-3


def test_samples_are_drawn_by_seed_and_grow() -> None:
    assert sampled(100, 5, 1) != sampled(100, 5, 2)
    assert set(sampled(100, 5, 1)) < set(sampled(100, 6, 1))
    with pytest.raises(TargetError, match="A `sample` of 6 cannot be drawn from 5 structures"):
        sampled(5, 6)


def test_structures_that_are_none_are_refused() -> None:
    with pytest.raises(StructureError, match="Structure 1 has no atoms"):
        named([Atoms("H"), Atoms()], [1])
    with pytest.raises(StructureError, match="not finite numbers"):
        named([Atoms("H", positions=[[np.nan, 0, 0]])], [0])


@pytest.mark.parametrize("given", ["stiff", [1.0, 2.0], float("nan"), None])
def test_known_values_must_be_numbers(given: Any) -> None:
    with pytest.raises(StructureError, match=r"Structure x has mass_Da .*, which is no finite number"):
        Mass().of({"x": Atoms("Cu", info={"mass_Da": given})})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mass.mas=3", "Did you mean 'mass.mass'"),
        ("mass.mass", "needs a number that is 0 or more: mass.mass=10"),
        ("mass.mass=few", "needs a number"),
        ("mass.mass=-1", "needs a number"),
        ("mass.mass=nan", "needs a number"),
    ],
)
def test_limits_that_are_none_are_refused(text: str, says: str) -> None:
    with pytest.raises(TargetError, match=says):
        Limit.parse(text, [Mass()])


def test_limits_are_read() -> None:
    assert Limit.parse("mass.mass=3", [Mass]) == Limit("mass", "mass", 3.0)
