"""torch-sim moves all copies as ASE moves each of them; needs its package (the extra ``torch-sim``)."""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

import equiprune as ep
from equiprune.errors import TargetError
from equiprune.evaluation.dynamics import run as run_module
from equiprune.evaluation.dynamics.engines import AseEngine, Engine, Moment, Moving
from equiprune.evaluation.dynamics.protocol import NVE, NVT, Ensemble, Equilibrating
from equiprune.evaluation.dynamics.run import Run
from equiprune.evaluation.dynamics.torch_sim import TorchSimEngine
from equiprune.evaluation.dynamics.trajectory import TrajectoryFiles

COPIES = 3
HOT = ep.DynamicsProtocol(time=1.0, timestep=1.0, temperature=900.0, copies=COPIES)


@pytest.fixture
def installed() -> None:
    pytest.importorskip("torch_sim", reason="needs torch-sim (extra torch-sim)", exc_type=ImportError)


def crystal() -> Atoms:
    """Silicon carbide in a sheared cell, with atoms outside of it."""
    atoms = bulk("SiC", "zincblende", a=4.4)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.1 * np.random.default_rng(0).standard_normal((3, 3))), True)
    atoms.rattle(0.05, seed=1)
    atoms.positions += [1.0, 20.0, -3.0]
    return atoms


def moments(
    engine: Engine, potential: ep.Potential, start: Atoms, ensemble: Ensemble, steps: int
) -> Sequence[Sequence[Moment]]:
    copies = []
    for number in range(COPIES):
        atoms = start.copy()
        atoms.calc = potential.calculator()
        atoms.set_momenta(HOT.velocities(atoms, number))
        copies.append(Moving(atoms, HOT.conditions(0, number)))
    engine.check(NVE(), copies[0].atoms)
    return list(islice(engine.batches(copies, ensemble), steps))


def check_alike(ours: Moment, theirs: Moment) -> None:
    assert theirs.potential == pytest.approx(ours.potential, abs=1e-11)
    assert theirs.kinetic == pytest.approx(ours.kinetic, abs=1e-11)
    assert theirs.conserved == (ours.conserved and pytest.approx(ours.conserved, abs=1e-11))
    assert theirs.pressure == (ours.pressure and pytest.approx(ours.pressure, abs=1e-10))
    assert theirs.hidden.keys() == ours.hidden.keys()
    assert theirs.hidden.get("random") == ours.hidden.get("random")
    np.testing.assert_allclose(theirs.atoms.positions, ours.atoms.positions, atol=1e-11)
    np.testing.assert_allclose(theirs.atoms.get_momenta(), ours.atoms.get_momenta(), atol=1e-10)
    np.testing.assert_allclose(theirs.forces, ours.forces, atol=1e-10)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("start", "ensemble", "steps"),
    [
        pytest.param(crystal(), NVE(), 60, marks=pytest.mark.slow),
        (molecule("CH3OH"), NVE(), 10),
        (crystal(), NVT(20.0), 10),
        (crystal(), Equilibrating(), 10),
    ],
    ids=["constant energy", "a molecule", "a thermostat", "friction"],
)
def test_every_copy_goes_as_in_ase(start: Atoms, ensemble: Ensemble, steps: int, toy: ep.Potential) -> None:
    """Within 1e-11 eV and Angstrom, float64; atoms leave the cell and are not wrapped."""
    ours, theirs = (moments(engine, toy, start, ensemble, steps) for engine in (AseEngine(), TorchSimEngine()))
    for one, other in zip(ours, theirs, strict=True):
        for own, each in zip(one, other, strict=True):
            check_alike(own, each)
    ends = [each.atoms.positions for each in theirs[-1]]
    assert min(np.abs(ends[0] - start.positions).max(), np.abs(ends[0] - ends[1]).max()) > 1e-3


@pytest.mark.usefixtures("installed")
def test_a_model_in_single_precision_is_integrated_in_double(toy: ep.Potential) -> None:
    """As in ASE: what differs is the rounding of forces."""
    single = toy.with_dtype(torch.float32)
    ours, theirs = (moments(engine, single, crystal(), NVE(), 5) for engine in (AseEngine(), TorchSimEngine()))
    for own, each in zip(ours[-1], theirs[-1], strict=True):
        assert np.abs(each.atoms.positions - own.atoms.positions).max() < 1e-7


@pytest.mark.usefixtures("installed")
def test_one_copy_alone_is_a_batch(toy: ep.Potential) -> None:
    atoms = crystal()
    atoms.calc = toy.calculator()
    atoms.set_momenta(HOT.velocities(atoms))
    alone = list(islice(TorchSimEngine().moments(atoms, NVE(), HOT.conditions(0), {}), 3))
    check_alike(moments(AseEngine(), toy, crystal(), NVE(), 3)[-1][0], alone[-1])


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("ensemble", [NVE(), NVT(20.0)], ids=lambda each: type(each).__name__)
def test_interrupted_is_uninterrupted(
    ensemble: Ensemble, toy: ep.Potential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In equilibration and in production, wherever the batch or the writing of its copies was."""
    monkeypatch.setattr(run_module, "PART", 4)
    protocol = ep.DynamicsProtocol(ensemble, 0.007, 1.0, equilibration=0.003, interval=2, copies=2)
    names = ("copy-0", "copy-1")

    def run(folder: str) -> Run:
        return Run(crystal(), protocol, TrajectoryFiles(tmp_path / folder, names), TorchSimEngine())

    run("whole").finish(toy.calculator())
    real = run_module.TrajectoryFiles.append
    for number in range(3):
        left = [number]

        def append(self: TrajectoryFiles, parts: dict, after: list, left: list = left) -> list:
            left[0] -= 1
            if left[0] < 0:
                self.copies[0].append(parts[0])  # and not yet that of the second copy
                raise KeyboardInterrupt
            return real(self, parts, after)

        with monkeypatch.context() as patched:
            patched.setattr(run_module.TrajectoryFiles, "append", append)
            with pytest.raises(KeyboardInterrupt):
                run(f"cut-{number}").finish(toy.calculator())
        ended = run(f"cut-{number}").finish(toy.calculator())
        assert [each.state.step for each in ended] == [7, 7]
        for path in sorted((tmp_path / "whole").glob("copy-*/*")):
            assert path.read_bytes() == (tmp_path / f"cut-{number}" / path.relative_to(tmp_path / "whole")).read_bytes()


@pytest.mark.usefixtures("installed")
def test_both_engines_measure_the_same(toy: ep.Potential, tmp_path: Path) -> None:
    """From the drawing of velocities through equilibration to the results, and the folders are alike."""
    protocol = ep.DynamicsProtocol(time=0.006, timestep=1.0, equilibration=0.002, interval=1, copies=2)
    found = []
    for engine in (AseEngine(), TorchSimEngine()):
        folder = tmp_path / engine.name
        ep.molecular_dynamics({"toy": toy}, crystal(), folder, protocol, engine=engine)
        [value] = json.loads((folder / "dynamics.json").read_text())
        found.append(value)
        assert {path.name for path in (folder / "0-toy").glob("copy-*")} == {"copy-0", "copy-1"}
    assert [value["engine"] for value in found] == ["ase", "torch-sim"]
    for name in ("temperature_K", "pressure_GPa"):
        assert found[1][name] == pytest.approx(found[0][name], rel=1e-9)
    assert found[1]["drift_meV_per_atom_per_ps"]["slope"] == pytest.approx(
        found[0]["drift_meV_per_atom_per_ps"]["slope"], abs=1e-5
    )


@pytest.mark.usefixtures("installed")
def test_what_it_cannot_do_is_refused(toy: ep.Potential) -> None:
    atoms = crystal()
    atoms.calc = toy.calculator()
    with pytest.raises(TargetError, match=r"constant energy and constant temperature .* others choose `engine` ase"):
        TorchSimEngine().check(ep.NPT(), atoms)
    atoms.calc = None
    with pytest.raises(TargetError, match="with the calculator of a potential"):
        TorchSimEngine().check(NVE(), atoms)
    atoms.pbc = (True, True, False)
    with pytest.raises(TargetError, match=r"periodic in all directions or in none. Choose `engine` ase"):
        TorchSimEngine().check(NVE(), atoms)
