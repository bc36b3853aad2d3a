"""Training on features of the parent, on the command line and in a pipeline."""

from pathlib import Path

import pytest
from command_line import Run
from runs import rows

import equiprune as ep
from equiprune.files.settings import to_json
from equiprune.training.objective import FeatureTerm

STRUCTURES = Path(__file__).parents[3] / "examples" / "structures.extxyz"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    parent = ep.load("toy")
    child = ep.prune(parent, ep.allocate(parent, [ep.Channels(4)], ep.data_free_scores(parent, ep.Magnitude())))
    ep.save(child, tmp_path / "small")
    return tmp_path / "small"


@pytest.mark.slow
def test_first_block_by_block_then_with_labels(cli: Run, small: Path, tmp_path: Path) -> None:
    output = tmp_path / "labelled.extxyz"
    assert cli("label", "toy", STRUCTURES, "-o", output).code == 0
    alone = ["--energy-weight", 0, "--forces-weight", 0, "--stress-weight", 0, "--block-by-block"]
    of_parent = ["--features-weight", 1, "--parent", "toy", "--learning-rate", 1e-2]
    first = cli("train", small, "--data", STRUCTURES, "-o", tmp_path / "first", *of_parent, *alone, "--epochs", 3)
    assert first.code == 0
    losses = [float(row["train_features"]) for row in rows(tmp_path / "first")]
    assert losses[-1] < losses[0]
    assert {row["train_forces"] for row in rows(tmp_path / "first")} == {""}
    model = tmp_path / "first" / "model"
    assert cli("train", model, "--data", output, "-o", tmp_path / "second", *of_parent, "--epochs", 1).code == 0
    history = ep.load(tmp_path / "second" / "model").checkpoint.history
    terms = [step["recipe"]["objective"]["features"] for step in history[1:]]
    assert terms == [to_json(FeatureTerm(1.0, block_by_block=True)), to_json(FeatureTerm(1.0))]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--features-weight", 1], ("--features-weight", "--parent", "give both")),
        (["--parent", "toy"], ("--features-weight", "--parent", "give both")),
        (["--block-by-block"], ("--block-by-block", "--features-weight")),
        (["--features-weight", -1, "--parent", "toy"], ("weight of -1", "0 or a positive number")),
    ],
)
def test_what_cannot_be_is_refused(
    flags: list[object], says: tuple[str, ...], refused: Run, small: Path, tmp_path: Path
) -> None:
    refused("train", small, "--data", STRUCTURES, "-o", tmp_path / "run", *flags, says=says)


def test_another_model_than_the_parent_is_refused(refused: Run, cli: Run, small: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    ep.save(ep.from_scratch(ep.load("toy"), 3), other)
    flags = ["--features-weight", 1, "--energy-weight", 0, "--forces-weight", 0, "--stress-weight", 0]
    says = ("other", "is not the model that", "pruned from", "it comes from 'toy'")
    refused("train", small, "--data", STRUCTURES, "-o", tmp_path / "run", *flags, "--parent", other, says=says)


@pytest.mark.slow
@pytest.mark.usefixtures("launched")
def test_a_stage_takes_the_model_of_the_recipe_as_its_parent(cli: Run, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    weights = "energy_weight: 0, forces_weight: 0, stress_weight: 0"
    recipe.write_text(
        "model: toy\n"
        "stages:\n"
        "  - prune: {channels: 4, criterion: magnitude}\n"
        f"  - train: {{data: {STRUCTURES}, features_weight: 1, {weights}, epochs: 1}}\n"
    )
    ran = cli("run", recipe, "-o", tmp_path / "pipeline")
    assert ran.code == 0, ran.err
    trained = ep.load(tmp_path / "pipeline" / "train" / "run" / "model")
    assert trained.checkpoint.history[-1]["data"]["parent"] == ep.load("toy").checkpoint.sha256
