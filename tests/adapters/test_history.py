"""Recorded steps: values, the JSON that files have had from the start, and what is damaged or unknown."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

import equiprune as ep
from equiprune.adapters.growth import NonlinearReadout
from equiprune.adapters.history import (
    Grown,
    Initialised,
    Pruned,
    ReferencesChanged,
    ScaleChanged,
    Step,
    Trained,
    step_from_json,
)
from equiprune.files.settings import to_json

PLAN = ep.PruningPlan({"x": ep.BlockMask(ep.Irreps.scalars(3), ((2, 0),))})
PARENT = {"parent": "toy", "parent_sha256": "0ef5"}
RECIPE = {"epochs": 3}
STEPS: list[tuple[Step, dict[str, Any]]] = [
    (
        Pruned(PLAN, torch.float32, {"targets": to_json([ep.Channels(4)]), "round_to": 1}),
        {
            "step": "prune",
            "plan": PLAN.to_json(),
            "dtype": "float32",
            "targets": [{"kind": "channels", "channels": 4}],
            "round_to": 1,
        },
    ),
    (
        Grown(NonlinearReadout(8), torch.float64),
        {
            "step": "grow",
            "growth": {"kind": "nonlinear_readout", "width": 8, "preserve": True, "seed": 0},
            "dtype": "float64",
        },
    ),
    (
        ReferencesChanged("given", None, {"H": 0.5}),
        {"step": "reference", "references": "given", "head": None, "changes": {"H": 0.5}},
    ),
    (ScaleChanged(0.7, "PBE"), {"step": "reference", "scale": 0.7, "head": "PBE"}),
    (Initialised(3), {"step": "initialise", "seed": 3}),
    (
        Trained(RECIPE, {"data": "1234"}, 12),
        {"step": "train", "recipe": RECIPE, "data": {"data": "1234"}, "steps": 12, "replay": None},
    ),
]


@pytest.mark.parametrize(("step", "record"), STEPS, ids=lambda value: type(value).__name__)
def test_a_step_is_recorded_with_its_parent_and_read_again(
    step: Step, record: dict[str, Any], toy: ep.Potential
) -> None:
    parent = replace(toy.checkpoint, sha256="0ef5")
    after = parent.after(step, parent.weights)
    [written] = after.history
    assert written == PARENT | record
    assert list(written)[:3] == ["step", "parent", "parent_sha256"]
    assert step_from_json(json.loads(json.dumps(written))) == step


def test_a_step_leaves_its_parent_alone_and_makes_no_file(toy: ep.Potential) -> None:
    parent = replace(toy.checkpoint, history=({"step": "made"},))
    halved = {name: weight / 2 for name, weight in parent.weights.items()}
    after = parent.after(Initialised(0), halved)
    assert (after.sha256, after.source, after.licence) == ("", parent.source, parent.licence)
    assert (after.architecture, after.weights) == (parent.architecture, halved)
    assert [record["step"] for record in after.history] == ["made", "initialise"]
    assert parent.history == ({"step": "made"},)
    smaller = replace(parent.architecture, cutoff=3.0)
    assert parent.after(Initialised(0), halved, smaller).architecture == smaller


def test_records_of_earlier_versions_are_read() -> None:
    """Of a start from scratch no parent was named, and what asked for a plan was text."""
    assert step_from_json({"step": "initialise", "parent_sha256": "0ef5", "seed": 3}) == Initialised(3)
    old = {"step": "prune", **PARENT, "plan": PLAN.to_json(), "dtype": "float32", "targets": ["Channels(channels=4)"]}
    assert step_from_json(old) == Pruned(PLAN, torch.float32, {"targets": ["Channels(channels=4)"]})


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"step": "distil"},
        {"step": "initialise"},
        {"step": "prune", "plan": PLAN.to_json()},
        {"step": "prune", "plan": PLAN.to_json(), "dtype": "int32"},
        {"step": "prune", "plan": PLAN.to_json(), "dtype": "nn"},
        {"step": "grow", "growth": {"kind": "nonlinear_readout"}, "dtype": None},
        {"step": "reference", "head": None},
        {"step": "train"},
    ],
    ids=str,
)
def test_what_is_no_step_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        step_from_json(record)


def test_the_precision_of_a_checkpoint_is_that_of_most_of_its_numbers(toy: ep.Potential) -> None:
    assert toy.checkpoint.dtype == torch.float32
    assert toy.with_dtype(torch.float64).checkpoint.dtype == torch.float32  # of the file; the module has another
    doubled = {name: weight.double() for name, weight in toy.checkpoint.weights.items()}
    assert replace(toy.checkpoint, weights=doubled).dtype == torch.float64
    mixed = {"a_constant": torch.zeros(1, dtype=torch.float64), **toy.checkpoint.weights}
    assert replace(toy.checkpoint, weights=mixed).dtype == torch.float32
