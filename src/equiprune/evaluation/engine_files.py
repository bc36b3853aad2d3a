"""Files of evaluation engines: a model converted to what an engine reads, and compared with upstream's code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from equiprune.adapters import usable_adapters
from equiprune.adapters.engines import FileEngine
from equiprune.errors import TargetError
from equiprune.evaluation.engines import ForeignEngine, compare, engines_of
from equiprune.files.atomic import check_writable, replacing
from equiprune.potentials.potential import Potential
from equiprune.structures.probes import element_structures, probe_structures


def engine_of_file(path: Path) -> FileEngine | None:
    """The engine that reads files of this name, of any architecture; None where none does.

    >>> engine_of_file(Path("small.model")) is None
    True
    """
    engines = (engine for adapter in usable_adapters() for engine in engines_of(adapter))
    return next((e for e in engines if isinstance(e, FileEngine) and path.name.endswith(e.suffix)), None)


def converted(potential: Potential, path: Path) -> tuple[Path, ...]:
    """Convert a model of all its elements to the file of an engine, which the name stands for; what was written.

    Before the file gets its name the engine opens it, and its energies and forces of the probe structures, and of cells
    that together have all elements, must be those of upstream's code in float64, within the limits of the engine, and
    forces the derivative of the energy.

    Args:
        potential: the model; of one with heads the head that the engine evaluates unless told otherwise.
        path: a new file whose name ends as the engine's files do.

    Raises:
        TargetError: the engine cannot convert or evaluate the model, or gives other numbers; nothing is kept.
        OutputError: ``path`` exists or cannot be written.
    """
    check_writable(path)
    engine = engine_of_file(path)
    if engine is None:
        raise TargetError(f"No engine reads files that are called '{path.name}'.")
    double = potential.with_dtype(torch.float64)
    foreign = ForeignEngine(engine.name)
    foreign.check(double)
    with replacing(path, new=True) as temporary:
        engine.write(double.checkpoint, double.elements, double.head, temporary)
        own = replace(double, evaluator=engine.opened(temporary, torch.float64))
        for atoms in (*probe_structures(double.elements).values(), *element_structures(double.elements)):
            compare(foreign, own, double, atoms)
    return (path,)
