"""A pruned NequIP learns, and what it has learnt is an ordinary NequIP."""

from pathlib import Path

import numpy as np
import pytest
import torch
from plain_code import plain
from random_nequip import architecture, random_checkpoint
from retrained import pruned_and_retrained

import equiprune as ep
from equiprune.adapters.nequip import NequIPAdapter, export


@pytest.mark.slow
@pytest.mark.supports("NequIP (random weights)", "trains")
@pytest.mark.supports("NequIP (random weights)", "cuts")
def test_a_trained_model_is_a_nequip(tmp_path: Path) -> None:
    """Pruned, retrained on its parent's labels, nearer to it than before, and opened by NequIP's own calculator."""
    arch = architecture(hidden_irreps=("4x0e+3x1o", "4x0e"), edge_lmax=1, radial_depths=(1, 1), radial_widths=(6, 6))
    arch = architecture(**{**vars(arch), "self_connections": (False, True)})
    with plain():
        parent = ep.Potential.create(NequIPAdapter(), random_checkpoint(arch), torch.float32)
        trained, crystals = pruned_and_retrained(parent, "3x0e+2x1o", tmp_path / "run")
        export.write(trained.checkpoint, tmp_path / "trained.nequip.zip")
        stock = export.stock_energies(tmp_path / "trained.nequip.zip", crystals)
        np.testing.assert_allclose(stock, [found.energy.item() for found in trained.predict(crystals)], atol=1e-4)
