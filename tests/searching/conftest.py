"""A model with labels of its own, and a machine whose speed is known."""

from typing import Any

import pytest
from ase import Atoms
from ase.build import bulk
from pretended_machine import pretend

import equiprune as ep


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
