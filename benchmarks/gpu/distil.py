"""Train a pruned child on its parent's energies, per-atom energies, forces and stress, for a given time.

The learning rate follows the time that has passed, so a run uses its time whatever the card; it can be stopped and goes
on from its last saved state.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from benchmarks.gpu.batched import Crystals, Outputs, evaluate, graph
from benchmarks.gpu.explore import Labelled
from equiprune.potentials.checkpoint import save
from equiprune.potentials.potential import Potential
from equiprune.training.objective import KBAR


@dataclass(frozen=True)
class Distillation:
    """A recipe of distillation.

    Attributes:
        seconds: of training.
        learning_rate: of Adam, after a warm-up over the first 3 % of the time and before a cosine to a thousandth.
        batch_atoms: atoms of a step.
        average: decay of the moving average of the weights, which is the result.
        atomic_energy: weight of the per-atom energies; total energy per atom and forces weigh 1, stress in kbar 0.01.
        delta: of Huber's loss, in eV, eV/Angstrom and kbar.
        seed: of the order of the structures.
    """

    seconds: float
    learning_rate: float = 3e-3
    batch_atoms: int = 2000
    average: float = 0.998
    atomic_energy: float = 0.5
    delta: float = 0.01
    seed: int = 0


class Pool:
    """Labelled structures on a device, any of which make a batch."""

    def __init__(self, labelled: Labelled, device: torch.device | str) -> None:
        crystals = labelled.crystals
        self.crystals = crystals.to(device)
        self.labels = [
            t.to(device) for t in (labelled.energy, labelled.atomic_energy, labelled.forces, labelled.stress)
        ]
        self.first = (self.crystals.sizes.cumsum(0) - self.crystals.sizes).to(device)
        self.sizes = crystals.sizes.tolist()

    def __len__(self) -> int:
        return len(self.sizes)

    def batch(self, which: list[int]) -> tuple[Crystals, Outputs]:
        """Some structures and their labels."""
        device = self.first.device
        chosen = torch.tensor(which, device=device)
        sizes = self.crystals.sizes[chosen]
        within = torch.arange(int(sum(self.sizes[i] for i in which)), device=device)
        within = within - torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
        atoms = torch.repeat_interleave(self.first[chosen], sizes) + within
        energy, atomic, forces, stress = self.labels
        of = Crystals(self.crystals.numbers[atoms], self.crystals.positions[atoms], self.crystals.cells[chosen], sizes)
        return of, Outputs(energy[chosen], atomic[atoms], forces[atoms], stress[chosen])

    def epochs(self, batch_atoms: int, seed: int) -> Iterator[list[int]]:
        """Batches of about so many atoms, epoch after epoch, for ever."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            batch, atoms = [], 0
            for i in torch.randperm(len(self), generator=generator).tolist():
                batch.append(i)
                atoms += self.sizes[i]
                if atoms >= batch_atoms:
                    yield batch
                    batch, atoms = [], 0


def losses(predicted: Outputs, label: Outputs, sizes: Tensor, recipe: Distillation) -> dict[str, Tensor]:
    """The parts of the objective, each with its weight."""

    def part(weight: float, a: Tensor, b: Tensor) -> Tensor:
        return weight * huber_loss(a, b, delta=recipe.delta)

    six = [[0, 1, 2, 1, 2, 0], [0, 1, 2, 2, 0, 1]]
    return {
        "energy": part(1.0, predicted.energy / sizes, label.energy / sizes),
        "atomic_energy": part(recipe.atomic_energy, predicted.atomic_energy, label.atomic_energy),
        "forces": part(1.0, predicted.forces, label.forces),
        "stress": part(0.01, predicted.stress[:, six[0], six[1]] * KBAR, label.stress[:, six[0], six[1]] * KBAR),
    }


def learning_rate(recipe: Distillation, done: float) -> float:
    """After a fraction of the time."""
    warm = min(1.0, (done + 1e-3) / 0.03)
    return recipe.learning_rate * warm * (1e-3 + (1 - 1e-3) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def distil(child: Potential, pool: Pool, held_out: Pool, recipe: Distillation, folder: Path) -> Potential:
    """Train until the time is up; writes ``curve.jsonl``, ``state.pt`` and ``model`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    module = child.module
    trainable = {n: layout.trainable for n, layout in child.adapter.layouts(child.architecture).items()}
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(trainable[name])
    weights = [p for p in module.parameters() if p.requires_grad]
    adam = torch.optim.Adam(weights, lr=recipe.learning_rate, fused=weights[0].is_cuda)
    average, step, spent = [p.detach().clone() for p in weights], 0, 0.0
    if (folder / "state.pt").exists():
        stored = torch.load(folder / "state.pt", map_location=child.device, weights_only=True)
        adam.load_state_dict(stored["adam"])
        for p, w in zip(weights, stored["weights"], strict=True):
            p.data.copy_(w)
        average, step, spent = stored["average"], stored["step"], stored["spent"]
    begun, shown, cutoff = time.monotonic(), time.monotonic(), child.architecture.cutoff
    batches = pool.epochs(recipe.batch_atoms, recipe.seed + step)
    atoms_seen = 0
    while (elapsed := spent + time.monotonic() - begun) < recipe.seconds:
        for group in adam.param_groups:
            group["lr"] = learning_rate(recipe, elapsed / recipe.seconds)
        crystals, label = pool.batch(next(batches))
        adam.zero_grad(set_to_none=True)
        try:
            predicted = evaluate(child, graph(crystals, cutoff), training=True)
            parts = losses(predicted, label, crystals.sizes, recipe)
            sum(parts.values()).backward()
        except torch.OutOfMemoryError:  # a batch of very dense structures
            torch.cuda.empty_cache()
            continue
        norm = torch.nn.utils.clip_grad_norm_(weights, 10.0)
        if bool(norm.isfinite()):
            adam.step()
        step, atoms_seen = step + 1, atoms_seen + len(crystals.numbers)
        decay = min(recipe.average, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, [p.detach() for p in weights], 1 - decay)
        if time.monotonic() - shown > 20:
            shown = time.monotonic()
            state = {"adam": adam.state_dict(), "weights": [p.detach() for p in weights], "average": average}
            torch.save(state | {"step": step, "spent": elapsed}, folder / "partial.pt")
            (folder / "partial.pt").rename(folder / "state.pt")
            row = {"step": step, "seconds": round(elapsed, 1), "atoms_per_second": round(atoms_seen / (shown - begun))}
            row |= {name: round(part.item(), 6) for name, part in parts.items()}
            _record(folder, row | errors(_with(child, weights, average), held_out, recipe.batch_atoms))
    trained = _with(child, weights, average)
    _record(folder, {"step": step, "seconds": recipe.seconds} | errors(trained, held_out, recipe.batch_atoms))
    result = _saved(child, trained, recipe, step)
    save(result, folder / "model")
    return result


def _record(folder: Path, row: Mapping[str, Any]) -> None:
    print(folder.name, json.dumps(row), flush=True)
    with (folder / "curve.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def _with(child: Potential, weights: list[Tensor], average: list[Tensor]) -> Potential:
    """A model of its own with the averaged weights."""
    names = {id(p): name for name, p in child.module.named_parameters()}
    changed = {names[id(p)]: a.detach().cpu() for p, a in zip(weights, average, strict=True)}
    checkpoint = replace(child.checkpoint, weights={**child.checkpoint.weights, **changed})
    return Potential.create(child.adapter, checkpoint, child.dtype, child.head, child.device)


def errors(model: Potential, pool: Pool, batch_atoms: int) -> dict[str, float]:
    """Mean absolute errors against the labels: energy meV/atom, forces meV/Angstrom, stress meV/Angstrom^3."""
    sums, counts = torch.zeros(3), torch.zeros(3)
    for start in range(0, len(pool), 64):
        crystals, label = pool.batch(list(range(start, min(start + 64, len(pool)))))
        found = evaluate(model, graph(crystals, model.architecture.cutoff))
        parts = (
            (found.energy - label.energy) / crystals.sizes,
            found.forces - label.forces,
            found.stress - label.stress,
        )
        sums += torch.stack([part.detach().abs().sum().cpu() for part in parts]) * 1e3
        counts += torch.tensor([part.numel() for part in parts])
    named = zip(("energy", "forces", "stress"), (sums / counts).tolist(), strict=True)
    return {f"{name}_mae": round(error, 2) for name, error in named}


def _saved(child: Potential, trained: Potential, recipe: Distillation, steps: int) -> Potential:
    """The trained model with its training in its history, in stock modules."""
    step = {
        "step": "train",
        "parent": child.checkpoint.source,
        "parent_sha256": child.checkpoint.sha256,
        "recipe": vars(recipe),
        "steps": steps,
    }
    checkpoint = replace(trained.checkpoint, sha256="", history=(*child.checkpoint.history, step))
    from equiprune.adapters.sevennet import SevenNetAdapter

    return Potential.create(SevenNetAdapter(), checkpoint, child.dtype, child.head)
