"""Evaluation engines: code that evaluates a model, compared with upstream's own before it is timed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from ase import Atoms

from equiprune.adapters import usable_adapters
from equiprune.adapters.capabilities import BuildsForEvaluation, HasEngines
from equiprune.adapters.engines import ArchitectureEngine, KernelEngine, Limits, NativeEngine
from equiprune.errors import EquipruneError, TargetError, closest
from equiprune.potentials.out_of_memory import is_out_of_memory
from equiprune.potentials.potential import Potential, Prediction

_ROUNDED = Limits(energy=1e-4, forces=1e-3)
"""Largest differences of another precision from float64."""


class EvaluationEngine(ABC):
    """Code that evaluates models."""

    name: str

    @abstractmethod
    def prepared(self, potential: Potential, elements: Collection[int]) -> Potential:
        """The same model, evaluated by this code, for structures of these elements.

        Raises:
            TargetError: this code cannot evaluate it; says why.
        """

    @abstractmethod
    def is_upstream(self, potential: Potential) -> bool:
        """True where nothing but upstream's code evaluates the model, so that there is nothing to compare."""

    def limits(self, potential: Potential) -> Limits:
        """The largest differences from upstream's code that are allowed: those of rounding."""
        return Limits()

    def precise(self, potential: Potential) -> torch.dtype:
        """The precision in which the code is compared with upstream's in float64."""
        return torch.float64


@dataclass(frozen=True)
class EquipruneEngine(EvaluationEngine):
    """equiprune's own code: upstream's modules, with a faster convolution where the architecture has one."""

    name = "equiprune"

    def prepared(self, potential: Potential, elements: Collection[int]) -> Potential:
        return potential

    def is_upstream(self, potential: Potential) -> bool:
        return not isinstance(potential.adapter, BuildsForEvaluation)


@dataclass(frozen=True)
class UpstreamEngine(EvaluationEngine):
    """The code of the package that a model is from: what its own calculator takes as well."""

    name = "upstream"

    def prepared(self, potential: Potential, elements: Collection[int]) -> Potential:
        return potential.as_upstream()

    def is_upstream(self, potential: Potential) -> bool:
        return True


@dataclass(frozen=True)
class ForeignEngine(EvaluationEngine):
    """Code of another package, for the architectures whose adapters bring an engine of that name (`HasEngines`)."""

    name: str

    def check(self, potential: Potential) -> ArchitectureEngine:
        """The code itself. Raises `TargetError` where it does not evaluate such a model, or is not here."""
        engine = self._of(potential)
        read = [each.key for each in potential.architecture.global_inputs]
        if read and isinstance(engine, NativeEngine):
            raise TargetError(
                f"The engine '{self.name}' does not see the {' and the '.join(read)} that this model reads."
            )
        engine.check(potential.device, potential.dtype)
        if potential.taps:
            raise TargetError(f"The engine '{self.name}' cannot evaluate a masked model. Prune it.")
        return engine

    def prepared(self, potential: Potential, elements: Collection[int]) -> Potential:
        match engine := self.check(potential):
            case NativeEngine():
                evaluator = engine.evaluator(potential.checkpoint, elements, potential.dtype, potential.head)
                return replace(potential, evaluator=evaluator, elements=potential.elements & frozenset(elements))
            case KernelEngine():
                module = engine.module(potential.checkpoint, potential.dtype, potential.device)
                return replace(potential, module=module, evaluator=None)
        raise TargetError(f"The engine '{self.name}' is neither a `NativeEngine` nor a `KernelEngine`.")

    def is_upstream(self, potential: Potential) -> bool:
        return False

    def limits(self, potential: Potential) -> Limits:
        return self._of(potential).limits

    def precise(self, potential: Potential) -> torch.dtype:
        return self._of(potential).dtypes[0]

    def _of(self, potential: Potential) -> ArchitectureEngine:
        engines = {engine.name: engine for engine in engines_of(potential.adapter)}
        if self.name not in engines:
            others = ", ".join([*ENGINES, *engines])
            raise TargetError(
                f"The engine '{self.name}' does not evaluate models of {potential.adapter.name}. These do: {others}."
            )
        return engines[self.name]


OWN = EquipruneEngine()
"""The engine that is meant where none is named."""

ENGINES: Mapping[str, EvaluationEngine] = {engine.name: engine for engine in (OWN, UpstreamEngine())}
"""Engines of every model by name."""


def engines_of(adapter: object) -> tuple[ArchitectureEngine, ...]:
    """Engines that an architecture has beside those of every model, whether they are here or not."""
    return tuple(adapter.engines()) if isinstance(adapter, HasEngines) else ()


def engine_named(name: str) -> EvaluationEngine:
    """The engine of a name; raises `TargetError` where neither every model nor an architecture has one."""
    foreign = {engine.name: ForeignEngine(engine.name) for each in usable_adapters() for engine in engines_of(each)}
    known = {**foreign, **ENGINES}
    if name not in known:
        listed = ", ".join([*ENGINES, *sorted(foreign)])
        raise TargetError(f"There is no engine '{name}'.{closest(name, known)} There are {listed}.")
    return known[name]


def verified(engine: EvaluationEngine, potential: Potential, atoms: Atoms) -> Potential:
    """A model as an engine evaluates it, after a comparison on a structure.

    In float64 energy and forces must be those of upstream's code, and forces the derivative of the energy along a
    random direction, by central differences, unless they are an output of their own. In the precision of the potential
    energy and forces must be those in float64 to its rounding. An engine without float64 is compared in what it has.

    Raises:
        TargetError: the engine cannot evaluate the model, or gives other numbers; says which.
    """
    elements = set(atoms.numbers.tolist())
    if engine.is_upstream(potential):
        return engine.prepared(potential, elements)
    precise = engine.precise(potential)
    own = engine.prepared(potential.with_dtype(precise), elements)
    expected = compare(engine, own, potential, atoms)
    if potential.dtype == precise:
        return own
    prepared = engine.prepared(potential, elements)
    [rounded] = _predicted(engine, prepared, [atoms])
    _check(engine, _differences(rounded, expected, _scaled(_ROUNDED, expected)))
    return prepared


def compare(engine: EvaluationEngine, own: Potential, potential: Potential, atoms: Atoms) -> Prediction:
    """Prediction of upstream's code in float64 for a structure, after a comparison with an engine's.

    Args:
        engine: by name and limits.
        own: the model as the engine evaluates it.
        potential: the model itself.
        atoms: the structure.

    Raises:
        TargetError: energy or forces are others, or forces are not the derivative of the energy; says which.
    """
    [expected] = potential.with_dtype(torch.float64).as_upstream().predict([atoms])
    [found] = _predicted(engine, own, [atoms])
    limits = _scaled(engine.limits(own), expected)
    _check(engine, _differences(found, expected, limits))
    if not own.architecture.direct_forces:
        what = "forces beside finite differences, eV/Angstrom"
        _check(engine, {what: (_derivative(engine, own, atoms, found, limits.step), limits.derivative)})
    return expected


def _scaled(limits: Limits, expected: Prediction) -> Limits:
    """Limits that are relative, in what is about forces, where these are above 1 eV/Angstrom, as errors are."""
    size = max(1.0, abs(expected.forces).max().item())
    return replace(limits, forces=limits.forces * size, derivative=limits.derivative * size)


def _predicted(engine: EvaluationEngine, potential: Potential, structures: Sequence[Atoms]) -> list[Prediction]:
    try:
        return potential.predict(structures)
    except Exception as error:  # of code that may fail in any way when it is first run
        if isinstance(error, EquipruneError) or is_out_of_memory(error):
            raise
        message = " ".join(str(error).split())[:400]
        raise TargetError(
            f"The engine '{engine.name}' cannot evaluate this model ({type(error).__name__}: {message}). Choose "
            "another engine."
        ) from error


_Differences = Mapping[str, tuple[float, float]]
"""By quantity with its unit, how much it differs and how much it may."""


def _differences(found: Prediction, expected: Prediction, limits: Limits) -> _Differences:
    atoms = len(expected.forces)
    return {
        "energy, eV/atom": (abs(found.energy - expected.energy).item() / atoms, limits.energy),
        "forces, eV/Angstrom": (abs(found.forces - expected.forces).max().item(), limits.forces),
    }


def _check(engine: EvaluationEngine, differences: _Differences) -> None:
    for what, (difference, limit) in differences.items():
        if not difference <= limit:
            raise TargetError(
                f"The engine '{engine.name}' gives other numbers than it should: {what}, {difference:.2g} where "
                f"{limit:.0e} is allowed. It is not used. Please report this; another engine can be chosen."
            )


def _derivative(engine: EvaluationEngine, potential: Potential, atoms: Atoms, at: Prediction, step: float) -> float:
    """The difference, eV/Angstrom, of forces along a random unit direction from the change of the energy."""
    direction = torch.randn(len(atoms), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    direction /= direction.norm()
    ends = [atoms.copy() for _ in range(2)]
    for end, sign in zip(ends, (1, -1), strict=True):
        end.positions += sign * step * direction.numpy()
    up, down = (prediction.energy.item() for prediction in _predicted(engine, potential, ends))
    along = (at.forces.cpu().double() * direction).sum().item()
    return abs(along + (up - down) / (2 * step))
