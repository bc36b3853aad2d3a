"""Files that earlier versions wrote, and what may be done to a model description that must then be refused."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from ase.build import molecule

import equiprune as ep
from equiprune.errors import CheckpointError

GOLDEN = Path(__file__).parent / "golden"

OPEN = {"act_scalar", "act_gate", "activation_constants"}
"""Fields whose own keys are no fields."""

Place = tuple[str | int, ...]
"""Keys and indices on the way to a value."""


@dataclass(frozen=True)
class GoldenModel:
    """A native directory and the energy (eV) of a water molecule by the version that wrote it."""

    name: str
    energy: float
    head: str | None = None

    @property
    def path(self) -> Path:
        return GOLDEN / self.name

    @property
    def description(self) -> dict[str, Any]:
        return json.loads((self.path / "architecture.json").read_text())

    def assert_means_the_same(self) -> None:
        """It loads, with every field, and predicts what it predicted."""
        potential = ep.load(self.path, dtype=torch.float64, head=self.head)
        [prediction] = potential.predict([molecule("H2O")])
        assert prediction.energy.item() == pytest.approx(self.energy, abs=1e-9)

    def assert_refused(self, folder: Path, place: Place, change: Any, *says: str) -> None:
        """With one thing changed, the message names the file, the field and every one of the words."""
        changed = self.description
        holder: Any = changed["architecture"]
        for key in place[:-1]:
            holder = holder[key]
        change(holder, place[-1])
        (folder / "architecture.json").write_text(json.dumps(changed))
        for name in ("weights.safetensors", "provenance.json"):
            (folder / name).symlink_to(self.path / name)
        message = refusal(folder)
        for word in (folder / "architecture.json", *place, *says):
            assert str(word) in message, f"{self.name} with {place} {change.__name__}: {message or 'it was read'}"


def places(value: Any, here: Place = ()) -> Iterator[Place]:
    """Where the fields of a description are, also those inside others."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        if isinstance(key, str):
            yield (*here, key)
        if key not in OPEN:
            yield from places(entry, (*here, key))


def objects(value: Any) -> set[Place]:
    """Where there are objects with fields."""
    return {place[:-1] for place in places(value)}


def left_out(holder: dict[str, Any], key: str) -> None:
    del holder[key]


def added(holder: dict[str, Any], key: str) -> None:
    holder[key] = True


def mistyped(holder: dict[str, Any], key: str) -> None:
    """Something that looks like the value: text of a number, a number for a truth value, a list for an object."""
    value = holder[key]
    if isinstance(value, dict):
        holder[key] = list(value)
    elif isinstance(value, bool):
        holder[key] = int(value)
    elif isinstance(value, str):
        holder[key] = 1
    else:
        holder[key] = json.dumps(value)


def refusal(folder: Path) -> str:
    """The message of the error, empty where the model is read."""
    try:
        ep.read_checkpoint(folder)
    except CheckpointError as error:
        return str(error)
    return ""


class NativeFormat:
    """Tests of an architecture's native files: old ones mean what they meant, and no hyperparameter is guessed."""

    golden: tuple[GoldenModel, ...]

    def test_an_old_file_gives_the_energy_it_gave_when_written(self) -> None:
        for model in self.golden:
            model.assert_means_the_same()

    def test_no_field_may_be_missing_or_of_another_type(self, tmp_path: Path) -> None:
        for model in self.golden:
            for place in places(model.description["architecture"]):
                for change in (left_out, mistyped):
                    model.assert_refused(new_folder(tmp_path), place, change)

    def test_no_field_may_be_added(self, tmp_path: Path) -> None:
        for model in self.golden:
            for place in objects(model.description["architecture"]):
                model.assert_refused(new_folder(tmp_path), (*place, "unheard_of"), added)


def new_folder(parent: Path) -> Path:
    """Another empty folder."""
    folder = parent / str(len(list(parent.iterdir())))
    folder.mkdir()
    return folder
