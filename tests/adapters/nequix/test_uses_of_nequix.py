"""Lines that a report shows for a Nequix: its calculator does what they say."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from copied_lines import energy_by, uses
from random_nequix import architecture, random_checkpoint

import equiprune as ep
from equiprune.adapters.nequix import NequixAdapter
from equiprune.adapters.nequix.export import why_not

OWN = ep.Potential.create(NequixAdapter(), random_checkpoint(architecture()), torch.float32)


def test_the_backend_is_that_of_the_file() -> None:
    assert 'backend="jax"' in uses(OWN, "small.nqx")["ASE"].lines
    assert 'backend="torch"' in uses(OWN, "small.pt")["ASE"].lines


def test_a_model_that_upstream_cannot_build_has_no_lines() -> None:
    child = ep.prune(OWN, ep.allocate(OWN, [ep.Elements(OWN.architecture.elements[:1])], heterogeneous=True))
    assert why_not(child.architecture)
    assert not uses(child, "small.pt")


@pytest.mark.slow
@pytest.mark.skipif(
    any(find_spec(name) is None for name in ("jax", "matscipy", "torch_geometric")), reason="needs all of Nequix"
)
def test_nequix_does_what_the_lines_say(tmp_path: Path) -> None:
    ep.save(OWN, tmp_path / "small.pt")
    atoms = ep.probe_structures(OWN.elements)["ionic"]
    truth = OWN.predict([atoms])[0].energy.item()
    assert energy_by(uses(OWN, "small.pt")["ASE"], tmp_path, atoms) == pytest.approx(truth, abs=1e-3)
