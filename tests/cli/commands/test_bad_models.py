"""Models that are missing, damaged, foreign or not the parent are refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from toy_files import COMMANDS, command, toy_model


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("missing.pth", ("missing.pth", "neither a file nor a known model", "toy")),
        ("tooy", ("tooy", "Did you mean 'toy'?")),
        ("7net-l3i4", ("7net-l3i4", "Did you mean '7net-l3i5'?")),
    ],
)
def test_an_unknown_model_is_refused(
    name: str, model: str, says: tuple[str, ...], refused: Run, tmp_path: Path, data: Path, labelled: Path
) -> None:
    refused(*command(name, model, tmp_path), says=says)


def test_a_foreign_suffix_is_refused(refused: Run, tmp_path: Path) -> None:
    (tmp_path / "weights.npz").write_bytes(b"1")
    refused("info", tmp_path / "weights.npz", says=(".npz", "No adapter recognises", "directory that equiprune wrote"))


def test_a_foreign_directory_is_refused(refused: Run, tmp_path: Path) -> None:
    refused("info", tmp_path, says=(str(tmp_path), "not a model that equiprune wrote"))


@pytest.mark.parametrize("file", ["architecture.json", "weights.safetensors", "provenance.json"])
@pytest.mark.parametrize("keep", [0, 1, 9, 0.5, 0.999, None])
def test_a_damaged_native_model_is_refused(keep: float | None, file: str, refused: Run, tmp_path: Path) -> None:
    path = toy_model(tmp_path / "model") / file
    raw = path.read_bytes().rstrip()
    path.unlink() if keep is None else path.write_bytes(raw[: int(len(raw) * keep) if 0 < keep < 1 else int(keep)])
    for words in (["info", path.parent], ["export", path.parent, "-o", tmp_path / "out"]):
        refused(*words, says=str(path.parent))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": 99}, ("format 99", "Update equiprune")),
        ({"adapter": "toi"}, ("toi", "Did you mean 'toy'?")),
        ({"architecture": {}}, "damaged"),
        ({"architecture": None}, "damaged"),
    ],
)
def test_a_foreign_architecture_is_refused(changes: dict[str, Any], says: str, refused: Run, tmp_path: Path) -> None:
    path = toy_model(tmp_path / "model") / "architecture.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    refused("info", path.parent, says=says)


def test_weights_of_another_architecture_are_refused(refused: Run, tmp_path: Path) -> None:
    other = toy_model(tmp_path / "other", radial_width=5) / "weights.safetensors"
    path = toy_model(tmp_path / "model")
    (path / "weights.safetensors").write_bytes(other.read_bytes())
    refused("info", path, says=(str(path), "do not fit its architecture"))


def test_certify_refuses_a_model_that_is_not_the_parent(
    refused: Run, pruned: tuple[Path, Path], tmp_path: Path
) -> None:
    stranger = toy_model(tmp_path / "stranger", lambda weights: weights["readout_weight"].mul_(2))
    says = ("was not pruned from", "stranger", "Give the file it was pruned from")
    refused("certify", pruned[1], "--parent", stranger, says=says)
    refused("certify", pruned[0], "--parent", pruned[1], says=says[0])
