"""Products of a teacher's Hessian as labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count, tee

import numpy as np
from ase import Atoms

from equiprune.errors import StructureError
from equiprune.potentials.hessian import Probes, hessian_vector_products
from equiprune.potentials.potential import Potential
from equiprune.structures.batching import located_batches
from equiprune.structures.labels import HessianProducts
from equiprune.structures.sequences import Origin


def with_products(
    teacher: Potential,
    structures: Iterable[Atoms],
    probes: Probes,
    *,
    batch_atoms: int = 256,
    numbers: Iterable[int] | None = None,
    origins: Iterable[Origin] | None = None,
) -> Iterator[Atoms]:
    """The structures, with the labels they have, and products of the teacher's Hessian (eV/Angstrom^2).

    Computed in the teacher's precision. What is drawn for a structure depends on nothing but the probes, its size and
    its number, which is its place among the others unless given. ``origins`` are what errors say of where a structure
    is from; unless given, that number.

    Raises:
        StructureError: unknown elements, or a product that is not finite.
    """
    given, named = tee(count() if numbers is None else numbers)
    for places, batch in located_batches(structures, batch_atoms, map(Origin, named) if origins is None else origins):
        vectors = [probes.draw(len(atoms), number) for atoms, number in zip(batch, given, strict=False)]
        found = hessian_vector_products(teacher, batch, vectors, batch_atoms, places)
        for atoms, place, its, product in zip(batch, places, vectors, found, strict=True):
            if not np.isfinite(product).all():
                raise StructureError(f"{place.of(atoms)}: the teacher's Hessian is not finite.")
            yield HessianProducts(its, product).on(atoms)
