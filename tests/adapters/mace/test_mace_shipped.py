"""The MACE that comes with equiprune: stock MACE opens its export, and its licence and history travel."""

from pathlib import Path

import pytest
import torch
from ase import Atoms
from plain_code import plain
from stock_modules import assert_stock, unpickled

import equiprune as ep

NAME = "mace-mp-compact"


@pytest.fixture(scope="module")
def shipped() -> ep.Potential:
    """The model by its name, in float64."""
    with plain():
        return ep.load(NAME, dtype=torch.float64)


@pytest.fixture(scope="module")
def atoms() -> Atoms:
    """A crystal of two elements."""
    return ep.probe_structures([3, 17])["ionic"]


def test_stock_mace_opens_its_export(shipped: ep.Potential, atoms: Atoms, tmp_path: Path) -> None:
    path = tmp_path / "compact.model"
    ep.save(shipped, path)
    assert_stock(shipped, unpickled(path), [atoms])
    opened = ep.read_checkpoint(path)[1]
    assert (opened.licence, opened.history) == (shipped.checkpoint.licence, shipped.checkpoint.history)


def test_cut_to_two_elements_it_is_exact_and_keeps_its_licence(shipped: ep.Potential, atoms: Atoms) -> None:
    child = ep.prune(shipped, ep.allocate(shipped, [ep.Elements.parse("Li,Cl")]))
    assert child.parameters() < shipped.parameters() / 4
    [own], [of_whole] = child.predict([atoms]), shipped.predict([atoms])
    assert own.energy.item() == pytest.approx(of_whole.energy.item(), abs=1e-9)
    assert child.checkpoint.licence == "MIT"
    assert child.checkpoint.history[-1]["parent"] == NAME
