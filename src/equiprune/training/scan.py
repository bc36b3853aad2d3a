"""One pass over the structures of a run before it begins: whether they can be evaluated, their labels, their digest."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from equiprune.errors import StructureError
from equiprune.progress import Progress, silent
from equiprune.structures.checks import checked
from equiprune.structures.constraints import fixed
from equiprune.structures.global_inputs import GlobalInput, numbers_of
from equiprune.structures.label_checks import LabelDoubts, likely_keys_said
from equiprune.structures.labels import LabelCounts, Labels, label_sources, labels_of
from equiprune.structures.overlap import Overlap, geometry, overlap_said
from equiprune.structures.sequences import Origin
from equiprune.training.objective import Objective


@dataclass(frozen=True)
class DatasetSummary:
    """Findings of one pass over structures.

    Attributes:
        labels: how many structures have which.
        digest: of all that training sees (`seen`).
    """

    labels: LabelCounts
    digest: str

    def lacking(self, objective: Objective) -> list[str]:
        """Weighted quantities that no structure has a label of."""
        return [quantity for quantity in objective.labelled() if not self.labels.of_quantity(quantity)]


_HOW = {
    "hessian": "with 'equiprune label --hessian-rows'",
    "atom_energies": "with 'equiprune label', by a teacher that divides its energy among atoms",
}
"""Ways to labels that only teachers have."""
_SAME = 1e-3
"""eV/atom: atom energies that add up to another energy than the label are of another teacher."""


def check_labels(
    structures: Sequence[Atoms],
    objective: Objective,
    elements: Iterable[int],
    use: str,
    *,
    every: bool = True,
    each: Callable[[Atoms, Labels], None] = lambda *_: None,
    inputs: Sequence[GlobalInput] = (),
) -> DatasetSummary:
    """Content of the structures, once it is sure that they can be evaluated and weighted terms see labels.

    ``use`` is what the structures are for: training, validation or replay. They are read once, one at a time, and
    ``each`` is called with every one and its labels. ``inputs`` are what the model reads of a whole structure.

    Raises:
        StructureError: they cannot, or a term sees none; without ``every``, if no weighted term sees any.
    """
    if not structures:
        raise StructureError(f"There are no structures for {use}. Give at least one.")
    found, shares = hashlib.sha256(), objective.atom_energies.weight > 0
    fit = checked(structures, elements, use, inputs)
    labels = LabelCounts.of(_hashed(fit, found, each, shares=shares, inputs=inputs))
    scan_dataset = DatasetSummary(labels, found.hexdigest())
    lacking = scan_dataset.lacking(objective)
    if lacking and (every or len(lacking) == len(objective.labelled())):
        raise _unlabelled(use, lacking[0], structures)
    return scan_dataset


def _unlabelled(use: str, quantity: str, structures: Sequence[Atoms]) -> StructureError:
    name = quantity.replace("_", " ")
    how = _HOW.get(quantity, f"as ASE calculator results, or REF_{quantity}")
    likely = "" if quantity in _HOW else likely_keys_said(structures)
    return StructureError(
        f"No structure for {use} has a label of its {name}, which the objective gives a weight. Label them "
        f"({how}), or set the weight of {name} to 0.{likely}"
    )


def scan_dataset(
    sets: Mapping[str, Sequence[Atoms]],
    objective: Objective,
    elements: Iterable[int],
    note: Callable[[str], None],
    looked_at: Progress = silent,
    inputs: Sequence[GlobalInput] = (),
) -> dict[str, str]:
    """The digest of each set, by use, once all have been checked.

    What is replayed may lack labels of some terms: those learn from the training structures alone. ``note`` is told
    which labels the sets have, which validation structures are also in another set, and where labels of the training
    set contradict their structures. ``looked_at`` is called with 1 after every structure. ``inputs`` are as
    for `check_labels`.
    """
    held_out = array("q")
    surveys, overlaps, doubts = dict[str, DatasetSummary](), dict[str, Overlap](), LabelDoubts(len(sets["training"]))
    for use in sorted(sets, key=lambda use: use != "validation"):  # first: then the others need not be remembered
        overlaps[use] = Overlap(held_out)
        told = held_out.append if use == "validation" else overlaps[use].meet
        each = _watching(told, doubts if use == "training" else None, looked_at)
        every = use != "replay"
        surveys[use] = check_labels(sets[use], objective, elements, use, every=every, each=each, inputs=inputs)
    for use, structures in sets.items():
        note(_said(use, structures, surveys[use], objective))
        if places := overlaps[use].places:
            note(overlap_said(sets["validation"], places, use))
    for doubt in doubts.said():
        note(doubt)
    return {use: surveys[use].digest for use in sets}


def _watching(
    met: Callable[[int], object], doubts: LabelDoubts | None, looked_at: Progress
) -> Callable[[Atoms, Labels], None]:
    """Compare the geometry of each structure of a set, look at its labels where they may be doubted, and count it."""

    def each(atoms: Atoms, labels: Labels) -> None:
        met(geometry(atoms))
        if doubts is not None:
            doubts.see(atoms, labels)
        looked_at(1)

    return each


def _said(use: str, structures: Sequence[Atoms], found: DatasetSummary, objective: Objective) -> str:
    lacking = found.lacking(objective)
    alone = f" Of {', '.join(lacking)} it has none; the training structures alone teach that." if lacking else ""
    return f"{use.capitalize()}: {len(structures)} structures. {found.labels}{alone}"


def _hashed(
    structures: Iterable[tuple[Origin, Atoms]],
    found: Any,
    each: Callable[[Atoms, Labels], None],
    *,
    shares: bool,
    inputs: Sequence[GlobalInput],
) -> Iterator[dict[str, str]]:
    """Sources of the labels of each structure, while all of it goes into a hash; ``shares``: atom energies too."""
    for place, atoms in structures:
        labels = labels_of(atoms, place)
        _add([*seen(atoms, labels), numbers_of(atoms, inputs)], found)
        if shares and labels.atom_energies is not None:
            _check_sum(atoms, labels, place)
            _add([labels.atom_energies], found)
        each(atoms, labels)
        yield label_sources(atoms, labels)


def _check_sum(atoms: Atoms, labels: Labels, place: Origin) -> None:
    """Raise `StructureError` where energy and atom energies cannot both be learnt."""
    if labels.energy is None or labels.atom_energies is None:
        return
    total = float(labels.atom_energies.sum())
    if abs(total - labels.energy) > _SAME * len(atoms):
        raise StructureError(
            f"{place.of(atoms)}: its atom energies add up to {total:.4f} eV, its energy is {labels.energy:.4f} eV. "
            "They are of two teachers or levels of theory. Label both with one, or give `atom_energies_weight` 0."
        )


def digest(arrays: Iterable[np.ndarray]) -> str:
    """sha256 of the numbers in arrays."""
    found = hashlib.sha256()
    _add(arrays, found)
    return found.hexdigest()


def _add(arrays: Iterable[np.ndarray], found: Any) -> None:
    for part in arrays:
        found.update(np.ascontiguousarray(part).tobytes())


def seen(atoms: Atoms, labels: Labels) -> Iterator[np.ndarray]:
    """All that training sees of a structure, but atom energies."""
    yield from (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    yield from (np.array(np.nan if x is None else x) for x in (labels.energy, labels.forces, labels.stress))
    if labels.hessian is not None:
        yield from (labels.hessian.vectors, labels.hessian.products)
    if (held := fixed(atoms)).any():
        yield held
