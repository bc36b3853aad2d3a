"""The Open Catalyst project's LMDB files, read without running the pickles in them."""

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import lmdb
import numpy as np
import pytest
import torch
from ase import Atoms

import equiprune as ep
from equiprune.errors import StructureError


class Data:
    """As PyTorch Geometric's before version 2: fields are attributes."""

    def __init__(self, **fields: Any) -> None:
        vars(self).update(fields)


class GlobalStorage:
    """As PyTorch Geometric's since version 2: fields are in a mapping of a store."""

    def __init__(self, **fields: Any) -> None:
        self._mapping = fields


@pytest.fixture(autouse=True)
def geometric() -> Iterator[None]:
    """The names that files say their classes have; gone when they are read."""
    for kind, module in ((Data, "torch_geometric.data.data"), (GlobalStorage, "torch_geometric.data.storage")):
        kind.__module__, kind.__qualname__ = module, kind.__name__
        for name in ("torch_geometric", "torch_geometric.data", module):
            sys.modules.setdefault(name, ModuleType(name))
        setattr(sys.modules[module], kind.__name__, kind)
    yield
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.startswith("torch_geometric")]:
        del sys.modules[name]


FIELDS = {
    "pos": torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.5]]),
    "cell": torch.tensor([[[5.0, 0.0, 0.0], [0.0, 6.0, 0.0], [0.0, 1.0, 20.0]]]),
    "atomic_numbers": torch.tensor([29.0, 8.0]),
    "natoms": 2,
    "tags": torch.tensor([0, 2]),
    "fixed": torch.tensor([1.0, 0.0]),
    "y": -0.75,
    "force": torch.tensor([[0.0, 0.0, 0.1], [0.0, 0.0, -0.1]]),
    "sid": 17,
    "fid": torch.tensor([3]),
    "edge_index": torch.zeros(2, 0, dtype=torch.long),
    "ptr": None,
}


def new(**changes: Any) -> Data:
    data = Data()
    data._store = GlobalStorage(**{**FIELDS, **changes})  # type: ignore[attr-defined]
    return data


def write(path: Path, graphs: list[Any], *, length: bool = True) -> Path:
    with lmdb.open(str(path), subdir=False, map_size=1 << 24) as environment, environment.begin(write=True) as put:
        for i, graph in enumerate(graphs):
            put.put(b"%d" % i, graph if isinstance(graph, bytes) else pickle.dumps(graph, protocol=-1))
        if length:
            put.put(b"length", pickle.dumps(len(graphs), protocol=-1))
    _forget()
    return path


def test_structures_labels_tags_and_fixed_atoms_are_read(tmp_path: Path) -> None:
    structures = ep.open_structures(write(tmp_path / "data.lmdb", [Data(**FIELDS), new(y=torch.tensor([-1.5]))]))
    assert len(structures) == 2
    for atoms, energy in zip(structures, (-0.75, -1.5), strict=True):
        assert atoms.get_chemical_formula() == "CuO"
        assert atoms.get_potential_energy() == energy
        np.testing.assert_allclose(atoms.get_forces(apply_constraint=False)[:, 2], [0.1, -0.1], rtol=1e-6)
        np.testing.assert_allclose(atoms.cell.array[2], [0, 1, 20])
        assert (atoms.pbc.all(), atoms.get_tags().tolist()) == (True, [0, 2])
        assert atoms.constraints[0].index.tolist() == [0]
        assert atoms.info == {"sid": 17, "fid": 3}
    assert "torch_geometric" not in sys.modules


def test_a_set_without_its_length_or_labels_is_read_too(tmp_path: Path) -> None:
    unlabelled = {name: value for name, value in FIELDS.items() if name not in ("y", "force", "fixed", "tags")}
    [atoms] = ep.read_structures(write(tmp_path / "data.lmdb", [Data(**unlabelled)], length=False))
    assert atoms.calc is None
    assert not atoms.constraints


def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    structures = ep.open_structures(write(tmp_path / "data.lmdb", [Data(**FIELDS), Hostile()]))
    assert isinstance(structures[0], Atoms)
    with pytest.raises(StructureError, match=r"Structure 1 of .*it names 'pathlib.*, which is neither data nor part"):
        structures[1]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        (Data(pos=FIELDS["pos"]), "the graph has no atomic_numbers, cell"),
        ({"pos": 1}, "it holds a dict, not a graph"),
        (b"\x80\x04nonsense", "no readable pickle"),
        (pickle.dumps([1, 2, 3])[:-4], "no readable pickle"),
    ],
)
def test_what_is_no_graph_is_named(graph: Any, says: str, tmp_path: Path) -> None:
    structures = ep.open_structures(write(tmp_path / "data.lmdb", [graph]))
    with pytest.raises(StructureError, match=rf"Structure 0 of .*{says}"):
        structures[0]


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "data.lmdb", [Data(**FIELDS)] * 200)
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(StructureError, match=r"data\.lmdb' could not be read as structures \(the file is cut off\)"):
        ep.open_structures(path)


def test_a_graph_that_is_missing_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "data.lmdb", [Data(**FIELDS)] * 3)
    with lmdb.open(str(path), subdir=False) as environment, environment.begin(write=True) as transaction:
        transaction.delete(b"1")
    structures = ep.open_structures(path)
    with pytest.raises(StructureError, match=r"Structure 1 of .*it is missing"):
        structures[1]
    assert len(structures[2]) == 2
