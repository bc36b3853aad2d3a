"""Sums over neighbours without messages are those of e3nn's tensor product: values, forces and what weights learn."""

from collections.abc import Iterator

import pytest
import torch
from ase import Atoms
from learnt_by_weights import taught
from nequix_files import published_file
from plain_code import plain
from random_nequix import KINDS, random_checkpoint

import equiprune as ep
from equiprune.adapters.e3nn import channelwise
from equiprune.adapters.nequix import NequixAdapter


@pytest.fixture(autouse=True)
def plain_small_batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Even small graphs take several batches, some of which have empty places; no time goes into compiling."""
    monkeypatch.setattr(channelwise, "_NUMBERS", 20)
    with plain():
        yield


@pytest.fixture(params=[*KINDS, pytest.param("nequix-oam-1", marks=pytest.mark.slow), "pruned"])
def potential(request: pytest.FixtureRequest) -> ep.Potential:
    """Random models, the published one, and a child of another width for every l."""
    if request.param in KINDS:
        return ep.Potential.create(NequixAdapter(), random_checkpoint(KINDS[request.param]), torch.float64)
    if request.param == "pruned":
        parent = ep.Potential.create(NequixAdapter(), random_checkpoint(KINDS["as published"]), torch.float64)
        narrow = [ep.HiddenIrreps.parse("5x0e+3x1o+1x2e"), ep.EdgeLmax(2)]
        return ep.prune(parent, ep.allocate(parent, narrow, ep.data_free_scores(parent, ep.Random(1))))
    return ep.load(published_file("nequix-oam-1"), dtype=torch.float64)


@pytest.fixture(scope="module")
def crystals() -> list[Atoms]:
    """Bonds of their own, and atoms with few neighbours."""
    found = list(ep.probe_structures([1, 8, 14, 29]).values())[1::2]
    for atoms in found:
        atoms.rattle(0.05, seed=1)
    return found


def test_models_are_those_of_e3nns_code(potential: ep.Potential, crystals: list[Atoms]) -> None:
    upstream = potential.as_upstream()
    triples = list(zip(crystals, potential.predict(crystals), upstream.predict(crystals), strict=True))
    for atoms, ours, theirs in triples:
        assert abs(ours.energy - theirs.energy) < 1e-12 * len(atoms)
        assert (ours.forces - theirs.forces).abs().max() < 1e-10
        torch.testing.assert_close(ours.stress, theirs.stress, atol=1e-12, rtol=0, equal_nan=True)
    # Or it would be the same code, which proves nothing.
    assert not all(torch.equal(ours.forces, theirs.forces) for _, ours, theirs in triples)


def test_weights_learn_what_they_learn_by_e3nns_code(potential: ep.Potential, crystals: list[Atoms]) -> None:
    ours, theirs = (taught(one, crystals[:1]) for one in (potential, potential.as_upstream()))
    assert ours.keys() == theirs.keys()
    size = max(gradient.norm() for gradient in theirs.values())
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() <= 1e-9 * gradient.norm() + 1e-13 * size, name
