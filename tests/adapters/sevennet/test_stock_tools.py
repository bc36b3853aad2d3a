"""What equiprune writes opens in stock SevenNet tools, in processes that never heard of equiprune."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
import yaml
from conftest import EXPORTS
from stock_tools import lammps_input, run_sevenn, stock_energies_of

import equiprune as ep

pytestmark = pytest.mark.usefixtures("plain_code")  # in this process alone: files hold no code

Export = Callable[[str], Path]
NAMES = pytest.mark.parametrize("name", EXPORTS)


@pytest.fixture(scope="module")
def structures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The probe structures of seven common elements, as a file."""
    path = tmp_path_factory.mktemp("structures") / "probes.extxyz"
    ase.io.write(path, list(ep.probe_structures([1, 6, 8, 11, 14, 17, 29]).values()))
    return path


@pytest.fixture(scope="module")
def stock_energies(exported: Export, structures: Path) -> Mapping[str, list[float]]:
    """By the stock calculator in a fresh process, which has opened all files."""
    return dict(zip(EXPORTS, stock_energies_of(structures, [exported(name) for name in EXPORTS]), strict=True))


@NAMES
def test_the_stock_calculator_opens_it_in_a_fresh_process(
    name: str, exported: Export, structures: Path, stock_energies: Mapping[str, list[float]]
) -> None:
    """Same energies to float32 rounding as the file re-opened by equiprune."""
    atoms = ase.io.read(structures, ":")
    ours = ep.load(exported(name)).predict(atoms)
    for theirs, our, size in zip(stock_energies[name], ours, map(len, atoms), strict=True):
        assert abs(theirs - our.energy.item()) < 1e-5 * size


SERIAL = ["odd", "single-head"]  # SevenNet-0's irreps are those of a shipped model


@pytest.fixture(scope="module")
def deployed(exported: Export, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models for LAMMPS, by ``sevenn get_model``: ``NAME.pt``, and the segments of ``parallel``."""
    folder = tmp_path_factory.mktemp("deployed")
    serial = [["get_model", str(exported(name)), "-o", str(folder / f"{name}.pt")] for name in SERIAL]
    run_sevenn(*serial, ["get_model", str(exported("odd")), "-p", "-o", str(folder / "parallel")])
    return folder


@pytest.mark.parametrize("name", SERIAL)
def test_the_serial_torchscript_for_lammps_agrees(
    name: str, exported: Export, structures: Path, deployed: Path
) -> None:
    """Forces are derivatives by the edge vectors, as SevenNet's LAMMPS pair style takes them."""
    serial = torch.jit.load(deployed / f"{name}.pt")
    potential = ep.load(exported(name))
    for atoms in ase.io.read(structures, ":"):
        data = lammps_input(potential, atoms)
        energy = serial(data)["inferred_total_energy"].sum()
        (gradient,) = torch.autograd.grad(energy, [data["edge_vec"]])
        centre, neighbour = data["edge_index"]
        forces = torch.zeros(len(atoms), 3).index_add(0, centre, gradient).index_add(0, neighbour, -gradient)
        [ours] = potential.predict([atoms])
        assert abs(energy.item() - ours.energy.item()) < 1e-5 * len(atoms)
        torch.testing.assert_close(forces, ours.forces, atol=2e-5, rtol=1e-4)


def test_the_parallel_torchscript_for_lammps_agrees(exported: Export, structures: Path, deployed: Path) -> None:
    """The segments one after another, on one process that has no ghost atoms."""
    segments = [torch.jit.load(path) for path in sorted((deployed / "parallel").glob("*.pt"))]
    potential = ep.load(exported("odd"))
    assert len(segments) == potential.architecture.interactions
    for atoms in ase.io.read(structures, ":"):
        data = lammps_input(potential, atoms)
        data |= {"nlocal": torch.tensor([len(atoms)]), "x_ghost": torch.zeros(0, dtype=torch.int64)}
        for segment in segments:
            data = segment(data)
            data["x_ghost"] = torch.zeros(0, data["x"].shape[1])
        [ours] = potential.predict([atoms])
        assert abs(data["inferred_total_energy"].sum().item() - ours.energy.item()) < 1e-5 * len(atoms)


def test_sevenn_train_continues_from_it(exported: Export, tmp_path: Path) -> None:
    """With the ``input.yaml`` written beside it. With a vanishing learning rate, its errors are those we measure."""
    path = exported("odd")
    train, valid = _labelled(tmp_path / "train.extxyz", seed=1), _labelled(tmp_path / "valid.extxyz", seed=2)
    recipe = yaml.safe_load(path.with_suffix(".input.yaml").read_text())
    recipe["data"] |= {"load_trainset_path": [str(train)], "load_validset_path": [str(valid)]}
    recipe["train"] |= {"epoch": 1, "optim_param": {"lr": 1e-12}}
    shutil.copy(path, tmp_path)
    (tmp_path / "input.yaml").write_text(yaml.safe_dump(recipe))
    run_sevenn(["train", "input.yaml", "-s"], cwd=tmp_path)
    log = (tmp_path / "log.sevenn").read_text()
    assert "learnable parameters: 355139" in log
    [line] = [line.split() for line in log.splitlines() if line.startswith("validset ") and "distribution" not in line]
    energy, forces = map(float, line[1:3])
    [accuracy] = ep.evaluate({"odd": ep.load(path)}, ase.io.read(valid, ":"))
    assert energy == pytest.approx(accuracy.mae("energy") / 1e3, rel=1e-3)
    assert forces == pytest.approx(accuracy.mae("forces") / 1e3, rel=1e-3)


def test_provenance_and_licence_travel_with_the_file(exported: Export) -> None:
    checkpoint = ep.load(exported("odd")).checkpoint
    assert checkpoint.licence == "MIT"
    assert [step["step"] for step in checkpoint.history] == ["prune"]
    assert checkpoint.history[0]["parent_sha256"] == ep.load("7net-l3i5").checkpoint.sha256


def test_native_and_upstream_format_hold_the_same_model(exported: Export, tmp_path: Path) -> None:
    first = ep.load(exported("odd"))
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
