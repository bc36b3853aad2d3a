"""What a command writes is whole or not there at all, and what was there before is left alone."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Run, contents
from full_disk import files_of_at_most

import equiprune as ep
from equiprune.cli import main


def test_export_writes_the_same_weights(cli: Run, tmp_path: Path) -> None:
    assert cli("export", "toy", "-o", tmp_path / "out", "--json").json == {"written": [str(tmp_path / "out")]}
    original, written = ep.load("toy").checkpoint.weights, ep.load(tmp_path / "out").checkpoint.weights
    assert original.keys() == written.keys()
    assert all(torch.equal(original[name], written[name]) for name in original)


def writing(name: str, output: Path, folder: Path) -> list[object]:
    """A command that writes ``output``; plots and certificates get the suffix they need."""
    return {
        "calibrate": ["calibrate", "toy", folder / "data.xyz", "-o", output],
        "plot": [
            "calibrate",
            "toy",
            folder / "data.xyz",
            "-o",
            folder / "s.json",
            "--plot",
            output.with_suffix(".png"),
        ],
        "prune": ["prune", "toy", "--lmax", 0, "-o", output],
        "certify": ["certify", "toy", "-o", output.with_suffix(".md"), "--nve-steps", 2],
        "export": ["export", "toy", "-o", output],
    }[name]


WRITERS = ("calibrate", "plot", "prune", "certify", "export")


def output_of(words: list[object]) -> Path:
    return Path(str(words[max(i for i, word in enumerate(words) if word in ("-o", "--plot")) + 1]))


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_an_existing_output_is_left_alone(name: str, kind: str, refused: Run, tmp_path: Path, data: Path) -> None:
    words = writing(name, tmp_path / "out", tmp_path)
    output = output_of(words)
    if kind == "file":
        output.write_text("precious")
    elif kind == "folder":
        output.mkdir()
        (output / "weights.safetensors").write_text("precious")
    else:
        output.symlink_to(tmp_path / "nowhere")
    refused(*words, says=(str(output), "exists and is never overwritten"))
    assert output.is_symlink() == (kind == "dangling link")


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(
    ("folder", "says"),
    [
        ("missing", ("there is no folder", "Create it first")),
        ("data.xyz", "there is no folder"),
        ("/proc", "takes no files"),
    ],
)
def test_an_impossible_output_is_refused_before_any_work(
    name: str, folder: str, says: str, refused: Run, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_early(*_: object, **__: object) -> None:
        raise AssertionError("the model was opened although the output cannot be written")

    monkeypatch.setattr("equiprune.read_checkpoint", too_early)
    words = writing(name, tmp_path / folder / "out", tmp_path)
    refused(*words, says=(says,) if isinstance(says, str) else says)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_nothing_behind(
    name: str, refused: Run, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: Any, *_: object, **__: object) -> None:
        with path.open("wb") as stream:
            stream.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    if name == "plot":
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", full_figure)
        monkeypatch.setattr("equiprune.commands.calibrate.write_json", lambda path, value, **_: None)
    refused(*writing(name, tmp_path / "out", tmp_path), says=("the disk is full", "Nothing was changed", "out"))


def full_figure(_: object, path: Path, **__: object) -> None:
    path.write_text("")


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_a_write_that_really_fails_leaves_nothing_behind(name: str, refused: Run, tmp_path: Path, data: Path) -> None:
    words = writing(name, tmp_path / "out", tmp_path)
    with files_of_at_most(400 if name != "plot" else 20_000):
        if name == "plot":  # the scores fit, the picture does not
            ran_before = contents(tmp_path)
            assert main([str(word) for word in words]) == 2
            assert contents(tmp_path).keys() - ran_before.keys() == {str(tmp_path / "s.json")}
        else:
            refused(*words, says=("could not be written", "File too large", "Nothing was changed"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["certify", "toy", "-o", "certificate.pdf"], (".pdf", ".json or .md")),
        (["certify", "toy", "-o", "certificate"], (".json or .md")),
        (["calibrate", "toy", "data.xyz", "-o", "s.json", "--plot", "plot.gif"], (".gif", ".png or .svg")),
        (["calibrate", "toy", "data.xyz", "-o", "s.png", "--plot", "s.png"], "both the scores and the plot"),
        (["prune", "toy", "--lmax", "0", "-o", "small.pth"], (".pth", "no suffix writes equiprune's own directory")),
        (["prune", "toy", "--lmax", "0", "-o", "small.model"], (".model", "no suffix")),
        (["export", "toy", "-o", "small.pth"], (".pth", "no suffix")),
    ],
)
def test_a_wrong_suffix_is_refused(
    words: list[str], says: str, refused: Run, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(*words, says=says)
