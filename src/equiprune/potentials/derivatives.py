"""Derivatives of the energy: forces, stress, Hessian-vector products and gradients of features, in one place.

Prediction, scoring, training and Hessians are this one function with other arguments. Where forces are an output of
their own (`Architecture.direct_forces`) they are taken as they are, and there is neither stress nor Hessian.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn

from equiprune.adapters import NO_TAPS, Architecture, ModelAdapter, Outputs, Taps
from equiprune.structures.graph import AtomicGraph

Evaluate = Callable[[AtomicGraph, Taps], Outputs]
"""A model, with everything but the structures and the taps already chosen."""


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
class Derivatives:
    """Energies of a batch and their derivatives.

    Attributes:
        energies: (structures,) eV; added up in float64 unless ``create_graph`` was asked for.
        atom_energies: (atoms,) eV.
        forces: (atoms, 3) eV/Angstrom.
        stress: (structures, 3, 3) eV/Angstrom^3; zero where a structure is not periodic in 3-D, and where forces are
            an output of their own.
        hessian: products of the Hessian with the vectors that were given, (vectors, atoms, 3) eV/Angstrom^2.
        features: space name to what was seen of it.
    """

    energies: Tensor
    atom_energies: Tensor
    forces: Tensor
    stress: Tensor
    hessian: Tensor
    features: Mapping[str, Observed]


def evaluation(
    adapter: ModelAdapter, module: nn.Module, architecture: Architecture, head: str | None = None
) -> Evaluate:
    """A module of an adapter as a function of structures and taps."""
    return lambda graph, taps: adapter.evaluate(module, architecture, graph, head, taps)


def differentiated(
    evaluate: Evaluate,
    graph: AtomicGraph,
    taps: Taps = NO_TAPS,
    *,
    observe: Sequence[str] = (),
    vectors: Tensor | None = None,
    create_graph: bool = False,
    direct_forces: bool = False,
) -> Derivatives:
    """Energies, forces, stress, and what else is asked for, in as few backward passes as there are outputs.

    Args:
        evaluate: the model.
        graph: the batch.
        taps: applied to feature spaces.
        observe: spaces whose values and gradients are wanted.
        vectors: to multiply the Hessian by, (vectors, atoms, 3); none cost nothing.
        create_graph: keep what derivatives of the results need, in the weights too, as training does.
        direct_forces: forces are an output of their own.
    """
    seen: dict[str, list[Tensor]] = {name: [] for name in observe}
    taps = taps.watching({name: partial(_recorded, into) for name, into in seen.items()})
    vectors = graph.positions.new_zeros(0, *graph.positions.shape) if vectors is None else vectors
    way = _direct if direct_forces else _conservative
    return way(evaluate, graph, taps, seen, vectors, create_graph)


_Seen = Mapping[str, Sequence[Tensor]]


def _conservative(
    evaluate: Evaluate, graph: AtomicGraph, taps: Taps, seen: _Seen, vectors: Tensor, create_graph: bool
) -> Derivatives:
    graph = graph.with_leaves()
    with torch.enable_grad():
        outputs = evaluate(graph, taps)
        leaves = [graph.positions, graph.strain, *chain.from_iterable(seen.values())]
        further = create_graph or len(vectors) > 0
        by_position, by_strain, *by_feature = _gradients(outputs.energies.sum(), leaves, create_graph=further)
        hessian = products(by_position, graph.positions, vectors, create_graph=create_graph)
    # Zero where there is no volume, and with a zero gradient: NaN would reach the weights through 0 * NaN.
    volume = graph.volume.nan_to_num(nan=torch.inf)
    stress = by_strain / volume[:, None, None]
    features = _observed(seen, [by_feature])
    energies = outputs.energies if create_graph else _in_float64(outputs, graph)
    return Derivatives(energies, outputs.atom_energies, -by_position, stress, hessian, features)


def _direct(
    evaluate: Evaluate, graph: AtomicGraph, taps: Taps, seen: _Seen, vectors: Tensor, create_graph: bool
) -> Derivatives:
    with torch.set_grad_enabled(create_graph or bool(seen)):
        outputs = evaluate(graph, taps)
        if outputs.forces is None:
            raise TypeError("a model with direct_forces gives forces among its outputs")
        leaves = list(chain.from_iterable(seen.values()))
        ends = [outputs.energies.sum(), (outputs.forces * _directions(graph, outputs.forces)).sum()] if leaves else []
        gradients = [_gradients(end, leaves, keep=True) for end in ends]
    features = _observed(seen, gradients)
    nothing = torch.zeros_like(graph.strain), torch.zeros_like(vectors)
    energies = outputs.energies if create_graph else _in_float64(outputs, graph)
    return Derivatives(energies, outputs.atom_energies, outputs.forces, *nothing, features)


def _in_float64(outputs: Outputs, graph: AtomicGraph) -> Tensor:
    """Energies of structures, (structures,) eV: in float32 the sum over many atoms is off by far more than each is."""
    if outputs.energies.dtype == torch.float64:
        return outputs.energies
    return graph.summed(outputs.atom_energies.detach())


def products(gradient: Tensor, positions: Tensor, vectors: Tensor, *, create_graph: bool = False) -> Tensor:
    """H v for each vector, one backward pass each; (vectors, atoms, 3) eV/Angstrom^2.

    Args:
        gradient: dE/dr, (atoms, 3), with its graph.
        positions: (atoms, 3), the leaf.
        vectors: (vectors, atoms, 3).
        create_graph: keep what a derivative of the products needs, for training.
    """
    if not len(vectors) or not gradient.requires_grad:  # no forces at all where there are no edges
        return torch.zeros_like(vectors)
    found = [
        torch.autograd.grad(
            gradient,
            positions,
            vector,
            create_graph=create_graph,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )[0]
        for vector in vectors
    ]
    return torch.stack(found)


def _gradients(
    output: Tensor, leaves: Sequence[Tensor], *, create_graph: bool = False, keep: bool = False
) -> tuple[Tensor, ...]:
    if not leaves:
        return ()
    return torch.autograd.grad(
        output,
        leaves,
        create_graph=create_graph,
        retain_graph=create_graph or keep,
        allow_unused=True,
        materialize_grads=True,
    )


def _directions(graph: AtomicGraph, like: Tensor) -> Tensor:
    """A fixed random vector for every atom (atoms, 3), by its number in its structure: batches change nothing."""
    sizes = graph.structure_of_atom.bincount(minlength=graph.n_structures)
    first = (sizes.cumsum(0) - sizes)[graph.structure_of_atom]
    numbers = torch.arange(len(like), device=like.device) - first
    table = np.random.default_rng(0).standard_normal((int(sizes.max()), 3))
    return torch.as_tensor(table).to(like)[numbers]


def _observed(seen: _Seen, gradients: Sequence[Sequence[Tensor]]) -> dict[str, Observed]:
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


def _recorded(into: list[Tensor], feature: Tensor) -> Tensor:
    """The feature as a leaf of its own where nothing before it asks for gradients; noted where it is."""
    if not feature.requires_grad:
        feature = feature.requires_grad_()
    into.append(feature)
    return feature


class Predictor(nn.Module):
    """The module of a potential with energies, forces, stress and Hessian products as its output, for training.

    Derivatives are part of the forward pass, as distributed training needs: its hooks see one forward and one backward.

    Attributes:
        shown: feature spaces that are an output as well.
        derived: without derivatives there are energies and features alone, at a third of the cost.
    """

    def __init__(
        self,
        adapter: ModelAdapter,
        module: nn.Module,
        architecture: Architecture,
        head: str | None,
        *,
        shown: Sequence[str] = (),
        derived: bool = True,
    ) -> None:
        super().__init__()
        self.module = module
        self.direct_forces = architecture.direct_forces
        self.shown, self.derived = tuple(shown), derived
        self._chosen = (adapter, architecture, head)

    def forward(
        self, graph: AtomicGraph, vectors: Tensor, given: Mapping[str, Tensor] = MappingProxyType({})
    ) -> dict[str, Tensor]:
        """Energy (structures,) and atom_energies (atoms,) eV, forces (atoms, 3) eV/Angstrom, stress in eV/Angstrom^3.

        Stress, (structures, 3, 3), is zero for a structure that is not periodic in 3-D, and where forces are an output
        of their own. With ``vectors``, (vectors, atoms, 3), also the products of the Hessian with them, in
        eV/Angstrom^2. Of each shown space its features, (rows, irreps.dim), under its name. The model goes on with
        ``given`` features, by space, instead of its own.
        """
        taps = _Shown({name: [] for name in self.shown}, given)
        outputs = self._outputs(graph, vectors, NO_TAPS.watching({name: partial(taps, name) for name in self.shown}))
        return outputs | {name: torch.cat(features) for name, features in taps.seen.items() if features}

    def _outputs(self, graph: AtomicGraph, vectors: Tensor, taps: Taps) -> dict[str, Tensor]:
        adapter, architecture, head = self._chosen
        evaluate = evaluation(adapter, self.module, architecture, head)
        if not self.derived:
            outputs = evaluate(graph, taps)
            return {"energy": outputs.energies, "atom_energies": outputs.atom_energies}
        found = differentiated(
            evaluate, graph, taps, vectors=vectors, create_graph=self.training, direct_forces=self.direct_forces
        )
        return {
            "energy": found.energies,
            "forces": found.forces,
            "stress": found.stress,
            "hessian": found.hessian,
            "atom_energies": found.atom_energies,
        }


@dataclass(frozen=True)
class _Shown:
    """Features as the model makes them, differentiable, and what it goes on with."""

    seen: Mapping[str, list[Tensor]]
    given: Mapping[str, Tensor]

    def __call__(self, name: str, feature: Tensor) -> Tensor:
        seen = self.seen[name]
        seen.append(feature)
        rows = len(feature)
        return self.given[name][rows * (len(seen) - 1) : rows * len(seen)] if name in self.given else feature
