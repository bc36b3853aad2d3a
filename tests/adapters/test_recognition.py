"""A file is recognised by what is in it, whatever its name, and nothing in it is run."""

import pickle
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from command_line import Run
from plug_ins import installed

import equiprune as ep
from equiprune.adapters import Checkpoint, adapter_for, adapter_named
from equiprune.adapters.toy import ToyAdapter
from equiprune.errors import CheckpointError
from equiprune.files.outline import outline

STATE = OrderedDict({"weight": torch.ones(3)})
SEVENNET = {
    "model_state_dict": STATE,
    "config": {"version": "0.11.0", "chemical_species": ["H", "O"], "cutoff": 5.0},
    "optimizer_state_dict": defaultdict(dict, {0: {"exp_avg": torch.ones(2)}}),
}
ESCN = {"state_dict": STATE, "config": {"model": {"name": "escn", "lmax_list": [6]}}, "step": 3}
OLDER_ESCN = {"state_dict": STATE, "config": {"model": "escn", "model_attributes": {}}}
OTHERS: dict[str, Any] = {
    "tensor": torch.ones(2),
    "uma": {"state_dict": STATE, "config": {"model": {"name": "hydra"}}},
    "only weights": {"model_state_dict": STATE},
    "config without weights": {"config": SEVENNET["config"]},
    "strange config": {"model_state_dict": STATE, "config": torch.nn.Linear},
}


class ScaleShiftMACE(torch.nn.Module):
    """Pickled under the name of upstream's."""


ScaleShiftMACE.__module__ = "mace.modules.models"


@pytest.fixture
def mace_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole module, as MACE writes it."""
    import sys
    from types import SimpleNamespace

    monkeypatch.setitem(sys.modules, "mace.modules.models", SimpleNamespace(ScaleShiftMACE=ScaleShiftMACE))
    path = tmp_path / "small.model"
    torch.save(ScaleShiftMACE(), path)
    return path


def written(path: Path, content: Any, *, old: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    return path


@pytest.mark.parametrize("old", [False, True], ids=["archive", "before torch 1.6"])
@pytest.mark.parametrize("name", ["model.pth", "model.PTH", "model.ckpt", "model", "model.pt", "model.model"])
@pytest.mark.parametrize(
    ("content", "adapter"), [(SEVENNET, "sevennet"), (ESCN, "escn"), (OLDER_ESCN, "escn")], ids=["7", "e", "older e"]
)
def test_the_content_decides(content: Any, adapter: str, name: str, old: bool, tmp_path: Path) -> None:
    assert adapter_for(written(tmp_path / name, content, old=old)).name == adapter


def test_a_whole_module_is_recognised_by_its_class(mace_file: Path, tmp_path: Path) -> None:
    for name in ("small.MODEL", "small.pt", "small"):
        assert adapter_for(mace_file.rename(tmp_path / name)).name == "mace"
        (tmp_path / name).rename(mace_file)


@pytest.mark.parametrize("kind", OTHERS)
def test_what_nobody_recognises_is_refused_with_what_was_looked_for(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path / "model.onnx", OTHERS[kind])
    says = r"No adapter recognises .*model\.onnx.* looked for: .*escn: .*mace: .*sevennet: 'model_state_dict'"
    with pytest.raises(CheckpointError, match=says):
        adapter_for(path)


@pytest.mark.parametrize(
    ("suffix", "says"),
    [
        (".pth", "not a readable torch file"),
        (".PT", "of escn and nequix. Say which"),
        (".MODEL", "not a readable torch"),
    ],
)
def test_of_a_broken_file_the_suffix_says_who_knows_what_is_wrong(suffix: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"PK\x03\x04?")
    with pytest.raises(CheckpointError, match=says):
        ep.load(path)


class Bomb:
    """Runs what it likes when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    bomb, went_off = Bomb(tmp_path / "went off"), tmp_path / "went off"
    for old in (False, True):
        assert adapter_for(written(tmp_path / "model", {**SEVENNET, "more": bomb}, old=old)).name == "sevennet"
    (tmp_path / "plain").write_bytes(pickle.dumps(bomb))
    with pytest.raises(CheckpointError, match="No adapter recognises"):
        adapter_for(tmp_path / "plain")
    assert not went_off.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"?",
        pickle.dumps(SEVENNET["config"]),
        pickle.dumps(2**64),
        b"\x80\x02]q\x00(h\x00h\x00h\x00",
        b"\x80\x02cbuiltins\neval\n",
    ],
)
def test_of_other_files_nothing_is_known(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert outline(tmp_path / "file") is None


def test_archives_that_are_no_data_are_not_looked_into(tmp_path: Path) -> None:
    good = written(tmp_path / "good", SEVENNET)
    with zipfile.ZipFile(good) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    changed = {"packed": (parts, zipfile.ZIP_DEFLATED), "program": ({**parts, "good/constants.pkl": b""}, 0)}
    changed["two"] = ({**parts, "other/data.pkl": parts["good/data.pkl"]}, 0)
    for name, (entries, compression) in changed.items():
        with zipfile.ZipFile(tmp_path / name, "w", compression) as archive:
            for entry, data in entries.items():
                archive.writestr(entry, data)
        assert outline(tmp_path / name) is None, name
    assert outline(good)["config"] == SEVENNET["config"]
    (tmp_path / "truncated").write_bytes(good.read_bytes()[:-40])
    assert outline(tmp_path / "truncated") is None
    assert outline(tmp_path / "absent") is None


def test_another_file_under_the_same_name_is_read_anew(tmp_path: Path) -> None:
    """Of the same length too; the same file is not."""
    path = tmp_path / "model.pth"
    found = []
    for version in ("0.11.0", "0.12.0"):
        torch.save({**SEVENNET, "config": {**SEVENNET["config"], "version": version}}, path)
        found += [outline(path), outline(path)]
    assert [each["config"]["version"] for each in found] == ["0.11.0"] * 2 + ["0.12.0"] * 2
    assert found[0] is found[1]


class Second(ToyAdapter):
    """Opens the files of eSCN too, as a toy."""

    name = "second"
    looks_for = "anything of eSCN"
    aliases: ClassVar[dict[str, str]] = {}

    def recognises(self, path: Path) -> bool:
        return adapter_named("escn").recognises(path)

    def read(self, source: str | Path, *, trust: bool = False) -> Checkpoint:
        return ToyAdapter().read("toy")


@pytest.fixture
def ambiguous(tmp_path: Path) -> Iterator[Path]:
    """A file that two adapters recognise."""
    with installed(tmp_path / "packages", {"second": f"{__name__}:Second"}):
        yield written(tmp_path / "model.pt", ESCN)


def test_two_adapters_are_an_error_until_one_is_named(ambiguous: Path) -> None:
    says = r"could be a model of escn and second. Say which with `adapter`, such as escn"
    with pytest.raises(CheckpointError, match=says):
        ep.load(ambiguous)
    assert ep.load(ambiguous, adapter="second").adapter.name == "second"
    assert ep.read_checkpoint(ambiguous, adapter="second")[0].name == "second"


def test_the_command_line_names_one_by_a_flag(ambiguous: Path, cli: Run, refused_in_one_line: Run) -> None:
    refused_in_one_line("info", ambiguous, says=("escn and second", "with --adapter, such as escn"))
    assert cli("info", ambiguous, "--adapter", "second", "--json").json["adapter"] == "second"
    assert cli("certify", ambiguous, "--adapter", "second", "--nve-steps", 1).code == 0
    refused_in_one_line("info", ambiguous, "--adapter", "secnod", says=("No adapter is called", "'second'"))


def test_an_adapter_that_is_named_must_be_the_one(tmp_path: Path, refused_in_one_line: Run) -> None:
    ep.save(ep.load("toy"), tmp_path / "model")
    for model in ("toy", tmp_path / "model"):
        assert ep.load(model, adapter="toy").adapter.name == "toy"
        with pytest.raises(CheckpointError, match="is a model of toy, not of mace"):
            ep.load(model, adapter="mace")
        refused_in_one_line("info", model, "--adapter", "mace", says="is a model of toy, not of mace")
