"""What stock MACE tools do with pruned models, in processes that never heard of equiprune.

`support.TABLE` says what is expected; the page docs/mace-tools.md is made from it. A tool that opens a file must give
the energies, forces and stresses of the model in memory; a tool that cannot must say so and give no numbers.
"""

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import support
import torch
from ase import Atoms
from random_mace import KINDS, random_checkpoint, stock
from support import TABLE, Expectation, Kind, Outcome, Tool

import equiprune as ep
from equiprune.adapters.mace import MaceAdapter
from equiprune.adapters.mace.architecture import MaceArchitecture
from equiprune.blocks import BlockMask

ELEMENTS = (8, 14, 29)
TRAINED = (14, 29)
"""Elements of the structures: fine-tuning drops oxygen, which its structures lack."""
PAGE = Path(__file__).parents[3] / "docs" / "mace-tools.md"

Said = Mapping[str, Any]
"""By model: energy, forces and stress of each structure, or the text of an error."""


# What is opened.


def parent(arch: MaceArchitecture, head: str | None = None) -> ep.Potential:
    return ep.Potential.create(MaceAdapter(), random_checkpoint(arch), torch.float64, head)


def pruned(arch: MaceArchitecture, *targets: Any, head: str | None = None, heterogeneous: bool = False) -> ep.Potential:
    """A random model without some elements and what else the targets say, by random scores."""
    whole = parent(arch, head)
    scores = ep.data_free_scores(whole, ep.Random(0))
    return ep.prune(whole, ep.allocate(whole, [ep.Elements(ELEMENTS), *targets], scores, heterogeneous=heterogeneous))


def uniform(lmax: int) -> ep.Potential:
    """Everything is cut for which upstream's constructor has one number."""
    narrower = [ep.Channels(3), ep.RadialWidth((6, 5)), ep.RadialBasis(4)]
    return pruned(stock(lmax=2), *narrower, ep.Lmax(lmax), ep.Correlation(2))


def other_edge_irreps() -> ep.Potential:
    """5x0e+4x1o enter the second convolution, hidden features are 6x0e+6x1o."""
    arch = stock(6, correlation=2)
    [space] = [space for space in MaceAdapter().feature_spaces(arch) if space.name == "edge_irreps.1"]
    kept = {ir: range(1, mul - ir.l) for mul, ir in space.irreps}
    return pruned(arch, ep.Exactly(ep.PruningPlan({space.name: BlockMask.keep(space.irreps, kept)})))


def counts_that_differ() -> ep.Potential:
    irreps = ep.HiddenIrreps.parse("5x0e,4x0e+3x1o,6x0e")
    return pruned(stock(6, correlation=2), irreps, ep.BasisLmax((2, 1)), heterogeneous=True)


def alike_in_the_middle() -> ep.Potential:
    """Hidden irreps as upstream has them: nothing in them tells a tool that other numbers differ."""
    irreps, widths = ep.HiddenIrreps.parse("5x0e,6x0e+6x1o,5x0e"), ep.RadialWidth((8, 6, 8, 7))
    return pruned(stock(6, correlation=2), irreps, widths, heterogeneous=True)


def shallow() -> ep.Potential:
    return pruned(stock(6, correlation=2), ep.Interactions(1))


def one_of_two_heads() -> ep.Potential:
    return pruned(KINDS["density, ZBL, Agnesi, two heads, max_ell 3"], ep.Channels(3), head="r2scan")


MODELS: Mapping[str, tuple[Kind, Callable[[], ep.Potential]]] = {
    "L = 0": (support.UNIFORM, lambda: uniform(0)),
    "L = 1": (support.UNIFORM, lambda: uniform(1)),
    "L = 2": (support.UNIFORM, lambda: uniform(2)),
    "edge irreps": (support.EDGE_IRREPS, other_edge_irreps),
    "depth": (support.DEPTH, shallow),
    "orders": (support.ORDERS, lambda: pruned(stock(3), ep.Correlation((3, 2)))),
    "counts that differ": (support.HETEROGENEOUS, counts_that_differ),
    "alike in the middle": (support.HETEROGENEOUS, alike_in_the_middle),
    "depth, non-linear readout": (support.DEPTH_NONLINEAR, lambda: ep.grow(shallow(), ep.NonlinearReadout(6))),
    "one of two heads": (support.HEADS, one_of_two_heads),
}


@dataclass(frozen=True)
class Exported:
    """A pruned model in memory, and the file that holds it."""

    kind: Kind
    potential: ep.Potential
    path: Path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, mp_small: Path | None) -> Mapping[str, Exported]:
    """Each model, written once."""
    folder = tmp_path_factory.mktemp("exported")
    made = {name: (kind, make()) for name, (kind, make) in MODELS.items()}
    if mp_small is not None:
        whole = ep.load(mp_small, dtype=torch.float64)
        plan = ep.allocate(whole, [ep.Channels(32)], ep.data_free_scores(whole, ep.Magnitude()))
        made["MACE-MP-0 small"] = (support.OFFICIAL, ep.prune(whole, plan))
    return {
        name: Exported(kind, potential, ep.save(potential, folder / f"{name.replace(' ', '_')}.model")[0])
        for name, (kind, potential) in made.items()
    }


@pytest.fixture(scope="module")
def structures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Si, Cu and their compounds, periodic, as a file."""
    path = tmp_path_factory.mktemp("structures") / "probes.extxyz"
    ase.io.write(path, list(ep.probe_structures(TRAINED).values()))
    return path


# Processes that never heard of equiprune.


def _process(*words: str) -> dict[str, Any]:
    """What a new interpreter prints last."""
    command = [sys.executable, "-W", "ignore", support.__file__, *words]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def opened(tool: Tool, structures: Path, paths: Mapping[str, Path], exported: Mapping[str, Exported]) -> Said:
    heads = {name: model.potential.head for name, model in exported.items()}
    models = [(name, str(path), {"head": heads[name]} if heads[name] else {}) for name, path in paths.items()]
    return _process("open", str(support.TOOLS.index(tool)), str(structures), json.dumps(models))


def commanded(
    tool: Tool, folder: Path, exported: Mapping[str, Exported], *more: str
) -> tuple[dict[str, Path], dict[str, str]]:
    """What a command wrote for each model, and what it said where it failed."""
    written, commands = {}, []
    for number, (name, model) in enumerate(exported.items()):
        own = folder / str(number)
        own.mkdir()
        head = ("--head", model.potential.head) if model.potential.head else ()
        words = shlex.split(tool.shown.replace("{model}", str(model.path)))
        commands.append((name, str(own), [*words, *more, *head]))
        written[name] = own / tool.writes.replace("{model}", str(model.path))
    codes = _process("run", json.dumps(commands))
    failed = {name: (own / "log").read_text() for name, own, _ in map(lambda c: (c[0], Path(c[1]), c[2]), commands) if codes[name]}
    return {name: path for name, path in written.items() if not codes[name]}, failed
