"""Lines that a report shows for a SevenNet: SevenNet's own tools do what they say."""

from pathlib import Path

import pytest
import torch
from copied_lines import energy_by, uses
from random_models import KINDS, random_checkpoint

import equiprune as ep
from equiprune.adapters.sevennet import SevenNetAdapter


def potential(kind: str, head: str | None = None) -> ep.Potential:
    return ep.Potential.create(SevenNetAdapter(), random_checkpoint(KINDS[kind]), torch.float32, head)


def test_lines_name_the_file_alone() -> None:
    found = uses(potential("SO(3), linear self-connection"), "small model.pth")
    assert list(found) == ["ASE"]
    assert "SevenNetCalculator('small model.pth')" in found["ASE"].lines


def test_of_several_heads_one_is_named() -> None:
    found = uses(potential("three heads everywhere, global l > 0 in the last features", "a"), "x.pth")
    assert "modal='a'" in found["ASE"].lines


@pytest.mark.slow
def test_sevennets_calculator_does_what_the_lines_say(tmp_path: Path) -> None:
    own = potential("SO(3), linear self-connection")
    ep.save(own, tmp_path / "small.pth")
    atoms = ep.probe_structures(own.elements)["ionic"]
    found = uses(own, "small.pth")
    assert energy_by(found["ASE"], tmp_path, atoms) == pytest.approx(own.predict([atoms])[0].energy.item(), abs=1e-4)
