"""A sentence or two on what a model is for, from nothing but what is on record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ase.data import chemical_symbols

from equiprune.adapters.growth import growth_from_json
from equiprune.adapters.history import Grown, Initialised, Pruned, Repaired, Trained
from equiprune.errors import PlanError
from equiprune.pruning.cost import ParameterCount
from equiprune.report.model_facts import ModelFacts, plan_of

_NAMED = 12
"""Elements that are named; more are counted."""
_EXACT = frozenset({"elements", "heads"})
"""Spaces whose cut leaves the function as it is for what is kept."""
_EXACT_TARGETS = frozenset({"lossless", "elements", "heads"})
"""Kinds of targets, in a file, that ask for no other cut."""


def purpose(facts: ModelFacts, parameters: ParameterCount | None, data: Sequence[str] = ()) -> str:
    """The purpose of a model, its size and origin, and whether it is ready.

    Args:
        facts: of the model.
        parameters: how many, where it could be opened.
        data: names of the files it was trained on, where they are known.

    >>> made = ({"step": "train", "parent": "a/7net-l3i5", "steps": 240},)
    >>> purpose(ModelFacts("sevennet", (3, 8), 5.0, "MIT", made), ParameterCount(110, 100), ["oxides.extxyz"])
    'An interatomic potential for structures of Li, O: a model of sevennet with 100 trainable parameters, made from \
7net-l3i5. It was trained on oxides.extxyz for 240 steps.'
    """
    size = "" if parameters is None else f" with {parameters.trainable:,} trainable parameters"
    origin = f", made from {facts.parent[0]}" if facts.parent[0] else ""
    elements = _elements([chemical_symbols[z] for z in sorted(facts.elements)])
    model = f"An interatomic potential for structures of {elements}: a model of {facts.adapter}{size}{origin}."
    return f"{model} {_readiness(facts.history, data)}"


def _elements(symbols: Sequence[str]) -> str:
    return ", ".join(symbols) if len(symbols) <= _NAMED else f"{len(symbols)} elements"


def _readiness(history: Sequence[Mapping[str, Any]], data: Sequence[str]) -> str:
    """Whether it needs training before use, by the last step that changed its function, or what it was trained on."""
    names = [str(step.get("step")) for step in history]
    changed = [number for number, step in enumerate(history) if _changes(step)]
    trained = [number for number, name in enumerate(names) if name == Trained.name]
    if changed and (not trained or trained[-1] < changed[-1]):
        last = Repaired.name if Repaired.name in names[changed[-1] :] else names[changed[-1]]
        return f"Its weights were {_DONE[last]} and not trained since: train it before use."
    if trained:
        steps = history[trained[-1]].get("steps")
        on = f" on {' and '.join(data)}" if data else ", on data that the record does not name,"
        return f"It was trained{on} for {steps} steps."
    if Pruned.name in names:
        return "Nothing was removed that changes its predictions for what it keeps, so that it needs no training."
    return "No training of it is on record here."


_DONE = {
    Pruned.name: "cut",
    Repaired.name: "cut and repaired",
    Grown.name: "extended by new ones",
    Initialised.name: "drawn at random",
}


def _changes(step: Mapping[str, Any]) -> bool:
    """True for a step after which the model predicts something else."""
    match step.get("step"):
        case Pruned.name:
            plan = plan_of(step)
            return not _asked_for_exact(step) and (plan is None or not (plan.keeps_all or plan.masks.keys() <= _EXACT))
        case Grown.name:
            try:
                return not growth_from_json(step.get("growth")).preserve
            except PlanError:
                return True
        case Initialised.name:
            return True
    return False


def _asked_for_exact(step: Mapping[str, Any]) -> bool:
    targets = step.get("targets")
    if not isinstance(targets, list) or not targets:
        return False
    return {target.get("kind") if isinstance(target, Mapping) else None for target in targets} <= _EXACT_TARGETS
