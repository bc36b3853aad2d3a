"""Results that benchmarks keep are gone on from with what they were made with, and with nothing else."""

import json
import sys
from pathlib import Path

import pytest

import equiprune as ep

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])


@pytest.fixture(params=["file", "folder"])
def result(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A result that is not made yet."""
    return tmp_path / "new" / request.param


def make(result: Path) -> None:
    if result.name == "folder":
        result.mkdir()
        result /= "state"
    result.write_text("made")


def test_a_result_is_made_once_with_the_same(result: Path) -> None:
    from kept import kept

    made_with = {"teacher_sha256": "abc", "seed": 1, "energy": (1.0, 5.0)}
    assert not kept(result, {"seed": 0})
    assert not kept(result, made_with)  # nothing was made meanwhile
    make(result)
    assert kept(result, made_with)


def test_a_result_made_with_something_else_is_refused(result: Path) -> None:
    from kept import kept

    kept(result, {"teacher_sha256": "abc", "seed": 0, "rate": 0.1})
    make(result)
    with pytest.raises(SystemExit) as refused:
        kept(result, {"teacher_sha256": "abc", "seed": 1, "frames": 5})
    assert str(refused.value) == (
        f"'{result}' was made with seed 0, rate 0.1, frames None; asked for: seed 1, rate None, frames 5. "
        "Give another folder, or remove it."
    )


def test_a_result_without_a_record_is_refused(result: Path) -> None:
    from kept import kept

    result.parent.mkdir()
    make(result)
    with pytest.raises(SystemExit, match=r"has no record of what it was made with\. Give another folder"):
        kept(result, {"seed": 0})


@pytest.mark.parametrize("other", [{"seed": 1}, {"teacher_sha256": "of another"}])
def test_starting_structures_of_another_teacher_or_seed_are_refused(tmp_path: Path, other: dict[str, object]) -> None:
    from kept import kept
    from on_one_core import written

    teacher = ep.load("toy")
    made_with = {"teacher_sha256": teacher.checkpoint.sha256, "seed": 0}
    for name in ("teacher", "starting-structures.npz"):
        kept(tmp_path / name, made_with)
        (tmp_path / name).touch()
    written(teacher, "teacher", tmp_path, seed=0)
    kept_otherwise = tmp_path / "starting-structures.npz.record.json"
    kept_otherwise.write_text(json.dumps(made_with | other))
    with pytest.raises(SystemExit, match=r"starting-structures.npz' was made with"):
        written(teacher, "teacher", tmp_path, seed=0)


def test_parts_are_measured_again_for_other_models_or_arguments(tmp_path: Path) -> None:
    from shipped import measured

    times: list[str] = []
    parts = {"speed": lambda: times.append("speed") or len(times)}
    of = {"models": ["abc"], "frames": 60}
    found = [measured(parts, each, tmp_path / "kept.json") for each in (of, of, of | {"frames": 20}, of)]
    assert found == [{"speed": 1}, {"speed": 1}, {"speed": 2}, {"speed": 3}]
