"""Fewer frames per structure: relaxations and trajectories repeat themselves.

Data sets such as MPtrj hold many frames of each structure. A few of each keep every structure in the set, where a
random part of all frames would drop the rare ones and keep much of the same.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from ase import Atoms

from equiprune.errors import StructureError, closest


def sample_frames(ids: Sequence[int] | np.ndarray, most: int, seed: int = 0) -> np.ndarray:
    """Up to ``most`` frames of each structure, drawn at random: their indices, ascending, shape (kept,).

    A larger ``most`` keeps all that a smaller one keeps.

    Args:
        ids: the number of the structure that each frame is of, shape (frames,).
        most: frames to keep of one structure.
        seed: of the choice.

    >>> sample_frames([0, 0, 0, 1, 2, 2], most=1).tolist()
    [2, 3, 5]
    """
    taken, kept = Counter[int](), []
    for frame in np.random.default_rng(seed).permutation(len(ids)).tolist():
        structure = int(ids[frame])
        if taken[structure] < most:
            taken[structure] += 1
            kept.append(frame)
    return np.sort(np.array(kept, dtype=np.int64))


def structure_ids(structures: Iterable[Atoms], key: str) -> np.ndarray:
    """A number for each value of an ``info`` key, in the order in which values appear; shape (frames,).

    Raises:
        StructureError: a frame lacks the key; the message names the keys it has.
    """
    numbers: dict[str, int] = {}
    ids = array("q")
    for i, atoms in enumerate(structures):
        if key not in atoms.info:
            there = sorted(map(str, atoms.info))
            raise StructureError(
                f"Structure {i} has no '{key}' to tell structures apart by.{closest(key, there)} "
                f"It has: {', '.join(there) or 'no info at all'}."
            )
        ids.append(numbers.setdefault(str(atoms.info[key]), len(numbers)))
    return np.array(ids, dtype=np.int64)
