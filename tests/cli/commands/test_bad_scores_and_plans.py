"""Scores and plans that are broken, or of another model, are refused before anything is pruned."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from toy_files import toy_model

import equiprune as ep
from equiprune.pruning.importance import data_free_scores


def scores_file(folder: Path, change: Callable[[dict[str, Any]], object] = lambda value: None, **fields: Any) -> Path:
    toy = ep.load(toy_model(folder / "scored", **fields))
    value = data_free_scores(toy, ep.Magnitude()).to_json()
    change(value)
    path = folder / "scores.json"
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize("target", [["--channels", 3], ["--parameters", 0.5]])
@pytest.mark.parametrize(
    ("fields", "change", "says"),
    [
        ({"radial_width": 5}, lambda value: None, ("another model", "radial.0", "8x0e", "5x0e")),
        ({}, lambda value: value["mean"].pop("node_feats.1"), ("another model", "node_feats.1")),
        ({}, lambda value: value["mean"]["node_feats.0"]["0e"].pop(), ("another model", "node_feats.0", "5x0e")),
        ({}, lambda value: value["mean"]["node_feats.0"].update({"0e": [float("nan")] * 6}), "not a scores file"),
        ({}, lambda value: value["mean"]["node_feats.0"].update({"0e": "six"}), "not a scores file"),
        ({}, lambda value: value.pop("structures"), "not a scores file"),
        ({}, lambda value: value.update(format="other"), "not a scores file"),
    ],
)
def test_foreign_scores_are_refused(
    target: list[object], fields: dict[str, Any], change: Any, says: str, refused: Run, tmp_path: Path
) -> None:
    scores = scores_file(tmp_path, change, **fields)
    refused("prune", "toy", *target, "--scores", scores, "-o", tmp_path / "out", says=says)


BROKEN_PLANS = [
    (None, ("no pruning plan", "broken.json")),
    ("", "not a pruning plan"),
    ("{", "not a pruning plan"),
    ("[1, 2]", "not a pruning plan"),
    ('{"x": 3}', "not a pruning plan"),
    ('{"node_feats.0": {"irreps": "6x0e"}}', "not a pruning plan"),
    ('{"node_feats.0": {"irreps": "6x0q", "kept": {}}}', "not a pruning plan"),
    ('{"node_feats.0": {"irreps": "6x0e", "kept": {"0e": [0.5]}}}', "not a pruning plan"),
    ('{"node_feats.0": {"irreps": "6x0e", "kept": {"0e": [6]}}}', ("[6]", "0 to 5")),
    ('{"node_feats.0": {"irreps": "6x0e", "kept": {"0e": [1, 1]}}}', "distinct"),
    ('{"node_feats.0": {"irreps": "6x0e", "kept": {"1o": [1]}}}', "1o"),
    ('{"node_feats.0": {"irreps": "6x0e", "kept": {"0e": []}}}', ("node_feats.0", "at least")),
    ('{"node_feats.0": {"irreps": "9x0e", "kept": {"0e": [0]}}}', ("node_feats.0", "9x0e", "6x0e")),
    ('{"nowhere": {"irreps": "6x0e", "kept": {"0e": [0]}}}', ("no space ['nowhere']", "node_feats.0")),
    ('{"node_feats.0": {"irreps": "6x0e", "kept": {"0e": [0]}}}', ("equally many", "edge_irreps.0")),
]


@pytest.mark.parametrize(("text", "says"), BROKEN_PLANS)
def test_broken_plans_are_refused(text: str | None, says: str, refused: Run, tmp_path: Path) -> None:
    plan = tmp_path / "broken.json"
    if text is not None:
        plan.write_text(text)
    refused("prune", "toy", "--plan", plan, "-o", tmp_path / "out", says=says)


@pytest.mark.parametrize("text", [None, "", "[1]", "once upon a time", b"\xff\xfe\x00", "{}"])
def test_files_that_are_no_scores_are_refused(text: str | bytes | None, refused: Run, tmp_path: Path) -> None:
    scores = tmp_path / "broken.json"
    if text is not None:
        scores.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused("prune", "toy", "--channels", 3, "--scores", scores, "-o", tmp_path / "out", says="scores file")
