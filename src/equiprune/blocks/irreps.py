"""Irreps of O(3) and SO(3), written as e3nn writes them: ``128x0e+64x1o``.

Only what pruning needs: parsing, multiplicities, dimensions, selection rules and e3nn's sorting order. Wigner matrices
and spherical harmonics stay with the backends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Self

from equiprune.errors import TargetError

_ENTRY = re.compile(r"(?:(\d+)x)?(\d+)([eo])")


@dataclass(frozen=True, order=False)
class Irrep:
    """One irreducible representation: degree ``l`` and parity ``p`` (+1 even, -1 odd).

    >>> Irrep.parse("1o").dim
    3
    >>> [str(ir) for ir in Irrep.parse("1o") * Irrep.parse("1o")]
    ['0e', '1e', '2e']
    """

    l: int
    p: int

    @classmethod
    def parse(cls, text: str) -> Irrep:
        """Read ``"2e"``; raises `TargetError` for anything else."""
        match = _ENTRY.fullmatch(text.strip())
        if match is None or match[1] is not None:
            raise TargetError(f"'{text}' is not an irrep. Write a degree and a parity, such as 0e or 1o.")
        return cls(int(match[2]), 1 if match[3] == "e" else -1)

    @property
    def dim(self) -> int:
        """2l + 1."""
        return 2 * self.l + 1

    @property
    def is_scalar(self) -> bool:
        """True for 0e, the only irrep a bias may be added to."""
        return self.l == 0 and self.p == 1

    def __mul__(self, other: Irrep) -> Iterator[Irrep]:
        """The irreps in the product, lowest l first (triangle rule)."""
        return (Irrep(l, self.p * other.p) for l in range(abs(self.l - other.l), self.l + other.l + 1))

    def sort_key(self) -> tuple[int, int]:
        """e3nn's sorting order: 0o, 0e, 1o, 1e, 2o, 2e, ..."""
        return self.l, self.p

    def __str__(self) -> str:
        return f"{self.l}{'e' if self.p == 1 else 'o'}"


@cache  # a search asks for the same few of every candidate
def _entries(text: str) -> tuple[tuple[int, Irrep], ...]:
    """Entries of ``"64x0e+32x1o"`` that are not empty."""
    entries = []
    for part in text.replace(" ", "").split("+"):
        match = _ENTRY.fullmatch(part)
        if match is None:
            raise TargetError(f"'{text}' is not a list of irreps. Write it like 64x0e+32x1e+16x2e.")
        entries.append((int(match[1] or 1), Irrep.parse(part.split("x")[-1])))
    return tuple((mul, ir) for mul, ir in entries if mul > 0)


@dataclass(frozen=True)
class Irreps:
    """Multiplicities of distinct irreps, in order.

    >>> irreps = Irreps.parse("64x0e+32x1o")
    >>> irreps.dim, irreps.channels, irreps.lmax, irreps.mul(Irrep.parse("1o"))
    (160, 96, 1, 32)
    >>> str(irreps)
    '64x0e+32x1o'
    """

    entries: tuple[tuple[int, Irrep], ...]

    def __post_init__(self) -> None:
        kinds = [ir for _, ir in self.entries]
        if len(set(kinds)) != len(kinds):
            raise TargetError(f"'{self}' names an irrep twice. Write each irrep once, with its total multiplicity.")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``"64x0e+32x1o"`` (empty entries such as ``0x2e`` are dropped); raises `TargetError`."""
        return cls(_entries(text))

    @classmethod
    def scalars(cls, mul: int) -> Self:
        """``mul`` channels of 0e: neurons, elements, radial functions."""
        return cls(((mul, Irrep(0, 1)),) if mul else ())

    @classmethod
    def spherical_harmonics(cls, lmax: int, p: int) -> Self:
        """One channel of each l up to lmax with parity p**l (p = 1 for a model without inversion)."""
        return cls(tuple((1, Irrep(l, p**l)) for l in range(lmax + 1)))

    @property
    def dim(self) -> int:
        """Length of one feature vector."""
        return sum(mul * ir.dim for mul, ir in self.entries)

    @property
    def channels(self) -> int:
        """Number of blocks."""
        return sum(mul for mul, _ in self.entries)

    @property
    def lmax(self) -> int:
        """Largest l, -1 when empty."""
        return max((ir.l for _, ir in self.entries), default=-1)

    def mul(self, irrep: Irrep) -> int:
        """Multiplicity of one irrep, 0 when absent."""
        return next((mul for mul, ir in self.entries if ir == irrep), 0)

    def slices(self) -> Iterator[tuple[int, Irrep, slice]]:
        """(mul, irrep, columns of a feature vector) for every entry."""
        start = 0
        for mul, ir in self.entries:
            yield mul, ir, slice(start, start + mul * ir.dim)
            start += mul * ir.dim

    def __iter__(self) -> Iterator[tuple[int, Irrep]]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __str__(self) -> str:
        return "+".join(f"{mul}x{ir}" for mul, ir in self.entries)
