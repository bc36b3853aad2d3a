"""Mending in closed form what pruning broke."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar

from ase import Atoms
from ase.data import chemical_symbols

import equiprune as ep
from equiprune.commands.opening import check_device, open_model
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.values import Device, Model, NotNegative, Output, Positive, Switch
from equiprune.commands.request import Request, remarks
from equiprune.commands.stages import Kind, Product, Takes, newest_structures, pruned_from
from equiprune.errors import TargetError
from equiprune.files.atomic import check_writable
from equiprune.potentials.checkpoint import check_export, check_output
from equiprune.progress import Display, Task, unseen
from equiprune.pruning.displacing import LARGEST_FORCE_IN_WORDS, RATTLE
from equiprune.pruning.repair import Disagreement, WorseError, repair_steps
from equiprune.structures.reading import check_apart


@dataclass(frozen=True)
class Repaired:
    """A repaired model.

    Attributes:
        before, after: how far it was from its parent, and is, on structures that were held out; None where the model
            was kept as it was.
        maps: how many weights were fitted.
        gains: number of channels with a gain; none where gains did not help.
        left_out: number of structures whose forces were too large; None where the model was kept as it was.
        files: what was written, the model first.
    """

    before: Disagreement | None
    after: Disagreement | None
    maps: int
    gains: int
    left_out: int | None
    files: tuple[Path, ...]

    @property
    def differences(self) -> Mapping[str, Disagreement]:
        """Both by their names; neither where the model was kept as it was."""
        found = {"before": self.before, "after": self.after}
        return {when: each for when, each in found.items() if each is not None}

    def to_json(self) -> dict[str, Any]:
        errors = {when: asdict(found) for when, found in self.differences.items()}
        return {
            "written": list(map(str, self.files)),
            "maps": self.maps,
            "gains": self.gains,
            "left_out": self.left_out,
            **errors,
        }


def _remark_unseen(child: ep.Potential, structures: Sequence[Atoms]) -> None:
    """Say which elements the repair does not know of."""
    seen = {int(z) for atoms in structures for z in atoms.numbers}
    if unseen := sorted(child.elements - seen):
        names = ", ".join(chemical_symbols[z] for z in unseen[:10]) + (", ..." if len(unseen) > 10 else "")
        remarks.warning(
            f"{len(unseen)} of the model's {len(child.elements)} elements are in none of the structures ({names}): the "
            "repair may make them worse. If you need them, add structures that have them ('equiprune crystals' "
            "makes some); if not, cut them with 'equiprune prune --elements'."
        )


@dataclass(frozen=True)
class Repair(Request[Repaired]):
    """Fit a pruned model's linear maps to its parent's features: no labels, no training. Retrain it afterwards.

    Attributes:
        model: the pruned model.
        parent: the model it was pruned from.
        data: structures of the chemistry the model is for; labels are not needed. One in five is held out.
        output: .pth for SevenNet, .model for MACE, .nequip.zip for NequIP, .nqx or .pt for Nequix, .pt for eSCN, no
            suffix for equiprune's own directory.
        rattle: each structure is displaced by an amount of its own, standard deviation of up to so many Angstrom.
        displacements: how many times each structure is displaced; up to 8 times, until there are 6,000 atoms, unless
            given.
        limit: use only the first this many structures.
        seed: of the displacements.
        keep_if_worse: where the repair would not make forces better by a tenth, write the model as it was and say so,
            instead of refusing.
    """

    stage: ClassVar[Kind] = Kind("model", Product.MODEL)

    model: Model
    _: KW_ONLY
    parent: Annotated[str, Takes.of(Product.MODEL, rule=pruned_from)]
    data: Annotated[Path, Takes.of(Product.DATA, Product.STRUCTURES, rule=newest_structures)]
    output: Output
    rattle: float = RATTLE
    displacements: Positive | None = None
    limit: Positive | None = None
    seed: NotNegative = 0
    keep_if_worse: Switch = False
    device: Device = "cpu"
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        check_device(self.device)
        if not 0 <= self.rattle < 1:
            raise TargetError(f"`rattle` {self.rattle} is not possible: give 0 or more and less than 1 Angstrom.")

    def run(self, display: Display = unseen) -> Repaired:
        """Repair and save; nothing is written where the repair did not help."""
        check_writable(self.output)
        check_apart(self.output, [self.data])
        child = open_model(self.model, None, self.opening, any_head=True, device=self.device)
        check_output(child.adapter, self.output)
        check_export(child.adapter, child.architecture, self.output)
        parent = open_model(self.parent, None, self.opening.headless, any_head=True, preferred=child.head)
        structures = list(islice(ep.read_structures(self.data), self.limit))
        _remark_unseen(child, structures)
        try:
            with display(Task("repair", repair_steps(child), 1)) as [step]:
                made = ep.repair(
                    child,
                    parent,
                    structures,
                    rattle=self.rattle,
                    displacements=self.displacements,
                    seed=self.seed,
                    progress=step,
                )
        except WorseError as error:
            if not self.keep_if_worse:
                raise
            remarks.warning(str(error))
            return Repaired(None, None, 0, 0, None, ep.save(child, self.output))
        if made.left_out:
            remarks.warning(
                f"{made.left_out} of the structures were left out: their forces are too large "
                f"({LARGEST_FORCE_IN_WORDS})."
            )
        files = ep.save(made.potential, self.output)
        return Repaired(made.before, made.after, made.maps, made.gains, made.left_out, files)
