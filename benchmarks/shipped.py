"""Everything that is said of the models that come with equiprune: accuracy, speed, certificate, physics.

``python benchmarks/shipped.py [MODEL ...]``. Measures each beside its parent and the official small model, writes
``measured.json`` and the tables of the card (``README.md``) into the model's folder, and prints the tables of all. One
process, one thread (``OMP_NUM_THREADS=1``); 20 minutes for two models on one free core. With ``--keep FILE`` it goes on
where it was interrupted; ``--again speed`` measures that part alone and takes the others from ``measured.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from model_card import certificate_table, speed_table, with_measured
from official import OFFICIALS, accuracy, add_arguments, difference_table, error_table, wins
from physics import physics, physics_tables

import equiprune as ep
from equiprune.evaluation.engines import ENGINES
from equiprune.files.atomic import write_text
from equiprune.models import shipped_models
from equiprune.potentials.checkpoint import package_versions

PARTS = ("speed", "accuracy", "certificates", "physics")


def main() -> None:
    """Measure, write, print: the models of each parent together."""
    chosen = _arguments()
    torch.set_num_threads(1)
    of_parent: dict[str, list[str]] = {}
    for name in chosen.names:
        of_parent.setdefault(facts(ep.load(name))["parent"], []).append(name)
    for parent, names in of_parent.items():
        measure(parent, names, chosen)


def measure(parent: str, names: Sequence[str], chosen: argparse.Namespace) -> None:
    """Measure children of one parent, write what was found into their folders, and print it."""
    official = OFFICIALS[parent]
    models = {name: ep.load(name) for name in (parent, official, *names)}
    parts: dict[str, Callable[[], Any]] = {
        "speed": lambda: speed(models, chosen.repeats),
        "accuracy": lambda: accuracy(models, official, chosen.sets, chosen.frames, chosen.mptrj_atoms),
        "certificates": lambda: {name: certificate(models[name], models[parent]) for name in names},
        "physics": lambda: physics(models),
    }
    if chosen.again:
        parts = {name: part if name in chosen.again else partial(recorded, name, names) for name, part in parts.items()}
    of = {"models": [model.checkpoint.sha256 for model in models.values()]}
    of |= {name: getattr(chosen, name) for name in ("sets", "frames", "mptrj_atoms", "repeats")}
    found = measured(parts, of, chosen.keep)
    certificates = found.pop("certificates")
    for name in names:
        write(name, found | {"model": facts(models[name]), "certificate": certificates[name]})
    errors = found["accuracy"]
    print(speed_table(found["speed"]), error_table(errors), difference_table(errors, official), sep="\n\n")
    print(*(wins(errors, name, official) for name in names), sep="\n\n")
    print(certificate_table(certificates), physics_tables(found["physics"]), sep="\n\n")


def _arguments() -> argparse.Namespace:
    shipped = shipped_models()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(shipped), metavar="MODEL", help=f"of {', '.join(shipped)}")
    parser.add_argument("--repeats", type=int, default=9, help="of the timing")
    parser.add_argument("--again", nargs="+", default=[], choices=PARTS, help="parts to measure, of those on record")
    parser.add_argument("--keep", type=Path, help="a file for the parts that are done")
    add_arguments(parser)
    return parser.parse_args()


def measured(parts: Mapping[str, Callable[[], Any]], of: Mapping[str, Any], keep: Path | None) -> dict[str, Any]:
    """Results of every part; parts that ``keep`` has ``of`` the same models and arguments are taken from there."""
    stored = json.loads(keep.read_text()) if keep and keep.exists() else {}
    found = stored["parts"] if stored.get("of") == of else {}
    for name, part in parts.items():
        if name not in found:
            print(f"{name} ...", file=sys.stderr, flush=True)
            found[name] = part()
        if keep:
            write_text(keep, json.dumps({"of": of, "parts": found}))
    return found


def recorded(part: str, names: Sequence[str]) -> Any:
    """A part as it was measured before, of all models together."""
    records = {name: shipped_models()[name].measured for name in names}
    if part == "certificates":
        return {name: record["certificate"] for name, record in records.items()}
    first, *others = records.values()
    if any(other[part] != first[part] for other in others):
        sys.exit(f"The models were not measured together: leave out --again, or give it '{part}' too.")
    return first[part]


def speed(models: Mapping[str, ep.Potential], repeats: int) -> dict[str, Any]:
    """Median times of one evaluation of a rock-salt cell of 64 atoms by engine, models and engines taking turns."""
    shared = frozenset.intersection(*(potential.elements for potential in models.values()))
    atoms = ep.probe_structures(shared)["ionic"].repeat(2)
    engines = [ENGINES["upstream"], ENGINES["equiprune"]]
    timings = ep.benchmark(models, atoms, repeats=repeats, engines=engines)
    return {
        "atoms": len(atoms),
        "engines": {engine.name: _of_engine([t for t in timings if t.engine == engine.name]) for engine in engines},
    }


def _of_engine(timings: Sequence[ep.Timing]) -> dict[str, Any]:
    return {
        "ms_per_atom": {timing.model: round(1e3 * timing.median / timing.atoms, 3) for timing in timings},
        "mebibytes": {timing.model: timing.peak_mebibytes for timing in timings},
    }


def facts(model: ep.Potential) -> dict[str, Any]:
    """Facts of a model, from the model itself."""
    checkpoint = model.checkpoint
    return {
        "sha256": checkpoint.sha256,
        "parameters": model.parameters(trainable_only=True),
        "licence": checkpoint.licence,
        "parent": checkpoint.history[0]["parent"],
        "parent_sha256": checkpoint.history[0]["parent_sha256"],
        "versions": package_versions(*model.adapter.packages),
    }


def certificate(model: ep.Potential, parent: ep.Potential) -> dict[str, Any]:
    """As `equiprune certify MODEL --parent PARENT` gives it."""
    found = ep.certify(model, parent)
    return {"passed": found.passed, "values": dict(found.values), "notes": list(found.notes)}


def write(name: str, measured: Mapping[str, Any]) -> None:
    """Into the folder of the model."""
    shipped = shipped_models()[name]
    record = {"command": "python benchmarks/shipped.py", **measured}
    (shipped.folder / "measured.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    card = shipped.card.read_text(encoding="utf-8")
    shipped.card.write_text(with_measured(card, name, measured), encoding="utf-8")


if __name__ == "__main__":
    main()
