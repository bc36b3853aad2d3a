"""Many small periodic structures at once on one device: neighbours, energies, forces, stress and per-atom energies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from equiprune import AtomicGraph
from equiprune.adapters.e3nn.fused_gradients import quicker_gradients
from equiprune.adapters.sevennet import SevenNetAdapter
from equiprune.potentials.derivatives import differentiated
from equiprune.potentials.potential import Potential

ENGINES = ("cueq", "oeq", "e3nn")
"""Implementations of SevenNet's convolution: cuEquivariance, OpenEquivariance, and e3nn, which runs everywhere.

``equiprune`` stands for code of its own, for a CPU, wherever an engine is asked for by name.
"""


torch.jit.set_fusion_strategy([("DYNAMIC", 3)])
# Or e3nn's TorchScript would be compiled again for every new number of edges.


@dataclass(frozen=True)
class Crystals:
    """Periodic structures one after another.

    =========  ==================  ==========================
    field      shape               unit
    =========  ==================  ==========================
    numbers    (atoms,)            atomic numbers
    positions  (atoms, 3)          Angstrom
    cells      (structures, 3, 3)  Angstrom, vectors in rows
    sizes      (structures,)       atoms of each structure
    =========  ==================  ==========================
    """

    numbers: Tensor
    positions: Tensor
    cells: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, structures: Sequence[Atoms], device: torch.device | str, dtype: torch.dtype) -> Crystals:
        """Structures that are periodic in three dimensions."""
        return cls(
            torch.as_tensor(np.concatenate([atoms.numbers for atoms in structures])).to(device),
            torch.as_tensor(np.concatenate([atoms.positions for atoms in structures])).to(device, dtype),
            torch.as_tensor(np.stack([atoms.cell.array for atoms in structures])).to(device, dtype),
            torch.tensor([len(atoms) for atoms in structures], device=device),
        )

    @property
    def owner(self) -> Tensor:
        """The structure of every atom, (atoms,)."""
        return torch.repeat_interleave(torch.arange(len(self.sizes), device=self.sizes.device), self.sizes)

    @property
    def wrapped(self) -> Tensor:
        """Positions inside their cells, (atoms, 3)."""
        fractional = torch.einsum("ai,aij->aj", self.positions, torch.linalg.inv(self.cells)[self.owner])
        return torch.einsum("ai,aij->aj", fractional - fractional.floor(), self.cells[self.owner])

    def to(self, device: torch.device | str) -> Crystals:
        """The same elsewhere."""
        return Crystals(*(getattr(self, field.name).to(device) for field in fields(self)))


def graph(crystals: Crystals, cutoff: float) -> AtomicGraph:
    """All pairs within ``cutoff``, found by trying every image that can be so near."""
    positions, owner, device = crystals.wrapped, crystals.owner, crystals.positions.device
    counts = _image_counts(crystals.cells, cutoff)
    images = (2 * counts + 1).prod(1)
    pairs = crystals.sizes**2 * images
    structure = torch.repeat_interleave(torch.arange(len(pairs), device=device), pairs)
    number = torch.arange(len(structure), device=device) - (pairs.cumsum(0) - pairs)[structure]
    size, first = crystals.sizes[structure], (crystals.sizes.cumsum(0) - crystals.sizes)[structure]
    atom, image = number // images[structure], number % images[structure]
    centre, neighbour = first + atom // size, first + atom % size
    steps = _image(image, counts[structure])
    shifts = torch.einsum("pi,pij->pj", steps.to(positions.dtype), crystals.cells[structure])
    vectors = positions[neighbour] - positions[centre] + shifts
    lengths = vectors.square().sum(1)
    near = (lengths < cutoff**2) & (lengths > 1e-8)
    return AtomicGraph(
        numbers=crystals.numbers,
        positions=positions,
        strain=torch.zeros_like(crystals.cells),
        edge_index=torch.stack([centre[near], neighbour[near]]),
        shifts=shifts[near],
        structure_of_atom=owner,
        volume=torch.linalg.det(crystals.cells).abs(),
        global_inputs=positions.new_zeros(len(crystals.cells), 0),
    )


@dataclass(frozen=True)
class Edges:
    """Edges of structures one after another, in seven bytes each.

    ``pairs`` (2, edges) int16, numbers of the two atoms within their structure; ``images`` (edges, 3) int8, steps to
    the neighbour's cell; ``counts`` (structures,).
    """

    pairs: Tensor
    images: Tensor
    counts: Tensor

    def to(self, device: torch.device | str) -> Edges:
        """The same elsewhere."""
        return Edges(*(getattr(self, field.name).to(device) for field in fields(self)))

    @classmethod
    def of(cls, found: AtomicGraph, cells: Tensor, which: Tensor) -> Edges:
        """Those of the chosen structures of a graph; ``which`` (structures,) is true for these."""
        atoms = torch.bincount(found.structure_of_atom, minlength=len(cells))
        owner = found.structure_of_edge
        order = owner.argsort(stable=True)
        order = order[which[owner[order]]]
        owner = owner[order]
        steps = torch.einsum("ei,eij->ej", found.shifts[order], torch.linalg.inv(cells)[owner]).round()
        pairs = found.edge_index[:, order] - (atoms.cumsum(0) - atoms)[owner]
        counts = torch.bincount(owner, minlength=len(cells))[which]
        return cls(pairs.to(torch.int16), steps.to(torch.int8), counts)

    def within(self, cutoff: float, crystals: Crystals) -> Edges:
        """Those no longer than a cutoff in Angstrom; ``crystals`` are the structures of these edges."""
        owner = torch.repeat_interleave(torch.arange(len(self.counts), device=self.counts.device), self.counts)
        first, second = self.pairs.long() + (crystals.sizes.cumsum(0) - crystals.sizes)[owner]
        shifts = torch.einsum("ei,eij->ej", self.images.to(crystals.cells.dtype), crystals.cells[owner])
        near = (crystals.positions[second] - crystals.positions[first] + shifts).norm(dim=1) <= cutoff
        counts = torch.bincount(owner[near], minlength=len(self.counts))
        return Edges(self.pairs[:, near], self.images[near], counts)

    @classmethod
    def joined(cls, parts: Sequence[Edges]) -> Edges:
        """All in one."""
        pairs, images, counts = ([getattr(part, field.name) for part in parts] for field in fields(cls))
        return cls(torch.cat(pairs, 1), torch.cat(images), torch.cat(counts))


def _image_counts(cells: Tensor, cutoff: float) -> Tensor:
    """Cells to look at on either side, (structures, 3), for positions inside the home cell."""
    heights = 1 / torch.linalg.inv(cells).norm(dim=1)
    return (cutoff / heights + 1).floor().long()


def _image(number: Tensor, counts: Tensor) -> Tensor:
    """The ``number``-th image as steps along the cell vectors, (pairs, 3)."""
    widths = 2 * counts + 1
    c = number % widths[:, 2]
    b = number // widths[:, 2] % widths[:, 1]
    a = number // (widths[:, 2] * widths[:, 1])
    return torch.stack([a, b, c], 1) - counts


class EngineAdapter(SevenNetAdapter):
    """SevenNet with the convolution of one of `ENGINES`; weights are those of the stock model.

    ``plain`` modules are Python without TorchScript, with e3nn's code rearranged for gradients: what a recorded
    training step needs, for which Python's time does not count.
    """

    def __init__(self, engine: str, *, plain: bool = False) -> None:
        self.engine, self.plain = engine, plain

    def build(self, architecture: Any, dtype: torch.dtype) -> torch.nn.Module:
        from sevenn.model_build import build_E3_equivariant_model

        from equiprune.adapters.sevennet.architecture import to_config
        from equiprune.adapters.sevennet.build import upstream_defaults

        config = dict(to_config(architecture))
        config |= {"use_oeq": self.engine == "oeq", "cuequivariance_config": {"use": self.engine == "cueq"}}
        with upstream_defaults(dtype), _plain() if self.plain else nullcontext():
            module = build_E3_equivariant_model(config)
        convolution = type(module.get_submodule("1_convolution")).__name__
        if (convolution == "IrrepsConvolution") != (self.engine == "e3nn"):
            raise RuntimeError(f"{self.engine} was asked for, and sevenn built {convolution}.")
        return module.to(dtype)

    def build_for_evaluation(self, architecture: Any, dtype: torch.dtype, /) -> torch.nn.Module:
        """The same: code of the engine, and none of equiprune's own for a CPU."""
        return self.build(architecture, dtype)


@contextmanager
def _plain() -> Iterator[None]:
    from e3nn import get_optimization_defaults, set_optimization_defaults

    before = get_optimization_defaults()
    set_optimization_defaults(jit_script_fx=False)
    try:
        with quicker_gradients():
            yield
    finally:
        set_optimization_defaults(**before)


def with_engine(
    potential: Potential, engine: str, device: torch.device | str, dtype: torch.dtype, *, plain: bool = False
) -> Potential:
    """The same weights in modules of an engine, for evaluation and for training."""
    if engine == "equiprune":
        return potential.with_dtype(dtype).on(device)
    return Potential.create(EngineAdapter(engine, plain=plain), potential.checkpoint, dtype, potential.head, device)


@dataclass(frozen=True)
class Outputs:
    """Outputs of a batch.

    Total energies (structures,) and energies of atoms (atoms,), eV; forces (atoms, 3), eV/Angstrom; stress
    (structures, 3, 3), eV/Angstrom^3.
    """

    energy: Tensor
    atomic_energy: Tensor
    forces: Tensor
    stress: Tensor


def evaluate(potential: Potential, of: AtomicGraph, *, training: bool = False) -> Outputs:
    """All outputs; differentiable in the weights if ``training``."""
    found = differentiated(potential.evaluate, of, create_graph=training)
    # Energies of float32 models are added up in float64, and labels are learnt in one precision.
    return Outputs(found.energies.to(of.positions.dtype), found.atom_energies, found.forces, found.stress)
