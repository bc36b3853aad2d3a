"""Structures without labels, and with all else that says which system they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties

_STATE = ("initial_charges", "initial_magmoms")
"""Arrays that a calculator may start from; no labels."""
_OF_LABELS = ("teacher_sha256", "student_sha256", "labelled_from", "labelled_as")
"""Entries of info that an earlier labelling wrote of its labels."""


def without_labels(atoms: Atoms) -> Atoms:
    """The structure with what says which system it is: charges, magnetic moments, the text and numbers of ``info``.

    Without labels, which could be mistaken for the teacher's.
    """
    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    for name in _STATE:
        if atoms.has(name):
            bare.set_array(name, atoms.get_array(name))
    info = {key: value for key, value in atoms.info.items() if isinstance(key, str)}
    scalars = {k: v.item() if isinstance(v, np.generic) else v for k, v in info.items()}
    bare.info = {k: v for k, v in scalars.items() if not _is_label(k, v) and survives(k, v)}
    return bare


def _is_label(key: str, value: Any) -> bool:
    """A number called after what a model predicts, such as dft_energy, and whose labels of what there were."""
    named = key in {*all_properties, *_OF_LABELS} or key.startswith("REF_")
    about = any(word in key.lower() for word in ("energy", "force", "stress", "virial"))
    return named or (about and isinstance(value, int | float) and not isinstance(value, bool))


def survives(key: str, value: Any) -> bool:
    """True for an entry that an extxyz file gives back as it is; of ``"007"`` it would make a 7."""
    from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict  # slow to import, and only needed here

    if not isinstance(value, str | int | float) or key in ("Lattice", "Properties", "pbc"):
        return False
    text = key_val_dict_to_str({key: value})
    read = key_val_str_to_dict(text) if text.isprintable() else {}
    same = read.keys() == {key} and np.ndim(read[key]) == 0 and read[key] == value
    return bool(same) and np.asarray(read[key]).dtype.kind == np.asarray(value).dtype.kind
