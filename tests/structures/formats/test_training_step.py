"""A training step from a file of each format is the step from the same structures in memory."""

import bz2
import gzip
import json
import lzma
import pickle
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import ase.io
import lmdb
import numpy as np
import pytest
import texts_of_codes as texts
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from labelled_samples import labelled
from runs import SQUARES, plain, rows, weights_of
from test_deepmd_databases import write_hdf5, write_lmdb
from test_deepmd_npy import write_mixed, write_system
from test_json_and_zip import archive, matpes, mptrj
from test_molecules import MD22, RMD17, npz_arrays, write_spice
from test_vasprun import WHOLE

import equiprune as ep
from equiprune.training.objective import Square, Term

CRYSTALS = [labelled(4), labelled(5)]
OTHERS = [labelled(4), labelled(6, "SiO2")]
MOLECULES = [labelled(seed, "OCH4", periodic=False) for seed in (2, 3)]


@dataclass(frozen=True)
class Sample:
    """A file of one format: how it is written, of which structures, and those that a reader should find."""

    write: Callable[[Path, list[Atoms]], object]
    frames: list[Atoms]
    expected: Callable[[list[Atoms]], Sequence[Atoms]] = list


def write_text(path: Path, frames: list[Atoms]) -> None:
    """Extended XYZ with all digits: ASE's own writer keeps eight."""
    lines = []
    for atoms in frames:
        cell, stress = (
            " ".join(map(repr, a.T.ravel().tolist())) for a in (atoms.cell.array.T, atoms.get_stress(False))
        )
        lines += [str(len(atoms)), f'Lattice="{cell}" Properties=species:S:1:pos:R:3:forces:R:3 pbc="T T T" ']
        lines[-1] += f'energy={atoms.get_potential_energy()!r} stress="{stress}"'
        for symbol, *numbers in zip(atoms.get_chemical_symbols(), atoms.positions, atoms.get_forces(), strict=True):
            lines.append(" ".join([symbol, *map(repr, np.ravel(numbers).tolist())]))
    path.write_text("\n".join(lines) + "\n")


def compressed(compress: Callable[[bytes], bytes]) -> Callable[[Path, list[Atoms]], None]:
    def write(path: Path, frames: list[Atoms]) -> None:
        write_text(path, frames)
        path.write_bytes(compress(path.read_bytes()))

    return write


def write_database(path: Path, frames: list[Atoms]) -> None:
    """A database of ASE, or of fairchem as the suffix says."""
    import ase_db_backends  # noqa: F401  makes the backend known
    from ase.db import connect

    with connect(path, type="aselmdb" if path.suffix == ".aselmdb" else "db") as database:
        for atoms in frames:
            database.write(atoms)


def single_precision(frames: list[Atoms]) -> list[Atoms]:
    """As OC20 has them: arrays in float32, and no stress."""
    made = []
    for atoms in frames:
        positions, cell, forces = (
            np.float32(array).astype(float) for array in (atoms.positions, atoms.cell.array, atoms.get_forces())
        )
        made.append(Atoms(atoms.numbers, positions=positions, cell=cell, pbc=True))
        made[-1].calc = SinglePointCalculator(made[-1], energy=atoms.get_potential_energy(), forces=forces)
    return made


def write_oc20(path: Path, frames: list[Atoms]) -> None:
    """Graphs under the name of PyTorch Geometric's class, which need not be installed."""
    name = "torch_geometric.data.data"
    kind = type("Data", (), {"__module__": name})
    with pytest.MonkeyPatch.context() as patch, lmdb.open(str(path), subdir=False, map_size=1 << 20) as database:
        for each in ("torch_geometric", "torch_geometric.data", name):
            patch.setitem(sys.modules, each, ModuleType(each))
        sys.modules[name].Data = kind  # type: ignore[attr-defined]
        with database.begin(write=True) as put:
            for i, atoms in enumerate(frames):
                graph: Any = kind()
                graph.pos, graph.force = (torch.tensor(np.float32(a)) for a in (atoms.positions, atoms.get_forces()))
                graph.cell, graph.natoms = torch.tensor(np.float32(atoms.cell.array[None])), len(atoms)
                graph.atomic_numbers, graph.y = torch.tensor(atoms.numbers), atoms.get_potential_energy()
                put.put(b"%d" % i, pickle.dumps(graph, protocol=4))


def ionic_steps(_: list[Atoms]) -> list[Atoms]:
    """Those of ``WHOLE``: an atom at 0, 0.4 and 0.8 Angstrom, and 10 kbar of pressure, which are a GPa."""
    steps = []
    for z in (0.0, 0.4, 0.8):
        atoms = Atoms("Si", positions=[[0, 0, z]], cell=[4, 4, 4], pbc=True)
        stress = -10 * np.array([1, 1, 1, 0, 0, 0]) * 0.1 * ase.units.GPa
        atoms.calc = SinglePointCalculator(atoms, energy=-1.25, forces=np.array([[0, 0, 0.5]]), stress=stress)
        steps.append(atoms)
    return steps


def output(text: str, steps: Callable[[], list[Atoms]]) -> Sample:
    """A sample of a code: its file in the code's units, and the steps that are expected in eV and Angstrom."""
    return Sample(lambda path, _: path.write_text(text), [], lambda _: steps())


def json_of(make: Callable[[list[Atoms]], object]) -> Callable[[Path, list[Atoms]], object]:
    def write(path: Path, frames: list[Atoms]) -> None:
        text = json.dumps(make(frames)).encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)

    return write


def zipped(path: Path, frames: list[Atoms]) -> None:
    write_text(path.with_name("member"), frames)
    archive(path, {"a.extxyz": path.with_name("member").read_text()})


def npz(names: str) -> Callable[[Path, list[Atoms]], object]:
    return lambda path, frames: np.savez(path, **npz_arrays(frames, names))


def folder(path: Path, frames: list[Atoms]) -> None:
    """Two files of different formats."""
    path.mkdir()
    write_text(path / "a.extxyz", frames[:1])
    write_database(path / "b.db", frames[1:])


SAMPLES = {
    "a.extxyz": Sample(write_text, OTHERS),
    "a.xyz": Sample(write_text, OTHERS),
    "a.extxyz.xz": Sample(compressed(lzma.compress), OTHERS),
    "a.extxyz.gz": Sample(compressed(gzip.compress), OTHERS),
    "a.extxyz.bz2": Sample(compressed(bz2.compress), OTHERS),
    "a.extxyz.zip": Sample(zipped, OTHERS),
    "a.db": Sample(write_database, OTHERS),
    "omat.aselmdb": Sample(write_database, OTHERS),
    "oc20.lmdb": Sample(write_oc20, OTHERS, single_precision),
    "deepmd-npy": Sample(lambda path, frames: write_system(path, [frames[:1], frames[1:]]), CRYSTALS),
    "deepmd-mixed": Sample(write_mixed, OTHERS),
    "deepmd.hdf5": Sample(lambda path, frames: write_hdf5(path, {"water": frames}), CRYSTALS),
    "deepmd.lmdb": Sample(write_lmdb, OTHERS),
    "mptrj.json": Sample(json_of(lambda frames: mptrj({"mp-1": frames})), OTHERS),
    "mptrj.json.gz": Sample(json_of(lambda frames: mptrj({"mp-1": frames})), OTHERS),
    "matpes.json.gz": Sample(json_of(matpes), OTHERS),
    "rmd17.npz": Sample(npz(RMD17), MOLECULES),
    "md22.npz": Sample(npz(MD22), MOLECULES),
    "spice.hdf5": Sample(lambda path, frames: write_spice(path, {"methanol": frames}), MOLECULES),
    "vasprun.xml": Sample(lambda path, _: path.write_text(WHOLE), [], ionic_steps),
    "OUTCAR": output(texts.OUTCAR, texts.outcar_steps),
    "pw.out": output(texts.PW, texts.pw_steps),
    "aims.out": output(texts.AIMS_DYNAMICS, texts.aims_steps),
    "a.traj": Sample(lambda path, frames: ase.io.write(path, frames), OTHERS),
    "folder": Sample(folder, OTHERS),
}
"""Each row of the table in docs/formats.md."""

WITHOUT_STRESS = ("oc20.lmdb", "rmd17.npz", "md22.npz", "spice.hdf5")


@dataclass(frozen=True)
class Step:
    """The weights after one step of the toy, and the losses of energies, forces and stresses in that step."""

    weights: dict[str, torch.Tensor]
    losses: dict[str, float]


def step(structures: Sequence[Atoms], run: Path) -> Step:
    stresses = any("stress" in atoms.calc.results for atoms in structures)
    objective = SQUARES if stresses else replace(SQUARES, stress=Term(0, Square()))
    recipe = ep.Recipe(objective, plain(learning_rate=1e-2), epochs=1, batch_size=8)
    trained = ep.train(ep.load("toy", dtype=torch.float64), structures, recipe, run)
    [row] = rows(run)
    losses = {name: float(value) for name, value in row.items() if value and name.startswith("train_")}
    return Step(weights_of(trained), losses)


@pytest.fixture(scope="module")
def in_memory(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sample], Step]:
    """The step from the structures themselves, which many samples share."""
    made: dict[tuple[object, ...], Step] = {}

    def of(sample: Sample) -> Step:
        key = (id(sample.frames), sample.expected)
        if key not in made:
            made[key] = step(sample.expected(sample.frames), tmp_path_factory.mktemp("memory") / "run")
        return made[key]

    return of


@pytest.mark.parametrize("name", SAMPLES)
def test_a_step_from_a_file_is_that_from_memory(name: str, in_memory: Callable[[Sample], Step], tmp_path: Path) -> None:
    """The losses show what the labels are: the first step of Adam is as long whatever they are."""
    sample = SAMPLES[name]
    sample.write(tmp_path / name, sample.frames)
    found, expected = step(ep.open_structures(tmp_path / name), tmp_path / "run"), in_memory(sample)
    assert found.losses == pytest.approx(expected.losses, rel=1e-12)
    assert len(found.losses) == (2 if name in WITHOUT_STRESS else 3)
    start = weights_of(ep.load("toy", dtype=torch.float64))
    assert any(not torch.equal(found.weights[each], start[each]) for each in start)
    for each, weight in expected.weights.items():
        torch.testing.assert_close(found.weights[each], weight, rtol=1e-12, atol=1e-12, msg=each)
