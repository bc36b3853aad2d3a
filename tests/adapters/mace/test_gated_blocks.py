"""Blocks of MACE-MH: messages pass a gate, radial networks see the species, and a layer norm holds their neurons.

Small random models that upstream's own constructor makes with the settings of MACE-MH-1: features wider than what
enters the convolutions, a product that knows no species, the cutoff on the messages, several heads. No official file
was at hand.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from plain_code import plain, stock
from random_mace import ELEMENTS, GATED, random_checkpoint
from stock_modules import assert_stock, block, constructed, unpickled
from torch import nn

import equiprune as ep
from equiprune.adapters.growth import GrowRadialBasis
from equiprune.adapters.mace import MaceAdapter
from equiprune.adapters.mace.build import upstream
from equiprune.adapters.mace.layer_norms import DifferentiableLayerNorm
from equiprune.errors import EquipruneError
from equiprune.testing import assert_same_predictions
from equiprune.training.optimisation import Optimisation
from equiprune.verification.random_plans import random_plan

with upstream(torch.float64):
    from e3nn import o3

GATED_BLOCK = block("RealAgnosticResidualNonLinearInteractionBlock")
LIKE_MH: dict[str, Any] = {
    "interaction_cls": GATED_BLOCK,
    "interaction_cls_first": GATED_BLOCK,
    "edge_irreps": o3.Irreps("3x0e+3x1o"),
    "use_edge_irreps_first": True,
    "use_agnostic_product": True,
    "apply_cutoff": False,
    "distance_transform": "Agnesi",
    "pair_repulsion": True,
    "heads": ["omat", "omol"],
    "atomic_energies": np.zeros((2, len(ELEMENTS))),
    "atomic_inter_scale": np.ones(2),
    "atomic_inter_shift": np.zeros(2),
}


@pytest.fixture(scope="module")
def parent() -> Iterator[ep.Potential]:
    """A random model like MACE-MH, of plain code, as all that is made of it meanwhile."""
    with plain():
        yield ep.Potential.create(MaceAdapter(), random_checkpoint(GATED), torch.float64, "omat")


@pytest.fixture(scope="module")
def crystals(parent: ep.Potential) -> list[Atoms]:
    """A molecule and an ionic crystal."""
    found = ep.probe_structures(parent.elements)
    return [found["ionic"], found["molecule"]]


@pytest.fixture(scope="module")
def scores(parent: ep.Potential) -> ep.ImportanceScores:
    """Each space has an order of its own."""
    return ep.data_free_scores(parent, ep.Random(3))


@pytest.fixture(scope="module")
def module() -> Any:
    """A model by upstream's constructor, of the code that anybody has."""
    return stock()(constructed)(LIKE_MH)


@pytest.mark.supports("MACE-MH-0, MACE-MH-1 (random weights)", "opens")
def test_upstreams_file_opens_with_its_hyperparameters_and_predictions(
    module: Any, parent: ep.Potential, crystals: list[Atoms], tmp_path: Path
) -> None:
    assert module.load_state_dict(dict(parent.checkpoint.weights), strict=False).unexpected_keys == []
    torch.save(module, tmp_path / "user.model")
    read = MaceAdapter().read(tmp_path / "user.model")
    assert read.architecture == GATED
    assert read.architecture.why_not_stock == ""
    assert read.weights.keys() == dict(module.named_parameters()).keys() | parent.checkpoint.weights.keys()
    assert_stock(parent, module, crystals)


TARGETS: dict[str, list[Any]] = {
    "channels": [ep.Channels(3)],
    "l, spherical harmonics": [ep.Lmax(0), ep.EdgeLmax(1)],
    "elements, radial functions, order": [ep.Elements((1, 8, 11, 17)), ep.RadialBasis(3), ep.Correlation((1, 1))],
}


@pytest.mark.supports("MACE-MH-0, MACE-MH-1 (random weights)", "cuts")
@pytest.mark.supports("MACE-MH-0, MACE-MH-1 (random weights)", "exact")
@pytest.mark.parametrize("name", TARGETS)
def test_a_child_equals_its_masked_parent(
    name: str, parent: ep.Potential, crystals: list[Atoms], scores: ep.ImportanceScores
) -> None:
    plan = ep.allocate(parent, TARGETS[name], scores)
    with plain():
        child = ep.prune(parent, plan)
        assert child.architecture.why_not_stock == ""
        assert child.parameters() < parent.parameters()
        assert_same_predictions(ep.masked(parent, plan), child, crystals)


def test_each_space_may_keep_channels_of_its_own(parent: ep.Potential) -> None:
    """Other numbers in every space, of any l, and other elements: an assembled model."""
    plan = random_plan(parent, np.random.default_rng(2))
    with plain():
        child = ep.prune(parent, plan)
        assert child.architecture.why_not_stock
        structures = list(ep.probe_structures(child.elements).values())[:2]
        assert_same_predictions(ep.masked(parent, plan), child, structures)


@pytest.mark.supports("MACE-MH-0, MACE-MH-1 (random weights)", "trains")
@pytest.mark.supports("MACE-MH-0, MACE-MH-1 (random weights)", "exports")
@pytest.mark.supports("MACE-MH-0, MACE-MH-1 (random weights)", "stock tool")
def test_one_head_retrained_is_an_ordinary_model_that_stock_mace_opens(
    parent: ep.Potential, crystals: list[Atoms], tmp_path: Path
) -> None:
    """Exactly the head, without the others, in a file like any other, as users of LAMMPS ask for it."""
    child = ep.prune(parent, ep.allocate(parent, [ep.Heads(("omat",))]))
    assert (child.architecture.heads, child.architecture.head_name) == ((), "omat")
    assert_same_predictions(parent, child, crystals)
    labelled = list(ep.label(parent, crystals))
    recipe = ep.Recipe(ep.PRESETS["mace-universal"].objective, Optimisation(1e-3, average=None), epochs=1, batch_size=2)
    trained = ep.train(child, labelled, recipe, tmp_path / "run")
    assert [step["step"] for step in trained.checkpoint.history] == ["prune", "train"]
    before, after = (model.checkpoint.weights["interactions.1.alpha"] for model in (child, trained))
    assert not torch.equal(before, after)
    ep.save(trained, tmp_path / "head.model")
    assert_stock(ep.load(tmp_path / "head.model", dtype=torch.float64), unpickled(tmp_path / "head.model"), crystals)


def test_neurons_under_a_layer_norm_are_refused_by_name(parent: ep.Potential, scores: ep.ImportanceScores) -> None:
    with pytest.raises(EquipruneError, match="RealAgnosticResidualNonLinearInteractionBlock has a LayerNorm"):
        ep.allocate(parent, [ep.RadialWidth((4,))], scores)


def test_its_radial_networks_are_not_drawn_anew(parent: ep.Potential) -> None:
    with pytest.raises(EquipruneError, match=r"networks of a RealAgnosticResidualNonLinear\w+ cannot be drawn anew"):
        MaceAdapter().grow(parent.architecture, parent.checkpoint.weights, GrowRadialBasis(9, preserve=False))


def test_layer_norms_have_right_third_derivatives() -> None:
    """Those of torch's are wrong; should this fail, `DifferentiableLayerNorm` can go."""
    torchs, ours = nn.LayerNorm(5, dtype=torch.float64), DifferentiableLayerNorm(5, dtype=torch.float64)
    given, *directions = torch.randn(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def slopes(norm: nn.Module, given: torch.Tensor) -> list[torch.Tensor]:
        """The function and its first three derivatives along the directions."""
        given = given.clone().requires_grad_()
        values = [norm(given).tanh().pow(3).sum()]
        for direction in directions:
            [gradient] = torch.autograd.grad(values[-1], given, create_graph=True)
            values.append((gradient * direction).sum())
        return [value.detach() for value in values]

    for mine, theirs in zip(slopes(ours, given)[:3], slopes(torchs, given)[:3], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    moved = [slopes(ours, given + sign * 1e-5 * directions[2])[2] for sign in (1, -1)]
    difference = (moved[0] - moved[1]) / 2e-5
    torch.testing.assert_close(slopes(ours, given)[3], difference, rtol=1e-7, atol=1e-7)
    assert (slopes(torchs, given)[3] - difference).abs() > 0.1


def test_another_density_network_is_refused(module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = module.interactions[1].density_fn
    monkeypatch.setattr(network, "hs", [network.hs[0], 32, 1])
    torch.save(module, tmp_path / "other.model")
    with pytest.raises(EquipruneError, match="density in interaction 1 has not 64 hidden neurons"):
        MaceAdapter().read(tmp_path / "other.model")
