"""fairchem's own calculator opens what is exported. It imports far more than eSCN needs: skipped where that is not."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

import equiprune as ep
from equiprune.adapters.escn import export, frames

NEEDED = ("torch_geometric", "wandb", "submitit", "lmdb", "huggingface_hub", "numba")

pytestmark = [
    pytest.mark.skipif(
        any(find_spec(name) is None for name in NEEDED) or find_spec("fairchem.core") is None,
        reason=f"fairchem's calculator needs {', '.join(NEEDED)} and scipy before 1.17",
    ),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def ocp_calculator(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class. Compiled packages that it imports for other models have stand-ins."""
    for name in ("torch_scatter", "torch_scatter.utils", "torch_sparse"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    monkeypatch.setattr(sys.modules["torch_sparse"], "SparseTensor", type("SparseTensor", (), {}))
    from fairchem.core import OCPCalculator

    return OCPCalculator


@pytest.mark.supports("eSCN (random weights)", "stock tool")
def test_fairchems_calculator_gives_our_energies_and_forces(
    model: ep.Potential, ocp_calculator: Any, tmp_path: Path
) -> None:
    """With its own neighbours and normalizers; only its random turns of edges are replaced."""
    ep.save(model, tmp_path / "x.pt")
    calculator = ocp_calculator(checkpoint_path=tmp_path / "x.pt", cpu=True, seed=0)
    upstreams = calculator.trainer._unwrapped_model
    upstreams._init_edge_rot_mat = lambda data, edge_index, vectors: frames.rotations(vectors)
    for atoms in ep.probe_structures(model.elements).values():
        [ours] = model.predict([atoms])
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(ours.energy.item(), rel=1e-5)
        assert (torch.tensor(atoms.get_forces()) - ours.forces).abs().max() < 1e-3 * ours.forces.abs().max()


def test_fairchems_calculator_leaves_moving_averages_out(
    model: ep.Potential, ocp_calculator: Any, tmp_path: Path
) -> None:
    """What the docstring of `checkpoint_file` says; should this fail, upstream agrees with us."""
    content = export.content(model.checkpoint)
    trained = [p for p in model.module.parameters() if p.requires_grad]
    averages = [torch.zeros_like(p) for p in trained]
    ema = {"decay": 0.999, "num_updates": None, "shadow_params": averages, "collected_params": []}
    content["config"]["optim"]["ema_decay"] = 0.999
    torch.save(content | {"ema": ema}, tmp_path / "x.pt")
    calculator = ocp_calculator(checkpoint_path=tmp_path / "x.pt", cpu=True, seed=0)
    assert calculator.trainer.ema is None
    weights = ep.load(tmp_path / "x.pt").checkpoint.weights
    assert not weights["sphere_embedding.weight"].any()
