"""Structures with labels, to be written in some format and read again."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from equiprune.structures.labels import Labels


def labelled(seed: int, symbols: str = "OH2", *, periodic: bool = True) -> Atoms:
    """Random places, cell and labels; the stress is symmetric."""
    random = np.random.default_rng(seed)
    cell = 6 * np.eye(3) + random.uniform(-0.5, 0.5, (3, 3)) if periodic else None
    atoms = Atoms(symbols, cell=cell, pbc=periodic)
    atoms.positions = random.uniform(0, 6, (len(atoms), 3))
    results = {"energy": float(random.normal(-10)), "forces": random.normal(size=(len(atoms), 3))}
    if periodic:
        results["stress"] = random.normal(size=6)
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def assert_same(found: Iterable[Atoms], expected: Iterable[Atoms], tolerance: float = 1e-12) -> None:
    """The same structures with the same labels, in eV and Angstrom."""
    for a, b in zip(found, expected, strict=True):
        assert a.numbers.tolist() == b.numbers.tolist()
        assert a.pbc.tolist() == b.pbc.tolist()
        np.testing.assert_allclose(a.positions, b.positions, rtol=0, atol=tolerance)
        np.testing.assert_allclose(a.cell.array, b.cell.array, rtol=0, atol=tolerance)
        ours, theirs = Labels.of(a), Labels.of(b)
        for name in ("energy", "forces", "stress"):
            one, other = getattr(ours, name), getattr(theirs, name)
            assert (one is None) == (other is None), name
            if one is not None:
                np.testing.assert_allclose(one, other, rtol=1e-12, atol=tolerance, err_msg=name)


def reference(*parts: str) -> Path:
    """A file or folder of the reference data; without them the test is skipped."""
    if "EQUIPRUNE_DATA" not in os.environ:
        pytest.skip("EQUIPRUNE_DATA does not name a folder of reference data")
    return Path(os.environ["EQUIPRUNE_DATA"]).joinpath(*parts)
