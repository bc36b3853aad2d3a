"""Real MACE-MP-0 small: every pruning is exact, lands on the expected size, and what is added changes nothing."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from numpy.random import default_rng

import equiprune as ep
from equiprune.adapters.growth import Growth
from equiprune.adapters.mace.architecture import ReadoutKind
from equiprune.errors import PlanError, TargetError
from equiprune.pruning.targets import Target
from equiprune.testing import assert_same_predictions, random_plan
from equiprune.verification.certificate import LIMITS
from equiprune.verification.physics import compare
from equiprune.verification.second_derivatives import assert_second_derivatives

pytestmark = pytest.mark.usefixtures("plain_code")

SEVEN = ep.Elements.parse("O,Na,H,Cl,Cu,Si,C")
"""Seven elements, in another order than the model's."""

PLANS: dict[str, tuple[list[Target], str, int | None]] = {
    "half the channels": ([ep.Channels(64)], "random", 1_154_448),
    "three quarters of the channels": ([ep.Channels(96)], "random", 2_306_512),
    "half the channels, by importance": ([ep.Channels(64)], "taylor", 1_154_448),
    "seven elements": ([SEVEN], "none", 562_448),
    "correlation 2": ([ep.Correlation(2)], "none", 3_323_664),
    "edge lmax 2": ([ep.EdgeLmax(2)], "none", 3_502_352),
    "one interaction, linear readout": ([ep.Interactions(1)], "none", 1_928_576),
    "10 to 8 radial functions": ([ep.RadialBasis(8)], "taylor", 3_847_440),
    "radial network": ([ep.RadialWidth((40, 24, 64))], "taylor", None),
    "all of these": (
        [
            SEVEN,
            ep.Channels(64),
            ep.EdgeLmax(2),
            ep.Correlation(2),
            ep.RadialWidth((40, 24, 64)),
            ep.RadialBasis(8),
        ],
        "taylor",
        None,
    ),
}
"""Targets, what chooses the channels, and the parameters that upstream's constructor gives such a model."""

HETEROGENEOUS: list[Target] = [
    SEVEN,
    ep.HiddenIrreps.parse("96x0e,80x0e,64x0e"),
    ep.EdgeLmax((3, 2)),
    ep.BasisLmax((3, 1)),
    ep.Correlation((3, 2)),
    ep.RadialWidth((40, 24, 64, 10, 20, 30)),
]


@pytest.fixture(scope="module")
def scores(parent: ep.Potential, probes: list[Atoms]) -> Mapping[str, ep.ImportanceScores | None]:
    """By what chooses the channels; random sets of different spaces have nothing in common."""
    return {
        "none": None,
        "random": ep.data_free_scores(parent, ep.Random(0)),
        "taylor": ep.calibrate(parent, probes),
    }


@pytest.fixture(scope="module")
def small(parent: ep.Potential, scores: Mapping[str, Any]) -> ep.Potential:
    """The official model with seven elements and half the channels."""
    return ep.prune(parent, ep.allocate(parent, [SEVEN, ep.Channels(64)], scores["taylor"]))


def assert_alive(potential: ep.Potential, structures: list[Atoms]) -> None:
    """Agreement of models that predict nothing would mean nothing."""
    assert min(prediction.forces.abs().max() for prediction in potential.predict(structures)) > 1e-2


def difference(a: ep.Potential, b: ep.Potential, structures: list[Atoms]) -> float:
    return compare(a, b, structures, "x")["x.energy"]


# Removing.


@pytest.mark.parametrize("name", PLANS)
def test_masked_equals_sliced(
    name: str, parent: ep.Potential, probes: list[Atoms], scores: Mapping[str, ep.ImportanceScores | None]
) -> None:
    targets, chosen_by, size = PLANS[name]
    plan = ep.allocate(parent, targets, scores[chosen_by])
    child = ep.prune(parent, plan)
    assert child.architecture.stock
    assert size in (None, child.parameters())
    assert_alive(child, probes)
    assert_same_predictions(ep.masked(parent, plan), child, probes)


def test_channels_of_each_space_are_chosen_apart(
    parent: ep.Potential, scores: Mapping[str, ep.ImportanceScores]
) -> None:
    """What "independent sets" above means."""
    plan = ep.allocate(parent, [ep.Channels(64)], scores["random"])
    kept = {plan.masks[s.name].kept[0] for s in parent.spaces if s.upstream_group == "channels"}
    assert len(kept) == 7


def test_different_counts_in_every_interaction_are_exact(
    parent: ep.Potential, probes: list[Atoms], scores: Mapping[str, ep.ImportanceScores]
) -> None:
    """Channels, harmonics, A-basis, orders and radial networks of each interaction its own."""
    plan = ep.allocate(parent, HETEROGENEOUS, scores["taylor"], heterogeneous=True)
    child = ep.prune(parent, plan)
    first, second = child.architecture.steps
    assert (first.a_basis, second.a_basis) == ("128x0e+128x1o+128x2e+128x3o", "128x0e+128x1o")
    assert (first.edge_lmax, second.edge_lmax, first.correlation, second.correlation) == (3, 2, 3, 2)
    assert_alive(child, probes)
    assert_same_predictions(ep.masked(parent, plan), child, probes)


@pytest.mark.parametrize("seed", [0, 3])
def test_random_heterogeneous_plans_are_exact(seed: int, parent: ep.Potential) -> None:
    plan = random_plan(parent, default_rng(seed))
    child = ep.prune(parent, plan)
    structures = list(ep.probe_structures(child.elements).values())
    assert_same_predictions(ep.masked(parent, plan), child, structures)
    assert max(ep.equivariance(child, structures).values()) < 1e-11


@pytest.mark.supports("MACE-MP-0 (the official small file)", "cuts")
@pytest.mark.supports("MACE-MP-0 (the official small file)", "exact")
def test_removing_elements_changes_nothing_for_the_others(parent: ep.Potential, probes: list[Atoms]) -> None:
    child = ep.prune(parent, ep.allocate(parent, [SEVEN]))
    assert child.architecture.elements == SEVEN.numbers
    assert_same_predictions(parent, child, probes)


@pytest.mark.parametrize(("round_to", "size"), [(16, 3_559_312), (1, 3_558_305)])
def test_what_weight_decay_has_killed_can_go(
    round_to: int, size: int, parent: ep.Potential, probes: list[Atoms]
) -> None:
    """l = 1, 2, 3 of the second A-basis, which the messages no longer reach; against the unmasked parent."""
    plan = ep.allocate(parent, [ep.Lossless()], round_to=round_to)
    child = ep.prune(parent, plan)
    assert child.parameters() == size
    assert str(plan.mask(next(s for s in parent.spaces if s.name == "a_basis.1")).kept_irreps).count("x") == 2
    assert_same_predictions(parent, child, probes)


def test_half_the_parameters_is_what_one_asks_for(
    parent: ep.Potential, scores: Mapping[str, ep.ImportanceScores]
) -> None:
    """The most that stays below: 96 channels, the next multiple of 16, would have three fifths of them."""
    child = ep.prune(parent, ep.allocate(parent, [ep.Parameters(0.5)], scores["taylor"], round_to=16))
    assert child.architecture.stock
    assert (child.architecture.channels, child.parameters()) == (80, 1_681_840)


# Adding.


def test_more_bessel_functions_change_nothing(small: ep.Potential, probes: list[Atoms]) -> None:
    """10 to 8 and back to 10: the two new frequencies are the two that are missing, and have no effect yet."""
    scores = ep.data_free_scores(small, ep.Random(5))
    fewer = ep.prune(small, ep.allocate(small, [ep.RadialBasis(8)], scores))
    grown = ep.grow(fewer, ep.GrowRadialBasis(10))
    frequencies = "radial_embedding.bessel_fn.bessel_weights"
    now, before = (p.checkpoint.weights[frequencies] for p in (grown, small))
    assert not torch.equal(now, before)
    torch.testing.assert_close(now.sort().values, before, rtol=1e-6, atol=0)
    assert grown.parameters() == fewer.parameters() + 2 * 2 * 64
    assert_alive(grown, probes)
    assert_same_predictions(fewer, grown, probes)


def test_a_non_linear_readout_of_a_shallow_model_changes_nothing(parent: ep.Potential, probes: list[Atoms]) -> None:
    """silu(x) - silu(-x) = x."""
    shallow = ep.prune(parent, ep.allocate(parent, [SEVEN, ep.Interactions(1)]))
    grown = ep.grow(shallow, ep.NonlinearReadout(16))
    assert [step.readout.kind for step in grown.architecture.steps] == [ReadoutKind.NONLINEAR]
    assert grown.parameters() == shallow.parameters() - 128 + 128 * 16 + 16
    assert_alive(grown, probes)
    assert_same_predictions(shallow, grown, probes)
    assert difference(parent, grown, probes) > 0.1


def test_neurons_that_change_nothing_can_learn(parent: ep.Potential, probes: list[Atoms]) -> None:
    """The other 14 have weights into them, so that their zero weights out of them have a gradient."""
    shallow = ep.prune(parent, ep.allocate(parent, [SEVEN, ep.Interactions(1)]))
    grown = ep.grow(shallow, ep.NonlinearReadout(16))
    energy = grown.energies(grown.graph(probes)).sum()
    [gradient] = torch.autograd.grad(energy, [grown.module.readouts[0].linear_2.weight])
    assert (gradient.abs() > 1e-6).all()


REDRAWN: dict[str, tuple[list[Target], Growth, set[str]]] = {
    "radial basis": (
        [ep.RadialBasis(8)],
        ep.GrowRadialBasis(10, preserve=False),
        {f"interactions.{t}.conv_tp_weights.layer0.weight" for t in (0, 1)},
    ),
    "readout": (
        [ep.Interactions(1)],
        ep.NonlinearReadout(16, preserve=False),
        {f"readouts.0.linear_{i}.weight" for i in (1, 2)},
    ),
}


@pytest.mark.parametrize("name", REDRAWN)
def test_what_is_drawn_anew_changes_the_model_by_its_seed(name: str, small: ep.Potential, probes: list[Atoms]) -> None:
    targets, growth, drawn = REDRAWN[name]
    pruned = ep.prune(small, ep.allocate(small, targets, ep.data_free_scores(small, ep.Random(5))))
    first, again, other = (ep.grow(pruned, replace(growth, seed=seed)) for seed in (1, 1, 2))
    assert min(difference(pruned, first, probes), difference(first, other, probes)) > 1e-3
    assert (weights_that_differ(first, again), weights_that_differ(first, other)) == (set(), drawn)
    for name in drawn:
        assert first.checkpoint.weights[name].std() == pytest.approx(1, abs=0.4)


def weights_that_differ(a: ep.Potential, b: ep.Potential) -> set[str]:
    return {n for n, w in a.checkpoint.weights.items() if not torch.equal(w, b.checkpoint.weights[n])}


@pytest.mark.parametrize(
    ("growth", "says"),
    [
        (ep.GrowRadialBasis(10), "cannot grow to 10 functions: the model has 10 .* give 11 or more"),
        (ep.GrowRadialBasis(9, preserve=False), "cannot grow to 9 functions: the model has 10 .* give 10 or more"),
        (ep.NonlinearReadout(16), "has a hidden layer already"),
        (ep.NonlinearReadout(0, preserve=False), "0 hidden neurons is too narrow"),
    ],
)
def test_growing_what_cannot_grow_is_refused(growth: Growth, says: str, small: ep.Potential) -> None:
    with pytest.raises(TargetError, match=says):
        ep.grow(small, growth)


# Certificates.


@pytest.fixture(scope="module")
def grandparent(small: ep.Potential, tmp_path_factory: pytest.TempPathFactory) -> ep.Potential:
    """The small model as a file, so that its children know it by its sha256."""
    return written(small, tmp_path_factory.mktemp("models") / "small.model")


def written(potential: ep.Potential, path: Path) -> ep.Potential:
    """The model that a file gives; in single precision, since that is what is stored."""
    ep.save(potential.with_dtype(torch.float32), path)
    return ep.load(path)


@pytest.fixture(scope="module")
def descendant(grandparent: ep.Potential, tmp_path_factory: pytest.TempPathFactory) -> ep.Potential:
    """Pruned, grown, pruned once more and grown again, each time from a file."""
    folder = tmp_path_factory.mktemp("descendants")
    scores = ep.data_free_scores(grandparent, ep.Magnitude())
    targets = [ep.RadialBasis(7), ep.Channels(48), ep.Interactions(1)]
    child = ep.prune(grandparent, ep.allocate(grandparent, targets, scores))
    child = written(ep.grow(child, ep.GrowRadialBasis(9)), folder / "a.model")
    child = ep.prune(child, ep.allocate(child, [ep.Elements.parse("Cu,Si,O,H,Cl,Na")]))
    return written(ep.grow(child, ep.NonlinearReadout(4)), folder / "b.model")


def failed(certificate: ep.Certificate) -> set[str]:
    return {name for name, value in certificate.values.items() if not value <= LIMITS[name]}


def test_a_history_of_pruning_and_growing_is_replayed(grandparent: ep.Potential, descendant: ep.Potential) -> None:
    steps = [step["step"] for step in descendant.checkpoint.history]
    assert steps == ["prune", "prune", "grow", "prune", "grow"]
    certificate = ep.certify(descendant, grandparent, nve_steps=3)
    assert failed(certificate) == set()
    assert certificate.values.keys() == LIMITS.keys() - {"rotations.of_parent"}
    assert certificate.values["stored_weights"] == 0


@pytest.mark.supports("MACE-MP-0 (the official small file)", "exports")
def test_it_goes_back_to_the_official_file(parent: ep.Potential, grandparent: ep.Potential) -> None:
    certificate = ep.certify(grandparent, parent, nve_steps=1)
    assert failed(certificate) == set()
    assert certificate.facts["licence"] == "MIT"


def test_what_was_drawn_anew_is_claimed_to_equal_nothing(grandparent: ep.Potential) -> None:
    scores = ep.data_free_scores(grandparent, ep.Magnitude())
    child = ep.prune(grandparent, ep.allocate(grandparent, [ep.Channels(32), ep.Interactions(1)], scores))
    child = ep.grow(child, ep.GrowRadialBasis(12, preserve=False, seed=3))
    certificate = ep.certify(child, grandparent, nve_steps=1)
    assert failed(certificate) == set()
    assert any("Drawn anew" in note and "GrowRadialBasis(functions=12" in note for note in certificate.notes)


@pytest.mark.parametrize(
    "name",
    [
        "interactions.0.conv_tp_weights.layer0.weight",
        "readouts.0.linear_2.weight",
        "scale_shift.shift",
    ],
)
def test_one_changed_number_fails(name: str, grandparent: ep.Potential, descendant: ep.Potential) -> None:
    weight = descendant.checkpoint.weights[name].clone()
    last = weight.view(-1)[-1]
    last.copy_(torch.nextafter(last, torch.tensor(torch.inf)))
    weights = {**descendant.checkpoint.weights, name: weight}
    tampered = ep.Potential.create(
        descendant.adapter, replace(descendant.checkpoint, weights=weights), descendant.dtype
    )
    certificate = ep.certify(tampered, grandparent, nve_steps=1)
    assert failed(certificate) == {"stored_weights"}


def test_another_story_than_the_true_one_fails(grandparent: ep.Potential, descendant: ep.Potential) -> None:
    """Its radial functions did not grow to ten."""
    history = [dict(step) for step in descendant.checkpoint.history]
    grown = next(step for step in history if step["step"] == "grow")
    grown["growth"] = grown["growth"] | {"functions": 10}
    liar = replace(descendant, checkpoint=replace(descendant.checkpoint, history=tuple(history)))
    assert "stored_weights" in failed(ep.certify(liar, grandparent, nve_steps=1))


def test_a_stranger_is_no_parent(small: ep.Potential, descendant: ep.Potential) -> None:
    """Not even the model in memory from which the parent's file was written."""
    with pytest.raises(PlanError, match="was not pruned from"):
        ep.certify(descendant, small)


def test_its_hessian_is_the_slope_of_its_forces(parent: ep.Potential, probes: list[Atoms]) -> None:
    """On a published model, whose numbers are of another size than random ones; two atoms are enough."""
    assert len(probes[1]) == 2
    assert_second_derivatives(parent, probes[1:2])
