"""Real SevenNet-l3i5: every pruning is exact, and lands on the published sizes."""

import pytest
import torch
from ase import Atoms
from exports import ODD
from numpy.random import default_rng

import equiprune as ep
from equiprune.testing import assert_same_predictions, random_plan
from equiprune.verification.physics import compare
from equiprune.verification.second_derivatives import assert_second_derivatives

pytestmark = pytest.mark.usefixtures("plain_code")

SEVEN = "O,Na,H,Cl,Cu,Si,C"
"""Seven elements, in another order than the model's."""

PLANS = {
    "node and edge lmax 2 (SevenNet-0)": ([ep.Lmax(2), ep.EdgeLmax(2)], 842_440),
    "node lmax 2 only": ([ep.Lmax(2)], 882_376),
    "edge lmax 2 only": ([ep.EdgeLmax(2)], 986_824),
    "lmax 1": ([ep.Lmax(1), ep.EdgeLmax(1)], 599_752),
    "scalars only": ([ep.Lmax(0), ep.EdgeLmax(0)], 329_416),
    "half width": ([ep.HiddenIrreps.parse("64x0e+32x1e+16x2e"), ep.EdgeLmax(2)], 286_568),
    "other counts everywhere, l = 1 missing, 7 elements": (
        [ep.HiddenIrreps.parse(ODD), ep.Elements.parse(SEVEN)],
        355_139,
    ),
    "7 elements": ([ep.Elements.parse(SEVEN)], 1_160_648),
    "radial network 64,64 to 40,24": ([ep.RadialWidth((40, 24))], None),
    "8 to 5 radial functions": ([ep.RadialBasis(5)], None),
}


@pytest.fixture(scope="module")
def scores(parent: ep.Potential, probes: list[Atoms]) -> ep.ImportanceScores:
    return ep.calibrate(parent, probes)


@pytest.mark.parametrize("name", PLANS)
def test_masked_equals_sliced(
    name: str, parent: ep.Potential, probes: list[Atoms], scores: ep.ImportanceScores
) -> None:
    targets, size = PLANS[name]
    plan = ep.allocate(parent, targets, scores)
    child = ep.prune(parent, plan)
    assert size in (None, child.parameters(trainable_only=True))
    assert_same_predictions(ep.masked(parent, plan), child, probes)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.supports("SevenNet (7net-0, 7net-l3i5)", "cuts")
@pytest.mark.supports("SevenNet (7net-0, 7net-l3i5)", "exact")
def test_random_heterogeneous_plans_are_exact(seed: int, parent: ep.Potential) -> None:
    """Different counts per interaction and l, whole l missing, elements reordered, radial widths: all at once."""
    plan = random_plan(parent, default_rng(seed))
    child = ep.prune(parent, plan)
    structures = list(ep.probe_structures(child.elements).values())
    assert_same_predictions(ep.masked(parent, plan), child, structures)
    assert max(values for values in ep.equivariance(child, structures).values()) < 1e-11


def test_removing_elements_changes_nothing(parent: ep.Potential, probes: list[Atoms]) -> None:
    child = ep.prune(parent, ep.allocate(parent, [ep.Elements.parse(SEVEN), ep.Lossless()]))
    assert child.parameters() < parent.parameters()
    assert max(compare(parent, child, probes, "lossless").values()) < 1e-10


def test_half_the_parameters_is_what_one_asks_for(parent: ep.Potential, scores: ep.ImportanceScores) -> None:
    child = ep.prune(parent, ep.allocate(parent, [ep.Parameters(0.5)], scores, round_to=16))
    assert 0.45 < child.parameters(trainable_only=True) / 1_171_144 <= 0.5
    assert all(mul % 16 == 0 for irreps in child.architecture.irreps for mul, _ in irreps)


def test_a_pruned_readout_is_refactorised_exactly(parent: ep.Potential, probes: list[Atoms]) -> None:
    """Upstream fixes the readout's inner width to half of its input; the product of the two maps survives any width."""
    kept = {ir: [0, 5, 77] for _, ir in parent.architecture.irreps[-1]}
    plan = ep.PruningPlan({"node_feats.5": ep.BlockMask.keep(parent.architecture.irreps[-1], kept)})
    child = ep.prune(parent, plan)
    assert child.architecture.readout_width == 1
    assert_same_predictions(ep.masked(parent, plan), child, probes)


def test_the_first_interaction_may_be_pruned_in_float32_too(parent: ep.Potential, probes: list[Atoms]) -> None:
    """Weights are sliced in float64 and rounded once: float32 agrees to float32 rounding."""
    single = parent.with_dtype(torch.float32)
    plan = ep.allocate(single, [ep.Lmax(2), ep.EdgeLmax(2)])
    difference = compare(ep.masked(single, plan), ep.prune(single, plan), probes, "float32")
    assert difference["float32.energy"] < 1e-4
    assert difference["float32.forces"] < 1e-4


def test_its_hessian_is_the_slope_of_its_forces(parent: ep.Potential, probes: list[Atoms]) -> None:
    """On a published model, whose numbers are of another size than random ones; two atoms are enough."""
    assert len(probes[1]) == 2
    assert_second_derivatives(parent, probes[1:2])
