"""NequIP's tests need nequip: they are collected only where it is installed."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from plain_code import built_once, known, written_once

from equiprune.adapters.nequip import NequIPAdapter

if find_spec("nequip") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def known_moments() -> Iterator[None]:
    """Second moments of the activations take long."""
    with known():
        yield


@pytest.fixture(scope="session", autouse=True)
def known_code() -> Iterator[None]:
    """Most of the rest goes into the code of contractions, and many are alike."""
    product = "e3nn.o3._tensor_product._tensor_product.codegen_tensor_product"
    with written_once("e3nn.o3._linear._codegen_linear", f"{product}_left_right", f"{product}_right"):
        yield


@pytest.fixture(scope="session", autouse=True)
def known_modules() -> Iterator[None]:
    """The same models are built by many tests."""
    with built_once(NequIPAdapter):
        yield


if find_spec("nequip") is not None:
    from nequip_files import package as package
