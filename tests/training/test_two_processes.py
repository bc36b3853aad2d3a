"""Two processes, with different numbers of atoms and of labels each, are one process on the joint batches."""

import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import pytest
import torch
import two_processes
from runs import labelled, mixed, rows

from equiprune.training.batches import groups

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Found:
    """What a process found, and the folder it worked in."""

    folder: Path
    values: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """This process, on the joint batches."""
    folder = tmp_path_factory.mktemp("one")
    return Found(folder, two_processes.shared(folder))


def in_two(*words: object) -> list[tuple[int, str]]:
    """Exit code and stderr of two processes of a Python program; none may wait for the other for ever."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common |= {"PYTHONPATH": os.pathsep.join(sys.path)}  # where `runs` is
    command = [sys.executable, *map(str, words)]
    started = [
        subprocess.Popen(command, env=common | {"LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in ("0", "1")
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in started]
        return [(process.returncode, error) for process, error in zip(started, errors, strict=True)]
    finally:
        for process in started:
            process.kill()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    """Two processes, each on its own batches."""
    folder = tmp_path_factory.mktemp("two")
    for code, errors in in_two(two_processes.__file__, folder):
        assert code == 0, errors
    return [Found(folder, torch.load(folder / f"{rank}.pt")) for rank in (0, 1)]


def test_the_processes_see_different_numbers_of_atoms_and_labels() -> None:
    """Or a mean of means could pass for a mean."""
    atoms, energies, stresses = [], [], []
    for rank in (0, 1):
        [group] = groups(4, 2, 0, 0, rank=rank, ranks=2)
        batch = [mixed()[i] for i in group]
        atoms.append(sum(map(len, batch)))
        energies.append(sum("energy" in a.calc.results for a in batch))
        stresses.append(sum("stress" in a.calc.results for a in batch))
    assert len(set(atoms)) == len({*zip(energies, stresses, strict=True)}) == 2


@pytest.mark.parametrize("objective", ["gradients", "hessian", "forces only"])
def test_gradients_are_those_of_the_joint_batch(objective: str, one: Found, two: list[Found]) -> None:
    """Also where some weights have no part in what is asked for: no force depends on the energies of the elements."""
    assert one[objective]
    for process in two:
        assert process[objective].keys() == one[objective].keys()
        for name, gradient in one[objective].items():
            assert (name == "shift") == (not gradient.any()), name
            torch.testing.assert_close(process[objective][name], gradient, rtol=1e-9, atol=1e-12)


def test_weights_after_training_are_those_of_one_process(one: Found, two: list[Found]) -> None:
    for process in two:
        for name, weight in one["weights"].items():
            torch.testing.assert_close(process["weights"][name], weight, rtol=1e-7, atol=1e-9)


def test_the_curve_is_that_of_one_process(one: Found, two: list[Found]) -> None:
    single, several = rows(one.folder / "weights"), rows(two[0].folder / "weights")
    assert len(single) == len(several) == 6
    for row, other in zip(single, several, strict=True):
        assert (row["step"], row["epoch"]) == (other["step"], other["epoch"])
        for name in row.keys() - {"seconds"}:
            assert float(row[name] or 0) == pytest.approx(float(other[name] or 0), rel=1e-6), name


def test_a_signal_to_one_process_stops_all_after_the_same_step(two: list[Found]) -> None:
    for process in two:
        assert process["stopped"] == "StoppedError: Interrupted after step 4; the same command goes on from there."
        for name, weight in process["weights"].items():
            assert torch.equal(process["resumed"][name], weight), name
    assert rows(two[0].folder / "stopped") == rows(two[0].folder / "weights")


def test_gradients_that_are_not_shared_are_found_out_before_training(two: list[Found]) -> None:
    for process in two:
        assert process["unsynchronised"].startswith(
            "GradientMismatchError: The gradient of 2 processes differs from the mean"
        )
    assert not (two[0].folder / "unsynchronised" / "state.pt").exists()


@pytest.mark.parametrize("setting", ["static_graph", "find_unused_parameters"])
def test_settings_that_give_wrong_gradients_are_refused(setting: str, two: list[Found]) -> None:
    for process in two:
        assert process[setting].startswith("GradientMismatchError: static_graph and find_unused_parameters")


def test_a_process_without_a_batch_is_refused(two: list[Found]) -> None:
    for process in two:
        assert process["too few"].startswith("TargetError: 8 structures in batches of 8 are fewer batches than")
    assert not (two[0].folder / "few").exists()


# Validation.


def test_each_validates_a_share_and_all_remember_the_same_losses(two: list[Found]) -> None:
    """To the last bit: a learning rate and an end by patience are decided from them in every process."""
    first, second = (process["validations"] for process in two)
    assert first["losses"] == second["losses"]
    assert len(first["losses"]) == 2  # before the third epoch
    assert (first["validated"], second["validated"]) == (3 * 3, 3 * 2)


# Errors.


@pytest.mark.parametrize(
    ("what", "rank", "says"),
    [
        ("foreign", 0, "OutputError: .*holds thesis.tex"),
        ("unreadable", 1, "StructureError: The disk is gone"),
        ("infinite", None, "DivergedError: Training has diverged: the predictions for .*C3.* not finite"),
        ("validation", 1, "DivergedError: Training has diverged: the predictions for .*C3.* not finite"),
        ("record", 0, "OutputError: The disk is full"),
        ("save", 0, "OutputError: The disk is full"),
        ("result", 0, "OutputError: The disk is full"),
    ],
)
def test_an_error_of_one_process_ends_all(what: str, rank: int | None, says: str, two: list[Found]) -> None:
    messages = [process["failures"][what] for process in two]
    found = [bool(re.match(says, message)) for message in messages]
    assert sum(found) == 1, messages
    assert rank is None or found[rank], messages
    assert messages[found.index(False)].startswith("PeerProcessError: Another process found an error")


def test_the_exit_code_is_2_in_every_process(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "data.xyz", list(labelled()[:4]), format="extxyz")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").touch()
    words = ["train", "toy", "--data", tmp_path / "data.xyz", "-o", tmp_path / "run", "--devices", 2, "--batch-size", 2]
    (code, error), (other_code, other_error) = in_two("-m", "equiprune", *words)
    assert (code, other_code) == (2, 2), error + other_error
    assert "holds thesis.tex" in error
    assert "Another process found an error" in other_error
    assert "Traceback" not in error + other_error
