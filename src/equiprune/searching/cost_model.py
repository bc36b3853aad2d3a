"""The cost model: time and memory of real models, measured beside their parent, and interpolated by their work.

Time and memory are sums over kinds of work (`equiprune.searching.work`), each with a price that is not negative. Prices
are fitted to measurements of models with random widths, so that relative errors are least (non-negative least squares
with a ridge, chosen by leaving measurements out).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from ase import Atoms

from equiprune.adapters import ModelAdapter
from equiprune.errors import OutputError
from equiprune.evaluation.benchmark import timed
from equiprune.evaluation.engines import OWN, EvaluationEngine
from equiprune.evaluation.memory import added_memory, tensor_memory
from equiprune.potentials.potential import Potential
from equiprune.pruning.cost import count_parameters
from equiprune.searching.budget import Cost
from equiprune.searching.work import work

_RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3)
_FOLDS = 6
BUSY = 0.15
"""Spread of repeated timings, over their median, from which on a machine counts as busy."""
_MOST_ROUNDS = 4
_ENOUGH_ATOMS = 256
"""Atoms from which on memory grows in proportion: what is worked on in parts no longer does."""


@dataclass(frozen=True)
class Conditions:
    """The work that is timed: energy, forces and stress of copies of a structure.

    Attributes:
        atoms: the structure.
        copies: evaluated at once.
        engine: code that evaluates the models.
    """

    atoms: Atoms
    copies: int
    engine: EvaluationEngine = OWN

    @classmethod
    def of(cls, structures: Sequence[Atoms], atoms: int, engine: EvaluationEngine | None = None) -> Conditions:
        """The largest structure, so often that there are at least so many atoms."""
        largest = max(structures, key=len)
        bare = Atoms(largest.numbers, largest.positions, cell=largest.cell, pbc=largest.pbc)
        return cls(bare, -(-atoms // len(bare)), engine or OWN)

    @property
    def total(self) -> int:
        """Number of atoms that are evaluated at once."""
        return len(self.atoms) * self.copies

    def copies_of(self, atoms: int) -> int:
        """Copies that have at least so many atoms together."""
        return -(-atoms // len(self.atoms))

    def at_least(self, atoms: int) -> int:
        """Number of atoms of the fewest copies that have at least so many."""
        return self.copies_of(atoms) * len(self.atoms)


@dataclass(frozen=True)
class Memory:
    """Peak memory of energy, forces and stress, without weights, as a line in the number of atoms.

    Attributes:
        fixed: bytes, however many atoms.
        per_atom: bytes of each.

    >>> Memory(fixed=2e6, per_atom=1e6).of(10)
    12000000.0
    """

    fixed: float
    per_atom: float

    def of(self, atoms: int) -> float:
        """Bytes of so many atoms."""
        return self.fixed + self.per_atom * atoms


@dataclass(frozen=True)
class Measurement:
    """A model that was measured beside its parent.

    Attributes:
        work: amounts by kind.
        time: seconds over the parent's.
        memory: of its tensors; None where it cannot be measured.
        spread: of repeated timings, over their median.
    """

    work: Mapping[str, float]
    time: float
    memory: Memory | None
    spread: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Measurement:
        """Read what `to_json` wrote; raises `OutputError` for anything else."""
        try:
            line = value["memory"]
            memory = line and Memory(float(line["fixed"]), float(line["per_atom"]))
            work = {str(kind): float(amount) for kind, amount in value["work"].items()}
            return cls(work, float(value["time"]), memory, float(value["spread"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise OutputError("This is not a table of costs. Remove the file to measure again.") from error


def measured(parent: Potential, child: Potential, conditions: Conditions, repeats: int) -> Measurement:
    """Time and memory of a model, in turns with its parent; on a busy machine in more turns.

    The time is the median over turns of one over the other, so that a machine that slows down does so for both.
    """
    engine, elements = conditions.engine, set(conditions.atoms.numbers.tolist())
    models = (("parent", parent), ("child", child))
    pair = {(name, engine.name): engine.prepared(each, elements) for name, each in models}
    times: list[float] = []
    for _ in range(_MOST_ROUNDS):
        first, second = timed(pair, conditions.atoms, copies=conditions.copies, repeats=repeats, warmup=1)
        times += [own / theirs for own, theirs in zip(second.seconds, first.seconds, strict=True)]
        if _spread(times) <= BUSY:
            break
    amounts, memory = work(child.adapter, child.architecture), memory_line(pair["child", engine.name], conditions)
    return Measurement(amounts, statistics.median(times), memory, _spread(times))


def memory_line(prepared: Potential, conditions: Conditions) -> Memory | None:
    """Memory that a model's tensors take; None where it cannot be measured.

    It is measured for two numbers of atoms, or, where one structure has enough of them, for that alone: then what is
    fixed matters little. Code of another package has memory that torch does not know of: there it is the memory of
    the process.
    """
    measure = tensor_memory if prepared.evaluator is None else added_memory
    copies = conditions.copies_of(max(conditions.total, _ENOUGH_ATOMS))
    found = {n: measure(_evaluation(prepared, conditions, n), prepared.device) for n in {max(1, copies // 2), copies}}
    known = {n: size for n, size in found.items() if size is not None}
    if len(known) < len(found):
        return None
    few, many = min(known), max(known)
    slope = known[many] / many if few == many else max(known[many] - known[few], 0) / (many - few)
    return Memory(max(known[few] - slope * few, 0.0), slope / len(conditions.atoms))


def _evaluation(prepared: Potential, conditions: Conditions, copies: int) -> Callable[[], object]:
    return partial(prepared.differentiate, prepared.graph([conditions.atoms] * copies))


def _spread(times: Sequence[float]) -> float:
    """Range of the middle half over the median: one slow turn says nothing of the others."""
    low, middle, high = np.quantile(times, (0.25, 0.5, 0.75))
    return float((high - low) / middle)


@dataclass(frozen=True)
class CostModel:
    """Prices of every kind of work, fitted to measurements.

    Attributes:
        adapter: of the models.
        parent: architecture that costs are relative to.
        measurements: what was measured; the parent itself among them.
        atoms: number of atoms that memory is predicted for.
        overhead: memory of the process over that of its tensors, near the budget.
        work: amounts by kind of an architecture, as those of the measurements.
    """

    adapter: ModelAdapter
    parent: Any
    measurements: tuple[Measurement, ...]
    atoms: int = _ENOUGH_ATOMS
    overhead: float = 1.0
    work: Callable[[ModelAdapter, Any], Mapping[str, float]] = work

    def __call__(self, architecture: Any) -> Cost:
        """Predicted cost of an architecture."""
        amounts = self._row(self.work(self.adapter, architecture))
        memory = None if self._memory is None else float(amounts @ self._memory)
        return Cost(float(amounts @ self._time), memory, self.parameters(architecture))

    def parameters(self, architecture: Any) -> float:
        """Trainable parameters over the parent's, counted."""
        return count_parameters(self.adapter, architecture).trainable / self._parents_parameters

    def of(self, measurement: Measurement, architecture: Any) -> Cost:
        """Cost of a model that was timed: its memory is that of its tensors, times the overhead."""
        return Cost(measurement.time, self._per_atom(measurement), self.parameters(architecture))

    def _per_atom(self, measurement: Measurement) -> float | None:
        """Bytes of the process for each of as many atoms as memory is predicted for."""
        tensors = None if measurement.memory is None else measurement.memory.of(self.atoms)
        return None if tensors is None else self.overhead * tensors / self.atoms

    @cached_property
    def errors(self) -> tuple[float, ...]:
        """Relative error of the time of each measurement, predicted from the others."""
        return tuple(abs(_left_out(self._rows, self._times, _best_ridge(self._rows, self._times))))

    @cached_property
    def _parents_parameters(self) -> int:
        return count_parameters(self.adapter, self.parent).trainable

    @cached_property
    def _kinds(self) -> tuple[str, ...]:
        return tuple(self._full)

    def _row(self, amounts: Mapping[str, float]) -> np.ndarray:
        full = self._full
        return np.array([amounts.get(kind, 0.0) / (full[kind] or 1.0) for kind in self._kinds])

    @cached_property
    def _full(self) -> Mapping[str, float]:
        return self.work(self.adapter, self.parent)

    @cached_property
    def _rows(self) -> np.ndarray:
        return np.array([self._row(each.work) for each in self.measurements])

    @cached_property
    def _times(self) -> np.ndarray:
        return np.array([each.time for each in self.measurements])

    @cached_property
    def _time(self) -> np.ndarray:
        return _prices(self._rows, self._times, _best_ridge(self._rows, self._times))

    @cached_property
    def _memory(self) -> np.ndarray | None:
        found = list(map(self._per_atom, self.measurements))
        known = np.array([i for i, value in enumerate(found) if value])
        if len(known) < _FOLDS:
            return None
        rows, memory = self._rows[known], np.array([found[i] for i in known], dtype=np.float64)
        return _prices(rows, memory, _best_ridge(rows, memory))


def _prices(rows: np.ndarray, costs: np.ndarray, ridge: float) -> np.ndarray:
    """Prices, none negative, by which relative errors of the costs are least."""
    from scipy.optimize import nnls  # slow to import, and only a search needs it

    scale = costs.max()
    kinds = rows.shape[1]
    weighed = np.vstack([rows / costs[:, None] * scale, ridge * np.eye(kinds)])
    return nnls(weighed, np.concatenate([np.ones(len(costs)), np.zeros(kinds)]))[0] * scale


def _left_out(rows: np.ndarray, costs: np.ndarray, ridge: float) -> np.ndarray:
    """Relative errors of costs that are predicted without them."""
    errors = np.zeros(len(costs))
    for fold in range(min(_FOLDS, len(costs))):
        away = np.arange(len(costs)) % _FOLDS == fold
        errors[away] = rows[away] @ _prices(rows[~away], costs[~away], ridge) / costs[away] - 1
    return errors


def _best_ridge(rows: np.ndarray, costs: np.ndarray) -> float:
    return min(_RIDGES, key=lambda ridge: float(np.square(_left_out(rows, costs, ridge)).mean()))
