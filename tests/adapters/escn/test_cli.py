"""The command line on an eSCN model: from scores to a fine-tuned child, and what does not apply is said in one line."""

from pathlib import Path

import ase.io
import pytest
import torch
from command_line import Run
from random_escn import random_checkpoint, small

import equiprune as ep
from equiprune.adapters.escn import EscnAdapter


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "parent"
    checkpoint = random_checkpoint(small(lmax=4, elements=29))
    ep.save(ep.Potential.create(EscnAdapter(), checkpoint, torch.float32), path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "structures.xyz"
    ase.io.write(path, list(ep.probe_structures(range(1, 30)).values()), format="extxyz")
    return path


def test_from_scores_to_a_retrained_child(cli: Run, parent: Path, data: Path, tmp_path: Path) -> None:
    scores, small_model, labelled = tmp_path / "scores.json", tmp_path / "small", tmp_path / "labelled.xyz"
    assert cli("calibrate", parent, data, "-o", scores).code == 0
    pruned = cli("prune", parent, "-o", small_model, "--scores", scores, "--lmax", 2, "--hidden-channels", 5)
    assert pruned.code == 0
    assert "With --native-grids they can" in pruned.text
    certified = cli("certify", small_model, "--parent", parent, "--json")
    assert certified.code == 0
    assert certified.json["masked_vs_sliced"]["forces"] < 1e-10
    assert "nve" not in certified.json
    assert cli("label", parent, data, "-o", labelled, "--copies", 2).code == 0
    trained = cli("train", small_model, "--data", labelled, "-o", tmp_path / "run", "--preset", "escn", "--epochs", 2)
    assert trained.code == 0, trained.err
    evaluated = cli("evaluate", small_model, tmp_path / "run" / "model", "--data", labelled, "--json")
    before, after = evaluated.json
    assert after["forces_mae"] < before["forces_mae"]
    assert after["stress_mae"] is None
    assert 0 <= after["efwt"] <= 1


def test_native_grids_are_chosen_and_measured(cli: Run, parent: Path, tmp_path: Path) -> None:
    native = tmp_path / "native"
    assert cli("prune", parent, "-o", native, "--lmax", 2, "--native-grids").code == 0
    certified = cli("certify", native, "--parent", parent, "--json")
    assert certified.code == 0
    assert any(note.startswith("Not exact") for note in certified.json["notes"])
    assert cli("info", native, "--json").json["adapter"] == "escn"


def test_a_file_that_cannot_hold_the_child_is_refused_before_structures_are_read(
    refused: Run, parent: Path, tmp_path: Path
) -> None:
    flags = ["--lmax", 2, "--hidden-channels", 5, "--data", tmp_path / "missing.xyz"]
    refused("prune", parent, *flags, "-o", tmp_path / "x.pt", says=("cannot be written as '.pt'", "--native-grids"))
    refused("prune", parent, *flags, "-o", tmp_path / "x.pt", "--native-grids", says="missing.xyz")


def test_what_does_not_apply_is_refused(refused: Run, parent: Path, data: Path, tmp_path: Path) -> None:
    refused("prune", parent, "-o", tmp_path / "x", "--edge-lmax", 1, says="no edge_attrs that can be pruned")
    refused("prune", parent, "-o", tmp_path / "x", "--lossless", "--native-grids", says="--native-grids changes")
    refused("prune", parent, "-o", tmp_path / "x.pth", "--lmax", 2, says="A escn model cannot be written as '.pth'")
    refused("label", parent, data, "-o", tmp_path / "l.xyz", "--hessian-rows", 1, says="escn models have no hessian")
