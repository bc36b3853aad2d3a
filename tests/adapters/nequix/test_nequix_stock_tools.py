"""Stock Nequix opens what is written, with JAX and with torch, in a process that never heard of equiprune."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from random_nequix import architecture, random_checkpoint

import equiprune as ep
from equiprune.adapters.nequix import NequixAdapter, checkpoint_file, export

NEEDED = ("jax", "equinox", "e3nn_jax", "jraph", "matscipy", "torch_geometric")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(find_spec(name) is None for name in NEEDED), reason=f"Nequix's calculator needs {', '.join(NEEDED)}"
    ),
]

SCRIPT = """
import json, sys, ase.io
from pathlib import Path
from nequix.calculator import NequixCalculator

structures = ase.io.read(sys.argv[1], ":")
for file in sys.argv[2:]:
    for backend in ("jax", "torch"):
        converted = f"{Path(file).stem}-{Path(file).suffix[1:]}-{backend}"
        calculator = NequixCalculator(converted, file, backend=backend, use_kernel=False)
        if backend == "jax" and file.endswith(".pt"):
            continue  # converted, which is what matters; the same model is compiled once
        for atoms in structures:
            atoms.calc = calculator
            said = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces().tolist()}
            print(json.dumps({"file": file, "backend": backend, **said}))
"""
"""Energies (eV) and forces of structures; of each file the converter's twin for the other backend stays beside it."""

QUICK = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
"""JAX compiles in a fraction of the time."""

BACKENDS = pytest.mark.parametrize(("suffix", "backend"), [(".nqx", "jax"), (".nqx", "torch"), (".pt", "torch")])
Said = Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]


def crystal() -> Atoms:
    """A displaced crystal of elements that every model here knows."""
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    atoms.rattle(0.1, seed=1)
    return atoms


def written(potential: ep.Potential, folder: Path) -> dict[str, Path]:
    """The model as both of Nequix's files, by suffix."""
    files = {suffix: folder / f"model{suffix}" for suffix in NequixAdapter.suffixes}
    for path in files.values():
        export.write(potential.checkpoint, path)
    return files


def stock(files: Mapping[str, Path]) -> Said:
    """Energies and forces of the crystal by stock Nequix in a fresh process, by suffix and backend."""
    folder = files[".nqx"].parent
    ase.io.write(folder / "crystal.extxyz", crystal())
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(folder / "crystal.extxyz"), *map(str, files.values())]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **QUICK}, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    said: dict[tuple[str, str], list[Any]] = {}
    for line in lines:
        said.setdefault((Path(line["file"]).suffix, line["backend"]), []).append(line)
    return said


def assert_same(said: Mapping[str, Any], path: Path) -> None:
    """Energy and forces are those of the file as equiprune opens it, to rounding in float32."""
    atoms = crystal()
    [ours] = ep.load(path).predict([atoms])
    assert abs(said["energy"] - ours.energy.item()) < 1e-5 * len(atoms)
    np.testing.assert_allclose(said["forces"], ours.forces.numpy(), atol=5e-5, rtol=1e-4)
    assert np.abs(said["forces"]).max() > 1e-2  # or nothing was compared


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A pruned random model, of which little must be compiled."""
    arch = architecture(layers=2, hidden_irreps="4x0e+3x1o+2x2e", edge_lmax=2, radial_layers=1)
    parent = ep.Potential.create(NequixAdapter(), random_checkpoint(arch), torch.float64)
    targets = [ep.HiddenIrreps.parse("3x0e+2x1o"), ep.EdgeLmax(1), ep.RadialBasis(4)]
    child = ep.prune(parent, ep.allocate(parent, targets, ep.data_free_scores(parent, ep.Random(0))))
    return written(child, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def said_of_small(small: Mapping[str, Path]) -> Said:
    return stock(small)


@BACKENDS
@pytest.mark.supports("Nequix (random weights)", "opens")
@pytest.mark.supports("Nequix (random weights)", "exports")
@pytest.mark.supports("Nequix (random weights)", "stock tool")
def test_the_stock_calculator_opens_a_pruned_model(
    suffix: str, backend: str, small: Mapping[str, Path], said_of_small: Said
) -> None:
    [said] = said_of_small[suffix, backend]
    assert_same(said, small[suffix])


@pytest.mark.usefixtures("said_of_small")
@pytest.mark.parametrize("converted", ["model-nqx-torch.pt", "model-pt-jax.nqx"])
def test_what_stock_converts_holds_the_same_weights(converted: str, small: Mapping[str, Path]) -> None:
    """Nequix's own converter made it of our file: one array after another is where we say it is, bit by bit."""
    meant = checkpoint_file.read(small[".nqx"])
    found = checkpoint_file.read(small[".nqx"].with_name(converted))
    assert found.architecture == meant.architecture
    assert [name for name, weight in meant.weights.items() if not torch.equal(found.weights[name], weight)] == []
    assert (found.licence, found.history) == (meant.licence, meant.history)
