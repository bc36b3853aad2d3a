"""Engines are compared with upstream's code before they are timed."""

import re
from dataclasses import dataclass, replace
from typing import Any, get_args

import pytest
import torch
from ase import Atoms
from command_line import Run
from own_code import WithOwnCode, with_own_code

import equiprune as ep
from equiprune.adapters import Outputs
from equiprune.commands.options.values import EvaluationEngineName
from equiprune.errors import TargetError
from equiprune.evaluation.engines import ENGINES, OWN, EvaluationEngine, engine_named, verified


class Stale(WithOwnCode):
    """A toy whose own code gives the energy of its first batch for ever, as a wrong cache does, and right forces."""

    def evaluate(self, module: torch.nn.Module, *arguments: Any) -> Outputs:
        found = super().evaluate(module, *arguments)
        if not hasattr(module, "is_own"):
            return found
        if not hasattr(module, "first"):
            module.first = found.energies.detach()
        return replace(found, energies=module.first + found.energies - found.energies.detach())


@dataclass(frozen=True)
class Pruned(EvaluationEngine):
    """An engine that leaves something out."""

    name = "hasty"

    def prepared(self, potential: ep.Potential, elements: Any) -> ep.Potential:
        scores = ep.data_free_scores(potential, ep.Random(0))
        return ep.masked(potential, ep.allocate(potential, [ep.Channels(4)], scores))

    def is_upstream(self, potential: ep.Potential) -> bool:
        return False


def refused(potential: ep.Potential, atoms: Atoms, quantity: str) -> float:
    """The difference that a refusal of the engine tells, of a quantity."""
    with pytest.raises(TargetError) as raised:
        ep.benchmark({"a": potential}, atoms, repeats=1)
    said = re.match(
        rf"The engine 'equiprune' gives other numbers than it should: {quantity}, (\S+) where \S+ is allowed. "
        "It is not used.",
        str(raised.value),
    )
    assert said, raised.value
    return float(said[1])


def test_equal_code_passes_in_the_precision_that_was_asked_for(toy: ep.Potential, structures: list[Atoms]) -> None:
    found = verified(OWN, with_own_code(toy), structures[0])
    assert found.dtype == torch.float32
    assert hasattr(found.module, "is_own")
    assert not hasattr(verified(ENGINES["upstream"], found, structures[0]).module, "is_own")


@pytest.mark.parametrize("off", [{"shift": 1e-6}, {"share": 1e-7}])
def test_other_energies_are_refused(off: dict[str, float], toy: ep.Potential, structures: list[Atoms]) -> None:
    atoms = structures[0]
    [expected] = toy.with_dtype(torch.float64).predict([atoms])
    size = off.get("shift", abs(off.get("share", 0.0) * expected.energy.item()))
    found = refused(with_own_code(toy, **off), atoms, "energy, eV/atom")
    assert found == pytest.approx(size / len(atoms), rel=0.05)


def test_other_forces_with_the_same_energy_are_refused(toy: ep.Potential, structures: list[Atoms]) -> None:
    atoms = structures[0]
    [expected] = toy.with_dtype(torch.float64).predict([atoms])
    found = refused(with_own_code(toy, forces=1e-6), atoms, "forces, eV/Angstrom")
    assert found == pytest.approx(1e-6 * abs(expected.forces).max().item(), rel=0.05)


def test_forces_that_no_change_of_the_energy_bears_out_are_refused(toy: ep.Potential, structures: list[Atoms]) -> None:
    """Energy and forces of the structure are upstream's to the last digit; its neighbours have the same energy."""
    stale = ep.Potential.create(Stale(), toy.checkpoint, torch.float64)
    atoms = structures[0]
    [found], [expected] = stale.predict([atoms]), stale.as_upstream().predict([atoms])
    torch.testing.assert_close(found.energy, expected.energy, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.forces, expected.forces, rtol=0, atol=1e-12)
    difference = refused(stale, atoms, "forces beside finite differences, eV/Angstrom")
    assert 1e-5 < difference < expected.forces.norm().item()


def test_an_engine_that_leaves_something_out_is_refused_by_name(toy: ep.Potential, structures: list[Atoms]) -> None:
    says = r"^The engine 'hasty' gives other numbers than it should: energy, eV/atom, .* where 1e-10 is allowed"
    with pytest.raises(TargetError, match=says):
        ep.benchmark({"a": toy}, structures[0], engines=[Pruned()])


@pytest.mark.slow
@pytest.mark.parametrize("given", [["upstream"], ["--engine", "upstream"]])
def test_the_command_line_knows_the_engines(given: list[str], cli: Run) -> None:
    """One flag takes several, and several flags one each."""
    assert get_args(EvaluationEngineName) == tuple(ENGINES)
    timings = cli("benchmark", "toy", "--engine", "equiprune", *given, "--repeats", 1, "--json").json
    assert [timing["engine"] for timing in timings] == ["equiprune", "upstream"]
    for timing in timings:
        assert timing["ns_per_day"] == pytest.approx(0.0864 / timing["seconds_median"])
    with pytest.raises(TargetError, match="There are equiprune, upstream"):
        engine_named("equipruned")
