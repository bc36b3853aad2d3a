"""How weights move, against torch's own schedulers and formulas written out again."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runs import labelled, student
from torch import nn

from equiprune.blocks import Irrep, Segment, WeightLayout
from equiprune.blocks.layout import Path as WeightPath
from equiprune.errors import TargetError
from equiprune.files.settings import to_json
from equiprune.training.objective import mace_weighted
from equiprune.training.optimisation import (
    Constant,
    Cosine,
    Linear,
    Optimisation,
    Plateau,
    Schedule,
    averaged,
    freeze,
    optimizer,
    set_learning_rate,
)
from equiprune.training.recipe import Recipe
from equiprune.training.trainer import train


@pytest.mark.parametrize(
    ("schedule", "end"),
    [(Constant(), 1.0), (Linear(0.01), 0.01), (Linear(0.5), 0.5), (Cosine(0.0), 0.0), (Cosine(0.2), 0.2)],
)
def test_schedules_fall_from_one_to_their_end(schedule: Schedule, end: float) -> None:
    factors = [schedule.factor(i / 200) for i in range(201)]
    assert (factors[0], factors[-1]) == (1.0, pytest.approx(end, abs=1e-12))
    assert all(later <= earlier for earlier, later in pairwise(factors))
    assert factors[100] == pytest.approx((1 + end) / 2)


def test_linear_is_straight_and_cosine_is_flat_at_both_ends() -> None:
    assert Linear(0.2).factor(0.25) == pytest.approx(0.8)
    assert Cosine(0.0).factor(0.25) == pytest.approx((1 + math.sqrt(0.5)) / 2)


@given(
    st.lists(st.sampled_from([0.5, 0.6, 0.7, 0.8, 0.9, 1.0]), max_size=30),
    st.integers(0, 4),
    st.sampled_from([0.5, 0.8]),
)
def test_plateau_is_that_of_torch(history: list[float], patience: int, factor: float) -> None:
    made = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(made, factor=factor, patience=patience, threshold=0.0)
    for loss in history:
        theirs.step(loss)
    assert Plateau(factor, patience).after(history) == pytest.approx(made.param_groups[0]["lr"])


def test_plateau_counts_validations_without_progress() -> None:
    schedule = Plateau(0.8, 2)
    history = [1.0, 0.9, 0.9, 0.95, 0.9, 0.9, 0.8, 0.8, 0.8, 0.8]
    factors = [schedule.after(history[:i]) for i in range(len(history) + 1)]
    assert factors == pytest.approx([1, 1, 1, 1, 1, 0.8, 0.8, 0.8, 0.8, 0.8, 0.64])


def one_parameter(optimisation: Optimisation) -> torch.optim.Optimizer:
    module = nn.Linear(2, 2, bias=False)
    return optimizer(module, optimisation, {"weight": matrix(2, 2)})


def matrix(*sizes: int) -> WeightLayout:
    return WeightLayout.dense(*((Segment.fixed(size),) for size in sizes))


def test_warm_up_rises_from_zero_and_then_the_schedule_goes_on() -> None:
    optimisation = Optimisation(learning_rate=2.0, schedule=Linear(0.0), warm_up=4)
    made = one_parameter(optimisation)
    rates = [set_learning_rate(made, optimisation, step, 10, []) for step in range(10)]
    straight = [2 * (1 - step / 10) for step in range(10)]
    assert rates == pytest.approx([*(rate * (i + 1) / 4 for i, rate in enumerate(straight[:4])), *straight[4:]])
    assert made.param_groups[0]["lr"] == rates[-1]


def test_a_plateau_follows_the_validation_losses() -> None:
    optimisation = Optimisation(learning_rate=1.0, schedule=Plateau(0.5, 0))
    made = one_parameter(optimisation)
    assert set_learning_rate(made, optimisation, 3, 10, [1.0, 2.0]) == 0.5
    assert set_learning_rate(made, optimisation, 3, 10, []) == 1.0


def test_the_first_pattern_that_matches_decides() -> None:
    optimisation = Optimisation(rates={"readout*": 0.5, "*weight": 0.1, "readout_bias": 0.0})
    names = ["readout_weight", "linear_weight", "readout_bias", "shift", "Readout_weight"]
    assert [optimisation.rate_of(name) for name in names] == [0.5, 0.1, 0.5, 1.0, 0.1]


def test_rates_are_factors_on_the_learning_rate_of_their_parameters() -> None:
    module = nn.ModuleDict({"slow": nn.Linear(2, 2, bias=False), "fast": nn.Linear(2, 2, bias=False)})
    optimisation = Optimisation(learning_rate=0.1, rates={"slow.*": 0.01})
    made = optimizer(module, optimisation, {f"{name}.weight": matrix(2, 2) for name in module})
    set_learning_rate(made, optimisation, 0, 1, [])
    rates = {id(p): group["lr"] for group in made.param_groups for p in group["params"]}
    assert rates[id(module["slow"].weight)] == pytest.approx(0.001)
    assert rates[id(module["fast"].weight)] == pytest.approx(0.1)


# Freezing.


def test_frozen_parameters_do_not_change_by_one_bit(tmp_path: Any) -> None:
    optimisation = Optimisation(learning_rate=0.01, weight_decay=0.1, rates={"readout*": 0.0, "radial_1_*": 0.0})
    recipe = Recipe(mace_weighted(stress=1.0), optimisation, epochs=3, batch_size=3)
    before = student().checkpoint.weights
    after = train(student(), labelled(), recipe, tmp_path / "run").checkpoint.weights
    same = {name for name in before if torch.equal(before[name], after[name])}
    frozen = {"readout_weight", "radial_1_layer0_weight", "radial_1_layer1_weight"}
    assert same == frozen | {"shift", "radial_centres"}  # these two are not trained upstream


@pytest.mark.parametrize("pattern", ["radout*", "shift", "READOUT*", ""])
def test_a_pattern_that_matches_nothing_is_refused_by_name(pattern: str) -> None:
    module = student().module
    names = [name for name, p in module.named_parameters() if p.requires_grad]
    with pytest.raises(TargetError, match="No parameter matches") as refusal:
        freeze(module, names, Optimisation(rates={"readout*": 0.0, pattern: 0.0}))
    assert f"'{pattern}'" in str(refusal.value)
    assert "embedding_weight" in str(refusal.value)


def test_freezing_everything_is_refused() -> None:
    module = nn.Linear(2, 2)
    with pytest.raises(TargetError, match="Every parameter is frozen"):
        freeze(module, ["weight", "bias"], Optimisation(rates={"weight": 0.0, "*": 0.0}))


def test_what_upstream_does_not_train_stays_frozen() -> None:
    module = nn.Linear(2, 2)
    freeze(module, ["weight"], Optimisation())
    assert (module.weight.requires_grad, module.bias.requires_grad) == (True, False)


# Weight decay.


def test_weight_decay_is_for_weights_that_mix_channels() -> None:
    """e3nn stores matrices one after another in a vector: they decay. Norms and biases, vectors too, do not."""
    a, b = (Segment("x", Irrep(0, 1), 2),), (Segment("y", Irrep(0, 1), 2),)
    layouts = {
        "matrix": WeightLayout.dense(a, b),
        "flat": WeightLayout((WeightPath("0e->0e", (a, b)),)),
        "norm": WeightLayout.dense(a),
        "bias": WeightLayout.dense(b),
    }
    module = nn.ParameterDict({name: torch.ones(layout.shape) for name, layout in layouts.items()})
    assert module["flat"].dim() == 1
    made = optimizer(module, Optimisation(learning_rate=0.1, weight_decay=0.5), layouts)
    for parameter in module.values():
        parameter.grad = torch.zeros_like(parameter)
    made.step()
    left = {name: parameter.detach().unique().tolist() for name, parameter in module.items()}
    assert left == {"matrix": [pytest.approx(0.95)], "flat": [pytest.approx(0.95)], "norm": [1.0], "bias": [1.0]}


def test_of_a_model_everything_trained_that_has_two_sides_decays() -> None:
    adapter, architecture, module = student().adapter, student().architecture, student().module
    made = optimizer(module, Optimisation(weight_decay=0.5), adapter.layouts(architecture))
    decays = {id(p) for group in made.param_groups if group["weight_decay"] == 0.5 for p in group["params"]}
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    assert {name for name, p in module.named_parameters() if id(p) in decays} == trained != set()


# Averaging.


def test_the_average_is_the_formula() -> None:
    module = nn.Linear(3, 1, bias=False)
    average = {"weight": torch.tensor([[1.0, 2.0, 3.0]])}
    for step, decay in ((1, 2 / 11), (50, 51 / 60), (10_000, 0.99)):
        found = averaged(average, module, 0.99, step)["weight"]
        torch.testing.assert_close(found, decay * average["weight"] + (1 - decay) * module.weight.detach())
        assert not found.requires_grad


def test_the_average_of_constant_weights_is_those_weights() -> None:
    for dtype in (torch.float32, torch.float64):
        module = nn.Linear(100, 10, dtype=dtype)
        average = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
        for step in range(1, 300):
            average = averaged(average, module, 0.99, step)
        for name, parameter in module.named_parameters():
            assert torch.equal(average[name], parameter)


def test_the_average_does_not_remember_the_start() -> None:
    module = nn.Linear(1, 1, bias=False)
    average = {"weight": module.weight.detach() + 1000}
    for step in range(1, 100):
        average = averaged(average, module, 0.999, step)
    assert abs(average["weight"] - module.weight).item() < 1e-3 * 1000


# What cannot be.


@pytest.mark.parametrize(
    ("field", "value", "instead"),
    [
        ("learning_rate", 0.0, "a positive number"),
        ("learning_rate", -1.0, "a positive number"),
        ("learning_rate", math.nan, "a positive number"),
        ("learning_rate", math.inf, "a positive number"),
        ("warm_up", -1, "0 or more"),
        ("weight_decay", -0.1, "0 or a positive number"),
        ("clip", 0.0, "a positive number, or None"),
        ("average", 1.0, "below 1"),
        ("average", -0.1, "below 1"),
        ("rates", {"a": -1.0}, "from 0"),
        ("rates", {"a": math.nan}, "from 0"),
    ],
)
def test_impossible_values_are_refused(field: str, value: Any, instead: str) -> None:
    with pytest.raises(TargetError, match="is not possible") as refusal:
        Optimisation(**{field: value})
    assert field.replace("_", " ") in str(refusal.value)
    assert instead in str(refusal.value)


def test_what_a_run_records_tells_optimisations_apart() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"learning_rate": 2e-3},
        {"schedule": Linear(0.1)},
        {"schedule": Cosine(0.1)},
        {"warm_up": 3},
        {"amsgrad": True},
        {"weight_decay": 0.1},
        {"clip": None},
        {"average": None},
        {"rates": {"a": 0.5}},
    ]
    recorded = [str(to_json(Optimisation(**change))) for change in changes]
    assert len(set(recorded)) == len(recorded)
