"""Recorded settings: what is written is what is read, by names and fields that may change, and nothing is run."""

import json
from dataclasses import dataclass, fields
from typing import Any

import pytest

import equiprune as ep
from equiprune.adapters.growth import GrowRadialBasis, NativeGrids, NonlinearReadout
from equiprune.files import settings
from equiprune.files.settings import current, from_json, from_text, kind, to_json
from equiprune.labelling.augmentation import Augmentation
from equiprune.labelling.dynamics import Dynamics
from equiprune.labelling.relaxation import Relaxation
from equiprune.labelling.screening import Screening
from equiprune.labelling.substitution import Substitution
from equiprune.potentials.hessian import RandomProbes, Rows
from equiprune.pruning.criteria import TaylorEnergy, TaylorForces
from equiprune.training.objective import (
    Absolute,
    ConditionalHuber,
    FeatureTerm,
    Huber,
    Norm,
    Objective,
    Square,
    Term,
)
from equiprune.training.optimisation import Constant, Cosine, Linear, Optimisation, Plateau
from equiprune.training.recipe import PRESETS, Recipe

PLAN = ep.PruningPlan({"x": ep.BlockMask(ep.Irreps.scalars(3), ((2, 0),))})
OBJECTIVE = Objective(Term(1.0, Huber(0.1), total=True), Term(2.0, Norm(), free=True), hessian=Term(3.0, Square()))
SHARES = Objective(Term(1.0, Square()), Term(2.0, Square()), atom_energies=Term(3.0, Huber(0.4)))
FEATURES = Objective(Term(1.0, Square()), Term(2.0, Square()), features=FeatureTerm(0.5, block_by_block=True))
VALUES: list[Any] = [
    *(Square(), Absolute(), Norm(), Huber(0.2), ConditionalHuber(0.3), Term(2.0, Norm(), unit=3.0, six=True)),
    *(OBJECTIVE, SHARES, FEATURES, FEATURES.features, *(preset.objective for preset in PRESETS.values())),
    *(Constant(), Linear(0.2), Cosine(0.3), Plateau(0.4, 7), *(preset.optimisation for preset in PRESETS.values())),
    *(Optimisation(clip=None, rates={"a*": 0.5}), Recipe(OBJECTIVE, epochs=3, patience=2)),
    *(Rows(2, 3), RandomProbes(4, 5), Augmentation(2, 0.3, 0.4, 5), Dynamics(3), Substitution(2, (3, 11))),
    *(Relaxation(3, 40), Screening(20.0), Screening(None, 0.5)),
    *(ep.Taylor(), TaylorEnergy(), TaylorForces(), ep.Activation(), ep.Magnitude(), ep.Random(7)),
    *(GrowRadialBasis(9, False, 3), NonlinearReadout(5), NativeGrids()),
    *(ep.HiddenIrreps.parse("6x0e+4x1o,5x0e"), ep.Lmax(1), ep.EdgeLmax(2), ep.EdgeLmax((3, 2)), ep.BasisLmax((2, 1))),
    *(ep.Correlation((3, 2)), ep.Interactions(2), ep.Channels(4), ep.HiddenChannels(5), ep.Parameters(0.5, 0.1)),
    *(ep.RadialWidth((4, 3)), ep.RadialBasis(5), ep.Elements((1, 8)), ep.Heads(("a", "b")), ep.Lossless()),
    ep.FromPlan(PLAN),
    ep.Budget(3.0, 8e9, 5000, 0.5, 40.0),
    *(
        ep.RelaxationRules(0.02, 30),
        ep.RelaxedCrystal(),
        ep.EquationOfState(0.02),
        ep.Elasticity((-0.02, 0.02), moving=False),
    ),
    *(ep.Phonons(length=8.0), ep.Dimers(1.0, 2.0), ep.Locality(2.0)),
    *(ep.NVE(), ep.NVT(50.0), ep.NPT(0.1, 60.0), ep.DynamicsProtocol(ep.NVT(), 3.0, relax=True, seed=2, copies=3)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_is_recorded_is_what_is_read(value: Any) -> None:
    written = json.loads(json.dumps(to_json(value)))
    assert from_json(written) == value
    assert current(written) == written
    assert "(" not in json.dumps(written)


def test_every_kind_is_tried() -> None:
    registered = {made for made in settings._OF_CLASS if made.__module__.startswith("equiprune.")}
    assert {type(value) for value in VALUES} >= {made for made in registered if made.__name__ != "Tapered"}


_NEWER_TERMS = (Term, FeatureTerm, Objective)
NEWER = (
    *_NEWER_TERMS,
    Optimisation,
    Recipe,
    Substitution,
    Relaxation,
    Screening,
    ep.HiddenIrreps,
    ep.FromPlan,
    ep.Budget,
    ep.RelaxationRules,
    ep.RelaxedCrystal,
    ep.EquationOfState,
    ep.Elasticity,
    ep.Phonons,
    ep.Dimers,
    ep.Locality,
    ep.NVE,
    ep.NVT,
    ep.NPT,
    ep.DynamicsProtocol,
)
OLD = [value for value in VALUES if type(value) not in NEWER]


@pytest.mark.parametrize("value", OLD, ids=repr)
def test_text_of_the_first_version_is_understood(value: Any) -> None:
    assert from_text(repr(value)) == value


def test_no_choice_was_text_too() -> None:
    assert from_text("None") is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "(", "nothing", "__import__('os').system('true')", "Huber(0.1)", "Huber(**{})", "Huber(delta=print())"),
        *("Huber(delta=[1])", "Huber(sigma=0.1)", "Term(weight=1)", "settings.Huber()", "Huber(delta=1+1)", "Huber"),
    ],
)
def test_other_text_is_refused_and_nothing_is_run(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.system", lambda _: pytest.fail("it was run"))
    with pytest.raises(ValueError, match=r"is no recorded setting|of no kind|has no|incomplete"):
        from_text(text)


@pytest.mark.parametrize("value", [{"kind": "hubert"}, {"kind": 3}, {"kind": None}, {"kind": "huber", "sigma": 1}])
def test_what_this_version_does_not_know_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"of no kind that this version knows|has no sigma"):
        from_json([value])


def test_a_class_without_a_kind_cannot_be_recorded() -> None:
    @dataclass(frozen=True)
    class Unheard:
        pass

    with pytest.raises(ValueError, match=r"no name for Unheard\. Give it one"):
        to_json({"a": [Unheard()]})


def test_a_name_means_one_class() -> None:
    with pytest.raises(ValueError, match="call Huber 'huber' already"):
        kind("other", "huber")(Norm)


def test_a_field_that_changes_no_result_is_not_recorded() -> None:
    unrecorded = {field.name for field in fields(Recipe)} - to_json(Recipe(OBJECTIVE)).keys()
    assert unrecorded == {"save_every"}
    assert to_json(Recipe(OBJECTIVE, save_every=3)) == to_json(Recipe(OBJECTIVE))
