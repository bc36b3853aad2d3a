"""Commands whose output is on a disk that is really full: what was finished stays, and the command goes on later."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from command_line import Run, contents
from full_disk import SmallDisk, small_disk
from pretended_machine import pretend
from runs import bare, write

import equiprune as ep
from equiprune.pruning.calibration import score_batch

pytestmark = pytest.mark.slow

FULL = "the disk is full"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as made:
        yield made


@pytest.fixture
def bare_data(tmp_path: Path) -> Path:
    return write(tmp_path / "bare.xyz", bare(24))


@pytest.fixture
def labelled(cli: Run, tmp_path: Path) -> Path:
    assert cli("label", "toy", write(tmp_path / "few.xyz", bare(4)), "-o", tmp_path / "labelled.xyz").code == 0
    return tmp_path / "labelled.xyz"


@pytest.mark.usefixtures("small_batches")
def test_labelling_goes_on_when_there_is_space(cli: Run, disk: SmallDisk, bare_data: Path, tmp_path: Path) -> None:
    """The disk is full at the first batch, and then in the middle."""
    assert cli("label", "toy", bare_data, "-o", tmp_path / "whole.xyz").code == 0
    whole, output = (tmp_path / "whole.xyz").read_bytes(), disk.path / "out.xyz"
    command = ["label", "toy", bare_data, "-o", output]
    disk.leave(0)
    ran = cli(*command)
    assert (ran.code, FULL in ran.err) == (2, True), ran.err
    assert [path.name for path in disk.path.iterdir()] == [".taken"]
    disk.leave(len(whole) * 2 // 3)
    ran = cli(*command)
    assert (ran.code, FULL in ran.err) == (2, True), ran.err
    assert f"{output}.partial keeps what was finished" in ran.err
    assert not output.exists()
    disk.free_all()
    assert f"Going on from {output}.partial" in (ran := cli(*command)).err
    assert (ran.code, output.read_bytes()) == (0, whole)


def test_calibration_goes_on_when_there_is_space(
    cli: Run, disk: SmallDisk, bare_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sums fit on the disk, and the scores beside them do not."""
    monkeypatch.setattr(ep, "Resume", partial(ep.Resume, every=8))
    words, output = ["calibrate", "toy", bare_data, "--batch-atoms", 8], disk.path / "scores.json"
    assert cli(*words, "-o", tmp_path / "whole.json").code == 0
    size = (tmp_path / "whole.json").stat().st_size
    disk.leave(0)
    ran = cli(*words, "-o", output)
    assert (ran.code, FULL in ran.err) == (2, True), ran.err
    assert [path.name for path in disk.path.iterdir()] == [".taken"]
    disk.leave(2 * size)
    ran = cli(*words, "-o", output)
    assert (ran.code, FULL in ran.err) == (2, True), ran.err
    assert f"{output}.partial keeps what was finished" in ran.err
    assert sorted(path.name for path in disk.path.iterdir()) == [".taken", "scores.json.partial"]
    disk.free_all()
    ran = cli(*words, "-o", output)
    assert (ran.code, ran.err.splitlines()[0]) == (0, f"Going on from {output}.partial.")
    assert output.read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert [path.name for path in disk.path.iterdir()] == ["scores.json"]


def test_training_goes_on_when_there_is_space(cli: Run, disk: SmallDisk, labelled: Path, tmp_path: Path) -> None:
    """A state fits on the disk, and the next one beside it does not."""
    words = ["train", "toy", "--data", labelled, "--epochs", 4, "--batch-size", 2]
    assert cli(*words, "-o", tmp_path / "whole").code == 0
    size, run = (tmp_path / "whole" / "state.pt").stat().st_size, disk.path / "run"
    disk.leave(0)
    ran = cli(*words, "-o", run)
    assert (ran.code, FULL in ran.err) == (2, True), ran.err
    disk.leave(size * 3 // 2)
    ran = cli(*words, "-o", run)
    assert (ran.code, FULL in ran.err) == (2, True), ran.err
    assert {path.name for path in run.iterdir()} >= {"recipe.json", "state.pt", "curve.csv"}
    assert not (run / "model").exists()
    disk.free_all()
    assert cli(*words, "-o", run).code == 0
    weights = "model/weights.safetensors"
    assert (run / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()


RECIPE = """
model: toy
stages:
  - prune: {channels: 4, criterion: magnitude}
  - train: {data: labelled.xyz, epochs: 2}
  - evaluate: {data: labelled.xyz}
"""


@pytest.mark.usefixtures("labelled")
def test_a_pipeline_goes_on_when_there_is_space(
    cli: Run, disk: SmallDisk, launched: list[list[str]], tmp_path: Path
) -> None:
    """A stage fails for want of space: it is named, the stages before it are kept and not done again."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    words, out = ["run", tmp_path / "recipe.yaml", "-o"], disk.path / "out"
    assert cli(*words, tmp_path / "whole").code == 0
    before = sum(path.stat().st_size + 4096 for path in (tmp_path / "whole" / "prune").rglob("*"))
    state = (tmp_path / "whole" / "train" / "run" / "state.pt").stat().st_size
    launched.clear()
    disk.leave(before + state // 2)
    ran = cli(*words, out)
    assert (ran.code, ran.out, FULL in ran.err) == (2, "", True), ran.err
    assert "train: stopped. Finished stages are kept; repeat the command to go on." in ran.err
    kept = contents(out / "prune")
    disk.free_all()
    ran = cli(*words, out)
    assert ran.code == 0, ran.err
    assert [line[0] for line in launched] == ["prune", "train", "train", "evaluate"]
    assert "prune: unchanged, skipped" in ran.err
    assert contents(out / "prune") == kept
    weights = "train/run/model/weights.safetensors"
    assert (out / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()


@pytest.mark.usefixtures("labelled")
def test_a_pipeline_on_a_disk_that_is_full_from_the_beginning_is_one_message(
    cli: Run, disk: SmallDisk, launched: list[list[str]], tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    disk.leave(0)
    ran = cli("run", tmp_path / "recipe.yaml", "-o", disk.path / "out")
    assert (ran.code, ran.out, FULL in ran.err) == (2, "", True), ran.err
    assert "Traceback" not in ran.err


def test_compress_goes_on_when_there_is_space(
    cli: Run, disk: SmallDisk, launched: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores and labels fit on the disk, and what the search finds does not."""
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path / "cache"))
    pretend(monkeypatch)
    words = ["compress", "toy", "--data", write(tmp_path / "mine.xyz", bare(12)), "--parameters", 0.6, "--copies", 0]
    words += ["--measured", 6, "--candidates", 2, "--finalists", 1, "--steps", 1, "--structures", 10]
    words += ["--timed-atoms", 4, "--epochs", 1, "-o"]
    whole, out = tmp_path / "whole", disk.path / "out"
    assert cli(*words, whole).code == 0
    stages = [line[0] for line in launched]
    before = [path.stat().st_size for stage in ("calibrate", "label") for path in (whole / stage).rglob("*")]
    launched.clear()
    disk.leave(sum(before) + 4096 * (len(before) + 8))
    ran = cli(*words, out)
    assert (ran.code, ran.out, FULL in ran.err) == (2, "", True), ran.err
    assert "search: stopped. Finished stages are kept; repeat the command to go on." in ran.err
    disk.free_all()
    ran = cli(*words, out)
    assert ran.code == 0, ran.err
    assert [line[0] for line in launched] == ["calibrate", "label", "search", *stages[2:]]
    weights = "model/weights.safetensors"
    assert (out / weights).read_bytes() == (whole / weights).read_bytes()


def test_of_two_calibrations_into_one_file_the_last_is_refused(
    cli: Run, bare_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins and ends while the first is at its third batch; the scores of the one are left as they are."""
    words = ["calibrate", "toy", bare_data, "--batch-atoms", 8, "-o", tmp_path / "scores.json"]
    batches, second = 0, []

    def scored(*arguments: object) -> object:
        nonlocal batches
        batches += 1
        if batches == 3:
            second.append(cli(*words))
            second.append((tmp_path / "scores.json").read_bytes())
        return score_batch(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("equiprune.pruning.calibration.score_batch", scored)
    first = cli(*words)
    assert (first.code, first.out) == (2, "")
    assert f"'{tmp_path / 'scores.json'}' exists and is never overwritten" in first.err
    ended, scores = second
    assert ended.code == 0, ended.err
    assert (tmp_path / "scores.json").read_bytes() == scores
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare.xyz", "scores.json"]
