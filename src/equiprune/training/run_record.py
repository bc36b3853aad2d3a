"""The record that a run is compared by before it goes on, readable by later versions.

Version 1 of the record wrote ``repr`` of distances and schedules and named no classes, such as
``{"distance": "Huber(delta=0.01)", "weight": 1.0, "unit": 1.0}`` of a `Term`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equiprune.files import settings
from equiprune.files.settings import VERSION


def run_record(described: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a run."""
    return {"version": VERSION, **described}


def current_record(stored: Any) -> dict[str, Any]:
    """A stored record as this version would write it. Raises `ValueError` for what it does not know."""
    if not isinstance(stored, Mapping):
        raise ValueError("it is no record of a run")
    version = stored.get("version", 1)
    if version not in (1, VERSION):
        raise ValueError(f"it is of version {version}, this version of equiprune reads 1 and {VERSION}")
    recipe = stored.get("recipe", {})
    recipe = settings.current(recipe if version == VERSION else _named(recipe))
    dtype = str(stored.get("dtype")).removeprefix("torch.")  # as version 1 had it
    return run_record({**stored, "version": VERSION, "recipe": recipe, "dtype": dtype})


def _named(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of a record of version 1 with the kind of everything in it."""
    terms = {name: dict(term) for name, term in recipe["objective"].items()}
    samples = [term.pop("samples") for term in terms.values() if "samples" in term]
    objective = {name: {"kind": "term", **term, "distance": _of(term["distance"])} for name, term in terms.items()}
    objective |= {"hessian_samples": samples[0]} if samples else {}
    optimisation = {**recipe["optimisation"], "schedule": _of(recipe["optimisation"]["schedule"])}
    return {
        **recipe,
        "kind": "recipe",
        "objective": {"kind": "objective", **objective},
        "optimisation": {"kind": "optimisation", **optimisation},
    }


def _of(text: str) -> Any:
    return settings.to_json(settings.from_text(text))
