"""The command line on the toy model: what it promises of stdout, stderr, exit codes and files.

Every refusal goes through `refused`: exit code 2, nothing on stdout, one message, not one byte in the folder changed.
"""

import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from command_line import Run, contents
from safetensors.torch import load_file, save_file

import equiprune as ep
from equiprune.cli import main
from equiprune.probes import probe_structures
from equiprune.pruning.importance import data_free_scores

COMMANDS = ("info", "calibrate", "prune", "certify", "evaluate", "benchmark", "export")
OFFSET = {"energy": 0.01, "forces": 0.02, "stress": 0.003}
"""How far the labels of `labelled` are from the toy model: eV per atom, eV/Angstrom, eV/Angstrom^3."""


def toy_structures(count: int) -> list[Atoms]:
    return [a for seed in range(count // 4 + 1) for a in probe_structures([1, 6, 8, 14], seed).values()][:count]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six structures without labels."""
    return write(tmp_path / "data.xyz", toy_structures(6))


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Six structures, labels off the toy model by `OFFSET`; the last two have no stress, the last no energy."""
    structures = toy_structures(6)
    predictions = ep.load("toy", dtype=torch.float64).predict(structures)
    for i, (atoms, prediction) in enumerate(zip(structures, predictions, strict=True)):
        labels = {
            "energy": prediction.energy.item() + OFFSET["energy"] * len(atoms),
            "forces": prediction.forces.numpy() - OFFSET["forces"],
            "stress": (prediction.stress.numpy() + OFFSET["stress"])[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        }
        lacking = {4: ["stress"], 5: ["stress", "energy"]}.get(i, [])
        atoms.calc = SinglePointCalculator(atoms, **{k: v for k, v in labels.items() if k not in lacking})
        atoms.info["config_type"] = "crystal" if i % 2 else "other"
    return write(tmp_path / "labelled.xyz", structures)


def write(path: Path, structures: list[Atoms]) -> Path:
    ase.io.write(path, structures, format="extxyz")
    return path


def toy_model(
    path: Path, change: Callable[[dict[str, torch.Tensor]], None] = lambda weights: None, **fields: Any
) -> Path:
    """A native toy model with changed weights or hyperparameters."""
    toy = ep.load("toy")
    checkpoint = toy.checkpoint
    if fields:
        checkpoint = toy.adapter.random_checkpoint(replace(toy.architecture, **fields))  # type: ignore[attr-defined]
    weights = {name: weight.clone() for name, weight in checkpoint.weights.items()}
    change(weights)
    ep.save(ep.Potential.create(toy.adapter, replace(checkpoint, weights=weights)), path)
    return path


def nan_model(path: Path) -> Path:
    """A native toy model whose readout is NaN; equiprune itself writes no such file."""
    weights = load_file(toy_model(path) / "weights.safetensors")
    save_file(weights | {"readout_weight": weights["readout_weight"] * np.nan}, path / "weights.safetensors")
    return path


@pytest.fixture
def pruned(tmp_path: Path, cli: Run) -> tuple[Path, Path]:
    """A native parent and its child."""
    parent, child = toy_model(tmp_path / "parent"), tmp_path / "child"
    assert cli("prune", parent, "--channels", 3, "--criterion", "magnitude", "-o", child).code == 0
    return parent, child


def command(name: str, model: object, folder: Path) -> list[object]:
    """A valid call of a command on a model; the data files are those of the fixtures ``data`` and ``labelled``."""
    return {
        "info": ["info", model],
        "calibrate": ["calibrate", model, folder / "data.xyz", "-o", folder / "out.json"],
        "prune": ["prune", model, "--lmax", 0, "-o", folder / "out"],
        "certify": ["certify", model, "--nve-steps", 2],
        "evaluate": ["evaluate", model, "--data", folder / "labelled.xyz"],
        "benchmark": ["benchmark", model, "--repeats", 2, "--data", folder / "data.xyz"],
        "export": ["export", model, "-o", folder / "out"],
    }[name]


# Every command runs.

NOTES = {
    "evaluate": "Labels: energy from calculator result energy (5 of 6), forces from calculator result forces (6 of 6), "
    "stress from calculator result stress (4 of 6).\n"
}
"""What goes to stderr."""


@pytest.mark.parametrize("name", COMMANDS)
def test_text_goes_to_stdout(name: str, cli: Run, tmp_path: Path, data: Path, labelled: Path) -> None:
    ran = cli(*command(name, "toy", tmp_path))
    assert (ran.code, ran.err) == (0, NOTES.get(name, ""))
    assert len(ran.out.split()) > 3
    with pytest.raises(json.JSONDecodeError):
        ran.json


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_one_document_and_nothing_else(name: str, cli: Run, tmp_path: Path, data: Path, labelled: Path) -> None:
    ran = cli(*command(name, "toy", tmp_path), "--json")
    assert (ran.code, ran.err) == (0, NOTES.get(name, ""))
    assert isinstance(ran.json, dict | list)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("info", "MODEL --json --head --trust"),
        ("calibrate", "MODEL DATA -o --output --criterion --seed --limit --batch-atoms --dtype --plot"),
        (
            "prune",
            "-o --output --irreps --lmax --edge-lmax --channels --parameters --elements --heads --radial-width "
            "--radial-basis --floor --round-to --lossless --plan --scores --data --criterion --seed --limit --json",
        ),
        ("certify", "--parent --output --nve-steps --json --head"),
        ("evaluate", "MODELS --data --dtype --limit --batch-atoms --json --head"),
        ("benchmark", "--data --dtype --repeats --threads --device --json"),
        ("export", "MODEL --output --json"),
        ("demo", "OUTPUT"),
    ],
)
def test_help_names_every_flag(name: str, flags: str, cli: Run) -> None:
    ran = cli(name, "--help")
    assert ran.code == 0
    for flag in flags.split():
        assert re.search(rf"(?<![\w-]){flag}(?![\w-])", ran.out), flag


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_help_lists_the_commands(words: list[str], cli: Run) -> None:
    ran = cli(*words)
    assert ran.code == 0
    assert all(name in ran.out for name in COMMANDS)


def test_version_is_printed(cli: Run) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", cli("--version").out)


# What the JSON says.


def test_info_describes_the_model(cli: Run, tmp_path: Path) -> None:
    value = cli("info", toy_model(tmp_path / "model"), "--json").json
    module = ep.load("toy").module
    assert value["adapter"] == "toy"
    assert value["parameters"] == {
        "all": sum(p.numel() for p in module.parameters()),
        "trainable": sum(p.numel() for p in module.parameters() if p.requires_grad),
    }
    assert value["elements"] == ["H", "C", "O", "Si"]
    assert value["licence"] == "MIT"
    assert re.fullmatch("[0-9a-f]{64}", value["sha256"])
    spaces = {space["name"]: (space["irreps"], space["tying"]) for space in value["spaces"]}
    assert spaces["node_feats.1"] == ("6x0e+4x1o", "independent")


def test_info_shows_dead_blocks(cli: Run, tmp_path: Path) -> None:
    model = toy_model(tmp_path / "model", kill_a_channel)
    assert cli("info", model, "--json").json["dead"] == {"node_feats.0": "1x0e", "edge_irreps.0": "1x0e"}


def test_certify_measures_exactness_and_physics(cli: Run, pruned: tuple[Path, Path]) -> None:
    ran = cli("certify", pruned[1], "--parent", pruned[0], "--json")
    value = ran.json
    assert (ran.code, value["passed"]) == (0, True)
    assert value["masked_vs_sliced"].keys() == {"energy", "forces", "stress"}
    assert all(0 <= difference <= 1e-10 for difference in value["masked_vs_sliced"].values())
    assert value["equivariance"]["energy"] < 1e-9
    assert value["equivariance"]["forces"] < 1e-9
    assert 0 < value["finite_difference"]["forces"] < 1e-5


@pytest.mark.parametrize("suffix", [".json", ".md"])
def test_certify_writes_the_certificate_too(suffix: str, cli: Run, tmp_path: Path) -> None:
    output = tmp_path / f"certificate{suffix}"
    ran = cli("certify", "toy", "--nve-steps", 2, "-o", output, *(["--json"] if suffix == ".json" else []))
    assert ran.code == 0
    assert output.read_text() == ran.out if suffix == ".json" else output.read_text().strip() == ran.out.strip()


def test_certify_of_tampered_weights_fails(cli: Run, pruned: tuple[Path, Path]) -> None:
    parent, child = pruned
    weights = child / "weights.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-2] ^= 1
    weights.write_bytes(raw)
    ran = cli("certify", child, "--parent", parent, "--json")
    assert (ran.code, ran.json["passed"]) == (1, False)
    assert ran.json["stored_weights"] > 0
    assert "FAILED" in cli("certify", child, "--parent", parent).out


def test_certify_of_nan_weights_fails_with_valid_json(cli: Run, tmp_path: Path) -> None:
    ran = cli("certify", nan_model(tmp_path / "model"), "--json")
    assert (ran.code, ran.json["passed"]) == (1, False)
    assert ran.json["equivariance"]["energy"] is None


def test_evaluate_measures_each_model(cli: Run, tmp_path: Path, labelled: Path) -> None:
    other = toy_model(tmp_path / "other", lambda weights: weights["readout_weight"].mul_(2))
    first, second = cli("evaluate", "toy", other, "--data", labelled, "--dtype", "float64", "--json").json
    assert (first["model"], second["model"]) == ("toy", str(other))
    assert first["structures"] == 6
    for quantity, offset in OFFSET.items():
        assert first[f"{quantity}_mae"] == pytest.approx(1000 * offset)
        assert second[f"{quantity}_mae"] > first[f"{quantity}_mae"]
    assert first["by_element"]["Si"]["forces_mae"] == pytest.approx(1000 * OFFSET["forces"])
    assert first["by_config_type"].keys() == {"crystal", "other"}


def test_missing_labels_are_counted_and_said(cli: Run, labelled: Path) -> None:
    [value] = cli("evaluate", "toy", "--data", labelled, "--json").json
    assert value["missing"] == {"energy": 1, "forces": 0, "stress": 2}
    text = cli("evaluate", "toy", "--data", labelled).out
    assert "2 of 6 structures have no stress label and were left out of that column." in text
    assert "1 of 6 structures have no energy label" in text
    assert "forces label" not in text


def test_a_quantity_without_any_label_is_not_zero(cli: Run, tmp_path: Path, labelled: Path) -> None:
    last = write(tmp_path / "last.xyz", ase.io.read(labelled, "5:"))
    [value] = cli("evaluate", "toy", "--data", last, "--json").json
    assert value["energy_mae"] is None
    assert value["forces_mae"] == pytest.approx(1000 * OFFSET["forces"], rel=1e-3)
    assert "no labels" in cli("evaluate", "toy", "--data", last).out


def test_evaluate_limit_uses_the_first_structures(cli: Run, labelled: Path) -> None:
    [value] = cli("evaluate", "toy", "--data", labelled, "--limit", 4, "--json").json
    assert (value["structures"], value["missing"]["stress"]) == (4, 0)


def test_benchmark_states_its_conditions(cli: Run, tmp_path: Path, data: Path) -> None:
    models = ["toy", toy_model(tmp_path / "model")]
    timings = cli("benchmark", *models, "--data", data, "--repeats", 3, "--dtype", "float64", "--json").json
    assert [timing["model"] for timing in timings] == ["toy", str(models[1])]
    for timing in timings:
        assert timing["dtype"] == "float64"
        assert timing["backend"] == "toy on cpu"
        assert (timing["batch"], timing["repeats"], timing["atoms"]) == (1, 3, 8)
        assert timing["atoms_per_second"] == pytest.approx(8 / timing["seconds_median"])
        assert type(timing["peak_memory_bytes"]) is int


def test_benchmark_uses_the_threads_it_is_given(cli: Run, data: Path) -> None:
    before = torch.get_num_threads()
    try:
        [timing] = cli("benchmark", "toy", "--data", data, "--threads", before + 1, "--repeats", 1, "--json").json
        assert timing["threads"] == before + 1
    finally:
        torch.set_num_threads(before)


# Calibrate.


@pytest.mark.parametrize("criterion", [ep.Taylor(), ep.Activation()])
def test_calibrate_writes_the_scores_of_the_api(
    criterion: ep.Taylor | ep.Activation, cli: Run, tmp_path: Path, data: Path
) -> None:
    output = tmp_path / "scores.json"
    value = cli("calibrate", "toy", data, "--criterion", criterion.name, "--limit", 5, "-o", output, "--json").json
    expected = ep.calibrate(ep.load("toy"), data, criterion, limit=5)
    assert json.loads(output.read_text()) == expected.to_json()
    assert (value["scores"], value["structures"]) == (str(output), 5)
    assert not (tmp_path / "scores.json.partial").exists()


def test_magnitude_needs_no_structures(cli: Run, tmp_path: Path, data: Path) -> None:
    ran = cli("calibrate", "toy", "--criterion", "magnitude", "-o", tmp_path / "a.json")
    assert (ran.code, ran.err) == (0, "")
    ran = cli("calibrate", "toy", data, "--criterion", "magnitude", "-o", tmp_path / "b.json")
    assert "is not read" in ran.err
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_plot_is_a_png_or_an_svg(cli: Run, tmp_path: Path, data: Path) -> None:
    for i, suffix in enumerate((".png", ".svg")):
        plot = tmp_path / f"importance{suffix}"
        assert cli("calibrate", "toy", data, "-o", tmp_path / f"{i}.json", "--plot", plot).code == 0
    assert (tmp_path / "importance.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert ElementTree.parse(tmp_path / "importance.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_ctrl_c_keeps_what_was_finished(tmp_path: Path, cli: Run) -> None:
    data = write(tmp_path / "many.xyz", toy_structures(300))
    interrupted, whole, partial = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "a.json.partial"
    call = ["calibrate", "toy", str(data), "--batch-atoms", "8", "-o"]
    process = subprocess.Popen(
        [sys.executable, "-m", "equiprune", *call, str(interrupted)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 60
    while not partial.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    messages = [line for line in err.splitlines() if not line.startswith("calibrate: ")]
    assert messages == [f"equiprune: Interrupted; {partial} keeps what was finished. Repeat the command to go on."]
    assert 64 <= json.loads(partial.read_text())["sums"]["structures"] < 300
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json.partial", "many.xyz"]

    ran = cli(*call, interrupted)
    assert (ran.code, ran.err.splitlines()[0]) == (0, f"Going on from {partial}.")
    assert cli(*call, whole).code == 0
    assert interrupted.read_bytes() == whole.read_bytes()
    assert not partial.exists()


@pytest.mark.parametrize("text", ["[]", "{}", '{"provenance": {}}', "nonsense"])
def test_a_foreign_partial_calibration_is_refused(text: str, refused: Run, tmp_path: Path, data: Path) -> None:
    (tmp_path / "scores.json.partial").write_text(text)
    refused("calibrate", "toy", data, "-o", tmp_path / "scores.json", says=("scores.json.partial", "calibration"))


@pytest.mark.parametrize("damage", [{}, {"sums": None}, {"sums": {"structures": 3}}])
def test_a_damaged_partial_calibration_is_refused(
    damage: dict[str, Any], cli: Run, refused: Run, tmp_path: Path, data: Path
) -> None:
    command = ["calibrate", "toy", data, "-o", tmp_path / "scores.json"]
    provenance = cli(*command, "--json").json["provenance"]
    (tmp_path / "scores.json").unlink()
    (tmp_path / "scores.json.partial").write_text(json.dumps({"provenance": provenance} | damage))
    refused(*command, says=("scores.json.partial", "damaged", "Remove it"))


# Prune.


def test_scores_and_data_choose_the_same_plan(cli: Run, tmp_path: Path, data: Path) -> None:
    scores = tmp_path / "scores.json"
    assert cli("calibrate", "toy", data, "-o", scores).code == 0
    by_scores = cli("prune", "toy", "--parameters", 0.5, "--scores", scores, "-o", tmp_path / "a", "--json").json
    by_data = cli("prune", "toy", "--parameters", 0.5, "--data", data, "-o", tmp_path / "b", "--json").json
    toy = ep.load("toy")
    expected = ep.allocate(toy, [ep.Parameters(0.5)], ep.calibrate(toy, data))
    assert by_scores["plan"] == by_data["plan"] == expected.to_json()
    assert by_scores["written"] == [str(tmp_path / "a")]
    parent, child = by_scores["trainable parameters"]
    assert child <= parent / 2
    assert cli("info", tmp_path / "a", "--json").json["parameters"]["trainable"] == child


@pytest.mark.parametrize(
    ("flags", "criterion"),
    [
        (["magnitude"], ep.Magnitude()),
        (["random"], ep.Random(0)),
        (["random", "--seed", "7"], ep.Random(7)),
    ],
)
def test_data_free_criteria_choose_what_they_say(
    flags: list[str], criterion: ep.Magnitude | ep.Random, cli: Run, tmp_path: Path
) -> None:
    value = cli("prune", "toy", "--channels", 3, "--criterion", *flags, "-o", tmp_path / "out", "--json").json
    toy = ep.load("toy")
    expected = ep.allocate(toy, [ep.Channels(3)], data_free_scores(toy, criterion))
    assert value["plan"] == expected.to_json()


def test_the_seed_matters() -> None:
    toy = ep.load("toy")
    plans = [ep.allocate(toy, [ep.Channels(3)], data_free_scores(toy, ep.Random(seed))) for seed in (0, 7)]
    assert plans[0] != plans[1]


@pytest.mark.parametrize("part", ["plan", "all"])
def test_a_plan_can_be_used_again(part: str, cli: Run, tmp_path: Path) -> None:
    value = cli("prune", "toy", "--channels", 3, "--criterion", "magnitude", "-o", tmp_path / "a", "--json").json
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(value["plan"] if part == "plan" else value))
    again = cli("prune", "toy", "--plan", plan, "-o", tmp_path / "b", "--json").json
    assert again["plan"] == value["plan"] != {}
    assert (tmp_path / "a/weights.safetensors").read_bytes() == (tmp_path / "b/weights.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("flags", "space", "irreps"),
    [
        (["--lmax", 0], "node_feats.1", "6x0e"),
        (["--edge-lmax", 0, "--lmax", 0], "edge_attrs", "1x0e"),
        (["--elements", "O,H"], "elements", "2x0e"),
        (["--irreps", "4x0e+2x1o"], "node_feats.1", "4x0e+2x1o"),
        (["--irreps", "6x0e,6x0e+1x1o,2x0e"], "node_feats.2", "2x0e"),
        (["--channels", 5, "--round-to", 2], "node_feats.1", "4x0e+4x1o"),
        (["--round-to", 4], "node_feats.0", "4x0e"),
        (["--radial-width", 3], "radial.1", "3x0e"),
        (["--radial-basis", 3], "radial_basis", "3x0e"),
    ],
)
def test_each_target_is_reached(flags: list[object], space: str, irreps: str, cli: Run, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert cli("prune", "toy", *flags, "--criterion", "random", "-o", output).code == 0
    spaces = {s["name"]: s["irreps"] for s in cli("info", output, "--json").json["spaces"]}
    assert spaces[space] == irreps


def test_elements_keep_the_order_asked_for(cli: Run, tmp_path: Path) -> None:
    assert cli("prune", "toy", "--elements", "O,H", "-o", tmp_path / "out").code == 0
    assert cli("info", tmp_path / "out", "--json").json["elements"] == ["O", "H"]


def test_round_to_makes_every_multiplicity_a_multiple(cli: Run, tmp_path: Path, data: Path) -> None:
    flags = ["--parameters", 0.6, "--round-to", 2, "--data", data]
    assert cli("prune", "toy", *flags, "-o", tmp_path / "out").code == 0
    hidden = cli("info", tmp_path / "out", "--json").json["hidden_irreps"]
    muls = [mul for text in hidden for mul, _ in ep.Irreps.parse(text)]
    assert muls
    assert all(mul % 2 == 0 for mul in muls)


def kill_a_channel(weights: dict[str, torch.Tensor]) -> None:
    """Nothing produces channel 2 of node_feats.0 and channel 3 of edge_irreps.0."""
    weights["embedding_weight"].view(4, 6)[:, 2] = 0
    weights["linear_up_0_weight"].view(6, 6)[:, 3] = 0


def test_lossless_removes_dead_channels_and_proves_it(cli: Run, tmp_path: Path) -> None:
    model = toy_model(tmp_path / "model", kill_a_channel)
    value = cli("prune", model, "--lossless", "-o", tmp_path / "out", "--json").json
    assert value["plan"]["node_feats.0"]["kept"] == {"0e": [0, 1, 3, 4, 5]}
    assert value["plan"]["edge_irreps.0"]["kept"] == {"0e": [0, 1, 2, 4, 5]}
    assert value["lossless"].keys() == {"energy", "forces", "stress"}
    assert all(difference <= 1e-12 for difference in value["lossless"].values())
    parent, child = (ep.load(path, dtype=torch.float64) for path in (model, tmp_path / "out"))
    for a, b in zip(parent.predict(toy_structures(4)), child.predict(toy_structures(4)), strict=True):
        torch.testing.assert_close(a.forces, b.forces, rtol=0, atol=1e-5)  # the child is stored in float32
    assert "Lossless, proven" in cli("prune", model, "--lossless", "-o", tmp_path / "again").out


def test_lossless_with_a_lossy_target_is_refused(refused: Run, tmp_path: Path) -> None:
    model = toy_model(tmp_path / "model", kill_a_channel)
    command = ["prune", model, "--lossless", "--lmax", 0, "-o", tmp_path / "out"]
    refused(*command, says=("not lossless", "Leave out --lossless"))


def test_removing_nothing_is_said(cli: Run, tmp_path: Path) -> None:
    assert "Nothing was removed" in cli("prune", "toy", "--lmax", 1, "-o", tmp_path / "out").out
    assert "needs retraining" in cli("prune", "toy", "--lmax", 0, "-o", tmp_path / "out2").out


def test_scores_of_another_file_of_the_same_shape_are_noted(cli: Run, tmp_path: Path) -> None:
    scores = tmp_path / "scores.json"
    assert cli("calibrate", "toy", "--criterion", "magnitude", "-o", scores).code == 0
    flags = ["--channels", 3, "--scores", scores]
    assert cli("prune", "toy", *flags, "-o", tmp_path / "a").err == ""
    assert "another" in cli("prune", toy_model(tmp_path / "model"), *flags, "-o", tmp_path / "b").err


def test_export_writes_the_same_weights(cli: Run, tmp_path: Path) -> None:
    assert cli("export", "toy", "-o", tmp_path / "out", "--json").json == {"written": [str(tmp_path / "out")]}
    original, written = ep.load("toy").checkpoint.weights, ep.load(tmp_path / "out").checkpoint.weights
    assert original.keys() == written.keys()
    assert all(torch.equal(original[name], written[name]) for name in original)


# Bad words.


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["prun", "toy"], ("prun", "Did you mean", "prune")),
        (["info"], "MODEL"),
        (["info", "toy", "extra"], "extra"),
        (["info", "toy", "--jsn"], ("--jsn", "--json")),
        (["evaluate", "toy"], "--data"),
        (["prune", "toy", "--lmax", "0"], "--output"),
        (["prune", "toy", "-o", "x", "--lmax", "one"], ("--lmax", "one", "whole number")),
        (["prune", "toy", "-o", "x", "--lmax", "0.5"], ("--lmax", "0.5", "whole number")),
        (["prune", "toy", "-o", "x", "--parameters", "half"], ("--parameters", "half")),
        (["prune", "toy", "-o", "x", "--lmax", "0", "--lmax", "1"], ("--lmax", "multiple times")),
        (["benchmark", "toy", "--dtype", "float16"], ("--dtype", "float16", "float32", "float64")),
        (["calibrate", "toy", "d", "-o", "x", "--criterion", "tailor"], ("tailor", "taylor", "magnitude")),
        (["calibrate", "toy", "-o", "x"], ("taylor", "give DATA")),
        (["benchmark", "toy", "--device", "gpu"], ("gpu", "cpu")),
        (["info", "toy", "--head", "PBE"], ("single head", "PBE", "Leave it out")),
        (["certify", "toy", "--head", "PBE"], ("single head", "PBE", "Leave it out")),
    ],
)
def test_wrong_words_are_refused(words: list[str], says: str, refused: Run) -> None:
    refused(*words, says=says)


@pytest.mark.parametrize(
    ("name", "flag", "smallest"),
    [
        ("calibrate", "--limit", 1),
        ("calibrate", "--batch-atoms", 1),
        ("calibrate", "--seed", 0),
        ("prune", "--limit", 1),
        ("prune", "--seed", 0),
        ("prune", "--round-to", 1),
        ("certify", "--nve-steps", 1),
        ("evaluate", "--limit", 1),
        ("evaluate", "--batch-atoms", 1),
        ("benchmark", "--repeats", 1),
        ("benchmark", "--threads", 1),
    ],
)
def test_numbers_too_small_are_refused(
    name: str, flag: str, smallest: int, refused: Run, tmp_path: Path, data: Path, labelled: Path
) -> None:
    for value in (smallest - 1, -5):
        words = [word for word in command(name, "toy", tmp_path) if word not in ("--repeats", "--nve-steps", 2)]
        refused(*words, flag, value, says=(flag, str(value), f"{smallest} or more"))


# Bad models.


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("missing.pth", ("missing.pth", "neither a file nor a known model", "toy")),
        ("tooy", ("tooy", "Did you mean 'toy'?")),
        ("7net-l3i4", ("7net-l3i4", "Did you mean '7net-l3i5'?")),
    ],
)
def test_an_unknown_model_is_refused(
    name: str, model: str, says: tuple[str, ...], refused: Run, tmp_path: Path, data: Path, labelled: Path
) -> None:
    refused(*command(name, model, tmp_path), says=says)


def test_a_foreign_suffix_is_refused(refused: Run, tmp_path: Path) -> None:
    (tmp_path / "weights.npz").write_bytes(b"1")
    refused("info", tmp_path / "weights.npz", says=(".npz", "no adapter opens", "directory that equiprune wrote"))


def test_a_foreign_directory_is_refused(refused: Run, tmp_path: Path) -> None:
    refused("info", tmp_path, says=(str(tmp_path), "not a model that equiprune wrote"))


@pytest.mark.parametrize("file", ["architecture.json", "weights.safetensors", "provenance.json"])
@pytest.mark.parametrize("keep", [0, 1, 9, 0.5, 0.999, None])
def test_a_damaged_native_model_is_refused(keep: float | None, file: str, refused: Run, tmp_path: Path) -> None:
    path = toy_model(tmp_path / "model") / file
    raw = path.read_bytes().rstrip()
    path.unlink() if keep is None else path.write_bytes(raw[: int(len(raw) * keep) if 0 < keep < 1 else int(keep)])
    for words in (["info", path.parent], ["export", path.parent, "-o", tmp_path / "out"]):
        refused(*words, says=str(path.parent))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": 99}, ("format 99", "Update equiprune")),
        ({"adapter": "toi"}, ("toi", "Did you mean 'toy'?")),
        ({"architecture": {}}, "damaged"),
        ({"architecture": None}, "damaged"),
    ],
)
def test_a_foreign_architecture_is_refused(changes: dict[str, Any], says: str, refused: Run, tmp_path: Path) -> None:
    path = toy_model(tmp_path / "model") / "architecture.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    refused("info", path.parent, says=says)


def test_weights_of_another_architecture_are_refused(refused: Run, tmp_path: Path) -> None:
    other = toy_model(tmp_path / "other", radial_width=5) / "weights.safetensors"
    path = toy_model(tmp_path / "model")
    (path / "weights.safetensors").write_bytes(other.read_bytes())
    refused("info", path, says=(str(path), "do not fit its architecture"))


# Bad structures.


def crystal() -> Atoms:
    return toy_structures(1)[0]


def unknown_element() -> Atoms:
    atoms = crystal()
    atoms.numbers[0] = 92
    return atoms


def not_finite(array: str) -> Atoms:
    atoms = crystal()
    getattr(atoms, array)[0, 0] = np.nan if array == "positions" else np.inf
    return atoms


def same_place() -> Atoms:
    atoms = crystal()
    atoms.positions[1] = atoms.positions[0]
    return atoms


BAD_STRUCTURES = {
    "unknown element": (unknown_element, ("U", "does not know", "H, C, O, Si")),
    "NaN position": (lambda: not_finite("positions"), ("Structure 0", "not finite")),
    "infinite cell": (lambda: not_finite("cell"), ("Structure 0", "not finite")),
    "two atoms at one place": (same_place, "same place"),
    "no atoms": (lambda: Atoms(cell=[5, 5, 5], pbc=True), "no atoms"),
    "no volume": (lambda: Atoms("H", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True), ("Structure 0", "cell")),
}


def reading(name: str, data: Path, folder: Path) -> list[object]:
    """A command that reads structures."""
    return {
        "calibrate": ["calibrate", "toy", data, "-o", folder / "out.json"],
        "prune": ["prune", "toy", "--channels", 3, "--data", data, "-o", folder / "out"],
        "evaluate": ["evaluate", "toy", "--data", data],
        "benchmark": ["benchmark", "toy", "--data", data],
    }[name]


@pytest.mark.parametrize("name", ["calibrate", "prune", "evaluate", "benchmark"])
@pytest.mark.parametrize("kind", BAD_STRUCTURES)
def test_bad_structures_are_refused(name: str, kind: str, refused: Run, tmp_path: Path) -> None:
    make, says = BAD_STRUCTURES[kind]
    data = write(tmp_path / "bad.xyz", [make()])
    refused(*reading(name, data, tmp_path), says=says)


@pytest.mark.parametrize("name", ["calibrate", "prune", "evaluate", "benchmark"])
@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("missing.xyz", None, ("No structures at", "missing.xyz", "no such file")),
        ("empty.xyz", "", "empty.xyz"),
        ("prose.xyz", "once upon a time\n", "prose.xyz"),
        ("cut.xyz", "8\n\nH 0 0 0\n", "cut.xyz"),
        ("prose.unknown", "once upon a time\n", "prose.unknown"),
        ("folder", "a directory", ("folder", "holds no structures")),
    ],
)
def test_bad_files_of_structures_are_refused(
    name: str, file: str, text: str | None, says: str, refused: Run, tmp_path: Path
) -> None:
    data = tmp_path / file
    if file == "folder":
        data.mkdir()
    elif text is not None:
        data.write_text(text)
    refused(*reading(name, data, tmp_path), says=says)


def test_a_model_that_gives_nan_is_not_scored(refused: Run, tmp_path: Path, data: Path) -> None:
    model = nan_model(tmp_path / "model")
    refused("calibrate", model, data, "-o", tmp_path / "out.json", says=("not finite", "equiprune certify"))
    refused("export", model, "-o", tmp_path / "out", says=("readout_weight", "NaN", "not written"))


@pytest.mark.parametrize("quantity", ["energy", "forces", "stress"])
@pytest.mark.parametrize("key", ["{}", "REF_{}"])
def test_nan_labels_are_refused(quantity: str, key: str, refused: Run, tmp_path: Path) -> None:
    atoms = crystal()
    value = {"energy": np.nan, "forces": np.full((8, 3), np.nan), "stress": np.full(6, np.nan)}[quantity]
    if key == "{}":
        atoms.calc = SinglePointCalculator(atoms, **{quantity: value})
    elif quantity == "forces":
        atoms.arrays["REF_forces"] = value
    else:
        atoms.info[f"REF_{quantity}"] = value
    data = write(tmp_path / "nan.xyz", [atoms])
    refused("evaluate", "toy", "--data", data, says=(quantity, "not finite", "C4H4"))


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ({"REF_energy": "low"}, "energy label of C4H4 is not a number"),
        ({"REF_stress": np.ones(5)}, "stress label of C4H4 is not 3 x 3 numbers"),
    ],
)
def test_labels_of_the_wrong_shape_are_refused(label: dict[str, Any], says: str, refused: Run, tmp_path: Path) -> None:
    atoms = crystal()
    atoms.info |= label
    refused("evaluate", "toy", "--data", write(tmp_path / "bad.xyz", [atoms]), says=says)


def test_evaluate_without_any_label_is_refused(refused: Run, data: Path) -> None:
    refused("evaluate", "toy", "--data", data, says=("None of the 6 structures", "label", "REF_energy"))


# Bad targets.


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], ("Say what to reach", "--irreps", "--parameters")),
        (["--irreps", "256x0e"], ("256x0e", "more than the model has", "6x0e+4x1o")),
        (["--irreps", "2x0e+1x2e"], ("1x2e", "more than the model has")),
        (["--irreps", "6x0e+5x1o"], ("5x1o", "more than the model has")),
        (["--irreps", "4x0e,4x0e"], ("takes one list or 3, not 2", "6x0e+4x1o")),
        (["--irreps", "4x0e,4x0e,9x0e"], ("9x0e", "node_feats.2")),
        (["--irreps", "4x0e+nonsense"], ("4x0e+nonsense", "64x0e+32x1e+16x2e")),
        (["--irreps", "4x0e+2x0e"], ("4x0e+2x0e", "twice")),
        (["--irreps", ""], "not a list of irreps"),
        (["--irreps", "0x0e"], "at least"),
        (["--lmax", 2], ("--lmax 2", "0 to 1")),
        (["--lmax", -1], ("--lmax -1", "0 to 1")),
        (["--edge-lmax", 2], ("--edge-lmax 2", "0 to 1")),
        (["--edge-lmax", -1], ("--edge-lmax -1", "0 to 1")),
        (["--channels", 0], ("--channels 0", "1 to 6")),
        (["--channels", 7], ("--channels 7", "1 to 6")),
        (["--channels", 3], ("needs importance scores", "--scores", "--data", "--criterion")),
        (["--parameters", 0], ("--parameters 0", "to 1")),
        (["--parameters", -0.5], ("--parameters -0.5", "to 1")),
        (["--parameters", 1.5], ("--parameters 1.5", "to 1")),
        (["--parameters", "nan"], ("--parameters nan", "to 1")),
        (["--parameters", 0.5, "--floor", 1.5], ("--floor 1.5", "0 to 1")),
        (["--parameters", 0.5, "--floor", "nan"], ("--floor nan", "0 to 1")),
        (["--parameters", 0.01], ("--parameters 0.01", "can keep 0.", "581")),
        (["--parameters", 0.9, "--lmax", 0, "--elements", "H", "--irreps", "9x0e"], "9x0e"),
        (["--elements", "H,Xx"], ("Xx", "no chemical symbol")),
        (["--elements", "h"], ("'h'", "no chemical symbol", "Did you mean 'H'?")),
        (["--elements", "H,U"], ("U", "H, C, O, Si")),
        (["--elements", "H,H"], "exactly once"),
        (["--elements", ""], "at least one"),
        (["--heads", "PBE"], ("PBE", "a single one")),
        (["--radial-width", "3,3,3"], ("one number or 1, not 3")),
        (["--radial-width", "three"], ("three", "whole numbers")),
        (["--radial-width", "9"], ("--radial-width 9", "1 to 8")),
        (["--radial-basis", 0], ("--radial-basis 0", "1 to 4")),
        (["--round-to", 64], ("at least", "node_feats")),
    ],
)
def test_impossible_targets_are_refused(flags: list[object], says: str, refused: Run, tmp_path: Path) -> None:
    scores = ["--criterion", "magnitude"] if "--parameters" in flags else []
    refused("prune", "toy", *flags, *scores, "-o", tmp_path / "out", says=says)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--channels", 7], ("--channels 7", "1 to 6")),
        (["--parameters", 0.01], ("--parameters 0.01", "can keep 0.")),
        (["--channels", 3, "--grow-radial-basis", 9], "toy models cannot grow"),
    ],
)
def test_the_impossible_is_refused_before_structures_are_read(
    flags: list[object], says: str, refused: Run, tmp_path: Path
) -> None:
    refused("prune", "toy", *flags, "--data", tmp_path / "missing.xyz", "-o", tmp_path / "out", says=says)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--scores", "s", "--data", "d"], ("--scores", "leave out --data")),
        (["--scores", "s", "--criterion", "random"], ("--scores", "leave out")),
        (["--criterion", "taylor"], ("taylor", "give --data")),
        (["--criterion", "magnitude", "--data", "d"], ("magnitude", "leave out --data")),
        (["--limit", 3], ("--limit", "give --data")),
    ],
)
def test_contradicting_flags_are_refused(flags: list[object], says: str, refused: Run, tmp_path: Path) -> None:
    refused("prune", "toy", "--channels", 3, *flags, "-o", tmp_path / "out", says=says)


# Bad scores and plans.


def scores_file(folder: Path, change: Callable[[dict[str, Any]], object] = lambda value: None, **fields: Any) -> Path:
    toy = ep.load(toy_model(folder / "scored", **fields))
    value = data_free_scores(toy, ep.Magnitude()).to_json()
    change(value)
    path = folder / "scores.json"
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize("target", [["--channels", 3], ["--parameters", 0.5]])
@pytest.mark.parametrize(
    ("fields", "change", "says"),
    [
        ({"radial_width": 5}, lambda value: None, ("another model", "radial.0", "8x0e", "5x0e")),
        ({}, lambda value: value["mean"].pop("node_feats.1"), ("another model", "node_feats.1")),
        ({}, lambda value: value["mean"]["node_feats.0"]["0e"].pop(), ("another model", "node_feats.0", "5x0e")),
        ({}, lambda value: value["mean"]["node_feats.0"].update({"0e": [float("nan")] * 6}), "not a scores file"),
        ({}, lambda value: value["mean"]["node_feats.0"].update({"0e": "six"}), "not a scores file"),
        ({}, lambda value: value.pop("structures"), "not a scores file"),
        ({}, lambda value: value.update(format="other"), "not a scores file"),
    ],
)
def test_foreign_scores_are_refused(
    target: list[object], fields: dict[str, Any], change: Any, says: str, refused: Run, tmp_path: Path
) -> None:
    scores = scores_file(tmp_path, change, **fields)
    refused("prune", "toy", *target, "--scores", scores, "-o", tmp_path / "out", says=says)


BROKEN_PLANS = [
    (None, ("no pruning plan", "broken.json")),
    ("", "not a pruning plan"),
    ("{", "not a pruning plan"),
    ("[1, 2]", "not a pruning plan"),
    ('{"x": 3}', "not a pruning plan"),
    ('{"node_feats.0": {"irreps": "6x0e"}}', "not a pruning plan"),
    ('{"node_feats.0": {"irreps": "6x0q", "kept": {}}}', "not a pruning plan"),
    ('{"node_feats.0": {"irreps": "6x0e", "kept": {"0e": [0.5]}}}', "not a pruning plan"),
    ('{"node_feats.0": {"irreps": "6x0e", "kept": {"0e": [6]}}}', ("[6]", "0 to 5")),
    ('{"node_feats.0": {"irreps": "6x0e", "kept": {"0e": [1, 1]}}}', "distinct"),
    ('{"node_feats.0": {"irreps": "6x0e", "kept": {"1o": [1]}}}', "1o"),
    ('{"node_feats.0": {"irreps": "6x0e", "kept": {"0e": []}}}', ("node_feats.0", "at least")),
    ('{"node_feats.0": {"irreps": "9x0e", "kept": {"0e": [0]}}}', ("node_feats.0", "9x0e", "6x0e")),
    ('{"nowhere": {"irreps": "6x0e", "kept": {"0e": [0]}}}', ("no space ['nowhere']", "node_feats.0")),
    ('{"node_feats.0": {"irreps": "6x0e", "kept": {"0e": [0]}}}', ("equally many", "edge_irreps.0")),
]


@pytest.mark.parametrize(("text", "says"), BROKEN_PLANS)
def test_broken_plans_are_refused(text: str | None, says: str, refused: Run, tmp_path: Path) -> None:
    plan = tmp_path / "broken.json"
    if text is not None:
        plan.write_text(text)
    refused("prune", "toy", "--plan", plan, "-o", tmp_path / "out", says=says)


@pytest.mark.parametrize("text", [None, "", "[1]", "once upon a time", b"\xff\xfe\x00", "{}"])
def test_files_that_are_no_scores_are_refused(text: str | bytes | None, refused: Run, tmp_path: Path) -> None:
    scores = tmp_path / "broken.json"
    if text is not None:
        scores.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused("prune", "toy", "--channels", 3, "--scores", scores, "-o", tmp_path / "out", says="scores file")


def test_certify_refuses_a_model_that_is_not_the_parent(
    refused: Run, pruned: tuple[Path, Path], tmp_path: Path
) -> None:
    stranger = toy_model(tmp_path / "stranger", lambda weights: weights["readout_weight"].mul_(2))
    says = ("was not pruned from", "stranger", "Give the file it was pruned from")
    refused("certify", pruned[1], "--parent", stranger, says=says)
    refused("certify", pruned[0], "--parent", pruned[1], says=says[0])


# Outputs.


def writing(name: str, output: Path, folder: Path) -> list[object]:
    """A command that writes ``output``; plots and certificates get the suffix they need."""
    return {
        "calibrate": ["calibrate", "toy", folder / "data.xyz", "-o", output],
        "plot": [
            "calibrate",
            "toy",
            folder / "data.xyz",
            "-o",
            folder / "s.json",
            "--plot",
            output.with_suffix(".png"),
        ],
        "prune": ["prune", "toy", "--lmax", 0, "-o", output],
        "certify": ["certify", "toy", "-o", output.with_suffix(".md"), "--nve-steps", 2],
        "export": ["export", "toy", "-o", output],
    }[name]


WRITERS = ("calibrate", "plot", "prune", "certify", "export")


def output_of(words: list[object]) -> Path:
    return Path(str(words[max(i for i, word in enumerate(words) if word in ("-o", "--plot")) + 1]))


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_an_existing_output_is_left_alone(name: str, kind: str, refused: Run, tmp_path: Path, data: Path) -> None:
    words = writing(name, tmp_path / "out", tmp_path)
    output = output_of(words)
    if kind == "file":
        output.write_text("precious")
    elif kind == "folder":
        output.mkdir()
        (output / "weights.safetensors").write_text("precious")
    else:
        output.symlink_to(tmp_path / "nowhere")
    refused(*words, says=(str(output), "exists and is never overwritten"))
    assert output.is_symlink() == (kind == "dangling link")


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(
    ("folder", "says"),
    [
        ("missing", ("there is no folder", "Create it first")),
        ("data.xyz", "there is no folder"),
        ("/proc", "takes no files"),
    ],
)
def test_an_impossible_output_is_refused_before_any_work(
    name: str, folder: str, says: str, refused: Run, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_early(*_: object, **__: object) -> None:
        raise AssertionError("the model was opened although the output cannot be written")

    monkeypatch.setattr("equiprune.read_checkpoint", too_early)
    words = writing(name, tmp_path / folder / "out", tmp_path)
    refused(*words, says=(says,) if isinstance(says, str) else says)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_nothing_behind(
    name: str, refused: Run, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: Any, *_: object, **__: object) -> None:
        with path.open("wb") as stream:
            stream.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    if name == "plot":
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", full_figure)
        monkeypatch.setattr("equiprune.commands.pruning.write_json", lambda path, value: None)
    refused(*writing(name, tmp_path / "out", tmp_path), says=("the disk is full", "Nothing was changed", "out"))


def full_figure(_: object, path: Path, **__: object) -> None:
    path.write_text("")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel refuses to write more into any file: a real failure in the middle of writing, for root too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", WRITERS)
def test_a_write_that_really_fails_leaves_nothing_behind(name: str, refused: Run, tmp_path: Path, data: Path) -> None:
    words = writing(name, tmp_path / "out", tmp_path)
    with files_of_at_most(400 if name != "plot" else 20_000):
        if name == "plot":  # the scores fit, the picture does not
            ran_before = contents(tmp_path)
            assert main([str(word) for word in words]) == 2
            assert contents(tmp_path).keys() - ran_before.keys() == {str(tmp_path / "s.json")}
        else:
            refused(*words, says=("could not be written", "File too large", "Nothing was changed"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["certify", "toy", "-o", "certificate.pdf"], (".pdf", ".json or .md")),
        (["certify", "toy", "-o", "certificate"], (".json or .md")),
        (["calibrate", "toy", "data.xyz", "-o", "s.json", "--plot", "plot.gif"], (".gif", ".png or .svg")),
        (["calibrate", "toy", "data.xyz", "-o", "s.png", "--plot", "s.png"], "both the scores and the plot"),
        (["prune", "toy", "--lmax", "0", "-o", "small.pth"], (".pth", "no suffix writes equiprune's own directory")),
        (["prune", "toy", "--lmax", "0", "-o", "small.model"], (".model", "no suffix")),
        (["export", "toy", "-o", "small.pth"], (".pth", "no suffix")),
    ],
)
def test_a_wrong_suffix_is_refused(
    words: list[str], says: str, refused: Run, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(*words, says=says)


# The process around it.


def test_out_of_memory_is_a_message(refused: Run, labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ep, "evaluate", exhausted)
    refused("evaluate", "toy", "--data", labelled, says=("Out of memory", "--batch-atoms; for train --batch-size"))


def test_ctrl_c_is_a_message_elsewhere_too(refused: Run, labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ep, "evaluate", interrupted)
    refused("evaluate", "toy", "--data", labelled, says=("Interrupted", "Repeat the command"))


@pytest.mark.parametrize(
    ("form", "words", "code"),
    [("script", ["info", "toy", "--json"], 0), ("script", ["info", "tooy"], 2), ("module", ["info", "tooy"], 2)],
)
def test_the_exit_code_reaches_the_shell(form: str, words: list[str], code: int) -> None:
    start = {
        "script": [str(Path(sys.executable).with_name("equiprune"))],
        "module": [sys.executable, "-m", "equiprune"],
    }
    done = subprocess.run([*start[form], *words], capture_output=True, text=True, check=False)
    assert done.returncode == code
    if code == 0:
        assert (json.loads(done.stdout)["adapter"], done.stderr) == ("toy", "")
    else:
        assert done.stdout == ""
        assert done.stderr.startswith("equiprune: 'tooy'")
        assert "Traceback" not in done.stderr


def test_a_reader_that_stops_listening_is_no_error() -> None:
    script = f"{sys.executable} -m equiprune info toy --json | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")
