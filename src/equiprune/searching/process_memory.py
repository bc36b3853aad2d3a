"""Memory that a process, or a GPU, needs for a model: what a budget of memory is about.

On a CPU each model is evaluated in a process of its own. In one that has trained and repaired others, memory lies in
pieces, and a model took 1.3 times as much (docs/results.md, in a memory).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping

from equiprune.errors import TargetError
from equiprune.evaluation.memory import free_memory, obtainable_memory
from equiprune.evaluation.places import InLimitedProcess, InThisProcess, Place, check_measurable
from equiprune.potentials.potential import Potential
from equiprune.searching.budget import Budget
from equiprune.searching.cost_model import Conditions

MOST = 2
"""Memory over the budget, or over that of its tensors, up to which a model is measured."""
_EVALUATIONS = 3
"""Number of evaluations that a peak is the worst of: it varies by some per cent."""
_NEAREST = 3
"""Models by which the memory of a process is compared with that of its tensors."""
_SHARE = 0.95
"""Share of the free memory that a process may have: the others go on meanwhile."""


def check_memory(budget: Budget, parent: Potential) -> None:
    """Raise `TargetError` unless models that keep the budget can be measured: Linux or a GPU, which has the memory."""
    if budget.memory is None:
        return
    available = _available(parent)
    if budget.memory > available:
        raise TargetError(
            f"`memory` {budget.memory / 1e9:.3g} GB is more than the {available / 1e9:.3g} GB that models may have on "
            "this machine or GPU, so that none that needs so much could be measured. Search where there is as much, or "
            "give less `memory`."
        )


def peak_of(child: Potential, conditions: Conditions, copies: int, most: float) -> float | None:
    """Bytes that evaluations of so many copies need beyond weights and libraries.

    Args:
        child: the model.
        conditions: structure and engine.
        copies: of the structure, evaluated at once.
        most: bytes that the process may have.

    Returns:
        The worst of three evaluations; None where it is more than ``most``, or than is free.

    Raises:
        TargetError: the model's code fails for another reason than memory.
    """
    with _place(child, conditions, int(min(most, _available(child)))) as place:
        found = place.evaluated(copies, _EVALUATIONS)
    return None if found is None else float(found.peak)


def nearest(tensors: Mapping[int, float], size: float) -> list[int]:
    """Numbers of the three models whose tensors take most nearly so many bytes, by ratio.

    >>> nearest({0: 1e6, 1: 3e6, 2: 1e8, 3: 1e9, 4: 0.0}, 2e6)
    [1, 0, 2]
    """
    known = [number for number, amount in tensors.items() if amount > 0]
    return sorted(known, key=lambda number: abs(math.log(tensors[number] / size)))[:_NEAREST]


def overhead(
    models: Iterable[tuple[Potential, float]], conditions: Conditions, copies: int, limit: float
) -> float | None:
    """Memory of the process over that of its tensors, the median of some models.

    Args:
        models: each with the bytes of its tensors.
        conditions: structure and engine.
        copies: of the structure, evaluated at once.
        limit: bytes of the budget; models that need more than twice that and twice their tensors are left out.

    Returns:
        None where all are left out.
    """
    peaks = ((peak_of(model, conditions, copies, MOST * max(limit, tensors)), tensors) for model, tensors in models)
    ratios = [peak / tensors for peak, tensors in peaks if peak is not None]
    return statistics.median(ratios) if ratios else None


def _available(potential: Potential) -> float:
    """Bytes that a model may have here; raises `TargetError` where a CPU's memory cannot be measured."""
    on_gpu = obtainable_memory(potential.device)
    if on_gpu is not None:
        return on_gpu
    check_measurable()
    return _SHARE * free_memory()


def _place(child: Potential, conditions: Conditions, most: int) -> Place:
    if child.device.type == "cpu":
        return InLimitedProcess(child, conditions.engine, conditions.atoms, most)
    prepared = conditions.engine.prepared(child, set(conditions.atoms.numbers.tolist()))
    place = InThisProcess(prepared, conditions.atoms, most)
    place.evaluated(1)  # what libraries and compilers take once is no memory of many atoms
    return place
