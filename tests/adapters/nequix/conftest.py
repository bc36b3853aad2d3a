"""Nequix's tests need nequix and e3nn: they are collected only where both are installed."""

from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec

import pytest
from plain_code import nothing_twice

from equiprune.adapters.nequix import NequixAdapter, upstream


def _installed() -> bool:
    try:
        distribution("nequix")
    except PackageNotFoundError:
        return False
    return find_spec("e3nn") is not None


if not _installed():
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def once() -> Iterator[None]:
    """Small models take longer to build than to evaluate, and many are alike."""
    model_file = upstream.model_file()
    with nothing_twice(NequixAdapter), pytest.MonkeyPatch.context() as patched:
        patched.setattr(model_file, "normalspace", cache(model_file.normalspace))  # a million numbers
        yield
