"""Teachers: a potential of any adapter, or whatever calculator ASE can call."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError

from equiprune.errors import EquipruneError, StructureError, TargetError
from equiprune.potentials.out_of_memory import is_out_of_memory
from equiprune.potentials.potential import Potential
from equiprune.structures.sequences import Origin

Results = Mapping[str, Any]
"""``energy`` eV; ``forces`` (atoms, 3) eV/Angstrom; where there are any, ``stress`` (6,) eV/Angstrom^3 and
``energies`` (atoms,) eV, each atom's share.
"""


class CalculatorError(StructureError):
    """A calculator that fails on a structure."""


def names_calculator(text: str, folder: Path = Path()) -> bool:
    """True if a word means a calculator: it is ``module:callable``, and no file in the folder is called so.

    >>> names_calculator("ase.calculators.emt:EMT"), names_calculator("7net-0")
    (True, False)
    """
    return re.fullmatch(r"[\w.]+:\w+", text) is not None and not (folder / text).exists()


@dataclass(frozen=True)
class CalculatorTeacher:
    """A calculator of another package, in this environment.

    Attributes:
        calculator: any ASE calculator that gives energies and forces.
        name: what to call it, such as ``ase.calculators.emt:EMT``.
        options: what it was made with.
    """

    calculator: Calculator
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def named(cls, name: str, options: Mapping[str, Any] | None = None) -> CalculatorTeacher:
        """``module:callable`` called with the options. The module may also be a file of the working directory.

        >>> teacher = CalculatorTeacher.named("ase.calculators.lj:LennardJones", {"epsilon": 0.5})
        >>> [results] = teacher.results([Atoms("He2", positions=[[0, 0, 0], [0, 0, 1.12]])], [Origin(0)])
        >>> f"{results['energy']:.2f} eV"
        '-0.50 eV'

        Raises:
            TargetError: no such module or callable, or calling it fails or gives no calculator.
        """
        module, _, attribute = name.partition(":")
        try:
            with _working_directory_last():
                found = importlib.import_module(module)
            made = getattr(found, attribute)(**(options or {}))
        except (ImportError, AttributeError) as error:
            raise TargetError(f"There is no '{attribute}' in '{module}' to be imported here ({error}).") from error
        except Exception as error:  # every calculator fails in its own way
            raise TargetError(f"{name} could not be made with {dict(options or {})} ({error}).") from error
        if not hasattr(made, "get_property"):
            raise TargetError(f"{name} gives no ASE calculator but a {type(made).__name__}.")
        return cls(made, name, dict(options or {}))

    @property
    def fingerprint(self) -> str:
        """sha256 of name, version of the package and options: what is known of a calculator from outside."""
        package = sys.modules.get(self.name.partition(":")[0].split(".")[0])
        known = [self.name, getattr(package, "__version__", ""), self.options]
        return hashlib.sha256(json.dumps(known, sort_keys=True, default=repr).encode()).hexdigest()

    def results(self, structures: Sequence[Atoms], origins: Sequence[Origin]) -> list[Results]:
        """Results of the calculator, one structure after another; ``origins`` name them in errors.

        Raises:
            CalculatorError: it fails on a structure, in whatever way but for want of memory.
        """
        return [self._of(*pair) for pair in zip(structures, origins, strict=True)]

    def _of(self, atoms: Atoms, place: Origin) -> Results:
        unlabelled = atoms.copy()  # charges, magnetic moments and ``info`` may be part of the question
        wanted = ["energy", "forces", *(["stress"] if atoms.pbc.all() else []), *self._shares]
        try:
            self._forget()
            found = {name: self._property(name, unlabelled) for name in wanted}
        except Exception as error:  # every calculator fails in its own way
            if is_out_of_memory(error):  # the machine's fault, not the structure's
                raise
            said = f"{place.of(atoms)}: {self.name} failed ({type(error).__name__}: {error})."
            raise (StructureError if isinstance(error, EquipruneError) else CalculatorError)(said) from error
        return {name: value for name, value in found.items() if value is not None}

    @property
    def _shares(self) -> list[str]:
        """Atom energies, of a calculator that says it has them: others may take long to find that they do not."""
        return [name for name in ("energies",) if name in getattr(self.calculator, "implemented_properties", ())]

    def _forget(self) -> None:
        """ASE takes structures that differ only in ``info`` for the same, and would give the last results again."""
        if reset := getattr(self.calculator, "reset", None):
            reset()

    def _property(self, name: str, atoms: Atoms) -> Any:
        try:
            return self.calculator.get_property(name, atoms)
        except PropertyNotImplementedError:
            if name in ("stress", "energies"):
                return None
            raise


@contextmanager
def _working_directory_last() -> Iterator[None]:
    """Modules of the working directory can be imported, behind everything else, so that none stands in for a package.

    However equiprune was started: Python's own rule puts that directory first for ``python -m``, and nowhere for a
    script.
    """
    if "" in sys.path:  # as in a session at a prompt
        yield
        return
    sys.path.append("")
    try:
        yield
    finally:
        sys.path.remove("")


@dataclass(frozen=True)
class PotentialTeacher:
    """A model of any adapter."""

    potential: Potential

    @property
    def calculator(self) -> Calculator:
        """For molecular dynamics."""
        return self.potential.calculator()

    @property
    def fingerprint(self) -> str:
        """sha256 of its file; empty if it has not been saved."""
        return self.potential.checkpoint.sha256

    def results(self, structures: Sequence[Atoms], origins: Sequence[Origin]) -> list[Results]:
        """Predictions, evaluated as one batch; ``origins`` say where the structures are from, for errors."""
        predictions = self.potential.predict(structures, sum(map(len, structures)), origins)
        return [self._of(*pair) for pair in zip(structures, predictions, strict=True)]

    def _of(self, atoms: Atoms, prediction: Any) -> Results:
        results = {"energy": prediction.energy.item(), "forces": prediction.forces.double().cpu().numpy()}
        results["energies"] = prediction.atom_energies.double().cpu().numpy()
        if atoms.pbc.all() and "stress" in self.potential.quantities:
            results["stress"] = prediction.stress.double().cpu().numpy()[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        return results


Teacher = PotentialTeacher | CalculatorTeacher


def finite(results: Results) -> bool:
    """True if every label is a number."""
    return all(np.isfinite(value).all() for value in results.values())


def check_finite(results: Results, atoms: Atoms, place: Origin) -> None:
    """Raise `StructureError` unless every label is a number."""
    if not finite(results):
        raise StructureError(f"{place.of(atoms)}: the teacher's labels are not finite numbers.")
