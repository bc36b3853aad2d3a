"""Folders of runs, written by hand as the commands write them."""

import json
import shutil
from pathlib import Path
from typing import Any

import equiprune as ep


def errors(model: str, forces: float, **more: Any) -> dict[str, Any]:
    """Errors of one model as ``evaluate --json`` prints them."""
    plain = {"energy_mae": 12.0, "energy_rmse": 15.0, "forces_mae": forces, "forces_rmse": 1.5 * forces}
    stress = {"stress_mae": None, "stress_rmse": None}
    return {"model": model, "structures": 8, "missing": {}, **plain, **stress, **more}


def speed(model: str, rate: float) -> dict[str, Any]:
    """Speed of one model as ``benchmark --json`` prints it."""
    conditions = {"dtype": "float32", "backend": "toy on cpu", "batch": 1, "threads": 1, "atoms": 64}
    seconds = {"seconds_min": 0.9 * 64 / rate, "seconds_median": 64 / rate, "seconds_max": 1.1 * 64 / rate}
    return {"model": model, **conditions, "atoms_per_second": rate, **seconds, "repeats": 5, "peak_memory_bytes": 2**22}


def scaling(model: str, overhead: float, per_atom: float | None) -> dict[str, Any]:
    """Time in ms at two sizes as ``benchmark --sizes --json`` prints it; None is a time that is not determined."""
    slope = per_atom or 0.0
    timings = [speed(model, 1e3 * atoms / (overhead + slope * atoms)) | {"atoms": atoms} for atoms in (8, 800)]
    line = {"overhead_ms": {"value": overhead, "error": 0.1}, "overhead_determined": True}
    line |= {"ms_per_atom": {"value": slope, "error": 0.1}, "per_atom_determined": per_atom is not None}
    more = {"exponent": {"value": 0.9, "error": None}, "largest_deviation": 0.12, "timings": timings}
    return {
        "model": model,
        "engine": "equiprune",
        "half_overhead_atoms": per_atom and overhead / per_atom,
        **line,
        **more,
    }


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def stage(folder: Path, command: list[str], result: Any) -> None:
    """A finished stage of a pipeline."""
    record = {"format": "equiprune-stage-1", "command": ["equiprune", *command], "described": {}, "outputs": {}}
    write(folder / "stage.json", record | {"seconds": 30.0})
    write(folder / "result.json", result)


def whole_run(folder: Path) -> Path:
    """Calibrated, pruned, evaluated, timed and certified, with the real writers for what is no plain JSON."""
    toy = ep.load("toy")
    scores = ep.data_free_scores(toy, ep.Random(1))
    child = ep.prune(toy, ep.allocate(toy, [ep.Channels(4)], scores))
    (folder / "prune").mkdir(parents=True)
    ep.save(child, folder / "prune" / "model")
    write(folder / "calibrate" / "scores.json", scores.to_json())
    small = str(folder / "prune" / "model")
    parity = {"energy": [[-1.0, -1.1], [-2.0, -2.05]], "forces": [[0.0, 0.1], [0.3, 0.2]]}
    by_element = {"by_element": {"H": {"forces_mae": 3.0}, "Si": {"forces_mae": 9.0}}}
    found = [errors("toy", 2.0, **by_element), errors(small, 8.0, parity=parity, **by_element)]
    stage(folder / "evaluate", ["evaluate", "toy", small, "--data", "/somewhere/mine.extxyz"], found)
    stage(folder / "benchmark", ["benchmark", "toy", small], [speed("toy", 100.0), speed(small, 250.0)])
    stage(folder / "certify", ["certify", small], ep.certify(child, toy, nve_steps=2).to_json())
    (folder / "train").mkdir()
    curve = "step,epoch,learning_rate,train_forces,validation_forces\n1,0,0.1,0.5,\n2,0,0.1,0.4,0.45\n"
    (folder / "train" / "curve.csv").write_text(curve)
    return folder


def compressed_run(folder: Path, beside: str = "/home/me/other/model") -> Path:
    """Copies of one trained model where ``compress`` leaves them, timed and evaluated with another from elsewhere."""
    trained = folder / "train" / "run" / "model"
    trained.parent.mkdir(parents=True)
    ep.save(ep.prune(ep.load("toy"), ep.PruningPlan.nothing()), trained)
    provenance = json.loads((trained / "provenance.json").read_text())
    pruned, finished = provenance["history"], [*provenance["history"], {"step": "train", "parent": "x", "steps": 4}]
    write(trained / "provenance.json", provenance | {"history": finished})
    for copy in (folder / "model", trained.with_name("last"), folder / "prune" / "model"):
        shutil.copytree(trained, copy)
    write(folder / "prune" / "model" / "provenance.json", provenance | {"history": pruned})
    prune = ["prune", "toy", "--output", str(folder / "prune" / "model")]
    stage(folder / "prune", prune, {})
    stage(folder / "train", ["train", prune[-1], "--output", str(trained.parent)], {})
    models = ["toy", str(trained), beside]
    rates, forces = (100.0, 250.0, 400.0), (2.0, 8.0, 9.0)
    stage(folder / "benchmark", ["benchmark", *models], list(map(speed, models, rates)))
    stage(
        folder / "evaluate", ["evaluate", *models, "--data", "/home/me/mine.extxyz"], list(map(errors, models, forces))
    )
    return folder
