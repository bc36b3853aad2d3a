"""The native format: what is saved is what is loaded, and what is damaged or hostile is refused."""

import errno
import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from broken_adapters import Exporting
from safetensors.torch import load_file, save_file

import equiprune as ep
from equiprune.errors import CheckpointError, OutputError, TargetError
from equiprune.potentials.checkpoint import check_output, package_versions


@pytest.fixture
def saved(toy: ep.Potential, tmp_path: Path) -> Path:
    """A model on disk."""
    path = tmp_path / "model"
    ep.save(toy, path)
    return path


def rewrite(file: Path, **changes: Any) -> None:
    """Change entries of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_model_is_a_directory_of_three_readable_files(toy: ep.Potential, saved: Path) -> None:
    assert {file.name for file in saved.iterdir()} == {"architecture.json", "weights.safetensors", "provenance.json"}
    description = json.loads((saved / "architecture.json").read_text())
    assert (description["format"], description["adapter"]) == (3, "toy")
    assert description["architecture"]["hidden_irreps"] == ["6x0e", "6x0e+4x1o", "5x0e"]
    provenance = json.loads((saved / "provenance.json").read_text())
    assert provenance["licence"] == "MIT"
    assert provenance["versions"]["torch"] == version("torch")


def test_loading_gives_back_every_bit(toy: ep.Potential, saved: Path) -> None:
    loaded = ep.load(saved, dtype=torch.float64)
    assert loaded.architecture == toy.architecture
    for name, weight in toy.checkpoint.weights.items():
        assert torch.equal(loaded.checkpoint.weights[name], weight)
    assert loaded.checkpoint.source == str(saved)


def test_a_shipped_model_is_from_its_alias(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = {"7net-small": SimpleNamespace(folder=saved)}
    monkeypatch.setattr("equiprune.potentials.checkpoint.shipped_model", shipped.get)
    assert ep.load("7net-small").checkpoint.source == "7net-small"


def test_versions_of_what_computes_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equiprune.potentials.checkpoint.version", lambda name: f"1 of {name}")
    packages = ("equiprune", "torch", "numpy", "ase", "e3nn", "some-potential")
    assert package_versions("some-potential") == {name: f"1 of {name}" for name in packages}


def test_the_fingerprint_is_of_the_content_not_the_place(toy: ep.Potential, saved: Path, tmp_path: Path) -> None:
    ep.save(toy, tmp_path / "again")
    first, again = ep.load(saved).checkpoint.sha256, ep.load(tmp_path / "again").checkpoint.sha256
    assert len(first) == 64
    assert first == again
    rewrite(saved / "architecture.json", note="")
    assert ep.load(saved).checkpoint.sha256 != first


def test_reading_builds_nothing(saved: Path) -> None:
    adapter, checkpoint = ep.read_checkpoint(saved)
    assert adapter.name == "toy"
    assert isinstance(checkpoint, ep.Checkpoint)


@pytest.mark.parametrize("name", ["architecture.json", "weights.safetensors", "provenance.json"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=str(saved)):
        ep.load(saved)


@pytest.mark.parametrize("name", ["architecture.json", "weights.safetensors", "provenance.json"])
@pytest.mark.parametrize("kept", [0, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved: Path, name: str, kept: float) -> None:
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match=str(saved)):
        ep.load(saved)


def test_weights_of_another_shape_are_refused(saved: Path) -> None:
    weights = load_file(saved / "weights.safetensors")
    save_file({**weights, "shift": weights["shift"][:2].clone()}, saved / "weights.safetensors")
    with pytest.raises(CheckpointError, match="shift"):
        ep.load(saved)


@pytest.mark.parametrize("change", [{"extra": torch.zeros(1)}, {"shift": None}])
def test_missing_and_unexpected_weights_are_named(saved: Path, change: dict[str, torch.Tensor | None]) -> None:
    weights = {**load_file(saved / "weights.safetensors"), **change}
    save_file({name: w for name, w in weights.items() if w is not None}, saved / "weights.safetensors")
    with pytest.raises(CheckpointError, match=next(iter(change))):
        ep.load(saved)


@pytest.mark.parametrize("version", [4, 0, True, "2", None])
def test_another_format_version_is_refused_with_advice(saved: Path, version: Any) -> None:
    rewrite(saved / "architecture.json", format=version)
    with pytest.raises(CheckpointError, match=rf"format {version};.*reads formats 1 to 3.*Update equiprune"):
        ep.load(saved)


def test_an_unknown_adapter_is_refused(saved: Path) -> None:
    rewrite(saved / "architecture.json", adapter="tox")
    with pytest.raises(CheckpointError, match=r"'tox'.*Did you mean 'toy'"):
        ep.load(saved)


MISSING = ...

HOSTILE: list[dict[str, Any]] = [
    {"elements": []},
    {"elements": [1, 1, 6, 8]},
    {"elements": [1, 6, 8, 1000]},
    {"elements": "HCO"},
    {"cutoff": "far"},
    {"cutoff": -1.0},
    {"hidden_irreps": []},
    {"hidden_irreps": ["6x0e", "many", "5x0e"]},
    {"hidden_irreps": ["6x0e", "999999999999x0e", "5x0e"]},
    {"radial_width": -1},
    {"radial_basis": 0},
    {"attention": True},
    {"radial_basis": "4"},
    {"radial_basis": 4.0},
    {"radial_basis": True},
    {"radial_width": MISSING},
    {"hidden_irreps": MISSING, "radial_width": MISSING},
    {"heads": None},
    {"elements": [1, 6, 8, "14"]},
    {"elements": {"0": 1}},
    {"cutoff": 2**53 + 1},
    {"edge_lmax": 2**64},
    {"edge_lmax": -1},
    {"edge_lmax": 100_000},
    {"max_neighbors": 0.5},
]


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_an_impossible_architecture_is_refused(saved: Path, change: dict[str, Any]) -> None:
    architecture = json.loads((saved / "architecture.json").read_text())["architecture"] | change
    there = {name: value for name, value in architecture.items() if value is not MISSING}
    rewrite(saved / "architecture.json", architecture=there)
    with pytest.raises(CheckpointError, match="is damaged") as refusal:
        ep.load(saved)
    assert any(name in str(refusal.value) for name in (*change, "elements", "architecture"))


@pytest.mark.parametrize("architecture", [None, [], "toy", 3])
def test_what_is_no_architecture_is_refused(saved: Path, architecture: Any) -> None:
    rewrite(saved / "architecture.json", architecture=architecture)
    with pytest.raises(CheckpointError, match=r"architecture\.json' is damaged.*'architecture'"):
        ep.load(saved)


@pytest.mark.parametrize("history", [[None], ["prune"], [{"plan": {}}], [["step"]], None])
def test_what_is_no_history_is_refused(saved: Path, history: Any) -> None:
    rewrite(saved / "provenance.json", history=history)
    with pytest.raises(CheckpointError, match=r"is damaged .*Write it again"):
        ep.load(saved)


def test_a_message_says_what_was_given_and_what_is_allowed(saved: Path) -> None:
    architecture = json.loads((saved / "architecture.json").read_text())["architecture"]
    said = []
    for change in ({"radial_basis": "4"}, {"radial_widht": 8}, {"cutoff": 2**53 + 1}):
        rewrite(saved / "architecture.json", architecture=architecture | change)
        with pytest.raises(CheckpointError) as refusal:
            ep.load(saved)
        said.append(str(refusal.value))
    assert "'radial_basis' is \"4\"; allowed is a valid integer." in said[0]
    assert "'radial_widht' is unknown (8). Did you mean 'radial_width'? Allowed are elements, cutoff" in said[1]
    assert "'cutoff' is 9007199254740993, which would be read as 9007199254740992.0" in said[2]


def test_a_whole_number_may_stand_for_a_float(saved: Path) -> None:
    architecture = json.loads((saved / "architecture.json").read_text())["architecture"]
    rewrite(saved / "architecture.json", architecture={**architecture, "cutoff": 4})
    cutoff = ep.load(saved).architecture.cutoff
    assert (cutoff, type(cutoff)) == (4.0, float)


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"licence": "MIT", "history": 3}'])
@pytest.mark.parametrize("name", ["architecture.json", "provenance.json"])
def test_mistyped_json_is_refused(saved: Path, name: str, content: str) -> None:
    (saved / name).write_text(content)
    with pytest.raises(CheckpointError):
        ep.load(saved)


def test_what_is_not_there_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither a file nor a known model"):
        ep.load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="not a model that equiprune wrote"):
        ep.load(tmp_path)


def test_a_head_of_a_single_head_model_is_refused(saved: Path) -> None:
    with pytest.raises(TargetError, match="single head"):
        ep.load(saved, head="omat24")


def test_nothing_is_overwritten(toy: ep.Potential, saved: Path, tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in saved.iterdir()}
    with pytest.raises(OutputError, match="never overwritten"):
        ep.save(toy, saved)
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before


def test_a_folder_that_is_not_there_is_named(toy: ep.Potential, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no folder"):
        ep.save(toy, tmp_path / "missing" / "model")


def test_a_suffix_the_adapter_does_not_write_is_refused(toy: ep.Potential, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot be written as '\.pth'\. Upstream suffixes: none;"):
        ep.save(toy, tmp_path / "model.pth")
    exporting = ep.Potential.create(Exporting(), toy.checkpoint, torch.float64)
    with pytest.raises(OutputError, match=r"cannot be written as '\.pth'\. Upstream suffixes: \.toy;"):
        ep.save(exporting, tmp_path / "model.pth")
    assert not list(tmp_path.iterdir())
    check_output(exporting.adapter, tmp_path / "model.toy")


@pytest.mark.parametrize("file", ["architecture.json", "weights.safetensors", "provenance.json"])
def test_a_full_disk_leaves_nothing_behind(
    toy: ep.Potential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    def full(write: Any) -> Any:
        def write_or_fail(path: Path, content: Any, **encoding: Any) -> Any:
            if path.name == file:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(path, content, **encoding)

        return write_or_fail

    monkeypatch.setattr(Path, "write_bytes", full(Path.write_bytes))
    monkeypatch.setattr(Path, "write_text", full(Path.write_text))
    with pytest.raises(OutputError, match="disk is full"):
        ep.save(toy, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_file_that_reads_back_differently_is_not_kept(
    toy: ep.Potential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def flip_the_last_bit(path: Path, content: bytes) -> int:
        return write(path, content[:-1] + bytes([content[-1] ^ 1]))

    monkeypatch.setattr(Path, "write_bytes", flip_the_last_bit)
    with pytest.raises(OutputError, match="did not read back as written"):
        ep.save(toy, tmp_path / "model")
    assert not list(tmp_path.iterdir())


class Companions(Exporting):
    """Exports a file, and one beside it that belongs to it."""

    def export(self, checkpoint: ep.Checkpoint, path: Path) -> tuple[Path, ...]:
        beside = path.with_name("beside.json")
        for file in (path, beside):
            file.write_text("a model")
        return (*super().export(checkpoint, path), beside)


def test_an_exported_file_comes_with_those_that_belong_to_it(toy: ep.Potential, tmp_path: Path) -> None:
    path = tmp_path / "model.toy"
    written = ep.save(ep.Potential.create(Companions(), toy.checkpoint, torch.float64), path)
    assert written == (path, tmp_path / "beside.json")
    assert sorted(tmp_path.iterdir()) == sorted(written)


def moved(checkpoint: ep.Checkpoint) -> ep.Checkpoint:
    return replace(checkpoint, weights={**checkpoint.weights, "shift": checkpoint.weights["shift"] + 1})


@pytest.mark.parametrize(
    ("exporting", "says"),
    [
        (Companions(moved), "did not read back as written: weight shift differs"),
        (Companions(energy=1e-3), "The stock calculator gives .* equiprune .* Nothing was saved"),
        (Companions(energy=float("nan")), "The stock calculator gives nan eV"),
    ],
    ids=["other weights", "another energy", "no energy"],
)
def test_an_exported_file_that_is_another_model_is_not_kept(
    toy: ep.Potential, tmp_path: Path, exporting: Companions, says: str
) -> None:
    with pytest.raises(OutputError, match=says):
        ep.save(ep.Potential.create(exporting, toy.checkpoint, torch.float64), tmp_path / "model.toy")
    assert not list(tmp_path.iterdir())
