"""The demo's structures are what its pages say, and its table has a row for each model."""

from importlib.resources import files

import pytest

import equiprune as ep
from equiprune.cli.demo import _HEADINGS, _shipped, summary_rows
from equiprune.evaluation.engines import ENGINES
from equiprune.structures.labels import labels_of


@pytest.mark.parametrize(
    ("name", "formulas"),
    [
        ("calibration", 56),
        ("evaluation", 40),
        ("dynamics", ["Cu108", "Cu108", "Ni108", "Ni108", "Li54", "Li54", "Si64", "Si64"]),
    ],
)
def test_structures_have_labels(name: str, formulas: int | list[str]) -> None:
    structures = _shipped(name)
    assert formulas in (len(structures), [atoms.get_chemical_formula() for atoms in structures])
    for atoms in structures:
        labels = labels_of(atoms, name)
        assert labels.energy is not None
        assert labels.forces is not None
        assert not labels.lacks("stress", atoms)


def test_the_licence_of_the_dynamics_is_with_it() -> None:
    folder = files("equiprune.cli") / "demo_data"
    assert "Copyright (c) 2019, Materials Virtual Lab" in (folder / "LICENSE-mlearn").read_text()
    assert "LICENSE-mlearn" in (folder / "README.md").read_text()


@pytest.mark.slow
def test_a_row_for_each_model(toy: ep.Potential) -> None:
    still, moving = (list(ep.label(toy, ep.probe_structures(toy.elements).values())) for _ in range(2))
    moving[0].calc.results["energy"] += len(moving[0])
    models = {"first": toy, "second": toy}
    timings = ep.benchmark(models, still[0], repeats=1, engines=list(ENGINES.values()))
    rows = summary_rows(
        models, ep.evaluate(models, still), ep.evaluate(models, moving), timings, {"second": {"passed": False}}
    )
    assert rows[0] == _HEADINGS
    assert [row[0] for row in rows[1:]] == ["first", "second"]
    assert rows[1][2:7] == ["0.0", "0.0", "0.0", f"{1000 / len(moving):.1f}", "0.0"]
    assert (rows[1][-1], rows[2][-1]) == ("", "FAILED")
    assert all(len(row) == len(_HEADINGS) for row in rows)
