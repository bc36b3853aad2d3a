"""A package that equiprune does not know brings an architecture, a role, a rule, a target and a normalisation."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from ase.io import write as write_structures
from command_line import Run
from foreign_package import PAIRED, MultipleOf, PairAdapter, PairedNeurons
from plug_ins import installed

import equiprune as ep
from equiprune.blocks import BlockMask, Irrep, Irreps
from equiprune.errors import TargetError
from equiprune.testing import AdapterContract

SCALAR = Irrep(0, 1)


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[None]:
    """The package, installed."""
    with installed(tmp_path / "packages", {"pairs": "foreign_package:PairAdapter"}):
        yield


@pytest.fixture
def pairs() -> ep.Potential:
    adapter = PairAdapter()
    return ep.Potential.create(adapter, adapter.read("pairs"), torch.float64)


@pytest.mark.usefixtures("foreign")
class TestForeignContract(AdapterContract):
    """Every law of an adapter, among them that the sliced model is the masked one: normalised over what is kept."""

    adapter = PairAdapter()

    def checkpoints(self) -> Sequence[ep.Checkpoint]:
        return [self.adapter.read("pairs")]


def test_its_target_is_reached_by_its_role(pairs: ep.Potential) -> None:
    plan = ep.allocate(pairs, [PairedNeurons(4)], ep.data_free_scores(pairs, ep.Magnitude()))
    assert plan.masks.keys() == {"neurons"}
    assert ep.prune(pairs, plan).architecture.neurons == 4


def test_its_rule_is_kept(pairs: ep.Potential) -> None:
    with pytest.raises(TargetError, match="neurons would keep 3 channels, which is no multiple of 2"):
        ep.allocate(pairs, [PairedNeurons(3)], ep.data_free_scores(pairs, ep.Magnitude()))
    [space] = [space for space in pairs.spaces if space.role == PAIRED]
    assert len(space.smallest().of(SCALAR)) == 2
    mask = BlockMask.keep(Irreps.scalars(8), {SCALAR: [1, 5, 6]})
    assert MultipleOf(2).widened(mask).kept == ((0, 1, 5, 6),)


def test_a_normalisation_that_forgets_the_mask_is_caught(pairs: ep.Potential, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ep.adapters.Taps, "kept", lambda *_: None)
    with pytest.raises(AssertionError, match="the sliced model is not the masked one"):
        TestForeignContract().test_masked_equals_sliced()


@pytest.mark.slow
@pytest.mark.usefixtures("foreign")
def test_every_command_knows_it(cli: Run, tmp_path: Path) -> None:
    roles = {space["role"] for space in cli("info", "pairs", "--json").json["spaces"]}
    assert roles == {"elements", "node_feats", "paired_neurons"}
    structures = tmp_path / "structures.extxyz"
    cli("label", "pairs", "--data", write(structures), "--output", tmp_path / "labelled.extxyz")
    assert cli("calibrate", "pairs", structures, "--output", tmp_path / "scores.json").code == 0
    pruned = cli("prune", "pairs", "--channels", 4, "--scores", tmp_path / "scores.json", "-o", tmp_path / "small")
    assert pruned.code == 0
    assert cli("certify", tmp_path / "small", "--parent", "pairs", "--nve-steps", 2).code == 0


def write(path: Path) -> Path:
    write_structures(path, list(ep.probe_structures([1, 6, 8]).values()))
    return path
