"""Tables of text in the source of an upstream package, read without importing it.

Packages list the addresses of their models in modules whose import takes seconds, because torch comes with it. The
constants are in the syntax tree of the source all the same, and nothing has to be written down a second time.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any


def package_folder(package: str) -> Path | None:
    """Folder of an installed package, which is not imported; None where it is not installed."""
    spec = find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def upstream_tables(package: str, module: str, function: str = "", **known: str) -> dict[str, Any]:
    """`text_tables` of a module of an installed package; empty where the package or its module is missing.

    Args:
        package: its name on import.
        module: path of the module in the folder of the package.
        function: as for `text_tables`.
        **known: as for `text_tables`.
    """
    folder = package_folder(package)
    try:
        return {} if folder is None else text_tables((folder / module).read_text(encoding="utf-8"), function, known)
    except (OSError, SyntaxError, ValueError):  # of another version, which may have anything there
        return {}


def text_tables(source: str, function: str = "", known: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    r"""Constants made of text alone in Python code: strings, f-strings of such, and dictionaries of both.

    Whatever else is assigned is left out.

    Args:
        source: the code.
        function: the function or method whose constants are meant; those of the module unless given.
        known: values of names that the code works out by calling something.

    Raises:
        SyntaxError: no Python code.

    >>> code = "base = 'https://x.org'\nurls = {'small': f'{base}/small.model'}\nnumber = len('abc')"
    >>> text_tables(code)
    {'base': 'https://x.org', 'urls': {'small': 'https://x.org/small.model'}}
    """
    values: dict[str, Any] = dict(known)
    for name, expression in _assignments(_body(ast.parse(source), function)):
        with suppress(LookupError, TypeError, ValueError):
            values.setdefault(name, _value(expression, values))
    return values


def _assignments(body: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    for statement in body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value


def _body(tree: ast.Module, function: str) -> Iterable[ast.stmt]:
    if not function:
        return tree.body
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function]
    return [statement for node in found for statement in node.body]  # overloads have none


def _value(expression: ast.expr, known: Mapping[str, Any]) -> Any:
    """The value of an expression of text; raises `ValueError` or `LookupError` for any other."""
    match expression:
        case ast.Constant(value=str() as text):
            return text
        case ast.Name(id=name):
            return known[name]
        case ast.JoinedStr(values=parts):
            return "".join(_text(part, known) for part in parts)
        case ast.Dict(keys=keys, values=values) if all(key is not None for key in keys):
            return {_value(key, known): _value(value, known) for key, value in zip(keys, values, strict=True) if key}
    raise ValueError(f"{ast.dump(expression)} is not text")


def _text(part: ast.expr, known: Mapping[str, Any]) -> str:
    inner = part.value if isinstance(part, ast.FormattedValue) else part
    found = _value(inner, known)
    if not isinstance(found, str):
        raise TypeError("a table is not text")
    return found
