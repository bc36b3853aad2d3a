"""Moving models between formats."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import equiprune as ep
from equiprune.commands.opening import open_model
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.values import Model, Output
from equiprune.commands.request import Request
from equiprune.files.atomic import check_writable
from equiprune.progress import Display, unseen


@dataclass(frozen=True)
class Exported:
    """Files of a model, the model first: written, read back and compared."""

    files: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        return {"written": list(map(str, self.files))}


@dataclass(frozen=True)
class Export(Request[Exported]):
    """Write a model in another format, chosen by the suffix, and compare it with the stock tool before saying done.

    Attributes:
        model: an alias, an upstream checkpoint, or a directory that equiprune wrote.
        output: .pth for SevenNet, .model for MACE, .nequip.zip for NequIP, .nqx or .pt for Nequix, .pt for eSCN, no
            suffix for equiprune's own directory.
    """

    model: Model
    _: KW_ONLY
    output: Output
    opening: OpeningOptions = AS_IT_IS

    def run(self, display: Display = unseen) -> Exported:
        """Write, read back and compare."""
        check_writable(self.output)
        return Exported(ep.save(open_model(self.model, None, self.opening, any_head=True), self.output))
