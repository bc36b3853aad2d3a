"""Two processes, with different numbers of atoms and of labels each, are one process on the joint batches."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import mixed, rows

from equiprune.training.data import groups

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What one process wrote, and what two did."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder)], env=common | env, stderr=subprocess.PIPE, text=True
        )
        for folder, env in ((one, {}), (two, {"LOCAL_RANK": "0"}), (two, {"LOCAL_RANK": "1"}))
    ]
    try:
        for process in started:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in started:
            process.kill()
    return one, two


@pytest.fixture(scope="module")
def found(folders: tuple[Path, Path]) -> dict[str, Any]:
    """By the name of the file: processes, and which of them."""
    return {path.stem: torch.load(path) for folder in folders for path in folder.glob("*.pt")}


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


@pytest.mark.parametrize("objective", ["gradients", "forces only"])
@pytest.mark.parametrize("rank", ["2-0", "2-1"])
def test_gradients_are_those_of_the_joint_batch(objective: str, rank: str, found: dict[str, Any]) -> None:
    """Also where some weights have no part in what is asked for: no force depends on the energies of the elements."""
    assert found[rank][objective].keys() == found["1-0"][objective].keys() != set()
    for name, gradient in found["1-0"][objective].items():
        assert (name == "shift") == (not gradient.any()), name
        torch.testing.assert_close(found[rank][objective][name], gradient, rtol=1e-9, atol=1e-12)


def test_weights_after_training_are_those_of_one_process(found: dict[str, Any]) -> None:
    for rank in ("2-0", "2-1"):
        for name, weight in found["1-0"]["weights"].items():
            torch.testing.assert_close(found[rank]["weights"][name], weight, rtol=1e-7, atol=1e-9)


def test_the_curve_is_that_of_one_process(folders: tuple[Path, Path]) -> None:
    one, two = (rows(folder / "weights") for folder in folders)
    assert len(one) == len(two) == 6
    for row, other in zip(one, two, strict=True):
        assert (row["step"], row["epoch"]) == (other["step"], other["epoch"])
        assert float(row["validation_forces"] or 0) == pytest.approx(float(other["validation_forces"] or 0))


def test_a_signal_to_one_process_stops_all_after_the_same_step(
    found: dict[str, Any], folders: tuple[Path, Path]
) -> None:
    assert {found[rank]["stopped"] for rank in ("2-0", "2-1")} == {
        "StoppedError: Interrupted after step 4; the same command goes on from there."
    }
    for rank in ("2-0", "2-1"):
        for name, weight in found[rank]["weights"].items():
            assert torch.equal(found[rank]["resumed"][name], weight), name
    assert rows(folders[1] / "stopped") == rows(folders[1] / "weights")


@pytest.mark.parametrize("rank", ["2-0", "2-1"])
def test_gradients_that_are_not_shared_are_found_out_before_training(
    rank: str, found: dict[str, Any], folders: tuple[Path, Path]
) -> None:
    assert found[rank]["unsynchronised"].startswith("ParityError: The gradient of 2 processes differs from the mean")
    assert not (folders[1] / "unsynchronised" / "state.pt").exists()


@pytest.mark.parametrize("rank", ["2-0", "2-1"])
@pytest.mark.parametrize("setting", ["static_graph", "find_unused_parameters"])
def test_settings_that_give_wrong_gradients_are_refused(setting: str, rank: str, found: dict[str, Any]) -> None:
    assert found[rank][setting].startswith("ParityError: static_graph and find_unused_parameters")


@pytest.mark.parametrize("rank", ["2-0", "2-1"])
def test_a_process_without_a_batch_is_refused(rank: str, found: dict[str, Any]) -> None:
    assert found[rank]["too few"].startswith("TargetError: 8 structures in batches of 8 are fewer batches than")
