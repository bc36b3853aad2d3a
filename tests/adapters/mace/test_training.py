"""A step of our training is a step of MACE's: the same loss and the same gradient, on a stock module."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from backward_pass import assert_quicker_and_the_same
from feature_loss import assert_features_are_learnt
from plain_code import plain
from random_mace import random_checkpoint, stock

import equiprune as ep
from equiprune.adapters.mace import MaceAdapter
from equiprune.training.batches import with_labels
from equiprune.training.objective import Objective, mace_universal, mace_weighted
from equiprune.training.optimisation import Optimisation


@pytest.fixture(scope="module")
def model() -> ep.Potential:
    return ep.Potential.create(MaceAdapter(), random_checkpoint(stock(lmax=1)), torch.float64)


@pytest.fixture(scope="module")
def structures(model: ep.Potential) -> list[Atoms]:
    """Labels of another model: errors are large and of every sign. Crystals only, as MACE's stress loss wants."""
    other = ep.Potential.create(MaceAdapter(), random_checkpoint(stock(lmax=1), seed=5), torch.float64)
    crystals = [a for a in ep.probe_structures(model.elements).values() if a.pbc.all()]
    return list(ep.label(other, ep.augmented(crystals[:3], ep.Augmentation(copies=1, strain=0.05))))


def upstream(model: ep.Potential, structures: list[Atoms], loss: Any) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradient by MACE's own data, forward pass and loss."""
    from mace import data
    from mace.tools import AtomicNumberTable, torch_geometric

    table = AtomicNumberTable(list(model.architecture.elements))
    graphs = []
    for atoms in structures:
        config = data.config_from_atoms(atoms)
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        config.properties = {**results, "stress": atoms.get_stress(voigt=False)}
        config.property_weights = {"energy": 1.0, "forces": 1.0, "stress": 1.0}
        graphs.append(data.AtomicData.from_config(config, z_table=table, cutoff=model.architecture.cutoff))
    [graph] = torch_geometric.dataloader.DataLoader(graphs, batch_size=len(graphs))
    predicted = model.module(graph.to_dict(), training=True, compute_stress=True)
    value = loss(pred=predicted, ref=graph)
    weights = [p for p in model.module.parameters() if p.requires_grad]
    return value.item(), list(torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True))


def ours(model: ep.Potential, structures: list[Atoms], objective: Objective) -> tuple[float, list[torch.Tensor]]:
    whole = with_labels(model.graph(structures), structures)
    predicted = model.for_training().train()(*whole.inputs)
    sums = objective.sums(predicted, whole.targets, whole.graph)
    value = sum((part.total / part.count for part in sums.values()), torch.zeros(()))
    weights = [p for p in model.module.parameters() if p.requires_grad]
    return value.item(), list(torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize(
    ("objective", "name", "settings"),
    [
        (mace_universal(10, 1, 1), "UniversalLoss", {"huber_delta": 0.01}),
        (mace_weighted(10, 1, 1), "WeightedEnergyForcesStressLoss", {}),
    ],
    ids=["universal", "weighted"],
)
def test_loss_and_gradient_are_those_of_mace(
    objective: Objective, name: str, settings: dict[str, float], model: ep.Potential, structures: list[Atoms]
) -> None:
    from mace import modules

    loss = getattr(modules, name)(energy_weight=1.0, forces_weight=10.0, stress_weight=1.0, **settings)
    torch.set_default_dtype(torch.float64)  # mace makes its graphs in it
    try:
        expected, gradient = upstream(model, structures, loss)
    finally:
        torch.set_default_dtype(torch.float32)
    found, own = ours(model, structures, objective)
    assert expected > 0.01
    assert found == pytest.approx(expected, rel=1e-9)
    for mine, theirs in zip(own, gradient, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.supports("MACE, other blocks and settings (random weights)", "trains")
@pytest.mark.supports("MACE, other blocks and settings (random weights)", "stock tool")
def test_a_trained_model_is_a_mace_model(tmp_path: Path, model: ep.Potential, structures: list[Atoms]) -> None:
    """Pruned, retrained on labels, better than before, and opened by MACE's own calculator."""
    child = ep.prune(model, ep.allocate(model, [ep.Channels(3)], ep.data_free_scores(model, ep.Magnitude())))
    recipe = ep.Recipe(
        ep.PRESETS["mace-universal"].objective, Optimisation(1e-2, average=None), epochs=10, batch_size=2
    )
    trained = ep.train(child, structures, recipe, tmp_path / "run")
    before, after = ep.evaluate({"before": child, "after": trained}, structures)
    assert after.mae("forces") < 0.9 * before.mae("forces")
    ep.save(trained, tmp_path / "trained.model")
    stock = trained.adapter.stock_energies(tmp_path / "trained.model", structures, None)
    np.testing.assert_allclose(stock, [p.energy.item() for p in trained.predict(structures)], atol=1e-8)


def test_training_has_a_quicker_backward_pass(model: ep.Potential, structures: list[Atoms]) -> None:
    assert_quicker_and_the_same(model.with_dtype(torch.float32), structures)


def test_features_of_the_parent_are_learnt(model: ep.Potential, structures: list[Atoms], tmp_path: Path) -> None:
    with plain():
        parent = ep.Potential.create(MaceAdapter(), model.checkpoint, torch.float64)
        child = ep.prune(parent, ep.allocate(parent, [ep.Channels(2)], ep.data_free_scores(parent, ep.Random(1))))
        assert_features_are_learnt(parent, child, structures[:4], tmp_path)
