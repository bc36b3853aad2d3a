"""Small Nequix files with random weights, and the published ones where they are at hand."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from random_nequix import architecture

from equiprune.adapters import Checkpoint
from equiprune.adapters.nequix import checkpoint_file
from equiprune.adapters.nequix.architecture import NequixArchitecture
from equiprune.adapters.nequix.layouts import weight_layouts
from equiprune.errors import CheckpointError

PUBLISHED = ("nequix-oam-1", "nequix-mp-1")
SMALL = architecture(layers=2, hidden_irreps="3x0e+2x1o+2x2e", edge_lmax=2, elements=(1, 8, 14), first_channels=3)


def random_numbers(arch: NequixArchitecture = SMALL, dtype: torch.dtype = torch.float32, seed: int = 0) -> Checkpoint:
    """A checkpoint without a module: every weight is noise, so that no two numbers are equal."""
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.randn(layout.shape, generator=generator, dtype=dtype)
        for name, layout in weight_layouts(arch).items()
    }
    return Checkpoint(arch, weights, licence="CC0", history=({"step": "made", "seed": seed},))


def published_file(name: str) -> Path:
    """A published file in ``checkpoints`` beside the reference data; the test is skipped where it is not."""
    data = os.environ.get("EQUIPRUNE_DATA")
    path = Path(data).parent / "checkpoints" / f"{name}.nqx" if data else None
    if path is None or not path.exists():
        pytest.skip(f"needs checkpoints/{name}.nqx beside the folder that EQUIPRUNE_DATA names")
    return path


def refusal(path: Path) -> str:
    """The message of the error, which names the file."""
    with pytest.raises(CheckpointError) as caught:
        checkpoint_file.read(path)
    assert f"'{path}'" in str(caught.value)
    return str(caught.value)


def pruned_shape(arch: NequixArchitecture = SMALL) -> NequixArchitecture:
    """One element less, which leaves a first layer that upstream's constructor does not make."""
    return replace(arch, elements=arch.elements[:-1])
