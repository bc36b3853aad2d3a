"""Files of torch around a state dict: wrappers of modules, and programs that hold none."""

import zipfile
from pathlib import Path

import pytest
import torch

from equiprune.errors import CheckpointError
from equiprune.files.torch_files import is_torchscript, read_torch_file, unwrapped


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_taken_off(prefix: str) -> None:
    assert dict(unwrapped({f"{prefix}a.weight": 1, f"{prefix}b": 2})) == {"a.weight": 1, "b": 2}


def test_parts_of_wrapped_submodules_are_taken_out() -> None:
    state = {
        "a._orig_mod.weight": 1,
        "_fsdp_wrapped_module.a._fsdp_wrapped_module.b": 2,
        "c._checkpoint_wrapped_module.d": 3,
    }
    assert dict(unwrapped(state)) == {"a.weight": 1, "a.b": 2, "c.d": 3}


def test_averages_of_weights_are_weights() -> None:
    averaged = torch.optim.swa_utils.AveragedModel(torch.nn.Linear(1, 1)).state_dict()
    assert unwrapped(averaged).keys() == {"weight", "bias"}


def test_a_prefix_of_some_names_is_part_of_them() -> None:
    state = {"module.a": 1, "b": 2}
    assert dict(unwrapped(state)) == state
    assert dict(unwrapped({})) == {}


def test_a_torchscript_archive_is_called_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "deployed.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"deployed/{name}", b"\x80\x02}q\x00.")
    assert is_torchscript(path)
    with pytest.raises(CheckpointError, match=r"a TorchScript archive.*Give the one it was made from"):
        read_torch_file(path, trust=False, what="model", advice="Give the one it was made from.")
    torch.save({"a": 1}, tmp_path / "data.pt")
    assert not is_torchscript(tmp_path / "data.pt")
    assert not is_torchscript(tmp_path / "none.pt")
