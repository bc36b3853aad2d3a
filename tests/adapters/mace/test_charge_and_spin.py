"""MACE-OMOL: charge and spin of a structure are embedded, and added to the species.

Small random models that upstream's own constructor makes with the settings of MACE-OMOL-0 (mace_omol/mace-omol.sh of
ACEsuit/mace-foundations): gated interactions, two instead of three, features wider than what enters the second
convolution, tables of charge and spin, one head. No official file was at hand.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from official import omol
from plain_code import plain, stock
from random_mace import CHARGED, random_checkpoint
from stock_modules import assert_stock, block, constructed, unpickled

import equiprune as ep
from equiprune.adapters import Checkpoint
from equiprune.adapters.mace import MaceAdapter
from equiprune.adapters.mace.build import upstream
from equiprune.adapters.mace.embeddings import Embedding, embeddings_of
from equiprune.errors import CheckpointError, StructureError, TargetError
from equiprune.evaluation.engines import engine_named
from equiprune.potentials.potential import Potential
from equiprune.testing import assert_same_predictions
from equiprune.training.optimisation import Optimisation
from equiprune.verification.random_plans import random_plan

with upstream(torch.float64):
    from e3nn import o3

GATED_BLOCK = block("RealAgnosticResidualNonLinearInteractionBlock")
LIKE_OMOL: dict[str, Any] = {
    "interaction_cls": GATED_BLOCK,
    "interaction_cls_first": GATED_BLOCK,
    "edge_irreps": o3.Irreps("3x0e+3x1o"),
    "apply_cutoff": False,
    "heads": ["omol"],
    "embedding_specs": {
        "total_spin": {"type": "categorical", "per": "graph", "in_dim": 1, "emb_dim": 6, "num_classes": 7, "offset": 0},
        "total_charge": {
            "type": "categorical", "per": "graph", "in_dim": 1, "emb_dim": 5, "num_classes": 9, "offset": 4,
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def parent() -> Iterator[ep.Potential]:
    """A random model like MACE-OMOL, of plain code, as all that is made of it meanwhile."""
    with plain():
        yield ep.Potential.create(MaceAdapter(), random_checkpoint(CHARGED), torch.float64)


@pytest.fixture(scope="module")
def structures(parent: ep.Potential) -> list[Atoms]:
    """One molecule in four states, the first of which is what a structure has that says nothing, and a crystal."""
    found = ep.probe_structures(parent.elements)
    molecules = [found["molecule"].copy() for _ in range(4)]
    for atoms, info in zip(molecules, ({}, {"charge": 1, "spin": 2}, {"charge": -4.0}, {"spin": 6}), strict=True):
        atoms.info = info
    return [*molecules, found["ionic"]]


@pytest.fixture(scope="module")
def scores(parent: ep.Potential) -> ep.ImportanceScores:
    """Each space has an order of its own."""
    return ep.data_free_scores(parent, ep.Random(3))


@pytest.mark.supports("MACE-OMOL-0 (random weights)", "opens")
def test_upstreams_file_opens_with_its_hyperparameters_and_predictions(
    parent: ep.Potential, structures: list[Atoms], tmp_path: Path
) -> None:
    module = stock()(constructed)(LIKE_OMOL)
    assert module.load_state_dict(dict(parent.checkpoint.weights), strict=False).unexpected_keys == []
    torch.save(module, tmp_path / "user.model")
    read = MaceAdapter().read(tmp_path / "user.model")
    assert read.architecture == CHARGED
    assert read.architecture.why_not_stock == ""
    assert read.weights.keys() == dict(module.named_parameters()).keys() | parent.checkpoint.weights.keys()
    assert all(torch.equal(weight, parent.checkpoint.weights[name]) for name, weight in read.weights.items())
    assert_stock(parent, module, structures)


def test_each_structure_has_its_own_charge_and_spin(parent: ep.Potential, structures: list[Atoms]) -> None:
    """Each changes energy and forces by much; alone and in a batch, and by the calculator, which notices it."""
    together = parent.predict(structures[:4])
    for i, j in ((0, 1), (0, 2), (0, 3), (1, 2)):
        assert abs(together[i].energy - together[j].energy) > 0.1
        assert abs(together[i].forces - together[j].forces).max() > 1e-2
    atoms = structures[0].copy()
    atoms.calc = parent.calculator()
    for expected, given in zip(together, structures[:4], strict=True):
        atoms.info = dict(given.info)
        assert atoms.get_potential_energy() == pytest.approx(expected.energy.item(), abs=1e-10)
        np.testing.assert_allclose(atoms.get_forces(), expected.forces, atol=1e-10)


TARGETS: dict[str, list[Any]] = {
    "channels": [ep.Channels(3)],
    "l, spherical harmonics, elements": [ep.Lmax(0), ep.EdgeLmax(1), ep.Elements((1, 8, 11, 17)), ep.RadialBasis(3)],
    "interactions, order": [ep.Interactions(1), ep.Correlation(1)],
}


@pytest.mark.supports("MACE-OMOL-0 (random weights)", "cuts")
@pytest.mark.supports("MACE-OMOL-0 (random weights)", "exact")
@pytest.mark.parametrize("name", TARGETS)
def test_a_child_equals_its_masked_parent(
    name: str, parent: ep.Potential, structures: list[Atoms], scores: ep.ImportanceScores
) -> None:
    plan = ep.allocate(parent, TARGETS[name], scores)
    with plain():
        child = ep.prune(parent, plan)
        assert child.architecture.why_not_stock == ""
        assert child.architecture.embeddings == CHARGED.embeddings
        assert child.parameters() < parent.parameters()
        assert_same_predictions(ep.masked(parent, plan), child, structures)


def test_each_space_may_keep_channels_of_its_own(parent: ep.Potential) -> None:
    """Other numbers in every space, of any l, and other elements: an assembled model."""
    plan = random_plan(parent, np.random.default_rng(2))
    with plain():
        child = ep.prune(parent, plan)
        assert child.architecture.why_not_stock
        charged = [atoms.copy() for atoms in list(ep.probe_structures(child.elements).values())[:2]]
        charged[0].info = {"charge": 2, "spin": 3}
        assert_same_predictions(ep.masked(parent, plan), child, charged)


@pytest.mark.supports("MACE-OMOL-0 (random weights)", "trains")
@pytest.mark.supports("MACE-OMOL-0 (random weights)", "exports")
@pytest.mark.supports("MACE-OMOL-0 (random weights)", "stock tool")
def test_a_smaller_model_learns_of_its_parent_and_stock_mace_opens_it(
    parent: ep.Potential, structures: list[Atoms], scores: ep.ImportanceScores, tmp_path: Path
) -> None:
    with plain():
        child = ep.prune(parent, ep.allocate(parent, [ep.Elements((1, 8, 11, 17))], scores))
        labelled = list(ep.label(parent, structures))
        assert [atoms.info.get("charge") for atoms in labelled] == [None, 1, -4.0, None, None]
        energies = [atoms.get_potential_energy() for atoms in labelled[:4]]
        assert np.ptp(energies) > 0.1
        recipe = ep.Recipe(
            ep.PRESETS["mace-universal"].objective, Optimisation(1e-3, average=None), epochs=1, batch_size=5
        )
        trained = ep.train(child, labelled, recipe, tmp_path / "run")
        ep.save(trained, tmp_path / "small.model")
        back = ep.load(tmp_path / "small.model", dtype=torch.float64)
    for name in ("embedders.total_spin.weight", "embedders.total_charge.weight", "project.0.weight"):
        before, after = (model.checkpoint.weights[f"joint_embedding.{name}"] for model in (child, trained))
        assert not torch.equal(before, after)
    assert back.architecture == child.architecture
    assert_stock(back, unpickled(tmp_path / "small.model"), structures)


WRONG = {
    "beyond the table": ({"charge": 5}, "has charge 5. This model takes a whole number from -4 to 4"),
    "a part": ({"charge": 0.5}, "charge 0.5"),
    "not a number": ({"spin": float("nan")}, "has spin nan. This model takes a whole number from 0 to 6"),
    "a word": ({"spin": "singlet"}, "spin 'singlet'"),
    "a truth value": ({"charge": True}, "charge True"),
    "several": ({"charge": np.zeros(2)}, "charge [0. 0.]"),
    "upstream's name for training": ({"total_charge": 1}, "has total_charge in its info, and this model reads charge"),
}


@pytest.mark.parametrize("name", WRONG)
def test_another_charge_or_spin_is_refused(name: str, parent: ep.Potential) -> None:
    info, says = WRONG[name]
    with pytest.raises(StructureError) as caught:
        parent.predict([Atoms("OH", positions=[[0, 0, 0], [0, 0, 1]]), Atoms("H", info=info)])
    assert str(caught.value).startswith("Structure 1 (H) has ")
    assert says in str(caught.value)


def test_symmetrix_sees_neither(parent: ep.Potential) -> None:
    with pytest.raises(TargetError, match="'symmetrix' does not see the spin and the charge that this model reads"):
        engine_named("symmetrix").prepared(parent, [1, 8])


OF_ATOMS = {"type": "continuous", "per": "atom", "in_dim": 1, "emb_dim": 4}
SPECIFICATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "elec_temp": ({**OF_ATOMS, "per": "graph"}, "'elec_temp' (embedding_specs: per graph, in_dim 1); total_charge and"),
    "total_charge": (OF_ATOMS, "'total_charge' (embedding_specs: per atom, in_dim 1)"),
    "total_spin": ({"type": "sinusoidal", "per": "graph", "emb_dim": 4}, "'total_spin' as sinusoidal; categorical and"),
}


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_other_embeddings_are_refused(name: str) -> None:
    specification, says = SPECIFICATIONS[name]
    with pytest.raises(CheckpointError) as caught:
        embeddings_of({name: specification})
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "embedding",
    [Embedding("total_charge", 4, classes=3, offset=1, key="charge"), Embedding("total_spin", 5, bias=False)],
    ids=str,
)
def test_a_specification_is_read_as_it_is_written(embedding: Embedding) -> None:
    assert embeddings_of({embedding.name: embedding.specification}) == (embedding,)


@pytest.mark.parametrize(
    ("target", "parameters"),
    [
        (ep.Channels(1024), 55_133_913),
        (ep.Channels(512), 18_440_921),
        (ep.Channels(256), 7_172_313),
        (ep.Channels(128), 3_307_481),
        (ep.Channels(64), 1_389_273),
        (ep.Elements((1, 6, 7, 8)), 50_927_321),
    ],
    ids=str,
)
def test_a_model_of_the_official_size_is_counted(target: Any, parameters: int) -> None:
    """All that is left is stock; the first number is what upstream's constructor builds. Tables keep their width."""
    whole = Potential(MaceAdapter(), Checkpoint(omol(1024), {}, licence="MIT"), torch.nn.Module(), torch.float32)
    plan = ep.allocate(whole, [target], ep.data_free_scores(whole, ep.Random(0)))
    left = MaceAdapter().shrink(whole.architecture, plan)
    assert left.why_not_stock == ""
    assert ep.count_parameters(MaceAdapter(), left).all == parameters
    embedded = 302 * 1024 + 2 * 1024 * left.channels
    assert parameters - ep.count_parameters(MaceAdapter(), replace(left, embeddings=())).all == embedded
