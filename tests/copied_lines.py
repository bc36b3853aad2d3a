"""Lines that `HasUses` gives, done in a new process as a reader would who copied them into the folder of the file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import ase.io
from ase import Atoms

import equiprune as ep
from equiprune.adapters.capabilities import HasUses
from equiprune.adapters.uses import Use


def uses(potential: ep.Potential, file: str) -> dict[str, Use]:
    """By the first word of the program."""
    assert isinstance(potential.adapter, HasUses)
    found = potential.adapter.uses(potential.architecture, file)
    assert len({use.program.split()[0].rstrip(",") for use in found}) == len(found)
    return {use.program.split()[0].rstrip(","): use for use in found}


def typed(use: Use, folder: Path) -> None:
    """Do the lines for a shell: the first paragraph."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path}
    line = use.lines.split("\n\n")[0]
    done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]


def energy_by(use: Use, folder: Path, atoms: Atoms, energy: str = "atoms.get_potential_energy()") -> float:
    """Energy (eV) of a structure by the lines of Python: the last paragraphs, from the first import on."""
    ase.io.write(folder / "atoms.extxyz", atoms)
    program = use.lines[min(at for word in ("from ", "import ") if (at := f"\n{use.lines}".find(f"\n{word}")) >= 0) :]
    program = f"import json, ase.io\natoms = ase.io.read('atoms.extxyz')\n{program}\nprint(json.dumps(float({energy})))"
    line = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])
