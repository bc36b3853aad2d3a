"""The tables of a model's card, from what `shipped.py` measured; nothing is measured here.

A card has words of its own, and between two marks what this file writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from official import OFFICIALS, difference_table, error_table, markdown, wins
from physics import physics_tables

BEGIN, END = "<!-- measured: python benchmarks/shipped.py -->", "<!-- end of what was measured -->"

CODE = {"upstream": "its makers' own code", "equiprune": "equiprune's"}
"""Engines in words, for a model and others of any architecture."""

Json = Mapping[str, Any]
Models = Sequence[str]
"""Parent, official small model unless it is the parent, and the model of a card."""


def with_measured(card: str, name: str, measured: Json) -> str:
    """A card with its tables written anew."""
    before, rest = card.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tables(name, measured)}\n\n{END}{after}"


def tables(name: str, measured: Json) -> str:
    """All that was measured of a model, Markdown."""
    parent = measured["model"]["parent"]
    official = OFFICIALS[parent]
    shown = tuple(dict.fromkeys([parent, official, name]))
    accuracy = {data: _of_models(of, shown) for data, of in measured["accuracy"].items()}
    parts = [
        _facts(measured["model"]),
        f"Errors against DFT, energy in meV/atom, forces in meV/Angstrom, with intervals of 95 % over frames:\n\n"
        f"{error_table(accuracy)}",
        f"The same less those of {official}, frame by frame; bold where the interval leaves zero out:\n\n"
        f"{difference_table(accuracy, official)}",
        wins(accuracy, name, official),
        _speed(measured["speed"], shown),
        certificate_table({name: measured["certificate"]}),
        physics_tables(_physics_of_models(measured["physics"], shown)),
    ]
    return "\n\n".join(parts)


def _facts(model: Json) -> str:
    rows = [
        ["parameters", f"{model['parameters']:,}"],
        ["parent", f"{model['parent']}, sha256 {model['parent_sha256']}"],
    ]
    return markdown(["", ""], [*rows, ["licence", model["licence"]], ["sha256", model["sha256"]]])


def _of_models(found: Json, shown: Models) -> Json:
    """The part of parent, official model and one other."""
    kept = {model: errors for model, errors in found["errors"].items() if model in shown}
    return {**found, "errors": kept, "less_official": {shown[-1]: found["less_official"][shown[-1]]}}


def _physics_of_models(found: Json, shown: Models) -> Json:
    drift = {crystal: {m: v for m, v in of.items() if m in shown} for crystal, of in found["drift"].items()}
    return {"drift": drift} | {
        part: {m: v for m, v in found[part].items() if m in shown} for part in ("dimers", "equations_of_state")
    }


def _speed(speed: Json, shown: Models) -> str:
    said = []
    parent, name = shown[0], shown[-1]
    for engine, code in CODE.items():
        per_atom = speed["engines"][engine]["ms_per_atom"]
        beside = ", ".join(f"{model} {per_atom[model]:.1f}" for model in shown)
        said.append(f"{per_atom[parent] / per_atom[name]:.1f} times {parent}'s with {code} ({beside} ms/atom)")
    return (
        f"Speed: {', '.join(said)}; energy, forces and stress of {speed['atoms']} atoms, one thread of a CPU, float32, "
        "models and engines taking turns."
    )


def speed_table(speed: Json) -> str:
    """Markdown."""
    rows = []
    for engine, code in CODE.items():
        per_atom, memory = (speed["engines"][engine][part] for part in ("ms_per_atom", "mebibytes"))
        parent = next(iter(per_atom.values()))
        rows += [[m, code, f"{ms:.1f}", f"{parent / ms:.2f}x", str(memory[m])] for m, ms in per_atom.items()]
    heads = [
        f"{speed['atoms']} atoms",
        "engine",
        "ms/atom",
        "speed, of the parent's",
        "memory one evaluation adds, MiB",
    ]
    return markdown(heads, rows)


def certificate_table(certificates: Mapping[str, Json]) -> str:
    """Markdown: what `equiprune certify` found, in float64."""
    names = list(next(iter(certificates.values()))["values"])
    rows = [
        [
            f"certificate of {model}: {'passed' if of['passed'] else 'FAILED'}",
            *(f"{of['values'][n]:.0e}" for n in names),
        ]
        for model, of in certificates.items()
    ]
    return markdown(["float64, eV and Angstrom", *names], rows)
