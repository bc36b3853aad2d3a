"""From-scratch baselines: upstream's own initialisation, the model's own constants."""

import numpy as np
import torch

import equiprune as ep
from equiprune.testing import random_plan
from equiprune.training.from_scratch import from_scratch


def test_trained_weights_are_drawn_anew_and_constants_kept(toy: ep.Potential) -> None:
    child = ep.prune(toy, random_plan(toy, np.random.default_rng(1)))
    fresh = from_scratch(child, seed=3)
    layouts = child.adapter.layouts(child.architecture)
    assert fresh.architecture == child.architecture
    for name, layout in layouts.items():
        same = torch.equal(fresh.checkpoint.weights[name], child.checkpoint.weights[name])
        assert same is not layout.trainable, name
    assert fresh.checkpoint.history[-1] == {
        "step": "initialise",
        "parent": child.checkpoint.source,
        "parent_sha256": child.checkpoint.sha256,
        "seed": 3,
    }


def test_the_seed_decides_and_the_global_state_is_left_alone(toy: ep.Potential) -> None:
    before = torch.random.get_rng_state()
    first, again, other = from_scratch(toy, 1), from_scratch(toy, 1), from_scratch(toy, 2)
    assert torch.equal(before, torch.random.get_rng_state())
    weights = [potential.checkpoint.weights["embedding_weight"] for potential in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_module_predicts_with_the_new_weights(toy: ep.Potential) -> None:
    structures = list(ep.probe_structures(toy.elements).values())
    a, b = from_scratch(toy, 1).predict(structures), toy.predict(structures)
    assert all(abs(x.energy - y.energy) > 1e-6 for x, y in zip(a, b, strict=True))
