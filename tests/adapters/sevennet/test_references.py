"""Energies of elements and the energy scale of SevenNet, of every shape that upstream has, also in its own format."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from random_models import architecture, random_checkpoint

import equiprune as ep
from equiprune.adapters.sevennet import SevenNetAdapter
from equiprune.adapters.sevennet.architecture import HeadUse, Rescale
from equiprune.labelling.label import label
from equiprune.potentials.atomic_energies import with_references
from equiprune.training.from_scratch import from_scratch
from equiprune.training.references import with_scale_of_forces

pytestmark = pytest.mark.usefixtures("plain_code")

SMALL = architecture(("4x0e", "3x0e+2x1e", "4x0e"), edge_lmax=1, radial_widths=(5,))
HEADS = replace(SMALL, heads=("a", "b"), rescale=Rescale.PER_HEAD)
SHAPES = {
    "one number": replace(SMALL, rescale=Rescale.GLOBAL),
    "per element, trained": replace(SMALL, train_rescale=True),
    "shift per head": replace(HEADS, head_use=HeadUse(embedding=True, shift=True)),
    "scale per head": replace(HEADS, head_use=HeadUse(readout=True, scale=True)),
}
CHANGES = {14: -1.5, 8: 2.25, 1: 0.5}


@pytest.fixture(params=SHAPES)
def potential(request: pytest.FixtureRequest) -> ep.Potential:
    arch = SHAPES[request.param]
    head = arch.heads[1] if arch.heads else None
    return ep.Potential.create(SevenNetAdapter(), random_checkpoint(arch), torch.float64, head)


def heads(potential: ep.Potential) -> Iterator[tuple[str | None, bool]]:
    """Each head, and whether it is the one that changes."""
    for head in potential.architecture.heads or (None,):
        yield head, head == potential.head


def test_references_move_energies_of_one_head(potential: ep.Potential) -> None:
    moved, structures = with_references(potential, CHANGES, "given"), list(ep.probe_structures([14, 8, 1, 29]).values())
    for head, changes in heads(potential):
        before, after = replace(potential, head=head).predict(structures), replace(moved, head=head).predict(structures)
        for atoms, a, b in zip(structures, before, after, strict=True):
            expected = sum(CHANGES.get(int(z), 0.0) for z in atoms.numbers) if changes else 0.0
            assert (b.energy - a.energy).item() == pytest.approx(expected, abs=1e-10)
            torch.testing.assert_close(b.forces, a.forces, atol=1e-12, rtol=0)


def test_the_scale_is_set_for_one_head(potential: ep.Potential) -> None:
    structures = list(label(potential, ep.probe_structures([14, 8, 1, 29]).values()))
    fresh = from_scratch(potential)
    scaled, said = with_scale_of_forces(fresh, structures)
    value = torch.cat([prediction.forces for prediction in potential.predict(structures)]).square().mean().sqrt().item()
    assert scaled.checkpoint.history[-1]["scale"] == pytest.approx(value, abs=1e-6)
    assert f"{value:.4g} eV" in said
    for head, changes in heads(potential):
        number = potential.architecture.heads.index(head) if head else 0
        scale = scaled.checkpoint.weights["rescale_atomic_energy.scale"]
        scale = scale[number] if scale.ndim == 2 else scale
        if changes:
            assert scale.tolist() == pytest.approx([value] * 6, abs=1e-6)
        else:
            before = fresh.checkpoint.weights["rescale_atomic_energy.scale"]
            torch.testing.assert_close(scale, before[number] if before.ndim == 2 else before)


def test_stock_tools_open_what_was_changed(potential: ep.Potential, tmp_path: Path) -> None:
    """Saving compares with the energies of the stock calculator; the file says what changed."""
    moved = with_references(potential, CHANGES, "given")
    ep.save(moved, tmp_path / "moved.pth")
    again = ep.load(tmp_path / "moved.pth", dtype=torch.float64, head=potential.head)
    assert again.architecture == moved.architecture
    assert again.checkpoint.history[-1]["changes"] == {"H": 0.5, "O": 2.25, "Si": -1.5}
    structures = list(ep.probe_structures([14, 8, 1]).values())
    for atoms, a, b in zip(structures, potential.predict(structures), again.predict(structures), strict=True):
        expected = sum(CHANGES[int(z)] for z in atoms.numbers)
        assert (b.energy - a.energy).item() == pytest.approx(expected, abs=1e-4)
