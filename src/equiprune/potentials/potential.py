"""A potential: an upstream module with the data it was built from, ready to be evaluated.

`Potential` is a value. Nothing here changes one in place: ``with_dtype``, ``on`` and ``masked`` return new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from torch import Tensor, nn

from equiprune.adapters import NO_TAPS, Checkpoint, ModelAdapter, Outputs, Taps, load_weights
from equiprune.adapters.base import check_head
from equiprune.adapters.capabilities import BuildsForEvaluation, BuildsForTraining
from equiprune.adapters.engines import Evaluator
from equiprune.blocks import FeatureSpace
from equiprune.errors import StructureError, TargetError
from equiprune.potentials.derivatives import Derivatives, Predictor, differentiated
from equiprune.structures.batching import located_batches
from equiprune.structures.checks import check_structures
from equiprune.structures.global_inputs import numbers_of
from equiprune.structures.graph import AtomicGraph
from equiprune.structures.sequences import Origin


@dataclass(frozen=True)
class Prediction:
    """Prediction for one structure.

    =============  ============  =============  ================================
    field          shape         unit           convention
    =============  ============  =============  ================================
    energy         ()            eV             total
    forces         (atoms, 3)    eV/Angstrom    -dE/dr
    stress         (3, 3)        eV/Angstrom^3  ASE's sign: (1/V) dE/dstrain;
                                                nan unless periodic in 3-D
    atom_energies  (atoms,)      eV             shares that sum to the energy
    =============  ============  =============  ================================
    """

    energy: Tensor
    forces: Tensor
    stress: Tensor
    atom_energies: Tensor


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
        evaluator: code of another package that evaluates it instead of the module, without taps.
    """

    adapter: ModelAdapter
    checkpoint: Checkpoint
    module: nn.Module
    dtype: torch.dtype
    head: str | None = None
    taps: Taps = NO_TAPS
    elements: frozenset[int] = frozenset()
    evaluator: Evaluator | None = None

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
        check_head(checkpoint.architecture, head)
        dtype, device = floating(dtype), present(device)
        module = _filled(_build(adapter, for_training), checkpoint, dtype, device)
        return cls(adapter, checkpoint, module, dtype, head, NO_TAPS, frozenset(checkpoint.architecture.elements))

    @property
    def architecture(self) -> Any:
        """Frozen hyperparameters."""
        return self.checkpoint.architecture

    @cached_property
    def spaces(self) -> tuple[FeatureSpace, ...]:
        """Every space a plan may prune."""
        return self.adapter.spaces(self.architecture)

    @property
    def direct_forces(self) -> bool:
        """True where forces are an output of their own; else they are minus the gradient of the energy."""
        return self.architecture.direct_forces

    @property
    def quantities(self) -> tuple[str, ...]:
        """Predicted quantities; there is no stress where forces are an output of their own."""
        return ("energy", "forces") if self.direct_forces else ("energy", "forces", "stress")

    @property
    def device(self) -> torch.device:
        """The device of the module."""
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

    def as_upstream(self) -> Potential:
        """The same potential evaluated by upstream's own code, to compare with; slower where the adapter has its own.

        What is made of it (another precision, another device, a child) is evaluated by the adapter's code again.
        """
        module = _filled(self.adapter.build, self.checkpoint, self.dtype, self.device)
        return replace(self, module=module, evaluator=None)

    def parameters(self, *, trainable_only: bool = False) -> int:
        """Numbers in the module's parameters."""
        return sum(p.numel() for p in self.module.parameters() if p.requires_grad or not trainable_only)

    def graph(self, structures: Sequence[Atoms], origins: Sequence[Origin] | None = None) -> AtomicGraph:
        """The batch this potential evaluates. Raises `StructureError` for what it cannot evaluate.

        ``origins`` are what the error says of where a structure is from; unless given, its place among these.
        """
        arch = self.architecture
        check_structures(structures, self.elements, origins, arch.global_inputs)
        return AtomicGraph.from_structures(
            structures, arch.cutoff, self.dtype, self.device, arch.max_neighbors, arch.global_inputs
        )

    def evaluate(self, graph: AtomicGraph, taps: Taps | None = None) -> Outputs:
        """Energies of structures and atoms, differentiable in the graph's leaves; ``taps`` are its own unless given.

        Raises:
            TargetError: code of another package evaluates it, which has no taps.
        """
        taps = self.taps if taps is None else taps
        if self.evaluator is not None:
            if taps:
                raise TargetError("The engine of this potential shows and masks no features. Open the model again.")
            return self.evaluator(graph)
        return self.adapter.evaluate(self.module, self.architecture, graph, self.head, taps)

    def energies(self, graph: AtomicGraph) -> Tensor:
        """Energies (structures,) in eV, differentiable in the graph's leaves."""
        return self.evaluate(graph).energies

    def for_training(self, shown: Sequence[str] = (), *, derived: bool = True) -> Predictor:
        """Its module with forces, stress and Hessian products as its output, differentiable in the weights.

        Also with the features of the spaces that are ``shown``; without derivatives of the energy unless ``derived``.
        """
        return Predictor(self.adapter, self.module, self.architecture, self.head, shown=shown, derived=derived)

    def differentiate(
        self, graph: AtomicGraph, observe: Sequence[str] = (), vectors: Tensor | None = None
    ) -> Derivatives:
        """Energies, forces, stress, dE/dfeature of the observed spaces, and the Hessian's products with ``vectors``.

        Where forces are an output of their own there is no stress (nan), and features have a gradient of the energy and
        one of the forces, from a backward pass each.
        """
        found = differentiated(
            self.evaluate, graph, self.taps, observe=observe, vectors=vectors, direct_forces=self.direct_forces
        )
        undefined = graph.volume.isnan() | self.direct_forces
        stress = found.stress.masked_fill(undefined[:, None, None], torch.nan)
        return replace(
            found,
            energies=found.energies.detach(),
            atom_energies=found.atom_energies.detach(),
            forces=found.forces.detach(),
            stress=stress.detach(),
        )

    def predict(
        self, structures: Sequence[Atoms], batch_atoms: int = 256, origins: Sequence[Origin] | None = None
    ) -> list[Prediction]:
        """Energy, forces and stress of each structure, in batches of up to ``batch_atoms`` atoms.

        ``origins`` as for `graph`.

        Raises:
            StructureError: NaN positions, an element the model does not know, or a charge or the like that it cannot
                take.
        """
        predictions: list[Prediction] = []
        for places, batch in located_batches(structures, batch_atoms, origins):
            result = self.differentiate(self.graph(batch, places))
            sizes = [len(atoms) for atoms in batch]
            forces, shares = result.forces.split(sizes), result.atom_energies.split(sizes)
            predictions += map(Prediction, result.energies, forces, result.stress, shares)
        return predictions

    def calculator(self) -> PotentialCalculator:
        """An ASE calculator of this potential, in its own precision."""
        return PotentialCalculator(self)


_Build = Callable[[Any, torch.dtype], nn.Module]


def _build(adapter: ModelAdapter, for_training: bool) -> _Build:
    """The quickest code that the adapter has for it."""
    if for_training and isinstance(adapter, BuildsForTraining):
        return adapter.build_for_training
    return adapter.build_for_evaluation if isinstance(adapter, BuildsForEvaluation) else adapter.build


def _filled(build: _Build, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device | str) -> nn.Module:
    """A module with the weights of a checkpoint. Raises `CheckpointError` for weights of another model."""
    module = build(checkpoint.architecture, dtype)
    load_weights(module, checkpoint.weights)
    return module.eval().to(device)


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
    """Raise `TargetError` for a quantity of `structures.labels.QUANTITIES` that the potential does not have."""
    known = (*potential.quantities, *(() if potential.direct_forces else ("hessian",)), "atom_energies")
    if lacking := [quantity for quantity in wanted if quantity not in known]:
        raise TargetError(
            f"{potential.adapter.name} models have no {' and no '.join(lacking)}: their forces are an output of their "
            f"own. Leave that out; give it the weight 0 in training. They have {' and '.join(potential.quantities)}."
        )


class PotentialCalculator(Calculator):
    """ASE's interface to a potential. Energy eV, forces eV/Angstrom, stress eV/Angstrom^3 (Voigt)."""

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 (ASE's interface)

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential
        self.implemented_properties = [*potential.quantities, "free_energy", "energies"]

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Changes since the last evaluation, those of global inputs among them."""
        changes, inputs = super().check_state(atoms, tol), self.potential.architecture.global_inputs
        if not changes and not np.array_equal(numbers_of(self.atoms, inputs), numbers_of(atoms, inputs)):
            return ["info"]
        return changes

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        if atoms is None:
            raise StructureError("The calculator was called without atoms.")
        [prediction] = self.potential.predict([atoms], len(atoms), [Origin(None)])
        energy, stress = prediction.energy.item(), prediction.stress.cpu().numpy()
        self.results = {"energy": energy, "free_energy": energy, "forces": prediction.forces.cpu().numpy()}
        self.results["energies"] = prediction.atom_energies.cpu().numpy()
        if atoms.pbc.all() and "stress" in self.potential.quantities:
            self.results["stress"] = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
