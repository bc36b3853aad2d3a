"""Inputs and outputs of an evaluation: taps go in, outputs come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from torch import Tensor

from equiprune.blocks import BlockMask

Watch = Callable[[Tensor], Tensor]
"""Is given the feature tensor of a space, masked; the model goes on with what it returns."""


@dataclass(frozen=True)
class Taps:
    """Masks and watchers of features, applied where they are produced: removed blocks become zero.

    An adapter calls it with the name of a space and its feature tensor, and goes on with what comes back. The tensor of
    a layer that normalises over channels is not enough: such a layer needs the statistics of the kept channels, which
    `kept` tells.

    Attributes:
        masks: by space, the blocks that are kept; spaces without a mask keep all.
        watched: by space, what is called with the masked feature.

    >>> import torch
    >>> from equiprune.blocks import Irrep, Irreps
    >>> taps = Taps({"node_feats.0": BlockMask.keep(Irreps.parse("3x0e"), {Irrep(0, 1): [0, 2]})})
    >>> taps("node_feats.0", torch.ones(1, 3)), taps("node_feats.1", torch.ones(1, 2))
    (tensor([[1., 0., 1.]]), tensor([[1., 1.]]))
    """

    masks: Mapping[str, BlockMask] = field(default_factory=lambda: MappingProxyType({}))
    watched: Mapping[str, Watch] = field(default_factory=lambda: MappingProxyType({}))

    def __call__(self, space: str, feature: Tensor) -> Tensor:
        """The feature (rows, irreps.dim) that the model goes on with."""
        if space in self.masks:
            feature = feature * self.masks[space].as_tensor(feature)
        return self.watched[space](feature) if space in self.watched else feature

    def __contains__(self, space: object) -> bool:
        """True where the call may change or watch something; an adapter need not show other spaces."""
        return space in self.masks or space in self.watched

    def __bool__(self) -> bool:
        return bool(self.masks or self.watched)

    def kept(self, space: str, like: Tensor) -> Tensor | None:
        """Ones on the kept columns of a space, zeros elsewhere, (irreps.dim,); None where all are kept."""
        return self.masks[space].as_tensor(like) if space in self.masks else None

    def masked(self, masks: Mapping[str, BlockMask]) -> Taps:
        """The same, with these blocks removed too."""
        both = {name: self.masks[name] & mask for name, mask in masks.items() if name in self.masks}
        return replace(self, masks={**self.masks, **masks, **both})

    def watching(self, watched: Mapping[str, Watch]) -> Taps:
        """The same, with these spaces watched after what watches them already."""
        after = {name: _one_after_another(self.watched[name], w) for name, w in watched.items() if name in self.watched}
        return replace(self, watched={**self.watched, **watched, **after})


def _one_after_another(first: Watch, second: Watch) -> Watch:
    return lambda feature: second(first(feature))


NO_TAPS = Taps()
"""A plain evaluation."""


@dataclass(frozen=True)
class Outputs:
    """Energies of an evaluation, and forces where they are an output of their own.

    ==============  ========================  =============  ===================================================
    field           shape                     unit           meaning
    ==============  ========================  =============  ===================================================
    energies        (structures,)             eV             total
    atom_energies   (atoms,)                  eV             each atom's share; they sum to the energies
    forces          (atoms, 3)                eV/Angstrom    None unless they are an output of their own, which
                                                             `Architecture.direct_forces` says; else they are derived
    ==============  ========================  =============  ===================================================
    """

    energies: Tensor
    atom_energies: Tensor
    forces: Tensor | None = None
