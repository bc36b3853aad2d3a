"""Children of the published model equal their masked parent."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ase import Atoms
from nequix_files import published_file
from plain_code import plain

import equiprune as ep
from equiprune.testing import assert_same_predictions
from equiprune.training.optimisation import Optimisation

pytestmark = pytest.mark.slow

IRREPS = ep.HiddenIrreps.parse
PLANS = {
    "half width": [IRREPS("64x0e+32x1o+16x2e+16x3o")],
    "l up to 2": [ep.Lmax(2), ep.EdgeLmax(2)],
    "hidden l up to 1": [ep.Lmax(1)],
    "scalars": [ep.Lmax(0)],
    "harmonics up to 1": [ep.EdgeLmax(1)],
    "half of the neurons": [ep.RadialWidth((32,))],
    "6 radial functions": [ep.RadialBasis(6)],
    "no vectors": [IRREPS("128x0e+32x2e+32x3o")],
    "l = 0 and 3": [IRREPS("96x0e+32x3o")],
    "a small one": [IRREPS("48x0e+16x1o+8x2e"), ep.EdgeLmax(2), ep.RadialWidth((24,))],
    "a mixture": [IRREPS("100x0e+50x1o+20x2e+10x3o"), ep.EdgeLmax(2), ep.RadialBasis(7)],
    "a budget": [ep.Parameters(0.6)],
}


@pytest.fixture(scope="module")
def parent() -> Iterator[ep.Potential]:
    """Nequix OAM-1 in float64, of plain code, as all that is made of it meanwhile."""
    with plain():
        yield ep.load(published_file("nequix-oam-1"), dtype=torch.float64)


@pytest.fixture(scope="module")
def scores(parent: ep.Potential) -> ep.ImportanceScores:
    """Each space has an order of its own."""
    return ep.data_free_scores(parent, ep.Random(3))


@pytest.fixture(scope="module")
def probes(parent: ep.Potential) -> list[Atoms]:
    """An ionic and a covalent crystal."""
    found = ep.probe_structures(parent.elements)
    return [found["ionic"], found["covalent"]]


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.supports("Nequix (the official files)", "cuts")
@pytest.mark.supports("Nequix (the official files)", "exact")
def test_a_child_equals_its_masked_parent(
    name: str, parent: ep.Potential, scores: ep.ImportanceScores, probes: list[Atoms]
) -> None:
    plan = ep.allocate(parent, PLANS[name], scores)
    child = ep.prune(parent, plan)
    assert child.parameters() < parent.parameters()
    assert_same_predictions(ep.masked(parent, plan), child, probes)


@pytest.mark.supports("Nequix (the official files)", "trains")
def test_a_child_learns_from_the_published_model(parent: ep.Potential, probes: list[Atoms], tmp_path: Path) -> None:
    narrow = [IRREPS("24x0e+8x1o"), ep.EdgeLmax(1), ep.RadialWidth((8,))]
    child = ep.prune(parent, ep.allocate(parent, narrow, ep.data_free_scores(parent, ep.Magnitude())))
    labelled = list(ep.label(parent, probes))
    recipe = ep.Recipe(ep.PRESETS["sevennet"].objective, Optimisation(1e-2, average=None), epochs=8, batch_size=2)
    trained = ep.train(child, labelled, recipe, tmp_path / "run")
    before, after = ep.evaluate({"before": child, "after": trained}, labelled)
    assert after.mae("energy") < 0.5 * before.mae("energy")
    assert ep.load(tmp_path / "run" / "model", dtype=torch.float64).architecture == child.architecture


def test_elements_go_without_a_trace(parent: ep.Potential) -> None:
    """The first layer keeps what it sends, so that those that stay do not notice."""
    kept = ep.Elements.parse("Li,Ge,P,S")
    child = ep.prune(parent, ep.allocate(parent, [kept], assembled=True))
    assert (len(child.architecture.elements), child.architecture.first_channels) == (4, 89)
    assert_same_predictions(parent, child, list(ep.probe_structures(child.elements).values())[:2])
    with pytest.raises(ep.EquipruneError, match="its first layer sends 89 channels for 4 elements"):
        ep.allocate(parent, [kept])
