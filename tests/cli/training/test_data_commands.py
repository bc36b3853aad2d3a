"""The flags that say where labels are, which frames to train on, and how structures are loaded."""

import json
from collections.abc import Callable
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from command_line import Run, contents
from runs import rows

import equiprune as ep
from equiprune.labelling.augmentation import Augmentation, augmented
from equiprune.labelling.label import label
from equiprune.structures.sampling import held_out_frames, sample_frames

pytestmark = pytest.mark.slow

KEYS = ["--energy-key", "dft_energy", "--forces-key", "dft_forces", "--stress-key", "dft_stress"]


def structures(copies: int = 1) -> list[Atoms]:
    """Four structures and their copies, labelled by the toy model; ``traj`` is the same for a structure's copies."""
    bare = ep.probe_structures([1, 6, 8, 14]).values()
    found = list(label(ep.load("toy"), augmented(bare, Augmentation(copies=copies))))
    for i, atoms in enumerate(found):
        atoms.info |= {"traj": f"mp-{i // (copies + 1)}", "number": i}
    return found


def write(path: Path, found: list[Atoms]) -> Path:
    ase.io.write(path, found, format="extxyz")
    return path


def renamed(atoms: Atoms) -> Atoms:
    """The labels under names of their own, and others where labels usually are."""
    copy = atoms.copy()
    copy.info |= {"dft_energy": atoms.get_potential_energy(), "dft_stress": atoms.get_stress(voigt=False).flatten()}
    copy.arrays["dft_forces"] = atoms.get_forces()
    copy.info["REF_energy"] = -1000.0
    copy.calc = SinglePointCalculator(copy, energy=99.0, forces=copy.positions, stress=[9.0] * 6)
    return copy


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    return write(tmp_path / "labelled.extxyz", structures())


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """The same labels under names of their own."""
    return write(tmp_path / "elsewhere.extxyz", [renamed(atoms) for atoms in structures()])


def train(data: Path, run: Path, *flags: object) -> list[object]:
    return ["train", "toy", "--data", data, "-o", run, "--epochs", 1, *flags]


def weights(run: Path) -> bytes:
    return (run / "model" / "weights.safetensors").read_bytes()


# Keys.


def test_evaluate_takes_labels_from_the_keys_given(cli: Run, labelled: Path, elsewhere: Path) -> None:
    ran = cli("evaluate", "toy", "--data", elsewhere, *KEYS, "--json")
    assert ran.err == (
        "Labels: energy from dft_energy (8 of 8), forces from dft_forces (8 of 8), stress from dft_stress (8 of 8).\n"
    )
    assert ran.json == cli("evaluate", "toy", "--data", labelled, "--json").json
    without = cli("evaluate", "toy", "--data", elsewhere, "--json")
    assert without.json[0]["energy_mae"] > 1e4
    assert without.err.startswith("Labels: energy from REF_energy (8 of 8), forces from calculator result forces (8 of")


def test_train_takes_labels_from_the_keys_given(cli: Run, labelled: Path, elsewhere: Path, tmp_path: Path) -> None:
    ran = cli(*train(elsewhere, tmp_path / "a", "--validation", elsewhere, *KEYS))
    assert ran.code == 0
    said = "8 structures. Labels: energy from dft_energy (8 of 8), forces from dft_forces (8 of 8), stress from dft"
    assert f"Training: {said}" in ran.err
    assert f"Validation: {said}" in ran.err
    assert cli(*train(labelled, tmp_path / "b", "--validation", labelled)).code == 0
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


@pytest.mark.parametrize("quantity", ["energy", "forces", "stress"])
def test_a_key_that_is_not_there_is_refused_with_those_that_are(
    quantity: str, refused: Run, elsewhere: Path, tmp_path: Path
) -> None:
    says = (f"No structure has 'ref_{quantity}'", f"--{quantity}-key", "dft_energy", "REF_energy", "energy")
    flags = [f"--{quantity}-key", f"ref_{quantity}"]
    refused("evaluate", "toy", "--data", elsewhere, *flags, says=says)
    refused(*train(elsewhere, tmp_path / "run", *flags), says=says)


# Every kind of file.


@pytest.mark.parametrize("name", ["data.db", "data.aselmdb", "data.extxyz.xz", "shards"])
def test_every_kind_of_file_trains_to_the_same_bits(name: str, cli: Run, labelled: Path, tmp_path: Path) -> None:
    found = list(ep.read_structures(labelled))
    path = tmp_path / name
    if name == "shards":
        path.mkdir()
        for shard, part in (("b.db", found[5:]), ("a.extxyz", found[:5])):
            ase.io.write(path / shard, part)
    elif path.suffix == ".xz":
        ase.io.write(path, found, format="extxyz")
    else:
        with ase.db.connect(path, use_lock_file=False) as database:
            for atoms in found:
                database.write(atoms)
    assert cli(*train(labelled, tmp_path / "a")).code == 0
    assert cli(*train(path, tmp_path / "b")).code == 0
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_a_database_that_is_cut_off_is_refused(refused: Run, labelled: Path, tmp_path: Path) -> None:
    path = tmp_path / "data.aselmdb"
    with ase.db.connect(path, use_lock_file=False) as database:
        for atoms in ep.read_structures(labelled):
            database.write(atoms)
    path.write_bytes(path.read_bytes()[:-4096])
    refused(*train(path, tmp_path / "run"), says=("data.aselmdb", "the file is cut off"))


def test_an_empty_directory_is_refused(refused: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(*train(tmp_path / "empty", tmp_path / "run"), says=("empty", "holds no structures"))


def test_validation_structures_that_are_trained_on_are_pointed_out(cli: Run, labelled: Path, tmp_path: Path) -> None:
    held_out = write(tmp_path / "held_out.extxyz", structures()[:3])
    ran = cli(*train(labelled, tmp_path / "run", "--validation", held_out))
    assert ran.code == 0
    assert "3 of the 3 validation structures are training structures too (numbers 0, 1, 2)" in ran.err
    assert "Leave them out of one of the two sets" in ran.err
    assert "structures too" not in cli(*train(labelled, tmp_path / "alone")).err


# Outputs that would become data.


@pytest.fixture
def shards(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of structures, which is also where the command is given."""
    (tmp_path / "shards").mkdir()
    labelled.rename(tmp_path / "shards" / "a.extxyz")
    monkeypatch.chdir(tmp_path / "shards")
    return tmp_path / "shards"


@pytest.mark.parametrize("flag", ["--data", "--validation", "--replay", "--references"])
@pytest.mark.parametrize(
    ("data", "output"), [(".", "run"), ("../shards", "deep/er/run"), (".", "."), (".", "../link/run")]
)
def test_a_run_among_its_data_is_refused(flag: str, data: str, output: str, refused: Run, shards: Path) -> None:
    (shards.parent / "link").symlink_to(shards)
    words = train("a.extxyz", output) if flag != "--data" else train(data, output)
    given = [] if flag == "--data" else [flag, data]
    refused(*words, *given, says=(f"'{output}' lies in '{Path(data)}'", "read as structures", "place outside of it"))


def test_a_cache_among_the_data_is_refused(refused: Run, shards: Path) -> None:
    refused(*train(".", "../run", "--cache", "cache"), says=("'cache' lies in '.'", "place outside of it"))


@pytest.mark.parametrize(
    "command",
    [
        ["label", "toy", ".", "-o", "out.xyz"],
        ["calibrate", "toy", ".", "-o", "out.json"],
        ["calibrate", "toy", ".", "-o", "../out.json", "--plot", "out.png"],
        ["prune", "toy", "--channels", 3, "--data", ".", "-o", "out"],
    ],
    ids=["label", "calibrate", "plot", "prune"],
)
def test_other_outputs_among_their_data_are_refused(command: list[object], refused: Run, shards: Path) -> None:
    refused(*command, says=("' lies in '.', all of whose files are read as structures", "place outside of it"))


def test_an_output_beside_its_data_goes_on(cli: Run, shards: Path) -> None:
    """A folder whose name begins like that of the data is another one."""
    for _ in range(2):
        assert cli(*train("../shards", "../shards.run")).code == 0
    (shards.parent / "deeper").mkdir()
    assert cli("label", "toy", "a.extxyz", "-o", "labelled.xyz").code == 0  # a file, of which nothing else is read


# A sample.


def test_a_sample_is_said_recorded_and_trained_on(cli: Run, tmp_path: Path) -> None:
    found = structures(copies=3)
    data = write(tmp_path / "data.extxyz", found)
    flags = ["--frames-per-structure", 2, "--structure-key", "traj", "--seed", 3]
    ran = cli(*train(data, tmp_path / "run", *flags))
    assert ran.code == 0
    assert "Sample: 50 % of the frames (8 of 16), 4 structures, at most 2 of each 'traj'." in ran.err
    assert "Training: 8 structures." in ran.err
    history = ep.load(tmp_path / "run" / "model").checkpoint.history
    assert history[-1]["data"]["sample"] == "at most 2 of each traj, seed 3"
    kept = sample_frames([i // 4 for i in range(16)], 2, seed=3)
    chosen = write(tmp_path / "chosen.extxyz", [found[i] for i in kept])
    assert cli(*train(chosen, tmp_path / "same", "--seed", 3)).code == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "same")


@pytest.mark.parametrize("most", [None, 2])
def test_a_share_of_the_structures_is_held_out(most: int | None, cli: Run, tmp_path: Path) -> None:
    """All frames of a structure are on one side, and the run is that of two files."""
    found = structures(copies=3)
    data = write(tmp_path / "data.extxyz", found)
    some = ["--frames-per-structure", most] if most else []
    flags = ["--validation-share", 0.5, "--structure-key", "traj", "--seed", 3, "--patience", 5, *some]
    ran = cli(*train(data, tmp_path / "run", *flags))
    assert ran.code == 0
    each = most or 4
    told = f"Validation: {2 * each} of {4 * each} frames, those of 0.5 of the structures, told apart by 'traj'."
    assert told in ran.err
    history = ep.load(tmp_path / "run" / "model").checkpoint.history
    assert history[-1]["data"]["validation"] == "0.5 of the structures by traj, seed 3"
    ids = np.repeat(np.arange(4), 4)
    kept = sample_frames(ids, each, seed=3)
    out = kept[held_out_frames(ids[kept], 0.5, seed=3)]
    left = [i for i in kept if i not in out]
    assert {ids[i] for i in left}.isdisjoint(ids[i] for i in out)
    files = [write(tmp_path / f"{name}.extxyz", [found[i] for i in of]) for name, of in (("a", left), ("b", out))]
    same = train(files[0], tmp_path / "same", "--validation", files[1], "--seed", 3, "--patience", 5)
    assert cli(*same).code == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "same")
    assert (tmp_path / "run" / "last").exists()


def test_without_a_key_every_frame_is_a_structure(cli: Run, tmp_path: Path) -> None:
    data = write(tmp_path / "data.extxyz", structures(copies=3))
    ran = cli(*train(data, tmp_path / "run", "--validation-share", 0.25))
    assert ran.code == 0
    assert "Validation: 4 of 16 frames, those of 0.25 of the structures, each frame a structure of its own" in ran.err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--frames-per-structure", 2], ("needs --structure-key", "traj", "number")),
        (["--structure-key", "traj"], ("--frames-per-structure", "--validation-share", "give one of them too")),
        (["--validation-share", 1], ("validation share of 1", "between 0 and 1")),
        (["--validation-share", 0.5, "--validation", "x.xyz"], ("two ways to the same", "leave one out")),
        (["--validation-share", 0.5, "--structure-key", "tray"], ("Structure 0 has no 'tray'", "'traj'")),
        (["--patience", 1], ("--patience", "--validation-share")),
        (
            ["--frames-per-structure", 2, "--structure-key", "tray"],
            ("Structure 0 has no 'tray'", "Did you mean 'traj'?", "number"),
        ),
        (["--frames-per-structure", 0, "--structure-key", "traj"], ("--frames-per-structure", "1 or more")),
        (["--workers", -1], ("--workers", "0 or more")),
        (["--workers", 1.5], ("--workers", "whole number")),
    ],
)
def test_impossible_samples_and_workers_are_refused(
    flags: list[object], says: tuple[str, ...], refused: Run, labelled: Path, tmp_path: Path
) -> None:
    refused(*train(labelled, tmp_path / "run", *flags), says=says)


# Loading.


def test_a_cache_is_filled_once_and_changes_nothing(
    cli: Run, labelled: Path, tmp_path: Path, stamp: Callable[[Path], dict[str, int]]
) -> None:
    assert cli(*train(labelled, tmp_path / "a")).code == 0
    assert cli(*train(labelled, tmp_path / "b", "--cache", tmp_path / "cache")).code == 0
    before = stamp(tmp_path / "cache")
    assert len(before) == 8
    assert cli(*train(labelled, tmp_path / "c", "--cache", tmp_path / "cache")).code == 0
    assert stamp(tmp_path / "cache") == before
    assert weights(tmp_path / "a") == weights(tmp_path / "b") == weights(tmp_path / "c")
    assert "cache" not in json.loads((tmp_path / "b" / "recipe.json").read_text())


@pytest.fixture
def stamp() -> Callable[[Path], dict[str, int]]:
    """When each file below a folder was written."""
    return lambda folder: {name: (folder / name).stat().st_mtime_ns for name, text in contents(folder).items() if text}


def test_a_cache_that_cannot_be_made_is_refused(refused: Run, labelled: Path, tmp_path: Path) -> None:
    refused(*train(labelled, tmp_path / "run", "--cache", labelled), says=(str(labelled), "cannot be made"))
