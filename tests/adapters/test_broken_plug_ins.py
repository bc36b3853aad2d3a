"""A plug-in that cannot be used breaks nothing but itself, and says why when it is asked for."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from command_line import Run
from plug_ins import forget, installed

import equiprune as ep
from equiprune.adapters import adapter_named, aliases
from equiprune.adapters.toy import ToyAdapter
from equiprune.errors import CheckpointError


class Unmade(ToyAdapter):
    """Cannot be constructed."""

    def __init__(self) -> None:
        raise RuntimeError("no licence key")


class Nameless(ToyAdapter):
    """Cannot say what it opens."""

    @property
    def aliases(self) -> Mapping[str, str]:  # type: ignore[override]
        raise KeyError("MODELS")


class Renamed(ToyAdapter):
    """Would write files that nobody could open."""

    name = "other"


BROKEN = {
    "aardvark": "lost_library:Adapter",
    "absent": "no_such_package:Adapter",
    "misspelt": f"{__name__}:Adaptor",
    "nameless": f"{__name__}:Nameless",
    "number": "math:pi",
    "renamed": f"{__name__}:Renamed",
    "unmade": f"{__name__}:Unmade",
}
"""The first in the alphabet is met first."""


@pytest.fixture
def plug_ins(tmp_path: Path) -> Iterator[Path]:
    """A package with these entry points."""
    with installed(tmp_path / "packages", BROKEN) as metadata:
        lost = "raise ImportError('libfoo.so.1: cannot open shared object file')"
        (metadata.parent / "lost_library.py").write_text(lost)
        yield metadata


def test_the_others_work(cli: Run, plug_ins: Path) -> None:
    assert {"toy", "7net-0"} <= aliases().keys()
    assert ep.load("toy").adapter.name == "toy"
    for words in (["info", "toy"], ["--help"], ["prune", "--help"]):
        ran = cli(*words)
        assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("aardvark", r"'aardvark' \(lost_library:Adapter\) .* ImportError: libfoo.so.1: cannot open shared object"),
        ("absent", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("misspelt", "AttributeError: .*Adaptor"),
        ("number", "TypeError: .*not callable"),
        ("nameless", "KeyError: 'MODELS'"),
        ("renamed", "it calls itself 'other'"),
        ("unmade", "RuntimeError: no licence key"),
    ],
)
def test_one_that_is_asked_for_says_why(name: str, reason: str, plug_ins: Path) -> None:
    for _ in range(2):
        with pytest.raises(CheckpointError, match=f"{reason}.* Mend or remove the package"):
            adapter_named(name)


def test_a_model_of_one_is_refused_in_one_message(refused_in_one_line: Run, tmp_path: Path, plug_ins: Path) -> None:
    ep.save(ep.load("toy"), tmp_path / "model")
    described = json.loads((tmp_path / "model/architecture.json").read_text())
    (tmp_path / "model/architecture.json").write_text(json.dumps({**described, "adapter": "aardvark"}))
    refused_in_one_line("info", tmp_path / "model", says=("aardvark", "libfoo.so.1", "Mend or remove"))


def test_an_unknown_model_names_what_cannot_be_used(plug_ins: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither a file nor a known model.* cannot be used: .*aardvark.*libfoo"):
        ep.load("foo-1")


def test_a_name_that_two_packages_declare_is_neither(plug_ins: Path) -> None:
    with (plug_ins / "entry_points.txt").open("a") as stream:
        stream.write("toy = no_such_package:Adapter\n")
    forget()
    with pytest.raises(CheckpointError, match=r"several packages declare it: .*equiprune\.adapters\.toy:ToyAdapter"):
        adapter_named("toy")


@pytest.mark.slow
def test_a_package_that_is_installed_and_broken_leaves_commands_alone(plug_ins: Path) -> None:
    command = [sys.executable, "-m", "equiprune"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(plug_ins.parent), *sys.path])}
    done = subprocess.run([*command, "info", "toy"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
