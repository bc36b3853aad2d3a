"""Costs: work counted without building, prices fitted to measurements, and the table that is kept of them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

import equiprune as ep
from equiprune.adapters.toy import ToyAdapter, ToyArchitecture
from equiprune.errors import OutputError
from equiprune.evaluation.engines import ENGINES
from equiprune.evaluation.memory import tensor_memory
from equiprune.pruning.cost import count_parameters
from equiprune.searching.cost_model import Conditions, CostModel, Measurement, Memory, measured, memory_line
from equiprune.searching.cost_table import CostTable
from equiprune.searching.work import CONSTANT, work

ADAPTER = ToyAdapter()
PARENT = ToyArchitecture(elements=(1, 8), cutoff=4.0, hidden_irreps=("12x0e", "12x0e+8x1o", "10x0e"))
widths = st.tuples(*(st.integers(2, most) for most in (12, 12, 8, 10)), st.integers(1, 8))


def architecture(chosen: Sequence[int]) -> ToyArchitecture:
    a, b, c, d, radial = chosen
    return replace(PARENT, hidden_irreps=(f"{a}x0e", f"{b}x0e+{c}x1o", f"{d}x0e"), radial_width=radial)


# Work.


@given(widths)
@settings(max_examples=20, deadline=None)
def test_a_smaller_model_has_no_more_work_of_any_kind(chosen: Sequence[int]) -> None:
    small, full = work(ADAPTER, architecture(chosen)), work(ADAPTER, PARENT)
    assert small.keys() == full.keys()
    assert all(0 <= small[kind] <= full[kind] for kind in full)
    assert small[CONSTANT] == 1


def test_scalars_are_multiplied_once_by_each_weight_and_vectors_three_times() -> None:
    def multiplications(hidden: str) -> int:
        found = work(ADAPTER, replace(PARENT, hidden_irreps=("4x0e", hidden, "5x0e")))
        return int(found["linear_up__weight multiplications"])

    assert multiplications("6x0e") == 4 * 4 + 6 * 6
    assert multiplications("6x0e+2x1o") == 4 * 4 + 6 * 6 + 3 * 2 * 2


def test_work_of_each_interaction_adds_up_to_that_of_all() -> None:
    alone, together = work(ADAPTER, PARENT, each=True), work(ADAPTER, PARENT)
    assert len(alone) > len(together)
    assert sum(alone.values()) == sum(together.values())


def test_without_vectors_every_weight_is_multiplied_once() -> None:
    scalars = replace(PARENT, hidden_irreps=("4x0e", "6x0e", "5x0e"), edge_lmax=0)
    total = sum(amount for kind, amount in work(ADAPTER, scalars).items() if kind.endswith("multiplications"))
    assert total == count_parameters(ADAPTER, scalars).all


def test_messages_are_counted_for_each_path() -> None:
    found = work(ADAPTER, replace(PARENT, hidden_irreps=("4x0e", "3x0e+2x1o", "5x0e")))
    # 4 scalars give scalars and vectors; then 3 scalars with scalars, 2 vectors with vectors give scalars.
    assert found["radial__layer1_weight messages"] == 4 * 1 + 4 * 3 + 3 * 1 + 2 * 1
    assert found["radial__layer1_weight paths"] == 4


# Prices.


def priced(chosen: Sequence[int], noise: float = 0.0) -> Measurement:
    amounts = work(ADAPTER, architecture(chosen))
    time = 0.2 + 0.4 * amounts["radial__layer1_weight messages"] / 100 + 0.3 * amounts["node_feats numbers"] / 50
    return Measurement(amounts, time * (1 + noise), Memory(4e6, 1e6 * time), 0.01)


ATOMS = 100
"""Atoms that memory is predicted for."""


def models(count: int, seed: int, noise: float = 0.0) -> tuple[tuple[int, ...], ...]:
    random = np.random.default_rng(seed)
    return tuple(tuple(int(random.integers(2, most + 1)) for most in (12, 12, 8, 10, 7)) for _ in range(count))


@pytest.fixture(scope="module")
def costs() -> CostModel:
    return CostModel(ADAPTER, PARENT, tuple(priced(chosen) for chosen in models(20, 0)), ATOMS)


def test_models_that_were_not_measured_are_predicted(costs: CostModel) -> None:
    for chosen in models(20, 1):
        found, right = costs(architecture(chosen)), priced(chosen)
        assert found.time == pytest.approx(right.time, rel=0.05)
        assert right.memory is not None
        assert found.bytes_per_atom == pytest.approx(right.memory.of(ATOMS) / ATOMS, rel=0.05)
        assert found.parameters == costs.parameters(architecture(chosen)) < 1


def test_what_grows_never_gets_cheaper(costs: CostModel) -> None:
    small, large = costs(architecture((3, 3, 2, 3, 2))), costs(architecture((12, 12, 8, 10, 7)))
    assert small.time < large.time


def test_the_stated_error_is_that_of_predictions_from_the_others() -> None:
    random = np.random.default_rng(3)
    noisy = [priced(chosen, float(random.normal(0, 0.1))) for chosen in models(20, 0)]
    errors = CostModel(ADAPTER, PARENT, tuple(noisy)).errors
    assert len(errors) == 20
    assert 0.03 < np.median(errors) < 0.2
    assert np.median(CostModel(ADAPTER, PARENT, tuple(priced(c) for c in models(20, 0))).errors) < 0.03


def test_memory_that_was_not_measured_is_not_predicted() -> None:
    blind = tuple(replace(priced(chosen), memory=None) for chosen in models(20, 0))
    assert CostModel(ADAPTER, PARENT, blind)(PARENT).bytes_per_atom is None


# Measurements.


@pytest.mark.slow
def test_a_model_is_timed_in_turns_with_its_parent(parent: ep.Potential) -> None:
    """On the real clock, whatever else the machine does."""
    small = ep.prune(parent, ep.allocate(parent, [ep.Channels(2)], ep.data_free_scores(parent, ep.Magnitude())))
    found = measured(parent, small, Conditions(bulk("Si", cubic=True), 2), repeats=2)
    assert 0.05 < found.time < 20
    assert found.work == work(small.adapter, small.architecture)
    assert found.memory is not None
    assert found.memory.per_atom > 0


def test_memory_of_many_atoms_is_known_from_few(parent: ep.Potential) -> None:
    timed = Conditions(bulk("Si", cubic=True), 2)
    line = memory_line(parent, timed)
    assert line is not None
    graph = parent.graph([timed.atoms] * 128)
    needed = tensor_memory(lambda: parent.differentiate(graph), parent.device)
    assert line.of(8 * 128) == pytest.approx(needed, rel=0.02)
    assert line == memory_line(parent, timed), "the same number each time"


def test_memory_of_a_large_structure_is_measured_on_it_alone(
    parent: ep.Potential, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = bulk("Si", cubic=True).repeat(4)
    assert len(large) == 512
    evaluated: list[int] = []

    def counted(work: object, _: torch.device) -> int:
        [graph] = work.args  # type: ignore[attr-defined]
        evaluated.append(len(graph.numbers))
        return 512_000

    monkeypatch.setattr("equiprune.searching.cost_model.tensor_memory", counted)
    assert memory_line(parent, Conditions(large, 1)) == Memory(0.0, 1000.0)
    assert evaluated == [512]


def test_the_largest_structure_is_repeated() -> None:
    timed = Conditions.of([molecule("H2O"), bulk("Si", cubic=True), molecule("H2")], 20)
    assert (len(timed.atoms), timed.copies, timed.total) == (8, 3, 24)
    assert (timed.copies_of(17), timed.at_least(17)) == (3, 24)


def test_a_busy_machine_is_asked_again(parent: ep.Potential, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = iter([(1.0, 3.0), (1.0, 1.0), (1.0, 1.0), (1.0, 1.0)])

    def timed(potentials: dict[tuple[str, str], ep.Potential], *_: object, **__: object) -> list[ep.Timing]:
        common = {"dtype": "float32", "backend": "", "batch": 1, "threads": 1, "atoms": 1, "peak_memory_bytes": None}
        return [
            ep.Timing(model=name, seconds=(1.0, 1.0) if name == "parent" else next(rounds), **common)
            for name, _ in potentials
        ]

    monkeypatch.setattr("equiprune.searching.cost_model.timed", timed)
    found = measured(parent, parent, Conditions(bulk("Si"), 1), repeats=2)
    assert found.time == 1.0
    assert len(list(rounds)) == 1  # three rounds: then the middle half agrees


# The table.


def table(parent: ep.Potential, atoms: Atoms | None = None, **drawn: int) -> CostTable:
    return CostTable.of(parent, Conditions(atoms or bulk("Si"), 3), drawn)


def test_each_engine_has_a_table_of_its_own(parent: ep.Potential) -> None:
    ours, theirs = (CostTable.of(parent, Conditions(bulk("Si"), 1, engine), {}) for engine in ENGINES.values())
    assert ours.path != theirs.path


def test_what_was_measured_is_found_again_under_the_same_conditions_only(parent: ep.Potential) -> None:
    found = [priced(chosen) for chosen in models(3, 0)]
    table(parent, seed=0).store(found)
    assert table(parent, seed=0).stored() == tuple(found)
    moved = bulk("Si", a=5.5)
    for other in (table(parent, seed=1), table(parent, moved, seed=0), table(parent.with_dtype(torch.float64), seed=0)):
        assert other.stored() == ()


@pytest.mark.parametrize("spoilt", ["", "{}", '{"format": "equiprune-costs-2"}', "[1]"])
def test_a_damaged_table_is_measured_again(parent: ep.Potential, spoilt: str) -> None:
    there = table(parent, seed=0)
    there.store([priced(models(1, 0)[0])])
    there.path.write_text(spoilt)
    assert there.stored() == ()


def test_a_cache_that_takes_no_files_stops_nothing(
    parent: ep.Potential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path / "file"))
    table(parent, seed=0).store([priced(models(1, 0)[0])])
    assert table(parent, seed=0).stored() == ()


def test_a_measurement_is_read_as_it_was_written() -> None:
    found = priced(models(1, 0)[0])
    assert Measurement.from_json(json.loads(json.dumps(found.to_json()))) == found
    with pytest.raises(OutputError, match="not a table of costs"):
        Measurement.from_json({"time": 1.0})
