"""Mutants: the operators of mutmut, applied to the bodies of functions, one at a time, in the code of live functions.

Nothing on the disk is changed. Messages of errors are left alone, as are annotations, decorators, default values and
whatever runs when a module is imported: those are not in the code object that is exchanged.
"""

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

from mutating import FOLDERS

_LEFT_ALONE = (cst.Annotation, cst.Decorator, cst.Parameters, cst.Raise)
_CHECKS = ("isinstance", "len")
"""Calls that mutmut leaves alone: they fail on most other arguments, and would only raise the score."""


@dataclass(frozen=True)
class Mutant:
    """One change in one function.

    Attributes:
        path: of the module.
        function: its qualified name, that of the outermost function.
        line: where the change begins.
        before: code that is replaced.
        after: code that replaces it.
        module: syntax tree of the unchanged module.
        replaced: node of the tree.
        replacement: node in its place.
    """

    path: Path
    function: str
    line: int
    before: str
    after: str
    module: cst.Module = field(repr=False, compare=False)
    replaced: cst.CSTNode = field(repr=False, compare=False)
    replacement: cst.CSTNode = field(repr=False, compare=False)

    @property
    def tests(self) -> str:
        """The folder of tests that mirrors the module's."""
        folder = next(part for part in reversed(self.path.parts[:-1]) if part in FOLDERS)
        return f"tests/{folder}/"

    def row(self, root: Path) -> dict[str, str | int]:
        """A JSON value, with the path below the repository's root."""
        where = {"path": str(self.path.relative_to(root)), "function": self.function, "line": self.line}
        return where | {"before": self.before, "after": self.after}

    def code(self) -> CodeType:
        """Compile the module with the change; the code of the function.

        Raises:
            SyntaxError: the change gives no Python.
        """
        changed = self.module.deep_replace(self.replaced, self.replacement)
        compiled = compile(changed.code, str(self.path), "exec")  # type: ignore[union-attr]
        return max(
            (
                code
                for code in _codes(compiled)
                if code.co_qualname == self.function and code.co_firstlineno <= self.line
            ),
            key=lambda code: code.co_firstlineno,
        )


def mutants_of(path: Path) -> list[Mutant]:
    """All mutants of a module, in the order of its lines."""
    wrapper = MetadataWrapper(cst.parse_module(path.read_text(encoding="utf-8")))
    visitor = _Visitor(path, wrapper)
    wrapper.module.visit(visitor)
    return visitor.mutants


class Functions:
    """Functions that live in this process, by module and place; made after the modules were imported."""

    def __init__(self, paths: list[Path]) -> None:
        wanted = {str(path) for path in paths}
        self._live: dict[tuple[str, str, int], list[FunctionType]] = {}
        for thing in gc.get_objects():
            if type(thing) is FunctionType and thing.__code__.co_filename in wanted:
                self._live.setdefault(_place(thing.__code__), []).append(thing)

    def exchange(self, code: CodeType) -> None:
        """Let the functions at the place of the code run it.

        Raises:
            ValueError: it needs other variables from around it than the functions have.
            KeyError: no function is there.
        """
        for function in self._live[_place(code)]:
            function.__code__ = code


def _place(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


class _Visitor(cst.CSTVisitor):
    """Collect mutants of the nodes inside functions."""

    def __init__(self, path: Path, wrapper: MetadataWrapper) -> None:
        super().__init__()
        self.mutants: list[Mutant] = []
        self._path, self._module = path, wrapper.module
        self._positions = wrapper.resolve(PositionProvider)
        self._classes: list[str] = []
        self._functions: list[str] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, _LEFT_ALONE) or _is_check(node):
            return False
        if self._functions:
            self._change(node)
        elif isinstance(node, cst.ClassDef):
            self._classes.append(node.name.value)
        if isinstance(node, cst.FunctionDef):
            self._functions.append(node.name.value)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.FunctionDef):
            self._functions.pop()
        elif isinstance(original_node, cst.ClassDef) and not self._functions:
            self._classes.pop()

    def _change(self, node: cst.CSTNode) -> None:
        for kind, operator in mutation_operators:
            if isinstance(node, kind) and node in self._positions:
                for other in operator(node):
                    self.mutants.append(self._mutant(node, other))

    def _mutant(self, node: cst.CSTNode, other: cst.CSTNode) -> Mutant:
        function = ".".join((*self._classes, self._functions[0]))
        before, after = (self._module.code_for_node(each).strip() for each in (node, other))
        return Mutant(self._path, function, self._positions[node].start.line, before, after, self._module, node, other)


def _is_check(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value in _CHECKS
