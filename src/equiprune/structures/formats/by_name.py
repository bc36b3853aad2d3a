"""Formats as ASE tells them apart: by name, and where that says nothing by the first bytes."""

from pathlib import Path

COMPRESSED = (".gz", ".bz2", ".xz")


def ase_format(path: Path) -> str:
    """ASE's name of a file's format, also inside .gz, .bz2 and .xz; empty where ASE has none."""
    from ase.io.formats import filetype  # slow to import

    try:
        return str(filetype(str(path)))
    except Exception:  # of a file that may be anything
        return ""
