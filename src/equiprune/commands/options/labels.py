"""Names of labels in the files."""

from __future__ import annotations

from dataclasses import dataclass

from cyclopts import Parameter

from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Complete
from equiprune.errors import TargetError
from equiprune.structures.labels import LabelKeys
from equiprune.structures.stress_units import StressSign, StressUnit, StressUnitName


@Parameter(name="*", group=panel("Labels"))
@dataclass(frozen=True)
class LabelOptions(Complete):
    """Names of labels in the files; without a name in REF_energy, ..., or else in the calculator results.

    Attributes:
        energy_key: of the energy: an info entry or a calculator result. eV, of the whole structure.
        forces_key: of the forces: an array or a calculator result. eV/Angstrom.
        stress_key: of the stress: an info entry or a calculator result. eV/Angstrom^3 with ASE's sign, 6 or 9 numbers.
        stress_unit: of the stresses, where that is another one: GPa, kbar, or eV for virials, which are divided by the
            volume.
        stress_sign: tension (ASE) where stresses are positive in a stretched cell, pressure (VASP) where they are
            positive in a compressed one.
    """

    energy_key: str | None = None
    forces_key: str | None = None
    stress_key: str | None = None
    stress_unit: StressUnitName | None = None
    stress_sign: StressSign | None = None

    def check(self) -> None:
        if self.stress_unit == "eV" and self.stress_sign is None:
            raise TargetError(
                "Virials have either sign: with `stress_unit` eV also give `stress_sign`, pressure where they are "
                "positive under compression (DeePMD, GAP), tension otherwise."
            )

    @property
    def keys(self) -> LabelKeys:
        """The same as a value of the API."""
        unit = None
        if self.stress_unit is not None or self.stress_sign is not None:
            unit = StressUnit(self.stress_unit or "eV/Angstrom^3", self.stress_sign or "tension")
        return LabelKeys(self.energy_key, self.forces_key, self.stress_key, stress_unit=unit)


NO_KEYS = LabelOptions()
"""Nothing said."""
