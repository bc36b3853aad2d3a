"""The models that come with equiprune are found by name, whole, small and licensed; no backend is needed for that."""

import re
import sys
from pathlib import Path

import pytest
from command_line import Run

import equiprune as ep
from equiprune.adapters import adapter_for, adapter_named, aliases
from equiprune.errors import CheckpointError
from equiprune.models import ShippedModel, shipped_model, shipped_models

PARENTS = {
    "7net-compact": "7net-l3i5",
    "7net-mini": "7net-l3i5",
    "mace-mp-compact": "mace-mp-small",
    "nequix-compact": "nequix-oam-1",
}
LARGEST = 12_000_000
"""Bytes that all of them add to the package."""

MODELS = pytest.mark.parametrize("model", shipped_models().values(), ids=lambda model: model.name)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_they_are_known() -> None:
    assert shipped_models().keys() == PARENTS.keys()
    assert PARENTS.keys() <= aliases().keys()


@MODELS
def test_a_name_opens_the_folder_of_that_name(model: ShippedModel) -> None:
    adapter, by_name = ep.read_checkpoint(model.name)
    same, by_path = ep.read_checkpoint(model.folder)
    assert adapter is same
    assert adapter is adapter_named(model.adapter)
    assert by_name.sha256 == by_path.sha256
    assert by_name.source == model.name
    assert ep.read_checkpoint(model.name.upper())[1].sha256 == by_name.sha256


@MODELS
def test_it_was_pruned_from_its_parent_and_trained_since(model: ShippedModel) -> None:
    first, *since = ep.read_checkpoint(model.name)[1].history
    assert (first["step"], first["parent"]) == ("prune", PARENTS[model.name])
    assert {step["step"] for step in since} - {"repair"} == {"train"}


@MODELS
def test_its_licence_is_with_it(model: ShippedModel) -> None:
    checkpoint = ep.read_checkpoint(model.name)[1]
    assert checkpoint.licence == "MIT"
    assert (model.folder / "LICENSE").read_text().startswith(f"{checkpoint.licence} License")


@MODELS
def test_its_record_names_no_folder_of_a_machine(model: ShippedModel) -> None:
    texts = {path.name: path.read_text() for path in model.folder.iterdir() if path.suffix in (".json", ".md")}
    assert [name for name, text in texts.items() if re.search(r"[\"' (]/\w", text)] == []


def test_they_are_small() -> None:
    folder = next(iter(shipped_models().values())).folder.parent
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.suffix != ".pyc") < LARGEST


def test_a_directory_of_the_same_name_comes_first_and_a_file_last(toy: ep.Potential, elsewhere: Path) -> None:
    [name, *_] = shipped_models()
    shipped = ep.read_checkpoint(name)[1].sha256
    (elsewhere / name).write_text("a file")
    assert ep.read_checkpoint(name)[1].sha256 == shipped
    (elsewhere / name).unlink()
    ep.save(toy, elsewhere / name)
    assert shipped_model(name) is None
    assert ep.read_checkpoint(name)[0].name == "toy"


def test_an_unknown_name_is_answered_with_theirs(cli: Run, elsewhere: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"Did you mean '7net-compact'\?.*Known models: .*7net-compact.*7net-mini"
    ):
        adapter_for("7net-compakt")
    assert "Did you mean '7net-mini'?" in cli("info", "7net-mine").err


@MODELS
def test_without_its_backend_it_is_described_and_not_built(
    model: ShippedModel, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for backend in ("sevenn.model_build", "e3nn"):
        monkeypatch.setitem(sys.modules, backend, None)
    assert cli("info", model.name, "--json").json["source"] == model.name
    with pytest.raises(CheckpointError, match=re.escape(f"pip install 'equiprune[{model.adapter}]'")):
        ep.load(model.name)


def test_an_adapter_that_is_named_must_be_theirs() -> None:
    with pytest.raises(CheckpointError, match="'7net-mini' is a model of sevennet, not of mace"):
        ep.read_checkpoint("7net-mini", adapter="mace")


def test_a_recipe_names_them_too(elsewhere: Path) -> None:
    from equiprune.commands.opening import is_missing, model_at, sha256_at

    named = model_at("7net-mini", elsewhere)
    assert named == "7net-mini"
    assert not is_missing(named)
    assert sha256_at(named) == ep.read_checkpoint("7net-mini")[1].sha256
    (elsewhere / "7net-mini").mkdir()
    assert model_at("7net-mini", elsewhere) == str(elsewhere / "7net-mini")
