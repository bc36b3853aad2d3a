"""Readers: each kind of file that commands take, a seed of it, and who reads it."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import equiprune as ep
from equiprune.cli import main
from equiprune.errors import EquipruneError
from equiprune.structures.labels import Labels
from fuzzing import seeds


class DefectError(Exception):
    """Something that a reader does and should not, where nothing else is raised."""


@dataclass(frozen=True)
class Reader:
    """A kind of input.

    Attributes:
        name: of the row in the table.
        path: name of the file or folder that the input is.
        seed: writes a valid one.
        read: takes the path; an `EquipruneError` refuses it.
        share: of the inputs of one run, beside the others.
        owns: true where the input is a folder that its command goes on in, and may leave something in when it refuses.
    """

    name: str
    path: str
    seed: Callable[[Path], None]
    read: Callable[[Path], object]
    share: float = 1.0
    owns: bool = False


def run(*words: object) -> None:
    """A command in this process; exit code 2 is raised as an `EquipruneError` with its message."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main([str(word) for word in words])
    if code == 2:
        messages = [line for line in err.getvalue().splitlines() if line.startswith("equiprune: ")]
        if len(messages) != 1 or not err.getvalue().endswith(messages[0] + "\n"):
            raise DefectError(f"exit code 2 with {len(messages)} messages: {err.getvalue()[-300:]}")
        raise EquipruneError(messages[0])
    if "--json" in words:
        import json

        json.loads(out.getvalue(), parse_constant=_no_json)


def _no_json(name: str) -> None:
    raise DefectError(f"{name} in the document on stdout")


def structures(path: Path) -> None:
    """Streamed, at random access, and evaluated by a command, where there are few atoms."""
    streamed = list(ep.read_structures(path))
    for atoms in streamed:
        Labels.of(atoms)
    opened = ep.open_structures(path)
    if len(opened) != len(streamed):
        raise DefectError(f"{len(streamed)} structures are streamed, {len(opened)} opened")
    len(opened[-1])
    if sum(map(len, streamed)) <= 200:
        _toy().predict(opened)
        chosen = zlib.crc32(streamed[0].positions.tobytes()) % 8 == 0  # it takes long
        if chosen and Labels.of(opened[0]).energy is not None:
            run("evaluate", "toy", "--data", path, "--json")


@cache
def _toy() -> ep.Potential:
    return ep.load("toy")


def upstream(path: Path) -> None:
    """A model as plain data."""
    from equiprune.potentials.checkpoint import read_checkpoint

    read_checkpoint(path)


def native(path: Path) -> None:
    """A model that is opened and described."""
    ep.load(path)
    run("info", path, "--json")


def recipe(path: Path) -> None:
    """A recipe whose stages are only said."""
    run("run", path, "-o", path.with_name("out"), "--dry-run", "--json")


def references(path: Path) -> None:
    """Energies of isolated atoms."""
    from equiprune.training.references import read_references

    read_references(path, 4.0)


def report(path: Path) -> None:
    """A page about a folder."""
    run("report", path, "-o", path.with_name("page.html"))


def resumed(*words: str) -> Callable[[Path], None]:
    """A command that goes on with what is at its output; OUTPUT and DATA stand for the paths."""

    def read(path: Path) -> None:
        stem = path.with_name(path.name.removesuffix(".partial"))
        run(
            *(
                {"OUTPUT": stem, "DATA": path.parents[1] / "data.extxyz", "BARE": path.parents[1] / "bare.extxyz"}.get(
                    word, word
                )
                for word in words
            )
        )

    return read


def taken(*words: str) -> Callable[[Path], None]:
    """A command that takes the input at INPUT and writes at OUTPUT."""

    def read(path: Path) -> None:
        data = path.parents[1] / "data.extxyz"
        named = {"INPUT": path, "OUTPUT": path.with_name("out"), "DATA": data}
        run(*(named.get(word, word) for word in words))

    return read


_RECIPE = """model: toy
stages:
  - calibrate: {data: ../data.extxyz, limit: 2}
  - prune: {lmax: 0, elements: [H, O], name: small}
  - train: {data: ../data.extxyz, epochs: 1, batch-size: 2}
  - certify
"""
_LABEL = ("label", "toy", "BARE", "-o", "OUTPUT", "--copies", "1", "--strain", "0.05", "--hessian-probes", "2")
_CALIBRATE = ("calibrate", "toy", "BARE", "-o", "OUTPUT", "--batch-atoms", "1", "--dtype", "float64")
_TRAIN = ("train", "toy", "--data", "DATA", "-o", "OUTPUT", "--epochs", "1", "--batch-size", "4")


def _scores() -> object:
    return ep.data_free_scores(ep.load("toy"), ep.Magnitude()).to_json()


def _plan() -> object:
    parent = ep.load("toy")
    scores = ep.data_free_scores(parent, ep.Magnitude())
    return ep.allocate(parent, [ep.HiddenIrreps.parse("2x0e+2x1o")], scores).to_json()


_ATOMS = {"H": -1.1, "C": -2.0, "O": -2.1, "Si": -3.0}


def _readers(
    names: str, read: Callable[[Path], object], *made: tuple[str, str, Callable[[Path], None]]
) -> list[Reader]:
    return [Reader(f"{names}: {name}" if name else names, path, seed, read) for name, path, seed in made]


STRUCTURES = _readers(
    "structures",
    structures,
    ("extxyz", "a.extxyz", seeds.extxyz),
    ("extxyz.xz", "a.extxyz.xz", seeds.xz),
    ("extxyz.gz", "a.xyz.gz", seeds.gz),
    ("extxyz.bz2", "a.xyz.bz2", seeds.bz),
    ("zip of extxyz", "a.zip", seeds.zipped),
    ("MPtrj", "MPtrj.json", seeds.mptrj),
    ("MatPES", "MatPES.json", seeds.matpes),
    ("rMD17", "a.npz", seeds.rmd17),
    ("SPICE", "SPICE.hdf5", seeds.spice),
    ("DeePMD npy", "system", seeds.deepmd_npy),
    ("DeePMD HDF5", "a.hdf5", seeds.deepmd_hdf5),
    ("DeePMD LMDB", "a.lmdb", seeds.deepmd_lmdb),
    ("OC20 LMDB", "data.lmdb", seeds.oc20),
    ("aselmdb", "a.aselmdb", seeds.aselmdb),
    ("ASE database", "a.db", seeds.ase_database),
    ("ASE JSON", "a.json", seeds.by_ase("json")),
    ("traj", "a.traj", seeds.by_ase("traj")),
    ("vasprun.xml", "vasprun.xml", seeds.vasprun),
    ("POSCAR", "POSCAR", seeds.by_ase("vasp", 1)),
    ("CIF", "a.cif", seeds.by_ase("cif")),
)

MODELS = [
    *_readers("model", native, ("native", "small", seeds.golden("toy-format-2"))),
    *_readers(
        "model",
        upstream,
        ("native SevenNet", "small", seeds.golden("sevennet-format-2")),
        ("native MACE", "small", seeds.golden("mace-format-2")),
        ("native eSCN", "small", seeds.golden("escn-format-2")),
        ("native Nequix", "small", seeds.golden("nequix-format-3")),
        ("native NequIP", "small", seeds.golden("nequip-format-3")),
        ("SevenNet .pth", "small.pth", seeds.model("sevennet-format-2")),
        ("MACE .model", "small.model", seeds.model("mace-heads-format-2")),
        ("eSCN .pt", "small.pt", seeds.model("escn-format-2")),
        ("Nequix .nqx", "small.nqx", seeds.model("nequix-format-3")),
        ("Nequix .pt", "small.pt", seeds.model("nequix-format-3")),
        ("NequIP package", "small.nequip.zip", seeds.model("nequip-format-3")),
    ),
]

OTHERS = [
    Reader("recipe", "recipe.yaml", seeds.text(_RECIPE), recipe),
    Reader(
        "scores",
        "s.json",
        seeds.json_of(_scores),
        taken("prune", "toy", "--scores", "INPUT", "--channels", "2", "-o", "OUTPUT"),
    ),
    Reader("plan", "p.json", seeds.json_of(_plan), taken("prune", "toy", "--plan", "INPUT", "-o", "OUTPUT")),
    Reader("references", "r.json", seeds.json_of(lambda: dict(_ATOMS)), references),
    Reader("labels, interrupted", "l.extxyz.partial", seeds.interrupted_labels, resumed(*_LABEL), 0.3, owns=True),
    Reader("scores, interrupted", "s.json.partial", seeds.interrupted_scores, resumed(*_CALIBRATE), 0.3, owns=True),
    Reader(
        "training, interrupted",
        "run",
        seeds.command(*(w.replace("DATA", "FRAMES") for w in _TRAIN)),
        resumed(*_TRAIN),
        0.1,
        owns=True,
    ),
    Reader("report", "run", seeds.command(*(w.replace("DATA", "FRAMES") for w in _TRAIN)), report, 0.1),
]

READERS: tuple[Reader, ...] = (*STRUCTURES, *MODELS, *OTHERS)
