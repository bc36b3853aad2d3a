"""The largest batch: found on devices and in processes whose memory is pretended or limited, and said when halved."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as some
from torch import nn

import equiprune as ep
from equiprune.adapters import Outputs
from equiprune.adapters.toy import ToyAdapter
from equiprune.errors import TargetError
from equiprune.evaluation import largest_batch, places
from equiprune.evaluation.engines import OWN
from equiprune.evaluation.largest_batch import LargestBatch, largest, largest_batches, table
from equiprune.evaluation.places import Evaluated, InLimitedProcess, InThisProcess, Place


class Small(ToyAdapter):
    """A toy on a device whose memory holds so many atoms."""

    def __init__(self, most: int) -> None:
        self.most = most

    def evaluate(self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, *arguments: Any) -> Outputs:
        if len(graph.positions) > self.most:
            self.end()
        return super().evaluate(module, architecture, graph, *arguments)

    def end(self) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")


class Killed(Small):
    """A toy whose process the system ends where it needs more memory."""

    def end(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Broken(Small):
    """A toy that fails for another reason."""

    def end(self) -> None:
        raise ValueError("shapes differ")


@given(capacity=some.integers(0, 500), most=some.integers(1, 300), bisections=some.integers(0, 12))
def test_the_largest_number_lies_between_what_fits_and_what_does_not(capacity: int, most: int, bisections: int) -> None:
    tried: list[int] = []

    def fits(number: int) -> bool:
        tried.append(number)
        return number <= capacity

    found = largest(fits, most, bisections)
    assert len(tried) == len(set(tried))
    assert max(tried) <= min(most, max(1, 2 * capacity))
    assert found.fits <= capacity
    if found.refused is None:
        assert found.fits == most
    else:
        assert found.refused > capacity
        assert found.refused - found.fits <= max(1, max(found.fits, 1) // 2**bisections + 1)


@pytest.mark.slow
def test_a_device_without_memory_is_usable_again(toy: ep.Potential, structures: list[Atoms]) -> None:
    place = InThisProcess(replace(toy, adapter=Small(40)), structures[0])
    assert [place.evaluated(copies) is not None for copies in (5, 6, 5)] == [True, False, True]


def test_other_errors_are_no_lack_of_memory(toy: ep.Potential, structures: list[Atoms]) -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        InThisProcess(replace(toy, adapter=Broken(0)), structures[0]).evaluated(1)


def test_what_needs_more_than_the_limit_does_not_fit(toy: ep.Potential, structures: list[Atoms]) -> None:
    within, beyond = (InThisProcess(toy, structures[0], memory) for memory in (2**33, -1))
    assert within.evaluated(1) is not None
    assert beyond.evaluated(1) is None


def batches(there: ep.Potential, atoms: Atoms, adapter: ToyAdapter, **how: Any) -> list[LargestBatch]:
    potential = replace(there, adapter=adapter)
    return largest_batches({("a", OWN.name): potential, ("b", OWN.name): there}, [OWN], atoms, **how)


@pytest.mark.slow
def test_each_model_is_timed_at_its_own_batch(
    there: ep.Potential, structures: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(largest_batch, "MOST_ATOMS", 56)
    done: list[int] = []
    small, free = batches(there, structures[0], Small(24), repeats=2, progress=done.append)
    assert (small.copies, small.atoms, small.refused, small.halved) == (3, 24, 4, 0)
    assert (free.copies, free.refused) == (7, None)
    assert len(small.seconds) == len(small.single) == 2
    assert small.atoms_per_second == pytest.approx(24 / (sum(small.seconds) / 2))
    assert len(done) == (3 + 1) + 4 + 2 * 2 * 2  # looked for, then timed twice, at one structure and at the batch
    _, first, second = table([small, free])
    assert (first[3], first[6], first[8]) == ("3", "1.00x", "4")
    assert second[8] == "none tried: 56 atoms are the most"


def test_not_even_one_structure_may_fit(there: ep.Potential, structures: list[Atoms]) -> None:
    [found] = largest_batches({("a", OWN.name): replace(there, adapter=Small(7))}, [OWN], structures[0])
    assert (found.copies, found.refused, found.atoms_per_second, found.latency) == (0, 1, None, None)
    assert table([found])[1][2:7] == ["-", "0", "0", "-", "-"]
    assert found.to_json()["atoms_per_second"] is None


class Fuller(Place):
    """A device whose memory holds less once others have used it: of what was found to fit, half while it is timed."""

    calls = 0

    def __exit__(self, *_: object) -> None:
        pass

    def evaluated(self, copies: int, times: int = 1) -> Evaluated | None:
        self.calls += 1
        holds = 8 if self.calls <= len((1, 2, 4, 8, 16, 12, 10, 9)) else 4  # those are tried when it is looked for
        return Evaluated(0.1 * copies, copies) if copies <= holds else None


def test_a_batch_that_fits_no_longer_is_halved_and_it_is_said(
    there: ep.Potential, structures: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(largest_batch, "_place", lambda *_: Fuller())
    [found] = largest_batches({("a", OWN.name): there}, [OWN], structures[0], repeats=3)
    assert (found.copies, found.refused, found.halved, found.peak_memory_bytes) == (4, 8, 1, 4)
    assert len(found.seconds) == 3
    assert table([found])[1][8] == "8, halved 1 times while timing"
    assert found.to_json()["halved"] == 1


def test_a_cpu_needs_a_limit(toy: ep.Potential, structures: list[Atoms]) -> None:
    with pytest.raises(TargetError, match="Say how much: give `memory`"):
        largest_batches({("a", OWN.name): toy}, [OWN], structures[0])


def test_a_limit_beyond_the_machine_is_refused(toy: ep.Potential, structures: list[Atoms]) -> None:
    with pytest.raises(TargetError, match=r"`memory` 1e\+06 GB is more than the .* GB that are free"):
        InLimitedProcess(toy, OWN, structures[0], 10**15)


def test_a_system_that_cannot_limit_processes_is_named(
    toy: ep.Potential, structures: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "measures_each_peak", lambda: False)
    with pytest.raises(TargetError, match="only where the memory of a process is measured and limited, on Linux"):
        InLimitedProcess(toy, OWN, structures[0], 10**6)


def test_a_masked_model_is_refused(toy: ep.Potential, structures: list[Atoms]) -> None:
    plan = ep.allocate(toy, [ep.Channels(2)], ep.data_free_scores(toy, ep.Magnitude()))
    with pytest.raises(TargetError, match="masked model cannot be evaluated in a process of its own"):
        InLimitedProcess(ep.masked(toy, plan), OWN, structures[0], 10**6)


@pytest.mark.slow
def test_memory_of_a_process_is_limited_and_this_one_lives(toy: ep.Potential, structures: list[Atoms]) -> None:
    with InLimitedProcess(toy, OWN, structures[0], 40 * 10**6) as place:
        one = place.evaluated(1)
        assert one is not None
        assert one.peak < 40 * 10**6
        assert place.evaluated(2**8) is None  # measured
        assert place.evaluated(2**12) is None  # its allocator refuses, before the machine is in need


@pytest.mark.slow
def test_a_script_runs_once(tmp_path: Path) -> None:
    """One without the line ``if __name__ == "__main__":``."""
    script = tmp_path / "script.py"
    script.write_text(
        "from ase.build import bulk\n"
        "import equiprune as ep\n"
        "from equiprune.evaluation.engines import OWN\n"
        "from equiprune.evaluation.places import InLimitedProcess\n"
        "print('begun')\n"
        "with InLimitedProcess(ep.load('toy'), OWN, bulk('Si'), 10**8) as place:\n"
        "    print(place.evaluated(1).peak < 10**8)\n"
    )
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "begun\nTrue\n"), ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [Killed(40), Broken(40)], ids=["killed", "broken"])
def test_a_process_that_is_lost_does_no_harm(toy: ep.Potential, structures: list[Atoms], adapter: Small) -> None:
    with InLimitedProcess(replace(toy, adapter=adapter), OWN, structures[0], 10**9) as place:
        if isinstance(adapter, Broken):
            with pytest.raises(TargetError, match="6 copies could not be evaluated: ValueError: shapes differ"):
                place.evaluated(6)
        else:
            assert place.evaluated(6) is None
        assert place.evaluated(5) is not None
