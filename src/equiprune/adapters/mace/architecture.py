"""MACE's hyperparameters as a frozen value, one record per interaction.

Names follow the arguments of ``mace.modules.models.MACE`` (mace-torch 0.3.16). Upstream's constructor has one number
of channels, one ``max_ell`` and one radial network for the whole model; here every interaction has its own, because
the blocks that the constructor puts together can do more than it asks of them. `MaceArchitecture.why_not_stock` tells
the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from equiprune.adapters.base import Architecture
from equiprune.adapters.hyperparameters import Degree, since
from equiprune.adapters.mace.embeddings import Embedding
from equiprune.blocks import Irrep, Irreps
from equiprune.structures.global_inputs import GlobalInput

SILU_CONSTANT = 1.6791767923989418
"""e3nn's factor on silu (``normalize2mom``), the same in releases 0.4.4 to 0.6."""


SIGMOID_CONSTANT = 1.8467055342154763
"""The same on the sigmoid of gates."""

DENSITY_WIDTH = 64
"""Hidden neurons of the network that makes the density of a gated block; upstream has no argument for it."""


class Block(StrEnum):
    """Interaction blocks of mace/modules/blocks.py whose slicing is exact."""

    PLAIN = "RealAgnosticInteractionBlock"
    RESIDUAL = "RealAgnosticResidualInteractionBlock"
    DENSITY = "RealAgnosticDensityInteractionBlock"
    DENSITY_RESIDUAL = "RealAgnosticDensityResidualInteractionBlock"
    GATED = "RealAgnosticResidualNonLinearInteractionBlock"
    """Block of MACE-MH and OMOL: messages pass a gate; radial networks see the species and normalise their neurons."""

    @property
    def residual(self) -> bool:
        """The old features are added after the product."""
        return self in (Block.RESIDUAL, Block.DENSITY_RESIDUAL, Block.GATED)

    @property
    def two_maps(self) -> bool:
        """Messages pass a second linear map before the product: one for each species, or one after a gate."""
        return not self.residual or self is Block.GATED

    @property
    def density(self) -> bool:
        """Messages are divided by a learned density instead of a constant."""
        return self in (Block.DENSITY, Block.DENSITY_RESIDUAL)


class Radial(StrEnum):
    """Radial functions of mace/modules/radial.py."""

    BESSEL = "bessel"
    GAUSSIAN = "gaussian"
    CHEBYSHEV = "chebyshev"


class Transform(StrEnum):
    """Distance transforms of mace/modules/radial.py."""

    NONE = "None"
    AGNESI = "Agnesi"
    SOFT = "Soft"


class ReadoutKind(StrEnum):
    """Kinds of readout of the energy from the features after an interaction."""

    NONE = "none"
    LINEAR = "linear"
    NONLINEAR = "nonlinear"


@dataclass(frozen=True)
class Readout:
    """A readout.

    Attributes:
        kind: none, linear, or one hidden layer.
        width: hidden neurons per head of a non-linear readout.
    """

    kind: ReadoutKind
    width: int = 0


GATE_OF_LINEAR = "silu"
"""What a model without non-linear readouts is said to have: a file does not tell, and upstream's usual one serves."""


@dataclass(frozen=True, kw_only=True)
class Interaction:
    """One message-passing step.

    Attributes:
        block: upstream class.
        edge_irreps: node features entering the convolution (output of ``linear_up``).
        edge_lmax: spherical harmonics used, up to this l (``max_ell``).
        messages: summed messages before the second linear map (in gated blocks after the gate), where there are two.
        a_basis: input of the product basis; one number of channels for all l.
        hidden_irreps: node features after this step.
        correlation: highest order of the product basis.
        radial_widths: hidden neurons of the radial network.
        avg_num_neighbors: messages are divided by this (unused by density blocks).
        readout: from the features after this step.
    """

    block: Block
    edge_irreps: str
    edge_lmax: Degree
    messages: str = ""
    a_basis: str
    hidden_irreps: str
    correlation: int
    radial_widths: tuple[int, ...]
    avg_num_neighbors: float
    readout: Readout


@dataclass(frozen=True, kw_only=True)
class MaceArchitecture(Architecture):
    """Everything needed to rebuild a MACE model except its weights.

    Attributes:
        channels: of the species embedding.
        steps: the interactions in order.
        scale_shift: ScaleShiftMACE (True) or MACE.
        radial: radial functions.
        radial_basis: how many.
        transform: of the distance, before the radial functions.
        cutoff_power: ``num_polynomial_cutoff``.
        apply_cutoff: the cutoff multiplies the radial functions (True) or the convolution weights.
        pair_repulsion: a ZBL term is added.
        gate: activation of the non-linear readout, one of abs, tanh, silu, None.
        activation_constants: e3nn's second-moment constants by activation; kept, since they are no weights upstream.
        use_so3: every irrep is written even.
        agnostic_product: the product basis has one set of weights for all elements.
        head_name: of a single-head model; ``heads`` is empty then.
        per_head: which of atomic_energies, scale and shift have an axis for heads; all of them with several heads.
        embeddings: total charge and spin, in upstream's order; none in most models.
        embedding_readout: an energy is read from the species with the embeddings, before any interaction.
    """

    channels: int
    steps: tuple[Interaction, ...]
    scale_shift: bool = True
    radial: Radial = Radial.BESSEL
    radial_basis: int
    transform: Transform = Transform.NONE
    cutoff_power: int
    apply_cutoff: bool = True
    pair_repulsion: bool = False
    gate: str = "silu"
    activation_constants: dict[str, float]
    use_so3: bool = False
    agnostic_product: bool = False
    head_name: str = "Default"
    per_head: tuple[str, ...] = ()
    embeddings: tuple[Embedding, ...] = field(default=(), metadata=since(3))
    embedding_readout: bool = field(default=False, metadata=since(3))

    @property
    def global_inputs(self) -> tuple[GlobalInput, ...]:
        """Charge and spin, for models that embed them."""
        return tuple(embedding.input for embedding in self.embeddings)

    @property
    def inversion(self) -> bool:
        """Models written in SO(3) irreps do not distinguish l even from l odd."""
        return not self.use_so3

    @property
    def edge_lmax(self) -> int:
        """Spherical harmonics that are computed: the most that any interaction uses."""
        return max(step.edge_lmax for step in self.steps)

    def edge_attrs(self, lmax: int) -> Irreps:
        """Irreps of the spherical harmonics up to lmax."""
        return Irreps.spherical_harmonics(lmax, 1 if self.use_so3 else -1)

    def input_irreps(self, t: int) -> Irreps:
        """Node features entering interaction t."""
        return Irreps.parse(self.steps[t - 1].hidden_irreps) if t else Irreps.scalars(self.channels)

    @property
    def stock(self) -> bool:
        """True if upstream's constructor, called with single numbers, builds exactly this model."""
        return not self.why_not_stock

    @property
    def why_not_stock(self) -> str:
        """The first thing that upstream's constructor cannot be told."""
        first, last, steps = self.steps[0], self.steps[-1], self.steps
        hidden = Irreps.parse(first.hidden_irreps)
        scalars, uniform = str(Irreps.scalars(self.channels)), self._uniform
        reasons = {
            "numbers of channels differ": uniform,
            "interactions differ in max_ell": all(s.edge_lmax == self.edge_lmax for s in steps),
            "interactions differ in correlation": len({s.correlation for s in steps}) == 1,
            "an A-basis has other l than the spherical harmonics": all(
                Irreps.parse(s.a_basis) == self._every_l() and s.messages in ("", s.a_basis) for s in steps
            ),
            "hidden irreps differ between interactions": all(
                s.hidden_irreps == first.hidden_irreps for s in steps[:-1]
            ),
            "the last features have l > 0": last.hidden_irreps == scalars,
            "the hidden irreps have no scalars first": hidden.entries[0][1].is_scalar,
            "edge irreps differ between interactions": self._edge_irreps_are_stock(),
            "radial networks differ": len({s.radial_widths for s in steps}) == 1,
            "its activation constants are not e3nn's": abs(
                self.activation_constants.get("silu", SILU_CONSTANT) - SILU_CONSTANT
            )
            < 1e-6,
            "numbers of neighbours differ": len({s.avg_num_neighbors for s in steps}) == 1,
            "interaction blocks differ": len({s.block for s in steps[1:]}) <= 1,
            "readouts are not linear, and non-linear after the last of several interactions": self._stock_readouts(),
        }
        return next((reason for reason, holds in reasons.items() if not holds), "")

    @property
    def _uniform(self) -> bool:
        texts = [text for s in self.steps for text in (s.a_basis, s.hidden_irreps, s.messages) if text]
        return all(mul == self.channels for text in texts for mul, _ in Irreps.parse(text))

    def _every_l(self) -> Irreps:
        return Irreps(tuple((self.channels, ir) for _, ir in self.edge_attrs(self.edge_lmax)))

    def _edge_irreps_are_stock(self) -> bool:
        first, rest = self.steps[0], self.steps[1:]
        follow = all(Irreps.parse(s.edge_irreps) == self.input_irreps(t + 1) for t, s in enumerate(rest))
        if not (follow or len({step.edge_irreps for step in rest}) == 1):
            return False
        entering = Irreps.parse(first.edge_irreps)
        own = Irreps.scalars(Irreps.parse(rest[0].edge_irreps).mul(Irrep(0, 1))) if rest else entering
        return entering in (self.input_irreps(0), own)

    def _stock_readouts(self) -> bool:
        kinds = [step.readout.kind for step in self.steps]
        last = ReadoutKind.NONLINEAR if len(kinds) > 1 else ReadoutKind.LINEAR
        return kinds[-1] is last and set(kinds[:-1]) in (set(), {ReadoutKind.LINEAR}, {ReadoutKind.NONE})


def uniform(  # noqa: PLR0913 (upstream's own arguments)
    channels: int,
    lmax: int,
    *,
    max_ell: int = 3,
    correlation: int | tuple[int, ...] = 3,
    interactions: int = 2,
    first: Block = Block.RESIDUAL,
    others: Block = Block.RESIDUAL,
    radial_widths: tuple[int, ...] = (64, 64, 64),
    avg_num_neighbors: float,
    readout_width: int = 16,
    **common: Any,
) -> MaceArchitecture:
    """A model in the terms of upstream's constructor; ``common`` are fields of `MaceArchitecture`.

    >>> small = uniform(128, 0, avg_num_neighbors=60.0, elements=(1, 8), cutoff=6.0, radial_basis=10, cutoff_power=5)
    >>> small.steps[1].a_basis, small.steps[1].hidden_irreps, small.why_not_stock
    ('128x0e+128x1o+128x2e+128x3o', '128x0e', '')
    """

    def irreps(l: int) -> str:
        return str(Irreps(tuple((channels, ir) for _, ir in Irreps.spherical_harmonics(l, -1))))

    def step(t: int) -> Interaction:
        block, last = (others if t else first), t == interactions - 1
        return Interaction(
            block=block,
            edge_irreps=irreps(lmax if t else 0),
            edge_lmax=max_ell,
            messages=irreps(max_ell) if block.two_maps else "",
            a_basis=irreps(max_ell),
            hidden_irreps=irreps(0 if last else lmax),
            correlation=correlation if isinstance(correlation, int) else correlation[t],
            radial_widths=radial_widths,
            avg_num_neighbors=avg_num_neighbors,
            readout=Readout(ReadoutKind.NONLINEAR, readout_width) if last and t else Readout(ReadoutKind.LINEAR),
        )

    constants = {"silu": SILU_CONSTANT} | ({"sigmoid": SIGMOID_CONSTANT} if Block.GATED in (first, others) else {})
    steps = tuple(map(step, range(interactions)))
    return MaceArchitecture(**{"channels": channels, "steps": steps, "activation_constants": constants, **common})
