"""Runs that cannot be gone on with, or make no sense, are refused, and not a byte is changed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from command_line import contents
from runs import RECIPE, labelled, moved, parent, plain, run, student

import equiprune as ep
from equiprune.errors import CheckpointError, EquipruneError, OutputError, StructureError, TargetError
from equiprune.training.objective import mace_universal
from equiprune.training.optimisation import Constant


@contextmanager
def refused(folder: Path, error: type[EquipruneError], *says: str) -> Iterator[None]:
    """One message with all of the words, and not a byte in the folder changed."""
    before = contents(folder)
    with pytest.raises(error) as refusal:
        yield
    for word in says:
        assert word in str(refusal.value)
    assert contents(folder) == before


# Another run.


@pytest.mark.parametrize(
    ("differs", "changes"),
    [
        ("recipe.epochs", {"recipe": replace(RECIPE, epochs=4)}),
        ("recipe.batch_size", {"recipe": replace(RECIPE, batch_size=4)}),
        ("recipe.seed", {"recipe": replace(RECIPE, seed=3)}),
        ("recipe.patience", {"recipe": replace(RECIPE, patience=3)}),
        ("recipe.objective.forces.weight", {"recipe": replace(RECIPE, objective=mace_universal(forces=5.0))}),
        ("recipe.objective.energy.distance", {"recipe": replace(RECIPE, objective=mace_universal(delta=0.1))}),
        (
            "recipe.optimisation.learning_rate",
            {"recipe": replace(RECIPE, optimisation=replace(RECIPE.optimisation, learning_rate=1e-4))},
        ),
        (
            "recipe.optimisation.schedule",
            {"recipe": replace(RECIPE, optimisation=replace(RECIPE.optimisation, schedule=Constant()))},
        ),
        (
            "recipe.optimisation.rates",
            {"recipe": replace(RECIPE, optimisation=replace(RECIPE.optimisation, rates={}))},
        ),
        ("structures", {"structures": labelled()[:7]}),
        ("structures", {"structures": labelled(2)}),
        ("validation", {"validation": labelled(2)[:4]}),
        ("validation", {"validation": ()}),
        ("data", {"fingerprints": {"data": "1234"}}),
        ("weights", {"potential": moved(student(), "readout_weight", 0, 1e-9)}),
        ("dtype", {"potential": student().with_dtype(torch.float32)}),
    ],
)
def test_another_run_is_not_gone_on_with(differs: str, changes: dict[str, Any], stopped: Path) -> None:
    with refused(stopped, OutputError, str(stopped), "other settings", differs, "choose another folder"):
        run(stopped, **changes)


def test_another_head_is_not_gone_on_with(tmp_path: Path) -> None:
    architecture = replace(student().architecture, heads=("PBE", "r2SCAN"))
    checkpoint = replace(student().checkpoint, architecture=architecture)
    one, other = (ep.Potential.create(student().adapter, checkpoint, torch.float64, head) for head in ("PBE", "r2SCAN"))
    run(tmp_path / "run", replace(RECIPE, epochs=1), potential=one)
    with refused(tmp_path, OutputError, "(different: head)"):
        run(tmp_path / "run", replace(RECIPE, epochs=1), potential=other)


def test_only_what_differs_is_named(stopped: Path) -> None:
    with refused(stopped, OutputError, "(different: recipe.epochs, recipe.seed)"):
        run(stopped, replace(RECIPE, epochs=4, seed=1))


# Damaged and foreign folders.


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_damaged_state_is_refused(content: bytes | None, stopped: Path) -> None:
    path = stopped / "state.pt"
    path.write_bytes(path.read_bytes()[:-1000] if content is None else content)
    with refused(stopped, CheckpointError, str(path), "damaged", "Remove it"):
        run(stopped)


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_a_damaged_description_is_refused(text: str, stopped: Path) -> None:
    (stopped / "recipe.json").write_text(text)
    with refused(stopped, EquipruneError, str(stopped)):
        run(stopped)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    ep.save(parent(), folder / "model")
    with refused(tmp_path, OutputError, str(folder), "holds model", "Choose another folder"):
        run(folder)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for folder in (Path("/proc/run"), tmp_path / "file", tmp_path / "file" / "run"):
        with refused(tmp_path, OutputError, str(folder), "cannot be written"):
            run(folder)


# What makes no sense.


def test_patience_without_validation_is_refused(tmp_path: Path) -> None:
    with refused(tmp_path, TargetError, "Patience", "validation"):
        run(tmp_path / "run", replace(RECIPE, patience=1), validation=())


def test_validation_structures_need_labels_too(tmp_path: Path) -> None:
    bare = [Atoms(numbers=a.numbers, positions=a.positions, cell=a.cell, pbc=a.pbc) for a in labelled()[:2]]
    with refused(tmp_path, StructureError, "for validation", "label of its energy"):
        run(tmp_path / "run", validation=bare)


def test_a_pattern_that_matches_nothing_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    recipe = replace(RECIPE, optimisation=plain(rates={"readouts.*": 0.0}))
    with refused(tmp_path, TargetError, "'readouts.*'"):
        run(tmp_path / "run", recipe)


def test_a_masked_potential_is_refused(tmp_path: Path) -> None:
    """Or its parent would be trained in its place."""
    masked = ep.masked(parent(), ep.allocate(parent(), [ep.Lmax(0)]))
    with refused(tmp_path, TargetError, "masked potential"):
        run(tmp_path / "run", potential=masked)


@pytest.mark.parametrize(("name", "value"), [("epochs", 0), ("batch_size", 0), ("save_every", 0), ("patience", -1)])
def test_impossible_recipes_are_refused(name: str, value: int) -> None:
    with pytest.raises(TargetError, match=f"{name.replace('_', ' ')} {value} is not possible"):
        replace(RECIPE, **{name: value})
