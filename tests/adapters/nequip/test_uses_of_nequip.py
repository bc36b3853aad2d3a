"""Lines that a report shows for a NequIP: flags are those of its compiler."""

import subprocess
import sys
from pathlib import Path

import torch
from copied_lines import uses
from nequip.integrations.ase import NequIPCalculator
from random_nequip import architecture, random_checkpoint

import equiprune as ep
from equiprune.adapters.nequip import NequIPAdapter


def test_the_package_is_compiled_and_then_opened() -> None:
    own = ep.Potential.create(NequIPAdapter(), random_checkpoint(architecture()), torch.float32)
    lines = uses(own, "folder/small.nequip.zip")["ASE"].lines
    compiling, opening = lines.split("\n\n")
    assert compiling.startswith("nequip-compile folder/small.nequip.zip small.nequip.pt2 ")
    assert "from_compiled_model('small.nequip.pt2'" in opening
    assert NequIPCalculator.from_compiled_model
    program = Path(sys.executable).parent / "nequip-compile"
    told = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
    assert all(flag in told for flag in compiling.split() if flag.startswith("--"))
