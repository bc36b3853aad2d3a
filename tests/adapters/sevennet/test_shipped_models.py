"""Models that come with equiprune: licence and history travel with their files, and commands open them by name."""

from collections.abc import Mapping
from pathlib import Path

import ase.io
import pytest
from command_line import Run
from exports import SHIPPED

import equiprune as ep

pytestmark = pytest.mark.usefixtures("plain_code")  # in this process alone: files hold no code


@pytest.fixture(scope="module")
def structures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The probe structures of seven common elements, as a file, with labels of the parent."""
    path = tmp_path_factory.mktemp("structures") / "probes.extxyz"
    probes = list(ep.probe_structures([1, 6, 8, 11, 14, 17, 29]).values())
    ase.io.write(path, list(ep.label(ep.load("7net-0"), probes)))
    return path


@pytest.mark.parametrize("name", SHIPPED)
def test_licence_and_history_travel(name: str, exported: Mapping[str, Path]) -> None:
    shipped, opened = ep.load(name).checkpoint, ep.load(exported[name]).checkpoint
    assert (opened.licence, opened.history) == (shipped.licence, shipped.history)
    child = ep.prune(ep.load(name), ep.allocate(ep.load(name), [ep.Elements.parse("H,O")]))
    assert child.checkpoint.licence == shipped.licence
    assert child.checkpoint.history[-1]["parent"] == name


def test_every_command_that_takes_a_model_takes_its_name(cli: Run, structures: Path, tmp_path: Path) -> None:
    name = "7net-mini"
    lines = [
        ("calibrate", name, structures, "-o", tmp_path / "scores.json"),
        ("prune", name, "-o", tmp_path / "water", "--elements", "H,O"),
        ("certify", tmp_path / "water", "--parent", name, "--nve-steps", 1),
        ("label", name, structures, "-o", tmp_path / "labelled.extxyz"),
        ("evaluate", name, "--data", structures),
        ("benchmark", name, "--data", structures, "--repeats", 1),
        ("train", name, "--data", structures, "-o", tmp_path / "run", "--epochs", 1),
    ]
    for line in lines:
        ran = cli(*line)
        assert ran.code == 0, (line, ran.err)
