"""Finding the models that come with equiprune, and what is said of them; nothing is built, no weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from equiprune.files.atomic import read_json


@dataclass(frozen=True)
class ShippedModel:
    """One model that comes with equiprune.

    Attributes:
        name: that opens it.
        folder: its files, in the native format.
    """

    name: str
    folder: Path

    @property
    def adapter(self) -> str:
        """The name of its architecture's adapter."""
        return str(read_json(self.folder / "architecture.json", "model description")["adapter"])

    @property
    def card(self) -> Path:
        """The model card, Markdown."""
        return self.folder / "README.md"

    @property
    def about(self) -> str:
        """The first paragraph of its card."""
        _, first, *_ = self.card.read_text(encoding="utf-8").split("\n\n")
        return " ".join(first.split())

    @property
    def measured(self) -> Mapping[str, Any]:
        """The measurements of ``benchmarks/shipped.py``."""
        return read_json(self.folder / "measured.json", "record of measurements")


@cache
def shipped_models() -> Mapping[str, ShippedModel]:
    """Every shipped model by its name, in alphabetical order."""
    folders = sorted(path.parent for path in Path(__file__).parent.glob("*/architecture.json"))
    return MappingProxyType({folder.name: ShippedModel(folder.name, folder) for folder in folders})


def shipped_model(source: str | Path) -> ShippedModel | None:
    """The shipped model of that name, whatever its case; None for anything else.

    A directory of that name, where the program runs, comes first and a file last, as for aliases of published models.
    """
    return None if Path(source).is_dir() else shipped_models().get(str(source).lower())
