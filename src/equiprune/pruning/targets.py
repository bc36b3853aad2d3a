"""What to reach: one frozen value per choice. Targets combine; each can only remove.

Parsing of command-line words is here too, beside the value it makes.
"""

from __future__ import annotations

from dataclasses import dataclass

from ase.data import atomic_numbers

from equiprune.blocks import Irreps, PruningPlan
from equiprune.errors import TargetError, closest
from equiprune.files.settings import kind


@kind(
    "hidden_irreps",
    "HiddenIrreps",
    write=lambda target: {"irreps": ",".join(map(str, target.irreps))},
    read=lambda given: HiddenIrreps.parse(given["irreps"]),
)
@dataclass(frozen=True)
class HiddenIrreps:
    """These multiplicities in every hidden space, or one irreps per space (embedding first).

    Given once, entries that a space does not have are skipped there, so that ``64x0e+32x1e`` fits scalar-only first
    and last spaces.

    >>> HiddenIrreps.parse("64x0e+32x1e").irreps[0].channels
    96
    """

    irreps: tuple[Irreps, ...]

    @classmethod
    def parse(cls, text: str) -> HiddenIrreps:
        """Read ``"64x0e+32x1e"`` or a comma-separated list of such."""
        return cls(tuple(Irreps.parse(part) for part in text.split(",")))


@kind("lmax", "Lmax")
@dataclass(frozen=True)
class Lmax:
    """Hidden features up to this l."""

    lmax: int


PerInteraction = int | tuple[int, ...]
"""One number for every interaction, or one for each."""


@kind("edge_lmax", "EdgeLmax")
@dataclass(frozen=True)
class EdgeLmax:
    """Spherical harmonics of the edges up to this l, and messages of that l at most where they are multiplied (MACE).

    >>> EdgeLmax.parse("3,2").lmax
    (3, 2)
    """

    lmax: PerInteraction

    @classmethod
    def parse(cls, text: str) -> EdgeLmax:
        """Read ``"2"`` or ``"3,2"``."""
        return cls(_per_interaction(text, "--edge-lmax"))


@kind("basis_lmax", "BasisLmax")
@dataclass(frozen=True)
class BasisLmax:
    """Messages entering the product basis up to this l (MACE's A-basis)."""

    lmax: PerInteraction

    @classmethod
    def parse(cls, text: str) -> BasisLmax:
        """Read ``"2"`` or ``"3,1"``."""
        return cls(_per_interaction(text, "--basis-lmax"))


@kind("correlation", "Correlation")
@dataclass(frozen=True)
class Correlation:
    """Products of at most this many messages (MACE's ``correlation``)."""

    order: PerInteraction

    @classmethod
    def parse(cls, text: str) -> Correlation:
        """Read ``"2"`` or ``"3,2"``."""
        return cls(_per_interaction(text, "--correlation"))


@kind("interactions", "Interactions")
@dataclass(frozen=True)
class Interactions:
    """This many message-passing steps: the first ones, with the last one's features of l > 0, which nothing reads, gone
    too; where steps add to what was there and any can go (eSCN), the first one and the best of the others.
    """

    count: int


@kind("channels", "Channels")
@dataclass(frozen=True)
class Channels:
    """At most this many channels of every hidden irrep."""

    channels: int


@kind("hidden_channels", "HiddenChannels")
@dataclass(frozen=True)
class HiddenChannels:
    """This many channels inside every convolution (eSCN's ``hidden_channels``)."""

    channels: int


@kind("parameters", "Parameters")
@dataclass(frozen=True)
class Parameters:
    """At most this fraction of the trainable parameters, spent where the scores say.

    Attributes:
        fraction: of the trainable parameters, above 0 and up to 1.
        floor: every irrep of every hidden space keeps at least this fraction of its channels. Scores of an unretrained
            model favour scalars so much that l > 0 would all but vanish, and with it what retraining could build on.
    """

    fraction: float
    floor: float = 0.25


@kind("radial_width", "RadialWidth")
@dataclass(frozen=True)
class RadialWidth:
    """Hidden neurons of the radial network, one number per hidden layer or one for all."""

    widths: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> RadialWidth:
        """Read ``"40,24"``."""
        return cls(tuple(_integers(text, "--radial-width")))


@kind("radial_basis", "RadialBasis")
@dataclass(frozen=True)
class RadialBasis:
    """Number of radial functions."""

    functions: int


@kind("elements", "Elements")
@dataclass(frozen=True)
class Elements:
    """Exactly these elements, in this order; removing an element changes nothing for the others.

    >>> Elements.parse("H,O").numbers
    (1, 8)
    """

    numbers: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Elements:
        """Read chemical symbols, comma-separated."""
        symbols = [word.strip() for word in text.split(",") if word.strip()]
        for symbol in symbols:
            if symbol not in atomic_numbers:
                raise TargetError(f"'{symbol}' is no chemical symbol.{closest(symbol.capitalize(), atomic_numbers)}")
        return cls(tuple(atomic_numbers[symbol] for symbol in symbols))


@kind("heads", "Heads")
@dataclass(frozen=True)
class Heads:
    """Exactly these levels of theory of a multi-head model, in this order."""

    names: tuple[str, ...]


@kind("lossless", "Lossless")
@dataclass(frozen=True)
class Lossless:
    """Only what changes nothing: blocks whose contribution is exactly zero."""


@kind(
    "exactly",
    "Exactly",
    write=lambda target: {"plan": target.plan.to_json()},
    read=lambda given: FromPlan(PruningPlan.from_json(given["plan"])),
)
@dataclass(frozen=True)
class FromPlan:
    """A plan made elsewhere."""

    plan: PruningPlan


Target = (
    HiddenIrreps
    | Lmax
    | EdgeLmax
    | BasisLmax
    | Correlation
    | Interactions
    | Channels
    | HiddenChannels
    | Parameters
    | RadialWidth
    | RadialBasis
    | Elements
    | Heads
    | Lossless
    | FromPlan
)


def _per_interaction(text: str, flag: str) -> PerInteraction:
    numbers = _integers(text, flag)
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


def _integers(text: str, flag: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError as error:
        raise TargetError(f"{flag} takes whole numbers separated by commas, not '{text}'.") from error
