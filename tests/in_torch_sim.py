"""A pruned child of any architecture in torch-sim."""

from collections.abc import Sequence

import pytest
import torch
from ase import Atoms

import equiprune as ep


def check_in_torch_sim(child: ep.Potential, structures: Sequence[Atoms]) -> None:
    """A batch is what the potential predicts, in float64 to rounding, and torch-sim moves it.

    Skips the test where torch-sim is not installed.
    """
    ts = pytest.importorskip("torch_sim", reason="needs torch-sim (extra torch-sim)", exc_type=ImportError)
    model = ep.torch_sim_model(child)
    state = ts.io.atoms_to_state(list(structures), model.device, torch.float64)
    found, expected = model(state), child.predict(structures, batch_atoms=sum(map(len, structures)))
    assert set(found) == set(child.quantities)
    assert model.compute_stress == ("stress" in found)
    joined = {
        "energy": torch.stack([each.energy for each in expected]),
        "forces": torch.cat([each.forces for each in expected]),
        "stress": torch.stack([each.stress for each in expected]),
    }
    for name, values in found.items():
        torch.testing.assert_close(values, joined[name], atol=1e-10, rtol=1e-12, msg=name)
    how = {"integrator": ts.nve, "n_steps": 2, "temperature": 300.0, "timestep": 0.001}
    moved = ts.integrate(system=list(structures), model=model, **how)
    assert moved.energy.shape == (len(structures),)
    assert moved.energy.isfinite().all()
