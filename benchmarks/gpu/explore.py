"""Labelled structures from a teacher: descents along its forces and stress, then kicks and descents in turn.

Every evaluation of the teacher is a labelled structure. A descent goes through the kinds of structures that relaxations
visit, a small kick and a step down those of molecular dynamics. What no simulation should visit (very large forces or
stress) is left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from torch import Tensor

from benchmarks.gpu.batched import Crystals, Edges, Outputs, evaluate, graph
from equiprune import AtomicGraph
from equiprune.potentials.out_of_memory import is_out_of_memory
from equiprune.potentials.potential import Potential

LARGEST_FORCE = 20.0
"""eV/Angstrom: structures with larger forces are left out."""
LARGEST_STRESS = 0.5
"""eV/Angstrom^3 (80 GPa): likewise."""
_DENSEST = 3.0
"""Angstrom^3 per atom: denser starting structures are left out, since their neighbours are thousands."""
_STEPS = 7
_SETTLING = 2
"""Steps of a descent before its structures are kept: starting volumes are guesses."""
KEPT_STEPS = _STEPS - _SETTLING
"""Parts that a descent yields where no step loses all of its structures."""
_SMALLEST_KICK, _LARGEST_KICK = 0.004, 0.25
"""Angstrom, standard deviation of each coordinate; log-uniform in between."""
_KICKED = 0.3
"""Probability of a kick after a step; the first structure is kicked too, since crystals at rest teach little."""


@dataclass(frozen=True)
class Labelled:
    """Structures with the teacher's labels.

    ``crystals``, positions within their cells; ``edges`` within the teacher's cutoff; ``energy`` (structures,) eV;
    ``atomic_energy`` (atoms,) eV; ``forces`` (atoms, 3) eV/Angstrom; ``stress`` (structures, 3, 3) eV/Angstrom^3.
    """

    crystals: Crystals
    edges: Edges
    energy: Tensor
    atomic_energy: Tensor
    forces: Tensor
    stress: Tensor

    def to(self, device: torch.device | str) -> Labelled:
        """The same elsewhere."""
        return Labelled(*(getattr(self, field.name).to(device) for field in fields(self)))

    def within(self, cutoff: float) -> Labelled:
        """The same for a student that sees no further than ``cutoff``, in Angstrom, where its teacher does."""
        return replace(self, edges=self.edges.within(cutoff, self.crystals))


def explore(
    teacher: Potential, structures: Sequence[Atoms], seconds: float, batch_atoms: int, seed: int
) -> Iterator[Labelled]:
    """Descents from structures in random order until the time is up or all have been used."""
    end, random = time.monotonic() + seconds, np.random.default_rng(seed)
    torch.manual_seed(seed)
    order = [i for i in random.permutation(len(structures)).tolist() if _loose(structures[i])]
    while order and time.monotonic() < end:
        batch, atoms = [], 0
        while order and atoms < batch_atoms:
            batch.append(structures[order.pop()])
            atoms += len(batch[-1])
        try:
            yield from _descent(teacher, batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            torch.cuda.empty_cache()  # very dense structures: the others go on


def _loose(atoms: Atoms) -> bool:
    return atoms.get_volume() >= _DENSEST * len(atoms)


def _descent(teacher: Potential, structures: Sequence[Atoms]) -> Iterator[Labelled]:
    crystals = Crystals.of(structures, teacher.device, teacher.dtype)
    crystals = _kicked(crystals, torch.ones(len(structures), dtype=torch.bool, device=teacher.device))
    for step in range(_STEPS):
        found = graph(crystals, teacher.architecture.cutoff)
        outputs = evaluate(teacher, found)
        sound = _sound(crystals, outputs)
        if step >= _SETTLING and sound.any():
            yield _selected(crystals, found, outputs, sound)
        crystals = _downhill(crystals, outputs)
        crystals = _kicked(crystals, torch.rand(len(structures), device=teacher.device) < _KICKED)


def _downhill(crystals: Crystals, outputs: Outputs) -> Crystals:
    """A step along forces of at most 0.15 Angstrom, and against stress of at most 4 % in each direction."""
    owner, sizes = crystals.owner, crystals.sizes[:, None, None]
    steps = (outputs.forces.nan_to_num() * 0.02).clamp(-0.15, 0.15)
    volume = torch.linalg.det(crystals.cells).abs()[:, None, None]
    strain = -(outputs.stress.nan_to_num() * volume / sizes / 20).clamp(-0.04, 0.04)
    # Structures in vacuum keep their box: their stress per atom says nothing about it.
    strain = strain * (volume / sizes < 100)
    return _strained(
        Crystals(crystals.numbers, crystals.positions + steps, crystals.cells, crystals.sizes), strain, owner
    )


def _kicked(crystals: Crystals, which: Tensor) -> Crystals:
    """Random displacements, and strains of up to some percent that grow with them, of some structures."""
    device, owner, count = crystals.positions.device, crystals.owner, len(crystals.sizes)
    size = _SMALLEST_KICK * (_LARGEST_KICK / _SMALLEST_KICK) ** torch.rand(count, device=device)
    noise = torch.randn_like(crystals.positions) * (size * which)[owner, None]
    strain = torch.randn(count, 3, 3, device=device, dtype=crystals.cells.dtype)
    strain = strain * (0.003 + size * 0.12)[:, None, None] * which[:, None, None]
    moved = Crystals(crystals.numbers, crystals.positions + noise, crystals.cells, crystals.sizes)
    return _strained(moved, (strain + strain.transpose(1, 2)) / 2, owner)


def _strained(crystals: Crystals, strain: Tensor, owner: Tensor) -> Crystals:
    deformation = torch.eye(3, device=strain.device, dtype=strain.dtype) + strain
    positions = torch.einsum("ai,aij->aj", crystals.positions, deformation[owner])
    return Crystals(crystals.numbers, positions, crystals.cells @ deformation, crystals.sizes)


def _sound(crystals: Crystals, outputs: Outputs) -> Tensor:
    """Structures that a simulation may visit, (structures,)."""
    count, owner = len(crystals.sizes), crystals.owner
    largest = torch.zeros(count, device=owner.device, dtype=outputs.forces.dtype)
    largest = largest.scatter_reduce(0, owner, outputs.forces.norm(dim=1), "amax")
    stress = outputs.stress.abs().amax((1, 2))
    return (largest < LARGEST_FORCE) & (stress < LARGEST_STRESS) & outputs.energy.isfinite()


def _selected(crystals: Crystals, found: AtomicGraph, outputs: Outputs, which: Tensor) -> Labelled:
    atoms = which[crystals.owner]
    chosen = Crystals(crystals.numbers[atoms], found.positions[atoms], crystals.cells[which], crystals.sizes[which])
    labels = (outputs.energy[which], outputs.atomic_energy[atoms], outputs.forces[atoms], outputs.stress[which])
    return Labelled(chosen, Edges.of(found, crystals.cells, which), *(label.detach() for label in labels))


def of_frames(frames: Sequence[Atoms], cutoff: float) -> Labelled:
    """Periodic frames that have energy, energies of atoms, forces and stress attached; edges within the cutoff."""
    return joined([_of_frame(atoms, atoms.calc.results, cutoff) for atoms in frames])


def _of_frame(atoms: Atoms, labels: Mapping[str, Any], cutoff: float) -> Labelled:
    crystals = Crystals.of([atoms], "cpu", torch.float32)
    found = graph(crystals, cutoff)
    stress = torch.as_tensor(voigt_6_to_full_3x3_stress(labels["stress"]), dtype=torch.float32)
    outputs = Outputs(
        torch.tensor([labels["energy"]], dtype=torch.float32),
        torch.as_tensor(labels["energies"], dtype=torch.float32),
        torch.as_tensor(labels["forces"], dtype=torch.float32),
        stress[None],
    )
    return _selected(crystals, found, outputs, torch.tensor([True]))


def joined(parts: Sequence[Labelled]) -> Labelled:
    """All in one."""
    crystals = Crystals(
        *(
            torch.cat([getattr(part.crystals, name) for part in parts])
            for name in ("numbers", "positions", "cells", "sizes")
        )
    )
    names = ("energy", "atomic_energy", "forces", "stress")
    labels = (torch.cat([getattr(part, name) for part in parts]) for name in names)
    return Labelled(crystals, Edges.joined([part.edges for part in parts]), *labels)
