"""Walks: the structures that a model reaches when it moves the atoms itself, and where it cannot go on.

The driver of a walk is the teacher, whose walks must not end early, or a student. What a student visits and its parent
never would is what it has to learn, and a student that lets atoms fly apart has shown where: its walk ends there, and
the frames before it are kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import count, islice

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from equiprune.errors import EquipruneError, StructureError
from equiprune.labelling.unlabelled import without_labels
from equiprune.structures.closeness import too_close
from equiprune.structures.sequences import Origin

CLOSEST = 0.5
"""Fraction of the sum of two covalent radii: a student's walk ends where atoms are closer. The shortest bonds,
vibrating at thousands of K, stay above 0.6 of it.
"""


class Why(Enum):
    """Why a walk ended early."""

    TOO_CLOSE = "too_close"
    FLOWN_APART = "flown_apart"
    NOT_FINITE = "not_finite"
    FAILED = "failed"


class WalkError(StructureError):
    """A walk that cannot go on."""

    def __init__(self, why: Why, said: str) -> None:
        super().__init__(said)
        self.why = why


class Walk(ABC):
    """A way to move from a structure, which stops at so many ``frames``."""

    frames: int

    @property
    @abstractmethod
    def name(self) -> str:
        """The walk in words."""

    @property
    @abstractmethod
    def flown_apart(self) -> str:
        """The message for atoms that fly apart, with what to do."""

    @abstractmethod
    def stops(self, moving: Atoms, number: int) -> Iterator[None]:
        """Move the atoms with their calculator, and stop at every frame; ``number`` is that of the start."""


@dataclass(frozen=True)
class Driver:
    """The model that moves the atoms.

    Attributes:
        calculator: its forces, and its stress where it has one.
        student: whether walks may end early, which is an error otherwise.
    """

    calculator: Calculator
    student: bool = False


@dataclass(frozen=True)
class Place:
    """A place in a stream of visits.

    Attributes:
        starts: those whose visits are all finished.
        visits: of the start after them, also counting the end of a walk.
    """

    starts: int = 0
    visits: int = 0

    @classmethod
    def after(cls, start: int, visits: int, most: int) -> Place:
        """After so many visits of a start that has at most so many."""
        return cls(start + 1) if visits == most else cls(start, visits)

    def number(self, most: int) -> int:
        """The number of the visit that ends here, where each start has at most so many."""
        return self.starts * most + self.visits - 1


BEGINNING = Place()


@dataclass(frozen=True)
class Visit:
    """A structure to be labelled.

    Attributes:
        atoms: without labels.
        origin: of its start in the file.
        start: number of the start.
        after: how far the stream is with it.
        walk: that led to it; None for the start itself.
        frame: of the walk, counted from 1.
    """

    atoms: Atoms
    origin: Origin
    start: int
    after: Place
    walk: Walk | None = None
    frame: int = 0

    def __len__(self) -> int:
        return len(self.atoms)


@dataclass(frozen=True)
class EarlyEnd:
    """The end of a walk before its last frame.

    Attributes:
        why: it ended.
        after: how far the stream is with it.
    """

    why: Why
    after: Place

    def __len__(self) -> int:
        return 0


def visited(
    structures: Iterable[Atoms],
    driver: Driver,
    walks: Sequence[Walk],
    *,
    begin: Place = BEGINNING,
    origins: Iterable[Origin] | None = None,
    first: int = 0,
) -> Iterator[Visit | EarlyEnd]:
    """Each structure without its labels, followed by the frames of each walk that starts from it.

    Starts are counted from ``first``. What comes before ``begin`` is left out, and no walk is made of which nothing
    would be left. ``origins`` are what errors say of where a structure is from; unless given, its place in
    ``structures``.

    Raises:
        StructureError: a walk of a driver that is no student ends early.
    """
    places = map(Origin, count()) if origins is None else iter(origins)
    walks = [walk for walk in walks if walk.frames]
    for number, (atoms, place) in enumerate(zip(structures, places, strict=False), first):
        if number >= begin.starts:
            skipped = begin.visits if number == begin.starts else 0
            yield from islice(_visits(without_labels(atoms), number, place, driver, walks), skipped, None)


def _visits(
    atoms: Atoms, number: int, origin: Origin, driver: Driver, walks: Sequence[Walk]
) -> Iterator[Visit | EarlyEnd]:
    most = 1 + sum(walk.frames for walk in walks)
    after = (Place.after(number, visits, most) for visits in count(1))
    yield Visit(atoms, origin, number, next(after))
    for walk in walks:
        try:
            for frame, reached in enumerate(_frames(walk, atoms, number, driver), 1):
                yield Visit(reached, origin, number, next(after), walk, frame)
        except WalkError as error:
            if not driver.student:
                raise StructureError(f"{origin.of(atoms)}: {error}") from error
            yield EarlyEnd(error.why, next(after))


def _frames(walk: Walk, start: Atoms, number: int, driver: Driver) -> Iterator[Atoms]:
    """Frames of a walk; raises `WalkError` where it cannot go on."""
    moving = start.copy()
    moving.calc = driver.calculator
    closest = CLOSEST if driver.student else 0.0
    try:
        for _ in walk.stops(moving, number):
            if why := _unsound(moving, start, closest):
                raise WalkError(why, walk.flown_apart)
            yield without_labels(moving)
    except WalkError:
        raise
    except Exception as error:  # every calculator fails in its own way
        failed = f"{walk.name} failed ({type(error).__name__}: {error})."
        said = str(error) if isinstance(error, EquipruneError) else failed
        raise WalkError(_unsound(moving, start, closest) or Why.FAILED, said) from error


def _unsound(moving: Atoms, start: Atoms, closest: float) -> Why | None:
    """Why atoms that have moved are no structure any more; None if they are one."""
    moved = np.concatenate([moving.positions - start.positions, moving.cell.array - start.cell.array])
    if not np.isfinite(moved).all():
        return Why.NOT_FINITE
    if not np.abs(moved).max() < 2 * (np.ptp(start.positions, axis=0).max() + start.cell.lengths().max() + 1):
        return Why.FLOWN_APART
    return Why.TOO_CLOSE if closest and too_close(moving, closest) else None
