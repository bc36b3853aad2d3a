"""A pickled ``torch.nn.Module`` read as data: nothing that the file names is imported or run.

Whole-module pickles are programs: opening one with `torch.load` imports the classes it names, in the versions it was
written with, and runs whatever it asks for. Here each class or function that a file names becomes a lifeless stand-in
that only remembers its name, its arguments and its state; tensors and plain containers alone are real. So a hostile
file can do nothing, and a file written under another version of e3nn reads like any other.
"""

from __future__ import annotations

import pickle
import pickletools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from equiprune.errors import CheckpointError


class StandIn:
    """An object of a class that is named but not imported.

    Attributes of the pickled object, and the parameters, buffers and submodules of a pickled module, are attributes.
    """

    origin = ""
    """Full name of the class or function, e.g. ``mace.modules.models.ScaleShiftMACE``."""

    args: tuple[Any, ...]
    state: dict[str, Any]

    def __new__(cls, *args: Any) -> StandIn:
        made = super().__new__(cls)
        made.args, made.state = args, {}
        return made

    def __init__(self, *_: Any) -> None:
        """Everything happens in ``__new__``: a pickle may leave ``__init__`` out."""

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}

    def __getattr__(self, name: str) -> Any:
        for holder in (self.state, *(self.state.get(kind) or {} for kind in _KINDS)):
            if name in holder:
                return holder[name]
        raise AttributeError(f"a {type(self).origin} without '{name}'")

    def children(self) -> list[StandIn]:
        """Submodules in order, those of a ``ModuleList`` among them."""
        return list(self.state.get("_modules", {}).values())

    def tensors(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Parameters and buffers of this module and those below it, by the names of its state dict."""
        for kind in ("_parameters", "_buffers"):
            for name, tensor in (self.state.get(kind) or {}).items():
                if isinstance(tensor, Tensor):
                    yield prefix + name, tensor.detach()
        for name, child in (self.state.get("_modules") or {}).items():
            if isinstance(child, StandIn):
                yield from child.tensors(f"{prefix}{name}.")


_KINDS = ("_modules", "_parameters", "_buffers")

_WRAPPERS = {
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.optim.swa_utils.AveragedModel": "module",
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
}
"""Modules that only hold another one, and what they call it; `torch_files.unwrapped` is the same for state dicts."""
_COMPILED = ("torch._dynamo.eval_frame", "OptimizedModule")


def class_name(value: Any) -> str:
    """The short name of a stand-in's class, of a stand-in for a class or function, or of an ordinary value's type."""
    origin = getattr(value, "origin", "") or type(value).__name__
    return str(origin).rpartition(".")[2]


def inside_wrappers(module: Any) -> Any:
    """The module that one for several processes, of averages, or of torch.compile holds; any other as it is."""
    while isinstance(module, StandIn) and module.origin in _WRAPPERS:
        name = _WRAPPERS[module.origin]
        modules = module.state.get("_modules") or {}
        if name not in modules and not module.args:
            return module
        module = modules[name] if name in modules else module.args[0]
    return module


def read_pickled_module(path: Path, packages: Collection[str]) -> StandIn:
    """The module in a file that ``torch.save(module, path)`` wrote, taken out of its wrappers.

    Args:
        path: the file.
        packages: top-level packages whose classes it may name, e.g. ``{"mace", "e3nn", "torch"}``.

    Raises:
        CheckpointError: no readable torch file, another class than these packages have, or no module at all.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no file '{path}'.")
    _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(
                path, map_location="cpu", pickle_module=_reader(frozenset(packages)), weights_only=False
            )
    except _CompiledError as error:
        raise CheckpointError(
            f"'{path}' was not opened: it is a module that torch.compile wrapped, and compilers are programs. "
            "Save what is inside: torch.save(model._orig_mod, path)."
        ) from error
    except _UnknownClassError as error:
        raise CheckpointError(
            f"'{path}' was not opened: it names {error}, which is neither data nor part of "
            f"{', '.join(sorted(packages))}. Get the file from its authors again."
        ) from error
    except Exception as error:  # torch and the pickle inside have their own exceptions
        raise _unreadable(path, error) from error
    content = inside_wrappers(content)
    if not isinstance(content, StandIn):
        raise CheckpointError(f"'{path}' holds a {class_name(content)}, not a model saved with torch.save(model).")
    return content


def read_pickle(content: bytes, packages: Collection[str]) -> Any:
    """Content of an ordinary pickle of plain containers, numbers, tensors and objects of these packages.

    Objects are stand-ins, as in `read_pickled_module`.

    Raises:
        ValueError: no pickle, or one that names anything else.
    """
    try:
        return _reader(frozenset(packages)).load(BytesIO(content))
    except _UnknownClassError as error:
        raise ValueError(
            f"it names {error}, which is neither data nor part of {', '.join(sorted(packages))}"
        ) from error
    except Exception as error:  # pickle has many exceptions
        raise ValueError(f"no readable pickle: {type(error).__name__} {error}") from error


def pickle_reader(packages: Collection[str], content: bytes, stored: Callable[[Any], Any]) -> pickle.Unpickler:
    """A reader of one pickle, whose objects are stand-ins as in `read_pickled_module`.

    Args:
        packages: top-level packages whose classes it may name.
        content: the pickle.
        stored: gives what the pickle names by a record of its own.
    """
    reader: pickle.Unpickler = _reader(frozenset(packages)).Unpickler(BytesIO(content))
    reader.persistent_load = stored  # type: ignore[method-assign]
    return reader


def _check_archive(path: Path) -> None:
    """Raise `CheckpointError` unless the file is the zip archive that `torch.save` writes since torch 1.6.

    `torch.load` runs the code in TorchScript archives, and for the older formats it writes files that they name.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(4) != b"PK\x03\x04":
                raise ValueError("no zip archive, which torch.save writes")
        records = torch._C.PyTorchFileReader(str(path)).get_all_records()
    except Exception as error:
        raise _unreadable(path, error) from error
    if "constants.pkl" in records:
        raise CheckpointError(
            f"'{path}' was not opened: it is a deployed (TorchScript) model, which is a program. Give the file it was "
            "made from."
        )


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = (str(error).splitlines() or [""])[0][:160]
    return CheckpointError(
        f"'{path}' is not a readable torch file; it may be empty or truncated ({type(error).__name__}: {reason}). "
        "Get it again."
    )


class _UnknownClassError(Exception):
    pass


class _CompiledError(Exception):
    pass


class _Sealed:
    """A function that a pickle may call; the attributes of a bare one it could change, for the whole process."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, _: Any) -> None:
        raise pickle.UnpicklingError("it changes a function")


class _NumberType:
    """A pickled ``numpy.dtype`` as its name. NumPy's own believes a file that calls numbers pointers."""

    def __init__(self, name: str, *_: Any) -> None:
        self.name, self.order = name, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def read(self, content: bytes) -> int | float | complex:
        """One number in its binary form."""
        kind = np.dtype(self.order + self.name)
        if kind.kind not in "biufc":
            raise pickle.UnpicklingError(f"it has a number of type {kind}")
        [number] = np.frombuffer(content, kind).tolist()
        return number


def _attribute(owner: Any, name: str) -> type[StandIn]:
    """``getattr``, by which ``torch.tanh`` is pickled: of a stand-in another one, and nothing else has attributes."""
    if isinstance(owner, type) and issubclass(owner, StandIn):
        return _stand_in(f"{owner.origin}.{name}")
    raise _UnknownClassError("'builtins.getattr'")


_DATA: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Sealed(torch._utils._rebuild_tensor_v2),
    ("torch._utils", "_rebuild_parameter"): _Sealed(torch._utils._rebuild_parameter),
    ("torch.storage", "_load_from_bytes"): _Sealed(lambda data: torch.load(BytesIO(data), weights_only=True)),
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("_codecs", "encode"): _Sealed(lambda text, encoding: bytes(text, encoding)),
    ("builtins", "getattr"): _Sealed(_attribute),
    ("builtins", "set"): set,
    ("builtins", "slice"): slice,
    ("builtins", "complex"): complex,
    ("numpy", "dtype"): _NumberType,
    ("numpy.core.multiarray", "scalar"): _Sealed(_NumberType.read),
    ("numpy._core.multiarray", "scalar"): _Sealed(_NumberType.read),
}
"""What is built for real: containers, tensors, numbers, and the bytes of old pickle protocols."""

_INERT = {("numpy", "ndarray"), ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}
"""What stands for itself without being part of the packages: arrays, which no module needs."""


@cache
def _reader(packages: frozenset[str]) -> Any:
    """A ``pickle_module`` for `torch.load`."""

    class Unpickler(pickle.Unpickler):
        def __init__(self, stream: IO[bytes], **options: Any) -> None:
            check_memo(stream)
            super().__init__(stream, **options)

        def find_class(self, module: str, name: str) -> Any:
            module = {"__builtin__": "builtins"}.get(module, module)
            if (module, name) == _COMPILED:
                raise _CompiledError
            if (module, name) in _DATA:
                return _DATA[module, name]
            if module == "torch" and isinstance(vars(torch).get(name), torch.dtype):  # getattr could import
                return vars(torch)[name]
            if module.partition(".")[0] not in packages and (module, name) not in _INERT:
                raise _UnknownClassError(f"'{module}.{name}'")
            return _stand_in(f"{module}.{name}")

    def load(stream: Any, **options: Any) -> Any:
        return Unpickler(stream, **options).load()

    return SimpleNamespace(Unpickler=Unpickler, load=load, UnpicklingError=pickle.UnpicklingError, __name__="data")


def check_memo(stream: IO[bytes]) -> None:
    """Raise `UnpicklingError` for a pickle that numbers an object higher than it could have: it would take gigabytes.

    The reader in C makes room for as many objects as a number says (CPython, Modules/_pickle.c). The stream is then
    where it was.
    """
    begin = stream.tell()
    highest = max((number or 0 for code, number, _ in pickletools.genops(stream) if code.name in _NUMBERING), default=0)
    if highest > stream.tell() - begin:
        raise pickle.UnpicklingError(f"it has an object number {highest}, and {stream.tell() - begin} bytes")
    stream.seek(begin)


_NUMBERING = ("PUT", "BINPUT", "LONG_BINPUT")


@cache
def _stand_in(origin: str) -> type[StandIn]:
    return type(origin.rpartition(".")[2], (StandIn,), {"origin": origin})
