"""e3nn's modules without TorchScript and without reordered contractions: the same functions, built much faster.

Small models spend most of a test on that. Tests of upstream's files and tools and of training keep stock code. What
depends on nothing that a test changes, such as coupling tensors, is the same bits in either, and worked out once.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pkgutil import resolve_name
from typing import Any

import pytest

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
