"""Files that are no MACE model, or hold one that cannot be pruned exactly, are refused by name."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from stock_modules import block, constructed, refusal, unpickled

from equiprune.adapters.mace import MaceAdapter
from equiprune.adapters.mace.build import upstream

with upstream(torch.float64):
    from e3nn.util import jit
    from mace import modules as mace
    from mace.calculators import LAMMPS_MACE


def changed(template: Path, change: Callable[[Any], Any], path: Path) -> Path:
    """The template with a change, or what the change returns instead of it."""
    module = unpickled(template)
    torch.save(change(module) or module, path)
    return path


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A class of this full name, in a package that is not installed."""

    def make(name: str) -> Any:
        package, _, short = name.rpartition(".")
        module = ModuleType(package)
        made = type(short, (torch.nn.Module,), {"__module__": package})
        setattr(module, short, made)
        monkeypatch.setitem(sys.modules, package, module)
        monkeypatch.setitem(sys.modules, (top := package.partition(".")[0]), sys.modules.get(top, ModuleType(top)))
        return made

    return make


def reclassed(module: Any, kind: type) -> Any:
    """The same content as another class, as an object of it would be pickled."""
    other = torch.nn.Module.__new__(kind)
    other.__dict__.update(module.__dict__)
    return other


def test_an_unknown_class_is_refused(template: Path, tmp_path: Path, foreign: Callable[[str], Any]) -> None:
    made = foreign("lab.extras.Booster")
    path = changed(template, lambda module: module.add_module("extra", made()), tmp_path / "x.model")
    assert "names 'lab.extras.Booster'" in refusal(path)


@pytest.mark.parametrize(
    ("name", "package", "converter"),
    [
        ("cuequivariance_torch.Linear", "cuequivariance_torch", "mace_cueq_to_e3nn"),
        ("openequivariance.TensorProduct", "openequivariance", "convert_oeq_e3nn"),
    ],
)
def test_the_layout_of_an_accelerated_backend_is_refused(
    name: str, package: str, converter: str, template: Path, tmp_path: Path, foreign: Callable[[str], Any]
) -> None:
    kind = foreign(name)

    def convert(module: Any) -> None:
        module.interactions[0].linear = kind()

    message = refusal(changed(template, convert, tmp_path / "x.model"))
    assert f"accelerated backend ({package})" in message
    assert converter in message


@pytest.mark.parametrize("name", ["AtomicDipolesMACE", "EnergyDipolesMACE", "AtomicDielectricMACE"])
def test_a_model_of_dipoles_is_refused(name: str, template: Path, tmp_path: Path) -> None:
    path = changed(template, lambda module: reclassed(module, getattr(mace, name)), tmp_path / "x.model")
    message = refusal(path)
    assert f"it is a mace.modules.models.{name};" in message
    assert "ScaleShiftMACE and MACE of mace-torch 0.3 are supported" in message


@pytest.mark.parametrize("name", ["mace.core.Foo", "mace.models.ScaleShiftMACE"])
def test_a_model_of_mace_v1_is_refused(
    name: str, template: Path, tmp_path: Path, foreign: Callable[[str], Any]
) -> None:
    kind = foreign(name)
    message = refusal(changed(template, lambda module: reclassed(module, kind), tmp_path / "x.model"))
    assert f"it is a {name};" in message
    assert "MACE v1" in message


UNSUPPORTED = {
    "RealAgnosticAttResidualInteractionBlock": {
        "correlation": 1,
        "interaction_cls": block("RealAgnosticAttResidualInteractionBlock"),
    },
    "NonLinearBiasReadoutBlock": {"correlation": 1, "readout_cls": mace.NonLinearBiasReadoutBlock},
    "embedding_specs": {
        "num_interactions": 1,
        "correlation": 1,
        "embedding_specs": {"elec_temp": {"type": "continuous", "in_dim": 1, "emb_dim": 4, "per": "graph"}},
    },
}


@pytest.mark.parametrize("name", UNSUPPORTED)
@pytest.mark.supports("MACE with attention blocks (random weights)", "opens", answer="refused")
def test_parts_that_cannot_be_pruned_exactly_are_refused(name: str, tmp_path: Path) -> None:
    """Files that upstream's own constructor made."""
    torch.save(constructed(UNSUPPORTED[name]), tmp_path / "x.model")
    message = refusal(tmp_path / "x.model")
    assert "cannot be pruned" in message
    assert name in message


def test_the_reduced_product_basis_is_refused(tmp_path: Path) -> None:
    module = constructed({"num_interactions": 1, "max_ell": 2, "correlation": 3})
    contraction = module.products[0].symmetric_contractions.contractions[0]
    contraction.weights_max = torch.nn.Parameter(contraction.weights_max[:, :-2])
    torch.save(module, tmp_path / "x.model")
    message = refusal(tmp_path / "x.model")
    assert "weights_max has shape" in message
    assert "use_reduced_cg" in message


def without(*names: str) -> Callable[[Any], None]:
    def change(module: Any) -> None:
        for name in names:
            owner, _, weight = name.rpartition(".")
            delattr(module.get_submodule(owner), weight)

    return change


DAMAGED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a weight is missing": (
        without("node_embedding.linear.weight"),
        "lacks the weights ['node_embedding.linear.weight",
    ),
    "many are missing": (
        without(*(f"interactions.0.conv_tp_weights.layer{i}.weight" for i in range(3)), "readouts.0.linear.weight"),
        "'interactions.0.conv_tp_weights.layer2.weight']...",
    ),
    "a weight has another shape": (
        lambda m: m.readouts[0].linear.register_parameter("weight", torch.nn.Parameter(torch.zeros(7))),
        "readouts.0.linear.weight has shape (7,), expected (4,)",
    ),
    "no interactions": (lambda m: m.add_module("interactions", torch.nn.ModuleList()), "not in the form"),
    "a block is missing": (lambda m: m.__delattr__("products"), "without 'products'"),
    "two cutoffs": (lambda m: m.register_buffer("r_max", torch.ones(2)), "not in the form"),
    "an infinite cutoff": (lambda m: m.register_buffer("r_max", torch.tensor(float("inf"))), "inf Angstrom"),
    "element 500": (lambda m: m.atomic_numbers.fill_(500), "elements"),
    "an element twice": (lambda m: m.atomic_numbers.__setitem__(0, 8), "elements (8, 8,"),
    "a module inside itself": (lambda m: m.add_module("again", m), "not in the form"),
    "provenance that is no JSON": (lambda m: setattr(m, "equiprune_provenance", "{"), "not in the form"),
    "provenance that is a list": (lambda m: setattr(m, "equiprune_provenance", "[]"), "not in the form"),
    "a history of numbers": (lambda m: setattr(m, "equiprune_provenance", '{"history": [1]}'), "not in the form"),
    "another radial function": (
        lambda m: setattr(m.radial_embedding, "bessel_fn", torch.nn.Identity()),
        "KeyError: 'Identity'",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_model_is_refused(name: str, template: Path, tmp_path: Path) -> None:
    change, says = DAMAGED[name]
    path = changed(template, lambda module: (change(module), None)[1], tmp_path / "x.model")
    assert says in refusal(path)


def test_an_unknown_gate_is_refused(tmp_path: Path) -> None:
    torch.save(constructed({"correlation": 1, "gate": torch.nn.functional.softplus}), tmp_path / "x.model")
    assert "activation 'softplus'; abs, tanh, silu and None are supported" in refusal(tmp_path / "x.model")


def test_a_file_for_lammps_is_refused_whatever_its_name(template: Path, tmp_path: Path) -> None:
    with upstream(torch.float64):
        jit.compile(LAMMPS_MACE(unpickled(template))).save(tmp_path / "x-lammps.pt")
    (tmp_path / "x-lammps.pt").rename(tmp_path / "x.model")
    message = refusal(tmp_path / "x.model")
    assert "deployed (TorchScript) model" in message
    assert "Give the file it was made from" in message


@pytest.mark.parametrize("kept", [0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(kept: float, template: Path, tmp_path: Path) -> None:
    content = template.read_bytes()
    (tmp_path / "x.model").write_bytes(content[: int(kept * len(content))])
    assert "may be empty or truncated" in refusal(tmp_path / "x.model")


def test_weights_without_a_model_are_refused(template: Path, tmp_path: Path) -> None:
    """Checkpoints of mace_run_train, for example."""
    path = changed(template, lambda module: {"model": module.state_dict(), "epoch": 3}, tmp_path / "x.model")
    assert "holds a dict, not a model saved with torch.save(model)" in refusal(path)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.model").mkdir()
    assert "is not a model that equiprune wrote" in refusal(tmp_path / "x.model")


# Wrappers: read where they only hold the module.


@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, torch.optim.swa_utils.AveragedModel])
def test_a_module_in_a_wrapper_is_read(
    wrap: Callable[[torch.nn.Module], torch.nn.Module], template: Path, tmp_path: Path
) -> None:
    """As somebody saves it who trains on several devices, or with averages of the weights."""
    path = changed(template, wrap, tmp_path / "x.model")
    assert MaceAdapter().recognises(path)
    found, expected = MaceAdapter().read(path), MaceAdapter().read(template)
    assert found.architecture == expected.architecture
    assert found.weights.keys() == expected.weights.keys()
    assert all(torch.equal(found.weights[name], weight) for name, weight in expected.weights.items())
