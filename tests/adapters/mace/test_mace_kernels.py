"""Engines of GPU kernels for MACE: converted by mace-torch, looked at, compared, or refused by name.

cuEquivariance is run in Python alone, which it can be on a CPU; its kernels and OpenEquivariance's need a GPU.
"""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from random_mace import ELEMENTS, HETEROGENEOUS, random_checkpoint, stock

import equiprune as ep
from equiprune.adapters.engines import KernelEngine
from equiprune.adapters.mace import MaceAdapter
from equiprune.adapters.mace.build import upstream
from equiprune.errors import TargetError
from equiprune.evaluation.engines import engine_named, verified

with upstream(torch.float64):
    import mace.modules.wrapper_ops

pytestmark = pytest.mark.usefixtures("plain_code")
ATOMS = ep.probe_structures(ELEMENTS)["ionic"]
NAMES = ("cuequivariance", "openequivariance")
SMALL = stock(4, lmax=0, max_ell=1, correlation=2)


@pytest.fixture
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages of kernels count as installed, and the CPU as a device that they run on."""
    monkeypatch.setattr(KernelEngine, "missing", lambda self: ())
    monkeypatch.setattr(KernelEngine, "devices", ("cpu",))


def potential(architecture: object = SMALL, dtype: torch.dtype = torch.float32) -> ep.Potential:
    return ep.Potential.create(MaceAdapter(), random_checkpoint(architecture), dtype)


class Kernel(torch.nn.Module):
    """e3nn's tensor product with a sum over neighbours in the place of OpenEquivariance; ``off`` by a share."""

    off = 0.0

    def __init__(self, problem: Any, **_: Any) -> None:
        from e3nn.o3 import TensorProduct

        super().__init__()
        irreps, instructions, options = problem
        self.product = TensorProduct(*irreps, instructions=instructions, **options)
        self.weight_numel = self.product.weight_numel

    def forward(self, x: Any, harmonics: Any, weights: Any, rows: Any, columns: Any) -> torch.Tensor:
        messages = self.product(x[columns], harmonics, weights) * (1 + self.off)
        return messages.new_zeros(len(x), messages.shape[1]).index_add(0, rows, messages)


def problem(a: Any, b: Any, out: Any, instructions: Any, *, irrep_dtype: Any, weight_dtype: Any, **options: Any) -> Any:
    return (a, b, out), instructions, options


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> type[Kernel]:
    """OpenEquivariance as e3nn plays it."""
    kernel = type("TensorProductConv", (Kernel,), {"__module__": "openequivariance.conv"})
    package = ModuleType("openequivariance")
    package.TPProblem, package.TensorProductConv, package.torch_to_oeq_dtype = problem, kernel, str  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "openequivariance", package)
    monkeypatch.setattr(mace.modules.wrapper_ops, "oeq", package, raising=False)
    monkeypatch.setattr(mace.modules.wrapper_ops, "OEQ_AVAILABLE", True)
    return kernel


@pytest.mark.slow
@pytest.mark.usefixtures("on_the_cpu")
def test_cuequivariance_without_its_kernels_gives_the_same_numbers() -> None:
    pytest.importorskip("cuequivariance_torch")
    before = torch.get_default_dtype()
    own = potential(dtype=torch.float64)
    found = verified(engine_named("cuequivariance"), own, ATOMS)
    assert type(found.module.interactions[0].conv_tp).__name__ == "ChannelWiseTensorProduct"
    [a], [b] = found.predict([ATOMS]), own.predict([ATOMS])
    torch.testing.assert_close(a.energy, b.energy, rtol=0, atol=1e-9)
    torch.testing.assert_close(a.stress, b.stress, rtol=0, atol=1e-9)
    assert torch.get_default_dtype() == before


@pytest.mark.usefixtures("on_the_cpu")
def test_right_kernels_are_used_after_a_comparison(played: type[Kernel]) -> None:
    own = potential()
    found = verified(engine_named("openequivariance"), own, ATOMS)
    assert all(isinstance(interaction.conv_tp, played) for interaction in found.module.interactions)
    [timing] = ep.benchmark({"a": own}, ATOMS, repeats=1, warmup=1, engines=[engine_named("openequivariance")])
    assert timing.engine == "openequivariance"


@pytest.mark.usefixtures("on_the_cpu")
def test_kernels_with_other_numbers_are_refused(played: type[Kernel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(played, "off", 1e-6)
    with pytest.raises(TargetError, match="'openequivariance' gives other numbers than it should: energy, eV/atom"):
        verified(engine_named("openequivariance"), potential(), ATOMS)


@pytest.mark.parametrize(
    ("name", "flag"), [("cuequivariance", "CUET_AVAILABLE"), ("openequivariance", "OEQ_AVAILABLE")]
)
@pytest.mark.usefixtures("on_the_cpu")
def test_what_mace_builds_in_their_place_is_refused(name: str, flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its converters go on with e3nn, or fail, where the package cannot be imported."""
    monkeypatch.setattr(mace.modules.wrapper_ops, flag, False)
    with pytest.raises(TargetError, match=rf"The engine '{name}' (was asked for, and upstream built|cannot evaluate)"):
        verified(engine_named(name), potential(), ATOMS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("on_the_cpu")
def test_a_model_that_mace_cannot_rebuild_is_refused(name: str) -> None:
    says = rf"'{name}' takes models that mace-torch can rebuild .*: numbers of channels differ.* in this one. Prune to"
    with pytest.raises(TargetError, match=says):
        verified(engine_named(name), potential(HETEROGENEOUS), ATOMS)


@pytest.mark.parametrize("name", NAMES)
def test_a_cpu_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(TargetError, match=f"The engine '{name}' runs on cuda, and the model is on cpu"):
        verified(engine_named(name), potential(), ATOMS)


@pytest.mark.parametrize("name", NAMES)
def test_an_absent_package_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equiprune.adapters.engines.find_spec", lambda module: None)
    monkeypatch.setattr(KernelEngine, "devices", ("cpu",))
    with pytest.raises(TargetError, match=rf"'{name}' is not here: .*not installed.*pip install {name}"):
        verified(engine_named(name), potential(), ATOMS)
