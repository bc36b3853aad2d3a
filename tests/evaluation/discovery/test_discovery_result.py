"""Predictions of discovery, their subsets, tables and files."""

import csv
import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import equiprune as ep
from equiprune.evaluation.discovery import (
    LEADERBOARD,
    DiscoveryResult,
    Material,
    ModelPredictions,
    ModelRelaxations,
    Outcome,
    Prediction,
    Relaxed,
    predictions,
    stability_metrics,
)
from equiprune.evaluation.discovery.against_dft import Difference
from equiprune.evaluation.discovery.result import FULL, STABLEST, UNIQUE, metrics_table, outcomes_table
from equiprune.evaluation.discovery.submission import TO_FILL_IN, metadata_text, model_key, write_predictions

HULL = (-0.1, -0.05, 0.02, 0.3)
MATERIALS = tuple(
    Material(name, frozenset({14}), 2, -5.0, -1.0, hull, unique)
    for name, hull, unique in zip("abcd", HULL, (True, False, True, True), strict=True)
)
"""Four materials with the same energies; two are on the hull of DFT."""


def ended(energy: float | None, outcome: Outcome = Outcome.CONVERGED) -> Relaxed:
    """A relaxation of two atoms at so many eV."""
    return Relaxed(
        outcome, 7, energy, None if energy is None else np.zeros((2, 3)), None if energy is None else np.eye(3)
    )


def model(name: str, *errors: float | None) -> ModelPredictions:
    """A model that is so many eV/atom off; None is a relaxation that failed."""
    relaxed = {
        material.name: ended(None, Outcome.COLLAPSED) if error is None else ended(-10.0 + 2 * error)
        for material, error in zip(MATERIALS, errors, strict=False)
    }
    return predictions(ModelRelaxations(name, relaxed), MATERIALS, {})


GOOD, BAD = model("good", 0.0, 0.0, 0.01, 0.0), model("bad", 0.2, -0.1, None)
RESULT = DiscoveryResult(MATERIALS, (GOOD, BAD), available=9)


def test_a_model_that_agrees_with_dft_has_its_formation_energy() -> None:
    assert GOOD.predictions["a"].formation_energy == -1.0
    assert GOOD.predictions["c"].formation_energy == pytest.approx(-0.99)


def test_energies_of_the_elements_cancel() -> None:
    """The same as with a table of them, whatever it says: e = (E + correction - sum of references) / atoms."""
    references, correction, dft, found = {12: -1.6, 8: -4.95}, -0.687, -11.9, -11.7
    total = sum(references.values())
    material = Material("x", frozenset({12, 8}), 2, dft / 2, (dft + correction - total) / 2)
    relaxed = ModelRelaxations("m", {"x": ended(found)})
    expected = (found + correction + 0.3 - total) / 2
    got = predictions(relaxed, [material], {"x": Difference(correction=0.15)}).predictions["x"]
    assert got.formation_energy == pytest.approx(expected, abs=1e-12)


def test_energies_are_compared_by_atom() -> None:
    """A relaxed cell may be a multiple of that of DFT."""
    double = Relaxed(Outcome.CONVERGED, 1, -20.0, np.zeros((4, 3)), np.eye(3))
    [found] = predictions(ModelRelaxations("m", {"a": double}), MATERIALS[:1], {}).predictions.values()
    assert found.formation_energy == -1.0


def test_an_unrealistic_energy_is_no_prediction() -> None:
    found = model("wild", 5.1, -5.1, 4.9, 0.0)
    assert [each.formation_energy is None for each in found.predictions.values()] == [True, True, False, False]
    assert found.unrealistic == 2
    assert found.finished == {"c", "d"}
    assert found.predictions["a"].energy is not None


def test_models_are_compared_on_what_all_finished() -> None:
    """The bad model lost c, and d has an element that it does not know."""
    assert [material.name for material in RESULT.shared] == ["a", "b"]
    found = RESULT.metrics(BAD, RESULT.shared)[FULL]
    assert (found.tp, found.fn, found.mae) == (1, 1, pytest.approx(0.15))
    alone = RESULT.metrics(BAD, RESULT.materials)[FULL]
    assert (alone.tp, alone.fn, alone.tn, alone.fp, alone.missing) == (1, 1, 2, 0, 2)


def test_the_hull_is_that_of_dft() -> None:
    predicted = [HULL[0] + 0.2, HULL[1] - 0.1, np.nan, np.nan]
    found, expected = RESULT.metrics(BAD, MATERIALS)[FULL], stability_metrics(HULL, predicted)
    assert found.to_json() == pytest.approx(expected.to_json())


def test_without_a_hull_stable_is_what_forms_from_its_elements() -> None:
    bare = tuple(replace(material, above_hull=None) for material in MATERIALS)
    result = DiscoveryResult(bare, (GOOD,), 4)
    assert (result.has_hull, RESULT.has_hull) == (False, True)
    assert result.metrics(GOOD, bare)[FULL].tp == 4
    assert result.to_json()["stable_against"] == "the elements"


def test_unique_prototypes_are_a_subset_where_they_are_known() -> None:
    assert RESULT.metrics(GOOD, MATERIALS).keys() == {FULL, UNIQUE}
    assert RESULT.metrics(GOOD, MATERIALS)[UNIQUE].tp == 1
    unknown = (*MATERIALS[:3], replace(MATERIALS[3], unique_prototype=None))
    assert RESULT.metrics(GOOD, unknown).keys() == {FULL}


def test_the_most_stable_are_those_that_the_model_calls_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the unique ones; chance is that of all unique ones, as on the leaderboard."""
    monkeypatch.setattr("equiprune.evaluation.discovery.result.MOST_STABLE", 2)
    odd = model("odd", 0.5, 0.0, 0.0, -0.5)
    found = RESULT.metrics(odd, MATERIALS)
    assert found[STABLEST] == stability_metrics(
        [0.3, 0.02], [0.3 - 0.5, 0.02], found_by_chance=found[UNIQUE].found_by_chance
    )
    assert found[UNIQUE].found_by_chance == pytest.approx(1 / 3)
    assert (found[STABLEST].tp, found[STABLEST].fp, found[STABLEST].daf) == (0, 1, 0.0)


def test_what_is_missing_is_least_stable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equiprune.evaluation.discovery.result.MOST_STABLE", 2)
    assert RESULT.metrics(model("lost", None, 0.0, 0.0, 0.0), MATERIALS)[STABLEST].missing == 0


def test_json_has_the_counts_and_both_comparisons() -> None:
    value = RESULT.to_json()
    assert (value["materials"], value["available"], value["shared"]) == (4, 9, 2)
    assert value["stable_against"] == "the convex hull"
    good, bad = value["models"]
    assert (good["model"], good["missing"], good["unknown_elements"], good["rmsd"]) == ("good", 0, 0, None)
    assert (bad["missing"], bad["unknown_elements"]) == (2, 1)
    assert bad["outcomes"] == {
        **{"converged": 2, "unconverged": 0, "collapsed": 1, "flown_apart": 0, "not_finite": 0, "failed": 0}
    }
    assert bad["on_shared"][FULL]["TP"] == 1
    assert bad["on_all"][FULL]["missing_preds"] == 2


def test_tables_have_units_and_every_model() -> None:
    heads, good, bad = metrics_table(RESULT, FULL)
    assert [head for head in heads if "meV" in head] == ["MAE, meV/atom", "RMSE, meV/atom"]
    assert (good[0], bad[0], bad[heads.index("MAE, meV/atom")]) == ("good", "bad", "150.0")
    assert good[heads.index("RMSD")] == "-"
    heads, good, bad = outcomes_table(RESULT)
    assert dict(zip(heads, bad, strict=True)) | {"model": "bad"} == {
        **{"model": "bad", "converged": "2", "unconverged": "0", "collapsed": "1", "flown apart": "0"},
        **{"not finite": "0", "failed": "0", "unrealistic": "0", "unknown elements": "1", "mean steps": "7"},
    }


def test_models_that_share_nothing_have_no_metrics() -> None:
    result = DiscoveryResult(MATERIALS, (model("a", None), model("b", None)), 4)
    assert (result.shared, result.subsets) == ((), ())
    assert result.to_json()["models"][0]["on_shared"] == {}


def test_distances_are_averaged() -> None:
    near = ModelPredictions(
        "m", {n: Prediction(Outcome.CONVERGED, 1, -1.0, -1.0, d) for n, d in (("a", 0.1), ("b", 1.0))}
    )
    assert near.rmsd(["a", "b"]) == pytest.approx(0.55)


def test_names_of_models_are_names_of_files() -> None:
    names = ["7net-0", "runs/small.pth", "./a b", "/tmp/x_y/", "mace.model", "..."]
    assert list(map(model_key, names)) == ["7net-0", "runs-small", "a-b", "tmp-x-y", "mace", "model"]


def test_predictions_are_a_line_for_each_material(tmp_path: Path) -> None:
    write_predictions(tmp_path / "bad.csv.gz", RESULT, BAD)
    rows = list(csv.DictReader(gzip.decompress((tmp_path / "bad.csv.gz").read_bytes()).decode().splitlines()))
    assert [row["material_id"] for row in rows] == ["a", "b", "c", "d"]
    assert [row["e_form_per_atom_bad"] for row in rows] == ["-0.800000", "-1.100000", "", ""]
    assert [row["outcome"] for row in rows] == ["converged", "converged", "collapsed", "unknown_elements"]
    assert (rows[0]["energy"], rows[0]["n_steps"], rows[0]["converged"], rows[2]["converged"]) == (
        "-9.600000",
        "7",
        "True",
        "False",
    )


def read_metadata(text: str) -> dict[str, Any]:
    value = yaml.safe_load(text)
    assert isinstance(value, dict)
    return value


REQUIRED = {
    *("authors", "checkpoint_url", "date_added", "date_published", "doi", "license", "model_name", "model_params"),
    *("model_type", "model_version", "n_estimators", "openness", "paper", "pr_url", "repo", "requirements", "targets"),
    *("test_task", "train_task", "trained_for_benchmark", "training_cost", "training_set"),
}
"""Keys that tests/model-schema.yml of the leaderboard asks for."""


def test_metadata_have_the_public_layout(toy: ep.Potential) -> None:
    text = metadata_text(RESULT, BAD, toy, LEADERBOARD)
    value = read_metadata(text)
    assert value.keys() >= REQUIRED
    assert (value["model_key"], value["model_params"]) == ("bad", toy.parameters())
    assert value["hyperparams"]["max_force"] == 0.05
    assert value["hyperparams"]["graph_construction_radius"] == toy.architecture.cutoff
    assert value["authors"] == value["train_task"] == TO_FILL_IN
    found = value["metrics"]["discovery"]
    assert found.keys() == {"pred_col", "pred_file", "pred_file_url", FULL, UNIQUE}
    assert found["pred_col"] == "e_form_per_atom_bad"
    assert found[FULL] | {"F1": 0.667, "MAE": 0.15, "TN": 2, "missing_preds": 2, "DAF": 2.0} == found[FULL]


def test_metadata_say_what_they_are_not_good_for(toy: ep.Potential, monkeypatch: pytest.MonkeyPatch) -> None:
    text = metadata_text(RESULT, BAD, toy, LEADERBOARD)
    assert "# NOT FOR THE LEADERBOARD: 4 materials, where the test set has 256,963.\n" in text
    assert "convex hull" not in text
    monkeypatch.setattr("equiprune.evaluation.discovery.submission.WHOLE_SET", 4)
    assert "NOT FOR" not in metadata_text(RESULT, BAD, toy, LEADERBOARD)
    bare = tuple(replace(material, above_hull=None) for material in MATERIALS)
    text = metadata_text(DiscoveryResult(bare, (GOOD,), 4), GOOD, toy, LEADERBOARD)
    assert "# NOT FOR THE LEADERBOARD: stable is what forms from its elements; no convex hull was given.\n" in text
