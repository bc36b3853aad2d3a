"""Parts that all stages share: their arguments, and rows in a JSON file.

The file is written after each row, so that what is done is there when time is up.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch


def parsed(parser: ArgumentParser, argv: Sequence[str] | None, small: Mapping[str, Any]) -> Namespace:
    """Arguments of a stage, with ``--device``, ``--small`` and ``--output`` besides its own.

    ``small`` has what is meant with ``--small`` where an argument is not given.
    """
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="little of everything, to try it on any machine")
    parser.add_argument("-o", "--output", type=Path)
    chosen = parser.parse_args(argv)
    if chosen.small:
        parser.set_defaults(**small)
        chosen = parser.parse_args(argv)
    return chosen


def card(device: str) -> str:
    """The name of a GPU; of any other device that which it was asked for by."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


class Record:
    """Rows of one stage on one device, printed and written one after another.

    The file has ``device``, the name of the card; ``torch``, its version; and ``rows``.
    """

    def __init__(self, stage: str, device: str, path: Path | None) -> None:
        self.stage, self.path = stage, path
        self.about = {"device": card(device), "torch": torch.__version__}
        self.rows: list[dict[str, Any]] = []
        self._write()

    def add(self, row: Mapping[str, Any]) -> None:
        """One more."""
        print(self.stage, json.dumps(row), flush=True)
        self.rows.append(dict(row))
        self._write()

    def _write(self) -> None:
        if self.path:
            partial = self.path.with_name(f"{self.path.name}.partial")
            partial.write_text(json.dumps({**self.about, "rows": self.rows}, indent=1))
            partial.rename(self.path)  # whoever ends this meanwhile leaves the file as it was
