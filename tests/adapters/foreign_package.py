"""A package of somebody else's: an architecture with a role, a rule, a target and a normalisation of its own.

Nothing of it is known to equiprune. The model is invariant: messages of scalar features are summed over neighbours, the
features are normalised over their channels, and pairs of neurons read the energy.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

import equiprune as ep
from equiprune.adapters import Outputs, Taps
from equiprune.blocks import (
    BlockMask,
    Entries,
    FeatureSpace,
    Irrep,
    Irreps,
    NumberOfChannels,
    Role,
    Rule,
    Segment,
    Site,
    WeightLayout,
)
from equiprune.blocks.rules import with_at_least
from equiprune.errors import CheckpointError
from equiprune.files.settings import kind
from equiprune.pruning.counts import Counts, PruningProblem, check_at_most, group_of
from equiprune.pruning.targets import Target

SCALAR = Irrep(0, 1)
PAIRED = Role("paired_neurons")


@dataclass(frozen=True)
class MultipleOf(Rule):
    """The number of channels of each irrep is a multiple of this."""

    factor: int

    def broken_by(self, mask: BlockMask) -> str:
        odd = [len(kept) for kept in mask.kept if len(kept) % self.factor]
        return f"would keep {odd[0]} channels, which is no multiple of {self.factor}" if odd else ""

    def widened(self, mask: BlockMask) -> BlockMask:
        return with_at_least(mask, {ir: -(-len(mask.of(ir)) // self.factor) * self.factor for _, ir in mask.irreps})


@kind("paired_neurons", "PairedNeurons")
@dataclass(frozen=True)
class PairedNeurons(Target):
    """So many neurons of the readout."""

    count: int

    def counts(self, model: PruningProblem) -> Counts:
        [space] = model.some(PAIRED)
        check_at_most(self.count, space.irreps.channels, "paired neurons", 2)
        return {(group_of(space), SCALAR): self.count}


@dataclass(frozen=True, kw_only=True)
class PairArchitecture(ep.Architecture):
    """Hyperparameters of the model."""

    embedding: int = 6
    channels: int = 8
    neurons: int = 8


class PairAdapter(ep.ModelAdapter[PairArchitecture]):
    """The model and how it is cut; `shrink` is what equiprune has for everyone."""

    name = "pairs"
    architecture_type = PairArchitecture
    aliases = MappingProxyType({"pairs": "a model of a package that equiprune does not know"})

    def read(self, source: str | Path, *, trust: bool = False) -> ep.Checkpoint:
        if str(source) != "pairs":
            raise CheckpointError(f"Only 'pairs' can be opened, not '{source}'.")
        architecture, generator = PairArchitecture(elements=(1, 6, 8, 14), cutoff=4.0), torch.Generator().manual_seed(0)
        shapes = {name: layout.shape for name, layout in self.layouts(architecture).items()}
        weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        return ep.Checkpoint(architecture, weights, licence="MIT", sha256="0" * 64, source="pairs")

    def build(self, architecture: PairArchitecture, dtype: torch.dtype) -> nn.Module:
        return PairModel(self, architecture).to(dtype)

    def spaces(self, architecture: PairArchitecture) -> tuple[FeatureSpace, ...]:
        return tuple(_spaces(architecture))

    def layouts(self, architecture: PairArchitecture) -> Mapping[str, WeightLayout]:
        axes = {s.name: (Segment(s.name, SCALAR, s.irreps.channels),) for s in self.spaces(architecture)}
        one, basis = (Segment.fixed(1),), (Segment.fixed(4),)
        return {
            "species": WeightLayout.dense(axes["elements"], axes["node_feats.0"]),
            "radial": WeightLayout.dense(basis, axes["node_feats.0"]),
            "mix": WeightLayout.dense(axes["node_feats.0"], axes["node_feats.1"]),
            "neurons": WeightLayout.dense(axes["node_feats.1"], axes["neurons"]),
            "readout": WeightLayout.dense(axes["neurons"], one),
        }

    def evaluate(
        self, module: nn.Module, architecture: PairArchitecture, graph: ep.AtomicGraph, head: str | None, taps: Taps
    ) -> Outputs:
        per_atom = module(graph, taps)
        total = torch.zeros_like(graph.strain[:, 0, 0]).index_add(0, graph.structure_of_atom, per_atom)
        return Outputs(total, per_atom)


def _spaces(arch: PairArchitecture) -> Iterator[FeatureSpace]:
    def space(name: str, role: Role, field: str, size: int, *rules: Rule, normalised: bool = False) -> FeatureSpace:
        number = (NumberOfChannels(field),)
        return FeatureSpace(name, Irreps.scalars(size), role, rules=rules, size_in=number, normalised=normalised)

    elements = Irreps.scalars(len(arch.elements))
    yield FeatureSpace("elements", elements, Role.ELEMENTS, Site.NONE, size_in=(Entries("elements"),))
    yield space("node_feats.0", Role.NODE_FEATS, "embedding", arch.embedding)
    yield space("node_feats.1", Role.NODE_FEATS, "channels", arch.channels, normalised=True)
    yield space("neurons", PAIRED, "neurons", arch.neurons, MultipleOf(2))


class PairModel(nn.Module):
    """Features are normalised over the channels that are kept, as a smaller model does over all that it has."""

    def __init__(self, adapter: PairAdapter, architecture: PairArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        for name, layout in adapter.layouts(architecture).items():
            self.register_parameter(name, nn.Parameter(torch.randn(layout.shape)))

    def forward(self, graph: ep.AtomicGraph, taps: Taps) -> Tensor:
        """Energies of atoms, (atoms,)."""
        weight, arch = self.get_parameter, self.architecture
        elements = torch.tensor(arch.elements, device=graph.numbers.device)
        species = elements.eq(graph.numbers[:, None]).long().argmax(-1)
        features = taps("node_feats.0", weight("species")[species])
        centre, neighbour = graph.edge_index
        x = graph.edge_vectors().norm(dim=-1, keepdim=True) / arch.cutoff
        basis = torch.exp(-8 * (x - torch.linspace(0.2, 0.8, 4).to(x)) ** 2) * (1 - x.clamp(max=1) ** 2) ** 4
        messages = features[neighbour] * (basis @ weight("radial"))
        pooled = features.index_add(0, centre, messages)
        mixed = self._normalised(pooled @ weight("mix"), taps)
        features = taps("node_feats.1", mixed)
        neurons = taps("neurons", silu(features @ weight("neurons")))
        return (neurons @ weight("readout"))[:, 0]

    @staticmethod
    def _normalised(features: Tensor, taps: Taps) -> Tensor:
        kept = taps.kept("node_feats.1", features)
        counted = torch.ones_like(features[0]) if kept is None else kept
        square = (features.square() * counted).sum(-1, keepdim=True) / counted.sum()
        return features / (square + 0.1).sqrt()
