"""eSCN's tests need fairchem-core 1.10: they are collected only where it is installed."""

from importlib.metadata import PackageNotFoundError, version

import pytest
import torch
from random_escn import normalised, random_checkpoint

import equiprune as ep
from equiprune.adapters.escn import EscnAdapter

try:
    _INSTALLED = version("fairchem-core").startswith("1.")
except PackageNotFoundError:
    _INSTALLED = False
if not _INSTALLED:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def model() -> ep.Potential:
    """A random model in float32."""
    return ep.Potential.create(EscnAdapter(), random_checkpoint(normalised(), dtype=torch.float32), torch.float32)
