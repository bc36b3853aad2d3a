"""Is everything on a GPU what it is on the CPU? Predictions, scores, certificate, training and resuming, in float64.

``python -m benchmarks.gpu.smoke MODEL --device cuda``. Prints a line for each check and leaves 1 if one fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from lightning_fabric import Fabric

import equiprune as ep
from equiprune.structures.probes import probe_structures
from equiprune.training.objective import sevennet_huber
from equiprune.training.optimisation import Optimisation

LIMITS = {"predict": 1e-9, "calibrate": 1e-9, "train": 1e-7, "resume": 1e-7, "certify": 0.5}
"""Largest relative difference; of the certificate, 0 when it passes and 1 when it does not."""


def main() -> int:
    """Run every check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    both = [ep.load(chosen.model, dtype=torch.float64, device=device) for device in ("cpu", chosen.device)]
    structures = _structures(both[0])
    checks: dict[str, Callable[[], float]] = {
        "predict": lambda: _predict(*both, structures),
        "calibrate": lambda: _calibrate(*both, structures),
        "certify": lambda: _certify(both[1]),
        "train": lambda: _train(*both, structures, chosen.device),
        "resume": lambda: _resume(both[1], structures, chosen.device),
    }
    rows = [_checked(name, check) for name, check in checks.items()]
    if chosen.output:
        chosen.output.write_text(json.dumps({"device": _name(chosen.device), "checks": rows}, indent=1))
    return int(not all(row["passed"] for row in rows))


def _name(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else device


def _checked(name: str, check: Callable[[], float]) -> dict[str, Any]:
    try:
        difference = check()
        row = {"check": name, "difference": difference, "limit": LIMITS[name], "passed": difference <= LIMITS[name]}
    except Exception as error:  # the other checks are still worth running
        row = {"check": name, "passed": False, "error": repr(error), "trace": traceback.format_exc()[-1500:]}
    print("smoke", json.dumps(row), flush=True)
    return row


def _structures(potential: ep.Potential) -> list[Atoms]:
    found = []
    for number, probe in enumerate(probe_structures(potential.elements).values()):
        atoms = probe.copy()
        atoms.rattle(0.05, seed=number)
        found.append(atoms)
    return found


def _relative(found: list[np.ndarray], reference: list[np.ndarray]) -> float:
    pairs = list(zip(found, reference, strict=True))
    return float(max(np.nanmax(np.abs(a - b)) / max(np.nanmax(np.abs(b)), 1e-3) for a, b in pairs))


def _predict(cpu: ep.Potential, gpu: ep.Potential, structures: list[Atoms]) -> float:
    def arrays(potential: ep.Potential) -> list[np.ndarray]:
        predictions = potential.predict(structures)
        periodic = [p for p, atoms in zip(predictions, structures, strict=True) if atoms.pbc.all()]
        tensors = [t for p in predictions for t in (p.energy, p.forces)] + [p.stress for p in periodic]
        return [tensor.cpu().numpy() for tensor in tensors]

    return _relative(arrays(gpu), arrays(cpu))


def _calibrate(cpu: ep.Potential, gpu: ep.Potential, structures: list[Atoms]) -> float:
    def numbers(potential: ep.Potential) -> np.ndarray:
        return np.array(list(_numbers(ep.calibrate(potential, structures).to_json())))

    return _relative([numbers(gpu)], [numbers(cpu)])


def _numbers(value: Any) -> Any:
    match value:
        case dict():
            for key in sorted(value):
                yield from _numbers(value[key])
        case list():
            for entry in value:
                yield from _numbers(entry)
        case float():
            yield value


def _certify(gpu: ep.Potential) -> float:
    return float(not ep.certify(gpu).passed)


def _trained(potential: ep.Potential, structures: list[Atoms], device: str, folder: Path, epochs: int) -> ep.Potential:
    recipe = ep.Recipe(sevennet_huber(), Optimisation(learning_rate=1e-3), epochs=epochs, batch_size=2)
    fabric = Fabric(accelerator="cuda" if device.startswith("cuda") else "cpu", devices=1)
    return ep.train(potential, structures, recipe, folder, resources=ep.Resources(fabric))


def _labelled(potential: ep.Potential, structures: list[Atoms]) -> list[Atoms]:
    rattled = [atoms.copy() for atoms in structures]
    for number, atoms in enumerate(rattled):
        atoms.rattle(0.1, seed=100 + number)
    shaken = list(ep.label(potential, rattled))
    for atoms in shaken:  # something to learn: labels that are not already the model's own
        atoms.calc.results["forces"] = atoms.calc.results["forces"] * 1.1
    return shaken


def _weights(potential: ep.Potential) -> list[np.ndarray]:
    return [w.detach().cpu().numpy() for w in potential.checkpoint.weights.values() if w.numel()]


def _train(cpu: ep.Potential, gpu: ep.Potential, structures: list[Atoms], device: str) -> float:
    data = _labelled(cpu, structures)
    with tempfile.TemporaryDirectory() as folder:
        trained = (
            [_trained(cpu, data, where, Path(folder) / where.replace(":", ""), 2) for where in ("cpu", device)]
            if device != "cpu"
            else [_trained(cpu, data, "cpu", Path(folder) / name, 2) for name in "ab"]
        )
        return _relative(_weights(trained[1]), _weights(trained[0]))


def _resume(gpu: ep.Potential, structures: list[Atoms], device: str) -> float:
    """A run that is stopped after two steps and goes on, against one that is not."""
    data = _labelled(gpu, structures)

    class Stopper:
        def __init__(self) -> None:
            self.left = 2

        def __call__(self, _: int) -> None:
            self.left -= 1
            if self.left == 0:
                import os
                import signal

                os.kill(os.getpid(), signal.SIGTERM)

    recipe = ep.Recipe(sevennet_huber(), Optimisation(learning_rate=1e-3), epochs=2, batch_size=2)
    fabric = Fabric(accelerator="cuda" if device.startswith("cuda") else "cpu", devices=1)
    start, own = ep.load(gpu.checkpoint.source, dtype=torch.float64), ep.Resources(fabric)
    with tempfile.TemporaryDirectory() as folder:
        stopped = False
        try:
            watchers = ep.Watchers(progress=Stopper())
            ep.train(start, data, recipe, Path(folder) / "stopped", resources=own, watchers=watchers)
        except ep.EquipruneError as error:
            stopped = "Interrupted" in str(error)
        if not stopped:
            raise AssertionError("The run was not interrupted.")
        resumed = ep.train(start, data, recipe, Path(folder) / "stopped", resources=own)
        through = ep.train(start, data, recipe, Path(folder) / "through", resources=own)
        return _relative(_weights(resumed), _weights(through))


if __name__ == "__main__":
    sys.exit(main())
