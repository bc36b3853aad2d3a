"""What a command line did, for tests that run one in this process (fixtures ``cli`` and ``refused``)."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout as one strict JSON document."""

        def no_constants(name: str) -> None:
            raise ValueError(f"{name} is not JSON")

        return json.loads(self.out, parse_constant=no_constants)

    @property
    def text(self) -> str:
        """Stdout without the line breaks of a narrow terminal."""
        return " ".join(self.out.split())


Run = Callable[..., Ran]


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder, hidden ones too, with the bytes of the files."""
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}
