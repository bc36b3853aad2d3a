"""A recipe from someone else is data: a tag that asks for an object is refused."""

from pathlib import Path

import pytest

from equiprune.errors import RecipeError
from equiprune.files.yaml_text import parse_yaml


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.mkdir [{}]",
        "!!python/object/apply:pathlib.Path.mkdir [!!python/object/apply:pathlib.Path [{}]]",
        "!!python/object/new:os.mkdir [{}]",
        "!!python/name:os.mkdir",
        "!!python/module:this",
    ],
)
def test_a_recipe_that_would_run_code_is_refused_and_does_not(value: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    with pytest.raises(RecipeError, match="This is not YAML"):
        parse_yaml(f"model: {value.format(made)}\n")
    assert not made.exists()
