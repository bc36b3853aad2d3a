"""Elements as people write them."""

import pytest

from equiprune.errors import TargetError
from equiprune.pruning.targets.named import Elements


@pytest.mark.parametrize("text", ["H,O", "h,o", "H, O", "H O", "h;o", "1,8", "1 8", "H,8", " H,,O, "])
def test_symbols_in_any_case_and_numbers_are_read(text: str) -> None:
    assert Elements.parse(text).numbers == (1, 8)


def test_capitals_make_no_other_element() -> None:
    assert Elements.parse("HO").numbers == Elements.parse("ho").numbers == (67,)


@pytest.mark.parametrize("word", ["X", "0", "119", "-1", "1.5", "Hx"])
def test_what_is_no_element_is_named(word: str) -> None:
    with pytest.raises(TargetError, match=f"'{word}' is no chemical symbol"):
        Elements.parse(word)
