"""Energies of elements and the energy scale of MACE, per head and without, also in its own format."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from random_mace import HETEROGENEOUS, KINDS, random_checkpoint, stock

import equiprune as ep
from equiprune.adapters.mace import MaceAdapter
from equiprune.errors import TargetError
from equiprune.labelling.label import label
from equiprune.potentials.atomic_energies import isolated_energies, with_references
from equiprune.training.references import with_scale_of_forces

pytestmark = pytest.mark.usefixtures("plain_code")

CHANGES = {14: -1.5, 8: 2.25, 1: 0.5}
SHAPES = {
    "single head": stock(max_ell=1, correlation=2),
    "axis of one head": stock(max_ell=1, correlation=2, per_head=("atomic_energies",)),
    "two heads": KINDS["density, ZBL, Agnesi, two heads, max_ell 3"],
}


@pytest.fixture(params=SHAPES)
def potential(request: pytest.FixtureRequest) -> ep.Potential:
    arch = SHAPES[request.param]
    head = arch.heads[1] if arch.heads else None
    return ep.Potential.create(MaceAdapter(), random_checkpoint(arch), torch.float64, head)


def test_references_move_energies_of_one_head_and_stock_mace_sees_it(potential: ep.Potential, tmp_path: Path) -> None:
    """Saving compares with the energies of the stock calculator."""
    moved = with_references(potential, CHANGES, "given")
    ep.save(moved, tmp_path / "moved.model")
    structures = list(ep.probe_structures([14, 8, 1, 29]).values())
    for head in potential.architecture.heads or (None,):
        again = ep.load(tmp_path / "moved.model", dtype=torch.float64, head=head)
        before = replace(potential, head=head).predict(structures)
        for atoms, a, b in zip(structures, before, again.predict(structures), strict=True):
            expected = sum(CHANGES.get(int(z), 0.0) for z in atoms.numbers) if head == potential.head else 0.0
            assert (b.energy - a.energy).item() == pytest.approx(expected, abs=1e-10)
            torch.testing.assert_close(b.forces, a.forces, atol=1e-10, rtol=0)


def test_the_scale_multiplies_forces_of_one_head(potential: ep.Potential) -> None:
    structures = list(label(potential, ep.probe_structures([14, 8, 1, 29]).values()))
    scaled, _ = with_scale_of_forces(potential, structures)
    value = scaled.checkpoint.history[-1]["scale"]
    assert value == pytest.approx(
        torch.cat([a.forces for a in potential.predict(structures)]).square().mean().sqrt().item(), abs=1e-6
    )
    old = potential.checkpoint.weights["scale_shift.scale"].reshape(-1)
    for number, head in enumerate(potential.architecture.heads or (None,)):
        before, after = (replace(p, head=head).predict(structures) for p in (potential, scaled))
        factor = value / old[number].item() if head == potential.head else 1.0
        for a, b in zip(before, after, strict=True):
            torch.testing.assert_close(b.forces, factor * a.forces, atol=1e-9, rtol=1e-9)


def test_a_model_without_a_scale_says_so_and_has_references() -> None:
    potential = ep.Potential.create(MaceAdapter(), random_checkpoint(HETEROGENEOUS), torch.float64)
    structures = list(label(potential, ep.probe_structures([14, 8]).values()))
    with pytest.raises(TargetError, match="no ScaleShiftMACE"):
        with_scale_of_forces(potential, structures)
    moved = with_references(potential, {8: 1.5}, "given")
    own = isolated_energies(potential, [8])[8]
    assert isolated_energies(moved, [8])[8] == pytest.approx(own + 1.5, abs=1e-12)
