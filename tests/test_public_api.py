"""What importing equiprune promises, and the examples in its docstrings."""

import doctest
import importlib
import importlib.metadata
import linecache
import pkgutil
import subprocess
import sys

import pytest

import equiprune as ep

MODULES = sorted(
    name for _, name, _ in pkgutil.walk_packages(ep.__path__, "equiprune.") if not name.endswith("__main__")
)


FRESH = """
import sys
from equiprune.files.settings import from_json
print(from_json({"kind": "huber", "delta": 0.01}))
import equiprune.api
slow = "scipy rich matplotlib lightning lightning_fabric ase.build ase.constraints ase.io ase.db cyclopts yaml filelock"
print("slow", *sorted({*slow.split()} & sys.modules.keys()))
from equiprune.adapters import aliases
aliases()
backends = {"e3nn", "sevenn", "mace", "fairchem", "nequip", "jax", "matplotlib", "scipy", "ase.build", "ase.io"}
print("backends", *sorted(backends & sys.modules.keys()))
"""


def test_the_version_is_that_of_the_installed_package() -> None:
    assert ep.__version__ == importlib.metadata.version("equiprune")


@pytest.fixture(scope="module")
def said() -> list[str]:
    """What `FRESH` prints in a new process; it takes seconds to import torch, so there is one."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", FRESH], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_record_is_read_whatever_has_been_imported_before(said: list[str]) -> None:
    assert said[0] == "Huber(delta=0.01)"


@pytest.mark.slow
def test_importing_leaves_alone_what_is_slow_and_rarely_needed(said: list[str]) -> None:
    """Together these take half as long as torch."""
    assert said[1] == "slow"


@pytest.mark.slow
def test_asking_every_adapter_loads_no_backend_and_says_nothing(said: list[str]) -> None:
    assert said[2:] == ["backends"]


def test_names_are_imported_when_they_are_used() -> None:
    script = "import sys, equiprune; print(*sorted({'torch', 'numpy', 'ase', 'equiprune.api'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_public_name_resolves_and_is_documented() -> None:
    for name in ep.__all__:
        assert getattr(ep, name).__doc__, name


def test_names_are_those_of_the_interface_and_of_the_folders() -> None:
    assert {*ep.__all__, "commands", "train", "load"} <= set(dir(ep))
    namespace: dict[str, object] = {}
    exec("from equiprune import *; from equiprune import load as opened", namespace)
    assert namespace["opened"] is namespace["load"] is ep.load
    assert namespace["commands"] is importlib.import_module("equiprune.commands")
    assert ep.structures is importlib.import_module("equiprune.structures")
    for name in ("lode", "_private"):
        with pytest.raises(AttributeError, match=f"module 'equiprune' has no attribute '{name}'"):
            getattr(ep, name)


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_documented_and_their_examples_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    monkeypatch.setattr(linecache, "checkcache", lambda *_: None)  # every example would look at every file again
    assert doctest.testmod(module).failed == 0


def test_there_are_examples_to_run() -> None:
    finder = doctest.DocTestFinder()
    examples = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(examples) >= 10
