"""Comparisons that laws are made of; each names the values that are too far apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from ase import Atoms
from torch import Tensor

from equiprune.potentials.potential import Potential
from equiprune.verification.certificate import LIMITS
from equiprune.verification.physics import compare, equivariance, finite_difference


def assert_within_limits(values: Mapping[str, float], potential: Potential, law: str) -> None:
    """Raise `AssertionError` naming the law and what is beyond `equiprune.verification.certificate.LIMITS`."""
    beyond = {name: value for name, value in values.items() if not value <= LIMITS[name]}
    if beyond:
        allowed = {name: LIMITS[name] for name in beyond}
        raise AssertionError(f"{law}: {potential.checkpoint.source}: {beyond} beyond the limits {allowed}")


def assert_equivariant(
    potential: Potential, structures: Sequence[Atoms], law: str = "predictions depend on the frame"
) -> None:
    """Rotations, inversion where the architecture claims it, permutations and translations, in float64.

    Raises:
        AssertionError: energies or forces change by more than `equiprune.verification.certificate.LIMITS` allow.
    """
    assert_within_limits(equivariance(potential.with_dtype(torch.float64), structures), potential, law)


def assert_forces_are_gradients(
    potential: Potential, structures: Sequence[Atoms], law: str = "forces are no gradients of the energy"
) -> None:
    """Forces, and the stress of structures periodic in 3-D, against finite differences of the energy in float64.

    Raises:
        AssertionError: they differ by more than `equiprune.verification.certificate.LIMITS` allow.
    """
    potential = potential.with_dtype(torch.float64)
    for atoms in structures:
        values = finite_difference(potential, [atoms])
        if not atoms.pbc.all():
            del values["finite_difference.stress"]
        assert_within_limits(values, potential, law)


def assert_same_predictions(
    a: Potential, b: Potential, structures: Sequence[Atoms], law: str = "predictions differ"
) -> None:
    """Energies, forces and stress of two potentials agree to rounding.

    Raises:
        AssertionError: they differ by more than `equiprune.verification.certificate.LIMITS` allow.
    """
    assert_within_limits(compare(a, b, structures, "masked_vs_sliced"), b, law)


def different_bits(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors that are only in one, or not the same bit by bit."""
    return sorted(n for n in a.keys() | b.keys() if n not in a or n not in b or not _same_bits(a[n], b[n]))


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num()) and torch.equal(a.isnan(), b.isnan())
