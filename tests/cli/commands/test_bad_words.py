"""Misspelt, missing and impossible words of a command line are refused, with the word that helps."""

from pathlib import Path

import pytest
from command_line import Run
from toy_files import command


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["prun", "toy"], ("prun", "Did you mean", "prune")),
        (["certify"], ("MODEL", "See 'equiprune certify --help'")),
        (["--jsn"], ("--jsn", "See 'equiprune --help'")),
        (["benchmark"], "MODELS requires an argument. See 'equiprune benchmark --help'"),
        (
            ["benchmark", "--sizes", "8", "64", "toy"],
            "--sizes takes every word up to the next flag: give MODELS before",
        ),
        (
            ["benchmark", "--engine=upstream", "toy"],
            "--engine takes every word up to the next flag: give MODELS before",
        ),
        (["benchmark", "toy", "--engine", "upstream", "x.pth"], ("no engine 'x.pth'", "equiprune, upstream")),
        (["benchmark", "toy", "--engine"], ("--engine", "at least 1")),
        (["benchmark", "toy", "--sizes", "--json"], ("--sizes", "at least 1")),
        (["benchmark", "toy", "--precision", "--json"], ("--precision", "at least 1")),
        (["info", "--head", "PBE"], ("--head", "are about a model", "MODEL")),
        (["info", "toy", "extra"], "extra"),
        (["info", "toy", "--jsn"], ("--jsn", "--json")),
        (["evaluate", "toy"], "--data"),
        (["prune", "toy", "--lmax", "0"], "--output"),
        (["prune", "toy", "-o", "x", "--lmax", "one"], ("--lmax", "one", "whole number")),
        (["prune", "toy", "-o", "x", "--lmax", "0.5"], ("--lmax", "0.5", "whole number")),
        (["prune", "toy", "-o", "x", "--parameters", "half"], ("--parameters", "half")),
        (["prune", "toy", "-o", "x", "--lmax", "0", "--lmax", "1"], ("--lmax", "multiple times")),
        (["benchmark", "toy", "--dtype", "float16"], ("--dtype", "float16", "float32", "float64")),
        (["calibrate", "toy", "d", "-o", "x", "--criterion", "tailor"], ("tailor", "taylor", "magnitude")),
        (["calibrate", "toy", "-o", "x"], ("taylor", "give DATA")),
        (["benchmark", "toy", "--device", "gpu"], ("gpu", "cpu")),
        (["info", "toy", "--head", "PBE"], ("single head", "PBE", "Leave it out")),
        (["certify", "toy", "--head", "PBE"], ("single head", "PBE", "Leave it out")),
    ],
)
def test_wrong_words_are_refused(words: list[str], says: str, refused: Run) -> None:
    refused(*words, says=says)


@pytest.mark.parametrize(
    ("name", "flag", "smallest"),
    [
        ("calibrate", "--limit", 1),
        ("calibrate", "--batch-atoms", 1),
        ("calibrate", "--seed", 0),
        ("prune", "--limit", 1),
        ("prune", "--seed", 0),
        ("prune", "--round-to", 1),
        ("certify", "--nve-steps", 1),
        ("evaluate", "--limit", 1),
        ("evaluate", "--batch-atoms", 1),
        ("benchmark", "--repeats", 1),
        ("benchmark", "--threads", 1),
    ],
)
def test_numbers_too_small_are_refused(
    name: str, flag: str, smallest: int, refused: Run, tmp_path: Path, data: Path, labelled: Path
) -> None:
    for value in (smallest - 1, -5):
        words = [word for word in command(name, "toy", tmp_path) if word not in ("--repeats", "--nve-steps", 2)]
        refused(*words, flag, value, says=(flag, str(value), f"{smallest} or more"))
