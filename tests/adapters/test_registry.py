"""Adapters are found by entry points, and near misses get a hint."""

from pathlib import Path

import pytest

from equiprune.adapters import adapter_for, adapter_named, aliases
from equiprune.adapters.toy import ToyAdapter
from equiprune.errors import CheckpointError


def test_an_entry_point_gives_the_adapter() -> None:
    assert isinstance(adapter_named("toy"), ToyAdapter)
    assert adapter_named("toy") is adapter_named("toy")


def test_an_alias_gives_its_adapter_whatever_the_case() -> None:
    assert isinstance(adapter_for("toy"), ToyAdapter)
    assert isinstance(adapter_for("TOY"), ToyAdapter)
    assert aliases()["toy"] == "toy"


def test_aliases_of_all_architectures_are_known_without_their_backends() -> None:
    assert {"toy", "7net-0", "7net-l3i5"} <= aliases().keys()


def test_an_unknown_adapter_is_named_with_the_closest_one() -> None:
    with pytest.raises(CheckpointError, match=r"'tyo'.*Did you mean 'toy'.*Installed: .*toy"):
        adapter_named("tyo")


def test_an_unknown_alias_is_named_with_the_closest_one() -> None:
    with pytest.raises(CheckpointError, match=r"'7net-l3i4'.*Did you mean '7net-l3i5'.*Known models: .*7net-0"):
        adapter_for("7net-l3i4")


def test_a_file_that_no_adapter_opens_is_refused_with_the_suffixes_that_are(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"?")
    with pytest.raises(CheckpointError, match=r"'\.onnx'.*\.pth"):
        adapter_for(path)


def test_a_suffix_chooses_the_adapter(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(b"?")
    assert adapter_for(path).name == "sevennet"


def test_the_toy_has_no_files() -> None:
    with pytest.raises(CheckpointError, match="only the alias"):
        ToyAdapter().read("other.toy")
