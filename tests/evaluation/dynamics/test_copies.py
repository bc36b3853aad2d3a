"""Copies of a structure: the first is today's run, each draws its own numbers, and one that crashes ends alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

import equiprune as ep
from equiprune.errors import OutputError, TargetError
from equiprune.evaluation.dynamics import simulation
from equiprune.evaluation.dynamics.crashes import Cause, Crash
from equiprune.evaluation.dynamics.distribution import Distribution
from equiprune.evaluation.dynamics.drift import Drift
from equiprune.evaluation.dynamics.engines import AseEngine
from equiprune.evaluation.dynamics.measured import ModelDynamics
from equiprune.evaluation.dynamics.motion import Spectrum
from equiprune.evaluation.dynamics.pooling import pooled
from equiprune.evaluation.dynamics.protocol import NVT, DynamicsProtocol
from equiprune.evaluation.dynamics.run import Run
from equiprune.evaluation.dynamics.statistics import Estimate
from equiprune.evaluation.dynamics.tables import main_table
from equiprune.evaluation.dynamics.trajectory import Saved, TrajectoryFiles

FILES = ("frames.extxyz", "steps.csv")


class Together(AseEngine):
    """ASE that moves all copies step by step, as an engine with batches does."""

    together = True


class Sites(Calculator):
    """Springs that hold every atom where it was at the start, and an error for displacements that it is told of."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (ASE's interface)

    def __init__(self, start: Atoms, broken: Any = lambda away: False) -> None:
        super().__init__()
        self.start, self.broken = start, broken

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        away = atoms.positions - self.start.positions
        if self.broken(away):
            raise ValueError("no such atoms")
        self.results = {"energy": float((away**2).sum()), "forces": -2.0 * away}


def crystal() -> Atoms:
    atoms = bulk("SiC", "zincblende", a=4.4)
    atoms.rattle(0.05, seed=1)
    return atoms


def pair() -> Atoms:
    return Atoms("O2", positions=[[0, 0, 0], [0, 0, 1.6]])


def together(folder: Path, calculator: Calculator, **how: Any) -> tuple[list[Saved], TrajectoryFiles]:
    protocol = DynamicsProtocol(**{"time": 0.04, "timestep": 1.0, "equilibration": 0.0, "copies": 3, **how})
    files = TrajectoryFiles(folder, tuple(f"copy-{number}" for number in range(protocol.copies)))
    return Run(pair(), protocol, files, Together()).finish(calculator), files


@pytest.mark.slow
def test_the_first_copy_is_that_of_a_single_one(toy: ep.Potential, tmp_path: Path) -> None:
    """To the bit, through relaxation, equilibration and a thermostat; the others are different."""
    how: dict[str, Any] = {"time": 0.004, "timestep": 1.0, "equilibration": 0.003, "interval": 1, "relax": True}
    for copies in (1, 2):
        protocol = ep.DynamicsProtocol(NVT(20.0), **how, copies=copies)
        ep.molecular_dynamics({"toy": toy}, crystal(), tmp_path / str(copies), protocol)
    single, several = tmp_path / "1" / "0-toy", tmp_path / "2" / "0-toy"
    for name in FILES:
        assert (single / name).read_bytes() == (several / "copy-0" / name).read_bytes()
        assert (single / name).read_bytes() != (several / "copy-1" / name).read_bytes()


def test_velocities_and_noise_of_copies_have_nothing_in_common() -> None:
    protocol, atoms = DynamicsProtocol(seed=3), Atoms("Ar400")
    drawn = np.array([protocol.velocities(atoms, copy).ravel() for copy in range(4)])
    assert np.abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.1
    seeds = {protocol.conditions(step, copy).seed for step in (-1, 0) for copy in range(4)}
    assert len(seeds) == 8
    assert protocol.conditions(-1).seed == (3, 1)


@pytest.mark.slow
def test_moved_together_or_one_after_another_is_the_same(tmp_path: Path) -> None:
    how: dict[str, Any] = {"equilibration": 0.005, "ensemble": NVT(20.0)}
    _, files = together(tmp_path / "together", Sites(pair()), **how)
    for number, copy in enumerate(files.copies):
        alone = TrajectoryFiles(tmp_path / str(number))
        protocol = DynamicsProtocol(time=0.04, timestep=1.0, **how)
        Run(pair(), protocol, alone, AseEngine(), first=number).finish(Sites(pair()))
        for name in FILES:
            assert (copy.folder / name).read_bytes() == (alone.folder / name).read_bytes()


@pytest.mark.slow
def test_a_copy_that_crashes_ends_alone(tmp_path: Path) -> None:
    """The part ends for all where it does, the others go on from there, and it is known by its own error."""
    free, before = together(tmp_path / "free", Sites(pair()), interval=1)
    reached = [
        max(np.abs(frame.positions - pair().positions).max() for frame in each.frames()) for each in before.copies
    ]
    most, limit = int(np.argmax(reached)), np.sort(reached)[-2] + 1e-6
    saved, files = together(tmp_path / "cut", Sites(pair(), lambda away: np.abs(away).max() > limit), interval=1)
    crashed = [each.crash is not None for each in saved]
    crash = saved[most].crash
    assert crash is not None
    assert (crash.cause, crash.said) == (Cause.FAILED, "the model failed: no such atoms")
    assert crashed.count(True) == 1
    assert saved[most].state.step == crash.step - 1 < 40
    assert (files.copies[most].folder / "last_good.extxyz").exists()
    for number, each in enumerate(saved):
        if number != most:
            assert each.state.step == 40
            np.testing.assert_allclose(each.state.positions, free[number].state.positions, atol=1e-12)
            assert files.copies[number].steps()["step"].tolist() == list(range(1, 41))


def test_a_batch_that_fails_for_no_copy_alone_ends_for_all(tmp_path: Path) -> None:
    calls = [0]

    def once(away: np.ndarray) -> bool:
        calls[0] += 1
        return calls[0] == 20

    saved, _ = together(tmp_path / "a", Sites(pair(), once))
    assert [each.crash and each.crash.cause for each in saved] == [Cause.FAILED] * 3
    assert len({each.state.step for each in saved}) == 1


@pytest.mark.slow
def test_what_was_begun_with_other_copies_is_refused(
    toy: ep.Potential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    def run(copies: int) -> list[ModelDynamics]:
        protocol = ep.DynamicsProtocol(time=0.002, timestep=1.0, equilibration=0.0, copies=copies)
        return ep.molecular_dynamics({"toy": toy}, crystal(), tmp_path / "out", protocol)

    with monkeypatch.context() as patched:
        patched.setattr(simulation, "plot_dynamics", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(2)
    with pytest.raises(OutputError, match="is dynamics of other models, another structure or another protocol"):
        run(1)
    [found] = run(2)
    assert found.steps == 4
    [value] = json.loads((tmp_path / "out" / "dynamics.json").read_text())
    assert [each["steps"] for each in value["copies"]] == [2, 2]
    with pytest.raises(TargetError, match="`copies` 0 is not possible: give 1 or more"):
        ep.DynamicsProtocol(copies=0)


def measured(kelvin: float, peak: float, crash: Crash | None = None) -> ModelDynamics:
    radii = np.array([1.0, 2.0])
    return ModelDynamics(
        "m",
        8,
        DynamicsProtocol(copies=3),
        {"engine": "ase"},
        steps=100,
        crash=crash,
        drift=Drift(Estimate(kelvin / 1e4, 1.0), kelvin / 100, limit=0.1),
        temperature=Estimate(kelvin, 99.0),
        distributions=[Distribution(("O", "O"), radii, np.array([peak, 1.0]), np.full(2, 9.0))],
        diffusion={"O": Estimate(peak, 9.0)},
        spectrum=Spectrum(radii, np.array([peak, 1.0])),
        steps_per_second=peak,
        curves={"time_ps": radii, "temperature_K": np.full(2, kelvin)},
    )


def test_error_bars_are_the_scatter_of_copies() -> None:
    found = pooled([measured(300, 1.0), measured(310, 2.0), measured(320, 4.0)])
    assert found.temperature == Estimate(310, pytest.approx(10 / np.sqrt(3)))
    assert found.drift is not None
    assert found.drift.slope == Estimate(pytest.approx(0.031), pytest.approx(1e-3 / np.sqrt(3)))
    assert found.drift.rms == pytest.approx(np.sqrt((9 + 9.61 + 10.24) / 3))
    assert found.distributions[0].values.tolist() == [pytest.approx(7 / 3), 1.0]
    assert found.distributions[0].errors.tolist() == [pytest.approx(np.std([1, 2, 4], ddof=1) / np.sqrt(3)), 0.0]
    assert found.diffusion["O"].value == pytest.approx(7 / 3)
    assert found.spectrum is not None
    assert found.spectrum.density.tolist() == [pytest.approx(7 / 3), 1.0]
    assert found.curves["temperature_K"].tolist() == [310, 310]
    assert found.steps_per_second == pytest.approx(3 / (1 + 1 / 2 + 1 / 4)), "300 steps in the time of all"
    assert (found.steps, found.pressure, found.passed, len(found.copies)) == (300, None, True, 3)
    assert found.to_json()["copies"][2]["temperature_K"]["value"] == 320


def test_a_single_copy_is_what_it_is() -> None:
    only = measured(300, 1.0)
    assert pooled([only]) is only
    assert only.to_json()["copies"] == []


def test_copies_that_crashed_are_said_and_left_out_of_means() -> None:
    late, early = (Crash(Cause.TOO_HOT, "5000 K", step, step / 2000) for step in (9, 5))
    found = pooled([measured(300, 1.0), measured(900, 2.0, late), measured(800, 2.0, early)])
    assert found.temperature is not None
    assert found.temperature.value == 300
    assert np.isnan(found.temperature.error), "one copy has no scatter"
    assert str(found.crash) == "after 0.0025 ps (step 5): copy 2: 5000 K (2 of 3 copies crashed)"
    assert not found.passed
    nothing = pooled([measured(900, 2.0, late), measured(800, 2.0, early)])
    assert (nothing.temperature, nothing.drift, nothing.spectrum, list(nothing.distributions)) == (None,) * 3 + ([],)
    assert main_table([nothing])[1][4] == "crashed"
