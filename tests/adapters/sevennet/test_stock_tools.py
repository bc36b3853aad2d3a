"""Written files open in stock SevenNet tools, in a process that never heard of equiprune."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
import yaml
from exports import PRUNED, SHIPPED
from stock_tools import lammps_input, stock

import equiprune as ep

pytestmark = pytest.mark.usefixtures("plain_code")  # in this process alone: files hold no code

Exported = Mapping[str, Path]
NAMES = pytest.mark.parametrize("name", [*PRUNED, *SHIPPED])


@pytest.fixture(scope="module")
def structures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The probe structures of seven common elements, as a file."""
    path = tmp_path_factory.mktemp("structures") / "probes.extxyz"
    ase.io.write(path, list(ep.probe_structures([1, 6, 8, 11, 14, 17, 29]).values()))
    return path


def ours(name: str, exported: Exported) -> ep.Potential:
    """A shipped model as it is shipped, a pruned one as it was written."""
    return ep.load(name if name in SHIPPED else exported[name])


@dataclass(frozen=True)
class Made:
    """Results of SevenNet's tools: energies (eV) by model, models for LAMMPS, and a folder of training."""

    energies: Mapping[str, list[float]]
    deployed: Path
    trained: Path


@pytest.fixture(scope="module")
def made(exported: Exported, structures: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """By the calculator, by ``sevenn get_model`` (``NAME.pt``, ``parallel``) and ``sevenn train``, in one process."""
    deployed, trained = tmp_path_factory.mktemp("deployed"), tmp_path_factory.mktemp("trained")
    _prepare_training(exported["odd"], trained)
    commands = [
        *((deployed, ["get_model", str(path), "-o", f"{name}.pt"]) for name, path in exported.items()),
        (deployed, ["get_model", str(exported["odd"]), "-p", "-o", "parallel"]),
        (trained, ["train", "input.yaml", "-s"]),
    ]
    return Made(stock(structures, exported, commands), deployed, trained)


@NAMES
def test_the_stock_calculator_opens_it_in_a_fresh_process(
    name: str, exported: Exported, structures: Path, made: Made
) -> None:
    """Same energies to float32 rounding as by equiprune."""
    atoms = ase.io.read(structures, ":")
    predicted = ours(name, exported).predict(atoms)
    for theirs, our, size in zip(made.energies[name], predicted, map(len, atoms), strict=True):
        assert abs(theirs - our.energy.item()) < 1e-5 * size


@NAMES
def test_the_serial_torchscript_for_lammps_agrees(name: str, exported: Exported, structures: Path, made: Made) -> None:
    """Forces are derivatives by the edge vectors, as SevenNet's LAMMPS pair style takes them."""
    serial = torch.jit.load(made.deployed / f"{name}.pt")
    potential = ours(name, exported)
    for atoms in ase.io.read(structures, ":"):
        data = lammps_input(potential, atoms)
        energy = serial(data)["inferred_total_energy"].sum()
        (gradient,) = torch.autograd.grad(energy, [data["edge_vec"]])
        centre, neighbour = data["edge_index"]
        forces = torch.zeros(len(atoms), 3).index_add(0, centre, gradient).index_add(0, neighbour, -gradient)
        [predicted] = potential.predict([atoms])
        assert abs(energy.item() - predicted.energy.item()) < 1e-5 * len(atoms)
        torch.testing.assert_close(forces, predicted.forces, atol=2e-5, rtol=1e-4)


def test_the_parallel_torchscript_for_lammps_agrees(exported: Exported, structures: Path, made: Made) -> None:
    """The segments one after another, on one process that has no ghost atoms."""
    segments = [torch.jit.load(path) for path in sorted((made.deployed / "parallel").glob("*.pt"))]
    potential = ep.load(exported["odd"])
    assert len(segments) == potential.architecture.interactions
    for atoms in ase.io.read(structures, ":"):
        data = lammps_input(potential, atoms)
        data |= {"nlocal": torch.tensor([len(atoms)]), "x_ghost": torch.zeros(0, dtype=torch.int64)}
        for segment in segments:
            data = segment(data)
            data["x_ghost"] = torch.zeros(0, data["x"].shape[1])
        [predicted] = potential.predict([atoms])
        assert abs(data["inferred_total_energy"].sum().item() - predicted.energy.item()) < 1e-5 * len(atoms)


def test_sevenn_train_continues_from_it(exported: Exported, made: Made) -> None:
    """With the ``input.yaml`` written beside it. With a vanishing learning rate, its errors are those we measure."""
    log = (made.trained / "log.sevenn").read_text()
    assert "learnable parameters: 355139" in log
    [line] = [line.split() for line in log.splitlines() if line.startswith("validset ") and "distribution" not in line]
    energy, forces = map(float, line[1:3])
    [accuracy] = ep.evaluate({"odd": ep.load(exported["odd"])}, ase.io.read(made.trained / "valid.extxyz", ":"))
    assert energy == pytest.approx(accuracy.mae("energy") / 1e3, rel=1e-3)
    assert forces == pytest.approx(accuracy.mae("forces") / 1e3, rel=1e-3)


def _prepare_training(path: Path, folder: Path) -> None:
    """One epoch of training that changes nothing."""
    sets = {name: str(_labelled(folder / f"{name}.extxyz", seed)) for seed, name in enumerate(("train", "valid"), 1)}
    recipe = yaml.safe_load(path.with_suffix(".input.yaml").read_text())
    recipe["data"] |= {"load_trainset_path": [sets["train"]], "load_validset_path": [sets["valid"]]}
    recipe["train"] |= {"epoch": 1, "optim_param": {"lr": 1e-12}}
    shutil.copy(path, folder)
    (folder / "input.yaml").write_text(yaml.safe_dump(recipe))


def test_provenance_and_licence_travel_with_the_file(exported: Exported) -> None:
    checkpoint = ep.load(exported["odd"]).checkpoint
    assert checkpoint.licence == "MIT"
    assert [step["step"] for step in checkpoint.history] == ["prune"]
    assert checkpoint.history[0]["parent_sha256"] == ep.load("7net-l3i5").checkpoint.sha256


def test_native_and_upstream_format_hold_the_same_model(exported: Exported, tmp_path: Path) -> None:
    first = ep.load(exported["odd"])
    ep.save(first, tmp_path / "native")
    second = ep.load(tmp_path / "native")
    assert second.architecture == first.architecture
    assert all(torch.equal(w, second.checkpoint.weights[n]) for n, w in first.checkpoint.weights.items())


def _labelled(path: Path, seed: int) -> Path:
    """Displaced probe structures with the parent's energies, forces and stress."""
    generator = np.random.default_rng(seed)
    structures = list(ep.probe_structures([1, 6, 8, 11, 14, 17, 29], seed).values())
    for atoms in structures:
        atoms.positions += 0.05 * generator.standard_normal(atoms.positions.shape)
        atoms.calc = ep.load("7net-0").calculator()
        atoms.get_potential_energy()
    ase.io.write(path, structures)
    return path
