"""The command line on real SevenNet checkpoints, which come with the sevenn package."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from command_line import Ran, Run

sevenn = pytest.importorskip("sevenn")

import torch  # noqa: E402

import equiprune as ep  # noqa: E402

pytestmark = pytest.mark.usefixtures("plain_code")  # files hold weights and settings, no code

L3I5 = Path(sevenn.__file__).parent / "pretrained_potentials/SevenNet_l3i5/checkpoint_l3i5.pth"


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, Any]:
    return torch.load(L3I5, map_location="cpu", weights_only=False)


@pytest.fixture(scope="module")
def pruned(cli: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """SevenNet-l3i5 cut to the irreps of SevenNet-0."""
    output = tmp_path_factory.mktemp("pruned") / "x.pth"
    return output, cli("prune", "7net-l3i5", "--lmax", 2, "--edge-lmax", 2, "-o", output, "--json")


@pytest.mark.parametrize(("alias", "trainable"), [("7net-l3i5", 1_171_144), ("7net-0", 842_440)])
def test_info_counts_the_published_parameters(alias: str, trainable: int, cli: Run) -> None:
    value = cli("info", alias, "--json").json
    assert value["parameters"]["trainable"] == trainable
    assert (value["adapter"], value["licence"], len(value["elements"])) == ("sevennet", "MIT", 89)


def test_pruning_to_the_irreps_of_sevennet_0_gives_its_size(cli: Run, pruned: tuple[Path, Ran]) -> None:
    output, ran = pruned
    assert ran.code == 0
    assert ran.json["trainable parameters"] == [1_171_144, 842_440]
    assert ran.json["written"] == [str(output), str(output.with_suffix(".input.yaml"))]
    assert sorted(p.name for p in output.parent.iterdir()) == ["x.input.yaml", "x.pth"]
    value = cli("info", output, "--json").json
    assert value["parameters"]["trainable"] == 842_440
    assert value["licence"] == "MIT"
    assert value["steps"] == ["prune"]


PLAIN = """
import sys
from plain_code import plain
from equiprune.cli import main
with plain():
    sys.exit(main(sys.argv[1:]))
"""


def test_the_pruned_file_is_exactly_its_masked_parent_in_a_fresh_process(pruned: tuple[Path, Ran]) -> None:
    words = ["certify", pruned[0], "--parent", "7net-l3i5", "--nve-steps", "2", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    value = json.loads(done.stdout)
    assert (done.returncode, value["passed"]) == (0, True)
    assert value["masked_vs_sliced"].keys() == {"energy", "forces", "stress"}
    assert all(difference <= 1e-10 for difference in value["masked_vs_sliced"].values())
    assert value["stored_weights"] == 0


# Files that are no SevenNet checkpoint.


@pytest.mark.parametrize("size", [0, 1, 1000, 0.5, -1])
def test_a_truncated_checkpoint_is_refused(size: float, refused_in_one_line: Run, tmp_path: Path) -> None:
    raw, path = L3I5.read_bytes(), tmp_path / "cut.pth"
    path.write_bytes(raw[: int(len(raw) * size)] if 0 < size < 1 else raw[: int(size)])
    refused_in_one_line("info", path, says=(str(path), "may be truncated", "Get it again"))


def test_a_missing_checkpoint_is_refused(refused_in_one_line: Run, tmp_path: Path) -> None:
    refused_in_one_line(
        "info", tmp_path / "none.pth", says=("none.pth", "neither a file nor a known model", "7net-l3i5")
    )


@pytest.mark.parametrize("raw", [bytes(range(256)) * 16, b"once upon a time\n", b"PK\x03\x04" + b"\0" * 100])
def test_other_bytes_are_refused(raw: bytes, refused_in_one_line: Run, tmp_path: Path) -> None:
    path = tmp_path / "bytes.pth"
    path.write_bytes(raw)
    refused_in_one_line("info", path, says=(str(path), "not a readable torch file"))


FOREIGN: dict[str, tuple[Callable[[dict[str, Any]], Any], tuple[str, ...]]] = {
    "a tensor": (lambda c: torch.zeros(3), ("holds a Tensor", "sevenn train")),
    "a list": (lambda c: [1, 2], ("holds a list", "sevenn train")),
    "no config": (lambda c: {"model_state_dict": c["model_state_dict"]}, ("it lacks 'config'", "sevenn train")),
    "no weights": (lambda c: {"config": c["config"]}, ("it lacks 'model_state_dict'",)),
    "config is no dict": (lambda c: c | {"config": 3}, ("not a SevenNet checkpoint",)),
    "weights are no dict": (lambda c: c | {"model_state_dict": [1]}, ("not a SevenNet checkpoint",)),
    "empty weights": (lambda c: c | {"model_state_dict": {}}, ("rescale_atomic_energy.shift",)),
    "a weight is text": (
        lambda c: c | {"model_state_dict": c["model_state_dict"] | {"rescale_atomic_energy.shift": "x"}},
        ("not a SevenNet checkpoint",),
    ),
    "a weight is missing": (
        lambda c: c | {"model_state_dict": {k: v for k, v in c["model_state_dict"].items() if "denominator" not in k}},
        ("lacks the weights", "0_convolution.denominator"),
    ),
    "a weight has another shape": (
        lambda c: c | {"model_state_dict": c["model_state_dict"] | {"4_convolution.denominator": torch.ones(2)}},
        ("4_convolution.denominator", "shape"),
    ),
    "no version": (lambda c: c | {"config": c["config"] | {"version": "none"}}, ("not a SevenNet checkpoint",)),
    "other irreps": (lambda c: c | {"config": c["config"] | {"irreps_manual": ["8x0q"]}}, ("8x0q",)),
    "unknown architecture": (
        lambda c: c | {"config": c["config"] | {"interaction_type": "mace"}},
        ("interaction_type", "mace", "nequip"),
    ),
    "broken provenance": (lambda c: c | {"equiprune": "{"}, ("not a SevenNet checkpoint",)),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_torch_file_that_is_no_sevennet_checkpoint_is_refused(
    kind: str, refused_in_one_line: Run, checkpoint: dict[str, Any], tmp_path: Path
) -> None:
    make, says = FOREIGN[kind]
    minimal = {key: checkpoint[key] for key in ("config", "model_state_dict")}
    torch.save(make(minimal), tmp_path / "foreign.pth")
    refused_in_one_line("info", tmp_path / "foreign.pth", says=says)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_a_checkpoint_of_a_wrapped_model_is_that_of_the_model(
    prefix: str, checkpoint: dict[str, Any], tmp_path: Path
) -> None:
    """As DDP and torch.compile name weights."""
    state = {prefix + name: weight for name, weight in checkpoint["model_state_dict"].items()}
    torch.save({"config": checkpoint["config"], "model_state_dict": state}, tmp_path / "wrapped.pth")
    found, expected = (ep.read_checkpoint(model)[1] for model in (tmp_path / "wrapped.pth", "7net-l3i5"))
    assert found.architecture == expected.architecture
    assert found.weights.keys() == expected.weights.keys()
    assert all(torch.equal(found.weights[name], weight) for name, weight in expected.weights.items())


def test_a_checkpoint_of_a_release_candidate_opens(cli: Run, checkpoint: dict[str, Any], tmp_path: Path) -> None:
    config = checkpoint["config"] | {"version": "0.13.0rc1"}
    torch.save({"config": config, "model_state_dict": checkpoint["model_state_dict"]}, tmp_path / "rc.pth")
    assert cli("info", tmp_path / "rc.pth", "--json").json["parameters"]["trainable"] == 1_171_144


@dataclass(frozen=True)
class Hostile:
    """Unpickling this runs code that leaves ``trace`` behind."""

    trace: Path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


def in_torch(payload: Any, path: Path) -> None:
    torch.save({"config": payload, "model_state_dict": {}}, path)


def in_torch_legacy(payload: Any, path: Path) -> None:
    torch.save({"config": payload, "model_state_dict": {}}, path, _use_new_zipfile_serialization=False)


def in_an_object_array(payload: Any, path: Path) -> None:
    torch.save({"config": np.array([payload], dtype=object), "model_state_dict": {}}, path)


def in_a_pickle(protocol: int) -> Callable[[Any, Path], None]:
    return lambda payload, path: path.write_bytes(pickle.dumps(payload, protocol)) and None


@pytest.mark.parametrize("write", [in_torch, in_torch_legacy, in_an_object_array, *map(in_a_pickle, (0, 2, 4))])
@pytest.mark.parametrize("command", ["info", "certify"])
def test_a_hostile_checkpoint_is_refused_and_not_run(
    command: str, write: Callable[[Any, Path], None], refused_in_one_line: Run, tmp_path: Path
) -> None:
    path, trace = tmp_path / "hostile.pth", tmp_path / "trace"
    write(Hostile(trace), path)
    refused_in_one_line(command, path, says=(str(path),))
    assert not trace.exists()


@pytest.mark.parametrize("write", [in_torch, in_torch_legacy, in_an_object_array, in_a_pickle(2)])
def test_a_refused_pickle_says_that_it_runs_code(
    write: Callable[[Any, Path], None], refused_in_one_line: Run, tmp_path: Path
) -> None:
    path, trace = tmp_path / "hostile.pth", tmp_path / "trace"
    write(Hostile(trace), path)
    refused_in_one_line("info", path, says=("runs code", "--trust"))


def test_the_hostile_checkpoint_would_have_run(tmp_path: Path) -> None:
    in_torch(Hostile(tmp_path / "trace"), tmp_path / "hostile.pth")
    torch.load(tmp_path / "hostile.pth", weights_only=False)
    assert (tmp_path / "trace").exists()


# Heads, targets, structures, outputs.


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Rock salt, labelled, and a uranium crystal that is known and a curium one that is not."""
    path = tmp_path / "data.xyz"
    salt, unknown = bulk("NaCl", "rocksalt", a=5.6), bulk("Cm", "fcc", a=5.0)
    salt.info["REF_energy"] = unknown.info["REF_energy"] = 0.0
    ase.io.write(path, [salt, unknown], format="extxyz")
    return path


@pytest.mark.parametrize("flags", [[], ["--head", "PBF"]])
def test_a_multi_head_model_needs_one_of_its_heads(flags: list[str], refused_in_one_line: Run, data: Path) -> None:
    refused_in_one_line("evaluate", "7net-mf-0", "--data", data, *flags, says=("--head", "R2SCAN, PBE", *flags[1:]))


def test_an_unknown_element_is_refused(refused_in_one_line: Run, data: Path, tmp_path: Path) -> None:
    refused_in_one_line(
        "calibrate", "7net-0", data, "-o", tmp_path / "s.json", says=("Structure 1", "Cm", "does not know")
    )


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--irreps", "256x0e"], ("256x0e", "more than the model has", "128x0e+64x1e+32x2e+32x3e")),
        (["--lmax", 4], ("--lmax 4", "0 to 3")),
        (["--elements", "Si,Cm"], ("Cm", "does not know", "Zr")),
    ],
)
def test_targets_beyond_the_model_are_refused(
    flags: list[object], says: tuple[str, ...], refused_in_one_line: Run, tmp_path: Path
) -> None:
    refused_in_one_line("prune", "7net-l3i5", *flags, "-o", tmp_path / "x.pth", says=says)


@pytest.mark.parametrize("words", [["prune", "7net-l3i5", "--lmax", 2], ["export", "7net-l3i5"]])
def test_an_existing_checkpoint_is_left_alone(words: list[object], refused_in_one_line: Run, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(b"precious")
    refused_in_one_line(*words, "-o", tmp_path / "x.pth", says=("x.pth", "never overwritten"))


def test_a_suffix_of_another_family_is_refused(refused_in_one_line: Run, tmp_path: Path) -> None:
    says = (".model", "Upstream suffixes: .pth", "no suffix writes equiprune's own directory")
    refused_in_one_line("prune", "7net-0", "--lmax", 1, "-o", tmp_path / "x.model", says=says)
