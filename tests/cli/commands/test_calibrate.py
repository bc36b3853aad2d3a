"""``equiprune calibrate``: the scores of the API, also after Ctrl-C, and pictures of them."""

import json
import signal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from command_line import Run
from toy_files import toy_structures, write

import equiprune as ep
from equiprune.pruning import calibration


@pytest.mark.parametrize("criterion", [ep.Taylor(), ep.Activation()])
def test_calibrate_writes_the_scores_of_the_api(
    criterion: ep.Taylor | ep.Activation, cli: Run, tmp_path: Path, data: Path
) -> None:
    output = tmp_path / "scores.json"
    value = cli("calibrate", "toy", data, "--criterion", criterion.name, "--limit", 5, "-o", output, "--json").json
    expected = ep.calibrate(ep.load("toy"), data, criterion, limit=5)
    assert json.loads(output.read_text()) == expected.to_json()
    assert (value["scores"], value["structures"]) == (str(output), 5)
    assert not (tmp_path / "scores.json.partial").exists()


def test_magnitude_needs_no_structures(cli: Run, tmp_path: Path, data: Path) -> None:
    ran = cli("calibrate", "toy", "--criterion", "magnitude", "-o", tmp_path / "a.json")
    assert (ran.code, ran.err) == (0, "")
    ran = cli("calibrate", "toy", data, "--criterion", "magnitude", "-o", tmp_path / "b.json")
    assert "is not read" in ran.err
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.slow
def test_plot_is_a_png_or_an_svg(cli: Run, tmp_path: Path, data: Path) -> None:
    for i, suffix in enumerate((".png", ".svg")):
        plot = tmp_path / f"importance{suffix}"
        assert cli("calibrate", "toy", data, "--limit", 1, "-o", tmp_path / f"{i}.json", "--plot", plot).code == 0
    assert (tmp_path / "importance.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert ElementTree.parse(tmp_path / "importance.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_finished(tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path / "many.xyz", toy_structures(160))
    interrupted, whole, partial = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "a.json.partial"
    call = ["calibrate", "toy", str(data), "--batch-atoms", "8", "-o"]
    save = calibration._save

    def save_and_press(*kept: Any) -> None:
        patched.undo()
        save(*kept)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(calibration, "_save", save_and_press)
        ran = cli(*call, interrupted)
    assert (ran.code, ran.out) == (2, "")
    messages = [line for line in ran.err.splitlines() if not line.startswith("calibrate: ")]
    assert messages == [f"equiprune: Interrupted; {partial} keeps what was finished. Repeat the command to go on."]
    assert 64 <= json.loads(partial.read_text())["sums"]["structures"] < 160
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json.partial", "many.xyz"]

    ran = cli(*call, interrupted)
    assert (ran.code, ran.err.splitlines()[0]) == (0, f"Going on from {partial}.")
    assert cli(*call, whole).code == 0
    assert interrupted.read_bytes() == whole.read_bytes()
    assert not partial.exists()


@pytest.mark.parametrize("text", ["[]", "{}", '{"provenance": {}}', "nonsense"])
def test_a_foreign_partial_calibration_is_refused(text: str, refused: Run, tmp_path: Path, data: Path) -> None:
    (tmp_path / "scores.json.partial").write_text(text)
    refused("calibrate", "toy", data, "-o", tmp_path / "scores.json", says=("scores.json.partial", "calibration"))


@pytest.mark.parametrize("damage", [{}, {"sums": None}, {"sums": {"structures": 3}}])
def test_a_damaged_partial_calibration_is_refused(
    damage: dict[str, Any], cli: Run, refused: Run, tmp_path: Path, data: Path
) -> None:
    command = ["calibrate", "toy", data, "-o", tmp_path / "scores.json"]
    provenance = cli(*command, "--json").json["provenance"]
    (tmp_path / "scores.json").unlink()
    (tmp_path / "scores.json.partial").write_text(json.dumps({"provenance": provenance} | damage))
    ran = refused(*command, says=("scores.json.partial", "damaged", "Remove it"))
    assert "keeps what was finished" not in ran.err


@pytest.mark.parametrize(("first", "structures"), [(1, 3), (0, -2), (0, 2**70)])
def test_partial_sums_of_other_sizes_are_refused(
    first: int, structures: int, cli: Run, refused: Run, tmp_path: Path, data: Path
) -> None:
    command = ["calibrate", "toy", data, "-o", tmp_path / "scores.json"]
    assert cli(*command).code == 0
    written = json.loads((tmp_path / "scores.json").read_text())
    (tmp_path / "scores.json").unlink()
    sums = {space: {ir: values[first:] for ir, values in by.items()} for space, by in written["mean"].items()}
    record = {"provenance": written["provenance"], "sums": {"total": sums, "squares": sums, "structures": structures}}
    (tmp_path / "scores.json.partial").write_text(json.dumps(record))
    refused(*command, says=("scores.json.partial", "damaged", "Remove it"))
