"""A device that every machine has, so that a tensor on the wrong one shows without a GPU.

Inside `Elsewhere` torch is told that tensors live on `PLACE`; their numbers stay on the CPU. As on a GPU, an operation
refuses tensors of both places, except numbers (no dimensions) and indices, and NumPy cannot read what lives there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators import Accelerator
from lightning_fabric.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

PLACE = torch.device("meta")
"""A name that torch knows and nothing here uses."""

_aten = torch.ops.aten
_CROSSING = {_aten.copy_.default, _aten._to_copy.default}
_INDEXING = {_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default, _aten._index_put_impl_.default}
"""Of which torch allows indices that live on the CPU."""


class _There(Tensor):
    """A tensor that lives on `PLACE`; ``held`` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> _There:
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = Tensor._make_wrapper_subclass(cls, held.shape, device=PLACE, **layout)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _evaluated(func, args, kwargs or {})

    def __repr__(self) -> str:
        return f"elsewhere {self.held}"

    def __reduce_ex__(self, protocol: int) -> Any:
        return self.detach().cpu().__reduce_ex__(protocol)

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()


class Elsewhere:
    """While it is entered there is another device."""

    def __enter__(self) -> torch.device:
        self._modes: tuple[Any, ...] = (_Operations(), _Constructors())
        for mode in self._modes:
            mode.__enter__()
        return PLACE

    def __exit__(self, *error: object) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _evaluated(func, args, kwargs or {})


class _Constructors(TorchFunctionMode):
    """What reads Python or NumPy numbers does so before any operation is seen."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        given = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and _is_there(given.get("device")):
            return func(*args, **{**given, "device": "cpu"}).to(PLACE)
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            args = (args[0], _indices(args[1]), *args[2:])
        return func(*args, **given)


def _indices(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(map(_indices, key))
    return torch.tensor(key) if isinstance(key, list) else key


def _is_there(device: Any) -> bool:
    return device is not None and torch.device(device) == PLACE


def _evaluated(func: Any, args: tuple, kwargs: dict) -> Any:
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    there = any(isinstance(value, _There) for value in tensors)
    lost = [value for value in tensors if value.device == PLACE and not isinstance(value, _There)]
    assert not lost, f"{func} was given a tensor that was made unseen, without its numbers"
    goes = _is_there(kwargs["device"]) if kwargs.get("device") is not None else there
    if not there and not goes:
        return func(*args, **kwargs)
    if there:
        _check_places(func, args, tensors)
    cpu = {"device": "cpu"} if "device" in kwargs else {}
    found = func(*tree_map(_held, args), **{**tree_map(_held, kwargs), **cpu})
    if not goes:
        return found
    return return_and_correct_aliasing(func, args, kwargs, tree_map(_there, found))


def _check_places(func: Any, args: tuple, tensors: Sequence[Tensor]) -> None:
    looked_at = [args[0], *args[2:]] if func in _INDEXING else tensors
    if func in _CROSSING:
        return
    wrong = [v for v in looked_at if isinstance(v, Tensor) and not isinstance(v, _There) and v.dim()]
    if wrong:
        raise RuntimeError(f"Expected all tensors to be on the same device, but {func} was given one on the CPU too")


def _held(value: Any) -> Any:
    return value.held if isinstance(value, _There) else value


def _there(value: Any) -> Any:
    return _There(value) if isinstance(value, Tensor) and not isinstance(value, _There) else value


class _Accelerator(Accelerator):
    """What Lightning has to know of a device."""

    def setup_device(self, device: torch.device) -> None:
        assert device == PLACE

    def teardown(self) -> None:
        pass

    parse_devices: Callable[[Any], Any] = staticmethod(lambda devices: devices)
    get_parallel_devices: Callable[[Any], Any] = staticmethod(lambda devices: [PLACE])

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return "elsewhere"


def fabric() -> Fabric:
    """One process that trains there."""
    return Fabric(strategy=SingleDeviceStrategy(device=PLACE, accelerator=_Accelerator()))
