"""Files of every past format version still open and still mean the same."""

from pathlib import Path

import pytest
import torch
from ase.build import molecule

import equiprune as ep

GOLDEN = Path(__file__).parent / "golden"
ENERGY = {"toy-format-1": -15.83295914358574}
"""eV, of an ethanol molecule, by the version that wrote the file."""


@pytest.mark.parametrize("name", ENERGY)
def test_an_old_file_gives_the_energy_it_gave_when_written(name: str) -> None:
    potential = ep.load(GOLDEN / name, dtype=torch.float64)
    [prediction] = potential.predict([molecule("CH3CH2OH")])
    assert prediction.energy.item() == pytest.approx(ENERGY[name], abs=1e-10)
    assert potential.checkpoint.licence == "MIT"
    assert [step["step"] for step in potential.checkpoint.history] == ["prune"]
