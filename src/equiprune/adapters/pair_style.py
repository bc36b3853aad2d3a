"""Pair styles: what LAMMPS and its user have to be told so that LAMMPS evaluates an exported model."""

from __future__ import annotations

from dataclasses import dataclass

ON_A_GPU = "lmp -k on g 1 -sf kk -pk kokkos newton on neigh half"
"""LAMMPS with Kokkos on one GPU, as the ML-IAP interfaces of upstream packages are run."""


@dataclass(frozen=True)
class PairStyle:
    """A way in which LAMMPS evaluates a model; one line each, without the elements.

    >>> style = PairStyle("one process", "convert small.pth", "e3gnn", ("small.pt",))
    >>> style.lines(["Li", "S"])
    ('pair_style  e3gnn', 'pair_coeff  * * small.pt Li S')

    Attributes:
        use: words for where it is used.
        prepare: command line that makes its file from the exported one, run once.
        style: what follows ``pair_style``.
        coefficients: what follows ``pair_coeff * *``, before the elements.
        settings: commands of LAMMPS that it needs before atoms are read.
        program: command line that starts LAMMPS, before the script.
    """

    use: str
    prepare: str
    style: str
    coefficients: tuple[str, ...] = ()
    settings: tuple[str, ...] = ("newton      on",)
    program: str = "lmp"

    def lines(self, symbols: list[str]) -> tuple[str, str]:
        """The commands, for atoms whose types are these elements."""
        return f"pair_style  {self.style}", " ".join(["pair_coeff  * *", *self.coefficients, *symbols])
