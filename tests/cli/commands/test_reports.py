"""What ``info``, ``certify``, ``evaluate`` and ``benchmark`` report is right, in numbers and in words."""

import re
from pathlib import Path

import ase.io
import pytest
import torch
from ase import Atoms
from command_line import Run
from toy_files import OFFSET, kill_a_channel, nan_model, toy_model, write

import equiprune as ep


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


@pytest.mark.slow
def test_certify_measures_exactness_and_physics(cli: Run, pruned: tuple[Path, Path]) -> None:
    ran = cli("certify", pruned[1], "--parent", pruned[0], "--json")
    value = ran.json
    assert (ran.code, value["passed"]) == (0, True)
    assert value["masked_vs_sliced"].keys() == {"energy", "forces", "stress"}
    assert all(0 <= difference <= 1e-10 for difference in value["masked_vs_sliced"].values())
    assert value["equivariance"]["energy"] < 1e-9
    assert value["equivariance"]["forces"] < 1e-9
    assert 0 < value["finite_difference"]["forces"] < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".json", ".md"])
def test_certify_writes_the_certificate_too(suffix: str, cli: Run, tmp_path: Path) -> None:
    output = tmp_path / f"certificate{suffix}"
    ran = cli("certify", "toy", "--nve-steps", 2, "-o", output, *(["--json"] if suffix == ".json" else []))
    assert ran.code == 0
    assert output.read_text() == ran.out if suffix == ".json" else output.read_text().strip() == ran.out.strip()


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_benchmark_states_its_conditions(cli: Run, tmp_path: Path, data: Path) -> None:
    models = ["toy", toy_model(tmp_path / "model")]
    timings = cli("benchmark", *models, "--data", data, "--repeats", 3, "--dtype", "float64", "--json").json
    assert [timing["model"] for timing in timings] == ["toy", str(models[1])]
    for timing in timings:
        assert timing["dtype"] == "float64"
        assert timing["backend"] == "toy on cpu"
        assert timing["device_name"]
        assert (timing["batch"], timing["repeats"], timing["atoms"]) == (1, 3, 8)
        assert timing["atoms_per_second"] == pytest.approx(8 / timing["seconds_median"])
        assert type(timing["peak_memory_bytes"]) is int


@pytest.mark.slow
def test_benchmark_at_several_sizes(cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equiprune.evaluation.benchmark.device_name", lambda device: "Some Processor 9000")
    plot = tmp_path / "scaling.png"
    words = ("benchmark", "toy", "--sizes", 8, 16, 64, "--repeats", 1)
    value = cli(*words, "--plot", plot, "--json").json
    [timing], [scaling] = value["timings"], value["scaling"]
    assert (timing["atoms"], [each["atoms"] for each in scaling["timings"]]) == (64, [8, 16, 64])
    assert (scaling["model"], scaling["engine"], scaling["dtype"]) == ("toy", "equiprune", "float32")
    assert plot.stat().st_size > 1000
    shown = cli(*words).out
    assert "on cpu (Some Processor 9000)" in " ".join(shown.split())
    assert "overhead (ms)" in shown
    assert "overhead below half" in shown


@pytest.mark.slow
def test_benchmark_repeats_the_structure_it_is_given(cli: Run, tmp_path: Path, structures: list[Atoms]) -> None:
    data = write(tmp_path / "metal.xyz", structures[2:3])
    value = cli("benchmark", "toy", "--data", data, "--sizes", 4, 8, 16, "--repeats", 1, "--json").json
    assert [each["atoms"] for each in value["scaling"][0]["timings"]] == [4, 8, 16]


@pytest.mark.slow
def test_benchmark_compares_precisions(cli: Run, data: Path) -> None:
    words = ("benchmark", "toy", "--data", data, "--precision", "float32", "--repeats", 1)
    [found] = cli(*words, "--json").json["precisions"]
    assert (found["precision"], found["structures"]) == ("float32", len(ase.io.read(data, ":")))
    assert 0 < found["forces_mae"] <= found["forces_max"] < 1e-2
    assert "speed, of float64's" in cli(*words).out


@pytest.mark.slow
def test_benchmark_finds_the_largest_batch(cli: Run, data: Path) -> None:
    words = ("benchmark", "toy", "--data", data, "--largest-batch", "--memory", "6MB", "--repeats", 1)
    [found] = cli(*words, "--json").json["largest_batch"]
    assert 0 < found["copies"] < found["refused"]
    assert found["atoms"] == 8 * found["copies"]
    assert 0 < found["peak_memory_bytes"] <= found["memory"] == 6_000_000
    assert found["atoms_per_second"] > 0


@pytest.mark.slow
def test_benchmark_uses_the_threads_it_is_given(cli: Run, data: Path) -> None:
    before = torch.get_num_threads()
    try:
        [timing] = cli("benchmark", "toy", "--data", data, "--threads", before + 1, "--repeats", 1, "--json").json
        assert timing["threads"] == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def exhausted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluating needs more memory than there is."""

    def out(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("equiprune.commands.benchmark.timed", out)


@pytest.mark.usefixtures("exhausted")
def test_benchmark_says_that_a_gpu_with_as_much_memory_ran_out_of_it(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equiprune.commands.benchmark.obtainable_memory", lambda device: 9 * 10**9)
    words = ("benchmark", "toy", "--atoms", 100, "--memory", "8GB")
    ran = cli(*words, "--json")
    assert ran.code == 0
    assert ran.json == {"out_of_memory": {"models": ["toy"], "atoms": 128, "available_bytes": 9 * 10**9}}
    assert cli(*words).text == "Out of memory: 128 atoms need more than the 9 GB that the GPU had."


@pytest.mark.usefixtures("exhausted")
@pytest.mark.parametrize(
    ("available", "flags", "says"),
    [
        (7 * 10**9, ["--memory", "8GB"], ("Out of memory with 128 atoms: the GPU had 7 GB", "--memory is 8 GB")),
        (None, ["--memory", "8GB"], ("Out of memory with 128 atoms. Run it on a machine with more", "fewer --atoms")),
        (9 * 10**9, [], ("Out of memory. Evaluate fewer atoms at once",)),
    ],
)
def test_memory_that_the_machine_lacks_is_an_error(
    refused: Run, monkeypatch: pytest.MonkeyPatch, available: int | None, flags: list[str], says: tuple[str, ...]
) -> None:
    monkeypatch.setattr("equiprune.commands.benchmark.obtainable_memory", lambda device: available)
    refused("benchmark", "toy", "--atoms", 100, *flags, says=says)
