"""Repair in closed form: what it makes better, what it leaves as it is, and what it refuses."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st
from repairing import probes

import equiprune as ep
from equiprune.adapters.toy import ToyAdapter, ToyArchitecture
from equiprune.blocks.linear_map import inherited
from equiprune.errors import StructureError, TargetError
from equiprune.potentials.observing import observed
from equiprune.pruning import displacing, parent_view
from equiprune.pruning import repair as module
from equiprune.pruning.least_squares import NormalEquations, cross_validated
from equiprune.pruning.rotation import _best, rotated, spreads


@pytest.fixture(scope="module")
def structures(parent: ep.Potential) -> list[Atoms]:
    return probes(parent)


def cut(parent: ep.Potential, *targets: object) -> ep.Potential:
    return ep.prune(parent, ep.allocate(parent, list(targets), ep.data_free_scores(parent, ep.Random(0))))


@pytest.fixture(scope="module")
def repaired(child: ep.Potential, parent: ep.Potential, structures: list[Atoms]) -> ep.Repair:
    return ep.repair(child, parent, structures)


def off(model: ep.Potential, parent: ep.Potential, structures: Sequence[Atoms]) -> float:
    """Mean absolute difference of forces, eV/Angstrom."""
    pairs = zip(model.predict(structures), parent.predict(structures), strict=True)
    return float(torch.cat([(own.forces - right.forces).abs().flatten() for own, right in pairs]).mean())


def test_of_many_large_structures_some_are_looked_at(
    parent: ep.Potential, structures: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evenly from first to last, and never fewer than are needed."""
    atoms = sum(map(len, structures))
    monkeypatch.setattr(parent_view, "_MOST_ATOMS", atoms // 2)
    half = parent_view.ParentView.of(parent, structures)
    assert half.step.structures == pytest.approx(len(structures) / 2, abs=1)
    monkeypatch.setattr(parent_view, "_MOST_ATOMS", 1)
    assert parent_view.ParentView.of(parent, structures).step.structures == parent_view.FEWEST


# What it makes better.


@pytest.mark.slow
def test_forces_and_energies_come_closer_to_the_parent(
    repaired: ep.Repair, child: ep.Potential, parent: ep.Potential
) -> None:
    """On structures that were held out, and on others."""
    assert repaired.after.energy < 0.5 * repaired.before.energy
    assert repaired.after.forces < 0.5 * repaired.before.forces
    others = [atoms for seed in (7, 8) for atoms in ep.probe_structures(parent.elements, seed).values()]
    assert off(repaired.potential, parent, others) < 0.7 * off(child, parent, others)


def test_it_is_the_same_model_otherwise(repaired: ep.Repair, child: ep.Potential) -> None:
    """Size and history are the child's, but for the repair; weights that no map has are its own, bit by bit."""
    after = repaired.potential
    assert after.architecture == child.architecture
    assert after.checkpoint.history[:-1] == child.checkpoint.history
    assert after.checkpoint.history[-1]["step"] == "repair"
    assert after.checkpoint.history[-1]["structures"] == 24
    mixes = ("embedding", "linear", "self", "readout")
    fitted = {"shift", *(name for name in child.checkpoint.weights if name.startswith(mixes))}
    assert repaired.maps == len(fitted) - 4  # the embedding and its two readers are rotated
    for name, weight in child.checkpoint.weights.items():
        assert torch.equal(weight, after.checkpoint.weights[name]) == (name not in fitted), name


def test_its_inputs_stay_as_they_are(child: ep.Potential, parent: ep.Potential, structures: list[Atoms]) -> None:
    before = [{n: p.clone() for n, p in model.module.named_parameters()} for model in (child, parent)]
    positions = [atoms.positions.copy() for atoms in structures]
    ep.repair(child, parent, structures)
    for model, weights in zip((child, parent), before, strict=True):
        assert all(torch.equal(weights[n], p) for n, p in model.module.named_parameters())
    assert all((atoms.positions == was).all() for atoms, was in zip(structures, positions, strict=True))


def rms_forces(parent: ep.Potential, structures: list[Atoms]) -> list[float]:
    """Forces of each structure, root mean square in eV/Angstrom."""
    return [float(found.forces.square().mean().sqrt()) for found in parent.predict(structures)]


def displaced(parent: ep.Potential, structures: list[Atoms], rattle: float) -> tuple[list[Atoms], list[float]]:
    """Copies of those that are not left out, and how much they count."""
    found = [
        copy
        for copy in displacing.displaced(parent.with_dtype(torch.float32), structures, rattle, np.random.default_rng(0))
        if copy
    ]
    return [copy.atoms for copy in found], [copy.weight for copy in found]


def test_structures_count_the_less_the_larger_their_forces_are(parent: ep.Potential, structures: list[Atoms]) -> None:
    copies, weights = displaced(parent, structures, 0.1)
    assert weights == pytest.approx([(1 + force / 2) ** -2 for force in rms_forces(parent, copies)], rel=1e-5)
    assert len({round(weight, 6) for weight in weights}) > 1


def test_what_is_large_is_larger_where_all_forces_are(
    parent: ep.Potential, structures: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Energies in another unit, or a model of random weights: none is left out, half count more than a quarter."""
    monkeypatch.setattr(displacing, "_FORCE_SCALE", 1e-6)
    monkeypatch.setattr(displacing, "LARGEST_FORCE", 5e-6)
    copies, weights = displaced(parent, structures, 0.0)
    median = np.median(rms_forces(parent, structures))
    assert len(copies) == sum(force < 5 * median for force in rms_forces(parent, structures)) >= 12
    assert weights == pytest.approx([(1 + force / median) ** -2 for force in rms_forces(parent, copies)], rel=1e-5)


def test_structures_whose_forces_would_be_too_large_move_less(
    parent: ep.Potential, structures: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved() -> list[np.ndarray]:
        copies, _ = displaced(parent, structures, 0.3)
        return [copy.positions - atoms.positions for copy, atoms in zip(copies, structures, strict=True)]

    before = moved()
    monkeypatch.setattr(displacing, "LARGEST_FORCE", 1.5 * max(rms_forces(parent, structures)))
    after = moved()
    halvings = [round(np.log2(np.linalg.norm(b) / np.linalg.norm(a))) for b, a in zip(before, after, strict=True)]
    assert set(halvings) > {0}
    assert set(halvings) <= {0, 1, 2, 3, 4}
    for b, a, times in zip(before, after, halvings, strict=True):
        np.testing.assert_allclose(a, b / 2**times, atol=1e-12)


def test_structures_whose_forces_are_too_large_are_left_out_and_counted(
    child: ep.Potential, parent: ep.Potential, structures: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The three with the largest forces, wherever they stand; too few that are left are too few."""
    forces = sorted(rms_forces(parent, structures))
    monkeypatch.setattr(displacing, "LARGEST_FORCE", (forces[-3] + forces[-4]) / 2)
    assert ep.repair(child, parent, structures, rattle=0.0).left_out == 3
    monkeypatch.setattr(displacing, "LARGEST_FORCE", (forces[4] + forces[5]) / 2)
    with pytest.raises(StructureError, match=r"19 of 24 structures have forces that .* 5 are left and 10 are needed"):
        ep.repair(child, parent, structures, rattle=0.0)


def test_few_structures_are_displaced_often(
    parent: ep.Potential, structures: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time anew, until there are enough atoms; all copies of one are in one fold, and one in five is held out."""

    def looked_at(**how: int) -> parent_view.ParentView:
        return parent_view.ParentView.of(parent, structures, **how)

    def rows(view: parent_view.ParentView) -> Counter[int]:
        found = Counter[int]()
        for sample in view.samples:
            found[sample.fold] += len(sample.counts)
        return found

    once = rows(looked_at(displacements=1))
    assert once.total() == 2 * sum(len(atoms) for i, atoms in enumerate(structures) if i % 5)
    for view, times in ((looked_at(displacements=3), 3), (looked_at(), 8)):
        assert view.step.displacements == times
        assert rows(view) == {fold: times * count for fold, count in once.items()}
        assert len(view.held_out) == 5
    monkeypatch.setattr(parent_view, "_ENOUGH_ATOMS", 2 * sum(map(len, structures)))
    view = looked_at()
    assert view.step.displacements == 2
    positions = [sample.graph.positions for sample in view.samples]
    assert len(torch.cat(positions).unique(dim=0)) == sum(map(len, positions))


@pytest.mark.slow
def test_it_is_repeated_to_the_bit_and_the_seed_matters(
    repaired: ep.Repair, child: ep.Potential, parent: ep.Potential, structures: list[Atoms]
) -> None:
    again, other = (ep.repair(child, parent, structures, seed=seed).potential.checkpoint.weights for seed in (0, 1))
    assert all(torch.equal(again[n], w) for n, w in repaired.potential.checkpoint.weights.items())
    assert any(not torch.equal(other[n], w) for n, w in again.items())


def test_each_map_is_the_least_squares_of_what_goes_in(
    child: ep.Potential, parent: ep.Potential, structures: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a ridge, what the first maps leave unexplained has nothing to do with their inputs."""
    monkeypatch.setattr(module, "cross_validated", lambda folds: module.total(folds).solved(1e-14))
    monkeypatch.setattr(displacing, "_moved", lambda atoms, _: atoms)
    monkeypatch.setattr(displacing, "STEP", 0.0)  # features alone
    monkeypatch.setattr(displacing, "_FORCE_SCALE", math.inf)  # structures alike
    monkeypatch.setattr(module, "_check_helped", lambda *_: None)
    after = ep.repair(child, parent_view.ParentView.of(parent, structures, gains=False)).potential
    plan = module.plan_between(parent, child)
    graph = after.graph([atoms for i, atoms in enumerate(structures) if i % 5])
    theirs, ours = (model.adapter.linear_maps(model.architecture)[1][0] for model in (parent, child))
    names = (ours.module, *ours.added_to)
    right, found = (observed(model, graph, names) for model in (parent, after))
    wanted, made = (sum(seen[name][1] for name in names) for seen in (right, found))
    left = inherited(wanted, theirs.outputs, ours.outputs, plan, {}) - made
    counts = graph.numbers.bincount()[graph.numbers].double().rsqrt()  # by which elements count
    scalars = slice(0, ours.inputs[0][1][0].mul)
    assert left.abs().max() > 1e-3
    assert (found[ours.module][0][:, scalars].T @ (counts[:, None] * left[:, : 4 + 4])).abs().max() < 1e-9


# What is exact.


@pytest.mark.slow
def test_where_nothing_is_cut_nothing_changes(parent: ep.Potential, structures: list[Atoms]) -> None:
    whole = ep.prune(parent, ep.PruningPlan.nothing())
    after = ep.repair(whole, parent, structures)
    for name, weight in after.potential.checkpoint.weights.items():
        torch.testing.assert_close(weight, whole.checkpoint.weights[name], rtol=0, atol=1e-8)


@pytest.mark.parametrize(("channels", "exact"), [(4, True), (3, False)])
def test_as_many_mixtures_as_elements_lose_nothing(parent: ep.Potential, channels: int, exact: bool) -> None:
    """The toy knows four elements: four channels of its embedding can hold all that is read from six."""
    small = cut(parent, ep.HiddenIrreps.parse(f"{channels}x0e,6x0e+4x1o,5x0e"))
    plan = module.plan_between(parent, small)
    weights = rotated(small, parent, plan, {}).weights
    turned = ep.Potential.create(small.adapter, replace(small.checkpoint, weights=weights), torch.float64)
    graph = parent.graph(list(ep.probe_structures(parent.elements).values()))
    differences = []
    for theirs, ours in zip(*(m.adapter.linear_maps(m.architecture)[0] for m in (parent, small)), strict=True):
        right, found = (observed(model, graph, [theirs.module])[theirs.module][1] for model in (parent, turned))
        off = inherited(right, theirs.outputs, ours.outputs, plan, {}) - found
        differences.append(float(off.abs().max()))
    assert (max(differences) < 1e-12) == exact


def test_what_was_trained_since_is_not_replaced(parent: ep.Potential) -> None:
    """Mixtures are of the parent's weights, and would undo the training of those around the embedding."""
    small = cut(parent, ep.HiddenIrreps.parse("3x0e,6x0e+4x1o,5x0e"))
    plan = module.plan_between(parent, small)
    assert rotated(small, parent, plan, {}).mixtures
    moved = {**small.checkpoint.weights, "linear_up_0_weight": small.checkpoint.weights["linear_up_0_weight"] + 0.01}
    trained = replace(small, checkpoint=replace(small.checkpoint, weights=moved))
    assert not rotated(trained, parent, plan, {}).mixtures


def test_channels_that_nothing_needs_are_no_larger_than_others(parent: ep.Potential) -> None:
    """Four elements, five channels: the fifth mixture has nothing to tell, and would spoil any training if it were."""
    small = cut(parent, ep.HiddenIrreps.parse("5x0e,6x0e+4x1o,5x0e"))
    found = rotated(small, parent, module.plan_between(parent, small), {}).weights
    for name in ("embedding_weight", "linear_up_0_weight", "self_connection_0_weight"):
        assert found[name].abs().max() < 5 * parent.checkpoint.weights[name].abs().max()


def test_features_and_their_changes_count_alike(parent: ep.Potential, structures: list[Atoms]) -> None:
    found = spreads(parent_view.ParentView.of(parent, structures))
    sizes = {name: float(spread.trace()) for (name, _), spread in found.items()}
    assert sizes == pytest.approx({"edge_irreps.0": 1, "node_feats.1": 2, "edge_irreps.1": 2, "node_feats.2": 2})
    # What edges of the first interaction carry is of elements alone: it has no changes.


def test_mixtures_are_as_large_as_channels_used_or_spare() -> None:
    """Four channels, two of which are read: two mixtures tell those, a third is the largest direction left."""
    features, reads = (torch.diag(torch.tensor(d)).double() for d in ([16.0, 1.0, 4.0, 3.0], [0.0, 1.0, 1.0, 0.0]))
    found = _best(features, reads, 3)
    sizes = (found.into.T @ features @ found.into).diagonal()
    assert float(sizes[:2].sum()) == pytest.approx(2 * 6)
    assert float(sizes[2]) == pytest.approx(6)
    torch.testing.assert_close(found.into[:, :2] @ found.back[:2] @ reads, reads, atol=1e-9, rtol=0.0)
    assert found.into[:, 2].abs().argmax() == 0


@pytest.mark.slow
def test_a_repaired_model_is_certified(repaired: ep.Repair, parent: ep.Potential) -> None:
    """Its physics, and the slice that was repaired; not the file, which is no slice."""
    found = ep.certify(repaired.potential, parent)
    assert found.passed
    assert found.values["masked_vs_sliced.forces"] < 1e-10
    assert "stored_weights" not in found.values
    assert any("repaired after pruning" in note for note in found.notes)


def test_its_features_keep_their_places_in_the_parent(
    repaired: ep.Repair, parent: ep.Potential, structures: list[Atoms]
) -> None:
    from equiprune.training.feature_labels import kept_columns as places

    assert places(parent, repaired.potential) == places(parent, cut(parent, ep.Channels(4)))


# Least squares.


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 3))
def test_sums_of_folds_solve_what_all_rows_do(seed: int, inputs: int, outputs: int) -> None:
    random = np.random.default_rng(seed)
    x, y = (torch.from_numpy(random.normal(size=(40, n))) for n in (inputs, outputs))
    folds = [NormalEquations.of(a, b) for a, b in zip(x.split(10), y.split(10), strict=True)]
    together = module.total(folds)
    right = torch.linalg.lstsq(x, y).solution
    torch.testing.assert_close(together.solved(0.0), right, rtol=1e-8, atol=1e-8)
    assert together.left(right) == pytest.approx(float((y - x @ right).square().sum()), rel=1e-8)


def test_a_matrix_that_explains_no_other_fold_is_none() -> None:
    random = np.random.default_rng(0)
    noise = [tuple(torch.from_numpy(random.normal(size=(6, n))) for n in (5, 2)) for _ in range(4)]
    assert not cross_validated([NormalEquations.of(x, y) for x, y in noise], ridges=(1e-6, 1e-3)).any()
    real = [NormalEquations.of(x, x @ torch.ones(5, 2, dtype=x.dtype)) for x, _ in noise]
    torch.testing.assert_close(cross_validated(real), torch.ones(5, 2, dtype=torch.float64), rtol=1e-4, atol=1e-4)


# What is refused.


def test_too_few_structures_are_refused(child: ep.Potential, parent: ep.Potential, structures: list[Atoms]) -> None:
    with pytest.raises(StructureError, match=r"9 structures are too few .* Give 10 or more"):
        ep.repair(child, parent, structures[:9])


def test_another_parent_is_refused(child: ep.Potential, structures: list[Atoms]) -> None:
    adapter = ToyAdapter()
    other = adapter.random_checkpoint(ToyArchitecture(elements=(1, 6, 8, 14), cutoff=4.0), seed=1)
    with pytest.raises(TargetError, match=r"is not the model that .* was pruned from"):
        ep.repair(child, ep.Potential.create(adapter, other), structures)


def test_an_architecture_that_shows_no_linear_maps_is_refused(child: ep.Potential, parent: ep.Potential) -> None:
    class Opaque(ToyAdapter):
        linear_maps = None  # type: ignore[assignment]

    hidden = replace(child, adapter=Opaque())
    with pytest.raises(TargetError, match=r"toy models cannot be repaired .* 'equiprune train'"):
        ep.repair(hidden, parent, [])


def test_a_repair_that_makes_forces_worse_is_refused(
    child: ep.Potential, parent: ep.Potential, structures: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cross_validated", lambda folds: 30 * torch.ones_like(folds[0].cross))
    with pytest.raises(TargetError, match=r"made forces worse on the structures that were held out: .* stays as it is"):
        ep.repair(child, parent, structures)


@pytest.mark.slow
def test_a_repair_that_hardly_helps_is_refused(
    child: ep.Potential, parent: ep.Potential, structures: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ep.repair(child, parent, structures)
    assert made.after.forces <= module.WORTH * made.before.forces
    monkeypatch.setattr(module, "WORTH", 0.999 * made.after.forces / made.before.forces)
    with pytest.raises(TargetError, match=r"forces hardly better .* the better start for training"):
        ep.repair(child, parent, structures)
