"""``equiprune label``: results, refusals, exit codes and files.

Every refusal goes through `refused`: exit code 2, nothing on stdout, one message, not one byte in the folder changed.
"""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from command_line import Run
from runs import bare, write

import equiprune as ep
from equiprune.commands import label as labelling
from equiprune.errors import OutputError
from equiprune.labelling.augmentation import Augmentation, augmented
from equiprune.labelling.dynamics import Dynamics, simulated
from equiprune.labelling.label import label
from equiprune.labelling.label_file import LabelFile
from equiprune.structures.labels import Labels

pytestmark = pytest.mark.slow


def test_label_writes_the_labels_of_the_teacher(cli: Run, tmp_path: Path, data: Path) -> None:
    ran = cli("label", "toy", data, "-o", tmp_path / "out.extxyz")
    assert (ran.code, ran.err) == (0, "")
    assert "Labelled 6 structures" in ran.out
    found = list(ep.read_structures(tmp_path / "out.extxyz"))
    read = list(ep.read_structures(data))
    assert len(found) == 6
    for atoms, exact in zip(found, ep.load("toy").predict(read), strict=True):
        assert Labels.of(atoms).energy == pytest.approx(exact.energy.item(), abs=1e-5)
        np.testing.assert_allclose(Labels.of(atoms).forces, exact.forces.numpy(), atol=1e-6)
        np.testing.assert_allclose(Labels.of(atoms).stress, exact.stress.numpy(), atol=1e-7)
        np.testing.assert_allclose(Labels.of(atoms).atom_energies, exact.atom_energies.numpy(), atol=1e-6)


def test_label_as_json_is_one_document(cli: Run, tmp_path: Path, data: Path) -> None:
    output = tmp_path / "out.xyz"
    ran = cli("label", "toy", data, "--copies", 2, "--limit", 3, "-o", output, "--json")
    assert (ran.code, ran.err) == (0, "")
    sha256 = cli("info", "toy", "--json").json["sha256"]
    assert ran.json == {"structures": 9, "teacher_sha256": sha256, "written": str(output)}
    assert len(list(ep.read_structures(output))) == 9


def test_label_flags_are_those_of_the_api(cli: Run, tmp_path: Path, data: Path) -> None:
    flags = ["--copies", 1, "--rattle", 0.3, "--strain", 0.04, "--seed", 5, "--dtype", "float64"]
    assert cli("label", "toy", data, *flags, "-o", tmp_path / "out.xyz").code == 0
    toy = ep.load("toy", dtype=torch.float64)
    expected = label(toy, augmented(ep.read_structures(data), Augmentation(1, 0.3, 0.04, 5)))
    for atoms, same in zip(ep.read_structures(tmp_path / "out.xyz"), expected, strict=True):
        np.testing.assert_allclose(atoms.positions, same.positions, atol=1e-8)
        np.testing.assert_allclose(atoms.cell.array, same.cell.array, atol=1e-8)
        assert Labels.of(atoms).energy == pytest.approx(Labels.of(same).energy, abs=1e-8)


def test_label_follows_the_dynamics_of_the_teacher(cli: Run, tmp_path: Path, data: Path) -> None:
    flags = ["--frames", 2, "--temperature", 200, "--interval", 3, "--timestep", 0.5, "--seed", 5, "--limit", 2]
    ran = cli("label", "toy", data, *flags, "--copies", 1, "-o", tmp_path / "out.xyz", "--json")
    assert (ran.code, ran.json["structures"]) == (0, 2 * 2 * 3)
    toy = ep.load("toy")
    start = augmented(list(ep.read_structures(data))[:2], Augmentation(1, seed=5))
    expected = simulated(start, toy.calculator(), Dynamics(2, 200.0, 3, 0.5, 5))
    for atoms, same in zip(ep.read_structures(tmp_path / "out.xyz"), expected, strict=True):
        np.testing.assert_allclose(atoms.positions, same.positions, atol=1e-6)


def test_label_takes_any_calculator_as_the_teacher(cli: Run, tmp_path: Path, data: Path) -> None:
    name, options = "ase.calculators.lj:LennardJones", {"sigma": 1.2, "rc": 3.0, "smooth": True}
    ran = cli("label", name, data, "--options", json.dumps(options), "-o", tmp_path / "out.xyz", "--json")
    assert ran.code == 0
    for atoms, read in zip(ep.read_structures(tmp_path / "out.xyz"), ep.read_structures(data), strict=True):
        read.calc = LennardJones(**options)
        assert Labels.of(atoms).energy == pytest.approx(read.get_potential_energy())
        assert atoms.info["teacher_sha256"] == ran.json["teacher_sha256"]


def test_structures_on_which_a_calculator_fails_are_left_out_if_any_may_be(cli: Run, tmp_path: Path) -> None:
    data, output = write(tmp_path / "data.xyz", [bulk("Cu"), bulk("Si"), bulk("Al")]), tmp_path / "out.xyz"
    command = ["label", "ase.calculators.emt:EMT", data, "-o", output, "--json"]
    ran = cli(*command)
    assert ran.code == 2
    assert "Structure 1 (Si2): ase.calculators.emt:EMT failed" in ran.err
    assert "give --largest-force, with which such structures are left out" in ran.err
    ran = cli(*command, "--largest-force", 100)
    assert (ran.code, ran.json["structures"], ran.json["left_out"]["failed"]) == (0, 2, 1)
    assert "Structure 1 (Si2): ase.calculators.emt:EMT failed" in ran.err
    assert "It is left out." in ran.err


def test_a_job_of_which_every_structure_fails_is_an_error(refused: Run, tmp_path: Path) -> None:
    data = write(tmp_path / "data.xyz", [bulk("Si")])
    command = ["label", "ase.calculators.emt:EMT", data, "-o", tmp_path / "out.xyz", "--largest-force", 100]
    says = ("Not one structure is left", "1 on which the calculator failed", "mend a calculator that failed")
    refused(*command, says=says)


@pytest.mark.parametrize(
    ("teacher", "options", "says"),
    [
        ("ase.calculators.lj:LennardJones", "{sigma: 1}", "is not JSON"),
        ("ase.calculators.lj:LennardJones", "[1]", "is not a JSON object"),
        ("ase.calculators.lj:Nothing", "{}", "no 'Nothing'"),
        ("toy", '{"sigma": 1}', "--options are for a calculator"),
    ],
)
def test_label_refuses_what_is_no_teacher(
    teacher: str, options: str, says: str, refused: Run, tmp_path: Path, data: Path
) -> None:
    refused("label", teacher, data, "--options", options, "-o", tmp_path / "out.xyz", says=says)


def test_a_calculator_has_no_hessian_to_label_with(refused: Run, tmp_path: Path, data: Path) -> None:
    name, output = "ase.calculators.lj:LennardJones", tmp_path / "out.xyz"
    refused("label", name, data, "--hessian-rows", 1, "-o", output, says=(name, "gives no products of its Hessian"))


def test_the_same_seed_writes_the_same_file(cli: Run, tmp_path: Path, data: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert cli("label", "toy", data, "--copies", 1, "--seed", seed, "-o", tmp_path / f"{name}.xyz").code == 0
    a, b, c = ((tmp_path / f"{name}.xyz").read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--copies", -1], ("--copies", "-1", "0 or more")),
        (["--copies", 1.5], ("--copies", "whole number")),
        (["--rattle", -0.1], ("--rattle", "-0.1", "0 or a positive number")),
        (["--strain", "nan"], ("--strain", "nan", "0 or a positive number")),
        (["--temperature", 0], ("--temperature", "0", "positive number of K")),
        (["--timestep", -1], ("--timestep", "-1", "positive number of fs")),
        (["--interval", 0], ("--interval", "0", "1 or more")),
        (["--limit", 0], ("--limit", "0", "1 or more")),
        (["--seed", -1], ("--seed", "-1", "0 or more")),
    ],
)
def test_label_refuses_impossible_numbers(
    flags: list[object], says: tuple[str, ...], refused: Run, tmp_path: Path, data: Path
) -> None:
    refused("label", "toy", data, *flags, "-o", tmp_path / "out.xyz", says=says)


@pytest.mark.parametrize("name", ["out", "out.json", "out.db", "out.xyz.gz"])
def test_label_writes_extxyz_only(name: str, refused: Run, tmp_path: Path, data: Path) -> None:
    refused("label", "toy", data, "-o", tmp_path / name, says=(".extxyz or .xyz", name))


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_label_leaves_an_existing_output_alone(kind: str, refused: Run, tmp_path: Path, data: Path) -> None:
    output = tmp_path / "out.xyz"
    {"file": lambda: output.write_text("precious"), "folder": output.mkdir, "link": lambda: output.symlink_to("no")}[
        kind
    ]()
    refused("label", "toy", data, "-o", output, says=(str(output), "exists and is never overwritten"))


@pytest.mark.parametrize("folder", ["missing", "/proc"])
def test_label_refuses_an_impossible_output_before_any_work(
    folder: str, refused: Run, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("equiprune.read_checkpoint", lambda *_, **__: pytest.fail("the model was opened"))
    refused("label", "toy", data, "-o", tmp_path / folder / "out.xyz", says="cannot be written")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "bad.xyz"),
        (b"nonsense\n", "could not be read"),
        (None, "there is no such file"),
    ],
)
def test_label_refuses_files_without_structures(content: bytes | None, says: str, refused: Run, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "bad.xyz").write_bytes(content)
    refused("label", "toy", tmp_path / "bad.xyz", "-o", tmp_path / "out.xyz", says=says)


@pytest.mark.usefixtures("small_batches")
def test_label_keeps_what_was_finished_before_a_bad_structure(cli: Run, refused: Run, tmp_path: Path) -> None:
    good = bare(24)
    data = write(tmp_path / "bad.xyz", [*good, Atoms("U", cell=[9.0] * 3, pbc=True)])
    command = ["label", "toy", data, "-o", tmp_path / "out.xyz"]
    ran = cli(*command)
    assert (ran.code, ran.out) == (2, "")
    assert "U, which this model does not know" in ran.err
    assert f"{tmp_path / 'out.xyz.partial'} keeps what was finished" in ran.err
    assert not (tmp_path / "out.xyz").exists()
    write(data, good)
    refused(*command, says=("out.xyz.partial", "another model, data or setting", "Remove it to start anew"))


RESUMED: list[list[object]] = [
    ["--copies", 1],
    ["--copies", 1, "--frames", 2, "--interval", 2, "--temperature", 100, "--limit", 8],
    ["--copies", 1, "--hessian-rows", 1, "--seed", 3],
]


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("flags", RESUMED)
def test_labelling_that_was_interrupted_goes_on_to_the_same_bytes(
    flags: list[object], cli: Run, tmp_path: Path, interrupting: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, partial = write(tmp_path / "data.xyz", bare(24)), tmp_path / "out.xyz.partial"
    whole = cli("label", "toy", data, *flags, "-o", tmp_path / "whole.xyz", "--json").json
    command = ["label", "toy", data, *flags, "-o", tmp_path / "out.xyz", "--json"]
    interrupting(whole["structures"] * 3 // 4)
    ran = cli(*command)
    assert ran.code == 2
    assert f"Interrupted; {partial} keeps what was finished. Repeat the command to go on." in ran.err
    monkeypatch.undo()
    kept = json.loads((partial / "record.json").read_text())["structures"]
    assert 0 < kept < whole["structures"] * 3 // 4
    with (partial / "out.xyz").open("a") as stream:
        stream.write("half of a batch")  # as a process that was killed leaves it
    asked: list[int] = []
    real = ep.Potential.predict
    monkeypatch.setattr(
        ep.Potential, "predict", lambda self, many, *more: asked.append(len(many)) or real(self, many, *more)
    )
    ran = cli(*command)
    assert (ran.code, ran.json) == (0, whole | {"written": str(tmp_path / "out.xyz")})
    assert f"Going on from {partial}." in ran.err
    assert (tmp_path / "out.xyz").read_bytes() == (tmp_path / "whole.xyz").read_bytes()
    assert not partial.exists()
    labelled = whole["structures"] - kept
    dynamics = 5 * -(-labelled // 3) + 5 if "--frames" in flags else 0  # of unfinished structures, and evaluated singly
    assert sum(asked) <= labelled + dynamics


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize(
    "other", [["--seed", 1], ["--copies", 2], ["--dtype", "float64"], ["--limit", 20], ["--hessian-rows", 1]]
)
def test_labelling_is_not_gone_on_with_by_another_command(
    other: list[object], cli: Run, refused: Run, tmp_path: Path, interrupting: Callable[[int], None]
) -> None:
    data = write(tmp_path / "data.xyz", bare(24))
    interrupting(20)
    assert cli("label", "toy", data, "-o", tmp_path / "out.xyz").code == 2
    says = ("out.xyz.partial", "another model, data or setting", "Remove it", "repeat the command")
    refused("label", "toy", data, *other, "-o", tmp_path / "out.xyz", says=says)


@pytest.mark.usefixtures("small_batches")
def test_labelling_is_not_gone_on_with_by_another_teacher(
    cli: Run, refused: Run, model: Path, tmp_path: Path, interrupting: Callable[[int], None]
) -> None:
    data, output = write(tmp_path / "data.xyz", bare(24)), tmp_path / "out.xyz"
    interrupting(20)
    assert cli("label", "toy", data, "-o", output).code == 2
    says = ("out.xyz.partial", "another model, data or setting", "Remove it")
    refused("label", model, data, "-o", output, says=says)
    refused("label", "ase.calculators.lj:LennardJones", data, "-o", output, says=says)


def test_labelling_interrupted_at_once_leaves_nothing(
    refused: Run, tmp_path: Path, data: Path, interrupting: Callable[[int], None]
) -> None:
    interrupting(6)
    refused("label", "toy", data, "-o", tmp_path / "out.xyz", says="nothing was finished yet. Repeat the command")


@pytest.mark.usefixtures("small_batches")
def test_label_on_a_full_disk_keeps_what_was_finished(
    cli: Run, refused: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, real, written = write(tmp_path / "data.xyz", bare(24)), ase.io.write, 0
    assert cli("label", "toy", data, "-o", tmp_path / "whole.xyz").code == 0
    last = 1

    def full(path: Path, structures: list[Atoms], **how: object) -> None:
        nonlocal written
        written += 1
        real(path, structures if written < last else structures[:1], **how)
        if written == last:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    command = ["label", "toy", data, "-o", tmp_path / "out.xyz"]
    with monkeypatch.context() as patched:
        patched.setattr(ase.io, "write", full)
        refused(*command, says=("the disk is full", "Nothing was changed"))
        written, last = 0, 2
        ran = cli(*command)
        assert ran.code == 2
        assert "the disk is full. What was finished is kept; repeat the command to go on." in ran.err
    assert cli(*command).code == 0
    assert (tmp_path / "out.xyz").read_bytes() == (tmp_path / "whole.xyz").read_bytes()


def test_label_leaves_a_folder_of_something_else_alone(refused: Run, tmp_path: Path, data: Path) -> None:
    (tmp_path / "out.xyz.partial").mkdir()
    (tmp_path / "out.xyz.partial" / "precious").write_text("data")
    refused("label", "toy", data, "-o", tmp_path / "out.xyz", says=("out.xyz.partial", "is no interrupted labelling"))


@pytest.mark.parametrize("record", ["{", "[]", '{"settings": {}}'])
def test_a_damaged_record_of_labelling_is_refused(record: str, refused: Run, tmp_path: Path, data: Path) -> None:
    (tmp_path / "out.xyz.partial").mkdir()
    (tmp_path / "out.xyz.partial" / "record.json").write_text(record)
    refused("label", "toy", data, "-o", tmp_path / "out.xyz", says=("out.xyz.partial", "is damaged", "Remove it"))


def test_two_processes_do_not_write_one_file_of_labels(tmp_path: Path) -> None:
    first, second = (LabelFile(tmp_path / "out.xyz", {"seed": 0}) for _ in range(2))
    one, other = first.written(), second.written()
    one = first.append(bare(2), one)
    with pytest.raises(OutputError, match="Another process writes"):
        second.append(bare(2), other)
    first.finish(first.append(bare(1), one))
    assert len(list(ep.read_structures(tmp_path / "out.xyz"))) == 3


def test_labels_that_are_lost_are_not_gone_on_from(tmp_path: Path) -> None:
    file = LabelFile(tmp_path / "out.xyz", {"seed": 0})
    file.append(bare(2), file.written())
    os.truncate(file.partial / "out.xyz", 10)
    with pytest.raises(OutputError, match=r"is damaged: labels are missing\. Remove it"):
        file.written()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--dtype", "float64"], "--dtype means"),
        (["--head", "PBE"], "--head means"),
        (["--trust"], "--trust means"),
        (["--device", "cuda"], "--device means"),
        (["--trust", "--dtype", "float32"], "--dtype, --trust means"),
    ],
)
def test_flags_of_models_are_refused_for_a_calculator(
    flags: list[object], says: str, refused: Run, tmp_path: Path, data: Path
) -> None:
    name = "ase.calculators.lj:LennardJones"
    refused("label", name, data, *flags, "-o", tmp_path / "out.xyz", says=(name, says, "Leave it out", "--options"))


def test_label_refuses_a_device_that_is_not_here(refused: Run, tmp_path: Path, data: Path) -> None:
    says = ("--device cuda:77 is not available here", "cpu")
    refused("label", "toy", data, "--device", "cuda:77", "-o", tmp_path / "out.xyz", says=says)


def test_the_teacher_is_opened_on_the_device(
    cli: Run, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = labelling.open_model
    monkeypatch.setattr(labelling, "check_device", lambda device: None)
    monkeypatch.setattr(
        labelling, "open_model", lambda *words, device: opened.append(device) or real(*words, device="cpu")
    )
    assert cli("label", "toy", data, "--device", "cuda:1", "-o", tmp_path / "out.xyz").code == 0
    assert opened == ["cuda:1"]


def test_labelled_structures_are_told_apart_as_before(cli: Run, tmp_path: Path) -> None:
    structures = bare(4)
    for i, atoms in enumerate(structures):
        atoms.info |= {"traj": f"mp-{i % 2}", "dft_energy": 1.0}
    data = write(tmp_path / "data.xyz", structures)
    assert cli("label", "toy", data, "--copies", 2, "-o", tmp_path / "out.xyz").code == 0
    files = ("--data", tmp_path / "out.xyz", "-o", tmp_path / "run")
    ran = cli("train", "toy", *files, "--epochs", 2, "--frames-per-structure", 1, "--structure-key", "traj")
    assert ran.code == 0, ran.err
    assert "2 structures, at most 1 of each 'traj'" in ran.err
