"""What an earlier version began is gone on with: a run, a file of labels, a calibration (golden, made at adecca9)."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Run
from golden_files import GOLDEN
from runs import RECIPE, assert_same_weights, rows
from test_resuming import assert_identical

import equiprune as ep
from equiprune.errors import OutputError
from equiprune.files.atomic import read_json, write_json
from equiprune.training.arguments import TrainingData
from equiprune.training.objective import Huber, Norm, Term
from equiprune.training.recipe import Recipe
from equiprune.training.trainer import train

OLD = GOLDEN / "run-format-1"
WITH_HESSIAN = replace(RECIPE, objective=replace(RECIPE.objective, hessian=Term(0.5, Norm())))


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run of six steps of twelve, with settings recorded as text."""
    shutil.copytree(OLD / "run", tmp_path / "run")
    return tmp_path / "run"


def go_on(folder: Path, recipe: Recipe = WITH_HESSIAN) -> ep.Potential:
    start = ep.load(OLD / "start", dtype=torch.float64)
    data = list(ep.read_structures(OLD / "labelled.extxyz"))
    data_of = {"data": "labelled.extxyz"}
    return train(start, TrainingData(data[:6], data[6:], fingerprints=data_of), recipe, folder)


@pytest.mark.slow
def test_an_old_run_goes_on_and_ends_in_the_same_bits(begun: Path, tmp_path: Path) -> None:
    """As the same state does in a run that this version has recorded, and as one that was never interrupted.

    The six steps were done on another machine, so that from the first step on there may be other roundings.
    """
    whole = go_on(tmp_path / "whole")
    twin = tmp_path / "twin"
    shutil.copytree(begun, twin)
    shutil.copy(tmp_path / "whole" / "recipe.json", twin / "recipe.json")
    assert "Huber(delta=0.01)" in (begun / "recipe.json").read_text()
    assert "(" not in (twin / "recipe.json").read_text()
    after, expected = go_on(begun), go_on(twin)
    assert_same_weights(after, expected)
    assert rows(begun) == rows(twin)
    states = [torch.load(folder / "state.pt", weights_only=True) for folder in (begun, twin)]
    for state in states:
        del state["state"]["seconds"], state["state"]["recorded"]
    assert_identical(*states)
    for name, weight in after.checkpoint.weights.items():
        torch.testing.assert_close(weight, whole.checkpoint.weights[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("differs", "change"),
    [
        ("recipe.objective.energy.distance.delta", {"energy": Term(1.0, Huber(0.02))}),
        ("recipe.objective.hessian.weight", {"hessian": Term(0.4, Norm())}),
        ("recipe.objective.hessian_samples", {"hessian_samples": 2}),
        ("recipe.objective.stress.six", {"stress": Term(1.0, Huber(), six=True)}),
    ],
)
def test_other_settings_than_an_old_run_s_are_told(differs: str, change: dict[str, Any], begun: Path) -> None:
    with pytest.raises(OutputError, match=rf"other settings \(different: {differs}\)"):
        go_on(begun, replace(WITH_HESSIAN, objective=replace(WITH_HESSIAN.objective, **change)))


def without(*place: str) -> Callable[[Any], None]:
    def change(record: Any) -> None:
        for key in place[:-1]:
            record = record[key]
        del record[place[-1]]

    return change


def renamed(record: Any) -> None:
    record["recipe"]["optimisation"]["schedule"]["kind"] = "Plateau"


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [renamed, without("recipe", "optimisation", "clip"), without("recipe", "objective", "energy", "total")]
)
def test_older_names_and_fields_that_were_not_there_change_nothing(
    change: Callable[[Any], None], begun: Path, tmp_path: Path
) -> None:
    """A record of this version, of a kind that had another name, and of a class without a field that has a default."""
    go_on(tmp_path / "whole", recipe := replace(WITH_HESSIAN, epochs=1))
    record = read_json(tmp_path / "whole" / "recipe.json", "record")
    change(record)
    write_json(tmp_path / "whole" / "recipe.json", record)
    go_on(tmp_path / "whole", recipe)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 3}, "version 3"),
        ({"recipe": {"kind": "recipes"}}, "'recipes' is of no kind"),
        ({"recipe": {"kind": "recipe", "objective": None, "warmth": 3}}, "has no warmth"),
        ({"recipe": {"kind": "recipe"}}, "incomplete"),
    ],
    ids=str,
)
def test_a_record_of_a_later_version_is_refused(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    recipe = replace(WITH_HESSIAN, epochs=1)
    go_on(tmp_path / "run", recipe)
    record = read_json(tmp_path / "run" / "recipe.json", "record")
    write_json(tmp_path / "run" / "recipe.json", record | change)
    with pytest.raises(OutputError, match=rf"recipe\.json' cannot be gone on from.*{says}.*Update equiprune"):
        go_on(tmp_path / "run", recipe)


def test_old_labels_are_gone_on_with(cli: Run, tmp_path: Path) -> None:
    folder = GOLDEN / "labels-format-1"
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    begun = (tmp_path / "labelled.extxyz.partial" / "labelled.extxyz").read_bytes()
    command = ["label", "toy", tmp_path / "bare.extxyz", "-o", tmp_path / "labelled.extxyz", "--copies", 1]
    other = cli(*command, "--strain", 0.06, "--hessian-probes", 2)
    assert (other.code, "another model, data or setting" in other.err) == (2, True)
    ran = cli(*command, "--strain", 0.05, "--hessian-probes", 2, "--json")
    assert (ran.code, ran.json["structures"]) == (0, 8)
    assert (tmp_path / "labelled.extxyz").read_bytes().startswith(begun)


def test_an_old_calibration_is_gone_on_with(tmp_path: Path) -> None:
    folder = GOLDEN / "scores-format-1"
    partial = tmp_path / "scores.json.partial"
    shutil.copy(folder / partial.name, partial)
    record = json.loads(partial.read_text())
    data = folder / "bare.extxyz"
    record["provenance"]["data"] = str(data)  # paths are compared, and this folder has moved
    partial.write_text(json.dumps(record))
    done: list[int] = []
    toy = ep.load("toy", dtype=torch.float64)
    scores = ep.calibrate(toy, data, batch_atoms=1, resume=ep.Resume(partial), progress=done.append)
    assert done[0] == record["sums"]["structures"] > 0
    expected = ep.calibrate(toy, data, batch_atoms=1)
    assert scores.provenance == expected.provenance
    for name, by_irrep in expected.mean.items():
        for ir, values in by_irrep.items():
            torch.testing.assert_close(torch.tensor(scores.mean[name][ir]), torch.tensor(values), rtol=1e-9, atol=0)


def test_old_scores_mean_what_they_meant(toy: ep.Potential) -> None:
    new = ep.data_free_scores(toy, ep.Random(3))
    old = {**new.to_json(), "provenance": {"criterion": "random", "model_sha256": "", "seed": "3"}}
    assert ep.ImportanceScores.from_json(old).provenance["criterion"] == new.provenance["criterion"]
    assert new.provenance["criterion"] == {"kind": "random", "seed": 3}
