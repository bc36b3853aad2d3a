"""A pruned Nequix learns, and what it has learnt is an ordinary Nequix."""

from pathlib import Path

import numpy as np
import pytest
import torch
from plain_code import plain
from random_nequix import architecture, random_checkpoint
from retrained import pruned_and_retrained

import equiprune as ep
from equiprune.adapters.nequix import NequixAdapter, export


@pytest.mark.supports("Nequix (random weights)", "trains")
@pytest.mark.supports("Nequix (random weights)", "cuts")
def test_a_trained_model_is_a_nequix(tmp_path: Path) -> None:
    """Pruned, retrained on its parent's labels, nearer to it than before, and opened by Nequix's own torch model."""
    arch = architecture(layers=2, hidden_irreps="4x0e+3x1o", edge_lmax=1, radial_layers=1)
    with plain():
        parent = ep.Potential.create(NequixAdapter(), random_checkpoint(arch), torch.float32)
        trained, crystals = pruned_and_retrained(parent, "3x0e+2x1o", tmp_path / "run")
        export.write(trained.checkpoint, tmp_path / "trained.pt")
        stock = export.stock_energies(tmp_path / "trained.pt", crystals)
        np.testing.assert_allclose(stock, [found.energy.item() for found in trained.predict(crystals)], atol=1e-4)
