"""Several models side by side: the same start for all, refusals before anything is moved, files at the end."""

import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms

import equiprune as ep
from equiprune.errors import EquipruneError, OutputError, StructureError, TargetError
from equiprune.evaluation.dynamics import protocol as protocols
from equiprune.evaluation.dynamics import simulation
from equiprune.evaluation.dynamics.tables import compared, distribution_table, main_table, motion_table
from equiprune.files.atomic import as_json

pytestmark = pytest.mark.slow  # whole runs

SHORT = ep.DynamicsProtocol(time=0.02, timestep=1.0, equilibration=0.003, interval=1)


def crystal() -> Atoms:
    atoms = bulk("SiC", "zincblende", a=4.4)
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.fixture(scope="module")
def small(toy: ep.Potential) -> ep.Potential:
    return ep.masked(toy, ep.allocate(toy, [ep.Lmax(0)]))


def test_models_begin_alike_and_go_their_ways(toy: ep.Potential, small: ep.Potential, tmp_path: Path) -> None:
    done: list[int] = []
    models = {"toy": toy, "small": small, "again": toy}
    atoms = bulk("SiC", "zincblende", a=4.4, cubic=True)
    found = ep.molecular_dynamics(models, atoms, tmp_path / "out", SHORT, progress=done.append)
    assert sum(done) == 3 * 23
    folder = tmp_path / "out"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["0-toy", "1-small", "2-again"]
    frames = [(folder / name / "frames.extxyz").read_bytes() for name in ("0-toy", "1-small", "2-again")]
    assert frames[0] == frames[2] != frames[1]
    steps = [(folder / name / "steps.csv").read_text().splitlines() for name in ("0-toy", "1-small")]
    assert steps[0][0].startswith("step,time_ps,potential_eV,kinetic_eV,temperature_K")
    [first, other, same] = json.loads((folder / "dynamics.json").read_text())
    assert json.loads(as_json(compared(found))) == [first, other, same]
    assert (first["model"], first["steps"], first["time_ps"], first["atoms"]) == ("toy", 20, 0.02, 8)
    assert [entry["pair"] for entry in first["rdf"]] == [["C", "C"], ["C", "Si"], ["Si", "Si"]]
    assert same["rdf"][1]["from_first"]["difference"] == 0
    assert 0 < other["rdf"][1]["from_first"]["noise"] < 1
    assert (folder / "dynamics.png").stat().st_size > 5000
    assert len(ase.io.read(folder / "0-toy" / "frames.extxyz", ":")) == 20


def test_tables_say_units_and_what_there_is_none_of(toy: ep.Potential, tmp_path: Path) -> None:
    protocol = ep.DynamicsProtocol(ep.NPT(), time=0.003, timestep=1.0, equilibration=0.0, interval=2)
    found = ep.molecular_dynamics({"toy": toy}, crystal(), tmp_path / "out", protocol)
    head, row = main_table(found)
    assert head[:3] == ["model", "ps", "drift, meV/atom/ps"]
    assert head[-1] == "V, Angstrom^3"
    assert row[:5] == ["toy", "0.003", "-", "-", "-"]
    assert found[0].passed
    assert distribution_table(found)[0][2] == "peak, Angstrom"
    assert len(distribution_table(found)) == 1
    assert motion_table(found) == [["model", "vibrations peak at, THz", "cm^-1"], ["toy", "-", "-"]]


def test_speed_is_steps_and_nanoseconds(toy: ep.Potential, tmp_path: Path) -> None:
    [found] = ep.molecular_dynamics({"toy": toy}, crystal(), tmp_path / "out", SHORT)
    assert found.steps_per_second is not None
    assert found.nanoseconds_per_day == pytest.approx(found.steps_per_second * 86400 * 1e-6)
    value = found.to_json()
    assert (value["dtype"], value["device"], value["engine"], value["threads"]) == ("float64", "cpu", "ase", 1)


def test_a_model_that_crashes_ends_alone(
    toy: ep.Potential, small: ep.Potential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dynamics of the first is torn apart by a temperature that is too high for it, said as a limit."""
    real = simulation.Run.finish
    calls: list[int] = []

    def finish(self: Any, *rest: Any) -> Any:
        calls.append(1)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("equiprune.evaluation.dynamics.crashes._HOTTEST", 1e-3 if len(calls) == 1 else 10.0)
            return real(self, *rest)

    monkeypatch.setattr(simulation.Run, "finish", finish)
    found = ep.molecular_dynamics({"toy": toy, "small": small}, crystal(), tmp_path / "out", SHORT)
    assert [each.crash is None for each in found] == [False, True]
    assert main_table(found)[1][4] == "crashed"
    assert (tmp_path / "out" / "0-toy" / "last_good.extxyz").exists()
    [first, second] = json.loads((tmp_path / "out" / "dynamics.json").read_text())
    assert first["crashed"]["cause"] == "too_hot"
    assert second["crashed"] is None
    assert second["steps"] == 20


def test_an_interrupted_simulation_goes_on(
    toy: ep.Potential, small: ep.Potential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {"toy": toy, "small": small}
    ep.molecular_dynamics(models, crystal(), tmp_path / "whole", SHORT)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(simulation, "plot_dynamics", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ep.molecular_dynamics(models, crystal(), tmp_path / "cut", SHORT)
    partial = tmp_path / "cut.partial"
    assert partial.exists()
    for change in ({"time": 0.03}, {"seed": 1}, {"ensemble": ep.NVT()}):
        other = ep.DynamicsProtocol(**{"time": 0.02, "timestep": 1.0, "equilibration": 0.003, "interval": 1, **change})
        with pytest.raises(OutputError, match="is dynamics of other models, another structure or another protocol"):
            ep.molecular_dynamics(models, crystal(), tmp_path / "cut", other)
    with pytest.raises(OutputError, match="is dynamics of other models"):
        ep.molecular_dynamics({"toy": toy}, crystal(), tmp_path / "cut", SHORT)
    with pytest.raises(OutputError, match="is dynamics of other models"):
        ep.molecular_dynamics(models, crystal().repeat(2), tmp_path / "cut", SHORT)
    ep.molecular_dynamics(models, crystal(), tmp_path / "cut", SHORT)
    for name in ("0-toy", "1-small"):
        for file in ("frames.extxyz", "steps.csv"):
            assert (tmp_path / "cut" / name / file).read_bytes() == (tmp_path / "whole" / name / file).read_bytes()


def test_labels_are_left_out_and_masses_kept(toy: ep.Potential, tmp_path: Path) -> None:
    atoms = crystal()
    atoms.info["REF_energy"] = 1.0
    atoms.set_masses([50.0, 60.0])
    atoms.set_momenta(np.ones((2, 3)))
    ep.molecular_dynamics({"toy": toy}, atoms, tmp_path / "out", SHORT)
    frame = ase.io.read(tmp_path / "out" / "0-toy" / "frames.extxyz")
    assert set(frame.info) == {"step", "time_ps"}
    assert frame.get_masses().tolist() == [50, 60]
    assert np.abs(frame.get_momenta().sum(axis=0)).max() < 1e-6


@pytest.mark.parametrize(
    ("atoms", "how", "says"),
    [
        (Atoms("Si"), {}, "needs two atoms or more; the structure has 1. Repeat its cell"),
        (Atoms(), {}, "needs two atoms or more; the structure has 0"),
        (Atoms("Li2", positions=[[0, 0, 0], [0, 0, 2]]), {}, "Li, which this model does not know"),
        (Atoms("H2", positions=[[0, 0, 0], [0, 0, np.nan]]), {}, "not finite"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 1]], constraint=FixAtoms([0])), {}, "has fixed atoms, and dynamics moves all"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 1]]), {"protocol": ep.DynamicsProtocol(ep.NPT())}, "needs a structure that is"),
        (crystal(), {"analysis": ep.DynamicsAnalysis(pairs="Si-O")}, "`pairs` 'Si-O' is not possible"),
        (crystal(), {"analysis": ep.DynamicsAnalysis(reach=5.0)}, "`reach` 5 Angstrom is not possible"),
        (
            Atoms("H2", [[0, 0, 0], [0, 0, 1]]),
            {"analysis": ep.DynamicsAnalysis(reach=5.0)},
            "has no radial distribution",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    atoms: Atoms, how: dict[str, Any], says: str, toy: ep.Potential, tmp_path: Path
) -> None:
    with pytest.raises((StructureError, TargetError), match=says):
        ep.molecular_dynamics({"toy": toy}, atoms, tmp_path / "out", **how)
    assert list(tmp_path.iterdir()) == []


def test_outputs_are_never_overwritten(toy: ep.Potential, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="exists and is never overwritten"):
        ep.molecular_dynamics({"toy": toy}, crystal(), tmp_path / "out", SHORT)
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "mine.txt").write_text("precious")
    with pytest.raises(OutputError, match="holds other files"):
        ep.molecular_dynamics({"toy": toy}, crystal(), tmp_path / "new", SHORT)
    (tmp_path / "bad.partial").mkdir()
    (tmp_path / "bad.partial" / "settings.json").write_text("{}")
    with pytest.raises(OutputError, match="is damaged"):
        ep.molecular_dynamics({"toy": toy}, crystal(), tmp_path / "bad", SHORT)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"time": 0.0}, "`time` 0.0 is not possible: give a positive number of ps"),
        ({"timestep": -1.0}, "`timestep` -1.0 is not possible: give a positive number of fs"),
        ({"temperature": float("nan")}, "`temperature` nan is not possible: give a positive number of K"),
        ({"equilibration": -0.1}, "`equilibration` -0.1 is not possible: give 0 or more ps"),
        ({"interval": 0}, "`interval` 0 is not possible: give 1 or more steps"),
        ({"time": 1e-4, "timestep": 0.5}, "is shorter than a `timestep` of 0.5 fs. Give a longer time"),
    ],
)
def test_protocols_that_cannot_be(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(TargetError, match=says):
        ep.DynamicsProtocol(**fields)


def test_ensembles_that_cannot_be() -> None:
    with pytest.raises(TargetError, match="`pressure` inf is not possible: give a number of GPa"):
        ep.NPT(pressure=float("inf"))
    for made in (lambda: ep.NVT(0.0), lambda: ep.NPT(relaxation=-1.0)):
        with pytest.raises(TargetError, match=r"`relaxation` .* give a positive number of fs"):
            made()
    with pytest.raises(TargetError, match=r"`volume_relaxation` .* give a positive number of fs"):
        ep.NPT(volume_relaxation=0.0)


def test_an_integrator_that_ase_lacks_is_said() -> None:
    with pytest.raises(EquipruneError, match=r"has no Nobody integrator. pip install --upgrade ase"):
        protocols._integrator("ase.md.nobody", "Nobody")
