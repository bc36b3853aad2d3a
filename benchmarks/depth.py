"""Fewer interactions or fewer channels? A two-interaction model cut both ways, with and without retraining.

The last interaction goes, with a linear or a non-linear last readout, or channels go, down to the same speed. Each is
retrained on crystals that the parent labels and then fine-tuned on real DFT sets; each is fine-tuned without retraining
as well. Steps, structures and their order are the same for all. Retraining errors are those of crystals of compositions
that no training saw, fine-tuning errors those of the sets' own test structures.
"""

import argparse
import json
from argparse import Namespace
from pathlib import Path

import torch
from ase import Atoms
from finetuning import CHILDREN, SETS, best_of_rates, only, referenced, split
from reference_data import mptrj, split_by_composition
from retraining import Errors, errors, recipe, run, taught, tests

import equiprune as ep
from equiprune.evaluation.benchmark import table


def cut(parent: ep.Potential, crystals: list[Atoms], channels: int, neurons: int) -> dict[str, ep.Potential]:
    """Models of half the cost by what was taken away, all chosen by the same Taylor scores."""
    scores = ep.calibrate(parent, crystals)
    shallow = ep.prune(parent, ep.allocate(parent, [ep.Interactions(1)], scores))
    return {
        "depth, linear readout": shallow,
        f"depth, readout of {neurons} neurons": ep.grow(shallow, ep.NonlinearReadout(neurons)),
        f"width, {channels} channels": ep.prune(parent, ep.allocate(parent, [ep.Channels(channels)], scores)),
    }


def fine_tuned(models: dict[str, ep.Potential], arguments: Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Test errors by set and model."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in arguments.sets:
        data = split(name, arguments.train, arguments.validation, arguments.test)
        elements = {int(z) for atoms in (*data.train, *data.validation, *data.test) for z in atoms.numbers}
        print(f"\nfine-tuned on {name}: energy, meV/atom / forces, meV/Angstrom (learning rate)", flush=True)
        for model, start in models.items():
            smaller = referenced(only(start, elements), data, scale=False)
            row = best_of_rates(smaller, data, arguments.steps, 4, arguments.rates)
            found.setdefault(name, {})[model] = row
            print(f"{model:45} {row['energy']:.1f} / {row['forces']:.1f} ({row['rate']:g})", flush=True)
    return found


def line(name: str, row: Errors) -> str:
    """One model's errors on every test set."""
    cells = ("/".join("-" if e is None else f"{e:.3g}" for e in row[column]) for column in row)
    return f"{name:45} " + "  ".join(f"{cell:16}" for cell in cells)


def parsed() -> Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mace-mp-small")
    parser.add_argument("--channels", type=int, default=64, help="of the narrow model")
    parser.add_argument("--neurons", type=int, default=16, help="of the shallow model's non-linear readout")
    parser.add_argument("--crystals", type=int, default=316)
    parser.add_argument("--epochs", type=int, default=3, help="of retraining")
    parser.add_argument("--rate", type=float, default=0.004, help="of retraining")
    parser.add_argument("--sets", nargs="*", default=["ethanol"], choices=SETS)
    parser.add_argument("--train", type=int, default=100, help="structures to fine-tune on")
    parser.add_argument("--validation", type=int, default=20)
    parser.add_argument("--test", type=int, default=100)
    parser.add_argument("--steps", type=int, default=200, help="of fine-tuning, of four structures, in whole epochs")
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-3, 1e-2], help="of fine-tuning")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    parent = ep.load(arguments.model, dtype=torch.float32)
    structures, others = split_by_composition(mptrj(16), arguments.crystals, 60)
    data, validation = taught(parent, structures, 0), taught(parent, others[:20], 2)
    sets = tests(parent, others[20:])
    models = {"parent": parent, **cut(parent, structures[:120], arguments.channels, arguments.neurons)}
    for row in table(ep.benchmark(models, ep.probe_structures(parent.elements)["ionic"].repeat(2))):
        print("  ".join(f"{cell:>28}" for cell in row), flush=True)
    chosen = recipe(CHILDREN[arguments.model].preset, arguments.epochs, learning_rate=arguments.rate)
    rows = {name: errors(model, sets) for name, model in models.items()}
    for name in list(models)[1:]:
        models[f"{name}, retrained"], _ = run(models[name], data, validation, chosen)
        rows[f"{name}, retrained"] = errors(models[f"{name}, retrained"], sets)
    print(f"\n{', '.join(sets)}: meV/atom, meV/Angstrom, meV/Angstrom^3")
    print("\n".join(line(name, row) for name, row in rows.items()), flush=True)
    tuned = fine_tuned(models, arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps({"retraining": rows, "fine-tuning": tuned}, indent=1))


if __name__ == "__main__":
    main()
