"""A parent as its children are repaired from: what all its linear maps make of structures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from equiprune.adapters.capabilities import HasLinearMaps
from equiprune.adapters.history import Repaired
from equiprune.blocks import LinearMap
from equiprune.errors import StructureError, TargetError
from equiprune.potentials.observing import evaluated
from equiprune.potentials.potential import Potential, Prediction
from equiprune.structures.batching import batches
from equiprune.structures.graph import AtomicGraph
from equiprune.structures.sampling import with_atoms_up_to

RATTLE = 0.15
"""Largest displacement, standard deviation in Angstrom (docs/results.md, repair)."""
FEWEST = 10
"""Structures without which nothing can be held out."""
FOLDS = 4
_HELD_OUT = 5
"""Number of structures of which one is held out."""
_STEP = 0.01
"""Displacement along which features change, root mean square in Angstrom; a strain of a tenth of it goes with it."""
_FORCE_SCALE = 2.0
"""Force, root mean square in eV/Angstrom, with which a structure counts a quarter of what a relaxed one does: features
change the faster the larger the force, and a few squeezed structures would decide alone.
"""
LARGEST_FORCE = 10.0
"""Force, root mean square in eV/Angstrom, from which on a structure is displaced by less, or left out where it has such
forces as it is. Both are larger where half of the structures have forces above `_FORCE_SCALE`.
"""
LARGEST_FORCE_IN_WORDS = (
    f"{LARGEST_FORCE:g} eV/Angstrom, or {LARGEST_FORCE / _FORCE_SCALE:g} times the median, and more; root mean square"
)
_HALVINGS = 4
"""Times that a displacement is halved before a structure is left out."""
_BATCH_ATOMS = 64
_MOST_ATOMS = 6000
"""Atoms that a parent is looked at on, because memory holds what all its maps make of each, twice."""
_MOST_DISPLACEMENTS = 8
"""Times that a structure is displaced where nothing else is asked for; more teach little of so few structures."""


class TooFewError(StructureError):
    """Structures that are too few to hold some of them out."""


@dataclass(frozen=True)
class Sample:
    """Structures in two places that differ by a small step: of one graph, the first half of the atoms and the second.

    Attributes:
        fold: structures of other folds have nothing to do with these.
        graph: of both.
        weights: how much the structure of each atom counts, 1 at most, (2 * atoms,).
        counts: how much each atom counts: the weight, and less the more there are of its element, (2 * atoms,).
        outputs: by module, what comes out of it in the parent, (2 * atoms, columns).
        atom_energies: in the parent, (2 * atoms,) eV.
    """

    fold: int
    graph: AtomicGraph
    weights: Tensor
    counts: Tensor
    outputs: Mapping[str, Tensor]
    atom_energies: Tensor


@dataclass(frozen=True)
class ParentView:
    """Results of all linear maps of a parent for structures, so that several of its children can be repaired.

    Memory holds them for each atom twice, in float64. See `ParentView.of`.

    Attributes:
        teacher: the parent in float64.
        held_out: structures that no repair uses.
        expected: what the parent predicts for these.
        samples: the others, with what the parent makes of them.
        step: what is recorded of a repair.
        left_out: number of structures with forces of `LARGEST_FORCE` and more however little they move.
    """

    teacher: Potential
    held_out: Sequence[Atoms]
    expected: Sequence[Prediction]
    samples: Sequence[Sample]
    step: Repaired
    left_out: int = 0

    @classmethod
    def of(
        cls,
        parent: Potential,
        structures: Sequence[Atoms],
        *,
        rattle: float = RATTLE,
        displacements: int | None = None,
        seed: int = 0,
    ) -> ParentView:
        """The parent's results, computed in float64 on its device.

        Args:
            parent: the model that children are pruned from.
            structures: at least `FEWEST`, of the chemistry the models are for; labels are not looked at. One in five
                is held out. Of many large ones some are chosen, evenly from first to last, with 6,000 atoms together.
            rattle: each structure is displaced by an amount of its own, standard deviation of up to so many Angstrom.
                It moves less where forces would be `LARGEST_FORCE` or more, and counts the less the larger they are.
            displacements: how many times each is displaced; None for up to 8 times, until there are 6,000 atoms.
            seed: of the displacements.

        Raises:
            TargetError: the architecture shows no linear maps.
            TooFewError: too few structures, also without those that are left out.
            StructureError: some that the parent cannot evaluate.
        """
        maps = [linear for group in maps_of(parent) for linear in group]
        if len(structures) < FEWEST:
            raise TooFewError(
                f"{len(structures)} structures are too few to repair a model: one in five is held out to see whether "
                f"it helped. Give {FEWEST} or more; labels are not needed."
            )
        structures = with_atoms_up_to(structures, _MOST_ATOMS, FEWEST)
        random = np.random.default_rng(seed)
        times = displacements or _as_many_as_fit(structures)
        rounds = [_displaced(parent, structures, rattle, random) for _ in range(times)]
        of_each = [[copy for copy in copies if copy] for copies in zip(*rounds, strict=True)]
        displaced = [copies for copies in of_each if copies]
        _check_left(len(displaced), len(structures))
        held_out = [copies[0].atoms for copies in displaced[::_HELD_OUT]]
        used = [copies for i, copies in enumerate(displaced) if i % _HELD_OUT]
        teacher = parent.with_dtype(torch.float64)
        samples = [_shown(teacher, pair, maps) for pair in _pairs(teacher, used, random)]
        step = Repaired(len(displaced), rattle, seed, times)
        return cls(teacher, held_out, teacher.predict(held_out), samples, step, len(structures) - len(displaced))


@dataclass(frozen=True)
class _Displaced:
    """A displaced copy of a structure, without labels, and how much it counts."""

    atoms: Atoms
    weight: float


_Pairs = tuple[int, AtomicGraph, Tensor, Tensor]
"""Fold, graph, weights and counts of a sample that the parent has not seen yet."""


def can_repair(potential: Potential) -> bool:
    """True if the architecture shows linear maps."""
    return isinstance(potential.adapter, HasLinearMaps)


def maps_of(potential: Potential) -> Sequence[Sequence[LinearMap]]:
    """Linear maps in groups, in the order of the forward pass; raises `TargetError` where none are shown."""
    adapter = potential.adapter
    if not isinstance(adapter, HasLinearMaps):
        raise TargetError(
            f"{adapter.name} models cannot be repaired in closed form: their adapter shows no linear maps. Retrain the "
            "pruned model as it is, with 'equiprune train'."
        )
    return adapter.linear_maps(potential.architecture)


def _as_many_as_fit(structures: Sequence[Atoms]) -> int:
    """Number of times that structures can be displaced."""
    return max(1, min(_MOST_DISPLACEMENTS, _MOST_ATOMS // sum(map(len, structures))))


def _displaced(
    parent: Potential, structures: Sequence[Atoms], rattle: float, random: np.random.Generator
) -> list[_Displaced | None]:
    """A copy of each structure, displaced by an amount of its own; None where its forces are too large.

    Where forces would be too large, a copy moves less. They are those of float32, which is enough for that.
    """
    steps = [random.uniform(0, rattle) * random.normal(0, 1, atoms.positions.shape) for atoms in structures]
    moved = [_moved(atoms, step) for atoms, step in zip(structures, steps, strict=True)]
    single = parent.with_dtype(torch.float32)
    forces = _rms_forces(single, moved)
    scale = max(1.0, float(np.nanmedian(forces)) / _FORCE_SCALE)
    for halvings in range(1, _HALVINGS + 1):
        squeezed = [i for i, force in enumerate(forces) if not force < scale * LARGEST_FORCE]  # also where it is nan
        for i in squeezed:
            moved[i] = _moved(structures[i], steps[i] / 2**halvings)
        for i, force in zip(squeezed, _rms_forces(single, [moved[i] for i in squeezed]), strict=True):
            forces[i] = force
    return [
        _Displaced(atoms, (1 + force / (scale * _FORCE_SCALE)) ** -2) if force < scale * LARGEST_FORCE else None
        for atoms, force in zip(moved, forces, strict=True)
    ]


def _rms_forces(potential: Potential, structures: Sequence[Atoms]) -> list[float]:
    """Forces of each structure, root mean square in eV/Angstrom."""
    return [found.forces.double().square().mean().sqrt().item() for found in potential.predict(structures)]


def _moved(atoms: Atoms, step: np.ndarray) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions + step, cell=atoms.cell, pbc=atoms.pbc, info=dict(atoms.info))


def _check_left(left: int, of: int) -> None:
    if left < FEWEST:
        raise TooFewError(
            f"{of - left} of {of} structures have forces that are too large ({LARGEST_FORCE_IN_WORDS}), so that {left} "
            f"are left and {FEWEST} are needed. Give structures nearer to equilibrium."
        )


def _apart(atoms: Atoms, random: np.random.Generator) -> tuple[Atoms, Atoms]:
    """The structure half a step forward and back, along a random displacement and a random strain."""
    step = random.normal(0, _STEP, atoms.positions.shape)
    strain = random.normal(0, _STEP / 10, (3, 3)) if atoms.pbc.all() else np.zeros((3, 3))
    forward, back = atoms.copy(), atoms.copy()
    for copy, sign in ((forward, 0.5), (back, -0.5)):
        copy.set_cell(copy.cell.array @ (np.eye(3) + sign * (strain + strain.T) / 2), scale_atoms=True)
        copy.positions += sign * step
    return forward, back


def _pairs(
    potential: Potential, structures: Sequence[Sequence[_Displaced]], random: np.random.Generator
) -> Iterator[_Pairs]:
    """Pairs of all copies of the structures; those of one structure are in one fold."""
    present = np.bincount(np.concatenate([copy.atoms.numbers for copies in structures for copy in copies]))
    counts = torch.as_tensor(np.maximum(present, 1) ** -0.5, device=potential.device)
    for fold in range(FOLDS):
        copies = [copy for of_one in structures[fold::FOLDS] for copy in of_one]
        pairs = [(_apart(copy.atoms, random), copy.weight) for copy in copies]
        waiting = iter(pairs)
        for batch in batches([forward for (forward, _), _ in pairs], _BATCH_ATOMS):
            chosen = list(islice(waiting, len(batch)))
            graph = potential.graph([*(forward for (forward, _), _ in chosen), *(back for (_, back), _ in chosen)])
            weights = torch.tensor([weight for _, weight in chosen] * 2, dtype=counts.dtype, device=counts.device)
            of_atoms = weights[graph.structure_of_atom]
            yield fold, graph, of_atoms, counts[graph.numbers] * of_atoms


def summed(seen: Mapping[str, tuple[Tensor, Tensor]], linear: LinearMap) -> Tensor:
    """Results of a map, with what they are added to."""
    return torch.stack([seen[name][1] for name in (linear.last.module, *linear.added_to)]).sum(0)


def halves(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and difference of the first half of the rows and the second: features, and their changes."""
    forward, back = rows.chunk(2)
    return (forward + back) / 2, forward - back


def modules_of(linears: Iterable[LinearMap]) -> set[str]:
    """Submodules that say what maps are given and what becomes of it."""
    return {name for m in linears for name in (m.module, m.last.module, *m.added_to)}


def _shown(teacher: Potential, pairs: _Pairs, maps: Sequence[LinearMap]) -> Sample:
    """The pairs with what the parent makes of them."""
    fold, graph, weights, counts = pairs
    seen, found = evaluated(teacher, graph, modules_of(maps))
    outputs = {linear.module: summed(seen, linear) for linear in maps}
    return Sample(fold, graph, weights, counts, outputs, found.atom_energies)
