"""The shipped checks can fail: each law of the contract catches an adapter that breaks it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import equiprune as ep
from equiprune.adapters import Taps
from equiprune.adapters.toy import ToyAdapter, ToyArchitecture
from equiprune.blocks import ChannelTying, FeatureSpace, Role, Segment, Site, WeightLayout
from equiprune.errors import EquipruneError
from equiprune.testing import AdapterContract, assert_equivariant, assert_forces_are_gradients, random_plan
from equiprune.verification.second_derivatives import assert_second_derivatives

CHECKPOINT = ToyAdapter().random_checkpoint(ToyArchitecture(elements=(1, 6, 8, 14), cutoff=4.0))


class Contract(AdapterContract):
    """The contract on one checkpoint."""

    def __init__(self, adapter: ep.ModelAdapter, checkpoint: ep.Checkpoint = CHECKPOINT) -> None:
        self.adapter, self.checkpoint = adapter, checkpoint

    def checkpoints(self) -> Sequence[ep.Checkpoint]:
        return [self.checkpoint]


class Energy(ToyAdapter):
    """Adds something to the energy."""

    def __init__(self, extra: Callable[[Tensor, ep.AtomicGraph], Tensor]) -> None:
        self.extra = extra

    def energies(
        self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, head: str | None, taps: Taps
    ) -> Tensor:
        energies = super().energies(module, architecture, graph, head, taps)
        return energies + self.extra(energies, graph)


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

    def weight_layouts(self, architecture: Any) -> Mapping[str, WeightLayout]:
        layouts = super().weight_layouts(architecture)
        return {
            name: replace(layout, paths=tuple(replace(path, scale=1.0) for path in layout.paths))
            for name, layout in layouts.items()
        }


class FixedReadout(WithoutFanIn):
    """Does not say what the readout reads."""

    def weight_layouts(self, architecture: Any) -> Mapping[str, WeightLayout]:
        layouts = dict(ToyAdapter().weight_layouts(architecture))
        [path] = layouts["readout_weight"].paths
        axes = ((Segment.fixed(path.shape[0]),), path.axes[1])
        return {**layouts, "readout_weight": WeightLayout((replace(path, axes=axes),))}


class OtherCutoff(ToyAdapter):
    """Prunes a hyperparameter that no plan mentions."""

    def shrink(self, architecture: Any, plan: ep.PruningPlan) -> Any:
        return replace(super().shrink(architecture, plan), cutoff=3.9)


class SortedElements(ToyAdapter):
    """Sorts the elements of a smaller model, but not its weights."""

    def shrink(self, architecture: Any, plan: ep.PruningPlan) -> Any:
        smaller = super().shrink(architecture, plan)
        return replace(smaller, elements=tuple(sorted(smaller.elements)))


class Unseen(ToyAdapter):
    """Shows no radial neurons."""

    def energies(
        self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, head: str | None, taps: Taps
    ) -> Tensor:
        shown = {name: tap for name, tap in taps.items() if not name.startswith("radial.")}
        return super().energies(module, architecture, graph, head, shown)


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


class Unregistered(ToyAdapter):
    """Has no entry point."""

    name = "unregistered"


IDLE = {**CHECKPOINT.weights, "linear_up_1_weight": 1e-6 * CHECKPOINT.weights["linear_up_1_weight"]}

BROKEN: dict[str, Contract] = {
    "layouts_match_the_built_module": Contract(Trainable()),
    "keeping_everything_is_the_identity": Contract(OtherCutoff()),
    "masked_equals_sliced": Contract(WithoutFanIn()),
    "pruning_matters": Contract(ToyAdapter(), replace(CHECKPOINT, weights=IDLE)),
    "pruning_twice_is_pruning_once": Contract(SortedElements()),
    "the_order_of_channels_means_nothing": Contract(FixedReadout()),
    "references_add_a_constant_per_element": Contract(OtherElement()),
    "every_space_is_seen_with_its_shape": Contract(Unseen()),
    "every_scored_space_gets_a_score_per_channel": Contract(Unseen()),
    "scores_do_not_depend_on_the_frame": Contract(Energy(direction)),
    "scores_add_up_over_batches": Contract(Energy(lambda energies, graph: energies * graph.n_structures)),
    "physics_before_and_after_pruning": Contract(Energy(direction)),
    "second_derivatives_are_those_of_the_forces": Contract(Energy(springs)),
    "what_is_built_for_training_is_the_same_function": Contract(OtherInTraining()),
    "an_isolated_atom_and_a_single_atom_cell_feel_no_force": Contract(Energy(field)),
    "vacuum_is_the_same_as_no_periodicity": Contract(Energy(lambda _, graph: 1e-6 * graph.volume.nan_to_num())),
    "saving_and_loading_gives_the_same_model": Contract(Unregistered()),
    "dead_blocks_are_found_and_removed_without_loss": Contract(FixedReadout()),
}


def test_every_law_of_the_contract_is_broken_below() -> None:
    assert {f"test_{name}" for name in BROKEN} == {name for name in dir(AdapterContract) if name.startswith("test_")}


@pytest.mark.parametrize(("law", "contract"), BROKEN.items(), ids=BROKEN)
def test_a_broken_adapter_is_caught(law: str, contract: Contract, tmp_path: Any) -> None:
    needs_a_folder = law.startswith(("saving", "references"))
    with pytest.raises((AssertionError, EquipruneError, KeyError)):
        getattr(contract, f"test_{law}")(*([tmp_path] if needs_a_folder else []))


def test_assertions_name_the_values(toy: ep.Potential, structures: list[Atoms]) -> None:
    with pytest.raises(AssertionError, match=r"equivariance\.energy.*limits"):
        assert_equivariant(replace(toy, adapter=Energy(direction)), structures)
    with pytest.raises(AssertionError, match=r"finite_difference\.forces"):
        assert_forces_are_gradients(replace(toy, adapter=Energy(lambda e, g: field(e, g).detach())), structures)
    assert_forces_are_gradients(replace(toy, adapter=Energy(springs)), structures)  # they are; their slope is not
    with pytest.raises(AssertionError, match=r"hessian\.finite_difference.*limits"):
        assert_second_derivatives(replace(toy, adapter=Energy(springs)), structures)


def test_forces_of_a_molecule_are_checked_without_its_stress(toy: ep.Potential) -> None:
    assert_forces_are_gradients(toy, [Atoms("OH", positions=[[0, 0, 0], [0, 0.1, 1]])])


SPACES = (
    FeatureSpace("elements", ep.Irreps.scalars(5), Role.ELEMENTS, Site.NONE),
    FeatureSpace("heads", ep.Irreps.scalars(3), Role.HEADS, Site.NONE),
    FeatureSpace("edge_attrs", ep.Irreps.parse("1x0e+1x1o+1x2e"), Role.EDGE_ATTRS, Site.EDGE, ordered=True),
    FeatureSpace("a", ep.Irreps.parse("6x0e+4x1o+3x2e"), Role.NODE_FEATS, size_group="g", minimum=2),
    FeatureSpace("b", ep.Irreps.parse("6x0e+4x1o+3x2e"), Role.EDGE_IRREPS, size_group="g"),
    FeatureSpace("tied", ep.Irreps.parse("5x0e+5x1o+5x2e"), Role.NODE_FEATS, tying=ChannelTying.ACROSS_L, minimum=3),
    FeatureSpace("radial", ep.Irreps.scalars(8), Role.RADIAL_WIDTH, Site.EDGE),
)


@given(st.integers(0, 2**32 - 1))
def test_random_plans_obey_every_rule(seed: int) -> None:
    plan = random_plan(SPACES, np.random.default_rng(seed))
    plan.check(SPACES)
    kept = {space.name: plan.mask(space).kept_irreps for space in SPACES}
    assert "heads" not in plan.masks
    assert [ir.l for _, ir in kept["edge_attrs"]] == list(range(len(kept["edge_attrs"])))
    for space in SPACES[1:]:
        assert all(list(channels) == sorted(channels) for channels in plan.mask(space).kept), space.name


def test_random_plans_vary_in_everything_they_may() -> None:
    plans = [random_plan(SPACES, np.random.default_rng(seed)) for seed in range(60)]
    a, b, tied, elements = (
        [plan.mask(space).kept for plan in plans] for space in (SPACES[3], SPACES[4], SPACES[5], SPACES[0])
    )
    assert any(x != y for x, y in zip(a, b, strict=True))
    assert any(not vectors and tensors for _, vectors, tensors in a)
    assert any(not vectors for _, vectors, _ in tied)
    assert any(list(order) != sorted(order) for [order] in elements)
    assert {len(scalars) for scalars, _, _ in a} == {2, 3, 4, 5, 6}


def test_roles_bring_along_who_must_keep_equally_many() -> None:
    plans = [random_plan(SPACES, np.random.default_rng(seed), roles=[Role.EDGE_IRREPS]) for seed in range(10)]
    assert {name for plan in plans for name in plan.masks} == {"a", "b"}
