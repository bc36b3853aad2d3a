"""``equiprune train`` on labels of another level of theory: references, and structures that are replayed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command_line import Run
from runs import rows, write
from train_words import train

import equiprune as ep
from equiprune.potentials.atomic_energies import isolated_energies
from equiprune.structures.reading import fingerprint
from equiprune.training.replay import relabelled

pytestmark = pytest.mark.slow


@pytest.fixture
def elsewhere(labelled: Path, tmp_path: Path) -> Path:
    """The same structures with energies of another code: 10 eV less for every O, 3 eV more for every H."""
    moved = relabelled(list(ep.read_structures(labelled)), {1: 3.0, 8: -10.0})
    return write(tmp_path / "elsewhere.extxyz", moved)


def offsets(potential: ep.Potential) -> dict[int, float]:
    return isolated_energies(potential, [1, 6, 8, 14])


def test_train_keeps_references_and_says_how_far_the_labels_are(
    cli: Run, labelled: Path, elsewhere: Path, tmp_path: Path
) -> None:
    near = cli(*train("toy", labelled, tmp_path / "near"))
    assert near.err.count("References kept. Labels minus model: +0.000 eV/atom") == 1
    assert "probably" not in near.err
    far = cli(*train("toy", elsewhere, tmp_path / "far"))
    assert far.err.count("--references refit is probably what you want") == 1


def test_train_refits_references_once(
    cli: Run, refused: Run, elsewhere: Path, tmp_path: Path, interrupting: Callable[[int], None]
) -> None:
    """The answer to an interruption is the same command; it must not fit the references of what is half trained."""
    words = train("toy", elsewhere, tmp_path, "--references", "refit", "--learning-rate", 1e-9)
    assert cli(*words[:3], elsewhere, "-o", tmp_path / "whole", *words[6:]).code == 0
    interrupting(1)
    assert cli(*words).code == 2
    refused(*train("toy", elsewhere, tmp_path, "--learning-rate", 1e-9), says=("references", "another folder"))
    interrupting(1000)
    ran = cli(*words)
    assert ran.code == 0, ran
    assert ran.err.count("References refitted on 8 structures with 4 independent compositions of 4 elements") == 1
    after, whole = (ep.load(tmp_path / name / "model") for name in ("run", "whole"))
    assert after.checkpoint.history == whole.checkpoint.history
    assert [step["step"] for step in after.checkpoint.history] == ["reference", "train"]
    change = {z: energy - offsets(ep.load("toy"))[z] for z, energy in offsets(after).items()}
    assert change == pytest.approx({1: 3.0, 6: 0.0, 8: -10.0, 14: 0.0}, abs=1e-2)


def test_train_takes_energies_of_isolated_atoms(cli: Run, refused: Run, labelled: Path, tmp_path: Path) -> None:
    given = {"H": -13.6, "C": -1029.5, "O": -2041.8, "Si": -7873.2}
    (tmp_path / "atoms.json").write_text(json.dumps(given))
    flags = ["--references", tmp_path / "atoms.json", "--learning-rate", 1e-9, "--dtype", "float64"]
    refused(*train("toy", labelled, tmp_path, *flags), says=("If they are right, say --references-anyway",))
    flags.append("--references-anyway")
    ran = cli(*train("toy", labelled, tmp_path, *flags))
    assert ran.code == 0, ran
    assert "References set to energies of isolated atoms: H -13.6000" in ran.err
    after = offsets(ep.load(tmp_path / "run" / "model", dtype=torch.float64))
    assert list(after.values()) == pytest.approx(list(given.values()), abs=1e-5)
    (tmp_path / "atoms.json").write_text('{"H": -13.6}')
    refused(*train("toy", labelled, tmp_path, *flags), says=("H, but the structures also have C, O, Si",))


def test_train_replays_at_the_level_it_learns(
    cli: Run, labelled: Path, held_out: Path, elsewhere: Path, tmp_path: Path
) -> None:
    flags = ["--references", "refit", "--replay", held_out, "--replay-share", 0.2, "--batch-size", 1]
    ran = cli(*train("toy", elsewhere, tmp_path, *flags, epochs=1))
    assert ran.code == 0, ran
    assert "Replay: 2 structures in an epoch of 10, out of 4, energies moved with the references." in ran.err
    assert "far from them" not in ran.err
    assert len(rows(tmp_path / "run")) == 10
    assert max(float(row["train_energy"]) for row in rows(tmp_path / "run")) < 1e-3  # no label is eV away
    step = ep.load(tmp_path / "run" / "model").checkpoint.history[-1]
    assert step["data"] == {"data": fingerprint(elsewhere), "replay": fingerprint(held_out)}
    assert step["replay"]["share"] == 0.2


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--references", "refitt"], ("refitt is neither keep nor refit nor a file", "Did you mean 'refit'?")),
        (["--scale", "rms-forces"], ("--scale rms-forces", "--from-scratch")),
        (["--scale", "rms-forces", "--from-scratch"], ("toy models have no energy scale",)),
        (["--replay-share", 0.5], ("--replay-share", "give --replay")),
        (["--replay", "none.xyz"], ("none.xyz", "no such file")),
    ],
)
def test_train_refuses_impossible_theories(
    flags: list[object], says: tuple[str, ...], refused: Run, model: Path, labelled: Path, tmp_path: Path
) -> None:
    refused(*train(model, labelled, tmp_path, *flags), says=says)


def test_train_refuses_impossible_replays(refused: Run, model: Path, labelled: Path, tmp_path: Path) -> None:
    replay = ["--replay", labelled]
    refused(*train(model, labelled, tmp_path, *replay, "--replay-share", 1), says=("--replay-share 1", "between 0"))
    flags = ["--from-scratch", "--references", "refit"]
    refused(*train(model, labelled, tmp_path, *replay, *flags), says=("random weights", "--replay"))
