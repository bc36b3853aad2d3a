"""Tables of speed: every number under its conditions, said once where all rows share them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runs_on_disk import scaling, speed, stage

import equiprune as ep
from equiprune.evaluation.largest_batch import LargestBatch
from equiprune.evaluation.precisions import PrecisionErrors
from equiprune.report.parts import Table
from equiprune.report.report import report_page
from equiprune.report.run_directory import RunDirectory
from equiprune.report.sections import sections

CARD = "Card 9000"
TIMING = ep.Timing("a", "float32", "toy on cpu", 1, 1, 64, (0.25,), 2**21, neighbour_list_seconds=0.016)
BATCH = LargestBatch(
    "a", "equiprune", "float32", "toy on cpu", 1, 8, 12, 16, 0, (0.02,), (0.192,), 2**22, 8_000_000_000
)
ROUNDED = PrecisionErrors("a", "equiprune", "float32", "cpu", 4, 0.25, 0.5, 0.125, 2.0, 1.5)


def tables(folder: Path, timings: Sequence[Mapping[str, Any]], **more: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Tables of speed of one result of ``benchmark``."""
    stage(folder / "time", ["benchmark"], {"timings": timings, **more})
    [found] = [part for part in sections(RunDirectory.read(folder)) if part.name == "speed"]
    return [block for block in found.blocks if isinstance(block, Table)]


def column(table: Table, head: str) -> list[str]:
    return [row[list(table.heads).index(head)] for row in table.rows]


def on_card(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, "device_name": CARD}


def test_what_timings_share_is_said_once_and_what_differs_is_a_column(tmp_path: Path) -> None:
    other = replace(TIMING, model="b", backend="nequix on cpu", neighbour_list_seconds=None)
    [table] = tables(tmp_path, [TIMING.to_json(), other.to_json()])
    assert table.title.endswith(
        "without the neighbour list, models in turns: 64 atoms, float32, equiprune's code, 1 thread"
    )
    assert column(table, "device") == ["toy on cpu", "nequix on cpu"]
    assert column(table, "neighbour list (ms/atom)") == ["0.25", "-"]
    assert column(table, "peak memory (MiB)") == ["2", "2"]
    assert "dtype" not in table.heads
    [table] = tables(tmp_path, [TIMING.to_json(), replace(TIMING, model="b", dtype="float64", batch=2).to_json()])
    assert column(table, "dtype") == ["float32", "float64"]
    assert column(table, "atoms") == ["64 atoms", "64 atoms in 2 structures"]


def test_short_times_have_digits(tmp_path: Path) -> None:
    [table] = tables(tmp_path, [replace(TIMING, seconds=(6.4e-5, 6.4e-5, 1.28e-4)).to_json()])
    assert column(table, "ms/atom (min..max)") == ["0.001 (0.001..0.002)"]


def test_largest_batches_have_their_conditions(tmp_path: Path) -> None:
    none = replace(BATCH, model="b", copies=0, refused=1, peak_memory_bytes=0, single=(), seconds=())
    _, table = tables(tmp_path, [TIMING.to_json()], largest_batch=[BATCH.to_json(), none.to_json()])
    assert table.title == (
        "The largest batches that fit into memory, time: float32, toy on cpu, 1 thread, at most 8 GB, never halved "
        "while timed"
    )
    assert [row[2:] for row in table.rows] == [
        ["20", "12", "16", "96", "500", "4"],
        ["-", "0", "1", "0", "-", "-"],
    ]


def test_largest_batches_that_were_halved_or_had_no_limit_say_so(tmp_path: Path) -> None:
    full, limited = replace(BATCH, refused=None, halved=2, memory=None, threads=4), replace(BATCH, halved=1)
    batches = [each.to_json() for each in (BATCH, full, limited)]
    _, table = tables(tmp_path, [TIMING.to_json()], largest_batch=batches)
    assert column(table, "did not fit") == ["16", "none tried", "16"]
    assert column(table, "memory") == ["at most 8 GB", "all memory of the device", "at most 8 GB"]
    assert column(table, "halved") == [
        f"{often} while timed" for often in ("never halved", "halved 2 times", "halved once")
    ]
    assert column(table, "threads") == ["1 thread", "4 threads", "1 thread"]


def test_errors_of_precision_have_the_conditions_of_the_timing_beside_them(tmp_path: Path) -> None:
    _, table = tables(tmp_path, [replace(TIMING, batch=2).to_json()], precisions=[ROUNDED.to_json()])
    assert table.rows == [["a", "equiprune", "float32", "0.25 (0.5)", "0.125 (2)", "1.50x"]]
    assert table.title == (
        "Differences from float64 on 4 structures, time: timed on 64 atoms in 2 structures, toy on cpu, 1 thread"
    )
    _, table = tables(tmp_path, [TIMING.to_json()], precisions=[replace(ROUNDED, model="unknown").to_json()])
    assert table.title.endswith("structures, time: cpu")


def test_lines_of_scaling_have_their_conditions(tmp_path: Path) -> None:
    _, table = tables(tmp_path, [speed("a", 10.0)], scaling=[scaling("a", 20.0, 0.5), scaling("b", 30.0, 0.5)])
    assert table.title.endswith("with standard errors: float32, toy on cpu, 1 thread")


def test_engines_stand_side_by_side_each_with_its_own_ratio(tmp_path: Path) -> None:
    rates = {("a", "equiprune"): 20.0, ("b", "equiprune"): 30.0, ("a", "upstream"): 5.0, ("b", "upstream"): 15.0}
    rates |= {("a", "flashtp"): 40.0}
    table, *each = tables(tmp_path, [speed(model, rate) | {"engine": of} for (model, of), rate in rates.items()])
    assert table.heads == ["model", "equiprune", "upstream", "flashtp"]
    assert table.rows == [
        ["a", "20 (1.00x)", "5 (1.00x)", "40 (1.00x)"],
        ["b", "30 (1.50x)", "15 (3.00x)", "-"],
    ]
    assert "over that of a with the same engine: 64 atoms, float32, toy on cpu, 1 thread" in table.title
    assert len(each) == 3


@pytest.mark.parametrize("name", ["", None])
def test_a_device_without_a_name_is_its_kind(name: str | None, tmp_path: Path) -> None:
    [table] = tables(tmp_path, [TIMING.to_json() | {"device_name": name}])
    assert ", toy on cpu, equiprune's code" in table.title


def test_the_name_of_the_device_is_told_wherever_something_was_timed_on_it(tmp_path: Path) -> None:
    line = scaling("a", 20.0, 0.5)
    line |= {"timings": [on_card(timing) for timing in line["timings"]]}
    more = {"largest_batch": [BATCH.to_json()], "precisions": [ROUNDED.to_json()], "scaling": [line]}
    found = tables(tmp_path, [on_card(TIMING.to_json())], **more)
    assert len(found) == 4
    assert all(f"toy on cpu ({CARD})" in table.title for table in found)
    assert report_page(tmp_path).count(CARD) == len(found) * 2, "above the table and as its name"
