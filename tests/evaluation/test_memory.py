"""Memory: of the tensors that a piece of work makes, and what a process can still have."""

from pathlib import Path

import pytest
import torch

from equiprune.evaluation import memory
from equiprune.evaluation.memory import free_memory, tensor_memory

CPU = torch.device("cpu")
NUMBERS = 2**20
"""Of four bytes each."""


def made(count: int) -> list[torch.Tensor]:
    return [torch.ones(NUMBERS) for _ in range(count)]


def test_tensors_that_live_together_are_counted_together() -> None:
    found = tensor_memory(lambda: made(3), CPU)
    assert 3 * 4 * NUMBERS <= found < 3 * 4 * NUMBERS + 1000


def test_a_tensor_that_was_freed_is_counted_no_more() -> None:
    def one_after_the_other() -> None:
        for _ in range(3):
            made(1)

    assert 4 * NUMBERS <= tensor_memory(one_after_the_other, CPU) < 4 * NUMBERS + 1000


def test_what_was_there_before_is_not_counted() -> None:
    before = made(2)
    assert tensor_memory(lambda: before[0].add_(before[1]), CPU) < 1000
    assert tensor_memory(before.clear, CPU) == 0


def test_a_backward_pass_is_counted() -> None:
    def work() -> None:
        given = torch.ones(NUMBERS, requires_grad=True)
        given.square().sum().backward()

    assert tensor_memory(work, CPU) >= 3 * 4 * NUMBERS, "the numbers, their squares or these' gradient, the gradient"


def test_twice_the_same_is_the_same() -> None:
    assert tensor_memory(lambda: made(2), CPU) == tensor_memory(lambda: made(2), CPU)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8,000 bytes to spare for a process of the group job/step; the folder of all groups."""
    (tmp_path / "meminfo").write_text("MemTotal: 16 kB\nMemAvailable: 8 kB\n")
    (tmp_path / "cgroup").write_text("1:name=systemd:/elsewhere\n0::/job/step\n")
    (tmp_path / "groups" / "job" / "step").mkdir(parents=True)
    for name, path in (("_MACHINE", "meminfo"), ("_MEMBERSHIP", "cgroup"), ("_GROUPS", "groups")):
        monkeypatch.setattr(memory, name, tmp_path / path)
    return tmp_path / "groups"


def limit(group: Path, most: str, used: int, files: int) -> None:
    (group / "memory.max").write_text(f"{most}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon {used - files}\ninactive_file {files}\n")


def test_without_limits_the_memory_of_the_machine_is_free(machine: Path) -> None:
    assert free_memory() == 8 * 1024
    limit(machine / "job", "max", 700, 0)
    assert free_memory() == 8 * 1024
    (machine.parent / "cgroup").unlink()
    assert free_memory() == 8 * 1024


def test_the_least_of_all_limits_is_what_is_free(machine: Path) -> None:
    limit(machine / "job" / "step", "6000", 1000, 500)
    assert free_memory() == 5500, "files that were read give way"
    limit(machine / "job", "5000", 2000, 0)
    assert free_memory() == 3000
    limit(machine, "5000", 5500, 0)
    assert free_memory() == 0, "more is used than is allowed now"


def test_control_groups_of_version_1_are_known(machine: Path) -> None:
    (machine.parent / "cgroup").write_text("5:cpu,memory:/docker/elsewhere\n3:cpuset:/\n0::/\n")
    (machine / "memory").mkdir()
    for name, text in (("limit_in_bytes", "6000"), ("usage_in_bytes", "1500"), ("stat", "total_inactive_file 500")):
        (machine / "memory" / f"memory.{name}").write_text(f"{text}\n")
    assert free_memory() == 5000, "a container sees its own group as the uppermost"
