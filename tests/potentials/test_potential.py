"""Predictions: units and signs as ASE has them, batches, precision, and masks as reference semantics."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import voigt_6_to_full_3x3_stress
from broken_adapters import HEADED, Headed

import equiprune as ep
from equiprune.adapters.evaluation import Outputs
from equiprune.blocks import Site
from equiprune.errors import CheckpointError, PlanError, StructureError, TargetError
from equiprune.potentials.hessian import hessian_vector_products
from equiprune.potentials.potential import devices
from equiprune.structures.batching import batches
from equiprune.testing import assert_equivariant, assert_forces_are_gradients, assert_same_predictions, random_plan


def test_the_calculator_gives_the_prediction(toy: ep.Potential, structures: list[Atoms]) -> None:
    for atoms in structures:
        [prediction] = toy.predict([atoms])
        atoms.calc = toy.calculator()
        assert atoms.get_potential_energy() == prediction.energy.item()
        np.testing.assert_array_equal(atoms.get_forces(), prediction.forces)
        np.testing.assert_array_equal(atoms.get_potential_energies(), prediction.atom_energies)
        full = voigt_6_to_full_3x3_stress(atoms.get_stress())
        np.testing.assert_allclose(full, prediction.stress, atol=1e-15)


def test_the_calculator_agrees_with_numerical_derivatives_of_ase(toy: ep.Potential, structures: list[Atoms]) -> None:
    from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

    atoms = structures[1]
    atoms.calc = toy.calculator()
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-4), atol=1e-6)
    np.testing.assert_allclose(atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-4), atol=1e-6)


def test_stress_exists_only_in_three_periodic_dimensions(toy: ep.Potential, structures: list[Atoms]) -> None:
    slab = structures[1]
    slab.pbc = (True, True, False)
    assert toy.predict([slab])[0].stress.isnan().all()
    slab.calc = toy.calculator()
    assert np.isfinite(slab.get_potential_energy())
    with pytest.raises(PropertyNotImplementedError):
        slab.get_stress()


def test_a_batch_is_its_structures_one_by_one(toy: ep.Potential, structures: list[Atoms]) -> None:
    mixed = [*structures, Atoms("C"), Atoms("OH", positions=[[0, 0, 0], [0, 0, 1]])]
    together = toy.predict(mixed, batch_atoms=10**6)
    for a, b in zip(together, [toy.predict([atoms])[0] for atoms in mixed], strict=True):
        torch.testing.assert_close(a.energy, b.energy, rtol=0, atol=1e-12)
        torch.testing.assert_close(a.forces, b.forces, rtol=0, atol=1e-12)
        torch.testing.assert_close(a.stress, b.stress, rtol=0, atol=1e-14, equal_nan=True)


def test_batches_are_consecutive_and_no_larger_than_asked() -> None:
    structures = [Atoms("H" * n) for n in (3, 2, 4, 9, 1, 1)]
    assert [[len(atoms) for atoms in batch] for batch in batches(structures, 5)] == [[3, 2], [4], [9], [1, 1]]
    assert list(batches([], 5)) == []


def test_energies_are_sums_over_separate_fragments(toy: ep.Potential) -> None:
    fragment = Atoms("OH", positions=[[0, 0, 0], [0, 0, 1]])
    far = fragment.copy()
    far.translate([0, 50, 0])
    one, both = toy.predict([fragment, fragment + far])
    assert both.energy.item() == pytest.approx(2 * one.energy.item(), abs=1e-12)


def test_precision_is_that_asked_for_and_the_model_is_the_same(toy: ep.Potential, structures: list[Atoms]) -> None:
    single = toy.with_dtype(torch.float32)
    assert toy.with_dtype(torch.float64) is toy
    for a, b in zip(single.predict(structures), toy.predict(structures), strict=True):
        assert a.atom_energies.dtype == a.forces.dtype == torch.float32
        assert a.energy.dtype == torch.float64
        torch.testing.assert_close(a.forces.double(), b.forces, rtol=1e-3, atol=1e-4)


def test_predictions_leave_structures_alone(toy: ep.Potential, structures: list[Atoms]) -> None:
    copies = [atoms.copy() for atoms in structures]
    toy.predict(structures)
    assert structures == copies


def test_what_is_predicted_is_said(toy: ep.Potential) -> None:
    assert toy.quantities == ("energy", "forces", "stress")
    assert set(toy.calculator().implemented_properties) == {*toy.quantities, "free_energy", "energies"}


def test_upstreams_own_code_takes_the_place_of_another(toy: ep.Potential, structures: list[Atoms]) -> None:
    def broken(graph: ep.AtomicGraph) -> Outputs:
        raise AssertionError("not upstream's code")

    assert_same_predictions(replace(toy, evaluator=broken).as_upstream(), toy, structures)


def test_the_chosen_head_is_trained(structures: list[Atoms]) -> None:
    energies = []
    for head in ("a", "b"):
        chosen = ep.Potential.create(Headed(), HEADED, torch.float64, head)
        graph = chosen.graph(structures)
        energies.append(chosen.for_training()(graph, graph.positions.new_zeros(0, *graph.positions.shape))["energy"])
        torch.testing.assert_close(energies[-1], chosen.evaluate(graph).energies)
    assert (energies[0] - energies[1]).abs().min() > 1e-3


def test_a_structure_of_a_later_batch_is_named_by_its_place(toy: ep.Potential) -> None:
    structures = [Atoms("H"), Atoms("O"), Atoms("Cu")]
    with pytest.raises(StructureError, match=r"Structure 2 \(Cu\)"):
        toy.predict(structures, batch_atoms=1)
    with pytest.raises(StructureError, match=r"Structure 2 \(Cu\)"):
        hessian_vector_products(toy, structures, [np.zeros((1, 1, 3))] * 3, batch_atoms=1)


def test_unknown_elements_and_broken_positions_are_refused(toy: ep.Potential) -> None:
    with pytest.raises(StructureError, match=r"Cu, which this model does not know. It knows H, C, O, Si"):
        toy.predict([Atoms("Cu")])
    with pytest.raises(StructureError, match="not finite"):
        toy.predict([Atoms("H", positions=[[0, 0, np.nan]])])


def test_masking_zeroes_exactly_the_removed_blocks(toy: ep.Potential, structures: list[Atoms]) -> None:
    plan = random_plan(toy, np.random.default_rng(0))
    masked = ep.masked(toy, plan)
    names = [space.name for space in toy.spaces if space.site is not Site.NONE]
    seen = masked.differentiate(masked.graph(structures[1:2]), names).features
    for space in toy.spaces:
        if space.name in names:
            feature = seen[space.name].value
            ones = plan.mask(space).as_tensor(feature)
            assert not (feature * (1 - ones)).any()
            assert (feature * ones).any()


def test_masking_nothing_changes_nothing(toy: ep.Potential, structures: list[Atoms]) -> None:
    masked = ep.masked(toy, ep.PruningPlan.nothing())
    for a, b in zip(masked.predict(structures), toy.predict(structures), strict=True):
        assert torch.equal(a.forces, b.forces)


def test_masking_twice_is_masking_with_both(toy: ep.Potential, structures: list[Atoms]) -> None:
    a, b = ep.allocate(toy, [ep.Lmax(0)]), ep.allocate(toy, [ep.Channels(3)], ep.calibrate(toy, [], ep.Random()))
    assert_same_predictions(ep.masked(ep.masked(toy, a), b), ep.masked(toy, a & b), structures)


def test_a_masked_model_refuses_removed_elements(toy: ep.Potential) -> None:
    no_carbon = ep.masked(toy, ep.allocate(toy, [ep.Elements((1, 8, 14))]))
    with pytest.raises(StructureError, match="has C, which this model does not know"):
        no_carbon.predict([Atoms("C")])
    no_silicon_either = ep.masked(no_carbon, ep.allocate(toy, [ep.Elements((1, 6, 8))]))
    assert no_silicon_either.elements == {1, 8}


def test_a_mask_survives_a_change_of_precision(toy: ep.Potential, structures: list[Atoms]) -> None:
    masked = ep.masked(toy, ep.allocate(toy, [ep.Lmax(0), ep.Elements((1, 6, 14))]))
    again = masked.with_dtype(torch.float32).with_dtype(torch.float64)
    assert again.elements == {1, 6, 14}
    assert_same_predictions(again, masked, structures[1:2])


def test_a_plan_that_does_not_fit_is_refused(toy: ep.Potential) -> None:
    with pytest.raises(PlanError, match="no space"):
        ep.masked(toy, ep.PruningPlan({"other": ep.BlockMask.keep(ep.Irreps.parse("1x0e"), {})}))


def test_weights_must_fit(toy: ep.Potential) -> None:
    lacking = {name: weight for name, weight in toy.checkpoint.weights.items() if name != "shift"}
    for weights in (lacking, {**lacking, "shift": torch.zeros(3)}, {**toy.checkpoint.weights, "extra": torch.zeros(1)}):
        with pytest.raises(CheckpointError, match=r"shift|extra"):
            ep.Potential.create(toy.adapter, replace(toy.checkpoint, weights=weights))


def test_parameters_are_counted(toy: ep.Potential) -> None:
    counted = ep.count_parameters(toy.adapter, toy.architecture)
    assert toy.parameters() == counted.all == sum(w.numel() for w in toy.checkpoint.weights.values())
    assert toy.parameters(trainable_only=True) == counted.trainable == counted.all - 8


def test_a_single_head_model_takes_no_head(toy: ep.Potential) -> None:
    with pytest.raises(TargetError, match="single head"):
        ep.Potential.create(toy.adapter, toy.checkpoint, head="omat24")


@pytest.mark.parametrize("model", ["toy", "single"])
def test_physics(model: str, request: pytest.FixtureRequest, structures: list[Atoms]) -> None:
    potential = request.getfixturevalue(model)
    known = [atoms for atoms in structures if set(atoms.numbers) <= potential.elements]
    assert known
    assert_equivariant(potential, known)
    assert_forces_are_gradients(potential, [*known, Atoms("Si2", positions=[[0, 0, 0], [0, 1, 2]])])


@pytest.mark.parametrize(("cards", "expected"), [(0, ["cpu"]), (2, ["cpu", "cuda", "cuda:0", "cuda:1"])])
def test_devices_are_named_as_torch_takes_them(
    monkeypatch: pytest.MonkeyPatch, cards: int, expected: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards or 1)  # cards without a driver
    assert devices() == expected


def test_energies_of_many_atoms_are_as_exact_as_those_of_few(toy: ep.Potential, structures: list[Atoms]) -> None:
    """Shares in float32 are added up in float64: their errors cancel, where those of a float32 sum would grow."""
    single, many = toy.with_dtype(torch.float32), structures[0].repeat((6, 6, 6))
    many.rattle(0.1, seed=0)
    [found], [right] = single.predict([many]), toy.predict([many])
    assert found.energy == found.atom_energies.double().sum()
    largest = (found.atom_energies.double() - right.atom_energies).abs().max()
    assert 0 < abs(found.energy - right.energy) < len(many) * largest
    naive = torch.zeros(1).index_add(0, torch.zeros(len(many), dtype=torch.long), found.atom_energies)
    assert abs(naive.double() - right.energy) > 3 * abs(found.energy - right.energy)
