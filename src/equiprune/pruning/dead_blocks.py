"""Blocks whose contribution is zero: they can go without changing anything.

The argument needs weights only. A block is dead when everything that produces it is zero (and its activation maps zero
to zero), or when everything that reads it is zero, or when nothing reads it. Zero means below `NEGLIGIBLE`: trained
models have whole blocks that weight decay has driven to 1e-100. One block may occur several times in the weights
(``Segment.use``):

* a *producing* use (the feature itself, its gate): zero producers in any one of them make the block zero;
* a *reading* use (a linear map, a tensor-product path): dead when its readers are zero, or when the factor that
  multiplies it (the radial network's columns of that path) is; the block is dead when all its reading uses are.

Removing dead blocks can leave others without readers, so the search repeats until nothing more is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from equiprune.adapters import Checkpoint, ModelAdapter
from equiprune.blocks import (
    Axis,
    BlockMask,
    FeatureSpace,
    Irrep,
    Irreps,
    PruningPlan,
    Segment,
    WeightLayout,
    widened_together,
)
from equiprune.blocks.layout import EVERY_L, spans
from equiprune.blocks.rules import with_at_least

NEGLIGIBLE = float(np.finfo(np.float32).tiny)
"""Smallest normal number of single precision, 1.2e-38: models that run in it cannot hold a smaller weight."""

_Block = tuple[str, Irrep]


@dataclass
class _Evidence:
    """Largest absolute weight seen for each channel of one use, by role in the weight."""

    produced: np.ndarray | None = None
    read: np.ndarray | None = None


def dead_blocks(adapter: ModelAdapter, checkpoint: Checkpoint) -> Mapping[str, Mapping[Irrep, tuple[int, ...]]]:
    """Space name to irrep to channels that contribute exactly nothing; spaces without any are left out."""
    layouts = adapter.layouts(checkpoint.architecture)
    candidates = [s for s in adapter.spaces(checkpoint.architecture) if s.scored and not s.normalised]
    magnitudes = {name: np.abs(checkpoint.weights[name].detach().double().cpu().numpy()) for name in layouts}
    dead: dict[str, dict[Irrep, tuple[int, ...]]] = {}
    while True:
        evidence = _evidence(layouts, magnitudes, dead)
        found = {space.name: _dead_channels(space, evidence) for space in candidates}
        found = {name: channels for name, channels in found.items() if any(channels.values())}
        if found == dead:
            return {name: {ir: c for ir, c in channels.items() if c} for name, channels in dead.items()}
        dead = found


def lossless_plan(adapter: ModelAdapter, checkpoint: Checkpoint, round_to: int = 1) -> PruningPlan:
    """Remove dead blocks, except those that the rules of their spaces ask for.

    Spaces that must keep equally many channels keep some dead ones to stay equal; one channel set for all l keeps a
    channel that is alive for any l, and drops an l that is dead for every channel. Of hidden features a multiple of
    ``round_to`` is kept, filled up with dead ones.
    """
    dead = dead_blocks(adapter, checkpoint)
    spaces = [space for space in adapter.spaces(checkpoint.architecture) if space.scored]
    alive = widened_together(spaces, {space.name: _alive(space, dead.get(space.name, {})) for space in spaces})
    if round_to > 1:
        filled = {s.name: _filled_up(alive[s.name], round_to) for s in spaces if s.role.hidden}
        alive = widened_together(spaces, alive | filled)
    return PruningPlan(alive)


def _alive(space: FeatureSpace, dead: Mapping[Irrep, tuple[int, ...]]) -> BlockMask:
    alive = {ir: [c for c in range(mul) if c not in dead.get(ir, ())] for mul, ir in space.irreps}
    return BlockMask.keep(space.irreps, alive)


def _filled_up(mask: BlockMask, step: int) -> BlockMask:
    """The mask with as many more channels as make a multiple of ``step`` of each irrep that it keeps."""
    return with_at_least(mask, {ir: -(-len(mask.of(ir)) // step) * step for _, ir in mask.irreps})


def _evidence(
    layouts: Mapping[str, WeightLayout],
    magnitudes: Mapping[str, np.ndarray],
    dead: Mapping[str, Mapping[Irrep, tuple[int, ...]]],
) -> dict[tuple[_Block, str], _Evidence]:
    """Per (block, use), how large the weights producing and reading each channel are, dead blocks counted as zero."""
    evidence: dict[tuple[_Block, str], _Evidence] = {}
    for name, layout in layouts.items():
        blocks = layout.split(magnitudes[name])
        for path in layout.paths:
            if layout.buffer or (len(path.axes) == 1 and not path.key):
                continue  # an element-wise constant (shift, basis frequency) produces nothing
            dense = blocks[path.key].copy()
            _silence(dense, path.axes, dead)
            for dim, axis in enumerate(path.axes):
                largest = dense.max(axis=tuple(d for d in range(dense.ndim) if d != dim))
                for segment, where in spans(axis):
                    if not segment.space:
                        continue  # no block
                    entry = evidence.setdefault(((segment.space, segment.irrep), segment.effect), _Evidence())
                    side = "produced" if path.produces(dim) else "read"
                    earlier = getattr(entry, side)
                    values = largest[where]
                    setattr(entry, side, values if earlier is None else np.maximum(earlier, values))
    return evidence


def _silence(dense: np.ndarray, axes: tuple[Axis, ...], dead: Mapping[str, Mapping[Irrep, tuple[int, ...]]]) -> None:
    """Set to zero what belongs to blocks already known dead."""
    for dim, axis in enumerate(axes):
        for segment, where in spans(axis):
            channels = [where.start + c for c in _dead_in(segment, dead.get(segment.space, {}))]
            if channels:
                np.moveaxis(dense, dim, 0)[channels] = 0


def _dead_in(segment: Segment, dead: Mapping[Irrep, tuple[int, ...]]) -> set[int]:
    """Dead channels of a segment; one that stands for every l is dead where every l is."""
    if segment.use != EVERY_L:
        return set(dead.get(segment.irrep, ()))
    return set.intersection(*map(set, dead.values())) if dead else set()


def _dead_channels(
    space: FeatureSpace, evidence: Mapping[tuple[_Block, str], _Evidence]
) -> dict[Irrep, tuple[int, ...]]:
    """Dead channels of every irrep of a space, empty for those that have none."""
    dead = {}
    uses = {ir: {use: e for (block, use), e in evidence.items() if block == (space.name, ir)} for _, ir in space.irreps}
    for mul, ir in space.irreps:
        first = uses[space.irreps.entries[0][1]]  # which readers of every l name
        readers = uses[ir] | {use: entry for use, entry in first.items() if use == EVERY_L}
        is_dead = _never_produced(mul, uses[ir]) if space.zero_preserving else np.zeros(mul, bool)
        is_dead |= _never_read(mul, readers) if any(uses.values()) else np.zeros(mul, bool)  # weights know it at all
        dead[ir] = tuple(np.flatnonzero(is_dead).tolist())
    return dead


def _never_produced(mul: int, uses: Mapping[str, _Evidence]) -> np.ndarray:
    zero = np.zeros(mul, bool)
    for use, entry in uses.items():
        if entry.produced is not None and (use == "" or entry.read is None):
            zero |= entry.produced < NEGLIGIBLE
    return zero


def _never_read(mul: int, uses: Mapping[str, _Evidence]) -> np.ndarray:
    zero = np.ones(mul, bool)
    for use, entry in uses.items():
        if entry.read is not None:
            silent = entry.read < NEGLIGIBLE
            if use and entry.produced is not None:
                silent |= entry.produced < NEGLIGIBLE
            zero &= silent
    return zero


def describe(dead: Mapping[str, Mapping[Irrep, tuple[int, ...]]]) -> dict[str, str]:
    """Space name to irreps that are dead, for display.

    >>> describe({"x": {Irrep(0, 1): (0, 4)}})
    {'x': '2x0e'}
    """
    return {name: str(Irreps(tuple((len(c), ir) for ir, c in by.items()))) for name, by in dead.items()}
