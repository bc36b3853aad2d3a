"""Structures and labels that no number could come of are refused, and which one it is is said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from command_line import Run
from toy_files import nan_model, toy_structures, write


def crystal() -> Atoms:
    return toy_structures(1)[0]


def unknown_element() -> Atoms:
    atoms = crystal()
    atoms.numbers[0] = 92
    return atoms


def not_finite(array: str) -> Atoms:
    atoms = crystal()
    getattr(atoms, array)[0, 0] = np.nan if array == "positions" else np.inf
    return atoms


def same_place() -> Atoms:
    atoms = crystal()
    atoms.positions[1] = atoms.positions[0]
    return atoms


BAD_STRUCTURES = {
    "unknown element": (unknown_element, ("U", "does not know", "H, C, O, Si")),
    "NaN position": (lambda: not_finite("positions"), ("Structure 0", "not finite")),
    "infinite cell": (lambda: not_finite("cell"), ("Structure 0", "not finite")),
    "two atoms at one place": (same_place, "same place"),
    "no atoms": (lambda: Atoms(cell=[5, 5, 5], pbc=True), "no atoms"),
    "no volume": (lambda: Atoms("H", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True), ("Structure 0", "cell")),
}


def reading(name: str, data: Path, folder: Path) -> list[object]:
    """A command that reads structures."""
    return {
        "calibrate": ["calibrate", "toy", data, "-o", folder / "out.json"],
        "prune": ["prune", "toy", "--channels", 3, "--data", data, "-o", folder / "out"],
        "evaluate": ["evaluate", "toy", "--data", data],
        "benchmark": ["benchmark", "toy", "--data", data],
    }[name]


@pytest.mark.parametrize("name", ["calibrate", "prune", "evaluate", "benchmark"])
@pytest.mark.parametrize("kind", BAD_STRUCTURES)
def test_bad_structures_are_refused(name: str, kind: str, refused: Run, tmp_path: Path) -> None:
    make, says = BAD_STRUCTURES[kind]
    data = write(tmp_path / "bad.xyz", [make()])
    refused(*reading(name, data, tmp_path), says=says)


@pytest.mark.parametrize("name", ["calibrate", "prune", "evaluate", "benchmark"])
@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("missing.xyz", None, ("No structures at", "missing.xyz", "no such file")),
        ("empty.xyz", "", "empty.xyz"),
        ("prose.xyz", "once upon a time\n", "prose.xyz"),
        ("cut.xyz", "8\n\nH 0 0 0\n", "cut.xyz"),
        ("prose.unknown", "once upon a time\n", "prose.unknown"),
        ("folder", "a directory", ("folder", "holds no structures")),
    ],
)
def test_bad_files_of_structures_are_refused(
    name: str, file: str, text: str | None, says: str, refused: Run, tmp_path: Path
) -> None:
    data = tmp_path / file
    if file == "folder":
        data.mkdir()
    elif text is not None:
        data.write_text(text)
    refused(*reading(name, data, tmp_path), says=says)


def test_a_model_that_gives_nan_is_not_scored(refused: Run, tmp_path: Path, data: Path) -> None:
    model = nan_model(tmp_path / "model")
    refused("calibrate", model, data, "-o", tmp_path / "out.json", says=("not finite", "equiprune certify"))
    labelled = toy_structures(2)
    for atoms in labelled:
        atoms.info["REF_energy"] = -1.0
    refused("evaluate", model, "--data", write(tmp_path / "l.xyz", labelled), says=("not finite", "equiprune certify"))
    refused("export", model, "-o", tmp_path / "out", says=("readout_weight", "NaN", "not written"))


def test_a_model_of_nan_is_called_useless(cli: Run, tmp_path: Path) -> None:
    model = nan_model(tmp_path / "model")
    assert cli("info", model, "--json").json["not_finite"] == ["readout_weight"]
    assert "useless: NaN or infinity in" in cli("info", model).text
    assert "not_finite" not in cli("info", "toy", "--json").json


@pytest.mark.parametrize("quantity", ["energy", "forces", "stress"])
@pytest.mark.parametrize("key", ["{}", "REF_{}"])
def test_nan_labels_are_refused(quantity: str, key: str, refused: Run, tmp_path: Path) -> None:
    atoms = crystal()
    value = {"energy": np.nan, "forces": np.full((8, 3), np.nan), "stress": np.full(6, np.nan)}[quantity]
    if key == "{}":
        atoms.calc = SinglePointCalculator(atoms, **{quantity: value})
    elif quantity == "forces":
        atoms.arrays["REF_forces"] = value
    else:
        atoms.info[f"REF_{quantity}"] = value
    data = write(tmp_path / "nan.xyz", [atoms])
    refused("evaluate", "toy", "--data", data, says=(quantity, "not finite", "C4H4"))


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ({"REF_energy": "low"}, "energy label of C4H4 is not a number"),
        ({"REF_stress": np.ones(5)}, "stress label of C4H4 is not 3 x 3 numbers"),
    ],
)
def test_labels_of_the_wrong_shape_are_refused(label: dict[str, Any], says: str, refused: Run, tmp_path: Path) -> None:
    atoms = crystal()
    atoms.info |= label
    refused("evaluate", "toy", "--data", write(tmp_path / "bad.xyz", [atoms]), says=says)


def test_evaluate_without_any_label_is_refused(refused: Run, data: Path) -> None:
    refused("evaluate", "toy", "--data", data, says=("None of the 6 structures", "label", "REF_energy"))
