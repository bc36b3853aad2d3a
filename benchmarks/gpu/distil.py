"""Train a pruned child on its parent's energies, per-atom energies, forces and stress, for a given time.

The learning rate follows the time that has passed, so a run uses its time whatever the card; it can be stopped and goes
on from its last saved state.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from benchmarks.gpu.batched import evaluate
from benchmarks.gpu.features import ParentFeatures
from benchmarks.gpu.pool import Batch, Pool
from benchmarks.gpu.replay import Step
from equiprune.adapters import adapter_named
from equiprune.potentials.checkpoint import load, save
from equiprune.potentials.derivatives import Derivatives
from equiprune.potentials.potential import Potential
from equiprune.training.objective import KBAR

_SIX = (0, 4, 8, 5, 6, 1)
"""Components of a stress that is written as nine numbers: xx, yy, zz, yz, zx, xy."""
_CALM = 0.3
"""eV/Angstrom: structures whose forces are smaller on average are reported by themselves."""


@dataclass(frozen=True)
class Distillation:
    """A recipe of distillation.

    Attributes:
        seconds: of training.
        learning_rate: of Adam, after a warm-up over the first 2 % of the time and before a cosine to a thousandth.
        batch_atoms: atoms of a step.
        average: decay of the moving average of the weights, which is the result.
        atomic_energy: weight of the per-atom energies; forces weigh 1, stress in kbar 0.01.
        energy: weight of the total energy per atom, at first and, over the last third of the time, at the end.
        delta: of Huber's loss, in eV, eV/Angstrom and kbar.
        seed: of the order of the structures.
        features: weight of the parent's features, relative to their size.
    """

    seconds: float
    learning_rate: float = 3e-3
    batch_atoms: int = 1024
    average: float = 0.999
    atomic_energy: float = 0.5
    energy: tuple[float, float] = (1.0, 5.0)
    delta: float = 0.01
    seed: int = 0
    features: float = 0.0


class Losses:
    """The parts of the objective, each with its weight; structures count by the batch's weights."""

    names = ("energy", "atomic_energy", "forces", "stress")

    def __init__(self, recipe: Distillation, device: torch.device) -> None:
        self.recipe = recipe
        self.energy_weight = torch.tensor(recipe.energy[0], device=device)
        self.six = torch.tensor(_SIX, device=device)

    def __call__(self, predicted: Derivatives, batch: Batch) -> list[Tensor]:
        label, structures, atoms = batch.label, batch.structure_weight, batch.atom_weight

        def part(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
            every = huber_loss(a, b, reduction="none", delta=self.recipe.delta).flatten(1).mean(1)
            return (every * weight).sum() / weight.sum()

        def of(energies: Tensor) -> Tensor:
            return (energies / batch.sizes)[:, None]

        stress = (s.flatten(1).index_select(1, self.six) * KBAR for s in (predicted.stress, label.stress))
        return [
            self.energy_weight * part(of(predicted.energies), of(label.energy), structures),
            self.recipe.atomic_energy * part(predicted.atom_energies[:, None], label.atomic_energy[:, None], atoms),
            part(predicted.forces, label.forces, atoms),
            0.01 * part(*stress, structures),
        ]

    def set_progress(self, done: float) -> None:
        """The weight of energies after a fraction of the time."""
        first, last = self.recipe.energy
        self.energy_weight.fill_(first + (last - first) * min(1.0, max(0.0, (done - 2 / 3) * 6)))


def learning_rate(recipe: Distillation, done: float) -> float:
    """After a fraction of the time."""
    warm = min(1.0, (done + 1e-3) / 0.02)
    return recipe.learning_rate * warm * (1e-3 + (1 - 1e-3) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


@dataclass
class _State:
    """What a run goes on from."""

    adam: torch.optim.Adam
    weights: list[Tensor]
    average: list[Tensor]
    step: int = 0
    spent: float = 0.0

    def read(self, path: Path) -> None:
        stored = torch.load(path, map_location=self.weights[0].device, weights_only=True)
        self.adam.load_state_dict(stored["adam"])
        for p, w in zip(self.weights, stored["weights"], strict=True):
            p.data.copy_(w)
        self.average, self.step, self.spent = stored["average"], stored["step"], stored["spent"]

    def write(self, path: Path) -> None:
        weights = [p.detach() for p in self.weights]
        stored = {"adam": self.adam.state_dict(), "weights": weights, "average": self.average}
        partial = path.with_name("partial.pt")
        torch.save(stored | {"step": self.step, "spent": self.spent}, partial)
        partial.rename(path)


def quickest(child: Potential, pool: Pool, sizes: Sequence[int], allowed: float = 1.45) -> int:
    """The largest batch whose step takes little longer than that of the smallest: below it, most of the GPU waits."""
    weights = _trainable(child)
    first = math.inf
    chosen = sizes[0]
    for atoms in sizes:
        step, shape = Step(child, weights, Losses(Distillation(0), child.device)), pool.shape(atoms)
        recorded = step.record(pool.batch(next(pool.epochs(shape, 0)), shape))
        print(shape, recorded, flush=True)
        first = min(first, recorded.milliseconds)
        chosen = atoms if recorded.milliseconds < allowed * first else chosen
    return chosen


def _trainable(child: Potential) -> list[Tensor]:
    """Weights that are trained; no other collects gradients."""
    trainable = {n: layout.trainable for n, layout in child.adapter.layouts(child.architecture).items()}
    for name, parameter in child.module.named_parameters():
        parameter.requires_grad_(trainable[name])
    return [p for p in child.module.parameters() if p.requires_grad]


def distil(
    child: Potential,
    pool: Pool,
    held_out: Pool,
    recipe: Distillation,
    folder: Path,
    features: ParentFeatures | None = None,
) -> Potential:
    """Train until the time is up, unless that was done; ``curve.jsonl``, ``state.pt``, ``model`` are in the folder."""
    if (folder / "model").exists():
        return load(str(folder / "model"))
    folder.mkdir(parents=True, exist_ok=True)
    weights = _trainable(child)
    adam = torch.optim.Adam(weights, lr=recipe.learning_rate, fused=weights[0].is_cuda)
    state = _State(adam, weights, [p.detach().clone() for p in weights])
    if (folder / "state.pt").exists():
        state.read(folder / "state.pt")
    step = Step(child, weights, Losses(recipe, child.device), features)
    _train(child, pool, held_out, recipe, folder, state, step)
    with _averaged(state):
        _record(folder, {"step": state.step, "seconds": recipe.seconds} | errors(child, held_out, recipe.batch_atoms))
    result = _saved(child, state, recipe)
    save(result, folder / "model")
    return result


def _train(
    child: Potential, pool: Pool, held_out: Pool, recipe: Distillation, folder: Path, state: _State, step: Step
) -> None:
    shape, names = pool.shape(recipe.batch_atoms), (*Losses.names, "features")
    batches = pool.epochs(shape, recipe.seed + state.step)
    if child.device.type == "cuda":
        print(f"{folder.name}: {shape}, {step.record(pool.batch(next(batches), shape))}", flush=True)
    begun = shown = time.monotonic() - state.spent
    atoms = 0
    while (elapsed := time.monotonic() - begun) < recipe.seconds:
        which = next(batches)
        for group in state.adam.param_groups:
            group["lr"] = learning_rate(recipe, elapsed / recipe.seconds)
        step.losses.set_progress(elapsed / recipe.seconds)
        step(pool.batch(which, shape if child.device.type == "cuda" else None))
        for p, g in zip(state.weights, step.gradients, strict=True):
            p.grad = g
        state.adam.step()
        state.step, state.spent, atoms = state.step + 1, elapsed, atoms + sum(pool.atom_counts[i] for i in which)
        decay = min(recipe.average, (1 + state.step) / (10 + state.step))
        torch._foreach_lerp_(state.average, [p.detach() for p in state.weights], 1 - decay)
        if child.device.type == "cuda" and state.step % 8 == 0:
            torch.cuda.synchronize()  # or many steps would wait in the queue, and time would pass unseen
        if time.monotonic() - shown > 20 + state.spent / 20:
            state.write(folder / "state.pt")
            row = {"step": state.step, "seconds": round(elapsed, 1)}
            row |= {"atoms_per_second": round(atoms / (time.monotonic() - shown))}
            row |= {name: round(float(part), 6) for name, part in zip(names, step.parts, strict=False)}
            with _averaged(state):
                _record(folder, row | errors(child, held_out, recipe.batch_atoms))
            shown, atoms = time.monotonic(), 0


def _record(folder: Path, row: Mapping[str, Any]) -> None:
    print(folder.name, json.dumps(row), flush=True)
    with (folder / "curve.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


@contextmanager
def _averaged(state: _State) -> Iterator[None]:
    """The child has the averaged weights meanwhile, in the tensors that a recorded step reads."""
    now = [p.detach().clone() for p in state.weights]
    torch._foreach_copy_([p.data for p in state.weights], state.average)
    try:
        yield
    finally:
        torch._foreach_copy_([p.data for p in state.weights], now)


def errors(model: Potential, pool: Pool, batch_atoms: int) -> dict[str, float]:
    """Mean absolute errors against the labels: energy meV/atom, forces meV/Angstrom, stress meV/Angstrom^3.

    ``calm_forces_mae`` is of the structures whose forces are below 0.3 eV/Angstrom on average.
    """
    shape, sums, counts = pool.shape(4 * batch_atoms), torch.zeros(4), torch.zeros(4)
    for which in pool.batches(shape, range(len(pool))):
        batch = pool.batch(which)
        found = evaluate(model, batch.graph)
        structures, atoms = batch.structure_weight > 0, batch.atom_weight > 0
        forces, true = (found.forces - batch.label.forces)[atoms], batch.label.forces[atoms]
        calm = _mean_over_structures(true.abs().mean(1), batch.graph.structure_of_atom[atoms]) < _CALM
        parts: Sequence[Tensor] = (
            ((found.energy - batch.label.energy) / batch.sizes)[structures],
            forces,
            (found.stress - batch.label.stress)[structures],
            forces[calm],
        )
        sums += torch.stack([part.detach().abs().sum().cpu() for part in parts]) * 1e3
        counts += torch.tensor([part.numel() for part in parts])
    named = zip(("energy", "forces", "stress", "calm_forces"), (sums / counts).tolist(), strict=True)
    return {f"{name}_mae": round(error, 2) for name, error in named}


def _mean_over_structures(values: Tensor, owner: Tensor) -> Tensor:
    """Of each atom, the mean over its structure, (atoms,)."""
    sums = values.new_zeros(int(owner.max()) + 1).index_add(0, owner, values)
    return (sums / torch.bincount(owner))[owner]


def _saved(child: Potential, state: _State, recipe: Distillation) -> Potential:
    """The averaged model with its training in its history, in stock modules."""
    names = {id(p): name for name, p in child.module.named_parameters()}
    changed = {names[id(p)]: a.detach().cpu() for p, a in zip(state.weights, state.average, strict=True)}
    of = child.checkpoint
    step = {"step": "train", "parent": of.source, "parent_sha256": of.sha256}
    step |= {"recipe": vars(recipe), "steps": state.step}
    trained = replace(of, weights={**of.weights, **changed}, sha256="", history=(*of.history, step))
    return Potential.create(adapter_named(child.adapter.name), trained, child.dtype, child.head)
