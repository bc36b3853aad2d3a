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
from equiprune.pruning.displacing import LARGEST_FORCE_IN_WORDS, RATTLE, Displaced, Step, displaced
from equiprune.structures.batching import batches
from equiprune.structures.graph import AtomicGraph
from equiprune.structures.sampling import with_atoms_up_to

FEWEST = 10
"""Structures without which nothing can be held out."""
FOLDS = 4
_HELD_OUT = 5
"""Number of structures of which one is held out."""
_BATCH_ATOMS = 64
_MOST_ATOMS = 12_000
"""Atoms of structures that a parent is looked at on, because memory holds what all its maps make of each, twice."""
_ENOUGH_ATOMS, _MOST_DISPLACEMENTS = 6000, 8
"""Structures of fewer atoms together are displaced several times, up to so many; more teach little of so few."""
_MOST_CHANGES, _MOST_ATOMS_OF_CHANGES, _MOST_STEPS = 6000, 60_000, 20
"""Changes of energies that a parent is asked for in all, atoms of their structures, and changes of one structure."""


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
class Change:
    """Energies of structures in two places that differ by a small step, in float32.

    Attributes:
        fold: structures of other folds have nothing to do with these.
        graph: of both places, first all structures in the one, then in the other.
        weights: how much each structure counts, 1 at most, (structures,).
        energies: of the parent, (2 * structures,) eV.
    """

    fold: int
    graph: AtomicGraph
    weights: Tensor
    energies: Tensor


@dataclass(frozen=True)
class ParentView:
    """Results of all linear maps of a parent for structures, so that several of its children can be repaired.

    Memory holds them for each atom twice, in float64. See `ParentView.of`.

    Attributes:
        teacher: the parent in float64.
        held_out: structures that no repair uses.
        expected: what the parent predicts for these.
        samples: the others, with what the parent makes of them.
        changes: energies along further steps of these, for gains.
        step: what is recorded of a repair.
        left_out: number of structures with forces of `LARGEST_FORCE` and more however little they move.
    """

    teacher: Potential
    held_out: Sequence[Atoms]
    expected: Sequence[Prediction]
    samples: Sequence[Sample]
    changes: Sequence[Change]
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
        gains: bool = True,
    ) -> ParentView:
        """The parent's results, computed in float64 on its device.

        Args:
            parent: the model that children are pruned from.
            structures: at least `FEWEST`, of the chemistry the models are for; labels are not looked at. One in five
                is held out. Of many some are chosen, evenly from first to last, with 12,000 atoms together.
            rattle: each structure is displaced by an amount of its own, standard deviation of up to so many Angstrom.
                It moves less where forces would be `LARGEST_FORCE` or more, and counts the less the larger they are.
            displacements: how many times each is displaced; None for up to 8 times, until there are 6,000 atoms.
            seed: of the displacements.
            gains: whether gains of children can be fitted too, which takes about as long again.

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
        single, teacher = parent.with_dtype(torch.float32), parent.with_dtype(torch.float64)
        rounds = [displaced(single, structures, rattle, random) for _ in range(times)]
        of_each = [[copy for copy in copies if copy] for copies in zip(*rounds, strict=True)]
        left = [i for i, copies in enumerate(of_each) if copies]
        _check_left(len(left), len(structures))
        held_out = [of_each[i][0].atoms for i in left[::_HELD_OUT]]
        used = [i for place, i in enumerate(left) if place % _HELD_OUT]
        samples = [_shown(teacher, pair, maps) for pair in _pairs(teacher, [of_each[i] for i in used], random)]
        gains = gains and not parent.direct_forces
        changes = list(_changes(single, [structures[i] for i in used], rattle, random)) if gains else []
        step = Repaired(len(left), rattle, seed, times)
        return cls(teacher, held_out, teacher.predict(held_out), samples, changes, step, len(structures) - len(left))


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
    return max(1, min(_MOST_DISPLACEMENTS, _ENOUGH_ATOMS // sum(map(len, structures))))


def _check_left(left: int, of: int) -> None:
    if left < FEWEST:
        raise TooFewError(
            f"{of - left} of {of} structures have forces that are too large ({LARGEST_FORCE_IN_WORDS}), so that {left} "
            f"are left and {FEWEST} are needed. Give structures nearer to equilibrium."
        )


def _pairs(
    potential: Potential, structures: Sequence[Sequence[Displaced]], random: np.random.Generator
) -> Iterator[_Pairs]:
    """Pairs of all copies of the structures; those of one structure are in one fold."""
    present = np.bincount(np.concatenate([copy.atoms.numbers for copies in structures for copy in copies]))
    counts = torch.as_tensor(np.maximum(present, 1) ** -0.5, device=potential.device)
    for fold in range(FOLDS):
        copies = [copy for of_one in structures[fold::FOLDS] for copy in of_one]
        pairs = [(Step.drawn(copy.atoms, random).ends(copy.atoms), copy.weight) for copy in copies]
        waiting = iter(pairs)
        for batch in batches([forward for (forward, _), _ in pairs], _BATCH_ATOMS):
            chosen = list(islice(waiting, len(batch)))
            graph = potential.graph([*(forward for (forward, _), _ in chosen), *(back for (_, back), _ in chosen)])
            weights = torch.tensor([weight for _, weight in chosen] * 2, dtype=counts.dtype, device=counts.device)
            of_atoms = weights[graph.structure_of_atom]
            yield fold, graph, of_atoms, counts[graph.numbers] * of_atoms


def _changes(
    single: Potential, structures: Sequence[Atoms], rattle: float, random: np.random.Generator
) -> Iterator[Change]:
    """Steps of further copies, whose energies are told from the energy, the forces and the stress half-way."""
    fit = min(_MOST_CHANGES // len(structures), _MOST_ATOMS_OF_CHANGES // sum(map(len, structures)))
    for _ in range(max(1, min(_MOST_STEPS, fit))):
        copies = displaced(single, structures, rattle, random)
        for fold in range(FOLDS):
            for batch in batches([copy for copy in copies[fold::FOLDS] if copy], _BATCH_ATOMS):
                yield _change(single, fold, batch, [Step.drawn(copy.atoms, random) for copy in batch])


def _change(single: Potential, fold: int, copies: Sequence[Displaced], steps: Sequence[Step]) -> Change:
    ends = [step.ends(copy.atoms) for copy, step in zip(copies, steps, strict=True)]
    graph = single.graph([*(forward for forward, _ in ends), *(back for _, back in ends)])
    middle = np.array([float(copy.found.energy) for copy in copies])
    half = np.array([step.energy(copy) / 2 for copy, step in zip(copies, steps, strict=True)])
    energies = torch.as_tensor(np.concatenate([middle + half, middle - half]), device=single.device)
    return Change(fold, graph, torch.tensor([copy.weight for copy in copies], device=single.device).double(), energies)


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
