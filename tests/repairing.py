"""A check of the repair of a pruned model, whatever its architecture."""

from collections.abc import Sequence

import torch
from ase import Atoms

import equiprune as ep


def assert_repaired(parent: ep.Potential, child: ep.Potential, structures: Sequence[Atoms]) -> ep.Repair:
    """Energies and forces come closer to the parent's, an ordinary model of the same size is left, and it is saved."""
    made = ep.repair(child, parent, structures)
    assert made.after.forces < 0.8 * made.before.forces
    assert made.after.energy < 0.5 * made.before.energy
    assert made.potential.architecture == child.architecture
    mixed = {linear.weight for group in child.adapter.linear_maps(child.architecture) for linear in group}
    changed = {
        name
        for name, weight in child.checkpoint.weights.items()
        if not torch.equal(weight, made.potential.checkpoint.weights[name])
    }
    assert len(changed & mixed) > 0.7 * len(mixed)
    certificate = ep.certify(made.potential, parent, nve_steps=2)
    assert certificate.passed, certificate.values
    return made


def probes(potential: ep.Potential, seeds: int = 6) -> list[Atoms]:
    """Structures of a potential's elements to repair its children on."""
    return [atoms for seed in range(seeds) for atoms in ep.probe_structures(potential.elements, seed).values()]
