"""Gains of linear maps: what they mend, and where they are not taken."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from ase import Atoms
from repairing import probes

import equiprune as ep
from equiprune.blocks.linear_map import channels
from equiprune.pruning import gains as module
from equiprune.pruning import parent_view
from equiprune.pruning import repair as repairing
from equiprune.pruning.gains import fitted_gains, scalable_maps, with_gains
from equiprune.pruning.least_squares import NormalEquations, ridge_solution
from equiprune.pruning.parent_view import ParentView


@pytest.fixture(scope="module")
def structures(parent: ep.Potential) -> list[Atoms]:
    return probes(parent)


@pytest.fixture(scope="module")
def view(parent: ep.Potential, structures: list[Atoms]) -> ParentView:
    return ParentView.of(parent, structures, displacements=2)


def rebuilt(potential: ep.Potential, weights: dict, dtype: torch.dtype) -> ep.Potential:
    checkpoint = replace(potential.checkpoint, weights=weights)
    return ep.Potential.create(potential.adapter, checkpoint, dtype)


def exact(potential: ep.Potential) -> dict:
    return {name: weight.double() for name, weight in potential.checkpoint.weights.items()}


def shrunk(parent: ep.Potential, by: float) -> dict:
    """Weights of the parent with all that its maps make smaller, each channel by its own amount."""
    random = torch.Generator().manual_seed(3)
    numbers = {name: channels(linear.outputs) for name, linear in scalable_maps(parent).items()}
    gains = {name: -by * torch.rand(n, generator=random, dtype=torch.float64) for name, n in numbers.items()}
    return dict(with_gains(parent, exact(parent), gains))


def off(model: ep.Potential, parent: ep.Potential, structures: Sequence[Atoms]) -> tuple[float, float]:
    """Mean absolute differences of energies in eV and of forces in eV/Angstrom."""
    pairs = list(zip(model.predict(structures), parent.predict(structures), strict=True))
    energies = torch.stack([(own.energy - right.energy).abs() for own, right in pairs])
    return float(energies.mean()), float(torch.cat([(a.forces - b.forces).abs().flatten() for a, b in pairs]).mean())


def test_what_shrank_grows_back(parent: ep.Potential, view: ParentView, structures: list[Atoms]) -> None:
    """Most of the error goes, on structures that took part and on others."""
    weights = shrunk(parent, 0.1)
    child = rebuilt(parent, weights, torch.float64)
    gains = fitted_gains(child.with_dtype(torch.float32), view.changes)
    mended = rebuilt(parent, with_gains(child, weights, gains), torch.float64)
    others = list(ep.probe_structures(parent.elements, 17).values())
    for some, part in ((structures, 0.3), (others, 0.5)):
        before, after = off(child, parent, some), off(mended, parent, some)
        assert after[0] < part * before[0]
        assert after[1] < part * before[1]


def test_changes_are_the_parents(parent: ep.Potential, view: ParentView, structures: list[Atoms]) -> None:
    """Energies at both ends, told from forces and stress half-way, 20 times for all that are not held out."""
    assert sum(len(change.weights) for change in view.changes) == 20 * (len(structures) - len(view.held_out))
    for change in view.changes[:6]:
        right = parent.energies(exactly(change).graph).detach()
        (forward, back), (ahead, behind) = right.chunk(2), change.energies.chunk(2)
        moved = (forward - back).abs().max()
        assert moved > 1e-4
        assert (ahead - behind - (forward - back)).abs().max() < 0.02 * moved
        assert (ahead - forward).abs().max() < 0.2 * moved  # half of the curvature, on both sides


def test_changes_are_limited_in_number_and_atoms(
    parent: ep.Potential, structures: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    used = [atoms for i, atoms in enumerate(structures) if i % 5]
    limits = {"_MOST_CHANGES": 3 * len(used), "_MOST_ATOMS_OF_CHANGES": 2 * sum(map(len, used))}
    for (limit, size), times in zip(limits.items(), (3, 2), strict=True):
        monkeypatch.setattr(parent_view, limit, size)
        found = ParentView.of(parent, structures, displacements=1).changes
        assert sum(len(change.weights) for change in found) == times * len(used)


def test_they_can_be_left_out(parent: ep.Potential, structures: list[Atoms]) -> None:
    assert ParentView.of(parent, structures, gains=False).changes == []


def test_a_model_that_needs_none_has_none(parent: ep.Potential, view: ParentView) -> None:
    gains = fitted_gains(parent.with_dtype(torch.float32), view.changes)
    assert all(gain.abs().max() < 1e-3 for gain in gains.values())


def test_gradients_are_those_of_differences(parent: ep.Potential, view: ParentView) -> None:
    """The equations say how energies change with the gains, for every structure of a batch."""
    child, change = parent.with_dtype(torch.float32), view.changes[0]
    maps = scalable_maps(child)
    rows = module._rows(child, maps, change)
    random = torch.Generator().manual_seed(1)
    step = 1e-3 * torch.randn(rows.x.shape[1], generator=random, dtype=torch.float64)
    ahead, behind = (module._energies(parent, maps, exactly(change), sign * step) for sign in (1, -1))
    atoms = torch.bincount(change.graph.structure_of_atom)[: len(change.weights)].double()
    found = module._energy_and_change((ahead - behind).detach() / 2, atoms)
    assert rows.x @ step == pytest.approx(found.numpy(), rel=1e-2, abs=1e-2 * float(found.abs().max()))


def exactly(change: module.Change) -> module.Change:
    graph = change.graph
    leaves = {name: getattr(graph, name).double() for name in ("positions", "strain", "shifts", "volume")}
    return replace(change, graph=replace(graph, **leaves))


def test_gains_that_make_the_model_worse_are_none(
    parent: ep.Potential, view: ParentView, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equations of another sign: no ridge helps on the fold that is left."""
    child = rebuilt(parent, shrunk(parent, 0.1), torch.float32)
    solved = module._Rows.solved
    monkeypatch.setattr(module._Rows, "solved", lambda rows, ridge: -solved(rows, ridge))
    assert fitted_gains(child, view.changes) == {}


def test_a_repair_leaves_out_gains_that_make_held_out_structures_worse(
    child: ep.Potential, parent: ep.Potential, structures: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    view = ParentView.of(parent, structures)
    without = ep.repair(child, replace(view, changes=[])).potential
    bad = {name: torch.full((1,), 3.0) for name in ("maps.readout",)}
    monkeypatch.setattr(repairing, "fitted_gains", lambda *_: bad)
    kept = ep.repair(child, view).potential
    assert all(torch.equal(w, kept.checkpoint.weights[name]) for name, w in without.checkpoint.weights.items())


def test_gains_help_a_repair(child: ep.Potential, parent: ep.Potential, structures: list[Atoms]) -> None:
    view = ParentView.of(parent, structures, displacements=2)
    assert view.changes
    with_them, without = ep.repair(child, view), ep.repair(child, replace(view, changes=[]))
    assert with_them.gains > without.gains == 0
    errors = [made.after.energy * made.after.forces for made in (with_them, without)]
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize("ridge", [1e-3, 1.0])
@pytest.mark.parametrize("rows", [7, 11, 40])
def test_few_rows_are_solved_as_many_are(rows: int, ridge: float) -> None:
    random = torch.Generator().manual_seed(0)
    x, y = (torch.randn(*shape, generator=random, dtype=torch.float64) for shape in ((rows, 11), (rows, 1)))
    row, column = x.square().sum(1).mean(), x.square().sum(0).mean()
    right = NormalEquations.of(x, y).solved(ridge * float(row / column))
    assert torch.allclose(ridge_solution(x, y[:, 0], ridge), right[:, 0], atol=1e-10)


def test_rows_of_nothing_have_no_solution_but_zero() -> None:
    for rows in (3, 9):
        assert torch.equal(ridge_solution(torch.zeros(rows, 5), torch.ones(rows), 0.0), torch.zeros(5))
