"""Crystals: relaxation, equation of state, elastic constants.

Volumes are scanned and cells deformed by matcalc (https://github.com/materialyzeai/matcalc), whose fits are those of
pymatgen. Read in version 0.7, it leaves three things unsaid, which are said here: whether each point of a scan and each
deformed cell came to rest (`optimiser_at_rest` raises), whether the fit of an equation of state is good and has its
minimum within the scan, and whether the elastic constants are those of a stable crystal (Born's conditions). Its own
warning about the fit of elastic constants is switched off: it averages over stresses that vanish by symmetry, and warns
of perfect cubic crystals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from ase import Atoms

from equiprune.errors import EquipruneError, TargetError
from equiprune.evaluation.properties.at_rest import optimiser_at_rest
from equiprune.evaluation.properties.outcomes import UnmeasurableError, Values, Why
from equiprune.evaluation.properties.quantity import Model, Property, Quantity, Relaxed
from equiprune.evaluation.properties.subjects import Subject
from equiprune.evaluation.relaxation import RelaxationRules
from equiprune.files.settings import kind

RULES = RelaxationRules()
"""Rules of relaxations, unless others are given."""

_WORST_FIT = 1e-3
"""Share of the variance of energies that an equation of state may leave unexplained."""


@kind("relaxation_property")
@dataclass(frozen=True)
class RelaxedCrystal(Property):
    """The crystal at rest, and how far it is from its start.

    A start that is relaxed at the level of theory of the labels makes the change of the volume and the displacement
    errors of the model.
    """

    name: ClassVar[str] = "relaxation"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("energy", "energy", "meV/atom"),
        Quantity("volume", "volume", "Angstrom^3/atom"),
        Quantity("volume_change", "change of volume", "%"),
        Quantity("displacement", "RMSD from the start", "Angstrom"),
        Quantity("steps", "steps", ""),
    )

    def measure(self, subject: Subject, model: Model, at_rest: Callable[[], Relaxed]) -> Values:
        found, start = at_rest(), subject.atoms
        volume = found.atoms.cell.volume
        return {
            "energy": 1e3 * found.energy / len(start),
            "volume": volume / len(start),
            "volume_change": 100 * (volume / start.cell.volume - 1),
            "displacement": displacement(start, found.atoms),
            "steps": float(found.steps),
        }


def displacement(start: Atoms, end: Atoms) -> float:
    """Root mean square distance of atoms from where they were, Angstrom; strain and drift of the whole do not count.

    >>> cell = Atoms("Cu2", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[4, 4, 4], pbc=True)
    >>> moved = Atoms("Cu2", scaled_positions=[[0, 0, 0.1], [0.5, 0.5, 0.5]], cell=[5, 5, 5], pbc=True)
    >>> round(displacement(cell, moved), 3)
    0.2
    """
    moved = end.get_scaled_positions(wrap=False) - start.get_scaled_positions(wrap=False)
    moved -= np.round(moved)
    distances = (moved - moved.mean(axis=0)) @ start.cell.array
    return float(np.sqrt((distances**2).sum(axis=1).mean()))


@kind("equation_of_state")
@dataclass(frozen=True)
class EquationOfState(Property):
    """Energies of volumes around the crystal at rest, fitted by Birch and Murnaghan's equation (Phys. Rev. 71, 809).

    At each volume the atoms and the shape of the cell are relaxed.

    Attributes:
        strain: largest change of lengths, of 1; 0.03 is 9 % of the volume.
        points: volumes, an odd number.
        rules: of relaxations.
    """

    name: ClassVar[str] = "eos"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("volume", "equilibrium volume", "Angstrom^3/atom"),
        Quantity("bulk_modulus", "bulk modulus", "GPa"),
    )

    strain: float = 0.03
    points: int = 7
    rules: RelaxationRules = RULES

    def __post_init__(self) -> None:
        _check_strains("strain", (self.strain,))
        if self.points < 5 or self.points % 2 == 0:
            raise TargetError(f"`points` {self.points} is not possible: give an odd number, 5 or more.")

    def check_installed(self) -> None:
        _matcalc()

    def measure(self, subject: Subject, model: Model, at_rest: Callable[[], Relaxed]) -> Values:
        start = at_rest().atoms
        found = _matcalc().EOSCalc(
            model.calculator,
            relax_structure=False,
            max_abs_strain=self.strain,
            n_points=self.points,
            **_how(self.rules, start.cell.volume),
            r2_min=-np.inf,
        )
        with _fitting():
            scan = found.calc(start)["eos"]
        volume, modulus = birch_murnaghan(np.array(scan["volumes"]), np.array(scan["energies"]))
        return {"volume": volume / len(start), "bulk_modulus": modulus}


def birch_murnaghan(volumes: np.ndarray, energies: np.ndarray) -> tuple[float, float]:
    """Equilibrium volume (Angstrom^3) and bulk modulus (GPa) of energies (eV) of volumes, by pymatgen's fit.

    Raises:
        UnmeasurableError: the minimum is not within the scan, or the equation does not fit.
    """
    from pymatgen.analysis.eos import BirchMurnaghan  # an optional package

    if energies.argmin() in (0, len(energies) - 1):
        raise UnmeasurableError(Why.BAD_FIT, "the energy has no minimum within the volumes of the scan")
    fit = BirchMurnaghan(volumes.tolist(), energies.tolist())
    with _fitting():
        fit.fit()
    left = float(((fit.func(volumes) - energies) ** 2).mean() / energies.var())
    if not left < _WORST_FIT:
        raise UnmeasurableError(Why.BAD_FIT, f"the equation of state leaves {100 * left:.2g} % of the variance")
    return float(fit.v0), float(fit.b0_GPa)


@contextmanager
def _fitting() -> Iterator[None]:
    """Errors of pymatgen's fits are reasons."""
    from pymatgen.analysis.eos import EOSError  # an optional package

    try:
        yield
    except EOSError as error:
        raise UnmeasurableError(Why.BAD_FIT, f"no equation of state fits the energies ({error})") from error


@kind("elasticity")
@dataclass(frozen=True)
class Elasticity(Property):
    """Elastic moduli of the polycrystal from stresses of deformed cells (averages of Voigt, Reuss and Hill).

    Attributes:
        normal: strains along an axis, of 1.
        shear: strains across, of 1.
        moving: relax the atoms in deformed cells, as in an experiment; else they are strained with the cell.
        rules: of relaxations.
    """

    name: ClassVar[str] = "elasticity"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("bulk_modulus", "K_VRH", "GPa", "K_vrh_GPa"),
        Quantity("shear_modulus", "G_VRH", "GPa", "G_vrh_GPa"),
    )

    normal: tuple[float, ...] = (-0.01, 0.01)
    shear: tuple[float, ...] = (-0.03, 0.03)
    moving: bool = True
    rules: RelaxationRules = RULES

    def __post_init__(self) -> None:
        _check_strains("normal", self.normal)
        _check_strains("shear", self.shear)

    def check_installed(self) -> None:
        _matcalc()

    def measure(self, subject: Subject, model: Model, at_rest: Callable[[], Relaxed]) -> Values:
        start = at_rest().atoms
        found = _matcalc().ElasticityCalc(
            model.calculator,
            norm_strains=self.normal,
            shear_strains=self.shear,
            relax_structure=False,
            relax_deformed_structures=self.moving,
            relax_calc_kwargs=_how(self.rules, start.cell.volume),
            units_GPa=True,
            r2_min=-np.inf,
        )
        try:
            moduli = found.calc(start)
        except np.linalg.LinAlgError as error:
            raise UnmeasurableError(Why.UNSTABLE, "a deformation has no stiffness at all: it is unstable") from error
        check_stable(np.array(moduli["elastic_tensor"].voigt))
        return {
            "bulk_modulus": float(moduli["bulk_modulus_vrh"]),
            "shear_modulus": float(moduli["shear_modulus_vrh"]),
        }


def check_stable(stiffness: np.ndarray) -> None:
    """Raise `UnmeasurableError` unless elastic constants (6, 6) in GPa, in Voigt's order, are of a stable crystal.

    Every deformation must cost energy: all eigenvalues are positive (Born's conditions; Phys. Rev. B 90, 224104).

    >>> check_stable(np.diag([100.0, 100, 100, 50, 50, 50]))
    """
    if not np.isfinite(stiffness).all():
        raise UnmeasurableError(Why.NOT_FINITE, "elastic constants are not finite numbers")
    smallest = float(np.linalg.eigvalsh((stiffness + stiffness.T) / 2)[0])
    if not smallest > 0:
        raise UnmeasurableError(Why.UNSTABLE, f"a deformation has the stiffness {smallest:.2g} GPa: it is unstable")


def _check_strains(name: str, strains: tuple[float, ...]) -> None:
    if not strains or not all(0 < abs(strain) < 0.2 for strain in strains):
        raise TargetError(
            f"`{name}` {', '.join(map(str, strains)) or 'without a number'} is not possible: give numbers between -0.2 "
            "and 0.2, none of them 0."
        )


def _how(rules: RelaxationRules, volume: float) -> Mapping[str, Any]:
    """Rules of relaxations as matcalc takes them."""
    return {"optimizer": optimiser_at_rest(rules, volume), "fmax": rules.fmax, "max_steps": rules.steps}


def _matcalc() -> Any:
    """An optional package, slow to import.

    Raises:
        EquipruneError: it is not installed, or damaged.
    """
    try:
        import matcalc
    except ImportError as error:
        raise EquipruneError(
            f"Equations of state and elastic constants need matcalc ({error}). pip install 'equiprune[properties]'"
        ) from error
    return matcalc
