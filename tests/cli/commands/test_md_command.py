"""``equiprune md``: what it says, its exit code, and what is refused."""

from pathlib import Path

import ase.io
import pytest
from ase.build import bulk
from command_line import Run

from equiprune.evaluation.dynamics import simulation

SHORT = ["--time", 0.02, "--timestep", 1, "--equilibration", 0.002, "--interval", 1, "--dtype", "float64"]


@pytest.fixture
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than the dynamics."""
    monkeypatch.setattr(simulation, "plot_dynamics", lambda found, path: path.touch())


@pytest.fixture
def crystal(tmp_path: Path) -> Path:
    atoms = bulk("SiC", "zincblende", a=4.4)
    atoms.rattle(0.05, seed=1)
    ase.io.write(tmp_path / "crystal.extxyz", atoms)
    return tmp_path / "crystal.extxyz"


@pytest.mark.slow
def test_models_are_shown_side_by_side(cli: Run, crystal: Path, tmp_path: Path) -> None:
    words = ["md", "toy", "--structure", crystal, *SHORT, "--drift-limit", 1000]
    ran = cli(*words, "-o", tmp_path / "text", "--pairs", "Si-C", "--threads", 1)
    assert ran.code == 0, ran.err
    for text in ("Dynamics of CSi (ase, float64, cpu, 1 threads), 1 fs", "passed", "C-Si", "Motion", "ns/day"):
        assert text in ran.text
    assert f"Written: {tmp_path / 'text'}" in ran.out
    done = cli(*words, "-o", tmp_path / "json", "--json")
    assert done.code == 0
    assert done.json["passed"] is True
    assert done.json["written"] == str(tmp_path / "json")
    [model] = done.json["models"]
    assert (model["model"], model["steps"], model["crashed"]) == ("toy", 20, None)
    assert len(model["rdf"]) == 3


@pytest.mark.usefixtures("no_picture")
def test_copies_are_pooled(cli: Run, crystal: Path, tmp_path: Path) -> None:
    words = ["md", "toy", "--structure", crystal, "--time", 0.003, "--timestep", 1, "--equilibration", 0]
    ran = cli(*words, "--copies", 2, "--drift-limit", 1e6, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert "1 fs, 2 copies" in " ".join(ran.text.split())
    assert len(list((tmp_path / "out" / "0-toy").glob("copy-*/steps.csv"))) == 2


@pytest.mark.usefixtures("no_picture")
def test_a_drift_that_is_not_known_well_enough_is_undecided_and_no_success(
    cli: Run, crystal: Path, tmp_path: Path
) -> None:
    words = ["md", "toy", "--structure", crystal, *SHORT[2:], "--time", 0.005, "--repeat", 1]
    ran = cli(*words, "-o", tmp_path / "out")
    assert ran.code == 1
    assert "toy: undecided, the limit of the drift, 0.1 meV/atom/ps, lies within its error bar. Run longer." in ran.text


@pytest.mark.usefixtures("no_picture")
def test_a_crash_is_said_and_no_success(
    cli: Run, crystal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("equiprune.evaluation.dynamics.crashes._HOTTEST", 1e-3)
    ran = cli("md", "toy", "--structure", crystal, *SHORT, "-o", tmp_path / "out")
    assert ran.code == 1
    assert "toy crashed while it was brought to equilibrium (step -1): " in ran.text
    ran = cli("md", "toy", "--structure", crystal, *SHORT, "-o", tmp_path / "json", "--json")
    assert (ran.code, ran.json["passed"]) == (1, False)


@pytest.mark.slow
@pytest.mark.usefixtures("no_picture")
def test_ctrl_c_keeps_what_was_finished(
    cli: Run, crystal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    words = ["md", "toy", "--structure", crystal, *SHORT, "--drift-limit", 1000, "-o", tmp_path / "out"]
    with monkeypatch.context() as patched:
        patched.setattr(simulation, "plot_dynamics", interrupted)
        ran = cli(*words)
    assert ran.code == 2
    assert f"Interrupted; {tmp_path / 'out.partial'} keeps what was finished. Repeat the command to go on." in ran.err
    ran = cli(*words)
    assert ran.code == 0
    assert f"Going on from {tmp_path / 'out.partial'}." in ran.err
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--time", -1], "--time -1.0 is not possible: give a positive number of ps"),
        (["--interval", 0], ("--interval", "1 or more")),
        (["--pressure", 1], "--pressure is for constant pressure: give --ensemble npt too"),
        (["--ensemble", "npt", "--engine", "lammps"], "LAMMPS does --ensemble nve alone here"),
        (["--ensemble", "npt", "--engine", "torch-sim"], "torch-sim does --ensemble nve and nvt alone here"),
        (["--ensemble", "nph"], "nph"),
        (["--copies", 0], ("--copies", "1 or more")),
        (["--pairs", "Si-O"], "--pairs 'Si-O' is not possible: give pairs of C, Si"),
        (["--reach", 9], ("--reach 9 Angstrom is not possible", "--repeat")),
        (["--drift-limit", 0], "--drift-limit 0.0 is not possible"),
        (["--repeat", 0], ("--repeat", "1 or more")),
        (["--device", "cuda:77"], "--device cuda:77 is not available here"),
    ],
)
def test_what_cannot_be_is_refused(
    words: list[object], says: str | tuple[str, ...], refused: Run, crystal: Path, tmp_path: Path
) -> None:
    refused("md", "toy", "--structure", crystal, "-o", tmp_path / "out", *words, says=says)


def test_files_that_cannot_be_are_refused(refused: Run, crystal: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.extxyz").touch()
    refused("md", "toy", "--structure", tmp_path / "empty.extxyz", "-o", tmp_path / "out", says="empty.extxyz")
    refused("md", "toy", "--structure", tmp_path / "none.extxyz", "-o", tmp_path / "out", says="No structures at")
    refused("md", "toy", "toy", "--structure", crystal, "-o", tmp_path / "out", says="named twice")
    refused("md", "toy", "--structure", crystal, "-o", crystal, says="exists and is never overwritten")
    refused("md", "toy", "--structure", crystal, "-o", tmp_path / "no" / "out", says="there is no folder")
