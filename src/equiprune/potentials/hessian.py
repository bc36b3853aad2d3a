"""Second derivatives of the energy: products of the Hessian with probe vectors.

The Hessian H = d2E/dr2 = -dF/dr of N atoms has 3N x 3N numbers, in eV/Angstrom^2. A product H v needs one backward pass
through the forces and none of the other numbers. Structures of a batch do not interact, so one backward pass serves one
vector of every structure at once (the trick of ASK-Berkeley/MLFF-distill).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms

from equiprune.errors import StructureError, TargetError
from equiprune.files.settings import kind
from equiprune.potentials.potential import Potential, check_predicted
from equiprune.structures.batching import located_batches
from equiprune.structures.graph import AtomicGraph
from equiprune.structures.sequences import Origin


@dataclass(frozen=True)
class Probes(ABC):
    """Vectors to multiply Hessians by.

    Attributes:
        count: vectors per structure.
        seed: of their choice.
    """

    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise TargetError(f"{self.count} vectors per structure are not possible: give 1 or more.")

    def draw(self, atoms: int, structure: int) -> np.ndarray:
        """Vectors for the structure of this number in a data set: (vectors, atoms, 3), each of length 1."""
        return self._draw(3 * atoms, np.random.default_rng([self.seed, structure])).reshape(-1, atoms, 3)

    @abstractmethod
    def _draw(self, size: int, generator: np.random.Generator) -> np.ndarray:
        """Shape (vectors, size)."""


@kind("rows", "Rows")
@dataclass(frozen=True)
class Rows(Probes):
    """Rows of the Hessian, each at most once; all of them where there are no more than ``count``.

    A row belongs to one coordinate of one atom: the probe is 1 there and 0 elsewhere (table 8 of arXiv:2605.08885).

    >>> Rows(2).draw(atoms=1, structure=0)
    array([[[0., 0., 1.]],
    <BLANKLINE>
           [[1., 0., 0.]]])
    """

    def _draw(self, size: int, generator: np.random.Generator) -> np.ndarray:
        chosen = generator.permutation(size)[: self.count]
        rows = np.zeros((len(chosen), size))
        rows[np.arange(len(chosen)), chosen] = 1
        return rows


@kind("random_probes", "RandomProbes")
@dataclass(frozen=True)
class RandomProbes(Probes):
    """Vectors of length 1 in random directions, each of which sees all of the Hessian (arXiv:2603.04523).

    As for a random row, the mean of v v^T is 1/(3N): the mean of |A v|^2 is the same for both, whatever A is.
    """

    def _draw(self, size: int, generator: np.random.Generator) -> np.ndarray:
        vectors = generator.standard_normal((self.count, size))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def hessian_vector_products(
    potential: Potential,
    structures: Sequence[Atoms],
    vectors: Sequence[np.ndarray],
    batch_atoms: int = 256,
    origins: Sequence[Origin] | None = None,
) -> list[np.ndarray]:
    """H v in eV/Angstrom^2, computed in the potential's own precision; shaped as the vectors.

    Args:
        potential: any; a masked one too.
        structures: to evaluate.
        vectors: for each structure, (vectors, atoms, 3); their numbers may differ.
        batch_atoms: evaluated at once.
        origins: where the structures are from, for errors; unless given, their places in ``structures``.

    Raises:
        StructureError: vectors of another shape, unknown elements.
        TargetError: forces are an output of their own, so there is no energy surface to have a Hessian.
    """
    check_predicted(potential, ["hessian"])
    for atoms, given in zip(structures, vectors, strict=True):
        if given.ndim != 3 or given.shape[1:] != (len(atoms), 3):
            raise StructureError(
                f"Vectors for {atoms.get_chemical_formula()} are (vectors, {len(atoms)}, 3), not {given.shape}."
            )
    found: list[np.ndarray] = []
    for places, batch in located_batches(structures, batch_atoms, origins):
        its = vectors[len(found) : len(found) + len(batch)]
        together = _of_a_batch(potential, potential.graph(batch, places), pad_and_concatenate(its))
        ends = np.cumsum([len(atoms) for atoms in batch])[:-1]
        found += [part[: len(v)] for part, v in zip(np.split(together, ends, axis=1), its, strict=True)]
    return found


def _of_a_batch(potential: Potential, graph: AtomicGraph, vectors: np.ndarray) -> np.ndarray:
    probes = torch.as_tensor(vectors, dtype=potential.dtype, device=potential.device)
    return potential.differentiate(graph, vectors=probes).hessian.detach().double().cpu().numpy()


def hessian(potential: Potential, atoms: Atoms) -> np.ndarray:
    """The whole Hessian of a structure, (3 atoms, 3 atoms) eV/Angstrom^2: 3 backward passes per atom.

    >>> import equiprune as ep
    >>> H = hessian(ep.load("toy", dtype=torch.float64), Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.2]]))
    >>> H.shape, bool(abs(H - H.T).max() < 1e-9)
    ((6, 6), True)
    """
    size = 3 * len(atoms)
    [rows] = hessian_vector_products(potential, [atoms], [np.eye(size).reshape(size, -1, 3)])
    return rows.reshape(size, size)


def pad_and_concatenate(arrays: Sequence[np.ndarray], fill: float = 0.0) -> np.ndarray:
    """Arrays (vectors, atoms, 3) of the structures of a batch as one, with the most vectors and all atoms.

    >>> pad_and_concatenate([np.ones((1, 1, 3)), np.ones((2, 1, 3))])[:, :, 0]
    array([[1., 1.],
           [0., 1.]])
    """
    most = max(map(len, arrays), default=0)
    filled = [np.pad(array, ((0, most - len(array)), (0, 0), (0, 0)), constant_values=fill) for array in arrays]
    return np.concatenate(filled, axis=1)
