"""MACE files come in as stock MACE itself reads them, go out bit for bit, and what is not MACE is refused by name."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from random_mace import ELEMENTS, KINDS, LINEAR, random_checkpoint, stock

import equiprune as ep
from equiprune.adapters import Checkpoint
from equiprune.adapters.mace import MaceAdapter, export
from equiprune.adapters.mace.architecture import (
    Block,
    Interaction,
    MaceArchitecture,
    Radial,
    Readout,
    ReadoutKind,
    Transform,
)
from equiprune.adapters.mace.modules import upstream
from equiprune.adapters.mace.published import PUBLISHED
from equiprune.errors import CheckpointError, OutputError

with upstream(torch.float64):
    from e3nn import o3
    from e3nn.math import normalize2mom
    from e3nn.util import jit
    from mace import modules as mace
    from mace.calculators import LAMMPS_MACE, MACECalculator

SILU, TANH, ABS = (normalize2mom(f).cst for f in (torch.nn.functional.silu, torch.tanh, torch.abs))
EVERY_HEAD = ("atomic_energies", "scale", "shift")


def unpickled(path: Path) -> Any:
    """The module as stock tools open it."""
    with upstream(torch.float64):
        return torch.load(path, map_location="cpu", weights_only=False)


def stock_values(module: Any, structures: list[Atoms], head: str | None = None) -> list[dict[str, torch.Tensor]]:
    """What the stock calculator gives in float64."""
    with upstream(torch.float64):
        chosen = {"head": head} if head else {}
        calculator = MACECalculator(models=[module], device="cpu", default_dtype="float64", **chosen)
        values = []
        for atoms in structures:
            atoms = atoms.copy()
            atoms.calc = calculator
            found = (atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False))
            values.append(dict(zip(("energy", "forces", "stress"), map(torch.tensor, found), strict=True)))
        return values


def assert_stock(potential: ep.Potential, module: Any, structures: list[Atoms]) -> None:
    """Energies, forces and stress are those of the stock calculator to 1e-12, of the largest where that is more."""
    stock_said = stock_values(module, structures, potential.head)
    for ours, theirs in zip(potential.predict(structures), stock_said, strict=True):
        for quantity, value in theirs.items():
            assert (getattr(ours, quantity) - value).abs().max() <= 1e-12 * max(1, value.abs().max()), quantity


# The official small model.


def test_the_official_file_has_the_hyperparameters_it_was_trained_with(official: Path) -> None:
    def interaction(readout: Readout) -> Interaction:
        return Interaction(
            block=Block.RESIDUAL,
            edge_irreps="128x0e",
            edge_lmax=3,
            a_basis="128x0e+128x1o+128x2e+128x3o",
            hidden_irreps="128x0e",
            correlation=3,
            radial_widths=(64, 64, 64),
            avg_num_neighbors=61.964672446250916,
            readout=readout,
        )

    assert MaceAdapter().read(official).architecture == MaceArchitecture(
        elements=(*range(1, 84), *range(89, 95)),
        cutoff=6.0,
        channels=128,
        steps=(interaction(LINEAR), interaction(Readout(ReadoutKind.NONLINEAR, 16))),
        radial_basis=10,
        cutoff_power=5,
        activation_constants={"silu": SILU},
    )


def test_it_has_the_published_number_of_parameters_and_is_stock(parent: ep.Potential) -> None:
    assert parent.parameters() == parent.parameters(trainable_only=True) == 3_847_696
    assert parent.architecture.stock


def test_every_weight_and_constant_is_that_of_upstreams_own_unpickler(official: Path, parent: ep.Potential) -> None:
    """The coupling tensors, which are rebuilt, included."""
    theirs, ours = unpickled(official).state_dict(), parent.module.state_dict()
    weights = parent.checkpoint.weights
    assert weights.keys() < theirs.keys() <= ours.keys()
    assert sum("U_matrix" in name for name in theirs) == 6
    assert [name for name in theirs if not torch.equal(theirs[name], ours[name])] == []
    assert [name for name in weights if weights[name].dtype != theirs[name].dtype] == []
    assert all(name.endswith("_zeroed") and not ours[name].any() for name in ours.keys() - theirs.keys())


def test_its_predictions_are_those_of_the_stock_calculator(
    official: Path, parent: ep.Potential, probes: list[Atoms]
) -> None:
    assert_stock(parent, unpickled(official), probes)


def test_its_licence_is_known_by_its_content(official: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "mine.model"
    shutil.copy(official, elsewhere)
    assert MaceAdapter().read(elsewhere).licence == "MIT"
    with elsewhere.open("ab") as stream:
        stream.write(b"\0")
    assert MaceAdapter().read(elsewhere).licence == "unknown"


READ_WITHOUT_BACKEND = """
import sys
for name in ("mace", "e3nn", "opt_einsum_fx"):
    sys.modules[name] = None
from equiprune.checkpoint import read_checkpoint
from equiprune.summary import describe_model
adapter, checkpoint = read_checkpoint(sys.argv[1])
print(describe_model(adapter, checkpoint)["parameters"]["all"])
print([name for name in sys.modules if name.split(".")[0] in ("mace", "e3nn") and sys.modules[name]])
"""


def test_reading_needs_neither_mace_nor_e3nn(official: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", READ_WITHOUT_BACKEND, str(official)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["3847696", "[]"]


# What equiprune writes comes back.


@cache
def checkpoint_of(kind: str) -> Checkpoint:
    """A random model with a licence, and a step behind it."""
    step = {"step": "prune", "parent": "x", "parent_sha256": "ab", "dtype": "float64", "note": {"Å": [1, None]}}
    return replace(random_checkpoint(KINDS[kind]), licence="CC-BY-4.0", history=(step,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_model_reads_back_bit_for_bit(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """Written, opened by the stock calculator, and read again; ``ep.save`` compares the energies."""
    checkpoint = checkpoint_of(kind)
    heads, path = checkpoint.architecture.heads, tmp_path / "x.model"
    written = replace(checkpoint, weights={n: w.to(dtype) for n, w in checkpoint.weights.items()})
    potential = ep.Potential.create(MaceAdapter(), written, dtype, heads[-1] if heads else None)
    assert ep.save(potential, path) == (path,)
    _, found = ep.read_checkpoint(path)
    assert found.architecture == replace(checkpoint.architecture, activation_constants={"silu": SILU})
    assert found.weights.keys() == written.weights.keys()
    assert [
        n for n, w in written.weights.items() if found.weights[n].dtype != dtype or not w.equal(found.weights[n])
    ] == []
    assert (found.licence, found.history, found.source) == ("CC-BY-4.0", checkpoint.history, str(path))
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [p.name for p in tmp_path.iterdir()] == ["x.model"]


def test_a_cutoff_is_the_same_number_in_either_precision(tmp_path: Path) -> None:
    """5.2 is 5.199999809 in single precision; a child rounded to it must not look like another architecture."""
    ep.save(created(stock(cutoff=5.2, interactions=1, max_ell=1, correlation=1)), tmp_path / "parent.model")
    parent = ep.load(tmp_path / "parent.model", dtype=torch.float32)
    child = ep.prune(parent, ep.allocate(parent, [ep.Elements((14, 29))]))
    ep.save(child, tmp_path / "child.model")
    found = ep.load(tmp_path / "child.model")
    assert found.checkpoint.weights["r_max"].dtype == torch.float32
    assert found.architecture == child.architecture
    assert found.architecture.cutoff == 5.2


@pytest.mark.parametrize("gate", ["tanh", "abs", "None"])
def test_the_gate_goes_with_the_last_non_linear_readout(gate: str, tmp_path: Path) -> None:
    """A file of linear readouts says nothing of gates, so a model pruned to them must not either."""
    constants = {"silu": SILU, "tanh": TANH, "abs": ABS}
    parent = created(stock(gate=gate, max_ell=1, correlation=1, activation_constants=constants))
    child = ep.prune(parent, ep.allocate(parent, [ep.Interactions(1)]))
    MaceAdapter().export(child.checkpoint, tmp_path / "x.model")
    assert MaceAdapter().read(tmp_path / "x.model").architecture == child.architecture


@pytest.mark.parametrize("kept", [("c", "a"), ("b",)])
def test_heads_that_are_left_come_back_in_their_order(kept: tuple[str, ...], tmp_path: Path) -> None:
    arch = stock(interactions=1, max_ell=1, correlation=1, heads=("a", "b", "c"), per_head=EVERY_HEAD)
    parent = created(arch, kept[0])
    MaceAdapter().export(parent.checkpoint, tmp_path / "parent.model")
    parent = ep.load(tmp_path / "parent.model", head=kept[0])
    child = ep.prune(parent, ep.allocate(parent, [ep.Heads(kept)]))
    MaceAdapter().export(child.checkpoint, tmp_path / "x.model")
    found = MaceAdapter().read(tmp_path / "x.model").architecture
    assert found == child.architecture
    assert (found.heads, found.head_name) == ((kept, "Default") if len(kept) > 1 else ((), "b"))


def test_building_and_writing_leave_torchs_default_and_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", raising=False)
    before = torch.get_default_dtype()
    ep.save(created(stock(interactions=1, max_ell=1, correlation=1)), tmp_path / "x.model")
    assert torch.get_default_dtype() is before
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ


def test_another_e3nn_cannot_write_what_stock_mace_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But a directory, from which it can be exported elsewhere."""
    potential = created(stock(interactions=1, max_ell=1, correlation=1))
    monkeypatch.setattr(export, "version", {"e3nn": "0.5.9"}.__getitem__)
    with pytest.raises(OutputError, match=r"e3nn 0\.5\.9 is installed, .* needs e3nn 0\.4\.4\. .*save to a directory"):
        ep.save(potential, tmp_path / "x.model")
    assert list(tmp_path.iterdir()) == []
    assert ep.save(potential, tmp_path / "x") == (tmp_path / "x",)


def created(arch: MaceArchitecture, head: str | None = None) -> ep.Potential:
    return ep.Potential.create(MaceAdapter(), random_checkpoint(arch), torch.float64, head)


# What users of mace-torch have: modules made by its own constructor.


@dataclass(frozen=True)
class Made:
    """A call of upstream's constructor, and the hyperparameters that must be read from its file (None: not compared).

    Some calls make what `MaceArchitecture` does not call stock, because tools that rebuild a model lose it.
    """

    arguments: dict[str, Any]
    expected: MaceArchitecture | None
    why_not_stock: str = ""
    scaled: bool = True
    head: str | None = None


def small(**changes: Any) -> MaceArchitecture:
    return stock(**{"max_ell": 1, "correlation": 2, **changes})


def block(name: str) -> Any:
    return mace.interaction_classes[name]


def heads(number: int) -> dict[str, Any]:
    """Constants with an axis for heads, as mace_run_train writes them."""
    return {
        "atomic_energies": np.zeros((number, len(ELEMENTS))),
        "atomic_inter_scale": np.ones(number),
        "atomic_inter_shift": np.zeros(number),
    }


MADE = {
    "axes for a single head": Made(heads(1) | {"heads": ["pbe"]}, small(per_head=EVERY_HEAD, head_name="pbe")),
    "energies alone have an axis, tanh, SoftTransform, Gaussians": Made(
        {
            "atomic_energies": np.zeros((1, len(ELEMENTS))),
            "gate": torch.tanh,
            "distance_transform": "Soft",
            "radial_type": "gaussian",
        },
        small(
            per_head=("atomic_energies",),
            gate="tanh",
            activation_constants={"silu": SILU, "tanh": TANH},
            transform=Transform.SOFT,
            radial=Radial.GAUSSIAN,
        ),
    ),
    "three heads, two of them used in other models, max_ell 3": Made(
        heads(3) | {"heads": ["a", "b", "c"], "max_ell": 3},
        small(heads=("a", "b", "c"), per_head=EVERY_HEAD, max_ell=3),
        head="b",
    ),
    "MACE without scale, ZBL, abs, Chebyshev": Made(
        {"gate": torch.abs, "radial_type": "chebyshev", "pair_repulsion": True},
        small(
            scale_shift=False,
            pair_repulsion=True,
            gate="abs",
            radial=Radial.CHEBYSHEV,
            activation_constants={"silu": SILU, "abs": ABS},
        ),
        scaled=False,
    ),
    "no gate, cutoff on the weights, density, Agnesi": Made(
        {
            "gate": None,
            "apply_cutoff": False,
            "distance_transform": "Agnesi",
            "interaction_cls_first": block("RealAgnosticDensityInteractionBlock"),
            "interaction_cls": block("RealAgnosticDensityResidualInteractionBlock"),
        },
        small(
            gate="None",
            apply_cutoff=False,
            transform=Transform.AGNESI,
            first=Block.DENSITY,
            others=Block.DENSITY_RESIDUAL,
        ),
    ),
    "SO(3), correlation 4": Made(
        {"use_so3": True, "hidden_irreps": o3.Irreps("4x0e+4x1e"), "correlation": 4},
        replace(
            small(correlation=4, use_so3=True),
            steps=tuple(
                replace(
                    step,
                    **{k: getattr(step, k).replace("1o", "1e") for k in ("edge_irreps", "a_basis", "hidden_irreps")},
                )
                for step in small(correlation=4).steps
            ),
        ),
    ),
    "correlation 4, only the last readout": Made(
        {"correlation": 4, "use_last_readout_only": True},
        replace(
            small(correlation=4),
            steps=tuple(
                replace(step, readout=Readout(ReadoutKind.NONE)) if t == 0 else step
                for t, step in enumerate(small(correlation=4).steps)
            ),
        ),
    ),
    "edge_irreps, orders that differ, radial network of one layer": Made(
        {"edge_irreps": o3.Irreps("3x0e+2x1o"), "num_interactions": 3, "correlation": [3, 2, 1], "radial_MLP": [6]},
        replace(
            (arch := small(interactions=3, correlation=(3, 2, 1), radial_widths=(6,))),
            steps=(arch.steps[0], *(replace(step, edge_irreps="3x0e+2x1o") for step in arch.steps[1:])),
        ),
        "interactions differ in correlation",
    ),
    "agnostic product, plain first block, numbers of NumPy": Made(
        {
            "use_agnostic_product": True,
            "interaction_cls_first": block("RealAgnosticInteractionBlock"),
            "avg_num_neighbors": np.float64(1.7),
            "atomic_numbers": np.array(ELEMENTS),
            "r_max": np.float64(5.2),
        },
        small(agnostic_product=True, first=Block.PLAIN, avg_num_neighbors=1.7, cutoff=5.2),
    ),
    "one interaction, one element, l beyond max_ell": Made(
        {
            "num_interactions": 1,
            "num_elements": 1,
            "atomic_numbers": [14],
            "atomic_energies": np.zeros(1),
            "hidden_irreps": o3.Irreps("4x0e+4x1o+4x2e"),
        },
        small(interactions=1, elements=(14,)),
    ),
    "edge irreps in the first interaction too, l > 0 in the last": Made(
        {"edge_irreps": o3.Irreps("3x0e+2x1o"), "use_edge_irreps_first": True, "keep_last_layer_irreps": True},
        None,
        "the last features have l > 0",
    ),
    "pseudoscalars": Made(
        {"hidden_irreps": o3.Irreps("4x0e+4x0o+4x1o+4x1e")}, None, "an A-basis has other l than the spherical harmonics"
    ),
}


def constructed(arguments: dict[str, Any], *, scaled: bool = True) -> Any:
    """A module of upstream's constructor in float64."""
    with upstream(torch.float64):
        residual = block("RealAgnosticResidualInteractionBlock")
        usual = {
            "r_max": 4.5,
            "num_bessel": 5,
            "num_polynomial_cutoff": 5,
            "max_ell": 1,
            "interaction_cls": residual,
            "interaction_cls_first": residual,
            "num_interactions": 2,
            "num_elements": len(ELEMENTS),
            "hidden_irreps": o3.Irreps("4x0e+4x1o"),
            "MLP_irreps": o3.Irreps("5x0e"),
            "atomic_energies": np.zeros(len(ELEMENTS)),
            "avg_num_neighbors": 1.5,
            "atomic_numbers": list(ELEMENTS),
            "correlation": 2,
            "gate": torch.nn.functional.silu,
            "radial_MLP": [8, 7],
            "use_reduced_cg": False,
        }
        scale = {"atomic_inter_scale": 1.0, "atomic_inter_shift": 0.0} if scaled else {}
        return (mace.ScaleShiftMACE if scaled else mace.MACE)(**{**usual, **scale, **arguments})


@dataclass(frozen=True)
class User:
    """A module as a user has it, and its file."""

    made: Made
    module: Any
    path: Path


@pytest.fixture(scope="module", params=MADE)
def user(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> User:
    """Each of `MADE`, with weights to which every interaction contributes."""
    made, path = MADE[request.param], tmp_path_factory.mktemp("user") / "trained.model"
    module = constructed(made.arguments, scaled=made.scaled)
    torch.save(module, path)
    weights = random_checkpoint(MaceAdapter().read(path).architecture).weights
    assert module.load_state_dict(dict(weights), strict=False).unexpected_keys == []
    torch.save(module, path)
    return User(made, module, path)


def test_its_hyperparameters_are_those_given_to_the_constructor(user: User) -> None:
    checkpoint, made = MaceAdapter().read(user.path), user.made
    assert made.expected in (None, checkpoint.architecture)
    assert checkpoint.architecture.why_not_stock == made.why_not_stock
    assert (checkpoint.licence, checkpoint.history) == ("unknown", ())


def test_its_weights_come_bit_for_bit_and_all_of_them(user: User) -> None:
    """What is not read is derived: coupling tensors, counts and empty placeholders."""
    weights, theirs = MaceAdapter().read(user.path).weights, user.module.state_dict()
    assert [name for name, weight in weights.items() if not torch.equal(weight, theirs[name])] == []
    assert {name for name, _ in user.module.named_parameters()} <= weights.keys()


def test_the_rebuilt_module_is_upstreams_and_predicts_the_same(user: User) -> None:
    """Names, shapes, derived constants; then energies, forces and stress."""
    ours = ep.load(user.path, dtype=torch.float64, head=user.made.head)
    found, theirs = ours.module.state_dict(), user.module.state_dict()
    assert list(found) == list(theirs)
    assert [name for name in theirs if not torch.equal(found[name], theirs[name])] == []
    assert type(ours.module) is type(user.module)
    assert_stock(ours, user.module, list(ep.probe_structures(ours.elements).values()))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest ordinary file."""
    path = tmp_path_factory.mktemp("template") / "ordinary.model"
    torch.save(constructed({"num_interactions": 1, "correlation": 1}), path)
    return path


def with_constants(path: Path, *constants: float) -> Any:
    """A written module with other second-moment constants of e3nn, which are attributes and no weights."""
    module = constructed({"correlation": 1})
    activations = [part for part in module.modules() if isinstance(part, normalize2mom)]
    for activation, constant in zip(activations, constants, strict=True):
        activation.cst = constant
    torch.save(module, path)
    return module


def test_activation_constants_that_are_not_todays_are_kept(tmp_path: Path) -> None:
    """Of two radial networks and the gate."""
    module = with_constants(tmp_path / "x.model", 1.5, 1.5, 1.5)
    ours = ep.load(tmp_path / "x.model", dtype=torch.float64)
    assert ours.architecture.activation_constants == {"silu": 1.5}
    assert_stock(ours, module, list(ep.probe_structures(ours.elements).values()))


def test_two_constants_of_one_activation_are_refused(tmp_path: Path) -> None:
    with_constants(tmp_path / "x.model", 1.5, 1.5, 1.6)
    assert "normalises silu by two different constants" in refusal(tmp_path / "x.model")


# Refusals.


def refusal(path: Path) -> str:
    """The message of the error, which names the file."""
    with pytest.raises(CheckpointError) as caught:
        ep.read_checkpoint(path)
    assert f"'{path}'" in str(caught.value)
    return str(caught.value)


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
    "RealAgnosticResidualNonLinearInteractionBlock": {
        "num_interactions": 1,
        "correlation": 1,
        "interaction_cls_first": block("RealAgnosticResidualNonLinearInteractionBlock"),
    },
    "RealAgnosticAttResidualInteractionBlock": {
        "correlation": 1,
        "interaction_cls": block("RealAgnosticAttResidualInteractionBlock"),
    },
    "NonLinearBiasReadoutBlock": {"correlation": 1, "readout_cls": mace.NonLinearBiasReadoutBlock},
    "embedding_specs": {
        "num_interactions": 1,
        "correlation": 1,
        "embedding_specs": {"total_charge": {"type": "continuous", "in_dim": 1, "emb_dim": 4, "per": "graph"}},
    },
}


@pytest.mark.parametrize("name", UNSUPPORTED)
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


# Published models.

LICENCES = {
    "mace-mp-small": "MIT",
    "mace-mp-medium": "MIT",
    "mace-mp-large": "MIT",
    "mace-mpa-0": "MIT",
    "mace-omat-0-small": "ASL",
    "mace-omat-0": "ASL",
    "mace-off-small": "ASL",
    "mace-off-medium": "ASL",
    "mace-off-large": "ASL",
}


def test_every_alias_has_its_licence_digest_and_address() -> None:
    """Commercial use of a model under the ASL is not allowed, so the licence must be said."""
    assert {alias: file.licence.partition(" ")[0] for alias, (_, file) in PUBLISHED.items()} == LICENCES
    assert len({file.sha256 for _, file in PUBLISHED.values()}) == len(LICENCES)
    for _, file in PUBLISHED.values():
        assert len(bytes.fromhex(file.sha256)) == 32
        assert file.url.startswith("https://")
        assert file.url.endswith(f"/{file.name}")


def test_aliases_are_described() -> None:
    described = MaceAdapter().aliases()
    assert described.keys() == LICENCES.keys()
    assert described["mace-mp-small"] == "MACE-MP-0 small (L = 0, 128 channels)"


@pytest.mark.parametrize("written", ["mace-mp-small", "MACE-MP-small"])
def test_an_alias_in_the_cache_needs_no_network(written: str, alias: str, official: Path) -> None:
    _, checkpoint = ep.read_checkpoint(written)
    assert written.lower() == alias
    assert checkpoint.sha256 == hashlib.sha256(official.read_bytes()).hexdigest()
    assert (checkpoint.source, checkpoint.licence) == (written, "MIT")


@pytest.mark.parametrize(
    ("variable", "folder", "name"),
    [
        ("HOME", ".cache/mace", "20231210mace128L0_energy_epoch249model"),
        ("XDG_CACHE_HOME", "mace", "20231210mace128L0_energy_epoch249model"),
    ],
)
def test_a_file_that_mace_downloaded_is_used(
    variable: str, folder: str, name: str, official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As mace_mp names it in its own cache (mace/calculators/foundations_models.py)."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("EQUIPRUNE_OFFLINE", "1")
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / name).symlink_to(official)
    assert ep.read_checkpoint("mace-mp-small")[1].licence == "MIT"
    assert not (tmp_path / "own").exists()


def test_mace_keeps_its_organic_models_under_their_names() -> None:
    _, file = PUBLISHED["mace-off-small"]
    assert "~/.cache/mace/MACE-OFF23_small.model" in file.elsewhere


def test_offline_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EQUIPRUNE_OFFLINE", "1")
    with pytest.raises(CheckpointError) as caught:
        ep.load("mace-off-large")
    for word in ("EQUIPRUNE_OFFLINE", PUBLISHED["mace-off-large"][1].url, str(tmp_path / "cache" / "MACE-OFF23_large")):
        assert word in str(caught.value)


class Site(ThreadingHTTPServer):
    """A web site with one file."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.hits = content, 0
        self.url = f"http://127.0.0.1:{self.server_port}/ordinary.model"


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.hits += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def site(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """It publishes the template as ``mace-mp-small``."""
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in ("EQUIPRUNE_OFFLINE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with Site(template.read_bytes()) as site:
        description, file = PUBLISHED["mace-mp-small"]
        digest = hashlib.sha256(site.content).hexdigest()
        published = replace(file, name="ordinary.model", url=site.url, sha256=digest, licence="CC0-1.0")
        monkeypatch.setitem(PUBLISHED, "mace-mp-small", (description, published))  # type: ignore[arg-type]
        threading.Thread(target=site.serve_forever, args=(0.005,), daemon=True).start()
        yield site
        site.shutdown()


def test_an_alias_is_downloaded_once_and_has_its_licence(
    site: Site, template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = ep.load("mace-mp-small", dtype=torch.float64)
    assert "licence: CC0-1.0" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["ordinary.model"]
    assert ep.load("mace-mp-small").checkpoint.sha256 == first.checkpoint.sha256
    assert site.hits == 1
    assert first.checkpoint.licence == ep.load(template).checkpoint.licence == "CC0-1.0"
    assert_stock(first, unpickled(template), list(ep.probe_structures(first.elements).values()))


def test_a_download_of_other_content_is_refused_and_not_kept(site: Site, tmp_path: Path) -> None:
    site.content += b"\0"
    with pytest.raises(CheckpointError, match=r"is not 'ordinary\.model' or is damaged: its sha256 is"):
        ep.load("mace-mp-small")
    assert list(tmp_path.iterdir()) == []
    assert site.hits == 1


def test_a_changed_file_in_the_cache_is_refused(site: Site, tmp_path: Path) -> None:
    ep.read_checkpoint("mace-mp-small")
    with (tmp_path / "ordinary.model").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(CheckpointError, match=r"ordinary\.model' is not the published file: its sha256"):
        ep.read_checkpoint("mace-mp-small")


def test_provenance_is_text_that_torchscript_can_carry(tmp_path: Path) -> None:
    """A model with a history can still be deployed."""
    potential = created(stock(interactions=1, max_ell=1, correlation=1))
    child = ep.prune(potential, ep.allocate(potential, [ep.Elements((8, 1))]))
    MaceAdapter().export(child.checkpoint, tmp_path / "x.model")
    module = unpickled(tmp_path / "x.model")
    assert json.loads(module.equiprune_provenance)["history"][0]["step"] == "prune"
    with upstream(torch.float64):
        jit.compile(LAMMPS_MACE(module))
