"""The MACE that comes with equiprune: stock MACE opens its export, and its licence and history travel."""

from pathlib import Path

import pytest
import torch
from ase import Atoms
from plain_code import plain
from stock_modules import stock_values, unpickled

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
    """Weights are in float32 in the file, and so are the constants that stock MACE reads there."""
    path = tmp_path / "compact.model"
    ep.save(shipped, path)
    [own], [stock] = shipped.predict([atoms]), stock_values(unpickled(path), [atoms])
    for quantity, value in stock.items():
        torch.testing.assert_close(getattr(own, quantity), value, rtol=1e-5, atol=1e-5)
    opened = ep.read_checkpoint(path)[1]
    assert (opened.licence, opened.history) == (shipped.checkpoint.licence, shipped.checkpoint.history)


def test_cut_to_two_elements_it_is_exact_and_keeps_its_licence(shipped: ep.Potential, atoms: Atoms) -> None:
    child = ep.prune(shipped, ep.allocate(shipped, [ep.Elements.parse("Li,Cl")]))
    assert child.parameters() < shipped.parameters() / 4
    [own], [of_whole] = child.predict([atoms]), shipped.predict([atoms])
    assert own.energy.item() == pytest.approx(of_whole.energy.item(), abs=1e-9)
    assert child.checkpoint.licence == "MIT"
    assert child.checkpoint.history[-1]["parent"] == NAME
