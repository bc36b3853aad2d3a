"""What is refused before training, which labels there are, and what tells data apart."""

import math
import tracemalloc
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from runs import HESSIAN, everything, labelled, probed, student, vacuum

import equiprune as ep
from equiprune.errors import StructureError
from equiprune.structures.overlap import Overlap, geometry
from equiprune.structures.sequences import Selection
from equiprune.training.objective import Objective, Square, Term, mace_universal, mace_weighted
from equiprune.training.scan import check_labels, digest, scan_dataset

# What is refused before training.


def bare(count: int = 3) -> list[Atoms]:
    return list(ep.probe_structures([1, 6, 8, 14]).values())[:count]


@pytest.mark.parametrize("quantity", ["energy", "forces", "stress"])
def test_a_weighted_quantity_that_nothing_has_is_refused_by_name(quantity: str) -> None:
    structures = []
    for atoms in labelled()[:4]:
        copy = atoms.copy()
        copy.calc = SinglePointCalculator(copy, **{k: v for k, v in atoms.calc.results.items() if k != quantity})
        structures.append(copy)
    with pytest.raises(StructureError, match=f"No structure for training has a label of its {quantity}"):
        check_labels(structures, mace_universal(), student().elements, "training")
    terms = {name: Term(float(name != quantity), Square()) for name in ("energy", "forces", "stress")}
    check_labels(structures, Objective(**terms), student().elements, "training")


def test_one_label_of_each_kind_is_enough() -> None:
    check_labels([*bare(), labelled()[0]], mace_universal(), student().elements, "training")


def test_only_molecules_have_no_stress_to_train_on() -> None:
    molecules = [vacuum(labelled()[7])]
    molecules[0].info["REF_stress"] = np.zeros((3, 3))
    with pytest.raises(StructureError, match=r"label of its stress.*weight of stress to 0"):
        check_labels(molecules, mace_universal(), student().elements, "training")
    check_labels(molecules, mace_weighted(), student().elements, "training")


def test_no_structures_are_refused() -> None:
    with pytest.raises(StructureError, match="no structures for training"):
        check_labels([], mace_universal(), student().elements, "training")


@pytest.mark.parametrize(
    ("name", "value"), [("energy", math.nan), ("energy", math.inf), ("forces", math.nan), ("stress", math.nan)]
)
def test_a_label_that_is_not_a_number_is_refused_by_name(name: str, value: float) -> None:
    atoms = labelled()[0].copy()
    atoms.calc = SinglePointCalculator(atoms, **labelled()[0].calc.results)
    label: Any = np.array(atoms.calc.results[name])
    label.flat[-1] = value
    atoms.calc.results[name] = label
    says = f"Structure 1 for validation: The {name} label of {atoms.get_chemical_formula()} is not finite"
    with pytest.raises(StructureError, match=says):
        check_labels([labelled()[1], atoms], mace_universal(), student().elements, "validation")


def test_an_unknown_element_is_refused_by_name() -> None:
    with pytest.raises(StructureError, match=r"Structure 1 for training \(U\) has U, which this model does not know"):
        check_labels([labelled()[0], Atoms("U")], mace_weighted(), student().elements, "training")


def test_two_atoms_at_one_place_are_refused_before_training() -> None:
    twice = labelled()[0].copy()
    twice.positions[1] = twice.positions[0] + twice.cell.array[0]
    with pytest.raises(StructureError, match=r"Structure 2 for replay \(.*\) has atoms 0 and 1 at the same place"):
        check_labels([*labelled()[:2], twice], mace_weighted(), student().elements, "replay")


def test_what_is_replayed_may_lack_labels_of_a_term_and_says_so() -> None:
    sets = {"training": probed(), "validation": probed(1), "replay": labelled()}
    told: list[str] = []
    assert scan_dataset(sets, HESSIAN, student().elements, told.append).keys() == sets.keys()
    assert [" Of hessian it has none; the training structures alone teach that." in line for line in told] == [
        False,
        False,
        True,
    ]
    with pytest.raises(StructureError, match="No structure for validation has a label of its hessian"):
        scan_dataset(sets | {"validation": labelled(1)}, HESSIAN, student().elements, told.append)
    with pytest.raises(StructureError, match="No structure for replay has a label of its energy"):
        scan_dataset(sets | {"replay": bare()}, HESSIAN, student().elements, told.append)


def test_everything_is_looked_at_once_and_counted() -> None:
    sets, looked_at = {"training": probed(), "validation": probed(1)[:3], "replay": labelled()}, list[int]()
    scan_dataset(sets, HESSIAN, student().elements, lambda _: None, looked_at.append)
    assert looked_at == [1] * 19


def said_of_both(sets: dict[str, Sequence[Atoms]]) -> list[str]:
    told: list[str] = []
    scan_dataset(sets, mace_universal(), student().elements, told.append)
    return [line for line in told if "validation structures" in line]


def test_validation_structures_that_are_learnt_from_are_counted_and_named() -> None:
    """The same bits whatever the labels and the file: a sample of a file that has them in another order."""
    another = changed(labelled()[3], "energy")
    held_out = Selection([*labelled(1), another, labelled()[5], another], [8, 0, 9, 10, 1])
    assert said_of_both({"training": labelled()[::-1], "validation": held_out}) == [
        "3 of the 5 validation structures are training structures too (numbers 8, 9, 10): the best model would be "
        "chosen by what it has learnt. Leave them out of one of the two sets."
    ]
    both = {"training": labelled()[:4], "validation": labelled()[3:5], "replay": labelled()[4:]}
    one, two = said_of_both(both)
    assert one.startswith("1 of the 2 validation structures is a training structure too (number 0): ")
    assert two.startswith("1 of the 2 validation structures is a replay structure too (number 1): ")
    [many] = said_of_both({"training": labelled(), "validation": labelled()})
    assert many.startswith("8 of the 8 validation structures are training structures too (numbers 0, 1, 2, 3, 4 and 3")


def test_structures_that_differ_are_not_taken_for_the_same() -> None:
    assert said_of_both({"training": labelled(), "validation": labelled(1), "replay": labelled(2)}) == []
    assert said_of_both({"training": labelled()}) == []
    kinds = [changed(labelled()[0], what) for what in ("nothing", "positions", "cell", "pbc", "numbers")]
    assert len({geometry(atoms) for atoms in kinds}) == 5
    negative = kinds[0].copy()
    negative.positions[negative.positions == 0] = -0.0
    negative.cell[negative.cell.array == 0] = -0.0
    assert geometry(negative) == geometry(kinds[0])


@pytest.mark.slow
def test_what_is_compared_with_validation_takes_no_memory() -> None:
    """Of a structure that is held out some bytes are kept, of any other one nothing."""
    overlap = Overlap(array("q", range(1000)))
    tracemalloc.start()
    for found in range(100_000):
        overlap.meet(found)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert overlap.places == [*range(1000)]
    assert peak < 10_000


# What tells data apart.


def changed(atoms: Atoms, what: str) -> Atoms:
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, **atoms.calc.results)
    if what in ("energy", "forces", "stress"):
        copy.calc.results[what] = np.nextafter(copy.calc.results[what], np.inf)
    elif what == "positions":
        copy.positions[0, 0] = np.nextafter(copy.positions[0, 0], np.inf)
        copy.calc = SinglePointCalculator(copy, **atoms.calc.results)
    elif what == "cell":
        copy.cell[0, 0] += 1e-12
        copy.calc = SinglePointCalculator(copy, **atoms.calc.results)
    elif what == "pbc":
        copy.pbc = (True, True, False)
        copy.calc = SinglePointCalculator(copy, **atoms.calc.results)
    elif what == "numbers":
        copy.numbers[0] = 6 if copy.numbers[0] != 6 else 8
        copy.calc = SinglePointCalculator(copy, **atoms.calc.results)
    elif what == "fixed":
        copy.set_constraint(FixAtoms([0]))
    elif what == "no energy":
        del copy.calc.results["energy"]
    return copy


def test_a_digest_sees_all_that_training_sees() -> None:
    whats = ["nothing", "energy", "forces", "stress", "positions", "cell", "pbc", "numbers", "fixed", "no energy"]
    digests = {what: digest(everything([changed(labelled()[0], what)])) for what in whats}
    assert digests.pop("nothing") == digest(everything([labelled()[0]]))
    assert len({*digests.values(), digest(everything([labelled()[0]]))}) == len(whats)
    assert digest(everything(labelled())) != digest(everything(labelled()[::-1]))
