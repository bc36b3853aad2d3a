"""Our forward pass is upstream's: the same numbers in the same frames, whatever the grid."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc100, molecule
from random_escn import random_checkpoint, small

import equiprune as ep
from equiprune.adapters.escn import EscnAdapter
from equiprune.adapters.escn.architecture import Grid, Smearing, escn
from equiprune.adapters.escn.frames import by_order, gauge_angles, rotations, sphere, wigner_matrices
from equiprune.adapters.precision import default_dtype
from equiprune.verification.physics import rotation_error


def made(dtype: torch.dtype = torch.float64, **changes: Any) -> ep.Potential:
    return ep.Potential.create(EscnAdapter(), random_checkpoint(small(**changes)), dtype)


def structures(potential: ep.Potential) -> list[Atoms]:
    return list(ep.probe_structures(potential.elements).values())


def upstream(potential: ep.Potential, atoms: list[Atoms]) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies and forces by upstream's own ``forward``, with our edges and frames."""
    graph, module = potential.graph(atoms), potential.module
    vectors = graph.edge_vectors()
    edges = SimpleNamespace(
        edge_index=graph.edge_index.flip(0), edge_distance=vectors.norm(dim=-1), edge_distance_vec=vectors
    )
    data = SimpleNamespace(
        pos=graph.positions,
        natoms=graph.structure_of_atom.bincount(),
        atomic_numbers=graph.numbers,
        batch=graph.structure_of_atom,
    )
    with pytest.MonkeyPatch.context() as patch, default_dtype(potential.dtype):
        patch.setattr(module, "generate_graph", lambda _: edges, raising=False)
        patch.setattr(module, "_init_edge_rot_mat", lambda *_: rotations(vectors))
        found = module(data)
    return found["energy"], found["forces"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lmax": 4, "mmax": 1},
        {"lmax": 2, "mmax": 2, "layers": 1},
        {"lmax": 1, "mmax": 0},
        {"neighbors": 3, "width": 2.0},
    ],
)
def test_energies_and_forces_are_those_of_upstream(changes: dict[str, Any]) -> None:
    potential = made(**changes)
    atoms = structures(potential)
    with torch.no_grad():
        energies, forces = upstream(potential, atoms)
    ours = potential.predict(atoms)
    assert abs(energies).min() > 1e-4
    torch.testing.assert_close(torch.stack([p.energy for p in ours]), energies, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(torch.cat([p.forces for p in ours]), forces, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("smearing", Smearing)
def test_every_function_of_the_distance_is_upstreams(smearing: Smearing) -> None:
    potential = ep.Potential.create(
        EscnAdapter(), random_checkpoint(replace(small(layers=2), smearing=smearing)), torch.float64
    )
    with torch.no_grad():
        energies, _ = upstream(potential, structures(potential))
    ours = torch.stack([p.energy for p in potential.predict(structures(potential))])
    torch.testing.assert_close(ours, energies, rtol=1e-12, atol=1e-14)


def test_normalizers_scale_energies_and_forces() -> None:
    plain = made()
    scaled = replace(plain.architecture, energy_mean=-0.75, energy_scale=2.5, forces_scale=3.0)
    other = ep.Potential.create(EscnAdapter(), replace(plain.checkpoint, architecture=scaled), torch.float64)
    for a, b in zip(plain.predict(structures(plain)), other.predict(structures(plain)), strict=True):
        assert b.energy.item() == pytest.approx(2.5 * a.energy.item() - 0.75, rel=1e-12)
        torch.testing.assert_close(b.forces, 3.0 * a.forces)


def test_numbers_repeat_and_precision_changes_no_frame() -> None:
    double, single = made(), made(torch.float32)
    [first], [again] = ([p.energy for p in double.predict(structures(double)[:1])] for _ in range(2))
    assert torch.equal(first, again)
    for a, b in zip(double.predict(structures(double)), single.predict(structures(double)), strict=True):
        assert b.energy.item() == pytest.approx(a.energy.item(), rel=1e-4, abs=1e-6)
        torch.testing.assert_close(b.forces.double(), a.forces, rtol=1e-3, atol=1e-4)


CRYSTALS = {
    "diamond": bulk("Si", a=5.43),
    "zinc blende": bulk("ZnS", "zincblende", a=5.65, cubic=True),
    "slab": fcc100("Cu", (2, 2, 2), vacuum=6.0, periodic=True),
    "molecule": Atoms("CH4", positions=molecule("CH4").positions + 6, cell=[12.0] * 3, pbc=True),
}
"""With exact ties: equal distances, equal components, coordinates that are round numbers."""


@pytest.mark.parametrize("neighbors", [12, 3])
@pytest.mark.parametrize("crystal", CRYSTALS)
def test_perfect_crystals_have_the_same_numbers_wherever_they_are(crystal: str, neighbors: int) -> None:
    """Rounding chooses neither frames nor neighbours."""
    potential, atoms = made(neighbors=neighbors), CRYSTALS[crystal]
    order = np.random.default_rng(3).permutation(len(atoms))
    elsewhere = atoms[order]
    elsewhere.translate([0.3, -1.1, 7.7])
    [first], [second] = potential.predict([atoms]), potential.predict([elsewhere])
    size = max(1e-3, first.forces.abs().max().item())
    assert second.energy.item() == pytest.approx(first.energy.item(), rel=1e-9, abs=1e-9)
    assert (second.forces - first.forces[torch.as_tensor(order)]).abs().max() < 1e-9 * size
    [single] = made(torch.float32, neighbors=neighbors).predict([atoms])
    assert (single.forces.double() - first.forces).abs().max() < 1e-3 * size


def test_an_atom_without_neighbours_is_scored_and_masked() -> None:
    potential = made()
    alone = Atoms("O")
    assert potential.graph([alone]).edge_index.shape == (2, 0)
    plan = ep.allocate(potential, [ep.Lmax(2), ep.Channels(4)], ep.calibrate(potential, [alone]))
    [a], [b] = ep.masked(potential, plan).predict([alone]), ep.prune(potential, plan).predict([alone])
    assert a.energy.item() == pytest.approx(b.energy.item(), rel=1e-12)


def test_what_inference_remembers_serves_training() -> None:
    by_order.cache_clear(), sphere.cache_clear()
    potential = made()
    with torch.inference_mode():
        potential.predict(structures(potential)[:1])
    ep.calibrate(potential, structures(potential)[:1])


def test_turns_are_spread_out_like_random_ones() -> None:
    vectors = torch.as_tensor(np.random.default_rng(0).uniform(-6, 6, (20_000, 3)))
    counts, _ = np.histogram(gauge_angles(vectors).numpy(), bins=20, range=(0, 2 * np.pi))
    assert counts.min() > 850  # of 1000; five standard deviations
    assert counts.max() < 1150
    near = gauge_angles(vectors + 1e-3) - gauge_angles(vectors)
    assert abs(torch.corrcoef(torch.stack([gauge_angles(vectors), near + gauge_angles(vectors)]))[0, 1]) < 0.03


def test_frames_turn_the_edge_to_y_and_are_rotations() -> None:
    vectors = torch.as_tensor(np.random.default_rng(1).standard_normal((50, 3)))
    vectors[0], vectors[1] = torch.tensor([0.0, 0.0, 2.0]), torch.tensor([-1.0, 0.0, 0.0])
    matrices = rotations(vectors)
    torch.testing.assert_close(matrices @ matrices.mT, torch.eye(3, dtype=torch.float64).expand(50, 3, 3))
    assert matrices.det().sub(1).abs().max() < 1e-12
    turned = torch.einsum("eij,ej->ei", matrices, vectors)
    torch.testing.assert_close(turned[:, 1], vectors.norm(dim=-1))
    wigner = wigner_matrices(vectors, 3)
    torch.testing.assert_close(wigner @ wigner.mT, torch.eye(16, dtype=torch.float64).expand(50, 16, 16))


def test_a_finer_grid_and_more_points_make_rotations_exact() -> None:
    """What is missing is the grid's, and converges: the points are too few, nothing else is wrong."""
    coarse = made(samples=64)
    errors = [rotation_error(coarse, structures(coarse)[:2], 2)]
    for latitudes, samples in ((16, 256), (40, 2048)):
        grid = Grid(latitudes, latitudes + 1)
        finer = replace(small(samples=samples), message_grid=grid, node_grid=grid)
        weights = dict(random_checkpoint(finer).weights)
        fixed = {n: w for n, w in coarse.checkpoint.weights.items() if n not in ("sphere_points", "sphharm_weights.0")}
        model = ep.Potential.create(
            EscnAdapter(), replace(coarse.checkpoint, architecture=finer, weights={**weights, **fixed}), torch.float64
        )
        errors.append(rotation_error(model, structures(coarse)[:2], 2))
    assert errors[1] < errors[0] / 2
    assert errors[2] < errors[1] / 4


@pytest.mark.parametrize(("lmax", "parameters"), [(6, 51_844_608), (4, 36_112_896)])
def test_published_models_have_the_parameters_that_upstream_counts(lmax: int, parameters: int) -> None:
    """fairchem's configs/oc20/s2ef/2M/escn/eSCN-L6-M2-Lay12.yml and L4; nothing is built."""
    published = escn(lmax=lmax, layers=12, channels=128, hidden=256, cutoff=12.0, neighbors=20, width=2.0)
    layouts = EscnAdapter().layouts(published)
    assert sum(layout.numel for layout in layouts.values()) == parameters
