"""The objective against formulas written out again, number by number."""

import math
from dataclasses import replace
from itertools import product
from typing import Any

import ase.units
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from equiprune.errors import TargetError
from equiprune.files.settings import to_json
from equiprune.structures.graph import AtomicGraph
from equiprune.training.objective import (
    KBAR,
    Absolute,
    ConditionalHuber,
    Distance,
    Huber,
    LabelBatch,
    Objective,
    Square,
    Term,
    mace_universal,
    mace_weighted,
    open_catalyst,
    sevennet_huber,
)
from equiprune.training.optimisation import Linear, Plateau
from equiprune.training.recipe import PRESETS

ONE = Term(1.0, Square())
NONE = Term(0.0, Square())


def graph_of(sizes: list[int]) -> AtomicGraph:
    """A batch of structures of these sizes; the objective looks at nothing else."""
    atoms, n = sum(sizes), len(sizes)
    return AtomicGraph(
        numbers=torch.ones(atoms, dtype=torch.long),
        positions=torch.zeros(atoms, 3),
        strain=torch.zeros(n, 3, 3),
        edge_index=torch.zeros(2, 0, dtype=torch.long),
        shifts=torch.zeros(0, 3),
        structure_of_atom=torch.repeat_interleave(torch.arange(n), torch.tensor(sizes)),
        volume=torch.ones(n),
        global_inputs=torch.zeros(n, 0),
    )


def predictions(sizes: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    n = len(sizes)
    return {"energy": numbers(n), "forces": numbers(sum(sizes), 3), "stress": numbers(n, 3, 3)}


def labels(sizes: list[int], seed: int = 1) -> LabelBatch:
    return LabelBatch(**predictions(sizes, seed))


def huber(difference: float, delta: float) -> float:
    if abs(difference) <= delta:
        return 0.5 * difference**2
    return delta * (abs(difference) - 0.5 * delta)


numbers = npst.arrays(np.float64, 5, elements=st.floats(-2, 2))


@given(numbers, numbers, st.sampled_from([0.01, 0.5, 1.0]))
def test_each_distance_is_its_formula(predicted: np.ndarray, label: np.ndarray, delta: float) -> None:
    formulas: list[tuple[Distance, Any]] = [
        (Square(), lambda d: d**2),
        (Absolute(), abs),
        (Huber(delta), lambda d: huber(d, delta)),
    ]
    for distance, formula in formulas:
        found = distance(torch.tensor(predicted), torch.tensor(label))
        expected = [formula(p - y) for p, y in zip(predicted, label, strict=True)]
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-15)


def conditional_huber(predicted: list[float], label: list[float], delta: float) -> list[float]:
    """One atom at a time, as mace/modules/loss.py ``conditional_huber_forces`` describes it."""
    size = math.sqrt(sum(x * x for x in label))
    if size < 100:
        factor = 1.0
    elif size < 200:
        factor = 0.7
    elif size < 300:
        factor = 0.4
    else:
        factor = 0.1
    return [huber(p - y, factor * delta) for p, y in zip(predicted, label, strict=True)]


def test_conditional_huber_is_the_loop_over_atoms() -> None:
    sizes = [0.0, 1.0, 99.999, 100.0, 150.0, 199.999, 200.0, 250.0, 299.999, 300.0, 301.0, 5000.0]
    directions = [[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.6, 0.0, -0.8]]
    label = [[size * x for x in direction] for size, direction in product(sizes, directions)]
    for delta, error in product([0.01, 1.0], [0.0005, 0.005, 0.05, 0.5, 5.0]):
        predicted = [[x + error, y - 2 * error, z] for x, y, z in label]
        found = ConditionalHuber(delta)(torch.tensor(predicted).double(), torch.tensor(label).double())
        expected = [
            conditional_huber(p, y, delta)
            for p, y in zip(torch.tensor(predicted).tolist(), torch.tensor(label).tolist(), strict=True)
        ]
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_conditional_huber_looks_at_the_label_not_the_prediction() -> None:
    small, large = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[500.0, 0.0, 0.0]])
    assert ConditionalHuber(1.0)(large, small)[0, 0] == pytest.approx(499 - 0.5)
    assert ConditionalHuber(1.0)(small, large)[0, 0] == pytest.approx(0.1 * (499 - 0.05))


def test_energies_are_per_atom_and_nothing_else_is() -> None:
    sizes = [4, 1]
    predicted = {"energy": torch.tensor([0.8, 0.3]), "forces": torch.zeros(5, 3), "stress": torch.zeros(2, 3, 3)}
    predicted["forces"][0, 1], predicted["stress"][0, 1, 2] = 2.0, 3.0
    targets = LabelBatch(torch.zeros(2), torch.zeros(5, 3), torch.zeros(2, 3, 3))
    sums = Objective(Term(2.0, Absolute()), ONE, ONE).sums(predicted, targets, graph_of(sizes))
    assert sums["energy"].total == pytest.approx(2 * (0.8 / 4 + 0.3 / 1))
    assert (sums["forces"].total, sums["stress"].total) == (pytest.approx(4), pytest.approx(9))
    assert [sums[q].count for q in ("energy", "forces", "stress")] == [2, 15, 18]


def test_forces_of_fixed_atoms_count_for_all_but_the_open_catalyst_project() -> None:
    predicted, targets = predictions([2, 1]), labels([2, 1])
    targets = LabelBatch(**(vars(targets) | {"fixed": torch.tensor([False, True, False])}))
    difference = predicted["forces"] - targets.forces
    free = open_catalyst(forces=1.0).sums(predicted, targets, graph_of([2, 1]))["forces"]
    assert (free.total, free.count) == (pytest.approx(float(difference[[0, 2]].norm(dim=-1).sum())), 2)
    every = mace_weighted(forces=1.0).sums(predicted, targets, graph_of([2, 1]))["forces"]
    assert (every.total, every.count) == (pytest.approx(float(difference.square().sum())), 9)


def test_kbar_is_a_tenth_of_a_gigapascal() -> None:
    assert pytest.approx(10 / ase.units.GPa, rel=1e-6) == KBAR
    predicted, targets = predictions([2]), labels([2])
    sums = Objective(NONE, ONE, Term(1.0, Absolute(), KBAR)).sums(predicted, targets, graph_of([2]))
    expected = (predicted["stress"] - targets.stress).abs().sum() * 10 / ase.units.GPa
    assert sums["stress"].total == pytest.approx(float(expected), rel=1e-6)


def test_the_unit_comes_before_the_distance() -> None:
    """Huber's delta of 0.01 is 0.01 kbar: a small stress error is already on the linear side."""
    predicted, targets = predictions([1]), labels([1])
    targets = LabelBatch(targets.energy, targets.forces, predicted["stress"] - 0.005)
    sums = sevennet_huber().sums(predicted, targets, graph_of([1]))
    assert sums["stress"].total == pytest.approx(0.01 * 6 * huber(0.005 * KBAR, 0.01))
    assert sums["stress"].count == 6


def test_missing_labels_take_no_part() -> None:
    sizes = [2, 3, 1]
    predicted, targets = predictions(sizes), labels(sizes)
    with_gaps = LabelBatch(targets.energy.clone(), targets.forces.clone(), targets.stress.clone())
    with_gaps.energy[1], with_gaps.stress[0], with_gaps.forces[2:5] = math.nan, math.nan, math.nan
    predicted["stress"][0] = math.nan  # that of a structure without a volume
    for objective in (mace_universal(), mace_weighted(stress=1.0), sevennet_huber()):
        found = objective.sums(predicted, with_gaps, graph_of(sizes))
        atoms = torch.tensor(sizes)
        parts = {
            "energy": (predicted["energy"] / atoms, targets.energy / atoms, [0, 2]),
            "forces": (predicted["forces"], targets.forces, [0, 1, 5]),
            "stress": (predicted["stress"], targets.stress, [1, 2]),
        }
        for name, (prediction, label, there) in parts.items():
            term = getattr(objective, name)
            if term.six:
                prediction, label = (tensor.flatten(1)[:, [0, 4, 8, 5, 6, 1]] for tensor in (prediction, label))
            distance = term.distance(prediction[there] * term.unit, label[there] * term.unit)
            assert found[name].count == distance.numel()
            torch.testing.assert_close(found[name].total, term.weight * distance.sum(), rtol=1e-12, atol=0)


def test_no_label_at_all_is_a_sum_of_nothing_with_a_gradient() -> None:
    predicted = {name: value.requires_grad_() for name, value in predictions([2]).items()}
    gone = LabelBatch(*(torch.full_like(value, math.nan) for value in predicted.values()))
    for part in mace_universal().sums(predicted, gone, graph_of([2])).values():
        assert (part.total.item(), part.count) == (0.0, 0)
        part.total.backward()
    assert all((value.grad == 0).all() for value in predicted.values())


@pytest.mark.parametrize("left_out", ["energy", "forces", "stress"])
def test_a_weight_of_zero_leaves_a_quantity_out(left_out: str) -> None:
    objective = Objective(**{name: NONE if name == left_out else ONE for name in ("energy", "forces", "stress")})
    predicted, targets = predictions([2, 1]), labels([2, 1])
    found = objective.sums(predicted, targets, graph_of([2, 1]))
    assert set(objective.weighted()) == found.keys() == {"energy", "forces", "stress"} - {left_out}
    gone = LabelBatch(**(vars(targets) | {left_out: torch.full_like(getattr(targets, left_out), math.nan)}))
    again = objective.sums(predicted, gone, graph_of([2, 1]))
    assert {name: float(part.total) for name, part in again.items()} == {n: float(p.total) for n, p in found.items()}


def test_without_being_asked_stress_is_left_out() -> None:
    assert Objective(ONE, ONE).weighted() == ["energy", "forces"]


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_an_impossible_weight_is_refused(weight: float) -> None:
    with pytest.raises(TargetError, match=r"weight of .* is not possible"):
        Term(weight, Square())


def test_nothing_to_train_for_is_refused() -> None:
    with pytest.raises(TargetError, match="Every weight is 0"):
        Objective(NONE, NONE)


structures = st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=4)


def gaps(targets: LabelBatch, batch: list[tuple[int, bool, bool, bool]]) -> LabelBatch:
    """The labels without those that a batch lacks: of (atoms, energy, forces, stress) where False."""
    start = 0
    for i, (atoms, energy, forces, stress) in enumerate(batch):
        if not energy:
            targets.energy[i] = math.nan
        if not forces:
            targets.forces[start : start + atoms] = math.nan
        if not stress:
            targets.stress[i] = math.nan
        start += atoms
    return targets


@given(structures, structures, st.sampled_from([mace_universal(), mace_weighted(stress=2.0), sevennet_huber()]))
def test_a_batch_of_two_is_two_of_one(first: Any, second: Any, objective: Objective) -> None:
    parts = []
    for seed, batch in enumerate((first, second)):
        sizes = [atoms for atoms, *_ in batch]
        parts.append((sizes, predictions(sizes, seed), gaps(labels(sizes, seed + 10), batch)))
    alone = [objective.sums(predicted, targets, graph_of(sizes)) for sizes, predicted, targets in parts]
    (sizes_1, predicted_1, targets_1), (sizes_2, predicted_2, targets_2) = parts
    predicted = {name: torch.cat([predicted_1[name], predicted_2[name]]) for name in predicted_1}
    targets = LabelBatch(*(torch.cat([getattr(targets_1, n), getattr(targets_2, n)]) for n in predicted))
    for name, part in objective.sums(predicted, targets, graph_of(sizes_1 + sizes_2)).items():
        assert part.count == alone[0][name].count + alone[1][name].count
        expected = alone[0][name].total + alone[1][name].total
        torch.testing.assert_close(part.total, expected, rtol=1e-12, atol=1e-14)


def test_named_objectives_have_the_values_of_their_sources() -> None:
    """mace/tools/arg_parser.py and mace/modules/loss.py; sevenn/presets/sevennet-0.yaml."""
    assert mace_universal() == Objective(
        Term(1.0, Huber(0.01)), Term(10.0, ConditionalHuber(0.01)), Term(1.0, Huber(0.01))
    )
    assert mace_weighted() == Objective(Term(1.0, Square()), Term(100.0, Square()), Term(0.0, Square()))
    assert sevennet_huber() == Objective(
        Term(1.0, Huber(0.01)), Term(1.0, Huber(0.01)), Term(0.01, Huber(0.01), 1602.1766208, six=True)
    )


def test_presets_have_the_values_they_say() -> None:
    assert PRESETS.keys() == {"mace-universal", "mace-weighted", "sevennet", "distil", "escn"}
    distil, like = PRESETS["distil"], PRESETS["sevennet"]
    assert distil.objective == replace(like.objective, atom_energies=Term(0.5, Huber(0.01)))
    assert distil.optimisation == like.optimisation
    for name, objective in (("mace-universal", mace_universal()), ("mace-weighted", mace_weighted())):
        preset = PRESETS[name]
        chosen = preset.optimisation
        assert preset.objective == objective
        assert (chosen.learning_rate, chosen.schedule, chosen.amsgrad) == (1e-3, Plateau(0.8, 5), True)
        assert (chosen.clip, chosen.average, chosen.weight_decay) == (10.0, 0.99, 0.0)
        assert all(word in preset.source for word in ("0.001", "5 epochs", "MACE: 0.01, 50 epochs", "no weight decay"))
    preset = PRESETS["sevennet"]
    chosen = preset.optimisation
    assert preset.objective == sevennet_huber()
    assert (chosen.learning_rate, chosen.schedule, chosen.amsgrad) == (4e-3, Linear(0.01), False)
    assert (chosen.clip, chosen.average, chosen.weight_decay) == (None, None, 0.0)
    assert all(word in preset.source for word in ("0.004", "1 %"))


def test_what_a_run_records_tells_objectives_apart() -> None:
    different = [
        mace_universal(),
        mace_universal(delta=0.02),
        mace_universal(stress=2.0),
        mace_weighted(),
        sevennet_huber(),
        Objective(ONE, ONE),
        Objective(ONE, Term(1.0, Square(), unit=2.0)),
    ]
    recorded = [str(to_json(objective)) for objective in different]
    assert len(set(recorded)) == len(recorded)
