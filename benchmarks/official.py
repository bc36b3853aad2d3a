"""Models beside the official small model, on labels of DFT: errors with bootstrap intervals over frames.

``python benchmarks/official.py NAME=MODEL ... --frames 10``. Sets: mlearn's Cu, Ni, Li, Si and Li-Ge-P-S (dynamics and
strained crystals), and every fifth frame of the MPtrj sample, which no training of ours sees (SevenNet's own models
were trained on them).
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from reference_data import reference

from equiprune import Potential, load

SETS = {
    "Cu": "mlearn/Cu_test.extxyz.xz",
    "Ni": "mlearn/Ni_test.extxyz.xz",
    "Li": "mlearn/Li_test.extxyz.xz",
    "Si": "mlearn/Si_test.extxyz.xz",
    "Li-Ge-P-S": "lgps_sse_pbe/test_50at.extxyz.xz",
    "MPtrj": "mptrj_sample/mptrj-random-1k.extxyz.xz",
}
RESAMPLES = 2000


def main() -> None:
    """Print one row for each set and model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="NAME=MODEL; the first is what the others are compared with")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--frames", type=int, default=1000, help="at most, of each set, evenly spaced")
    parser.add_argument("--mptrj-atoms", type=int, default=192, help="largest MPtrj frame")
    parser.add_argument("-o", "--output", type=Path)
    chosen = parser.parse_args()
    models = {name: load(path) for name, path in (entry.split("=", 1) for entry in chosen.models)}
    rows = []
    print("| set | frames | model | E MAE, meV/atom (95 %) | F MAE, meV/Angstrom (95 %) |")
    print("|---|---|---|---|---|")
    for name in chosen.sets:
        structures = _frames(name, chosen.frames, chosen.mptrj_atoms)
        for model, potential in models.items():
            row = {"set": name, "frames": len(structures), "model": model} | _errors(potential, structures)
            rows.append(row)
            energy, forces = (f"{row[q]:.1f} ({row[f'{q}_95'][0]:.1f}..{row[f'{q}_95'][1]:.1f})" for q in ("E", "F"))
            print(f"| {name} | {len(structures)} | {model} | {energy} | {forces} |", flush=True)
    if chosen.output:
        chosen.output.write_text(json.dumps(rows, indent=1))


def _frames(name: str, most: int, mptrj_atoms: int) -> list[Atoms]:
    structures = reference(SETS[name])
    if name == "MPtrj":
        structures = [atoms for atoms in structures[::5] if len(atoms) <= mptrj_atoms]
    return structures[:: max(1, -(-len(structures) // most))]


def _errors(potential: Potential, structures: Sequence[Atoms]) -> dict[str, object]:
    """Mean absolute errors, and their 95 % intervals from drawing frames again."""
    energies, forces, components = [], [], []
    for atoms, predicted in zip(structures, potential.predict(structures), strict=True):
        energies.append(abs(predicted.energy.item() - atoms.get_potential_energy()) / len(atoms))
        forces.append(np.abs(predicted.forces.numpy() - atoms.get_forces()).sum())
        components.append(3 * len(atoms))
    draws = np.random.default_rng(0).integers(len(structures), size=(RESAMPLES, len(structures)))
    e, f, n = (np.array(values) for values in (energies, forces, components))
    e_draws, f_draws = e[draws].mean(1) * 1e3, f[draws].sum(1) / n[draws].sum(1) * 1e3
    return {
        "E": e.mean() * 1e3,
        "E_95": np.percentile(e_draws, [2.5, 97.5]).tolist(),
        "F": f.sum() / n.sum() * 1e3,
        "F_95": np.percentile(f_draws, [2.5, 97.5]).tolist(),
    }


if __name__ == "__main__":
    main()
