"""Tables below figures: the same numbers, and it is said where there are fewer."""

import re
from pathlib import Path
from typing import Any

import pytest
from runs_on_disk import errors, scaling, speed, stage, whole_run, write

import equiprune as ep
from equiprune.report.numbers import of_curve, of_distributions, of_parity, of_plan
from equiprune.report.parts import Figure
from equiprune.report.report import report_page
from equiprune.report.results import Errors
from equiprune.report.run_directory import RunDirectory
from equiprune.report.sections import sections


def curve(steps: int, every: int) -> dict[str, list[float | None]]:
    """Losses that are the number of the step, validated every so many steps (0: never)."""
    column: list[float | None] = [float(step) for step in range(1, steps + 1)]
    found: dict[str, list[float | None]] = {"step": column, "seconds": column, "train_forces": column}
    if every:
        found["validation_forces"] = [step if step and step % every == 0 else None for step in column]
    return found


@pytest.mark.parametrize("every", [0, 3, 100])
@pytest.mark.parametrize("steps", [2, 20, 1000])
def test_a_learning_curve_has_about_twenty_rows_of_its_own_numbers(steps: int, every: int) -> None:
    table = of_curve(curve(steps, every))
    assert len(table.rows) <= 20
    validated = every and steps >= every
    for row in table.rows:
        assert len(row) == len(table.heads)
        assert float(row[0]) == pytest.approx(float(row[1]), rel=1e-3)
        assert not validated or float(row[2]) == pytest.approx(float(row[0]), rel=1e-3)
    assert table.rows[-1][0] == str(steps - steps % every if validated else steps)
    thinned = len(table.rows) < steps
    assert table.title.endswith(f"of {steps} steps{', all with validation' if validated else ''}") == thinned


def test_distributions_keep_their_highest_peaks_and_distances_that_one_model_lacks() -> None:
    def of(peak: int, count: int) -> dict[str, Any]:
        radii = [0.01 * i for i in range(count)]
        return {"radii": radii, "values": [5.0 if i == peak else 1.0 for i in range(count)], "errors": [0.5] * count}

    table = of_distributions({"a": of(7, 300), "b": of(111, 200)})
    assert (
        table.title == f"The numbers of this figure: {len(table.rows)} of 300 distances, the highest peaks among them"
    )
    assert len(table.rows) <= 22
    by_distance = {row[0]: row[1:] for row in table.rows}
    assert by_distance["0.070"] == ["5 +- 0.5", "1 +- 0.5"]
    assert by_distance["1.110"] == ["1 +- 0.5", "5 +- 0.5"]
    assert by_distance["2.990"] == ["1 +- 0.5", "-"]
    assert of_distributions({"a": of(1, 5)}).title == "The numbers of this figure"


def test_errors_of_predictions_are_in_the_units_that_are_said() -> None:
    found = Errors.model_validate(errors("a", 8.0, parity={"forces": [[0.0, 0.1], [0.3, 0.1]]}))
    table = of_parity([("a", found)], "forces")
    assert table.rows == [["a", "8", "12", "2", "200"]]
    assert table.heads[1] == "MAE, meV/Angstrom"


def test_the_importance_that_is_kept_is_that_of_the_kept_channels() -> None:
    toy = ep.load("toy")
    scores = ep.data_free_scores(toy, ep.Random(1))
    half = ep.allocate(toy, [ep.Channels(3)], scores)
    shown = {row[0]: row[3] for row in of_plan(half, scores).rows}
    name = "node_feats.1"
    kept = sum(sum(values[i] for i in half.masks[name].of(ir)) for ir, values in scores.mean[name].items())
    assert kept < (total := sum(values.sum() for values in scores.mean[name].values()))
    assert shown[name] == f"{100 * kept / total:.1f} %"
    assert len(of_plan(half, None).heads) == 3


def test_every_figure_of_a_page_has_a_closed_table_with_rows(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "run")
    stage(run / "sizes", ["benchmark"], {"timings": [speed("a", 10.0)], "scaling": [scaling("a", 20.0, 0.5)]})
    radial = {"pair": ["O", "H"], "radii": [1.0, 2.0], "values": [0.0, 1.0], "errors": [0.1, 0.1]}
    moved = {"model": "b", "passed": True, "atoms": 8, "time_ps": 2.0, "crashed": None, "rdf": [radial]}
    write(run / "md.json", [moved | {"drift_meV_per_atom_per_ps": None, "temperature_K": None}])
    tried = {"number": 1, "made": "x", "shape": "y", "predicted": {"time": 0.5, "parameters": 0.5}}
    tried |= {"errors": {"forces": 9.0}}
    finalist = {"number": 1, "measured": {"time": 0.25, "parameters": 0.5}, "errors": {"forces": 4.0}}
    write(run / "search.json", {"reason": "r", "chosen": 1, "tried": [tried], "finalists": [finalist]})
    drawn = [b for part in sections(RunDirectory.read(run)) for b in part.blocks if isinstance(b, Figure)]
    kinds = {figure.name.partition("-")[0] for figure in drawn}
    assert kinds == {"cost", "parity", "elements", "scaling", "removed", "search", "curve", "rdf"}
    for figure in drawn:
        assert figure.numbers.rows
        assert all(len(row) == len(figure.numbers.heads) for row in figure.numbers.rows)
    [searched] = [figure for figure in drawn if figure.name.startswith("search")]
    assert searched.numbers.rows == [["1", "x", "y", "2.00x", "9.0", "4.00x", "4.0"]]
    page = report_page(run)
    figures = re.findall(r"<figure>.*?</figure>", page, flags=re.DOTALL)
    assert len(figures) == len(drawn)
    assert all(re.search(r"<details><summary>.+?</summary>.*<table>", figure, flags=re.DOTALL) for figure in figures)
