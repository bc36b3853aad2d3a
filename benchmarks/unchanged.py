"""Is everything as it was? Fixed cuts of a model, to the bit, before and after a change that should change nothing.

    python benchmarks/unchanged.py 7net-l3i5 -o before.json
    python benchmarks/unchanged.py 7net-l3i5 -o after.json --compare before.json

Written down are scores of a calibration, and for every cut the plan, a digest of every weight of the child, its
hyperparameters, numbers of parameters and predictions; of some cuts also what the masked parent predicts and the
numbers of the certificate. All of it comes from seeds, in float64, on one thread, and two runs give the same file.

Compare only files of one machine and one environment: floating-point kernels differ between processors and versions of
torch, and so do the last bits. That is also why no such file is kept with the code.

A random plan is drawn in one run and taken from its file by the other, so that drawing may change and cutting may not.
The exit code is 1 where anything differs.
"""

import argparse
import hashlib
import importlib
import json
import os
import platform
import re
import runpy
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from fixed_cuts import CUTS, Cut, calibration_structures, two_structures

import equiprune as ep

HERE = Path(__file__).parent
DTYPE = torch.float64


def opened(model: str, source: str | None) -> ep.Potential:
    """The parent, from ``source`` or where this model usually is."""
    if source:
        return ep.load(source, dtype=DTYPE, head="PBE" if model == "7net-mf-0" else None)
    match model:
        case "7net-mf-0":
            return ep.load(model, dtype=DTYPE, head="PBE")
        case "mace-mp-small":
            data = os.environ.get("EQUIPRUNE_DATA")
            if not data:
                sys.exit("Give the file with --source, or the folder beside 'checkpoints' as EQUIPRUNE_DATA.")
            return ep.load(Path(data).parent / "checkpoints" / "mace_mp_small.model", dtype=DTYPE)
        case "escn":
            return random_escn()
    return ep.load(model, dtype=DTYPE)


# What reaches below the public interface is in the next two functions.


def random_escn() -> ep.Potential:
    """The random eSCN that tests use, by way of a file so that its children know their parent."""
    made = runpy.run_path(str(HERE.parent / "tests" / "adapters" / "escn" / "random_escn.py"))
    parent = ep.Potential.create(made["EscnAdapter"](), made["random_checkpoint"](made["small"](), seed=0), DTYPE)
    with tempfile.TemporaryDirectory() as folder:
        ep.save(parent, Path(folder) / "parent")
        return ep.load(Path(folder) / "parent", dtype=DTYPE)


def random_plan(parent: ep.Potential) -> ep.PruningPlan:
    """A plan that touches every space, by the function that tests draw plans with."""
    for place in ("pruning.random_plans", "verification.random_plans", "blocks.random_plans", "testing"):
        try:
            module = importlib.import_module(f"equiprune.{place}")
            return module.random_plan(parent, np.random.default_rng(3))
        except (ImportError, AttributeError):
            continue
    sys.exit("equiprune draws random plans nowhere that this script knows; --compare takes the plan from the file.")


def sha256(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def of_tensor(name: str, value: torch.Tensor) -> str:
    """Digest of a name, a dtype, a shape and bytes."""
    array = value.detach().cpu().contiguous()
    return sha256(name.encode(), str(array.dtype).encode(), str(tuple(array.shape)).encode(), array.numpy().tobytes())


def with_norm(name: str, values: Any) -> str:
    """A digest, and the norm with all its digits: where digests differ it says by how much."""
    tensor = torch.as_tensor(values)
    return f"{of_tensor(name, tensor)}, norm {tensor.double().norm().item()!r}"


def plain(value: Any) -> Any:
    """Hyperparameters as JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, str | bool | int | float | None) else str(value)


def of_scores(scores: ep.ImportanceScores) -> dict[str, str]:
    """Of the float64 numbers of each space and irrep, and of their standard errors."""
    return {
        f"{kind} {space} {irrep}": with_norm(kind, np.asarray(values, dtype="<f8"))
        for kind in ("mean", "standard_error")
        for space, by_irrep in getattr(scores, kind).items()
        for irrep, values in by_irrep.items()
    }


def predicted(potential: ep.Potential, structures: Sequence[Atoms]) -> dict[str, str]:
    """Energies, forces and stress of each structure."""
    found = {}
    for number, prediction in enumerate(potential.predict(structures)):
        found[f"energy {number}"] = repr(prediction.energy.item())
        found[f"forces {number}"] = with_norm("forces", prediction.forces)
        there = prediction.stress is not None and bool(prediction.stress.isfinite().all())
        found[f"stress {number}"] = with_norm("stress", prediction.stress) if there else "none"
    return found


def of_child(child: ep.Potential) -> dict[str, Any]:
    """What a child is: weights, hyperparameters, numbers of parameters."""
    return {
        "weights": {name: of_tensor(name, weight) for name, weight in child.checkpoint.weights.items()},
        "architecture": plain(child.architecture),
        "parameters": {"all": child.parameters(), "trainable": child.parameters(trainable_only=True)},
    }


def planned(
    parent: ep.Potential, cut: Cut, scores: Mapping[str, ep.ImportanceScores], stored: Mapping[str, Any]
) -> ep.PruningPlan:
    """The plan of a cut; a random one is that of ``stored``, if there is one."""
    if cut.targets:
        return ep.allocate(parent, cut.targets, scores[cut.by], **cut.options)
    return ep.PruningPlan.from_json(stored["plan"]) if stored else random_plan(parent)


def made(parent: ep.Potential, cut: Cut, plan: ep.PruningPlan) -> dict[str, Any]:
    """Everything that is written down of one cut."""
    child = ep.prune(parent, plan)
    if cut.then:
        child = ep.prune(child, ep.allocate(child, cut.then, ep.data_free_scores(child, ep.Magnitude())))
    if cut.growth:
        child = ep.grow(child, cut.growth)
    structures = two_structures(child.elements)
    found = {"plan": plan.to_json(), **of_child(child), "predictions": predicted(child, structures)}
    if cut.certified:
        found["masked"] = predicted(ep.masked(parent, plan), structures)
        certificate = ep.certify(child, parent, nve_steps=2)
        found["certificate"] = {name: repr(value) for name, value in certificate.values.items()}
    return found


def machine() -> dict[str, str]:
    """What the last bits depend on."""
    cpu = next((line for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    return {"cpu": cpu.partition(":")[2].strip() or cpu, "torch": torch.__version__, "numpy": np.__version__}


def _lines(path: str) -> Iterator[str]:
    try:
        yield from Path(path).read_text().splitlines()
    except OSError:
        return


def measured(model: str, source: str | None, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that is written down of a model."""
    start = time.process_time()
    parent = opened(model, source)
    structures = calibration_structures()
    scores = {
        "taylor": ep.calibrate(parent, structures),
        "activation": ep.calibrate(parent, structures, ep.Activation()),
        "magnitude": ep.data_free_scores(parent, ep.Magnitude()),
        "random": ep.data_free_scores(parent, ep.Random(7)),
    }
    found: dict[str, Any] = {
        "model": model,
        "machine": machine(),
        "parent": of_child(parent) | {"predictions": predicted(parent, structures)},
        "scores": {name: of_scores(by) for name, by in scores.items()},
        "cuts": {},
    }
    print(f"{model}: opened and calibrated in {time.process_time() - start:.1f} s of CPU time", flush=True)
    for cut in CUTS[model]():
        start = time.process_time()
        try:
            plan = planned(parent, cut, scores, stored.get("cuts", {}).get(cut.name, {}))
            found["cuts"][cut.name] = made(parent, cut, plan)
            said = f"{found['cuts'][cut.name]['parameters']['all']:,} parameters"
        except ep.EquipruneError as error:
            found["cuts"][cut.name] = {"plan": {}}
            said = f"refused: {error}"
        print(f"  {cut.name}: {said}, {time.process_time() - start:.1f} s", flush=True)
    return json.loads(json.dumps(found))


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and text by a name."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, f"{name}/{key}" if name else key)
    else:
        yield name, value


def differences(before: Any, after: Any) -> tuple[list[str], int]:
    """A line for each leaf that differs, and how many leaves there are."""
    a, b = dict(leaves(before)), dict(leaves(after))
    names = sorted(a.keys() | b.keys())
    return [
        f"{name}: {short(a.get(name, _ABSENT))} -> {short(b.get(name, _ABSENT))}"
        for name in names
        if a.get(name, _ABSENT) != b.get(name, _ABSENT)
    ], len(names)


def short(value: Any) -> str:
    """For people: the beginning of a digest, and what follows it."""
    return re.sub(r"\b([0-9a-f]{8})[0-9a-f]{56}\b", r"\1...", str(value))


_ABSENT = "absent"


def rows(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The table's rows: the parent, the scores, each cut."""
    return {"parent": result["parent"], "scores": {"scores": result["scores"]}, **result["cuts"]}


COLUMNS = ("scores", "plan", "weights", "architecture", "parameters", "predictions", "masked", "certificate")


def compared(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Print what is the same and what is not; whether all is."""
    if before["machine"] != after["machine"]:
        print(f"Not the same machine or environment, so last bits may differ: {before['machine']}, {after['machine']}")
    old, new = rows(before), rows(after)
    said: list[str] = []
    print(f"\n| {after['model']} | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (len(COLUMNS) + 1))
    for name in [*old, *(name for name in new if name not in old)]:
        cells = [cell(old.get(name, {}), new.get(name, {}), column, f"{name}: {column}", said) for column in COLUMNS]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\nEverything is the same, to the bit." if not said else "\nWhat differs:\n" + "\n".join(said))
    return not said


def cell(old: Mapping[str, Any], new: Mapping[str, Any], column: str, where: str, said: list[str]) -> str:
    """One cell, and in ``said`` the first lines of what differs there."""
    if column not in old and column not in new:
        return ""
    lines, total = differences(old.get(column, {}), new.get(column, {}))
    said += [f"  {where}/{line}"[:_WIDTH] for line in lines[:_SHOWN]]
    if len(lines) > _SHOWN:
        said.append(f"  {where}: and {len(lines) - _SHOWN} more")
    return f"**{len(lines)} of {total} differ**" if lines else f"same ({total})"


_SHOWN, _WIDTH = 8, 240


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=CUTS)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--compare", type=Path, metavar="FILE", help="written by an earlier run")
    parser.add_argument("--source", help="the model's file, where it is not where it usually is")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    stored = json.loads(arguments.compare.read_text()) if arguments.compare else {}
    found = measured(arguments.model, arguments.source, stored)
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")
    if stored and not compared(stored, found):
        sys.exit(1)


if __name__ == "__main__":
    main()
