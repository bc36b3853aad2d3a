"""L, channels, layers: exact on the parent's points of the sphere, and measured on upstream's own."""

import re

import numpy as np
import pytest
import torch
from ase import Atoms
from random_escn import random_checkpoint, small

import equiprune as ep
from equiprune.adapters.escn import EscnAdapter
from equiprune.adapters.escn.architecture import EscnArchitecture, escn
from equiprune.errors import PlanError, TargetError
from equiprune.pruning.cost import count_parameters
from equiprune.verification.physics import compare


def potential(architecture: EscnArchitecture) -> ep.Potential:
    return ep.Potential.create(EscnAdapter(), random_checkpoint(architecture), torch.float64)


@pytest.fixture(scope="module")
def parent() -> ep.Potential:
    """Degrees as in the published L6-M2."""
    return potential(small(lmax=6, layers=3, channels=8))


@pytest.fixture(scope="module")
def structures(parent: ep.Potential) -> list[Atoms]:
    return list(ep.probe_structures(parent.elements).values())[:3]


@pytest.fixture(scope="module")
def scores(parent: ep.Potential, structures: list[Atoms]) -> ep.ImportanceScores:
    return ep.calibrate(parent, structures)


def test_the_published_l6_becomes_the_published_l4() -> None:
    """Keys and shapes; 51,844,608 parameters become 36,112,896."""
    six, four = (
        escn(lmax=lmax, layers=12, channels=128, hidden=256, cutoff=12.0, neighbors=20, width=2.0) for lmax in (6, 4)
    )
    adapter = EscnAdapter()
    spaces = adapter.spaces(six)
    masks = {
        space.name: ep.BlockMask.keep(space.irreps, {ir: range(mul) for mul, ir in space.irreps if ir.l <= 4})
        for space in spaces
    }
    pruned = adapter.shrink(six, ep.PruningPlan(masks))
    shapes = {name: layout.shape for name, layout in adapter.layouts(pruned).items()}
    assert shapes == {name: layout.shape for name, layout in adapter.layouts(four).items()}
    assert count_parameters(adapter, pruned).all == 36_112_896
    assert count_parameters(adapter, six).all == 51_844_608


@pytest.mark.parametrize(
    "targets",
    [
        [ep.Lmax(4)],
        [ep.Lmax(2)],
        [ep.Lmax(1)],
        [ep.Lmax(0)],
        [ep.Channels(5)],
        [ep.HiddenChannels(4)],
        [ep.RadialWidth((3,))],
        [ep.Interactions(2)],
        [ep.Lmax(4), ep.Channels(6), ep.HiddenChannels(5), ep.Interactions(2)],
        [ep.Parameters(0.5)],
    ],
    ids=str,
)
@pytest.mark.supports("eSCN (random weights)", "cuts")
@pytest.mark.supports("eSCN (random weights)", "exact")
def test_pruned_equals_masked(
    targets: list, parent: ep.Potential, structures: list[Atoms], scores: ep.ImportanceScores
) -> None:
    plan = ep.allocate(parent, targets, scores)
    child = ep.prune(parent, plan)
    difference = compare(ep.masked(parent, plan), child, structures, "difference")
    forces = torch.cat([prediction.forces for prediction in child.predict(structures)])
    energies = torch.stack([prediction.energy for prediction in child.predict(structures)])
    assert difference["difference.energy"] <= 1e-10 * energies.abs().max()
    assert difference["difference.forces"] <= 1e-10 * forces.abs().max()
    assert child.parameters() < parent.parameters()
    assert compare(parent, child, structures, "change")["change.forces"] > 1e-4  # something was lost


def test_any_layer_but_the_first_can_go(parent: ep.Potential, structures: list[Atoms]) -> None:
    space = next(space for space in parent.spaces if space.name == "interactions")
    [(_, scalar)] = space.irreps
    for kept in ([0, 2], [0, 1], [0]):
        plan = ep.PruningPlan({"interactions": ep.BlockMask.keep(space.irreps, {scalar: kept})})
        child = ep.prune(parent, plan)
        assert child.architecture.layers == tuple(kept)
        assert compare(ep.masked(parent, plan), child, structures, "d")["d.forces"] < 1e-12
    with pytest.raises(PlanError, match="first 1, which every model needs"):
        ep.prune(parent, ep.PruningPlan({"interactions": ep.BlockMask.keep(space.irreps, {scalar: [1, 2]})}))


def test_l_goes_from_the_highest_downwards(parent: ep.Potential) -> None:
    space = next(space for space in parent.spaces if space.name == "node_feats")
    kept = {ir: range(mul) for mul, ir in space.irreps if ir.l != 3}
    with pytest.raises(PlanError, match="from the highest l downwards"):
        ep.prune(parent, ep.PruningPlan({"node_feats": ep.BlockMask.keep(space.irreps, kept)}))


def test_native_grids_are_upstreams_and_their_deviation_is_told(parent: ep.Potential, structures: list[Atoms]) -> None:
    exact = ep.prune(parent, ep.allocate(parent, [ep.Lmax(4)]))
    assert "points on the sphere" in exact.architecture.why_not_stock
    native = ep.grow(exact, ep.NativeGrids())
    assert native.architecture.why_not_stock == ""
    change = compare(exact, native, structures, "change")["change.forces"]
    size = torch.cat([p.forces for p in exact.predict(structures)]).square().mean().sqrt().item()
    assert 1e-4 < change / size < 0.5
    certificate = ep.certify(native, parent)
    assert certificate.passed
    [said] = [note for note in certificate.notes if note.startswith("Not exact")]
    energy, force, size = map(float, re.findall(r"[\d.e+-]*\d", said))
    probes = list(ep.probe_structures(parent.elements).values())
    measured = compare(exact, native, probes, "change")
    assert energy == pytest.approx(measured["change.energy"], rel=0.06)
    assert force == pytest.approx(measured["change.forces"], rel=0.06)
    assert size == pytest.approx(
        torch.cat([p.forces for p in exact.predict(probes)]).square().mean().sqrt().item(), rel=0.06
    )
    assert any("10 x 5 and 10 x 11, those that upstream" in note for note in certificate.notes)
    assert any("14 x 5 and 14 x 15, not those" in note for note in ep.certify(exact, parent).notes)
    assert ep.certify(exact, parent).values["masked_vs_sliced.forces"] < 1e-10


def test_a_certificate_claims_what_this_architecture_can(parent: ep.Potential) -> None:
    child = ep.prune(parent, ep.allocate(parent, [ep.Lmax(4)]))
    certificate = ep.certify(child, parent)
    assert certificate.passed
    names = {name.partition(".")[0] for name in certificate.values}
    assert names == {"masked_vs_sliced", "stored_weights", "equivariance", "batch_independence", "rotations"}
    assert "masked_vs_sliced.stress" not in certificate.values
    assert any("Not claimed by this architecture" in note and "nve" in note for note in certificate.notes)


def test_energies_and_forces_count_alike_in_scores(
    parent: ep.Potential, structures: list[Atoms], scores: ep.ImportanceScores
) -> None:
    energy, forces = (
        ep.calibrate(parent, structures, criterion) for criterion in (ep.TaylorEnergy(), ep.TaylorForces())
    )
    for each in (scores, energy, forces):
        assert sum(values.sum() for by in each.mean.values() for values in by.values()) == pytest.approx(1.0)
    for name, by in scores.mean.items():
        for ir, values in by.items():
            np.testing.assert_allclose(values, (energy.mean[name][ir] + forces.mean[name][ir]) / 2, rtol=1e-9)
    forces_only = {name: values for name, values in scores.mean.items() if name.startswith("force.")}
    energy_only = {name: values for name, values in scores.mean.items() if name.startswith("energy.")}
    for heads in (forces_only, energy_only):  # each head is blind to the other's output
        assert sum(np.sum(v) for by in heads.values() for v in by.values()) > 0.01


def test_impossible_targets_are_refused(parent: ep.Potential, scores: ep.ImportanceScores) -> None:
    with pytest.raises(TargetError, match="`lmax` 7 is not possible: this model allows 0 to 6"):
        ep.allocate(parent, [ep.Lmax(7)], scores)
    with pytest.raises(TargetError, match="`hidden_channels` 100 is not possible"):
        ep.allocate(parent, [ep.HiddenChannels(100)], scores)
    with pytest.raises(TargetError, match="no edge_attrs that can be pruned"):
        ep.allocate(parent, [ep.EdgeLmax(2)], scores)
