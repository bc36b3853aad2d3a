"""Flags of the command line as frozen values, and their way to the values of the API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter, Token

from equiprune.adapters.growth import GrowRadialBasis, Growth, NativeGrids, NonlinearReadout
from equiprune.blocks import PruningPlan
from equiprune.errors import TargetError
from equiprune.labels import LabelKeys
from equiprune.pruning import targets as t
from equiprune.pruning.importance import (
    Activation,
    Criterion,
    DataCriterion,
    Magnitude,
    Random,
    Taylor,
    TaylorEnergy,
    TaylorForces,
)
from equiprune.storage import read_json


def _whole(smallest: int | None) -> Callable[[Any, tuple[Token, ...]], int]:
    """A reader of whole numbers; cyclopts itself would round 1.5."""

    def read(_: Any, tokens: tuple[Token, ...]) -> int:
        text = tokens[0].value
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"'{text}' is not a whole number.") from None
        if smallest is not None and number < smallest:
            raise ValueError(f"{number} is not possible, give {smallest} or more.")
        return number

    return read


Whole = Annotated[int, Parameter(converter=_whole(None))]
"""A whole number whose range depends on the model."""
NotNegative = Annotated[int, Parameter(converter=_whole(0))]
Positive = Annotated[int, Parameter(converter=_whole(1))]
Switch = Annotated[bool, Parameter(negative="", show_default=False)]
Patterns = Annotated[list[str], Parameter(negative="")]
Output = Annotated[Path, Parameter(name=["--output", "-o"])]
OptionalOutput = Annotated[Path | None, Parameter(name=["--output", "-o"])]

CriterionName = Literal["taylor", "taylor-energy", "taylor-forces", "activation", "magnitude", "random"]
Dtype = Literal["float32", "float64"]
Device = Annotated[
    str, Parameter(help="where models are evaluated: cpu, cuda, or one of several GPUs, such as cuda:1.")
]
"""`equiprune.opening.check_device` says whether it is here."""


PANELS = (
    "What to reach",
    "What to add",
    "Where importance comes from",
    "Distorted copies",
    "Molecular dynamics",
    "Labels",
    "Which structures",
    "How to train",
    "What is minimised",
    "Second derivatives",
    "Another level of theory",
    "Where it runs",
    "Loading",
    "Dashboards",
    "Common",
)
"""Of a help page, in their order."""


def panel(name: str) -> Group:
    """A box of a help page that holds flags of one kind."""
    return Group(name, sort_key=PANELS.index(name))


@Parameter(name="*", group=panel("Common"))
@dataclass(frozen=True)
class Common:
    """Flags of every command.

    Attributes:
        json: print one JSON document on stdout instead of text.
        head: level of theory, for a multi-head model.
        trust: open a pickle that could run code; only for files whose origin you trust.
        adapter: the name of the architecture, for a file that several adapters recognise.
    """

    json: Switch = False
    head: str | None = None
    trust: Switch = False
    adapter: str | None = None

    @property
    def headless(self) -> Common:
        """The same for a model whose head is not meant."""
        return replace(self, head=None)


@Parameter(name="*", group=panel("What to reach"))
@dataclass(frozen=True)
class TargetFlags:
    """What to reach; flags combine.

    Attributes:
        irreps: hidden irreps for every space, e.g. 64x0e+32x1e+16x2e, or a comma-separated list, one per space.
        lmax: largest l of the hidden features.
        edge_lmax: largest l of the spherical harmonics of the edges; 3,2 gives each interaction its own.
        basis_lmax: largest l of the messages that are multiplied (MACE's A-basis); 3,1 gives each interaction its own.
        correlation: most messages multiplied with each other (MACE); 3,2 gives each interaction its own.
        interactions: this many message-passing steps: the first ones (MACE), or the first and the best others (eSCN).
        channels: at most this many channels of every hidden irrep.
        hidden_channels: channels inside every convolution (eSCN).
        parameters: at most this fraction of the trainable parameters, e.g. 0.5.
        floor: with parameters, every irrep of every hidden space keeps at least this fraction of its channels.
        elements: exactly these elements, in this order, e.g. H,O. Exact for what is kept.
        heads: exactly these heads of a multi-head model, e.g. PBE.
        radial_width: hidden neurons of the radial network, e.g. 40,24; of eSCN the edge channels.
        radial_basis: number of radial functions.
        round_to: make hidden multiplicities multiples of this: down, but from half of it on up to it, below that none.
        heterogeneous: allow models that upstream's own constructor cannot build (MACE: any counts anywhere).
        lossless: remove only what contributes exactly nothing, and prove it.
        plan: a plan written by an earlier prune --json (its "plan", or all of its output).
    """

    irreps: str | None = None
    lmax: Whole | None = None
    edge_lmax: str | None = None
    basis_lmax: str | None = None
    correlation: str | None = None
    interactions: Whole | None = None
    channels: Whole | None = None
    hidden_channels: Whole | None = None
    parameters: float | None = None
    floor: float = 0.25
    elements: str | None = None
    heads: str | None = None
    radial_width: str | None = None
    radial_basis: Whole | None = None
    round_to: Positive = 1
    heterogeneous: Switch = False
    lossless: Switch = False
    plan: Path | None = None

    def only_head(self, named: str | None) -> str | None:
        """The one head that is kept, where scores are taken unless another is named; one that goes is refused."""
        kept = self.heads.split(",") if self.heads else []
        if named is not None and kept and named not in kept:
            raise TargetError(f"--head {named} is not among the heads to keep ({self.heads}). Name one that is.")
        return kept[0] if len(kept) == 1 else None

    def check(self, *, needed: bool) -> None:
        """Raise `TargetError` as `targets` does, without reading the plan."""
        replace(self, plan=None).targets(needed=needed and self.plan is None)

    def targets(self, *, needed: bool = True) -> list[t.Target]:
        """The typed targets that these flags name; raises `TargetError` when there is none and one is needed."""
        if not 0 <= self.floor <= 1:
            raise TargetError(f"--floor {self.floor} is not possible: give a fraction from 0 to 1.")
        given: list[tuple[Any, Callable[[Any], t.Target]]] = [
            (self.plan, lambda path: t.Exactly(_read_plan(path))),
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
            (self.parameters, lambda fraction: t.Parameters(fraction, self.floor)),
            (self.lossless or None, lambda _: t.Lossless()),
        ]
        targets = [make(value) for value, make in given if value is not None]
        if needed and not targets and self.round_to == 1:
            raise TargetError(
                "Say what to reach: --irreps, --lmax, --parameters, --elements, --lossless, ... (see --help)."
            )
        return targets


def _read_plan(path: Path) -> PruningPlan:
    value = read_json(path, "pruning plan")
    return PruningPlan.from_json(value["plan"] if isinstance(value, dict) and "plan" in value else value)


@Parameter(name="*", group=panel("What to add"))
@dataclass(frozen=True)
class GrowthFlags:
    """What to add or change after pruning. The function stays unless weights are drawn anew or grids change.

    Attributes:
        grow_radial_basis: this many radial functions, more than there are (MACE).
        nonlinear_readout: hidden neurons of a readout in place of the last, linear one (MACE).
        native_grids: upstream's own points on spheres instead of the parent's, so that stock tools open it (eSCN).
        reinitialise: draw what these add at random instead, by --seed; the function changes.
    """

    grow_radial_basis: Positive | None = None
    nonlinear_readout: Positive | None = None
    native_grids: Switch = False
    reinitialise: Switch = False

    def growths(self, seed: int) -> list[Growth]:
        """The typed changes that these flags name; raises `TargetError` for a flag that means nothing."""
        added: list[Growth] = []
        if self.grow_radial_basis is not None:
            added.append(GrowRadialBasis(self.grow_radial_basis, not self.reinitialise, seed))
        if self.nonlinear_readout is not None:
            added.append(NonlinearReadout(self.nonlinear_readout, not self.reinitialise, seed))
        if self.reinitialise and not added:
            raise TargetError("--reinitialise draws what --grow-radial-basis or --nonlinear-readout add; give one.")
        if self.native_grids:
            added.append(NativeGrids())
        return added


@Parameter(name="*", group=panel("Where importance comes from"))
@dataclass(frozen=True)
class ScoreFlags:
    """Where importance comes from.

    Attributes:
        scores: importance scores from 'equiprune calibrate'.
        data: structures to calibrate on now, instead of scores.
        criterion: with --data taylor (unless given) or activation; alone magnitude or random.
        seed: of the random criterion, and of what --reinitialise draws.
        limit: use only the first this many structures of the data.
    """

    scores: Path | None = None
    data: Path | None = None
    criterion: CriterionName | None = None
    seed: NotNegative = 0
    limit: Positive | None = None

    def chosen(self) -> Criterion | None:
        """The criterion to calibrate by now, None without one; raises `TargetError` for flags that contradict."""
        if self.scores is not None and (self.data is not None or self.criterion is not None):
            raise TargetError("--scores already says everything; leave out --data and --criterion.")
        if self.limit is not None and self.data is None:
            raise TargetError("--limit counts the structures of --data; give --data or leave --limit out.")
        if self.criterion is None:
            return Taylor() if self.data is not None else None
        chosen = criterion_named(self.criterion, self.seed)
        if isinstance(chosen, DataCriterion) and self.data is None:
            raise TargetError(f"--criterion {self.criterion} looks at structures: give --data.")
        if self.data is not None and not isinstance(chosen, DataCriterion):
            raise TargetError(f"--criterion {self.criterion} looks at no structures: leave out --data.")
        return chosen


def criterion_named(name: CriterionName, seed: int) -> Criterion:
    """The criterion that a word of the command line means."""
    criteria: dict[CriterionName, Criterion] = {
        "taylor": Taylor(),
        "taylor-energy": TaylorEnergy(),
        "taylor-forces": TaylorForces(),
        "activation": Activation(),
        "magnitude": Magnitude(),
        "random": Random(seed),
    }
    return criteria[name]


@Parameter(name="*", group=panel("Labels"))
@dataclass(frozen=True)
class LabelFlags:
    """Where labels are in the files; without a flag in REF_energy, ..., or else in the calculator results.

    Attributes:
        energy_key: of the energy: an info entry or a calculator result. eV, of the whole structure.
        forces_key: of the forces: an array or a calculator result. eV/Angstrom.
        stress_key: of the stress: an info entry or a calculator result. eV/Angstrom^3 with ASE's sign, 6 or 9 numbers.
    """

    energy_key: str | None = None
    forces_key: str | None = None
    stress_key: str | None = None

    @property
    def keys(self) -> LabelKeys:
        """The same as a value of the API."""
        return LabelKeys(self.energy_key, self.forces_key, self.stress_key)


COMMON, NO_TARGETS, NO_GROWTH, NO_SCORES = Common(), TargetFlags(), GrowthFlags(), ScoreFlags()
NO_KEYS = LabelFlags()
"""No flag given."""
