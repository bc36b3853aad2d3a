"""eSCN's hyperparameters as a frozen value (fairchem-core 1.10, fairchem/core/models/escn/escn.py).

Upstream's constructor knows no grid of its own choice: it derives the points on the sphere at which features are
multiplied and activated from ``lmax``. A model whose l were pruned is exactly its masked parent on its parent's points,
so those are kept here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from equiprune.adapters.base import Architecture
from equiprune.adapters.hyperparameters import Degree

MOST_ELEMENTS = 119
"""Atomic numbers below this are elements."""


class Smearing(StrEnum):
    """Functions of the distance without weights of their own (fairchem/core/models/scn/smearing.py)."""

    GAUSSIAN = "gaussian"
    SIGMOID = "sigmoid"
    LINEAR_SIGMOID = "linearsigmoid"


@dataclass(frozen=True)
class Grid:
    """Points on a sphere: ``latitudes`` times ``longitudes``."""

    latitudes: int
    longitudes: int


def message_grid(lmax: int, mmax: int) -> Grid:
    """Upstream's points for the activation of messages (``SO3_Grid(lmax, mmax)`` in so3.py)."""
    return Grid(2 * (lmax + 1), 2 * (mmax + 1) + 1 if lmax == mmax else 2 * mmax + 1)


def node_grid(lmax: int) -> Grid:
    """Upstream's points for the network on atoms (``SO3_Grid(lmax, lmax)``)."""
    return Grid(2 * (lmax + 1), 2 * (lmax + 1) + 1)


@dataclass(frozen=True, kw_only=True)
class EscnArchitecture(Architecture):
    """Everything needed to rebuild an eSCN model except its weights.

    ``elements`` are those below ``max_num_elements``: tables are indexed by atomic number.

    Attributes:
        lmax, mmax: highest degree of the features, highest order in the convolution.
        max_neighbors: as in every architecture; a file of any version has it, since no eSCN model does without.
        layers: numbers of the layers in the unpruned model, in order; the first is 0, which nothing can replace.
        sphere_channels: of features, messages and heads.
        hidden_channels: inside the convolution.
        edge_channels: of what distance and elements of an edge become.
        sphere_samples: points at which the heads read the features.
        smearing: functions of the distance.
        smearing_width: ``basis_width_scalar``.
        resolution: ``distance_resolution``, Angstrom between two functions of the distance.
        message_grid, node_grid: points on the sphere.
        energy_mean, energy_scale, forces_scale: what the trained outputs are multiplied by and added to, eV, eV and
            eV/Angstrom (upstream's normalizers).
    """

    max_neighbors: int | None = None
    lmax: Degree
    mmax: Degree
    layers: tuple[int, ...]
    sphere_channels: int
    hidden_channels: int
    edge_channels: int
    sphere_samples: int
    smearing: Smearing = Smearing.GAUSSIAN
    smearing_width: float = 1.0
    resolution: float = 0.02
    message_grid: Grid
    node_grid: Grid
    energy_mean: float = 0.0
    energy_scale: float = 1.0
    forces_scale: float = 1.0

    @property
    def max_num_elements(self) -> int:
        """Rows of upstream's tables; row 0 belongs to no element."""
        return len(self.elements) + 1

    @property
    def distances(self) -> int:
        """Number of functions of the distance; upstream truncates."""
        return int(self.cutoff / self.resolution)

    @property
    def direct_forces(self) -> bool:
        """A head of its own gives the forces."""
        return True

    @property
    def inversion(self) -> bool:
        """Turned into the frame of each edge, features know left from right."""
        return False

    @property
    def exact_rotations(self) -> bool:
        """Messages are activated at points of a sphere, and forces are summed over points of another."""
        return False

    @property
    def native_grids(self) -> tuple[Grid, Grid]:
        """Those that upstream's constructor derives from ``lmax`` and ``mmax``."""
        return message_grid(self.lmax, self.mmax), node_grid(self.lmax)

    @property
    def assembled(self) -> bool:
        """Upstream's constructor builds every model; only the points on the sphere are set afterwards."""
        return False

    @property
    def remarks(self) -> tuple[str, ...]:
        """A sentence on its points on the sphere."""
        own = (self.message_grid, self.node_grid) == self.native_grids
        points = " and ".join(f"{g.latitudes} x {g.longitudes}" for g in (self.message_grid, self.node_grid))
        whose = "those that upstream derives from lmax" if own else "not those that upstream derives from lmax"
        return (f"Points on the sphere, of messages and of atoms: {points}, {whose}.",)

    @property
    def why_not_stock(self) -> str:
        if self.resolution_argument or (self.message_grid, self.node_grid) == self.native_grids:
            return ""
        return "its points on the sphere are those of the model it was pruned from, and upstream derives them from lmax"

    @property
    def resolution_argument(self) -> int | None:
        """Upstream's ``resolution``: one number of latitudes and longitudes for both grids; None where they differ."""
        sides = {*vars(self.message_grid).values(), *vars(self.node_grid).values()}
        return sides.pop() if len(sides) == 1 else None


def escn(  # noqa: PLR0913 (upstream's own arguments)
    *,
    lmax: int,
    mmax: int = 2,
    layers: int,
    channels: int,
    hidden: int,
    edge: int = 128,
    cutoff: float = 8.0,
    neighbors: int = 40,
    elements: int = 89,
    samples: int = 128,
    width: float = 1.0,
    resolution: float = 0.02,
) -> EscnArchitecture:
    """A model as upstream's constructor makes it, with its defaults."""
    return EscnArchitecture(
        elements=tuple(range(1, elements + 1)),
        cutoff=cutoff,
        max_neighbors=neighbors,
        lmax=lmax,
        mmax=mmax,
        layers=tuple(range(layers)),
        sphere_channels=channels,
        hidden_channels=hidden,
        edge_channels=edge,
        sphere_samples=samples,
        smearing_width=width,
        resolution=resolution,
        message_grid=message_grid(lmax, mmax),
        node_grid=node_grid(lmax),
    )
