"""Gains: one factor for each channel that a linear map makes, so that energies and their changes are right.

Maps that are fitted one after another make features right. What is left of their errors shrinks what comes after, and
forces end up too small. Here factors 1 + g on the channels of all maps at once are fitted to what counts in the end, by
one Gauss-Newton step for g: energies of structures and their changes along random steps of all atoms and a random
strain, which are forces and stress. The gradient of an energy in g takes one backward pass, for all structures of a
batch at once, since each has factors of its own in it.

There are a few times as many rows as gains at most, so much hangs on the ridge. It is chosen in the model itself, which
is not linear in g: by how much the gains of three folds help on the fourth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from equiprune.adapters.capabilities import Weights
from equiprune.blocks import LinearMap
from equiprune.blocks.layout import axis_size
from equiprune.blocks.linear_map import channels, mixings, spread
from equiprune.potentials.observing import multiplied
from equiprune.potentials.potential import Potential
from equiprune.pruning.displacing import STEP
from equiprune.pruning.least_squares import ridge_solution
from equiprune.pruning.parent_view import Change, maps_of

RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Ridges that are tried, relative to the mean square of a row."""
_LOOKED_AT = 200
"""Changes of the fold that a ridge is judged on."""

Gains = Mapping[str, Tensor]
"""By submodule: the gain of each channel of its result, (channels,) or (structures, channels)."""


def fitted_gains(child: Potential, changes: Sequence[Change]) -> Gains:
    """Gains that bring energies and their changes nearest to the parent's; none where no ridge helps.

    Args:
        child: in float32.
        changes: energies of the parent.
    """
    maps = scalable_maps(child)
    if not maps:
        return {}
    rows = _Rows.total([_rows(child, maps, change) for change in changes])
    judged = [change for change in changes if change.fold == 0]
    judged = judged[:: max(1, sum(len(change.weights) for change in judged) // _LOOKED_AT)]
    rest = rows.of(rows.folds != 0)
    left = {ridge: _left(child, maps, rest.solved(ridge), judged, rows.sizes) for ridge in RIDGES}
    best = min(left, key=left.__getitem__)
    if not left[best] < _left(child, maps, torch.zeros_like(rest.x[0]), judged, rows.sizes):
        return {}
    return _by_module(maps, rows.solved(best))


def with_gains(child: Potential, weights: Weights, gains: Gains) -> Weights:
    """Weights of the same model with gains absorbed, exactly.

    Args:
        child: the model, for its layouts.
        weights: its weights, in the precision that is wanted.
        gains: (channels,) by submodule; submodules without stay as they are.
    """
    layouts, maps, changed = child.adapter.layouts(child.architecture), scalable_maps(child), dict(weights)
    for module, factor in factors_of(maps, gains).items():
        weight, layout = maps[module].weight, layouts[maps[module].weight]
        blocks = layout.split(changed[weight])
        for mixing in mixings(maps[module], layout):
            of_channels = factor[mixing.columns][:: mixing.dim]
            for path, _ in mixing.sources:
                blocks[path.key] = blocks[path.key] * of_channels.to(blocks[path.key])
        changed[weight] = layout.join(blocks)
    return changed


def scalable_maps(child: Potential) -> Mapping[str, LinearMap]:
    """Maps that can have gains, by submodule: those without a bias, the last ones where one alone reads another."""
    last = [linear.last for group in maps_of(child) for linear in group]
    biases = {name for name, parameter in child.module.named_parameters() if parameter.numel()}
    return {linear.module: linear for linear in last if f"{linear.module}.bias" not in biases}


def factors_of(maps: Mapping[str, LinearMap], gains: Gains) -> Mapping[str, Tensor]:
    """Factors 1 + g on the results of submodules, (columns,) or (structures, columns)."""
    return {
        module: (1 + gain)[..., _channel_of_columns(maps[module]).to(gain.device)] for module, gain in gains.items()
    }


def _channel_of_columns(linear: LinearMap) -> Tensor:
    """Channel of each column of a map's results, (columns,)."""
    found, start = [], 0
    for ir, axis, _ in spread(linear.outputs):
        mul = axis_size(axis)
        found.append((start + torch.arange(mul)).repeat_interleave(ir.dim))
        start += mul
    return torch.cat(found)


def _by_module(maps: Mapping[str, LinearMap], gains: Tensor) -> Gains:
    """Gains of all maps one after another, (..., gains), by map."""
    return dict(zip(maps, gains.split([channels(linear.outputs) for linear in maps.values()], dim=-1), strict=True))


@dataclass(frozen=True)
class _Rows:
    """Equations for gains: the gradient of an energy or of its change, and what the parent has more of it.

    ========  ==============  =======================================================
    field     shape           meaning
    ========  ==============  =======================================================
    x         (rows, gains)   gradients, eV/atom or eV/Angstrom
    y         (rows,)         what is missing, in the same unit
    weights   (rows,)         how much each counts
    changes   (rows,)         whether it is of a change
    folds     (rows,)         fold of its structure
    ========  ==============  =======================================================
    """

    x: Tensor
    y: Tensor
    weights: Tensor
    changes: Tensor
    folds: Tensor

    @classmethod
    def total(cls, rows: Sequence[_Rows]) -> _Rows:
        """All rows."""
        return cls(*(torch.cat([getattr(one, name) for one in rows]) for name in cls.__annotations__))

    def of(self, chosen: Tensor) -> _Rows:
        """Some of the rows."""
        return _Rows(*(getattr(self, name)[chosen] for name in self.__annotations__))

    @cached_property
    def sizes(self) -> tuple[Tensor, Tensor]:
        """Sums of squares of what is missing, of energies and of changes, so that both can be counted alike."""
        squares = self.weights * self.y.square()
        energies, changes = squares[~self.changes].sum(), squares[self.changes].sum()
        return energies.clamp(min=torch.finfo(self.y.dtype).tiny), changes.clamp(min=torch.finfo(self.y.dtype).tiny)

    def solved(self, ridge: float) -> Tensor:
        """Gains (gains,)."""
        by = (self.weights / torch.where(self.changes, self.sizes[1], self.sizes[0])).sqrt()
        return ridge_solution(by[:, None] * self.x, by * self.y, ridge)


def _rows(child: Potential, maps: Mapping[str, LinearMap], change: Change) -> _Rows:
    """Two equations of each structure, of its energy and of its change."""
    graph, structures = change.graph, change.graph.n_structures
    number = sum(channels(linear.outputs) for linear in maps.values())
    gains = torch.zeros(structures, number, dtype=child.dtype, device=child.device)
    energies, gradient = _with_gradient(child, maps, change, gains.requires_grad_())
    atoms = torch.bincount(graph.structure_of_atom, minlength=structures)[: structures // 2].double()
    missing = _energy_and_change(change.energies - energies, atoms)
    x, y = _energy_and_change(gradient.double(), atoms[:, None]), missing
    is_change = torch.arange(len(y), device=y.device) >= len(atoms)
    return _Rows(x, y, change.weights.repeat(2), is_change, torch.full_like(is_change, change.fold, dtype=torch.long))


def _with_gradient(
    child: Potential, maps: Mapping[str, LinearMap], change: Change, gains: Tensor
) -> tuple[Tensor, Tensor]:
    """Energies of structures in eV, and the gradient of each in the gains of its own (structures, gains)."""
    with torch.enable_grad():
        energies = _energies(child, maps, change, gains)
        (gradient,) = torch.autograd.grad(energies.sum(), gains)
    return energies.detach(), gradient


def _energies(child: Potential, maps: Mapping[str, LinearMap], change: Change, gains: Tensor) -> Tensor:
    """Energies with gains of all structures (gains,) or of each (structures, gains)."""
    of_atoms = gains[change.graph.structure_of_atom] if gains.ndim == 2 else gains
    with multiplied(child, factors_of(maps, _by_module(maps, of_atoms))):
        return change.graph.summed(child.evaluate(change.graph).atom_energies)


def _energy_and_change(values: Tensor, atoms: Tensor) -> Tensor:
    """Energy per atom, then its change over the length of the step, of values (2 * structures, ...) in eV."""
    forward, back = values.chunk(2)
    return torch.cat([(forward + back) / (2 * atoms), (forward - back) / (STEP * (3 * atoms).sqrt())])


def _left(
    child: Potential,
    maps: Mapping[str, LinearMap],
    gains: Tensor,
    changes: Sequence[Change],
    sizes: tuple[Tensor, Tensor],
) -> float:
    """The sum of squares that is missing with gains, energies and changes counted alike; infinite if not finite."""
    total = 0.0
    for change in changes:
        with torch.no_grad():
            energies = _energies(child, maps, change, gains.to(child.dtype))
        atoms = torch.bincount(change.graph.structure_of_atom)[: len(change.weights)].double()
        squares = change.weights.repeat(2) * _energy_and_change(change.energies - energies, atoms).square()
        total += float(sum(part.sum() / size for part, size in zip(squares.chunk(2), sizes, strict=True)))
    return total if total < float("inf") else float("inf")
