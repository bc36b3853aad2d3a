"""What users of mace-torch have, modules made by its own constructor, reads and predicts as they do there."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_mace import ELEMENTS, random_checkpoint, stock
from stock_modules import ABS, EVERY_HEAD, SILU, TANH, assert_stock, block, constructed, refusal

import equiprune as ep
from equiprune.adapters.mace import MaceAdapter
from equiprune.adapters.mace.architecture import Block, MaceArchitecture, Radial, Readout, ReadoutKind, Transform
from equiprune.adapters.mace.build import upstream

with upstream(torch.float64):
    from e3nn import o3
    from e3nn.math import normalize2mom


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


@pytest.mark.supports("MACE, other blocks and settings (random weights)", "opens")
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
