"""Elements as people write them."""

from pathlib import Path

import pytest
from command_line import Run

from equiprune.errors import TargetError
from equiprune.pruning.targets.named import Elements


@pytest.mark.parametrize(
    "text",
    [
        "H,O",
        "h,o",
        "H, O",
        "H O",
        "h;o",
        "1,8",
        "1 8",
        "H,8",
        " H,,O, ",
        "H-O",
        "h-O",
        "[H, O]",
        "['H', 'O']",
        "H/O",
        "H+O",
        "H:O",
    ],
)
def test_symbols_in_any_case_and_numbers_are_read(text: str) -> None:
    assert Elements.parse(text).numbers == (1, 8)


@pytest.mark.parametrize("words", [["H", "O"], ["h,o"], ["1,8"]])
def test_the_command_line_takes_them_as_people_write_them(words: list[str], cli: Run, tmp_path: Path) -> None:
    assert cli("prune", "toy", "--elements", *words, "-o", tmp_path / "small").code == 0
    assert cli("info", tmp_path / "small", "--json").json["elements"] == ["H", "O"]


def test_two_letters_are_one_element() -> None:
    assert Elements.parse("Ho").numbers == Elements.parse("ho").numbers == (67,)
    assert Elements.parse("LI,AL").numbers == (3, 13)


@pytest.mark.parametrize(("word", "symbol", "two"), [("HO", "Ho", "H,O"), ("CO", "Co", "C,O"), ("SI", "Si", "S,I")])
def test_capitals_that_may_be_one_or_two_are_refused(word: str, symbol: str, two: str) -> None:
    with pytest.raises(TargetError, match=f"'{word}' may be {symbol} or {two}"):
        Elements.parse(word)


@pytest.mark.parametrize("word", ["X", "0", "119", "-1", "1.5", "Hx", "H2O", "LiPS", "1-8", "hydrogen", "O1"])
def test_what_is_no_element_is_named(word: str) -> None:
    with pytest.raises(TargetError, match=f"'{word}' is no chemical symbol.* such as H,O or 1,8"):
        Elements.parse(word)


def test_isotopes_are_named() -> None:
    with pytest.raises(TargetError, match=r"'D' is an isotope.* Write H"):
        Elements.parse("H,D")
