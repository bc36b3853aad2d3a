"""``equiprune label`` with a student, relaxations and screening: frames, counts, files, and what is refused."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from command_line import Run
from runs import bare, write

import equiprune as ep
from equiprune.labelling.dynamics import Dynamics
from equiprune.labelling.relaxation import Relaxation
from equiprune.labelling.walks import Driver, visited
from equiprune.structures.labels import Labels

pytestmark = pytest.mark.slow

SHORT = ["--frames", 2, "--interval", 3, "--temperature", 200]


def bytes_without_names(path: Path) -> bytes:
    """Contents of a file besides where its structures are from."""
    return re.sub(rb' (labelled_from|labelled_as|student_sha256)=("[^"]*"|\S+)', b"", path.read_bytes())


def shaken(path: Path) -> Path:
    """The toy with a readout ten thousand times as strong: dynamics that explode."""
    toy = ep.load("toy")
    weights = dict(toy.checkpoint.weights)
    weights["readout_weight"] = weights["readout_weight"] * 1e4
    ep.save(ep.Potential.create(toy.adapter, replace(toy.checkpoint, weights=weights)), path)
    return path


def test_the_student_moves_and_the_teacher_labels(cli: Run, tmp_path: Path, data: Path, model: Path) -> None:
    flags = [*SHORT, "--relaxation-frames", 1, "--relaxation-steps", 5, "--seed", 4]
    ran = cli("label", "toy", data, "--student", model, *flags, "-o", tmp_path / "out.xyz", "--json")
    assert ran.code == 0, ran.err
    sha256 = {name: cli("info", name, "--json").json["sha256"] for name in ("toy", model)}
    assert (ran.json["teacher_sha256"], ran.json["student_sha256"]) == (sha256["toy"], sha256[model])
    assert not any({**ran.json["walks_ended"], **ran.json["left_out"]}.values())
    student, teacher = ep.load(model), ep.load("toy")
    walks = [Dynamics(2, 200.0, 3, seed=4), Relaxation(1, 5)]
    expected = [v.atoms for v in visited(ep.read_structures(data), Driver(student.calculator()), walks)]
    assert (ran.json["structures"], ran.json["walks"]) == (len(expected), 12)
    assert 6 * 3 < len(expected) <= 6 * 4  # some come to rest at once
    found = list(ep.read_structures(tmp_path / "out.xyz"))
    for atoms, same, exact in zip(found, expected, teacher.predict(expected), strict=True):
        np.testing.assert_allclose(atoms.positions, same.positions, atol=1e-7)
        np.testing.assert_allclose(Labels.of(atoms).forces, exact.forces.numpy(), atol=1e-5)
        assert atoms.info["teacher_sha256"] == sha256["toy"]
        assert atoms.info.get("student_sha256") == (None if atoms.info["labelled_as"] == "itself" else sha256[model])


def test_a_student_that_is_the_teacher_gives_the_frames_of_the_teacher(cli: Run, tmp_path: Path, data: Path) -> None:
    ep.save(ep.load("toy"), tmp_path / "same")
    assert cli("label", "toy", data, *SHORT, "-o", tmp_path / "a.xyz").code == 0
    assert cli("label", "toy", data, *SHORT, "--student", tmp_path / "same", "-o", tmp_path / "b.xyz").code == 0
    assert (tmp_path / "a.xyz").read_bytes() == bytes_without_names(tmp_path / "b.xyz")
    assert (tmp_path / "a.xyz").read_bytes() != (tmp_path / "b.xyz").read_bytes()


def test_screening_leaves_exactly_the_others(cli: Run, tmp_path: Path, data: Path, model: Path) -> None:
    flags = ["--copies", 2, "--rattle", 0.2]
    assert cli("label", "toy", data, *flags, "-o", tmp_path / "all.xyz").code == 0
    every = list(ep.read_structures(tmp_path / "all.xyz"))
    forces = [np.linalg.norm(Labels.of(atoms).forces, axis=1).max() for atoms in every]
    found = ep.load(model).predict(every)
    apart = [
        np.linalg.norm(Labels.of(atoms).forces - other.forces.numpy(), axis=1).max()
        for atoms, other in zip(every, found, strict=True)
    ]
    largest, disagreement = float(np.quantile(forces, 0.7)), float(np.quantile(apart, 0.6))
    kept = [f <= largest and d <= disagreement for f, d in zip(forces, apart, strict=True)]
    flags += ["--largest-force", largest, "--second-teacher", model, "--largest-disagreement", disagreement]
    ran = cli("label", "toy", data, *flags, "-o", tmp_path / "some.xyz", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["structures"] == sum(kept) < len(every)
    left_out = ran.json["left_out"]
    assert left_out["largest_force"] == sum(f > largest for f in forces)
    assert sum(left_out.values()) == len(every) - sum(kept) > left_out["largest_force"]
    assert ran.json["second_teacher_sha256"] == cli("info", model, "--json").json["sha256"]
    chunks = _structures((tmp_path / "all.xyz").read_text())
    expected = "".join(chunk for chunk, stays in zip(chunks, kept, strict=True) if stays)
    assert bytes_without_names(tmp_path / "some.xyz") == expected.encode()


def _structures(text: str) -> list[str]:
    """The text of each structure of an extxyz file."""
    lines, found = text.splitlines(keepends=True), []
    while lines:
        size = int(lines[0]) + 2
        found.append("".join(lines[:size]))
        lines = lines[size:]
    return found


def test_structures_say_where_they_came_from(cli: Run, tmp_path: Path, data: Path, model: Path) -> None:
    flags = [*SHORT, "--copies", 1, "--substitutions", 1, "--relaxation-frames", 1, "--limit", 1]
    carbon = write(
        tmp_path / "carbon.xyz", [Atoms("CO", positions=[[0, 0, 0], [1.2, 0, 0]], cell=[5] * 3, pbc=True)] * 2
    )
    assert cli("label", "toy", carbon, *flags, "--student", model, "-o", tmp_path / "out.xyz").code == 0
    said = [atoms.info["labelled_as"] for atoms in ep.read_structures(tmp_path / "out.xyz")]
    short = f"{tmp_path.name}/{model.name}"
    assert said[:4] == [
        "itself",
        *(f"molecular dynamics of {short}, frame {i}" for i in (1, 2)),
        f"relaxation of {short}, frame 1",
    ]
    assert said[4::4] == [
        "displaced copy 1",
        "copy 1 with other elements",
        "copy 1 with other elements, displaced copy 1",
    ]
    assert said[5] == f"molecular dynamics of {short} from displaced copy 1, frame 1"
    origins = [atoms.info["labelled_from"] for atoms in ep.read_structures(tmp_path / "out.xyz")]
    assert set(origins) == {"structure 0 of carbon.xyz"}
    # labelled again, nothing is said that was true of the labels before
    assert cli("label", "toy", tmp_path / "out.xyz", "-o", tmp_path / "again.xyz").code == 0
    assert not any(
        {"labelled_as", "student_sha256"} & atoms.info.keys() for atoms in ep.read_structures(tmp_path / "again.xyz")
    )


def test_without_these_flags_nothing_is_said_of_where_structures_came_from(
    cli: Run, tmp_path: Path, data: Path
) -> None:
    assert cli("label", "toy", data, *SHORT, "--copies", 1, "-o", tmp_path / "out.xyz").code == 0
    assert b"labelled_" not in (tmp_path / "out.xyz").read_bytes()


# Dynamics that explode.

HOT = ["--frames", 4, "--interval", 4, "--temperature", 20000, "--timestep", 4]


def test_walks_that_explode_end_and_are_counted(cli: Run, tmp_path: Path, data: Path, model: Path) -> None:
    ran = cli("label", "toy", data, "--student", model, *HOT, "-o", tmp_path / "out.xyz", "--json")
    assert ran.code == 0, ran.err
    ended = ran.json["walks_ended"]
    assert 0 < sum(ended.values()) <= ran.json["walks"] == 6
    assert 6 < ran.json["structures"] < 6 * 5
    ran = cli("label", "toy", data, "--student", model, *HOT, "-o", tmp_path / "again.xyz")
    assert "Walks of the student that ended early: " in ran.out
    assert re.findall(r"\d+(?= where)", ran.out) == [str(number) for number in ended.values() if number]
    assert "No structure was left out." in ran.out
    assert "Traceback" not in ran.err


def test_a_student_of_which_no_frame_survives_is_an_error_that_leaves_nothing(
    refused: Run, tmp_path: Path, data: Path
) -> None:
    student = shaken(tmp_path / "shaken")
    command = ["label", "toy", data, "--student", student, *HOT, "-o", tmp_path / "out.xyz"]
    says = ("Not one frame that", "shaken reached is left", "ended early: ", "Nothing was written", "--temperature")
    refused(*command, says=says)


def test_nothing_left_is_an_error_that_leaves_nothing(refused: Run, tmp_path: Path, data: Path) -> None:
    command = ["label", "toy", data, "--largest-force", 1e-9, "-o", tmp_path / "out.xyz"]
    refused(*command, says=("Not one structure is left", "6 with a force above 1e-09 eV/Angstrom", "Allow larger"))


# Interruptions.


def flags_of_everything(model: Path) -> list[Any]:
    hot = ["--frames", 3, "--interval", 3, "--temperature", 20000, "--timestep", 4, "--relaxation-frames", 1]
    screening = ["--largest-force", 0.3, "--second-teacher", model, "--largest-disagreement", 0.1]
    return ["--student", model, *hot, "--relaxation-steps", 4, *screening, "--hessian-rows", 1]


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("steps", [12, 24])
def test_walks_that_were_interrupted_go_on_to_the_same_bytes(
    steps: int,
    cli: Run,
    tmp_path: Path,
    model: Path,
    interrupting: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, partial, flags = (
        write(tmp_path / "data.xyz", bare(8)),
        tmp_path / "out.xyz.partial",
        flags_of_everything(model),
    )
    whole = cli("label", "toy", data, *flags, "-o", tmp_path / "whole.xyz", "--json").json
    assert sum(whole["walks_ended"].values()) > 0
    assert whole["left_out"]["largest_force"] + whole["left_out"]["largest_disagreement"] > 0
    command = ["label", "toy", data, *flags, "-o", tmp_path / "out.xyz", "--json"]
    interrupting(steps)
    ran = cli(*command)
    assert (ran.code, f"Interrupted; {partial} keeps what was finished" in ran.err) == (2, True)
    monkeypatch.undo()
    kept = json.loads((partial / "record.json").read_text())
    assert 0 < kept["tally"]["visits"] < steps
    ran = cli(*command)
    assert (ran.code, ran.json) == (0, whole | {"written": str(tmp_path / "out.xyz")})
    assert (tmp_path / "out.xyz").read_bytes() == (tmp_path / "whole.xyz").read_bytes()


@pytest.mark.usefixtures("small_batches")
def test_another_student_or_other_limits_do_not_go_on(
    cli: Run, refused: Run, tmp_path: Path, model: Path, interrupting: Callable[[int], None]
) -> None:
    data = write(tmp_path / "data.xyz", bare(16))
    ep.save(ep.load("toy"), tmp_path / "other")
    first = {"--student": model, "--largest-force": 5, "--relaxation-steps": 6}
    more = ["--frames", 1, "--interval", 1, "--relaxation-frames", 1]

    def command(changes: dict[str, object]) -> list[object]:
        flags = [word for pair in (first | changes).items() for word in pair]
        return ["label", "toy", data, *more, *flags, "-o", tmp_path / "out.xyz"]

    interrupting(20)
    assert cli(*command({})).code == 2
    for change in ({"--student": tmp_path / "other"}, {"--largest-force": 6}, {"--relaxation-steps": 7}):
        refused(*command(change), says=("out.xyz.partial", "another model, data or setting"))


# What is refused.


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--student", "toy"], ("--student makes", "--frames", "--relaxation-frames")),
        (["--student", "nothing", "--frames", 1], ("nothing", "toy")),
        (["--relaxation-frames", -1], ("--relaxation-frames", "-1")),
        (["--relaxation-frames", 9, "--relaxation-steps", 8], ("--relaxation-steps 8", "frames (9)")),
        (["--largest-force", 0], ("--largest-force 0", "positive number of eV/Angstrom")),
        (["--largest-force", "nan"], ("--largest-force nan", "positive")),
        (["--second-teacher", "toy"], ("--second-teacher", "--largest-disagreement", "need each other")),
        (["--largest-disagreement", 1], ("--second-teacher", "--largest-disagreement", "need each other")),
        (["--second-teacher", "no.such:Thing", "--largest-disagreement", 1], ("no.such", "no 'Thing'")),
    ],
)
def test_what_cannot_be_is_refused(
    flags: list[object], says: tuple[str, ...], refused: Run, tmp_path: Path, data: Path
) -> None:
    refused("label", "toy", data, *flags, "-o", tmp_path / "out.xyz", says=says)


def test_a_calculator_teaches_a_student_whose_precision_may_be_said(cli: Run, tmp_path: Path, data: Path) -> None:
    name, options = "ase.calculators.lj:LennardJones", '{"sigma": 1.2, "rc": 3.0, "smooth": true}'
    words = ["label", name, data, "--options", options, "--student", "toy", *SHORT, "--dtype", "float64"]
    ran = cli(*words, "-o", tmp_path / "out.xyz", "--json")
    assert ran.code == 0, ran.err
    toy = ep.load("toy", dtype=torch.float64)
    expected = visited(ep.read_structures(data), Driver(toy.calculator()), [Dynamics(2, 200.0, 3)])
    for atoms, visit in zip(ep.read_structures(tmp_path / "out.xyz"), expected, strict=True):
        np.testing.assert_allclose(atoms.positions, visit.atoms.positions, atol=1e-7)
