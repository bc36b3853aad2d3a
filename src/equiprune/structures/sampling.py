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

from equiprune.errors import StructureError, TargetError, closest


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


def held_out_frames(ids: Sequence[int] | np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """All frames of a share of the structures, drawn at random: their indices, ascending, shape (held out,).

    Frames of one structure are alike: drawn one by one, they would be held out in name only. A larger share holds out
    all that a smaller one does.

    Args:
        ids: the number of the structure that each frame is of, shape (frames,).
        share: of the structures; at least one is held out and at least one is left.
        seed: of the choice.

    >>> held_out_frames([0, 0, 1, 1, 2, 3], share=0.5).tolist()
    [0, 1, 4]

    Raises:
        TargetError: a share that is not between 0 and 1, or a single structure.
    """
    check_share(share)
    structures = np.unique(ids)
    if len(structures) < 2:
        raise TargetError("A single structure cannot be shared between training and validation. Give `validation`.")
    count = min(max(1, round(share * len(structures))), len(structures) - 1)
    chosen = np.random.default_rng(seed).permutation(structures)[:count]
    return np.flatnonzero(np.isin(ids, chosen))


def check_share(share: float) -> None:
    """Raise `TargetError` unless a share of structures leaves something on both sides."""
    if not 0 < share < 1:
        raise TargetError(f"A validation share of {share} is not possible: give a number between 0 and 1.")


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


def spread(structures: Sequence[Atoms], most: int) -> list[Atoms]:
    """At most so many structures, evenly from first to last."""
    chosen = np.unique(np.linspace(0, len(structures) - 1, min(most, len(structures))).round().astype(int))
    return [structures[int(i)] for i in chosen]


def with_atoms_up_to(structures: Sequence[Atoms], atoms: int, fewest: int) -> list[Atoms]:
    """As many structures, evenly from first to last, as have about so many atoms together; ``fewest`` or more."""
    each = sum(map(len, structures)) / max(len(structures), 1)
    return spread(structures, max(fewest, int(atoms / max(each, 1))))
