"""Modules of stock MACE: made by its own constructor, opened and evaluated by its own tools."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from random_mace import ELEMENTS

import equiprune as ep
from equiprune.adapters.mace.build import upstream
from equiprune.errors import CheckpointError

with upstream(torch.float64):
    from e3nn import o3
    from e3nn.math import normalize2mom
    from mace import modules as mace
    from mace.calculators import MACECalculator

SILU, TANH, ABS = (normalize2mom(f).cst for f in (torch.nn.functional.silu, torch.tanh, torch.abs))
EVERY_HEAD = ("atomic_energies", "scale", "shift")


def unpickled(path: Path) -> Any:
    """The module as stock tools open it."""
    with upstream(torch.float64):
        return torch.load(path, map_location="cpu", weights_only=False)


def stock_values(module: Any, structures: list[Atoms], head: str | None = None) -> list[dict[str, torch.Tensor]]:
    """What the stock calculator gives in float64."""
    with upstream(torch.float64):
        chosen = {"head": head} if head else {}
        calculator = MACECalculator(models=[module], device="cpu", default_dtype="float64", **chosen)
        values = []
        for atoms in structures:
            atoms = atoms.copy()
            atoms.calc = calculator
            found = (atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False))
            values.append(dict(zip(("energy", "forces", "stress"), map(torch.tensor, found), strict=True)))
        return values


def assert_stock(potential: ep.Potential, module: Any, structures: list[Atoms]) -> None:
    """Energies, forces and stress are those of the stock calculator to 1e-12, of the largest where that is more."""
    stock_said = stock_values(module, structures, potential.head)
    for ours, theirs in zip(potential.predict(structures), stock_said, strict=True):
        for quantity, value in theirs.items():
            assert (getattr(ours, quantity) - value).abs().max() <= 1e-12 * max(1, value.abs().max()), quantity


def block(name: str) -> Any:
    return mace.interaction_classes[name]


def constructed(arguments: dict[str, Any], *, scaled: bool = True) -> Any:
    """A module of upstream's constructor in float64."""
    with upstream(torch.float64):
        residual = block("RealAgnosticResidualInteractionBlock")
        usual = {
            "r_max": 4.5,
            "num_bessel": 5,
            "num_polynomial_cutoff": 5,
            "max_ell": 1,
            "interaction_cls": residual,
            "interaction_cls_first": residual,
            "num_interactions": 2,
            "num_elements": len(ELEMENTS),
            "hidden_irreps": o3.Irreps("4x0e+4x1o"),
            "MLP_irreps": o3.Irreps("5x0e"),
            "atomic_energies": np.zeros(len(ELEMENTS)),
            "avg_num_neighbors": 1.5,
            "atomic_numbers": list(ELEMENTS),
            "correlation": 2,
            "gate": torch.nn.functional.silu,
            "radial_MLP": [8, 7],
            "use_reduced_cg": False,
        }
        scale = {"atomic_inter_scale": 1.0, "atomic_inter_shift": 0.0} if scaled else {}
        return (mace.ScaleShiftMACE if scaled else mace.MACE)(**{**usual, **scale, **arguments})


def refusal(path: Path) -> str:
    """The message of the error, which names the file."""
    with pytest.raises(CheckpointError) as caught:
        ep.read_checkpoint(path)
    assert f"'{path}'" in str(caught.value)
    return str(caught.value)
