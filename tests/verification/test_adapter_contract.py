"""The shipped laws can fail: every assertion of theirs catches an adapter that breaks it, in words of its own."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import broken_adapters as broken
import numpy as np
import pytest
import torch
from ase import Atoms
from broken_adapters import (
    CHECKPOINT,
    HEADED,
    Contract,
    Energy,
    Exporting,
    OnlyPruned,
    direction,
    springs,
    without_value,
)
from hypothesis import given
from hypothesis import strategies as st

import equiprune as ep
from equiprune.adapters.toy import ToyAdapter
from equiprune.blocks import FeatureSpace, KeepsScalars, OneChannelSet, PrefixOnly, Role, SameCounts, Site
from equiprune.potentials.checkpoint import load
from equiprune.pruning.calibration import calibrate
from equiprune.pruning.cost import ParameterCount
from equiprune.pruning.slicing import prune
from equiprune.testing import AdapterContract, assert_equivariant, assert_forces_are_gradients, random_plan
from equiprune.verification import laws
from equiprune.verification.second_derivatives import assert_second_derivatives

_PRUNING, _FILES, _DECLARED, _SCORES = (
    f"equiprune.verification.laws.{module}" for module in ("pruning", "files", "declarations", "scores")
)
IDLE, SILENT = (
    replace(
        CHECKPOINT, weights={**CHECKPOINT.weights, "linear_up_1_weight": f * CHECKPOINT.weights["linear_up_1_weight"]}
    )
    for f in (1e-6, 0.0)
)
SILENCED = replace(
    CHECKPOINT, weights={**CHECKPOINT.weights, "readout_weight": 1e-9 * CHECKPOINT.weights["readout_weight"]}
)


@dataclass(frozen=True)
class Mutant:
    """What one assertion of a law must catch.

    Attributes:
        law: its name.
        says: the words of the assertion.
        contract: a broken adapter, and what the law is tried on.
        patches: what is broken in equiprune itself, where no adapter can break it.
    """

    law: str
    says: str
    contract: Contract
    patches: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.says


def right(**of: Any) -> Contract:
    return Contract(ToyAdapter(), **of)


def counted(**wrong: int) -> Callable[..., ParameterCount]:
    return lambda adapter, architecture: replace(ep.count_parameters(adapter, architecture), **wrong)


def loaded(**wrong: Any) -> Callable[..., ep.Potential]:
    """Loading that gets something wrong."""

    def opened(path: Path, **how: Any) -> ep.Potential:
        potential = load(path, **how)
        return replace(potential, checkpoint=replace(potential.checkpoint, **wrong))

    return opened


def without_files() -> dict[str, Any]:
    """Saving and loading that only remember: the adapter is not installed."""
    held: list[ep.Potential] = []
    return {f"{_FILES}.save": lambda model, path: held.append(model), f"{_FILES}.load": lambda path, **how: held[-1]}


def scored(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[..., ep.ImportanceScores]:
    """Calibration that gets something wrong."""

    def scores(*given: Any, **how: Any) -> ep.ImportanceScores:
        found = calibrate(*given, **how)
        return replace(found, mean=change(dict(found.mean)))

    return scores


def without_the_first(mean: dict[str, Any]) -> dict[str, Any]:
    return dict(list(mean.items())[1:])


def negative(mean: dict[str, Any]) -> dict[str, Any]:
    return {name: {ir: -1 - values for ir, values in by.items()} for name, by in mean.items()}


def prune_in_half(potential: ep.Potential, plan: ep.PruningPlan) -> ep.Potential:
    """Rounds single precision twice."""
    child = prune(potential, plan)
    if potential.dtype != torch.float32:
        return child
    rounded = {name: weight.bfloat16().float() for name, weight in child.checkpoint.weights.items()}
    return replace(child, checkpoint=replace(child.checkpoint, weights=rounded))


def moving_graph(self: ep.Potential, structures: Any, origins: Any = None) -> ep.AtomicGraph:
    """Moves the structures that it is given."""
    for atoms in structures:
        atoms.positions += 1.0
    return ep.AtomicGraph.from_structures(structures, self.architecture.cutoff, self.dtype)


def other(**changes: Any) -> Callable[[ep.Checkpoint], ep.Checkpoint]:
    return lambda checkpoint: replace(checkpoint, **changes)


def other_cutoff(checkpoint: ep.Checkpoint) -> ep.Checkpoint:
    return replace(checkpoint, architecture=replace(checkpoint.architecture, cutoff=3.9))


def other_weight(checkpoint: ep.Checkpoint) -> ep.Checkpoint:
    weights = {
        **checkpoint.weights,
        "readout_weight": checkpoint.weights["readout_weight"].nextafter(torch.tensor(9.0)),
    }
    return replace(checkpoint, weights=weights)


def position(graph: ep.AtomicGraph) -> torch.Tensor:
    return broken.per_structure(graph, graph.positions[:, 0])


def volume(graph: ep.AtomicGraph) -> torch.Tensor:
    """Of the strained cell, as far as the trace goes."""
    return graph.strain.diagonal(dim1=1, dim2=2).sum(-1)


WEIGHTS = {**CHECKPOINT.weights, "shift": CHECKPOINT.weights["shift"] + 1e-3}
MUTANTS = [
    *(
        Mutant("layouts_match_the_built_module", says, contract, patches)
        for says, contract, patches in (
            ("declared parameters are not the built ones", Contract(broken.Trainable()), {}),
            ("declared constants are not the built ones", Contract(broken.OtherConstant()), {}),
            ('layouts name blocks that no space has: ["5 channels', Contract(broken.Misspelt()), {}),
            ("two weights have one identity", Contract(broken.OneIdentity()), {}),
            ("counted parameters: 1 instead", right(), {f"{_DECLARED}.count_parameters": counted(all=1)}),
            ("counted trainable parameters: 1 inst", right(), {f"{_DECLARED}.count_parameters": counted(trainable=1)}),
        )
    ),
    *(
        Mutant("linear_maps_do_what_is_declared", says, contract)
        for says, contract in (
            ("a linear map does something else than is declared: maps.linear_", Contract(broken.WithoutVectors())),
            ("what a linear map is added to has another shape: maps.lin", Contract(broken.AddedToTheReadout())),
            ("gains of linear maps are not those of their weights", Contract(broken.ReadTwice())),
            ("a space is not made and read by linear maps alone: node_feats.1", Contract(broken.GatedSpace())),
        )
    ),
    *(
        Mutant("every_space_is_seen_with_its_shape", says, contract)
        for says, contract in (
            ("spaces are not seen: ['radial.0', 'radial.1']", Contract(broken.Unseen())),
            ("spaces are seen more than once", Contract(broken.Twice())),
            ("spaces are seen in another shape", Contract(broken.Narrow())),
            ("a repeated space is seen in another shape", Contract(broken.Narrow(), repeated=("radial.",))),
        )
    ),
    *(
        Mutant("keeping_everything_is_the_identity", f"keeping everything changes {what}", Contract(adapter))
        for what, adapter in (
            ("a hyperparameter", broken.OtherCutoff()),
            ("names", broken.OtherNames()),
            ("weights: ['readout_weight']", broken.Louder()),
        )
    ),
    Mutant("masked_equals_sliced", "the sliced model is not the masked one", Contract(broken.WithoutFanIn())),
    Mutant(
        "masked_equals_sliced",
        "the sliced model shares its energy otherwise between atoms",
        Contract(broken.SharingWhenPruned(lambda shares: 1.001 * shares)),
    ),
    Mutant(
        "masked_equals_sliced", "parameters, counted were 1", right(), {f"{_PRUNING}.count_parameters": counted(all=1)}
    ),
    Mutant("pruning_matters", "hidden features are idle: node_feats.0 contributes", right(checkpoint=SILENCED)),
    Mutant("pruning_matters", "1o of node_feats.1 is all but idle: ", right(checkpoint=IDLE)),
    Mutant("pruning_twice_is_pruning_once", "pruned twice, hyperparameters", Contract(broken.ShorterReach())),
    Mutant("pruning_twice_is_pruning_once", "pruned twice, predictions are others", Contract(broken.Louder())),
    Mutant("the_order_of_channels_means_nothing", "no channels to put in another order", Contract(broken.Spaceless())),
    Mutant("the_order_of_channels_means_nothing", "another order of channels is", Contract(broken.FixedReadout())),
    Mutant(
        "single_precision_is_double_precision_rounded",
        "single precision is not double precision rounded",
        right(),
        {f"{_PRUNING}.prune": prune_in_half},
    ),
    Mutant(
        "single_precision_is_double_precision_rounded",
        "a module of single precision holds other weights: ['readout_weight']",
        Contract(broken.HalfPrecision()),
    ),
    Mutant("rewriting_alone_changes_nothing", "the rewritten parent is another", Contract(broken.Louder())),
    Mutant(
        "heads_that_are_taken_out_stay_what_they_were",
        "other heads are left than were kept: ('a',)",
        Contract(broken.OneOfMany(), HEADED),
    ),
    Mutant(
        "heads_that_are_taken_out_stay_what_they_were",
        "a head that was taken out predicts something else",
        Contract(broken.ReversedHeads(), HEADED),
    ),
    Mutant("growth_that_preserves_changes_nothing", "growth adds nothing", Contract(broken.NotGrowing())),
    Mutant(
        "growth_that_preserves_changes_nothing",
        "preserves changes the function",
        Contract(broken.GrowingWithoutFanIn()),
    ),
    *(
        Mutant("dead_blocks_are_found_and_removed_without_loss", says, contract, patches)
        for says, contract, patches in (
            ("the adapter's layouts name no scored space", Contract(broken.Spaceless()), {}),
            ("dead blocks are not found: [(", right(), {f"{_PRUNING}.dead_blocks": lambda *_: {}}),
            (
                "dead blocks are found and not removed",
                right(),
                {f"{_PRUNING}.lossless_plan": lambda *_: ep.PruningPlan.nothing()},
            ),
            ("removing dead blocks changes predictions", Contract(broken.Lifted()), {}),
        )
    ),
    *(
        Mutant("every_scored_space_gets_a_score_per_channel", says, contract, patches)
        for says, contract, patches in (
            (
                "channels have no score",
                right(),
                {f"{_SCORES}.calibrate": scored(without_the_first)},
            ),
            ("scores are negative", right(), {f"{_SCORES}.calibrate": scored(negative)}),
            ("what reaches an output and what has scores are not the same: ", right(checkpoint=SILENT), {}),
        )
    ),
    Mutant("scores_do_not_depend_on_the_frame", "scores depend on the frame: taylor", Contract(Energy(direction))),
    Mutant(
        "scores_add_up_over_batches",
        "scores depend on the batch",
        Contract(Energy(lambda energies, graph: energies * graph.n_structures)),
    ),
    *(
        Mutant("physics_before_and_after_pruning", f"{says} {which}", Contract(kind(extra)))
        for which, kind in (("the parent", Energy), ("the pruned model", OnlyPruned))
        for says, extra in (
            ("the frame shows in predictions of", direction),
            ("forces are no gradients in", broken.frozen_springs),
            ("the rest of the batch shows in predictions of", broken.of_the_batch),
        )
    ),
    Mutant(
        "second_derivatives_are_those_of_the_forces",
        "second derivatives are not those of the forces: toy: {'hessian.finite_difference",
        Contract(Energy(springs)),
    ),
    *(
        Mutant("evaluating_changes_nothing", says, contract, patches)
        for says, contract, patches in (
            ("a second evaluation gives other bits", Contract(broken.Forgetful()), {}),
            ("evaluating changes its input: ['edge_index', 'shifts'] of the graph", Contract(broken.Sorting()), {}),
            ("its input: the structures", right(), {"equiprune.potentials.potential.Potential.graph": moving_graph}),
            ("evaluating changes the model: ['readout_weight']", Contract(broken.Rounding()), {}),
        )
    ),
    Mutant("the_order_of_edges_means_nothing", "energies depend on the order", Contract(Energy(broken.first_edge))),
    Mutant(
        "the_order_of_edges_means_nothing",
        "forces depend on the order",
        Contract(Energy(lambda e, graph: without_value(broken.first_edge(e, graph)))),
    ),
    Mutant("what_is_far_apart_adds_up", "what is far apart do not add up", Contract(Energy(broken.squared_size))),
    Mutant("what_is_far_apart_adds_up", "what is far apart feels each other", Contract(Energy(broken.centre))),
    *(
        Mutant(
            "an_isolated_atom_and_a_single_atom_cell_feel_no_force", f"a single atom {says}", Contract(Energy(extra))
        )
        for says, extra in (
            ("has no finite energy", broken.nan_without_edges),
            ("has no finite forces", broken.cusp_in_positions),
            ("feels a force", broken.field),
            ("has the wrong stress", broken.cusp_in_strain),
        )
    ),
    *(
        Mutant("energies_of_atoms_sum_to_the_energy", says, Contract(broken.Sharing(shares)))
        for says, shares in (
            ("not every atom has a share of the energy", lambda shares: shares[:, None]),
            ("energies of atoms do not sum to the energy", lambda shares: 1.001 * shares),
        )
    ),
    Mutant(
        "vacuum_is_the_same_as_no_periodicity",
        "energies depend on periodicity",
        Contract(Energy(lambda _, graph: 1e-6 * graph.volume.nan_to_num())),
    ),
    Mutant(
        "vacuum_is_the_same_as_no_periodicity",
        "forces depend on periodicity",
        Contract(Energy(broken.pull_without_volume)),
    ),
    Mutant(
        "what_is_built_for_evaluation_is_the_same_function",
        "what is built for evaluation predicts something else",
        Contract(broken.LouderInEvaluation()),
    ),
    *(
        Mutant("what_is_built_for_training_is_the_same_function", says, Contract(adapter))
        for says, adapter in (
            ("what is built for training predicts something else", broken.LouderInTraining()),
            ("other weights learn: {'readout_weight'}", broken.FrozenInTraining()),
            ("a weight learns something else: readout_weight", broken.OtherInTraining()),
        )
    ),
    *(
        Mutant(
            "saving_and_loading_gives_the_same_model",
            f"a saved model has {says}",
            right(),
            {f"{_FILES}.load": loaded(**wrong)},
        )
        for says, wrong in (
            ("other hyperparameters", {"architecture": None}),
            ("another licence: other", {"licence": "other"}),
            ("another history", {"history": ({"step": "made"},)}),
            ("other weights: ['shift']", {"weights": WEIGHTS}),
        )
    ),
    *(
        Mutant("exporting_and_reading_gives_the_same_model", says, Contract(adapter))
        for says, adapter in (
            ("an exported model has other hyperparameters", Exporting(other_cutoff)),
            ("an exported model has other weights: ['readout_weight']", Exporting(other_weight)),
            ("an exported model has another licence: other", Exporting(other(licence="other"))),
            ("an exported model has another history", Exporting(other(history=({"step": "made"},)))),
            ("upstream's own tools give another energy", Exporting(energy=1e-3)),
        )
    ),
    *(
        Mutant("references_add_a_constant_per_element", says, contract, patches)
        for says, contract, patches in (
            ("energies do not move by the sum over atoms with other references: ", Contract(broken.OtherElement()), {}),
            ("forces move with other references: ", Contract(broken.PulledReferences(position)), {}),
            ("the stress moves with other references: ", Contract(broken.PulledReferences(volume)), {}),
            (
                "energies do not move by the sum over atoms with other references, saved",
                right(),
                {f"{_FILES}.load": lambda *_, **how: ep.load("toy", dtype=torch.float64)},
            ),
            (
                "energies do not move by the sum over atoms with other references for another head",
                Contract(broken.Headed(), HEADED),
                without_files(),
            ),
        )
    ),
]


def run_law(contract: Contract, law: str, tmp_path: Path) -> None:
    test = getattr(contract, f"test_{law}")
    test(*([tmp_path] if "tmp_path" in test.__annotations__ else []))


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_broken_adapter_is_caught_by_the_words_of_its_law(
    mutant: Mutant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, replacement in mutant.patches.items():
        monkeypatch.setattr(name, replacement)
    with pytest.raises(AssertionError, match=re.escape(mutant.says)):
        run_law(mutant.contract, mutant.law, tmp_path)


LAWS = [name.removeprefix("test_") for name in dir(AdapterContract) if name.startswith("test_")]


def test_every_law_is_broken_above() -> None:
    assert {mutant.law for mutant in MUTANTS} == set(LAWS)


def assertions() -> Iterator[str]:
    """The words of every assertion of a law, up to the first value in them."""
    for module in pkgutil.iter_modules(laws.__path__, f"{laws.__name__}."):
        source = Path(importlib.import_module(module.name).__file__ or "").read_text()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Assert):
                assert node.msg is not None, f"{module.name}, line {node.lineno}: an assertion without words"
                yield words(node.msg)
            for keyword in node.keywords if isinstance(node, ast.Call) else ():
                if keyword.arg == "law" and not isinstance(keyword.value, ast.Name):
                    yield words(keyword.value)
            if isinstance(node, ast.Assign) and "law" in ast.unparse(node.targets[0]).split(", "):
                yield words(node.value.elts[-1] if isinstance(node.value, ast.Tuple) else node.value)


def words(message: ast.expr) -> str:
    parts = message.values if isinstance(message, ast.JoinedStr) else [message]
    return max((str(part.value) for part in parts if isinstance(part, ast.Constant)), key=len).strip()


def test_every_assertion_has_words_of_its_own_and_a_mutant() -> None:
    found = list(assertions())
    assert len(found) == len(set(found)) > 40
    untried = [each for each in found if not any(each[:20] in mutant.says or mutant.says in each for mutant in MUTANTS)]
    assert not untried


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    "contract",
    [Contract(broken.Headed(), HEADED), Contract(broken.Growing()), Contract(Exporting())],
    ids=["heads", "growth", "export"],
)
def test_adapters_that_can_more_than_the_toy_obey_the_laws_too(contract: Contract, law: str, tmp_path: Path) -> None:
    if law.startswith(("rewriting", "heads", "growth", "exporting")):
        run_law(contract, law, tmp_path)


def test_assertions_name_the_values(toy: ep.Potential, structures: list[Atoms]) -> None:
    with pytest.raises(AssertionError, match=r"equivariance\.energy.*limits"):
        assert_equivariant(replace(toy, adapter=Energy(direction)), structures)
    with pytest.raises(AssertionError, match=r"finite_difference\.forces"):
        assert_forces_are_gradients(replace(toy, adapter=Energy(lambda e, g: broken.field(e, g).detach())), structures)
    assert_forces_are_gradients(replace(toy, adapter=Energy(springs)), structures)  # they are; their slope is not
    with pytest.raises(AssertionError, match=r"hessian\.finite_difference.*limits"):
        assert_second_derivatives(replace(toy, adapter=Energy(springs)), structures)


def test_forces_of_a_molecule_are_checked_without_its_stress(toy: ep.Potential) -> None:
    assert_forces_are_gradients(toy, [Atoms("OH", positions=[[0, 0, 0], [0, 0.1, 1]])])


SPACES = (
    FeatureSpace("elements", ep.Irreps.scalars(5), Role.ELEMENTS, Site.NONE),
    FeatureSpace("heads", ep.Irreps.scalars(3), Role.HEADS, Site.NONE),
    FeatureSpace("edge_attrs", ep.Irreps.parse("1x0e+1x1o+1x2e"), Role.EDGE_ATTRS, Site.EDGE, (PrefixOnly(),)),
    FeatureSpace("a", ep.Irreps.parse("6x0e+4x1o+3x2e"), Role.NODE_FEATS, rules=(SameCounts("g"), KeepsScalars(2))),
    FeatureSpace("b", ep.Irreps.parse("6x0e+4x1o+3x2e"), Role.EDGE_IRREPS, rules=(SameCounts("g"),)),
    FeatureSpace("tied", ep.Irreps.parse("5x0e+5x1o+5x2e"), Role.NODE_FEATS, rules=(OneChannelSet(), KeepsScalars(3))),
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
