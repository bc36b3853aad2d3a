"""Models that come with equiprune, exported, are the same in SevenNet's own tools; commands open them by name."""

from pathlib import Path

import ase.io
import pytest
import torch
from command_line import Run
from stock_tools import lammps_input, run_sevenn, stock_energies_of

import equiprune as ep
from equiprune.models import shipped_models

pytestmark = pytest.mark.usefixtures("plain_code")  # in this process alone: files hold no code

SHIPPED = [name for name, model in shipped_models().items() if model.adapter == "sevennet"]
NAMES = pytest.mark.parametrize("name", SHIPPED)


@pytest.fixture(scope="module")
def structures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The probe structures of seven common elements, as a file, with labels of the parent."""
    path = tmp_path_factory.mktemp("structures") / "probes.extxyz"
    probes = list(ep.probe_structures([1, 6, 8, 11, 14, 17, 29]).values())
    ase.io.write(path, list(ep.label(ep.load("7net-0"), probes)))
    return path


@pytest.fixture(scope="module")
def exported(cli: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every shipped model as a file for SevenNet's tools, by ``equiprune export``."""
    folder = tmp_path_factory.mktemp("exported")
    files = {name: folder / f"{name}.pth" for name in SHIPPED}
    for name, file in files.items():
        ran = cli("export", name, "-o", file)
        assert ran.code == 0, ran.err
    return files


@pytest.fixture(scope="module")
def stock_energies(exported: dict[str, Path], structures: Path) -> dict[str, list[float]]:
    """By the stock calculator in a fresh process, which has opened all files."""
    return dict(zip(exported, stock_energies_of(structures, list(exported.values())), strict=True))


@NAMES
def test_the_stock_calculator_gives_the_energies_of_the_shipped_model(
    name: str, structures: Path, stock_energies: dict[str, list[float]]
) -> None:
    atoms = ase.io.read(structures, ":")
    ours = ep.load(name).predict(atoms)
    for theirs, our, size in zip(stock_energies[name], ours, map(len, atoms), strict=True):
        assert abs(theirs - our.energy.item()) < 1e-5 * size


@pytest.fixture(scope="module")
def deployed(exported: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the files for LAMMPS, by ``sevenn get_model``."""
    folder = tmp_path_factory.mktemp("deployed")
    run_sevenn(*(["get_model", str(path), "-o", str(folder / f"{name}.pt")] for name, path in exported.items()))
    return folder


@NAMES
def test_lammps_gets_the_energies_of_the_shipped_model(name: str, deployed: Path, structures: Path) -> None:
    serial, shipped = torch.jit.load(deployed / f"{name}.pt"), ep.load(name)
    for atoms in ase.io.read(structures, ":"):
        energy = serial(lammps_input(shipped, atoms))["inferred_total_energy"].sum()
        assert abs(energy - shipped.predict([atoms])[0].energy) < 1e-5 * len(atoms)


@NAMES
def test_licence_and_history_travel(name: str, exported: dict[str, Path]) -> None:
    shipped, opened = ep.load(name).checkpoint, ep.load(exported[name]).checkpoint
    assert (opened.licence, opened.history) == (shipped.licence, shipped.history)
    child = ep.prune(ep.load(name), ep.allocate(ep.load(name), [ep.Elements.parse("H,O")]))
    assert child.checkpoint.licence == shipped.licence
    assert child.checkpoint.history[-1]["parent"] == name


def test_every_command_that_takes_a_model_takes_its_name(cli: Run, structures: Path, tmp_path: Path) -> None:
    name = "7net-mini"
    lines = [
        ("calibrate", name, structures, "-o", tmp_path / "scores.json"),
        ("prune", name, "-o", tmp_path / "water", "--elements", "H,O"),
        ("certify", tmp_path / "water", "--parent", name, "--nve-steps", 1),
        ("label", name, structures, "-o", tmp_path / "labelled.extxyz"),
        ("evaluate", name, "--data", structures),
        ("benchmark", name, "--data", structures, "--repeats", 1),
        ("train", name, "--data", structures, "-o", tmp_path / "run", "--epochs", 1),
    ]
    for line in lines:
        ran = cli(*line)
        assert ran.code == 0, (line, ran.err)
