"""Engines of GPU kernels for SevenNet: packages that are not here are played by e3nn, through sevenn's own switches.

So which engine is built, what is refused and what is compared are tested without a GPU; the kernels are not.
"""

from collections.abc import Callable
from typing import Any

import pytest
import sevenn.nn.cue_helper
import sevenn.nn.flash_helper
import sevenn.nn.oeq_helper
import torch
from command_line import Run
from random_models import KINDS, random_checkpoint

import equiprune as ep
from equiprune.adapters.engines import KernelEngine
from equiprune.adapters.sevennet import SevenNetAdapter
from equiprune.errors import TargetError
from equiprune.evaluation.engines import engine_named, verified

pytestmark = pytest.mark.usefixtures("plain_code")
NAMES = ("cuequivariance", "openequivariance", "flashtp")
KIND = KINDS["SO(3), linear self-connection"]
ATOMS = ep.probe_structures(KIND.elements)["ionic"]


class Fused(torch.nn.Module):
    """e3nn's tensor product with the sum over neighbours, which the kernels compute in one go; ``off`` by a share."""

    off = 0.0
    off_gradient = 0.0

    def __init__(self, irreps_in1: Any, irreps_in2: Any, irreps_out: Any, instructions: Any, **_: Any) -> None:
        from e3nn.o3 import TensorProduct

        super().__init__()
        self.product = TensorProduct(
            irreps_in1, irreps_in2, irreps_out, instructions, shared_weights=False, internal_weights=False
        )
        self.width = irreps_out.dim

    def forward(self, x: Any, harmonics: Any, weights: Any, neighbours: Any, centres: Any) -> torch.Tensor:
        messages = self.product(x[neighbours.long()], harmonics, weights) * (1 + self.off)
        messages = messages + self.off_gradient * (messages - messages.detach())
        return messages.new_zeros(len(x), self.width).index_add(0, centres.long(), messages)


def of(module: str) -> type[Fused]:
    """The class as if it was defined in a module of another package."""
    return type("Kernel", (Fused,), {"__module__": module})


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let e3nn play the kernels of a name on the CPU; ``changes`` make them wrong."""

    def play(name: str, **changes: float) -> None:
        flash, cue, oeq = sevenn.nn.flash_helper, sevenn.nn.cue_helper, sevenn.nn.oeq_helper
        written_in = {
            "cuequivariance": "sevenn.nn.cue_helper",
            "openequivariance": "sevenn.nn.oeq_helper",
            "flashtp": "flashTP_e3nn.large",
        }
        kernel = of(written_in[name])
        for attribute, value in changes.items():
            setattr(kernel, attribute, value)

        def patched(module: Any, *_: Any, **__: Any) -> Any:
            fused = sevenn.nn.convolution.IrrepsScatterGatterFusedConvolution.from_irreps_convolution(module)
            fused.convolution_cls = kernel
            return fused

        helper, available = {
            "cuequivariance": (cue, "is_cue_available"),
            "openequivariance": (oeq, "is_oeq_available"),
            "flashtp": (flash, "is_flash_available"),
        }[name]
        monkeypatch.setattr(helper, available, lambda: True)
        monkeypatch.setattr(helper, "patch_convolution", patched)

    return play


@pytest.fixture
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages of kernels count as installed, and the CPU as a device that they run on."""
    monkeypatch.setattr(KernelEngine, "missing", lambda self: ())
    monkeypatch.setattr(KernelEngine, "devices", ("cpu",))


def potential(dtype: torch.dtype = torch.float32) -> ep.Potential:
    return ep.Potential.create(SevenNetAdapter(), random_checkpoint(KIND), dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("on_the_cpu")
def test_right_kernels_are_used_after_a_comparison(name: str, played: Callable[..., None]) -> None:
    played(name)
    own = potential()
    found = verified(engine_named(name), own, ATOMS)
    [engine] = [each for each in SevenNetAdapter().engines() if each.name == name]
    for convolution in engine.convolutions(found.module):
        assert isinstance(convolution, Fused)
        assert type(convolution).__module__.startswith(engine.written_in)
    assert len(engine.convolutions(found.module)) == KIND.interactions
    [a], [b] = found.predict([ATOMS]), own.predict([ATOMS])
    torch.testing.assert_close(a.forces, b.forces, rtol=1e-4, atol=1e-4)
    [timing] = ep.benchmark({"a": own}, ATOMS, repeats=1, warmup=1, engines=[engine_named(name)])
    assert timing.engine == name


@pytest.mark.parametrize(
    ("name", "wrong", "says"),
    [
        ("cuequivariance", {"off": 1e-6}, "energy"),
        ("openequivariance", {"off_gradient": 1e-6}, "forces"),
        ("flashtp", {"off_gradient": 1e-1}, "forces"),
    ],
)
@pytest.mark.usefixtures("on_the_cpu")
def test_kernels_with_other_numbers_are_refused(
    name: str, wrong: dict[str, float], says: str, played: Callable[..., None]
) -> None:
    played(name, **wrong)
    with pytest.raises(TargetError, match=rf"The engine '{name}' gives other numbers than it should: {says}, e"):
        verified(engine_named(name), potential(), ATOMS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("on_the_cpu")
def test_what_sevenn_builds_in_their_place_is_refused(name: str) -> None:
    """It warns and goes on with e3nn where a package or a GPU is missing."""
    with pytest.raises(TargetError, match=rf"'{name}' was asked for, and upstream built TensorProduct of e3nn"):
        verified(engine_named(name), potential(), ATOMS)


@pytest.mark.usefixtures("on_the_cpu")
def test_a_refusal_of_upstream_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("mul % 32")

    monkeypatch.setattr(sevenn.nn.flash_helper, "is_flash_available", lambda: True)
    monkeypatch.setattr(sevenn.nn.flash_helper, "patch_convolution", refuse)
    says = r"The engine 'flashtp' cannot evaluate this model \(AssertionError: mul % 32\)"
    with pytest.raises(TargetError, match=says):
        verified(engine_named("flashtp"), potential(), ATOMS)


@pytest.mark.usefixtures("on_the_cpu")
def test_kernels_that_fail_when_they_are_run_are_refused(
    played: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no kernel image is available\nfor execution")

    played("openequivariance")
    monkeypatch.setattr(Fused, "forward", fail)
    with pytest.raises(
        TargetError, match=r"'openequivariance' cannot evaluate this model \(RuntimeError: no kernel im"
    ):
        verified(engine_named("openequivariance"), potential(), ATOMS)


@pytest.mark.usefixtures("on_the_cpu")
def test_flashtp_has_float32_alone(played: Callable[..., None]) -> None:
    played("flashtp")
    with pytest.raises(TargetError, match="The engine 'flashtp' computes in float32, not in float64"):
        verified(engine_named("flashtp"), potential(torch.float64), ATOMS)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cuequivariance", "cuequivariance-ops-torch-cu12"),
        ("openequivariance", "Install it with: pip install openequivariance"),
        ("flashtp", "github.com/SNU-ARC/flashTP"),
    ],
)
def test_an_absent_package_is_told(name: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equiprune.adapters.engines.find_spec", lambda module: None)
    monkeypatch.setattr(KernelEngine, "devices", ("cpu",))
    with pytest.raises(TargetError, match=rf"'{name}' is not here: .* not installed.*{says}"):
        verified(engine_named(name), potential(), ATOMS)


@pytest.mark.parametrize("name", NAMES)
def test_a_cpu_is_refused_and_so_is_a_machine_without_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before packages are asked for: on such a device they would be of no use."""
    monkeypatch.setattr("equiprune.adapters.engines.find_spec", lambda module: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(TargetError, match=f"'{name}' runs on cuda, and the model is on cpu. Open the model on cuda"):
        engine_named(name).prepared(potential(), [])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TargetError, match=f"'{name}' is not here: torch sees no NVIDIA GPU. Choose another engine"):
        engine_named(name).prepared(potential(), [])
    [engine] = [each for each in SevenNetAdapter().engines() if each.name == name]
    assert engine.why_not_here() == "torch sees no NVIDIA GPU"


@pytest.mark.slow
def test_the_command_line_names_the_package(refused: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equiprune.adapters.engines.find_spec", lambda module: None)
    monkeypatch.setattr(KernelEngine, "devices", ("cpu",))
    command = ("benchmark", "7net-compact", "--engine", "openequivariance", "--repeats", 1)
    refused(*command, says="openequivariance is not installed. Install it with: pip install openequivariance.")
