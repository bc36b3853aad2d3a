"""Potentials in torch-sim give the numbers that they give elsewhere; needs its package (the extra ``torch-sim``)."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

import equiprune as ep
from equiprune.errors import EquipruneError, StructureError
from equiprune.potentials import torch_sim_model
from equiprune.potentials.torch_sim_model import structures_of

PERIODIC = [bulk("SiC", "zincblende", a=4.4), bulk("Si", "diamond", a=5.4).repeat((1, 2, 1)), Atoms("C", cell=[3] * 3)]
for number, each in enumerate(PERIODIC):
    sheared = np.eye(3) + 0.1 * np.random.default_rng(number).standard_normal((3, 3))
    each.set_cell(each.cell.array @ sheared, scale_atoms=True)
    each.rattle(0.05, seed=number)
    each.pbc = True
FREE = [molecule("CH3CH2OH"), Atoms("O"), molecule("H2O")]


@pytest.fixture(scope="module")
def ts() -> object:
    return pytest.importorskip("torch_sim", reason="needs torch-sim (extra torch-sim)", exc_type=ImportError)


def results(ts: object, potential: ep.Potential, structures: Sequence[Atoms]) -> dict[str, torch.Tensor]:
    model = ep.torch_sim_model(potential)
    return model(ts.io.atoms_to_state(list(structures), model.device, model.dtype))


@pytest.mark.parametrize("structures", [PERIODIC, FREE], ids=["periodic", "free"])
def test_a_batch_is_what_the_potential_predicts(ts: object, toy: ep.Potential, structures: list[Atoms]) -> None:
    """Sheared cells, molecules and single atoms, masked too; the same to rounding."""
    for potential in (toy, ep.masked(toy, ep.allocate(toy, [ep.Lmax(0)]))):
        found, expected = results(ts, potential, structures), potential.predict(structures)
        torch.testing.assert_close(found["energy"], torch.stack([each.energy for each in expected]), atol=1e-12, rtol=0)
        torch.testing.assert_close(found["forces"], torch.cat([each.forces for each in expected]), atol=1e-12, rtol=0)
        stress = torch.stack([each.stress for each in expected])
        torch.testing.assert_close(found["stress"], stress, atol=1e-13, rtol=0, equal_nan=True)
        assert found["energy"].std() > 0.1


def test_the_contract_of_torch_sim_holds(ts: object, toy: ep.Potential) -> None:
    from torch_sim.models.interface import ModelInterface

    model = ep.torch_sim_model(toy)
    assert isinstance(model, ModelInterface)
    assert (model.device, model.dtype) == (toy.device, toy.dtype)
    assert (model.compute_forces, model.compute_stress) == (True, True)
    assert list(model.parameters()) == [], "what moves a model to another place leaves the potential alone"


def test_results_have_the_precision_of_the_state(ts: object, toy: ep.Potential) -> None:
    single = toy.with_dtype(torch.float32)
    assert {each.dtype for each in results(ts, single, FREE).values()} == {torch.float32}
    double = ep.torch_sim_model(single)(ts.io.atoms_to_state(FREE, torch.device("cpu"), torch.float64))
    assert {each.dtype for each in double.values()} == {torch.float64}


def test_there_is_no_stress_where_forces_are_an_output_of_their_own(
    ts: object, toy: ep.Potential, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ep.Potential, "quantities", ("energy", "forces"))
    assert set(results(ts, replace(toy), PERIODIC)) == {"energy", "forces"}
    model = ep.torch_sim_model(toy)
    assert not model.compute_stress
    with pytest.raises(NotImplementedError):
        model.compute_stress = True


def test_torch_sim_integrates_and_relaxes(ts: object, toy: ep.Potential) -> None:
    model = ep.torch_sim_model(toy)
    how = {"integrator": ts.nve, "n_steps": 3, "temperature": 300.0, "timestep": 0.001}
    moved = ts.integrate(system=PERIODIC, model=model, **how)
    assert moved.energy.shape == (3,)
    with pytest.warns(UserWarning, match="max steps"):
        relaxed = ts.optimize(system=PERIODIC[:2], model=model, optimizer=ts.frechet_cell_fire, max_steps=10)
    before = torch.stack([each.energy for each in toy.predict(PERIODIC[:2])])
    assert (relaxed.energy < before).all()


def test_what_the_potential_cannot_evaluate_is_refused(ts: object, toy: ep.Potential) -> None:
    with pytest.raises(StructureError, match="Li, which this model does not know"):
        results(ts, toy, [Atoms("Li2", [[0, 0, 0], [0, 0, 2]])])


def test_names_in_a_mapping_are_enough() -> None:
    """Also one structure without an owner of its atoms, and directions that are named, as later versions do."""
    cell = torch.tensor([[4.0, 1.0, 0.0], [0.0, 5.0, 2.0], [0.0, 0.0, 6.0]])
    given = {"positions": torch.ones(1, 3), "cell": cell, "atomic_numbers": torch.tensor([6])}
    for pbc in (True, torch.tensor([True, True, False])):
        [atoms] = structures_of({**given, "pbc": pbc})
        np.testing.assert_allclose(atoms.cell.array, cell.T)
        assert atoms.pbc.tolist() == torch.as_tensor(pbc).expand(3).tolist()


def test_atoms_belong_to_the_systems_that_own_them() -> None:
    cells = torch.stack([torch.eye(3), 2 * torch.eye(3)])
    numbers, owners = torch.tensor([1, 6, 8]), torch.tensor([0, 1, 1])
    positions = torch.arange(9.0).reshape(3, 3)
    state = SimpleNamespace(positions=positions, cell=cells, atomic_numbers=numbers, pbc=True, system_idx=owners)
    first, second = structures_of(state)
    assert (first.numbers.tolist(), second.numbers.tolist()) == ([1], [6, 8])
    assert second.positions.tolist() == [[3, 4, 5], [6, 7, 8]]
    assert second.cell.array.tolist() == [[2, 0, 0], [0, 2, 0], [0, 0, 2]]


def test_torch_sim_that_is_not_here_is_said(monkeypatch: pytest.MonkeyPatch, toy: ep.Potential) -> None:
    monkeypatch.setitem(sys.modules, "torch_sim", None)
    torch_sim_model._model_class.cache_clear()
    with pytest.raises(EquipruneError, match=r"cannot be loaded .* pip install 'equiprune\[torch-sim\]'"):
        ep.torch_sim_model(toy)
