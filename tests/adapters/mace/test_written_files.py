"""What equiprune writes comes back bit for bit, and stock tools open it."""

import hashlib
import json
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from random_mace import KINDS, random_checkpoint, stock
from stock_modules import ABS, EVERY_HEAD, SILU, TANH, unpickled

import equiprune as ep
from equiprune.adapters import Checkpoint
from equiprune.adapters.mace import MaceAdapter, export
from equiprune.adapters.mace.architecture import MaceArchitecture
from equiprune.adapters.mace.build import upstream
from equiprune.errors import OutputError

with upstream(torch.float64):
    from e3nn.util import jit
    from mace.calculators import LAMMPS_MACE

pytestmark = pytest.mark.usefixtures("plain_code")


def created(arch: MaceArchitecture, head: str | None = None) -> ep.Potential:
    return ep.Potential.create(MaceAdapter(), random_checkpoint(arch), torch.float64, head)


@cache
def checkpoint_of(kind: str) -> Checkpoint:
    """A random model with a licence, and a step behind it."""
    step = {"step": "prune", "parent": "x", "parent_sha256": "ab", "dtype": "float64", "note": {"Å": [1, None]}}
    return replace(random_checkpoint(KINDS[kind]), licence="CC-BY-4.0", history=(step,))


@pytest.mark.parametrize(
    ("kind", "dtype"), [*((kind, torch.float64) for kind in KINDS), (next(iter(KINDS)), torch.float32)], ids=str
)
def test_an_exported_model_reads_back_bit_for_bit(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """Written, opened by the stock calculator, and read again; ``ep.save`` compares the energies."""
    checkpoint = checkpoint_of(kind)
    heads, path = checkpoint.architecture.heads, tmp_path / "x.model"
    written = replace(checkpoint, weights={n: w.to(dtype) for n, w in checkpoint.weights.items()})
    potential = ep.Potential.create(MaceAdapter(), written, dtype, heads[-1] if heads else None)
    assert ep.save(potential, path) == (path,)
    assert MaceAdapter().recognises(path)
    _, found = ep.read_checkpoint(path)
    assert found.architecture == replace(
        checkpoint.architecture, activation_constants=checkpoint.architecture.activation_constants | {"silu": SILU}
    )
    assert found.weights.keys() == written.weights.keys()
    assert [
        n for n, w in written.weights.items() if found.weights[n].dtype != dtype or not w.equal(found.weights[n])
    ] == []
    assert (found.licence, found.history, found.source) == ("CC-BY-4.0", checkpoint.history, str(path))
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [p.name for p in tmp_path.iterdir()] == ["x.model"]


def test_a_cutoff_is_the_same_number_in_either_precision(tmp_path: Path) -> None:
    """5.2 is 5.199999809 in single precision; a child rounded to it must not look like another architecture."""
    ep.save(created(stock(cutoff=5.2, interactions=1, max_ell=1, correlation=1)), tmp_path / "parent.model")
    parent = ep.load(tmp_path / "parent.model", dtype=torch.float32)
    child = ep.prune(parent, ep.allocate(parent, [ep.Elements((14, 29))]))
    ep.save(child, tmp_path / "child.model")
    found = ep.load(tmp_path / "child.model")
    assert found.checkpoint.weights["r_max"].dtype == torch.float32
    assert found.architecture == child.architecture
    assert found.architecture.cutoff == 5.2


@pytest.mark.parametrize("gate", ["tanh", "abs", "None"])
def test_the_gate_goes_with_the_last_non_linear_readout(gate: str, tmp_path: Path) -> None:
    """A file of linear readouts says nothing of gates, so a model pruned to them must not either."""
    constants = {"silu": SILU, "tanh": TANH, "abs": ABS}
    parent = created(stock(gate=gate, max_ell=1, correlation=1, activation_constants=constants))
    child = ep.prune(parent, ep.allocate(parent, [ep.Interactions(1)]))
    MaceAdapter().export(child.checkpoint, tmp_path / "x.model")
    assert MaceAdapter().read(tmp_path / "x.model").architecture == child.architecture


@pytest.mark.parametrize("kept", [("c", "a"), ("b",)])
def test_heads_that_are_left_come_back_in_their_order(kept: tuple[str, ...], tmp_path: Path) -> None:
    arch = stock(interactions=1, max_ell=1, correlation=1, heads=("a", "b", "c"), per_head=EVERY_HEAD)
    parent = created(arch, kept[0])
    MaceAdapter().export(parent.checkpoint, tmp_path / "parent.model")
    parent = ep.load(tmp_path / "parent.model", head=kept[0])
    child = ep.prune(parent, ep.allocate(parent, [ep.Heads(kept)]))
    MaceAdapter().export(child.checkpoint, tmp_path / "x.model")
    found = MaceAdapter().read(tmp_path / "x.model").architecture
    assert found == child.architecture
    assert (found.heads, found.head_name) == ((kept, "Default") if len(kept) > 1 else ((), "b"))


def test_building_and_writing_leave_torchs_default_and_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", raising=False)
    before = torch.get_default_dtype()
    ep.save(created(stock(interactions=1, max_ell=1, correlation=1)), tmp_path / "x.model")
    assert torch.get_default_dtype() is before
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ


def test_another_e3nn_cannot_write_what_stock_mace_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But a directory, from which it can be exported elsewhere."""
    potential = created(stock(interactions=1, max_ell=1, correlation=1))
    monkeypatch.setattr(export, "version", {"e3nn": "0.5.9"}.__getitem__)
    with pytest.raises(OutputError, match=r"e3nn 0\.5\.9 is installed, .* needs e3nn 0\.4\.4\. .*save to a directory"):
        ep.save(potential, tmp_path / "x.model")
    assert list(tmp_path.iterdir()) == []
    assert ep.save(potential, tmp_path / "x") == (tmp_path / "x",)


def test_provenance_is_text_that_torchscript_can_carry(tmp_path: Path) -> None:
    """A model with a history can still be deployed."""
    potential = created(stock(interactions=1, max_ell=1, correlation=1))
    child = ep.prune(potential, ep.allocate(potential, [ep.Elements((8, 1))]))
    MaceAdapter().export(child.checkpoint, tmp_path / "x.model")
    module = unpickled(tmp_path / "x.model")
    assert json.loads(module.equiprune_provenance)["history"][0]["step"] == "prune"
    with upstream(torch.float64):
        jit.compile(LAMMPS_MACE(module))
