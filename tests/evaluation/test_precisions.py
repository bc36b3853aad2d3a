"""Errors of lower precision: what is compared, in which unit, and what is refused by name."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from ase import Atoms
from torch import nn

import equiprune as ep
from equiprune.adapters import Outputs
from equiprune.adapters.toy import ToyAdapter
from equiprune.errors import TargetError
from equiprune.evaluation.engines import OWN, UpstreamEngine
from equiprune.evaluation.precisions import PRECISIONS, Precision, PrecisionErrors, precision_errors, table

FLOAT32 = PRECISIONS["float32"]


class Rounded(ToyAdapter):
    """A toy that is 2 meV/atom too high where it is evaluated in float32; notes the precision of each call."""

    def __init__(self) -> None:
        self.calls: list[torch.dtype] = []

    def evaluate(self, module: nn.Module, architecture: Any, graph: ep.AtomicGraph, *arguments: Any) -> Outputs:
        self.calls.append(graph.positions.dtype)
        found = super().evaluate(module, architecture, graph, *arguments)
        off = 0.002 * (graph.positions.dtype == torch.float32)
        energies = found.energies + off * graph.structure_of_atom.bincount()
        return replace(found, energies=energies, atom_energies=found.atom_energies + off)


def errors(
    potential: ep.Potential, structures: list[Atoms], *precisions: Precision, **how: Any
) -> list[PrecisionErrors]:
    return precision_errors({"a": potential}, structures, precisions, structures[:1], engines=[OWN], **how)


def test_the_same_precision_has_no_error(toy: ep.Potential, structures: list[Atoms]) -> None:
    [found] = errors(toy, structures, Precision("again", torch.float64), repeats=1)
    assert (found.energy_mae, found.energy_max, found.forces_mae, found.forces_max) == (0, 0, 0, 0)
    assert (found.model, found.precision, found.structures) == ("a", "again", 4)


def test_errors_of_energies_are_for_each_atom_in_milli(toy: ep.Potential, structures: list[Atoms]) -> None:
    [found] = errors(replace(toy, adapter=Rounded()), structures, FLOAT32, repeats=1)
    assert found.energy_mae == pytest.approx(2, abs=0.01)
    assert found.energy_max == pytest.approx(2, abs=0.01)
    assert 0 < found.forces_mae < found.forces_max < 0.01


def test_the_reference_is_float64_whatever_the_model_was_opened_in(toy: ep.Potential, structures: list[Atoms]) -> None:
    """Their weights are the same numbers, of float32."""
    double, single = (errors(each, structures, FLOAT32, repeats=1)[0] for each in (toy, toy.with_dtype(torch.float32)))
    assert double.forces_max == single.forces_max


def test_precisions_take_turns(toy: ep.Potential, structures: list[Atoms]) -> None:
    adapter = Rounded()
    done: list[int] = []
    errors(replace(toy, adapter=adapter), structures, FLOAT32, repeats=2, progress=done.append)
    assert adapter.calls == [torch.float64, *[torch.float64, torch.float32] * 3, torch.float32]
    assert sum(done) == 2 * len(structures) + 2 + 1


def test_engines_are_compared_with_themselves(toy: ep.Potential, structures: list[Atoms]) -> None:
    engines = [OWN, UpstreamEngine()]
    found = precision_errors({"a": toy}, structures, [FLOAT32], structures[:1], engines=engines, repeats=1)
    assert [each.engine for each in found] == ["equiprune", "upstream"]
    assert found[0].forces_max == found[1].forces_max  # the toy has one code


@pytest.mark.parametrize("name", ["tf32", "bf16"])
def test_arithmetic_of_gpus_is_refused_elsewhere(name: str, toy: ep.Potential, structures: list[Atoms]) -> None:
    with pytest.raises(TargetError, match=f"`precision` {name} is arithmetic of CUDA GPUs, and models are on cpu"):
        errors(toy, structures, PRECISIONS[name])
    PRECISIONS[name].check("cuda:1")


def test_tf32_is_over_when_it_was_asked_for() -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    with PRECISIONS["tf32"].arithmetic():
        assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32 == before


@dataclass(frozen=True)
class Impossible(Precision):
    """Arithmetic that a model's code cannot do with."""

    def arithmetic(self) -> AbstractContextManager[None]:
        return _failing()


@contextmanager
def _failing() -> Iterator[None]:
    yield
    raise RuntimeError("expected mat1 and mat2 to have the same dtype\nand more")


def test_code_that_cannot_do_with_a_precision_is_named(toy: ep.Potential, structures: list[Atoms]) -> None:
    with pytest.raises(
        TargetError, match="'a' cannot be evaluated in half by the engine 'equiprune': expected mat1 and"
    ):
        errors(toy, structures, Impossible("half"))


def test_the_table_has_units_and_the_largest(toy: ep.Potential, structures: list[Atoms]) -> None:
    [found] = errors(toy, structures, FLOAT32, repeats=1)
    heads, row = table([replace(found, energy_mae=0.5, energy_max=1.25, speed=1.5)])
    assert heads[3:5] == ["energy (meV/atom)", "largest"]
    assert (row[2:5], row[-1]) == (["float32", "0.5", "1.2"], "1.50x")


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["tf32", "bf16"])
def test_arithmetic_of_gpus(name: str, toy: ep.Potential, structures: list[Atoms]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device here")
    [found] = errors(toy.on("cuda"), structures, PRECISIONS[name])
    assert found.forces_mae <= found.forces_max
