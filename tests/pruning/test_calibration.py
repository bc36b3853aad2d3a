"""Calibration streams, stops, resumes, and refuses what does not belong together."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ase import Atoms

import equiprune as ep
from equiprune.errors import PlanError, StructureError, TargetError
from equiprune.pruning.criteria import Criterion


def interrupted_after(batches: int, error: type[BaseException] = KeyboardInterrupt) -> Callable[[int], None]:
    """A progress display that interrupts."""
    calls = iter(range(1, 1000))

    def progress(_: int) -> None:
        if next(calls) == batches:
            raise error

    return progress


def test_an_interrupted_calibration_resumes_to_the_same_bits(toy: ep.Potential, xyz: Path, tmp_path: Path) -> None:
    resume = ep.Resume(tmp_path / "partial.json", every=1000)
    with pytest.raises(KeyboardInterrupt):
        ep.calibrate(toy, xyz, batch_atoms=1, resume=resume, progress=interrupted_after(2))
    assert resume.path.exists()
    done: list[int] = []
    resumed = ep.calibrate(toy, xyz, batch_atoms=1, resume=resume, progress=done.append)
    assert done == [2, 1, 1]
    assert not resume.path.exists()
    assert resumed.to_json() == ep.calibrate(toy, xyz, batch_atoms=1).to_json()


def test_a_killed_calibration_resumes_from_its_last_save(toy: ep.Potential, xyz: Path, tmp_path: Path) -> None:
    resume = ep.Resume(tmp_path / "partial.json", every=1)
    with pytest.raises(MemoryError):  # nothing is saved on the way out
        ep.calibrate(toy, xyz, batch_atoms=1, resume=resume, progress=interrupted_after(3, MemoryError))
    done: list[int] = []
    resumed = ep.calibrate(toy, xyz, batch_atoms=1, resume=resume, progress=done.append)
    assert done == [2, 1, 1]
    assert resumed.to_json() == ep.calibrate(toy, xyz, batch_atoms=1).to_json()


@pytest.fixture
def partial(toy: ep.Potential, xyz: Path, tmp_path: Path) -> ep.Resume:
    """What an interruption leaves behind."""
    resume = ep.Resume(tmp_path / "partial.json")
    with pytest.raises(KeyboardInterrupt):
        ep.calibrate(toy, xyz, batch_atoms=1, resume=resume, progress=interrupted_after(1))
    return resume


def test_partial_sums_of_other_data_are_refused(toy: ep.Potential, xyz: Path, partial: ep.Resume) -> None:
    xyz.write_text(xyz.read_text().replace("0.1", "0.2"))
    with pytest.raises(PlanError, match="another model, data or setting"):
        ep.calibrate(toy, xyz, resume=partial)


@pytest.mark.parametrize(("criterion", "limit"), [(ep.Activation(), None), (ep.Taylor(), 2)])
def test_partial_sums_of_other_settings_are_refused(
    toy: ep.Potential, xyz: Path, partial: ep.Resume, criterion: Criterion, limit: int | None
) -> None:
    with pytest.raises(PlanError, match="another model, data or setting"):
        ep.calibrate(toy, xyz, criterion, limit=limit, resume=partial)


def test_partial_sums_of_another_model_are_refused(toy_parent: ep.Potential, xyz: Path, partial: ep.Resume) -> None:
    with pytest.raises(PlanError, match="another model, data or setting"):
        ep.calibrate(toy_parent, xyz, resume=partial)


def test_a_limit_uses_the_first_structures(toy: ep.Potential, structures: list[Atoms]) -> None:
    limited = ep.calibrate(toy, structures, limit=2)
    assert limited.structures == 2
    assert limited.to_json()["mean"] == ep.calibrate(toy, structures[:2]).to_json()["mean"]


def test_structures_are_streamed_one_batch_ahead(toy: ep.Potential, structures: list[Atoms]) -> None:
    drawn, ahead = [], []

    def stream() -> Iterator[Atoms]:
        for atoms in structures:
            drawn.append(atoms)
            yield atoms

    scored: list[int] = []

    def progress(finished: int) -> None:
        scored.append(finished)
        ahead.append(len(drawn) - sum(scored))

    ep.calibrate(toy, stream(), batch_atoms=1, progress=progress)
    assert sum(scored) == 4
    assert max(ahead) == 1


@pytest.mark.parametrize(("last", "says"), [("U", "has U, which this model does not know"), ("Si", "not finite")])
def test_a_structure_that_cannot_be_scored_is_named_by_its_place(toy: ep.Potential, last: str, says: str) -> None:
    pairs = [Atoms([element] * 2, [[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]]) for element in ("H", "C", last)]
    of_silicon = toy.checkpoint.weights["shift"].clone()
    of_silicon[-1] = torch.inf
    weights = {**toy.checkpoint.weights, "shift": of_silicon}
    model = ep.Potential.create(toy.adapter, replace(toy.checkpoint, weights=weights), torch.float64)
    with pytest.raises(StructureError, match=rf"Structure 2 \({last}2\).*{says}"):
        ep.calibrate(model, pairs, batch_atoms=1)


def test_no_structures_is_an_error(toy: ep.Potential) -> None:
    with pytest.raises(StructureError, match="at least one"):
        ep.calibrate(toy, [])


def test_provenance_names_criterion_data_and_precision(toy: ep.Potential, xyz: Path) -> None:
    provenance = ep.calibrate(toy, xyz).provenance
    assert provenance["criterion"] == {"kind": "taylor"}
    assert provenance["data"] == str(xyz)
    assert len(provenance["data_sha256"]) == 64
    assert provenance["dtype"] == "float64"


def test_forces_that_are_gradients_are_not_scored_alone(toy: ep.Potential, structures: list[Atoms]) -> None:
    with pytest.raises(TargetError, match=r"Forces of toy models are the gradient of the energy, so taylor-forces"):
        ep.calibrate(toy, structures, ep.TaylorForces())
    alone, both = (ep.calibrate(toy, structures, criterion) for criterion in (ep.TaylorEnergy(), ep.Taylor()))
    for name, by in both.mean.items():
        assert all((alone.mean[name][ir] == values).all() for ir, values in by.items())
