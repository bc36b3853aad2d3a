"""Data of another level of theory: references, scale, replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ase import Atoms
from cyclopts import Parameter

from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Complete, Data, Switch
from equiprune.commands.stages import Product, Takes
from equiprune.errors import TargetError, closest
from equiprune.structures.labels import LabelKeys
from equiprune.training.references import KeepReferences, References, RefitReferences, read_references
from equiprune.training.replay import Replay

ReferencesName = Literal["keep", "refit"]


ScaleName = Literal["keep", "rms-forces"]


_REFERENCES: Mapping[str, References] = {"keep": KeepReferences(), "refit": RefitReferences()}


@Parameter(name="*", group=panel("Another level of theory"))
@dataclass(frozen=True)
class TheoryOptions(Complete):
    """References, scale and replay for data of another level of theory.

    Attributes:
        references: energies of elements: keep, refit (least squares on the data), or a file of energies of isolated
            atoms, as .json ({"H": -13.6}, eV) or as structures of one atom.
        references_anyway: take energies of isolated atoms even where they lead far away from the labels.
        scale: keep, or with --from-scratch rms-forces: the energy scale that the forces of the data suggest.
        replay: a second labelled set, of the level of theory that the model knows, to draw from in every epoch.
        replay_share: of the structures of an epoch, that are replayed; 0.5 unless given.
    """

    references: Annotated[ReferencesName | Path, Takes.of(Product.DATA)] = "keep"
    references_anyway: Switch = False
    scale: ScaleName = "keep"
    replay: Data | None = None
    replay_share: float | None = None

    def check(self) -> None:
        self.replayed(())
        if self.replay_share is not None and self.replay is None:
            raise TargetError("`replay_share` is the share of what `replay` names; give `replay` or leave it out.")

    @property
    def files(self) -> list[Path]:
        """Those that are read."""
        return [path for path in (self.references, self.replay) if isinstance(path, Path)]

    def chosen(self, cutoff: float, keys: LabelKeys) -> References:
        """The policy for references; single atoms in a file are isolated when no image is within the cutoff."""
        if isinstance(self.references, str):
            return _REFERENCES[self.references]
        return read_references(self.references, cutoff, keys, anyway=self.references_anyway)

    def replayed(self, structures: Sequence[Atoms]) -> Replay:
        """The second set; raises `TargetError` for an impossible share."""
        return Replay(structures) if self.replay_share is None else Replay(structures, self.replay_share)

    def check_file(self) -> None:
        """Raise `TargetError` for references that are not there."""
        if isinstance(self.references, Path) and not self.references.exists():
            advice = closest(str(self.references), _REFERENCES)
            raise TargetError(f"`references` {self.references} is neither keep nor refit nor a file.{advice}")

    def check_start(self, *, from_scratch: bool) -> None:
        """Raise `TargetError` for what contradicts where training starts."""
        if self.scale != "keep" and not from_scratch:
            raise TargetError(
                "`scale` rms-forces would multiply what the model has learnt. It is for `from_scratch`; leave it out."
            )
        if self.replay is not None and from_scratch and self.references != "keep":
            raise TargetError(
                "References fitted to random weights say nothing about the labels of `replay`, and `from_scratch` "
                "forgets nothing. Leave out `replay`, or keep the references."
            )


SAME_THEORY = TheoryOptions()
"""Nothing said."""
