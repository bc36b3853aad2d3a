"""Labelled structures as batches of graphs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms

from equiprune.adapters import AtomicGraph
from equiprune.errors import StructureError
from equiprune.labels import Labels
from equiprune.potential import Potential
from equiprune.structures import check_structures
from equiprune.training.objective import Objective, Targets


@dataclass(frozen=True)
class TrainingBatch:
    """Structures, their labels, and what to call them in an error."""

    graph: AtomicGraph
    targets: Targets
    names: tuple[str, ...]


def check_labels(structures: Sequence[Atoms], objective: Objective, elements: Iterable[int], use: str) -> None:
    """Raise `StructureError` unless the structures can be evaluated and every weighted term sees labels.

    ``use`` is what the structures are for: training or validation.
    """
    if not structures:
        raise StructureError(f"There are no structures for {use}. Give at least one.")
    check_structures(structures, elements)
    labels = [Labels.of(atoms) for atoms in structures]
    for quantity in objective.weighted():
        if all(label.lacks(quantity, atoms) for label, atoms in zip(labels, structures, strict=True)):
            raise StructureError(
                f"No structure for {use} has a label of its {quantity}, which the objective gives a weight. Label them "
                f"(as ASE calculator results, or REF_{quantity}), or set the weight of {quantity} to 0."
            )


def batch(potential: Potential, structures: Sequence[Atoms]) -> TrainingBatch:
    """One batch in the precision and on the device of a potential."""
    graph = AtomicGraph.from_structures(structures, potential.architecture.cutoff, potential.dtype, potential.device)
    labels = [Labels.of(atoms) for atoms in structures]
    pairs = list(zip(labels, structures, strict=True))
    energy = [np.nan if label.energy is None else label.energy for label in labels]
    forces = [np.full((len(a), 3), np.nan) if label.forces is None else label.forces for label, a in pairs]
    stress = [_stress(label, a) for label, a in pairs]

    def real(values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, dtype=potential.dtype, device=potential.device)

    targets = Targets(real(np.array(energy)), real(np.concatenate(forces)), real(np.stack(stress)))
    return TrainingBatch(graph, targets, tuple(atoms.get_chemical_formula() for atoms in structures))


def _stress(label: Labels, atoms: Atoms) -> np.ndarray:
    return np.full((3, 3), np.nan) if label.stress is None or label.lacks("stress", atoms) else label.stress


def order(structures: int, epoch: int, seed: int, replayed: Sequence[int] = ()) -> list[int]:
    """The order of an epoch, from nothing but seed and epoch, so that a resumed run goes on where it stopped.

    ``replayed`` are numbers of structures beyond the first ``structures`` that take part in this epoch.
    """
    generator = np.random.default_rng([seed, epoch])
    return generator.permutation(np.array([*range(structures), *replayed])).tolist()


def groups(
    structures: int,
    size: int,
    epoch: int,
    seed: int,
    *,
    replayed: Sequence[int] = (),
    rank: int = 0,
    ranks: int = 1,
) -> list[list[int]]:
    """This rank's batches of an epoch, as many for every rank; batches that do not fill a round are left out.

    >>> groups(5, 2, 0, 0), groups(5, 2, 0, 0, rank=1, ranks=2)
    ([[2, 4], [3, 0], [1]], [[3, 0]])
    """
    shuffled = order(structures, epoch, seed, replayed)
    batches = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
    return batches[rank::ranks][: len(batches) // ranks]


def digest(arrays: Iterable[np.ndarray]) -> str:
    """sha256 of the numbers in arrays."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def everything(structures: Iterable[Atoms]) -> Iterator[np.ndarray]:
    """All that training sees of structures."""
    for atoms in structures:
        labels = Labels.of(atoms)
        yield from (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
        yield from (np.array(np.nan if x is None else x) for x in (labels.energy, labels.forces, labels.stress))
