"""Precisions: their names in files, and torch's default, which upstream packages take that of their constants from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Torch's default precision, for a while.

    >>> with default_dtype(torch.float64):
    ...     torch.ones(1).dtype
    torch.float64
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def dtype_name(dtype: torch.dtype) -> str:
    """As files and people call it; `dtype_named` reads it.

    >>> dtype_name(torch.float64)
    'float64'
    """
    return str(dtype).removeprefix("torch.")


def dtype_named(name: str) -> torch.dtype:
    """The precision of that name; raises `ValueError` where there is none.

    >>> dtype_named("float32")
    torch.float32
    """
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"'{name}' is no precision; float32 and float64 are")
    return found
