"""Dynamics of one model: interrupted is uninterrupted, what is known comes out, and what has left physics ends."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

import equiprune as ep
from equiprune.errors import OutputError, StructureError
from equiprune.evaluation.dynamics import crashes, trajectory
from equiprune.evaluation.dynamics import run as run_module
from equiprune.evaluation.dynamics.crashes import Cause, Crash
from equiprune.evaluation.dynamics.engines import AseEngine
from equiprune.evaluation.dynamics.measured import Measuring, ModelDynamics
from equiprune.evaluation.dynamics.protocol import NPT, NVE, NVT, DynamicsProtocol, Ensemble
from equiprune.evaluation.dynamics.run import Run
from equiprune.evaluation.dynamics.trajectory import CopyFiles, Saved, TrajectoryFiles

pytestmark = pytest.mark.slow  # whole runs


class Forces(Calculator):
    """Forces (atoms, 3) and energy by a formula, and a stress of zero."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012 (ASE's interface)

    def __init__(self, formula: Callable[[Atoms], tuple[float, np.ndarray]]) -> None:
        super().__init__()
        self.formula, self.calls = formula, 0

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        energy, forces = self.formula(atoms)
        self.results = {"energy": energy, "forces": forces, "stress": np.zeros(6)}


def free(atoms: Atoms) -> tuple[float, np.ndarray]:
    """No interaction at all."""
    return 0.0, np.zeros((len(atoms), 3))


def spring(stiffness: float, length: float) -> Callable[[Atoms], tuple[float, np.ndarray]]:
    """A harmonic bond of two atoms: eV/Angstrom^2 and Angstrom."""

    def formula(atoms: Atoms) -> tuple[float, np.ndarray]:
        bond = atoms.positions[1] - atoms.positions[0]
        apart = np.linalg.norm(bond)
        pull = stiffness * (apart - length) * bond / apart
        return stiffness * (apart - length) ** 2 / 2, np.array([pull, -pull])

    return formula


def sites(stiffness: float, start: Atoms) -> Callable[[Atoms], tuple[float, np.ndarray]]:
    """Springs that hold every atom where it was at the start, eV/Angstrom^2."""

    def formula(atoms: Atoms) -> tuple[float, np.ndarray]:
        away = atoms.positions - start.positions
        return stiffness * (away**2).sum() / 2, -stiffness * away

    return formula


@pytest.fixture
def passing_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Atoms of an ideal gas may be at the same place."""
    monkeypatch.setattr(crashes, "too_close", lambda atoms, fraction: False)


def molecule() -> Atoms:
    return Atoms("O2", positions=[[0, 0, 0], [0, 0, 1.3]])


def gas(count: int = 32) -> Atoms:
    """Argon on a grid, in a periodic cell."""
    return bulk("Ar", "fcc", a=5.3, cubic=True).repeat(2)[:count]


def moved(folder: Path, start: Atoms, calculator: Calculator, **how: Any) -> tuple[Saved, ModelDynamics, CopyFiles]:
    protocol = DynamicsProtocol(**{"equilibration": 0.0, "interval": 1, **how})
    files = TrajectoryFiles(folder)
    [saved], [copy] = Run(start, protocol, files, AseEngine()).finish(calculator), files.copies
    return saved, Measuring(start, protocol).of("model", copy, saved, {}), copy


# Interrupted is uninterrupted.


class Interrupting(Calculator):
    """A calculator during which Ctrl-C is pressed at one of its calls."""

    def __init__(self, inner: Calculator, call: int) -> None:
        super().__init__()
        self.inner, self.left = inner, call
        self.implemented_properties = inner.implemented_properties

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        super().calculate(atoms, properties, system_changes)
        self.inner.calculate(atoms, properties, system_changes)
        self.results = self.inner.results


def bits(files: TrajectoryFiles | CopyFiles) -> list[Any]:
    """Everything that does not depend on the clock."""
    [saved] = TrajectoryFiles(files.folder).saved() or []
    data = [(files.folder / name).read_bytes() for name in (trajectory.FRAMES, trajectory.STEPS)]
    return [*data, saved.state.to_json(), saved.timed]


@pytest.mark.parametrize("ensemble", [NVE(), NVT(20.0), NPT(0.5, 20.0, 50.0)], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("call", [2, 5, 8, 14])
def test_interrupted_is_uninterrupted(
    ensemble: Ensemble, call: int, toy: ep.Potential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In equilibration, at its end, within a part and between two, with whatever an attempt left behind."""
    monkeypatch.setattr(run_module, "PART", 4)
    start = bulk("Si", "diamond", a=5.4)
    start.rattle(0.05, seed=1)
    protocol = DynamicsProtocol(ensemble, time=0.010, timestep=1.0, equilibration=0.006, interval=3, seed=4)
    whole, cut = (Run(start, protocol, TrajectoryFiles(tmp_path / name), AseEngine()) for name in ("whole", "cut"))
    whole.finish(toy.calculator())
    with pytest.raises(KeyboardInterrupt):
        cut.finish(Interrupting(toy.calculator(), call))
    for name in (trajectory.FRAMES, trajectory.STEPS):
        if (path := cut.files.folder / name).exists():
            with path.open("a") as file:
                file.write("half of a li")
    done: list[int] = []
    cut.finish(toy.calculator(), done.append)
    assert bits(cut.files) == bits(whole.files)
    assert sum(done) == protocol.steps - protocol.first
    [copy] = cut.files.copies
    assert [atoms.info["step"] for atoms in copy.frames()] == [3, 6, 9]
    assert copy.steps()["step"].tolist() == list(range(1, 11))


def test_parts_do_not_show(toy: ep.Potential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a part ends, the hidden state of thermostat, barostat and generator goes on."""
    start = bulk("Si", "diamond", a=5.4)
    start.rattle(0.05, seed=1)
    for number, ensemble in enumerate([NVT(20.0), NPT(0.5, 20.0, 50.0)]):
        ends = []
        for part in (3, 100):
            monkeypatch.setattr(run_module, "PART", part)
            folder = tmp_path / f"{number}-{part}"
            saved, _, _ = moved(folder, start, toy.calculator(), ensemble=ensemble, time=0.009, timestep=1.0)
            ends.append(saved.state)
        np.testing.assert_allclose(ends[0].positions, ends[1].positions, atol=1e-12)
        np.testing.assert_allclose(ends[0].cell, ends[1].cell, atol=1e-12)
        assert ends[0].hidden.keys() == ends[1].hidden.keys() != set()


def test_a_seed_is_a_trajectory(toy: ep.Potential, tmp_path: Path) -> None:
    start = bulk("Si", "diamond", a=5.4)
    ends = [
        moved(tmp_path / str(i), start, toy.calculator(), time=0.003, seed=seed)[0].state.positions
        for i, seed in enumerate([0, 0, 1])
    ]
    assert (ends[0] == ends[1]).all()
    assert np.abs(ends[0] - ends[2]).max() > 1e-4


def test_files_that_are_damaged_are_refused(tmp_path: Path) -> None:
    _, _, files = moved(tmp_path / "a", gas(), Forces(free), time=0.01)
    (files.folder / trajectory.FRAMES).write_text("")
    with pytest.raises(OutputError, match=r"is damaged \(frames.extxyz is too short\). Remove it"):
        TrajectoryFiles(files.folder).saved()
    (files.folder / trajectory.RECORD).write_text('{"crash": null}')
    with pytest.raises(OutputError, match=r"is damaged .* Remove it to start anew, or choose another output"):
        TrajectoryFiles(files.folder).saved()


# What is known comes out.


def test_oscillators_conserve_their_energy_and_have_their_frequency(tmp_path: Path) -> None:
    stiffness, start = 20.0, molecule()
    _, found, _ = moved(tmp_path / "a", start, Forces(sites(stiffness, start)), time=0.5, timestep=1.0)
    terahertz = np.sqrt(stiffness / start.get_masses()[0]) / (2 * np.pi) * units.fs * 1e3
    assert found.crash is None
    assert found.spectrum is not None
    assert found.spectrum.peak == pytest.approx(terahertz, abs=found.spectrum.frequencies[1])
    assert found.drift is not None
    assert abs(found.drift.slope.value) < 3 * found.drift.slope.error + 0.1
    assert (found.distributions, found.pressure, found.volume) == ((), None, None)


def test_the_whole_does_not_move(tmp_path: Path) -> None:
    _, _, files = moved(tmp_path / "a", molecule(), Forces(spring(20.0, 1.3)), time=0.05, equilibration=0.05)
    frames = files.frames()
    assert np.abs([frame.get_momenta().sum(axis=0) for frame in frames]).max() < 1e-6
    centres = np.array([frame.positions.mean(axis=0) for frame in frames])
    assert np.ptp(centres, axis=0).max() < 1e-6


@pytest.mark.usefixtures("passing_through")
@pytest.mark.parametrize(("ensemble", "seed"), [(NVT(5.0), 0), (NPT(0.02, 10.0, 100.0), 0)])
def test_thermostats_keep_their_temperature(ensemble: Ensemble, seed: int, tmp_path: Path) -> None:
    how: dict[str, Any] = {"time": 2.0, "timestep": 5.0, "temperature": 150.0}
    _, found, _ = moved(tmp_path / "a", gas(), Forces(free), ensemble=ensemble, seed=seed, **how)
    assert found.temperature is not None
    assert found.temperature.value == pytest.approx(150, abs=4 * found.temperature.error)
    assert found.temperature.error < 8
    assert (found.drift is None) == isinstance(ensemble, NPT)


@pytest.mark.usefixtures("passing_through")
def test_what_a_thermostat_gives_is_not_drift(tmp_path: Path) -> None:
    _, found, files = moved(tmp_path / "a", gas(), Forces(free), ensemble=NVT(10.0), time=0.2, temperature=150.0)
    assert np.ptp(files.steps()["kinetic_eV"]) > 0.01
    assert found.drift is not None
    assert abs(found.drift.slope.value) < 1e-6


def test_the_pressure_of_an_ideal_gas(tmp_path: Path) -> None:
    """P V = N k T, by the same degrees of freedom."""
    _, found, files = moved(tmp_path / "a", gas(), Forces(free), time=0.02, temperature=150.0)
    steps = files.steps()
    expected = 2 * steps["kinetic_eV"] / 3 / steps["volume_A3"] / units.GPa
    np.testing.assert_allclose(steps["pressure_GPa"], expected)
    assert found.pressure is not None
    assert found.pressure.value == pytest.approx(expected.mean())
    kelvin = 2 * steps["kinetic_eV"] / (3 * 31) / units.kB
    np.testing.assert_allclose(steps["temperature_K"], kelvin)


@pytest.mark.usefixtures("passing_through")
def test_a_volume_follows_its_pressure(tmp_path: Path) -> None:
    """An ideal gas begins at the volume of its pressure and stays, or shrinks under twice of it."""
    start = gas()
    pressure = 32 * units.kB * 150 / start.cell.volume / units.GPa
    how: dict[str, Any] = {"time": 3.0, "timestep": 5.0, "temperature": 150.0}
    volumes = []
    for times in (1, 2):
        ensemble = NPT(times * pressure, 20.0, 200.0)
        _, found, files = moved(tmp_path / str(times), start, Forces(free), ensemble=ensemble, **how)
        volumes.append(files.steps()["volume_A3"][-300:].mean() / start.cell.volume)
        assert found.volume is not None
        assert found.diffusion == {}
    assert volumes[0] == pytest.approx(1, abs=0.25)
    assert volumes[1] == pytest.approx(0.5, abs=0.15)


def test_equilibration_comes_before_production_and_is_not_counted(tmp_path: Path) -> None:
    start = molecule()
    saved, found, files = moved(tmp_path / "a", start, Forces(spring(20.0, 1.3)), time=0.02, equilibration=0.05)
    assert (found.steps, saved.state.step) == (40, 40)
    assert files.steps()["time_ps"][[0, -1]].tolist() == [0.0005, 0.02]
    assert np.abs(saved.state.momenta.sum(axis=0)).max() < 1e-12, "friction moved the whole, and production does not"
    none = moved(tmp_path / "b", start, Forces(spring(20.0, 1.3)), time=0.02)[0]
    assert np.abs(none.state.positions - saved.state.positions).max() > 1e-3


def test_a_relaxation_comes_first(tmp_path: Path) -> None:
    stretched = Atoms("O2", positions=[[0, 0, 0], [0, 0, 1.6]])
    how: dict[str, Any] = {"time": 0.001, "timestep": 0.5, "temperature": 1.0}
    distances = []
    for relax in (True, False):
        saved, _, _ = moved(tmp_path / str(relax), stretched, Forces(spring(20.0, 1.3)), relax=relax, **how)
        distances.append(np.linalg.norm(np.diff(saved.state.positions, axis=0)))
    assert distances[0] == pytest.approx(1.3, abs=0.02)
    assert distances[1] > 1.5


# What has left physics ends.


def after(calls: int, formula: Callable[[Atoms], tuple[float, np.ndarray]]) -> Callable[[], Forces]:
    """A free gas until so many calls have been made, and something else from then on."""

    def made() -> Forces:
        calculator = Forces(lambda atoms: free(atoms) if calculator.calls <= calls else formula(atoms))
        return calculator

    return made


def broken(atoms: Atoms) -> tuple[float, np.ndarray]:
    raise ValueError("no such atoms")


def constant(force: float) -> Callable[[Atoms], tuple[float, np.ndarray]]:
    """The first atom is pulled towards the second, or pushed away from it."""

    def formula(atoms: Atoms) -> tuple[float, np.ndarray]:
        bond = atoms.positions[1] - atoms.positions[0]
        pull = force * bond / np.linalg.norm(bond)
        return 0.0, np.concatenate([[pull, -pull], np.zeros((len(atoms) - 2, 3))])

    return formula


CRASHES: list[tuple[str, Callable[[], Forces], Atoms, dict[str, Any], str]] = [
    ("not_finite", after(9, lambda a: (0.0, np.full((len(a), 3), np.nan))), gas(), {}, "not finite"),
    ("not_finite", after(9, lambda a: (np.inf, free(a)[1])), gas(), {}, "not finite"),
    ("too_hot", after(9, constant(1e4)), gas(), {}, r"\d+ K, more than 10 times what was asked for"),
    ("too_close", after(9, constant(0.5)), molecule(), {"timestep": 2.0}, "closer than 0.5 sums of their covalent"),
    (
        "lost",
        after(9, constant(-0.02)),
        molecule(),
        {"timestep": 4.0, "time": 4.0},
        r"atom 0 \(O\) has no other within 6 Angstrom",
    ),
    ("failed", after(9, broken), gas(), {}, "the model failed: no such atoms"),
    ("cell", after(0, free), gas(), {"ensemble": NPT(50.0, 10.0, 20.0)}, "times its volume at first"),
    ("cell", after(0, free), gas(), {"ensemble": NPT(-50.0, 10.0, 20.0)}, "times its volume at first"),
]


@pytest.mark.parametrize(
    ("cause", "made", "start", "how", "says"), CRASHES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_a_crash_is_said_and_the_last_good_frame_kept(
    cause: str, made: Callable[[], Forces], start: Atoms, how: dict[str, Any], says: str, tmp_path: Path
) -> None:
    saved, found, files = moved(tmp_path / "a", start, made(), **{"time": 0.5, "temperature": 300.0, **how})
    assert saved.crash is not None
    assert saved.crash.cause is Cause(cause)
    assert re.search(says, saved.crash.said)
    assert found.crash == saved.crash == Crash.from_json(saved.crash.to_json())
    assert not found.passed
    assert found.steps == saved.crash.step - 1
    last = ase.io.read(files.folder / trajectory.LAST)
    assert np.isfinite(last.positions).all()
    np.testing.assert_allclose(last.positions, saved.state.positions, atol=1e-7)
    [again] = Run(start, DynamicsProtocol(), TrajectoryFiles(files.folder), AseEngine()).finish(made())
    assert again.crash == saved.crash, "what has crashed is not begun again"


def test_a_crash_before_production_says_so(tmp_path: Path) -> None:
    saved, found, _ = moved(tmp_path / "a", gas(), after(9, broken)(), time=0.5, equilibration=0.5)
    assert str(saved.crash).startswith("while it was brought to equilibrium (step -991): the model failed")
    assert (found.steps, found.drift, found.temperature, found.spectrum) == (0, None, None, None)
    assert found.to_json()["crashed"]["cause"] == "failed"


def test_a_relaxation_that_fails_is_a_crash(tmp_path: Path) -> None:
    def far(atoms: Atoms) -> tuple[float, np.ndarray]:
        return spring(20.0, 1.3)(atoms) if atoms.positions[1, 2] > 1.59 else broken(atoms)

    stretched = Atoms("O2", positions=[[0, 0, 0], [0, 0, 1.6]])
    saved, _, _ = moved(tmp_path / "a", stretched, Forces(far), relax=True)
    assert saved.crash is not None
    assert saved.crash.said == "the relaxation failed: no such atoms"


def test_a_model_that_gives_no_numbers_is_no_crash_but_an_error(tmp_path: Path) -> None:
    calculator = Forces(lambda atoms: (0.0, np.full((len(atoms), 3), np.nan)))
    with pytest.raises(StructureError, match="forces that are not finite numbers at the start"):
        moved(tmp_path / "a", gas(), calculator)


def test_errors_of_the_program_are_not_hidden(tmp_path: Path) -> None:
    def mistaken(atoms: Atoms) -> tuple[float, np.ndarray]:
        raise TypeError("a mistake")

    with pytest.raises(TypeError, match="a mistake"):
        moved(tmp_path / "a", gas(), after(3, mistaken)())


def test_a_full_disk_is_one_message_and_dynamics_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from full_disk import files_of_at_most

    how: dict[str, Any] = {"time": 0.05, "timestep": 1.0}
    with (
        files_of_at_most(8000),
        pytest.raises(OutputError, match=r"could not be written: .* What was finished is kept"),
    ):
        moved(tmp_path / "a", gas(), Forces(free), **how)
    _, _, files = moved(tmp_path / "a", gas(), Forces(free), **how)
    _, _, whole = moved(tmp_path / "b", gas(), Forces(free), **how)
    assert bits(files) == bits(whole)
