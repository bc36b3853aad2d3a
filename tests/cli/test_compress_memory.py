"""``equiprune compress --memory`` where the finished model runs out of memory: of its own fault, or of the machine's.

Stages run in this process, on a machine whose speed and memory are pretended.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Run
from pretended_machine import peak, pretend
from runs import bare, write

import equiprune as ep
from equiprune.evaluation.benchmark import timed

pytestmark = pytest.mark.slow

LITTLE = ["--measured", 6, "--candidates", 2, "--finalists", 1, "--steps", 1, "--structures", 10, "--timed-atoms", 4]
LITTLE += ["--epochs", 1, "--copies", 1]
ATOMS = 8
"""Atoms of the largest structure, on which models are timed."""
SEARCHED = ["search", "prune", "repair", "train", "certify", "benchmark", "benchmark"]


def bytes_of(potential: ep.Potential) -> float:
    """Peak memory of a model for these atoms on the machine that is pretended."""
    return peak(potential, ATOMS)


@pytest.fixture
def budget() -> float:
    """Three quarters of what the parent takes, bytes."""
    return 0.75 * bytes_of(ep.load("toy"))


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: float) -> list[object]:
    """A command whose finished models run out of memory if they take more than nine tenths of the budget."""
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path / "cache"))
    pretend(monkeypatch)

    def exhausted(potentials: Mapping[tuple[str, str], ep.Potential], *given: Any, **how: Any) -> list[ep.Timing]:
        if len(potentials) == 1 and any(bytes_of(each) > 0.9 * budget for each in potentials.values()):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return timed(potentials, *given, **how)

    monkeypatch.setattr("equiprune.commands.benchmark.timed", exhausted)
    data = write(tmp_path / "mine.extxyz", bare(8))
    allowed = ["--memory", f"{budget / 1e6}MB", "--atoms", ATOMS]
    return ["compress", "toy", "--data", data, *allowed, *LITTLE, "-o", tmp_path / "out"]


def test_a_finished_model_that_runs_out_of_what_it_may_have_gives_way_to_a_smaller_one(
    cli: Run,
    launched: list[list[str]],
    words: list[object],
    budget: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("equiprune.commands.benchmark.obtainable_memory", lambda _: int(1.02 * budget))
    ran = cli(*words, "--json")
    assert ran.code == 0, ran.err
    assert f"needs more than {1.02 * budget / 1e9:.3g} GB, measured at the end; asked for was at most" in ran.err
    assert [line[0] for line in launched][2:] == [*SEARCHED, "benchmark", "benchmark", *SEARCHED]
    assert bytes_of(ep.load(tmp_path / "out" / "model")) <= 0.9 * budget
    assert f"Peak memory of the result for {ATOMS} atoms: " in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.usefixtures("launched")
def test_one_that_still_runs_out_of_it_is_not_delivered(
    cli: Run, words: list[object], budget: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("equiprune.commands.benchmark.obtainable_memory", lambda _: int(1.02 * budget))
    monkeypatch.setattr("equiprune.cli.compress._SEARCHES", 0)
    ran = cli(*words)
    assert ran.code == 1, ran.err
    assert not (tmp_path / "out" / "model").exists()
    page = (tmp_path / "out" / "report.md").read_text()
    assert f"Peak memory of the result for {ATOMS} atoms: more than {1.02 * budget / 1e9:.3g} GB." in page


def test_where_the_machine_has_less_than_the_budget_nothing_is_searched_again(
    cli: Run,
    launched: list[list[str]],
    words: list[object],
    budget: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("equiprune.commands.benchmark.obtainable_memory", lambda _: int(0.8 * budget))
    ran = cli(*words)
    assert (ran.code, ran.out) == (2, "")
    refusal = f"Out of memory with {ATOMS} atoms: the GPU had {0.8 * budget / 1e9:.3g} GB for them, and --memory is"
    assert ran.err.count(f"equiprune: {refusal}") == 1
    assert [line[0] for line in launched][2:] == SEARCHED
    assert not (tmp_path / "out" / "model").exists()
