"""Is everything on a GPU what it is on the CPU? Predictions, scores, certificate, training and resuming.

``python -m benchmarks.gpu.smoke MODEL --device cuda``. In float64, then in float32 to its rounding. Where the device is
the CPU, float32 is compared with float64 instead. Prints a line for each check and leaves 1 if one fails.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from lightning_fabric import Fabric

import equiprune as ep
from benchmarks.gpu.stage import Record, parsed
from equiprune.potentials.derivatives import differentiated
from equiprune.structures.probes import probe_structures
from equiprune.training.objective import sevennet_huber
from equiprune.training.optimisation import Optimisation

LIMITS = {
    "float64": {"predict": 1e-9, "calibrate": 1e-9, "gradients": 1e-9, "certify": 0.5, "train": 1e-7, "resume": 1e-7},
    "float32": {"predict": 1e-4, "calibrate": 1e-4, "gradients": 1e-4, "train": 1e-2, "resume": 1e-2},
}
"""Largest difference over the largest value; of the certificate, 0 when it passes and 1 when it does not.

float32 rounds to 6e-8, and sums of hundreds of terms that cancel to some 1e-6. Training makes more of it: Adam divides
gradients by their size, and so moves weights whose gradients are rounding as far as all others.
"""


@dataclass(frozen=True)
class Sides:
    """A comparison: a model on a device, and where it says what it should.

    Attributes:
        found: on the device, in the precision that is checked.
        start: the same on the CPU, where training starts from.
        expected: on the CPU, in the same precision, or in float64 where the device is the CPU too.
        structures: that it is asked about.
        nve_steps: of the certificate's dynamics.
    """

    found: ep.Potential
    start: ep.Potential
    expected: ep.Potential
    structures: Sequence[Atoms]
    nve_steps: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run every check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--structures", type=int, help="the smallest so many of all")
    parser.add_argument("--nve-steps", type=int, default=40, help="of the certificate's dynamics")
    chosen = parsed(parser, argv, {"structures": 2, "nve_steps": 4})
    record = Record("smoke", chosen.device, chosen.output)
    for name, limits in LIMITS.items():
        sides = _sides(chosen, getattr(torch, name))
        for check, limit in limits.items():
            record.add({"check": check, "dtype": name, **_checked(partial(CHECKS[check], sides), limit)})
    return int(not all(row["passed"] for row in record.rows))


def _sides(chosen: argparse.Namespace, dtype: torch.dtype) -> Sides:
    """The model on the device and where it is right: on the CPU, and there in float64."""
    start = ep.load(chosen.model, dtype=dtype)
    expected = start.with_dtype(torch.float64) if chosen.device == "cpu" else start
    structures = _structures(start)[: chosen.structures]
    return Sides(start.on(chosen.device), start, expected, structures, chosen.nve_steps)


def _checked(check: Callable[[], float], limit: float) -> dict[str, Any]:
    try:
        difference = check()
    except Exception as error:  # the other checks are still worth running
        return {"passed": False, "error": repr(error), "trace": traceback.format_exc()[-1500:]}
    return {"difference": difference, "limit": limit, "passed": difference <= limit}


def _structures(potential: ep.Potential) -> list[Atoms]:
    """The smallest first."""
    found = []
    for number, probe in enumerate(sorted(probe_structures(potential.elements).values(), key=len)):
        atoms = probe.copy()
        atoms.rattle(0.05, seed=number)
        found.append(atoms)
    return found


def _relative(found: list[np.ndarray], reference: list[np.ndarray]) -> float:
    """The largest difference over the largest value of its array; nan, which is no pass, where one is nan."""
    pairs = list(zip(found, reference, strict=True))
    return float(np.max([np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-3) for a, b in pairs]))


def _predictions(potential: ep.Potential, structures: Sequence[Atoms]) -> list[np.ndarray]:
    """Energies, forces and stresses of each structure, by what it has."""
    predictions = potential.predict(structures)
    periodic = [p for p, atoms in zip(predictions, structures, strict=True) if atoms.pbc.all()]
    tensors = [t for p in predictions for t in (p.energy, p.forces)] + [p.stress for p in periodic]
    return [tensor.double().cpu().numpy() for tensor in tensors]


def _predict(sides: Sides) -> float:
    return _relative(*(_predictions(side, sides.structures) for side in (sides.found, sides.expected)))


def _calibrate(sides: Sides) -> float:
    def numbers(potential: ep.Potential) -> list[np.ndarray]:
        return [np.array(list(_numbers(ep.calibrate(potential, sides.structures).to_json())))]

    return _relative(numbers(sides.found), numbers(sides.expected))


def _numbers(value: Any) -> Iterator[float]:
    match value:
        case dict():
            for key in sorted(value):
                yield from _numbers(value[key])
        case list():
            for entry in value:
                yield from _numbers(entry)
        case float():
            yield value


def _gradients(sides: Sides) -> float:
    """Gradients of the weights, along which training takes its steps."""

    def gradients(potential: ep.Potential) -> list[np.ndarray]:
        found = differentiated(potential.evaluate, potential.graph(sides.structures), create_graph=True)
        weights = dict(potential.module.named_parameters()).values()
        loss = found.energies.square().sum() + found.forces.square().sum()
        every = torch.autograd.grad(loss, [w for w in weights if w.requires_grad], allow_unused=True)
        return [torch.cat([g.double().flatten().cpu() for g in every if g is not None]).numpy()]

    return _relative(gradients(sides.found), gradients(sides.expected))


def _certify(sides: Sides) -> float:
    return float(not ep.certify(sides.found, nve_steps=sides.nve_steps).passed)


def _labelled(sides: Sides) -> list[Atoms]:
    rattled = [atoms.copy() for atoms in sides.structures]
    for number, atoms in enumerate(rattled):
        atoms.rattle(0.1, seed=100 + number)
    shaken = list(ep.label(sides.expected, rattled))
    for atoms in shaken:  # something to learn: errors whose gradients are more than rounding
        results = atoms.calc.results
        results["forces"] = results["forces"] * 1.1
        results["energy"] = results["energy"] + 0.1 * len(atoms)
    return shaken


def _trained(
    potential: ep.Potential, data: list[Atoms], folder: Path, device: torch.device, **watched: Any
) -> ep.Potential:
    """After two epochs of two steps on a device."""
    recipe = ep.Recipe(sevennet_huber(), Optimisation(learning_rate=1e-3), epochs=2, batch_size=len(data) // 2)
    on_gpu = device.type == "cuda"
    fabric = Fabric(accelerator="cuda", devices=[device.index or 0]) if on_gpu else Fabric(accelerator="cpu", devices=1)
    return ep.train(potential, data, recipe, folder, resources=ep.Resources(fabric), **watched)


def _outcome(potential: ep.Potential, data: Sequence[Atoms], dtype: torch.dtype | None = None) -> list[np.ndarray]:
    """Results of training a model: its weights where ``dtype``, its own unless given, is float64, or predictions.

    Predictions hardly depend on weights whose gradients are rounding, and which move at random.
    """
    if (dtype or potential.dtype) == torch.float64:
        return [w.detach().cpu().numpy() for w in potential.checkpoint.weights.values() if w.numel()]
    return _predictions(potential, data)


def _train(sides: Sides) -> float:
    data = _labelled(sides)
    with tempfile.TemporaryDirectory() as folder:
        found = _trained(sides.start, data, Path(folder) / "found", sides.found.device)
        expected = _trained(sides.expected, data, Path(folder) / "expected", sides.expected.device)
    return _relative(_outcome(found, data), _outcome(expected, data, found.dtype))


class _Stopper:
    """Ends this process, as a queue would, after two steps."""

    def __init__(self) -> None:
        self.left = 2

    def __call__(self, _: int) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def _resume(sides: Sides) -> float:
    """A run that is stopped after two steps and goes on, against one that is not."""
    data, start, device = _labelled(sides), sides.start, sides.found.device
    with tempfile.TemporaryDirectory() as folder:
        stopped = False
        try:
            _trained(start, data, Path(folder) / "stopped", device, watchers=ep.Watchers(progress=_Stopper()))
        except ep.EquipruneError as error:
            stopped = "Interrupted" in str(error)
        if not stopped:
            raise AssertionError("The run was not interrupted.")
        resumed = _trained(start, data, Path(folder) / "stopped", device)
        through = _trained(start, data, Path(folder) / "through", device)
    return _relative(_outcome(resumed, data), _outcome(through, data))


CHECKS: dict[str, Callable[[Sides], float]] = {
    "predict": _predict,
    "calibrate": _calibrate,
    "gradients": _gradients,
    "certify": _certify,
    "train": _train,
    "resume": _resume,
}


if __name__ == "__main__":
    sys.exit(main())
