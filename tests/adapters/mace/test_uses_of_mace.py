"""Lines that a report shows for a MACE: the tools that are named do what they say, and others are not named."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from copied_lines import energy_by, typed, uses
from random_mace import ELEMENTS, HETEROGENEOUS, random_checkpoint, stock

import equiprune as ep
from equiprune.adapters.mace import MaceAdapter

ATOMS = ep.probe_structures(ELEMENTS)["ionic"]


def potential(architecture: object, head: str | None = None) -> ep.Potential:
    return ep.Potential.create(MaceAdapter(), random_checkpoint(architecture), torch.float64, head)


def test_programs_are_those_that_open_such_a_model() -> None:
    assert list(uses(potential(stock(max_ell=3)), "x.model")) == ["ASE", "torch-sim", "Symmetrix"]
    assert list(uses(potential(stock(max_ell=2)), "x.model")) == ["ASE", "torch-sim"]
    assert list(uses(potential(HETEROGENEOUS), "x.model")) == ["ASE", "torch-sim"]


def test_of_several_heads_one_is_named_and_torch_sim_which_cannot_be_told_is_not() -> None:
    found = uses(potential(stock(max_ell=3, heads=("a", "b"), per_head=("atomic_energies",)), "a"), "x.model")
    assert list(found) == ["ASE", "Symmetrix"]
    assert "head='a'" in found["ASE"].lines
    assert "--head a" in found["Symmetrix"].lines


@pytest.mark.slow
def test_the_tools_do_what_the_lines_say(tmp_path: Path) -> None:
    own = potential(stock(8, lmax=0, max_ell=3))
    ep.save(own, tmp_path / "small.model")
    truth, found = own.predict([ATOMS])[0].energy.item(), uses(own, "small.model")
    assert energy_by(found["ASE"], tmp_path, ATOMS) == pytest.approx(truth, abs=1e-9)
    if find_spec("torch_sim"):
        start = "model(ts.io.atoms_to_state([atoms], device=torch.device('cpu'), dtype=torch.float64))['energy']"
        assert energy_by(found["torch-sim"], tmp_path, ATOMS, start) == pytest.approx(truth, abs=1e-9)
    if find_spec("symmetrix"):
        typed(found["Symmetrix"], tmp_path)
        assert energy_by(found["Symmetrix"], tmp_path, ATOMS) == pytest.approx(truth, abs=1e-5)
