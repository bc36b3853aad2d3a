"""The table of measured costs, kept on this machine so that the next budget needs no new measurements."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from equiprune.adapters.precision import dtype_name
from equiprune.errors import EquipruneError
from equiprune.evaluation.machine import device_name
from equiprune.files.atomic import as_json, read_json, write_json
from equiprune.files.code import code_sha256
from equiprune.files.download import cache_folder
from equiprune.potentials.potential import Potential
from equiprune.searching.cost_model import Conditions, Measurement

_FORMAT = "equiprune-costs-2"


def machine_of(parent: Potential) -> dict[str, Any]:
    """The processor or card that a model is timed on, and torch's threads there."""
    threads = torch.get_num_threads() if parent.device.type == "cpu" else 0
    return {"device": device_name(parent.device), "threads": threads}


@dataclass(frozen=True)
class CostTable:
    """Measurements under one set of conditions.

    Attributes:
        conditions: machine, software, model and structure; another set has another file.
    """

    conditions: dict[str, Any]

    @classmethod
    def of(cls, parent: Potential, timed: Conditions, drawn: dict[str, Any]) -> CostTable:
        """The table for a model and what is timed; ``drawn`` says how the measured models were chosen."""
        atoms = timed.atoms
        structure = hashlib.sha256(
            atoms.numbers.tobytes() + atoms.positions.tobytes() + atoms.cell.array.tobytes() + atoms.pbc.tobytes()
        )
        return cls(
            {
                "model_sha256": parent.checkpoint.sha256,
                "adapter": parent.adapter.name,
                "dtype": dtype_name(parent.dtype),
                **machine_of(parent),
                "torch": torch.__version__,
                "structure": structure.hexdigest(),
                "copies": timed.copies,
                "engine": timed.engine.name,
                "code": code_sha256(),
                **drawn,
            }
        )

    @property
    def path(self) -> Path:
        """The file of these conditions; raises `RuntimeError` for a user without a home."""
        digest = hashlib.sha256(as_json(self.conditions).encode()).hexdigest()
        return cache_folder() / "costs" / f"{digest[:32]}.json"

    def stored(self) -> tuple[Measurement, ...]:
        """Measurements of before; none where there is no file, or one that cannot be used."""
        try:
            value = read_json(self.path, "table of costs")
            if value["format"] != _FORMAT or value["conditions"] != self.conditions:
                return ()
            return tuple(map(Measurement.from_json, value["costs"]))
        except (EquipruneError, OSError, RuntimeError, KeyError, TypeError):
            return ()

    def store(self, measurements: Sequence[Measurement]) -> None:
        """Keep them; a cache that takes no files is no reason to stop."""
        costs = [each.to_json() for each in measurements]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, {"format": _FORMAT, "conditions": self.conditions, "costs": costs})
        except (EquipruneError, OSError, RuntimeError):
            return
