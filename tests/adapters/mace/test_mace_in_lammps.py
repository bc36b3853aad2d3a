"""The input script for LAMMPS names the command lines that are tested with stock MACE, and the files they write."""

from types import SimpleNamespace
from typing import Any

import pytest
import support

from equiprune.adapters.mace import MaceAdapter


@pytest.mark.parametrize("head", [None, "r2scan"])
@pytest.mark.parametrize(("number", "tool"), [(0, support.LAMMPS), (1, support.LAMMPS), (2, support.MLIAP)])
def test_command_lines_are_those_that_are_tested(number: int, tool: support.Tool, head: str | None) -> None:
    architecture: Any = SimpleNamespace(why_not_stock="")
    style = list(MaceAdapter().pair_styles(architecture, "small.model", head))[number]
    asked = tool.words("small.model") + ([tool.head_flag, head] if head else [])
    assert sorted(style.prepare.split()) == sorted(asked)
    assert tool.writes.replace("{model}", "small.model") in (*style.coefficients, *style.style.split())
