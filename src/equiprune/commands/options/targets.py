"""Targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from equiprune.blocks import PruningPlan
from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Complete, Positive, Switch, Whole
from equiprune.commands.stages import Product, Takes
from equiprune.errors import TargetError
from equiprune.files.atomic import read_json
from equiprune.pruning import targets as t


@Parameter(name="*", group=panel("What to reach"))
@dataclass(frozen=True)
class ShapeOptions(Complete):
    """Targets that say what a model keeps; options combine.

    Attributes:
        irreps: hidden irreps for every space, e.g. 64x0e+32x1e+16x2e, or a comma-separated list, one per space.
        lmax: largest l of the hidden features.
        edge_lmax: largest l of the spherical harmonics of the edges; 3,2 gives each interaction its own.
        basis_lmax: largest l of the messages that are multiplied (MACE's A-basis); 3,1 gives each interaction its own.
        correlation: most messages multiplied with each other (MACE); 3,2 gives each interaction its own.
        interactions: this many message-passing steps: the first ones (MACE), or the first and the best others (eSCN).
        channels: at most this many channels of every hidden irrep.
        hidden_channels: channels inside every convolution (eSCN).
        elements: exactly these elements, in this order, e.g. H,O. Exact for what is kept.
        heads: exactly these heads of a multi-head model, e.g. PBE.
        radial_width: hidden neurons of the radial network, e.g. 40,24; of eSCN the edge channels.
        radial_basis: number of radial functions.
        round_to: make hidden multiplicities multiples of this: down, but from half of it on up to it, below that none.
        heterogeneous: allow models that upstream's own constructor cannot build (MACE: any counts anywhere).
    """

    irreps: str | None = None
    lmax: Whole | None = None
    edge_lmax: str | None = None
    basis_lmax: str | None = None
    correlation: str | None = None
    interactions: Whole | None = None
    channels: Whole | None = None
    hidden_channels: Whole | None = None
    elements: str | None = None
    heads: str | None = None
    radial_width: str | None = None
    radial_basis: Whole | None = None
    round_to: Positive = 1
    heterogeneous: Switch = False

    def check(self) -> None:
        self.shape()

    def only_head(self, named: str | None) -> str | None:
        """The one head that is kept, where scores are taken unless another is named; one that goes is refused."""
        kept = self.heads.split(",") if self.heads else []
        if named is not None and kept and named not in kept:
            raise TargetError(f"`head` {named} is not among the heads to keep ({self.heads}). Name one that is.")
        return kept[0] if len(kept) == 1 else None

    def shape(self) -> list[t.Target]:
        """The same as values of the API."""
        return _made(
            [
                (self.irreps, t.HiddenIrreps.parse),
                (self.lmax, t.Lmax),
                (self.edge_lmax, t.EdgeLmax.parse),
                (self.basis_lmax, t.BasisLmax.parse),
                (self.correlation, t.Correlation.parse),
                (self.interactions, t.Interactions),
                (self.channels, t.Channels),
                (self.hidden_channels, t.HiddenChannels),
                (self.elements, t.Elements.parse),
                (self.heads, lambda text: t.Heads(tuple(text.split(",")))),
                (self.radial_width, t.RadialWidth.parse),
                (self.radial_basis, t.RadialBasis),
            ]
        )


@Parameter(name="*", group=panel("What to reach"))
@dataclass(frozen=True)
class TargetOptions(ShapeOptions):
    """Targets of pruning; options combine.

    Attributes:
        parameters: at most this fraction of the trainable parameters, e.g. 0.5.
        floor: with parameters, every irrep of every hidden space keeps at least this fraction of its channels.
        lossless: remove only what contributes exactly nothing, and prove it.
        plan: a plan written by 'equiprune search' or an earlier prune --json (its "plan", or all of its output).
    """

    parameters: float | None = None
    floor: float = 0.25
    lossless: Switch = False
    plan: Annotated[Path | None, Takes.of(Product.PLAN)] = None

    def check(self) -> None:
        if not 0 <= self.floor <= 1:
            raise TargetError(f"`floor` {self.floor} is not possible: give a fraction from 0 to 1.")
        self._typed()

    def check_given(self) -> None:
        """Raise `TargetError` when there is nothing to reach."""
        if self.plan is None and self.round_to == 1 and not self._typed():
            raise TargetError("Say what to reach: `irreps`, `lmax`, `parameters`, `elements`, `lossless`, ...")

    def targets(self) -> list[t.Target]:
        """The same as values of the API; the plan is read."""
        return [*([] if self.plan is None else [t.FromPlan(_read_plan(self.plan))]), *self._typed()]

    def _typed(self) -> list[t.Target]:
        """All but the plan."""
        more: list[_Given] = [
            (self.parameters, lambda fraction: t.Parameters(fraction, self.floor)),
            (self.lossless or None, lambda _: t.Lossless()),
        ]
        return [*self.shape(), *_made(more)]


_Given = tuple[Any, Callable[[Any], t.Target]]
"""A value, None if it was not given, and what makes a target of it."""


def _made(given: list[_Given]) -> list[t.Target]:
    return [make(value) for value, make in given if value is not None]


def _read_plan(path: Path) -> PruningPlan:
    value = read_json(path, "pruning plan")
    return PruningPlan.from_json(value["plan"] if isinstance(value, dict) and "plan" in value else value)


NO_TARGETS, NO_SHAPE = TargetOptions(), ShapeOptions()
"""Nothing said."""
