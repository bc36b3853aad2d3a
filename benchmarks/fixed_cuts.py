"""The cuts, models and structures that `unchanged.py` looks at: a table, and no number of it should ever change."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule

import equiprune as ep


@dataclass(frozen=True)
class Cut:
    """One child and how it is made.

    Attributes:
        name: in the table.
        targets: what `ep.allocate` is asked for; none stands for the random plan.
        by: scores to choose by.
        options: of `ep.allocate`.
        then: targets of a second plan, made of and for the child.
        growth: what the child gains at the end.
        certified: whether the masked parent and the certificate are looked at too, which takes longest.
    """

    name: str
    targets: Sequence[Any] = ()
    by: str = "taylor"
    options: Mapping[str, Any] = field(default_factory=dict)
    then: Sequence[Any] = ()
    growth: Any = None
    certified: bool = False


def elements(text: str) -> ep.Elements:
    return ep.Elements.parse(text)


def irreps(text: str) -> ep.HiddenIrreps:
    return ep.HiddenIrreps.parse(text)


def sevennet(edge_lmax: int, half: str, uneven: str) -> list[Cut]:
    """Cuts of a SevenNet: widths as text, because l differ."""
    some = [irreps(half), ep.EdgeLmax(edge_lmax - 1)]
    every = [*some, elements("Si,O,H"), ep.RadialWidth((40,)), ep.RadialBasis(6)]
    return [
        Cut("half width", some, certified=True),
        Cut("channels", [ep.Channels(48)], "magnitude"),
        Cut("lmax", [ep.Lmax(1)]),
        Cut("edge lmax", [ep.EdgeLmax(1)]),
        Cut("lmax 0", [ep.Lmax(0), ep.EdgeLmax(0)]),
        Cut("elements", [elements("H,O,Si,Cu")]),
        Cut("lossless", [ep.Lossless()]),
        Cut("elements, lossless", [elements("O,H"), ep.Lossless()]),
        Cut("parameters", [ep.Parameters(0.3)], certified=True),
        Cut("parameters, no floor", [ep.Parameters(0.5, floor=0.0)], "activation"),
        Cut("multiples of 16", [ep.Channels(90), ep.Lmax(1)], options={"round_to": 16}),
        Cut("radial network", [ep.RadialWidth((24,)), ep.RadialBasis(5)], certified=True),
        Cut("uneven widths", [irreps(uneven)], "random", certified=True),
        Cut("everything", every, "magnitude"),
        Cut("twice", some, then=[ep.Channels(20), ep.EdgeLmax(0)]),
        Cut("random plan"),
    ]


def mf0() -> list[Cut]:
    """Cuts of SevenNet-MF-0, which has two heads."""
    uneven = "90x0e,77x0e+31x1e+20x2e,120x0e+9x1e+32x2e,64x0e+64x1e,33x0e+40x1e+1x2e,100x0e"
    return [
        *sevennet(2, "64x0e+32x1e+16x2e", uneven),
        Cut("head PBE", [ep.Heads(("PBE",))]),
        Cut("head R2SCAN, half width", [ep.Heads(("R2SCAN",)), irreps("64x0e+32x1e+16x2e")]),
        Cut("heads in another order", [ep.Heads(("PBE", "R2SCAN")), elements("O,H")]),
    ]


def l3i5() -> list[Cut]:
    """Cuts of SevenNet-l3i5."""
    uneven = "90x0e,77x0e+31x1e+20x2e+5x3e,120x0e+9x1e+32x2e+32x3e,64x0e+64x1e+11x2e,33x0e+40x1e+1x2e+7x3e,100x0e"
    return sevennet(3, "64x0e+32x1e+16x2e", uneven)


def mace() -> list[Cut]:
    """Cuts of MACE-MP-0 small."""
    return [
        Cut("half width", [ep.Channels(64)], certified=True),
        Cut("channels", [ep.Channels(48)], "magnitude"),
        Cut("max_ell", [ep.EdgeLmax(2)]),
        Cut("max_ell by interaction", [ep.EdgeLmax((3, 1))], options={"assembled": True}),
        Cut("A-basis", [ep.BasisLmax(1)], options={"assembled": True}),
        Cut("correlation", [ep.Correlation(2)], certified=True),
        Cut("correlation by interaction", [ep.Correlation((3, 1))], options={"assembled": True}),
        Cut("interactions", [ep.Interactions(1)]),
        Cut("elements", [elements("H,O,Si,Cu")]),
        Cut("lossless", [ep.Lossless()]),
        Cut("elements, lossless", [elements("O,H"), ep.Lossless()]),
        Cut("parameters", [ep.Parameters(0.3)], certified=True),
        Cut("multiples of 16", [ep.Channels(90)], options={"round_to": 16}),
        Cut("radial network", [ep.RadialWidth((24,)), ep.RadialBasis(6)]),
        Cut("uneven widths", [irreps("96x0e,61x0e,40x0e")], "random", {"heterogeneous": True}, certified=True),
        Cut("everything", [ep.Channels(32), ep.EdgeLmax(2), ep.Correlation(2), elements("Si,O,H"), ep.RadialBasis(6)]),
        Cut("twice", [ep.Channels(64)], then=[ep.Channels(20), ep.Correlation(2)]),
        Cut("more radial functions", [ep.Channels(32)], growth=ep.GrowRadialBasis(12)),
        Cut("random plan"),
    ]


def escn() -> list[Cut]:
    """Cuts of a small random eSCN."""
    every = [ep.Lmax(2), ep.Channels(4), ep.HiddenChannels(5), ep.Interactions(2), ep.RadialWidth((3,))]
    return [
        Cut("lmax", [ep.Lmax(2)], certified=True),
        Cut("lmax 0", [ep.Lmax(0)]),
        Cut("sphere channels", [ep.Channels(4)], certified=True),
        Cut("sphere channels by weights", [ep.Channels(3)], "magnitude"),
        Cut("hidden channels", [ep.HiddenChannels(4)]),
        Cut("layers", [ep.Interactions(2)]),
        Cut("edge network", [ep.RadialWidth((3,))], "activation"),
        Cut("lossless", [ep.Lossless()]),
        Cut("lossless, lmax", [ep.Lmax(1), ep.Lossless()]),
        Cut("parameters", [ep.Parameters(0.5)], certified=True),
        Cut("by chance", [ep.Channels(4), ep.HiddenChannels(3)], "random"),
        Cut("everything", every),
        Cut("twice", [ep.Lmax(2), ep.Channels(5)], then=[ep.Channels(3), ep.Interactions(2)]),
        Cut("native grids", [ep.Lmax(2)], growth=ep.NativeGrids()),
        Cut("random plan", certified=True),
    ]


CUTS: Mapping[str, Callable[[], list[Cut]]] = {"7net-l3i5": l3i5, "7net-mf-0": mf0, "mace-mp-small": mace, "escn": escn}


def calibration_structures() -> list[Atoms]:
    """Six small structures, strained and rattled."""
    crystals = [bulk("Cu", cubic=True), bulk("Si"), bulk("NaCl", "rocksalt", a=5.6), bulk("MgO", "rocksalt", a=4.2)]
    boxed = [molecule("H2O", cell=[6.0] * 3, pbc=True), molecule("CH3OH", cell=[7.0] * 3, pbc=True)]
    generator = np.random.default_rng(0)
    for atoms in crystals:
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * generator.standard_normal((3, 3))), scale_atoms=True)
    for atoms in [*crystals, *boxed]:
        atoms.positions += 0.05 * generator.standard_normal(atoms.positions.shape)
    return [*crystals, *boxed]


def two_structures(known: frozenset[int]) -> list[Atoms]:
    """A molecule and a loose crystal of elements that a child still knows."""
    liked = [z for z in (1, 8, 14, 29, 6, 11) if z in known]
    numbers = (liked or sorted(known)) * 4
    generator = np.random.default_rng(1)
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    loose = Atoms(numbers=numbers[:4], positions=2.2 * corners, cell=[4.4, 4.5, 4.6], pbc=True)
    free = Atoms(numbers=numbers[:3], positions=[[0, 0, 0], [1.1, 0.5, 0.1], [-1.0, 0.6, -0.1]])
    for atoms in (loose, free):
        atoms.positions += 0.05 * generator.standard_normal(atoms.positions.shape)
    return [loose, free]
