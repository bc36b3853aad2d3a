"""Samples of labels and predictions: the same whatever batches, order and processes."""

from collections.abc import Iterable
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import equiprune as ep
from equiprune.evaluation.accuracy import Accuracy
from equiprune.evaluation.parity import ParitySample
from equiprune.labelling.label import label


def sample_of(size: int, number: int) -> ParitySample:
    return ParitySample.of(size, number, {"energy": np.array([float(number)])}, {"energy": np.array([0.5])})


def together(size: int, numbers: Iterable[int]) -> ParitySample:
    return reduce(add, (sample_of(size, number) for number in numbers), ParitySample(size, {}))


@given(st.integers(1, 6), st.permutations(range(12)), st.integers(0, 12))
def test_parts_are_together_the_sample_of_the_whole(size: int, order: list[int], cut: int) -> None:
    whole = together(size, range(12))
    assert (together(size, order[:cut]) + together(size, order[cut:])).pairs() == whole.pairs()
    assert len(whole.drawn) == size


def test_structures_are_drawn_from_everywhere() -> None:
    assert np.mean(sorted(together(40, range(1000)).drawn)) == pytest.approx(500, abs=150)


def test_pairs_are_label_and_prediction_of_a_few_atoms() -> None:
    forces, errors = np.arange(30.0).reshape(10, 3), np.full((10, 3), 0.25)
    [pairs] = ParitySample.of(5, 3, {"forces": forces}, {"forces": errors}).pairs().values()
    assert pairs[:3] == [(0.0, 0.25), (1.0, 1.25), (2.0, 2.25)]
    assert pairs[-1] == (29.0, 29.25)
    assert len(pairs) == 12


def test_an_evaluation_gives_what_the_model_predicts() -> None:
    toy = ep.load("toy")
    other = ep.prune(toy, ep.allocate(toy, [ep.Channels(4)], ep.data_free_scores(toy, ep.Random(1))))
    structures = list(label(toy, ep.probe_structures([1, 6, 8, 14]).values()))
    [found] = ep.evaluate({"other": other}, structures, parity=2)
    pairs = found.to_json()["parity"]
    assert len(pairs["energy"]) == 2
    energies = {
        atoms.get_potential_energy() / len(atoms): prediction.energy.item() / len(atoms)
        for atoms, prediction in zip(structures, other.predict(structures), strict=True)
    }
    for known, predicted in pairs["energy"]:
        assert energies[known] == pytest.approx(predicted, abs=1e-6)
    assert Accuracy.from_record("other", found.to_record()) == found
    assert "parity" not in ep.evaluate({"other": other}, structures)[0].to_json()
