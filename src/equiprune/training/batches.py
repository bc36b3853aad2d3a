"""Labelled structures as batches of graphs, and in what order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from ase import Atoms

from equiprune.structures.constraints import fixed
from equiprune.structures.graph import AtomicGraph
from equiprune.structures.labels import Labels, labels_of
from equiprune.structures.sequences import Origin
from equiprune.training.hessian_batches import ProbeSubset, stacked
from equiprune.training.objective import LabelBatch


@dataclass(frozen=True)
class TrainingBatch:
    """Structures, their labels, and what to call them in an error: their formulas, and where they are from."""

    graph: AtomicGraph
    targets: LabelBatch
    names: tuple[str, ...]
    origins: tuple[Origin, ...]
    given: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[AtomicGraph, torch.Tensor, Mapping[str, torch.Tensor]]:
        """Inputs of a `Predictor`: the graph, vectors whose Hessian products are asked for, and given features."""
        return self.graph, self.targets.vectors, self.given

    def to(self, device: torch.device | str) -> TrainingBatch:
        """The same batch elsewhere."""
        return replace(self, graph=self.graph.to(device), targets=self.targets.to(device))

    def called(self, which: Iterable[int] | None = None) -> str:
        """Some of its structures in words, or all: ``structures 3 (Si2), 148 (C4H4) for training``."""
        by_use: dict[str, list[str]] = {}
        for i in range(len(self.names)) if which is None else which:
            by_use.setdefault(self.origins[i].use, []).append(f"{self.origins[i].number} ({self.names[i]})")
        parts = [f"structure{'s' * (len(of) > 1)} {', '.join(of)}" for of in by_use.values()]
        return " and ".join(f"{part} for {use}" if use else part for part, use in zip(parts, by_use, strict=True))


def with_labels(
    graph: AtomicGraph,
    structures: Sequence[Atoms],
    probes: Sequence[ProbeSubset] = (),
    origins: Sequence[Origin] | None = None,
) -> TrainingBatch:
    """The graph of structures with their labels, in its precision and on its device.

    ``probes`` say which of its Hessian products each structure brings along; none without. ``origins`` are where the
    structures are from, for errors; their places unless given.
    """
    places = [Origin(i) for i in range(len(structures))] if origins is None else origins
    labels = list(map(labels_of, structures, places))
    pairs = list(zip(labels, structures, strict=True))
    energy = [np.nan if label.energy is None else label.energy for label in labels]
    forces = [np.full((len(a), 3), np.nan) if label.forces is None else label.forces for label, a in pairs]
    stress = [_stress(label, a) for label, a in pairs]
    of_atoms = [np.full(len(a), np.nan) if label.atom_energies is None else label.atom_energies for label, a in pairs]

    def real(values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, dtype=graph.positions.dtype, device=graph.positions.device)

    hessian, vectors = map(real, stacked(labels, structures, probes))
    held = torch.as_tensor(np.concatenate([fixed(atoms) for atoms in structures]), device=graph.positions.device)
    labelled = (real(np.array(energy)), real(np.concatenate(forces)), real(np.stack(stress)))
    targets = LabelBatch(*labelled, hessian, vectors, held, real(np.concatenate(of_atoms)))
    return TrainingBatch(graph, targets, tuple(atoms.get_chemical_formula() for atoms in structures), tuple(places))


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
    """This rank's batches of an epoch, `rounds` for every rank; batches that do not fill a round are left out.

    >>> groups(5, 2, 0, 0), groups(5, 2, 0, 0, rank=1, ranks=2)
    ([[2, 4], [3, 0], [1]], [[3, 0]])
    """
    shuffled = order(structures, epoch, seed, replayed)
    batches = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
    return batches[rank::ranks][: rounds(len(shuffled), size, ranks)]


def rounds(structures: int, size: int, ranks: int = 1) -> int:
    """Steps of an epoch: batches that every one of the processes gets.

    >>> rounds(5, 2), rounds(5, 2, ranks=2)
    (3, 1)
    """
    return -(-structures // size) // ranks
