"""e3nn's modules without TorchScript and without reordered contractions: the same functions, built much faster.

Small models spend most of a test on that. Tests of upstream's files and tools and of training keep stock code. What
depends on nothing that a test changes, such as coupling tensors, is the same bits in either, and worked out once.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy, deepcopy
from functools import cache
from pkgutil import resolve_name
from types import FunctionType
from typing import Any

import pytest
import torch

from equiprune.verification.laws.training import TrainingLaws

STOCK = TrainingLaws.test_what_is_built_for_training_is_the_same_function
"""The law that looks at the code itself, which is rearranged for training."""


@contextmanager
def plain() -> Iterator[None]:
    """Build modules as plain Python meanwhile."""
    _defaults()
    yield from _set(jit_script_fx=False, optimize_einsums=False)


@contextmanager
def known(*functions: str) -> Iterator[None]:
    """Let functions, by their full names, keep what they have worked out meanwhile; who asks again gets a copy."""
    with pytest.MonkeyPatch.context() as patched:
        for name in (*functions, "e3nn.math._normalize_activation.moment", "inspect.getsource"):  # TorchScript asks
            patched.setattr(name, _copied(cache(resolve_name(name))))
        yield


@contextmanager
def written_once(*functions: str) -> Iterator[None]:
    """Let functions that write code, by their full names, write plain code once; who asks again gets a module of it."""
    with pytest.MonkeyPatch.context() as patched:
        for name in functions:
            patched.setattr(name, _remembering(resolve_name(name)))
        yield


@contextmanager
def traced_once() -> Iterator[None]:
    """Let ``torch.fx.symbolic_trace`` trace each function once, for the same values around it.

    Each call changes `torch.nn.Module` and changes it back, which takes long where modules of many classes are there.
    """
    trace, traced = torch.fx.symbolic_trace, dict[Any, torch.fx.GraphModule]()

    def remembered(function: Any) -> torch.fx.GraphModule:
        if not isinstance(function, FunctionType):
            return trace(function)
        around = [repr(cell.cell_contents) for cell in function.__closure__ or ()]
        asked = (function.__code__, *around)
        if asked not in traced:
            traced[asked] = trace(function)
        return _another(traced[asked])

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.fx, "symbolic_trace", remembered)
        yield


def _remembering(write: Callable[..., Any]) -> Callable[..., Any]:
    """By what is asked, in the precision whose constants are in the code; stock code is written anew each time."""
    written: dict[Any, Any] = {}

    def remembered(*given: Any, **named: Any) -> Any:
        from e3nn import get_optimization_defaults

        if get_optimization_defaults()["jit_script_fx"]:
            return write(*given, **named)
        asked = (torch.get_default_dtype(), _known_by(given), _known_by(tuple(named.items())))
        if asked not in written:
            written[asked] = write(*given, **named)
        return _another(written[asked])

    return remembered


def _known_by(value: Any) -> Any:
    """A key of an argument: the code of graphs, the shapes of examples."""
    if isinstance(value, torch.fx.GraphModule):
        return value.code
    if isinstance(value, torch.Tensor):
        return value.shape, value.dtype
    return tuple(map(_known_by, value)) if type(value) is tuple else repr(value)


def _another(written: Any) -> Any:
    """A module with the same code, and with buffers and hooks of its own."""
    if isinstance(written, tuple):
        return tuple(map(_another, written))
    if not isinstance(written, torch.fx.GraphModule):
        return written
    assert not list(written.children())
    own = {"__call__": torch.nn.Module.__call__}  # as a class of fx's has it, which may write its code anew
    made = object.__new__(type("GraphModuleImpl", (type(written),), own))
    made.__dict__.update(
        {name: copy(value) if isinstance(value, dict) else value for name, value in vars(written).items()}
    )
    made._buffers.update({name: buffer.clone() for name, buffer in written._buffers.items()})
    return made


@contextmanager
def built_once(adapter: type[Any]) -> Iterator[None]:
    """Let an adapter build each module of plain code once for a seed; who asks again gets a copy of it as it was."""
    build, built = adapter.build, dict[Any, torch.nn.Module]()

    def remembered(architecture: Any, dtype: torch.dtype) -> torch.nn.Module:
        from e3nn import get_optimization_defaults

        if get_optimization_defaults()["jit_script_fx"]:
            return build(architecture, dtype)
        asked = (torch.initial_seed(), repr(architecture), dtype)  # first weights are drawn by a seed
        if asked not in built:
            built[asked] = build(architecture, dtype)
        return _copy_of(built[asked], {})

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(adapter, "build", staticmethod(remembered))
        yield


@contextmanager
def nothing_twice(adapter: type[Any], *functions: str, writers: tuple[str, ...] = ()) -> Iterator[None]:
    """Constants, plain code of contractions and whole modules of an adapter are worked out once meanwhile.

    Args:
        adapter: builds the modules.
        functions: full names of more functions whose results are kept.
        writers: full names of more functions that write code.
    """
    product = "e3nn.o3._tensor_product._tensor_product.codegen_tensor_product"
    linear = "e3nn.o3._linear._codegen_linear"
    with (
        known(*functions),
        traced_once(),
        written_once(linear, f"{product}_left_right", f"{product}_right", *writers),
        built_once(adapter),
    ):
        yield


def _copy_of(module: torch.nn.Module, made: dict[int, Any]) -> torch.nn.Module:
    """A module with weights, buffers and children of its own; what was shared within the first is shared again."""
    if id(module) in made:
        return made[id(module)]
    if isinstance(module, torch.jit.ScriptModule):
        return deepcopy(module, made)
    if isinstance(module, torch.fx.GraphModule):
        own = _another(module)
        own._parameters = {name: _copy_in(weight, made) for name, weight in module._parameters.items()}
    else:
        own = object.__new__(type(module))
        made[id(module)] = own
        own.__dict__.update({name: _copy_in(value, made) for name, value in vars(module).items()})
    made[id(module)] = own
    return own


def _copy_in(value: Any, made: dict[int, Any]) -> Any:
    """A copy of modules, weights and tensors, and of what holds some; anything else as it is."""
    if isinstance(value, torch.nn.Module):
        return _copy_of(value, made)
    if isinstance(value, torch.Tensor):
        return _clone(value, made)
    if isinstance(value, dict):
        own = copy(value)
        own.update({key: _copy_in(each, made) for key, each in value.items()})
        return own
    if type(value) in (list, tuple):
        return type(value)(_copy_in(each, made) for each in value)
    return value


def _clone(tensor: torch.Tensor, made: dict[int, Any]) -> torch.Tensor:
    """A copy of a tensor or a weight."""
    if id(tensor) not in made:
        own = tensor.detach().clone()
        made[id(tensor)] = (
            torch.nn.Parameter(own, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else own
        )
    return made[id(tensor)]


def _copied(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given, **named: deepcopy(function(*given, **named))


@contextmanager
def stock() -> Iterator[None]:
    """Build modules meanwhile, inside of `plain`, as anybody does."""
    yield from _set(**_defaults())


@cache
def _defaults() -> Mapping[str, Any]:
    """e3nn's own settings, asked before any is changed."""
    from e3nn import get_optimization_defaults

    return get_optimization_defaults()


def _set(**settings: Any) -> Iterator[None]:
    from e3nn import get_optimization_defaults, set_optimization_defaults

    before = get_optimization_defaults()
    set_optimization_defaults(**settings)
    try:
        yield
    finally:
        set_optimization_defaults(**before)


@contextmanager
def code_for(test: Callable[..., None]) -> Iterator[str]:
    """Stock code for the law of `STOCK`, plain code for any other test; says which."""
    if test.__name__ == STOCK.__name__:
        yield "stock"
    else:
        with plain():
            yield "plain"
