"""Everything works on a potential that lives on another device, and gives the same numbers there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from elsewhere import Elsewhere

import equiprune as ep
from equiprune.errors import TargetError
from equiprune.labelling.hessian_labels import with_products
from equiprune.labelling.label import label
from equiprune.potentials.hessian import Rows, hessian
from equiprune.pruning.criteria import Activation, Magnitude
from equiprune.training.from_scratch import from_scratch
from equiprune.verification.physics import rotation_error
from equiprune.verification.second_derivatives import HESSIAN_LIMITS, second_derivatives

CLOSE = 1e-10


def assert_same_scores(a: ep.ImportanceScores, b: ep.ImportanceScores) -> None:
    assert a.mean.keys() == b.mean.keys()
    for x, y in ((a.mean, b.mean), (a.standard_error, b.standard_error)):
        for name, values in x.items():
            for ir, value in values.items():
                np.testing.assert_allclose(value, y[name][ir], rtol=CLOSE, atol=CLOSE)


def test_a_potential_is_moved_into_a_module_of_its_own(
    toy: ep.Potential, there: ep.Potential, device: torch.device
) -> None:
    assert there.device == device
    assert toy.device == torch.device("cpu")
    assert all(weight.device.type == "cpu" for weight in toy.module.parameters())
    assert there.on(device) is there
    assert there.with_dtype(torch.float32).device == device
    back = there.on("cpu")
    assert (back.device, back.dtype) == (toy.device, toy.dtype)
    for name, weight in toy.module.named_parameters():
        assert torch.equal(dict(back.module.named_parameters())[name], weight)


def test_predictions(toy: ep.Potential, there: ep.Potential, structures: list[Atoms]) -> None:
    mixed = [*structures, Atoms("OH", positions=[[0, 0, 0], [0, 0, 1]])]
    for a, b in zip(toy.predict(mixed), there.predict(mixed), strict=True):
        assert b.forces.device == there.device
        for name in ("energy", "forces", "stress"):
            expected, found = getattr(a, name), getattr(b, name).cpu()
            torch.testing.assert_close(found, expected, rtol=0, atol=CLOSE, equal_nan=True)


@pytest.mark.slow
def test_the_calculator(toy: ep.Potential, there: ep.Potential, structures: list[Atoms]) -> None:
    for atoms in structures:
        found = [
            (atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress())
            for atoms.calc in (toy.calculator(), there.calculator())
        ]
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("criterion", [ep.Taylor(), Activation(), Magnitude(), ep.Random(3)])
def test_calibration(toy: ep.Potential, there: ep.Potential, structures: list[Atoms], criterion: Any) -> None:
    expected, found = (ep.calibrate(potential, structures, criterion) for potential in (toy, there))
    assert_same_scores(expected, found)


@pytest.mark.slow
def test_masks_slices_and_certificates(toy_parent: ep.Potential, device: torch.device) -> None:
    parent = toy_parent.on(device)
    plan = ep.allocate(parent, [ep.Channels(4), ep.Elements((1, 6, 14))], ep.data_free_scores(parent, ep.Random(1)))
    child = ep.prune(parent, plan)
    assert child.device == ep.masked(parent, plan).device == device
    found = ep.certify(child, parent, nve_steps=2)
    expected = ep.certify(ep.prune(toy_parent, plan), toy_parent, nve_steps=2)
    assert found.passed
    assert found.values == pytest.approx(expected.values, abs=CLOSE)


@pytest.mark.slow
def test_rotations(toy: ep.Potential, there: ep.Potential, structures: list[Atoms]) -> None:
    assert rotation_error(there, structures) == pytest.approx(rotation_error(toy, structures), abs=CLOSE)


def test_a_model_is_saved_and_opened(toy: ep.Potential, there: ep.Potential, tmp_path: Path) -> None:
    ep.save(there, tmp_path / "model")
    opened = ep.load(tmp_path / "model", dtype=torch.float64, device=there.device)
    assert opened.device == there.device
    for name, weight in toy.checkpoint.weights.items():
        assert torch.equal(opened.checkpoint.weights[name].cpu(), weight)


def test_errors_against_labels(toy: ep.Potential, device: torch.device, structures: list[Atoms]) -> None:
    other, labelled = from_scratch(toy), list(label(toy, structures))
    [expected], [found] = (ep.evaluate({"other": p}, labelled) for p in (other, other.on(device)))
    assert expected.mae("forces") > 1
    for quantity in ("energy", "forces", "stress"):
        assert found.mae(quantity) == pytest.approx(expected.mae(quantity), abs=CLOSE)


@pytest.mark.slow
def test_the_hessian(toy: ep.Potential, there: ep.Potential, structures: list[Atoms]) -> None:
    np.testing.assert_allclose(hessian(there, structures[1]), hessian(toy, structures[1]), rtol=0, atol=CLOSE)
    values = second_derivatives(there, structures[1:2])
    assert all(value <= HESSIAN_LIMITS[name] for name, value in values.items()), values


@pytest.mark.slow
def test_labels(toy: ep.Potential, there: ep.Potential, structures: list[Atoms]) -> None:
    expected, found = (list(with_products(p, label(p, structures), Rows(2))) for p in (toy, there))
    for a, b in zip(expected, found, strict=True):
        for name, value in a.calc.results.items():
            np.testing.assert_allclose(b.calc.results[name], value, rtol=0, atol=CLOSE)


@pytest.mark.slow
def test_timing(there: ep.Potential, structures: list[Atoms]) -> None:
    [timing] = ep.benchmark({"x": there}, structures[0], repeats=1, warmup=1)
    assert there.device.type in timing.backend


@pytest.mark.parametrize("wrong", ["cuda", torch.device("cpu"), None, torch.int64, "float64"])
def test_a_precision_is_a_floating_point_dtype(toy: ep.Potential, wrong: Any) -> None:
    with pytest.raises(TargetError, match=r"no precision to compute in. Give a floating-point dtype"):
        toy.with_dtype(wrong)
    with pytest.raises(TargetError, match="no precision"):
        ep.load("toy", dtype=wrong)


@pytest.mark.parametrize("wrong", [torch.float32, None, 0])
def test_a_device_is_named(toy: ep.Potential, wrong: Any) -> None:
    with pytest.raises(TargetError, match=r"is no device. Give 'cpu', 'cuda'"):
        toy.on(wrong)


@pytest.mark.parametrize("wrong", ["gpu", "cuda:99", "float32"])
def test_a_device_must_be_here(toy: ep.Potential, wrong: str) -> None:
    for move in (toy.on, lambda device: ep.load("toy", device=device)):
        with pytest.raises(TargetError, match=f"The device '{wrong}' is not available here .* Available: cpu"):
            move(wrong)


def test_tensors_of_two_places_do_not_mix() -> None:
    """What the device that every machine has can show."""
    with Elsewhere() as place:
        here, away = torch.ones(3), torch.ones(3, device=place)
        assert (away * torch.tensor(2.0)).device == place  # a number may come from anywhere
        assert torch.equal((away + away).cpu(), here + here)
        assert torch.equal(away[torch.tensor([0, 2])].cpu(), torch.ones(2))  # and so may indices
        assert torch.tensor([1.0], device=place).tolist() == [1.0]
        for mixed in (lambda: away + here, lambda: torch.cat([away, here]), lambda: here @ away):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        for numpy in (lambda: away.numpy(), lambda: np.asarray(away)):
            with pytest.raises(RuntimeError, match="not supported"):
                numpy()
