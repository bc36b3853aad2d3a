"""``equiprune prune``: each target is reached, by the plan of the API, and what was lossless is proven."""

import json
from pathlib import Path

import pytest
import torch
from command_line import Run
from toy_files import kill_a_channel, toy_model, toy_structures

import equiprune as ep
from equiprune.pruning.importance import data_free_scores


@pytest.mark.slow
def test_scores_and_data_choose_the_same_plan(cli: Run, tmp_path: Path, data: Path) -> None:
    scores = tmp_path / "scores.json"
    assert cli("calibrate", "toy", data, "-o", scores).code == 0
    by_scores = cli("prune", "toy", "--parameters", 0.5, "--scores", scores, "-o", tmp_path / "a", "--json").json
    by_data = cli("prune", "toy", "--parameters", 0.5, "--data", data, "-o", tmp_path / "b", "--json").json
    toy = ep.load("toy")
    expected = ep.allocate(toy, [ep.Parameters(0.5)], ep.calibrate(toy, data))
    assert by_scores["plan"] == by_data["plan"] == expected.to_json()
    assert by_scores["written"] == [str(tmp_path / "a")]
    parent, child = by_scores["trainable parameters"]
    assert child <= parent / 2
    assert cli("info", tmp_path / "a", "--json").json["parameters"]["trainable"] == child


@pytest.mark.parametrize(
    ("flags", "criterion"),
    [
        (["magnitude"], ep.Magnitude()),
        (["random"], ep.Random(0)),
        (["random", "--seed", "7"], ep.Random(7)),
    ],
)
def test_data_free_criteria_choose_what_they_say(
    flags: list[str], criterion: ep.Magnitude | ep.Random, cli: Run, tmp_path: Path
) -> None:
    value = cli("prune", "toy", "--channels", 3, "--criterion", *flags, "-o", tmp_path / "out", "--json").json
    toy = ep.load("toy")
    expected = ep.allocate(toy, [ep.Channels(3)], data_free_scores(toy, criterion))
    assert value["plan"] == expected.to_json()


def test_the_seed_matters() -> None:
    toy = ep.load("toy")
    plans = [ep.allocate(toy, [ep.Channels(3)], data_free_scores(toy, ep.Random(seed))) for seed in (0, 7)]
    assert plans[0] != plans[1]


@pytest.mark.parametrize("part", ["plan", "all"])
def test_a_plan_can_be_used_again(part: str, cli: Run, tmp_path: Path) -> None:
    value = cli("prune", "toy", "--channels", 3, "--criterion", "magnitude", "-o", tmp_path / "a", "--json").json
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(value["plan"] if part == "plan" else value))
    again = cli("prune", "toy", "--plan", plan, "-o", tmp_path / "b", "--json").json
    assert again["plan"] == value["plan"] != {}
    assert (tmp_path / "a/weights.safetensors").read_bytes() == (tmp_path / "b/weights.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("flags", "space", "irreps"),
    [
        (["--lmax", 0], "node_feats.1", "6x0e"),
        (["--edge-lmax", 0, "--lmax", 0], "edge_attrs", "1x0e"),
        (["--elements", "O,H"], "elements", "2x0e"),
        (["--irreps", "4x0e+2x1o"], "node_feats.1", "4x0e+2x1o"),
        (["--irreps", "6x0e,6x0e+1x1o,2x0e"], "node_feats.2", "2x0e"),
        (["--channels", 5, "--round-to", 2], "node_feats.1", "4x0e+4x1o"),
        (["--round-to", 4], "node_feats.0", "4x0e"),
        (["--radial-width", 3], "radial.1", "3x0e"),
        (["--radial-basis", 3], "radial_basis", "3x0e"),
    ],
)
def test_each_target_is_reached(flags: list[object], space: str, irreps: str, cli: Run, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert cli("prune", "toy", *flags, "--criterion", "random", "-o", output).code == 0
    spaces = {s["name"]: s["irreps"] for s in cli("info", output, "--json").json["spaces"]}
    assert spaces[space] == irreps


def test_elements_keep_the_order_asked_for(cli: Run, tmp_path: Path) -> None:
    assert cli("prune", "toy", "--elements", "O,H", "-o", tmp_path / "out").code == 0
    assert cli("info", tmp_path / "out", "--json").json["elements"] == ["O", "H"]


def test_round_to_makes_every_multiplicity_a_multiple(cli: Run, tmp_path: Path, data: Path) -> None:
    flags = ["--parameters", 0.6, "--round-to", 2, "--data", data]
    assert cli("prune", "toy", *flags, "-o", tmp_path / "out").code == 0
    hidden = cli("info", tmp_path / "out", "--json").json["hidden_irreps"]
    muls = [mul for text in hidden for mul, _ in ep.Irreps.parse(text)]
    assert muls
    assert all(mul % 2 == 0 for mul in muls)


@pytest.mark.slow
def test_lossless_removes_dead_channels_and_proves_it(cli: Run, tmp_path: Path) -> None:
    model = toy_model(tmp_path / "model", kill_a_channel)
    value = cli("prune", model, "--lossless", "-o", tmp_path / "out", "--json").json
    assert value["plan"]["node_feats.0"]["kept"] == {"0e": [0, 1, 3, 4, 5]}
    assert value["plan"]["edge_irreps.0"]["kept"] == {"0e": [0, 1, 2, 4, 5]}
    assert value["lossless"].keys() == {"energy", "forces", "stress"}
    assert all(difference <= 1e-12 for difference in value["lossless"].values())
    parent, child = (ep.load(path, dtype=torch.float64) for path in (model, tmp_path / "out"))
    for a, b in zip(parent.predict(toy_structures(4)), child.predict(toy_structures(4)), strict=True):
        torch.testing.assert_close(a.forces, b.forces, rtol=0, atol=1e-5)  # the child is stored in float32
    assert "Lossless, proven" in cli("prune", model, "--lossless", "-o", tmp_path / "again").out


def test_lossless_with_a_lossy_target_is_refused(refused: Run, tmp_path: Path) -> None:
    model = toy_model(tmp_path / "model", kill_a_channel)
    command = ["prune", model, "--lossless", "--lmax", 0, "-o", tmp_path / "out"]
    refused(*command, says=("not lossless", "Leave out --lossless"))


def test_removing_nothing_is_said(cli: Run, tmp_path: Path) -> None:
    assert "Nothing was removed" in cli("prune", "toy", "--lmax", 1, "-o", tmp_path / "out").out
    assert "needs retraining" in cli("prune", "toy", "--lmax", 0, "-o", tmp_path / "out2").out


@pytest.mark.slow
def test_scores_of_another_file_of_the_same_shape_are_noted(cli: Run, tmp_path: Path) -> None:
    scores = tmp_path / "scores.json"
    assert cli("calibrate", "toy", "--criterion", "magnitude", "-o", scores).code == 0
    flags = ["--channels", 3, "--scores", scores]
    assert cli("prune", "toy", *flags, "-o", tmp_path / "a").err == ""
    assert "another" in cli("prune", toy_model(tmp_path / "model"), *flags, "-o", tmp_path / "b").err
