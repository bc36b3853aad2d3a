"""SevenNet's own tools in a process that never heard of equiprune, and the input of its LAMMPS pair style."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from ase import Atoms

import equiprune as ep

_PROGRAM = """
import json, os, sys, ase.io
from sevenn.calculator import SevenNetCalculator
from sevenn.main.sevenn import main
structures, files, commands = json.loads(sys.argv[1])
calculators = [SevenNetCalculator(file, device="cpu") for file in files]
energies = [[c.get_potential_energy(atoms) for atoms in ase.io.read(structures, ":")] for c in calculators]
for folder, words in commands:
    os.chdir(folder)
    sys.argv[1:] = words
    main()
print(json.dumps(energies))
"""
"""All in one process: what it imports takes longer than what it does."""


def stock(
    structures: Path, files: Mapping[str, Path], commands: Sequence[tuple[Path, Sequence[str]]]
) -> Mapping[str, list[float]]:
    """Energies (eV) of every structure for each file, by the stock calculator; then ``sevenn`` runs.

    Args:
        structures: a file.
        files: what the calculator opens, by name.
        commands: the folder in which ``sevenn`` runs, and its words, one after another.
    """
    asked = [str(structures), [str(file) for file in files.values()], [(str(cwd), words) for cwd, words in commands]]
    program = [sys.executable, "-W", "ignore", "-c", _PROGRAM, json.dumps(asked)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(files, json.loads(done.stdout.splitlines()[-1]), strict=True))


def lammps_input(potential: ep.Potential, atoms: Atoms) -> dict[str, torch.Tensor]:
    """Inputs that the pair style gives to a deployed model."""
    graph = potential.graph([atoms])
    types = {z: i for i, z in enumerate(potential.architecture.elements)}
    return {
        "x": torch.tensor([types[z] for z in atoms.numbers]),
        "edge_index": graph.edge_index,
        "edge_vec": graph.edge_vectors().detach().requires_grad_(),
        "num_atoms": torch.tensor(len(atoms)),
        "cell_volume": torch.tensor(atoms.cell.volume, dtype=torch.float32),
    }
