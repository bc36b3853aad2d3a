"""One page about a run."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar

import equiprune as ep
from equiprune.commands.options.values import OptionalOutput
from equiprune.commands.request import Request
from equiprune.commands.stages import Kind
from equiprune.progress import Display, unseen


@dataclass(frozen=True)
class Reported:
    """The page."""

    path: Path

    def to_json(self) -> dict[str, Any]:
        return {"written": str(self.path)}


@dataclass(frozen=True)
class Report(Request[Reported]):
    """Write one page about a run: what was gained, what it cost, what was checked. It needs no network.

    Attributes:
        folder: output of compress, run or demo, or a folder with what commands printed with --json.
        output: the page; report.html in the folder unless given.
    """

    stage: ClassVar[Kind] = Kind("report.html")

    folder: Path
    _: KW_ONLY
    output: OptionalOutput = None

    def run(self, display: Display = unseen) -> Reported:
        """Read what is in the folder, and write the page.

        Raises:
            OutputError: nothing in the folder is a result, or the page exists or cannot be written.
        """
        return Reported(ep.write_report(self.folder, self.output or self.folder / "report.html"))
