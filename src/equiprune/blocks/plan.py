"""Plans: one mask for every space that loses something."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import index
from types import MappingProxyType
from typing import Any

from equiprune.blocks.feature_space import FeatureSpace
from equiprune.blocks.irreps import Irrep, Irreps
from equiprune.blocks.mask import BlockMask
from equiprune.errors import PlanError, TargetError


@dataclass(frozen=True)
class PruningPlan:
    """One mask per space; spaces without a mask keep everything.

    Two plans of the same model combine as ``a & b`` (kept by both); a plan of the pruned model is appended with
    ``a.then(b)``. The laws: ``prune(prune(m, a), b) == prune(m, a.then(b))`` and
    ``prune(prune(m, a), b.within(a)) == prune(m, a & b)``.
    """

    masks: Mapping[str, BlockMask]

    def __post_init__(self) -> None:
        changed = {name: mask for name, mask in sorted(self.masks.items()) if not mask.keeps_all}
        object.__setattr__(self, "masks", MappingProxyType(changed))

    @classmethod
    def nothing(cls) -> PruningPlan:
        """The plan that keeps everything."""
        return cls({})

    @property
    def keeps_all(self) -> bool:
        """True when nothing is removed or reordered."""
        return not self.masks

    def mask(self, space: FeatureSpace) -> BlockMask:
        """The mask of a space."""
        return self.masks.get(space.name) or BlockMask.all(space.irreps)

    def kept(self, space: str, irrep: Irrep, mul: int) -> tuple[int, ...]:
        """Kept channels of one irrep of a space that has ``mul`` of them."""
        mask = self.masks.get(space)
        return mask.of(irrep) if mask is not None else tuple(range(mul))

    def __and__(self, other: PruningPlan) -> PruningPlan:
        both = self.masks.keys() & other.masks.keys()
        return PruningPlan({**self.masks, **other.masks, **{n: self.masks[n] & other.masks[n] for n in both}})

    def then(self, inner: PruningPlan) -> PruningPlan:
        """This plan followed by a plan of the pruned model."""
        both = self.masks.keys() & inner.masks.keys()
        return PruningPlan({**self.masks, **inner.masks, **{n: self.masks[n].then(inner.masks[n]) for n in both}})

    def within(self, outer: PruningPlan) -> PruningPlan:
        """This plan, restated for the model that ``outer`` has already pruned."""
        return PruningPlan(
            {n: mask.within(outer.masks[n]) if n in outer.masks else mask for n, mask in self.masks.items()}
        )

    def check(self, spaces: Iterable[FeatureSpace]) -> None:
        """Raise `PlanError` unless every mask fits its space and the rules the spaces declare."""
        spaces = tuple(spaces)
        unknown = self.masks.keys() - {space.name for space in spaces}
        if unknown:
            raise PlanError(f"The model has no space {sorted(unknown)}. It has {[s.name for s in spaces]}.")
        for space in spaces:
            self._check_space(space)
        self._check_size_groups(spaces)

    def _check_space(self, space: FeatureSpace) -> None:
        mask = self.mask(space)
        if mask.irreps != space.irreps:
            raise PlanError(f"The plan's mask of {space.name} is for '{mask.irreps}', the model has '{space.irreps}'.")
        for rule in space.rules:
            if reason := rule.broken_by(mask):
                raise PlanError(f"{space.name} {reason}.")

    def _check_size_groups(self, spaces: tuple[FeatureSpace, ...]) -> None:
        groups: dict[str, list[FeatureSpace]] = {}
        for space in spaces:
            if space.size_group and all(self._keeps(*block) for block in space.within):
                groups.setdefault(space.size_group, []).append(space)
        for members in groups.values():
            kept = {(ir, len(self.mask(space).of(ir))) for space in members for _, ir in space.irreps}
            if len(kept) > len({ir for ir, _ in kept}):
                counts = {space.name: str(self.mask(space).kept_irreps) for space in members}
                raise PlanError(f"These spaces must keep equally many channels of each irrep: {counts}.")

    def _keeps(self, space: str, irrep: Irrep, channel: int | None) -> bool:
        """True if a channel of a space is kept, or any."""
        kept = self.masks[space].of(irrep) if space in self.masks else None
        return kept is None or (bool(kept) if channel is None else channel in kept)

    def to_json(self) -> dict[str, Any]:
        """A JSON value; `from_json` reads it back."""
        return {
            name: {
                "irreps": str(mask.irreps),
                "kept": {str(ir): list(kept) for (_, ir), kept in zip(mask.irreps, mask.kept, strict=True)},
            }
            for name, mask in self.masks.items()
        }

    @classmethod
    def from_json(cls, value: Any) -> PruningPlan:
        """Read what `to_json` wrote; raises `PlanError` when it is something else."""
        try:
            return cls(
                {
                    name: BlockMask.keep(
                        Irreps.parse(entry["irreps"]),
                        {Irrep.parse(ir): [index(c) for c in kept] for ir, kept in entry["kept"].items()},
                    )
                    for name, entry in value.items()
                }
            )
        except (AttributeError, KeyError, TypeError, ValueError, TargetError) as error:
            raise PlanError(
                "This is not a pruning plan. Expected {space: {irreps: text, kept: {irrep: [channels]}}}."
            ) from error


def resized(architecture: Any, spaces: Iterable[FeatureSpace], plan: PruningPlan) -> Any:
    """The architecture whose fields say what a plan keeps: those that the spaces name in ``size_in``.

    Spaces are written from the last one backwards, so that a tuple of layers is cut after what is in them.
    """
    for space in reversed(tuple(spaces)):
        if space.name in plan.masks:
            for size in space.size_in:
                architecture = size.written(architecture, plan.masks[space.name])
    return architecture
