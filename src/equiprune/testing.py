"""Checks that every adapter passes: equiprune's own, and those of third parties.

Subclass `AdapterContract` in a test module, and pytest runs the laws of the core on your architecture::

    class TestMyAdapter(AdapterContract):
        adapter = MyAdapter()

        def checkpoints(self) -> Sequence[Checkpoint]:
            return [self.adapter.read("my-small-model")]

Give checkpoints to which every interaction contributes; the contract checks that they do, since agreement of models
that hardly use their features means nothing. The adapter must be installed with its entry point.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from numpy.random import default_rng
from torch import Tensor

from equiprune.adapters import Checkpoint, ModelAdapter
from equiprune.blocks import PruningPlan, Role, Site
from equiprune.certificate import LIMITS
from equiprune.checkpoint import load, save
from equiprune.contract_cases import completed, known_to, shifted, turned, with_silenced_channels
from equiprune.hessian_checks import assert_second_derivatives
from equiprune.physics_checks import batch_independence, compare, equivariance, finite_difference
from equiprune.potential import Potential, masked
from equiprune.probes import probe_structures
from equiprune.pruning.calibration import calibrate
from equiprune.pruning.cost import count_parameters
from equiprune.pruning.dead_blocks import dead_blocks, lossless_plan
from equiprune.pruning.importance import Activation, ImportanceScores, Taylor
from equiprune.pruning.random_plans import PRUNABLE, random_plan, shuffled_plan
from equiprune.pruning.slicing import prune
from equiprune.training.predictor import Predictor
from equiprune.training.references import with_references


def assert_equivariant(potential: Potential, structures: Sequence[Atoms]) -> None:
    """Rotations, inversion where the architecture claims it, permutations and translations, in float64.

    Raises:
        AssertionError: energies or forces change by more than `equiprune.certificate.LIMITS` allow.
    """
    _assert_within_limits(equivariance(potential.to(torch.float64), structures), potential)


def assert_forces_are_gradients(potential: Potential, structures: Sequence[Atoms]) -> None:
    """Forces, and the stress of structures periodic in 3-D, against finite differences of the energy in float64.

    Raises:
        AssertionError: they differ by more than `equiprune.certificate.LIMITS` allow.
    """
    potential = potential.to(torch.float64)
    for atoms in structures:
        values = finite_difference(potential, [atoms])
        if not atoms.pbc.all():
            del values["finite_difference.stress"]
        _assert_within_limits(values, potential)


def assert_same_predictions(a: Potential, b: Potential, structures: Sequence[Atoms]) -> None:
    """Energies, forces and stress of two potentials agree to rounding.

    Raises:
        AssertionError: they differ by more than `equiprune.certificate.LIMITS` allow.
    """
    _assert_within_limits(compare(a, b, structures, "masked_vs_sliced"), b)


def _assert_within_limits(values: Mapping[str, float], potential: Potential) -> None:
    beyond = {name: value for name, value in values.items() if not value <= LIMITS[name]}
    if beyond:
        allowed = {name: LIMITS[name] for name in beyond}
        raise AssertionError(f"{potential.checkpoint.source}: {beyond} beyond the limits {allowed}")


class AdapterContract:
    """The laws every adapter obeys, as a test class to inherit from. Everything is compared in float64.

    Attributes:
        adapter: the adapter under test.
        plans: random plans tried per checkpoint, besides one per role.
        references: whether models have energies of elements that can change (`ModelAdapter.with_references`).
        repeated: spaces that are made in several places, by the beginnings of their names.
        idle: spaces that upstream computes although nothing of them reaches an output, likewise.
    """

    adapter: ModelAdapter
    plans: int = 3
    references: bool = True
    repeated: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()

    def checkpoints(self) -> Sequence[Checkpoint]:
        """Models to test on, real or random; small ones keep the tests quick."""
        raise NotImplementedError

    def structures(self, elements: Iterable[int]) -> list[Atoms]:
        """Structures of these elements, periodic in 3-D, to compare on."""
        return list(probe_structures(elements).values())

    def potentials(self) -> Iterator[Potential]:
        """Each checkpoint in float64, with its first head."""
        for checkpoint in self.checkpoints():
            heads = checkpoint.architecture.heads
            yield Potential.create(self.adapter, checkpoint, torch.float64, heads[0] if heads else None)

    def random_plans(self, potential: Potential) -> Iterator[PruningPlan]:
        """Plans that touch everything at once, then each role alone."""
        generator = default_rng(0)
        for _ in range(self.plans):
            yield random_plan(potential, generator)
        for role in sorted({space.role for space in potential.spaces} & PRUNABLE):
            yield random_plan(potential, generator, roles=[role])

    def test_layouts_match_the_built_module(self) -> None:
        """Names, shapes and trainability of every parameter, known without building the module."""
        for checkpoint in self.checkpoints():
            module = self.adapter.build(checkpoint.architecture, torch.float64)
            built = {n: (tuple(p.shape), p.requires_grad) for n, p in module.named_parameters()}
            layouts = self.adapter.weight_layouts(checkpoint.architecture)
            assert built == {n: (lay.shape, lay.trainable) for n, lay in layouts.items() if not lay.buffer}
            buffers = {n: tuple(b.shape) for n, b in module.named_buffers()}
            constants = {n: lay.shape for n, lay in layouts.items() if lay.buffer}
            assert constants == {n: buffers.get(n) for n in constants}
            count = count_parameters(self.adapter, checkpoint.architecture)
            assert count.all == sum(p.numel() for p in module.parameters())
            assert count.trainable == sum(p.numel() for p in module.parameters() if p.requires_grad)

    def test_keeping_everything_is_the_identity(self) -> None:
        """Bit by bit, in the dtype of the weights and in float64, with the names upstream gives."""
        for potential in self.potentials():
            for dtype in {potential.checkpoint.dtype, torch.float64}:
                parent = potential.to(dtype)
                child = prune(parent, PruningPlan.nothing())
                assert child.architecture == parent.architecture
                fresh = self.adapter.build(parent.architecture, dtype).state_dict()
                assert child.module.state_dict().keys() == fresh.keys()
                _assert_bitwise_equal(child.module.state_dict(), parent.module.state_dict())

    def test_masked_equals_sliced(self) -> None:
        """The theorem behind pruning: the small model is the large one with blocks set to zero."""
        for potential in self.potentials():
            for plan in self.random_plans(potential):
                child = prune(potential, plan)
                structures = self.structures(child.elements)
                assert_same_predictions(masked(potential, plan), child, structures)
                assert child.parameters() == count_parameters(self.adapter, child.architecture).all

    def test_pruning_matters(self) -> None:
        """Zeroing any one space of hidden features changes the energy: no interaction is idle."""
        for potential in self.potentials():
            structures = self.structures(potential.elements)
            for space in potential.spaces:
                if space.role in (Role.NODE_FEATS, Role.EDGE_IRREPS):
                    without = replace(potential, taps={space.name: torch.zeros_like})
                    change = compare(potential, without, structures, "change")["change.energy"]
                    assert change > 1e-4, f"{space.name} contributes {change} eV to {potential.checkpoint.source}"

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
                    assert twice.architecture == directly.architecture
                    assert_same_predictions(twice, directly, self.structures(twice.elements))

    def test_the_order_of_channels_means_nothing(self) -> None:
        """A plan that only reorders changes nothing."""
        for potential in self.potentials():
            plan = shuffled_plan(potential.spaces, default_rng(2))
            assert not plan.keeps_all
            assert_same_predictions(potential, prune(potential, plan), self.structures(potential.elements))

    def test_every_space_is_seen_with_its_shape(self) -> None:
        """Each tap is called once per evaluation with a row per atom or edge; of `repeated` spaces several times so."""
        for potential in self.potentials():
            graph = potential.graph(self.structures(potential.elements))
            rows = {Site.ATOM: len(graph.numbers), Site.EDGE: graph.edge_index.shape[1]}
            seen: list[tuple[str, tuple[int, ...]]] = []
            spaces = [space for space in potential.spaces if space.site is not Site.NONE]
            replace(potential, taps={s.name: _noted(s.name, seen) for s in spaces}).energies(graph)
            expected = {s.name: (rows[s.site], s.irreps.dim) for s in spaces}
            repeated = (
                [(name, shape) for name, shape in seen if name.startswith(self.repeated)] if self.repeated else []
            )
            for name, shape in repeated:
                assert (shape[0] % expected[name][0], shape[1]) == (0, expected[name][1]), name
            once = {name: shape for name, shape in expected.items() if name not in dict(repeated)}
            assert sorted(set(seen) - set(repeated)) == sorted(once.items())
            assert len(seen) == len(once) + len(repeated)

    def test_every_scored_space_gets_a_score_per_channel(self) -> None:
        """Scores are complete, non-negative, and somewhere positive."""
        for potential in self.potentials():
            scores = calibrate(potential, self.structures(potential.elements))
            found = {name: {ir: len(v) for ir, v in by.items()} for name, by in scores.mean.items()}
            assert found == {s.name: {ir: mul for mul, ir in s.irreps} for s in potential.spaces if s.scored}
            for name, values in scores.mean.items():
                assert min(v.min() for v in values.values()) >= 0, name
                reaches = not (self.idle and name.startswith(self.idle))
                assert (max(v.max() for v in values.values()) > 0) == reaches, name

    def test_scores_do_not_depend_on_the_frame(self) -> None:
        """Rotating, translating and permuting structures changes no score; without exact rotations, translating."""
        for potential in self.potentials():
            structures = self.structures(potential.elements)
            generator = default_rng(3)
            move = turned if potential.architecture.exact_rotations else shifted
            moved = [move(atoms, generator) for atoms in structures]
            for criterion in (Taylor(), Activation()):
                _assert_close(calibrate(potential, structures, criterion), calibrate(potential, moved, criterion))

    def test_scores_add_up_over_batches(self) -> None:
        """The mean over all structures is the mean of each alone, however they are batched."""
        for potential in self.potentials():
            structures = self.structures(potential.elements)
            together = calibrate(potential, structures, batch_atoms=10**6)
            alone = [calibrate(potential, [atoms]) for atoms in structures]
            mean = {
                name: {ir: np.mean([scores.mean[name][ir] for scores in alone], axis=0) for ir in by}
                for name, by in together.mean.items()
            }
            _assert_close(together, replace(together, mean=mean))

    def test_physics_before_and_after_pruning(self) -> None:
        """Parent and child are equivariant, conservative, and independent of what else is in the batch.

        Where rotations are not exact, `equiprune certify` compares the child with its parent.
        """
        for potential in self.potentials():
            for model in (potential, prune(potential, random_plan(potential, default_rng(4)))):
                structures = self.structures(model.elements)
                assert_equivariant(model, structures)
                if not self.adapter.direct_forces:
                    assert_forces_are_gradients(model, structures)
                _assert_within_limits(batch_independence(model, structures), model)

    def test_second_derivatives_are_those_of_the_forces(self) -> None:
        """Hessian products, and their derivatives in the weights, against finite differences: they can be taught."""
        for potential in self.potentials() if not self.adapter.direct_forces else ():
            small = sorted(self.structures(potential.elements), key=len)[:2]  # third derivatives take their time
            assert_second_derivatives(potential, small)

    def test_what_is_built_for_training_is_the_same_function(self) -> None:
        """Its energies and forces, and the gradient of a loss of both in every weight."""
        for potential in self.potentials():
            own = (self.adapter, potential.checkpoint, potential.dtype, potential.head)
            arranged = Potential.create(*own, for_training=True)
            structures = self.structures(potential.elements)
            _assert_within_limits(compare(potential, arranged, structures, "masked_vs_sliced"), potential)
            found, expected = (_taught(one, structures) for one in (arranged, potential))
            assert found.keys() == expected.keys()
            size = max(gradient.norm() for gradient in expected.values())
            for name, gradient in expected.items():
                assert (found[name] - gradient).norm() <= 1e-12 * size, name

    def test_an_isolated_atom_and_a_single_atom_cell_feel_no_force(self) -> None:
        """Where there are no edges at all, and where an atom sees only its own images."""
        for potential in self.potentials():
            number, length = min(potential.elements), 0.7 * potential.architecture.cutoff
            alone = Atoms(numbers=[number], positions=[[0.1, 0.2, 0.3]])
            crystal = Atoms(numbers=[number], positions=[[0.1, 0.2, 0.3]], cell=[length] * 3, pbc=True)
            for atoms, prediction in zip((alone, crystal), potential.predict([alone, crystal]), strict=True):
                assert prediction.energy.isfinite()
                assert prediction.forces.isfinite().all()
                if potential.architecture.exact_rotations:
                    assert prediction.forces.abs().max() < 1e-9, atoms
                assert prediction.stress.isfinite().all() == (atoms.pbc.all() and not self.adapter.direct_forces)

    def test_vacuum_is_the_same_as_no_periodicity(self) -> None:
        """A slab periodic in two directions is the slab with more than a cutoff of vacuum."""
        for potential in self.potentials():
            for atoms in self.structures(potential.elements):
                padded = atoms.copy()
                padded.center(vacuum=potential.architecture.cutoff, axis=2)
                slab = padded.copy()
                slab.pbc = (True, True, False)
                a, b = potential.predict([padded, slab])
                assert abs(a.energy - b.energy) < 1e-9
                assert (a.forces - b.forces).abs().max() < 1e-9

    def test_saving_and_loading_gives_the_same_model(self, tmp_path: Path) -> None:
        """Bit by bit, for a parent and for a pruned child, with licence and history."""
        for i, parent in enumerate(self.potentials()):
            child = prune(parent, random_plan(parent, default_rng(5)))
            for name, model in ((f"parent-{i}", parent), (f"child-{i}", child)):
                save(model, tmp_path / name)
                loaded = load(tmp_path / name, dtype=torch.float64, head=model.head)
                assert loaded.architecture == model.architecture
                assert loaded.checkpoint.licence == model.checkpoint.licence
                assert json.dumps(loaded.checkpoint.history) == json.dumps(model.checkpoint.history)
                _assert_bitwise_equal(loaded.checkpoint.weights, model.checkpoint.weights)

    def test_references_add_a_constant_per_element(self, tmp_path: Path) -> None:
        """Energies move by the sum over atoms, for one head. Forces, stress and other heads do not; files remember."""
        for i, parent in enumerate(self.potentials() if self.references else ()):
            child = prune(parent, random_plan(parent, default_rng(7)))
            changes = {z: 0.37 * (k + 1) for k, z in enumerate(child.architecture.elements)}
            moved = with_references(child, changes, "changed")
            save(moved, tmp_path / f"moved-{i}")
            for made in (moved, load(tmp_path / f"moved-{i}", dtype=torch.float64, head=child.head)):
                _assert_moved(child, made, self.structures(child.elements), changes)
            for head in set(child.architecture.heads) - {child.head}:
                _assert_moved(replace(child, head=head), replace(moved, head=head), self.structures(child.elements), {})

    def test_dead_blocks_are_found_and_removed_without_loss(self) -> None:
        """A channel that nothing produces, or nothing reads, is found; removing all such changes no prediction."""
        for potential in self.potentials():
            generator, structures = default_rng(6), self.structures(potential.elements)
            for produced in (True, False):
                checkpoint, silenced = with_silenced_channels(potential, generator, produced=produced)
                dead = dead_blocks(self.adapter, checkpoint)
                missed = [block for block in silenced if block[2] not in dead.get(block[0], {}).get(block[1], ())]
                assert silenced, "the adapter's layouts name no scored space"
                assert not missed, f"not found dead: {missed}"
                parent = Potential.create(self.adapter, checkpoint, torch.float64, potential.head)
                child = prune(parent, lossless_plan(self.adapter, checkpoint))
                assert child.parameters() < parent.parameters()
                assert_same_predictions(parent, child, structures)


def _assert_bitwise_equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [n for n in a if a[n].dtype != b[n].dtype or not torch.equal(a[n], b[n])]
    assert not different, f"not bitwise equal: {different}"


def _taught(potential: Potential, structures: Sequence[Atoms]) -> dict[str, Tensor]:
    """The gradient of the squares of energies and forces in the weights."""
    predicted = Predictor(potential).train()(potential.graph(structures), torch.zeros(0))
    loss = predicted["energy"].square().sum() + predicted["forces"].square().sum()
    weights = {name: weight for name, weight in potential.module.named_parameters() if weight.requires_grad}
    gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(weights, gradients, strict=True))


def _assert_moved(
    before: Potential, after: Potential, structures: Sequence[Atoms], changes: Mapping[int, float]
) -> None:
    for atoms, a, b in zip(structures, before.predict(structures), after.predict(structures), strict=True):
        expected = sum(changes.get(int(z), 0.0) for z in atoms.numbers)
        assert abs((b.energy - a.energy).item() - expected) < 1e-10, atoms
        assert (b.forces - a.forces).abs().max() < 1e-10, atoms
        assert (b.stress - a.stress).abs().max() < 1e-10, atoms


def _assert_close(a: ImportanceScores, b: ImportanceScores) -> None:
    for name, values in a.mean.items():
        for ir, value in values.items():
            np.testing.assert_allclose(value, b.mean[name][ir], rtol=1e-7, atol=1e-11, err_msg=f"{name} {ir}")


def _noted(name: str, seen: list[tuple[str, tuple[int, ...]]]) -> Callable[[Tensor], Tensor]:
    def note(feature: Tensor) -> Tensor:
        seen.append((name, tuple(feature.shape)))
        return feature

    return note
