"""``equiprune train`` on the toy model: results, refusals, exit codes and files.

Every refusal goes through `refused`: exit code 2, nothing on stdout, one message, not one byte in the folder changed.
"""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command_line import Run, contents
from runs import rows, write
from train_words import train

import equiprune as ep
from equiprune.adapters.toy import ToyAdapter
from equiprune.structures.reading import fingerprint

pytestmark = pytest.mark.slow


def test_train_writes_a_model_and_its_curve(
    cli: Run, model: Path, labelled: Path, held_out: Path, tmp_path: Path
) -> None:
    ran = cli(*train(model, labelled, tmp_path, "--validation", held_out))
    assert ran.code == 0
    assert "On the validation structures" in ran.out
    assert str(tmp_path / "run" / "model") in ran.out
    assert "mace_run_train --loss universal" in ran.err
    assert "Without --validation" not in ran.err
    assert [row["step"] for row in rows(tmp_path / "run")] == ["1", "2", "3", "4"]
    trained = ep.load(tmp_path / "run" / "model")
    assert trained.dtype == torch.float32
    step = trained.checkpoint.history[-1]
    assert step["parent_sha256"] == cli("info", model, "--json").json["sha256"]
    assert step["data"] == {"data": fingerprint(labelled), "validation": fingerprint(held_out)}
    assert not torch.equal(
        trained.checkpoint.weights["embedding_weight"], ep.load(model).checkpoint.weights["embedding_weight"]
    )


def test_train_as_json_is_one_document(cli: Run, model: Path, labelled: Path, tmp_path: Path) -> None:
    ran = cli(*train(model, labelled, tmp_path, "--json", "--learning-rate", 0.01, epochs=8))
    value = ran.json
    assert ran.code == 0
    assert value.keys() == {"model", "curve", "picture", "accuracy"}
    assert value["model"] == str(tmp_path / "run" / "model")
    assert Path(value["curve"]).is_file()
    start, trained = value["accuracy"]
    assert (start["model"], trained["model"], trained["structures"]) == ("start", "trained", 8)
    assert trained["energy_mae"] < start["energy_mae"] / 2
    measured = cli("evaluate", value["model"], "--data", labelled, "--dtype", "float32", "--json").json[0]
    assert measured["energy_mae"] == pytest.approx(trained["energy_mae"], rel=1e-3)
    assert "Without --validation the learning rate stays as it is" in ran.err


def test_train_flags_are_those_of_the_api(
    cli: Run, model: Path, labelled: Path, held_out: Path, tmp_path: Path
) -> None:
    flags = ["--preset", "sevennet", "--forces-weight", 3, "--stress-weight", 0, "--batch-size", 3, "--seed", 4]
    flags += ["--learning-rate", 0.02, "--patience", 7, "--freeze", "readout*", "--freeze", "embedding_weight"]
    flags += ["--validation", held_out, "--dtype", "float64"]
    assert cli(*train(model, labelled, tmp_path, *flags)).code == 0
    described = json.loads((tmp_path / "run" / "recipe.json").read_text())
    recipe, optimisation = described["recipe"], described["recipe"]["optimisation"]
    weights = {name: term["weight"] for name, term in recipe["objective"].items() if name != "kind"}
    assert weights == {"energy": 1.0, "forces": 3.0, "stress": 0.0}
    assert [recipe[name] for name in ("epochs", "batch_size", "seed", "patience")] == [2, 3, 4, 7]
    assert optimisation["learning_rate"] == 0.02
    assert optimisation["schedule"] == {"kind": "linear", "end": 0.01}
    assert optimisation["rates"] == {"readout*": 0.0, "embedding_weight": 0.0}
    assert described["dtype"] == "float64"
    before, after = ep.load(model).checkpoint.weights, ep.load(tmp_path / "run" / "model").checkpoint.weights
    same = {name for name in before if torch.equal(before[name].double(), after[name])}
    assert same == {"readout_weight", "embedding_weight", "shift", "radial_centres"}
    assert all(row["train_stress"] == "" for row in rows(tmp_path / "run"))


def test_every_value_of_the_optimisation_has_a_flag(cli: Run, model: Path, labelled: Path, tmp_path: Path) -> None:
    flags = ["--schedule", "cosine", "--warm-up", 3, "--weight-decay", 1e-4, "--clip", 0, "--average", 0]
    flags += ["--rates", "readout*=0.1", "--rates", "embedding_weight=2", "--freeze", "radial_0*"]
    assert cli(*train(model, labelled, tmp_path, *flags)).code == 0
    found = json.loads((tmp_path / "run" / "recipe.json").read_text())["recipe"]["optimisation"]
    assert (found["schedule"], found["warm_up"]) == ({"kind": "cosine", "end": 0.01}, 3)
    assert found["weight_decay"] == 1e-4
    assert (found["clip"], found["average"], found["amsgrad"]) == (None, None, True)
    assert found["rates"] == {"radial_0*": 0.0, "readout*": 0.1, "embedding_weight": 2.0}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--clip", -1], ("clip -1", "positive number")),
        (["--average", 1], ("average 1", "below 1")),
        (["--weight-decay", "nan"], ("weight decay nan", "0 or a positive number")),
        (["--rates", "readout*"], ("--rates 'readout*'", "readouts.*=0.1")),
        (["--rates", "readout*=much"], ("--rates 'readout*=much'", "readouts.*=0.1")),
        (["--rates", "nothing*=2"], ("No parameter matches 'nothing*'",)),
        (["--schedule", "steps"], ("schedule", "cosine")),
    ],
)
def test_train_refuses_an_impossible_optimisation(
    flags: list[object], says: tuple[str, ...], refused: Run, model: Path, labelled: Path, tmp_path: Path
) -> None:
    refused(*train(model, labelled, tmp_path, *flags), says=says)


def test_a_trained_model_can_be_used_everywhere(cli: Run, model: Path, labelled: Path, tmp_path: Path) -> None:
    assert cli(*train(model, labelled, tmp_path)).code == 0
    trained = tmp_path / "run" / "model"
    assert cli("certify", trained, "--nve-steps", 2, "--json").json["passed"]
    assert cli("prune", trained, "--lmax", 0, "-o", tmp_path / "smaller").code == 0
    assert cli("train", trained, "--data", labelled, "-o", tmp_path / "again", "--epochs", 1).code == 0
    steps = [step["step"] for step in ep.load(tmp_path / "again" / "model").checkpoint.history]
    assert steps == ["prune", "train", "train"]


def test_train_interrupted_says_so_and_goes_on(
    cli: Run,
    refused: Run,
    model: Path,
    labelled: Path,
    tmp_path: Path,
    interrupting: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = train(model, labelled, tmp_path, epochs=3)
    interrupting(2)
    ran = cli(*command)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.endswith("equiprune: Interrupted after step 3; the same command goes on from there.\n")
    assert "Traceback" not in ran.err
    assert not (tmp_path / "run" / "model").exists()
    monkeypatch.undo()
    assert cli(*command).code == 0
    assert [row["step"] for row in rows(tmp_path / "run")] == [str(i) for i in range(1, 7)]
    whole = cli("train", model, "--data", labelled, "-o", tmp_path / "whole", "--epochs", 3)
    assert whole.code == 0
    weights = "model/weights.safetensors"
    assert (tmp_path / "run" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()


def test_a_finished_run_says_the_same_again(cli: Run, model: Path, labelled: Path, tmp_path: Path) -> None:
    first = cli(*train(model, labelled, tmp_path, "--json"))
    before = contents(tmp_path)
    again = cli(*train(model, labelled, tmp_path, "--json"))
    assert (again.code, again.json) == (0, first.json)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--energy-weight", -1], ("--energy-weight", "-1", "0 or a positive number")),
        (["--forces-weight", "nan"], ("--forces-weight", "nan", "0 or a positive number")),
        (["--stress-weight", "inf"], ("--stress-weight", "inf", "0 or a positive number")),
        (["--energy-weight", 0, "--forces-weight", 0, "--stress-weight", 0], ("Every weight is 0", "positive number")),
        (["--learning-rate", 0], ("learning rate 0.0", "positive number")),
        (["--learning-rate", -1], ("learning rate -1.0", "positive number")),
        (["--learning-rate", "nan"], ("learning rate nan", "positive number")),
        (["--learning-rate", "inf"], ("learning rate inf", "positive number")),
        (["--learning-rate", "fast"], ("--learning-rate", "fast")),
        (["--freeze", "readouts.*"], ("'readouts.*'", "embedding_weight")),
        (["--freeze", "*"], ("Every parameter is frozen",)),
        (["--batch-size", 0], ("--batch-size", "1 or more")),
        (["--patience", -1], ("--patience", "0 or more")),
        (["--patience", 3], ("--patience", "validation")),
        (["--seed", -1], ("--seed", "0 or more")),
        (["--preset", "mace-univers"], ("mace-univers", "mace-universal", "sevennet")),
        (["--dtype", "float16"], ("float16", "float32", "float64")),
        (["--head", "PBE"], ("single head", "PBE")),
    ],
)
def test_train_refuses_impossible_settings(
    flags: list[object], says: tuple[str, ...], refused: Run, model: Path, labelled: Path, tmp_path: Path
) -> None:
    refused(*train(model, labelled, tmp_path, *flags), says=says)


def test_train_tells_of_no_other_labels_where_atom_energies_are_missing(
    refused: Run, model: Path, labelled: Path, tmp_path: Path
) -> None:
    structures = list(ep.read_structures(labelled))
    for atoms in structures:
        del atoms.calc.results["energies"]
    bare = write(tmp_path / "bare.extxyz", structures)
    ran = refused(*train(model, bare, tmp_path, "--atom-energies-weight", 1), says="atom energies")
    assert ran.err.endswith(
        "equiprune: No structure for training has a label of its atom energies, which the objective gives a weight. "
        "Label them (with 'equiprune label', by a teacher that divides its energy among atoms), or set the weight of "
        "atom energies to 0.\n"
    )


def test_train_refuses_to_do_nothing(refused: Run, model: Path, labelled: Path, tmp_path: Path) -> None:
    refused(*train(model, labelled, tmp_path, epochs=0), says=("--epochs", "1 or more"))


@pytest.mark.parametrize("missing", ["energy", "forces", "stress"])
def test_train_refuses_data_without_a_label_it_needs(
    missing: str, cli: Run, refused: Run, model: Path, labelled: Path, tmp_path: Path
) -> None:
    structures = list(ep.read_structures(labelled))
    for atoms in structures:
        del atoms.calc.results[missing]
    lacking = write(tmp_path / "lacking.extxyz", structures)
    refused(
        *train(model, lacking, tmp_path), says=("for training", f"label of its {missing}", f"weight of {missing} to 0")
    )
    assert cli(*train(model, lacking, tmp_path, f"--{missing}-weight", 0)).code == 0


def test_train_refuses_validation_data_without_labels(
    refused: Run, model: Path, labelled: Path, data: Path, tmp_path: Path
) -> None:
    refused(*train(model, labelled, tmp_path, "--validation", data), says=("for validation", "label of its energy"))


@pytest.mark.parametrize("flag", ["--data", "--validation"])
@pytest.mark.parametrize(
    ("content", "says"), [(b"", "bad.xyz"), (b"nonsense\n", "could not be read"), (None, "there is no such file")]
)
def test_train_refuses_files_without_structures(
    flag: str, content: bytes | None, says: str, refused: Run, model: Path, labelled: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.xyz"
    if content is not None:
        bad.write_bytes(content)
    words = train(model, bad if flag == "--data" else labelled, tmp_path)
    refused(*words, *([] if flag == "--data" else [flag, bad]), says=says)


def test_train_refuses_labels_that_are_not_numbers(refused: Run, model: Path, labelled: Path, tmp_path: Path) -> None:
    structures = list(ep.read_structures(labelled))
    structures[3].info["REF_energy"] = math.nan
    bad = write(tmp_path / "bad.extxyz", structures)
    refused(*train(model, bad, tmp_path), says=(structures[3].get_chemical_formula(), "energy label", "not finite"))


def test_train_refuses_an_output_that_is_a_file(refused: Run, model: Path, labelled: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("precious")
    refused(*train(model, labelled, tmp_path), says=(str(tmp_path / "run"), "cannot be written"))


def test_train_refuses_a_folder_of_something_else(refused: Run, model: Path, labelled: Path, tmp_path: Path) -> None:
    words = ["train", model, "--data", labelled, "-o", model]
    refused(*words, says=(str(model), "is of no training run", "another folder"))


def test_train_refuses_the_run_of_another_recipe(
    cli: Run, refused: Run, model: Path, labelled: Path, held_out: Path, tmp_path: Path
) -> None:
    assert cli(*train(model, labelled, tmp_path)).code == 0
    other = "another folder"
    refused(*train(model, labelled, tmp_path, "--seed", 1), says=("recipe.seed", other))
    refused(*train(model, labelled, tmp_path, "--preset", "sevennet"), says=("recipe.objective", other))
    refused(*train(model, held_out, tmp_path), says=("structures", other))
    refused(*train("toy", labelled, tmp_path), says=("model_sha256", other))


def test_train_that_diverges_names_a_structure(cli: Run, model: Path, labelled: Path, tmp_path: Path) -> None:
    ran = cli(*train(model, labelled, tmp_path, "--learning-rate", 1e30))
    assert (ran.code, ran.out) == (2, "")
    assert "Training has diverged" in ran.err
    assert "C4H4" in ran.err
    assert "Traceback" not in ran.err
    assert not (tmp_path / "run" / "model").exists()


def test_the_baseline_starts_from_scratch(cli: Run, tmp_path: Path, labelled: Path) -> None:
    """The same command with and without inherited weights: both run, only one says it drew its weights."""
    errors = {}
    for name, flags in (("inherited", []), ("scratch", ["--from-scratch", "--seed", "5"])):
        ran = cli("train", "toy", "--data", labelled, "-o", tmp_path / name, "--epochs", 1, *flags, "--json")
        assert ran.code == 0, ran
        errors[name] = ran.json["accuracy"][1]["forces_mae"]
        steps = [step["step"] for step in ep.load(tmp_path / name / "model").checkpoint.history]
        assert steps == (["initialise", "train"] if flags else ["train"])
    assert errors["scratch"] > 10 * errors["inherited"]


def test_the_last_model_is_kept_beside_the_best(cli: Run, model: Path, labelled: Path, tmp_path: Path) -> None:
    ran = cli(*train(model, labelled, tmp_path, "--validation", labelled, "--json"))
    assert ran.json["last"] == str(tmp_path / "run" / "last")
    assert ep.load(ran.json["last"]).checkpoint.history == ep.load(ran.json["model"]).checkpoint.history


def test_the_preset_is_that_of_the_architecture_unless_one_is_named(
    cli: Run, model: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyAdapter, "preset", "sevennet")
    common = ["train", model, "--data", labelled, "--epochs", 1]
    for preset, rate, words in (("sevennet", 4e-3, []), ("mace-weighted", 1e-3, ["--preset", "mace-weighted"])):
        ran = cli(*common, *words, "-o", tmp_path / preset)
        assert (ran.code, ran.err.count(f"Preset {preset}: ")) == (0, 1), ran.err
        [first] = rows(tmp_path / preset)[:1]
        assert float(first["learning_rate"]) == pytest.approx(rate, rel=0.5)


def test_an_adapter_whose_preset_is_none_is_refused(
    refused: Run, model: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyAdapter, "preset", "my-own")
    words = ["train", model, "--data", labelled, "-o", tmp_path / "run"]
    refused(*words, says=("preset 'my-own' is none", "--preset", "sevennet"))


# Several processes.


def test_two_processes_train_together_and_say_everything_once(
    cli: Run, model: Path, labelled: Path, tmp_path: Path
) -> None:
    """Batches of 2 in two processes are batches of 4 in one; files of the working directory are no packages."""
    (tmp_path / "torch.py").write_text("raise RuntimeError")
    common = ["train", str(model), "--data", str(labelled), "--dtype", "float64", "--epochs", "2", "--json"]
    one, two = tmp_path / "on_1", tmp_path / "on_2"
    alone = cli(*common, "--devices", 1, "--batch-size", 4, "-o", one)
    words = [*common, "--devices", "2", "--batch-size", "2", "-o", str(two)]
    python = [sys.executable, "-P", "-m", "equiprune"]  # as the script equiprune, which is in another directory
    ran = subprocess.run([*python, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (alone.code, ran.returncode) == (0, 0), alone.err + ran.stderr
    for notes in (alone.err, ran.stderr):
        assert notes.count("Preset mace-universal") == 1
    for folder in (one, two):
        assert [row["step"] for row in rows(folder)] == ["1", "2", "3", "4"]
    maes = [said["accuracy"][1]["forces_mae"] for said in (alone.json, json.loads(ran.stdout))]
    assert maes[1] == pytest.approx(maes[0], rel=1e-6)


def test_gpus_that_are_not_there_are_refused(
    refused: Run, model: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused("train", model, "--data", labelled, "-o", tmp_path / "run", "--device", "cuda", says="there are 0 here")
