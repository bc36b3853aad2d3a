"""Every pruning of the paper's MACE tables, from random parents with the official hyperparameters.

A pruned model must have exactly the parameters and buffers, by name and shape, of a model that upstream's constructor
builds for the target's hyperparameters. Numbers of parameters are the paper's.
"""

import pytest
import torch
from official import mp, off, omat

import equiprune as ep
from equiprune.adapters import Checkpoint
from equiprune.adapters.mace import MaceAdapter
from equiprune.adapters.mace.architecture import MaceArchitecture
from equiprune.blocks import BlockMask, Role
from equiprune.potentials.potential import Potential
from equiprune.pruning.growing import grow_checkpoint
from equiprune.pruning.slicing import prune_checkpoint

pytestmark = pytest.mark.usefixtures("plain_code")

ADAPTER = MaceAdapter()


def random_weights(arch: MaceArchitecture) -> Checkpoint:
    """Any weights of the right shapes; nothing is built."""
    generator = torch.Generator().manual_seed(0)
    layouts = ADAPTER.layouts(arch)
    weights = {name: torch.randn(layout.shape, generator=generator) for name, layout in layouts.items()}
    return Checkpoint(arch, weights, licence="MIT", source="random")


def unbuilt(checkpoint: Checkpoint) -> Potential:
    """A potential that is only asked for its spaces and weights."""
    return Potential(ADAPTER, checkpoint, torch.nn.Module(), torch.float32)


def pruned(arch: MaceArchitecture, *targets: ep.pruning.targets.Target) -> Checkpoint:
    parent = random_weights(arch)
    scores = ep.data_free_scores(unbuilt(parent), ep.Random(0))
    plan = ep.allocate(unbuilt(parent), targets, scores)
    return prune_checkpoint(ADAPTER, parent, plan, torch.float32)


def built(arch: MaceArchitecture) -> tuple[int, dict[str, tuple[int, ...]]]:
    """Parameters, and shapes by name, of what upstream's constructor builds."""
    assert arch.why_not_stock == ""
    module = ADAPTER.build(arch, torch.float32)
    return sum(p.numel() for p in module.parameters()), {n: tuple(t.shape) for n, t in module.state_dict().items()}


@pytest.mark.parametrize(
    ("arch", "parameters"),
    [
        (mp(2), 5_725_072),
        (mp(1), 4_688_656),
        (mp(0), 3_847_696),
        (mp(1, 256, bessel=8), 15_847_440),
        (mp(1, bessel=8), 4_688_400),
        (off(2, 224), 4_707_312),
        (off(1, 128), 1_428_368),
        (omat(0), 8_222_244),
        (mp(0, interactions=1), 1_928_576),
    ],
    ids=[
        "MP L2",
        "MP L1",
        "MP L0",
        "MP L1 C256",
        "MP L1 small embedding",
        "OFF L",
        "OFF M",
        "OMAT L0",
        "1 interaction",
    ],
)
def test_official_models_have_the_papers_numbers_of_parameters(arch: MaceArchitecture, parameters: int) -> None:
    assert ep.count_parameters(ADAPTER, arch).all == parameters


PRUNINGS = {
    "L2 C128 to L0 C128": (mp(2), [ep.Lmax(0)], mp(0), 3_847_696),
    "L2 C128 to L1 C128": (mp(2), [ep.Lmax(1)], mp(1), 4_688_656),
    "L1 C256 to L1 C128": (mp(1, 256, 8), [ep.Channels(128)], mp(1, bessel=8), 4_688_400),
    "L1 C256 to L0 C128": (mp(1, 256, 8), [ep.Channels(128), ep.Lmax(0)], mp(0, bessel=8), 3_847_440),
    "large to small embedding": (mp(1), [ep.RadialBasis(8)], mp(1, bessel=8), 4_688_400),
    "OFF large to medium": (off(2, 224), [ep.Channels(128), ep.Lmax(1)], off(1, 128), 1_428_368),
    "OMAT L1 to L0": (omat(1), [ep.Lmax(0)], omat(0), 8_222_244),
    "depth 2 to 1, dead l > 0 dropped": (mp(2), [ep.Interactions(1)], mp(0, interactions=1), 1_928_576),
}


@pytest.mark.parametrize("name", PRUNINGS)
def test_prunings_land_on_what_upstream_builds(name: str) -> None:
    parent, targets, wanted, parameters = PRUNINGS[name]
    child = pruned(parent, *targets)
    count, shapes = built(wanted)
    assert child.architecture == wanted
    found = {n: tuple(w.shape) for n, w in child.weights.items()}
    assert found == {n: shapes.get(n) for n in found}
    assert count == sum(w.numel() for n, w in child.weights.items() if not ADAPTER.layouts(wanted)[n].buffer)
    assert count == parameters


def test_depth_has_the_papers_numbers() -> None:
    """3,453,696 counts the l > 0 outputs of the kept product, which nothing reads any more; without them it is less.

    The non-linear readout of table 9 adds 128 * 16 + 16 - 128 parameters.
    """
    parent = random_weights(mp(2))
    spaces = {space.name: space for space in ADAPTER.spaces(parent.architecture)}
    [depth] = [space for space in spaces.values() if space.role == Role.INTERACTIONS]
    only_depth = ep.PruningPlan({depth.name: BlockMask.keep(depth.irreps, {depth.irreps.entries[0][1]: [0]})})
    kept = prune_checkpoint(ADAPTER, parent, only_depth, torch.float32)
    assert ep.count_parameters(ADAPTER, kept.architecture).all == 3_453_696
    grown = grow_checkpoint(ADAPTER, kept, ep.NonlinearReadout(16), torch.float32)
    assert ep.count_parameters(ADAPTER, grown.architecture).all == 3_455_632
    dropped = pruned(mp(2), ep.Interactions(1))
    assert ep.count_parameters(ADAPTER, dropped.architecture).all == 1_928_576
