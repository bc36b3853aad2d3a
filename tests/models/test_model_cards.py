"""Cards say what the files say: of the model beside them, in numbers that a benchmark wrote."""

import re
import sys
from pathlib import Path

import pytest
from command_line import Run

import equiprune as ep
from equiprune.models import ShippedModel, shipped_models

MODELS = pytest.mark.parametrize("model", shipped_models().values(), ids=lambda model: model.name)
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@MODELS
def test_card_and_record_are_of_these_weights(model: ShippedModel) -> None:
    adapter, checkpoint = ep.read_checkpoint(model.name)
    first = checkpoint.history[0]
    facts = model.measured["model"]
    assert facts["sha256"] == checkpoint.sha256
    assert facts["parameters"] == ep.count_parameters(adapter, checkpoint.architecture).trainable
    assert facts["licence"] == checkpoint.licence
    assert (facts["parent"], facts["parent_sha256"]) == (first["parent"], first["parent_sha256"])


@MODELS
def test_the_card_shows_them(model: ShippedModel) -> None:
    adapter, checkpoint = ep.read_checkpoint(model.name)
    card, first = model.card.read_text(), checkpoint.history[0]
    parameters = ep.count_parameters(adapter, checkpoint.architecture).trainable
    for row in (
        f"| parameters | {parameters:,} |",
        f"| parent | {first['parent']}, sha256 {first['parent_sha256']} |",
        f"| licence | {checkpoint.licence} |",
        f"| sha256 | {checkpoint.sha256} |",
    ):
        assert row in card
    for steps in (step["steps"] for step in checkpoint.history if step["step"] == "train"):
        assert f"{steps:,} steps" in card


@MODELS
def test_the_tables_of_the_card_are_what_was_measured(model: ShippedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    from model_card import with_measured

    card = model.card.read_text()
    assert with_measured(card, model.name, model.measured) == card
    errors = next(iter(model.measured["accuracy"].values()))["errors"][model.name]
    assert f"{errors['forces'][0]:.1f} (" in card


@MODELS
def test_it_passed_its_certificate(model: ShippedModel) -> None:
    certificate = model.measured["certificate"]
    assert certificate["passed"]
    assert {"equivariance.forces", "finite_difference.forces", "smoothness.forces", "nve.drift"} <= certificate[
        "values"
    ].keys()


@MODELS
def test_info_shows_the_essentials(model: ShippedModel, cli: Run) -> None:
    shown, said = cli("info", model.name), cli("info", model.name, "--json").json
    measured = model.measured
    assert said["about"] == model.about
    assert model.about[:60] in shown.text
    assert said["parent"] == measured["model"]["parent"]
    assert said["forces_mae"] == {d: of["errors"][model.name]["forces"][0] for d, of in measured["accuracy"].items()}
    assert set(said["speed_of_parent"]) == {"upstream", "equiprune"}
    assert min(said["speed_of_parent"].values()) > 1
    assert Path(said["card"]).read_text().startswith(f"# {model.name}\n")
    assert "forces MAE, DFT (meV/Angstrom)" in shown.text


def test_other_models_have_no_card(cli: Run) -> None:
    assert "card" not in cli("info", "toy", "--json").json


@MODELS
def test_what_it_is_fits_into_a_paragraph(model: ShippedModel) -> None:
    assert re.match("(SevenNet-l3i5|Nequix OAM-1|MACE-MP-0 small) cut to", model.about)
    assert 80 < len(model.about) < 400
    assert not re.search(r"[#|`\n]", model.about)
