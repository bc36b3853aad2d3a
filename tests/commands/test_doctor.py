"""Costs of a model on this machine: every engine is timed beside the others, or says why not."""

import pytest
from command_line import Run
from own_code import with_own_code

import equiprune as ep
from equiprune.commands import doctor
from equiprune.commands.doctor import costs


def test_engines_are_timed_at_two_sizes(toy: ep.Potential) -> None:
    found = list(costs(with_own_code(toy)))
    assert [(cost.engine, cost.atoms) for cost in found] == [
        *(("equiprune", 8), ("upstream", 8)),
        *(("equiprune", 64), ("upstream", 64)),
    ]
    for cost in found:
        assert (cost.timing.engine, cost.timing.atoms, cost.refused) == (cost.engine, cost.atoms, "")
        assert len(cost.timing.seconds) == doctor._REPEATS


def test_engines_take_turns_at_each_size(toy: ep.Potential, monkeypatch: pytest.MonkeyPatch) -> None:
    potential, order, timed = with_own_code(toy), [], ep.Potential.differentiate

    def noted(self: ep.Potential, graph: object) -> object:
        order.append(hasattr(self.module, "is_own"))
        return timed(self, graph)

    monkeypatch.setattr(ep.Potential, "differentiate", noted)
    list(costs(potential))
    turns = order[-2 * (doctor._REPEATS + doctor._WARM_UP) :]
    assert turns == [True, False] * (len(turns) // 2)


def test_the_same_code_is_not_timed_twice(toy: ep.Potential) -> None:
    assert [cost.engine for cost in costs(toy)] == ["equiprune", "equiprune"]


def test_an_engine_that_is_refused_says_why_and_the_others_are_timed(toy: ep.Potential) -> None:
    refused, *others = costs(with_own_code(toy, shift=1e-3))
    assert (refused.engine, refused.timing) == ("equiprune", None)
    assert "gives other numbers than it should" in refused.refused
    assert [(cost.engine, cost.refused) for cost in others] == [("upstream", ""), ("upstream", "")]


def test_a_slow_model_is_timed_at_the_smaller_size_alone(toy: ep.Potential, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_SECONDS", 0.0)
    small, large = costs(toy)
    assert small.timing is not None
    assert (large.atoms, large.timing) == (64, None)
    assert large.refused.startswith("left to benchmark: one turn of all engines may take")


@pytest.mark.slow
def test_the_command_tells_speeds_with_their_spread(cli: Run) -> None:
    found = cli("doctor", "--time", "toy", "--json").json["costs"]
    assert [(cost["engine"], cost["atoms"]) for cost in found] == [("equiprune", 8), ("equiprune", 64)]
    for cost in found:
        assert cost["seconds_min"] <= cost["atoms"] / cost["atoms_per_second"] <= cost["seconds_max"]
        assert cost["refused"] == ""
    assert "atoms/s (slowest..fastest)" in cli("doctor", "--time", "toy").text
