"""The picture of importance is written, whole, in the format its suffix names."""

from pathlib import Path

import pytest
from ase import Atoms

import equiprune as ep


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_the_suffix_chooses_the_format(
    toy: ep.Potential, structures: list[Atoms], tmp_path: Path, suffix: str, magic: bytes
) -> None:
    path = tmp_path / f"importance{suffix}"
    ep.plot_importance(ep.calibrate(toy, structures), path)
    assert path.read_bytes().startswith(magic)
    assert list(tmp_path.iterdir()) == [path]
