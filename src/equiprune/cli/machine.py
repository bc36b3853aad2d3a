"""A machine in words and tables, for people."""

from __future__ import annotations

from collections.abc import Mapping

from equiprune.cli.display import show, show_table
from equiprune.evaluation.machine import ArchitectureHere, Machine


def show_machine(machine: Machine) -> None:
    """Devices and packages, engines by architecture, engines of dynamics, extras, traps."""
    facts = [
        ["Python", f"{machine.python}, {machine.system}, {machine.processors} processors"],
        ["torch", f"{machine.torch}, {machine.threads} threads"],
        *([device.name, ", ".join([device.kind, *_gib(device.memory_bytes)])] for device in machine.devices),
        *([package, found] for package, found in machine.packages.items()),
    ]
    show_table("This machine", [["", ""], *facts])
    show_table("Engines that evaluate models", [["architecture", "packages", "engines here"], *_engines(machine)])
    if absent := [row for each in machine.architectures for row in _absent(each)]:
        show_table("Engines that are not here", [["architecture", "engine", "why", "how to get it"], *absent])
    for each in machine.architectures:
        for advice in each.advice:
            show(f"Faster for {each.name}: {advice}.")
    lacking = {name: f"lacks {', '.join(of)}" if of else "here" for name, of in machine.dynamics.items()}
    show_table("Engines of dynamics", [["engine", ""], *map(list, lacking.items())])
    extras = [[e.name, "here" if not e.lacking else f"{', '.join(e.lacking)}: {e.command}"] for e in machine.extras]
    show_table("Extras", [["extra", "what it lacks, and how to get it"], *extras])
    for trap in machine.traps:
        show(f"Trap: {trap.found}. {trap.help}.")


def _gib(memory: int | None) -> list[str]:
    return [] if memory is None else [f"{memory / 2**30:.0f} GiB"]


def _engines(machine: Machine) -> list[list[str]]:
    return [[each.name, _versions(each.packages), _here(each)] for each in machine.architectures]


def _versions(packages: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {found or 'not installed'}" for name, found in packages.items())


def _here(of: ArchitectureHere) -> str:
    return ", ".join(f"{name} (default)" if name == of.default else name for name, why in of.engines.items() if not why)


def _absent(of: ArchitectureHere) -> list[list[str]]:
    """A row of each engine with its reason; none where the packages of the architecture say it already."""
    return [[of.name, name, why, of.install.get(name, "")] for name, why in of.engines.items() if why and of.installed]
