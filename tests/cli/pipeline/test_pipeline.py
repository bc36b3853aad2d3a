"""``equiprune run``: what is done, what is skipped, what is done again, and that nothing is lost.

Stages run in this process, except where the process itself is looked at.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import ase.io
import pytest
from command_line import Run, contents

import equiprune as ep
from equiprune.cli.pipeline import run as pipeline
from equiprune.cli.pipeline.run import Ended
from equiprune.files.atomic import holding
from equiprune.structures.probes import probe_structures

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[3] / "examples" / "recipe.yaml"
SHORT = """
model: toy
stages:
  - label: {data: data.xyz}
  - prune: {channels: 4, criterion: magnitude}
  - train: {name: retrain, epochs: 2}
  - evaluate: {data: label}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """`SHORT` in a folder of its own, with the structures that it names."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    ase.io.write(folder / "data.xyz", list(probe_structures([1, 6, 8, 14]).values()), format="extxyz")
    (folder / "recipe.yaml").write_text(SHORT)
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run that tests begin with is, and a copy that they leave alone."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def out(cli: Run, launched: list[list[str]], recipe: Path, kept: Path) -> Path:
    """The folder of a run of `SHORT`, to the end: run once, and as it was then for every test."""
    folder, copy = kept / "out", kept / "copy"
    if not copy.exists():
        assert cli("run", recipe, "-o", folder).code == 0
        launched.clear()
        shutil.copytree(folder, copy)
    shutil.rmtree(folder, ignore_errors=True)
    return Path(shutil.copytree(copy, folder))


def changed(recipe: Path, old: str, new: str) -> None:
    text = recipe.read_text()
    assert old in text
    recipe.write_text(text.replace(old, new))


def statuses(report: dict) -> dict[str, str]:
    return {stage["name"]: stage["status"] for stage in report["stages"]}


def commands(lines: list[list[str]]) -> list[str]:
    return [line[0] for line in lines]


# The example.


def test_the_example_runs_and_a_second_time_does_nothing(cli: Run, launched: list, tmp_path: Path) -> None:
    ran = cli("run", EXAMPLE, "-o", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    stages = {stage["name"]: stage for stage in ran.json["stages"]}
    assert {stage["status"] for stage in stages.values()} == {"done"}
    assert stages["certify"]["result"]["passed"]
    assert "masked_vs_sliced" in stages["certify"]["result"]
    assert {each["source"] for each in stages["final"]["result"]["measured"]} == {"evaluate", "benchmark"}
    errors = [model["energy_mae"] for model in stages["evaluate"]["result"]]
    assert errors[0] < errors[3] < errors[2] < errors[1]  # parent, retrained, repaired, pruned
    assert stages["stability"]["result"]["overall"]["correlation"] > 0
    assert ep.load(tmp_path / "out" / "export" / "small").parameters() < ep.load("toy").parameters()
    before, count = contents(tmp_path / "out"), len(launched)
    again = cli("run", EXAMPLE, "-o", tmp_path / "out", "--json")
    assert set(statuses(again.json).values()) == {"unchanged, skipped"}
    assert "finetune: unchanged, skipped" in again.err
    assert (contents(tmp_path / "out"), len(launched)) == (before, count)
    text = cli("run", EXAMPLE, "-o", tmp_path / "out").out
    assert "energy MAE (meV/atom)" in text
    assert "finetune" in text


def test_rounds_of_labels_of_a_student_run_and_each_has_its_own(cli: Run, launched: list, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = cli("run", EXAMPLE.with_name("rounds.yaml"), "-o", out, "--json")
    assert ran.code == 0, ran.err
    stages = {stage["name"]: stage for stage in ran.json["stages"]}
    for number in (1, 2):
        student, visited = out / f"round_{number - 1}" / "run" / "model", stages[f"visited_{number}"]["result"]
        assert visited["student_sha256"] == ep.load(student).checkpoint.sha256
        assert visited["teacher_sha256"] == ep.load("toy").checkpoint.sha256
        said = {atoms.info["labelled_as"] for atoms in ep.read_structures(visited["written"])}
        assert said > {"itself", "molecular dynamics of run/model, frame 3"}
        *_, step = ep.load(out / f"round_{number}" / "run" / "model").checkpoint.history
        assert (step["step"], step["replay"]["share"]) == ("train", 0.5)
    errors = [model["energy_mae"] for model in stages["evaluate"]["result"]]
    assert errors[0] < min(errors[2:]) < errors[1]  # the parent, each round, the pruned one
    again = cli("run", EXAMPLE.with_name("rounds.yaml"), "-o", out, "--json")
    assert set(statuses(again.json).values()) == {"unchanged, skipped"}


# What is done again.


def test_a_pipeline_may_begin_with_no_structures_at_all(cli: Run, launched: list, recipe: Path, tmp_path: Path) -> None:
    made = "crystals: {elements: [Si, O], count: 5, max_atoms: 8}"
    changed(recipe, "  - label: {data: data.xyz}", f"  - {made}\n  - label: {{data: crystals, largest_force: 20}}")
    ran = cli("run", recipe, "-o", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    assert launched[0][:3] == ["crystals", "--elements", "Si,O"]
    label = {stage["name"]: stage for stage in ran.json["stages"]}["label"]["result"]
    assert label["structures"] + sum(label["left_out"].values()) == 5


def test_a_student_may_be_a_stage_and_another_one_labels_again(
    cli: Run, launched: list, recipe: Path, tmp_path: Path
) -> None:
    more = "{name: visited, data: data.xyz, student: prune, frames: 1, interval: 1}"
    changed(recipe, "  - train", f"  - label: {more}\n  - train")
    out = tmp_path / "out"
    assert cli("run", recipe, "-o", out).code == 0
    assert launched[2][:5] == [
        "label",
        "toy",
        f"{recipe.parent / 'data.xyz'}",
        "--student",
        f"{out / 'prune' / 'model'}",
    ]
    assert launched[3][launched[3].index("--data") + 1] == f"{out / 'visited' / 'labelled.extxyz'}"  # the newest
    launched.clear()
    changed(recipe, "channels: 4", "channels: 3")
    ran = cli("run", recipe, "-o", out)
    assert ran.code == 0
    assert "visited: inputs.student changed" in ran.err
    assert commands(launched) == ["prune", "label", "train", "evaluate"]


def test_stages_are_the_commands_they_name(cli: Run, launched: list, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli("run", recipe, "-o", out).code == 0
    data, model = out / "label" / "labelled.extxyz", out / "prune" / "model"
    assert launched[0] == ["label", "toy", f"{recipe.parent / 'data.xyz'}", "--output", f"{data}", "--json"]
    train = ["train", f"{model}", "--epochs", "2", "--output", f"{out / 'retrain' / 'run'}", "--data", f"{data}"]
    assert launched[2] == [*train, "--json"]
    assert launched[3][1:4] == ["toy", f"{model}", f"{out / 'retrain' / 'run' / 'model'}"]
    record = json.loads((out / "retrain" / "stage.json").read_text())
    assert record["command"] == ["equiprune", *launched[2]]
    assert record["described"]["equiprune"]
    assert record["outputs"].keys() == {"result.json", "run/model"}
    assert len(record["described"]["inputs"]["data"][0]) == 64


@pytest.mark.parametrize(
    ("old", "new", "again"),
    [
        ("epochs: 2", "epochs: 3", ["train", "evaluate"]),
        ("channels: 4", "channels: 3", ["prune", "train", "evaluate"]),
        ("{data: label}", "{data: label, limit: 2}", ["evaluate"]),
        ("{data: data.xyz}", "{data: data.xyz, copies: 1}", ["label", "train", "evaluate"]),
        ("  - evaluate", "  - certify: {nve_steps: 2}\n  - evaluate", ["certify"]),
        ("epochs: 2", "seed: 0, epochs: 2", ["train"]),  # other words, the same model: what follows stays
    ],
)
def test_what_changed_is_done_again_and_what_depends_on_it(
    old: str, new: str, again: list[str], cli: Run, launched: list, recipe: Path, out: Path
) -> None:
    changed(recipe, old, new)
    ran = cli("run", recipe, "-o", out)
    assert ran.code == 0, ran.err
    assert commands(launched) == again


def test_what_a_changed_stage_had_is_kept_and_said(cli: Run, launched: list, recipe: Path, out: Path) -> None:
    before = list(contents(out / "retrain").values())
    for epochs, place in ((3, "retrain.1"), (4, "retrain.2")):
        changed(recipe, f"epochs: {epochs - 1}", f"epochs: {epochs}")
        ran = cli("run", recipe, "-o", out)
        assert f"retrain: settings.epochs changed; what it had is kept in '{out / place}'" in ran.err
    assert list(contents(out / "retrain.1").values()) == before


def test_other_structures_under_the_same_name_are_noticed(cli: Run, launched: list, recipe: Path, out: Path) -> None:
    structures = list(probe_structures([1, 6, 8, 14], 1).values())
    ase.io.write(recipe.parent / "data.xyz", structures, format="extxyz")
    assert "label: inputs.data changed" in cli("run", recipe, "-o", out).err
    assert commands(launched) == ["label", "train", "evaluate"]


def test_another_version_of_equiprune_does_all_again(
    cli: Run, launched: list, recipe: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("equiprune.cli.pipeline.calls.version", lambda _: "99.0")
    assert "label: equiprune changed" in cli("run", recipe, "-o", out).err
    assert len(launched) == 4


def test_another_code_of_the_same_version_does_all_again(
    cli: Run, launched: list, recipe: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("equiprune.cli.pipeline.calls.code_sha256", lambda: "0" * 64)
    assert "label: code changed" in cli("run", recipe, "-o", out).err
    assert len(launched) == 4


def test_a_folder_of_before_the_code_was_recorded_stays(cli: Run, launched: list, recipe: Path, out: Path) -> None:
    """Finished stages are skipped, and one that was begun goes on."""
    not_ended(out / "retrain")
    for path in out.glob("*/stage.json"):
        record = json.loads(path.read_text())
        assert len(record["described"].pop("code")) == 64
        path.write_text(json.dumps(record))
    ran = cli("run", recipe, "-o", out)
    assert (ran.code, commands(launched)) == (0, ["train"])
    assert "retrain: going on with equiprune train" in ran.err
    assert "code" in json.loads((out / "retrain" / "stage.json").read_text())["described"]


@pytest.mark.parametrize(
    "spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x")]
)
def test_an_output_that_is_gone_or_damaged_is_made_again(
    spoil: Callable[[Path], object], cli: Run, launched: list, recipe: Path, out: Path
) -> None:
    spoil(out / "retrain" / "run" / "model" / "weights.safetensors")
    assert "retrain: its run/model is not as it was written" in cli("run", recipe, "-o", out).err
    assert commands(launched) == ["train"]  # the same bits again: what follows stays


def test_a_finished_folder_may_be_moved(cli: Run, launched: list, recipe: Path, out: Path) -> None:
    moved = out.rename(out.with_name("elsewhere"))
    assert cli("run", recipe, "-o", moved).code == 0
    assert launched == []


@pytest.mark.parametrize(
    "more", ["cache: lists", pytest.param("workers: 1", marks=pytest.mark.slow), "tensorboard: true"]
)
def test_what_changes_nothing_of_the_result_is_no_other_stage(
    more: str, cli: Run, launched: list, recipe: Path, tmp_path: Path
) -> None:
    changed(recipe, "epochs: 2", f"epochs: 2, {more}")
    assert cli("run", recipe, "-o", tmp_path / "out").code == 0
    if more.startswith("cache"):
        assert launched[2][launched[2].index("--cache") + 1] == str(recipe.parent / "lists")
        assert any((recipe.parent / "lists").iterdir())
    launched.clear()
    assert cli("run", recipe, "-o", tmp_path / "out").code == 0
    changed(recipe, f", {more}", "")
    assert cli("run", recipe, "-o", tmp_path / "out").code == 0
    assert launched == []


def test_a_file_of_references_is_an_input_as_any_other(
    cli: Run, refused: Run, launched: list, recipe: Path, tmp_path: Path
) -> None:
    changed(recipe, "epochs: 2", "epochs: 2, references: atoms.json, references_anyway: true")
    says = ("Stage 'retrain' (train)", "references is 'atoms.json'", "recipes/atoms.json")
    refused("run", recipe, "-o", tmp_path / "out", says=says)
    assert launched == []
    atoms = recipe.parent / "atoms.json"
    atoms.write_text('{"H": -13.6, "C": -100, "O": -200, "Si": -300}')
    ran = cli("run", recipe, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert launched[2][launched[2].index("--references") + 1] == str(atoms)
    launched.clear()
    assert cli("run", recipe, "-o", tmp_path / "out").code == 0
    assert launched == []
    atoms.write_text('{"H": -13.5, "C": -100, "O": -200, "Si": -300}')
    assert "retrain: inputs.references changed" in cli("run", recipe, "-o", tmp_path / "out").err
    changed(recipe, "atoms.json, references_anyway: true", "refit")
    assert cli("run", recipe, "-o", tmp_path / "out").code == 0
    assert launched[-2][launched[-2].index("--references") + 1] == "refit"


def test_a_calculator_may_label(cli: Run, launched: list, recipe: Path, tmp_path: Path) -> None:
    name = "ase.calculators.lj:LennardJones"
    changed(recipe, "{data: data.xyz}", f"{{model: {name}, data: data.xyz, options: '{{\"sigma\": 1.2}}'}}")
    ran = cli("run", recipe, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert launched[0][:2] == ["label", name]
    launched.clear()
    assert cli("run", recipe, "-o", tmp_path / "out").code == 0
    assert launched == []
    changed(recipe, "1.2", "1.3")
    assert "label: settings.options changed" in cli("run", recipe, "-o", tmp_path / "out").err


def test_a_stage_finds_packages_before_files_of_the_working_directory(recipe: Path, tmp_path: Path) -> None:
    """In a process of its own: a calculator there is found, a torch.py there is not."""
    changed(recipe, SHORT[SHORT.index("  - prune") :], "")
    changed(recipe, "{data: data.xyz}", "{model: 'calculator_beside:Soft', data: data.xyz}")
    beside = {"calculator_beside": "from ase.calculators.lj import LennardJones as Soft", "torch": "raise RuntimeError"}
    for name, text in beside.items():
        (recipe.parent / f"{name}.py").write_text(text)
    python = [sys.executable, "-P", "-m", "equiprune"]  # as the script equiprune, which is in another directory
    ran = subprocess.run(
        [*python, "run", str(recipe), "-o", str(tmp_path / "out")],
        cwd=recipe.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_a_calculator_does_nothing_but_label(refused: Run, recipe: Path, tmp_path: Path) -> None:
    changed(recipe, "{channels: 4", "{model: ase.calculators.lj:LennardJones, channels: 4")
    refused("run", recipe, "-o", tmp_path / "out", says=("Stage 'prune'", "model is 'ase.calculators.lj:LennardJones'"))


def test_a_model_may_be_called_as_a_calculator_is(cli: Run, launched: list, recipe: Path, tmp_path: Path) -> None:
    ep.save(ep.load("toy"), recipe.parent / "my:model")
    changed(recipe, "{data: data.xyz}", "{model: 'my:model', data: data.xyz}")
    assert cli("run", recipe, "-o", tmp_path / "out").code == 0
    assert launched[0][1] == str(recipe.parent / "my:model")


# What stops it.


def test_a_failed_check_ends_the_run(
    cli: Run, launched: list, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(recipe, "  - train", "  - certify: {nve_steps: 2}\n  - train")
    monkeypatch.setattr("equiprune.verification.certificate.Certificate.passed", False)
    ran = cli("run", recipe, "-o", tmp_path / "out", "--json")
    assert ran.code == 1
    assert [*statuses(ran.json).values()] == ["done", "done", "failed"]
    assert "certify: a check failed, so the stages after it were not run" in ran.err
    monkeypatch.undo()


def test_a_stage_that_is_refused_says_its_own_message(cli: Run, launched: list, recipe: Path, tmp_path: Path) -> None:
    changed(recipe, "epochs: 2", "epochs: 2, freeze: nothing*")
    ran = cli("run", recipe, "-o", tmp_path / "out")
    assert (ran.code, ran.out) == (2, "")
    assert "equiprune: No parameter matches 'nothing*'." in ran.err
    assert "retrain: stopped. Finished stages are kept; repeat the command to go on." in ran.err
    changed(recipe, ", freeze: nothing*", "")
    launched.clear()
    assert cli("run", recipe, "-o", tmp_path / "out").code == 0
    assert commands(launched) == ["train", "evaluate"]


def test_beginning_again_removes_nothing(cli: Run, launched: list, recipe: Path, out: Path) -> None:
    """As after kill -9; somebody has put files of their own into the folder of the stage."""
    for name in ("prune", "retrain"):
        not_ended(out / name)
        (out / name / "notes").mkdir()
        (out / name / "notes" / "mine.txt").write_text("precious")
    before = contents(out)
    script = cli("run", recipe, "-o", out, "--dry-run").out
    ran = cli("run", recipe, "-o", out)
    assert ran.code == 0, ran.err
    kept = f"what it does not go on from is kept in '{out / 'prune.1'}'"
    assert f"prune: begun, but not ended; {kept}" in ran.err
    there = {Path(path).relative_to(out): held for path, held in contents(out).items()}
    for path, held in before.items():
        stage, *rest = Path(path).relative_to(out).parts
        if rest and rest != ["stage.json"]:
            assert there[Path(f"{stage}.1", *rest)] == held if stage == "prune" else held in there.values()
    assert sorted(path.name for path in (out / "retrain.1").iterdir()) == ["notes", "result.json"]
    assert (
        f"mkdir {out}/prune.1\nmv {out}/prune/model {out}/prune/notes {out}/prune/result.json {out}/prune.1" in script
    )


def not_ended(stage: Path) -> None:
    """Take the end of a stage out of its record."""
    record = json.loads((stage / "stage.json").read_text())
    del record["outputs"]
    (stage / "stage.json").write_text(json.dumps(record))


def test_an_attempt_without_an_end_is_made_again(cli: Run, launched: list, recipe: Path, out: Path) -> None:
    """As after kill -9 between the output and the record of it: the command would refuse what is there."""
    for name in ("label", "retrain"):
        not_ended(out / name)
    state = (out / "retrain" / "run" / "state.pt").stat().st_mtime_ns
    ran = cli("run", recipe, "-o", out)
    assert (ran.code, commands(launched)) == (0, ["label", "train"])
    assert "retrain: going on with equiprune train" in ran.err
    assert (out / "retrain" / "run" / "state.pt").stat().st_mtime_ns == state  # nothing was trained again


def trains(cli: Run, recipe: Path, *, epochs: int) -> Path:
    """Let the recipe train, and nothing else, on labels, which are these."""
    labelled = recipe.parent / "labelled.xyz"
    assert cli("label", "toy", recipe.parent / "data.xyz", "-o", labelled).code == 0
    recipe.write_text(f"{{model: toy, stages: [train: {{data: labelled.xyz, epochs: {epochs}}}]}}")
    return labelled


def started(recipe: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "equiprune", "run", str(recipe), "-o", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_interrupted_stage_goes_on_in_the_next_run(cli: Run, launched: list, recipe: Path, tmp_path: Path) -> None:
    """In processes of its own: SIGTERM to the run alone, exit code 2, and the bits of a run that was never stopped."""
    out = tmp_path / "out"
    labelled = trains(cli, recipe, epochs=15)
    with started(recipe, out) as process:
        until(lambda: (out / "train" / "run" / "curve.csv").exists())
        process.send_signal(signal.SIGTERM)
        said, notes = process.communicate(timeout=300)
    assert (process.returncode, said) == (2, ""), notes
    assert "Interrupted after step" in notes
    assert "Traceback" not in notes
    assert {path.name for path in (out / "train" / "run").iterdir()} >= {"curve.png", "state.pt"}
    assert not (out / "train" / "run" / "model").exists()
    done = cli("run", recipe, "-o", out)
    assert (done.code, commands(launched)) == (0, ["train"])
    assert "train: going on with equiprune train" in done.err
    whole = ["train", "toy", "--data", labelled, "--epochs", 15, "-o", tmp_path / "whole"]
    assert cli(*whole).code == 0
    weights = "model/weights.safetensors"
    assert (out / "train" / "run" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()


def test_two_runs_of_one_folder_do_not_meet(
    cli: Run, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first is at a stage, the second is refused, whatever it would do; a dry run is not."""
    seen = []

    def launch(_: Sequence[str], __: int) -> Ended:
        before = contents(tmp_path)
        seen.append(cli("run", recipe, "-o", tmp_path / "out"))
        assert contents(tmp_path) == before
        assert cli("run", recipe, "-o", tmp_path / "out", "--dry-run").code == 0
        return Ended(0, "{}")

    changed(recipe, SHORT[SHORT.index("  - prune") :], "")
    monkeypatch.setattr(pipeline, "launch", launch)
    assert cli("run", recipe, "-o", tmp_path / "out").code == 0
    [second] = seen
    assert (second.code, second.out) == (2, "")
    assert f"equiprune: Another process works in '{tmp_path / 'out'}'" in second.err


def test_a_stage_that_outlives_its_run_is_left_alone(cli: Run, launched: list, recipe: Path, tmp_path: Path) -> None:
    """The run is killed and its training is not: neither the same nor a changed recipe is begun beside it."""
    out = tmp_path / "out"
    trains(cli, recipe, epochs=100_000)
    with started(recipe, out) as process:
        until(lambda: (out / "train" / "run" / "curve.csv").exists())
        [stage] = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        process.kill()
        process.wait(timeout=300)
        try:
            same = cli("run", recipe, "-o", out)
            changed(recipe, "epochs: 100000", "epochs: 2")
            other = cli("run", recipe, "-o", out)
        finally:
            os.kill(stage, signal.SIGTERM)
        _, notes = process.communicate(timeout=300)  # the stage has ended as well then
    for refused in (same, other):
        assert (refused.code, refused.out) == (2, "")
        assert f"equiprune: Another process works in '{out}'" in refused.err
    assert "Interrupted after step" in notes
    assert [path.name for path in out.iterdir()] == ["train"]
    assert launched == []
    again = cli("run", recipe, "-o", out)
    assert again.code == 0, again.err
    assert (out / "train.1" / "run" / "state.pt").exists()


@pytest.mark.usefixtures("small_batches")
def test_labelling_goes_on_in_the_next_run(
    cli: Run, launched: list, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    structures = [a for seed in range(6) for a in probe_structures([1, 6, 8, 14], seed).values()]
    ase.io.write(recipe.parent / "data.xyz", structures, format="extxyz")
    real, batches = ase.io.write, 0

    def interrupted(*words: object, **how: object) -> None:
        nonlocal batches
        batches += 1
        if batches == 2:
            os.kill(os.getpid(), signal.SIGINT)
        real(*words, **how)

    with monkeypatch.context() as patched:
        patched.setattr(ase.io, "write", interrupted)
        assert cli("run", recipe, "-o", tmp_path / "out").code == 2
    ran = cli("run", recipe, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert f"Going on from {tmp_path / 'out' / 'label' / 'labelled.extxyz.partial'}." in ran.err
    assert cli("label", "toy", recipe.parent / "data.xyz", "-o", tmp_path / "whole.extxyz").code == 0
    labels = (tmp_path / "out" / "label" / "labelled.extxyz").read_bytes()
    assert labels == (tmp_path / "whole.extxyz").read_bytes()


def test_a_stage_that_is_killed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/sh")
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _, **how: real(["/bin/sh", "-c", "kill -9 $$"], **how))
    refusal = pytest.raises(ep.EquipruneError, match=r"'equiprune train' was killed \(SIGKILL\)")
    with holding(tmp_path, "") as lock, refusal:
        pipeline.launch(["train"], lock)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_is_ignored_stops_no_stage(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under nohup, or in the background of a script; the stage is sent what comes to the pipeline."""
    monkeypatch.setattr(sys, "executable", "/bin/sh")
    real, script = subprocess.Popen, f"kill -{number} $PPID $$; sleep 0.2; echo '{{}}'"
    monkeypatch.setattr(subprocess, "Popen", lambda _, **how: real(["/bin/sh", "-c", script], **how))
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with holding(tmp_path, "") as lock:
            assert pipeline.launch(["train"], lock) == Ended(0, "{}\n", stopped=False)
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("code", [-signal.SIGTERM, -signal.SIGINT, 0])
def test_a_stage_that_ends_at_a_signal_ends_the_run_with_code_2(
    code: int, cli: Run, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands that save nothing leave signals to the system; a negative code would reach the shell as 241."""
    monkeypatch.setattr(pipeline, "launch", lambda words, lock: Ended(code, "", stopped=True))
    ran = cli("run", recipe, "-o", tmp_path / "out")
    assert ran.code == 2
    assert "label: stopped." in ran.err


# A dry run.


def test_a_dry_run_writes_nothing_and_its_lines_do_the_work(
    cli: Run, refused: Run, recipe: Path, tmp_path: Path
) -> None:
    before = contents(tmp_path)
    ran = cli("run", recipe, "-o", tmp_path / "out", "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    assert contents(tmp_path) == before
    python = f'equiprune() {{ {shlex.quote(sys.executable)} -m equiprune "$@"; }}\nset -e\n'
    short = ran.out[: ran.out.index("# retrain")]
    subprocess.run(["/bin/sh", "-c", python + short], check=True, env=os.environ, capture_output=True)
    assert (tmp_path / "out" / "prune" / "model" / "weights.safetensors").exists()
    assert json.loads((tmp_path / "out" / "label" / "result.json").read_text())["structures"] == 4
    refused("run", recipe, "-o", tmp_path / "out", says="not the folder of a stage")


def test_a_dry_run_says_what_would_be_skipped(cli: Run, launched: list, recipe: Path, out: Path) -> None:
    changed(recipe, "epochs: 2", "epochs: 3")
    text = cli("run", recipe, "-o", out, "--dry-run").out
    assert "# prune: unchanged, skipped\n# mkdir -p" in text
    assert f"# retrain: would run (settings.epochs changed)\nmv {out}/retrain {out}/retrain.1\n" in text
    assert "# evaluate: would run (unless retrain gives the same as before)" in text
    plan = cli("run", recipe, "-o", out, "--dry-run", "--json").json["stages"]
    assert [stage["would_run"] for stage in plan] == [False, False, True, True]
    assert plan[2]["command"][:2] == ["equiprune", "train"]


# What is refused, before any stage runs and without a byte written.


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (SHORT, "", ("recipe.yaml", "'model' and 'stages'; this file has nothing")),
        (SHORT, "{", ("recipe.yaml", "not YAML", "line 1")),
        ("evaluate", "evalute", ("Stage 4", "no stage 'evalute'", "Did you mean 'evaluate'?")),
        ("epochs", "epoch", ("Stage 'retrain'", "train has no key 'epoch'", "Did you mean 'epochs'?")),
        ("epochs: 2", "epochs: two", ("Stage 'retrain' (train)", "--epochs", "'two' is not a whole number")),
        ("epochs: 2", "preset: best", ("Stage 'retrain' (train)", "--preset", "sevennet")),
        ("epochs: 2", "from_scratch: 2", ("Stage 'retrain'", "from_scratch is true or false")),
        ("epochs: 2", "epochs: [2, 3]", ("Stage 'retrain'", "2,3")),
        ("epochs: 2", "output: a/b", ("Stage 'retrain'", "output is 'a/b'", "Give a name alone")),
        ("epochs: 2", "output: stage.json", ("Stage 'retrain'", "output is 'stage.json'")),
        ("{data: label}", "{}", ("Stage 'evaluate' (evaluate)", "--data requires an argument")),
        ("{data: label}", "{data: lable}", ("Stage 'evaluate'", "data is 'lable'", "Did you mean 'label'?")),
        ("data.xyz", "missing.xyz", ("Stage 'label'", "data is 'missing.xyz'", "recipes/missing.xyz")),
        ("model: toy", "model: tyo", ("model is 'tyo'", "Did you mean 'toy'?")),
        ("channels: 4", "irreps: 4x0q", ("Stage 'prune' (prune)", "4x0q")),
        ("channels: 4, criterion", "criterion", ("Stage 'prune' (prune)", "Say what to reach")),
        ("criterion: magnitude", "limit: 2", ("Stage 'prune' (prune)", "`limit` counts the structures of `data`")),
        ("  - label: {data: data.xyz}\n", "", ("Stage 'retrain' (train)", "--data requires an argument")),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_at_once(
    old: str, new: str, says: tuple[str, ...], refused: Run, launched: list, recipe: Path, tmp_path: Path
) -> None:
    if "{data: label}" in SHORT and old.startswith("  - label"):
        changed(recipe, "{data: label}", "{data: data.xyz}")
    changed(recipe, old, new)
    refused("run", recipe, "-o", tmp_path / "out", says=says)
    assert launched == []


CALCULATOR = "model: ase.calculators.lj:LennardJones, "


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("{data: data.xyz}", "{data: data.xyz, rattle: -1}", ("'label' (label)", "`rattle` -1.0", "0 or a positive")),
        ("{data: data.xyz}", "{data: data.xyz, temperature: 0}", ("'label' (label)", "`temperature` 0.0")),
        ("{data: data.xyz}", "{data: data.xyz, output: labels.txt}", ("'label' (label)", ".extxyz or .xyz", ".txt")),
        ("{data: data.xyz}", "{data: data.xyz, hessian_rows: 1, hessian_probes: 1}", ("`hessian_rows` and",)),
        ("{data: data.xyz}", "{data: data.xyz, options: '{}.'}", ("'label' (label)", "`options` are for a calculator")),
        ("{data: data.xyz}", f"{{{CALCULATOR}data: data.xyz, options: '[]'}}", ("`options` '[]'", "no")),
        ("{data: data.xyz}", f"{{{CALCULATOR}data: data.xyz, dtype: float64}}", ("calculator, and `dtype`",)),
        ("{data: data.xyz}", f"{{{CALCULATOR}data: data.xyz, hessian_rows: 1}}", ("no products of its Hessian",)),
        ("{data: data.xyz}", "{data: data.xyz, device: cuda}", ("'label' (label)", "`device` cuda is not available")),
        ("  - prune", "  - calibrate: {data: label, device: cuda}\n  - prune", ("(calibrate)", "`device` cuda")),
        ("  - prune", "  - calibrate: {criterion: taylor}\n  - prune", ("(calibrate)", "looks at structures")),
        ("  - prune", "  - calibrate: {data: label, plot: a.txt}\n  - prune", ("(calibrate)", ".png or .svg")),
        ("channels: 4", "channels: 4, heads: 'a,b', head: c", ("'prune' (prune)", "`head` c")),
        ("channels: 4", "channels: 4, lossless: true, native_grids: true", ("(prune)", "cannot be `lossless`")),
        ("channels: 4", "channels: 4, reinitialise: true", ("'prune' (prune)", "`reinitialise`")),
        ("channels: 4", "channels: 4, floor: 2", ("'prune' (prune)", "`floor` 2.0")),
        ("  - train", "  - certify: {output: a.txt}\n  - train", ("(certify)", ".json or .md", ".txt")),
        ("epochs: 2", "epochs: 2, patience: 3", ("'retrain' (train)", "`patience`", "`validation`")),
        ("epochs: 2", "epochs: 2, hessian_samples: 2", ("'retrain' (train)", "`hessian_samples`", "`hessian_weight`")),
        ("epochs: 2", "epochs: 2, replay: label, replay_share: 2", ("'retrain' (train)", "`replay_share` 2.0")),
        ("epochs: 2", "epochs: 2, output: model.pth", ("'retrain' (train)", "A run is a directory")),
        ("epochs: 2", "epochs: 2, device: cuda", ("'retrain' (train)", "`device` cuda", "there are 0 here")),
        ("epochs: 2", "epochs: 2, learning_rate: -1", ("'retrain' (train)", "learning rate -1.0")),
        ("epochs: 2", "epochs: 2, frames_per_structure: 2", ("(train)", "`structure_key`", "such as traj")),
        ("epochs: 2", "epochs: 2, structure_key: traj", ("'retrain' (train)", "`frames_per_structure`")),
        ("epochs: 2", "epochs: 2, scale: rms-forces", ("'retrain' (train)", "`from_scratch`")),
        ("{data: label}", "{data: label, device: cuda}", ("'evaluate' (evaluate)", "`device` cuda")),
        ("{data: label}", "{data: label, models: [toy, parent]}", ("'evaluate' (evaluate)", "named twice: toy, toy")),
        ("  - evaluate", "  - benchmark: {device: cuda}\n  - evaluate", ("(benchmark)", "`device` cuda")),
        ("  - evaluate", "  - stability: {data: label, top: 1}\n  - evaluate", ("(stability)", "`top` 1.0")),
        ("  - evaluate", "  - stability: {data: label, device: cuda}\n  - evaluate", ("(stability)", "`device` cuda")),
    ],
)
def test_what_a_command_would_refuse_at_once_is_refused_before_any_stage(
    old: str,
    new: str,
    says: tuple[str, ...],
    refused: Run,
    launched: list,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    changed(recipe, old, new)
    refused("run", recipe, "-o", tmp_path / "out", says=("Stage ", *says))
    assert launched == []


def test_a_dry_run_refuses_it_too(refused: Run, recipe: Path, tmp_path: Path) -> None:
    """One of those above: both check a recipe before anything else."""
    changed(recipe, "epochs: 2", "epochs: 2, learning_rate: -1")
    says = ("Stage 'retrain' (train)", "learning rate -1.0")
    refused("run", recipe, "-o", tmp_path / "out", "--dry-run", says=says)


def test_a_stage_that_is_done_needs_nothing_of_this_machine(
    cli: Run, refused: Run, launched: list, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after training where there was a GPU; here it is a package that is gone."""
    changed(recipe, "epochs: 2", "epochs: 2, tensorboard: true")
    assert cli("run", recipe, "-o", tmp_path / "out").code == 0
    launched.clear()
    monkeypatch.setattr("equiprune.training.observers.find_spec", lambda _: None)
    ran = cli("run", recipe, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    changed(recipe, "epochs: 2", "epochs: 3")
    refused("run", recipe, "-o", tmp_path / "out", says=("Stage 'retrain' (train)", "pip install"))
    assert launched == []


def test_references_that_a_stage_will_give_are_not_missed(
    cli: Run, launched: list, recipe: Path, tmp_path: Path
) -> None:
    changed(recipe, "epochs: 2", "epochs: 2, references: label")
    ran = cli("run", recipe, "-o", tmp_path / "out", "--dry-run")
    assert ran.code == 0, ran.err


def test_files_that_are_no_recipe_are_refused(refused: Run, recipe: Path, tmp_path: Path) -> None:
    refused("run", tmp_path / "none.yaml", "-o", tmp_path / "out", says="There is no recipe at")
    refused("run", tmp_path, "-o", tmp_path / "out", says=(f"'{tmp_path}' is a directory", "a YAML file"))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    refused("run", tmp_path / "binary.yaml", "-o", tmp_path / "out", says="it is not text")
    (tmp_path / "file").write_text("precious")
    refused("run", recipe, "-o", tmp_path / "file", says="cannot be the folder of a pipeline")


def test_a_folder_of_something_else_is_left_alone(refused: Run, launched: list, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "label").mkdir(parents=True)
    (tmp_path / "out" / "label" / "precious").write_text("data")
    refused("run", recipe, "-o", tmp_path / "out", says=("out/label", "not the folder of a stage"))


def test_switches_and_lists_are_written_as_on_the_command_line(
    cli: Run, launched: list, recipe: Path, tmp_path: Path
) -> None:
    more = "epochs: 1, from_scratch: true, tensorboard: False, freeze: [readout*, embedding_weight], dtype: float64"
    changed(recipe, "epochs: 2", more)
    changed(recipe, "channels: 4", "elements: [H, C, O, Si], channels: 4")
    changed(recipe, "{data: label}", "{data: label, models: [parent, retrain], limit: 2}")
    assert cli("run", recipe, "-o", tmp_path / "out").code == 0
    _, prune, train, evaluate = (shlex.join(line) for line in launched)
    assert "--elements H,C,O,Si --channels 4" in prune
    assert "--from-scratch --freeze 'readout*' --freeze embedding_weight --dtype float64" in train
    assert "--tensorboard" not in train
    assert evaluate.startswith(f"evaluate toy {tmp_path}/out/retrain/run/model --data")
