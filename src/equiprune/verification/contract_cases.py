"""Test cases of the adapter contract: plans, structures and weights, changed as each law needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ase import Atoms
from numpy.random import Generator
from torch import Tensor

from equiprune.adapters import Checkpoint
from equiprune.blocks import BlockMask, FeatureSpace, Irrep, PruningPlan, WeightLayout
from equiprune.blocks.layout import spans
from equiprune.potentials.potential import Potential
from equiprune.pruning.counts import group_of


def known_to(plan: PruningPlan, spaces: Iterable[FeatureSpace]) -> PruningPlan:
    """The plan without spaces that are gone, with the interaction they belonged to."""
    names = {space.name for space in spaces}
    return PruningPlan({name: mask for name, mask in plan.masks.items() if name in names})


def completed(core: PruningPlan, outer: PruningPlan, spaces: Iterable[FeatureSpace]) -> PruningPlan:
    """``core`` and everything ``outer`` removes: valid wherever both are, and ``outer & this`` is ``core``."""
    masks = {}
    for space in spaces:
        shared, kept = core.mask(space), outer.mask(space)
        added = {ir: sorted(set(range(mul)) - set(kept.of(ir))) for mul, ir in space.irreps}
        masks[space.name] = BlockMask.keep(
            space.irreps, {ir: (*shared.of(ir), *added[ir]) for _, ir in space.irreps if shared.of(ir)}
        )
    return PruningPlan(masks)


def turned(atoms: Atoms, generator: Generator) -> Atoms:
    """The same structure turned, shifted, and with its atoms in another order."""
    moved = atoms[generator.permutation(len(atoms))]
    moved.rotate(generator.uniform(10, 170), generator.standard_normal(3), rotate_cell=True)
    moved.translate(generator.standard_normal(3))
    return moved


def shifted(atoms: Atoms, generator: Generator) -> Atoms:
    """The same structure elsewhere."""
    shifted = atoms.copy()
    shifted.translate(generator.standard_normal(3))
    return shifted


Block = tuple[str, Irrep, int]
"""Space, irrep, channel."""


def with_silenced_channels(
    potential: Potential, generator: Generator, *, produced: bool
) -> tuple[Checkpoint, list[Block]]:
    """The checkpoint with one channel of every scored space no longer produced (or no longer read), and which."""
    layouts = potential.adapter.layouts(potential.architecture)
    weights = {name: weight.contiguous().clone() for name, weight in potential.checkpoint.weights.items()}
    entry_of_group: dict[str, int] = {}
    blocks = []
    for space in potential.spaces:
        if space.scored and not space.normalised and (space.zero_preserving or not produced):
            # one irrep for all spaces of a size group: otherwise none could be removed
            entry = entry_of_group.setdefault(group_of(space), int(generator.integers(len(space.irreps))))
            mul, ir = space.irreps.entries[entry % len(space.irreps)]
            block = (space.name, ir, int(generator.integers(mul)))
            if sum(_silence(weights[name], layout, block, produced) for name, layout in layouts.items()):
                blocks.append(block)
    return replace(potential.checkpoint, weights=weights), blocks


def _silence(weight: Tensor, layout: WeightLayout, block: Block, produced: bool) -> int:
    """Zero in place what makes a block or what reads it; how many stretches that was."""
    space, irrep, channel = block
    found, blocks = 0, layout.split(weight)
    for path in layout.paths:
        for dim, axis in enumerate(path.axes):
            makes = path.produces(dim)
            if makes and len(path.axes) == 1 and not path.key:
                continue  # an element-wise constant makes nothing
            for segment, where in spans(axis):
                ours = (segment.space, segment.irrep) == (space, irrep) and makes == produced
                if ours and (segment.effect == "" or not produced):
                    blocks[path.key].select(dim, where.start + channel).zero_()
                    found += 1
    return found
