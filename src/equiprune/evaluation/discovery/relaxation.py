"""Relaxations to rest: the structure and energy that a model ends at, or the reason why it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from equiprune.errors import StructureError, TargetError
from equiprune.evaluation.discovery.materials import Material
from equiprune.evaluation.relaxation import Ending, RelaxationRules, finite
from equiprune.files.shared_work import ALONE, Role, Share, SharedWork, UnfinishedError
from equiprune.potentials.out_of_memory import is_out_of_memory
from equiprune.potentials.potential import Potential
from equiprune.progress import Progress, silent


class Outcome(Enum):
    """The end of a relaxation. Only of the first two there is an energy."""

    CONVERGED = "converged"
    UNCONVERGED = "unconverged"
    COLLAPSED = "collapsed"
    FLOWN_APART = "flown_apart"
    NOT_FINITE = "not_finite"
    FAILED = "failed"


@dataclass(frozen=True)
class Relaxed:
    """A relaxed structure, or the reason why there is none.

    =============  ============  ========  ==================================================
    field          shape         unit      meaning
    =============  ============  ========  ==================================================
    outcome                                how it ended
    steps                                  of the optimiser
    energy         ()            eV        of the cell; None without a structure, as the next
    positions      (atoms, 3)    Angstrom
    cell           (3, 3)        Angstrom  rows are the vectors
    said                                   the same in words, where it is no convergence
    =============  ============  ========  ==================================================
    """

    outcome: Outcome
    steps: int
    energy: float | None = None
    positions: np.ndarray | None = None
    cell: np.ndarray | None = None
    said: str = ""

    def of(self, start: Atoms) -> Atoms:
        """The relaxed structure, from the one that the relaxation started from."""
        return Atoms(numbers=start.numbers, positions=self.positions, cell=self.cell, pbc=start.pbc)

    def to_record(self) -> dict[str, Any]:
        """Everything as JSON; `from_record` reads it."""
        record: dict[str, Any] = {"outcome": self.outcome.value, "steps": self.steps, "said": self.said}
        if self.positions is not None and self.cell is not None:
            record |= {"energy": self.energy, "positions": self.positions.tolist(), "cell": self.cell.tolist()}
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Relaxed:
        """The value that `to_record` wrote."""
        arrays = {name: np.array(record[name]) for name in ("positions", "cell") if name in record}
        return cls(
            Outcome(record["outcome"]), record["steps"], record.get("energy"), said=record.get("said", ""), **arrays
        )


LEADERBOARD = RelaxationRules(fmax=0.05, steps=500, largest_change=10.0)
"""The first two and the optimiser are those of SevenNet-0 and SevenNet-l3i5 on the leaderboard of Matbench Discovery
(models/sevennet in janosh/matbench-discovery).
"""

_OUTCOMES: Mapping[Ending, Outcome] = {
    Ending.AT_REST: Outcome.CONVERGED,
    Ending.NOT_AT_REST: Outcome.UNCONVERGED,
    Ending.COLLAPSED: Outcome.COLLAPSED,
    Ending.FLOWN_APART: Outcome.FLOWN_APART,
    Ending.NOT_FINITE: Outcome.NOT_FINITE,
}


def relax(start: Atoms, calculator: Calculator, rules: RelaxationRules = LEADERBOARD) -> Relaxed:
    """Relax the positions and the cell of a crystal.

    Args:
        start: periodic in three directions; it is left as it is.
        calculator: energy, forces and stress, of ASE's interface.
        rules: when it ends.

    >>> from ase.build import bulk
    >>> from ase.calculators.emt import EMT
    >>> found = relax(bulk("Cu", a=3.5), EMT())
    >>> found.outcome.value, round(float(np.linalg.det(found.cell)), 1)
    ('converged', 11.6)
    """
    moving = Atoms(numbers=start.numbers, positions=start.positions, cell=start.cell, pbc=start.pbc, info=start.info)
    moving.calc = calculator
    motion = rules.motion(moving)
    try:
        ended = rules.followed(motion, start.cell.volume)
        outcome = _OUTCOMES[ended.ending]
        if outcome not in (Outcome.CONVERGED, Outcome.UNCONVERGED):
            return Relaxed(outcome, motion.nsteps, said=ended.said)
        energy = float(moving.get_potential_energy())
    except Exception as error:  # every calculator fails in its own way
        if is_out_of_memory(error):  # the machine's fault, not the model's
            raise
        outcome = Outcome.FAILED if finite(moving) else Outcome.NOT_FINITE
        return Relaxed(outcome, motion.nsteps, said=f"{type(error).__name__}: {error}")
    return Relaxed(outcome, motion.nsteps, energy, moving.positions, moving.cell.array)


@dataclass(frozen=True)
class RelaxationFolder:
    """The place where relaxations of one model are kept.

    Attributes:
        path: of the folder, made where needed.
        starts_sha256: of the file that the starting structures are in.
        share: this process among those that relax together.
    """

    path: Path
    starts_sha256: str
    share: Share = ALONE


@dataclass(frozen=True)
class RelaxationWork:
    """Relaxations of materials by one model, larger ones first; what the folder holds is not done again.

    Attributes:
        potential: has a stress, and knows all elements.
        materials: to be relaxed.
        starts: structures to start from, by material.
        rules: when a relaxation ends.
        folder: where they are kept.

    Raises:
        TargetError: the model has no stress, and so cannot relax cells.
        StructureError: a starting structure is missing.
    """

    potential: Potential
    materials: Sequence[Material]
    starts: Mapping[str, Atoms]
    rules: RelaxationRules
    folder: RelaxationFolder

    def __post_init__(self) -> None:
        if "stress" not in self.potential.quantities:
            raise TargetError(
                f"{self.potential.adapter.name} models have no stress, and so relax no cells, which the discovery task "
                "asks for. Leave the model out."
            )
        if missing := [material.name for material in self.materials if material.name not in self.starts]:
            raise StructureError(
                f"There is no starting structure of {len(missing)} of {len(self.materials)} materials, such as "
                f"{missing[0]}. Give `initial` and `summary` of the same set of materials."
            )

    def do(self, progress: Progress = silent) -> None:
        """Relax what no other process has relaxed or is relaxing.

        Raises:
            StructureError: a starting structure cannot be read, or is no crystal.
            OutputError: the folder holds relaxations of another model, other structures or other rules.
        """
        self._work.do(self._one, self.folder.share, progress)

    @property
    def complete(self) -> bool:
        """True if every relaxation has ended, by whichever process."""
        return self._work.complete

    def finish(self) -> dict[str, Relaxed]:
        """All relaxations by material; raises as `do`, and `UnfinishedError` if another process gives them."""
        found = map(Relaxed.from_record, self._work.finish(self._one, self.folder.share))
        return dict(zip(self._work.names, found, strict=True))

    @cached_property
    def _work(self) -> SharedWork:
        settings = {
            "model_sha256": self.potential.checkpoint.sha256,
            "head": self.potential.head,
            "dtype": str(self.potential.dtype),
            "starts_sha256": self.folder.starts_sha256,
            "rules": self.rules,
        }
        names, sizes = zip(*((material.name, material.atoms) for material in self.materials), strict=True)
        return SharedWork(self.folder.path, settings, names, sizes)

    @cached_property
    def _calculator(self) -> Calculator:
        return self.potential.calculator()

    def _one(self, item: int) -> dict[str, Any]:
        name = self._work.names[item]
        start = self.starts[name]
        if not start.pbc.all():
            raise StructureError(f"{name} is not periodic in three directions. Give crystals.")
        return relax(start, self._calculator, self.rules).to_record()


def finished(works: Mapping[str, RelaxationWork]) -> dict[str, dict[str, Relaxed]]:
    """Relaxations by model and material, by the process that gives the result of all.

    Raises:
        UnfinishedError: another process gives them.
    """
    for work in works.values():  # before any is claimed, or two processes could have some of the models each
        if work.folder.share.role is not Role.WAITS and not work.complete:
            raise UnfinishedError(f"Other processes finish the relaxations in '{work.folder.path}'.")
    return {name: work.finish() for name, work in works.items()}
