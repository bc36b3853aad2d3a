"""Blocks proven to contribute nothing: exactly those that were silenced, and what falls silent with them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from ase import Atoms

import equiprune as ep
from equiprune.adapters.toy import ToyAdapter
from equiprune.blocks import Role, Segment, WeightLayout
from equiprune.pruning.dead_blocks import dead_blocks, describe
from equiprune.testing import assert_same_predictions

SCALAR, VECTOR = ep.Irrep(0, 1), ep.Irrep(1, -1)
ADAPTER = ToyAdapter()


def changed(toy: ep.Potential, **weights: torch.Tensor) -> ep.Checkpoint:
    return replace(toy.checkpoint, weights={**toy.checkpoint.weights, **weights})


def zeroed(toy: ep.Potential, name: str, shape: tuple[int, ...], *index: int | slice, start: int = 0) -> torch.Tensor:
    """A weight whose dense block from ``start`` on, seen in this shape, is zero at the index."""
    weight = toy.checkpoint.weights[name].clone()
    block = weight.view(-1)[start : start + int(np.prod(shape))].view(shape)
    block[index] = 0
    return weight


EVERY = slice(None)


def test_nothing_is_dead_in_a_random_model(toy: ep.Potential) -> None:
    assert ep.dead_blocks(ADAPTER, toy.checkpoint) == {}
    assert ep.lossless_plan(ADAPTER, toy.checkpoint).keeps_all


def test_a_channel_that_nothing_produces_is_dead(toy: ep.Potential) -> None:
    checkpoint = changed(toy, embedding_weight=zeroed(toy, "embedding_weight", (4, 6), EVERY, 2))
    assert ep.dead_blocks(ADAPTER, checkpoint) == {"node_feats.0": {SCALAR: (2,)}}


def test_a_channel_that_nothing_reads_is_dead(toy: ep.Potential) -> None:
    checkpoint = changed(toy, readout_weight=zeroed(toy, "readout_weight", (5, 1), 3))
    assert ep.dead_blocks(ADAPTER, checkpoint) == {"node_feats.2": {SCALAR: (3,)}}


def test_a_vector_whose_gate_is_closed_is_dead(toy: ep.Potential) -> None:
    """Interaction 0 has 6 scalars, then a gate scalar per vector; tanh(0) = 0 closes the gate."""
    checkpoint = changed(
        toy,
        self_connection_0_weight=zeroed(toy, "self_connection_0_weight", (6, 10), EVERY, 6 + 1),
        linear_down_0_weight=zeroed(toy, "linear_down_0_weight", (6, 10), EVERY, 6 + 1),
    )
    assert ep.dead_blocks(ADAPTER, checkpoint) == {"node_feats.1": {VECTOR: (1,)}}


def test_a_channel_with_one_producer_left_is_alive(toy: ep.Potential) -> None:
    checkpoint = changed(toy, linear_down_0_weight=zeroed(toy, "linear_down_0_weight", (6, 10), EVERY, 0))
    assert ep.dead_blocks(ADAPTER, checkpoint) == {}


def test_a_path_that_the_radial_network_switches_off_is_not_read(toy: ep.Potential) -> None:
    """Scalars take the paths 0*0->0 (columns 0 to 5) and 0*1->1 (6 to 11) of interaction 0."""
    one_path = zeroed(toy, "radial_0_layer1_weight", (8, 12), EVERY, 4)
    assert ep.dead_blocks(ADAPTER, changed(toy, radial_0_layer1_weight=one_path)) == {}
    one_path[:, 6 + 4] = 0
    assert ep.dead_blocks(ADAPTER, changed(toy, radial_0_layer1_weight=one_path)) == {"edge_irreps.0": {SCALAR: (4,)}}


def test_death_spreads_to_what_only_the_dead_read(toy: ep.Potential) -> None:
    """Without readout weights nothing before the readout matters."""
    dead = ep.dead_blocks(ADAPTER, changed(toy, readout_weight=torch.zeros(5)))
    everything = {s.name: {ir: tuple(range(mul)) for mul, ir in s.irreps} for s in toy.spaces if s.scored}
    assert dead == everything


class Sigmoid(ToyAdapter):
    """A toy that says its activations do not map zero to zero."""

    def spaces(self, architecture: object) -> tuple[ep.FeatureSpace, ...]:
        return tuple(replace(s, zero_preserving=False) for s in super().spaces(architecture))  # type: ignore[arg-type]


def test_zero_weights_prove_nothing_where_zero_is_not_preserved(toy: ep.Potential) -> None:
    checkpoint = changed(toy, embedding_weight=zeroed(toy, "embedding_weight", (4, 6), EVERY, 2))
    assert ep.dead_blocks(Sigmoid(), checkpoint) == {}


def test_spaces_of_equal_size_keep_spare_dead_channels(toy: ep.Potential, structures: list[Atoms]) -> None:
    checkpoint = changed(
        toy,
        embedding_weight=zeroed(toy, "embedding_weight", (4, 6), EVERY, slice(2, 5)),
        linear_up_0_weight=zeroed(toy, "linear_up_0_weight", (6, 6), EVERY, 0),
    )
    plan = ep.lossless_plan(ADAPTER, checkpoint)
    assert plan.masks["node_feats.0"].kept == ((0, 1, 2, 3, 5),)
    assert plan.masks["edge_irreps.0"].kept == ((1, 2, 3, 4, 5),)
    parent = ep.Potential.create(ADAPTER, checkpoint, torch.float64)
    assert_same_predictions(parent, ep.prune(parent, plan), structures)


def test_the_minimum_stays_even_when_all_is_dead(toy: ep.Potential) -> None:
    plan = ep.lossless_plan(ADAPTER, changed(toy, readout_weight=torch.zeros(5)))
    plan.check(toy.spaces)
    assert {str(plan.mask(s).kept_irreps) for s in toy.spaces if s.scored} == {"1x0e"}


@pytest.mark.parametrize(
    ("dead", "text"),
    [({}, {}), ({"x": {SCALAR: (0, 4), VECTOR: (1,)}}, {"x": "2x0e+1x1o"})],
)
def test_description(dead: Mapping[str, Mapping[ep.Irrep, tuple[int, ...]]], text: dict[str, str]) -> None:
    assert describe(dead) == text


@dataclass(frozen=True)
class TwoMaps:
    """An adapter of two linear maps: one makes three channels twice over, the other reads them."""

    uses: tuple[str, str]

    def spaces(self, _: object) -> tuple[ep.FeatureSpace, ...]:
        return (ep.FeatureSpace("x", ep.Irreps.scalars(3), Role.NODE_FEATS),)

    def layouts(self, _: object) -> dict[str, WeightLayout]:
        made = tuple(Segment("x", SCALAR, 3, use) for use in self.uses)
        read = (Segment("x", SCALAR, 3),)
        return {
            "make": WeightLayout.dense((Segment.fixed(2),), made),
            "read": WeightLayout.dense(read, (Segment.fixed(1),)),
        }


@pytest.mark.parametrize(
    ("uses", "dead"), [(("+first", "+second"), (1,)), (("", "gate"), (0, 1))], ids=["added", "gated"]
)
def test_what_is_added_to_a_block_is_the_block(uses: tuple[str, str], dead: tuple[int, ...]) -> None:
    """Channel 0 has one of two stretches zero, channel 1 both: where they are added, only the latter is dead."""
    make = torch.tensor([[0.0, 0, 1, 1, 0, 1], [0.0, 0, 1, 1, 0, 1]])
    weights = {"make": make, "read": torch.ones(3, 1)}
    found = dead_blocks(TwoMaps(uses), ep.Checkpoint(None, weights, licence="MIT"))  # type: ignore[arg-type]
    assert found == {"x": {SCALAR: dead}}
