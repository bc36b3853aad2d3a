"""eSCN from L = 6 to L = 4: what is exact, how fast it is, and what starting from the parent's weights is worth.

No published weights are needed: models have upstream's hyperparameters and random weights to which every layer
contributes. The first part has the size of the published models, the second a small one, labelled by its own parent.
"""

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.constraints import FixAtoms
from retraining import draw

import equiprune as ep
from equiprune.adapters import Checkpoint
from equiprune.adapters.escn import EscnAdapter
from equiprune.adapters.escn.architecture import EscnArchitecture, escn
from equiprune.evaluation.benchmark import table
from equiprune.training.from_scratch import from_scratch
from equiprune.training.objective import open_catalyst
from equiprune.training.optimisation import Cosine, Optimisation
from equiprune.training.recipe import Recipe
from equiprune.verification.physics import compare


def published(lmax: int, layers: int = 12) -> EscnArchitecture:
    """Fairchem's configs/oc20/s2ef/2M/escn/eSCN-L6-M2-Lay12.yml, and L4."""
    return escn(lmax=lmax, layers=layers, channels=128, hidden=256, cutoff=12.0, neighbors=20, width=2.0)


def random_model(architecture: EscnArchitecture, dtype: torch.dtype, scale: float, seed: int = 0) -> ep.Potential:
    """Weights as upstream draws them, times ``scale`` in layers: as drawn, activations would hardly bend."""
    torch.manual_seed(seed)
    adapter = EscnAdapter()
    module = adapter.build(architecture, torch.float32)
    weights = {
        name: parameter.detach() * (scale if name.startswith("layer_blocks") else 1.0)
        for name, parameter in module.named_parameters()
    }
    return ep.Potential.create(adapter, Checkpoint(architecture, weights, licence="none: random weights"), dtype)


def slabs(count: int, seed: int = 0) -> list[Atoms]:
    """Surfaces with a molecule or an atom on them, rattled, as in OC20: 2 by 2 cells of three layers."""
    generator = np.random.default_rng(seed)
    made = []
    for i in range(count):
        metal = ("Cu", "Pt", "Ni", "Ag", "Pd")[i % 5]
        slab = fcc111(metal, size=(2, 2, 3), vacuum=8.0)
        add_adsorbate(slab, ("O", "H", "C", "N")[generator.integers(4)], 1.5, ("ontop", "fcc", "bridge")[i % 3])
        slab.pbc = True
        slab.set_constraint(FixAtoms(mask=slab.get_tags() == 3))
        slab.positions += 0.1 * generator.standard_normal(slab.positions.shape)
        made.append(slab)
    return made


def exact(layers: int, scale: float) -> None:
    """L6 to L4 at the published size: masked against sliced in float64, on the parent's points and on native ones."""
    parent = random_model(published(6, layers), torch.float64, scale)
    atoms, start = slabs(1), time.perf_counter()
    scores = ep.calibrate(parent, atoms)
    print(f"calibration in float64: {time.perf_counter() - start:.0f} s for {len(atoms[0])} atoms")
    size = {p: getattr(parent.predict(atoms)[0], p).abs().max().item() for p in ("energy", "forces")}
    print(f"largest energy {size['energy']:.2g} eV, force {size['forces']:.2g} eV/Angstrom")
    targets: dict[str, list[Any]] = {
        "L4": [ep.Lmax(4)],
        "96 channels": [ep.Channels(96)],
        "128 hidden channels": [ep.HiddenChannels(128)],
        "half of the layers": [ep.Interactions(max(1, layers // 2))],
    }
    for name, target in targets.items():
        plan, begun = ep.allocate(parent, target, scores), time.perf_counter()
        child = ep.prune(parent, plan)
        seconds = time.perf_counter() - begun
        found = compare(ep.masked(parent, plan), child, atoms, "d")
        line = ", ".join(f"{q} {found[f'd.{q}'] / size[q]:.1e}" for q in size)
        print(f"{name}: {child.parameters():,} parameters, {seconds:.1f} s; masked vs sliced, relative: {line}")
        if name == "L4":
            native = compare(child, ep.grow(child, ep.NativeGrids()), atoms, "d")
            line = ", ".join(f"{q} {native[f'd.{q}'] / size[q]:.1e}" for q in size)
            print(f"  native points instead of the parent's, relative: {line}")


def speed(layers: int, scale: float, repeats: int) -> None:
    """Of L6, L4 on the parent's points and L4 on native ones, side by side."""
    parent = random_model(published(6, layers), torch.float32, scale)
    exact_child = ep.prune(parent, ep.allocate(parent, [ep.Lmax(4)]))
    models = {"L6": parent, "L4, points of L6": exact_child, "L4": ep.grow(exact_child, ep.NativeGrids())}
    for row in table(ep.benchmark(models, slabs(1)[0], repeats=repeats)):
        print("  ".join(f"{cell:>20}" for cell in row), flush=True)


def curve(start: ep.Potential, data: Sequence[Atoms], held_out: Sequence[Atoms], epochs: int) -> tuple[Any, list]:
    """The trained model and its validation errors after every epoch: step, energy (eV), forces (eV/Angstrom)."""
    optimisation = Optimisation(2e-3, Cosine(0.01), warm_up=10, amsgrad=True, clip=20.0, average=0.98)
    recipe = Recipe(open_catalyst(), optimisation, epochs, batch_size=4)
    with tempfile.TemporaryDirectory() as folder:
        model = ep.train(start, ep.TrainingData(data, held_out), recipe, Path(folder) / "run")
        with (Path(folder) / "run" / "curve.csv").open() as stream:
            rows = [row for row in csv.DictReader(stream) if row["validation_forces"]]
    energy, forces = (getattr(recipe.objective, quantity).weight for quantity in ("energy", "forces"))
    losses = [(row["step"], row["validation_energy"], row["validation_forces"]) for row in rows]
    return model, [[int(step), float(e) / energy, float(f) / forces] for step, e, f in losses]


def starts(parent: ep.Potential, data: list[Atoms], seeds: int) -> Iterator[tuple[str, ep.Potential]]:
    """Models of one architecture: L4 of L6, and fewer channels chosen by energy, by forces, by both, or by chance."""
    targets = [ep.Lmax(4), ep.Channels(12), ep.HiddenChannels(16)]
    criteria = {"both": ep.Taylor(), "energy-alone": ep.TaylorEnergy(), "forces-alone": ep.TaylorForces()}
    for name, criterion in criteria.items():
        yield name, ep.prune(parent, ep.allocate(parent, targets, ep.calibrate(parent, data[:24], criterion)))
    for seed in range(seeds):
        chosen = ep.data_free_scores(parent, ep.Random(seed))
        pruned = ep.prune(parent, ep.allocate(parent, targets, chosen))
        yield f"random-choice {seed}", pruned
        yield f"random-weights {seed}", from_scratch(pruned, seed)


def training(arguments: argparse.Namespace) -> None:
    """A pruned L4 against a random one at equal steps on labels of the L6 parent."""
    small = escn(lmax=6, layers=4, channels=16, hidden=24, edge=16, cutoff=6.0, neighbors=12, resolution=0.1)
    parent = random_model(small, torch.float32, 3.0)
    bare = slabs(arguments.structures + 60)
    labelled = list(ep.label(parent, bare))
    data, held_out, tested = labelled[:-60], labelled[-60:-40], labelled[-40:]
    print(f"{len(data)} slabs, {arguments.epochs} epochs in batches of 4; errors on 40 others, before -> after")
    results = {}
    for name, start in starts(parent, data, arguments.seeds):
        trained, points = curve(start, data, held_out, arguments.epochs)
        errors = ep.evaluate({"before": start, "after": trained}, tested)
        results[name] = {"curve": points, "errors": [e.to_json() for e in errors]}
        energy, forces = (" -> ".join(f"{e.mae(q):.3g}" for e in errors) for q in ("energy", "forces"))
        right = f"EFwT {100 * (errors[1].efwt or 0):.0f} %"
        print(f"{name:20} {energy} meV/atom   {forces} meV/Angstrom   {right}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    if arguments.figure:
        draw({name: result["curve"] for name, result in results.items()}, arguments.figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("exact", "speed", "training"), nargs="+", default=["exact", "speed"])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--scale", type=float, default=2.3, help="of weights in layers, times upstream's")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--structures", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if "exact" in arguments.part:
        exact(arguments.layers, arguments.scale)
    if "speed" in arguments.part:
        speed(arguments.layers, arguments.scale, arguments.repeats)
    if "training" in arguments.part:
        training(arguments)


if __name__ == "__main__":
    main()
