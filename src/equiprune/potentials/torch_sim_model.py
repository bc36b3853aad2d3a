"""Potentials as models of torch-sim, whose integrators and optimisers move many structures as one batch.

torch-sim gives a model positions, cells and atomic numbers. From these come the same graph and the same derivatives as
everywhere else, so that the numbers are those of `Potential.predict`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from ase import Atoms
from torch import Tensor

from equiprune.errors import EquipruneError, TargetError
from equiprune.potentials.potential import Potential

_NEEDED = "torch-sim cannot be loaded ({}). pip install 'equiprune[torch-sim]'."


def torch_sim_model(potential: Potential) -> Any:
    """A model of torch-sim (`ModelInterface`) that is this potential, on its device and in its precision.

    Given a state of torch-sim, it returns

    ========  =======================  =============  ==================================================
    key       shape                    unit           convention
    ========  =======================  =============  ==================================================
    energy    (structures,)            eV             total
    forces    (atoms, 3)               eV/Angstrom    -dE/dr
    stress    (structures, 3, 3)       eV/Angstrom^3  (1/V) dE/dstrain; nan unless periodic in 3-D; there
                                                      is none where forces are an output of their own
    ========  =======================  =============  ==================================================

    in the dtype of the state. `dtype`, in which torch-sim makes states, is that of the potential.

    Raises:
        TargetError: the potential reads more of a structure than atoms (its charge).
        EquipruneError: torch-sim is not installed; evaluating, where the potential cannot evaluate a structure.
    """
    if read := [each.key for each in potential.architecture.global_inputs]:
        raise TargetError(
            f"This model reads {' and '.join(read)} of a structure, which are not taken from states of torch-sim. Use "
            "its calculator (`Potential.calculator`), and in dynamics `engine` ase."
        )
    return _model_class()(potential)


def torch_sim() -> Any:
    """The package; raises `EquipruneError` where it cannot be loaded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of what torch-sim itself imports
            import torch_sim as package  # slow to import, and an extra
    except ImportError as error:
        raise EquipruneError(_NEEDED.format(error)) from error
    return package


def structures_of(state: Any) -> list[Atoms]:
    """The structures of torch-sim's state, or of a mapping with the same names, on the CPU in float64.

    Vectors of a cell are columns there. All directions are periodic, or none, or, in later versions, some.
    """
    given: Mapping[str, Any] = state if isinstance(state, Mapping) else vars(state)
    owners = given.get("system_idx")
    owners = torch.zeros(len(given["positions"]), dtype=torch.long) if owners is None else owners.cpu()
    cells = given["cell"].detach().reshape(-1, 3, 3).mT.double().cpu().numpy()
    sizes = torch.bincount(owners, minlength=len(cells)).tolist()
    places = given["positions"].detach().double().cpu().split(sizes)
    numbers, pbc = given["atomic_numbers"].cpu().split(sizes), torch.as_tensor(given["pbc"]).tolist()
    return [
        Atoms(numbers=own.numpy(), positions=at.numpy(), cell=cell, pbc=pbc)
        for own, at, cell in zip(numbers, places, cells, strict=True)
    ]


@cache
def _model_class() -> type:
    """The class, which only exists where torch-sim does."""
    torch_sim()
    from torch_sim.models.interface import ModelInterface

    class EquipruneModel(ModelInterface):
        """A potential as torch-sim's model; `torch_sim_model` makes it."""

        def __init__(self, potential: Potential) -> None:
            super().__init__()
            self.potential = potential
            self._device, self._dtype = potential.device, potential.dtype
            self._compute_forces, self._compute_stress = True, "stress" in potential.quantities

        def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
            at = state["positions"] if isinstance(state, Mapping) else state.positions
            found = self.potential.differentiate(self.potential.graph(structures_of(state)))
            values = {"energy": found.energies, "forces": found.forces, "stress": found.stress}
            return {name: values[name].to(at) for name in self.potential.quantities}

    return EquipruneModel
