"""A machine whose speed is known: what models cost on it, and `equiprune.searching` told so."""

from collections.abc import Mapping
from typing import Any

import pytest
from ase import Atoms

import equiprune as ep
from equiprune.searching import cost_model, process_memory, rounds, search
from equiprune.searching.work import work

PRICES = {"radial__layer1_weight messages": 3.0, "linear_down__weight multiplications": 0.2, "node_feats numbers": 1.0}
"""Milliseconds of each kind of work, and the time that every model takes."""
CONSTANT = 40.0
OVERHEAD = 1.25
"""Memory of the process over that of its tensors, at least."""


def seconds(potential: ep.Potential) -> float:
    """Time of a model on the machine that is pretended."""
    amounts = work(potential.adapter, potential.architecture)
    return 1e-3 * (CONSTANT + sum(price * amounts.get(kind, 0.0) for kind, price in PRICES.items()))


def memory(potential: ep.Potential) -> cost_model.Memory:
    """Memory of a model's tensors on that machine: as its time, in GB for 16 atoms, and a little for any number."""
    return cost_model.Memory(1e6, 1e9 * seconds(potential) / 16)


def peak(potential: ep.Potential, atoms: int) -> float:
    """Bytes of the process, which nobody can foresee to the last per cent."""
    return OVERHEAD * (1 + 0.001 * (potential.parameters() % 41)) * memory(potential).of(atoms)


def pretend(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make every machine one with exact timings; lists the models that were timed beside their parent."""
    asked: list[str] = []

    def timed(
        potentials: Mapping[tuple[str, str], ep.Potential], atoms: Atoms, *, copies: int, repeats: int, **_: Any
    ) -> list[ep.Timing]:
        asked.append(str(potentials["child", "equiprune"].architecture.hidden_irreps))
        common: dict[str, Any] = {"dtype": "float32", "backend": "", "threads": 1, "atoms": len(atoms) * copies}
        return [
            ep.Timing(
                model=name,
                batch=copies,
                seconds=(seconds(each),) * repeats,
                peak_memory_bytes=None,
                **common,
            )
            for (name, _), each in potentials.items()
        ]

    monkeypatch.setattr(cost_model, "timed", timed)
    monkeypatch.setattr(cost_model, "memory_line", lambda prepared, _: memory(prepared))
    for module in (rounds, process_memory):
        monkeypatch.setattr(module, "peak_of", _measured_peak)
    monkeypatch.setattr(search, "check_memory", lambda *_: None)
    return asked


def _measured_peak(child: ep.Potential, conditions: cost_model.Conditions, copies: int, most: float) -> float | None:
    found = peak(child, copies * len(conditions.atoms))
    return found if found <= most else None
