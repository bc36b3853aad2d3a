"""SevenNet's tests need SevenNet: they are collected only where it is installed."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from ase import Atoms
from plain_code import nothing_twice, plain

import equiprune as ep
from equiprune.adapters.sevennet import SevenNetAdapter
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


PARENT = "7net-l3i5"


@pytest.fixture(scope="session")
def parent() -> ep.Potential:
    """SevenNet-l3i5 in float64."""
    return ep.load(PARENT, dtype=torch.float64)


@pytest.fixture(scope="session")
def probes(parent: ep.Potential) -> list[Atoms]:
    """An ionic, a covalent and a metallic crystal and a molecule in a box."""
    return list(probe_structures(parent.elements).values())


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Pruned checkpoints by name, each written once per session as ``.pth``."""
    folder = tmp_path_factory.mktemp("exported")
    made: dict[str, Path] = {}

    def export(name: str) -> Path:
        if name not in made:
            source, head, targets = EXPORTS[name]
            potential = ep.load(source, head=head)
            scores = ep.data_free_scores(potential, ep.Magnitude())
            child = ep.prune(potential, ep.allocate(potential, targets, scores))
            made[name] = ep.save(child, folder / f"{name}.pth")[0]
        return made[name]

    return export


ODD = "96x0e,96x0e+48x1e+24x2e+8x3e,80x0e+16x2e+16x3e,64x0e+32x1e+16x2e,64x0e+16x1e,50x0e"
"""Other counts in every interaction, with l = 1 missing in one."""

EXPORTS: dict[str, tuple[str, str | None, list]] = {
    "7net-0-irreps": (PARENT, None, [ep.Lmax(2), ep.EdgeLmax(2)]),
    "odd": (PARENT, None, [ep.HiddenIrreps.parse(ODD), ep.Elements.parse("Na,Cl,Si,Cu,O,H,C")]),
    "single-head": ("7net-mf-0", "PBE", [ep.Heads(("PBE",)), ep.HiddenIrreps.parse("64x0e+32x1e+16x2e")]),
}
