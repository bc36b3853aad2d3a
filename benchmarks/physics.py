"""Physics of models beside their parent: drift of the energy, curves of dimers, equations of state.

``python benchmarks/physics.py MODEL ...``; ``--parent mace-mp-small`` for children of another parent. Parent and
official small model are always among them. What each table says is in the docstring of the function that measures it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from ase.eos import EquationOfState
from ase.md.verlet import VelocityVerlet
from ase.units import GPa, fs, kB
from official import OFFICIALS, PARENT, markdown
from reference_data import VARIABLE, reference

from equiprune import Potential, load

Models = Mapping[str, Potential]

STEPS, TIME_STEP, KELVIN = 150, 2.0, 600.0
"""Steps of the dynamics: number, fs, and the temperature that velocities are drawn at."""

REACH = np.linspace(0.8, 2.5, 69)
"""Distances of dimers, in sums of covalent radii."""
BARRIER = 0.1
"""eV: a smaller one is no barrier."""
WALL = np.array([0.8, 0.9])
"""Distances at which dimers are asked whether they are pushed apart, in sums of covalent radii."""
PULL = 0.05
"""eV between the two: a smaller difference is no push and no pull."""

VOLUMES = np.linspace(0.94, 1.06, 9)
"""Range of crystal volumes, relative to that of PBE."""


def crystals_in_motion() -> dict[str, Atoms]:
    """Four atoms each, displaced a little: ionic, covalent, metallic."""
    found = {
        "NaCl": bulk("NaCl", "rocksalt", a=5.69).repeat((2, 1, 1)),
        "Si": bulk("Si", "diamond", a=5.47).repeat((2, 1, 1)),
        "Cu": bulk("Cu", "fcc", a=3.63, cubic=True),
    }
    for seed, atoms in enumerate(found.values()):
        atoms.rattle(0.05, seed=seed)
    return found


def drift(models: Models) -> dict[str, dict[str, float]]:
    """Slope of the total energy in constant-energy dynamics, meV/atom/ps, by crystal and model; float32."""
    return {
        name: {model: round(_slope(potential, atoms.copy()), 3) for model, potential in models.items()}
        for name, atoms in crystals_in_motion().items()
    }


def _slope(potential: Potential, atoms: Atoms) -> float:
    atoms.calc = potential.calculator()
    velocities = np.random.default_rng(3).standard_normal((len(atoms), 3))
    velocities *= np.sqrt(kB * KELVIN / atoms.get_masses())[:, None]
    atoms.set_velocities(velocities - np.average(velocities, axis=0, weights=atoms.get_masses()))
    dynamics, energies = VelocityVerlet(atoms, timestep=TIME_STEP * fs), []
    for _ in range(STEPS):
        dynamics.run(1)
        energies.append(atoms.get_total_energy() / len(atoms))
    picoseconds = np.arange(STEPS) * TIME_STEP / 1e3
    return 1e3 * float(np.polyfit(picoseconds, energies, 1)[0])


def dimers(models: Models) -> dict[str, dict[str, Any]]:
    """Two atoms of every element, 0.8 to 2.5 sums of covalent radii apart, for each model.

    ``holes``: elements whose curve has a barrier of more than 0.1 eV on both sides within 1.2 sums, so that two atoms
    fall into each other. ``pulled``: those pulled together between 0.8 and 0.9 sums (by more than 0.05 eV) where PBE
    pushes them apart. ``from_parent``: median over elements of the mean difference of the curves, eV.
    """
    elements = sorted(frozenset.intersection(*(potential.elements for potential in models.values())))
    curves = {name: _curves(potential, elements) for name, potential in models.items()}
    parent = next(iter(curves.values()))
    walls = {symbol: wall for symbol, wall in _walls_of_pbe().items() if symbol in parent}
    pushed = [symbol for symbol, (near, far) in walls.items() if near > far + PULL]
    found = {}
    for name, of in curves.items():
        pulled = [symbol for symbol in pushed if np.interp(WALL, REACH, of[symbol]) @ [-1, 1] > PULL]
        apart = [np.abs(of[symbol] - parent[symbol]).mean() for symbol in of]
        holes = [symbol for symbol, curve in of.items() if has_hole(curve)]
        found[name] = {"elements": len(elements), "compared_with_pbe": len(pushed), "holes": holes}
        found[name] |= {"pulled": pulled, "from_parent": round(float(np.median(apart)), 3)}
    return found


def _curves(potential: Potential, elements: Sequence[int]) -> dict[str, np.ndarray]:
    """Energies (distances,) eV relative to the last one, by chemical symbol."""
    found = {}
    for z in elements:
        distances = 2 * covalent_radii[z] * REACH
        predicted = potential.predict([Atoms([z, z], [[0, 0, 0], [0, 0, d]]) for d in distances])
        energies = np.array([p.energy.item() for p in predicted])
        found[chemical_symbols[z]] = energies - energies[-1]
    return found


def has_hole(curve: np.ndarray) -> bool:
    """True where the energy falls by more than `BARRIER` both inwards and outwards of a distance within 1.2 sums."""
    inner = np.minimum.accumulate(curve)
    outer = np.minimum.accumulate(curve[::-1])[::-1]
    barrier = np.minimum(curve - inner, curve - outer)
    return bool((barrier[REACH <= 1.2] > BARRIER).any())


def _walls_of_pbe() -> dict[str, np.ndarray]:
    """Energies at 0.8 and 0.9 sums of covalent radii, eV, by chemical symbol, where the curve begins before."""
    path = Path(os.environ.get(VARIABLE, ".")) / "diatomics_pbe" / "diatomics-dft.json.gz"
    found = {}
    for pair, curve in json.loads(gzip.decompress(path.read_bytes()))["PBE"].items():
        symbol = pair.partition("-")[0]
        near, far = WALL * 2 * covalent_radii[atomic_numbers[symbol]]
        if curve["distances"][0] <= near:
            found[symbol] = np.interp([near, far], curve["distances"], curve["energies"])
    return found


def cubic_crystals(count: int = 40) -> list[Atoms]:
    """Cubic crystals of two atoms, which have no coordinate that could relax; evenly spaced among 3,953 binaries."""
    cubic = [atoms for atoms in reference("mp_elasticity/mp_binary_pbe_elasticity.extxyz.xz") if is_cubic(atoms)]
    return cubic[:: len(cubic) // count][:count]


def is_cubic(atoms: Atoms) -> bool:
    """True for a primitive cell of two atoms that is simple or face-centred cubic."""
    lengths, angles = atoms.cell.lengths(), atoms.cell.angles()
    alike = np.ptp(lengths) < 1e-3 * lengths[0]
    return len(atoms) == 2 and alike and any(np.allclose(angles, angle, atol=0.05) for angle in (60, 90))


def equations_of_state(models: Models) -> dict[str, dict[str, Any]]:
    """Birch-Murnaghan fits of crystals between 94 and 106 % of PBE's volume, for each model; float64.

    Mean absolute differences in % of equilibrium volume and bulk modulus from the parent (``volume``, ``modulus``), and
    of the modulus from PBE's (``modulus_pbe``); ``crystals`` that were fitted by all.
    """
    crystals = cubic_crystals()
    exact = {name: potential.with_dtype(torch.float64) for name, potential in models.items()}
    fits = {name: [_fit(potential, atoms) for atoms in crystals] for name, potential in exact.items()}
    kept = [i for i in range(len(crystals)) if all(np.isfinite(fit[i]).all() for fit in fits.values())]
    values = {name: np.array(fit)[kept] for name, fit in fits.items()}
    pbe = np.array([crystals[i].info["K_vrh_GPa"] for i in kept])
    found = {}
    parent = next(iter(values.values()))
    for name, value in values.items():
        volume, modulus = 100 * np.abs(value / parent - 1).mean(0)
        from_pbe = 100 * np.abs(value[:, 1] / pbe - 1).mean()
        found[name] = {"crystals": len(kept), "volume": round(volume, 2), "modulus": round(modulus, 1)}
        found[name]["modulus_pbe"] = round(from_pbe, 1)
    return found


def _fit(potential: Potential, atoms: Atoms) -> tuple[float, float]:
    """Equilibrium volume, Angstrom^3, and bulk modulus, GPa; NaN where the minimum is outside."""
    scaled = []
    for volume in VOLUMES:
        copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        copy.set_cell(atoms.cell.array * volume ** (1 / 3), scale_atoms=True)
        scaled.append(copy)
    energies = [p.energy.item() for p in potential.predict(scaled)]
    volumes = [copy.cell.volume for copy in scaled]
    if energies.index(min(energies)) in (0, len(energies) - 1):
        return np.nan, np.nan
    volume, _, modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
    return volume, modulus / GPa


def drift_table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown."""
    models = list(next(iter(found.values())))
    heads = ["drift, meV/atom/ps", *found]
    return markdown(heads, [[m, *(f"{of[m]:+.3f}" for of in found.values())] for m in models])


def dimer_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown."""
    first = next(iter(found.values()))
    heads = [
        "dimers",
        f"holes, of {first['elements']} elements",
        f"pulled together where PBE pushes apart, of {first['compared_with_pbe']}",
        "from the parent's curve, eV",
    ]
    rows = [[m, _named(of["holes"]), _named(of["pulled"]), f"{of['from_parent']:.2f}"] for m, of in found.items()]
    return markdown(heads, rows)


def _named(symbols: Sequence[str]) -> str:
    few = f": {', '.join(symbols)}" if 0 < len(symbols) <= 12 else ""
    return f"{len(symbols)}{few}"


def equation_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown."""
    count = next(iter(found.values()))["crystals"]
    heads = [
        f"{count} cubic crystals",
        "volume from the parent's, %",
        "bulk modulus from the parent's, %",
        "from PBE's, %",
    ]
    rows = [[m, f"{of['volume']:.2f}", f"{of['modulus']:.1f}", f"{of['modulus_pbe']:.1f}"] for m, of in found.items()]
    return markdown(heads, rows)


def physics(models: Models) -> dict[str, Any]:
    """All three, by name; the first model is the parent of the others."""
    return {"dimers": dimers(models), "equations_of_state": equations_of_state(models), "drift": drift(models)}


def physics_tables(found: Mapping[str, Any]) -> str:
    """Markdown."""
    tables = drift_table(found["drift"]), dimer_table(found["dimers"]), equation_table(found["equations_of_state"])
    return "\n\n".join(tables)


def main() -> None:
    """Print three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="names or paths of models")
    parser.add_argument("--parent", default=PARENT, choices=OFFICIALS)
    chosen = parser.parse_args()
    names = dict.fromkeys([chosen.parent, OFFICIALS[chosen.parent], *chosen.models])
    print(physics_tables(physics({name: load(name) for name in names})))


if __name__ == "__main__":
    main()
