"""Measurements of one model out of the results of commands, recognised by the digest of its file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from equiprune.evaluation.accuracy import QUANTITIES
from equiprune.evaluation.properties.comparison import DATA
from equiprune.report.conditions import threads
from equiprune.report.results import (
    Benchmark,
    DiscoveryFound,
    DynamicsResult,
    Evaluation,
    Found,
    Identity,
    PropertiesResult,
    PropertyFound,
)
from equiprune.verification.measurement import Measurement

_UNKNOWN = Identity()
_METRICS = {"F1": "", "DAF": "", "MAE": "eV/atom"}


def measurements(found: Found, source: str, model: Identity, parent: Identity | None = None) -> list[Measurement]:
    """Everything that a result says of a model, beside the same of its parent; empty if it is not about the model.

    Args:
        found: the result.
        source: name of the file that it is from.
        model: digest and head.
        parent: digest and head of the model that it was pruned from.

    >>> from equiprune.report.results import recognised
    >>> errors = {"structures": 2, "missing": {}, "energy_rmse": None, "forces_mae": None, "forces_rmse": None}
    >>> of = [{"model": "a", "sha256": "aa", "energy_mae": 1.5}, {"model": "b", "sha256": "bb", "energy_mae": 1.0}]
    >>> found = recognised([errors | each for each in of])
    >>> [own] = measurements(found, "errors.json", Identity(sha256="aa"), Identity(sha256="bb"))
    >>> own.name, own.value, own.parent, own.unit
    ('energy, mean absolute error on 2 structures', 1.5, 1.0, 'meV/atom')
    """
    if (read := _READ.get(type(found))) is None:
        return []
    beside = {each.name: each.value for each in read(found, parent)} if parent is not None else {}
    return [replace(each, source=source, parent=beside.get(each.name)) for each in read(found, model)]


def _errors(found: Evaluation, model: Identity) -> Iterator[Measurement]:
    for each in filter(model.same, found.models):
        for quantity, unit in QUANTITIES.items():
            if (error := getattr(each, f"{quantity}_mae")) is not None:
                name = f"{quantity}, mean absolute error on {each.structures} structures"
                yield Measurement(name, error, unit)


def _speed(found: Benchmark, model: Identity) -> Iterator[Measurement]:
    for each in filter(model.same, found.models):
        how = f"{each.atoms} atoms, {each.dtype}, {each.engine}, {each.device}, {threads(each.threads)}"
        yield Measurement(f"speed, {how}", each.atoms_per_second, "atoms/s")
        if each.peak_memory_bytes is not None:
            yield Measurement(f"peak memory, {how}", each.peak_memory_bytes / 2**20, "MiB")


def _dynamics(found: DynamicsResult, model: Identity) -> Iterator[Measurement]:
    for each in filter(model.same, found.models):
        drift, temperature = each.drift_meV_per_atom_per_ps, each.temperature_K
        about = f"{each.atoms} atoms, {each.time_ps:g} ps"
        if each.crashed:
            yield Measurement(f"dynamics, {about}: crashed", None, passed=False)
        if drift is not None:
            unit, error = "meV/atom/ps", drift.get("error")
            yield Measurement(f"energy drift, {about}", drift.get("slope"), unit, error=error, passed=each.passed)
        if temperature is not None:
            yield Measurement(f"temperature, {about}", temperature.get("value"), "K", error=temperature.get("error"))


def _properties(found: PropertiesResult, model: Identity) -> Iterator[Measurement]:
    for each in found.properties:
        for name in each.models:
            if model.same(found.identities.get(name, _UNKNOWN)):
                yield from _of_property(found, each, name)


def _of_property(found: PropertiesResult, each: PropertyFound, name: str) -> Iterator[Measurement]:
    most = {limit.quantity: limit.most for limit in found.limits if limit.property == each.property}
    first = next(iter(each.models))
    for quantity, own in each.models[name].items():
        by_data = any(DATA in of[quantity].against for of in each.models.values())
        error = own.against.get(DATA if by_data else first, {}).get("mae")
        limited = quantity in most
        if not limited and (error is None or (name == first and not by_data)):
            continue
        said = f"{each.property}, {quantity.replace('_', ' ')}, mean absolute error from "
        said += f"{'the data' if by_data else first} on {own.structures} structures"
        yield Measurement(said, error, own.unit, passed=_held(error, most[quantity]) if limited else None)


def _held(error: float | None, most: float) -> bool:
    """Whether a limit is kept: not where there is no error to compare with it, as in the command that measured."""
    return error is not None and error <= most


def _discovery(found: DiscoveryFound, model: Identity) -> Iterator[Measurement]:
    for each in found.models:
        if not model.same(found.identities.get(each.model, _UNKNOWN)):
            continue
        for subset, metrics in each.on_shared.items():
            for name, unit in _METRICS.items():
                if (value := metrics.get(name)) is not None:
                    about = f"discovery, {name}, {subset.replace('_', ' ')} of {found.shared} materials"
                    yield Measurement(about, value, unit)


_READ: Mapping[type, Callable[[Any, Identity], Iterator[Measurement]]] = {
    Evaluation: _errors,
    Benchmark: _speed,
    DynamicsResult: _dynamics,
    PropertiesResult: _properties,
    DiscoveryFound: _discovery,
}
