"""e3nn's modules without TorchScript and without reordered contractions: the same functions, built much faster.

Small models spend most of a test on that. Tests of upstream's files and tools and of training keep stock code.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from equiprune.verification.laws.files import FileLaws
from equiprune.verification.laws.training import TrainingLaws

STOCK = (
    FileLaws.test_exporting_and_reading_gives_the_same_model,
    TrainingLaws.test_what_is_built_for_training_is_the_same_function,
)
"""Laws that look at the code itself: it is in upstream's files, and is rearranged for training."""


@contextmanager
def plain() -> Iterator[None]:
    """Build modules as plain Python meanwhile."""
    _defaults()
    yield from _set(jit_script_fx=False, optimize_einsums=False)


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
    """Stock code for the laws of `STOCK`, plain code for any other test; says which."""
    if test.__name__ in {law.__name__ for law in STOCK}:
        yield "stock"
    else:
        with plain():
            yield "plain"
