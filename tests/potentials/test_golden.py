"""Files of every past format version still open and still mean the same, and no hyperparameter is guessed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from ase.build import molecule
from golden_files import GOLDEN, GoldenModel, NativeFormat, added

import equiprune as ep
from equiprune.adapters.hyperparameters import hyperparameters_from_json, since
from equiprune.errors import CheckpointError

ENERGY = {"toy-format-1": -15.83295914358574}
"""eV, of an ethanol molecule, by the version that wrote the file."""

FIRST = GoldenModel("toy-format-1", -4.530052659550426)
SECOND = GoldenModel("toy-format-2", 1.6986491670685626)


@pytest.mark.parametrize("name", ENERGY)
def test_an_old_file_gives_the_energy_it_gave_when_written(name: str) -> None:
    potential = ep.load(GOLDEN / name, dtype=torch.float64)
    [prediction] = potential.predict([molecule("CH3CH2OH")])
    assert prediction.energy.item() == pytest.approx(ENERGY[name], abs=1e-10)
    assert potential.checkpoint.licence == "MIT"
    assert [step["step"] for step in potential.checkpoint.history] == ["prune"]


class TestNativeFormat(NativeFormat):
    golden = (FIRST, SECOND)


@pytest.mark.parametrize("golden", [FIRST, SECOND], ids=str)
def test_an_unknown_field_is_named_with_those_that_are_known(golden: GoldenModel, tmp_path: Path) -> None:
    golden.assert_refused(tmp_path, ("attention",), added, "unknown", "Allowed are", "edge_lmax")


def test_the_first_format_did_not_know_the_nearest_neighbours() -> None:
    """Its files may lack what was added since, and only they."""
    assert "max_neighbors" not in FIRST.description["architecture"]
    assert ep.load(FIRST.path).architecture.max_neighbors is None


@dataclass(frozen=True)
class Part:
    width: int
    depth: int = field(default=2, metadata=since(3))


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    name: str = field(default="whole", metadata=since(2))


@pytest.mark.parametrize(
    ("version", "value", "lacks"),
    [
        (1, {"parts": [{"width": 1}]}, ""),
        (2, {"parts": [{"width": 1}], "name": "whole"}, ""),
        (2, {"parts": [{"width": 1}]}, "'name'"),
        (3, {"parts": [{"width": 1, "depth": 2}, {"width": 1}], "name": "whole"}, "'parts.1.depth'"),
        (1, {"parts": [{"depth": 2}]}, "'parts.0.width'"),
    ],
)
def test_only_fields_that_came_later_may_be_missing(version: int, value: dict[str, Any], lacks: str) -> None:
    """Also in what is part of a field; a file that has a field before its time is read."""
    if not lacks:
        assert hyperparameters_from_json(Whole, value, version) == Whole((Part(1),))
        return
    with pytest.raises(CheckpointError, match=rf"field {lacks} is missing, and no value is assumed"):
        hyperparameters_from_json(Whole, value, version)
