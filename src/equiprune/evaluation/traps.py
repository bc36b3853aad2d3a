"""Traps: states of a machine in which models are slow or fail without saying why."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

_CARD = Path("/dev/nvidiactl")
"""A file of NVIDIA's driver on Linux."""


@dataclass(frozen=True)
class Trap:
    """A state of a machine that costs time or breaks something.

    Attributes:
        found: the state.
        help: what to do about it.
    """

    found: str
    help: str


def traps(
    versions: Callable[[str], str | None], environment: Mapping[str, str], processors: int, has_cuda: bool
) -> Iterator[Trap]:
    """The traps that a machine is in.

    Args:
        versions: of a package by its name, None where it is not installed.
        environment: variables.
        processors: that this process may use.
        has_cuda: torch sees a GPU of NVIDIA or AMD.
    """
    yield from _of_threads(environment, processors)
    yield from _of_devices(versions, has_cuda)
    yield from _of_e3nn(versions)
    yield from _of_compilers(versions, environment)


def _of_threads(environment: Mapping[str, str], processors: int) -> Iterator[Trap]:
    if processors > 1 and not environment.get("OMP_NUM_THREADS"):
        yield Trap(
            f"OMP_NUM_THREADS is not set: every process takes up to {processors} threads",
            "Set it to the processors divided by the processes at once; small structures are fastest with 1",
        )


def _of_devices(versions: Callable[[str], str | None], has_cuda: bool) -> Iterator[Trap]:
    if has_cuda:
        return
    if found := versions("cuequivariance"):
        yield Trap(
            f"cuequivariance {found} is installed and torch sees no GPU",
            "Its fast code is for NVIDIA's GPUs; MACE and SevenNet gain nothing from it on a CPU",
        )
    if _CARD.exists():
        built = torch.version.cuda
        why = f"torch {torch.__version__} was built " + (f"for CUDA {built}" if built else "without CUDA")
        yield Trap(
            f"there is an NVIDIA driver, and torch sees no GPU ({why})",
            "Install a build of torch for the driver's CUDA, or look at CUDA_VISIBLE_DEVICES",
        )


def _of_e3nn(versions: Callable[[str], str | None]) -> Iterator[Trap]:
    e3nn = versions("e3nn")
    if e3nn is None or not (versions("sevenn") and versions("mace-torch")):
        return
    broken = "MACE cannot open what it writes" if e3nn != "0.4.4" else "SevenNet needs 0.5 or later"
    yield Trap(
        f"sevenn and mace-torch are in one environment with e3nn {e3nn}: {broken}",
        "Give each an environment of its own; labels and reports go from one to the other as files",
    )


def _of_compilers(versions: Callable[[str], str | None], environment: Mapping[str, str]) -> Iterator[Trap]:
    if versions("symmetrix-xl") and not (environment.get("CXX") or shutil.which("c++") or shutil.which("g++")):
        yield Trap(
            "symmetrix-xl is installed and there is no C++ compiler",
            "It makes code for each model with a C++20 compiler: install g++ or clang++, or name one in CXX",
        )
