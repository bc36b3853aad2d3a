"""``equiprune search``: a plan that ``prune`` makes, what it says, and what is refused before anything is evaluated."""

import errno
from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
import pytest
from command_line import Run
from pretended_machine import pretend

import equiprune as ep
from equiprune.structures.probes import probe_structures

LITTLE = ["--measured", 6, "--candidates", 2, "--finalists", 1, "--steps", 1, "--structures", 10, "--timed-atoms", 4]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = [atoms for seed in range(3) for atoms in probe_structures([1, 6, 8, 14], seed).values()]
    for i, atoms in enumerate(frames):
        atoms.info["frame"] = i // 2
    path = tmp_path_factory.mktemp("data") / "labelled.extxyz"
    ase.io.write(path, list(ep.label(ep.load("toy"), frames)), format="extxyz")
    return path


@pytest.fixture(autouse=True)
def own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Timings of a machine that is never busy."""
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path / "cache"))
    pretend(monkeypatch)


@pytest.mark.slow
def test_prune_makes_the_model_that_was_found(cli: Run, data: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "found.json", tmp_path / "front.png"
    words = ["search", "toy", "--data", data, "--parameters", 0.5, "--structure-key", "frame", *LITTLE]
    other = tmp_path / "cache" / "other"
    other.parent.mkdir()
    assert cli("prune", "toy", "--channels", 4, "--criterion", "magnitude", "-o", other).code == 0
    ran = cli(*words, "-o", out, "--plot", picture, "--beside", other, "--json")
    assert ran.code == 0, ran.err
    itself, beside = ran.json["beside"]
    assert (itself["name"], itself["speed"]) == ("parent", 1.0)
    assert itself["forces"] < 1e-3, "the labels are its own"
    assert (beside["name"], beside["forces"] > 1) == (str(other), True)
    assert ran.json["written"] == [str(out), str(picture)]
    assert ran.json["measured"]["parameters"] <= 0.5
    assert picture.stat().st_size > 5000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "found.json", "front.png"]
    assert "Candidate 0 (even widths; widths only)" in ran.err
    assert "Times are predicted to" in ran.err
    pruned = cli("prune", "toy", "--plan", out, "-o", tmp_path / "small", "--json")
    assert pruned.code == 0, pruned.err
    parent, child = (ep.load(name).parameters(trainable_only=True) for name in ("toy", tmp_path / "small"))
    assert child / parent == pytest.approx(ran.json["measured"]["parameters"])
    assert cli("certify", tmp_path / "small", "--parent", "toy", "--nve-steps", 2).code == 0
    text = cli(*words, "-o", tmp_path / "again.json")
    assert "(chosen)" in text.out
    assert "speed, measured" in text.text
    assert "Costs were measured before on this machine." in text.err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plot_front", "write_json"])
def test_a_disk_that_is_full_at_the_end_leaves_neither_file_and_the_same_command_goes_on(
    name: str, cli: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    words = ["search", "toy", "--data", data, "--parameters", 0.5, *LITTLE]
    words += ["-o", tmp_path / "found.json", "--plot", tmp_path / "front.png"]
    with monkeypatch.context() as patched:
        patched.setattr(f"equiprune.commands.search.{name}", full)
        ran = cli(*words)
    assert (ran.code, "the disk is full" in ran.err) == (2, True)
    assert "found.json.partial keeps what was finished: the same command goes on" in ran.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "found.json.partial"]
    assert cli(*words).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "found.json", "front.png"]


@pytest.mark.slow
def test_scores_from_a_file_are_used(cli: Run, data: Path, tmp_path: Path) -> None:
    assert cli("calibrate", "toy", "--criterion", "magnitude", "-o", tmp_path / "scores.json").code == 0
    words = ["search", "toy", "--data", data, "--parameters", 0.5, *LITTLE, "--scores", tmp_path / "scores.json"]
    assert cli(*words, "-o", tmp_path / "found.json").code == 0
    assert cli("prune", "toy", "--channels", 4, "--criterion", "magnitude", "-o", tmp_path / "other").code == 0
    words[1] = tmp_path / "other"
    refused = cli(*words, "-o", tmp_path / "none.json")
    assert refused.code == 2
    assert not (tmp_path / "none.json").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "Say what you can afford: --faster, --memory with --atoms, --parameters or --max-force-error."),
        (["--faster", 0.9], "--faster 0.9 is not possible: give 1 or more"),
        (["--memory", "8 apples", "--atoms", 10], "--memory '8 apples' is no amount of memory. Give e.g. 8GB"),
        (["--memory", "8GB"], "--memory is for so many --atoms: give both or neither."),
        (["--faster", 2, "--lossless"], "--lossless"),
        (["--faster", 2, "--measured", 2], "--measured 2 is not possible: give 6 or more"),
        (["--faster", 2, "--structures", 2], "--structures 2 is not possible: give 10 or more"),
        (["--faster", 2, "-o", "found.txt"], "A search is written as .json, not '.txt'"),
        (["--faster", 2, "--device", "cuda:7"], "--device cuda:7 is not available here"),
        (["--faster", 2, "--head", "x"], "head"),
    ],
)
def test_what_cannot_be_is_refused(cli: Run, data: Path, tmp_path: Path, words: Sequence[object], says: str) -> None:
    output = [] if "-o" in words else ["-o", tmp_path / "found.json"]
    ran = cli("search", "toy", "--data", data, *words, *output)
    assert ran.code == 2
    assert says in ran.err
    assert ran.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def few(tmp_path: Path) -> Path:
    frames = list(probe_structures([1, 6, 8, 14]).values())
    ase.io.write(tmp_path / "few.extxyz", list(ep.label(ep.load("toy"), frames)), format="extxyz")
    return tmp_path / "few.extxyz"


def unlabelled(tmp_path: Path) -> Path:
    frames = [atoms for seed in range(3) for atoms in probe_structures([1, 6, 8, 14], seed).values()]
    ase.io.write(tmp_path / "bare.extxyz", frames, format="extxyz")
    return tmp_path / "bare.extxyz"


def empty(tmp_path: Path) -> Path:
    (tmp_path / "empty.extxyz").touch()
    return tmp_path / "empty.extxyz"


def broken(tmp_path: Path) -> Path:
    frames = [atoms for seed in range(3) for atoms in probe_structures([1, 6, 8, 14], seed).values()]
    labelled = list(ep.label(ep.load("toy"), frames))
    labelled[5].calc.results["forces"] = np.full_like(labelled[5].get_forces(), np.nan)
    ase.io.write(tmp_path / "nan.extxyz", labelled, format="extxyz")
    return tmp_path / "nan.extxyz"


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (few, "are too few for a search: a fifth is held out"),
        (unlabelled, "Structure 0 has no labels of forces"),
        (empty, "empty"),
        (broken, "Structure 5"),
    ],
)
def test_structures_that_cannot_be_used_are_refused(cli: Run, tmp_path: Path, made: object, says: str) -> None:
    data = made(tmp_path)  # type: ignore[operator]
    ran = cli("search", "toy", "--data", data, "--faster", 2, *LITTLE, "-o", tmp_path / "found.json")
    assert ran.code == 2, ran.err
    assert says in ran.err
    assert [path.name for path in tmp_path.iterdir()] == [data.name]
