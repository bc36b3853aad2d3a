"""Short outputs of codes of two ionic steps, and the same steps in eV and Angstrom, converted by hand.

The texts have as much of such files as readers look for.
"""

import math
from collections.abc import Iterable

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

FORCES = ((0.0125, -0.002, 0.003), (-0.0125, 0.002, -0.003))
"""Forces of the first step, in the unit of the code; those of the second are twice as large."""
STRESS = ((11.0, 4.0, 5.0), (4.0, 12.0, 6.0), (5.0, 6.0, 13.0))
"""xx to zz in some unit of a text, of the first step; no two components are the same."""
CELL = ((5.0, 0.0, 0.0), (0.0, 6.0, 0.0), (0.0, 0.5, 7.0))
PLACES = (((0.25, 0.5, 0.75), (1.25, 0.5, 0.75)), ((0.25, 0.5, 0.875), (1.375, 0.5, 0.75)))


def step(which: int, energy: float, force: float, stress: float, length: float = 1.0) -> Atoms:
    """The structure of a step with labels, of an energy in eV and the units of a text in eV and Angstrom."""
    atoms = Atoms("OH", length * np.array(PLACES[which]), cell=length * np.array(CELL), pbc=True)
    forces = force * (which + 1) * np.array(FORCES)
    voigt = stress * (which + 1) * np.array(STRESS).ravel()[[0, 4, 8, 5, 2, 1]]
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=voigt)
    return atoms


def table(row: str, rows: Iterable[Iterable[float]], scale: float = 1.0) -> str:
    """Lines of three numbers after their own number and name."""
    return "".join(row.format(i + 1, "OHX"[i], *(scale * x for x in r)) + "\n" for i, r in enumerate(rows))


# Quantum ESPRESSO: Ry, Ry/bohr, Ry/bohr^3 with the sign of pressure

PW_START = (
    "     Program PWSCF v.7.2 starts on  1Jan2024 at  0: 0: 0\n\n     number of atoms/cell      =            2\n"
    "     number of atomic types    =            2\n\n     celldm(1)=   2.000000  celldm(2)=   0.000000\n\n"
    "     crystal axes: (cart. coord. in units of alat)\n"
    + table("               a({0}) = ( {2:10.6f} {3:10.6f} {4:10.6f} )", CELL, 0.5)
    + "\n   Cartesian axes\n\n     site n.     atom                  positions (alat units)\n"
    + table("         {0}           {1}   tau(   {0}) = ( {2:11.7f} {3:11.7f} {4:11.7f}  )", PLACES[0], 0.5)
)
PW_NEXT = "\nCELL_PARAMETERS (bohr)\n{}\nATOMIC_POSITIONS (bohr)\n{}\n".format(
    table("{2:14.9f}{3:14.9f}{4:14.9f}", CELL), table("{1} {2:18.10f}{3:18.10f}{4:18.10f}", PLACES[1])
)


def pw_labels(which: int) -> str:
    stress = "".join(
        "".join(f"{(which + 1) * 1e-5 * x:14.8f}" for x in row)
        + "".join(f"{(which + 1) * 1e-5 * 147105.08 * x:14.2f}" for x in row)
        + "\n"
        for row in STRESS
    )
    return (
        f"\n!    total energy              =  {-34.5 - which / 8:18.8f} Ry\n"
        "     estimated scf accuracy    <       1.0E-10 Ry\n\n     Forces acting on atoms (cartesian axes, Ry/au):\n\n"
        + table("     atom    {0} type  {0}   force = {2:14.8f}{3:14.8f}{4:14.8f}", FORCES, which + 1)
        + "\n     Total force =     0.018      Total SCF correction =     0.000000\n\n"
        "     Computing stress (Cartesian axis) and pressure\n\n"
        "          total   stress  (Ry/bohr**3)                   (kbar)     P=       17.65\n" + stress + "\n"
    )


PW_END = "\n=------------------------------------------------------------------------------=\n   JOB DONE.\n"
PW = PW_START + pw_labels(0) + PW_NEXT + pw_labels(1) + PW_END


def pw_steps() -> list[Atoms]:
    """Rydberg and bohr from the constants of 2006: Ry = m e^4 / 8 eps0^2 h^2, bohr = eps0 h^2 / pi m e^2."""
    e, h, m, eps0 = 1.602176487e-19, 6.62606896e-34, 9.10938215e-31, 1 / (4e-7 * math.pi * 299792458**2)
    ry, bohr = m * e**4 / (8 * eps0**2 * h**2) / e, 1e10 * eps0 * h**2 / (math.pi * m * e**2)
    assert (ry, bohr) == pytest.approx((13.60569193, 0.52917720859), rel=1e-8)
    return [step(i, (-34.5 - i / 8) * ry, ry / bohr, -1e-5 * ry / bohr**3, bohr) for i in (0, 1)]


# VASP's OUTCAR: eV, eV/Angstrom, kbar with the sign of pressure

OUTCAR_START = (
    " POTCAR:    PAW_PBE O 08Apr2002\n POTCAR:    PAW_PBE H 15Jun2001\n"
    "   TITEL  = PAW_PBE O 08Apr2002\n   TITEL  = PAW_PBE H 15Jun2001\n POTCAR:    PAW_PBE O 08Apr2002\n"
    " POTCAR:    PAW_PBE H 15Jun2001\n   ions per type =               1   1\n"
    "   NELM   =     60;   NELMIN=  2; NELMDL= -5     # of ELM steps\n"
)
OUTCAR_TERMS = "".join(
    f"  {name:8s}" + 6 * "     0.00000" + "\n"
    for name in (
        "Alpha Z",
        "Ewald",
        "Hartree",
        "E(xc)",
        "Local",
        "n-local",
        "augment",
        "Kinetic",
        "Fock",
        "---",
        "Total",
    )
)


def outcar_step(which: int) -> str:
    voigt = (which + 1) * np.array(STRESS).ravel()[[0, 4, 8, 1, 5, 2]]
    places = "".join(
        "".join(f"{x:13.5f}" for x in place) + "   " + "".join(f"{(which + 1) * f:14.6f}" for f in force) + "\n"
        for place, force in zip(PLACES[which], FORCES, strict=True)
    )
    reciprocal = np.linalg.inv(np.array(CELL)).T
    cell = "".join("".join(f"{x:13.9f}" for x in (*a, *b)) + "\n" for a, b in zip(CELL, reciprocal, strict=True))
    return (
        f"--------------------------------------- Iteration {which + 1:6d}(   1)  --------------------------------\n"
        "  free energy    TOTEN  =       -99.00000000 eV\n\n  FORCE on cell =-STRESS in cart. coord.  units (eV):\n"
        "  Direction    XX          YY          ZZ          XY          YZ          ZX\n  ----------------\n"
        + OUTCAR_TERMS
        + "  in kB   "
        + "".join(f"{x:12.5f}" for x in voigt)
        + "\n  external pressure =       12.00 kB  Pullay stress =        0.00 kB\n\n"
        " VOLUME and BASIS-vectors are now :\n -------------------------------------\n"
        "  energy-cutoff  :      400.00\n  volume of cell :      210.00\n"
        "      direct lattice vectors                 reciprocal lattice vectors\n"
        f"{cell}\n POSITION                                       TOTAL-FORCE (eV/Angst)\n"
        " -----------------------------------------------------------------------------------\n"
        f"{places} -----------------------------------------------------------------------------------\n"
        "    total drift:                                0.000000      0.000000      0.000000\n\n"
        "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  ---------------------------------------------------\n"
        f"  free  energy   TOTEN  = {-10.5 - which / 8:19.8f} eV\n\n"
        f"  energy  without entropy= {-10.25 - which / 8:18.8f}  energy(sigma->0) = {-10.375 - which / 8:18.8f}\n\n"
    )


OUTCAR = OUTCAR_START + outcar_step(0) + outcar_step(1) + " General timing and accounting informations for this job:\n"


def outcar_steps() -> list[Atoms]:
    """A GPa is 1/160.21766208 eV/Angstrom^3; the energy is the one extrapolated to zero width."""
    return [step(i, -10.375 - i / 8, 1.0, -0.1 / 160.21766208) for i in (0, 1)]


# FHI-aims: eV, eV/Angstrom, eV/Angstrom^3 with ASE's sign


def aims_geometry(which: int) -> str:
    vectors = table("  lattice_vector   {2:16.8f}{3:16.8f}{4:16.8f}", CELL)
    return vectors + table("            atom   {2:16.8f}{3:16.8f}{4:16.8f}  {1}", PLACES[which])


def aims_labels(which: int) -> str:
    energy = f"{-2043.5 - which / 8:.15E} eV\n"
    stress = "".join(
        f"  |  {'xyz'[i]}   {''.join(f'{-1e-3 * (which + 1) * x:16.8f}' for x in row)}           |\n"
        for i, row in enumerate(STRESS)
    )
    return (
        f"  Begin self-consistency iteration #    1\n  | Electronic free energy        :   -75.09000000 Ha   {energy}"
        "  Self-consistency cycle converged.\n  |     Analytical stress tensor - Symmetrized        |\n"
        "  |     Cartesian components [eV/A**3]   |\n  +----+\n  |      x      y      z     |\n  |    |\n"
        f"{stress}  |    |\n\n  Energy and forces in a compact form:\n"
        f"  | Total energy uncorrected      :   {energy}  | Total energy corrected        :   {energy}"
        f"  | Electronic free energy        :   {energy}  Total atomic forces (unitary forces cleaned) [eV/Ang]:\n"
        + table("  | {0:4d} {2:30.15E}{3:30.15E}{4:30.15E}", FORCES, which + 1)
        + "\n"
    )


AIMS_START = (
    "          Invoking FHI-aims ...\n\n"
    + aims_geometry(0)
    + "  Input geometry:\n  | Unit cell:\n"
    + table("  | {2:18.8f}{3:18.8f}{4:18.8f}", CELL)
    + "  | Atomic structure:\n  |       Atom                x [A]            y [A]            z [A]\n"
    + table("  | {0:4d}: Species {1} {2:20.8f}{3:17.8f}{4:17.8f}", PLACES[0])
    + "\n  | Number of atoms                   :        2\n  | Number of spin channels           :        1\n"
    "  The structure contains        2 atoms,  and a total of          9.000 electrons.\n"
    "  | Number of Kohn-Sham states (occupied + empty):       11\n"
)
AIMS_USED = "  Atomic structure (and velocities) as used in the preceding time step:\n"
AIMS_AGAIN = "  Begin self-consistency loop: Re-initialization.\n"
AIMS_IMPROVED = "  Geometry optimization: Attempting to predict improved coordinates.\n"
AIMS_END = "\n          Leaving FHI-aims.\n          Have a nice day.\n"

AIMS_DYNAMICS = AIMS_START + AIMS_AGAIN.join(aims_labels(i) + AIMS_USED + aims_geometry(i) for i in (0, 1)) + AIMS_END
AIMS_RELAXATION = (
    AIMS_START
    + "  Geometry relaxation: BFGS.\n"
    + aims_labels(0)
    + AIMS_IMPROVED
    + f"  Updated atomic structure:\n{aims_geometry(1)}"
    + AIMS_AGAIN
    + aims_labels(1)
    + AIMS_IMPROVED
    + f"  Present geometry is converged.\n  Final atomic structure:\n{aims_geometry(1)}"
    + AIMS_END
)


def aims_steps() -> list[Atoms]:
    return [step(i, -2043.5 - i / 8, 1.0, -1e-3) for i in (0, 1)]


# CP2K: hartree, hartree/bohr, GPa with the sign of pressure; one structure

CP2K = (
    " DBCSR| CPU Multiplication driver                                           XSMM\n"
    " CP2K| version string:                                       CP2K version 2023.1\n"
    + "".join(
        f" CELL| Vector {'abc'[i]} [angstrom]:" + "".join(f"{x:10.3f}" for x in v) + "   |x| = 1\n"
        for i, v in enumerate(CELL)
    )
    + "  1. Atomic kind: O                                     Number of atoms:       1\n"
    "  2. Atomic kind: H                                     Number of atoms:       1\n\n"
    "  Atom  Kind  Element       X           Y           Z          Z(eff)       Mass\n\n"
    + table("     {0}     {0} {1}    8{2:12.6f}{3:12.6f}{4:12.6f}   6.00   15.9994", PLACES[0])
    + "\n  *** SCF run converged in     9 steps ***\n\n"
    " ENERGY| Total FORCE_EVAL ( QS ) energy (a.u.):              -17.250000000000000\n\n"
    " ATOMIC FORCES in [a.u.]\n\n # Atom   Kind   Element          X              Y              Z\n"
    + table("      {0}      {0}      {1} {2:20.8f}{3:15.8f}{4:15.8f}", FORCES)
    + " SUM OF ATOMIC FORCES           0.00000000     0.00000000     0.00000000     0.00000000\n\n"
    " STRESS TENSOR [GPa]\n\n            X               Y               Z\n"
    + table("  {1} {2:16.8f}{3:16.8f}{4:16.8f}", STRESS, 0.1)
    + "\n"
)


def cp2k_step() -> Atoms:
    """Hartree and bohr of CODATA 2018, and e for GPa; dpdata has them so."""
    hartree, bohr = 4.3597447222071e-18 / 1.602176634e-19, 0.529177210903
    return step(0, -17.25 * hartree, hartree / bohr, -0.1 / 160.2176634)
