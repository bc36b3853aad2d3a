"""Adapters are found by entry points, and near misses get a hint."""

import pytest

from equiprune.adapters import adapter_for, adapter_named, aliases
from equiprune.adapters.toy import ToyAdapter
from equiprune.errors import CheckpointError
from equiprune.training.recipe import PRESETS


def test_an_entry_point_gives_the_adapter() -> None:
    assert isinstance(adapter_named("toy"), ToyAdapter)
    assert adapter_named("toy") is adapter_named("toy")


def test_an_alias_gives_its_adapter_whatever_the_case() -> None:
    assert isinstance(adapter_for("toy"), ToyAdapter)
    assert isinstance(adapter_for("TOY"), ToyAdapter)
    assert aliases()["toy"] == "toy"


def test_aliases_of_all_architectures_are_known_without_their_backends() -> None:
    assert {"toy", "7net-0", "7net-l3i5"} <= aliases().keys()


PRESET_OF = {
    "sevennet": "sevennet",
    "nequip": "sevennet",
    "nequix": "sevennet",
    "escn": "escn",
    "mace": "mace-universal",
}


@pytest.mark.parametrize("name", PRESET_OF)
def test_an_architecture_has_a_preset(name: str) -> None:
    assert adapter_named(name).preset == PRESET_OF[name]
    assert PRESET_OF[name] in PRESETS


def test_an_unknown_adapter_is_named_with_the_closest_one() -> None:
    with pytest.raises(CheckpointError, match=r"'tyo'.*Did you mean 'toy'.*Installed: .*toy"):
        adapter_named("tyo")


def test_an_unknown_alias_is_named_with_the_closest_one() -> None:
    with pytest.raises(CheckpointError, match=r"'7net-l3i4'.*Did you mean '7net-l3i5'.*Known models: .*7net-0"):
        adapter_for("7net-l3i4")


def test_the_toy_has_no_files() -> None:
    with pytest.raises(CheckpointError, match="only the alias"):
        ToyAdapter().read("other.toy")
