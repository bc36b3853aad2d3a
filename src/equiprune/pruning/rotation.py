"""Rotation: fewer channels where any mixture of them would do.

Where nothing but linear maps make and read the channels of a space, choosing some of the channels is a poor way to have
fewer: the best k mixtures are the principal directions of the features, as large as what is read of them makes them,

    G = M^(1/2) C M^(1/2),    C the sum of h h^T per irrep (all m),    M the sum of W W^T over the maps that read them,

each map counted alike. Nothing is lost where k is the rank of G. Embeddings of elements are such spaces: of what the
first interaction of SevenNet-l3i5 reads from its 128 channels, the plan of 7net-mini loses 7 % with 64 of them, 64
mixtures lose 0.14 % (sum of squares, all elements alike). All features of atoms in MACE are: the readout of its last
interaction reads 16 directions of 128.

SliceGPT (arXiv 2401.15024) rotates by principal directions too, with nothing that says what is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from equiprune.adapters.capabilities import HasLinearMaps, Weights
from equiprune.blocks import FeatureSpace, Irrep, Irreps, PruningPlan, Role, WeightLayout
from equiprune.blocks.layout import Path, spans
from equiprune.blocks.linear_map import spread
from equiprune.blocks.mixtures import Mixture, Mixtures, mixed_axis, mixed_weight, reads_or_makes
from equiprune.potentials.potential import Potential
from equiprune.pruning.parent_view import ParentView, halves, maps_of

_NOTHING = 1e-12
"""A direction this small beside the largest is one that nothing reads."""

Spreads = Mapping[tuple[str, Irrep], Tensor]
"""Sums of h h^T over atoms and m by space and irrep, (channels, channels)."""


@dataclass(frozen=True)
class Rotated:
    """Weights in which spaces that are linear on both sides keep the best mixtures.

    Attributes:
        weights: all of the model's, float64.
        mixtures: what its channels are.
        settled: weights that are as good as they can be for every element alike.
    """

    weights: Weights
    mixtures: Mixtures = field(default_factory=dict)
    settled: frozenset[str] = frozenset()


def rotated(child: Potential, parent: Potential, plan: PruningPlan, known: Spreads) -> Rotated:
    """The weights of a pruned model, with the best mixtures where there are such spaces.

    Args:
        child: what becomes smaller; left unchanged.
        parent: the model it was pruned from.
        plan: what was cut.
        known: spreads of the parent's features. Embeddings of elements need none: each element counts alike.
    """
    weights: dict[str, Tensor] = {name: weight.double() for name, weight in child.checkpoint.weights.items()}
    if not isinstance(child.adapter, HasLinearMaps):
        return Rotated(weights)
    both = _Both.of(child, parent, plan)
    mixtures: dict[tuple[str, Irrep], Mixture] = {}
    for name in filter(both.is_slice, child.adapter.linear_spaces(child.architecture)):
        embedding = both.embedding(name)
        for channels, irrep, full in both.fewer(name):
            features = embedding.T @ embedding if embedding is not None else known.get((name, irrep))
            if features is not None:
                reads = both.read(name, irrep, full, features, per_element=embedding is None)
                mixtures[name, irrep] = _best(features, reads, channels)
    for name, (theirs, before) in both.weights(mixtures):
        weights[name] = mixed_weight(before, theirs, both.layouts[name], plan, mixtures)
    embeddings = [space for space, _ in mixtures if both.embedding(space) is not None]
    settled = {name for space in embeddings for name in both.settle(space, weights, mixtures)}
    return Rotated(weights, mixtures, frozenset(settled))


def spreads(parent: ParentView) -> Spreads:
    """Sums for the spaces that linear maps make: features and their changes, each as large as the other in all."""
    found: dict[tuple[str, Irrep], list[Tensor]] = {}
    for linear in (linear for group in maps_of(parent.teacher) for linear in group):
        for irrep, axis, columns in spread(linear.outputs):
            if len(axis) == 1 and not axis[0].use and axis[0].space:
                for sample in parent.samples:
                    channels = sample.outputs[linear.module][:, columns].reshape(len(sample.counts), -1, irrep.dim)
                    kinds = halves(channels * sample.counts.sqrt()[:, None, None])
                    sums = torch.stack([torch.einsum("ncm,ndm->cd", rows, rows) for rows in kinds])
                    found.setdefault((axis[0].space, irrep), []).append(sums)
    together = {key: torch.stack(sums).sum(0).cpu() for key, sums in found.items()}
    return {key: sum(s / s.trace().clamp(min=1e-300) for s in both) for key, both in together.items()}


def _best(features: Tensor, reads: Tensor, channels: int) -> Mixture:
    """So many mixtures of which what is read can be told best; spare ones are of large features that nobody reads yet.

    Features of a mixture and what reads them share its size evenly.

    >>> x = _best(torch.diag(torch.tensor([9.0, 4.0, 1.0])), torch.diag(torch.tensor([0.0, 1.0, 1.0])), 1)
    >>> (x.into @ x.back).round(decimals=4).abs().tolist()  # the second is the largest of those that are read
    [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    root, inverse = _roots(reads)
    sizes, directions = torch.linalg.eigh(root @ features @ root)
    sizes, directions = sizes.flip(0)[:channels], directions.flip(1)[:, :channels]
    used = sizes > _NOTHING * sizes[0].clamp(min=1e-300)
    scale = torch.where(used, sizes, 1.0) ** -0.25
    into, back = root @ directions * scale * used, (directions * used / scale).T @ inverse
    mean = features.diagonal().mean()
    size = ((into.T @ features @ into).diagonal().sum() / used.sum().clamp(min=1) / mean).sqrt()
    into, back = (into / size, back * size) if size > 0 else (into, back)
    if spare := int((~used).sum()):
        into = torch.cat([into[:, used], _spare(features, into[:, used], spare)], dim=1)
    return Mixture(into, back)


def _spare(features: Tensor, into: Tensor, channels: int) -> Tensor:
    """Directions of features that mixtures do not tell, as large as channels are in the mean.

    Where features have no more directions, these have nothing new to tell, or nothing at all.
    """
    _, directions = torch.linalg.eigh(features - _explained(features, into))
    directions, mean = directions.flip(1)[:, :channels], features.diagonal().mean()
    sizes = (directions * (features @ directions)).sum(0)
    return directions * torch.where(sizes > 1e-6 * mean, mean / sizes.clamp(min=1e-300), 1.0).sqrt()


def _explained(features: Tensor, into: Tensor) -> Tensor:
    """The part of a spread that mixtures tell."""
    if not into.shape[1]:
        return torch.zeros_like(features)
    cross = features @ into
    return cross @ torch.linalg.pinv(into.T @ cross, hermitian=True) @ cross.T


def _roots(reads: Tensor) -> tuple[Tensor, Tensor]:
    """Square root of a symmetric matrix, and its pseudo-inverse."""
    sizes, directions = torch.linalg.eigh(reads)
    used = sizes > _NOTHING * sizes[-1]
    root = torch.where(used, sizes, 0.0).sqrt()
    inverse = torch.where(used, 1 / root.clamp(min=1e-300), 0.0)
    return directions * root @ directions.T, directions * inverse @ directions.T


@dataclass(frozen=True)
class _Both:
    """A smaller model and its parent, weight by weight; ``theirs`` is by the smaller model's names."""

    spaces: Mapping[str, FeatureSpace]
    whole: Mapping[str, Irreps]
    layouts: Mapping[str, WeightLayout]
    own: Weights
    theirs: Mapping[str, tuple[WeightLayout, Tensor]]
    plan: PruningPlan

    @classmethod
    def of(cls, child: Potential, parent: Potential, plan: PruningPlan) -> _Both:
        own, layouts = (model.adapter.layouts(model.architecture) for model in (child, parent))
        names = {layout.identity or name: name for name, layout in layouts.items()}
        found = {name: names[of] for name, layout in own.items() if (of := layout.identity or name) in names}
        theirs = {n: (layouts[of], parent.checkpoint.weights[of].double()) for n, of in found.items()}
        spaces, whole = {s.name: s for s in child.spaces}, {s.name: s.irreps for s in parent.spaces}
        return cls(spaces, whole, own, child.checkpoint.weights, theirs, plan)

    def is_slice(self, space: str) -> bool:
        """True if what makes and reads a space was cut out of the parent, and neither rewritten nor trained since."""
        for name in {name for name, _, _ in self._uses(space)}:
            if name not in self.theirs:
                return False
            layout, (theirs, before) = self.layouts[name], self.theirs[name]
            if {path.key for path in layout.paths} - {path.key for path in theirs.paths}:
                return False
            own = self.own[name].double()
            if not torch.allclose(mixed_weight(before, theirs, layout, self.plan, {}), own, rtol=1e-5, atol=1e-6):
                return False
        return True

    def fewer(self, name: str) -> Iterator[tuple[int, Irrep, int]]:
        """Irreps of a space that lost channels: how many there are, and were."""
        for channels, irrep in self.spaces[name].irreps:
            if channels < (full := self.whole[name].mul(irrep)):
                yield channels, irrep, full

    def weights(self, mixtures: Mixtures) -> Iterator[tuple[str, tuple[WeightLayout, Tensor]]]:
        """Weights that mixtures change."""
        return ((name, self.theirs[name]) for name, layout in self.layouts.items() if reads_or_makes(layout, mixtures))

    def embedding(self, space: str) -> Tensor | None:
        """Embedding of each element that is left, in the parent, (elements, channels); None for other features."""
        makers = [(name, path) for name, path, dim in self._uses(space) if path.produces(dim)]
        if len(makers) != 1:
            return None
        name, path = makers[0]
        others = [s for dim, axis in enumerate(path.axes) if not path.produces(dim) for s in axis]
        if len(path.axes) != 2 or any(not self._one_hot(segment.space) for segment in others):
            return None
        return self._does(name, path, keep=space).movedim(path.output % 2, 1)

    def _one_hot(self, space: str) -> bool:
        return space in self.spaces and self.spaces[space].role in (Role.ELEMENTS, Role.HEADS)

    def read(self, space: str, irrep: Irrep, full: int, features: Tensor, *, per_element: bool) -> Tensor:
        """The sum of W W^T over the maps that read a space, each so large that it reads one in all."""
        total = torch.zeros(full, full, dtype=torch.float64)
        for name, path, dim in self._uses(space):
            if path.produces(dim) or (len(path.axes) > 2 and not per_element):
                continue
            does = self._does(name, path, keep=space).movedim(dim, 0)
            for segment, where in spans(self._parents_path(name, path).axes[dim]):
                if (segment.space, segment.irrep) == (space, irrep):
                    rows = does[where].flatten(1)
                    found = rows @ rows.T
                    total += found / (found * features).sum().clamp(min=1e-300)
        return total

    def settle(self, space: str, weights: dict[str, Tensor], mixtures: Mixtures) -> Iterator[str]:
        """Weights around an embedding, which need nothing more; those that an element has of its own become exact."""
        [maker] = [(name, path) for name, path, dim in self._uses(space) if path.produces(dim)]
        yield maker[0]
        for name, path, dim in self._uses(space):
            if not path.produces(dim):
                if len(path.axes) > 2:
                    weights[name] = self._exact(name, space, weights, mixtures, maker)
                yield name

    def _exact(
        self, name: str, space: str, weights: Mapping[str, Tensor], mixtures: Mixtures, maker: tuple[str, Path]
    ) -> Tensor:
        """The weight (channels, elements, outputs) of which each element's part gives what the parent's gives.

        One direction of channels is all that an element knows; the others stay as they are.
        """
        layout, (parents, before) = self.layouts[name], self.theirs[name]
        made = self.layouts[maker[0]].split(weights[maker[0]])[maker[1].key] * maker[1].scale
        embedding = self.embedding(space)
        blocks, whole = layout.split(weights[name].clone()), parents.split(before)
        sources = {path.key: path for path in parents.paths}
        for path in layout.paths:
            theirs = sources[path.key]
            right = whole[path.key] * theirs.scale
            for dim in (1, 2):
                right = mixed_axis(right, dim, theirs.axes[dim], path.axes[dim], self.plan, mixtures, made=dim == 2)
            wanted = torch.einsum("zc,czo->zo", embedding, right)
            does = blocks[path.key] * path.scale
            missing = wanted - torch.einsum("zc,czo->zo", made, does)
            change = torch.einsum("zc,zo->czo", made / made.square().sum(1, keepdim=True).clamp(min=1e-300), missing)
            blocks[path.key] = (does + change) / path.scale
        return layout.join(blocks)

    def _uses(self, space: str) -> Iterator[tuple[str, Path, int]]:
        """Weights, paths and axes that have channels of a space."""
        for name, layout in self.layouts.items():
            for path in layout.paths:
                for dim, axis in enumerate(path.axes):
                    if any(segment.space == space for segment in axis):
                        yield name, path, dim

    def _parents_path(self, name: str, path: Path) -> Path:
        return next(each for each in self.theirs[name][0].paths if each.key == path.key)

    def _does(self, name: str, path: Path, keep: str) -> Tensor:
        """Effective weight of a path in the parent, with all channels of one space and the plan's of the others."""
        theirs, weight = self.theirs[name]
        before = self._parents_path(name, path)
        does = theirs.split(weight)[path.key] * before.scale
        for dim, (old, new) in enumerate(zip(before.axes, path.axes, strict=True)):
            if not any(segment.space == keep for segment in new):
                does = mixed_axis(does, dim, old, new, self.plan, {}, made=False)
        return does
