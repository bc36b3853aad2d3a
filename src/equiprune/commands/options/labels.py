"""Names of labels in the files."""

from __future__ import annotations

from dataclasses import dataclass

from cyclopts import Parameter

from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Complete
from equiprune.structures.labels import LabelKeys


@Parameter(name="*", group=panel("Labels"))
@dataclass(frozen=True)
class LabelOptions(Complete):
    """Names of labels in the files; without a name in REF_energy, ..., or else in the calculator results.

    Attributes:
        energy_key: of the energy: an info entry or a calculator result. eV, of the whole structure.
        forces_key: of the forces: an array or a calculator result. eV/Angstrom.
        stress_key: of the stress: an info entry or a calculator result. eV/Angstrom^3 with ASE's sign, 6 or 9 numbers.
    """

    energy_key: str | None = None
    forces_key: str | None = None
    stress_key: str | None = None

    @property
    def keys(self) -> LabelKeys:
        """The same as a value of the API."""
        return LabelKeys(self.energy_key, self.forces_key, self.stress_key)


NO_KEYS = LabelOptions()
"""Nothing said."""
