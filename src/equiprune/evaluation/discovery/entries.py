"""DFT's entries of materials: relaxed structure, energy and settings, streamed.

Matbench Discovery's ``wbm-computed-structure-entries.jsonl.gz``: on each line a JSON object with ``material_id``,
``formula_from_cse`` and ``computed_structure_entry``, which is pymatgen's `ComputedStructureEntry` as a dictionary.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from equiprune.evaluation.discovery.text_files import damaged, lines_of

_WHAT = "file of computed structure entries (.jsonl)"
_FIELDS = ("structure", "energy", "parameters", "data")

Entry = Mapping[str, Any]
"""A `ComputedStructureEntry` of pymatgen as a dictionary."""


def read_entries(path: Path, wanted: Container[str]) -> Iterator[tuple[str, Entry]]:
    """Names and entries of the materials that are wanted, in the order of the file.

    Raises:
        StructureError: no such file, or a line that is damaged or something else.
    """
    for number, line in lines_of(path, _WHAT):
        name, entry = _parsed(path, number, line)
        if name in wanted:
            yield name, entry


def check_entries(path: Path) -> None:
    """Look at the first line, before long work; raises as `read_entries`."""
    _parsed(path, *next(lines_of(path, _WHAT)))


def _parsed(path: Path, number: int, line: str) -> tuple[str, Entry]:
    try:
        row = json.loads(line)
        name, entry = str(row["material_id"]), row["computed_structure_entry"]
        missing = [field for field in _FIELDS if field not in entry]
    except (json.JSONDecodeError, RecursionError) as error:
        raise damaged(path, number, _WHAT, f"not JSON ({error})") from error
    except (KeyError, TypeError) as error:
        why = "neither material_id nor computed_structure_entry may be missing"
        raise damaged(path, number, _WHAT, why) from error
    if missing:
        raise damaged(path, number, _WHAT, f"the entry of {name} has no {', '.join(missing)}")
    return name, entry
