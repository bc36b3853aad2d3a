"""Relax a crystal and run dynamics with a pruned model in ASE.

python examples/in_ase.py [MODEL]

MODEL is the toy model unless given, whose numbers mean nothing; try 7net-l3i5. in_ase.txt is what is printed.
"""

import sys

import numpy as np
import torch
from ase import units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet
from ase.optimize import FIRE

import equiprune as ep

parent = ep.load(sys.argv[1] if len(sys.argv) > 1 else "toy", dtype=torch.float64)

# Only the elements of the crystal: exact, needs no data and no training.
child = ep.prune(parent, ep.allocate(parent, [ep.Elements.parse("Si,C"), ep.Lossless()]))
print(f"{parent.parameters():,} parameters, {child.parameters():,} for Si and C")

atoms = bulk("SiC", "zincblende", a=4.4, cubic=True)
atoms.rattle(0.05, seed=1)
atoms.calc = parent.calculator()
energy, forces = atoms.get_potential_energy(), atoms.get_forces()
atoms.calc = child.calculator()
same = abs(atoms.get_potential_energy() - energy) < 1e-9 and np.allclose(atoms.get_forces(), forces, atol=1e-9)
print(f"Energy {atoms.get_potential_energy() / len(atoms):.4f} eV/atom; the parent's, and its forces: {same}")

FIRE(atoms, logfile=None).run(fmax=0.01, steps=20)
print(f"Relaxed: largest force {np.linalg.norm(atoms.get_forces(), axis=1).max():.3f} eV/Angstrom")

speeds = np.sqrt(units.kB * 300 / atoms.get_masses())
atoms.set_velocities(np.random.default_rng(1).normal(size=(len(atoms), 3)) * speeds[:, np.newaxis])
dynamics = VelocityVerlet(atoms, timestep=0.5 * units.fs)
before = atoms.get_total_energy()
dynamics.run(40)
print(f"20 fs of dynamics: energy kept to 1 meV/atom: {abs(atoms.get_total_energy() - before) / len(atoms) < 1e-3}")
