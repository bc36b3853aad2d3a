"""Evaluation engines: code that evaluates a model, compared with upstream's own before it is timed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from ase import Atoms

from equiprune.adapters.capabilities import BuildsForEvaluation
from equiprune.errors import TargetError, closest
from equiprune.potentials.potential import Potential, Prediction

_ENERGY, _FORCES, _DERIVATIVE = 1e-10, 1e-9, 1e-5
"""Largest differences in float64: eV/atom, eV/Angstrom, and eV/Angstrom between forces and finite differences."""
_STEP = 1e-3
"""Angstrom, of finite differences."""


class EvaluationEngine(ABC):
    """Code that evaluates models."""

    name: ClassVar[str]

    @abstractmethod
    def prepared(self, potential: Potential) -> Potential:
        """The same model, evaluated by this code. Raises `TargetError` for a model that it cannot evaluate."""

    @abstractmethod
    def is_upstream(self, potential: Potential) -> bool:
        """True where nothing but upstream's code evaluates the model, so that there is nothing to compare."""


@dataclass(frozen=True)
class EquipruneEngine(EvaluationEngine):
    """equiprune's own code: upstream's modules, with a faster convolution where the architecture has one."""

    name = "equiprune"

    def prepared(self, potential: Potential) -> Potential:
        return potential

    def is_upstream(self, potential: Potential) -> bool:
        return not isinstance(potential.adapter, BuildsForEvaluation)


@dataclass(frozen=True)
class UpstreamEngine(EvaluationEngine):
    """The code of the package that a model is from: what its own calculator takes as well."""

    name = "upstream"

    def prepared(self, potential: Potential) -> Potential:
        return potential.as_upstream()

    def is_upstream(self, potential: Potential) -> bool:
        return True


OWN = EquipruneEngine()
"""The engine that is meant where none is named."""

ENGINES: Mapping[str, EvaluationEngine] = {engine.name: engine for engine in (OWN, UpstreamEngine())}
"""Engines by name."""


def engine_named(name: str) -> EvaluationEngine:
    """The engine of a name; raises `TargetError` where there is none."""
    if name not in ENGINES:
        raise TargetError(f"There is no engine '{name}'.{closest(name, ENGINES)} There are {', '.join(ENGINES)}.")
    return ENGINES[name]


def verified(engine: EvaluationEngine, potential: Potential, atoms: Atoms) -> Potential:
    """A model as an engine evaluates it, after a comparison in float64 on a structure.

    Energy and forces must be those of upstream's code, and forces the derivative of the energy along a random
    direction, by central differences, unless they are an output of their own.

    Raises:
        TargetError: the engine cannot evaluate the model, or gives other numbers; says which.
    """
    if engine.is_upstream(potential):
        return engine.prepared(potential)
    double = potential.with_dtype(torch.float64)
    own, theirs = engine.prepared(double), double.as_upstream()
    [found], [expected] = own.predict([atoms]), theirs.predict([atoms])
    differences = {
        "energy, eV/atom": (abs(found.energy - expected.energy).item() / len(atoms), _ENERGY),
        "forces, eV/Angstrom": (abs(found.forces - expected.forces).max().item(), _FORCES),
    }
    if not potential.architecture.direct_forces:
        differences["forces beside finite differences, eV/Angstrom"] = (_derivative(own, atoms, found), _DERIVATIVE)
    for what, (difference, limit) in differences.items():
        if not difference <= limit:
            raise TargetError(
                f"The engine '{engine.name}' gives other numbers than it should: {what}, {difference:.2g} where "
                f"{limit:.0e} is allowed. It was not timed. Please report this; another engine can be chosen."
            )
    return engine.prepared(potential)


def _derivative(potential: Potential, atoms: Atoms, at: Prediction) -> float:
    """The difference, eV/Angstrom, of forces along a random unit direction from the change of the energy."""
    direction = torch.randn(len(atoms), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    direction /= direction.norm()
    ends = [atoms.copy() for _ in range(2)]
    for end, sign in zip(ends, (1, -1), strict=True):
        end.positions += sign * _STEP * direction.numpy()
    up, down = (prediction.energy.item() for prediction in potential.predict(ends))
    along = (at.forces.cpu() * direction).sum().item()
    return abs(along + (up - down) / (2 * _STEP))
