"""Work that several processes share: each item once, in any order, interrupted anywhere, with the same results."""

import json
import multiprocessing
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from full_disk import files_of_at_most
from hypothesis import given
from hypothesis import strategies as st

from equiprune.errors import OutputError
from equiprune.files import shared_work
from equiprune.files.shared_work import Role, Share, SharedWork, UnfinishedError

NAMES = [f"item {i}" for i in range(7)]


def of(folder: Path, **settings: object) -> SharedWork:
    return SharedWork(folder / "work", settings, NAMES)


def square(item: int) -> int:
    return item**2


def never(item: int) -> int:
    raise AssertionError(f"{NAMES[item]} was done before")


def test_results_are_in_the_order_of_the_names_and_kept(tmp_path: Path) -> None:
    of(tmp_path).do(square)
    assert list(of(tmp_path).results()) == [0, 1, 4, 9, 16, 25, 36]
    of(tmp_path).do(never)


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(1, 5), st.integers(1, 20))
def test_the_same_bytes_whatever_processes_there_are(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], count: int, most: int
) -> None:
    def files(folder: Path, shares: list[Share]) -> list[bytes]:
        work = SharedWork(folder, {}, [str(i) for i in range(len(sizes))], sizes)
        for share in shares:
            work.do(square, share)
        assert list(work.results()) == list(map(square, range(len(sizes))))
        return [path.read_bytes() for path in sorted(folder.glob("*.jsonl"))]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_work, "MOST_PIECES", most)
        alone = files(tmp_path_factory.mktemp("alone"), [Share()])
        assert len(alone) <= most
        assert files(tmp_path_factory.mktemp("several"), [Share(i, count) for i in range(count)]) == alone


def test_larger_items_are_done_first(tmp_path: Path) -> None:
    done: list[int] = []
    work = SharedWork(tmp_path, {}, ["a", "b", "c", "d"], [2, 9, 5, 9])
    work.do(lambda item: done.append(item))
    assert done == [1, 3, 2, 0]


def test_each_process_begins_elsewhere(tmp_path: Path) -> None:
    done: list[int] = []
    of(tmp_path).do(lambda item: done.append(item), Share(1, 3))
    assert done == [1, 4, 0, 2, 3, 5, 6]


def test_what_another_process_does_is_left_to_it(tmp_path: Path) -> None:
    inner: list[int] = []

    def meanwhile(item: int) -> int:
        if item == 0:
            of(tmp_path).do(lambda other: inner.append(other) or other)
        return item

    of(tmp_path).do(meanwhile)
    assert inner == [1, 2, 3, 4, 5, 6]
    assert list(of(tmp_path).results()) == list(range(7))


@pytest.mark.parametrize("most", [2, 100])
def test_an_interruption_costs_the_item_that_was_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(shared_work, "MOST_PIECES", most)

    def until(item: int) -> int:
        if item == 5:
            raise KeyboardInterrupt
        return square(item)

    with pytest.raises(KeyboardInterrupt):
        of(tmp_path).do(until)
    assert not of(tmp_path).complete
    done: list[int] = []
    of(tmp_path).do(lambda item: done.append(item) or square(item))
    assert done == [5, 6]
    assert list(of(tmp_path).results()) == list(map(square, range(7)))


def test_half_a_line_is_done_again(tmp_path: Path) -> None:
    of(tmp_path).do(square)
    file = tmp_path / "work" / "piece-0003.jsonl"
    file.unlink()
    file.with_suffix(".part").write_text("1")
    done: list[int] = []
    of(tmp_path).do(lambda item: done.append(item) or square(item))
    assert (done, file.read_text()) == ([3], "9\n")


def sleeper(folder: Path) -> None:
    def forever(item: int) -> int:
        (folder / "began").touch()
        time.sleep(600)
        return item

    of(folder).do(forever)


@pytest.mark.slow
def test_what_a_killed_process_had_claimed_is_done_by_one_that_waits(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=sleeper, args=(tmp_path,))
    process.start()
    while not (tmp_path / "began").exists():
        assert process.is_alive()
        time.sleep(0.01)
    of(tmp_path).do(square)
    assert not of(tmp_path).complete
    with pytest.raises(UnfinishedError, match="Other processes finish"):
        of(tmp_path).finish(square, Share(1, 2, Role.HELPS))
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert list(of(tmp_path).finish(square)) == list(map(square, range(7)))


def test_progress_counts_everything_once(tmp_path: Path) -> None:
    steps: list[int] = []
    of(tmp_path).do(square, Share(), steps.append)
    again: list[int] = []
    of(tmp_path).do(never, Share(), again.append)
    assert (sum(steps), sum(again)) == (7, 7)
    heavy: list[int] = []
    SharedWork(tmp_path / "heavy", {}, ["a", "b"], counts=[5, 3]).do(square, Share(1, 2), heavy.append)
    assert heavy == [0, 3, 0, 5]


@pytest.mark.parametrize(
    "other",
    [
        lambda folder: SharedWork(folder / "work", {"power": 3}, NAMES),
        lambda folder: SharedWork(folder / "work", {"power": 2}, NAMES[1:]),
        lambda folder: SharedWork(folder / "work", {"power": 2}, NAMES[::-1]),
    ],
)
def test_other_work_is_refused(tmp_path: Path, other: Callable[[Path], SharedWork]) -> None:
    of(tmp_path, power=2).do(square)
    with pytest.raises(OutputError, match="another model, other data or other settings"):
        other(tmp_path).do(never)


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").touch()
    with pytest.raises(OutputError, match="holds other files"):
        of(tmp_path).do(never)
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"settings": {"kind": "nothing"}}'])
def test_a_damaged_record_is_said(tmp_path: Path, text: str) -> None:
    of(tmp_path).do(square)
    (tmp_path / "work" / "work.json").write_text(text)
    with pytest.raises(OutputError, match="is damaged"):
        of(tmp_path).do(never)


def test_results_that_are_missing_or_damaged_are_said(tmp_path: Path) -> None:
    of(tmp_path).do(square)
    file = tmp_path / "work" / "piece-0002.jsonl"
    for text, said in [("{\n", "is damaged"), ("", "is not complete")]:
        file.write_text(text)
        with pytest.raises(OutputError, match=said):
            list(of(tmp_path).results())


def test_a_full_disk_is_said_and_keeps_what_was_finished(tmp_path: Path) -> None:
    work = SharedWork(tmp_path / "work", {}, ["small", "large", "last"])
    with files_of_at_most(1000), pytest.raises(OutputError, match=r"could not be written.*finished is kept"):
        work.do(lambda item: "x" * (5000 if item == 1 else 5))
    work.do(lambda item: "y")
    assert [json.dumps(result) for result in work.results()] == ['"xxxxx"', '"y"', '"y"']


def test_errors_of_the_work_stay_what_they_are(tmp_path: Path) -> None:
    def missing(item: int) -> str:
        return (tmp_path / "not there").read_text()

    with pytest.raises(FileNotFoundError):
        of(tmp_path).do(missing)
