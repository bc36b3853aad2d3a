"""YAML as text: every scalar is what is written, as on a command line, and no key is written twice.

>>> parse_yaml("{elements: [No, 1.0, 2026-01-01, 010]}")
{'elements': ['No', '1.0', '2026-01-01', '010']}
"""

from __future__ import annotations

from typing import Any

import yaml

from equiprune.errors import RecipeError


class _TextLoader(yaml.SafeLoader):
    """YAML without implicit types, and with no key written twice."""

    yaml_implicit_resolvers = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}  # merge keys only  # noqa: RUF012

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if twice := next((key for i, key in enumerate(keys) if key in keys[:i]), None):
            raise yaml.MarkedYAMLError(problem=f"the key '{twice}' is there twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """Mappings, lists and text; raises `RecipeError` naming line and column for what is no such thing."""
    try:
        return yaml.load(text, _TextLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        raise RecipeError(f"This is not YAML: {where}: {error.problem or error.context}.") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(f"This is not YAML: {' '.join(str(error).split())}.") from error
