"""Searches on the toy model that take little effort."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ase import Atoms

import equiprune as ep

EFFORT = ep.Effort(measured=10, candidates=6, finalists=2, steps=2, structures=10)
SETTINGS = ep.SearchSettings(effort=EFFORT, timed_atoms=16)
BRIEF = replace(SETTINGS, effort=replace(EFFORT, candidates=2, finalists=1))
"""Settings of searches whose choice does not matter."""
FAST = ep.Budget(faster=1.25)


def searched(
    parent: ep.Potential, labelled: list[Atoms], folder: Path, budget: ep.Budget = FAST, **how: Any
) -> ep.Found:
    """Outcome of a search, with `SETTINGS` unless others are given."""
    return ep.search(parent, labelled, budget, folder, **({"settings": SETTINGS} | how))
