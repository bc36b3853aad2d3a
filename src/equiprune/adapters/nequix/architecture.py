"""Nequix's hyperparameters as a frozen value, to and from the first line of its files.

Key names and defaults are those of nequix/model.py (``save_model``, ``load_model``). Reading needs neither nequix nor
e3nn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equiprune.adapters.base import Architecture
from equiprune.adapters.hyperparameters import Degree
from equiprune.blocks import Irrep, Irreps
from equiprune.errors import CheckpointError, TargetError

_SCALAR = Irrep(0, 1)


@dataclass(frozen=True, kw_only=True)
class NequixArchitecture(Architecture):
    """Everything needed to rebuild a Nequix model except its weights.

    Attributes:
        hidden_irreps: node features after every layer but the last, whose features are their scalars.
        layers: number of message-passing steps.
        first_channels: scalars that the first layer sends, as many as elements in every model of upstream's.
        edge_lmax: largest l of the spherical harmonics.
        radial_basis: number of Bessel functions.
        radial_width: hidden neurons of every layer of the radial networks.
        radial_layers: hidden layers of the radial networks.
        radial_power: p of the polynomial that ends at the cutoff.
        radial_init_scale: of the first weights of the radial networks; no matter for a trained model.
        average_neighbors: messages are divided by its square root.
        scale, shift: eV, of the energy of an atom, before its atomic reference energy is added.
        layer_norm: features are divided by their root mean square before they are gated.
    """

    hidden_irreps: str
    layers: int
    first_channels: int
    edge_lmax: Degree
    radial_basis: int
    radial_width: int
    radial_layers: int
    radial_power: float
    radial_init_scale: float
    average_neighbors: float
    scale: float
    shift: float
    layer_norm: bool

    def made(self, t: int) -> Irreps:
        """Irreps of the features after layer t, which counts from 0."""
        hidden = Irreps.parse(self.hidden_irreps)
        if t + 1 < self.layers:
            return hidden
        return Irreps.scalars(hidden.mul(_SCALAR))

    @property
    def edge_attrs(self) -> Irreps:
        """Irreps of the spherical harmonics."""
        return Irreps.spherical_harmonics(self.edge_lmax, -1)

    def sent(self, t: int) -> Irreps:
        """Irreps of what layer t sends to neighbours."""
        return self.made(t - 1) if t else Irreps.scalars(self.first_channels)

    def message_allowed(self, t: int, ir: Irrep) -> bool:
        """True if upstream builds tensor-product paths into ``ir`` in layer t."""
        return ir == _SCALAR or self.made(t).mul(ir) > 0

    @property
    def why_not_stock(self) -> str:
        """Upstream's first layer sends as many channels as there are elements."""
        if self.first_channels == len(self.elements):
            return ""
        return f"its first layer sends {self.first_channels} channels for {len(self.elements)} elements"


_KEYS = {
    "layers": "n_layers",
    "edge_lmax": "lmax",
    "radial_basis": "radial_basis_size",
    "radial_width": "radial_mlp_size",
    "radial_layers": "radial_mlp_layers",
    "radial_power": "radial_polynomial_p",
    "radial_init_scale": "mlp_init_scale",
    "average_neighbors": "avg_n_neighbors",
    "scale": "scale",
    "shift": "shift",
    "cutoff": "cutoff",
    "layer_norm": "layer_norm",
}
"""Upstream's names of fields that are written as they are."""


def from_config(config: Mapping[str, Any]) -> NequixArchitecture:
    """Read the first line of a file.

    Raises:
        CheckpointError: a key is missing or has a value this adapter does not know.
    """
    try:
        if config["index_weights"]:
            raise CheckpointError(
                "This Nequix model has skip connections with weights for each element (index_weights), which "
                "Nequix's torch model does not know either. Give one that was trained without."
            )
        elements = tuple(config["atomic_numbers"])
        return NequixArchitecture(
            elements=elements,
            hidden_irreps=_hidden(config["hidden_irreps"]),
            first_channels=len(elements),
            **{field: config[key] for field, key in _KEYS.items()},
        )
    except KeyError as error:
        raise CheckpointError(f"This is not a Nequix checkpoint: its first line has no {error}.") from error


def _hidden(text: str) -> str:
    """Hidden irreps, each once, scalars among them, as equiprune writes them."""
    try:
        irreps = Irreps.parse(text)
    except TargetError as error:
        raise CheckpointError(f"This Nequix model has irreps that equiprune does not handle: {error}") from error
    kinds = [ir for _, ir in irreps]
    if sorted(set(kinds), key=Irrep.sort_key) != kinds or _SCALAR not in kinds or Irrep(0, -1) in kinds:
        raise CheckpointError(
            f"This Nequix model has hidden irreps {text}. Known are models with scalars 0e first and every irrep once, "
            "by rising l."
        )
    return str(irreps)


def to_config(arch: NequixArchitecture, atom_energies: Mapping[int, float]) -> dict[str, Any]:
    """The first line of a file, for a model that upstream's constructor can build; energies in eV by atomic number."""
    return {
        "atomic_numbers": list(arch.elements),
        "atom_energies": {str(z): atom_energies[z] for z in arch.elements},
        "hidden_irreps": arch.hidden_irreps.replace("+", " + "),
        "index_weights": False,
        **{key: getattr(arch, field) for field, key in _KEYS.items()},
    }
