"""Laws of declarations: an adapter's modules are as it declares them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from equiprune.adapters import Checkpoint, Taps
from equiprune.adapters.capabilities import HasLinearMaps
from equiprune.blocks import FeatureSpace, PruningPlan, Site, WeightLayout
from equiprune.blocks.linear_map import applied, channels
from equiprune.blocks.mixtures import Mixture, mixed_weight, reads_or_makes
from equiprune.potentials.observing import multiplied, observed
from equiprune.potentials.potential import Potential
from equiprune.pruning.cost import count_parameters
from equiprune.pruning.gains import factors_of, scalable_maps, with_gains
from equiprune.structures.graph import AtomicGraph
from equiprune.verification.laws.contract import Contract

Seen = list[tuple[str, tuple[int, ...]]]
"""Names of spaces whose tap was called, and the shape it was given."""


class DeclarationLaws(Contract):
    """Layouts and spaces."""

    def test_layouts_match_the_built_module(self) -> None:
        """Names, shapes and trainability of every parameter, known without building the module."""
        for checkpoint in self.checkpoints():
            architecture = checkpoint.architecture
            module = self.adapter.build(architecture, torch.float64)
            built = {n: (tuple(p.shape), p.requires_grad) for n, p in module.named_parameters()}
            layouts = self.adapter.layouts(architecture)
            declared = {n: (lay.shape, lay.trainable) for n, lay in layouts.items() if not lay.buffer}
            assert declared == built, f"declared parameters are not the built ones: {_unlike(declared, built)}"
            buffers = {n: tuple(b.shape) for n, b in module.named_buffers()}
            constants = {n: lay.shape for n, lay in layouts.items() if lay.buffer}
            there = {n: buffers.get(n) for n in constants}
            assert constants == there, f"declared constants are not the built ones: {_unlike(constants, there)}"
            unknown = _unknown(layouts, self.adapter.spaces(architecture))
            assert not unknown, f"layouts name blocks that no space has: {unknown}"
            names = [layout.identity or name for name, layout in layouts.items()]
            twice = sorted({name for name in names if names.count(name) > 1})
            assert not twice, f"two weights have one identity, and slicing would take one for the other: {twice}"
            count = count_parameters(self.adapter, architecture)
            every = sum(p.numel() for p in module.parameters())
            assert count.all == every, f"counted parameters: {count.all} instead of {every}"
            trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
            assert count.trainable == trained, f"counted trainable parameters: {count.trainable} instead of {trained}"

    def test_every_space_is_seen_with_its_shape(self) -> None:
        """Each tap is called once per evaluation with a row per atom or edge; of `repeated` spaces several times so."""
        for potential in self.potentials():
            graph = potential.graph(self.structures(potential.elements))
            rows = {Site.ATOM: len(graph.numbers), Site.EDGE: graph.edge_index.shape[1]}
            seen: Seen = []
            spaces = [space for space in potential.spaces if space.site is not Site.NONE]
            potential.evaluate(graph, Taps(watched={s.name: _noted(s.name, seen) for s in spaces}))
            expected = {s.name: (rows[s.site], s.irreps.dim) for s in spaces}
            several = [(name, shape) for name, shape in seen if self.repeated and name.startswith(self.repeated)]
            for name, (sites, width) in several:
                fits = (sites % expected[name][0], width) == (0, expected[name][1])
                assert fits, f"a repeated space is seen in another shape: {name} {sites, width}"
            once = {name: shape for name, shape in expected.items() if name not in dict(several)}
            found = [entry for entry in seen if entry not in several]
            assert {name for name, _ in found} == once.keys(), (
                f"spaces are not seen: {sorted(once.keys() - dict(found).keys())}"
            )
            assert len(found) == len(once), (
                f"spaces are seen more than once, which only `repeated` ones may be: {_twice(found)}"
            )
            assert dict(found) == once, f"spaces are seen in another shape: {_unlike(dict(found), once)}"

    def test_linear_maps_do_what_is_declared(self) -> None:
        """A map gives its inputs times its weight by the declared irreps, and a bias at most, in every atom the same.

        Spaces that only linear maps read may be turned by any matrix if these undo it.
        """
        if not isinstance(self.adapter, HasLinearMaps):
            return
        for potential in self.potentials():
            layouts, graph = (
                self.adapter.layouts(potential.architecture),
                potential.graph(self.structures(potential.elements)),
            )
            maps = [linear for group in self.adapter.linear_maps(potential.architecture) for linear in group]
            for linear in maps:
                added = {name: result for name, (_, result) in observed(potential, graph, linear.added_to).items()}
                [(given, found)] = observed(potential, graph, [linear.module]).values()
                weight = potential.checkpoint.weights[linear.weight].double()
                rest = found - applied(linear, layouts[linear.weight], weight, given)
                constant = (rest - rest[:1]).abs().max() <= 1e-9 * (1 + found.abs().max())
                assert constant, f"a linear map does something else than is declared: {linear.module}"
                unlike = sorted(name for name, result in added.items() if result.shape != found.shape)
                assert not unlike, f"what a linear map is added to has another shape: {linear.module}, {unlike}"
            right = potential.energies(graph)
            off = (_scaled(potential, graph, absorbed=True) - _scaled(potential, graph, absorbed=False)).abs().max()
            assert off <= 1e-8 * (1 + right.abs().max()), (
                f"gains of linear maps are not those of their weights: {off:.2g}"
            )
            for space in self.adapter.linear_spaces(potential.architecture):
                turned = Potential.create(self.adapter, _turned(potential, space), torch.float64, potential.head)
                off = (turned.energies(graph) - right).abs().max()
                assert off <= 1e-8 * (1 + right.abs().max()), (
                    f"a space is not made and read by linear maps alone: {space} ({off:.2g} eV)"
                )


def _scaled(potential: Potential, graph: AtomicGraph, *, absorbed: bool) -> Tensor:
    """Energies with other factors on all that linear maps make: on their results, or in their weights."""
    maps, random = scalable_maps(potential), torch.Generator().manual_seed(0)
    gains = {name: 0.1 * torch.randn(channels(linear.outputs), generator=random) for name, linear in maps.items()}
    if absorbed:
        exact = {name: weight.double() for name, weight in potential.checkpoint.weights.items()}
        weights = with_gains(potential, exact, gains)
        checkpoint = replace(potential.checkpoint, weights=weights)
        return Potential.create(potential.adapter, checkpoint, torch.float64, potential.head).energies(graph)
    with multiplied(potential, factors_of(maps, gains)):
        return potential.energies(graph)


def _turned(potential: Potential, name: str) -> Checkpoint:
    """The model with the channels of a space mixed, and unmixed where they are read."""
    space = next(space for space in potential.spaces if space.name == name)
    random, mixtures = torch.Generator().manual_seed(0), {}
    for mul, irrep in space.irreps:
        rotation = torch.linalg.qr(torch.randn(mul, mul, generator=random, dtype=torch.float64)).Q
        mixtures[name, irrep] = Mixture(rotation, rotation.T)
    layouts, weights = potential.adapter.layouts(potential.architecture), dict(potential.checkpoint.weights)
    for weight, layout in layouts.items():
        if reads_or_makes(layout, mixtures):
            weights[weight] = mixed_weight(weights[weight].double(), layout, layout, PruningPlan.nothing(), mixtures)
    return replace(potential.checkpoint, weights=weights)


def _unknown(layouts: Mapping[str, WeightLayout], spaces: Iterable[FeatureSpace]) -> list[str]:
    """Stretches of weights that name channels which no space has; one alone may be of a space that has gone."""
    there = {(space.name, ir, mul) for space in spaces for mul, ir in space.irreps}
    axes = ((name, axis) for name, layout in layouts.items() for path in layout.paths for axis in path.axes)
    named = {(name, s) for name, axis in axes for s in axis if s.space and s.mul > 1}
    return sorted(f"{s.mul} channels {s} in {n}" for n, s in named if (s.space, s.irrep, s.mul) not in there)


def _unlike(a: dict, b: dict) -> dict:
    """Entries that differ, those of both sides."""
    return {name: (a.get(name), b.get(name)) for name in a.keys() | b.keys() if a.get(name) != b.get(name)}


def _twice(found: Seen) -> list[str]:
    names = [name for name, _ in found]
    return sorted({name for name in names if names.count(name) > 1})


def _noted(name: str, seen: Seen) -> Callable[[Tensor], Tensor]:
    def note(feature: Tensor) -> Tensor:
        seen.append((name, tuple(feature.shape)))
        return feature

    return note
