"""Lines that a report shows for an eSCN: none where fairchem cannot open it."""

from dataclasses import replace

from equiprune.adapters.escn import EscnAdapter
from equiprune.adapters.escn.architecture import escn

SIZE = {"layers": 1, "channels": 4, "hidden": 4, "cutoff": 4.0, "neighbors": 5, "width": 2.0}


def test_lines_are_those_of_models_that_fairchem_opens() -> None:
    native = escn(lmax=2, **SIZE)
    [use] = EscnAdapter().uses(native, "small.pt")
    assert "OCPCalculator(checkpoint_path='small.pt', cpu=True)" in use.lines
    finer = replace(native, message_grid=escn(lmax=4, **SIZE).message_grid)
    assert finer.why_not_stock
    assert not EscnAdapter().uses(finer, "small.pt")
