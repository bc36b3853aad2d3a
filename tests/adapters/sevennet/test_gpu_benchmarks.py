"""The benchmarks for a machine with a GPU run here too, and their batches say what the library says."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.data import covalent_radii

import equiprune as ep
from equiprune.structures.prototypes import perovskite
from equiprune.training.feature_labels import FeatureTeacher

pytestmark = pytest.mark.usefixtures("plain_code")  # numbers alone
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module", autouse=True)
def _benchmarks_are_found() -> None:
    sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="module")
def small() -> ep.Potential:
    """SevenNet-0 at a few channels: quick."""
    parent = ep.load("7net-0")
    targets = [ep.HiddenIrreps.parse("8x0e+4x1e+4x2e")]
    return ep.prune(parent, ep.allocate(parent, targets, ep.data_free_scores(parent, ep.Magnitude())))


def test_batches_of_crystals_give_what_predict_gives(small: ep.Potential) -> None:
    from benchmarks.gpu.batched import Crystals, evaluate, graph

    exact = small.with_dtype(torch.float64)
    crystals = [atoms for atoms in ep.probe_structures(small.elements).values() if atoms.pbc.all()]
    for number, atoms in enumerate(crystals):
        atoms.rattle(0.3, seed=number)
    batch = Crystals.of(crystals, "cpu", torch.float64)
    found = evaluate(exact, graph(batch, small.architecture.cutoff))
    predicted = exact.predict(crystals)
    forces = np.concatenate([p.forces.numpy() for p in predicted])
    np.testing.assert_allclose(found.energy.detach().numpy(), [p.energy.item() for p in predicted], atol=1e-10)
    np.testing.assert_allclose(found.forces.numpy(), forces, atol=1e-10)
    np.testing.assert_allclose(found.stress.numpy(), np.stack([p.stress.numpy() for p in predicted]), atol=1e-10)
    of_atoms = torch.zeros(len(crystals), dtype=torch.float64).index_add(0, batch.owner, found.atomic_energy.detach())
    np.testing.assert_allclose(of_atoms.numpy(), found.energy.detach().numpy(), atol=1e-10)


def test_a_student_may_see_less_far_than_its_teacher(small: ep.Potential) -> None:
    from benchmarks.gpu.batched import Crystals, Edges, graph

    crystals = [atoms for atoms in ep.probe_structures(small.elements).values() if atoms.pbc.all()]
    batch = Crystals.of(crystals, "cpu", torch.float64)
    all_of_them = torch.ones(len(crystals), dtype=torch.bool)
    far, near = graph(batch, 6.0), graph(batch, 4.0)
    inside = Crystals(batch.numbers, far.positions, batch.cells, batch.sizes)
    trimmed = Edges.of(far, batch.cells, all_of_them).within(4.0, inside)
    expected = Edges.of(near, batch.cells, all_of_them)
    assert len(far.shifts) > len(near.shifts)
    for name in ("pairs", "images", "counts"):
        assert torch.equal(getattr(trimmed, name), getattr(expected, name))


def test_groups_are_packed_whole_and_apart_from_one_another() -> None:
    from ase.neighborlist import neighbor_list

    from benchmarks.gpu.packed import packed

    known, random = frozenset(range(1, 90)), np.random.default_rng(0)
    made = [packed(known, [11, 20, 26], random) for _ in range(12)]
    assert len({atoms.get_chemical_formula() for atoms in made}) == len(made)
    for atoms in made:
        assert 1 <= len(atoms) <= 36
        assert atoms.pbc.all()
        first, second, distances = neighbor_list("ijd", atoms, 4.0)
        radii = covalent_radii[atoms.numbers]
        assert (distances / (radii[first] + radii[second])).min() > 0.6  # the shortest bonds of molecules
        assert known.issuperset(atoms.numbers.tolist())


def test_invented_crystals_have_known_elements_and_no_composition_that_is_left_out() -> None:
    from benchmarks.gpu.structures import formula, invented

    known = frozenset({1, 3, 6, 7, 8, 9, 11, 15, 16, 19, 20, 22, 26, 34, 38})
    crystals = [perovskite(20, 22, 8), perovskite(38, 22, 8), perovskite(20, 26, 16)]
    everything = list(invented([crystals], set(), known, 12, np.random.default_rng(0)))
    assert len(everything) == 24
    assert known.issuperset({z for atoms in everything for z in atoms.numbers.tolist()})
    gone = formula(everything[0])
    rest = [formula(atoms) for atoms in invented([crystals], {gone}, known, 12, np.random.default_rng(0))]
    assert rest == [found for found in map(formula, everything) if found != gone]


def test_a_child_is_distilled_for_a_moment_and_goes_on(small: ep.Potential, tmp_path: Path) -> None:
    from benchmarks.gpu.distil import Distillation, distil
    from benchmarks.gpu.explore import explore, joined
    from benchmarks.gpu.pool import Pool

    crystals = [atoms for atoms in ep.probe_structures(small.elements).values() if atoms.pbc.all()]
    labelled = joined(list(explore(small, crystals, seconds=5.0, batch_atoms=30, seed=0)))
    pool = Pool(labelled, small.architecture.cutoff)
    student = ep.from_scratch(small)
    trained = distil(student, pool, pool, Distillation(seconds=3.0, batch_atoms=20), tmp_path / "run")
    [*_, last] = map(json.loads, (tmp_path / "run" / "curve.jsonl").read_text().splitlines())
    assert last["step"] > 0
    assert trained.checkpoint.history[-1]["step"] == "train"
    assert ep.load(tmp_path / "run" / "model").architecture == small.architecture
    again = distil(ep.from_scratch(small), pool, pool, Distillation(seconds=3.0, batch_atoms=20), tmp_path / "run")
    assert again.checkpoint.history[-1]["steps"] == trained.checkpoint.history[-1]["steps"]


def test_frames_with_labels_are_what_the_teacher_says(small: ep.Potential) -> None:
    from benchmarks.gpu.batched import Crystals, evaluate
    from benchmarks.gpu.explore import of_frames
    from benchmarks.gpu.pool import Pool

    crystals = [atoms for atoms in ep.probe_structures(small.elements).values() if atoms.pbc.all()]
    labelled = of_frames(list(ep.label(small, crystals)), small.architecture.cutoff)
    assert labelled.crystals.numbers.equal(Crystals.of(crystals, "cpu", torch.float32).numbers)
    batch = Pool(labelled, small.architecture.cutoff).batch(range(len(crystals)))
    found = evaluate(small, batch.graph)
    for name in ("energy", "atomic_energy", "forces", "stress"):
        label = getattr(batch.label, name)
        torch.testing.assert_close(getattr(found, name).detach(), label, atol=2e-4 * float(label.abs().max()), rtol=0)


def test_features_of_a_parent_are_learnt(small: ep.Potential) -> None:
    from benchmarks.gpu.distil import Distillation, Losses
    from benchmarks.gpu.explore import explore, joined
    from benchmarks.gpu.features import ParentFeatures
    from benchmarks.gpu.pool import Pool
    from benchmarks.gpu.replay import Step

    crystals = [atoms for atoms in ep.probe_structures(small.elements).values() if atoms.pbc.all()]
    child = ep.prune(small, ep.allocate(small, [ep.Channels(4)], ep.data_free_scores(small, ep.Magnitude())))
    pool = Pool(joined(list(explore(small, crystals, seconds=2.0, batch_atoms=30, seed=0))), small.architecture.cutoff)
    shape = pool.shape(20)
    batch = pool.batch(next(pool.batches(shape, range(len(pool)))), shape)
    weights = [weight for weight in child.module.parameters() if weight.requires_grad]
    losses = Losses(Distillation(1.0), child.device)
    step, adam = Step(child, weights, losses, ParentFeatures(small, child, crystals, 10.0)), torch.optim.Adam(weights)
    found = []
    for _ in range(8):
        step(batch)
        for weight, gradient in zip(weights, step.gradients, strict=True):
            weight.grad = gradient
        adam.step()
        found.append(float(step.parts[-1]))
    assert len(step.parts) == len(losses.names) + 1
    assert found[-1] < found[0]


def test_features_of_a_filled_up_batch_are_those_of_its_structures(small: ep.Potential) -> None:

    from benchmarks.gpu.explore import explore, joined
    from benchmarks.gpu.features import ParentFeatures
    from benchmarks.gpu.fixed import fixed_evaluation
    from benchmarks.gpu.pool import Pool
    from equiprune.potentials.derivatives import differentiated

    exact = small.with_dtype(torch.float64)
    child = ep.prune(exact, ep.allocate(exact, [ep.Channels(4)], ep.data_free_scores(exact, ep.Magnitude())))
    crystals = [atoms for atoms in ep.probe_structures(small.elements).values() if atoms.pbc.all()]
    labelled = joined(list(explore(exact, crystals, seconds=2.0, batch_atoms=30, seed=0)))
    pool = Pool(labelled, exact.architecture.cutoff)
    shape = pool.shape(60)
    [which, *_] = pool.batches(shape, range(len(pool)))
    batch = pool.batch(which, shape)
    features, seen = ParentFeatures(exact, child, crystals, 1.0), {}
    differentiated(fixed_evaluation(child), batch.graph, features.taps(seen))
    kept = batch.atom_weight > 0
    assert not kept.all()
    found = features(seen, replace(batch, atom_weight=kept.to(torch.float64)))
    numbers, positions = batch.graph.numbers.numpy(), batch.graph.positions.detach().numpy()
    sizes, cells = [pool.atom_counts[i] for i in which], pool.cells[list(which)].numpy()
    ends = np.cumsum(sizes)
    structures = [
        Atoms(numbers[end - size : end], positions[end - size : end], cell=cell, pbc=True)
        for size, end, cell in zip(sizes, ends, cells, strict=True)
    ]
    usual = {name: float(size) for name, size in features.size.items()}
    assert found.item() == pytest.approx(_loss_of(exact, child, structures, usual), rel=1e-6)


def _loss_of(parent: ep.Potential, child: ep.Potential, structures: list[Atoms], sizes: dict[str, float]) -> float:
    """By the library's own teacher and predictor, relative to the same sizes."""
    teacher = FeatureTeacher.of(parent, child, structures)
    graph = child.graph(structures)
    labels = teacher.labels(graph)
    predicted = child.for_training(tuple(sizes), derived=False)(graph, graph.positions.new_zeros(0))
    parts = [((predicted[n] - v) / sizes[n]).square().mean().item() for n, v in labels.values.items()]
    return float(np.mean(parts))


def test_a_batch_filled_up_to_a_shape_says_the_same(small: ep.Potential) -> None:
    from benchmarks.gpu.explore import explore, joined
    from benchmarks.gpu.fixed import fixed_evaluation
    from benchmarks.gpu.pool import Pool
    from equiprune.potentials.derivatives import differentiated

    exact = small.with_dtype(torch.float64)
    crystals = [atoms for atoms in ep.probe_structures(small.elements).values() if atoms.pbc.all()]
    pool = Pool(joined(list(explore(exact, crystals, seconds=5.0, batch_atoms=30, seed=0))), exact.architecture.cutoff)
    shape = pool.shape(60)
    [which, *_] = pool.batches(shape, range(len(pool)))
    batch = pool.batch(which, shape)
    found = differentiated(fixed_evaluation(exact), batch.graph)
    atoms, structures = batch.atom_weight > 0, batch.structure_weight > 0
    assert shape.atoms > atoms.sum() > 0
    assert not batch.label.forces[~atoms].any()
    for value, label, kept in (
        (found.energies, batch.label.energy, structures),
        (found.atom_energies, batch.label.atomic_energy, atoms),
        (found.forces, batch.label.forces, atoms),
        (found.stress, batch.label.stress, structures),
    ):
        np.testing.assert_allclose(value[kept].detach().numpy(), label[kept].numpy(), atol=1e-9)


def test_labels_and_children_are_gone_on_from_with_the_same_alone(small: ep.Potential, tmp_path: Path) -> None:
    from benchmarks.gpu import flagship
    from benchmarks.gpu.structures import write_starting

    crystals = [atoms for atoms in ep.probe_structures(small.elements).values() if atoms.pbc.all()]
    write_starting(crystals * 3, tmp_path / "starting-structures.npz")
    for name in ("teacher", "first-start", "second-start"):
        ep.save(small, tmp_path / name)
    usual = {"models": tmp_path, "output": tmp_path / "trained", "device": "cpu", "teacher": "teacher"}
    usual |= {"labelling-atoms": 16, "labelling-seconds": 4, "batch-atoms": 20, "children": "first=1=3e-3"}

    def run(**changes: object) -> float:
        given = usual | {name.replace("_", "-"): value for name, value in changes.items()}
        flagship.main([word for name, value in given.items() for word in (f"--{name}", str(value))])
        return (tmp_path / "trained" / "labelled.pt").stat().st_mtime_ns

    labelled = run()
    assert run(children="second=1=1e-3", training_engine="equiprune") == labelled  # another child of the same labels
    ep.save(ep.from_scratch(small), tmp_path / "third-start")
    with pytest.raises(SystemExit, match=r"labelled.pt' was made with seed 0; asked for: seed 1. Give another folder"):
        run(seed=1, children="third=1=3e-3")
    with pytest.raises(SystemExit, match=r"first' was made with learning_rate 0.003; asked for: learning_rate 0.001"):
        run(children="first=1=1e-3")
    (tmp_path / "first-start").rename(tmp_path / "gone")
    (tmp_path / "third-start").rename(tmp_path / "first-start")
    with pytest.raises(SystemExit, match="first' was made with start_sha256"):
        run()
