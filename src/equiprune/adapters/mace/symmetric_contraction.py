"""Paths of MACE's product basis, counted and named without e3nn.

The contraction for one output irrep and order nu has a weight per element, path and channel, and a constant tensor U
whose last axis lists the paths: every way to couple nu inputs, one after another, to the output (mace/tools/cg.py,
``U_matrix_real`` in the full basis, ``use_cueq_cg=False``). A path is named by its inputs and intermediate irreps, so
that removing an l of the A-basis removes exactly the paths that name it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from equiprune.blocks import Irrep

_FILTERED_ORDER = 4
"""At this order upstream keeps only intermediate irreps of natural parity, to save memory."""


def coupling_paths(inputs: Sequence[Irrep], output: Irrep, order: int) -> tuple[str, ...]:
    """Names of the paths, in the order of U's last axis; empty where the inputs cannot couple to the output.

    >>> sh = [Irrep(l, (-1) ** l) for l in range(4)]
    >>> [len(coupling_paths(sh, Irrep(0, 1), nu)) for nu in (1, 2, 3)]
    [1, 4, 23]
    >>> coupling_paths(sh[:2], Irrep(0, 1), 2)
    ('0e*0e>0e', '1o*1o>0e')
    """
    return tuple(name for ir, name in _couplings(tuple(inputs), order, order == _FILTERED_ORDER) if ir == output)


@cache
def _couplings(inputs: tuple[Irrep, ...], order: int, natural: bool) -> tuple[tuple[Irrep, str], ...]:
    if order == 1:
        return tuple((ir, str(ir)) for ir in inputs)
    found = [
        (result, f"{name}*{right}>{result}")
        for left, name in _couplings(inputs, order - 1, natural)
        for right in inputs
        for result in left * right
        if not natural or result.p == (-1) ** result.l
    ]
    return tuple(sorted(found, key=lambda coupling: coupling[0].sort_key()))
