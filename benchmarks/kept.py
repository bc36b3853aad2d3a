"""Results that a benchmark keeps to go on from, each beside a record of what it was made with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equiprune.files.atomic import as_json, write_json


def kept(path: Path, made_with: Mapping[str, Any]) -> bool:
    """True if a file or folder is there and was made with the same; if it is not there, the record is written.

    The record is a file beside it, ``NAME.record.json``.

    Raises:
        SystemExit: it was made with something else, or has no record.
    """
    record, asked = path.with_name(f"{path.name}.record.json"), json.loads(as_json(made_with))
    if not _begun(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(record, asked)
        return False
    if not record.exists():
        raise SystemExit(f"'{path}' has no record of what it was made with. Give another folder, or remove it.")
    there = json.loads(record.read_text(encoding="utf-8"))
    others = [name for name in {**there, **asked} if there.get(name) != asked.get(name)]
    if others:
        was, wanted = (", ".join(f"{name} {one.get(name)}" for name in others) for one in (there, asked))
        raise SystemExit(f"'{path}' was made with {was}; asked for: {wanted}. Give another folder, or remove it.")
    return True


def _begun(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()
