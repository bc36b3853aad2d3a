"""MACE's tests need MACE: they are collected only where it is installed."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ase import Atoms
from plain_code import nothing_twice, plain, stock

import equiprune as ep
from equiprune.adapters.mace import MaceAdapter
from equiprune.adapters.mace.build import upstream

if importlib.util.find_spec("mace") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def once() -> Iterator[None]:
    """Small models take longer to build than to evaluate, most of it for coupling tensors and code, and are alike."""
    with upstream(torch.float64):
        from mace.modules import symmetric_contraction
    couplings = f"{symmetric_contraction.__name__}.U_matrix_real"
    with nothing_twice(MaceAdapter, couplings, writers=("opt_einsum_fx.optimize_einsums_full",)):
        yield


@pytest.fixture(scope="session", autouse=True)
def stock_files() -> Iterator[None]:
    """Files hold code: that which anybody writes, whatever a test builds its models with."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(MaceAdapter, "export", staticmethod(stock()(MaceAdapter.export)))
        yield


@pytest.fixture(scope="module")
def plain_code() -> Iterator[None]:
    """Models are built in less time; the code in files is stock all the same."""
    with plain():
        yield


@pytest.fixture(scope="session")
def mace_mp_small() -> Path | None:
    """The official small model, in ``checkpoints`` beside the reference data; None where it is not."""
    data = os.environ.get("EQUIPRUNE_DATA")
    path = Path(data).parent / "checkpoints" / "mace_mp_small.model" if data else None
    return path if path is not None and path.exists() else None


@pytest.fixture(scope="session")
def official(mace_mp_small: Path | None) -> Path:
    """The same; tests that need it are skipped where it is not."""
    if mace_mp_small is None:
        pytest.skip("needs checkpoints/mace_mp_small.model beside the folder that EQUIPRUNE_DATA names")
    return mace_mp_small


@pytest.fixture
def alias(official: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    """The alias of the official small model, which lies in the cache; nothing may be downloaded."""
    cache = tmp_path_factory.mktemp("cache")
    (cache / "2023-12-10-mace-128-L0_energy_epoch-249.model").symlink_to(official)
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(cache))
    monkeypatch.setenv("EQUIPRUNE_OFFLINE", "1")
    return "mace-mp-small"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest ordinary file, made by upstream's own constructor."""
    from stock_modules import constructed

    path = tmp_path_factory.mktemp("template") / "ordinary.model"
    torch.save(constructed({"num_interactions": 1, "correlation": 1}), path)
    return path


@pytest.fixture(scope="session")
def parent(official: Path) -> ep.Potential:
    """The official small model in float64."""
    return ep.load(official, dtype=torch.float64)


@pytest.fixture(scope="session")
def probes(parent: ep.Potential) -> list[Atoms]:
    """An ionic, a covalent and a metallic crystal and a molecule in a box."""
    return list(ep.probe_structures(parent.elements).values())
