"""The command line that a report shows for other tools is one that equiprune takes."""

import shlex

import pytest

from equiprune.cli import app
from equiprune.report.parts import Code
from equiprune.report.sections import _exporting


@pytest.mark.parametrize(
    ("adapter", "known", "output", "elements"),
    [
        ("sevennet", ["Li", "P"], "exported.pth", "Li,P"),
        ("mace", [f"E{number}" for number in range(89)], "exported.model", "E0,E1,E2"),
        ("nequip", ["Si"], "exported.nequip.zip", "Si"),
        ("nequix", ["Si"], "exported.pt", None),
    ],
)
def test_it_names_a_format_and_a_script_where_lammps_has_a_pair_style(
    adapter: str, known: list[str], output: str, elements: str | None
) -> None:
    [line] = [block.text for block in _exporting("run/model", adapter, known) if isinstance(block, Code)]
    _, bound, _ = app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)
    assert (bound.arguments["model"], str(bound.arguments["output"])) == ("run/model", output)
    assert bound.arguments.get("elements") == elements
    assert ("lammps" in bound.arguments) == (elements is not None)


@pytest.mark.parametrize("adapter", ["toy", "of nobody"])
def test_nothing_is_shown_where_there_is_no_other_format(adapter: str) -> None:
    assert list(_exporting("run/model", adapter, ["Si"])) == []
