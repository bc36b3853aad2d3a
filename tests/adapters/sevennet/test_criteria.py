"""The claim that Taylor chooses best, in small, on real reference data. The full table is made by a benchmark."""

import os
from pathlib import Path

import pytest
from ase import Atoms

import equiprune as ep

FOLDER = os.environ.get("EQUIPRUNE_DATA")
pytestmark = [
    pytest.mark.skipif(
        FOLDER is None, reason="needs reference data in the folder named by the environment variable EQUIPRUNE_DATA"
    ),
    pytest.mark.usefixtures("plain_code"),
]


def reference(name: str) -> list[Atoms]:
    return list(ep.read_structures(Path(FOLDER or "") / name))


def test_taylor_beats_the_other_criteria_on_dft_forces() -> None:
    """Half width, no retraining; scored on MPtrj frames, tested on DFT molecular dynamics of lithium."""
    parent = ep.load("7net-l3i5")
    calibration = [a for a in reference("mptrj_sample/mptrj-random-1k.extxyz.xz") if len(a) <= 8][:24]
    test = reference("mlearn/Li_test.extxyz.xz")[::8]
    scores = {
        "taylor": ep.calibrate(parent, calibration),
        "activation": ep.calibrate(parent, calibration, ep.Activation()),
        "magnitude": ep.data_free_scores(parent, ep.Magnitude()),
        "random": ep.data_free_scores(parent, ep.Random(0)),
    }
    targets = [ep.HiddenIrreps.parse("64x0e+32x1e+16x2e"), ep.EdgeLmax(2)]
    models = {name: ep.prune(parent, ep.allocate(parent, targets, s)) for name, s in scores.items()}
    errors = {accuracy.model: accuracy.mae("forces") or 0.0 for accuracy in ep.evaluate(models, test)}
    assert errors["taylor"] < 0.5 * min(errors["magnitude"], errors["random"])
    assert errors["taylor"] < errors["activation"]
