"""NequIP's hyperparameters as a frozen value, to the arguments of upstream's ``FullNequIPGNNModel``.

Names and defaults are those of nequip/model/nequip_models.py. Nothing here needs nequip or e3nn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ase.data import chemical_symbols

from equiprune.adapters.base import Architecture
from equiprune.adapters.hyperparameters import Degree
from equiprune.blocks import Irrep, Irreps


@dataclass(frozen=True)
class Constants:
    """A number of each element: the scales, or the shifts, of atomic energies.

    Attributes:
        given: there are such numbers. Where upstream has one for all elements, each has it here.
        trained: they are parameters.
    """

    given: bool = True
    trained: bool = False


@dataclass(frozen=True, kw_only=True)
class NequIPArchitecture(Architecture):
    """Everything needed to rebuild a NequIP model except its weights.

    Attributes:
        embedding: scalars that stand for an element; the first features, and an operand of every self-connection.
        hidden_irreps: features after every layer, of the last one scalars 0e alone.
        edge_lmax: largest l of the spherical harmonics.
        radial_basis: number of Bessel functions.
        radial_basis_trained: their frequencies are parameters.
        cutoff_power: p of the polynomial that ends at the cutoff.
        radial_depths: hidden layers of each layer's radial network.
        radial_widths: neurons of each of these, by layer.
        average_neighbors: what a layer sends is divided by the root of this: one number for all elements, one of each,
            or none.
        self_connections: by layer, whether old features are added to new ones.
        act_even, act_odd: activation of scalars by their parity, of ``abs``, ``tanh``, ``ssp``, ``silu``.
        act_gate: activation of gates.
        readout_widths: neurons of the hidden layers of the readout, all the same; empty for a linear one.
        readout_activation: of these: ``silu``, ``mish``, ``gelu``.
        scales, shifts: of atomic energies.
    """

    embedding: int
    hidden_irreps: tuple[str, ...]
    edge_lmax: Degree
    radial_basis: int
    radial_basis_trained: bool
    cutoff_power: float
    radial_depths: tuple[int, ...]
    radial_widths: tuple[int, ...]
    average_neighbors: tuple[float, ...]
    self_connections: tuple[bool, ...]
    act_even: str
    act_odd: str
    act_gate: str
    readout_widths: tuple[int, ...]
    readout_activation: str
    scales: Constants
    shifts: Constants

    @property
    def layers(self) -> int:
        """Number of message-passing steps."""
        return len(self.hidden_irreps)

    def features(self, t: int) -> Irreps:
        """Irreps of the features before layer t, which counts from 0; for ``layers``, of those that are read out."""
        return Irreps.parse(self.hidden_irreps[t - 1]) if t else Irreps.scalars(self.embedding)

    @property
    def edge_attrs(self) -> Irreps:
        """Irreps of the spherical harmonics."""
        return Irreps.spherical_harmonics(self.edge_lmax, -1)

    def message_allowed(self, t: int, ir: Irrep) -> bool:
        """True if upstream builds tensor-product paths into ``ir`` in layer t: into features, and into gates."""
        made = self.features(t + 1)
        return made.mul(ir) > 0 or (ir == _SCALAR and made.lmax > 0)

    @property
    def type_names(self) -> tuple[str, ...]:
        """Upstream's names of the elements: their symbols."""
        return tuple(chemical_symbols[z] for z in self.elements)


_SCALAR = Irrep(0, 1)


def reached(arch: NequIPArchitecture) -> tuple[str, ...]:
    """The hidden irreps without those that no path of the convolution leads to.

    They are zero, and upstream leaves them out. A self-connection leads to none of them, since what it reads is sent
    as well.
    """
    before, kept = Irreps.scalars(arch.embedding), []
    for t in range(arch.layers):
        sent = {ir for _, a in before for _, b in arch.edge_attrs for ir in a * b}
        before = Irreps(tuple((mul, ir) for mul, ir in arch.features(t + 1) if ir in sent))
        kept.append(str(before))
    return tuple(kept)


def arguments(arch: NequIPArchitecture) -> dict[str, Any]:
    """Keywords for upstream's ``FullNequIPGNNModel``; constants that are weights get placeholders."""
    by_parity = {"e": arch.act_even, "o": arch.act_odd}
    return {
        "r_max": arch.cutoff,
        "type_names": list(arch.type_names),
        "radial_mlp_depth": list(arch.radial_depths),
        "radial_mlp_width": list(arch.radial_widths),
        "feature_irreps_hidden": list(arch.hidden_irreps),
        "irreps_edge_sh": str(arch.edge_attrs),
        "type_embed_num_features": arch.embedding,
        "readout_mlp_hidden_layers_depth": len(arch.readout_widths),
        "readout_mlp_hidden_layers_width": next(iter(arch.readout_widths), None),
        "readout_mlp_nonlinearity": arch.readout_activation,
        "num_bessels": arch.radial_basis,
        "bessel_trainable": arch.radial_basis_trained,
        "polynomial_cutoff_p": arch.cutoff_power,
        "avg_num_neighbors": _of_elements(arch, arch.average_neighbors) or 1.0,
        "per_type_energy_scales": dict.fromkeys(arch.type_names, 1.0) if arch.scales.given else None,
        "per_type_energy_shifts": dict.fromkeys(arch.type_names, 0.0) if arch.shifts.given else None,
        "per_type_energy_scales_trainable": arch.scales.trained,
        "per_type_energy_shifts_trainable": arch.shifts.trained,
        "convnet_sc": arch.self_connections[-1],
        "learnable_shift": arch.self_connections[0],
        "convnet_nonlinearity_scalars": by_parity,
        "convnet_nonlinearity_gates": {"e": arch.act_gate, "o": arch.act_odd},
    }


def _of_elements(arch: NequIPArchitecture, numbers: tuple[float, ...]) -> Any:
    """Numbers as upstream takes them: None, one for all, or one of each by its name."""
    if len(numbers) > 1:
        return dict(zip(arch.type_names, numbers, strict=True))
    return numbers[0] if numbers else None
