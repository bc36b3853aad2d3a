"""A model with labels of its own, and a machine whose speed is known."""

from collections.abc import Mapping
from typing import Any

import pytest
from ase import Atoms
from ase.build import bulk

import equiprune as ep
from equiprune.searching import cost_model
from equiprune.searching.work import work

PRICES = {"radial__layer1_weight messages": 3.0, "linear_down__weight multiplications": 0.2, "node_feats numbers": 1.0}
"""Milliseconds of each kind of work, and the time that every model takes."""
CONSTANT = 40.0


@pytest.fixture(scope="session")
def parent() -> ep.Potential:
    return ep.load("toy")


@pytest.fixture(scope="session")
def labelled(parent: ep.Potential) -> list[Atoms]:
    structures = []
    for seed in range(15):
        atoms = bulk("Si", "diamond", a=5.4, cubic=True)
        atoms.numbers[::2] = 8
        atoms.rattle(0.15, seed=seed)
        structures.append(atoms)
    return list(ep.label(parent, structures))


def seconds(potential: ep.Potential) -> float:
    """Time of a model on the machine that is pretended."""
    amounts = work(potential.adapter, potential.architecture)
    return 1e-3 * (CONSTANT + sum(price * amounts.get(kind, 0.0) for kind, price in PRICES.items()))


def pretend(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make every machine one with exact timings; lists the models that were timed beside their parent."""
    timed: list[str] = []

    def benchmark(
        potentials: Mapping[str, ep.Potential], atoms: Atoms, *, copies: int, repeats: int, **_: Any
    ) -> list[ep.Timing]:
        timed.append(str(potentials["child"].architecture.hidden_irreps))
        common: dict[str, Any] = {"dtype": "float32", "backend": "", "threads": 1, "atoms": len(atoms) * copies}
        return [
            ep.Timing(
                model=name,
                batch=copies,
                seconds=(seconds(each),) * repeats,
                peak_memory_bytes=int(1e9 * seconds(each)),
                **common,
            )
            for name, each in potentials.items()
        ]

    monkeypatch.setattr(cost_model, "benchmark", benchmark)
    return timed


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine with exact timings, and what was timed."""
    return pretend(monkeypatch)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def scores(parent: ep.Potential) -> ep.ImportanceScores:
    return ep.data_free_scores(parent, ep.Magnitude())
