"""The inputs of the laws: the adapter, its checkpoints, structures and plans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from ase import Atoms
from numpy.random import default_rng

from equiprune.adapters import Checkpoint, ModelAdapter
from equiprune.adapters.growth import Growth
from equiprune.blocks import PruningPlan, Role
from equiprune.potentials.potential import Potential
from equiprune.structures.probes import probe_structures
from equiprune.verification.random_plans import random_plan


class Contract:
    """A test class without tests; everything is compared in float64.

    Attributes:
        adapter: the adapter under test.
        plans: random plans tried per checkpoint, besides one per role.
        repeated: spaces that are made in several places, by the beginnings of their names.
        idle: spaces that upstream computes although nothing of them reaches an output, likewise.
    """

    adapter: ModelAdapter
    plans: int = 3
    repeated: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()

    def checkpoints(self) -> Sequence[Checkpoint]:
        """Models to test on, real or random; small ones keep the tests quick."""
        raise NotImplementedError

    def structures(self, elements: Iterable[int]) -> list[Atoms]:
        """Structures of these elements, periodic in 3-D, to compare on."""
        return list(probe_structures(elements).values())

    def growths(self, potential: Potential) -> Sequence[Growth]:
        """Changes that this model can undergo and that leave its function as it is; none unless overridden."""
        return ()

    def potentials(self) -> Iterator[Potential]:
        """Each checkpoint in float64, with its first head."""
        for checkpoint in self.checkpoints():
            heads = checkpoint.architecture.heads
            yield Potential.create(self.adapter, checkpoint, torch.float64, heads[0] if heads else None)

    def random_plans(self, potential: Potential) -> Iterator[PruningPlan]:
        """Plans that touch everything at once, then each role alone."""
        generator = default_rng(0)
        for _ in range(self.plans):
            yield random_plan(potential, generator)
        for role in sorted({space.role for space in potential.spaces} - {Role.HEADS}, key=str):
            yield random_plan(potential, generator, roles=[role])
