"""Does starting from pruned weights pay? The same small architecture trained the same way from different weights.

The parent labels displaced crystals (no pre-training data needed); every start sees the same structures in the same
order for the same number of steps. Test structures are displaced crystals of other compositions, labelled by the
parent, and DFT molecular dynamics of Cu, Li and Si that neither the parent nor its children were trained on here.
"""

import argparse
import csv
import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from ase import Atoms
from reference_data import mptrj, reference, split_by_composition

import equiprune as ep
from equiprune.training.labelling import Augmentation, augmented, label
from equiprune.training.recipes import PRESETS
from equiprune.training.start import from_scratch
from equiprune.training.trainer import Recipe, train

SETTINGS = {
    "7net-l3i5": ([ep.HiddenIrreps.parse("64x0e+32x1e+16x2e"), ep.EdgeLmax(2)], "sevennet"),
    "mace-mp-small": ([ep.Channels(64)], "mace-universal"),
}
"""Model to (targets, preset)."""


def taught(parent: ep.Potential, structures: list[Atoms], seed: int) -> list[Atoms]:
    """One displaced copy of each structure, labelled by the parent."""
    distorted = list(augmented(structures, Augmentation(copies=1, seed=seed)))[1::2]
    return list(label(parent, distorted))


def starts(parent: ep.Potential, calibration: list[Atoms], targets: list, seeds: int) -> dict[str, ep.Potential]:
    """Models of one architecture by where their weights come from."""
    scores = {c.name: ep.calibrate(parent, calibration, c) for c in (ep.Taylor(), ep.Activation())}
    scores["magnitude"] = ep.data_free_scores(parent, ep.Magnitude())
    scores |= {f"random {seed}": ep.data_free_scores(parent, ep.Random(seed)) for seed in range(seeds)}
    models = {name: ep.prune(parent, ep.allocate(parent, targets, s)) for name, s in scores.items()}
    return models | {f"scratch {seed}": from_scratch(models["taylor"], seed) for seed in range(seeds)}


def tests(parent: ep.Potential, held_out: list[Atoms]) -> dict[str, list[Atoms]]:
    sets = {"MPtrj, displaced (teacher)": taught(parent, held_out, 1)}
    return sets | {f"{e} (DFT MD)": reference(f"mlearn/{e}_test.extxyz.xz")[::8] for e in ("Cu", "Li", "Si")}


def run(start: ep.Potential, data: list[Atoms], held_out: list[Atoms], recipe: Recipe) -> tuple[ep.Potential, list]:
    """The trained model and its validation curve."""
    with tempfile.TemporaryDirectory() as folder:
        trained = train(start, data, recipe, Path(folder) / "run", validation=held_out)
        with (Path(folder) / "run" / "curve.csv").open() as stream:
            rows = [row for row in csv.DictReader(stream) if row["validation_forces"]]
    return trained, [(int(row["step"]), float(row["validation_forces"])) for row in rows]


def joined(rows: dict[str, dict[str, tuple[float, float]]]) -> dict[str, dict[str, str]]:
    """Seeds of one kind as a mean and a range of the force error."""
    kinds: dict[str, list[dict[str, tuple[float, float]]]] = {}
    for name, row in rows.items():
        kinds.setdefault(name.rstrip("0123456789").strip(), []).append(row)
    table = {}
    for kind, members in kinds.items():
        cells = {}
        for test in members[0]:
            energy = statistics.mean(m[test][0] for m in members)
            forces = [m[test][1] for m in members]
            spread = f" ({min(forces):.0f} to {max(forces):.0f})" if len(forces) > 1 else ""
            cells[test] = f"{energy:.0f} / {statistics.mean(forces):.0f}{spread}"
        table[kind] = cells
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="7net-l3i5", choices=SETTINGS)
    parser.add_argument("--structures", type=int, default=316)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    targets, preset = SETTINGS[arguments.model]
    structures, held_out = split_by_composition(mptrj(12), arguments.structures, 40)
    parent = ep.load(arguments.model, dtype=torch.float32)
    data, sets = taught(parent, structures, 0), tests(parent, held_out)
    chosen = PRESETS[preset]
    optimisation = replace(chosen.optimisation, average=0.99)
    recipe = Recipe(chosen.objective, optimisation, arguments.epochs, arguments.batch_size)
    models = starts(parent, structures[:120], targets, arguments.seeds)
    steps = arguments.epochs * -(-len(data) // arguments.batch_size)
    print(f"{arguments.model}, {', '.join(map(str, targets))}; {len(data)} crystals, {steps} steps, {preset}, float32")
    rows, curves = {}, {}
    for name, start in models.items():
        trained, curves[name] = run(start, data, sets["MPtrj, displaced (teacher)"], recipe)
        rows[name] = {}
        for test, labelled in sets.items():
            [accuracy] = ep.evaluate({name: trained}, labelled)
            rows[name][test] = (accuracy.mae("energy"), accuracy.mae("forces"))
        print(name, {t: f"{e:.0f} / {f:.1f}" for t, (e, f) in rows[name].items()}, flush=True)
    print("\nenergy MAE, meV/atom / forces MAE, meV/Angstrom")
    for kind, cells in joined(rows).items():
        print(f"{kind:12}", "   ".join(f"{test}: {cell}" for test, cell in cells.items()))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"rows": rows, "curves": curves}, indent=1))


if __name__ == "__main__":
    main()
