"""What is shown of long work: bars on a terminal, and lines elsewhere."""

import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from equiprune.cli import display, main
from equiprune.cli.display import progress, progresses, show_table
from equiprune.progress import Task, checking

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stderr is taken for a terminal."""
    monkeypatch.setattr(display, "Console", lambda *, stderr: Console(stderr=stderr, force_terminal=True, width=100))


ROWS = [["model", "forces, meV/Angstrom", "energy, meV/atom"], ["parent", "121.3", "21.2"], ["child", "298.1", ""]]


@pytest.mark.parametrize(("columns", "is_list"), [(60, False), (20, True)])
def test_a_table_that_a_terminal_is_too_narrow_for_is_a_list(
    columns: int, is_list: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every number stays whole."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    show_table("Errors", ROWS)
    shown = CONTROL.sub("", capsys.readouterr().out)
    assert all(cell in shown for row in ROWS[1:] for cell in row)
    listed = ["Errors", "model: parent", "  forces, meV/Angstrom: 121.3", "  energy, meV/atom: 21.2"]
    assert (shown.splitlines()[:4] == listed) is is_list
    assert is_list or max(map(len, shown.splitlines())) <= columns


def test_a_file_takes_tables_of_any_width(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [[f"column-{i:02d}" for i in range(30)], [f"{i}.123456" for i in range(30)]]
    show_table("", rows)
    shown = capsys.readouterr().out
    assert all(cell in shown for row in rows for cell in row)


def test_words_stay_whole_where_cells_are_broken_into_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns of one long cell beside others of long words, as at the end of the demo."""
    heads = [
        "model",
        "parameters",
        "E, meV/atom",
        "S, meV/Angstrom^3",
        "F, meV/Angstrom",
        "ms/atom, SevenNet's own code",
    ]
    heads += [f"dynamics: {name}" for name in ("E, meV/atom", "F, meV/Angstrom", "S, meV/Angstrom^3")]
    cells = ["7net-compact (comes with equiprune)", "1,171,144", *(f"{i}2.25" for i in range(7))]
    show_table("", [heads, cells])
    shown = capsys.readouterr().out
    assert "…" not in shown
    words = [word for cell in (*heads, *cells) for word in cell.split()]
    assert all(shown.count(word) >= words.count(word) for word in words)


def test_elsewhere_there_is_a_line_every_fifty_steps(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("train", 120) as step:
        for count in (1, 48, 1, 60, 10):
            step(count)
    assert capsys.readouterr().err == "train: 50 of 120\ntrain: 110 of 120\n"


def test_long_work_says_how_many_minutes_are_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own pace: what was finished before took no time now."""
    clock = iter([0.0, 600.0, 1200.0])
    monkeypatch.setattr(display.time, "monotonic", lambda: next(clock))
    with progresses(Task("train", 400, 50)) as [step]:
        for count in (200, 100, 50):
            step(count)
    lines = ["200 of 400", "300 of 400, about 10 min left", "350 of 400, about 7 min left"]
    assert capsys.readouterr().err.splitlines() == [f"train: {line}" for line in lines]


def test_work_that_turns_out_to_be_more_is_counted_without_a_total(capsys: pytest.CaptureFixture[str]) -> None:
    with progresses(Task("search", 2, 1)) as [step]:
        for _ in range(3):
            step(1)
    assert capsys.readouterr().err == "search: 1 of 2\nsearch: 2 of 2\nsearch: 3\n"


def test_of_millions_of_structures_there_are_not_millions_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progresses(checking(30_000)) as [step]:
        for _ in range(30_000):
            step(1)
    assert capsys.readouterr().err == "".join(f"check: {n}0000 of 30000\n" for n in (1, 2, 3))


@pytest.mark.usefixtures("terminal")
def test_a_bar_goes_when_it_is_full(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[Progress] = []

    class Watched(Progress):
        def __init__(self, *columns: Any, **options: Any) -> None:
            super().__init__(*columns, **options)
            shown.append(self)

    monkeypatch.setattr(display, "Progress", Watched)
    with progresses(Task("train", 7), checking(3)) as (step, look):
        [bars] = shown
        assert [task.description for task in bars.tasks] == ["train", "check"]
        look(2)
        assert [task.visible for task in bars.tasks] == [True, True]
        look(1)
        assert [task.visible for task in bars.tasks] == [True, False]
        step(3)
        assert [task.completed for task in bars.tasks] == [3, 3]
    with progress("label", None) as step:
        step(5)
        assert [task.visible for task in shown[1].tasks] == [True]
    assert "train" in CONTROL.sub("", capsys.readouterr().err)


@pytest.mark.usefixtures("terminal")
def test_an_error_ends_what_is_shown() -> None:
    with pytest.raises(ValueError, match="broken"), progress("train", 7):
        raise ValueError("broken")
    with progress("train", 7) as step:  # a terminal has one live display at a time
        step(1)


@pytest.mark.slow
def test_train_shows_how_many_structures_have_been_looked_at(
    xyz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = str(tmp_path / "data.xyz"), str(tmp_path / "run")
    assert main(["label", "toy", str(xyz), "-o", data]) == 0
    monkeypatch.setattr("equiprune.progress._CHECKED", 3)
    assert (
        main(["train", "toy", "--data", data, "--validation", data, "--replay", data, "-o", run, "--epochs", "1"]) == 0
    )
    shown = [line for line in capsys.readouterr().err.splitlines() if line.startswith("check: ")]
    assert shown == [f"check: {n} of 12" for n in (3, 6, 9, 12)]
