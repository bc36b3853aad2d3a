"""Structures of any format into one file."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import equiprune as ep
from equiprune.commands.opening import check_suffix
from equiprune.commands.options.labels import NO_KEYS, LabelOptions
from equiprune.commands.options.reading import AS_WRITTEN, SymbolOptions
from equiprune.commands.options.values import Output, Positive, Switch
from equiprune.commands.request import Request
from equiprune.commands.stages import Kind, Product, Takes
from equiprune.progress import Display, Task, unseen
from equiprune.structures.converting import Conversion

Sources = Annotated[list[Path], Takes.of(Product.DATA, Product.STRUCTURES)]
"""Files or folders of structures."""


@dataclass(frozen=True)
class Convert(Request[Conversion]):
    """Write structures of any format to one file in eV and Angstrom, and count what was kept, skipped and why.

    Attributes:
        sources: files or folders of structures, in any format of docs/formats.md; they follow one another.
        output: .extxyz, or .aselmdb, from which any structure of a large set is read at any time.
        labelled_only: leave out structures without any label.
        limit: look at the first this many structures.
    """

    stage: ClassVar[Kind] = Kind("converted.extxyz", Product.DATA)

    sources: Sources
    _: KW_ONLY
    output: Output
    labelled_only: Switch = False
    limit: Positive | None = None
    labels: LabelOptions = NO_KEYS
    names: SymbolOptions = AS_WRITTEN

    def check(self) -> None:
        check_suffix(self.output, "Structures", ".extxyz", ".xyz", ".aselmdb")

    def run(self, display: Display = unseen) -> Conversion:
        """Read and write them, all or none."""
        with display(Task("convert", self.limit)) as [step]:
            return ep.convert(
                self.sources,
                self.output,
                keys=self.labels.keys,
                symbols=self.names.symbols,
                labelled_only=self.labelled_only,
                limit=self.limit,
                progress=step,
            )
