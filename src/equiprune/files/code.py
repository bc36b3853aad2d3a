"""The code itself as a value, so that what another code made is not taken for what this one makes."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from equiprune.files.atomic import sha256_of


@cache
def code_sha256() -> str:
    """sha256 of every Python file of this package, of a wheel and of an editable installation alike."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()
