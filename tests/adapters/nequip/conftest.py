"""NequIP's tests need nequip: they are collected only where it is installed."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from plain_code import nothing_twice

from equiprune.adapters.nequip import NequIPAdapter

if find_spec("nequip") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def once() -> Iterator[None]:
    """Small models take longer to build than to evaluate, and many are alike."""
    with nothing_twice(NequIPAdapter):
        yield


if find_spec("nequip") is not None:
    from nequip_files import package as package
