"""The discovery task from end to end: materials in, predictions of models out.

A formation energy of a model is that of DFT plus how far the model's energy is from DFT's, and how much another
correction is due (`equiprune.evaluation.discovery.against_dft`): energies of the elements, which both are relative to,
cancel. So no table of reference energies is needed, and a model that agrees with DFT has DFT's formation energy
exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ase import Atoms

from equiprune.errors import TargetError
from equiprune.evaluation.discovery.against_dft import Difference, check_pymatgen, differences, distance
from equiprune.evaluation.discovery.entries import Entry
from equiprune.evaluation.discovery.materials import Material
from equiprune.evaluation.discovery.relaxation import Relaxed
from equiprune.evaluation.discovery.result import LARGEST_ERROR, ModelPredictions, Prediction
from equiprune.potentials.potential import Potential
from equiprune.progress import Progress, silent

NO_DIFFERENCE = Difference()
"""Nothing compared: the correction is that of DFT's entry."""


@dataclass(frozen=True)
class ModelRelaxations:
    """Relaxations of one model.

    Attributes:
        model: as it was named.
        relaxed: by material.
    """

    model: str
    relaxed: Mapping[str, Relaxed]

    def structures(self, starts: Mapping[str, Atoms]) -> dict[str, Atoms]:
        """Relaxed structures by material, of those that are there; numbers of the atoms are of the starts."""
        return {name: found.of(starts[name]) for name, found in self.relaxed.items() if found.positions is not None}


def known_to(potential: Potential, materials: Iterable[Material]) -> list[Material]:
    """Materials whose elements a model knows, all of them.

    Raises:
        TargetError: there is none.
    """
    found = [material for material in materials if material.elements <= potential.elements]
    if not found:
        raise TargetError(
            "A model knows the elements of none of the materials. Leave it out, or give materials of its elements."
        )
    return found


def compared_with_entries(
    entries: Iterable[tuple[str, Entry]],
    models: Sequence[ModelRelaxations],
    starts: Mapping[str, Atoms],
    progress: Progress = silent,
) -> dict[str, dict[str, Difference]]:
    """Differences from DFT's entries, by model and material; raises as `differences`, and without pymatgen."""
    check_pymatgen()
    return differences(entries, {model.model: model.structures(starts) for model in models}, progress)


def compared_with_starts(
    models: Sequence[ModelRelaxations], starts: Mapping[str, Atoms], progress: Progress = silent
) -> dict[str, dict[str, Difference]]:
    """Distances from the starts, which are DFT's relaxed structures; corrections stay those of DFT.

    Raises:
        EquipruneError: pymatgen is not here.
    """
    check_pymatgen()
    found: dict[str, dict[str, Difference]] = {}
    for model in models:
        found[model.model] = {}
        for name, atoms in model.structures(starts).items():
            found[model.model][name] = Difference(rmsd=distance(atoms, starts[name]))
            progress(1)
    return found


def predictions(
    model: ModelRelaxations, materials: Sequence[Material], different: Mapping[str, Difference]
) -> ModelPredictions:
    """Formation energies of a model, eV/atom.

    Args:
        model: its relaxations.
        materials: with DFT's energies.
        different: from DFT, by material; those that are not there have DFT's correction.

    >>> import numpy as np
    >>> from equiprune.evaluation.discovery.relaxation import Outcome
    >>> oxide = Material("a", frozenset({8, 12}), 2, raw_energy=-6.0, formation_energy=-2.85)
    >>> ended = Relaxed(Outcome.CONVERGED, 9, -11.9, np.zeros((2, 3)), np.eye(3))
    >>> found = predictions(ModelRelaxations("small", {"a": ended}), [oxide], {})
    >>> round(found.predictions["a"].formation_energy, 6)
    -2.8
    """
    found = {
        material.name: _prediction(model.relaxed[material.name], material, different.get(material.name, NO_DIFFERENCE))
        for material in materials
        if material.name in model.relaxed
    }
    return ModelPredictions(model.model, found)


def _prediction(relaxed: Relaxed, material: Material, different: Difference) -> Prediction:
    if relaxed.energy is None or relaxed.positions is None:
        return Prediction(relaxed.outcome, relaxed.steps)
    error = relaxed.energy / len(relaxed.positions) - material.raw_energy + different.correction
    formation = material.formation_energy + error if abs(error) <= LARGEST_ERROR else None
    return Prediction(relaxed.outcome, relaxed.steps, relaxed.energy, formation, different.rmsd)
