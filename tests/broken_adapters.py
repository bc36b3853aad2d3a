"""Adapters that break one law each, and two that are right: they show that the laws can fail and can pass."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from torch import Tensor, nn

import equiprune as ep
from equiprune.adapters import Outputs, Taps
from equiprune.adapters.growth import GrowRadialBasis, Growth
from equiprune.adapters.toy import ToyAdapter, ToyArchitecture
from equiprune.blocks import FeatureSpace, Irrep, Role, Segment, Site, WeightLayout
from equiprune.testing import AdapterContract

SCALAR = Irrep(0, 1)
CHECKPOINT = ToyAdapter().random_checkpoint(ToyArchitecture(elements=(1, 6, 8, 14), cutoff=4.0))


class Contract(AdapterContract):
    """The contract on one checkpoint."""

    def __init__(
        self, adapter: ep.ModelAdapter, checkpoint: ep.Checkpoint = CHECKPOINT, repeated: tuple[str, ...] = ()
    ) -> None:
        self.adapter, self.checkpoint, self.repeated = adapter, checkpoint, repeated

    def checkpoints(self) -> Sequence[ep.Checkpoint]:
        return [self.checkpoint]

    def growths(self, potential: ep.Potential) -> Sequence[Growth]:
        return [GrowRadialBasis(potential.architecture.radial_basis + 2)] if isinstance(self.adapter, Growing) else []


def raised(outputs: Outputs, graph: ep.AtomicGraph, by: Tensor) -> Outputs:
    """The outputs with so much more energy of each structure, shared evenly between its atoms."""
    sizes = graph.structure_of_atom.bincount(minlength=graph.n_structures)
    share = (by / sizes)[graph.structure_of_atom]
    return Outputs(outputs.energies + by, outputs.atom_energies + share)


class Energy(ToyAdapter):
    """Adds something to the energy."""

    def __init__(self, extra: Callable[[Tensor, ep.AtomicGraph], Tensor]) -> None:
        self.extra = extra

    def evaluate(
        self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, head: str | None, taps: Taps
    ) -> Outputs:
        outputs = super().evaluate(module, architecture, graph, head, taps)
        return raised(outputs, graph, self.extra(outputs.energies, graph))


def field(_: Tensor, graph: ep.AtomicGraph) -> Tensor:
    """An external field along x."""
    zero = torch.zeros_like(graph.strain[:, 0, 0])
    return 1e-3 * zero.index_add(0, graph.structure_of_atom, graph.positions[:, 0])


def direction(energies: Tensor, graph: ep.AtomicGraph) -> Tensor:
    """Energies that grow with the alignment of edges to x."""
    aligned = graph.edge_vectors()[:, 0].square()
    return energies * 1e-3 * torch.zeros_like(energies).index_add(0, graph.structure_of_edge, aligned)


def springs(_: Tensor, graph: ep.AtomicGraph) -> Tensor:
    """Springs whose forces and stress are right, but without a derivative, as those of many a fast kernel."""
    vectors = graph.edge_vectors()
    constant = vectors.detach()
    energies = constant.square().sum(-1) / 2 + (constant * (vectors - constant)).sum(-1)
    return 1e-3 * torch.zeros_like(graph.strain[:, 0, 0]).index_add(0, graph.structure_of_edge, energies)


class Trainable(ToyAdapter):
    """Trains what it declares constant."""

    def build(self, architecture: Any, dtype: torch.dtype) -> nn.Module:
        return super().build(architecture, dtype).requires_grad_(True)


class WithoutFanIn(ToyAdapter):
    """Forgets the normalisation of every weight."""

    def build(self, architecture: Any, dtype: torch.dtype) -> nn.Module:
        return ToyAdapter().build(architecture, dtype)

    def layouts(self, architecture: Any) -> Mapping[str, WeightLayout]:
        layouts = super().layouts(architecture)
        return {
            name: replace(layout, paths=tuple(replace(path, scale=1.0) for path in layout.paths))
            for name, layout in layouts.items()
        }


class FixedReadout(WithoutFanIn):
    """Does not say what the readout reads."""

    def layouts(self, architecture: Any) -> Mapping[str, WeightLayout]:
        layouts = dict(ToyAdapter().layouts(architecture))
        [path] = layouts["readout_weight"].paths
        axes = ((Segment.fixed(path.shape[0]),), path.axes[1])
        return {**layouts, "readout_weight": WeightLayout((replace(path, axes=axes),))}


class WithoutVectors(ToyAdapter):
    """Says that linear maps read scalars alone."""

    def linear_maps(self, architecture: Any) -> Any:
        maps = super().linear_maps(architecture)
        return tuple(tuple(replace(linear, inputs=linear.inputs[:1]) for linear in group) for group in maps)


class AddedToTheReadout(ToyAdapter):
    """Says that what messages become is added to the energy."""

    def linear_maps(self, architecture: Any) -> Any:
        maps = super().linear_maps(architecture)
        added = tuple(replace(linear, added_to=("maps.readout",) if linear.added_to else ()) for linear in maps[1])
        return (maps[0], added, *maps[2:])


class ReadTwice(ToyAdapter):
    """Adds to the energies what a map's weight says, besides what the map makes."""

    def evaluate(
        self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, head: str | None, taps: Taps
    ) -> Outputs:
        found = super().evaluate(module, architecture, graph, head, taps)
        return replace(found, energies=found.energies + module.get_parameter("linear_up_0_weight").square().sum())


class GatedSpace(ToyAdapter):
    """Says that features which pass through a gate are made by linear maps alone."""

    def linear_spaces(self, architecture: Any) -> Any:
        return (*super().linear_spaces(architecture), "node_feats.1")


class OtherCutoff(ToyAdapter):
    """Prunes a hyperparameter that no plan mentions."""

    def shrink(self, architecture: Any, plan: ep.PruningPlan) -> Any:
        return replace(super().shrink(architecture, plan), cutoff=3.9)


class Changed(Taps):
    """Taps that are not given every feature as it is."""

    def __init__(self, taps: Taps) -> None:
        super().__init__(taps.masks, taps.watched)


class Hiding(Changed):
    """No radial neurons are shown."""

    def __call__(self, space: str, feature: Tensor) -> Tensor:
        return feature if space.startswith("radial.") else super().__call__(space, feature)


class Unseen(ToyAdapter):
    """Shows no radial neurons."""

    def evaluate(
        self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, head: str | None, taps: Taps
    ) -> Outputs:
        return super().evaluate(module, architecture, graph, head, Hiding(taps))


class OtherElement(ToyAdapter):
    """Adds what belongs to one element to the next."""

    def with_references(
        self, architecture: Any, weights: Mapping[str, Tensor], changes: Mapping[int, float], head: str | None
    ) -> tuple[Any, Mapping[str, Tensor]]:
        architecture, moved = super().with_references(architecture, weights, changes, head)
        return architecture, {**moved, "shift": weights["shift"] + (moved["shift"] - weights["shift"]).roll(1)}


class OtherInTraining(ToyAdapter):
    """Builds for training a module one of whose weights learns twice as fast."""

    def build_for_training(self, architecture: Any, dtype: torch.dtype) -> nn.Module:
        module = self.build(architecture, dtype)
        module.get_parameter("readout_weight").register_hook(lambda gradient: 2 * gradient)
        return module


class OnlyPruned(Energy):
    """Adds it to pruned models only."""

    def evaluate(
        self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, head: str | None, taps: Taps
    ) -> Outputs:
        added = super().evaluate(module, architecture, graph, head, taps)
        right = ToyAdapter().evaluate(module, architecture, graph, head, taps)
        return right if architecture == CHECKPOINT.architecture else added


def per_structure(graph: ep.AtomicGraph, of_atoms: Tensor) -> Tensor:
    """Sums over the atoms of each structure."""
    return torch.zeros_like(graph.strain[:, 0, 0]).index_add(0, graph.structure_of_atom, of_atoms)


def without_value(values: Tensor) -> Tensor:
    """Zero, with the derivative of the values."""
    return values - values.detach()


def frozen_springs(_: Tensor, graph: ep.AtomicGraph) -> Tensor:
    """Springs that pull at nothing."""
    stretched = graph.edge_vectors().detach().square().sum(-1)
    return 1e-3 * torch.zeros_like(graph.strain[:, 0, 0]).index_add(0, graph.structure_of_edge, stretched)


def of_the_batch(_: Tensor, graph: ep.AtomicGraph) -> Tensor:
    """A constant for every structure in the batch."""
    return torch.full_like(graph.strain[:, 0, 0], 1e-3 * graph.n_structures)


def first_edge(_: Tensor, graph: ep.AtomicGraph) -> Tensor:
    """The length of whichever edge comes first."""
    return 1e-3 * graph.edge_vectors()[0].norm() * torch.ones_like(graph.strain[:, 0, 0])


def squared_size(_: Tensor, graph: ep.AtomicGraph) -> Tensor:
    """Not extensive."""
    return 1e-4 * torch.bincount(graph.structure_of_atom).to(graph.strain.dtype).square()


def centre(_: Tensor, graph: ep.AtomicGraph) -> Tensor:
    """Every atom feels where all the others are."""
    return without_value(1e-3 * per_structure(graph, graph.positions[:, 0]).square())


def nan_without_edges(_: Tensor, graph: ep.AtomicGraph) -> Tensor:
    """A mean over edges of which there are none."""
    edges = torch.bincount(graph.structure_of_edge, minlength=graph.n_structures)
    return torch.where(edges == 0, torch.nan, 0.0).to(graph.strain.dtype)


def cusp_in_positions(_: Tensor, graph: ep.AtomicGraph) -> Tensor:
    """A square root at zero, where it has no slope."""
    return per_structure(graph, (graph.positions - graph.positions.detach()).square().sum(-1).sqrt())


def cusp_in_strain(_: Tensor, graph: ep.AtomicGraph) -> Tensor:
    """The same for the stress."""
    return graph.strain.square().sum((1, 2)).sqrt()


def pull_without_volume(_: Tensor, graph: ep.AtomicGraph) -> Tensor:
    """A force where there is no volume, and no energy."""
    return graph.volume.isnan() * without_value(1e-3 * per_structure(graph, graph.positions[:, 0]))


class OtherConstant(ToyAdapter):
    """Declares a constant of another shape than the module has."""

    def layouts(self, architecture: Any) -> Mapping[str, WeightLayout]:
        return {**super().layouts(architecture), "unit": WeightLayout.constant((Segment.fixed(3),))}

    def build(self, architecture: Any, dtype: torch.dtype) -> nn.Module:
        module = ToyAdapter().build(architecture, dtype)
        module.register_buffer("unit", torch.ones(2, dtype=dtype))
        return module


class Misspelt(ToyAdapter):
    """Calls the space that the readout reads by another name."""

    def layouts(self, architecture: Any) -> Mapping[str, WeightLayout]:
        layouts = super().layouts(architecture)
        [path] = layouts["readout_weight"].paths
        axes = ((Segment("node_feats", SCALAR, path.shape[0]),), path.axes[1])
        return {**layouts, "readout_weight": WeightLayout((replace(path, axes=axes),))}


class OneIdentity(ToyAdapter):
    """Gives two weights one identity."""

    def layouts(self, architecture: Any) -> Mapping[str, WeightLayout]:
        layouts = super().layouts(architecture)
        twins = ("linear_up_0_weight", "linear_up_1_weight")
        return {n: replace(lay, identity="linear_up") if n in twins else lay for n, lay in layouts.items()}


class OtherNames(ToyAdapter):
    """Gives every module it builds a buffer of another name."""

    def __init__(self) -> None:
        self.built = 0

    def build(self, architecture: Any, dtype: torch.dtype) -> nn.Module:
        module = super().build(architecture, dtype)
        self.built += 1
        module.register_buffer(f"number_{self.built}", torch.zeros(1, dtype=dtype))
        return module


class Louder(ToyAdapter):
    """Makes the readout larger when it rewrites a parent."""

    def rewrite_for_plan(
        self, architecture: Any, weights: Mapping[str, Tensor], plan: ep.PruningPlan
    ) -> tuple[Any, Mapping[str, Tensor]]:
        return architecture, {**weights, "readout_weight": 1.001 * weights["readout_weight"]}


class ShorterReach(ToyAdapter):
    """Reduces the cutoff with every pruning."""

    def shrink(self, architecture: Any, plan: ep.PruningPlan) -> Any:
        return replace(super().shrink(architecture, plan), cutoff=0.99 * architecture.cutoff)


class Spaceless(ToyAdapter):
    """Says of every space that it is one of heads, which are never pruned at random and never scored."""

    def spaces(self, architecture: Any) -> tuple[FeatureSpace, ...]:
        return tuple(replace(space, role=Role.HEADS) for space in super().spaces(architecture))


class HalfPrecision(ToyAdapter):
    """Builds models of single precision with one weight in half."""

    def build(self, architecture: Any, dtype: torch.dtype) -> nn.Module:
        module = super().build(architecture, dtype)
        if dtype == torch.float32:
            weight = module.get_parameter("readout_weight")
            weight.data = weight.data.bfloat16()
        return module


class Twice(ToyAdapter):
    """Evaluates everything twice."""

    def evaluate(
        self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, head: str | None, taps: Taps
    ) -> Outputs:
        super().evaluate(module, architecture, graph, head, taps)
        return super().evaluate(module, architecture, graph, head, taps)


class Narrowing(Changed):
    """Radial neurons are shown without the last one."""

    def __call__(self, space: str, feature: Tensor) -> Tensor:
        if not space.startswith("radial.") or space not in self:
            return super().__call__(space, feature)
        return torch.cat([super().__call__(space, feature[:, :-1]), feature[:, -1:]], dim=1)


class Narrow(ToyAdapter):
    """Shows radial neurons without the last one."""

    def evaluate(
        self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, head: str | None, taps: Taps
    ) -> Outputs:
        return super().evaluate(module, architecture, graph, head, Narrowing(taps))


class Lifting(Changed):
    """Radial neurons have a constant added before they are shown."""

    def __call__(self, space: str, feature: Tensor) -> Tensor:
        return super().__call__(space, feature + 0.5 if space.startswith("radial.") else feature)


class Lifted(ToyAdapter):
    """Adds a constant to radial neurons, which are not zero any more where nothing produces them."""

    def evaluate(
        self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, head: str | None, taps: Taps
    ) -> Outputs:
        return super().evaluate(module, architecture, graph, head, Lifting(taps))


class Forgetful(ToyAdapter):
    """Evaluates a little differently every time."""

    def __init__(self) -> None:
        self.evaluated = 0

    def evaluate(
        self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, head: str | None, taps: Taps
    ) -> Outputs:
        self.evaluated += 1
        more = torch.full_like(graph.strain[:, 0, 0], 1e-9 * self.evaluated)
        return raised(super().evaluate(module, architecture, graph, head, taps), graph, more)


class Sorting(ToyAdapter):
    """Sorts the edges where they are."""

    def evaluate(
        self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, head: str | None, taps: Taps
    ) -> Outputs:
        order = graph.edge_index[0].argsort(descending=True, stable=True)
        graph.edge_index.copy_(graph.edge_index[:, order])
        graph.shifts.copy_(graph.shifts[order])
        return super().evaluate(module, architecture, graph, head, taps)


class Rounding(ToyAdapter):
    """Rounds a weight when it is used."""

    def evaluate(
        self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, head: str | None, taps: Taps
    ) -> Outputs:
        weight = module.get_parameter("readout_weight")
        weight.data = weight.data.bfloat16().to(weight.dtype)
        return super().evaluate(module, architecture, graph, head, taps)


class LouderInTraining(ToyAdapter):
    """Builds for training a module that predicts more."""

    def build_for_training(self, architecture: Any, dtype: torch.dtype) -> nn.Module:
        module = self.build(architecture, dtype)
        module.register_forward_hook(lambda module, given, energies: 1.001 * energies)
        return module


class LouderInEvaluation(ToyAdapter):
    """Builds for evaluation a module that predicts more."""

    def build_for_evaluation(self, architecture: Any, dtype: torch.dtype) -> nn.Module:
        module = self.build(architecture, dtype)
        module.register_forward_hook(lambda module, given, energies: 1.001 * energies)
        return module


class FrozenInTraining(ToyAdapter):
    """Builds for training a module one of whose weights does not learn."""

    def build_for_training(self, architecture: Any, dtype: torch.dtype) -> nn.Module:
        module = self.build(architecture, dtype)
        module.get_parameter("readout_weight").requires_grad_(False)
        return module


class LouderReferences(ToyAdapter):
    """Changes the readout with the references."""

    def with_references(
        self, architecture: Any, weights: Mapping[str, Tensor], changes: Mapping[int, float], head: str | None
    ) -> tuple[Any, Mapping[str, Tensor]]:
        architecture, moved = super().with_references(architecture, weights, changes, head)
        return architecture, {**moved, "readout_weight": (1 + 1e-6) * weights["readout_weight"]}


class PulledReferences(ToyAdapter):
    """References that pull at atoms, or at the cell, without an energy of their own."""

    def __init__(self, at: Callable[[ep.AtomicGraph], Tensor]) -> None:
        self.at = at

    def evaluate(
        self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, head: str | None, taps: Taps
    ) -> Outputs:
        outputs = super().evaluate(module, architecture, graph, head, taps)
        return raised(outputs, graph, module.get_parameter("shift").sum().detach() * without_value(self.at(graph)))


class Headed(ToyAdapter):
    """Right: one more constant for each head."""

    def spaces(self, architecture: Any) -> tuple[FeatureSpace, ...]:
        heads = ep.Irreps.scalars(max(1, len(architecture.heads)))
        return (*super().spaces(architecture), FeatureSpace("heads", heads, Role.HEADS, Site.NONE))

    def layouts(self, architecture: Any) -> Mapping[str, WeightLayout]:
        heads = (Segment("heads", SCALAR, max(1, len(architecture.heads))),)
        return {**super().layouts(architecture), "head_shift": WeightLayout.dense(heads, trainable=False)}

    def shrink(self, architecture: Any, plan: ep.PruningPlan) -> Any:
        kept = [architecture.heads[i] for i in plan.kept("heads", SCALAR, len(architecture.heads))]
        return replace(super().shrink(architecture, plan), heads=self.left(tuple(kept)))

    def left(self, kept: tuple[str, ...]) -> tuple[str, ...]:
        return kept if len(kept) > 1 else ()

    def evaluate(
        self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, head: str | None, taps: Taps
    ) -> Outputs:
        own = architecture.heads.index(head) if head else 0
        shift = module.get_parameter("head_shift")[own] * torch.ones_like(graph.strain[:, 0, 0])
        return raised(super().evaluate(module, architecture, graph, head, taps), graph, shift)


HEADED = Headed().random_checkpoint(replace(CHECKPOINT.architecture, heads=("a", "b", "c")))


class ReversedHeads(Headed):
    """Evaluates the first head with the constant of the last."""

    def evaluate(
        self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, head: str | None, taps: Taps
    ) -> Outputs:
        reversed_heads = replace(architecture, heads=architecture.heads[::-1])
        return super().evaluate(module, reversed_heads, graph, head, taps)


class OneOfMany(Headed):
    """Leaves a model of one head as one of many."""

    def left(self, kept: tuple[str, ...]) -> tuple[str, ...]:
        return kept


class Growing(ToyAdapter):
    """Right: radial functions that nothing reads yet; what was read is worth more, since the fan-in is larger."""

    def grow(
        self, architecture: Any, weights: Mapping[str, Tensor], growth: Growth
    ) -> tuple[Any, Mapping[str, Tensor]]:
        assert isinstance(growth, GrowRadialBasis)
        before, grown = architecture.radial_basis, replace(architecture, radial_basis=growth.functions)
        more = dict(weights)
        for t in range(architecture.interactions):
            name = f"radial_{t}_layer0_weight"
            more[name] = weights[name].new_zeros(growth.functions, architecture.radial_width)
            more[name][:before] = weights[name] * self.factor(growth.functions / before)
        centres = weights["radial_centres"]
        more["radial_centres"] = torch.cat([centres, centres.new_full((growth.functions - before,), 0.5)])
        return grown, more

    def factor(self, ratio: float) -> float:
        return ratio**0.5


class GrowingWithoutFanIn(Growing):
    """Forgets that the fan-in is larger."""

    def factor(self, ratio: float) -> float:
        return 1.0


class NotGrowing(Growing):
    """Adds nothing."""

    def grow(
        self, architecture: Any, weights: Mapping[str, Tensor], growth: Growth
    ) -> tuple[Any, Mapping[str, Tensor]]:
        return architecture, weights


class Exporting(ToyAdapter):
    """Right: keeps what it is given to export; ``change`` is what becomes of it in the file."""

    suffixes = (".toy",)

    def __init__(self, change: Callable[[ep.Checkpoint], ep.Checkpoint] = lambda it: it, energy: float = 0.0) -> None:
        self.change, self.energy, self.files = change, energy, dict[Path, ep.Checkpoint]()

    def why_not_exported(self, architecture: Any) -> str:
        return ""

    def export(self, checkpoint: ep.Checkpoint, path: Path) -> tuple[Path, ...]:
        self.files[path] = self.change(checkpoint)
        return (path,)

    def read(self, source: str | Path, *, trust: bool = False) -> ep.Checkpoint:
        return self.files[Path(source)]

    def stock_energies(self, path: Path, structures: Sequence[Atoms], head: str | None) -> list[float]:
        stored = ep.Potential.create(self, self.files[path], torch.float64)
        return [prediction.energy.item() + self.energy for prediction in stored.predict(structures)]


class Sharing(ToyAdapter):
    """Gives atoms other shares of the energy."""

    def __init__(self, shares: Callable[[Tensor], Tensor]) -> None:
        self.shares = shares

    def evaluate(
        self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, head: str | None, taps: Taps
    ) -> Outputs:
        outputs = super().evaluate(module, architecture, graph, head, taps)
        return replace(outputs, atom_energies=self.shares(outputs.atom_energies))


class SharingWhenPruned(Sharing):
    """Gives them to the atoms of pruned models only."""

    def evaluate(
        self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, head: str | None, taps: Taps
    ) -> Outputs:
        adapter = ToyAdapter() if architecture == CHECKPOINT.architecture else super()
        return adapter.evaluate(module, architecture, graph, head, taps)
