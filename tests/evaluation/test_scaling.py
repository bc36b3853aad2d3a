"""Lines of time against number of atoms: what is found in exact, noisy and bent ones, and what is said of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from torch import nn

import equiprune as ep
from equiprune.adapters import Outputs
from equiprune.adapters.toy import ToyAdapter
from equiprune.errors import StructureError
from equiprune.evaluation.dynamics.statistics import Estimate
from equiprune.evaluation.scaling import determined, fitted, supercells, table, times_table

SIZES = (8, 32, 128, 512, 2048)


def timings(seconds: Callable[[int], float], scatter: float = 0.0, sizes: tuple[int, ...] = SIZES) -> list[ep.Timing]:
    """Five timings of each size, which scatter by so much of their time."""
    factors = np.random.default_rng(0).normal(1.0, scatter, (len(sizes), 5))
    return [
        ep.Timing("m", "float32", "toy on cpu", 1, 1, size, tuple(seconds(size) * own), None)
        for size, own in zip(sizes, factors, strict=True)
    ]


def test_an_exact_line_is_found() -> None:
    found = fitted(timings(lambda atoms: 0.01 + 0.0005 * atoms))
    assert found.overhead.value == pytest.approx(0.01)
    assert found.per_atom.value == pytest.approx(0.0005)
    assert found.half_overhead_atoms == pytest.approx(20)
    assert found.deviation < 1e-12
    assert found.seconds(20) == pytest.approx(0.02)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_exponent_is_that_of_the_largest_sizes(power: float) -> None:
    found = fitted(timings(lambda atoms: 1.0 if atoms < 100 else 0.001 * atoms**power))
    assert found.exponent.value == pytest.approx(power)
    assert found.to_json()["exponent_atoms"] == [128, 512, 2048]


def test_weights_are_relative() -> None:
    """A tenth more at the largest size moves the overhead by less than that of the smallest size."""
    true = timings(lambda atoms: 0.01 + 0.0005 * atoms)
    slower = replace(true[-1], seconds=tuple(1.1 * second for second in true[-1].seconds))
    found = fitted([*true[:-1], slower])
    assert found.overhead.value == pytest.approx(0.01, rel=0.1)


def test_overhead_within_the_noise_is_not_determined() -> None:
    found = fitted(timings(lambda atoms: 0.001 * atoms, scatter=0.1))
    assert not determined(found.overhead)
    assert determined(found.per_atom)
    assert found.half_overhead_atoms is None
    most = found.most_half_overhead_atoms
    assert most is not None
    assert 0 < most < 8  # at 8 atoms it would be half of the time
    assert "at most" in table([found])[1][2]
    assert table([found])[1][4].startswith("from at most")


def test_time_per_atom_within_the_noise_is_not_determined() -> None:
    found = fitted(timings(lambda atoms: 0.05 + 1e-6 * atoms, scatter=0.1, sizes=(8, 16, 32)))
    assert determined(found.overhead)
    assert not determined(found.per_atom)
    assert (found.half_overhead_atoms, found.most_half_overhead_atoms) == (None, None)
    assert "not determined" in table([found])[1][3]
    assert table([found])[1][4] == "not determined"


def test_points_on_a_line_by_chance_are_as_uncertain_as_they_scatter() -> None:
    def scattered(scatter: float) -> ep.Scaling:
        sure = timings(lambda atoms: 0.01 + 0.0005 * atoms, sizes=(8, 64, 512))
        factors = (1 - scatter, 1 - scatter, 1.0, 1 + scatter, 1 + scatter)
        return fitted([replace(each, seconds=tuple(each.median * factor for factor in factors)) for each in sure])

    assert scattered(0.0).overhead.error < 1e-9
    assert scattered(0.2).overhead.error > 0.0005
    assert scattered(0.2).overhead.value == pytest.approx(0.01)


def test_times_off_the_line_are_said() -> None:
    found = fitted(timings(lambda atoms: 1e-6 * atoms**2))
    assert found.deviation > 0.3
    assert found.exponent.value == pytest.approx(2)
    assert table([found])[1][6] == f"{100 * found.deviation:.0f} %"


def test_speed_of_each_size_is_relative_to_the_first_model() -> None:
    slow = fitted(timings(lambda atoms: 0.002 * atoms))
    fast = fitted([replace(each, model="n") for each in timings(lambda atoms: 0.001 * atoms)])
    heads, first, *_ = times_table([slow, fast])
    assert heads == ["atoms", "m, equiprune", "n, equiprune"]
    assert first == ["8", "16 (1.00x)", "8 (2.00x)"]


def test_json_is_in_milliseconds() -> None:
    value = fitted(timings(lambda atoms: 0.01 + 0.0005 * atoms)).to_json()
    assert value["overhead_ms"]["value"] == pytest.approx(10)
    assert value["ms_per_atom"]["value"] == pytest.approx(0.5)
    assert (value["overhead_determined"], value["per_atom_determined"]) == (True, True)
    assert [each["atoms"] for each in value["timings"]] == list(SIZES)


def test_a_number_is_determined_by_twice_its_error() -> None:
    assert determined(Estimate(2.1, 1.0))
    assert not determined(Estimate(1.9, 1.0))
    assert not determined(Estimate(-5.0, 1.0))


class Logged(ToyAdapter):
    """A toy that notes how many atoms it is given."""

    def __init__(self, name: str, calls: list[tuple[str, int]]) -> None:
        self.model, self.calls = name, calls

    def evaluate(self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, *arguments: Any) -> Outputs:
        self.calls.append((self.model, len(graph.positions)))
        return super().evaluate(module, architecture, graph, *arguments)


def test_models_take_turns_at_each_size(toy: ep.Potential, structures: list[Atoms]) -> None:
    calls: list[tuple[str, int]] = []
    done: list[int] = []
    models = {name: replace(toy, adapter=Logged(name, calls)) for name in "ab"}
    found = ep.scaling(models, structures[0], [30, 8, 16, 9], repeats=2, warmup=0, progress=done.append)
    assert calls == [(name, atoms) for atoms in (8, 16, 32) for _ in range(2) for name in "ab"]
    assert sum(done) == len(calls)
    assert [each.timings[0].model for each in found] == ["a", "b"]


def test_supercells_grow_along_periodic_directions(structures: list[Atoms]) -> None:
    slab = Atoms("SiO", [[0, 0, 0], [0, 0, 1.6]], cell=[3.0, 4.0, 12.0], pbc=[True, True, False])
    assert [len(cell) for cell in supercells(slab, [2, 3, 8, 24])] == [2, 4, 8, 24]
    last = supercells(slab, [2, 3, 24])[-1]
    assert last.cell.lengths().tolist() == [12.0, 12.0, 12.0]
    assert last.pbc.tolist() == [True, True, False]


def test_a_molecule_is_no_cell_to_repeat() -> None:
    with pytest.raises(StructureError, match="H2O is periodic in no direction, so it cannot be repeated to 64 atoms"):
        supercells(Atoms("OH2", [[0, 0, 0], [0.8, 0.6, 0], [-0.8, 0.6, 0]]), [3, 64, 512])


def test_sizes_that_are_one_once_repeated_are_refused(structures: list[Atoms]) -> None:
    with pytest.raises(StructureError, match="sizes 8, 9, 10 has 8, 16 atoms, and a line needs at least 3"):
        supercells(structures[0], [8, 9, 10])


@pytest.mark.slow
def test_the_picture_names_every_model(tmp_path: Path) -> None:
    path = tmp_path / "scaling.svg"
    lines = [timings(lambda atoms: 0.01 + 0.0005 * atoms), timings(lambda atoms: 1e-6 * atoms**2, scatter=0.1)]
    found = [fitted([replace(each, model=name) for each in line]) for name, line in zip("ab", lines, strict=True)]
    ep.plot_scaling(found, path)
    assert all(f"<!-- {name}, equiprune -->" in path.read_text() for name in "ab")
