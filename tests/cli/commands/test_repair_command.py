"""``equiprune repair``: the same as from Python, what it says, and what is refused before anything is evaluated."""

from pathlib import Path

import ase.io
import pytest
import torch
from command_line import Run

import equiprune as ep
from equiprune.pruning import displacing
from equiprune.pruning import repair as module
from equiprune.structures.probes import probe_structures


@pytest.fixture
def structures(tmp_path: Path) -> Path:
    path = tmp_path / "structures.extxyz"
    frames = [atoms for seed in range(3) for atoms in probe_structures([1, 6, 8, 14], seed).values()]
    ase.io.write(path, frames, format="extxyz")
    return path


@pytest.fixture
def child(cli: Run, tmp_path: Path) -> Path:
    assert cli("prune", "toy", "--channels", 4, "--criterion", "magnitude", "-o", tmp_path / "child").code == 0
    return tmp_path / "child"


@pytest.mark.slow
def test_repair_writes_the_model_of_the_api(cli: Run, child: Path, structures: Path, tmp_path: Path) -> None:
    words = ["repair", child, "--parent", "toy", "--data", structures, "--seed", 3, "--displacements", 2]
    ran = cli(*words, "-o", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    found = list(ep.read_structures(structures))
    right = ep.repair(ep.load(child), ep.load("toy"), found, displacements=2, seed=3)
    assert ran.json == {
        "written": [str(tmp_path / "out")],
        "maps": right.maps,
        "gains": right.gains,
        "left_out": 0,
        "before": {"energy": right.before.energy, "forces": right.before.forces},
        "after": {"energy": right.after.energy, "forces": right.after.forces},
    }
    written = ep.load(tmp_path / "out").checkpoint
    assert all(torch.equal(weight, written.weights[n]) for n, weight in right.potential.checkpoint.weights.items())
    assert [step["step"] for step in written.history] == ["prune", "repair"]
    assert written.history[-1]["displacements"] == 2
    text = cli(*words, "-o", tmp_path / "again")
    assert "energy (meV/atom)" in text.out
    assert "held out" in text.out
    assert cli("certify", tmp_path / "out", "--parent", "toy", "--nve-steps", 2).code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--limit", 9], ("9 structures are too few", "Give 10 or more")),
        (["--rattle", -0.1], ("--rattle -0.1", "0 or more")),
        (["--rattle", "nan"], ("--rattle nan", "0 or more")),
        (["--limit", 0], ("--limit", "1 or more")),
        (["--displacements", 0], ("--displacements", "1 or more")),
    ],
)
def test_settings_that_help_nothing_are_refused(
    words: list[object], says: tuple[str, ...], refused: Run, child: Path, structures: Path, tmp_path: Path
) -> None:
    refused("repair", child, "--parent", "toy", "--data", structures, *words, "-o", tmp_path / "out", says=says)


def test_models_that_are_no_parent_and_child_are_refused(
    refused: Run, child: Path, structures: Path, tmp_path: Path
) -> None:
    words = ["--data", structures, "-o", tmp_path / "out"]
    refused("repair", "toy", "--parent", child, *words, says=("it was not pruned at all",))
    refused("repair", child, "--parent", child, *words, says=("is not the model that", "was pruned from"))


@pytest.mark.slow
def test_structures_that_are_left_out_are_counted(
    cli: Run, child: Path, structures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ep.load("toy").predict(list(ep.read_structures(structures)))
    forces = sorted(float(each.forces.square().mean().sqrt()) for each in found)
    monkeypatch.setattr(displacing, "LARGEST_FORCE", (forces[-1] + forces[-2]) / 2)
    words = ["--data", structures, "--rattle", 0, "--keep-if-worse", "-o", tmp_path / "out", "--json"]
    ran = cli("repair", child, "--parent", "toy", *words)
    assert "1 of the structures were left out" in ran.err
    assert ran.json["left_out"] == 1


@pytest.mark.slow
def test_where_forces_become_worse_nothing_is_written(
    refused: Run, child: Path, structures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cross_validated", lambda folds: 30 * torch.ones_like(folds[0].cross))
    words = ["--data", structures, "-o", tmp_path / "out"]
    refused("repair", child, "--parent", "toy", *words, says=("The repair made forces worse", "stays as it is"))
