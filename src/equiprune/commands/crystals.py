"""Making structures where there are none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar

from equiprune.commands.opening import check_suffix
from equiprune.commands.options.values import NotNegative, Output, Positive
from equiprune.commands.request import Request
from equiprune.commands.stages import Kind, Product
from equiprune.files.atomic import check_writable, replacing
from equiprune.progress import Display, Task, unseen
from equiprune.pruning.targets.named import Elements
from equiprune.structures.starting import check_starting, counted, starting_structures


@dataclass(frozen=True)
class Started:
    """Structures to start from.

    Attributes:
        kinds: how many there are of each kind.
        path: the file they are in.
    """

    kinds: Mapping[str, int]
    path: Path

    @property
    def structures(self) -> int:
        """The number of them."""
        return sum(self.kinds.values())

    def to_json(self) -> dict[str, Any]:
        return {"structures": self.structures, "kinds": dict(self.kinds), "written": str(self.path)}


@dataclass(frozen=True)
class Crystals(Request[Started]):
    """Write structures to start from, with no data at all: simple crystals, defects, random cells, pairs of atoms.

    Attributes:
        elements: that they are made of, e.g. Li,P,S.
        output: structures without labels (.extxyz), at several strains and displacements.
        count: number of structures; a larger set holds the smaller one.
        max_atoms: of the largest structure.
        seed: of everything that is drawn.
    """

    stage: ClassVar[Kind] = Kind("start.extxyz", Product.STRUCTURES)

    _: KW_ONLY
    elements: str
    output: Output
    count: Positive = 200
    max_atoms: Positive = 40
    seed: NotNegative = 0

    def check(self) -> None:
        check_suffix(self.output, "Structures", ".extxyz", ".xyz")
        check_starting(self._numbers, self.count, self.max_atoms)

    @property
    def _numbers(self) -> tuple[int, ...]:
        return Elements.parse(self.elements).numbers

    def run(self, display: Display = unseen) -> Started:
        """Make and write them, all or none."""
        from ase.io import write  # slow to import, and only needed here

        check_writable(self.output)
        made = starting_structures(self._numbers, self.count, seed=self.seed, max_atoms=self.max_atoms)
        structures = []
        with display(Task("crystals", self.count)) as [step]:
            for atoms in made:
                structures.append(atoms)
                step(1)
        with replacing(self.output, new=True) as temporary:
            write(temporary, structures, format="extxyz")
        return Started(counted(structures), self.output)
