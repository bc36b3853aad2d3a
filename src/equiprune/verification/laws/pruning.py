"""Pruning: what is kept is what was there, and what changes nothing changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from numpy.random import default_rng

from equiprune.adapters import Checkpoint, Taps
from equiprune.adapters.capabilities import Rewrites
from equiprune.blocks import BlockMask, PruningPlan
from equiprune.potentials.masking import masked
from equiprune.potentials.potential import Potential
from equiprune.pruning.allocation import allocate
from equiprune.pruning.cost import count_parameters
from equiprune.pruning.dead_blocks import dead_blocks, lossless_plan
from equiprune.pruning.growing import grow
from equiprune.pruning.slicing import prune
from equiprune.pruning.targets import Heads
from equiprune.verification.certificate import LIMITS
from equiprune.verification.contract_cases import completed, known_to, with_silenced_channels
from equiprune.verification.laws.agreement import assert_same_predictions, different_bits
from equiprune.verification.laws.contract import Contract
from equiprune.verification.physics import compare
from equiprune.verification.random_plans import random_plan, shuffled_plan


class PruningLaws(Contract):
    """Plans, rewrites and growth."""

    def test_keeping_everything_is_the_identity(self) -> None:
        """Bit by bit, in the dtype of the weights and in float64, with the names upstream gives."""
        for potential in self.potentials():
            for dtype in {potential.checkpoint.dtype, torch.float64}:
                parent = potential.with_dtype(dtype)
                child = prune(parent, PruningPlan.nothing())
                assert child.architecture == parent.architecture, "keeping everything changes a hyperparameter"
                fresh = self.adapter.build(parent.architecture, dtype).state_dict()
                ours = child.module.state_dict()
                assert ours.keys() == fresh.keys(), f"keeping everything changes names: {ours.keys() ^ fresh.keys()}"
                changed = different_bits(ours, parent.module.state_dict())
                assert not changed, f"keeping everything changes weights: {changed}"

    def test_masked_equals_sliced(self) -> None:
        """The theorem behind pruning: the small model is the large one with blocks set to zero."""
        for potential in self.potentials():
            for plan in self.random_plans(potential):
                child = prune(potential, plan)
                structures, law = self.structures(child.elements), "the sliced model is not the masked one"
                assert_same_predictions(masked(potential, plan), child, structures, law=law)
                pairs = zip(masked(potential, plan).predict(structures), child.predict(structures), strict=True)
                apart = max(float((a.atom_energies - b.atom_energies).abs().max()) for a, b in pairs)
                limit = LIMITS["masked_vs_sliced.energy"]
                assert apart <= limit, f"the sliced model shares its energy otherwise between atoms: {apart} eV"
                built, counted = child.parameters(), count_parameters(self.adapter, child.architecture).all
                assert built == counted, f"a pruned model has {built} parameters, counted were {counted}"

    def test_pruning_matters(self) -> None:
        """Without any one irrep of any space of hidden features the energy is another: no interaction is idle.

        Otherwise every other law would be blind to what is done to them.
        """
        for potential in self.potentials():
            structures = self.structures(potential.elements)
            for space in (s for s in potential.spaces if s.role.hidden and not s.name.startswith(self.idle or "-")):
                for _, ir in space.irreps:
                    others = BlockMask.keep(space.irreps, {o: range(m) for m, o in space.irreps if o != ir})
                    zeroed = Taps(watched={space.name: partial(_only, others)})
                    without = replace(potential, taps=zeroed)
                    change = compare(potential, without, structures, "change")["change.energy"]
                    assert change > 1e-4, f"hidden features are idle: {space.name} contributes {change} eV by its {ir}"

    def test_pruning_twice_is_pruning_once(self) -> None:
        """``prune(prune(m, a), b)`` is ``prune(m, a.then(b))``; with ``b.within(a)`` it is ``prune(m, a & b)``."""
        for potential in self.potentials():
            for seed in range(self.plans):
                generator = default_rng(seed)
                outer = random_plan(potential, generator)
                once = prune(potential, outer)
                inner = random_plan(once, generator)
                other = completed(outer.then(inner), outer, potential.spaces)
                rest = known_to(other.within(outer), once.spaces)
                for step, whole in ((inner, outer.then(inner)), (rest, outer & other)):
                    twice, directly = prune(once, step), prune(potential, whole)
                    assert twice.architecture == directly.architecture, "pruned twice, hyperparameters are others"
                    structures, law = self.structures(twice.elements), "pruned twice, predictions are others"
                    assert_same_predictions(twice, directly, structures, law=law)

    def test_the_order_of_channels_means_nothing(self) -> None:
        """A plan that only reorders changes nothing."""
        for potential in self.potentials():
            plan = shuffled_plan(potential.spaces, default_rng(2))
            assert not plan.keeps_all, "there are no channels to put in another order"
            structures, law = self.structures(potential.elements), "another order of channels is another model"
            assert_same_predictions(potential, prune(potential, plan), structures, law=law)

    def test_single_precision_is_double_precision_rounded(self) -> None:
        """The weights of a pruned model in float32 are those of the exact one in float64, rounded once."""
        for potential in self.potentials():
            plan = random_plan(potential, default_rng(8))
            exact, single = (prune(potential.with_dtype(dtype), plan) for dtype in (torch.float64, torch.float32))
            rounded = {name: weight.float() for name, weight in exact.checkpoint.weights.items()}
            changed = different_bits(dict(single.checkpoint.weights), rounded)
            assert not changed, f"single precision is not double precision rounded: {changed}"
            held = {name: weight.detach() for name, weight in single.module.named_parameters()}
            changed = different_bits(held, {name: rounded[name] for name in held})
            assert not changed, f"a module of single precision holds other weights: {changed}"

    def test_rewriting_alone_changes_nothing(self) -> None:
        """A parent rewritten for a plan (`Rewrites`) predicts what it did, where upstream can build it."""
        for potential in self.potentials():
            if not isinstance(self.adapter, Rewrites):
                return
            before, own = potential.checkpoint, [(potential.head, random_plan(potential, default_rng(9)))]
            for head, plan in (*own, *((kept[0], plan) for kept, plan in _head_plans(potential) if len(kept) == 1)):
                architecture, weights = self.adapter.rewrite_for_plan(before.architecture, before.weights, plan)
                rewritten = replace(before, architecture=architecture, weights=weights)
                if weights is before.weights or not self._can_be_built(rewritten):
                    continue  # nothing was rewritten, or only what slicing leaves of it is a model of upstream's
                after = Potential.create(self.adapter, rewritten, torch.float64, head if architecture.heads else None)
                structures, law = self.structures(potential.elements), "the rewritten parent is another function"
                assert_same_predictions(replace(potential, head=head), after, structures, law=law)

    def _can_be_built(self, checkpoint: Checkpoint) -> bool:
        built = self.adapter.build(checkpoint.architecture, torch.float64).named_parameters()
        return all(checkpoint.weights[name].shape == parameter.shape for name, parameter in built)

    def test_heads_that_are_taken_out_stay_what_they_were(self) -> None:
        """Each head alone, and several in another order, predict what they did in the model of all."""
        for potential in self.potentials():
            for kept, plan in _head_plans(potential):
                child = prune(potential, plan)
                left = child.architecture.heads
                assert left == (kept if len(kept) > 1 else ()), f"other heads are left than were kept: {left}"
                structures, law = self.structures(child.elements), "a head that was taken out predicts something else"
                for head in kept:
                    alone = replace(child, head=head if left else None)
                    assert_same_predictions(replace(potential, head=head), alone, structures, law=law)

    def test_growth_that_preserves_changes_nothing(self) -> None:
        """Every one of `growths` makes the model larger, and predictions are what they were."""
        for potential in self.potentials():
            for growth in self.growths(potential):
                grown = grow(potential, growth)
                assert grown.parameters() > potential.parameters(), f"growth adds nothing: {growth}"
                structures, law = self.structures(potential.elements), "growth that preserves changes the function"
                assert_same_predictions(potential, grown, structures, law=law)

    def test_dead_blocks_are_found_and_removed_without_loss(self) -> None:
        """A channel that nothing produces, or nothing reads, is found; removing all such changes no prediction."""
        for potential in self.potentials():
            generator, structures = default_rng(6), self.structures(potential.elements)
            for produced in (True, False):
                checkpoint, silenced = with_silenced_channels(potential, generator, produced=produced)
                dead = dead_blocks(self.adapter, checkpoint)
                missed = [block for block in silenced if block[2] not in dead.get(block[0], {}).get(block[1], ())]
                assert silenced, "the adapter's layouts name no scored space"
                assert not missed, f"dead blocks are not found: {missed}"
                parent = Potential.create(self.adapter, checkpoint, torch.float64, potential.head)
                child = prune(parent, lossless_plan(self.adapter, checkpoint))
                assert child.parameters() < parent.parameters(), "dead blocks are found and not removed"
                law = "removing dead blocks changes predictions"
                assert_same_predictions(parent, child, structures, law=law)


def _only(mask: BlockMask, feature: torch.Tensor) -> torch.Tensor:
    return feature * mask.as_tensor(feature)


def _head_plans(potential: Potential) -> Iterator[tuple[tuple[str, ...], PruningPlan]]:
    """Heads to keep and the plan that does: each alone, and all but the first of many in another order."""
    heads: tuple[str, ...] = potential.architecture.heads
    several = heads[:0:-1] if len(heads) > 2 else heads[::-1]
    for kept in (*((head,) for head in heads), *([several] if heads else [])):
        yield kept, allocate(potential, [Heads(kept)])
