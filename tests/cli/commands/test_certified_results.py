"""``equiprune certify --results``: numbers of other commands beside the checks, of the certified file alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import bulk
from command_line import Run
from toy_files import toy_model

from equiprune.evaluation.dynamics import simulation

OTHER = "other"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A model whose predictions are another's."""
    return toy_model(tmp_path / OTHER, lambda weights: weights["readout_weight"].mul_(1.5))


@pytest.fixture
def crystals(tmp_path: Path) -> Path:
    crystal = bulk("SiC", "zincblende", a=4.4)
    crystal.rattle(0.05, seed=1)
    crystal.info.update(id="mp-1", K_vrh_GPa=100.0)
    ase.io.write(tmp_path / "crystals.extxyz", crystal, format="extxyz")
    return tmp_path / "crystals.extxyz"


@pytest.fixture
def certified(cli: Run, tmp_path: Path) -> Callable[..., Any]:
    """Certificate of a model with a result, as JSON and, written, for people."""

    def certify(model: object, result: object, *words: object) -> tuple[int, dict[str, dict[str, Any]], str]:
        path = tmp_path / "numbers.json"
        path.write_text(json.dumps(result))
        page = tmp_path / "certificate.md"
        page.unlink(missing_ok=True)
        ran = cli("certify", model, "--nve-steps", 1, "--results", path, "-o", page, "--json", *words)
        return ran.code, {each["name"]: each for each in ran.json["measured"]}, page.read_text()

    return certify


@pytest.mark.slow
def test_errors_and_speed(certified: Callable[..., Any], cli: Run, labelled: Path, other: Path) -> None:
    errors = cli("evaluate", "toy", other, "--data", labelled, "--json").json
    code, measured, page = certified(other, errors)
    found = measured["forces, mean absolute error on 6 structures"]
    assert code == 0
    assert found["value"] == errors[1]["forces_mae"] != errors[0]["forces_mae"]
    assert (found["unit"], found["source"], found["parent"]) == ("meV/Angstrom", "numbers.json", None)
    assert f"| forces, mean absolute error on 6 structures | {found['value']:.3g} | - | meV/Angstrom |" in page
    [timing] = cli("benchmark", other, "--repeats", 1, "--json").json
    _, measured, _ = certified(other, [timing])
    speed, memory = measured.values()
    device = f"toy on cpu ({timing['device_name']})"
    assert speed["name"] == f"speed, 64 atoms, float32, equiprune, {device}, 1 thread"
    assert (speed["value"], speed["unit"]) == (timing["atoms_per_second"], "atoms/s")
    assert memory["value"] == timing["peak_memory_bytes"] / 2**20


@pytest.mark.slow
def test_the_parent_stands_beside_its_child(
    certified: Callable[..., Any], cli: Run, labelled: Path, pruned: tuple[Path, Path]
) -> None:
    parent, child = pruned
    errors = cli("evaluate", parent, child, "--data", labelled, "--json").json
    _, measured, _ = certified(child, errors, "--parent", parent)
    found = measured["forces, mean absolute error on 6 structures"]
    assert (found["parent"], found["value"]) == (errors[0]["forces_mae"], errors[1]["forces_mae"])


@pytest.mark.slow
def test_a_verdict_of_dynamics_counts(
    certified: Callable[..., Any],
    cli: Run,
    crystals: Path,
    other: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(simulation, "plot_dynamics", lambda found, path: path.touch())
    short = ["--time", 0.02, "--timestep", 1, "--equilibration", 0.002, "--interval", 1, "--dtype", "float64"]
    for limit, passes in ((1000, True), (1e-9, False)):
        words = ["md", "toy", other, "--structure", crystals, *short, "--drift-limit", limit]
        cli(*words, "-o", tmp_path / f"{limit}")
        dynamics = json.loads((tmp_path / f"{limit}" / "dynamics.json").read_text())
        code, measured, page = certified(other, dynamics)
        drift = measured["energy drift, 2 atoms, 0.02 ps"]
        slope = dynamics[1]["drift_meV_per_atom_per_ps"]
        assert (drift["value"], drift["error"]) == (slope["slope"], slope["error"])
        assert (code, drift["passed"]) == (int(not passes), passes)
        assert ("**Passed**" in page, "**FAILED**" in page) == (passes, not passes)


@pytest.mark.slow
def test_properties_and_their_limits(
    certified: Callable[..., Any], cli: Run, crystals: Path, other: Path, tmp_path: Path
) -> None:
    words = ["--data", crystals, "--properties", "locality", "--limits", "locality.extensivity=1e-12"]
    found = cli("properties", "toy", other, *words, "-o", tmp_path / "out", "--json").json
    code, measured, _ = certified(other, found)
    own = found["properties"][0]["models"][str(other)]["extensivity"]["against"]["toy"]["mae"]
    [name] = [name for name in measured if "extensivity" in name]
    assert name == "locality, extensivity, mean absolute error from toy on 1 structures"
    assert measured[name]["value"] == own
    assert measured[name]["passed"] is (own <= 1e-12)
    assert code == int(own > 1e-12)


@pytest.mark.slow
def test_results_of_other_files_are_refused(
    refused: Callable[..., object], cli: Run, labelled: Path, other: Path, tmp_path: Path
) -> None:
    path = tmp_path / "errors.json"
    path.write_text(cli("evaluate", "toy", "--data", labelled, "--json").out)
    refused("certify", other, "--results", path, says=("has no numbers of this model", "about the same file"))
    path.write_text('{"anything": "else"}')
    refused("certify", other, "--results", path, says="has no numbers of this model")
    path.write_text("{")
    refused("certify", other, "--results", path, says="not readable JSON")
    refused("certify", other, "--results", tmp_path / "none.json", says="There is no result at")
