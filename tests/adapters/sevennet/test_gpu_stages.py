"""Every stage for a machine with a GPU runs here on the CPU, with ``--small``, from the command to its JSON."""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import equiprune as ep
from equiprune.evaluation.memory import measures_each_peak

ROOT = Path(__file__).parents[3]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("plain_code")]
ON_CPU = ["--device", "cpu", "--small"]
needs_timeout = pytest.mark.skipif(shutil.which("timeout") is None, reason="the command needs timeout of coreutils")
MODELS = ("l3i5", "7net-0", "compact-start", "mini-start")


@pytest.fixture(autouse=True)
def _benchmarks_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here, and in processes that stages start."""
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is carried to such a machine, made of a SevenNet of a few channels."""
    folder = tmp_path_factory.mktemp("carried")
    parent = ep.load("7net-0")
    targets = [ep.HiddenIrreps.parse("4x0e+2x1e"), ep.EdgeLmax(1)]
    small = ep.prune(parent, ep.allocate(parent, targets, ep.data_free_scores(parent, ep.Magnitude())))
    for name in MODELS:
        ep.save(small, folder / name)
    return folder


def rows(path: Path) -> list[dict[str, Any]]:
    """Of a stage's file, which names the device."""
    written = json.loads(path.read_text())
    assert written["device"] == "cpu"
    return written["rows"]


def test_smoke(tmp_path: Path) -> None:
    from benchmarks.gpu import smoke

    toy = ep.save(ep.load("toy"), tmp_path / "toy")[0]
    assert smoke.main([str(toy), *ON_CPU, "-o", str(tmp_path / "smoke.json")]) == 0
    found = rows(tmp_path / "smoke.json")
    both = {dtype: {row["check"] for row in found if row["dtype"] == dtype} for dtype in ("float64", "float32")}
    assert both["float64"] == smoke.CHECKS.keys()
    assert both["float32"] == smoke.CHECKS.keys() - {"certify"}  # which is in float64 whatever the model is in
    rounded = {row["check"]: row["difference"] for row in found if row["dtype"] == "float32"}
    assert all(0 < rounded[check] < 1e-4 for check in ("predict", "calibrate", "gradients"))


def test_smoke_tells_of_other_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.gpu import smoke

    def broken(sides: smoke.Sides) -> float:
        raise RuntimeError("tensors of two devices")

    monkeypatch.setattr(smoke, "LIMITS", {"float32": {"predict": 1e-12, "broken": 1.0}})
    monkeypatch.setitem(smoke.CHECKS, "broken", broken)
    toy = ep.save(ep.load("toy"), tmp_path / "toy")[0]
    assert smoke.main([str(toy), *ON_CPU, "-o", str(tmp_path / "smoke.json")]) == 1
    [rounded, failed] = rows(tmp_path / "smoke.json")
    assert not rounded["passed"]
    assert rounded["difference"] > rounded["limit"]
    assert "tensors of two devices" in failed["error"]


def test_no_number_is_no_pass() -> None:
    from benchmarks.gpu import smoke

    some, none = np.ones(3), np.array([1.0, np.nan, 1.0])
    for found, reference in (([some, none], [some, some]), ([none, some], [some, some]), ([some], [none])):
        assert not smoke._relative(found, reference) <= 1
    assert smoke._relative([some, some * 1.5], [some, some]) == 0.5


def test_engines(carried: Path, tmp_path: Path) -> None:
    from benchmarks.gpu import engines

    engines.main([str(carried / "l3i5"), *ON_CPU, "--engines", "e3nn", "-o", str(tmp_path / "engines.json")])
    [row] = found = rows(tmp_path / "engines.json")
    assert row["atoms"] == 32
    assert 0 < row["forces_error"] < engines.TOLERANCE  # beside equiprune's own code
    assert row["training_seconds"] > 0
    assert engines.fastest(found, "l3i5", "training_seconds") == "e3nn"


def test_an_engine_that_takes_too_long_is_told(carried: Path) -> None:
    from benchmarks.gpu import engines

    [row] = engines.rows_of("e3nn", [carried / "l3i5"], engines.Conditions("cpu", 1, 1), seconds=0.01)
    assert row == {"engine": "e3nn", "failed": "not done after 0 s"}


def test_speed(carried: Path, tmp_path: Path) -> None:
    from benchmarks.gpu import speed

    models = [f"{name}={carried / name}" for name in ("l3i5", "mini-start")]
    speed.main([*models, *ON_CPU, "--engines", "e3nn", "another", "-o", str(tmp_path / "speed.json")])
    *timed, refused = rows(tmp_path / "speed.json")
    assert [row["model"] for row in timed] == ["l3i5", "mini-start"]
    assert all(row["atoms"] == 8 and row["atoms_per_second"] > 0 for row in timed)
    assert refused["engine"] == "another"
    assert "another was asked for" in refused["failed"]


def test_flagship(carried: Path, tmp_path: Path) -> None:
    from benchmarks.gpu import flagship
    from benchmarks.gpu.structures import write_starting

    crystals = [a for a in ep.probe_structures(ep.load(carried / "l3i5").elements).values() if a.pbc.all()]
    write_starting(crystals * 3, carried / "starting-structures.npz")
    flagship.main(["--models", str(carried), *ON_CPU, "-o", str(tmp_path / "run")])
    for child in ("compact", "mini"):
        [*_, last] = map(json.loads, (tmp_path / "run" / child / "curve.jsonl").read_text().splitlines())
        assert last["step"] > 0
        assert math.isfinite(last["forces_mae"])
        assert ep.load(tmp_path / "run" / child / "model").checkpoint.history[-1]["step"] == "train"


def test_engines_of_the_command_are_refused_or_timed(carried: Path, tmp_path: Path) -> None:
    from benchmarks.gpu import verified

    verified.main([f"compact={carried / 'compact-start'}", *ON_CPU, "-o", str(tmp_path / "verified.json")])
    found = {row["engine"]: row for row in rows(tmp_path / "verified.json")}
    timed = {engine for engine, row in found.items() if row.get("seconds_median", 0) > 0}
    assert timed == {"equiprune", "upstream"}
    assert found.keys() - timed == {"cuequivariance", "openequivariance", "flashtp"}
    assert all("GPU" in found[engine]["refused"] for engine in found.keys() - timed)


@pytest.mark.skipif(not measures_each_peak(), reason="memory of a process is limited on Linux alone")
def test_batch(carried: Path, tmp_path: Path) -> None:
    from benchmarks.gpu import batch

    models = [f"l3i5={carried / 'l3i5'}", "gone=no-such-model"]
    batch.main([*models, *ON_CPU, "-o", str(tmp_path / "batch.json")])
    [found, failed] = rows(tmp_path / "batch.json")
    assert found["atoms"] == 8 * found["copies"]
    assert 1 <= found["copies"] < found["refused"]
    assert 0 < found["peak_memory_bytes"] <= found["memory"]
    assert found["atoms_per_second"] > 0
    assert failed["model"] == "gone"
    assert "no-such-model" in failed["failed"]


def test_precision(carried: Path, tmp_path: Path) -> None:
    from benchmarks.gpu import precision

    precision.main([f"l3i5={carried / 'l3i5'}", *ON_CPU, "-o", str(tmp_path / "precision.json")])
    [usual, *others] = rows(tmp_path / "precision.json")
    assert usual["precision"] == "float32"
    assert 0 < usual["energy_mae"] < 0.1
    assert usual["speed_of_float32"] == 1
    assert [row["precision"] for row in others] == ["tf32", "bf16", "fp16"]
    assert all("arithmetic of CUDA GPUs" in row["failed"] for row in others)


def test_mace_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.gpu import mace

    monkeypatch.setattr(mace, "find_spec", lambda name: None)
    mace.main([*ON_CPU, "-o", str(tmp_path / "mace.json")])
    [row] = rows(tmp_path / "mace.json")
    assert "MACE is not in this environment" in row["skipped"]


def run(*given: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """The one command, on the CPU and small."""
    about = {"DEVICE": "cpu", "SMALL": "1", "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **variables}
    command = ["bash", str(ROOT / "benchmarks" / "gpu" / "run.sh"), *map(str, given)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **about}, check=False)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that any stage opens quickly, for those that are of any architecture."""
    folder = tmp_path_factory.mktemp("toys")
    for name in MODELS:
        ep.save(ep.load("toy"), folder / name)
    return folder


@needs_timeout
def test_one_command_runs_stages_and_says_which_failed(toys: Path, tmp_path: Path) -> None:
    done = run(toys, tmp_path / "out", "smoke", "another", "flagship", "wait", "collect", WORK=str(tmp_path / "work"))
    assert done.returncode == 1
    assert "There is no stage another." in done.stdout
    assert "There is nothing to label" in done.stdout
    assert all(row["passed"] for row in rows(tmp_path / "out" / "smoke.json"))
    stages = [json.loads(line) for line in (tmp_path / "out" / "stages.jsonl").read_text().splitlines()]
    assert {each["stage"]: each["code"] for each in stages} == {
        **dict.fromkeys(("smoke", "flagship", "wait", "collect"), 0),
        "another": 2,
    }


@needs_timeout
def test_one_command_ends_in_time(toys: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    done = run(toys, tmp_path / "out", "smoke", "speed", "flagship", WORK=str(tmp_path / "work"), LIMIT="21")
    assert time.monotonic() - begun < 21
    assert done.returncode == 1
    assert "smoke ended with 124" in done.stdout
    assert "No time is left.\n== speed ended with 124" in done.stdout


def test_models_are_prepared_by_a_checkout_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.gpu import prepare

    monkeypatch.setenv("EQUIPRUNE_OFFLINE", "1")
    prepare.main([str(tmp_path)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7net-0", "compact-start", "l3i5", "mini-start"]
    parameters = {name: ep.load(tmp_path / name).parameters() for name in ("l3i5", "compact-start", "mini-start")}
    assert parameters["mini-start"] < parameters["compact-start"] < parameters["l3i5"]
