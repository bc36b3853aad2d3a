"""Labelled structures as batches of graphs, and in what order."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ase import Atoms

from equiprune.adapters import AtomicGraph
from equiprune.errors import StructureError
from equiprune.labels import LabelCounts, Labels, label_sources, labels_of
from equiprune.storage import Progress, silent
from equiprune.structure_files import Origin
from equiprune.structures import checked, fixed
from equiprune.training.objective import Objective, Targets
from equiprune.training.overlap import Overlap, geometry, overlap_said
from equiprune.training.second_derivatives import Turn, stacked


@dataclass(frozen=True)
class TrainingBatch:
    """Structures, their labels, and what to call them in an error: their formulas, and where they are from."""

    graph: AtomicGraph
    targets: Targets
    names: tuple[str, ...]
    origins: tuple[Origin, ...]

    @property
    def inputs(self) -> tuple[AtomicGraph, torch.Tensor]:
        """What a `Predictor` is called with: the graph, and the vectors whose Hessian products are asked for."""
        return self.graph, self.targets.vectors

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


@dataclass(frozen=True)
class Survey:
    """What one pass over structures found.

    Attributes:
        labels: how many structures have which.
        digest: of all that training sees (`seen`).
    """

    labels: LabelCounts
    digest: str

    def lacking(self, objective: Objective) -> list[str]:
        """Weighted quantities that no structure has a label of."""
        return [quantity for quantity in objective.weighted() if not self.labels.of_quantity(quantity)]


def check_labels(
    structures: Sequence[Atoms],
    objective: Objective,
    elements: Iterable[int],
    use: str,
    *,
    every: bool = True,
    each: Callable[[Atoms], None] = lambda _: None,
) -> Survey:
    """What the structures hold, once it is sure that they can be evaluated and weighted terms see labels.

    ``use`` is what the structures are for: training, validation or replay. They are read once, one at a time, and
    ``each`` is called with every one.

    Raises:
        StructureError: they cannot, or a term sees none; without ``every``, if no weighted term sees any.
    """
    if not structures:
        raise StructureError(f"There are no structures for {use}. Give at least one.")
    found = hashlib.sha256()
    labels = LabelCounts.of(_hashed(checked(structures, elements, use), found, each))
    survey = Survey(labels, found.hexdigest())
    lacking = survey.lacking(objective)
    if lacking and (every or len(lacking) == len(objective.weighted())):
        raise _unlabelled(use, lacking[0])
    return survey


def _unlabelled(use: str, quantity: str) -> StructureError:
    how = "with 'equiprune label --hessian-rows'"
    how = how if quantity == "hessian" else f"as ASE calculator results, or REF_{quantity}"
    return StructureError(
        f"No structure for {use} has a label of its {quantity}, which the objective gives a weight. Label them "
        f"({how}), or set the weight of {quantity} to 0."
    )


def survey(
    sets: Mapping[str, Sequence[Atoms]],
    objective: Objective,
    elements: Iterable[int],
    note: Callable[[str], None],
    looked_at: Progress = silent,
) -> dict[str, str]:
    """The digest of each set, by use, once all have been checked.

    What is replayed may lack labels of some terms: those learn from the training structures alone. ``note`` is told
    which labels the sets have, and which validation structures are also in another set. ``looked_at`` is called with 1
    after every structure.
    """
    held_out = array("q")
    surveys, overlaps = dict[str, Survey](), dict[str, Overlap]()
    for use in sorted(sets, key=lambda use: use != "validation"):  # first: then the others need not be remembered
        overlaps[use] = Overlap(held_out)
        told = held_out.append if use == "validation" else overlaps[use].meet

        def each(atoms: Atoms, told: Callable[[int], None] = told) -> None:
            told(geometry(atoms))
            looked_at(1)

        surveys[use] = check_labels(sets[use], objective, elements, use, every=use != "replay", each=each)
    for use, structures in sets.items():
        note(_said(use, structures, surveys[use], objective))
        if places := overlaps[use].places:
            note(overlap_said(sets["validation"], places, use))
    return {use: surveys[use].digest for use in sets}


def _said(use: str, structures: Sequence[Atoms], found: Survey, objective: Objective) -> str:
    lacking = found.lacking(objective)
    alone = f" Of {', '.join(lacking)} it has none; the training structures alone teach that." if lacking else ""
    return f"{use.capitalize()}: {len(structures)} structures. {found.labels}{alone}"


def _hashed(
    structures: Iterable[tuple[Origin, Atoms]], found: Any, each: Callable[[Atoms], None]
) -> Iterator[dict[str, str]]:
    """Where the labels of each structure come from, while all of it goes into a hash."""
    for place, atoms in structures:
        labels = labels_of(atoms, place)
        _add(seen(atoms, labels), found)
        each(atoms)
        yield label_sources(atoms, labels)


def with_labels(
    graph: AtomicGraph, structures: Sequence[Atoms], turns: Sequence[Turn] = (), origins: Sequence[Origin] | None = None
) -> TrainingBatch:
    """The graph of structures with their labels, in its precision and on its device.

    ``turns`` say which of its Hessian products each structure brings along; none without. ``origins`` are where the
    structures are from, for errors; their places unless given.
    """
    places = [Origin(i) for i in range(len(structures))] if origins is None else origins
    labels = list(map(labels_of, structures, places))
    pairs = list(zip(labels, structures, strict=True))
    energy = [np.nan if label.energy is None else label.energy for label in labels]
    forces = [np.full((len(a), 3), np.nan) if label.forces is None else label.forces for label, a in pairs]
    stress = [_stress(label, a) for label, a in pairs]

    def real(values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, dtype=graph.positions.dtype, device=graph.positions.device)

    hessian, vectors = map(real, stacked(labels, structures, turns))
    held = torch.as_tensor(np.concatenate([fixed(atoms) for atoms in structures]), device=graph.positions.device)
    labelled = (real(np.array(energy)), real(np.concatenate(forces)), real(np.stack(stress)))
    targets = Targets(*labelled, hessian, vectors, held)
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


def digest(arrays: Iterable[np.ndarray]) -> str:
    """sha256 of the numbers in arrays."""
    found = hashlib.sha256()
    _add(arrays, found)
    return found.hexdigest()


def _add(arrays: Iterable[np.ndarray], found: Any) -> None:
    for part in arrays:
        found.update(np.ascontiguousarray(part).tobytes())


def seen(atoms: Atoms, labels: Labels) -> Iterator[np.ndarray]:
    """All that training sees of a structure."""
    yield from (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    yield from (np.array(np.nan if x is None else x) for x in (labels.energy, labels.forces, labels.stress))
    if labels.hessian is not None:
        yield from (labels.hessian.vectors, labels.hessian.products)
    if (held := fixed(atoms)).any():
        yield held
