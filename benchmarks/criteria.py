"""The criterion that chooses best before any retraining: SevenNet-l3i5, Nequix, each at half width, and MACE-MP-0.

Scores come from MPtrj frames. They are tested on what they have not seen: DFT molecular dynamics of Cu, Li, Si
(mlearn) and of a Li-Ge-P-S electrolyte; MPtrj frames of other compositions, as they are and displaced (0.1 Angstrom,
2 % strain). Errors are against DFT, for displaced frames against the parent.

A force error alone misleads: a model whose signal is lost predicts no force at all, and on frames near equilibrium
nothing beats predicting none. So the table also gives the error of predicting zero, and how large the predicted forces
are and how well they point along the parent's.
"""

import argparse
import json
import statistics

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from reference_data import mptrj, reference, split_by_composition

import equiprune as ep

TARGETS = {
    "7net-l3i5": [ep.HiddenIrreps.parse("64x0e+32x1e+16x2e"), ep.EdgeLmax(2)],
    "mace-mp-small": [ep.Channels(96)],
    "nequix-oam-1": [ep.HiddenIrreps.parse("64x0e+32x1o+16x2e+16x3o")],
}


def displaced(structures: list[Atoms], teacher: ep.Potential) -> list[Atoms]:
    """Rattled and strained copies, labelled by the teacher."""
    generator = np.random.default_rng(0)
    copies = []
    for atoms in structures:
        copy = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        copy.set_cell(copy.cell.array @ (np.eye(3) + 0.02 * generator.standard_normal((3, 3))), scale_atoms=True)
        copy.positions += 0.1 * generator.standard_normal(copy.positions.shape)
        copies.append(copy)
    for copy, p in zip(copies, teacher.predict(copies), strict=True):
        copy.calc = SinglePointCalculator(copy, energy=p.energy.item(), forces=p.forces.numpy())
    return copies


def test_sets(test: list[Atoms], parent: ep.Potential) -> dict[str, list[Atoms]]:
    """Name to labelled structures."""
    sets = {f"{e} (DFT MD)": reference(f"mlearn/{e}_test.extxyz.xz")[::8] for e in ("Cu", "Li", "Si")}
    sets["Li-Ge-P-S (DFT MD)"] = reference("lgps_sse_pbe/test_50at.extxyz.xz")[::50]
    sets["MPtrj, displaced"] = displaced(test, parent)
    sets["MPtrj, as it is"] = test
    return sets


def children(parent: ep.Potential, targets: list, calibration: list[Atoms], seeds: int) -> dict[str, ep.Potential]:
    """One pruned model per criterion and seed."""
    scores = {c.name: ep.calibrate(parent, calibration, c) for c in (ep.Taylor(), ep.Activation())}
    scores["magnitude"] = ep.data_free_scores(parent, ep.Magnitude())
    scores |= {f"random {seed}": ep.data_free_scores(parent, ep.Random(seed)) for seed in range(seeds)}
    return {name: ep.prune(parent, ep.allocate(parent, targets, s)) for name, s in scores.items()}


def measure(model: ep.Potential, structures: list[Atoms], parent_forces: torch.Tensor | None) -> dict[str, float]:
    """Energy and force error against labels; size and direction of the forces against the parent's."""
    predictions = model.predict([Atoms(atoms) for atoms in structures])
    forces = torch.cat([p.forces for p in predictions])
    labels = torch.as_tensor(np.concatenate([a.get_forces() for a in structures]), dtype=forces.dtype)
    pairs = zip(predictions, structures, strict=True)
    reference = forces if parent_forces is None else parent_forces
    return {
        "energy": 1e3 * np.mean([abs(p.energy.item() - a.get_potential_energy()) / len(a) for p, a in pairs]),
        "forces": 1e3 * (forces - labels).abs().mean().item(),
        "size": (forces.norm() / reference.norm()).item(),
        "direction": torch.cosine_similarity(forces.flatten(), reference.flatten(), dim=0).item(),
    }


def rows(models: dict[str, ep.Potential], structures: list[Atoms], parent: ep.Potential) -> list[dict]:
    """One row per criterion; random seeds joined, with the range of their force error."""
    forces = torch.cat([p.forces for p in parent.predict([Atoms(atoms) for atoms in structures])])
    measured = {name: measure(model, structures, forces) for name, model in models.items()}
    random = [row for name, row in measured.items() if name.startswith("random")]
    zero = 1e3 * np.abs(np.concatenate([a.get_forces() for a in structures])).mean()
    found = [{"criterion": "no force at all", "forces": zero}]
    found += [{"criterion": name, **row} for name, row in measured.items() if row not in random]
    joined = {key: statistics.mean(row[key] for row in random) for key in random[0]}
    spread = [min(row["forces"] for row in random), max(row["forces"] for row in random)]
    return [*found, {"criterion": f"random, {len(random)} seeds", **joined, "forces_range": spread}]


def show(name: str, table: list[dict]) -> None:
    columns = (("energy", "18.0f"), ("forces", "14.1f"), ("size", "8.2f"), ("direction", "11.2f"))
    print(f"\n{name:24}{'E MAE, meV/atom':>18}{'F MAE, meV/A':>14}{'size':>8}{'direction':>11}")
    for row in table:
        cells = [f"{row[key]:{width}}" if key in row else " " * int(width.split(".")[0]) for key, width in columns]
        spread = "   F {:.1f}..{:.1f}".format(*row["forces_range"]) if "forces_range" in row else ""
        print(f"{row['criterion']:24}{''.join(cells)}{spread}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="7net-l3i5", choices=TARGETS)
    parser.add_argument("--calibration", type=int, default=120, help="number of MPtrj frames to score on")
    parser.add_argument("--test", type=int, default=40, help="number of MPtrj frames to test on")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    calibration, test = split_by_composition(mptrj(12), arguments.calibration, arguments.test)
    parent = ep.load(arguments.model)
    models = children(parent, TARGETS[arguments.model], calibration, arguments.seeds)
    size = next(iter(models.values())).parameters(trainable_only=True)
    targets = ", ".join(map(str, TARGETS[arguments.model]))
    print(f"{arguments.model}, {targets}: {size:,} parameters, float32, no retraining")
    print(f"scores from {len(calibration)} MPtrj frames of up to 12 atoms")
    result = {}
    for name, structures in test_sets(test, parent).items():
        result[name] = rows(models, structures, parent)
        show(name, result[name])
    if arguments.json:
        with open(arguments.json, "w") as stream:
            json.dump(result, stream, indent=1)


if __name__ == "__main__":
    main()
