"""Seeds: small valid inputs of every kind, made here or taken from tests/golden."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import ase.io
import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator

GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
_MAP = ["H", "O", "Si"]


def labelled(seed: int, symbols: str = "OH2", *, periodic: bool = True) -> Atoms:
    """Random places, cell and labels, of elements that the toy knows; nothing is closer than 0.8 Angstrom."""
    random = np.random.default_rng(seed)
    atoms = Atoms(symbols, cell=6 * np.eye(3) + random.uniform(-0.5, 0.5, (3, 3)) if periodic else None, pbc=periodic)
    atoms.positions = 1.5 * np.argwhere(np.ones((3, 3, 3)))[: len(atoms)] + random.uniform(-0.3, 0.3, (len(atoms), 3))
    results: dict[str, Any] = {"energy": float(random.normal(-10)), "forces": random.normal(size=(len(atoms), 3))}
    if periodic:
        results["stress"] = random.normal(size=6)
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


FRAMES = tuple(labelled(seed, "OH2") for seed in range(3))
MOLECULES = tuple(labelled(seed, "OCH4", periodic=False) for seed in range(3))


def extxyz(path: Path, frames: Sequence[Atoms] = FRAMES) -> None:
    """Text as ASE writes it."""
    ase.io.write(path, list(frames), format="extxyz")


def compressed(compress: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """The same text, compressed."""

    def write(path: Path) -> None:
        extxyz(path.with_name("plain"))
        path.write_bytes(compress(path.with_name("plain").read_bytes()))
        path.with_name("plain").unlink()

    return write


xz, gz, bz = compressed(lzma.compress), compressed(gzip.compress), compressed(bz2.compress)


def zipped(path: Path) -> None:
    """An archive of two texts."""
    extxyz(path.with_name("plain"))
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a.extxyz", "folder/b.extxyz"):
            archive.write(path.with_name("plain"), name)
    path.with_name("plain").unlink()


def by_ase(format: str, count: int = 2) -> Callable[[Path], None]:
    """A file in one of ASE's formats."""

    def write(path: Path) -> None:
        ase.io.write(path, list(FRAMES[:count]) if count > 1 else FRAMES[0], format=format)

    return write


def vasprun(path: Path) -> None:
    """A vasprun.xml with two ionic steps, of what ASE reads."""
    start, step, energy = _VASPRUN
    path.write_text(start + "".join(step.format(x=0.1 * i, energy=energy) for i in range(2)) + "</modeling>\n")


_VASPRUN = (
    "<modeling>\n<kpoints><varray name='kpointlist'><v>0 0 0</v></varray><varray name='weights'><v>1</v></varray>"
    "</kpoints>\n<atominfo><array name='atoms'><set><rc><c>Si</c><c>1</c></rc></set></array></atominfo>\n"
    "<structure name='initialpos'><crystal><varray name='basis'><v>4 0 0</v><v>0 4 0</v><v>0 0 4</v></varray></crystal>"
    "<varray name='positions'><v>0 0 0</v></varray></structure>\n",
    "<calculation>\n<structure><crystal><varray name='basis'><v>4 0 0</v><v>0 4 0</v><v>0 0 4</v></varray></crystal>"
    "<varray name='positions'><v>0 0 {x}</v></varray></structure>\n<varray name='forces'><v>0 0 0.5</v></varray>\n"
    "<varray name='stress'><v>10 0 0</v><v>0 10 0</v><v>0 0 10</v></varray>\n{energy}<scstep>{energy}</scstep>\n"
    "</calculation>\n",
    "<energy><i name='e_fr_energy'>-1.5</i><i name='e_0_energy'>-1.25</i></energy>",
)


def _pymatgen(atoms: Atoms) -> dict[str, Any]:
    sites = [
        {"species": [{"element": s, "occu": 1}], "xyz": p.tolist(), "label": s}
        for s, p in zip(atoms.get_chemical_symbols(), atoms.positions, strict=True)
    ]
    lattice = {"matrix": atoms.cell.array.tolist(), "pbc": [True, True, True], "a": 6.0}
    return {"@module": "pymatgen.core.structure", "@class": "Structure", "lattice": lattice, "sites": sites}


def mptrj(path: Path, frames: Sequence[Atoms] = FRAMES) -> None:
    """Two materials of MPtrj."""
    calculation = {
        f"mp-1-0-{i}": {
            "structure": _pymatgen(atoms),
            "uncorrected_total_energy": atoms.get_potential_energy(),
            "force": atoms.get_forces().tolist(),
            "stress": atoms.get_stress(voigt=False).tolist(),
            "magmom": None,
        }
        for i, atoms in enumerate(frames)
    }
    path.write_text(json.dumps({"mp-1": calculation, "mp-2": calculation}))


def matpes(path: Path, frames: Sequence[Atoms] = FRAMES) -> None:
    """Records of MatPES."""
    records = [
        {
            "matpes_id": f"matpes-{i}",
            "structure": _pymatgen(atoms),
            "energy": atoms.get_potential_energy(),
            "forces": atoms.get_forces().tolist(),
            "stress": atoms.get_stress().tolist(),
        }
        for i, atoms in enumerate(frames)
    ]
    path.write_text(json.dumps(records))


def rmd17(path: Path) -> None:
    """A trajectory of rMD17."""
    np.savez(
        path,
        nuclear_charges=MOLECULES[0].numbers.astype(np.uint8),
        coords=np.array([a.positions for a in MOLECULES]),
        energies=np.array([a.get_potential_energy() for a in MOLECULES]),
        forces=np.array([a.get_forces() for a in MOLECULES]),
    )


def spice(path: Path) -> None:
    """A molecule of SPICE."""
    import h5py

    with h5py.File(path, "w") as file:
        group = file.create_group("methanol")
        group["atomic_numbers"] = MOLECULES[0].numbers.astype(np.int16)
        group["conformations"] = np.array([a.positions for a in MOLECULES]) / units.Bohr
        group["dft_total_energy"] = np.array([a.get_potential_energy() for a in MOLECULES])
        group["dft_total_gradient"] = np.array([-a.get_forces() for a in MOLECULES])
        group["conformations"].attrs["units"] = "bohr"


def deepmd_arrays(frames: Sequence[Atoms]) -> dict[str, np.ndarray]:
    return {
        "coord": np.array([a.positions.ravel() for a in frames]),
        "energy": np.array([a.get_potential_energy() for a in frames]),
        "force": np.array([a.get_forces().ravel() for a in frames]),
        "box": np.array([a.cell.array.ravel() for a in frames]),
        "virial": np.array([-(a.get_stress(voigt=False) * a.get_volume()).ravel() for a in frames]),
    }


def deepmd_npy(path: Path) -> None:
    """A system of DeePMD-kit with two sets."""
    for i, frames in enumerate((FRAMES[:2], FRAMES[2:])):
        folder = path / f"set.{i:03d}"
        folder.mkdir(parents=True)
        for name, array in deepmd_arrays(frames).items():
            np.save(folder / f"{name}.npy", array)
    (path / "type.raw").write_text("\n".join(str(_MAP.index(s)) for s in FRAMES[0].get_chemical_symbols()) + "\n")
    (path / "type_map.raw").write_text("\n".join(_MAP) + "\n")


def deepmd_hdf5(path: Path) -> None:
    """The same in one file."""
    import h5py

    with h5py.File(path, "w") as file:
        group = file.create_group("water")
        group["type.raw"] = [_MAP.index(symbol) for symbol in FRAMES[0].get_chemical_symbols()]
        group["type_map.raw"] = np.array(_MAP, dtype="S")
        for key, array in deepmd_arrays(FRAMES).items():
            group[f"set.000/{key}.npy"] = array


def deepmd_lmdb(path: Path, frames: Sequence[Atoms] = FRAMES) -> None:
    """The same as a database."""
    import lmdb
    import msgpack

    def packed(array: np.ndarray) -> dict[str, Any]:
        return {"type": str(array.dtype), "shape": list(array.shape), "data": array.tobytes()}

    plural = {"coord": "coords", "box": "cells", "energy": "energies", "force": "forces", "virial": "virials"}
    with (
        lmdb.open(str(path), subdir=False, map_size=1 << 24, lock=False) as database,
        database.begin(write=True) as put,
    ):
        for i, atoms in enumerate(frames):
            types = np.array([_MAP.index(symbol) for symbol in atoms.get_chemical_symbols()], dtype=np.int32)
            frame = {plural[name]: packed(array[0]) for name, array in deepmd_arrays([atoms]).items()}
            put.put(b"%012d" % i, msgpack.packb({**frame, "atom_types": packed(types)}))
        described = {"nframes": len(frames), "frame_idx_fmt": "012d", "type_map": _MAP}
        put.put(b"__metadata__", msgpack.packb(described))


class _Data:
    """As PyTorch Geometric's: fields are attributes."""

    def __init__(self, atoms: Atoms) -> None:
        import torch

        vars(self).update(
            pos=torch.tensor(atoms.positions, dtype=torch.float32),
            cell=torch.tensor(atoms.cell.array[None], dtype=torch.float32),
            atomic_numbers=torch.tensor(atoms.numbers, dtype=torch.float32),
            natoms=len(atoms),
            y=float(atoms.get_potential_energy()),
            force=torch.tensor(atoms.get_forces(), dtype=torch.float32),
            tags=torch.zeros(len(atoms)),
            fixed=torch.zeros(len(atoms)),
        )


def oc20(path: Path, frames: Sequence[Atoms] = FRAMES) -> None:
    """Graphs of the Open Catalyst project, under the names that their files have."""
    import lmdb

    module = "torch_geometric.data.data"
    there = {name: sys.modules.get(name) for name in ("torch_geometric", "torch_geometric.data", module)}
    for name in there:
        sys.modules[name] = ModuleType(name)
    _Data.__module__, _Data.__qualname__ = module, "Data"
    sys.modules[module].Data = _Data  # type: ignore[attr-defined]
    with (
        lmdb.open(str(path), subdir=False, map_size=1 << 24, lock=False) as database,
        database.begin(write=True) as put,
    ):
        for i, atoms in enumerate(frames):
            put.put(b"%d" % i, pickle.dumps(_Data(atoms), protocol=4))
        put.put(b"length", pickle.dumps(len(frames), protocol=4))
    for name, before in there.items():
        sys.modules.pop(name) if before is None else sys.modules.__setitem__(name, before)


def aselmdb(path: Path, frames: Sequence[Atoms] = FRAMES) -> None:
    """A database as OMat24's."""
    import ase_db_backends  # noqa: F401  makes the backend known
    from ase.db import connect

    with connect(str(path), type="aselmdb") as database:
        for atoms in frames:
            database.write(atoms)


def ase_database(path: Path, frames: Sequence[Atoms] = FRAMES) -> None:
    """A database of ASE."""
    from ase.db import connect

    for atoms in frames:
        connect(str(path)).write(atoms)


def golden(*parts: str) -> Callable[[Path], None]:
    """A file or folder of tests/golden."""

    def write(path: Path) -> None:
        source = GOLDEN.joinpath(*parts)
        shutil.copytree(source, path) if source.is_dir() else shutil.copy(source, path)

    return write


def interrupted_labels(path: Path) -> None:
    """The files of an interrupted labelling, and the structures that it labels beside all inputs."""
    shutil.copy(GOLDEN / "labels-format-1" / "bare.extxyz", path.parents[1])
    golden("labels-format-1", "labelled.extxyz.partial")(path)


def interrupted_scores(path: Path) -> None:
    """The same of a calibration."""
    bare = shutil.copy(GOLDEN / "scores-format-1" / "bare.extxyz", path.parents[1])
    record = json.loads((GOLDEN / "scores-format-1" / "scores.json.partial").read_text())
    record["provenance"]["data"] = str(bare)  # paths are compared
    path.write_text(json.dumps(record))


def model(source: str) -> Callable[[Path], None]:
    """A small model in the upstream format that the suffix says; its package is needed."""

    def write(path: Path) -> None:
        import equiprune as ep
        from equiprune.potentials.checkpoint import read_checkpoint

        found = GOLDEN / source if (GOLDEN / source).is_dir() else source
        heads = read_checkpoint(found)[1].architecture.heads
        ep.save(ep.load(found, head=heads[0] if heads else None), path)

    return write


def json_of(make: Callable[[], Any]) -> Callable[[Path], None]:
    """A JSON file of a value that is made when it is needed."""

    def write(path: Path) -> None:
        text = json.dumps(make()).encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)

    return write


def text(content: str) -> Callable[[Path], None]:
    """A text file."""

    def write(path: Path) -> None:
        path.write_text(content)

    return write


def command(*words: str) -> Callable[[Path], None]:
    """A file or folder that a command writes; OUTPUT and FRAMES stand for paths."""

    def write(path: Path) -> None:
        from contextlib import redirect_stderr, redirect_stdout

        from equiprune.cli import main

        frames = path.with_name("frames.extxyz")
        extxyz(frames)
        given = [{"OUTPUT": str(path), "FRAMES": str(frames)}.get(word, word) for word in words]
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as said:
            code = main(given)
        if code == 2:
            raise RuntimeError(said.getvalue())

    return write
