"""A potential: an upstream module with the data it was built from, ready to be evaluated.

`Potential` is a value. Nothing here changes one in place: ``with_dtype``, ``on`` and ``masked`` return new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from torch import Tensor, nn

from equiprune.adapters import Checkpoint, ModelAdapter, Taps, load_weights
from equiprune.blocks import FeatureSpace
from equiprune.errors import StructureError, TargetError
from equiprune.structures.batching import located_batches
from equiprune.structures.checks import check_structures
from equiprune.structures.graph import AtomicGraph
from equiprune.structures.sequences import Origin


@dataclass(frozen=True)
class Prediction:
    """What a potential says of one structure.

    ==========  ============  =============  ================================
    field       shape         unit           convention
    ==========  ============  =============  ================================
    energy      ()            eV             total
    forces      (atoms, 3)    eV/Angstrom    -dE/dr
    stress      (3, 3)        eV/Angstrom^3  ASE's sign: (1/V) dE/dstrain;
                                             nan unless periodic in 3-D
    ==========  ============  =============  ================================
    """

    energy: Tensor
    forces: Tensor
    stress: Tensor


@dataclass(frozen=True)
class Observed:
    """A feature space in one evaluation.

    Attributes:
        value: (rows, irreps.dim); a row per site, or blocks of such rows one after another.
        gradients: of each output with respect to it, shaped alike: of the energy; where forces are an output of their
            own, also of their projection on fixed random directions.
    """

    value: Tensor
    gradients: tuple[Tensor, ...]


@dataclass(frozen=True)
class Differentiated:
    """One backward pass: predictions of a batch and the gradients of observed features.

    Attributes:
        energies: (structures,) eV.
        forces: (atoms, 3) eV/Angstrom.
        stress: (structures, 3, 3) eV/Angstrom^3.
        features: space name to what was seen of it.
    """

    energies: Tensor
    forces: Tensor
    stress: Tensor
    features: Mapping[str, Observed]


@dataclass(frozen=True)
class Potential:
    """Module + architecture + adapter.

    Attributes:
        checkpoint: the hyperparameters, licence and history; its weights are those the module was built from.
        module: the ordinary upstream module.
        dtype: of its weights and arithmetic.
        head: the level of theory evaluated, for a multi-head model.
        taps: applied to feature spaces during evaluation; empty for a plain model (see `masked`).
        elements: atomic numbers it accepts; a masked potential accepts fewer than its module.
    """

    adapter: ModelAdapter
    checkpoint: Checkpoint
    module: nn.Module
    dtype: torch.dtype
    head: str | None = None
    taps: Taps = field(default_factory=dict)
    elements: frozenset[int] = frozenset()

    @classmethod
    def create(
        cls,
        adapter: ModelAdapter,
        checkpoint: Checkpoint,
        dtype: torch.dtype = torch.float32,
        head: str | None = None,
        device: torch.device | str = "cpu",
        *,
        for_training: bool = False,
    ) -> Potential:
        """Build the upstream module and fill it with the checkpoint's weights.

        Args:
            adapter: of the architecture.
            checkpoint: hyperparameters and weights.
            dtype: precision of weights and arithmetic.
            head: level of theory, for a multi-head model.
            device: where to evaluate.
            for_training: build it as the adapter arranges it for training.

        Raises:
            CheckpointError: a weight is missing, unexpected or of another shape.
            TargetError: ``head`` is not one the model has, ``dtype`` no floating-point dtype, ``device`` not here.
        """
        adapter.check_head(checkpoint.architecture, head)
        dtype, device = floating(dtype), present(device)
        build = adapter.build_for_training if for_training else adapter.build
        module = build(checkpoint.architecture, dtype)
        load_weights(module, checkpoint.weights)
        module.eval().to(device)
        return cls(adapter, checkpoint, module, dtype, head, {}, frozenset(checkpoint.architecture.elements))

    @property
    def architecture(self) -> Any:
        """Frozen hyperparameters."""
        return self.checkpoint.architecture

    @property
    def spaces(self) -> tuple[FeatureSpace, ...]:
        """Every space a plan may prune."""
        return self.adapter.feature_spaces(self.architecture)

    @property
    def quantities(self) -> tuple[str, ...]:
        """What it predicts; there is no stress where forces are an output of their own."""
        return ("energy", "forces") if self.adapter.direct_forces else ("energy", "forces", "stress")

    @property
    def device(self) -> torch.device:
        """Where the module lives."""
        return next(self.module.parameters()).device

    def with_dtype(self, dtype: torch.dtype) -> Potential:
        """The same potential, rebuilt in another precision so that upstream constants have it too.

        Raises:
            TargetError: ``dtype`` is no floating-point dtype of torch.
        """
        return self if floating(dtype) == self.dtype else self._rebuilt(dtype, self.device)

    def on(self, device: torch.device | str) -> Potential:
        """The same potential with a module of its own on another device; this one stays where it is.

        Raises:
            TargetError: ``device`` is no device, or not here.
        """
        there = present(device)
        return self if there == self.device else self._rebuilt(self.dtype, there)

    def _rebuilt(self, dtype: torch.dtype, device: torch.device) -> Potential:
        fresh = Potential.create(self.adapter, self.checkpoint, dtype, self.head, device)
        return replace(fresh, taps=self.taps, elements=self.elements)

    def parameters(self, *, trainable_only: bool = False) -> int:
        """Numbers in the module's parameters."""
        return sum(p.numel() for p in self.module.parameters() if p.requires_grad or not trainable_only)

    def graph(self, structures: Sequence[Atoms], origins: Sequence[Origin] | None = None) -> AtomicGraph:
        """The batch this potential evaluates. Raises `StructureError` for what it cannot evaluate.

        ``origins`` are what the error says of where a structure is from; unless given, its place among these.
        """
        check_structures(structures, self.elements, origins)
        arch = self.architecture
        return AtomicGraph.from_structures(structures, arch.cutoff, self.dtype, self.device, arch.max_neighbors)

    def energies(self, graph: AtomicGraph) -> Tensor:
        """Energies (structures,) in eV, differentiable in the graph's leaves."""
        return self.adapter.energies(self.module, self.architecture, graph, self.head, self.taps)

    def differentiate(self, graph: AtomicGraph, observe: Sequence[str] = ()) -> Differentiated:
        """Energies, forces, stress and dE/dfeature of the observed spaces, in one backward pass.

        Where forces are an output of their own there is no stress (nan), and features have a gradient of the energy and
        one of the forces, from a backward pass each.
        """
        seen: dict[str, list[Tensor]] = {name: [] for name in observe}
        taps = {**self.taps, **{name: _recorder(seen[name], self.taps.get(name, unchanged)) for name in observe}}
        if self.adapter.direct_forces:
            return self._direct(graph, seen, taps)
        graph = graph.with_leaves()
        energies = self.adapter.energies(self.module, self.architecture, graph, self.head, taps)
        leaves = [graph.positions, graph.strain, *chain.from_iterable(seen.values())]
        by_position, by_strain, *by_feature = _gradients(energies.sum(), leaves)
        features = _observed(seen, [by_feature])
        return Differentiated(energies.detach(), -by_position, by_strain / graph.volume[:, None, None], features)

    def _direct(self, graph: AtomicGraph, seen: dict[str, list[Tensor]], taps: Taps) -> Differentiated:
        with torch.set_grad_enabled(bool(seen)):
            outputs = self.adapter.energies_and_forces(self.module, self.architecture, graph, self.head, taps)
        energies, forces = outputs
        leaves = list(chain.from_iterable(seen.values()))
        projected = (forces * _directions(graph, forces)).sum()
        gradients = [_gradients(energies.sum(), leaves, keep=True), _gradients(projected, leaves)] if leaves else []
        stress = graph.strain.new_full(graph.strain.shape, torch.nan)
        return Differentiated(energies.detach(), forces.detach(), stress, _observed(seen, gradients))

    def predict(
        self, structures: Sequence[Atoms], batch_atoms: int = 256, origins: Sequence[Origin] | None = None
    ) -> list[Prediction]:
        """Energy, forces and stress of each structure, in batches of up to ``batch_atoms`` atoms.

        ``origins`` as for `graph`.

        Raises:
            StructureError: NaN positions or an element the model does not know.
        """
        predictions: list[Prediction] = []
        for places, batch in located_batches(structures, batch_atoms, origins):
            result = self.differentiate(self.graph(batch, places))
            forces = result.forces.split([len(atoms) for atoms in batch])
            predictions += map(Prediction, result.energies, forces, result.stress)
        return predictions

    def calculator(self) -> Calculator:
        """An ASE calculator of this potential, in its own precision."""
        return _PotentialCalculator(self)


def floating(dtype: object) -> torch.dtype:
    """A precision to compute in.

    >>> floating(torch.float64)
    torch.float64
    """
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
        return dtype
    raise TargetError(
        f"{dtype!r} is no precision to compute in. Give a floating-point dtype, torch.float32 or torch.float64; a "
        "device goes into `on`, or `device` when a model is opened."
    )


def present(device: object) -> torch.device:
    """A device of this machine, with its number where torch gives it one.

    >>> present("cpu")
    device(type='cpu')
    """
    if not isinstance(device, str | torch.device):
        raise TargetError(f"{device!r} is no device. Give 'cpu', 'cuda', 'cuda:1' or a torch.device.")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch has no one error for it
        reason, here = str(error).split("\n")[0].rstrip("."), ", ".join(devices())
        raise TargetError(f"The device '{device}' is not available here ({reason}). Available: {here}.") from error


def devices() -> list[str]:
    """The processor and the GPUs of this machine by their names; `present` says of any other device whether it is here.

    >>> devices()[0]
    'cpu'
    """
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ["cpu", *(["cuda"] if cards else []), *(f"cuda:{i}" for i in range(cards))]


def check_predicted(potential: Potential, wanted: Iterable[str]) -> None:
    """Raise `TargetError` for a quantity (energy, forces, stress, hessian) that the potential does not have."""
    known = (*potential.quantities, *(() if potential.adapter.direct_forces else ("hessian",)))
    if lacking := [quantity for quantity in wanted if quantity not in known]:
        raise TargetError(
            f"{potential.adapter.name} models have no {' and no '.join(lacking)}: their forces are an output of their "
            f"own. Leave that out; give it the weight 0 in training. They have {' and '.join(known)}."
        )


def _gradients(output: Tensor, leaves: Sequence[Tensor], *, keep: bool = False) -> tuple[Tensor, ...]:
    return torch.autograd.grad(output, leaves, retain_graph=keep, allow_unused=True, materialize_grads=True)


def _directions(graph: AtomicGraph, like: Tensor) -> Tensor:
    """A fixed random vector for every atom (atoms, 3), by its number in its structure: batches change nothing."""
    sizes = graph.structure_of_atom.bincount(minlength=graph.n_structures)
    first = (sizes.cumsum(0) - sizes)[graph.structure_of_atom]
    numbers = torch.arange(len(like), device=like.device) - first
    table = np.random.default_rng(0).standard_normal((int(sizes.max()), 3))
    return torch.as_tensor(table).to(like)[numbers]


def _observed(seen: Mapping[str, Sequence[Tensor]], gradients: Sequence[Sequence[Tensor]]) -> dict[str, Observed]:
    """Values and gradients by space; what was seen of a space in several places is put one after another."""
    features, start = {}, 0
    for name, values in seen.items():
        own = slice(start, start + len(values))
        start += len(values)
        if not values:
            continue
        by_output = tuple(torch.cat(tuple(of_output[own])) for of_output in gradients)
        features[name] = Observed(torch.cat([value.detach() for value in values]), by_output)
    return features


def _recorder(seen: list[Tensor], earlier: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def record(feature: Tensor) -> Tensor:
        feature = earlier(feature)
        if not feature.requires_grad:
            feature = feature.requires_grad_()
        seen.append(feature)
        return feature

    return record


def unchanged(feature: Tensor) -> Tensor:
    """The tap that does nothing."""
    return feature


class _PotentialCalculator(Calculator):
    """ASE's interface to a potential. Energy eV, forces eV/Angstrom, stress eV/Angstrom^3 (Voigt)."""

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 (ASE's interface)

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential
        self.implemented_properties = [*potential.quantities, "free_energy"]

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        if atoms is None:
            raise StructureError("The calculator was called without atoms.")
        [prediction] = self.potential.predict([atoms], len(atoms), [Origin(None)])
        energy, stress = prediction.energy.item(), prediction.stress.cpu().numpy()
        self.results = {"energy": energy, "free_energy": energy, "forces": prediction.forces.cpu().numpy()}
        if atoms.pbc.all() and "stress" in self.potential.quantities:
            self.results["stress"] = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
