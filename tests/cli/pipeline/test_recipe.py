"""Recipes as data: what a file says, what a stage takes from those before it, and what is refused."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

from equiprune.cli import app
from equiprune.cli.pipeline.recipe import parse_pipeline
from equiprune.cli.results import SHOWN
from equiprune.cli.words import flags_of
from equiprune.commands.keys import keys_of
from equiprune.commands.options.values import Complete
from equiprune.commands.sharing import SharedRequest
from equiprune.commands.stages import PARENT, From, Mark, Product, Step
from equiprune.commands.wiring import resolve
from equiprune.errors import RecipeError

COMMANDS = (
    "convert",
    "crystals",
    "label",
    "calibrate",
    "search",
    "prune",
    "repair",
    "certify",
    "train",
    "evaluate",
    "benchmark",
    "doctor",
    "discovery",
    "md",
    "properties",
    "report",
    "stability",
    "export",
    "info",
)
REQUESTS = {request.command(): request for request in SHOWN}
KEYS = {command: keys_of(request) for command, request in REQUESTS.items()}


def steps(*stages: str) -> dict[str, Step]:
    text = "model: toy\nstages:\n" + "".join(f"  - {stage}\n" for stage in stages)
    return {step.name: step for step in resolve(parse_pipeline(text, COMMANDS).stages, REQUESTS)}


def test_every_request_can_be_a_stage() -> None:
    assert (
        REQUESTS.keys()
        == set(COMMANDS)
        == {name for name in app if not name.startswith("-")} - {"run", "demo", "compress"}
    )


def test_every_scalar_is_text_as_on_a_command_line() -> None:
    """YAML would make of these: false, a float, a date, an octal number, a sexagesimal one, nothing."""
    given = ["No", "1.0", "2026-01-01", "010", "1:30", "null"]
    [stage] = parse_pipeline(f"{{model: toy, stages: [prune: {{elements: [{', '.join(given)}]}}]}}", COMMANDS).stages
    assert stage.settings["elements"] == tuple(given)


def test_a_key_may_be_written_as_its_flag() -> None:
    [stage] = parse_pipeline("{model: toy, stages: [prune: {edge-lmax: 2}]}", COMMANDS).stages
    assert stage.settings == {"edge_lmax": ("2",)}


def test_yaml_s_own_shorthands_work() -> None:
    text = """
model: toy
stages:
  - train: &how {name: a, data: x.xyz, epochs: 3}
  - train: {<<: *how, name: b, epochs: 5}
  - info
  - benchmark:
"""
    a, b, *rest = parse_pipeline(text, COMMANDS).stages
    assert a.settings == {"data": ("x.xyz",), "epochs": ("3",)}
    assert b.settings == {"data": ("x.xyz",), "epochs": ("5",)}
    assert [(stage.name, stage.settings) for stage in rest] == [("info", {}), ("benchmark", {})]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'model' and 'stages'; this file has nothing"),
        ("# only a comment", "this file has nothing"),
        ("- a", "something else"),
        ("model: toy", "'model' and 'stages'; this file has model"),
        ("{model: toy, stages: [info], epochs: 3}", "this file has model, stages, epochs"),
        ("{model: '', stages: [info]}", "'model' is an alias"),
        ("{model: [toy], stages: [info]}", "'model' is an alias"),
        ("{model: toy, stages: []}", "'stages' is a list"),
        ("{model: toy, stages: {info: }}", "'stages' is a list"),
        ("model: toy\nstages: [\n", "line 3, column 1"),
        ("model: toy\n\tstages: x", "line 2"),
        ("{model: toy, stages: [prune: {lmax: 1, lmax: 2}]}", "the key 'lmax' is there twice"),
        ("{model: toy, model: toy, stages: [info]}", "the key 'model' is there twice"),
        ("{model: toy, stages: [prune: {edge-lmax: 1, edge_lmax: 2}]}", "'edge_lmax' is there twice"),
        ("{model: !!python/object/apply:os.getcwd [], stages: [info]}", "could not determine a constructor"),
        ("{model: toy, stages: [*never]}", "undefined alias 'never'"),
        ("{model: toy, stages: [{prune: {}, train: {}}]}", "Stage 1 is not one command"),
        ("{model: toy, stages: [[prune]]}", "Stage 1 is not one command"),
        ("{model: toy, stages: [info, prun: {lmax: 2}]}", "Stage 2: there is no stage 'prun'. Did you mean 'prune'?"),
        ("{model: toy, stages: [run: {}]}", "there is no stage 'run'"),
        ("{model: toy, stages: [prune: 2]}", "Stage 1 (prune): settings are keys and values"),
        ("{model: toy, stages: [prune: {lmax: }]}", "'lmax' needs a value"),
        ("{model: toy, stages: [prune: {lmax: []}]}", "'lmax' needs a value"),
        ("{model: toy, stages: [prune: {lmax: {a: 1}}]}", "'lmax' needs a value"),
        ("{model: toy, stages: [info, info]}", "Two stages are called 'info'"),
        ("{model: toy, stages: [info: {name: parent}]}", "'parent' cannot be its name"),
        ("{model: toy, stages: [info: {name: ../a}]}", "'../a' cannot be its name"),
        ("{model: toy, stages: [info: {name: a.1}]}", "'a.1' cannot be its name"),
    ],
)
def test_what_is_no_recipe_is_refused(text: str, says: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(says)):
        parse_pipeline(text, COMMANDS)


def test_stages_take_the_newest_there_is() -> None:
    found = steps(
        "label: {data: a.xyz}",
        "calibrate: {data: a.xyz}",
        "prune: {lmax: 1}",
        "certify",
        "train: {name: retrain}",
        "train: {name: finetune, data: b.xyz}",
        "stability: {data: a.xyz}",
        "evaluate: {data: c.xyz}",
        "export: {output: small.pth}",
    )
    parent, prune, retrain, finetune = ((From(name),) for name in (PARENT, "prune", "retrain", "finetune"))
    assert found["label"].values["model"] == found["calibrate"].values["model"] == found["prune"].values["model"]
    assert found["prune"].values["model"] == parent
    assert found["prune"].values["scores"] == (From("calibrate"),)
    assert (found["certify"].values["model"], found["certify"].values["parent"]) == (prune, parent)
    assert (found["retrain"].values["model"], found["retrain"].values["data"]) == (prune, (From("label"),))
    assert (found["finetune"].values["model"], found["finetune"].values["data"]) == (retrain, ("b.xyz",))
    assert (found["stability"].values["before"], found["stability"].values["after"]) == (prune, finetune)
    assert found["evaluate"].values["models"] == (*parent, *prune, *retrain, *finetune)
    assert found["export"].values["model"] == finetune
    assert (found["retrain"].product, found["retrain"].keeps) == ("run/model", "run")


def test_the_teacher_is_the_parent_also_after_pruning() -> None:
    assert steps("prune: {lmax: 1}", "label: {data: a.xyz}")["label"].values["model"] == (From(PARENT),)


def test_structures_without_labels_are_labelled_and_scored_and_not_trained_on_by_themselves() -> None:
    found = steps(
        "label: {name: own, data: a.xyz}",
        "crystals: {elements: [Si, O]}",
        "label: {data: crystals}",
        "calibrate: {data: crystals}",
        "crystals: {name: others, elements: C}",
        "train",
    )
    assert found["label"].values["data"] == found["calibrate"].values["data"] == (From("crystals"),)
    assert found["crystals"].values == {"elements": ("Si", "O"), "output": ("start.extxyz",)}
    assert found["train"].values["data"] == (From("label"),)


def test_there_is_no_student_unless_it_is_named() -> None:
    stages = ("prune: {lmax: 1}", "label: {data: a.xyz}", "label: {name: b, data: a.xyz, student: prune, frames: 1}")
    found = steps(*stages)
    assert found["label"].values.keys() == {"data", "model", "output"}
    assert (found["b"].values["model"], found["b"].values["student"]) == ((From(PARENT),), (From("prune"),))
    assert found["b"].upstream == {"prune"}


def test_scores_are_only_taken_for_the_model_they_are_of() -> None:
    calibrate, prune = "calibrate: {data: a.xyz}", "prune: {name: first, lmax: 1}"
    again = steps(calibrate, prune, "prune: {name: second, lmax: 0}")
    assert "scores" not in again["second"].values
    other = steps(calibrate, prune, "prune: {name: second, lmax: 0, model: parent}")
    assert other["second"].values["scores"] == (From("calibrate"),)
    assert "scores" not in steps(calibrate, "prune: {channels: 2, criterion: magnitude}")["prune"].values


def test_a_stage_is_named_where_another_than_the_newest_is_meant() -> None:
    found = steps(
        "prune: {name: wide, lmax: 1}",
        "prune: {name: narrow, model: parent, lmax: 0}",
        "label: {name: own, data: x.xyz}",
        "label: {name: held_out, data: y.xyz}",
        "train: {model: wide, data: own, validation: held_out}",
        "evaluate: {models: [parent, ./wide, wide], data: held_out}",
    )
    assert found["train"].values["model"] == (From("wide"),)
    assert found["train"].values["validation"] == (From("held_out"),)
    assert found["evaluate"].values["models"] == (From(PARENT), "./wide", From("wide"))


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        (["train: {data: label}", "label: {data: x.xyz}"], "data is 'label', a stage that does not come before it"),
        (["train: {data: train}"], "data is 'train', a stage that does not come before it"),
        (
            ["crystals: {elements: Si}", "train: {data: crystals}"],
            "'crystals', a stage that gives structures without lab",
        ),
        (["prune: {lmax: 1}", "train: {data: prune}"], "data is 'prune', a stage that gives a model. Write './prune'"),
        (["info", "train: {data: x.xyz, model: info}"], "model is 'info', a stage that gives nothing"),
        (["prune: {lmax: 1}", "train: {data: x.xyz, replay: prune}"], "replay is 'prune', a stage that gives a model"),
        (
            ["label: {data: x}", "label: {name: b, data: x, student: label}"],
            "student is 'label', a stage that gives lab",
        ),
        (["prune: {lmax: 1}", "prune: {name: b, plan: prune}"], "plan is 'prune', a stage that gives a model"),
        (["label: {data: x}", "stability: {data: x, after: label}"], "after is 'label', a stage that gives labelled"),
        (["prune: {lmx: 1}"], "Stage 'prune': prune has no key 'lmx'. Did you mean 'lmax'? Keys: adapter, basis_lmax,"),
        (["info: {json: true}"], "leave out 'json'; every stage writes result.json"),
    ],
)
def test_what_cannot_be_meant_is_refused(stages: list[str], says: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(says)):
        steps(*stages)


def test_a_repair_takes_the_newest_structures_and_both_models() -> None:
    found = steps("crystals: {elements: Si}", "prune: {channels: 4}", "repair: {}", "label: {data: crystals}", "train")
    assert found["repair"].values["model"] == (From("prune"),)
    assert found["repair"].values["parent"] == (From(PARENT),)
    assert found["repair"].values["data"] == (From("crystals"),)
    assert found["train"].values["model"] == (From("repair"),)


def test_fields_say_what_they_take_write_and_leave_unrecorded() -> None:
    written = {(command, key.name) for command, keys in KEYS.items() for key in keys.values() if key.written}
    assert written == {
        (c, "output")
        for c in (
            "convert",
            "crystals",
            "label",
            "calibrate",
            "search",
            "prune",
            "repair",
            "certify",
            "train",
            "export",
            "discovery",
            "md",
            "properties",
            "report",
        )
    } | {("benchmark", "plot"), ("calibrate", "plot"), ("export", "lammps"), ("search", "plot")}
    train = KEYS["train"].values()
    unrecorded = {key.name for key in train if Mark.UNRECORDED in key.marks}
    assert unrecorded == {"cache", "workers", "tensorboard", "wandb"}
    assert {key.name for key in train if key.reads} == {
        *("model", "parent", "data", "validation", "replay", "references")
    }
    models = {(command, key.name) for command, keys in KEYS.items() for key in keys.values() if key.model}
    assert models == {
        (c, "model")
        for c in COMMANDS
        if c
        not in (
            *("convert", "crystals", "evaluate", "benchmark", "doctor", "discovery", "md", "properties", "report"),
            "stability",
        )
    } | {
        ("doctor", "time"),
        ("certify", "parent"),
        ("repair", "parent"),
        ("train", "parent"),
        ("label", "student"),
        ("label", "second_teacher"),
        ("evaluate", "models"),
        ("benchmark", "models"),
        ("discovery", "models"),
        ("md", "models"),
        ("properties", "models"),
        ("stability", "before"),
        ("stability", "after"),
    }
    assert KEYS["prune"]["scores"].takes.products == {Product.SCORES}


def test_words_of_a_key_that_names_files_are_no_files() -> None:
    assert {word for word in KEYS["train"]["references"].types if isinstance(word, str)} == {"keep", "refit"}
    labels, words = "label: {name: keep, data: a.xyz}", ("keep", "refit", "own.json", "atoms")
    for word in words:
        found = steps(labels, "label: {name: atoms, data: b.xyz}", f"train: {{references: {word}}}")
        assert found["train"].values["references"] == ((From("atoms"),) if word == "atoms" else (word,))


@pytest.mark.parametrize("command", COMMANDS)
def test_keys_are_the_arguments_of_the_command_line(command: str) -> None:
    flags = {name: flag if flag.startswith("--") else "" for name, flag in flags_of(app, command).items()}
    own = {"json": "--json"} | ({"dry_run": "--dry-run"} if issubclass(REQUESTS[command], SharedRequest) else {})
    assert {key.name: key.flag for key in KEYS[command].values()} | own == flags


def test_a_flag_of_several_files_is_both() -> None:
    @dataclass(frozen=True)
    class Mix(Complete):
        data: Annotated[list[Path] | None, "of any kind"] = None

    assert keys_of(Mix)["data"].types >= {list, Path}
