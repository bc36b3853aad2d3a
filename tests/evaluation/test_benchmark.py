"""Timings: what they record, and that models take turns."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from ase import Atoms
from torch import nn

import equiprune as ep
from equiprune.adapters import Outputs
from equiprune.adapters.toy import ToyAdapter
from equiprune.evaluation.benchmark import table
from equiprune.evaluation.engines import ENGINES
from equiprune.evaluation.machine import device_name
from equiprune.evaluation.memory import obtainable_memory


class Logged(ToyAdapter):
    """A toy that notes when it is evaluated."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.model, self.calls = name, calls

    def evaluate(self, module: nn.Module, *arguments: Any) -> Outputs:
        self.calls.append(self.model)
        return super().evaluate(module, *arguments)


@pytest.fixture
def timings(toy: ep.Potential, structures: list[Atoms]) -> Sequence[ep.Timing]:
    return ep.benchmark({"a": toy, "b": toy.with_dtype(torch.float32)}, structures[0], repeats=3, warmup=1)


def test_models_take_turns(toy: ep.Potential, structures: list[Atoms]) -> None:
    calls: list[str] = []
    done: list[int] = []
    models = {name: replace(toy, adapter=Logged(name, calls)) for name in "ab"}
    ep.benchmark(models, structures[0], repeats=2, warmup=1, progress=done.append)
    assert calls == ["a", "b"] * 3
    assert sum(done) == len(calls)


def test_engines_take_turns_too(toy: ep.Potential, structures: list[Atoms]) -> None:
    timings = ep.benchmark({"a": toy, "b": toy}, structures[0], repeats=1, warmup=0, engines=list(ENGINES.values()))
    assert [(timing.engine, timing.model) for timing in timings] == [
        *(("equiprune", name) for name in "ab"),
        *(("upstream", name) for name in "ab"),
    ]


def test_conditions_are_recorded(timings: Sequence[ep.Timing]) -> None:
    first, second = timings
    assert (first.model, first.dtype, first.backend, first.batch, first.atoms) == ("a", "float64", "toy on cpu", 1, 8)
    assert second.dtype == "float32"
    assert first.threads == torch.get_num_threads()
    assert len(first.seconds) == 3
    assert first.peak_memory_bytes >= 0
    assert all(timing.neighbour_list_seconds > 0 for timing in timings)


def test_a_slow_neighbour_list_among_others_does_not_count(
    toy: ep.Potential, structures: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the first, which is not timed: the clock here goes on when neighbours are found and at no other time."""
    graph, clock, spent = ep.Potential.graph, [0.0], iter([100.0, 1.0, 60.0, 2.0])

    def found(*arguments: Any) -> Any:
        clock[0] += next(spent)
        return graph(*arguments)

    monkeypatch.setattr(ep.Potential, "graph", found)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    [timing] = ep.benchmark({"a": toy}, structures[0], repeats=3, warmup=0)
    assert timing.neighbour_list_seconds == 2.0
    assert timing.seconds == (0.0, 0.0, 0.0)


def test_json_has_the_promised_fields(timings: Sequence[ep.Timing]) -> None:
    value = timings[0].to_json()
    assert value["device_name"] == device_name(torch.device("cpu"))
    assert {"model", "dtype", "backend", "batch", "atoms_per_second", "peak_memory_bytes"} <= value.keys()
    assert value["seconds_min"] <= value["seconds_median"] <= value["seconds_max"]
    assert value["repeats"] == 3


def test_speed_is_by_the_median() -> None:
    slow = ep.Timing("slow", "float64", "toy on cpu", 1, 1, 8, (4.0, 2.0, 60.0), 0)
    fast = replace(slow, model="fast", seconds=(1.0, 1.0, 1.0))
    assert slow.atoms_per_second == 2
    _, first, second = table([slow, fast])
    assert first[1:3] == ["equiprune", "500.0 (250.0..7500.0)"]
    assert (first[4], second[4]) == ("1.00x", "4.00x")


def test_the_memory_of_a_cpu_is_nobody_s_own() -> None:
    assert obtainable_memory(torch.device("cpu")) is None


@pytest.mark.gpu
def test_tensors_that_are_there_count_as_memory_that_a_gpu_has_for_them() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device here")
    device, size = torch.device("cuda"), 2**28
    before = obtainable_memory(device)
    held = torch.zeros(size, dtype=torch.uint8, device=device)
    after = obtainable_memory(device)
    assert before is not None
    assert after is not None
    assert size <= after <= torch.cuda.get_device_properties(device).total_memory
    assert after == pytest.approx(before, abs=size / 2)
    assert held.numel() == size
