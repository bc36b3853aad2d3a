"""SevenNet's tests need SevenNet: they are collected only where it is installed."""

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from ase import Atoms
from exports import PARENT, PRUNED, SHIPPED, pruned
from plain_code import nothing_twice, plain

import equiprune as ep
from equiprune.adapters.sevennet import SevenNetAdapter
from equiprune.cli import main
from equiprune.structures.probes import probe_structures

if importlib.util.find_spec("sevenn") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def once() -> Iterator[None]:
    """Small models take longer to build than to evaluate, and many are alike."""
    with nothing_twice(SevenNetAdapter, "sevenn.util.infer_irreps_out"):
        yield


@pytest.fixture(scope="module")
def plain_code() -> Iterator[None]:
    """Models are built in less time: for modules that look at numbers, and not at upstream's files and tools."""
    with plain():
        yield


@pytest.fixture(scope="session")
def parent() -> ep.Potential:
    """SevenNet-l3i5 in float64."""
    return ep.load(PARENT, dtype=torch.float64)


@pytest.fixture(scope="session")
def probes(parent: ep.Potential) -> list[Atoms]:
    """An ionic, a covalent and a metallic crystal and a molecule in a box."""
    return list(probe_structures(parent.elements).values())


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Pruned and shipped models by name, written as ``.pth`` once; the shipped ones by ``equiprune export``."""
    folder = tmp_path_factory.mktemp("exported")
    with plain():
        made = {name: ep.save(pruned(name), folder / f"{name}.pth")[0] for name in PRUNED}
        for name in SHIPPED:
            made[name] = folder / f"{name}.pth"
            assert main(["export", name, "-o", str(made[name])]) == 0
    return made
