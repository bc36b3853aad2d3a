"""SevenNet's own tools in processes that never heard of equiprune, and the input of its LAMMPS pair style."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from ase import Atoms

import equiprune as ep

_STOCK_CALCULATOR = """
import json, sys, ase.io
from sevenn.calculator import SevenNetCalculator
structures, *files = sys.argv[1:]
calculators = [SevenNetCalculator(file, device="cpu") for file in files]
print(json.dumps([[c.get_potential_energy(atoms) for atoms in ase.io.read(structures, ":")] for c in calculators]))
"""


def stock_energies_of(structures: Path, files: Sequence[Path]) -> list[list[float]]:
    """Energies (eV) of every structure, for each file, by the stock calculator in a fresh process."""
    command = [sys.executable, "-W", "ignore", "-c", _STOCK_CALCULATOR, str(structures), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


_SEVENN = """
import json, sys
from sevenn.main.sevenn import main
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    main()
"""


def run_sevenn(*commands: Sequence[str], cwd: Path | None = None) -> None:
    """``sevenn`` with the words of each command, one after another in one process; fails with what it says."""
    program = [sys.executable, "-W", "ignore", "-c", _SEVENN, json.dumps(commands)]
    result = subprocess.run(program, capture_output=True, text=True, cwd=cwd, check=False)
    assert result.returncode == 0, result.stderr[-2000:]


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
