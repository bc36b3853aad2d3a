"""SevenNet's hyperparameters as a frozen value, to and from the ``config`` of its checkpoints.

Key names are those of sevenn/_keys.py; defaults and old-version patches those of sevenn/_const.py and
sevenn/scripts/backward_compatibility.py. Reading a config needs neither sevenn nor e3nn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from equiprune.adapters.base import Architecture
from equiprune.adapters.hyperparameters import Degree
from equiprune.blocks import Irrep, Irreps
from equiprune.errors import CheckpointError, TargetError

UNIVERSAL = 119
"""Length of sevenn's tables indexed by atomic number (0 to 118)."""


_NUMBER_OF_CUTOFF = {"poly_cut": "poly_cut_p_value", "XPLOR": "cutoff_on"}
"""Functions of the cutoff and the one number that each takes (sevenn/nn/edge_embedding.py)."""

_USUAL_POWER = 6
"""Upstream's ``poly_cut_p_value`` where a config gives none (sevenn/nn/edge_embedding.py)."""


class SelfConnection(StrEnum):
    """Ways to add the old node features after the convolution."""

    LINEAR = "linear"
    NEQUIP = "nequip"
    """A tensor product with the one-hot species."""


class Rescale(StrEnum):
    """Shape of the energy shift and scale."""

    GLOBAL = "global"
    PER_ELEMENT = "per_element"
    PER_HEAD = "per_head"


@dataclass(frozen=True)
class HeadUse:
    """Places where a multi-head (multi-modal) model feeds the one-hot head, and constants that are per head."""

    embedding: bool = False
    self_interaction_1: bool = False
    self_interaction_2: bool = False
    readout: bool = False
    shift: bool = False
    scale: bool = False


@dataclass(frozen=True, kw_only=True)
class SevenNetArchitecture(Architecture):
    """Everything needed to rebuild a SevenNet model except its weights.

    Attributes:
        hidden_irreps: node features, embedding first; one entry more than there are interactions.
        edge_lmax: largest l of the spherical harmonics.
        parity: O(3) with inversion (True) or SO(3) (False; then every irrep is written even).
        radial_basis: number of Bessel functions.
        radial_basis_trainable: whether their frequencies are parameters.
        cutoff_function: sevenn's config entry, e.g. ``{"cutoff_function_name": "XPLOR", "cutoff_on": 4.5}``.
        radial_widths: hidden neurons of every interaction's radial network.
        act_radial, act_scalar, act_gate: sevenn's activation names; scalar and gate ones per parity.
        self_connection: one per interaction.
        bias: linear maps have biases on 0e (except linear self-connections).
        readout_hidden: hidden widths of the readout network, empty for the linear-linear readout.
        readout_width: inner width of the linear-linear readout; upstream always builds dim // 2 of the last features.
        readout_activation: of the readout network.
        normalize_sph: spherical harmonics see unit vectors.
        rescale: shape of shift and scale.
        train_denominator, train_rescale: whether those constants are trained.
        head_use: what depends on the head in a multi-head model.
    """

    hidden_irreps: tuple[str, ...]
    edge_lmax: Degree
    parity: bool
    radial_basis: int
    radial_basis_trainable: bool = True
    cutoff_function: dict[str, str | int | float]
    radial_widths: tuple[int, ...]
    act_radial: str
    act_scalar: dict[str, str]
    act_gate: dict[str, str]
    self_connection: tuple[SelfConnection, ...]
    bias: bool
    readout_hidden: tuple[int, ...] = ()
    readout_width: int = 0
    readout_activation: str = "relu"
    normalize_sph: bool = True
    rescale: Rescale = Rescale.PER_ELEMENT
    train_denominator: bool = False
    train_rescale: bool = False
    head_use: HeadUse = HeadUse()

    def __post_init__(self) -> None:
        _check_cutoff_function(self.cutoff_function)

    @property
    def irreps(self) -> tuple[Irreps, ...]:
        """``hidden_irreps``, parsed."""
        return tuple(map(Irreps.parse, self.hidden_irreps))

    @property
    def interactions(self) -> int:
        """Number of message-passing steps."""
        return len(self.hidden_irreps) - 1

    @property
    def inversion(self) -> bool:
        """Only models with parity distinguish l even from l odd under inversion."""
        return self.parity

    @property
    def edge_attrs(self) -> Irreps:
        """Irreps of the spherical harmonics."""
        return Irreps.spherical_harmonics(self.edge_lmax, -1 if self.parity else 1)

    def message_allowed(self, t: int, ir: Irrep) -> bool:
        """True if upstream builds tensor-product paths into ``ir`` in interaction t (sevenn/model_build.py)."""
        last = t == self.interactions - 1
        return ir.l <= self.irreps[t + 1].lmax and (not last or ir.p == 1)


def _check_cutoff_function(given: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` unless it is a known function with its one number, which upstream would else assume."""
    key = _NUMBER_OF_CUTOFF.get(given.get("cutoff_function_name", ""), "")
    number = given.get(key)
    if given.keys() != {"cutoff_function_name", key} or isinstance(number, bool) or not isinstance(number, int | float):
        known = ", ".join(
            f"{{'cutoff_function_name': '{name}', '{its}': a number}}" for name, its in _NUMBER_OF_CUTOFF.items()
        )
        raise CheckpointError(f"The field 'cutoff_function' is {dict(given)}; allowed are {known}.")


def from_config(config: Mapping[str, Any], shift_shape: tuple[int, ...]) -> SevenNetArchitecture:
    """Read the ``config`` of a checkpoint of any version sevenn itself can load.

    ``shift_shape`` is that of the stored energy shift, which tells per-element from global constants.

    Raises:
        CheckpointError: a key is missing or has a value this adapter does not know.
    """
    try:
        return _from_config(_with_defaults(config), shift_shape)
    except KeyError as error:
        raise CheckpointError(f"This is not a SevenNet checkpoint: its config has no {error}.") from error
    except TargetError as error:
        raise CheckpointError(f"This SevenNet model has irreps that equiprune does not handle: {error}") from error


def _with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what old versions did not write, with the values they meant (sevenn 0.13 backward_compatibility.py)."""
    old = version_numbers(config["version"]) < (0, 10, 0)
    defaults: dict[str, Any] = {
        "irreps_manual": False,
        "lmax_edge": -1,
        "lmax_node": -1,
        "train_denominator": bool(config.get("train_avg_num_neigh", False)) if old else False,
        "train_shift_scale": False,
        "use_bias_in_linear": False,
        "use_modality": False,
        "readout_as_fcn": False,
        "readout_fcn_activation": "relu",
        "self_connection_type": "nequip",
        "_normalize_sph": not old,
        "weight_nn_hidden_neurons": [64, 64],
        "act_radial": "silu",
        "act_scalar": {"e": "silu", "o": "tanh"},
        "act_gate": {"e": "silu", "o": "tanh"},
    }
    filled = defaults | dict(config)
    filled["cutoff_function"] = dict(filled["cutoff_function"])
    if old and filled["cutoff_function"]["cutoff_function_name"] == "XPLOR":
        filled["cutoff_function"].pop("poly_cut_p_value", None)
    if filled["cutoff_function"]["cutoff_function_name"] == "poly_cut":
        filled["cutoff_function"].setdefault("poly_cut_p_value", _USUAL_POWER)
    if filled.get("optimize_by_reduce") is False:
        raise CheckpointError("This checkpoint was trained with optimize_by_reduce: False, which sevenn dropped.")
    return filled


def version_numbers(text: str) -> tuple[int, ...]:
    """The numbers of a version, also of a release candidate; raises ValueError when there are fewer than two.

    >>> version_numbers("0.13.0rc1")
    (0, 13, 0)
    """
    major, minor, *rest = re.findall(r"\d+", text)
    return (int(major), int(minor), *map(int, rest[:1]))


def _from_config(config: dict[str, Any], shift_shape: tuple[int, ...]) -> SevenNetArchitecture:
    interactions = config["num_convolution_layer"]
    connections = config["self_connection_type"]
    connections = [connections] * interactions if isinstance(connections, str) else connections
    _refuse_unknown(config, connections)
    irreps = _hidden_irreps(config)
    heads = config.get("_modal_map") if config["use_modality"] else None
    hidden = tuple(config["readout_fcn_hidden_neurons"]) if config["readout_as_fcn"] else ()
    return SevenNetArchitecture(
        elements=tuple(sorted(config["_type_map"], key=config["_type_map"].__getitem__)),
        cutoff=float(config["cutoff"]),
        heads=tuple(sorted(heads, key=heads.__getitem__)) if heads else (),
        hidden_irreps=tuple(map(str, irreps)),
        edge_lmax=config["lmax_edge"] if config["lmax_edge"] > 0 else config["lmax"],
        parity=bool(config["is_parity"]),
        radial_basis=config["radial_basis"].get("bessel_basis_num", 8),
        radial_basis_trainable=config["radial_basis"].get("trainable_coeff", True),
        cutoff_function=config["cutoff_function"],
        radial_widths=tuple(config["weight_nn_hidden_neurons"]),
        act_radial=config["act_radial"],
        act_scalar=dict(config["act_scalar"]),
        act_gate=dict(config["act_gate"]),
        self_connection=tuple(map(SelfConnection, connections)),
        bias=bool(config["use_bias_in_linear"]),
        readout_hidden=hidden,
        readout_width=0 if config["readout_as_fcn"] else irreps[-1].dim // 2,
        readout_activation=config["readout_fcn_activation"] or "relu",  # null where there is no readout network
        normalize_sph=bool(config["_normalize_sph"]),
        rescale=_rescale(heads, shift_shape, len(config["_type_map"]), config.get("shift")),
        train_denominator=bool(config["train_denominator"]),
        train_rescale=bool(config["train_shift_scale"]),
        head_use=_head_use(config) if heads else HeadUse(),
    )


def _refuse_unknown(config: Mapping[str, Any], connections: list[str]) -> None:
    known: dict[str, tuple[str, list[str]]] = {
        "interaction_type": (config.get("interaction_type", "nequip"), ["nequip"]),
        "radial_basis_name": (config["radial_basis"]["radial_basis_name"], ["bessel"]),
        "cutoff_function_name": (config["cutoff_function"]["cutoff_function_name"], list(_NUMBER_OF_CUTOFF)),
        **{f"self_connection_type[{t}]": (c, list(SelfConnection)) for t, c in enumerate(connections)},
    }
    for key, (value, allowed) in known.items():
        if value not in allowed:
            raise CheckpointError(f"SevenNet with {key} '{value}' is not supported; {', '.join(allowed)} is.")


def _head_use(config: Mapping[str, Any]) -> HeadUse:
    return HeadUse(
        embedding=config.get("use_modal_node_embedding", False),
        self_interaction_1=config.get("use_modal_self_inter_intro", False),
        self_interaction_2=config.get("use_modal_self_inter_outro", False),
        readout=config.get("use_modal_output_block", False),
        shift=config.get("use_modal_wise_shift", False),
        scale=config.get("use_modal_wise_scale", False),
    )


def _rescale(heads: Any, shift_shape: tuple[int, ...], elements: int, shift: Any) -> Rescale:
    if heads:
        return Rescale.PER_HEAD
    if elements == 1:  # the shapes agree, only the config tells
        return Rescale.GLOBAL if isinstance(shift, float) else Rescale.PER_ELEMENT
    return Rescale.PER_ELEMENT if shift_shape == (elements,) else Rescale.GLOBAL


def _hidden_irreps(config: Mapping[str, Any]) -> tuple[Irreps, ...]:
    """``irreps_manual``, or what upstream infers without it (sevenn/util.py, ``infer_irreps_out``)."""
    interactions = config["num_convolution_layer"]
    if config["irreps_manual"]:
        irreps = tuple(Irreps.parse(str(text)) for text in config["irreps_manual"])
    else:
        irreps = tuple(_inferred_irreps(config, interactions))
    if len(irreps) != interactions + 1:
        raise CheckpointError(f"irreps_manual has {len(irreps)} entries for {interactions} interactions.")
    for entry in irreps:
        order = [ir.l > 0 for _, ir in entry]
        if order != sorted(order):
            raise CheckpointError(f"Hidden irreps '{entry}' put scalars after l > 0, which sevenn's gate reorders.")
    return irreps


def _inferred_irreps(config: Mapping[str, Any], interactions: int) -> list[Irreps]:
    channels, parity = config["channel"], bool(config["is_parity"])
    edge_lmax = config["lmax_edge"] if config["lmax_edge"] > 0 else config["lmax"]
    node_lmax = config["lmax_node"] if config["lmax_node"] > 0 else config["lmax"]
    edges = Irreps.spherical_harmonics(edge_lmax, -1 if parity else 1)
    irreps = [Irreps.scalars(channels)]
    for t in range(interactions):
        last = t == interactions - 1
        found = {ir for _, a in irreps[-1] for _, b in edges for ir in a * b}
        kept = [ir for ir in found if ir.l <= (0 if last else node_lmax) and (not last or ir.p == 1)]
        irreps.append(Irreps(tuple((channels, ir) for ir in sorted(kept, key=Irrep.sort_key))))
    return irreps


def to_config(architecture: SevenNetArchitecture) -> dict[str, Any]:
    """The model part of a sevenn config. Constants kept in the weights (shift, scale, ...) get placeholders."""
    from ase.data import chemical_symbols

    arch = architecture
    type_map = {z: i for i, z in enumerate(arch.elements)}
    symbols = [chemical_symbols[z] for z in arch.elements]
    config: dict[str, Any] = {
        "_model_type": "E3_equivariant_model",
        "interaction_type": "nequip",
        "chemical_species": symbols,
        "_number_of_species": len(symbols),
        "_type_map": type_map,
        "_chemical_species_by_atomic_number": list(arch.elements),
        "irreps_manual": list(arch.hidden_irreps),
        "channel": arch.irreps[0].entries[0][0],
        "lmax": arch.edge_lmax,
        "lmax_edge": -1,
        "lmax_node": -1,
        "is_parity": arch.parity,
        "radial_basis": {"radial_basis_name": "bessel", "bessel_basis_num": arch.radial_basis},
        "cutoff_function": dict(arch.cutoff_function),
        "cutoff": arch.cutoff,
        "act_radial": arch.act_radial,
        "act_scalar": dict(arch.act_scalar),
        "act_gate": dict(arch.act_gate),
        "weight_nn_hidden_neurons": list(arch.radial_widths),
        "num_convolution_layer": arch.interactions,
        "conv_denominator": [1.0] * arch.interactions,
        "train_denominator": arch.train_denominator,
        "train_shift_scale": arch.train_rescale,
        "use_bias_in_linear": arch.bias,
        "readout_as_fcn": bool(arch.readout_hidden),
        "readout_fcn_hidden_neurons": list(arch.readout_hidden) or [30, 30],
        "readout_fcn_activation": arch.readout_activation,
        "self_connection_type": [str(c) for c in arch.self_connection],
        "_normalize_sph": arch.normalize_sph,
        "use_modality": bool(arch.heads),
        "use_flash_tp": False,
        "cuequivariance_config": {},
        "use_oeq": False,
        "shift": 0.0 if arch.rescale is Rescale.GLOBAL else [0.0] * UNIVERSAL,
        "scale": 1.0 if arch.rescale is Rescale.GLOBAL else [1.0] * UNIVERSAL,
        "dtype": "single",
    }
    if not arch.radial_basis_trainable:
        config["radial_basis"]["trainable_coeff"] = False
    return config | _head_config(arch)


def _head_config(arch: SevenNetArchitecture) -> dict[str, Any]:
    use = arch.head_use
    flags = {
        "use_modal_node_embedding": use.embedding,
        "use_modal_self_inter_intro": use.self_interaction_1,
        "use_modal_self_inter_outro": use.self_interaction_2,
        "use_modal_output_block": use.readout,
    }
    if not arch.heads:
        return flags
    constants = {
        key: {head: [value] * UNIVERSAL for head in arch.heads} if per_head else [value] * UNIVERSAL
        for key, value, per_head in (("shift", 0.0, use.shift), ("scale", 1.0, use.scale))
    }
    return {
        **flags,
        **constants,
        "_modal_map": {head: i for i, head in enumerate(arch.heads)},
        "_number_of_modalities": len(arch.heads),
        "use_modal_wise_shift": use.shift,
        "use_modal_wise_scale": use.scale,
    }
