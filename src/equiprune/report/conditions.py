"""Conditions of timings in words."""

from __future__ import annotations

from collections.abc import Mapping

from equiprune.report.results import Speed

ATOMS, DTYPE, DEVICE, CODE, THREADS = "atoms", "dtype", "device", "code", "threads"
"""Names of conditions, which are heads of columns too."""

Conditions = Mapping[str, str]
"""Conditions by name, each said so that it stands alone."""


def conditions(timed: Speed) -> Conditions:
    """All conditions of a timing.

    >>> timed = {"model": "a", "dtype": "float32", "backend": "mace on cpu", "batch": 2, "threads": 1, "atoms": 8}
    >>> rates = {"atoms_per_second": 9.0, "seconds_min": 1.0, "seconds_max": 1.0}
    >>> said(conditions(Speed(**timed, **rates)))
    "8 atoms in 2 structures, float32, mace on cpu, equiprune's code, 1 thread"
    """
    batch = f" in {timed.batch} structures" if timed.batch > 1 else ""
    return {
        ATOMS: f"{timed.atoms} atoms{batch}",
        DTYPE: timed.dtype,
        DEVICE: timed.device,
        CODE: "equiprune's code" if timed.engine == "equiprune" else f"{timed.engine} code",
        THREADS: threads(timed.threads),
    }


def threads(number: int) -> str:
    """A number of threads in words."""
    return f"{number} thread{'s' if number != 1 else ''}"


def some(of: Conditions, *names: str) -> Conditions:
    """Conditions of these names alone."""
    return {name: of[name] for name in names}


def said(of: Conditions) -> str:
    """Conditions in a sentence, those that are known."""
    return ", ".join(filter(None, of.values()))
