"""A step of our training is a step of SevenNet's: the same loss and the same gradient, on a stock module."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from backward_pass import assert_quicker_and_the_same
from feature_loss import assert_features_are_learnt

import equiprune as ep
from equiprune.training.batches import with_labels
from equiprune.training.objective import sevennet_huber
from equiprune.training.optimisation import Optimisation


@pytest.fixture(scope="module")
def parent() -> ep.Potential:
    return ep.load("7net-0")


@pytest.fixture(scope="module")
def child(parent: ep.Potential) -> ep.Potential:
    targets = [ep.HiddenIrreps.parse("16x0e+8x1e+4x2e"), ep.Elements.parse("O,Si,Cu")]
    return ep.prune(parent, ep.allocate(parent, targets, ep.data_free_scores(parent, ep.Magnitude())))


@pytest.fixture(scope="module")
def structures(parent: ep.Potential) -> list[Atoms]:
    crystals = [a for a in ep.probe_structures([8, 14, 29]).values() if a.pbc.all()]
    return list(ep.label(parent, ep.augmented(crystals[:3], ep.Augmentation(copies=1, strain=0.03))))


def upstream(model: ep.Potential, structures: list[Atoms]) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradient by SevenNet's own data, forward pass and losses."""
    from sevenn.atom_graph_data import AtomGraphData
    from sevenn.train.dataload import atoms_to_graph
    from sevenn.train.loss import get_loss_functions_from_config
    from torch_geometric.loader import DataLoader

    table = {z: i for i, z in enumerate(model.architecture.elements)}
    graphs = [
        AtomGraphData.from_numpy_dict(atoms_to_graph(a, model.architecture.cutoff, y_from_calc=True))
        for a in structures
    ]
    for graph in graphs:
        graph["x"] = torch.tensor([table[int(z)] for z in graph["atomic_numbers"]])
    [graph] = DataLoader(graphs, batch_size=len(graphs))
    config = {"loss": "Huber", "loss_param": {"delta": 0.01}, "is_train_stress": True, "use_weight": False}
    losses = get_loss_functions_from_config({**config, "force_loss_weight": 1.0, "stress_loss_weight": 0.01})
    model.module.train()
    output = model.module(graph)
    value = sum((definition.get_loss(output, model.module) * weight for definition, weight in losses), torch.zeros(1))
    return value.item(), gradients(value, model)


def ours(model: ep.Potential, structures: list[Atoms]) -> tuple[float, list[torch.Tensor]]:
    whole = with_labels(model.graph(structures), structures)
    sums = sevennet_huber(1.0, 0.01, 1.0).sums(model.for_training().train()(*whole.inputs), whole.targets, whole.graph)
    value = sum((part.total / part.count for part in sums.values()), torch.zeros(()))
    return value.item(), gradients(value, model)


def gradients(value: torch.Tensor, model: ep.Potential) -> list[torch.Tensor]:
    weights = [weight for weight in model.module.parameters() if weight.requires_grad]
    return list(torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True))


def test_loss_and_gradient_are_those_of_sevennet(child: ep.Potential, structures: list[Atoms]) -> None:
    """In float32, the only precision of SevenNet's own graphs."""
    expected, gradient = upstream(child, structures)
    found, own = ours(child, structures)
    assert expected > 0.001
    assert found == pytest.approx(expected, rel=1e-4)
    size = torch.cat([g.flatten() for g in gradient]).norm()
    for mine, theirs in zip(own, gradient, strict=True):
        assert (mine - theirs).norm() < 1e-4 * size


@pytest.mark.supports("SevenNet (7net-0, 7net-l3i5)", "trains")
@pytest.mark.supports("SevenNet (7net-0, 7net-l3i5)", "exports")
@pytest.mark.supports("SevenNet (7net-0, 7net-l3i5)", "stock tool")
def test_a_trained_model_is_a_sevennet(tmp_path: Path, child: ep.Potential, structures: list[Atoms]) -> None:
    """Retrained on labels, better than before, and opened by SevenNet's own calculator."""
    recipe = ep.Recipe(ep.PRESETS["sevennet"].objective, Optimisation(1e-2, average=None), epochs=10, batch_size=1)
    structures = structures[:2]
    trained = ep.train(child, structures, recipe, tmp_path / "run")
    before, after = ep.evaluate({"before": child, "after": trained}, structures)
    assert after.mae("forces") < 0.9 * before.mae("forces")
    ep.save(trained, tmp_path / "trained.pth")
    stock = trained.adapter.stock_energies(tmp_path / "trained.pth", structures, None)
    np.testing.assert_allclose(stock, [p.energy.item() for p in trained.predict(structures)], atol=1e-3)


def test_training_has_a_quicker_backward_pass(child: ep.Potential, structures: list[Atoms]) -> None:
    assert_quicker_and_the_same(child.with_dtype(torch.float32), structures)


def test_features_of_the_parent_are_learnt(
    parent: ep.Potential, child: ep.Potential, structures: list[Atoms], tmp_path: Path
) -> None:
    assert_features_are_learnt(parent, child, structures[:4], tmp_path)
