"""Files that the commands are tried on."""

from pathlib import Path

import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from command_line import Run
from toy_files import OFFSET, toy_model, toy_structures, write

import equiprune as ep


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six structures without labels."""
    return write(tmp_path / "data.xyz", toy_structures(6))


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Six structures, labels off the toy model by `OFFSET`; the last two have no stress, the last no energy."""
    structures = toy_structures(6)
    predictions = ep.load("toy", dtype=torch.float64).predict(structures)
    for i, (atoms, prediction) in enumerate(zip(structures, predictions, strict=True)):
        labels = {
            "energy": prediction.energy.item() + OFFSET["energy"] * len(atoms),
            "forces": prediction.forces.numpy() - OFFSET["forces"],
            "stress": (prediction.stress.numpy() + OFFSET["stress"])[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        }
        lacking = {4: ["stress"], 5: ["stress", "energy"]}.get(i, [])
        atoms.calc = SinglePointCalculator(atoms, **{k: v for k, v in labels.items() if k not in lacking})
        atoms.info["config_type"] = "crystal" if i % 2 else "other"
    return write(tmp_path / "labelled.xyz", structures)


@pytest.fixture
def pruned(tmp_path: Path, cli: Run) -> tuple[Path, Path]:
    """A native parent and its child."""
    parent, child = toy_model(tmp_path / "parent"), tmp_path / "child"
    assert cli("prune", parent, "--channels", 3, "--criterion", "magnitude", "-o", child).code == 0
    return parent, child
