"""A package with entry points, installed for a test."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from equiprune.adapters import registry


@contextmanager
def installed(folder: Path, points: Mapping[str, str]) -> Iterator[Path]:
    """A package whose entry points are these adapters; its folder of metadata. Its modules may lie beside that."""
    metadata = folder / "plug_ins-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-ins\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (metadata / "entry_points.txt").write_text(f"[equiprune.adapters]\n{lines}")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        forget()
        yield metadata
    forget()


def forget() -> None:
    """What was found before a package was installed."""
    for found in (registry._entry_points, registry._opened):
        found.cache_clear()
