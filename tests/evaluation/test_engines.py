"""Engines are compared with upstream's code before they are timed."""

from dataclasses import dataclass, replace
from typing import Any, get_args

import pytest
import torch
from ase import Atoms
from command_line import Run

import equiprune as ep
from equiprune.adapters import Outputs
from equiprune.adapters.toy import ToyAdapter
from equiprune.commands.options.values import EvaluationEngineName
from equiprune.errors import TargetError
from equiprune.evaluation.engines import ENGINES, OWN, EvaluationEngine, engine_named, verified


class WithOwnCode(ToyAdapter):
    """A toy whose own code gives energies that are off by some eV, and by a share of them."""

    def __init__(self, shift: float = 0.0, share: float = 0.0) -> None:
        self.shift, self.share = shift, share

    def build_for_evaluation(self, *arguments: Any) -> torch.nn.Module:
        module = self.build(*arguments)
        module.is_own = True
        return module

    def evaluate(self, module: torch.nn.Module, *arguments: Any) -> Outputs:
        found = super().evaluate(module, *arguments)
        if not hasattr(module, "is_own"):
            return found
        return replace(found, energies=found.energies * (1 + self.share) + self.shift)


@dataclass(frozen=True)
class Pruned(EvaluationEngine):
    """An engine that leaves something out."""

    name = "hasty"

    def prepared(self, potential: ep.Potential, elements: Any) -> ep.Potential:
        scores = ep.data_free_scores(potential, ep.Random(0))
        return ep.masked(potential, ep.allocate(potential, [ep.Channels(4)], scores))

    def is_upstream(self, potential: ep.Potential) -> bool:
        return False


def with_own_code(toy: ep.Potential, **off: float) -> ep.Potential:
    return ep.Potential.create(WithOwnCode(**off), toy.checkpoint, torch.float32)


def test_equal_code_passes_in_the_precision_that_was_asked_for(toy: ep.Potential, structures: list[Atoms]) -> None:
    found = verified(OWN, with_own_code(toy), structures[0])
    assert found.dtype == torch.float32
    assert hasattr(found.module, "is_own")
    assert not hasattr(verified(ENGINES["upstream"], found, structures[0]).module, "is_own")


@pytest.mark.parametrize(("off", "says"), [({"shift": 1e-6}, "energy"), ({"share": 1e-7}, "energy")])
def test_other_energies_are_refused(
    off: dict[str, float], says: str, toy: ep.Potential, structures: list[Atoms]
) -> None:
    with pytest.raises(TargetError, match=rf"'equiprune' gives other numbers than it should: {says}"):
        ep.benchmark({"a": with_own_code(toy, **off)}, structures[0], repeats=1)


def test_an_engine_that_leaves_something_out_is_refused_by_name(toy: ep.Potential, structures: list[Atoms]) -> None:
    with pytest.raises(TargetError, match=r"The engine 'hasty' gives other numbers .* It was not timed"):
        ep.benchmark({"a": toy}, structures[0], engines=[Pruned()])


@pytest.mark.slow
def test_the_command_line_knows_the_engines(cli: Run) -> None:
    assert get_args(EvaluationEngineName) == tuple(ENGINES)
    words = ["benchmark", "toy", "--engine", "equiprune", "--engine", "upstream", "--repeats", 1, "--json"]
    timings = cli(*words).json
    assert [timing["engine"] for timing in timings] == ["equiprune", "upstream"]
    for timing in timings:
        assert timing["ns_per_day"] == pytest.approx(0.0864 / timing["seconds_median"])
    with pytest.raises(TargetError, match="There are equiprune, upstream"):
        engine_named("equipruned")
