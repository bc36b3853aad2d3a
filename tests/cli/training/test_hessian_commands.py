"""Labels of the Hessian on the command line, and training on them."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from command_line import Run
from runs import labelled, rows

import equiprune as ep
from equiprune.files.settings import to_json
from equiprune.potentials.hessian import Probes, RandomProbes, Rows
from equiprune.structures.labels import Labels
from equiprune.training.objective import Norm, Term

pytestmark = pytest.mark.slow


@pytest.fixture
def data(tmp_path: Path) -> Path:
    ase.io.write(tmp_path / "data.xyz", list(ep.probe_structures([1, 6, 8, 14]).values()), format="extxyz")
    return tmp_path / "data.xyz"


@pytest.mark.parametrize(
    ("flags", "probes"), [(["--hessian-rows", 2], Rows(2, 5)), (["--hessian-probes", 3], RandomProbes(3, 5))]
)
def test_labels_written_by_a_command_train_by_a_command(
    flags: list[object], probes: Probes, cli: Run, data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "labelled.extxyz"
    ran = cli("label", "toy", data, "-o", output, "--seed", 5, *flags, "--json")
    assert (ran.code, ran.json["hessian"]) == (0, to_json(probes))
    for i, atoms in enumerate(ep.read_structures(output)):
        np.testing.assert_allclose(Labels.of(atoms).hessian.vectors, probes.draw(len(atoms), i), atol=1e-8)
    weights = ["--hessian-weight", 2, "--hessian-samples", 2]
    assert cli("train", "toy", "--data", output, "-o", tmp_path / "run", "--epochs", 1, *weights).code == 0
    [row] = rows(tmp_path / "run")
    assert float(row["train_hessian"]) < 1e-3  # the student is the teacher
    recipe = ep.load(tmp_path / "run" / "model").checkpoint.history[-1]["recipe"]
    objective = recipe["objective"]
    assert (objective["hessian"], objective["hessian_samples"]) == (to_json(Term(2.0, Norm())), 2)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--hessian-rows", 1, "--hessian-probes", 1], ("--hessian-rows", "--hessian-probes", "leave one out")),
        (["--hessian-rows", 0], ("--hessian-rows", "0", "1 or more")),
        (["--hessian-probes", 1.5], ("--hessian-probes", "whole number")),
    ],
)
def test_label_refuses(flags: list[object], says: tuple[str, ...], refused: Run, data: Path, tmp_path: Path) -> None:
    refused("label", "toy", data, "-o", tmp_path / "out.xyz", *flags, says=says)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--hessian-weight", -1], ("--hessian-weight", "-1", "0 or a positive number")),
        (["--hessian-samples", 2], ("--hessian-samples", "--hessian-weight")),
        (["--hessian-samples", 2, "--hessian-weight", 0], ("--hessian-samples", "--hessian-weight")),
        (["--hessian-weight", 1, "--hessian-samples", 0], ("--hessian-samples", "0", "1 or more")),
        (["--hessian-weight", 1], ("label of its hessian", "--hessian-rows")),
    ],
)
def test_train_refuses(flags: list[object], says: tuple[str, ...], refused: Run, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "labelled.xyz", list(labelled()[:2]), format="extxyz")
    refused("train", "toy", "--data", tmp_path / "labelled.xyz", "-o", tmp_path / "run", *flags, says=says)
