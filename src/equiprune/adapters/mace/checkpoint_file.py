"""Reading MACE's ``.model`` files, which are pickled modules, as data (see `equiprune.files.pickles`).

Hyperparameters are read off the modules block by block, as upstream's ``extract_config_mace_model`` does for the whole
model (mace/tools/scripts_utils.py), so that heterogeneous models read like any other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from equiprune.adapters.base import Checkpoint
from equiprune.adapters.mace.architecture import (
    DENSITY_WIDTH,
    GATE_OF_LINEAR,
    Block,
    Interaction,
    MaceArchitecture,
    Radial,
    Readout,
    ReadoutKind,
    Transform,
)
from equiprune.adapters.mace.embeddings import embeddings_of
from equiprune.adapters.mace.layouts import weight_layouts
from equiprune.adapters.mace.published import licence_of, published
from equiprune.blocks import Irrep, Irreps
from equiprune.errors import CheckpointError, EquipruneError
from equiprune.files.atomic import sha256_of
from equiprune.files.download import fetch
from equiprune.files.outline import outline
from equiprune.files.pickles import StandIn, class_name, inside_wrappers, read_pickled_module

PROVENANCE = "equiprune_provenance"
"""Attribute of exported models: licence and history, as JSON text."""

_PACKAGES = frozenset(
    {"mace", "e3nn", "torch", "opt_einsum_fx", "cuequivariance", "cuequivariance_torch", "openequivariance"}
)

_MODULES = "mace.modules.models."
_MODELS = {"ScaleShiftMACE": True, "MACE": False}
_RADIAL = {"BesselBasis": Radial.BESSEL, "GaussianBasis": Radial.GAUSSIAN, "ChebychevBasis": Radial.CHEBYSHEV}
_TRANSFORMS = {"AgnesiTransform": Transform.AGNESI, "SoftTransform": Transform.SOFT}
_KNOWN = frozenset(range(1, 119))
_GATES = ("abs", "tanh", "silu")


def recognised(path: Path) -> bool:
    """True for a module of mace-torch; `read` says whether it is one that can be pruned."""
    content = inside_wrappers(outline(path))
    return isinstance(content, StandIn) and content.origin.startswith(_MODULES)


def read(source: str | Path, *, trust: bool = False) -> Checkpoint:
    """Open an alias or a file. Raises `CheckpointError` naming what this adapter cannot prune exactly."""
    _, file = published().get(str(source).lower(), ("", None))
    path = fetch(file) if file is not None else Path(source)
    module = read_pickled_module(path, _PACKAGES)
    try:
        architecture = architecture_of(module)
        weights = _weights(architecture, dict(module.tensors()), path)
        provenance = json.loads(getattr(module, PROVENANCE, "{}"))
        history = tuple(dict(step) for step in provenance.get("history", ()))
    except EquipruneError as error:
        raise CheckpointError(f"'{path}' cannot be pruned: {error}") from error
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(
            f"'{path}' is a pickled {class_name(module)}, but not in the form that mace-torch 0.3 writes "
            f"({type(error).__name__}: {error}). Give a .model that mace_run_train wrote."
        ) from error
    digest = sha256_of(path)
    licence = provenance.get("licence") or (file.licence if file is not None else licence_of(digest))
    return Checkpoint(architecture, weights, licence, digest, str(source), history)


def architecture_of(model: Any) -> MaceArchitecture:
    """Hyperparameters of a pickled MACE model."""
    kind = class_name(model)
    if not model.origin.startswith(_MODULES) or kind not in _MODELS:
        raise CheckpointError(
            f"it is a {model.origin}; {' and '.join(_MODELS)} of mace-torch 0.3 are supported. Files of MACE v1 and "
            "deployed (LAMMPS) models are not: give the .model they were made from."
        )
    _refuse_unsupported(model)
    elements, cutoff = tuple(model.atomic_numbers.tolist()), _number(model.r_max)
    if len(set(elements)) < len(elements) or not set(elements) <= _KNOWN or not 0 < cutoff < float("inf"):
        raise CheckpointError(f"its elements {elements} or its cutoff of {cutoff} Angstrom are impossible.")
    heads = tuple(getattr(model, "heads", None) or ("Default",))
    tensors = dict(model.tensors())
    embedding = model.radial_embedding
    transform = getattr(embedding, "distance_transform", None)
    steps = tuple(_step(model, t, heads) for t in range(len(model.interactions.children())))
    return MaceArchitecture(
        elements=elements,
        cutoff=cutoff,
        heads=heads if len(heads) > 1 else (),
        channels=irreps_of(model.node_embedding.linear.irreps_out).channels,
        steps=steps,
        scale_shift=_MODELS[kind],
        radial=_RADIAL[class_name(embedding.bessel_fn)],
        radial_basis=int(embedding.out_dim),
        transform=_TRANSFORMS[class_name(transform)] if transform is not None else Transform.NONE,
        cutoff_power=int(embedding.cutoff_fn.p),
        apply_cutoff=getattr(embedding, "apply_cutoff", True),
        pair_repulsion=hasattr(model, "pair_repulsion_fn"),
        gate=_gate(model),
        activation_constants=_activation_constants(model),
        use_so3=bool(getattr(model, "use_so3", False)),
        agnostic_product=bool(getattr(model, "use_agnostic_product", False)),
        head_name=heads[0] if len(heads) == 1 else MaceArchitecture.head_name,
        per_head=_per_head(tensors),
        embeddings=embeddings_of(model.embedding_specs) if hasattr(model, "joint_embedding") else (),
        embedding_readout=hasattr(model, "embedding_readout"),
    )


def _number(tensor: Tensor) -> float:
    """The shortest decimal that a tensor stands for: 5.2 is the same cutoff in single and in double precision."""
    return float(str(tensor.numpy()))


def _refuse_unsupported(model: Any) -> None:
    packages = {child.origin.partition(".")[0] for child in _descendants(model)}
    accelerated = sorted(packages & {"cuequivariance", "cuequivariance_torch", "openequivariance"})
    if accelerated:
        raise CheckpointError(
            f"it is laid out for an accelerated backend ({', '.join(accelerated)}). Convert it first, with "
            "mace_cueq_to_e3nn --return_model (cuEquivariance) or mace.cli.convert_oeq_e3nn (OpenEquivariance)."
        )
    for t, block in enumerate(model.interactions.children()):
        if class_name(block) not in set(Block):
            raise CheckpointError(
                f"interaction {t} is a {class_name(block)}; {', '.join(Block)} can be pruned exactly."
            )
    for readout in model.readouts.children():
        if class_name(readout) not in ("LinearReadoutBlock", "NonLinearReadoutBlock"):
            raise CheckpointError(f"its readout is a {class_name(readout)}, which is not supported.")


def _descendants(module: StandIn) -> list[StandIn]:
    below = [child for child in module.children() if isinstance(child, StandIn)]
    return below + [deeper for child in below for deeper in _descendants(child)]


def _step(model: Any, t: int, heads: tuple[str, ...]) -> Interaction:
    block, product = model.interactions.children()[t], model.products.children()[t]
    kind = Block(class_name(block))
    made = irreps_of(block.linear_2.irreps_in if kind is Block.GATED else block.linear.irreps_out)
    if kind is Block.GATED and tuple(block.density_fn.hs[1:-1]) != (DENSITY_WIDTH,):
        raise CheckpointError(f"the network of the density in interaction {t} has not {DENSITY_WIDTH} hidden neurons.")
    contraction = product.symmetric_contractions.contractions.children()[0]
    return Interaction(
        block=kind,
        edge_irreps=str(irreps_of(block.linear_up.irreps_out)),
        edge_lmax=irreps_of(block.edge_attrs_irreps).lmax,
        messages=str(made) if kind.two_maps else "",
        a_basis=str(irreps_of(block.reshape.irreps)),
        hidden_irreps=str(irreps_of(product.linear.irreps_out)),
        correlation=int(contraction.correlation),
        radial_widths=tuple(int(width) for width in block.conv_tp_weights.hs[1:-1]),
        avg_num_neighbors=float(block.avg_num_neighbors),
        readout=_readout(model, t, len(heads)),
    )


def _readout(model: Any, t: int, heads: int) -> Readout:
    """Upstream reads out after every interaction or only after the last one."""
    readouts, last = model.readouts.children(), len(model.interactions.children()) - 1
    number = t if len(readouts) > 1 or last == 0 else t - last
    if number < 0:
        return Readout(ReadoutKind.NONE)
    if class_name(readouts[number]) == "LinearReadoutBlock":
        return Readout(ReadoutKind.LINEAR)
    return Readout(ReadoutKind.NONLINEAR, irreps_of(readouts[number].hidden_irreps).channels // heads)


def irreps_of(pickled: Any) -> Irreps:
    """Irreps from a stand-in for e3nn's, a tuple of (mul, (l, p)), or from text."""
    if isinstance(pickled, str):
        return Irreps.parse(pickled)
    entries = []
    for entry in _fields(pickled):
        mul, irrep = _fields(entry)
        l, p = _fields(irrep)
        entries.append((int(mul), Irrep(int(l), int(p))))
    return Irreps(tuple(entries))


def _fields(pickled: Any) -> tuple[Any, ...]:
    """Fields of a pickled subclass of tuple, which is made from its fields or from one tuple of them."""
    [only, *others] = pickled.args or ((),)
    return pickled.args if others else tuple(only)


def _gate(model: Any) -> str:
    """The activation of the last readout; linear ones have none."""
    last = model.readouts.children()[-1]
    if class_name(last) == "LinearReadoutBlock":
        return GATE_OF_LINEAR
    [activation] = last.non_linearity.acts.children() or [None]
    name = class_name(activation.f) if activation is not None else "None"
    if name not in (*_GATES, "None"):
        raise CheckpointError(f"its readout has the activation '{name}'; {', '.join(_GATES)} and None are supported.")
    return name


def _activation_constants(model: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, constant in _constants(model):
        if found.setdefault(name, constant) != constant:
            raise CheckpointError(f"it normalises {name} by two different constants.")
    return found


def _constants(model: StandIn) -> Iterator[tuple[str, float]]:
    for module in _activations(model):
        yield class_name(module.f), float(module.cst)
    for gate in (module for module in _descendants(model) if class_name(module) == "GatedEquivariantBlock"):
        yield class_name(gate._act_scalar), float(gate._scalar_cst)
        yield class_name(gate._act_gate), float(gate._gate_cst)


def _activations(model: StandIn) -> list[Any]:
    layers = [m for m in _descendants(model) if class_name(m) == "normalize2mom"]
    return layers + [
        m.act
        for m in _descendants(model)
        if class_name(m) == "_Layer" and class_name(m.state.get("act")) == "normalize2mom"
    ]


def _per_head(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Constants with an axis for heads; files of one head have been written with and without."""
    usual = {"atomic_energies_fn.atomic_energies": 1, "scale_shift.scale": 0, "scale_shift.shift": 0}
    return tuple(name.rpartition(".")[2] for name, d in usual.items() if name in tensors and tensors[name].dim() > d)


def _weights(arch: MaceArchitecture, tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    layouts = weight_layouts(arch)
    missing = sorted(name for name in layouts if name not in tensors)
    if missing:
        raise CheckpointError(f"it lacks the weights {missing[:3]}{'...' if len(missing) > 3 else ''}.")
    weights = {}
    for name, layout in layouts.items():
        found, expected = tuple(tensors[name].shape), layout.shape
        if found != expected:
            raise CheckpointError(f"{name} has shape {found}, expected {expected}.{_reduced(name, found, expected)}")
        weights[name] = tensors[name].clone()
    return weights


def _reduced(name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> str:
    if "symmetric_contractions" in name and found[1:2] < expected[1:2]:
        return (
            " Its product basis is the reduced one (use_reduced_cg), which mace uses when cuequivariance is installed "
            "during training; only the full one is supported."
        )
    return ""
