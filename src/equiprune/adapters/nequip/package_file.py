"""Hyperparameters read off the modules of a NequIP package, block by block, each a stand-in for upstream's.

The configuration beside them is of the training that made them, and says nothing of what was modified afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import isclose, pi
from typing import Any

import torch
from ase.data import atomic_numbers
from torch import Tensor

from equiprune.adapters.nequip.architecture import Constants, NequIPArchitecture
from equiprune.blocks import Irrep, Irreps
from equiprune.errors import CheckpointError, TargetError
from equiprune.files.pickles import StandIn, class_name

_MODULES = {
    "type_embed": "NodeTypeEmbed",
    "spharm": "SphericalHarmonicEdgeAttrs",
    "edge_norm": "EdgeLengthNormalizer",
    "bessel_encode": "BesselEdgeLengthEncoding",
    "factor": "ApplyFactor",
    "per_atom_energy_readout": "ScalarMLP",
    "per_type_energy_scale_shift": "PerTypeScaleShift",
    "total_energy_sum": "AtomwiseReduce",
}
"""The sequence of a NequIP model beside its layers; in versions before 0.17 in another order."""
_ACTIVATIONS = {"abs": "abs", "tanh": "tanh", "shifted_softplus": "ssp", "silu": "silu"}
_READOUTS = {"SiLU": "silu", "Mish": "mish", "GELU": "gelu"}
_SCALAR = Irrep(0, 1)


def architecture_of(model: Any) -> NequIPArchitecture:
    """Hyperparameters of a pickled ``GraphModel``.

    Raises:
        CheckpointError: another model than NequIP's, or a part of it that is not supported, by its name.
    """
    network = _network(model)
    layers = _layers(network)
    blocks: list[Any] = [layer.conv for layer in layers]
    elements = _elements(model)
    networks = [_widths(block.edge_mlp, "its radial network") for block in blocks]
    activations = list(_activations(layers))
    readout = network.per_atom_energy_readout.mlp_module
    widths = tuple(_widths(readout, "its readout"))
    energies = network.per_type_energy_scale_shift
    return NequIPArchitecture(
        elements=elements,
        cutoff=_cutoff(network),
        embedding=_tensor(network.type_embed.embed_module, "weight").shape[1],
        hidden_irreps=tuple(_hidden(layers)),
        edge_lmax=_edge_lmax(network),
        radial_basis=_tensor(network.bessel_encode, "bessel_weights").shape[1],
        radial_basis_trained=bool(network.bessel_encode.trainable),
        cutoff_power=float(network.bessel_encode.cutoff.p),
        radial_depths=tuple(map(len, networks)),
        radial_widths=tuple(next(iter(hidden), 1) for hidden in networks),
        average_neighbors=_average_neighbors(blocks),
        self_connections=_self_connections(blocks),
        act_even=_one_of("even scalars", activations, "silu"),
        act_odd=_one_of("odd scalars", activations, "tanh"),
        act_gate=_one_of("gates", activations, "silu"),
        readout_widths=widths,
        readout_activation=_READOUTS[class_name(readout.mlp.children()[1])] if widths else "silu",
        scales=_constants(energies, "scales"),
        shifts=_constants(energies, "shifts"),
    )


def _network(model: StandIn) -> Any:
    """The sequence of modules inside ``GraphModel`` and ``ForceStressOutput``."""
    outer: Any = model
    try:
        network = outer.model.func
    except AttributeError as error:
        raise CheckpointError(f"it is a {class_name(model)} of {_names(model)}, not a NequIP model.") from error
    modules: Mapping[str, StandIn] = network.state.get("_modules") or {}
    if pair := modules.get("pair_potential"):
        raise CheckpointError(f"it adds a pair potential ({class_name(pair)}), which is not supported.")
    found = {name: class_name(module) for name, module in modules.items() if not name.startswith("layer")}
    if found != _MODULES:
        different = sorted(f"{name}: {kind}" for name, kind in set(found.items()) ^ set(_MODULES.items()))
        raise CheckpointError(f"it is not put together as NequIP models are ({', '.join(different)}).")
    if network.edge_norm._per_edge_type:
        raise CheckpointError("its cutoff depends on the elements of both atoms (per_edge_type_cutoff): not supported.")
    if network.type_embed.state.get("do_categorical_graph_field_embed"):
        raise CheckpointError("it embeds fields of structures beside elements (categorical_graph_field_embed).")
    return network


def _names(model: StandIn) -> str:
    return ", ".join(sorted({class_name(child) for child in model.children()})) or "nothing"


def _layers(network: Any) -> list[Any]:
    layers = [module for name, module in network.state["_modules"].items() if name.startswith("layer")]
    for t, layer in enumerate(layers):
        kinds = class_name(layer), class_name(layer.conv), class_name(layer.equivariant_nonlin)
        if kinds != ("ConvNetLayer", "InteractionBlock", "Gate"):
            raise CheckpointError(f"layer {t} is a {', '.join(kinds)}; ConvNetLayer, InteractionBlock, Gate is known.")
        if layer.resnet:
            raise CheckpointError(f"layer {t} adds what it reads to what it makes (convnet_resnet): not supported.")
    return layers


def _elements(model: Any) -> tuple[int, ...]:
    names = list(model.type_names)
    unknown = [name for name in names if name not in atomic_numbers]
    if unknown or len(set(names)) < len(names):
        raise CheckpointError(f"its atom types are {', '.join(names)}; supported are symbols of elements, each once.")
    return tuple(atomic_numbers[name] for name in names)


def _cutoff(network: Any) -> float:
    cutoff = float(network.edge_norm.r_max)
    if not isclose(float(network.factor.factor), 2 * pi / cutoff**2, rel_tol=1e-9):
        raise CheckpointError(f"its radial basis has the factor {network.factor.factor}, which is not upstream's.")
    return cutoff


def _edge_lmax(network: Any) -> int:
    harmonics = irreps_of(network.spharm.irreps_edge_sh)
    if harmonics != Irreps.spherical_harmonics(harmonics.lmax, -1):
        raise CheckpointError(f"its spherical harmonics are {harmonics}; supported are all up to an l, once each.")
    return harmonics.lmax


def _hidden(layers: Iterable[Any]) -> Iterator[str]:
    """Features after each layer, scalars first."""
    for layer in layers:
        made = irreps_of(layer.irreps_out["node_features"])
        kinds = [ir for _, ir in made]
        if [ir.l > 0 for ir in kinds] != sorted(ir.l > 0 for ir in kinds) or len(set(kinds)) < len(kinds):
            raise CheckpointError(f"its features are {made}; supported are scalars first and every irrep once.")
        if _SCALAR not in kinds:
            raise CheckpointError(f"its features {made} have no scalars 0e, which is not supported.")
        yield str(made)


def irreps_of(pickled: Any) -> Irreps:
    """Irreps from a stand-in for e3nn's: a tuple of (mul, (l, p))."""
    return Irreps(_entries(pickled))


def _entries(pickled: Any) -> tuple[tuple[int, Irrep], ...]:
    return tuple((int(mul), Irrep(*map(int, _fields(irrep)))) for mul, irrep in map(_fields, _fields(pickled)))


def _fields(pickled: Any) -> tuple[Any, ...]:
    """Fields of a pickled subclass of tuple, which is made from its fields or from one tuple of them."""
    [only, *others] = pickled.args or ((),)
    return pickled.args if others or not isinstance(only, tuple | list) else tuple(only)


def _widths(network: Any, what: str) -> list[int]:
    """Neurons of the hidden layers of a ``ScalarMLPFunction``, all the same."""
    if class_name(network.mlp) != "Sequential" or network.bias:
        raise CheckpointError(f"{what} is a {class_name(network.mlp)} or has biases, which is not supported.")
    hidden = network.mlp.children()[1::2]
    known = {"SiLU"} if "radial" in what else set(_READOUTS)
    if unknown := {class_name(activation) for activation in hidden} - known:
        raise CheckpointError(f"{what} has the activation {', '.join(sorted(unknown))}; {', '.join(known)} is known.")
    widths = [int(width) for width in network.dims[1:-1]]
    if len(set(widths)) > 1:
        raise CheckpointError(f"{what} has layers of {widths} neurons; upstream's have equally many.")
    return widths


def _average_neighbors(blocks: list[Any]) -> tuple[float, ...]:
    """One number, one of each element, or none; until 0.16 the root of its inverse."""
    found = {_of_block(block) for block in blocks}
    if len(found) != 1:
        raise CheckpointError("its layers divide by different numbers of neighbours, which is not supported.")
    return found.pop()


def _of_block(block: Any) -> tuple[float, ...]:
    if "scatter_norm_factor" in block.state:
        factor = block.scatter_norm_factor
        return () if factor is None else (float(factor) ** -2,)
    return tuple(map(_neighbors, _tensor(block.avg_num_neighbors_norm, "norm_const").flatten()))


def _neighbors(norm: Tensor) -> float:
    """The shortest decimal of which a number is one over the root: in single precision several have the same."""
    exact, rounding = float(norm) ** -2, 2 * torch.finfo(norm.dtype).eps
    decimals = (float(f"{exact:.{digits}g}") for digits in range(1, 18))
    return next(short for short in decimals if isclose(short, exact, rel_tol=rounding))


def _self_connections(blocks: list[Any]) -> tuple[bool, ...]:
    found = tuple(bool(block.use_sc) for block in blocks)
    if len(set(found[1:])) > 1 or (found[0] and not all(found)):
        raise CheckpointError(f"its self-connections by layer are {found}, which upstream does not build.")
    return found


def _activations(layers: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Pairs of what is activated and by what."""
    for layer in layers:
        gate = layer.equivariant_nonlin
        for scalars in (gate.act_scalars, gate.act_gates):
            kinds = ["gates"] if scalars is gate.act_gates else ["odd scalars", "even scalars"]
            for (_, irrep), act in zip(_entries(scalars.irreps_in), scalars.acts.children(), strict=True):
                yield kinds[irrep.p > 0 and len(kinds) > 1], class_name(act.f)


def _one_of(what: str, activations: Iterable[tuple[str, str]], usual: str) -> str:
    names = {name for kind, name in activations if kind == what}
    if not names:
        return usual
    if len(names) > 1 or not names <= _ACTIVATIONS.keys():
        raise CheckpointError(
            f"its {what} are activated by {', '.join(sorted(names))}; known is one of {', '.join(_ACTIVATIONS)}."
        )
    return _ACTIVATIONS[names.pop()]


def _constants(energies: Any, name: str) -> Constants:
    given = bool(energies.state[f"has_{name}"])
    return Constants(given, given and bool(energies.state[f"{name}_trainable"]))


def _tensor(module: Any, name: str) -> Tensor:
    found: Tensor = getattr(module, name)
    return found


KINDS_OF_ERRORS = (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError, TargetError)
"""Exceptions of modules that are not what their names say."""
