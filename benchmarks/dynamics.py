"""Molecular dynamics of models beside their parent: drift with error bars, a liquid's structure, ASE beside LAMMPS.

``python benchmarks/dynamics.py MODEL ... --output FOLDER``. The parent, SevenNet-l3i5, is always among the models. Two
systems at constant energy: rock salt of 8 atoms, and water of 8 molecules, small enough for a CPU; ``--salt-time`` and
``--water-time`` make them short or long. With ``--liquid-time`` also liquid water of 192 atoms (``water_pbe0ts``) at
300 K with a thermostat, for a GPU; frames of it by hybrid DFT are always beside. In the end the parent runs 100 steps
in ASE and in LAMMPS, where that is installed.
Interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule
from kept import kept
from official import PARENT, markdown
from reference_data import reference

import equiprune as ep
from equiprune.errors import EquipruneError
from equiprune.evaluation.dynamics.distribution import distributions, farthest, pairs_of
from equiprune.evaluation.dynamics.protocol import Conditions, thermal_momenta
from equiprune.evaluation.dynamics.tables import distribution_table, main_table, motion_table

LIMIT = ep.DynamicsAnalysis(drift_limit=0.1)


def salt() -> Atoms:
    """Rock salt, 8 atoms, displaced a little."""
    atoms = bulk("NaCl", "rocksalt", a=5.69, cubic=True)
    atoms.rattle(0.05, seed=0)
    return atoms


def few_molecules() -> Atoms:
    """Water of 1 g/cm^3, 8 molecules at the places of a cubic lattice, turned at random."""
    cell = Atoms(cell=[6.21] * 3, pbc=True)
    random = np.random.default_rng(0)
    for place in np.ndindex(2, 2, 2):
        one = molecule("H2O")
        one.euler_rotate(*random.uniform(0, 360, 3))
        one.translate((np.array(place) + 0.5) * 6.21 / 2 - one.get_center_of_mass())
        cell += one
    return cell


def liquid() -> Atoms:
    """Liquid water, 64 molecules."""
    return reference("water_pbe0ts/deepmd_water_192.extxyz.xz")[0]


def of_dft() -> str:
    """Peaks in the frames of the liquid that hybrid DFT made, as many as there are."""
    frames = reference("water_pbe0ts/deepmd_water_192.extxyz.xz")
    found = distributions(frames, pairs_of(frames[0]), farthest(frames[0]) or 0.0)
    rows = [[each.name, *(f"{number:.2f}" for number in each.peak)] for each in found]
    return markdown(["liquid of DFT", "peak, Angstrom", "its height", "error of the height"], rows)


def in_motion(name: str, atoms: Atoms, protocol: ep.DynamicsProtocol, models: dict[str, ep.Potential], to: Path) -> str:
    """Tables of one system."""
    found = ep.molecular_dynamics(models, atoms, to / name, protocol, analysis=LIMIT)
    tables = [main_table(found), distribution_table(found), motion_table(found)]
    crashes = [f"{each.model} crashed {each.crash}." for each in found if each.crash]
    title = f"### {name}: {len(atoms)} atoms, {protocol.time:g} ps of {protocol.timestep:g} fs"
    return "\n\n".join([title, *(markdown(rows[0], rows[1:]) for rows in tables), *crashes])


def both_engines(potential: ep.Potential, steps: int = 100) -> str:
    """Largest differences of energies and positions between ASE and LAMMPS, float64."""
    ends = []
    try:
        for engine in (ep.AseEngine(), ep.LammpsEngine()):
            atoms = salt()
            atoms.set_momenta(thermal_momenta(atoms, 600.0, (0,)))
            atoms.calc = potential.with_dtype(torch.float64).calculator()
            engine.check(ep.NVE(), atoms)
            ends.append(list(islice(engine.moments(atoms, ep.NVE(), Conditions(1.0, 600.0, (0,)), {}), steps)))
    except EquipruneError as error:
        return f"ASE beside LAMMPS: not compared. {error}"
    pairs = list(zip(*ends, strict=True))
    energy = max(abs(one.potential - other.potential) for one, other in pairs)
    place = max(abs(one.atoms.positions - other.atoms.positions).max() for one, other in pairs)
    return f"ASE beside LAMMPS, {steps} steps, float64: energies within {energy:.1g} eV, places {place:.1g} Angstrom."


def main() -> None:
    """Print the tables of both systems."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["7net-compact"], help="names or paths of models")
    parser.add_argument("--output", type=Path, required=True, help="a folder, made where there is none")
    parser.add_argument("--salt-time", type=float, default=2.0, help="ps")
    parser.add_argument("--water-time", type=float, default=1.0, help="ps")
    parser.add_argument("--liquid-time", type=float, default=0.0, help="ps; hours on a CPU")
    parser.add_argument("--equilibration", type=float, default=0.1, help="ps")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    chosen = parser.parse_args()
    chosen.output.mkdir(parents=True, exist_ok=True)
    dtype = getattr(torch, chosen.dtype)
    models = {name: ep.load(name, dtype=dtype) for name in dict.fromkeys([PARENT, *chosen.models])}
    systems: dict[str, tuple[Atoms, ep.NVE | ep.NVT, float, float, float]] = {
        "salt": (salt(), ep.NVE(), chosen.salt_time, 2.0, 600.0),
        "water": (few_molecules(), ep.NVE(), chosen.water_time, 0.5, 300.0),
        "liquid": (liquid(), ep.NVT(), chosen.liquid_time, 0.5, 300.0),
    }
    for name, (atoms, ensemble, time, timestep, kelvin) in systems.items():
        if not time:
            continue
        asked = {"time": time, "equilibration": chosen.equilibration, "dtype": chosen.dtype}
        asked |= {f"sha256 of {each}": model.checkpoint.sha256 for each, model in models.items()}
        if kept(chosen.output / name, asked):
            print(f"{name}: done, in {chosen.output / name}")
            continue
        protocol = ep.DynamicsProtocol(ensemble, time, timestep, kelvin, chosen.equilibration)
        print(in_motion(name, atoms, protocol, models, chosen.output), flush=True)
    print(of_dft())
    print(both_engines(models[PARENT]))


if __name__ == "__main__":
    main()
