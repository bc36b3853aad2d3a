"""How often one command asks the same question: calls of a few functions, and how often the data file is opened.

    python benchmarks/call_counts.py                      # the toy model: prune, and an epoch of training
    python benchmarks/call_counts.py --model 7net-l3i5    # also a prune to upstream's format

Functions are found by name in whatever module of the package has them, and wrapped there, so files may move. Numbers
depend on nothing but the code: four structures, one epoch, one process.
"""

import argparse
import importlib
import json
import pkgutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import wraps
from io import StringIO
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import ase.io
import torch

import equiprune as ep
from equiprune.cli import main as equiprune


@dataclass(frozen=True)
class Counted:
    """What is counted: a method of a class and those that derive from it, or a function where no class is named.

    Attributes:
        label: in the table.
        names: what it is or was called.
        owner: name of the class, empty for a function.
    """

    label: str
    names: tuple[str, ...]
    owner: str = ""


COUNTED = (
    Counted("feature spaces of an architecture", ("feature_spaces", "spaces"), "ModelAdapter"),
    Counted("weight layouts of an architecture", ("weight_layouts", "layouts"), "ModelAdapter"),
    Counted("architecture shrunk", ("shrink",), "ModelAdapter"),
    Counted("module built", ("build",), "ModelAdapter"),
    Counted("upstream file read", ("read",), "ModelAdapter"),
    Counted("plan checked", ("check",), "PruningPlan"),
    Counted("plan allocated", ("allocate",)),
    Counted("checkpoint sliced", ("prune_checkpoint",)),
    Counted("output checked to be writable", ("check_writable",)),
    Counted("structure parsed from extxyz", ("read",), "ExtxyzFile"),
    Counted("labels of a structure", ("of",), "Labels"),
    Counted("neighbours of a structure found", ("neighbours",)),
    Counted("graph of a structure made", ("of",), "AtomicGraph"),
)
OPENED = "data file opened"

calls: Counter[str] = Counter()
watched: set[str] = set()


def hear(event: str, arguments: tuple[Any, ...]) -> None:
    """Python's own word of every file that is opened."""
    if event == "open" and str(arguments[0]) in watched:
        calls[OPENED] += 1


def modules() -> list[ModuleType]:
    """Every module of the package that can be imported here; those of absent backends cannot."""
    found = [ep]
    for info in pkgutil.walk_packages(ep.__path__, "equiprune.", onerror=lambda _: None):
        if not info.name.endswith("__main__"):
            try:
                found.append(importlib.import_module(info.name))
            except ImportError:
                continue
    return found


def counting(label: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def counted(*arguments: Any, **named: Any) -> Any:
        calls[label] += 1
        return function(*arguments, **named)

    return counted


def classes(everything: Sequence[ModuleType], owner: str) -> Iterator[type]:
    """Classes of that name, and those that derive from them, each once."""
    there = {v for module in everything for v in vars(module).values() if isinstance(v, type)}
    return (kind for kind in there if owner in {base.__name__ for base in kind.__mro__})


def wrap_method(what: Counted, everything: Sequence[ModuleType]) -> int:
    """Wrap the methods in place; how many there were."""
    found = 0
    for kind in classes(everything, what.owner):
        for name in what.names:
            method = vars(kind).get(name)
            if isinstance(method, classmethod | staticmethod):
                setattr(kind, name, type(method)(counting(what.label, method.__func__)))
                found += 1
            elif isinstance(method, FunctionType):
                setattr(kind, name, counting(what.label, method))
                found += 1
    return found


def wrap_function(what: Counted, everything: Sequence[ModuleType]) -> int:
    """Wrap the functions wherever they were imported to; in how many places that was."""
    wrapped: dict[FunctionType, Callable[..., Any]] = {}
    places = [(module, name) for module in everything for name in vars(module)]
    found = 0
    for module, name in places:
        function = getattr(module, name)
        if isinstance(function, FunctionType) and function.__name__ in what.names:
            wrapped.setdefault(function, counting(what.label, function))
            setattr(module, name, wrapped[function])
            found += 1
    return found


def wrap_all() -> set[str]:
    """Wrap everything that is counted; the labels of what is nowhere."""
    everything = modules()
    absent = set()
    for what in COUNTED:
        if not (wrap_method if what.owner else wrap_function)(what, everything):
            absent.add(what.label)
    sys.addaudithook(hear)
    return absent


def counted(*words: object) -> Counter[str]:
    """Calls of one command."""
    calls.clear()
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()) as said:
        code = equiprune([str(word) for word in words])
    if code:
        sys.exit(f"equiprune {' '.join(map(str, words))} failed:\n{said.getvalue()}")
    return Counter(calls)


def four_structures(folder: Path) -> Path:
    """The toy model's elements, labelled by it."""
    path = folder / "structures.extxyz"
    ase.io.write(path, list(ep.label(ep.load("toy"), ep.probe_structures([1, 6, 8, 14]).values())), format="extxyz")
    watched.add(str(path))
    return path


def commands(folder: Path, model: str) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Names and words of the commands that are looked at."""
    data = four_structures(folder)
    small = ("--data", data, "--irreps")
    yield "prune toy", ("prune", "toy", "-o", folder / "small", *small, "4x0e+2x1o")
    yield "train toy", ("train", "toy", "-o", folder / "run", "--data", data, "--epochs", 1)
    if model:
        path = folder / "small.pth"
        yield f"prune {model}", ("prune", model, "-o", path, *small, "64x0e+32x1e+16x2e", "--edge-lmax", 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("7net-l3i5", "7net-0"), default="", help="also this one, to a .pth")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        wanted = list(commands(Path(name), arguments.model))
        absent = wrap_all()
        found = {command: counted(*words) for command, words in wanted}
    print("| calls of | " + " | ".join(found) + " |\n|" + "---|" * (len(found) + 1))
    for label in (*(what.label for what in COUNTED), OPENED):
        cells = ["not found" if label in absent else str(by[label]) for by in found.values()]
        print(f"| {label} | " + " | ".join(cells) + " |")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
