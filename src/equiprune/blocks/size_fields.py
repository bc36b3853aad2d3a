"""Size fields: where an architecture says how large a feature space is, so that a plan can be written back.

>>> from dataclasses import dataclass
>>> from equiprune.blocks import Irreps
>>> @dataclass(frozen=True)
... class Step:
...     irreps: str
>>> @dataclass(frozen=True)
... class Model:
...     steps: tuple[Step, ...]
>>> mask = BlockMask.keep(Irreps.parse("4x0e+2x1o"), {ir: [0] for _, ir in Irreps.parse("4x0e+2x1o")})
>>> IrrepsText("steps", 0, "irreps").written(Model((Step("4x0e+2x1o"),)), mask)
Model(steps=(Step(irreps='1x0e+1x1o'),))
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

from equiprune.blocks.irreps import Irrep
from equiprune.blocks.mask import BlockMask


class SizeField(ABC):
    """A field of an architecture that follows from what is kept of a space.

    Args:
        path: names of fields and numbers of entries that lead to it: ``"steps", 0, "edge_irreps"``.
    """

    def __init__(self, *path: str | int) -> None:
        self.path = path

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), self.path))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.path))})"

    @abstractmethod
    def value(self, before: Any, mask: BlockMask) -> Any:
        """The content of the field when the mask is kept of what it held before."""

    def written(self, architecture: Any, mask: BlockMask) -> Any:
        """The architecture with this field as the mask leaves it."""
        return self._written(architecture, self.path, mask)

    def _written(self, holder: Any, path: tuple[str | int, ...], mask: BlockMask) -> Any:
        match path:
            case ():
                return self.value(holder, mask)
            case (int(number), *rest):
                entry = self._written(holder[number], tuple(rest), mask)
                return (*holder[:number], entry, *holder[number + 1 :])
            case (str(name), *rest):
                return replace(holder, **{name: self._written(getattr(holder, name), tuple(rest), mask)})


class NumberOfChannels(SizeField):
    """Number of channels, of one irrep or of all together.

    Args:
        path: as of every size field.
        irrep: whose channels; all unless given.
    """

    def __init__(self, *path: str | int, irrep: Irrep | None = None) -> None:
        super().__init__(*path)
        self.irrep = irrep

    def value(self, before: Any, mask: BlockMask) -> int:
        return mask.kept_irreps.channels if self.irrep is None else len(mask.of(self.irrep))


class NumberOfChannelsPerL(SizeField):
    """Number of channels of every irrep, the same for each."""

    def value(self, before: Any, mask: BlockMask) -> int:
        return max(map(len, mask.kept))


class IrrepsText(SizeField):
    """The irreps, as e3nn writes them."""

    def value(self, before: Any, mask: BlockMask) -> str:
        return str(mask.kept_irreps)


class HighestL(SizeField):
    """The highest l."""

    def value(self, before: Any, mask: BlockMask) -> int:
        return mask.kept_irreps.lmax


class Entries(SizeField):
    """A tuple with an entry for every channel, such as the elements."""

    def value(self, before: Any, mask: BlockMask) -> tuple[Any, ...]:
        [kept] = mask.kept
        return tuple(before[channel] for channel in kept)
