"""A toy model that reads a number of the whole structure: each charge makes energies a tenth larger, or smaller."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

import equiprune as ep
from equiprune.adapters.evaluation import Outputs, Taps
from equiprune.adapters.toy import ToyAdapter, ToyArchitecture
from equiprune.structures.global_inputs import GlobalInput
from equiprune.structures.graph import AtomicGraph


@dataclass(frozen=True, kw_only=True)
class ChargedArchitecture(ToyArchitecture):
    """The toy's, for charges from -3 to 3."""

    @property
    def global_inputs(self) -> tuple[GlobalInput, ...]:
        return (GlobalInput("charge", 0.0, range(-3, 4), ("total_charge",)),)


class ChargedToy(ToyAdapter):
    architecture_type = ChargedArchitecture

    def evaluate(
        self, module: nn.Module, architecture: ToyArchitecture, graph: AtomicGraph, head: str | None, taps: Taps
    ) -> Outputs:
        neutral = super().evaluate(module, architecture, graph, head, taps)
        charge: Tensor = graph.global_inputs[:, 0]
        shares = neutral.atom_energies * (1 + charge / 10)[graph.structure_of_atom]
        return Outputs(neutral.energies * (1 + charge / 10), shares)


def charged_toy() -> ep.Potential:
    """In float64, with the weights of the toy."""
    checkpoint = ep.load("toy").checkpoint
    made = ChargedArchitecture(**{name: getattr(checkpoint.architecture, name) for name in ("elements", "cutoff")})
    return ep.Potential.create(ChargedToy(), replace(checkpoint, architecture=made), torch.float64)
