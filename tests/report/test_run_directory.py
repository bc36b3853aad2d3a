"""Folders of runs: everything that counts is found, and the rest is left alone."""

import json
import shutil
from pathlib import Path

import pytest
from runs_on_disk import compressed_run, errors, speed, stage, whole_run, write

from equiprune.errors import OutputError
from equiprune.report.results import Benchmark, CertificateFound, Evaluation, recognised
from equiprune.report.run_directory import RunDirectory


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_run(tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.slow
def test_everything_is_found(run: Path) -> None:
    found = RunDirectory.read(run)
    assert [each.place for each in found.stages] == ["benchmark", "certify", "evaluate"]
    assert [each.place for each in found.of(Evaluation)] == ["evaluate"]
    assert [each.place for each in found.of(Benchmark)] == ["benchmark"]
    assert found.of(CertificateFound)[0].content.passed
    assert [each.place for each in found.scores] == ["calibrate/scores"]
    assert found.curves[0].content["validation_forces"] == [None, 0.45]
    assert found.result is not None
    assert found.result.content.elements == (1, 6, 8, 14)
    assert found.names_of_result == {"prune"}
    assert found.data_of("evaluate") == "mine.extxyz"


def test_models_have_the_names_of_places_also_after_a_move(run: Path, tmp_path: Path) -> None:
    before = str(run / "prune" / "model")
    assert RunDirectory.read(run).name_of(before) == "prune"
    moved = shutil.copytree(run, tmp_path / "elsewhere")
    assert RunDirectory.read(moved).name_of(before) == "prune"
    assert RunDirectory.read(moved).name_of("7net-0") == "7net-0"


def test_models_in_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """As ``compress`` leaves them: 'model' is a copy of 'train/run/model', and a path elsewhere is neither."""
    before = compressed_run(tmp_path / "before")
    found = RunDirectory.read(before)
    names = {"model": "model", "prune/model": "prune", "train/run/model": "train", "train/run/last": "train/run/last"}
    assert {each.place: found.name_of(each.place) for each in found.models} == names
    after = Path(shutil.move(before, tmp_path / "after"))
    for run, recorded in ((found, before), (RunDirectory.read(after), before), (RunDirectory.read(after), after)):
        assert {place: run.name_of(str(recorded / place)) for place in names} == names
        assert run.name_of("/home/me/other/model") == "/home/me/other"
        assert run.names_of_result == {"model", "train", "train/run/last"}


def test_runs_of_a_study_keep_their_models_apart(tmp_path: Path) -> None:
    first, second = (compressed_run(tmp_path / name) for name in ("first", "second"))
    study = tmp_path / "study"
    study.mkdir()
    for run, name in ((first, "one"), (second, "two")):
        shutil.move(run, study / name)
    found = RunDirectory.read(study)
    assert found.place_of(str(first / "train" / "run" / "model")) == "one/train/run/model"
    assert found.place_of(str(second / "model")) == "two/model"
    assert found.place_of("study/one/model") == "one/model"


def test_what_was_set_aside_or_belongs_to_a_stage_counts_once(tmp_path: Path) -> None:
    stage(tmp_path / "evaluate", ["evaluate"], [errors("a", 1.0)])
    stage(tmp_path / "evaluate.1", ["evaluate"], [errors("a", 99.0)])
    write(tmp_path / "evaluate" / "more" / "copy.json", [errors("a", 1.0)])
    write(tmp_path / "mine.json", [speed("a", 10.0)])
    found = RunDirectory.read(tmp_path)
    assert [each.place for each in found.results] == ["evaluate", "mine"]
    assert found.of(Evaluation)[0].content.models[0].forces_mae == 1.0


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", "null", '{"models": []}', '[{"model": "a"}]', "[" * 100_000, '{"plan": {"x": 1}}'],
)
def test_other_json_is_no_result(text: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(text)
    (tmp_path / "architecture.json").write_text(text)
    with pytest.raises(OutputError, match=r"Nothing in '.*' is a result of equiprune"):
        RunDirectory.read(tmp_path)
    write(tmp_path / "good.json", [errors("a", 1.0)])
    assert len(RunDirectory.read(tmp_path).results) == 1


def test_bytes_that_are_no_text_and_curves_that_are_none_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe\x00")
    for name, text in {"a": "", "b": "step\n", "c": "x,y\n1,2\n", "d": "step,loss\n1,two\n", "e": "\x00"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "curve.csv").write_text(text)
    with pytest.raises(OutputError, match="Nothing in"):
        RunDirectory.read(tmp_path)


def test_stages_that_did_not_end_are_named(tmp_path: Path) -> None:
    stage(tmp_path / "evaluate", ["evaluate"], [errors("a", 1.0)])
    write(tmp_path / "train" / "stage.json", {"format": "equiprune-stage-1", "command": ["equiprune", "train"]})
    assert RunDirectory.read(tmp_path).unfinished == ["train"]


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is no folder"):
        RunDirectory.read(tmp_path / "absent")


def test_results_of_real_commands_are_recognised(run: Path) -> None:
    """JSON from the writers of this version, not only written by hand."""
    value = json.loads((run / "certify" / "result.json").read_text())
    found = recognised(value)
    assert isinstance(found, CertificateFound)
    assert found.value("masked_vs_sliced.energy") == value["masked_vs_sliced"]["energy"]
    assert found.value("stored_weights") == value["stored_weights"]
    assert found.value("absent.energy") is None
