"""Formats of structures, a module each; a new one is a `Format` in a module of its own, and a line below.

The first one that recognises a path reads it: those that look into a file come before those that go by its name.
"""

from __future__ import annotations

from pathlib import Path

from equiprune.structures.formats.any_ase import AnyAse
from equiprune.structures.formats.ase_database import AseDatabase
from equiprune.structures.formats.aselmdb import AseLmdb
from equiprune.structures.formats.deepmd_hdf5 import DeepmdHdf5
from equiprune.structures.formats.deepmd_lmdb import DeepmdLmdb
from equiprune.structures.formats.deepmd_npy import DeepmdNpy
from equiprune.structures.formats.extxyz import Extxyz
from equiprune.structures.formats.extxyz_text import AS_WRITTEN, Symbols
from equiprune.structures.formats.format import Format
from equiprune.structures.formats.molecule_npz import MoleculeNpz
from equiprune.structures.formats.oc20_lmdb import Oc20
from equiprune.structures.formats.pymatgen_json import MatPES, MPtrj
from equiprune.structures.formats.spice import Spice
from equiprune.structures.formats.zipped import Zipped


def formats(symbols: Symbols = AS_WRITTEN) -> tuple[Format, ...]:
    """All formats, in the order in which they are asked; ``symbols`` says how names of atoms are taken in text."""
    return (
        DeepmdNpy(),
        DeepmdLmdb(),
        Oc20(),
        AseLmdb(),
        MPtrj(),
        MatPES(),
        MoleculeNpz(),
        DeepmdHdf5(),
        Spice(),
        Zipped(symbols),
        Extxyz(symbols),
        AseDatabase(),
        AnyAse(),
    )


def format_of(path: Path, symbols: Symbols = AS_WRITTEN) -> Format | None:
    """The format of a file, or of a folder that is one data set; None for any other folder."""
    return next((each for each in formats(symbols) if each.recognises(path)), None)
