"""Every command runs, in text and as JSON, and its help names its flags."""

import json
import re
from pathlib import Path

import pytest
from command_line import Run
from toy_files import COMMANDS, command

NOTES = {
    "evaluate": "Labels: energy from calculator result energy (5 of 6), forces from calculator result forces (6 of 6), "
    "stress from calculator result stress (4 of 6).\n"
}
"""Beginnings of what goes to stderr; a doubt about the labels, which are noise here, may follow."""


@pytest.mark.parametrize("name", COMMANDS)
def test_text_goes_to_stdout(name: str, cli: Run, tmp_path: Path, data: Path, labelled: Path) -> None:
    ran = cli(*command(name, "toy", tmp_path))
    assert ran.code == 0
    assert ran.err.startswith(NOTES[name]) if name in NOTES else not ran.err
    assert len(ran.out.split()) > 3
    with pytest.raises(json.JSONDecodeError):
        ran.json


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_one_document_and_nothing_else(name: str, cli: Run, tmp_path: Path, data: Path, labelled: Path) -> None:
    ran = cli(*command(name, "toy", tmp_path), "--json")
    assert ran.code == 0
    assert ran.err.startswith(NOTES[name]) if name in NOTES else not ran.err
    assert isinstance(ran.json, dict | list)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("info", "MODEL --json --head --trust"),
        ("calibrate", "MODEL DATA -o --output --criterion --seed --limit --batch-atoms --dtype --device --plot"),
        (
            "prune",
            "-o --output --irreps --lmax --edge-lmax --channels --parameters --elements --heads --radial-width "
            "--radial-basis --floor --round-to --lossless --plan --scores --data --criterion --seed --limit --device "
            "--json",
        ),
        ("certify", "--parent --output --nve-steps --device --json --head"),
        ("evaluate", "MODELS --data --dtype --device --limit --batch-atoms --json --head"),
        ("benchmark", "--data --dtype --repeats --threads --device --json"),
        ("export", "MODEL --output --lammps --elements --json"),
        ("demo", "OUTPUT"),
    ],
)
def test_help_names_every_flag(name: str, flags: str, cli: Run) -> None:
    ran = cli(name, "--help")
    assert ran.code == 0
    for flag in flags.split():
        assert re.search(rf"(?<![\w-]){flag}(?![\w-])", ran.out), flag


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_help_lists_the_commands(words: list[str], cli: Run) -> None:
    ran = cli(*words)
    assert ran.code == 0
    assert all(name in ran.out for name in COMMANDS)


def test_version_is_printed(cli: Run) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", cli("--version").out)


@pytest.mark.parametrize("name", ["calibrate", "prune", "certify", "evaluate", "benchmark"])
def test_a_device_that_is_not_here_is_refused(
    name: str, refused_in_one_line: Run, tmp_path: Path, data: Path, labelled: Path
) -> None:
    says = ("--device cuda:77 is not available here", "Available: cpu")
    refused_in_one_line(*command(name, "toy", tmp_path), "--device", "cuda:77", says=says)
